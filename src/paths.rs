//! The paths that are served.
//!
//! Owns their names, and what kind of path a request names. Trap: `/mcp/` is `/mcp`, and what begins with `/debug` is the
//! operator's only where a slash follows.

/// The MCP endpoint.
pub const MCP: &str = "/mcp";
/// Says that the process runs.
pub const LIVE: &str = "/livez";
/// Says that it takes new sessions.
pub const READY: &str = "/readyz";
/// The same by another name.
pub const HEALTH: &str = "/health";
/// The operator's page, and all that is below it.
pub const DEBUG: &str = "/debug";
/// What can be counted.
pub const METRICS: &str = "/metrics";
/// OAuth 2.0 Protected Resource Metadata, to which the resource's own path may be appended (RFC 9728 §3.1).
pub const METADATA: &str = "/.well-known/oauth-protected-resource";

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// MCP.
    Mcp,
    /// A probe's answer.
    Health,
    /// One session, as operators see it.
    Session,
    /// Anything else of the operator's.
    Admin,
    /// Any other path.
    Other,
}

impl Path {
    /// What this path leads to.
    pub fn of(path: &str) -> Self {
        match path {
            MCP | "/mcp/" => Self::Mcp,
            LIVE | READY | HEALTH => Self::Health,
            METRICS => Self::Admin,
            _ => match path.strip_prefix(DEBUG) {
                Some(rest) if rest.starts_with("/sessions/") => Self::Session,
                Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::Admin,
                Some(_) | None => Self::Other,
            },
        }
    }
}
