//! What `params` holds that more than one reader wants, found in one reading.
//!
//! Owns [`Params`] and [`Meta`], whose values are JSON text borrowed from the request body: which era a
//! request is of, what its headers must mirror and what a tool gets are all told from here. Refuses
//! nothing itself: a method that wants more, or that must say what is wrong, reads `raw` with its own struct.
//! Trap: a member that is there as `null` is there.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

/// `params` of one message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'a> {
    /// The whole of it; `None` if the message has none.
    pub raw: Option<&'a RawValue>,
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
    meta: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    name: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present", rename = "inputResponses")]
    input_responses: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present", rename = "requestState")]
    request_state: Option<&'a RawValue>,
}

/// `params._meta`, as far as it is read.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Meta<'a> {
    /// Opts into progress notifications: a string or a number, to be repeated.
    #[serde(borrow, default, rename = "progressToken")]
    pub progress_token: Option<&'a RawValue>,
    /// The revision of this request.
    #[serde(
        borrow,
        default,
        deserialize_with = "present",
        rename = "io.modelcontextprotocol/protocolVersion"
    )]
    pub version: Option<&'a RawValue>,
    /// What the client can do.
    #[serde(borrow, default, rename = "io.modelcontextprotocol/clientCapabilities")]
    pub capabilities: Option<&'a RawValue>,
    /// The least severe log message the client wants for this request.
    #[serde(borrow, default, rename = "io.modelcontextprotocol/logLevel")]
    pub log_level: Option<&'a RawValue>,
    /// W3C trace context.
    #[serde(borrow, default)]
    pub traceparent: Option<&'a RawValue>,
}

/// A member that is there, `null` included.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// The text of a JSON string; borrowed unless it holds an escape. `None` if it is no string.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        false => Some(Cow::Borrowed(inner)),
        true => serde_json::from_str(raw.get()).ok().map(Cow::Owned),
    }
}

impl<'a> Params<'a> {
    /// Finds the members.
    pub fn read(raw: Option<&'a RawValue>) -> Self {
        let Some(object) = raw else { return Self::default() };
        let members: Option<Members<'a>> = serde_json::from_str(object.get()).ok();
        let meta =
            members.and_then(|members| members.meta).filter(|raw| raw.get().starts_with('{'));
        let meta = meta.and_then(|raw| serde_json::from_str(raw.get()).ok());
        Self { raw, members, meta }
    }

    /// `_meta`, if there is one.
    pub fn meta(&self) -> Result<Option<&Meta<'a>>, BadMeta> {
        let sent = self.members.and_then(|members| members.meta);
        match &self.meta {
            None if sent.is_some_and(|raw| raw.get() != "null") => Err(BadMeta),
            meta => Ok(meta.as_ref()),
        }
    }

    /// `_meta` as it came, if it is an object.
    pub fn raw_meta(&self) -> Option<&'a RawValue> {
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
        self.members?.name.and_then(text)
    }

    /// `name` and `arguments`, if they are a string and an object, as `tools/call` wants them.
    pub fn call(&self) -> Option<(Cow<'a, str>, Option<&'a RawValue>)> {
        let arguments = self.members?.arguments.filter(|raw| raw.get() != "null");
        let fits = arguments.is_none_or(|raw| raw.get().starts_with('{'));
        self.name().filter(|_| fits).map(|name| (name, arguments))
    }
}

impl<'a> Meta<'a> {
    /// W3C trace context of the request.
    pub fn trace(&self) -> Option<Cow<'a, str>> {
        self.traceparent.and_then(text)
    }
}

/// JSON text as a value.
pub fn value(raw: &RawValue) -> Value {
    // It is JSON already.
    serde_json::from_str(raw.get()).unwrap_or_default()
}
