//! JSON-RPC 2.0: parsing and writing messages.
//!
//! Owns the form of a message. Everything borrows from the request body. An id is kept as the JSON text that came, so that
//! it is repeated digit for digit, and compared by what it means: `"\u00e9"` is `"é"` (RFC 8259 §8.3).
//! Refuses what is not JSON (-32700) and what is not a message (-32600), with the id where one can be read.
//! Trap: `"id": null` is not the same as no id: the first is an error, the second a notification.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    fault,
    json::{self, Raw, Visitor},
    params::{self, Params},
};

pub(crate) const PARSE_ERROR: i32 = -32700;
pub(crate) const INVALID_REQUEST: i32 = -32600;
pub(crate) const METHOD_NOT_FOUND: i32 = -32601;
pub(crate) const INVALID_PARAMS: i32 = -32602;
pub(crate) const INTERNAL_ERROR: i32 = -32603;

/// The longest id of a request and the longest progress token, as JSON text. Each message of a stream repeats one. Bytes.
pub(crate) const MAX_ID: usize = 1024;

/// Most messages of a batch, which is held in memory whole.
const MAX_BATCH: usize = 100;

/// A request id or a progress token: a string or an integer, as the JSON text that came.
#[derive(Clone, Copy, Debug)]
pub struct Id<'a>(&'a str);

impl<'a> Id<'a> {
    /// A JSON string or integer; nothing else is an id in MCP (schema `RequestId`).
    pub(crate) fn parse(raw: &'a str) -> Option<Self> {
        let digits = raw.strip_prefix('-').unwrap_or(raw);
        let integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // An unpaired surrogate is valid JSON but no text, and could not be repeated.
        let string = raw.starts_with('"') && Raw::again(raw).text().is_some();
        (integer || string).then_some(Self(raw))
    }

    /// A JSON string or a whole number, however that is written (schema `ProgressToken`).
    pub(crate) fn token(raw: Raw<'a>) -> Option<Self> {
        let whole = || raw.get().parse::<f64>().is_ok_and(|number| number.fract() == 0.0);
        Self::parse(raw.get()).or_else(|| whole().then_some(Self(raw.get())))
    }

    /// The text that all ways to write this id have in common.
    fn meaning(self) -> Cow<'a, str> {
        match self.0 {
            "-0" => Cow::Borrowed("0"),
            text if text.contains('\\') => {
                let decoded = Raw::again(text).text().unwrap_or_default();
                Cow::Owned(serde_json::Value::from(decoded).to_string())
            }
            text => Cow::Borrowed(text),
        }
    }

    /// As a number, which the ids of our own requests are.
    pub(crate) fn as_number(self) -> Option<u64> {
        self.0.parse().ok()
    }

    pub(crate) fn to_owned(self) -> OwnedId {
        // It is JSON already.
        OwnedId(RawValue::from_string(self.0.to_owned()).unwrap_or_default())
    }
}

impl PartialEq for Id<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.meaning() == other.meaning()
    }
}

impl Eq for Id<'_> {}

impl Hash for Id<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.meaning().hash(state);
    }
}

impl Serialize for Id<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Raw::again(self.0).serialize(serializer)
    }
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An [`Id`] that outlives the request body.
#[derive(Clone, Debug)]
pub(crate) struct OwnedId(Box<RawValue>);

impl PartialEq for OwnedId {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for OwnedId {}

impl Hash for OwnedId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.get().hash(state);
    }
}

impl Serialize for OwnedId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl OwnedId {
    pub(crate) fn get(&self) -> Id<'_> {
        Id(self.0.get())
    }
}

