//! The arguments of a call, which a tool takes one by one.
//!
//! Owns [`Arguments`], and the texts that say what is wrong with them. Arguments that no tool has taken are refused, so
//! that a misspelt name does not go unnoticed.
//! Traps: an optional argument may be `null`. If a name is repeated, the last value counts.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor},
};

use crate::{
    config::ToolsConfig,
    wire::{Inputs, Raw, Text, json},
};

/// 2^53 - 1: beyond it, neighbours are the same to many readers.
pub(super) const MOST_EXACT: i64 = (1 << 53) - 1;

/// What is wrong with an argument, and what to send instead.
#[derive(Debug, thiserror::Error)]
#[error("{tool}: {problem}")]
pub struct BadArguments {
    tool: &'static str,
    problem: String,
}

pub(crate) struct Arguments<'a> {
    tool: &'static str,
    fields: Vec<(Cow<'a, str>, Raw<'a>)>,
    body: &'a Bytes,
    pub(super) limits: &'a ToolsConfig,
    /// What the client has answered so far.
    pub(super) inputs: &'a Inputs,
}

impl<'a> Arguments<'a> {
    /// Splits the object into its members without parsing their values.
    pub(crate) fn read(
        tool: &'static str,
        raw: Option<Raw<'a>>,
        body: &'a Bytes,
        limits: &'a ToolsConfig,
        inputs: &'a Inputs,
    ) -> Result<Self, BadArguments> {
        let fields = match raw.map(Fields::read).transpose() {
            Ok(fields) => fields.unwrap_or_default().0,
            Err(_) => {
                let problem = match raw.and_then(Raw::fault) {
                    Some(fault) => format!("\"arguments\" {fault}"),
                    None => "\"arguments\" must be an object".to_owned(),
                };
                return Err(BadArguments { tool, problem });
            }
        };
        Ok(Self { tool, fields, body, limits, inputs })
    }

    /// Takes any JSON value.
    pub(super) fn any(&mut self, name: &str) -> Result<Raw<'a>, BadArguments> {
        self.take(name).ok_or_else(|| self.bad(format!("the argument {name:?} is required")))
    }

    pub(super) fn string(&mut self, name: &str) -> Result<Cow<'a, str>, BadArguments> {
        let raw = self.any(name)?;
        self.parse(name, raw, "a string", |raw| raw.text())
    }

    /// Takes a string that may be long, without copying it out of the body.
    pub(super) fn text(&mut self, name: &str) -> Result<Text, BadArguments> {
        let text = self.string(name)?;
        Ok(Text::of(self.body, text))
    }

    pub(crate) fn optional_string(
        &mut self,
        name: &str,
    ) -> Result<Option<Cow<'a, str>>, BadArguments> {
        self.optional(name, "a string", |raw| raw.text())
    }

    pub(super) fn optional_number(&mut self, name: &str) -> Result<Option<f64>, BadArguments> {
        self.optional(name, "a number", from_json)
    }

    pub(super) fn optional_integer(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, BadArguments> {
        let Some(number) = self.optional_number(name)? else { return Ok(None) };
        let integer = (number.fract() == 0.0 && number >= 0.0).then_some(number as u64);
        let fit = integer.filter(|integer| range.contains(integer));
        fit.map(Some).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            let problem =
                format!("the argument {name:?} must be a whole number from {least} to {most}");
            self.bad(problem)
        })
    }

    /// Takes a whole number that no reader of JSON takes for another.
    pub(super) fn optional_exact(&mut self, name: &str) -> Result<Option<f64>, BadArguments> {
        let number = self.optional_number(name)?;
        match number.is_none_or(|number| number.fract() == 0.0 && number.abs() <= MOST_EXACT as f64)
        {
            true => Ok(number),
            false => Err(self.bad(format!(
                "the argument {name:?} must be a whole number from -{MOST_EXACT} to {MOST_EXACT}"
            ))),
        }
    }

    pub(super) fn optional_object(
        &mut self,
        name: &str,
    ) -> Result<Option<serde_json::Map<String, serde_json::Value>>, BadArguments> {
        self.optional(name, "an object", from_json)
    }

    /// Takes a boolean, false if it is missing.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, BadArguments> {
        Ok(self.optional(name, "true or false", from_json)?.unwrap_or(false))
    }

    /// Fails if an argument has not been taken.
    pub(super) fn finish(&self) -> Result<(), BadArguments> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, _)) => Err(self.bad(format!("there is no argument {name:?}"))),
        }
    }

    pub(super) fn bad(&self, problem: String) -> BadArguments {
        BadArguments { tool: self.tool, problem }
    }

    /// Takes the last of that name, and drops the others.
    fn take(&mut self, name: &str) -> Option<Raw<'a>> {
        let last = self.fields.iter().rposition(|(field, _)| field == name)?;
        let (_, taken) = self.fields.swap_remove(last);
        // Few repeat a name.
        if self.fields.iter().any(|(field, _)| field == name) {
            self.fields.retain(|(field, _)| field != name);
        }
        Some(taken)
    }

    fn optional<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(Raw<'a>) -> Option<T>,
    ) -> Result<Option<T>, BadArguments> {
        match self.take(name).filter(|raw| !raw.is_null()) {
            None => Ok(None),
            Some(raw) => self.parse(name, raw, expected, read).map(Some),
        }
    }

    fn parse<T>(
        &self,
        name: &str,
        raw: Raw<'a>,
        expected: &str,
        read: impl FnOnce(Raw<'a>) -> Option<T>,
    ) -> Result<T, BadArguments> {
        read(raw).ok_or_else(|| {
            self.bad(match raw.fault() {
                Some(fault) => format!("the argument {name:?} {fault}"),
                None => format!("the argument {name:?} must be {expected}, not {}", kind(raw)),
            })
        })
    }
}

fn from_json<T: DeserializeOwned>(raw: Raw<'_>) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

fn kind(raw: Raw<'_>) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The members of an object in their order. If a name is repeated, the last value counts: whoever looks for a name goes
/// through all of them, for no name is compared with those before it.
#[derive(Default)]
pub(crate) struct Fields<'a>(pub(crate) Vec<(Cow<'a, str>, Raw<'a>)>);

impl<'a> Fields<'a> {
    /// A single pass over an object that is plain; otherwise serde reads it again.
    pub(crate) fn read(object: Raw<'a>) -> Result<Self, serde_json::Error> {
        let mut fields: Vec<(Cow<'a, str>, Raw<'a>)> = Vec::new();
        let plain = json::members(object.get(), |name, raw| {
            fields.push((name.into(), raw));
            true
        });
        if plain { Ok(Self(fields)) } else { serde_json::from_str(object.get()) }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, Raw<'de>)> = Vec::new();
                while let Some((Key(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// A member name, borrowed where it holds no escape.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
