//! One tool call, without the era it came in.
//!
//! Owns what a tool gets ([`CallContext`], [`Arguments`]) and what it gives ([`Prepared`]). Refuses to know
//! session ids, headers of the protocol or revisions: a tool that needs the wire looks at [`Arrival`],
//! which holds what came, not what it means.
//! Trap: a call is counted once, when it completes; a tool that reports the count counts first.

use std::{
    borrow::Cow,
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use futures_util::future::BoxFuture;
use http::{HeaderMap, Uri, request::Parts};
use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    auth::Caller,
    config::ToolsConfig,
    instance::Instance,
    mcp::model::ToolResult,
    session::{Session, Tally},
    telemetry::RequestRecord,
};

/// The HTTP request that a call came in; shared by the calls of a batch.
#[derive(Debug)]
pub struct Arrival {
    /// Method, URI, HTTP version, headers.
    pub parts: Parts,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// Whether its forwarding headers count.
    pub trusted_peer: bool,
    /// The identity behind it.
    pub caller: Caller,
    /// When its head had been read, as the time of day.
    pub received_at: Timestamp,
    /// Facts for its log line.
    pub record: Arc<RequestRecord>,
}

impl Arrival {
    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// A header as text, if it stands there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// The request target.
    pub fn uri(&self) -> &Uri {
        &self.parts.uri
    }
}

/// What a tool gets beside its arguments.
#[derive(Debug)]
pub struct CallContext {
    /// The instance it runs on.
    pub instance: Arc<Instance>,
    /// The session it runs in.
    pub session: Arc<Session>,
    /// The HTTP request it came in.
    pub arrival: Arc<Arrival>,
    counted: OnceLock<Tally>,
}

impl CallContext {
    /// A call that is about to run.
    pub fn new(instance: Arc<Instance>, session: Arc<Session>, arrival: Arc<Arrival>) -> Self {
        Self { instance, session, arrival, counted: OnceLock::new() }
    }

    /// Counts the call as completed, once, and gives the session's tally with it.
    pub fn count(&self) -> Tally {
        *self.counted.get_or_init(|| self.session.count(self.instance.process.clock.now()))
    }
}

/// A tool whose arguments have been read and found fit, before any session is touched.
pub enum Prepared {
    /// Answers at once, without waiting for anything.
    Now(Box<dyn FnOnce(&CallContext) -> ToolResult + Send>),
    /// Answers later. Who owns the work meanwhile, the session or the response, is the era's choice.
    Later(Box<dyn FnOnce(Arc<CallContext>) -> BoxFuture<'static, ToolResult> + Send>),
}

impl Prepared {
    /// A tool that answers at once.
    pub fn now(run: impl FnOnce(&CallContext) -> ToolResult + Send + 'static) -> Self {
        Self::Now(Box::new(run))
    }

    /// A tool that takes its time.
    pub fn later<F>(run: impl FnOnce(Arc<CallContext>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ToolResult> + Send + 'static,
    {
        Self::Later(Box::new(move |context| Box::pin(run(context))))
    }
}

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
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// What configuration allows.
    pub limits: &'a ToolsConfig,
}

impl<'a> Arguments<'a> {
    /// Reads the members of the object; none of them is looked into yet.
    pub fn read(
        tool: &'static str,
        raw: Option<&'a RawValue>,
        limits: &'a ToolsConfig,
    ) -> Result<Self, BadArguments> {
        let fields = match raw {
            None => Vec::new(),
            Some(raw) => {
                serde_json::from_str::<Fields<'a>>(raw.get())
                    .map_err(|_| BadArguments {
                        tool,
                        problem: "\"arguments\" must be an object".to_owned(),
                    })?
                    .0
            }
        };
        Ok(Self { tool, fields, limits })
    }

    /// Takes any JSON value.
    pub fn any(&mut self, name: &str) -> Result<&'a RawValue, BadArguments> {
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
        self.optional(name, "a number")
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

    fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let position = self.fields.iter().position(|(field, _)| field == name)?;
        Some(self.fields.swap_remove(position).1)
    }

    fn optional<T: FromRaw<'a>>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, BadArguments> {
        match self.take(name).filter(|raw| raw.get() != "null") {
            None => Ok(None),
            Some(raw) => self.parse(name, raw, expected).map(Some),
        }
    }

    fn parse<T: FromRaw<'a>>(
        &self,
        name: &str,
        raw: &'a RawValue,
        expected: &str,
    ) -> Result<T, BadArguments> {
        T::from_raw(raw.get()).ok_or_else(|| {
            self.bad(format!("the argument {name:?} must be {expected}, not {}", kind(raw)))
        })
    }
}

/// What an argument can be read as.
trait FromRaw<'a>: Sized {
    fn from_raw(text: &'a str) -> Option<Self>;
}

impl<'a> FromRaw<'a> for Cow<'a, str> {
    fn from_raw(text: &'a str) -> Option<Self> {
        let inner = text.strip_prefix('"')?.strip_suffix('"')?;
        match inner.contains('\\') {
            false => Some(Cow::Borrowed(inner)),
            true => serde_json::from_str(text).ok().map(Cow::Owned),
        }
    }
}

impl FromRaw<'_> for f64 {
    fn from_raw(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl FromRaw<'_> for bool {
    fn from_raw(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

fn kind(raw: &RawValue) -> &'static str {
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
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
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
