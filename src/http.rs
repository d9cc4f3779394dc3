//! The layers between the connection and MCP, one a file.
//!
//! Owns each layer and what they share. Their order, and why, is on one page: [`crate::server::stack`]. The record of a
//! request is part of its type, so leaving out the layer that begins the record does not compile.
//! Trap: `Router::layer` boxes a future and clones a service for each layer, so the layers around `/mcp` are plain
//! services with nested futures.

pub mod access_log;
pub mod bearer;
pub mod body;
pub mod idle_watch;
pub mod metadata;
pub mod origin;

use std::{any::Any, net::IpAddr, sync::Arc};

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Request, StatusCode, Uri, header};
use serde_json::json;
use tower_http::catch_panic::ResponseForPanic;

use crate::{failure::Failure, observe::RequestRecord, tenant::Instance, wire::Era};

/// The body of a request, with the record that the outermost layer has begun.
#[derive(Debug)]
pub struct Recorded {
    pub(crate) record: Arc<RequestRecord>,
    pub(crate) body: Body,
}

/// Converts a request for a router, whose handlers find the record in the extensions.
pub(crate) fn for_router(request: Request<Recorded>) -> Request<Body> {
    let (mut parts, Recorded { record, body }) = request.into_parts();
    parts.extensions.insert(record);
    Request::from_parts(parts, body)
}

/// An error response outside MCP: `{"error": text}`.
pub(crate) fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

/// The response to a request that panicked: an internal error. The panic hook has logged the details.
#[derive(Clone, Copy, Debug)]
pub struct PanicResponse;

impl ResponseForPanic for PanicResponse {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, _: Box<dyn Any + Send>) -> Response {
        Failure::Internal.into_response(None, Era::Sessioned).map(Body::from)
    }
}

/// `scheme://host[:port]` as the client wrote it, for URLs in answers. The host has been checked against the host table.
/// The scheme is http unless a trusted proxy says https.
fn external_base(instance: &Instance, peer: IpAddr, uri: &Uri, headers: &HeaderMap) -> String {
    let forwarded = headers
        .get("x-forwarded-proto")
        .filter(|_| instance.trusts(peer))
        .is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"));
    let scheme = if forwarded { "https" } else { "http" };
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or(""),
    };
    format!("{scheme}://{host}")
}
