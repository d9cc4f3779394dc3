//! Every way in which an MCP request can fail, and what the client is told: one row each.
//!
//! Owns the table of [`Failure`]s, and the one function that turns a failure into HTTP and JSON-RPC. The texts are
//! written for the person at the other end: they say what to do, and nothing of what went on inside.
//! Trap: with a sessioned revision, a JSON-RPC error that answers a well-formed request is sent with HTTP 200. Only what is
//! wrong with the HTTP exchange or the session has a status of its own.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    budget::NoRoom,
    id::MintedBy,
    observe::{Missing, RequestOutcome, shown},
    paths::endpoint_of,
    session::{Gone, NotCreated, Unavailable},
    wire::{
        BadHeader, BadParams, EnvelopeError, Era, ErrorObject, INTERNAL_ERROR, INVALID_PARAMS,
        INVALID_REQUEST, Id, METHOD_NOT_FOUND, PARSE_ERROR, ProtocolVersion, TASKS_EXTENSION,
        jsonrpc, version,
    },
};

/// Implementation-defined: something is wrong with the HTTP exchange around the message.
pub(crate) const TRANSPORT: i32 = -32000;
/// Implementation-defined: there is no such session.
const NO_SESSION: i32 = -32001;
/// MCP, sessioned revisions only.
const RESOURCE_NOT_FOUND: i32 = -32002;
/// MCP: a header does not say what the body says.
const HEADER_MISMATCH: i32 = -32020;
/// MCP: the client has not declared a capability that the request needs.
const MISSING_CAPABILITY: i32 = -32021;
/// MCP: the request's revision is not supported.
const UNSUPPORTED_VERSION: i32 = -32022;

/// Something is wrong with the HTTP exchange. The stateless era must not use the implementation-defined codes
/// (2026-07-28, basic/index, "Error Codes").
const EXCHANGE: [i32; 2] = [TRANSPORT, INVALID_REQUEST];
/// The server has no room, or cannot reach its store.
const NO_ROOM: [i32; 2] = [TRANSPORT, INTERNAL_ERROR];

/// Longest name that a text repeats whole. Characters.
const MAX_NAME: usize = 100;

const BOTH: &[Era] = &[Era::Sessioned, Era::Stateless];
const SESSIONED: &[Era] = &[Era::Sessioned];
const STATELESS: &[Era] = &[Era::Stateless];

/// What is the same for every failure of one kind. Pairs are by era: sessioned, stateless.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its names in the log and the metrics: several for [`Failure::NoSession`], depending on the reason.
    pub outcomes: &'static [RequestOutcome],
    /// The eras in which it happens.
    pub eras: &'static [Era],
    /// The HTTP status of a response that consists of this error.
    pub status: [u16; 2],
    /// The JSON-RPC error code.
    pub code: [i32; 2],
}

