//! Every way in which an MCP request can fail, and what the client is told: one row each.
//!
//! Owns the table of [`Failure`]s (name, log word, eras, HTTP status, JSON-RPC code, what to do next, text) and the one
//! function that turns a failure into HTTP and JSON-RPC. Refuses to show what went on inside: the texts are written
//! for the person at the other end and say what to do.
//! Trap: a JSON-RPC error that answers a well-formed request of a sessioned revision travels with HTTP 200; only what
//! is wrong with the HTTP exchange or the session has a status of its own.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    id::MintedBy,
    observe::outcome::RequestOutcome,
    session::store::{Gone, NotCreated, Unavailable},
    wire::{
        jsonrpc::{
            self, EnvelopeError, ErrorObject, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, Id,
            METHOD_NOT_FOUND, PARSE_ERROR,
        },
        model::TASKS_EXTENSION,
        version::{self, Era, ProtocolVersion},
    },
};

/// Implementation-defined: something is wrong with the HTTP exchange around the message.
pub const TRANSPORT: i32 = -32000;
/// Implementation-defined: there is no such session.
pub const NO_SESSION: i32 = -32001;
/// MCP, sessioned revisions: resource not found.
pub const RESOURCE_NOT_FOUND: i32 = -32002;
/// MCP: the headers do not say what the body says.
pub const HEADER_MISMATCH: i32 = -32020;
/// MCP: the client has not declared a capability that is needed.
pub const MISSING_CAPABILITY: i32 = -32021;
/// MCP: the revision is not served.
pub const UNSUPPORTED_VERSION: i32 = -32022;

/// What a failure of the exchange is. The stateless era asks not to use the implementation-defined codes at all
/// (2026-07-28, basic/index, "Error Codes").
const EXCHANGE: [i32; 2] = [TRANSPORT, INVALID_REQUEST];
/// What it is where the server has no room, or is not able.
const NO_ROOM: [i32; 2] = [TRANSPORT, INTERNAL_ERROR];

const BOTH: &[Era] = &[Era::Sessioned, Era::Stateless];
const SESSIONED: &[Era] = &[Era::Sessioned];
const STATELESS: &[Era] = &[Era::Stateless];

/// What is fixed about one kind of failure. Pairs are by era: sessioned, stateless.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What the log and the metrics call it. Several for [`Failure::NoSession`], whose reason decides.
    pub outcomes: &'static [RequestOutcome],
    /// Whose requests can fail so.
    pub eras: &'static [Era],
    /// HTTP status of a response that carries nothing else.
    pub status: [u16; 2],
    /// JSON-RPC error code.
    pub code: [i32; 2],
}

/// What a response says beside its error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Nothing.
    Nothing,
    /// Try again after so many seconds.
    Retry(u64),
    /// The connection closes: what is left of the body is not worth reading.
    Close,
    /// These methods are allowed.
    Allow(&'static str),
}

