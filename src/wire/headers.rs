//! HTTP headers: the names that are ours or MCP's, and how one is read that may appear once.
//!
//! Owns the names and [`single`]. A header that decides something may appear once. With two, a proxy in front may have
//! used the other one, so the request is refused.
//! Trap: a map's iterator over one name costs more than a look-up, so the map is first asked whether any name
//! appears twice, which it knows.

use http::{HeaderMap, HeaderName, HeaderValue, header::AsHeaderName};

/// The session of a request (2025-03-26 to 2025-11-25).
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
/// The revision of a request.
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The method of the body (2026-07-28).
pub const METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");
/// What the method is about (2026-07-28).
pub const NAME_HEADER: HeaderName = HeaderName::from_static("mcp-name");
/// Mirrors the handle of a stateful tool.
pub const HANDLE_HEADER: HeaderName = HeaderName::from_static("mcp-param-session");
/// Up to which event a client has read a stream.
pub const LAST_EVENT_ID_HEADER: HeaderName = HeaderName::from_static("last-event-id");
/// Names a request in answers and in the log.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Which replica answered.
pub const REPLICA_HEADER: HeaderName = HeaderName::from_static("mcp-echo-replica");
/// Which start of it.
pub const BOOT_HEADER: HeaderName = HeaderName::from_static("mcp-echo-boot");
/// Which instance answered.
pub const INSTANCE_HEADER: HeaderName = HeaderName::from_static("mcp-echo-instance");
/// The trace that a caller says a request belongs to (W3C Trace Context).
pub const TRACEPARENT_HEADER: HeaderName = HeaderName::from_static("traceparent");
/// Tells nginx and others not to hold events back.
pub const ACCEL_BUFFERING_HEADER: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How often a header appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Single<'a> {
    /// Not at all.
    Missing,
    /// Single.
    Value(&'a HeaderValue),
    /// More often.
    Several,
}

/// The header of that name.
pub fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Single<'_> {
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

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, HOST, ORIGIN};

    use super::*;

    #[test]
    fn one_is_told_from_several() {
        let (one, other) = (HeaderValue::from_static("1"), HeaderValue::from_static("2"));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, one.clone());
        assert_eq!(single(&headers, HOST), Single::Value(&one));
        assert_eq!(single(&headers, ORIGIN), Single::Missing);
        headers.append(ACCEPT, one.clone());
        headers.append(ACCEPT, other);
        assert_eq!(single(&headers, HOST), Single::Value(&one));
        assert_eq!(single(&headers, ORIGIN), Single::Missing);
        assert_eq!(single(&headers, ACCEPT), Single::Several);
    }
}
