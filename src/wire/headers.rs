//! HTTP headers: the names of MCP's and of our own, and the one rule for those that decide something.
//!
//! Owns the names, [`Head`], by which every such header is read, and [`BadHeader`], what is told of a bad one. The
//! rule: a header that decides something stands once, and its value is its bytes. With two, a proxy in front may have
//! used the other one; and a value that does not fit is refused by name, never read as if there were none.
//! Trap: `Accept`, `tracestate` and `baggage` are lists, which may stand in several lines.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
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
pub(crate) const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const REPLICA_HEADER: HeaderName = HeaderName::from_static("mcp-echo-replica");
pub(crate) const BOOT_HEADER: HeaderName = HeaderName::from_static("mcp-echo-boot");
pub(crate) const INSTANCE_HEADER: HeaderName = HeaderName::from_static("mcp-echo-instance");
/// Tells nginx and others not to buffer events.
pub(crate) const ACCEL_BUFFERING_HEADER: HeaderName = HeaderName::from_static("x-accel-buffering");

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

/// A header that this server asks requests for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Accept,
    Authorization,
    ContentEncoding,
    ContentType,
    /// `Mcp-Param-Session`
    Handle,
    Host,
    LastEventId,
    /// `Mcp-Method`
    Method,
    /// `Mcp-Name`
    Name,
    Origin,
    PreflightHeaders,
    PreflightMethod,
    RequestId,
    /// `X-Forwarded-Proto`
    Scheme,
    Session,
    TraceParent,
    UserId,
    UserName,
    /// `MCP-Protocol-Version`
    Version,
}

impl Known {
    const ALL: [Self; 19] = [
        Self::Accept,
        Self::Authorization,
        Self::ContentEncoding,
        Self::ContentType,
        Self::Handle,
        Self::Host,
        Self::LastEventId,
        Self::Method,
        Self::Name,
        Self::Origin,
        Self::PreflightHeaders,
        Self::PreflightMethod,
        Self::RequestId,
        Self::Scheme,
        Self::Session,
        Self::TraceParent,
        Self::UserId,
        Self::UserName,
        Self::Version,
    ];

    /// By its name in lower case.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "accept" => Self::Accept,
            "authorization" => Self::Authorization,
            "content-encoding" => Self::ContentEncoding,
            "content-type" => Self::ContentType,
            "mcp-param-session" => Self::Handle,
            "host" => Self::Host,
            "last-event-id" => Self::LastEventId,
            "mcp-method" => Self::Method,
            "mcp-name" => Self::Name,
            "origin" => Self::Origin,
            "access-control-request-headers" => Self::PreflightHeaders,
            "access-control-request-method" => Self::PreflightMethod,
            "x-request-id" => Self::RequestId,
            "x-forwarded-proto" => Self::Scheme,
            "mcp-session-id" => Self::Session,
            "traceparent" => Self::TraceParent,
            "x-user-id" => Self::UserId,
            "x-user-name" => Self::UserName,
            "mcp-protocol-version" => Self::Version,
            _ => return None,
        })
    }

    /// As error texts spell it.
    pub(crate) const fn shown(self) -> &'static str {
        match self {
            Self::Accept => "Accept",
            Self::Authorization => "Authorization",
            Self::ContentEncoding => "Content-Encoding",
            Self::ContentType => "Content-Type",
            Self::Handle => "Mcp-Param-Session",
            Self::Host => "Host",
            Self::LastEventId => "Last-Event-ID",
            Self::Method => "Mcp-Method",
            Self::Name => "Mcp-Name",
            Self::Origin => "Origin",
            Self::PreflightHeaders => "Access-Control-Request-Headers",
            Self::PreflightMethod => "Access-Control-Request-Method",
            Self::RequestId => "X-Request-Id",
            Self::Scheme => "X-Forwarded-Proto",
            Self::Session => "Mcp-Session-Id",
            Self::TraceParent => "traceparent",
            Self::UserId => "X-User-Id",
            Self::UserName => "X-User-Name",
            Self::Version => "MCP-Protocol-Version",
        }
    }

    /// A value of it that is to be visible ASCII.
    pub(crate) fn text(self, value: &HeaderValue) -> Result<&str, BadHeader> {
        value.to_str().map_err(|_| BadHeader::NotAscii(self.shown()))
    }

    /// Whether it decides before MCP does. `Host` and `Origin` have answers of their own, and MCP's headers are for the
    /// revision that reads them.
    const fn decides_early(self) -> bool {
        match self {
            Self::Authorization
            | Self::ContentEncoding
            | Self::ContentType
            | Self::PreflightHeaders
            | Self::PreflightMethod
            | Self::Scheme
            | Self::UserId
            | Self::UserName => true,
            Self::Accept
            | Self::Handle
            | Self::Host
            | Self::LastEventId
            | Self::Method
            | Self::Name
            | Self::Origin
            | Self::RequestId
            | Self::Session
            | Self::TraceParent
            | Self::Version => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Single<'a> {
    Missing,
    Value(&'a HeaderValue),
    Several,
}

/// A header that is not [`Known`].
pub(crate) fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Single<'_> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Single::Missing,
        (Some(value), None) => Single::Value(value),
        (Some(_), Some(_)) => Single::Several,
    }
}