macro_rules! failures {
    ($(
        $(#[$doc:meta])*
        $name:ident $(($arg:ident: $arg_type:ty))? $({ $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ })?
            = $outcomes:expr, $eras:ident, $status:expr, $code:expr, $then:expr, $text:expr;
    )+) => {
        /// Why a request has no result.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Failure {
            $($(#[$doc])* $name $(($arg_type))? $({ $($(#[$field_doc])* $field: $type,)+ })?,)+
        }

        impl Failure {
            /// Every row, in the order of the variants.
            pub const ROWS: &[Row] = &[
                $(Row { outcomes: $outcomes, eras: $eras, status: $status, code: $code },)+
            ];

            const fn row(&self) -> Row {
                match self {
                    $(Self::$name { .. } => {
                        Row { outcomes: $outcomes, eras: $eras, status: $status, code: $code }
                    })+
                }
            }

            #[expect(unused_variables, reason = "a row uses what it needs")]
            fn then(&self) -> Then {
                match self {
                    $(Self::$name $(($arg))? $({ $($field,)+ })? => $then,)+
                }
            }

            #[expect(unused_variables, reason = "a row uses what it needs")]
            fn message(&self) -> Cow<'_, str> {
                match self {
                    $(Self::$name $(($arg))? $({ $($field,)+ })? => $text.into(),)+
                }
            }
        }
    };
}

use RequestOutcome as Outcome;
use Then::{Allow, Close, Nothing, Retry};

failures! {
    /// The body is not JSON.
    NotJson(problem: String)
        = &[Outcome::NotJson], BOTH, [400; 2], [PARSE_ERROR; 2], Nothing, format!("parse error: {problem}");
    /// The body is JSON but no JSON-RPC message, or one that may not come in this way.
    NotAMessage(problem: Cow<'static, str>)
        = &[Outcome::NotAMessage], BOTH, [400; 2], [INVALID_REQUEST; 2], Nothing, format!("invalid request: {problem}");
    /// There is no such method.
    MethodNotFound(name: String)
        = &[Outcome::MethodNotFound], BOTH, [200, 404], [METHOD_NOT_FOUND; 2], Nothing, format!("method not found: {name}");
    /// The parameters do not fit the method.
    InvalidParams(problem: String)
        = &[Outcome::InvalidParams], BOTH, [200; 2], [INVALID_PARAMS; 2], Nothing, format!("invalid params: {problem}");
    /// There is no such tool.
    UnknownTool(name: String)
        = &[Outcome::UnknownTool], BOTH, [200; 2], [INVALID_PARAMS; 2], Nothing, format!("Unknown tool: {name}");
    /// There is no such resource, or not for this caller.
    ResourceNotFound(uri: String)
        = &[Outcome::ResourceNotFound], BOTH, [200; 2], [RESOURCE_NOT_FOUND, INVALID_PARAMS], Nothing,
          format!("resource not found: {uri}");
    /// A capability refused; usually with [`INVALID_PARAMS`], and always with a code of its own.
    Refused {
        /// JSON-RPC error code.
        code: i32,
        /// What is wrong, and what to do.
        message: String,
    }
        = &[Outcome::Refused], BOTH, [200; 2], [INVALID_PARAMS; 2], Nothing, message.as_str();
    /// The client has not declared a capability that is needed; as `requiredCapabilities`.
    MissingCapability(required: Value)
        = &[Outcome::MissingCapability], STATELESS, [200, 400], [MISSING_CAPABILITY; 2], Nothing,
          "the client has not declared a capability that this needs: see requiredCapabilities";
    /// `_meta` lacks what every request of the stateless era must carry.
    BadMeta(problem: &'static str)
        = &[Outcome::BadMeta], STATELESS, [400; 2], [INVALID_PARAMS; 2], Nothing, format!("invalid params: {problem}");
    /// A header does not say what the body says.
    HeaderMismatch(problem: String)
        = &[Outcome::HeaderMismatch], STATELESS, [400; 2], [HEADER_MISMATCH; 2], Nothing, format!("header mismatch: {problem}");
    /// The request's revision is not served, in the words of the stateless era.
    UnsupportedRevision {
        /// What was asked for.
        requested: String,
        /// What could be.
        served: Vec<&'static str>,
    }
        = &[Outcome::UnsupportedRevision], STATELESS, [400; 2], [UNSUPPORTED_VERSION; 2], Nothing,
          format!("protocol version {requested:?} is not served; served are {}", served.join(", "));
    /// As many subscriptions are open as may be.
    TooManySubscriptions {
        /// Open at the most.
        limit: usize,
    }
        = &[Outcome::TooManySubscriptions], STATELESS, [503; 2], NO_ROOM, Retry(5),
          format!("{limit} subscriptions are open, the most there may be (stream.max_subscriptions)");
    /// As many tasks exist as may.
    TooManyTasks
        = &[Outcome::TooManyTasks], STATELESS, [503; 2], NO_ROOM, Retry(5),
          "there are as many tasks as may be (tasks.capacity)";
    /// The client took its request back.
    Cancelled
        = &[Outcome::Cancelled], SESSIONED, [200; 2], EXCHANGE, Nothing, "the request was cancelled by its client";
    /// A session id is needed here.
    SessionRequired
        = &[Outcome::SessionRequired], SESSIONED, [400; 2], EXCHANGE, Nothing,
          "an Mcp-Session-Id header is required; initialize returns one";
    /// There is no such session.
    NoSession(session: NoSession)
        = &[Outcome::Expired, Outcome::Terminated, Outcome::OtherInstance, Outcome::OtherReplica, Outcome::EarlierBoot, Outcome::Unknown],
          SESSIONED, [404; 2], [NO_SESSION; 2], Nothing, session.message();
    /// As many sessions are live as may be.
    Full {
        /// Live sessions at the most.
        capacity: u64,
        /// When it is worth trying again.
        retry_after_seconds: u64,
    }
        = &[Outcome::Full], SESSIONED, [503; 2], NO_ROOM, Retry(*retry_after_seconds),
          NotCreated::Full { capacity: *capacity, retry_after_seconds: *retry_after_seconds }.to_string();
    /// The server is stopping and takes no new session.
    Draining
        = &[Outcome::Draining], SESSIONED, [503; 2], NO_ROOM, Retry(5), NotCreated::Draining.to_string();
    /// The session store could not be asked: nothing is known of the session.
    StoreUnavailable
        = &[Outcome::StoreUnavailable], BOTH, [503; 2], NO_ROOM, Retry(1), format!("{Unavailable}; try again");
    /// The session has as many streams open as it may.
    TooManyStreams {
        /// Open streams at the most.
        limit: usize,
    }
        = &[Outcome::TooManyStreams], SESSIONED, [409; 2], EXCHANGE, Nothing,
          format!("the session already has {limit} event streams open, the most it may (session.max_streams)");
    /// A header that may stand once stands there several times, or is no text.
    BadHeader(name: &'static str)
        = &[Outcome::BadHeader], SESSIONED, [400; 2], EXCHANGE, Nothing,
          format!("the header {name} must stand once and be visible ASCII");
    /// The version header names none that is served.
    UnsupportedVersion {
        /// What is served.
        served: Vec<ProtocolVersion>,
    }
        = &[Outcome::UnsupportedVersion], SESSIONED, [400; 2], EXCHANGE, Nothing,
          format!("this protocol version is not served; served are {}", version::names(served));
    /// The client takes neither form of answer.
    NotAcceptable {
        /// What to accept.
        needed: &'static str,
    }
        = &[Outcome::NotAcceptable], BOTH, [406; 2], EXCHANGE, Nothing,
          format!("the client must accept {needed}: see its Accept header");
    /// The body is not declared as JSON in UTF-8.
    UnsupportedMediaType
        = &[Outcome::UnsupportedMediaType], BOTH, [415; 2], EXCHANGE, Nothing,
          "the Content-Type header must be application/json (in UTF-8)";
    /// The body is larger than allowed.
    BodyTooLarge {
        /// Bytes at the most.
        limit: usize,
    }
        = &[Outcome::BodyTooLarge], BOTH, [413; 2], EXCHANGE, Close,
          format!("the body is larger than {limit} bytes (http.max_body_bytes)");
    /// The body did not arrive in time.
    BodyTimeout
        = &[Outcome::BodyTimeout], BOTH, [408; 2], EXCHANGE, Close,
          "the body did not arrive in time (http.body_timeout_seconds)";
    /// The connection broke while the body was read.
    BodyBroken
        = &[Outcome::BodyBroken], BOTH, [400; 2], EXCHANGE, Close, "the body could not be read to its end";
    /// The endpoint does not take this HTTP method; it takes these.
    MethodNotAllowed(allowed: &'static str)
        = &[Outcome::MethodNotAllowed], BOTH, [405; 2], EXCHANGE, Allow(allowed), format!("the MCP endpoint takes {allowed}");
    /// Our fault.
    Internal
        = &[Outcome::Internal], BOTH, [500; 2], [INTERNAL_ERROR; 2], Nothing, "internal error";
}

/// A session id that leads nowhere, with all that its digits say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSession {
    /// Why.
    pub gone: Gone,
    /// Where the id was minted, if it is one of ours.
    pub minted_by: Option<MintedBy>,
    /// Who answers.
    pub served_by: MintedBy,
}

impl From<EnvelopeError<'_>> for Failure {
    fn from(error: EnvelopeError<'_>) -> Self {
        match error {
            EnvelopeError::NotJson(problem) => Self::NotJson(problem),
            EnvelopeError::NotAMessage { problem, .. } => Self::NotAMessage(problem),
        }
    }
}

impl From<Unavailable> for Failure {
    fn from(Unavailable: Unavailable) -> Self {
        Self::StoreUnavailable
    }
}

impl From<NotCreated> for Failure {
    fn from(refused: NotCreated) -> Self {
        match refused {
            NotCreated::Full { capacity, retry_after_seconds } => {
                Self::Full { capacity, retry_after_seconds }
            }
            NotCreated::Draining => Self::Draining,
            NotCreated::NoEntropy => Self::Internal,
            NotCreated::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

const fn index(era: Era) -> usize {
    match era {
        Era::Sessioned => 0,
        Era::Stateless => 1,
    }
}

impl Failure {
    /// The client has not declared the tasks extension, and this needs it.
    pub fn needs_tasks() -> Self {
        Self::MissingCapability(json!({ "extensions": { TASKS_EXTENSION: {} } }))
    }

    /// What the access log calls it.
    pub const fn outcome(&self) -> RequestOutcome {
        match self {
            Self::NoSession(session) => match session.gone {
                Gone::OtherInstance(_) => RequestOutcome::OtherInstance,
                Gone::OtherReplica(_) => RequestOutcome::OtherReplica,
                Gone::EarlierBoot(_) => RequestOutcome::EarlierBoot,
                Gone::Expired(_) => RequestOutcome::Expired,
                Gone::Terminated(_) => RequestOutcome::Terminated,
                Gone::Unknown => RequestOutcome::Unknown,
            },
            other => other.row().outcomes[0],
        }
    }

    /// The JSON-RPC error code.
    pub const fn code(&self, era: Era) -> i32 {
        match self {
            Self::Refused { code, .. } => *code,
            other => other.row().code[index(era)],
        }
    }

    /// The HTTP status of a response that carries nothing else.
    pub fn status(&self, era: Era) -> StatusCode {
        let status = StatusCode::from_u16(self.row().status[index(era)]);
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn data(&self) -> Option<Value> {
        match self {
            Self::NoSession(session) => Some(session.data()),
            Self::StoreUnavailable => Some(json!({ "reason": "store_unavailable" })),
            Self::UnsupportedVersion { served } => {
                let served: Vec<_> = served.iter().map(|version| version.as_str()).collect();
                Some(json!({ "supported": served }))
            }
            Self::ResourceNotFound(uri) => Some(json!({ "uri": uri })),
            Self::MissingCapability(required) => Some(json!({ "requiredCapabilities": required })),
            Self::UnsupportedRevision { requested, served } => {
                Some(json!({ "supported": served, "requested": requested }))
            }
            _ => None,
        }
    }

    /// The JSON-RPC error message, for a place that has no HTTP status of its own.
    pub fn to_message(&self, id: Option<Id<'_>>, era: Era) -> Bytes {
        jsonrpc::error(id, &self.to_object(era))
    }

    /// The JSON-RPC error object.
    pub fn to_object(&self, era: Era) -> ErrorObject<'_> {
        ErrorObject { code: self.code(era), message: self.message(), data: self.data() }
    }

    /// The whole answer.
    pub fn into_response(self, id: Option<Id<'_>>, era: Era) -> Response<Bytes> {
        let mut response = Response::new(self.to_message(id, era));
        *response.status_mut() = self.status(era);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.then() {
            Then::Nothing => {}
            Then::Retry(seconds) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Then::Close => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Then::Allow(methods) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(methods));
            }
        }
        response
    }
}

impl NoSession {
    /// One clause, without advice.
    pub fn what_happened(&self) -> String {
        let here = self.served_by;
        match self.gone {
            Gone::OtherInstance(other) => format!(
                "session not found: instance {other} minted this id, and instance {} answers; use the host of instance {other}",
                here.instance
            ),
            Gone::OtherReplica(other) => format!(
                "session not found: replica {} minted this id, and replica {} answers; route by the id's digits 1-2",
                other.tag, here.tag
            ),
            Gone::EarlierBoot(_) => {
                "session not found: it began before this server was last started".to_owned()
            }
            Gone::Expired(idle) => format!(
                "session not found: it expired after {} seconds without a request",
                idle.as_secs_f64()
            ),
            Gone::Terminated(by) => format!("session not found: it was ended ({})", by.as_str()),
            Gone::Unknown => "session not found".to_owned(),
        }
    }

    fn message(&self) -> String {
        format!("{}; send initialize to begin a new session", self.what_happened())
    }

    fn data(&self) -> Value {
        let mut data = json!({
            "reason": self.gone.reason(),
            "served_by": self.served_by.to_json(),
        });
        if let Some(minted_by) = self.minted_by {
            data["minted_by"] = minted_by.to_json();
        }
        if let Gone::Terminated(by) = self.gone {
            data["ended_by"] = by.as_str().into();
        }
        data
    }
}
