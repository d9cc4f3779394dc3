//! The `/mcp` endpoint: POST, GET, DELETE.
//!
//! Owns the way from an HTTP request to the era that answers it. Refuses, in this order: another HTTP
//! method (405), a body that is not declared as JSON (415), a client that takes neither form of answer
//! (406), a body that is too large, too slow or broken (413, 408, 400).
//! Trap: nothing of a session may be allocated before all of this has passed.

pub mod catalogue;
pub mod failure;
pub mod jsonrpc;
pub mod model;
pub mod reply;
pub mod sessioned;
pub mod sse;
pub mod version;

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::{Method, StatusCode};
use jiff::Timestamp;

use crate::{
    auth::Caller,
    call::Arrival,
    http::{body, server_facts},
    instance::Instance,
};

use self::failure::Failure;

/// Answers every request to `/mcp` of one instance.
pub async fn endpoint(State(instance): State<Arc<Instance>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (peer, record) = server_facts(&parts.extensions);
    let arrival = Arc::new(Arrival {
        trusted_peer: instance.process.trusts(peer),
        caller: parts.extensions.get().copied().unwrap_or(Caller::Anonymous),
        parts,
        peer,
        received_at: Timestamp::now(),
        record,
    });
    let result = match arrival.parts.method {
        Method::POST => post(&instance, &arrival, body).await,
        Method::GET => sessioned::listen(&instance, &arrival).await,
        Method::DELETE => sessioned::terminate(&instance, &arrival).await,
        _ => Err(Failure::MethodNotAllowed),
    };
    result.unwrap_or_else(|failure| {
        arrival.record.set_outcome(failure.as_str());
        if failure.status() == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(request_id = &*arrival.record.id, ?failure, "request failed");
        }
        failure.into_response(None)
    })
}

async fn post(
    instance: &Arc<Instance>,
    arrival: &Arc<Arrival>,
    body: axum::body::Body,
) -> Result<Response, Failure> {
    body::check_content_type(arrival.headers())?;
    let accepted = body::Accepted::of(arrival.headers());
    if !accepted.json && !accepted.events {
        return Err(Failure::NotAcceptable { needed: "application/json or text/event-stream" });
    }
    let bytes =
        body::read(arrival.headers(), body, instance.max_body_bytes, instance.body_timeout).await?;
    Ok(sessioned::post(instance, arrival, accepted, bytes).await)
}