/// The header that a response has beside the error.
enum Then {
    Nothing,
    /// `Retry-After`, in seconds.
    Retry(u64),
    /// `Allow`.
    Allow(&'static str),
    /// `Accept-Encoding: identity`.
    Plain,
}

macro_rules! failures {
    ($(
        $name:ident $(($arg:ident: $arg_type:ty))? $({ $($field:ident: $type:ty),+ })?
            = $outcomes:expr, $eras:ident, $status:expr, $code:expr, $then:expr, $text:expr;
    )+) => {
        /// Why a request has no result.
        #[derive(Debug)]
        #[expect(missing_docs, reason = "the text of the row says what its fields are")]
        pub enum Failure {
            $($name $(($arg_type))? $({ $($field: $type),+ })?,)+
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
use Then::{Allow, Nothing, Plain, Retry};

failures! {
    NotJson(problem: String)
        = &[Outcome::NotJson], BOTH, [400; 2], [PARSE_ERROR; 2], Nothing, format!("parse error: {problem}");
    NotAMessage(problem: Cow<'static, str>)
        = &[Outcome::NotAMessage], BOTH, [400; 2], [INVALID_REQUEST; 2], Nothing, format!("invalid request: {problem}");
    MethodNotFound(name: String)
        = &[Outcome::MethodNotFound], BOTH, [200, 404], [METHOD_NOT_FOUND; 2], Nothing, format!("method not found: {}", shortened(name));
    InvalidParams(problem: String)
        = &[Outcome::InvalidParams], BOTH, [200; 2], [INVALID_PARAMS; 2], Nothing, format!("invalid params: {problem}");
    UnknownTool(name: String)
        = &[Outcome::UnknownTool], BOTH, [200; 2], [INVALID_PARAMS; 2], Nothing, format!("Unknown tool: {}", shortened(name));
    ResourceNotFound(uri: String)
        = &[Outcome::ResourceNotFound], BOTH, [200; 2], [RESOURCE_NOT_FOUND, INVALID_PARAMS], Nothing,
          format!("resource not found: {uri}");
    Refused { code: i32, message: String }
        = &[Outcome::Refused], BOTH, [200; 2], [INVALID_PARAMS; 2], Nothing, message.as_str();
    MissingCapability(required: Value)
        = &[Outcome::MissingCapability], STATELESS, [200, 400], [MISSING_CAPABILITY; 2], Nothing,
          "the client has not declared a capability that this needs: see requiredCapabilities";
    BadMeta(problem: String)
        = &[Outcome::BadMeta], STATELESS, [400; 2], [INVALID_PARAMS; 2], Nothing, format!("invalid params: {problem}");
    HeaderMismatch(problem: String)
        = &[Outcome::HeaderMismatch], STATELESS, [400; 2], [HEADER_MISMATCH; 2], Nothing, format!("header mismatch: {problem}");
    UnsupportedRevision { requested: String, served: Vec<ProtocolVersion> }
        = &[Outcome::UnsupportedRevision], STATELESS, [400; 2], [UNSUPPORTED_VERSION; 2], Nothing,
          not_in_this_way(requested, served);
    TooManySubscriptions { limit: usize, of: &'static str }
        = &[Outcome::TooManySubscriptions], STATELESS, [503; 2], NO_ROOM, Retry(5),
          format!("{limit} subscriptions are open, the most there may be ({of})");
    TooManyTasks
        = &[Outcome::TooManyTasks], STATELESS, [503; 2], NO_ROOM, Retry(5),
          "there are as many tasks as may be (tasks.capacity)";
    Cancelled
        = &[Outcome::Cancelled], SESSIONED, [200; 2], EXCHANGE, Nothing, "the request was cancelled by its client";
    SessionRequired
        = &[Outcome::SessionRequired], SESSIONED, [400; 2], EXCHANGE, Nothing,
          "an Mcp-Session-Id header is required; initialize, sent by POST, returns one (HTTP+SSE is not offered)";
    NoSession(session: NoSession)
        = &[Outcome::Expired, Outcome::Terminated, Outcome::OtherInstance, Outcome::OtherReplica, Outcome::EarlierBoot, Outcome::Unknown],
          SESSIONED, [404; 2], [NO_SESSION; 2], Nothing, session.message();
    Full { capacity: u64, retry_after_seconds: u64 }
        = &[Outcome::Full], SESSIONED, [503; 2], NO_ROOM, Retry(*retry_after_seconds),
          NotCreated::Full { capacity: *capacity, retry_after_seconds: *retry_after_seconds }.to_string();
    NoMemory
        = &[Outcome::NoMemory], BOTH, [503; 2], NO_ROOM, Retry(1), format!("{NoRoom}; try again later");
    TooManyCalls { limit: u64, key: &'static str }
        = &[Outcome::TooManyCalls], BOTH, [503; 2], NO_ROOM, Retry(1),
          format!("{limit} calls are under way, the most there may be ({key}); try again when one has ended");
    Draining
        = &[Outcome::Draining], SESSIONED, [503; 2], NO_ROOM, Retry(5), NotCreated::Draining.to_string();
    CutOff
        = &[Outcome::CutOff], BOTH, [503; 2], NO_ROOM, Retry(5),
          "the server is shutting down and could not wait for the end of this request (shutdown.drain_seconds)";
    StoreUnavailable
        = &[Outcome::StoreUnavailable], BOTH, [503; 2], NO_ROOM, Retry(1), format!("{Unavailable}; keep the session, and send the request again");
    TooManyStreams { limit: usize }
        = &[Outcome::TooManyStreams], SESSIONED, [409; 2], EXCHANGE, Nothing,
          format!("the session already has {limit} event streams open, the most it may (session.max_streams)");
    BadHeader(bad: BadHeader)
        = &[Outcome::BadHeader], BOTH, [400; 2], EXCHANGE, Nothing, bad.to_string();
    UnsupportedVersion { served: Vec<ProtocolVersion> }
        = &[Outcome::UnsupportedVersion], SESSIONED, [400; 2], EXCHANGE, Nothing,
          match served.iter().any(|version| version.era() == Era::Stateless) {
              true => format!("this protocol version is not served; served are {}", version::names(served)),
              false => format!("this protocol version is not served; {}", by_sessions(served)),
          };
    NotAcceptable { needed: &'static str }
        = &[Outcome::NotAcceptable], BOTH, [406; 2], EXCHANGE, Nothing,
          format!("the client must accept {needed}: see its Accept header");
    UnsupportedMediaType { encoded: bool }
        = &[Outcome::UnsupportedMediaType], BOTH, [415; 2], EXCHANGE, if *encoded { Plain } else { Nothing },
          match encoded {
              true => "the body must not be encoded: leave the Content-Encoding header out",
              false => "the Content-Type header must be application/json (in UTF-8)",
          };
    BodyTooLarge { limit: usize }
        = &[Outcome::BodyTooLarge], BOTH, [413; 2], EXCHANGE, Nothing,
          format!("the body is larger than {limit} bytes (http.max_body_bytes)");
    BodyTimeout
        = &[Outcome::BodyTimeout], BOTH, [408; 2], EXCHANGE, Nothing,
          "the body did not arrive in time (http.body_timeout_seconds)";
    BodyBroken
        = &[Outcome::BodyBroken], BOTH, [400; 2], EXCHANGE, Nothing, "the body could not be read to its end";
    MethodNotAllowed(allowed: &'static str)
        = &[Outcome::MethodNotAllowed], BOTH, [405; 2], EXCHANGE, Allow(allowed), format!("the MCP endpoint takes {allowed}");
    UnknownTransferCoding
        = &[Outcome::UnknownTransferCoding], BOTH, [501; 2], EXCHANGE, Nothing,
          "the body must be sent plain or chunked: no other Transfer-Encoding is understood";
    Internal
        = &[Outcome::Internal], BOTH, [500; 2], [INTERNAL_ERROR; 2], Nothing, "internal error";
}

/// What is served only after a handshake, and how that begins.
fn by_sessions(served: &[ProtocolVersion]) -> String {
    let names = version::names(served);
    format!(
        "{names} are served by sessions: send initialize, without a version in \"_meta\", to begin one"
    )
}

/// The revision of a request that stands for itself is not served, or by sessions alone.
fn not_in_this_way(requested: &str, served: &[ProtocolVersion]) -> String {
    let shown = shortened(requested);
    let named = served.iter().find(|version| version.as_str() == requested);
    match named.filter(|version| version.era() == Era::Sessioned) {
        Some(_) => {
            let sessioned: Vec<_> =
                served.iter().copied().filter(|it| it.era() == Era::Sessioned).collect();
            format!(
                "protocol version {shown:?} has no requests without a session; {}",
                by_sessions(&sessioned)
            )
        }
        None => {
            let names = version::names(served);
            format!("protocol version {shown:?} is not served; served are {names}")
        }
    }
}

/// A name that a client wrote, as it is repeated in a text: as far as it may be one.
fn shortened(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(MAX_NAME) {
        None => name.into(),
        Some((end, _)) => format!("{}…", &name[..end]).into(),
    }
}

/// Why a session id is of no use, and what its digits say.
#[derive(Clone, Copy, Debug)]
pub struct NoSession {
    pub(crate) gone: Gone,
    /// `None` if the id is not of our form.
    pub(crate) minted_by: Option<MintedBy>,
    /// Where this answer comes from.
    pub(crate) served_by: MintedBy,
}

impl From<EnvelopeError<'_>> for Failure {
    fn from(error: EnvelopeError<'_>) -> Self {
        match error {
            EnvelopeError::NotJson(problem) => Self::NotJson(problem),
            EnvelopeError::NotAMessage { problem, .. } => Self::NotAMessage(problem),
        }
    }
}

impl From<BadHeader> for Failure {
    fn from(bad: BadHeader) -> Self {
        Self::BadHeader(bad)
    }
}

impl From<BadParams> for Failure {
    fn from(bad: BadParams) -> Self {
        Self::InvalidParams(bad.to_string())
    }
}

impl From<Unavailable> for Failure {
    fn from(Unavailable: Unavailable) -> Self {
        Self::StoreUnavailable
    }
}

impl From<NoRoom> for Failure {
    fn from(NoRoom: NoRoom) -> Self {
        Self::NoMemory
    }
}

impl From<NotCreated> for Failure {
    fn from(refused: NotCreated) -> Self {
        match refused {
            NotCreated::Full { capacity, retry_after_seconds } => {
                Self::Full { capacity, retry_after_seconds }
            }
            NotCreated::Draining => Self::Draining,
            NotCreated::NoRoom(full) => full.into(),
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

/// The code of what is wrong with the HTTP exchange.
pub(crate) const fn exchange_code(era: Era) -> i32 {
    EXCHANGE[index(era)]
}

impl Failure {
    /// What the client has answered does not fit the question of that key.
    pub(crate) fn unfit(key: &str, problem: &str) -> Self {
        Self::InvalidParams(format!("inputResponses: {:?}: {problem}", shortened(key)))
    }

    /// The client has not declared the tasks extension.
    pub(crate) fn needs_tasks() -> Self {
        Self::MissingCapability(json!({ "extensions": { TASKS_EXTENSION: {} } }))
    }

    /// Its name in the log and the metrics.
    pub(crate) const fn outcome(&self) -> RequestOutcome {
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

    /// What was asked for and does not exist, for the log.
    pub(crate) fn missing(&self) -> Option<Missing> {
        let text = |name: &str| shown::shown(name, Missing::MAX);
        match self {
            Self::MethodNotFound(name) => Some(Missing::Method(text(name))),
            Self::UnknownTool(name) => Some(Missing::Tool(text(name))),
            _ => None,
        }
    }

    const fn code(&self, era: Era) -> i32 {
        match self {
            Self::Refused { code, .. } => *code,
            other => other.row().code[index(era)],
        }
    }

    /// The HTTP status of a response that consists of this error.
    pub(crate) fn status(&self, era: Era) -> StatusCode {
        let status = StatusCode::from_u16(self.row().status[index(era)]);
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn data(&self) -> Option<Value> {
        match self {
            Self::NoSession(session) => Some(session.data()),
            Self::StoreUnavailable => Some(json!({ "reason": "store_unavailable" })),
            Self::CutOff => Some(json!({ "reason": "draining" })),
            Self::UnsupportedVersion { served } => {
                Some(json!({ "supported": version::texts(served) }))
            }
            Self::ResourceNotFound(uri) => Some(json!({ "uri": uri })),
            Self::MissingCapability(required) => Some(json!({ "requiredCapabilities": required })),
            Self::UnsupportedRevision { requested, served } => {
                Some(json!({ "supported": version::texts(served), "requested": requested }))
            }
            _ => None,
        }
    }

    /// The JSON-RPC response, for a batch or an event stream, where it has no HTTP status of its own.
    pub(crate) fn to_message(&self, id: Option<Id<'_>>, era: Era) -> Bytes {
        jsonrpc::error(id, &self.to_object(era))
    }

    pub(crate) fn to_object(&self, era: Era) -> ErrorObject<'_> {
        ErrorObject { code: self.code(era), message: self.message(), data: self.data() }
    }

    /// The HTTP response.
    pub(crate) fn into_response(self, id: Option<Id<'_>>, era: Era) -> Response<Bytes> {
        let mut response = Response::new(self.to_message(id, era));
        *response.status_mut() = self.status(era);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let header = match self.then() {
            Nothing => return response,
            Retry(seconds) => (header::RETRY_AFTER, HeaderValue::from(seconds)),
            Allow(methods) => (header::ALLOW, HeaderValue::from_static(methods)),
            Plain => (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        };
        headers.insert(header.0, header.1);
        response
    }
}

impl NoSession {
    /// One clause, without advice on what to do.
    pub(crate) fn what_happened(&self) -> String {
        let here = self.served_by;
        match self.gone {
            Gone::OtherInstance(other) => format!(
                "session not found: instance {other} minted this id, and instance {} answers; use the host of instance {other}, or {} at the front door",
                here.instance,
                endpoint_of(other)
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
