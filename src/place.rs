//! Where something was minted: instance, replica, boot.
//!
//! Owns [`InstanceId`], [`Tag`], [`Boot`] and their pair [`Origin`], which stand at the head of every
//! session id, handle and task id. Refuses to know what an instance is.
//! Trap: these are routing, not secrets; whoever reads an id may know them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// Which of the ten: 0 to 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct InstanceId(u8);

impl InstanceId {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// The id of that number, if there is such an instance.
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// The id that a count comes to when it goes round and round.
    pub const fn wrapping(count: usize) -> Self {
        Self((count % Self::COUNT) as u8)
    }

    /// All ten, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// As an index into a table of ten.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The digit that opens every session id of this instance.
    pub const fn digit(self) -> u8 {
        self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    /// From the key of a table, so from a text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = text.parse().ok().and_then(Self::new).filter(|id| id.to_string() == text);
        known.ok_or_else(|| D::Error::custom(format!("{text:?} is no instance: they are 0 to 9")))
    }
}

/// The digits of an id that say where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Digits 1-2: which replica.
    pub tag: Tag,
    /// Digits 3-5: which start of it.
    pub boot: Boot,
}

/// Drawn anew at every start: 12 bits, three hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot(pub u16);

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03x}", self.0)
    }
}

/// The replica tag: hex digits 1-2 of every id minted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u8);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

impl FromStr for Tag {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let two_digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u8::from_str_radix(text, 16) {
            Ok(tag) if two_digits => Ok(Self(tag)),
            _ => Err("must be two hex digits, such as \"a1\", or \"\" to draw them at the start"),
        }
    }
}
