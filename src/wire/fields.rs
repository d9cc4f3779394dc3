//! The members of a JSON object in their order, without their values being read.
//!
//! Owns [`Fields`], and [`RawObject`], the text of an object whose members one pass may have found already.
//! Trap: a name may be repeated, and then the last value counts. Whoever looks for a name goes through all of them, for
//! no name is compared with those before it.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use super::json::{self, Raw};

/// How many members need no list: few calls have more arguments.
const FEW: usize = 2;

/// Name and value.
type Member<'a> = (Cow<'a, str>, Raw<'a>);

/// All members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields<'a> {
    first: [Option<Member<'a>>; FEW],
    more: Vec<Member<'a>>,
}

impl<'a> Fields<'a> {
    /// A single pass over an object that is plain; otherwise serde reads it again.
    fn read(object: Raw<'a>) -> Result<Self, serde_json::Error> {
        let mut fields = Self::default();
        let plain = json::members(object.get(), |name, raw| fields.push(name, raw));
        if plain { Ok(fields) } else { serde_json::from_str(object.get()) }
    }

    /// True, so that a scan goes on.
    pub(super) fn push(&mut self, name: impl Into<Cow<'a, str>>, raw: Raw<'a>) -> bool {
        let member = (name.into(), raw);
        match self.first.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(member),
            None => self.more.push(member),
        }
        true
    }

    /// In their order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Member<'a>> {
        self.first.iter().flatten().chain(&self.more)
    }
}

/// The text of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawObject<'a> {
    pub(crate) raw: Raw<'a>,
    /// Its members, if they have been found.
    found: Option<&'a Fields<'a>>,
}

impl<'a> RawObject<'a> {
    pub(crate) fn new(raw: Raw<'a>, found: Option<&'a Fields<'a>>) -> Self {
        Self { raw, found }
    }

    pub(crate) fn fields(self) -> Result<Cow<'a, Fields<'a>>, serde_json::Error> {
        match self.found {
            Some(fields) => Ok(Cow::Borrowed(fields)),
            None => Fields::read(self.raw).map(Cow::Owned),
        }
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
                let mut fields = Fields::default();
                while let Some((Key(name), value)) = map.next_entry()? {
                    fields.push(name, value);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// A member name, borrowed where it holds no escape.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
