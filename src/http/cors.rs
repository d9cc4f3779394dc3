//! Cross-origin resource sharing (Fetch standard): what a browser page may send and read.
//!
//! Owns the response to a preflight, and the headers that let a page read any other response. A request without `Origin`
//! gets none of them, which also keeps `curl -D - | grep mcp-session-id` to one line.
//! Traps: a page cannot read a header that is not exposed, `Mcp-Session-Id` above all. Error responses need these headers
//! as well.

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::tenant::origins::{EXPOSED, METHODS};

/// Whether a request with an `Origin` is a preflight.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Allows all of our methods, and any header that the page asks for.
pub(super) fn preflight(asked: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    response
}

/// Lets the page at `origin` read a response.
pub(super) fn open(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers
        .append(header::VARY, HeaderValue::from_static("origin, access-control-request-headers"));
}
