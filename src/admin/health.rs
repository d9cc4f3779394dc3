//! `/livez`, `/readyz`, `/health`.
//!
//! Owns the answers to probes, on any host, without a token.
//! Trap: a probe must not create a session, and must be able to fail: not ready while draining.

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};

use crate::{http::options, paths::LIVE, process::Process};

/// `/livez` says that the process runs, `/readyz` and `/health` that it takes new sessions.
pub(crate) fn answer(process: &Process, method: &Method, path: &str) -> Response {
    const ALLOWED: &str = "GET, HEAD";
    match *method {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => return options(ALLOWED),
        _ => {
            let allow = [(header::ALLOW, ALLOWED)];
            return (StatusCode::METHOD_NOT_ALLOWED, allow, "use GET\n").into_response();
        }
    }
    match path == LIVE || !process.lifecycle.is_draining() {
        true => (StatusCode::OK, "ok\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response(),
    }
}