/// On which line of a head each known header stands, found in one pass: a look-up by name would hash it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines([u8; Known::ALL.len()]);

impl Lines {
    const MISSING: u8 = u8::MAX;
    const SEVERAL: u8 = u8::MAX - 1;

    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut lines = [Self::MISSING; Known::ALL.len()];
        // A head with more lines is refused.
        for (number, name) in (0..Self::SEVERAL).zip(headers.iter().map(|(name, _)| name)) {
            if let Some(known) = Known::named(name.as_str()) {
                let line = &mut lines[known as usize];
                *line = if *line == Self::MISSING { number } else { Self::SEVERAL };
            }
        }
        Self(lines)
    }

    /// With the headers that these are the lines of.
    pub(crate) fn head<'a>(&'a self, headers: &'a HeaderMap) -> Head<'a> {
        Head { headers, lines: self }
    }
}

/// The head of a request, as far as its headers decide something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) headers: &'a HeaderMap,
    lines: &'a Lines,
}

impl<'a> Head<'a> {
    pub(crate) fn single(self, known: Known) -> Single<'a> {
        match self.lines.0[known as usize] {
            Lines::MISSING => Single::Missing,
            Lines::SEVERAL => Single::Several,
            line => self.headers.values().nth(line.into()).map_or(Single::Missing, Single::Value),
        }
    }

    /// The one value of a header.
    pub(crate) fn value(self, known: Known) -> Result<Option<&'a HeaderValue>, BadHeader> {
        match self.single(known) {
            Single::Missing => Ok(None),
            Single::Value(value) => Ok(Some(value)),
            Single::Several => Err(BadHeader::Several(known.shown())),
        }
    }

    /// The same for a header whose values are visible ASCII.
    pub(crate) fn text(self, known: Known) -> Result<Option<&'a str>, BadHeader> {
        self.value(known)?.map(|value| known.text(value)).transpose()
    }

    /// The revision that the header names. One that cannot be read names none here; the era that answers refuses it.
    pub(crate) fn revision(self) -> Option<&'a str> {
        self.text(Known::Version).unwrap_or_default()
    }

    /// Fails if one of those that decide before MCP does stands twice.
    pub(crate) fn check(self) -> Result<(), BadHeader> {
        let repeated = |known: &Known| {
            known.decides_early() && self.lines.0[*known as usize] == Lines::SEVERAL
        };
        match Known::ALL.into_iter().find(repeated) {
            Some(known) => Err(BadHeader::Several(known.shown())),
            None => Ok(()),
        }
    }
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
