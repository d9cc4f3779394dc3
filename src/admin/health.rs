//! `/livez`, `/readyz`, `/health`.
//!
//! Owns the answers to probes, on any host, without a token.
//! Trap: a probe must not create a session, and must be able to fail: not ready while draining, nor before the shared store
//! was reached. Once it was, being lost makes a process unready only where it was asked for (`store.unready_when_lost`): all
//! replicas lose it at once, and what needs no session could still be served.

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
    match unready(process).filter(|_| path != LIVE) {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

/// Why the process takes no new sessions.
fn unready(process: &Process) -> Option<&'static str> {
    match &process.link {
        _ if process.lifecycle.is_draining() => Some("draining\n"),
        Some(link) if !link.was_reached() => Some("the store has not been reached yet\n"),
        Some(link) if link.is_needed() && !link.is_up() => Some("the store is lost\n"),
        Some(_) | None => None,
    }
}
