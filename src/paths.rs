//! The paths that are served.
//!
//! Owns their names, and what kind of path a request names.
//! Trap: `/mcp/` is `/mcp`, but `/debugger` is not below `/debug`.

pub(crate) const MCP: &str = "/mcp";
pub(crate) const LIVE: &str = "/livez";
const READY: &str = "/readyz";
const HEALTH: &str = "/health";
pub(crate) const DEBUG: &str = "/debug";
pub(crate) const METRICS: &str = "/metrics";
/// OAuth 2.0 Protected Resource Metadata, to which the resource's own path may be appended (RFC 9728 §3.1).
pub(crate) const METADATA: &str = "/.well-known/oauth-protected-resource";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Mcp,
    /// A probe's answer.
    Health,
    /// One session below `/debug`.
    Session,
    /// Metrics, and everything else below `/debug`.
    Admin,
    /// Below `/.well-known/`, where clients look for metadata, whether it is there or not.
    WellKnown,
    /// Nothing that an MCP client, an operator or a probe asks for.
    Other,
}

impl Path {
    pub(crate) fn of(path: &str) -> Self {
        match path {
            MCP | "/mcp/" => Self::Mcp,
            LIVE | READY | HEALTH => Self::Health,
            METRICS => Self::Admin,
            _ => match path.strip_prefix(DEBUG) {
                Some(rest) if rest.starts_with("/sessions/") => Self::Session,
                Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::Admin,
                Some(_) | None if path.starts_with("/.well-known/") => Self::WellKnown,
                Some(_) | None => Self::Other,
            },
        }
    }
}
