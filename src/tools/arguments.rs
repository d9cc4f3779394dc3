//! The arguments of a call, taken one by one.
//!
//! Owns [`Arguments`] and what is said of those that do not fit. Refuses what a tool has not taken.
//! Trap: an optional argument may be `null`; and of a repeated name the last counts.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use crate::{
    config::ToolsConfig,
    wire::{
        inputs::Inputs,
        json::{self, Raw},
    },
};

/// Arguments that do not fit; the text says which one and what to send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{tool}: {problem}")]
pub struct BadArguments {
    tool: &'static str,
    problem: String,
}

/// The arguments of a call, to be taken one by one. An optional argument may be `null`.
#[derive(Debug)]
pub struct Arguments<'a> {
    tool: &'static str,
    fields: Vec<(Cow<'a, str>, Raw<'a>)>,
    /// What configuration allows.
    pub limits: &'a ToolsConfig,
    /// What the client has answered so far.
    pub inputs: &'a Inputs,
}

impl<'a> Arguments<'a> {
    /// Reads the members of the object; none of them is looked into yet.
    pub fn read(
        tool: &'static str,
        raw: Option<Raw<'a>>,
        limits: &'a ToolsConfig,
        inputs: &'a Inputs,
    ) -> Result<Self, BadArguments> {
        let fields = match raw {
            None => Vec::new(),
            Some(raw) => match Fields::read(raw) {
                Ok(Fields(fields)) => fields,
                Err(_) => {
                    let problem = "\"arguments\" must be an object".to_owned();
                    return Err(BadArguments { tool, problem });
                }
            },
        };
        Ok(Self { tool, fields, limits, inputs })
    }

    /// Takes any JSON value.
    pub fn any(&mut self, name: &str) -> Result<Raw<'a>, BadArguments> {
        self.take(name).ok_or_else(|| self.missing(name))
    }

    /// Takes a string.
    pub fn string(&mut self, name: &str) -> Result<Cow<'a, str>, BadArguments> {
        let raw = self.any(name)?;
        self.parse(name, raw, "a string")
    }

    /// Takes a string that may be missing.
    pub fn optional_string(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, BadArguments> {
        self.optional(name, "a string")
    }

    /// Takes a number that may be missing.
    pub fn optional_number(&mut self, name: &str) -> Result<Option<f64>, BadArguments> {
        self.optional(name, "a number of ordinary size")
    }

    /// Takes a whole number in that range that may be missing.
    pub fn optional_integer(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, BadArguments> {
        match self.optional_number(name)? {
            None => Ok(None),
            Some(number) => {
                let integer = (number.fract() == 0.0 && number >= 0.0).then_some(number as u64);
                let fit = integer.filter(|integer| range.contains(integer));
                fit.map(Some).ok_or_else(|| {
                    let (least, most) = (range.start(), range.end());
                    self.bad(format!(
                        "the argument {name:?} must be a whole number from {least} to {most}"
                    ))
                })
            }
        }
    }

    /// Takes a boolean that may be missing; missing is false.
    pub fn flag(&mut self, name: &str) -> Result<bool, BadArguments> {
        Ok(self.optional(name, "true or false")?.unwrap_or(false))
    }

    /// Refuses what has not been taken.
    pub fn finish(&self) -> Result<(), BadArguments> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, _)) => Err(self.bad(format!("there is no argument {name:?}"))),
        }
    }

    /// The error for this tool.
    pub fn bad(&self, problem: String) -> BadArguments {
        BadArguments { tool: self.tool, problem }
    }

    fn missing(&self, name: &str) -> BadArguments {
        self.bad(format!("the argument {name:?} is required"))
    }

    fn take(&mut self, name: &str) -> Option<Raw<'a>> {
        let position = self.fields.iter().position(|(field, _)| field == name)?;
        Some(self.fields.swap_remove(position).1)
    }

    fn optional<T: FromRaw<'a>>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, BadArguments> {
        match self.take(name).filter(|raw| !raw.is_null()) {
            None => Ok(None),
            Some(raw) => self.parse(name, raw, expected).map(Some),
        }
    }

    fn parse<T: FromRaw<'a>>(
        &self,
        name: &str,
        raw: Raw<'a>,
        expected: &str,
    ) -> Result<T, BadArguments> {
        T::from_raw(raw).ok_or_else(|| {
            self.bad(format!("the argument {name:?} must be {expected}, not {}", kind(raw)))
        })
    }
}

/// What an argument can be read as.
trait FromRaw<'a>: Sized {
    fn from_raw(raw: Raw<'a>) -> Option<Self>;
}

impl<'a> FromRaw<'a> for Cow<'a, str> {
    fn from_raw(raw: Raw<'a>) -> Option<Self> {
        raw.text()
    }
}

impl FromRaw<'_> for f64 {
    fn from_raw(raw: Raw<'_>) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }
}

impl FromRaw<'_> for bool {
    fn from_raw(raw: Raw<'_>) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }
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

/// The members of an object in their order; of a repeated name the last counts.
#[derive(Debug, Default)]
pub struct Fields<'a>(pub Vec<(Cow<'a, str>, Raw<'a>)>);

impl<'a> Fields<'a> {
    /// Reads an object.
    pub fn read(object: Raw<'a>) -> Result<Self, serde_json::Error> {
        let mut fields: Vec<(Cow<'a, str>, Raw<'a>)> = Vec::new();
        let plain = json::members(object.get(), |name, raw| {
            let new = !fields.iter().any(|(known, _)| known == name);
            fields.push((name.into(), raw));
            new
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
                while let Some(Key(name)) = map.next_key()? {
                    let value = map.next_value()?;
                    match fields.iter_mut().find(|(known, _)| *known == name) {
                        Some(field) => field.1 = value,
                        None => fields.push((name, value)),
                    }
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
