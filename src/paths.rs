//! The paths that are served.
//!
//! Owns their names, and what kind of path a request names.
//! Traps: `/mcp/` is `/mcp`, but `/debugger` is not below `/debug`. And a path names an instance at the front door alone:
//! who asks must know by which host the request came.

use crate::id::InstanceId;

pub(crate) const MCP: &str = "/mcp";
pub(crate) const LIVE: &str = "/livez";
pub(crate) const HOME: &str = "/";
pub(crate) const ICON: &str = "/favicon.ico";
const READY: &str = "/readyz";
const HEALTH: &str = "/health";
pub(crate) const DEBUG: &str = "/debug";
pub(crate) const METRICS: &str = "/metrics";
/// OAuth 2.0 Protected Resource Metadata, to which the resource's own path may be appended (RFC 9728 §3.1).
pub(crate) const METADATA: &str = "/.well-known/oauth-protected-resource";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Mcp,
    /// `/echo-stateful3/mcp`: the endpoint of that instance, as the front door has it.
    McpOf(InstanceId),
    /// The metadata of that.
    MetadataOf(InstanceId),
    /// The form of these two, with a name that none of the ten has.
    NoInstance,
    /// The page for people, and the icon that browsers look for.
    Home,
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
            HOME | ICON => Self::Home,
            _ => match path.strip_prefix(DEBUG) {
                Some(rest) if rest.starts_with("/sessions/") => Self::Session,
                Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::Admin,
                Some(_) | None => Self::naming_an_instance(path).unwrap_or({
                    match path.starts_with("/.well-known/") {
                        true => Self::WellKnown,
                        false => Self::Other,
                    }
                }),
            },
        }
    }

    fn naming_an_instance(path: &str) -> Option<Self> {
        let metadata = path.strip_prefix(METADATA);
        let name = metadata.unwrap_or(path).strip_prefix('/')?.strip_prefix(InstanceId::LABEL)?;
        let digit = name.bytes().next().filter(u8::is_ascii_digit);
        let named = digit.and_then(|digit| InstanceId::new(digit - b'0'));
        Some(match (named, metadata, name.get(1..)) {
            (Some(instance), None, Some("/mcp" | "/mcp/")) => Self::McpOf(instance),
            (Some(instance), Some(_), Some("/mcp")) => Self::MetadataOf(instance),
            _ => Self::NoInstance,
        })
    }

    /// The path of the endpoint that this is, or that it is about.
    pub(crate) fn endpoint(self) -> String {
        match self {
            Self::McpOf(instance) | Self::MetadataOf(instance) => endpoint_of(instance),
            Self::Mcp
            | Self::NoInstance
            | Self::Home
            | Self::Health
            | Self::Session
            | Self::Admin
            | Self::WellKnown
            | Self::Other => MCP.to_owned(),
        }
    }
}

/// Where the front door has the endpoint of an instance.
pub(crate) fn endpoint_of(instance: InstanceId) -> String {
    format!("/{}{instance}{MCP}", InstanceId::LABEL)
}
