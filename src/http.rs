//! The layers between the connection and MCP, one a file.
//!
//! Owns each layer and what they share. Their order, and why, is on one page: [`crate::server::stack`]. The record of a
//! request is part of its type, so leaving out the layer that begins the record does not compile.
//! Trap: `Router::layer` boxes a future and clones a service for each layer, so the layers around `/mcp` are plain
//! services with nested futures.

pub mod access_log;
pub mod answer;
pub mod bearer;
pub mod body;
pub(crate) mod document;
pub mod idle_watch;
pub mod incoming;
pub mod metadata;
pub mod origin;
pub mod outgoing;
pub(crate) mod pace;
pub mod panics;
pub(crate) mod quiet;
pub(crate) mod signature;

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use serde_json::json;
use tower::Service;

use self::{
    answer::{Answer, AnswerBody},
    incoming::Incoming,
};
use crate::{
    failure::Failure,
    observe::{RequestOutcome, RequestRecord},
    paths::Path,
    tenant::Instance,
    wire::{BadHeader, Era, Head, Known},
};

/// The body of a request, with the record that the outermost layer has begun.
#[derive(Debug)]
pub struct Recorded {
    pub(crate) record: Arc<RequestRecord>,
    pub(crate) body: Incoming,
}

/// The head of a request, whose lines its record knows.
pub(crate) fn head(request: &Request<Recorded>) -> Head<'_> {
    request.body().record.lines.head(request.headers())
}

/// Has a router answer, whose handlers find the record in the extensions. The caller makes sure that it is ready, which a
/// router always is.
pub(crate) fn ask(
    router: &mut Router,
    request: Request<Recorded>,
) -> BoxFuture<'static, Result<Answer, Infallible>> {
    let (mut parts, Recorded { record, body }) = request.into_parts();
    parts.extensions.insert(record);
    let request = Request::from_parts(parts, Body::new(body));
    let response = Service::<Request<Body>>::call(router, request);
    response.map_ok(|response| response.map(Into::into)).boxed()
}

/// The bytes of a head, as HTTP/1 writes it.
pub(crate) fn head_bytes(headers: &HeaderMap, uri: &Uri) -> usize {
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    lines.sum::<usize>() + target
}

/// An error response outside MCP: `{"error": text}`.
pub(crate) fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

/// The answer to an OPTIONS that is no preflight: what the path takes (RFC 9110 §9.3.7).
pub(crate) fn options(allowed: &'static str) -> Response {
    (StatusCode::NO_CONTENT, [(header::ALLOW, allowed)]).into_response()
}

/// The answer to a request with a header that decides something and cannot be used.
fn refuse_header(request: &Request<Recorded>, bad: BadHeader) -> Answer {
    if !matches!(Path::of(request.uri().path()), Path::Mcp | Path::McpOf(_)) {
        return problem(StatusCode::BAD_REQUEST, &bad.to_string()).map(Into::into);
    }
    request.body().record.set_outcome(RequestOutcome::BadHeader);
    let era = Era::of(false, head(request).revision());
    Failure::BadHeader(bad).into_response(None, era).map(AnswerBody::Whole)
}

/// `scheme://host[:port]` as the client wrote it, for URLs in answers. The host has been checked against the host table.
/// The scheme is http unless a trusted proxy says https.
pub(crate) fn external_base(
    instance: &Instance,
    peer: IpAddr,
    uri: &Uri,
    head: Head<'_>,
) -> Result<String, BadHeader> {
    let forwarded = match instance.trusts(peer) {
        true => head.value(Known::Scheme)?,
        false => None,
    };
    let is = |value: &HeaderValue, scheme: &str| {
        value.as_bytes().trim_ascii().eq_ignore_ascii_case(scheme.as_bytes())
    };
    let scheme = match forwarded {
        Some(value) if is(value, "https") => "https",
        Some(value) if !is(value, "http") => return Err(BadHeader::NoScheme),
        Some(_) | None => "http",
    };
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => head.text(Known::Host)?.unwrap_or_default(),
    };
    Ok(format!("{scheme}://{host}"))
}