#[derive(Debug)]
pub(crate) enum Message<'a> {
    Request {
        id: Id<'a>,
        method: Cow<'a, str>,
        params: Params<'a>,
    },
    Notification {
        method: Cow<'a, str>,
        params: Params<'a>,
    },
    Response {
        /// The id of our request.
        id: Id<'a>,
        /// `None` for an error.
        result: Option<Raw<'a>>,
    },
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every body is one message, to which a box would add an allocation"
)]
pub(crate) enum Body<'a> {
    One(Message<'a>),
    /// An array of messages, each of which may be malformed by itself.
    Batch(Vec<Result<Message<'a>, EnvelopeError<'a>>>),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvelopeError<'a> {
    #[error("the body is not valid JSON: {0}")]
    NotJson(String),
    #[error("{problem}")]
    NotAMessage {
        /// The id, where one could be read.
        id: Option<Id<'a>>,
        problem: Cow<'static, str>,
    },
}

impl<'a> Body<'a> {
    /// Parses a POST body. Whether the revision allows a batch is for the caller to check.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError<'a>> {
        // UTF-8 is checked once, for everything that is read from it later.
        let text = std::str::from_utf8(bytes)
            .map_err(|error| EnvelopeError::NotJson(error.to_string()))?;
        let batch = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        if !batch {
            return Message::parse(text).map(Self::One);
        }
        let elements: Vec<Raw<'_>> =
            serde_json::from_str(text).map_err(|error| syntax_error(&error))?;
        if elements.is_empty() || elements.len() > MAX_BATCH {
            let problem = format!("a batch must hold 1 to {MAX_BATCH} messages");
            return Err(EnvelopeError::NotAMessage { id: None, problem: problem.into() });
        }
        Ok(Self::Batch(elements.into_iter().map(|raw| Message::parse(raw.get())).collect()))
    }
}

/// The members of a message, not parsed yet. `Some` means that the member is there.
#[derive(Default, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "json::present")]
    jsonrpc: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    id: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    method: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    params: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    result: Option<Raw<'a>>,
    #[serde(default, deserialize_with = "json::present")]
    error: Option<IgnoredAny>,
}

/// The fast path: nearly every message is plain and repeats no member.
#[derive(Default)]
struct Plain<'a> {
    envelope: Envelope<'a>,
    params: params::Plain<'a>,
}

impl<'a> Visitor<'a> for Plain<'a> {
    /// `None` is the message itself.
    type Place = Option<params::Place>;

    fn enter(&self, place: Self::Place, name: &str) -> Option<Self::Place> {
        match place {
            None => (name == "params").then_some(Some(params::Place::Params)),
            Some(place) => self.params.enter(place, name).map(Some),
        }
    }

    fn take(&mut self, place: Self::Place, name: &'a str, raw: Raw<'a>) -> bool {
        if let Some(place) = place {
            return self.params.take(place, name, raw);
        }
        let Envelope { jsonrpc, id, method, params, result, error: _ } = &mut self.envelope;
        let member = match name {
            "jsonrpc" => jsonrpc,
            "id" => id,
            "method" => method,
            "params" => params,
            "result" => result,
            // Rare: left to serde.
            "error" => return false,
            _ => return true,
        };
        member.replace(raw).is_none()
    }
}

impl<'a> Message<'a> {
    fn parse(text: &'a str) -> Result<Self, EnvelopeError<'a>> {
        let mut plain = Plain::default();
        if json::visit(text, None, &mut plain) {
            let Plain { envelope, params } = plain;
            return Self::of(envelope, |raw| params.of(raw));
        }
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| {
            if error.is_data() {
                let problem = match text.as_bytes().first() {
                    Some(b'{') => {
                        format!("not a JSON-RPC message: {}", fault::explain("it", text, &error))
                    }
                    _ => "a JSON-RPC message must be an object".to_owned(),
                };
                return EnvelopeError::NotAMessage { id: None, problem: problem.into() };
            }
            syntax_error(&error)
        })?;
        // serde reads a struct from an array as well.
        if !text.trim_ascii_start().starts_with('{') {
            let problem = "a JSON-RPC message must be an object".into();
            return Err(EnvelopeError::NotAMessage { id: None, problem });
        }
        Self::of(envelope, |raw| Params::read(Some(raw)))
    }

