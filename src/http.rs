//! The layers between the connection and MCP, one a file.
//!
//! Owns each layer, and what they share; in which order they stand, and why, is on one page: [`crate::server::stack`].
//! A request goes through them with its record: a layer that is missing does not compile.
//! Trap: `Router::layer` boxes a future and clones a service for each layer, so the layers on the way to `/mcp` are
//! plain services whose futures lie inside one another.

pub mod access_log;
pub mod bearer;
pub mod body;
pub mod cors;
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

use crate::{
    failure::Failure, observe::record::RequestRecord, tenant::Instance, wire::version::Era,
};

/// The body of a request that has a record: the outermost layer gives it one, and the layers within ask for it.
#[derive(Debug)]
pub struct Recorded {
    /// What is known of the request.
    pub record: Arc<RequestRecord>,
    /// Its body, unread.
    pub body: Body,
}

/// A request as a router takes it: the record goes on as an extension, for the handlers that ask for it.
pub fn for_router(request: Request<Recorded>) -> Request<Body> {
    let (mut parts, Recorded { record, body }) = request.into_parts();
    parts.extensions.insert(record);
    Request::from_parts(parts, body)
}

/// An answer outside MCP: what is wrong and what to do, as JSON.
pub fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

/// What answers a panic: the panic hook has told the operator, the client learns only that it was us.
#[derive(Clone, Copy, Debug)]
pub struct PanicResponse;

impl ResponseForPanic for PanicResponse {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, _: Box<dyn Any + Send>) -> Response {
        Failure::Internal.into_response(None, Era::Sessioned).map(Body::from)
    }
}

/// `scheme://host[:port]` as the client wrote it, for URLs that we hand out. The host has been checked
/// against the host table; the scheme is a trusted proxy's word, else http.
pub fn external_base(instance: &Instance, peer: IpAddr, uri: &Uri, headers: &HeaderMap) -> String {
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
