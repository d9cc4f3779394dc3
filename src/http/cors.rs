//! Cross-origin resource sharing (Fetch standard): what a browser page may send and read.
//!
//! Owns the response to a preflight, and the headers that let a page read any other response. A request without `Origin`
//! gets none of them, which also keeps `curl -D - | grep mcp-session-id` to one line.
//! Traps: a page cannot read a header that is not exposed, `Mcp-Session-Id` above all. Error responses need these headers
//! as well.

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::tenant::origins::{EXPOSED, METHODS};

/// The lists of methods and headers, formatted once.
#[derive(Debug)]
pub(super) struct Cors {
    methods: HeaderValue,
    exposed: HeaderValue,
}

impl Cors {
    pub(super) fn build() -> Self {
        let list = |names: Vec<&str>| {
            // Names of methods and headers are always valid header values.
            HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""))
        };
        Self {
            methods: list(METHODS.iter().map(Method::as_str).collect()),
            exposed: list(EXPOSED.iter().map(HeaderName::as_str).collect()),
        }
    }

    /// Whether a request with an `Origin` is a preflight.
    pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
        method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Allows all of our methods, and any header that the page asks for.
    pub(super) fn preflight(&self, asked: &HeaderMap) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        response
    }

    /// Lets the page at `origin` read a response.
    pub(super) fn open(&self, response: &mut Response, origin: HeaderValue) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.clone());
        headers.append(
            header::VARY,
            HeaderValue::from_static("origin, access-control-request-headers"),
        );
    }
}
