//! Cross-origin resource sharing (Fetch standard): what a page that may call is allowed to see.
//!
//! Owns the header lists, the answer to a preflight and the headers that a page needs on every other
//! answer. Refuses to say anything to callers that are no pages: without an `Origin` an answer carries
//! none of this, which also keeps `curl -D - | grep mcp-session-id` to one line.
//! Trap: a header that is not exposed does not exist for a page, `Mcp-Session-Id` above all; and a page
//! must be able to read failures too.

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::tenant::origins::{EXPOSED, METHODS};

/// The header values, composed once.
#[derive(Clone, Debug)]
pub struct Cors {
    methods: HeaderValue,
    exposed: HeaderValue,
}

impl Cors {
    /// Composes the lists.
    pub fn build() -> Self {
        let list = |names: Vec<&str>| {
            // Names of methods and headers always fit a header.
            HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""))
        };
        Self {
            methods: list(METHODS.iter().map(Method::as_str).collect()),
            exposed: list(EXPOSED.iter().map(HeaderName::as_str).collect()),
        }
    }

    /// Whether a request with an `Origin` asks beforehand whether it may be sent.
    pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
        method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Yes, with whatever headers it likes.
    pub fn preflight(&self, asked: &HeaderMap) -> Response {
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

    /// Lets the page at `origin` read an answer.
    pub fn open(&self, response: &mut Response, origin: HeaderValue) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.clone());
        headers.append(
            header::VARY,
            HeaderValue::from_static("origin, access-control-request-headers"),
        );
    }
}
