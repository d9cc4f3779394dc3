//! Is it alive, does it take work: `/livez`, `/readyz`, `/health`.
//!
//! Owns the answers to probes, on any host, without a token. Refuses to know of sessions.
//! Trap: a probe must not create a session, and must be able to fail: not ready while draining.

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};

use crate::instance::Process;

/// Whether a path is a probe's.
pub fn is_path(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/health")
}

/// Answers a health request; `None` if it is none.
///
/// `/livez` says that the process runs, `/readyz` and `/health` that it takes new sessions.
pub fn answer(process: &Process, method: &Method, path: &str) -> Option<Response> {
    let ready = match path {
        "/livez" => true,
        "/readyz" | "/health" => !process.lifecycle.is_draining(),
        _ => return None,
    };
    if *method != Method::GET && *method != Method::HEAD {
        let allow = [(header::ALLOW, "GET, HEAD")];
        return Some((StatusCode::METHOD_NOT_ALLOWED, allow, "use GET\n").into_response());
    }
    Some(match ready {
        true => (StatusCode::OK, "ok\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response(),
    })
}
