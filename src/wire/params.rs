//! What `params` holds that more than one reader wants, found in one reading.
//!
//! Owns [`Params`] and [`Meta`], whose values are JSON text borrowed from the request body: which era a
//! request is of, what its headers must mirror and what a tool gets are all told from here. Refuses
//! nothing itself: a method that wants more, or that must say what is wrong, reads `raw` with its own struct.
//! Trap: a member that is there as `null` is there.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

use super::json::{self, Raw, Visitor};

/// `params` of one message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'a> {
    /// The whole of it; `None` if the message has none.
    pub raw: Option<Raw<'a>>,
    /// Its members; `None` if they cannot be read, which whoever needs one finds out from `raw`.
    members: Option<Members<'a>>,
    meta: Option<Meta<'a>>,
}

/// `_meta` is there and is no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"_meta\" must be an object")]
pub struct BadMeta;

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Members<'a> {
    #[serde(borrow, default, deserialize_with = "present", rename = "_meta")]
    meta: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    name: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    arguments: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "present", rename = "inputResponses")]
    input_responses: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "present", rename = "requestState")]
    request_state: Option<Raw<'a>>,
}

/// `params._meta`, as far as it is read.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Meta<'a> {
    /// Opts into progress notifications: a string or a number, to be repeated.
    #[serde(borrow, default, rename = "progressToken")]
    pub progress_token: Option<Raw<'a>>,
    /// The revision of this request.
    #[serde(
        borrow,
        default,
        deserialize_with = "present",
        rename = "io.modelcontextprotocol/protocolVersion"
    )]
    pub version: Option<Raw<'a>>,
    /// What the client can do.
    #[serde(borrow, default, rename = "io.modelcontextprotocol/clientCapabilities")]
    pub capabilities: Option<Raw<'a>>,
    /// The least severe log message the client wants for this request.
    #[serde(borrow, default, rename = "io.modelcontextprotocol/logLevel")]
    pub log_level: Option<Raw<'a>>,
    /// W3C trace context.
    #[serde(borrow, default)]
    pub traceparent: Option<Raw<'a>>,
}

/// A member that is there, `null` included.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<Raw<'a>>, D::Error> {
    <Raw<'_>>::deserialize(from).map(Some)
}

/// Where a member of `params` stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In `params` itself.
    Params,
    /// In `_meta`.
    Meta,
}

/// What nearly every request has: plain members, each there once.
#[derive(Debug, Default)]
pub struct Plain<'a> {
    members: Members<'a>,
    meta: Meta<'a>,
}

impl<'a> Plain<'a> {
    /// As `params` that are `raw`.
    pub fn of(self, raw: Raw<'a>) -> Params<'a> {
        let Self { members, meta } = self;
        let meta = members.meta.filter(|raw| raw.is_object()).map(|_| meta);
        Params { raw: Some(raw), members: Some(members), meta }
    }
}

impl<'a> Visitor<'a> for Plain<'a> {
    type Place = Place;

    fn enter(&self, place: Place, name: &str) -> Option<Place> {
        (place == Place::Params && name == "_meta").then_some(Place::Meta)
    }

    fn take(&mut self, place: Place, name: &'a str, raw: Raw<'a>) -> bool {
        match place {
            Place::Params => self.members.take(name, raw),
            Place::Meta => self.meta.take(name, raw),
        }
    }
}

impl<'a> Members<'a> {
    fn take(&mut self, name: &str, raw: Raw<'a>) -> bool {
        let member = match name {
            "_meta" => &mut self.meta,
            "name" => &mut self.name,
            "arguments" => &mut self.arguments,
            "inputResponses" => &mut self.input_responses,
            "requestState" => &mut self.request_state,
            _ => return true,
        };
        member.replace(raw).is_none()
    }
}

impl<'a> Params<'a> {
    /// Finds the members.
    pub fn read(raw: Option<Raw<'a>>) -> Self {
        let Some(object) = raw else { return Self::default() };
        let mut plain = Plain::default();
        if json::visit(object.get(), Place::Params, &mut plain) {
            return plain.of(object);
        }
        let members: Option<Members<'_>> = serde_json::from_str(object.get()).ok();
        let meta = members.and_then(|members| members.meta).filter(|raw| raw.is_object());
        let meta = meta.and_then(|raw| serde_json::from_str(raw.get()).ok());
        Self { raw, members, meta }
    }

    /// `_meta`, if there is one.
    pub fn meta(&self) -> Result<Option<&Meta<'a>>, BadMeta> {
        let sent = self.members.and_then(|members| members.meta);
        match &self.meta {
            None if sent.is_some_and(|raw| !raw.is_null()) => Err(BadMeta),
            meta => Ok(meta.as_ref()),
        }
    }

    /// `_meta` as it came, if it is an object.
    pub fn raw_meta(&self) -> Option<Raw<'a>> {
        self.meta.and(self.members?.meta)
    }

    /// Whether `_meta` names a revision itself.
    pub fn claims_version(&self) -> bool {
        self.meta.is_some_and(|meta| meta.version.is_some())
    }

    /// Whether there is something that [`super::model::Common`] reads, or may be.
    pub fn has_common(&self) -> bool {
        match self.members {
            Some(Members { input_responses, request_state, .. }) => {
                input_responses.is_some() || request_state.is_some()
            }
            None => self.raw.is_some(),
        }
    }

    /// `name`, if it is a string.
    pub fn name(&self) -> Option<Cow<'a, str>> {
        self.members?.name.and_then(Raw::text)
    }

    /// `name` and `arguments`, if they are a string and an object, as `tools/call` wants them.
    pub fn call(&self) -> Option<(Cow<'a, str>, Option<Raw<'a>>)> {
        let arguments = self.members?.arguments.filter(|raw| !raw.is_null());
        let fits = arguments.is_none_or(|raw| raw.is_object());
        self.name().filter(|_| fits).map(|name| (name, arguments))
    }
}

impl<'a> Meta<'a> {
    fn take(&mut self, name: &str, raw: Raw<'a>) -> bool {
        let (member, null) = match name {
            "progressToken" => (&mut self.progress_token, false),
            "io.modelcontextprotocol/protocolVersion" => (&mut self.version, true),
            "io.modelcontextprotocol/clientCapabilities" => (&mut self.capabilities, false),
            "io.modelcontextprotocol/logLevel" => (&mut self.log_level, false),
            "traceparent" => (&mut self.traceparent, false),
            _ => return true,
        };
        // As serde reads an optional member, and one that is there in any case.
        (null || !raw.is_null()) && member.replace(raw).is_none()
    }

    /// W3C trace context of the request.
    pub fn trace(&self) -> Option<Cow<'a, str>> {
        self.traceparent.and_then(Raw::text)
    }
}
