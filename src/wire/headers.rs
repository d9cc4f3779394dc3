//! HTTP headers: the names of MCP's and of our own, and how to read one that may appear only once.
//!
//! Owns the names and [`single`]. A header that decides something may appear once. With two, a proxy in front may have
//! used the other one, so the request is refused.
//! Trap: `get_all` costs more than `get`. A map with as many values as names repeats none, so `get` is enough.

use http::{HeaderMap, HeaderName, HeaderValue, header::AsHeaderName};

/// 2025-03-26 to 2025-11-25.
pub(crate) const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
pub(crate) const VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The method of the body (2026-07-28).
pub(crate) const METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");
/// The tool, prompt or resource of the body (2026-07-28).
pub(crate) const NAME_HEADER: HeaderName = HeaderName::from_static("mcp-name");
/// The `session` argument of a stateful tool (2026-07-28).
pub(crate) const HANDLE_HEADER: HeaderName = HeaderName::from_static("mcp-param-session");
pub(crate) const LAST_EVENT_ID_HEADER: HeaderName = HeaderName::from_static("last-event-id");
pub(crate) const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const REPLICA_HEADER: HeaderName = HeaderName::from_static("mcp-echo-replica");
pub(crate) const BOOT_HEADER: HeaderName = HeaderName::from_static("mcp-echo-boot");
pub(crate) const INSTANCE_HEADER: HeaderName = HeaderName::from_static("mcp-echo-instance");
/// W3C Trace Context.
pub(crate) const TRACEPARENT_HEADER: HeaderName = HeaderName::from_static("traceparent");
/// Tells nginx and others not to buffer events.
pub(crate) const ACCEL_BUFFERING_HEADER: HeaderName = HeaderName::from_static("x-accel-buffering");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Single<'a> {
    Missing,
    Value(&'a HeaderValue),
    Several,
}

pub(crate) fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Single<'_> {
    if headers.len() == headers.keys_len() {
        return headers.get(name).map_or(Single::Missing, Single::Value);
    }
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Single::Missing,
        (Some(value), None) => Single::Value(value),
        (Some(_), Some(_)) => Single::Several,
    }
}
