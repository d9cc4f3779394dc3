//! HTTP headers: the names of MCP's and of our own, and the one rule for those that decide something.
//!
//! Owns the names, [`single`], by which every such header is read, and [`BadHeader`], what is told of a bad one. The
//! rule: a header that decides something stands once, and its value is its bytes. With two, a proxy in front may have
//! used the other one; and a value that does not fit is refused by name, never read as if there were none.
//! Traps: `get_all` costs more than `get`. A map with as many values as names repeats none, so `get` is enough. `Accept`,
//! `tracestate` and `baggage` are lists, which may stand in several lines.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, AsHeaderName},
};

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
/// Who calls, from a trusted proxy.
pub(crate) const USER_ID_HEADER: HeaderName = HeaderName::from_static("x-user-id");
const USER_NAME_HEADER: HeaderName = HeaderName::from_static("x-user-name");
/// The scheme that the client used, from a trusted proxy.
pub(crate) const SCHEME_HEADER: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What decides before MCP does, as error texts spell it. `Host` and `Origin` have answers of their own, and MCP's
/// headers are for the revision that reads them.
static DECIDING: [(HeaderName, &str); 8] = [
    (header::AUTHORIZATION, "Authorization"),
    (header::CONTENT_TYPE, "Content-Type"),
    (header::CONTENT_ENCODING, "Content-Encoding"),
    (header::ACCESS_CONTROL_REQUEST_METHOD, "Access-Control-Request-Method"),
    (header::ACCESS_CONTROL_REQUEST_HEADERS, "Access-Control-Request-Headers"),
    (USER_ID_HEADER, "X-User-Id"),
    (USER_NAME_HEADER, "X-User-Name"),
    (SCHEME_HEADER, "X-Forwarded-Proto"),
];

/// Why a header cannot decide what it is there to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// It stands twice.
    #[error("the header {0} must stand once, not twice")]
    Several(&'static str),
    /// It holds bytes that none of its values has.
    #[error("the header {0} must be visible ASCII")]
    NotAscii(&'static str),
    /// It says nothing.
    #[error("the header {0} must not be empty; leave it out instead")]
    Empty(&'static str),
    /// It is no scheme of ours.
    #[error("the header X-Forwarded-Proto must be http or https")]
    NoScheme,
}

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

/// The one value of a header. `shown` is its name as error texts spell it.
pub(crate) fn value<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'a HeaderValue>, BadHeader> {
    match single(headers, name) {
        Single::Missing => Ok(None),
        Single::Value(value) => Ok(Some(value)),
        Single::Several => Err(BadHeader::Several(shown)),
    }
}

/// The same for a header whose values are visible ASCII.
pub(crate) fn text<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'a str>, BadHeader> {
    let text = value(headers, name, shown)?.map(|value| value.to_str());
    text.transpose().map_err(|_| BadHeader::NotAscii(shown))
}

/// Fails if one of those that decide before MCP does stands twice.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), BadHeader> {
    if headers.len() == headers.keys_len() {
        return Ok(());
    }
    DECIDING.iter().try_for_each(|(name, shown)| value(headers, name, shown).map(drop))
}

/// The value of a header that repeats part of the body; `None` if it has the Base64 mark but is not Base64
/// (2026-07-28, streamable-http, "Value Encoding").
pub(crate) fn decode(header: &str) -> Option<Cow<'_, str>> {
    match header.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        None => Some(Cow::Borrowed(header)),
        Some(encoded) => {
            let bytes = STANDARD.decode(encoded).ok()?;
            String::from_utf8(bytes).ok().map(Cow::Owned)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_value_survives_its_header(value in "\\PC{0,30}") {
            let header = format!("=?base64?{}?=", STANDARD.encode(&value));
            let decoded = decode(&header).map(Cow::into_owned);
            prop_assert_eq!(decoded, Some(value));
        }
    }
}
