//! The arguments of a call, which a tool takes one by one.
//!
//! Owns [`Arguments`], and the texts that say what is wrong with them. Arguments that no tool has taken are refused, so
//! that a misspelt name does not go unnoticed.
//! Traps: an optional argument may be `null`. If a name is repeated, the last value counts.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::{
    config::ToolsConfig,
    wire::{Fields, Inputs, Raw, RawObject, Text},
};

/// 2^53 - 1: beyond it, neighbours are the same to many readers.
pub(super) const MOST_EXACT: i64 = (1 << 53) - 1;

/// The most members that arguments have. No tool has nearly as many.
const MOST: usize = u64::BITS as usize - 1;

/// What is wrong with an argument, and what to send instead.
#[derive(Debug, thiserror::Error)]
#[error("{tool}: {problem}")]
pub struct BadArguments {
    tool: &'static str,
    problem: String,
}

pub(crate) struct Arguments<'a> {
    tool: &'static str,
    fields: Cow<'a, Fields<'a>>,
    /// A bit for each that has been taken.
    taken: u64,
    body: &'a Bytes,
    pub(super) limits: &'a ToolsConfig,
    /// What the client has answered so far.
    pub(super) inputs: &'a Inputs,
}

impl<'a> Arguments<'a> {
    /// Splits the object into its members without parsing their values.
    pub(crate) fn read(
        tool: &'static str,
        sent: Option<RawObject<'a>>,
        body: &'a Bytes,
        limits: &'a ToolsConfig,
        inputs: &'a Inputs,
    ) -> Result<Self, BadArguments> {
        let fields = match sent.map(RawObject::fields).transpose() {
            Ok(fields) => fields.unwrap_or_default(),
            Err(_) => {
                let problem = match sent.and_then(|sent| sent.raw.fault()) {
                    Some(fault) => format!("\"arguments\" {fault}"),
                    None => "\"arguments\" must be an object".to_owned(),
                };
                return Err(BadArguments { tool, problem });
            }
        };
        if fields.iter().nth(MOST).is_some() {
            let problem = format!("\"arguments\" must not have more than {MOST} members");
            return Err(BadArguments { tool, problem });
        }
        Ok(Self { tool, fields, taken: 0, body, limits, inputs })
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
        match self.fields.iter().nth(self.taken.trailing_ones() as usize) {
            None => Ok(()),
            Some((name, _)) => Err(self.bad(format!("there is no argument {name:?}"))),
        }
    }

    pub(super) fn bad(&self, problem: String) -> BadArguments {
        BadArguments { tool: self.tool, problem }
    }

    /// Takes all of that name, and gives the last.
    fn take(&mut self, name: &str) -> Option<Raw<'a>> {
        let mut last = None;
        for (at, (field, raw)) in self.fields.iter().enumerate() {
            if field == name {
                self.taken |= 1 << at;
                last = Some(*raw);
            }
        }
        last
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
