//! Every way in which an MCP request can fail, and what the client is told.
//!
//! Owns the closed list [`Failure`] and the one function that turns it into HTTP and JSON-RPC. Refuses
//! to show what went on inside: the texts are written for the person at the other end and say what to do.
//! Trap: a JSON-RPC error that answers a well-formed request of a sessioned revision travels with HTTP
//! 200; only what is wrong with the HTTP exchange or the session has a status of its own.

use std::borrow::Cow;

use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{
    jsonrpc::{self, EnvelopeError, ErrorObject, Id},
    model::TASKS_EXTENSION,
    version::{self, Era, ProtocolVersion},
};
use crate::{
    place::{InstanceId, Origin},
    session::store::{Gone, Refused},
    telemetry::outcome::RequestOutcome,
};

/// Implementation-defined: something is wrong with the HTTP exchange around the message.
pub const TRANSPORT: i32 = -32000;
/// Implementation-defined: there is no such session.
pub const SESSION_GONE: i32 = -32001;
/// MCP, sessioned revisions: resource not found.
pub const RESOURCE_NOT_FOUND: i32 = -32002;
/// MCP: the headers do not say what the body says.
pub const HEADER_MISMATCH: i32 = -32020;
/// MCP: the client has not declared a capability that is needed.
pub const MISSING_CAPABILITY: i32 = -32021;
/// MCP: the revision is not served.
pub const UNSUPPORTED_VERSION: i32 = -32022;
/// JSON-RPC: parse error.
pub const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: invalid request.
pub const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: method not found.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// JSON-RPC: invalid params.
pub const INVALID_PARAMS: i32 = -32602;
/// JSON-RPC: internal error.
pub const INTERNAL_ERROR: i32 = -32603;

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The body is not JSON.
    NotJson(String),
    /// The body is JSON but no JSON-RPC message, or one that may not come in this way.
    NotAMessage(Cow<'static, str>),
    /// There is no such method.
    MethodNotFound(String),
    /// The parameters do not fit the method.
    InvalidParams(String),
    /// There is no such tool.
    UnknownTool(String),
    /// There is no such resource, or not for this caller.
    ResourceNotFound(String),
    /// A capability refused, with its own code.
    Refused {
        /// JSON-RPC error code.
        code: i32,
        /// What is wrong, and what to do.
        message: String,
    },
    /// The client has not declared a capability that is needed; as `requiredCapabilities`.
    MissingCapability(Value),
    /// `_meta` lacks what every request of the stateless era must carry.
    BadMeta(&'static str),
    /// A header does not say what the body says.
    HeaderMismatch(String),
    /// The request's revision is not served, in the words of the stateless era.
    UnsupportedRevision {
        /// What was asked for.
        requested: String,
        /// What could be.
        served: Vec<&'static str>,
    },
    /// As many subscriptions are open as may be.
    TooManySubscriptions {
        /// Open at the most.
        limit: usize,
    },
    /// As many tasks exist as may.
    TooManyTasks,
    /// The client took its request back.
    Cancelled,
    /// A session id is needed here.
    SessionRequired,
    /// There is no such session.
    SessionGone(Misrouted),
    /// No session could be made.
    SessionRefused(Refused),
    /// The session has as many streams open as it may.
    TooManyStreams {
        /// Open streams at the most.
        limit: usize,
    },
    /// A header that may stand once stands there several times, or is no text.
    BadHeader(&'static str),
    /// The version header names none that is served.
    UnsupportedVersion {
        /// What is served.
        served: Vec<ProtocolVersion>,
    },
    /// The client takes neither form of answer.
    NotAcceptable {
        /// What to accept.
        needed: &'static str,
    },
    /// The body is not declared as JSON in UTF-8.
    UnsupportedMediaType,
    /// The body is larger than allowed.
    BodyTooLarge {
        /// Bytes at the most.
        limit: usize,
    },
    /// The body did not arrive in time.
    BodyTimeout,
    /// The connection broke while the body was read.
    BodyBroken,
    /// The endpoint does not take this HTTP method; it takes these.
    MethodNotAllowed(&'static str),
    /// Our fault.
    Internal,
}

/// A session id that leads nowhere, with all that its digits say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misrouted {
    /// Why.
    pub gone: Gone,
    /// What the id says of its origin, if it is one of ours.
    pub minted_by: Option<(InstanceId, Origin)>,
    /// Who answers.
    pub served_by: (InstanceId, Origin),
}

impl From<EnvelopeError<'_>> for Failure {
    fn from(error: EnvelopeError<'_>) -> Self {
        match error {
            EnvelopeError::NotJson(problem) => Self::NotJson(problem),
            EnvelopeError::NotAMessage { problem, .. } => Self::NotAMessage(problem),
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::SessionRefused(refused)
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
            Self::NotJson(_) => RequestOutcome::NotJson,
            Self::NotAMessage(_) => RequestOutcome::NotAMessage,
            Self::MethodNotFound(_) => RequestOutcome::MethodNotFound,
            Self::InvalidParams(_) => RequestOutcome::InvalidParams,
            Self::UnknownTool(_) => RequestOutcome::UnknownTool,
            Self::ResourceNotFound(_) => RequestOutcome::ResourceNotFound,
            Self::Refused { .. } => RequestOutcome::Refused,
            Self::MissingCapability(_) => RequestOutcome::MissingCapability,
            Self::BadMeta(_) => RequestOutcome::BadMeta,
            Self::HeaderMismatch(_) => RequestOutcome::HeaderMismatch,
            Self::UnsupportedRevision { .. } => RequestOutcome::UnsupportedRevision,
            Self::TooManySubscriptions { .. } => RequestOutcome::TooManySubscriptions,
            Self::TooManyTasks => RequestOutcome::TooManyTasks,
            Self::Cancelled => RequestOutcome::Cancelled,
            Self::SessionRequired => RequestOutcome::SessionRequired,
            Self::SessionGone(misrouted) => misrouted.gone.outcome(),
            Self::SessionRefused(Refused::Full { .. }) => RequestOutcome::Full,
            Self::SessionRefused(Refused::Draining) => RequestOutcome::Draining,
            Self::TooManyStreams { .. } => RequestOutcome::TooManyStreams,
            Self::BadHeader(_) => RequestOutcome::BadHeader,
            Self::UnsupportedVersion { .. } => RequestOutcome::UnsupportedVersion,
            Self::NotAcceptable { .. } => RequestOutcome::NotAcceptable,
            Self::UnsupportedMediaType => RequestOutcome::UnsupportedMediaType,
            Self::BodyTooLarge { .. } => RequestOutcome::BodyTooLarge,
            Self::BodyTimeout => RequestOutcome::BodyTimeout,
            Self::BodyBroken => RequestOutcome::BodyBroken,
            Self::MethodNotAllowed(_) => RequestOutcome::MethodNotAllowed,
            Self::SessionRefused(Refused::NoEntropy) | Self::Internal => RequestOutcome::Internal,
        }
    }

    /// The same as text.
    pub const fn as_str(&self) -> &'static str {
        self.outcome().as_str()
    }

    /// The JSON-RPC error code.
    pub const fn code(&self, era: Era) -> i32 {
        match self {
            Self::ResourceNotFound(_) => match era {
                Era::Sessioned => RESOURCE_NOT_FOUND,
                Era::Stateless => INVALID_PARAMS,
            },
            Self::Refused { code, .. } => *code,
            Self::MissingCapability(_) => MISSING_CAPABILITY,
            Self::HeaderMismatch(_) => HEADER_MISMATCH,
            Self::UnsupportedRevision { .. } => UNSUPPORTED_VERSION,
            Self::NotJson(_) => PARSE_ERROR,
            Self::NotAMessage(_) => INVALID_REQUEST,
            Self::MethodNotFound(_) => METHOD_NOT_FOUND,
            Self::InvalidParams(_) | Self::UnknownTool(_) | Self::BadMeta(_) => INVALID_PARAMS,
            Self::SessionGone(_) => SESSION_GONE,
            Self::SessionRefused(Refused::NoEntropy) | Self::Internal => INTERNAL_ERROR,
            // The stateless era asks not to use the implementation-defined codes at all (basic/index, "Error
            // Codes").
            Self::SessionRefused(Refused::Full { .. } | Refused::Draining)
            | Self::TooManySubscriptions { .. }
            | Self::TooManyTasks => match era {
                Era::Sessioned => TRANSPORT,
                Era::Stateless => INTERNAL_ERROR,
            },
            Self::Cancelled
            | Self::SessionRequired
            | Self::TooManyStreams { .. }
            | Self::BadHeader(_)
            | Self::UnsupportedVersion { .. }
            | Self::NotAcceptable { .. }
            | Self::UnsupportedMediaType
            | Self::BodyTooLarge { .. }
            | Self::BodyTimeout
            | Self::BodyBroken
            | Self::MethodNotAllowed(_) => match era {
                Era::Sessioned => TRANSPORT,
                Era::Stateless => INVALID_REQUEST,
            },
        }
    }

    /// The HTTP status of a response that carries nothing else.
    pub const fn status(&self, era: Era) -> StatusCode {
        match self {
            Self::MethodNotFound(_) => match era {
                Era::Sessioned => StatusCode::OK,
                Era::Stateless => StatusCode::NOT_FOUND,
            },
            Self::InvalidParams(_)
            | Self::UnknownTool(_)
            | Self::ResourceNotFound(_)
            | Self::Refused { .. }
            | Self::Cancelled => StatusCode::OK,
            Self::MissingCapability(_) => match era {
                Era::Sessioned => StatusCode::OK,
                Era::Stateless => StatusCode::BAD_REQUEST,
            },
            Self::NotJson(_)
            | Self::NotAMessage(_)
            | Self::SessionRequired
            | Self::BadHeader(_)
            | Self::BadMeta(_)
            | Self::HeaderMismatch(_)
            | Self::UnsupportedRevision { .. }
            | Self::UnsupportedVersion { .. }
            | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::SessionGone(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable { .. } => StatusCode::NOT_ACCEPTABLE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooManyStreams { .. } => StatusCode::CONFLICT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::SessionRefused(Refused::Full { .. } | Refused::Draining)
            | Self::TooManySubscriptions { .. }
            | Self::TooManyTasks => StatusCode::SERVICE_UNAVAILABLE,
            Self::SessionRefused(Refused::NoEntropy) | Self::Internal => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    fn message(&self) -> Cow<'_, str> {
        match self {
            Self::NotJson(problem) => format!("parse error: {problem}").into(),
            Self::NotAMessage(problem) => format!("invalid request: {problem}").into(),
            Self::MethodNotFound(name) => format!("method not found: {name}").into(),
            Self::InvalidParams(problem) => format!("invalid params: {problem}").into(),
            Self::UnknownTool(name) => format!("Unknown tool: {name}").into(),
            Self::ResourceNotFound(uri) => format!("resource not found: {uri}").into(),
            Self::Refused { message, .. } => message.as_str().into(),
            Self::MissingCapability(_) => {
                "the client has not declared a capability that this needs: see requiredCapabilities".into()
            }
            Self::BadMeta(problem) => format!("invalid params: {problem}").into(),
            Self::HeaderMismatch(problem) => format!("header mismatch: {problem}").into(),
            Self::UnsupportedRevision { requested, served } => format!(
                "protocol version {requested:?} is not served; served are {}",
                served.join(", ")
            )
            .into(),
            Self::TooManySubscriptions { limit } => format!(
                "{limit} subscriptions are open, the most there may be (stream.max_subscriptions)"
            )
            .into(),
            Self::TooManyTasks => "there are as many tasks as may be (tasks.capacity)".into(),
            Self::Cancelled => "the request was cancelled by its client".into(),
            Self::SessionRequired => {
                "an Mcp-Session-Id header is required; initialize returns one".into()
            }
            Self::SessionGone(misrouted) => misrouted.message().into(),
            Self::SessionRefused(refused) => refused.to_string().into(),
            Self::TooManyStreams { limit } => format!(
                "the session already has {limit} event streams open, the most it may (session.max_streams)"
            )
            .into(),
            Self::BadHeader(name) => {
                format!("the header {name} must stand once and be visible ASCII").into()
            }
            Self::UnsupportedVersion { served } => format!(
                "this protocol version is not served; served are {}",
                version::names(served)
            )
            .into(),
            Self::NotAcceptable { needed } => {
                format!("the client must accept {needed}: see its Accept header").into()
            }
            Self::UnsupportedMediaType => {
                "the Content-Type header must be application/json (in UTF-8)".into()
            }
            Self::BodyTooLarge { limit } => {
                format!("the body is larger than {limit} bytes (http.max_body_bytes)").into()
            }
            Self::BodyTimeout => {
                "the body did not arrive in time (http.body_timeout_seconds)".into()
            }
            Self::BodyBroken => "the body could not be read to its end".into(),
            Self::MethodNotAllowed(allowed) => format!("the MCP endpoint takes {allowed}").into(),
            Self::Internal => "internal error".into(),
        }
    }

    fn data(&self) -> Option<Value> {
        match self {
            Self::SessionGone(misrouted) => Some(misrouted.data()),
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
    pub fn to_message(&self, id: Option<Id<'_>>, era: Era) -> bytes::Bytes {
        jsonrpc::error(id, &self.to_object(era))
    }

    /// The JSON-RPC error object.
    pub fn to_object(&self, era: Era) -> ErrorObject<'_> {
        ErrorObject { code: self.code(era), message: self.message(), data: self.data() }
    }

    /// The whole answer.
    pub fn into_response(self, id: Option<Id<'_>>, era: Era) -> Response {
        let mut response = Response::new(Body::from(self.to_message(id, era)));
        *response.status_mut() = self.status(era);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Self::SessionRefused(Refused::Full { retry_after_seconds, .. }) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds));
            }
            Self::SessionRefused(Refused::Draining) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Self::MethodNotAllowed(allowed) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
            }
            Self::TooManySubscriptions { .. } | Self::TooManyTasks => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            // What is left of the body is not worth reading.
            Self::BodyTooLarge { .. } | Self::BodyTimeout | Self::BodyBroken => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

impl Misrouted {
    /// One clause, without advice.
    pub fn what_happened(&self) -> String {
        let (here, origin) = self.served_by;
        match self.gone {
            Gone::OtherInstance(other) => format!(
                "session not found: instance {other} minted this id, and instance {here} answers; use the host of instance {other}"
            ),
            Gone::OtherReplica(other) => format!(
                "session not found: replica {} minted this id, and replica {} answers; route by the id's digits 1-2",
                other.tag, origin.tag
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
            "reason": self.gone.as_str(),
            "served_by": place(self.served_by),
        });
        if let Some(minted_by) = self.minted_by {
            data["minted_by"] = place(minted_by);
        }
        if let Gone::Terminated(by) = self.gone {
            data["ended_by"] = by.as_str().into();
        }
        data
    }
}

/// An instance, replica tag and boot, as they stand in an id.
pub fn place((instance, origin): (InstanceId, Origin)) -> Value {
    json!({
        "instance": instance,
        "replica_tag": origin.tag.to_string(),
        "boot": origin.boot.to_string(),
    })
}
