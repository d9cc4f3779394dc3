//! The `/mcp` endpoint: POST, GET, DELETE.
//!
//! Owns the way from an HTTP request to the era that answers it. Refuses, in this order: another HTTP
//! method (405), a body that is not declared as JSON (415), a client that takes neither form of answer
//! (406), a body that is too large, too slow or broken (413, 408, 400), one that is no message (400).
//! Traps: nothing of a session may be allocated before all of this has passed; and an instance that
//! serves one era alone must not half serve the other, or a client that knows both takes it for both.

pub mod catalogue;
pub mod dispatch;
pub mod failure;
pub mod json;
pub mod jsonrpc;
pub mod listen;
pub mod model;
pub mod params;
pub mod reply;
pub mod seal;
pub mod sessioned;
pub mod sse;
pub mod stateless;
pub mod stream;
pub mod version;

use std::{convert::Infallible, sync::Arc};

use axum::{extract::Request, response::Response};
use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, request::Parts};

use crate::{
    auth::Caller,
    call::Arrival,
    http::{body, record_of},
    instance::Instance,
    telemetry::record::RequestRecord,
};

use self::{
    failure::Failure,
    jsonrpc::{Body, EnvelopeError, Id, Message},
    version::Era,
};

/// The header that names a revision.
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// The header that names the method of the body (2026-07-28).
pub const METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");

/// The header that names what the method is about (2026-07-28).
pub const NAME_HEADER: HeaderName = HeaderName::from_static("mcp-name");

/// The header that mirrors the handle of a stateful tool ([`HANDLE`](crate::tools::HANDLE)).
pub const HANDLE_HEADER: HeaderName = HeaderName::from_static("mcp-param-session");

/// Answers every request to `/mcp` of one instance.
pub async fn endpoint(instance: Arc<Instance>, request: Request) -> Result<Response, Infallible> {
    let (parts, body) = request.into_parts();
    if parts.method == Method::POST {
        return Ok(post(&instance, parts, body).await);
    }
    let era = era_of_headers(&instance, &parts);
    let record = record_of(&parts.extensions);
    let result = match (parts.method.clone(), era) {
        (Method::GET, Era::Sessioned) => {
            let arrival = arrival(&instance, parts, Bytes::new());
            Box::pin(sessioned::listen(&instance, &arrival)).await
        }
        (Method::DELETE, Era::Sessioned) => {
            let arrival = arrival(&instance, parts, Bytes::new());
            Box::pin(sessioned::terminate(&instance, &arrival)).await
        }
        (_, Era::Sessioned) => Err(Failure::MethodNotAllowed("GET, POST, DELETE, OPTIONS")),
        (_, Era::Stateless) => Err(Failure::MethodNotAllowed("POST, OPTIONS")),
    };
    Ok(result.unwrap_or_else(|failure| refuse(&record, failure, None, era)))
}

/// The answer to a request that failed, noted for its log line; a fault of ours is told by itself too.
fn refuse(record: &RequestRecord, failure: Failure, id: Option<Id<'_>>, era: Era) -> Response {
    record.set_era(era);
    record.set_outcome(failure.outcome());
    if failure.status(era) == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(request_id = %record.id, ?failure, "request failed");
    }
    failure.into_response(id, era)
}

/// The era that a request is of, as far as its headers tell.
fn era_of_headers(instance: &Instance, parts: &Parts) -> Era {
    match Era::of(false, version_header(parts)) {
        era if instance.serves(era) => era,
        // The one that is served says what is wrong.
        Era::Sessioned => Era::Stateless,
        Era::Stateless => Era::Sessioned,
    }
}

fn version_header(parts: &Parts) -> Option<&str> {
    parts.headers.get(VERSION_HEADER)?.to_str().ok()
}

fn arrival(instance: &Instance, parts: Parts, body: Bytes) -> Arc<Arrival> {
    let record = record_of(&parts.extensions);
    Arc::new(Arrival {
        trusted_peer: instance.trusts(record.peer),
        caller: parts.extensions.get().copied().unwrap_or(Caller::Anonymous),
        parts,
        body,
        record,
    })
}

/// What comes before the body is looked into.
async fn received(
    instance: &Arc<Instance>,
    parts: &Parts,
    body: axum::body::Body,
) -> Result<(Bytes, body::Accepted), Failure> {
    body::check_content_type(&parts.headers)?;
    let accepted = body::Accepted::of(&parts.headers);
    if !accepted.json && !accepted.events {
        return Err(Failure::NotAcceptable { needed: "application/json or text/event-stream" });
    }
    let (limit, deadline) = (instance.max_body_bytes, instance.body_timeout);
    Ok((body::read(&parts.headers, body, limit, deadline).await?, accepted))
}

async fn post(instance: &Arc<Instance>, parts: Parts, body: axum::body::Body) -> Response {
    let (bytes, accepted) = match received(instance, &parts, body).await {
        Ok(received) => received,
        Err(failure) => {
            let era = era_of_headers(instance, &parts);
            return refuse(&record_of(&parts.extensions), failure, None, era);
        }
    };
    let arrival = arrival(instance, parts, bytes.clone());
    let header = version_header(&arrival.parts);

    let body = match Body::parse(&bytes) {
        Ok(body) => body,
        Err(error) => {
            let id = error.id();
            let failure = Failure::from(error.clone());
            return refuse(&arrival.record, failure, id, Era::of(false, header));
        }
    };
    match body {
        Body::One(message) => {
            let era = Era::of(message.claims_version(), header);
            match (era, instance.serves(era)) {
                (Era::Sessioned, true) => {
                    sessioned::one(instance, &arrival, accepted, message).await
                }
                (Era::Stateless, true) | (Era::Sessioned, false) => {
                    Box::pin(stateless::one(instance, &arrival, accepted, message)).await
                }
                (Era::Stateless, false) => {
                    let served = instance.policy.protocol.versions.clone();
                    let failure = Failure::UnsupportedVersion { served };
                    refuse(&arrival.record, failure, message.id(), Era::Sessioned)
                }
            }
        }
        Body::Batch(messages) => {
            match Era::of(messages.iter().flatten().any(Message::claims_version), header) {
                Era::Sessioned if instance.serves(Era::Sessioned) => {
                    Box::pin(sessioned::batch(instance, &arrival, accepted, messages)).await
                }
                Era::Sessioned | Era::Stateless => {
                    let failure =
                        Failure::NotAMessage("this revision has no JSON-RPC batches".into());
                    let era = era_of_headers(instance, &arrival.parts);
                    refuse(&arrival.record, failure, None, era)
                }
            }
        }
    }
}

impl<'a> Message<'a> {
    fn claims_version(&self) -> bool {
        match self {
            Self::Request { params, .. } | Self::Notification { params, .. } => {
                params.claims_version()
            }
            Self::Response { .. } => false,
        }
    }

    fn id(&self) -> Option<Id<'a>> {
        match self {
            Self::Request { id, .. } => Some(*id),
            Self::Notification { .. } | Self::Response { .. } => None,
        }
    }
}

impl<'a> EnvelopeError<'a> {
    /// The id, where one could be read.
    pub fn id(&self) -> Option<Id<'a>> {
        match self {
            Self::NotAMessage { id, .. } => *id,
            Self::NotJson(_) => None,
        }
    }
}