    /// Checks the members; `read` parses `params`.
    fn of(
        envelope: Envelope<'a>,
        read: impl FnOnce(Raw<'a>) -> Params<'a>,
    ) -> Result<Self, EnvelopeError<'a>> {
        let Envelope { jsonrpc, id: raw_id, method, params, result, error } = envelope;
        let id = raw_id.and_then(|raw| Id::parse(raw.get()));
        // A response is no request of that id, so what is wrong with it is told without one (2025-11-25,
        // basic/transports, "Sending Messages to the Server").
        let told = id.filter(|_| method.is_some() || (result.is_none() && error.is_none()));
        let refuse = |problem: &'static str| {
            Err(EnvelopeError::NotAMessage { id: told, problem: problem.into() })
        };
        let misfit = |raw: Raw<'_>, name: &str, expected: &str| {
            let problem = match raw.fault() {
                Some(fault) => format!("the member {name:?} {fault}"),
                None => format!("the member {name:?} must be {expected}"),
            };
            Err(EnvelopeError::NotAMessage { id: told, problem: problem.into() })
        };

        if jsonrpc.is_none_or(|raw| raw.get() != "\"2.0\"") {
            return refuse("the member \"jsonrpc\" must be \"2.0\"");
        }
        if raw_id.is_some_and(|raw| raw.get().len() > MAX_ID) {
            let problem =
                format!("the member \"id\" must not be longer than {MAX_ID} bytes").into();
            return Err(EnvelopeError::NotAMessage { id: told, problem });
        }
        if let (Some(raw), None) = (raw_id, id) {
            return misfit(raw, "id", "a string or an integer");
        }
        let Some(raw_method) = method else {
            return match (id, result, error) {
                (Some(id), Some(_), None) | (Some(id), None, Some(_)) => {
                    Ok(Self::Response { id, result })
                }
                (_, None, None) => refuse("the member \"method\" is missing"),
                (None, ..) => refuse("a response must have an \"id\""),
                (Some(_), Some(_), Some(_)) => {
                    refuse("a response has either \"result\" or \"error\"")
                }
            };
        };
        if result.is_some() || error.is_some() {
            return refuse("a message has either \"method\" or \"result\" or \"error\"");
        }
        let Some(method) = raw_method.text() else {
            return misfit(raw_method, "method", "a string");
        };
        let params = params.filter(|raw| raw.get() != "null");
        if params.is_some_and(|raw| !raw.get().starts_with('{')) {
            return refuse("the member \"params\" must be an object");
        }
        let params = params.map(read).unwrap_or_default();
        Ok(match id {
            Some(id) => Self::Request { id, method, params },
            None => Self::Notification { method, params },
        })
    }
}

fn syntax_error<'a>(error: &serde_json::Error) -> EnvelopeError<'a> {
    EnvelopeError::NotJson(error.to_string())
}

/// The members of a JSON-RPC error object.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorObject<'a> {
    /// See [`crate::failure`].
    pub(crate) code: i32,
    pub(crate) message: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<serde_json::Value>,
}

/// `{"jsonrpc":"2.0","id":…,"result":…}` around a result that is JSON already.
pub(crate) fn success(id: Id<'_>, result: &[u8]) -> Bytes {
    success_with(id, result.len(), |message| message.extend_from_slice(result))
}

/// The same around a result that `write` appends to the buffer. If it appends `length` bytes, as it should, the message is
/// allocated once: `Bytes` holds a full vector as it is, and any other in a box of its own.
pub(crate) fn success_with(id: Id<'_>, length: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    const PIECES: [&[u8]; 3] = [b"{\"jsonrpc\":\"2.0\",\"id\":", b",\"result\":", b"}"];
    let [start, middle, end] = PIECES;
    let around = start.len() + id.0.len() + middle.len() + end.len();
    let mut message = Vec::with_capacity(around + length);
    message.extend_from_slice(start);
    message.extend_from_slice(id.0.as_bytes());
    message.extend_from_slice(middle);
    write(&mut message);
    message.extend_from_slice(end);
    message.into()
}

