//! One tool call, without the era it came in.
//!
//! Owns what a tool gets ([`CallContext`], [`Arguments`]) and what it gives ([`Prepared`]). Refuses to know
//! session ids, headers of the protocol or revisions: a tool that needs the wire looks at [`Arrival`],
//! which holds what came, not what it means.
//! Trap: a call is counted once, when it completes; a tool that reports the count counts first.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Uri, request::Parts};
use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, json};

use crate::{
    auth::Caller,
    config::ToolsConfig,
    instance::Instance,
    mcp::{
        json::{self, Raw},
        jsonrpc,
        model::{Capabilities, LogLevel, ToolResult},
        stream::EventLog,
    },
    session::{Session, Tally},
    telemetry::record::RequestRecord,
};

/// The HTTP request that a call came in; shared by the calls of a batch.
#[derive(Debug)]
pub struct Arrival {
    /// Method, URI, HTTP version, headers.
    pub parts: Parts,
    /// Whether its forwarding headers count.
    pub trusted_peer: bool,
    /// The identity behind it.
    pub caller: Caller,
    /// The body.
    pub body: Bytes,
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

/// What a request says about the client, whatever era it came in.
#[derive(Clone, Debug, Default)]
pub struct ClientFacts {
    /// What the client can do.
    pub capabilities: Capabilities,
    /// To be repeated in progress notifications; `None` if the client wants none.
    pub progress_token: Option<Value>,
    /// The least severe log message the client wants; `None` if it wants none.
    pub log_level: Option<LogLevel>,
    /// `_meta` as it came.
    pub meta: Option<Box<str>>,
    /// Whether progress notifications may carry a message.
    pub progress_messages: bool,
}

/// What the client has answered so far.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Its answers, by the key that was asked under.
    pub responses: BTreeMap<String, Value>,
    /// What was to be remembered from the last round.
    pub state: Option<Value>,
}

impl Inputs {
    /// The answer under that key, if it is an object as every answer must be.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.responses.get(key).filter(|answer| answer.is_object())
    }

    /// A text that the user filled into a form, if the form was accepted.
    pub fn filled(&self, key: &str, field: &str) -> Option<&str> {
        let answer = self.get(key)?;
        let accepted = answer.get("action").and_then(Value::as_str) == Some("accept");
        answer.get("content")?.get(field)?.as_str().filter(|_| accepted)
    }
}

/// A question to the client.
#[derive(Clone, Debug)]
pub struct InputRequest {
    /// What kind of question.
    pub kind: InputKind,
    /// Its `params`.
    pub params: Value,
}

impl InputRequest {
    /// The question as a result carries it.
    pub fn embedded(self) -> Value {
        let Self { kind, mut params } = self;
        if let Some(params) = params.as_object_mut() {
            // Only a request of its own needs it; here the outcome is learned by trying again.
            params.remove("elicitationId");
        }
        json!({ "method": kind.method(), "params": params })
    }
}

/// The kinds of question that MCP has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// `elicitation/create` with a form
    Form,
    /// `elicitation/create` with a URL
    Url,
    /// `sampling/createMessage`
    Sampling,
    /// `roots/list`
    Roots,
}

impl InputKind {
    /// As it stands on the wire.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Form | Self::Url => "elicitation/create",
            Self::Sampling => "sampling/createMessage",
            Self::Roots => "roots/list",
        }
    }

    /// Whether a client can answer it.
    pub const fn supported_by(self, capabilities: Capabilities) -> bool {
        match self {
            Self::Form => capabilities.elicitation,
            Self::Url => capabilities.elicitation_url,
            Self::Sampling => capabilities.sampling,
            Self::Roots => capabilities.roots,
        }
    }

    /// The capability that it needs, as `requiredCapabilities` says it.
    pub fn required(self) -> Value {
        match self {
            Self::Form => json!({ "elicitation": {} }),
            Self::Url => json!({ "elicitation": { "url": {} } }),
            Self::Sampling => json!({ "sampling": {} }),
            Self::Roots => json!({ "roots": {} }),
        }
    }
}

