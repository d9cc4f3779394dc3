//! Which browser pages may call.
//!
//! Owns [`Origins`], the verdict on an `Origin` header, without which a page anywhere could reach a server that only
//! its user's machine can (DNS rebinding; 2025-11-25, basic/transports, "Security Warning").
//! Trap: `null` is what sandboxed pages send; it is foreign unless it is listed.

use std::net::IpAddr;

use http::{HeaderName, Method, header};

use super::hosts::{HostTable, without_port};
use crate::{
    config::{HostsConfig, OriginConfig},
    wire::headers::{
        BOOT_HEADER, INSTANCE_HEADER, REPLICA_HEADER, REQUEST_ID_HEADER, SESSION_HEADER,
        VERSION_HEADER,
    },
};

/// What a page may send.
pub const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS];

/// What a page may read of an answer.
pub const EXPOSED: [HeaderName; 8] = [
    SESSION_HEADER,
    VERSION_HEADER,
    INSTANCE_HEADER,
    REPLICA_HEADER,
    BOOT_HEADER,
    REQUEST_ID_HEADER,
    header::WWW_AUTHENTICATE,
    header::RETRY_AFTER,
];

/// Which origins may call one instance.
#[derive(Debug)]
pub struct Origins {
    any: bool,
    listed: Vec<String>,
    hosts: HostTable,
}

/// Why an origin may call, or that it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `origin.allowed` names it, or `*`.
    Listed,
    /// A page served by this machine.
    Loopback,
    /// A page of one of our own hosts.
    OwnHost,
    /// Anything else.
    Foreign,
}

impl Origins {
    /// The origins of one instance.
    pub fn build(config: &OriginConfig, hosts: &HostsConfig) -> Self {
        Self {
            any: config.allowed.iter().any(|origin| origin == "*"),
            listed: config
                .allowed
                .iter()
                .map(|origin| origin.trim_end_matches('/').to_owned())
                .collect(),
            hosts: HostTable::build(hosts),
        }
    }

    /// Judges the value of an `Origin` header.
    pub fn judge(&self, origin: &[u8]) -> Verdict {
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