/// `{"jsonrpc":"2.0","id":…,"error":…}`; without an id where none could be read, since `null` is no id
/// in any revision's schema.
pub(crate) fn error(id: Option<Id<'_>>, error: &ErrorObject<'_>) -> Bytes {
    let mut message = Vec::with_capacity(256);
    message.extend_from_slice(b"{\"jsonrpc\":\"2.0\",");
    if let Some(id) = id {
        message.extend_from_slice(b"\"id\":");
        message.extend_from_slice(id.0.as_bytes());
        message.push(b',');
    }
    message.extend_from_slice(b"\"error\":");
    // Strings and a `Value` always serialise.
    if serde_json::to_writer(&mut message, error).is_err() {
        message.extend_from_slice(b"{\"code\":-32603,\"message\":\"internal error\"}");
    }
    message.push(b'}');
    message.into()
}

pub(crate) fn notification(method: &str, params: &impl Serialize) -> Bytes {
    own(&OwnMessage { jsonrpc: "2.0", id: None, method, params })
}

pub(crate) fn request(id: u64, method: &str, params: &impl Serialize) -> Bytes {
    own(&OwnMessage { jsonrpc: "2.0", id: Some(id), method, params })
}

/// A message that the server begins.
#[derive(Serialize)]
struct OwnMessage<'a, P> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    method: &'a str,
    params: &'a P,
}

fn own(message: &OwnMessage<'_, impl Serialize>) -> Bytes {
    // Texts, numbers and JSON always serialise.
    serde_json::to_vec(message).unwrap_or_default().into()
}

/// Drops the white space between tokens, so that the text fits one line of an event stream. Numbers and strings
/// keep their spelling.
pub(crate) fn compact(raw: Raw<'_>) -> String {
    let mut text = String::with_capacity(raw.get().len());
    let (mut in_string, mut escaped) = (false, false);
    for char in raw.get().chars() {
        if in_string {
            in_string = escaped || char != '"';
            escaped = !escaped && char == '\\';
        } else if char.is_ascii_whitespace() {
            continue;
        } else {
            in_string = char == '"';
        }
        text.push(char);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_equal_by_what_they_mean() {
        let id = |raw| Id::parse(raw).expect("an id");
        let same = [
            (r#""\u00e9""#, r#""é""#),
            (r#""\/""#, r#""/""#),
            (r#""\u0022""#, r#""\"""#),
            ("-0", "0"),
        ];
        for (one, other) in same {
            assert_eq!(id(one), id(other));
            assert_eq!(std::collections::HashSet::from([id(one), id(other)]).len(), 1);
            assert_eq!((id(one).to_string(), id(other).to_string()), (one.into(), other.into()));
        }
        for (one, other) in [("1", r#""1""#), ("1", "-1"), (r#""\\u00e9""#, r#""é""#)] {
            assert_ne!(id(one), id(other));
        }
    }

    proptest! {
        /// No input panics, and whatever is accepted as a request is one by serde's own reading.
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = Body::parse(text.as_bytes());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Body::parse(&bytes);
        }

        #[test]
        fn a_request_keeps_its_id_and_method(id in any::<i64>(), method in "[a-z/\"\\\\é]{1,20}") {
            let body = serde_json::json!({"jsonrpc": "2.0", "id": id, "method": method}).to_string();
            let Ok(Body::One(Message::Request { id: found, method: name, params })) =
                Body::parse(body.as_bytes()) else { panic!("not read: {body}") };
            prop_assert_eq!(params.raw, None);
            prop_assert_eq!(found.to_string(), id.to_string());
            prop_assert_eq!(name.as_ref(), method);
        }

        #[test]
        fn compact_changes_only_the_spaces(
            key in ".{0,10}", text in ".{0,30}", number in any::<f64>().prop_filter("finite", |n| n.is_finite())
        ) {
            let value = serde_json::json!({key: [text, number, {"a": null}]});
            let spaced = serde_json::to_string_pretty(&value).expect("serialises");
            let raw: Raw<'_> = serde_json::from_str(&spaced).expect("is JSON");
            let small = compact(raw);
            prop_assert_eq!(small, value.to_string());
        }
    }
}