/// Questions, each under its key.
pub type Questions = Vec<(&'static str, InputRequest)>;

/// The capability that the client lacks for one of these questions, if it lacks any.
pub fn missing(questions: &Questions, capabilities: Capabilities) -> Option<Value> {
    let unable = questions.iter().find(|(_, question)| !question.kind.supported_by(capabilities));
    unable.map(|(_, question)| question.kind.required())
}

/// What a capability comes to. Asking the client is a return value: the call is made again with the
/// answers, so that neither era needs to keep anything while the client thinks.
#[derive(Clone, Debug)]
pub enum Outcome<T> {
    /// Done.
    Done(T),
    /// Not without these answers.
    NeedInput {
        /// The questions.
        requests: Questions,
        /// To be remembered until the answers come.
        state: Option<Value>,
    },
    /// The client lacks a capability that this needs.
    Missing(Value),
    /// The request cannot be served: a JSON-RPC error.
    Refused {
        /// Its code.
        code: i32,
        /// What is wrong, and what to do.
        message: String,
    },
}

impl From<ToolResult> for Outcome<ToolResult> {
    fn from(result: ToolResult) -> Self {
        Self::Done(result)
    }
}

/// What a tool gets beside its arguments.
#[derive(Debug)]
pub struct CallContext {
    /// The instance it runs on.
    pub instance: Arc<Instance>,
    /// The session it runs in; `None` for a request without one.
    pub session: Option<Arc<Session>>,
    /// The HTTP request it came in.
    pub arrival: Arc<Arrival>,
    /// What the request says about the client.
    pub client: ClientFacts,
    /// Where notifications go that belong to this call; `None` if the answer is one document.
    pub stream: Option<Arc<EventLog>>,
    counted: OnceLock<Tally>,
}

impl CallContext {
    /// A call that is about to run.
    pub fn new(
        instance: Arc<Instance>,
        session: Option<Arc<Session>>,
        arrival: Arc<Arrival>,
        client: ClientFacts,
        stream: Option<Arc<EventLog>>,
    ) -> Self {
        Self { instance, session, arrival, client, stream, counted: OnceLock::new() }
    }

    /// The same call, made once more.
    pub fn again(&self) -> Self {
        let Self { instance, session, arrival, client, stream, counted: _ } = self;
        Self::new(
            Arc::clone(instance),
            session.clone(),
            Arc::clone(arrival),
            client.clone(),
            stream.clone(),
        )
    }

    /// The session, or what to tell a caller that has none.
    pub fn session(&self) -> Result<&Arc<Session>, ToolResult> {
        self.session.as_ref().ok_or_else(|| {
            ToolResult::error(
                "this tool needs a session: pass the handle that create_session returns as \"session\"",
            )
        })
    }

    /// When the head of its request had been read, as the time of day.
    pub fn received_at(&self) -> Timestamp {
        let clock = self.instance.process.clock;
        clock.time(clock.moment(self.arrival.record.received))
    }

    /// Counts the call as completed, once, and gives the session's tally with it.
    pub fn count(&self) -> Option<Tally> {
        let session = self.session.as_ref()?;
        Some(*self.counted.get_or_init(|| session.count(self.instance.process.clock.now())))
    }

    /// Ends the connection of the call's stream; the client is to come back for the rest. Does nothing
    /// where it could not.
    pub fn hang_up(&self) {
        if let Some(stream) = self.stream.as_ref().filter(|stream| stream.is_primed()) {
            stream.hang_up();
        }
    }

    /// Tells the client how far the call is, if it wants to know.
    pub async fn progress(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
        let (Some(token), Some(stream)) = (&self.client.progress_token, &self.stream) else {
            return;
        };
        let mut params = json!({ "progressToken": token, "progress": progress });
        if let Some(total) = total {
            params["total"] = total.into();
        }
        if let Some(message) = message.filter(|_| self.client.progress_messages) {
            params["message"] = message.into();
        }
        stream.send(&jsonrpc::notification("notifications/progress", &params)).await;
    }

    /// Sends the client a log message, if it wants messages of that severity.
    pub async fn log(&self, level: LogLevel, data: Value) {
        let wanted = self.client.log_level.is_some_and(|least| level >= least);
        let Some(stream) = self.stream.as_ref().filter(|_| wanted) else { return };
        let params = json!({ "level": level, "logger": "mcp-echo-stateful", "data": data });
        stream.send(&jsonrpc::notification("notifications/message", &params)).await;
    }
}

/// A question that a background task puts to the client; its answers come by the keys asked under.
pub type Ask = Box<dyn Fn(Questions) -> BoxFuture<'static, BTreeMap<String, Value>> + Send + Sync>;

/// Asks nobody: for work that has no task to ask through.
pub fn nobody() -> Ask {
    Box::new(|_| Box::pin(std::future::ready(BTreeMap::new())))
}

/// A tool at work.
pub type Work = BoxFuture<'static, Outcome<ToolResult>>;

/// Runs a tool that takes its time and may ask on the way.
pub type TaskRun = Box<dyn FnOnce(Arc<CallContext>, Ask) -> Work + Send>;

/// Runs a tool that answers at once.
pub type AtOnce = Box<dyn FnOnce(&CallContext) -> Outcome<ToolResult> + Send>;

/// A tool whose arguments have been read and found fit, before any session is touched.
pub enum Prepared {
    /// Answers at once, without waiting for anything.
    Now(AtOnce),
    /// Answers later. Who owns the work meanwhile, the session or the response, is the era's choice.
    Later(Box<dyn FnOnce(Arc<CallContext>) -> Work + Send>),
    /// Takes its time, and may ask on the way. Becomes a task for a client that knows tasks.
    Task {
        /// Whether it is refused to a client that does not.
        required: bool,
        /// Runs it.
        run: TaskRun,
    },
}

impl Prepared {
    /// A tool that answers at once.
    pub fn now<O: Into<Outcome<ToolResult>>>(
        run: impl FnOnce(&CallContext) -> O + Send + 'static,
    ) -> Self {
        Self::Now(Box::new(move |context| run(context).into()))
    }

    /// A tool that takes its time.
    pub fn later<F, O>(run: impl FnOnce(Arc<CallContext>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = O> + Send + 'static,
        O: Into<Outcome<ToolResult>>,
    {
        Self::Later(Box::new(move |context| {
            let work = run(context);
            Box::pin(async move { work.await.into() })
        }))
    }

    /// A tool that becomes a task.
    pub fn task<F, O>(
        required: bool,
        run: impl FnOnce(Arc<CallContext>, Ask) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = O> + Send + 'static,
        O: Into<Outcome<ToolResult>>,
    {
        let run = move |context, ask| -> Work {
            let work = run(context, ask);
            Box::pin(async move { work.await.into() })
        };
        Self::Task { required, run: Box::new(run) }
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
