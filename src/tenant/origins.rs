//! Which web pages may call.
//!
//! Owns [`Origins`], which judges an `Origin` header. Without this check any page could call a server that only its
//! user's machine can reach (DNS rebinding; 2025-11-25, basic/transports, "Security Warning").
//! Trap: sandboxed pages send `null`, which is foreign unless it is listed.

use std::net::IpAddr;

use super::hosts::{HostTable, without_port};
use crate::config::{Origin, OriginConfig};

/// The HTTP methods that a page may use (`Access-Control-Allow-Methods`).
pub(crate) const METHODS: &str = "GET, POST, DELETE, OPTIONS";

/// The headers of a response that a page may read (`Access-Control-Expose-Headers`).
pub const EXPOSED: &str = "mcp-session-id, mcp-protocol-version, mcp-echo-instance, mcp-echo-replica, mcp-echo-boot, x-request-id, www-authenticate, retry-after";

#[derive(Debug)]
pub(crate) struct Origins {
    any: bool,
    listed: Vec<String>,
    hosts: HostTable,
}

/// Why an origin may call. A foreign one may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// `origin.allowed` names it, or `*`.
    Listed,
    /// A page of the user's own machine.
    Loopback,
    /// A page of one of our own hosts.
    OwnHost,
    Foreign,
}

impl Origins {
    pub(crate) fn build(config: &OriginConfig, hosts: HostTable) -> Self {
        let allowed = || config.allowed.iter().map(Origin::as_str);
        Self {
            any: allowed().any(|origin| origin == "*"),
            listed: allowed().map(str::to_owned).collect(),
            hosts,
        }
    }

    /// Judges the value of an `Origin` header.
    pub(crate) fn judge(&self, origin: &[u8]) -> Verdict {
        let Ok(origin) = std::str::from_utf8(origin) else { return Verdict::Foreign };
        if self.any || self.listed.iter().any(|listed| listed.eq_ignore_ascii_case(origin)) {
            return Verdict::Listed;
        }
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let Some(host) = host.and_then(without_port) else { return Verdict::Foreign };
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let dotted = name.len().checked_sub(10).and_then(|start| name.get(start..));
        let local = name.eq_ignore_ascii_case("localhost")
            || dotted.is_some_and(|end| end.eq_ignore_ascii_case(".localhost"))
            || name.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        match () {
            () if local => Verdict::Loopback,
            () if self.hosts.select(host).is_some() => Verdict::OwnHost,
            () => Verdict::Foreign,
        }
    }
}
