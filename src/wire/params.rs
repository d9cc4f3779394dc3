//! `params` of a message, with the members that several readers need found in one pass.
//!
//! Owns [`Params`] and [`Meta`], whose values are JSON text borrowed from the request body: the era of a request, what
//! its headers must mirror, and the arguments of a tool are read from here. A method that needs other members, or that
//! must say what is wrong, parses `raw` with its own struct.
//! Refuses, by [`Params::check`] before any method is looked at, what serde cannot read and what could not be given back.
//! Trap: a member that is present as `null` is present.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    Fields, RawObject,
    fault::{self, Fault},
    json::{self, Raw, Visitor},
};

#[derive(Debug, Default)]
pub(crate) struct Params<'a> {
    /// All of it; `None` if the message has none.
    pub(crate) raw: Option<Raw<'a>>,
    /// `None` if they cannot be read; whoever needs one parses `raw` and gets the error.
    members: Option<Members<'a>>,
    meta: Option<Meta<'a>>,
    /// The members of `arguments`, if it is a plain object.
    arguments: Option<Fields<'a>>,
    too_deep: bool,
}

/// What is wrong with `_meta`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadMeta(pub(crate) String);

/// What is wrong with `params`, whatever the method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadParams(String);

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Members<'a> {
    #[serde(borrow, default, deserialize_with = "json::present", rename = "_meta")]
    meta: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    name: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    arguments: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "json::present", rename = "inputResponses")]
    input_responses: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "json::present", rename = "requestState")]
    request_state: Option<Raw<'a>>,
}

/// `params._meta`, as far as it is read.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Meta<'a> {
    /// Opts into progress notifications: a string or a number, to be repeated.
    #[serde(borrow, default, rename = "progressToken")]
    pub(crate) progress_token: Option<Raw<'a>>,
    #[serde(
        borrow,
        default,
        deserialize_with = "json::present",
        rename = "io.modelcontextprotocol/protocolVersion"
    )]
    pub(crate) version: Option<Raw<'a>>,
    #[serde(borrow, default, rename = "io.modelcontextprotocol/clientCapabilities")]
    pub(crate) capabilities: Option<Raw<'a>>,
    #[serde(borrow, default, rename = "io.modelcontextprotocol/logLevel")]
    pub(crate) log_level: Option<Raw<'a>>,
    #[serde(borrow, default)]
    pub(crate) traceparent: Option<Raw<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Params,
    Meta,
    Arguments,
}

/// The fast path: nearly every request has plain members and repeats none.
#[derive(Debug, Default)]
pub(crate) struct Plain<'a> {
    members: Members<'a>,
    meta: Meta<'a>,
    arguments: Fields<'a>,
}

impl<'a> Plain<'a> {
    /// `raw` is the text that was scanned.
    pub(crate) fn of(self, raw: Raw<'a>) -> Params<'a> {
        let Self { members, meta, arguments } = self;
        let meta = members.meta.filter(|raw| raw.is_object()).map(|_| meta);
        let arguments = members.arguments.filter(|raw| raw.is_object()).map(|_| arguments);
        Params { raw: Some(raw), members: Some(members), meta, arguments, too_deep: false }
    }
}

impl<'a> Visitor<'a> for Plain<'a> {
    type Place = Place;

    fn enter(&self, place: Place, name: &str) -> Option<Place> {
        match (place, name) {
            (Place::Params, "_meta") => Some(Place::Meta),
            (Place::Params, "arguments") => Some(Place::Arguments),
            (Place::Params | Place::Meta | Place::Arguments, _) => None,
        }
    }

    fn take(&mut self, place: Place, name: &'a str, raw: Raw<'a>) -> bool {
        match place {
            Place::Params => self.members.take(name, raw),
            Place::Meta => self.meta.take(name, raw),
            Place::Arguments => self.arguments.push(name, raw),
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
    pub(crate) fn read(raw: Option<Raw<'a>>) -> Self {
        let Some(object) = raw else { return Self::default() };
        let mut plain = Plain::default();
        if json::visit(object.get(), Place::Params, &mut plain) {
            return plain.of(object);
        }
        let members: Option<Members<'_>> = serde_json::from_str(object.get()).ok();
        let meta = members.and_then(|members| members.meta).filter(|raw| raw.is_object());
        let meta = meta.and_then(|raw| serde_json::from_str(raw.get()).ok());
        Self { raw, members, meta, arguments: None, too_deep: fault::is_too_deep(object.get()) }
    }

    /// Fails if they or their `_meta` cannot be read, or could not be given back.
    pub(crate) fn check(&self) -> Result<(), BadParams> {
        let Some(raw) = self.raw else { return Ok(()) };
        if self.too_deep {
            return Err(BadParams(format!("\"params\" {}", Fault::TooDeep)));
        }
        if self.members.is_none() {
            return Err(BadParams(problem::<Members<'_>>("\"params\"", raw)));
        }
        // A member of `_meta` that stands twice may be the revision: no method is to answer by a guess.
        self.meta().map(drop).map_err(|BadMeta(problem)| BadParams(problem))
    }

    /// `_meta`, if there is one.
    pub(crate) fn meta(&self) -> Result<Option<&Meta<'a>>, BadMeta> {
        let sent = self.members.and_then(|members| members.meta).filter(|raw| !raw.is_null());
        match (&self.meta, sent) {
            (None, Some(raw)) if raw.is_object() => {
                Err(BadMeta(problem::<Meta<'_>>("\"_meta\"", raw)))
            }
            (None, Some(_)) => Err(BadMeta("\"_meta\" must be an object".to_owned())),
            (meta, _) => Ok(meta.as_ref()),
        }
    }

    /// `_meta` as it came, if it is an object.
    pub(crate) fn raw_meta(&self) -> Option<Raw<'a>> {
        self.meta.and(self.members?.meta)
    }

    /// Whether `_meta` names a revision itself.
    pub(crate) fn claims_version(&self) -> bool {
        self.meta.is_some_and(|meta| meta.version.is_some())
    }

    /// Whether there may be something for [`super::model::Common`] to read.
    pub(crate) fn has_common(&self) -> bool {
        match self.members {
            Some(Members { input_responses, request_state, .. }) => {
                input_responses.is_some() || request_state.is_some()
            }
            None => self.raw.is_some(),
        }
    }

    /// `name`, if it is a string.
    pub(crate) fn name(&self) -> Option<Cow<'a, str>> {
        self.members?.name.and_then(Raw::text)
    }

    /// `name` and `arguments`, if they are a string and an object, as `tools/call` wants them.
    pub(crate) fn call(&self) -> Option<(Cow<'_, str>, Option<RawObject<'_>>)> {
        let arguments = self.members?.arguments.filter(|raw| !raw.is_null());
        let fits = arguments.is_none_or(|raw| raw.is_object());
        let arguments = arguments.map(|raw| RawObject::new(raw, self.arguments.as_ref()));
        self.name().filter(|_| fits).map(|name| (name, arguments))
    }
}

/// Why a text that is JSON cannot be read as `T`.
fn problem<'a, T: Deserialize<'a>>(what: &str, raw: Raw<'a>) -> String {
    let read = serde_json::from_str::<T>(raw.get());
    read.err().map_or_else(String::new, |error| fault::explain(what, raw.get(), &error))
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
        // serde reads `null` as a missing member, except for the version; that is rare and left to serde.
        (null || !raw.is_null()) && member.replace(raw).is_none()
    }

    pub(crate) fn trace(&self) -> Option<Cow<'a, str>> {
        self.traceparent.and_then(Raw::text)
    }
}
