//! The arguments of `probe`, and what they mean.
//!
//! Owns the command line and the [`Plan`] made of it. Refuses, before anything is sent, what cannot work: a malformed
//! URL, a token that is not a valid header value.
//! Trap: anyone who may list processes can read a token among the arguments; an environment variable is safer.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use http::{HeaderValue, Uri, uri::Authority};
use tokio_rustls::rustls::pki_types::ServerName;

use super::{
    connection::Peer,
    tls::{self, BadTrust},
};
use crate::wire::{Era, ProtocolVersion};

/// Environment variable of the bearer token. Not `MCP_ECHO_…`, which are the server's.
pub const BEARER_VARIABLE: &str = "MCP_PROBE_BEARER";

/// The command line. (The comments on its fields and values are shown by `--help`.)
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// MCP endpoint; {0-9} in its host name stands for each of the ten, as in https://echo-stateful{0-9}.example.com/mcp
    pub url: String,
    /// Connect here, whatever the host name says: neither DNS nor /etc/hosts is asked
    #[arg(long, value_name = "HOST:PORT")]
    pub connect: Option<String>,
    /// Sessions to open in all
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub sessions: u32,
    /// Times that each session calls echo
    #[arg(long, value_name = "M", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub requests: u32,
    /// Sessions that are open at a time
    #[arg(long, value_name = "C", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// Calls of echo that one session has under way at a time
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub in_flight: u32,
    /// Whether requests share connections
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Connections::Kept)]
    pub connections: Connections,
    /// How sessions are named
    #[arg(long, value_name = "ERA", value_enum, default_value_t = Eras::Sessioned)]
    pub era: Eras,
    /// Bearer token to send
    #[arg(long, value_name = "TOKEN", env = BEARER_VARIABLE, hide_env_values = true)]
    pub bearer: Option<String>,
    /// Seconds that a request may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub timeout: f64,
    /// Trust the certificates of this PEM file as well
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Trust any certificate
    #[arg(long, conflicts_with = "cacert")]
    pub insecure: bool,
    /// Report as one JSON document
    #[arg(long)]
    pub json: bool,
}

/// How many requests share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Connections {
    /// Each request has one of its own
    New,
    /// A session's requests share one, or as many as are in flight
    Kept,
}

/// How requests name their session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Eras {
    /// By Mcp-Session-Id, in revision 2025-11-25
    Sessioned,
    /// By handle, in revision 2026-07-28
    Stateless,
    /// The one and the other in turn
    Both,
}

impl Eras {
    pub(super) const fn turns(self) -> &'static [Era] {
        match self {
            Self::Sessioned => &[Era::Sessioned],
            Self::Stateless => &[Era::Stateless],
            Self::Both => &[Era::Sessioned, Era::Stateless],
        }
    }
}

/// The revision that a probe uses in an era.
pub(super) const fn revision(era: Era) -> ProtocolVersion {
    match era {
        Era::Sessioned => ProtocolVersion::V2025_11_25,
        Era::Stateless => ProtocolVersion::V2026_07_28,
    }
}

/// An endpoint to talk to.
pub(super) struct Target {
    pub(super) peer: Peer,
    /// The `Host` header.
    pub(super) host: HeaderValue,
    /// Path and query.
    pub(super) path: Uri,
    /// The host's name, for the report.
    pub(super) name: String,
    /// Which of the ten instances it is, if the URL has a range.
    pub(super) instance: Option<u8>,
}

/// What is to be done.
pub struct Plan {
    /// The arguments.
    pub asked: Arguments,
    /// One, or one for each number of `{0-9}`. Never empty.
    pub(super) targets: Vec<Target>,
    /// The `Authorization` header.
    pub(super) bearer: Option<HeaderValue>,
    /// How long a request may take.
    pub(super) patience: Duration,
}

/// Why arguments make no plan.
#[derive(Debug, thiserror::Error)]
pub enum BadPlan {
    /// The URL and what is wrong with it.
    #[error("{0:?}: {1}")]
    Url(String, String),
    /// `--connect` names no address.
    #[error("--connect {0:?}: must be HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")]
    Connect(String),
    /// `--timeout` is out of bounds.
    #[error("--timeout: must be more than 0 and at most 3600 seconds")]
    Timeout,
    /// `--bearer` is not a valid header value.
    #[error("--bearer ({BEARER_VARIABLE}): the token must be visible ASCII")]
    Bearer,
    /// https is not possible.
    #[error(transparent)]
    Trust(#[from] BadTrust),
}

impl Plan {
    /// Makes a plan of arguments.
    pub fn read(asked: Arguments) -> Result<Self, BadPlan> {
        if !(asked.timeout > 0.0 && asked.timeout <= 3600.0) {
            return Err(BadPlan::Timeout);
        }
        let connect = asked.connect.as_deref().map(address).transpose()?;
        let mut targets = Vec::new();
        for (url, instance) in spread(&asked.url)? {
            let target = target(&url, instance, connect.as_ref());
            targets.push(target.map_err(|problem| BadPlan::Url(url, problem))?);
        }
        if asked.url.starts_with("https:") {
            let connector = tls::connector(asked.cacert.as_deref(), asked.insecure)?;
            for target in &mut targets {
                let name = ServerName::try_from(target.name.clone())
                    .map_err(|error| BadPlan::Url(asked.url.clone(), error.to_string()))?;
                target.peer.tls = Some((connector.clone(), name));
            }
        }
        let bearer = asked.bearer.as_deref().map(bearer).transpose()?;
        let patience = Duration::from_secs_f64(asked.timeout);
        Ok(Self { asked, targets, bearer, patience })
    }
}

fn bearer(token: &str) -> Result<HeaderValue, BadPlan> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BadPlan::Bearer);
    }
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| BadPlan::Bearer)?;
    value.set_sensitive(true);
    Ok(value)
}

fn address(text: &str) -> Result<(String, u16), BadPlan> {
    let bad = || BadPlan::Connect(text.to_owned());
    let authority: Authority = text.parse().map_err(|_| bad())?;
    match authority.port_u16() {
        Some(port) if !authority.host().is_empty() && !authority.as_str().contains('@') => {
            Ok((bare(authority.host()), port))
        }
        _ => Err(bad()),
    }
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> String {
    host.trim_matches(['[', ']']).to_owned()
}

/// The URLs that a range such as `{0-9}` stands for, each with its number.
fn spread(url: &str) -> Result<Vec<(String, Option<u8>)>, BadPlan> {
    let Some((before, rest)) = url.split_once('{') else { return Ok(vec![(url.to_owned(), None)]) };
    let bad = |problem: &str| BadPlan::Url(url.to_owned(), problem.to_owned());
    let (range, after) = rest.split_once('}').ok_or_else(|| bad("{ is not closed by }"))?;
    let numbers = match range.as_bytes() {
        &[first @ b'0'..=b'9', b'-', last @ b'0'..=b'9'] if first <= last => {
            first - b'0'..=last - b'0'
        }
        _ => {
            return Err(bad(
                "what stands between { and } must be a range of digits, such as {0-9}",
            ));
        }
    };
    if before.splitn(4, '/').count() > 3 || after.contains('{') {
        return Err(bad("a range may stand once, in the host name"));
    }
    Ok(numbers.map(|number| (format!("{before}{number}{after}"), Some(number))).collect())
}

fn target(
    url: &str,
    instance: Option<u8>,
    connect: Option<&(String, u16)>,
) -> Result<Target, String> {
    let port = match url.split_once("://") {
        Some(("http", _)) => 80,
        Some(("https", _)) => 443,
        Some(_) | None => return Err("must begin with http:// or https://".to_owned()),
    };
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let named = |authority: &&Authority| !authority.host().is_empty();
    let authority = uri.authority().filter(named).ok_or("names no host")?;
    if authority.as_str().contains('@') {
        return Err("must hold no user and no password; --bearer sends a token".to_owned());
    }
    let name = bare(authority.host());
    let host = HeaderValue::from_str(authority.as_str()).map_err(|error| error.to_string())?;
    let path = match uri.path_and_query().map_or("/", |path| path.as_str()) {
        "/" => Uri::from_static("/mcp"),
        path => path.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?,
    };
    let own = || (name.clone(), authority.port_u16().unwrap_or(port));
    let peer = Peer { address: connect.cloned().unwrap_or_else(own), tls: None };
    Ok(Target { peer, host, path, name, instance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_stands_for_each_of_its_numbers() {
        let all = spread("https://echo-stateful{0-9}.example.com:8443/mcp").expect("is fine");
        assert_eq!(all.len(), 10);
        assert_eq!(all[3], ("https://echo-stateful3.example.com:8443/mcp".to_owned(), Some(3)));
        assert_eq!(
            spread("http://e{2-2}.x").expect("is fine"),
            [("http://e2.x".to_owned(), Some(2))]
        );
        assert_eq!(spread("http://x/y").expect("is fine"), [("http://x/y".to_owned(), None)]);
    }

    #[test]
    fn a_url_is_host_path_and_way() {
        let connect = ("127.0.0.1".to_owned(), 8080);
        let plain = target("http://[::1]:3000", Some(1), None).expect("is fine");
        assert_eq!(plain.peer.address, ("::1".to_owned(), 3000));
        assert_eq!(
            (&*plain.path.to_string(), plain.host),
            ("/mcp", HeaderValue::from_static("[::1]:3000"))
        );
        let other = target("http://e.x/a/b?c=d", None, Some(&connect)).expect("is fine");
        assert_eq!(other.peer.address, connect);
        assert_eq!(
            (&*other.path.to_string(), other.host),
            ("/a/b?c=d", HeaderValue::from_static("e.x"))
        );
        assert_eq!(target("https://e.x/", None, None).expect("is fine").peer.address.1, 443);
        assert_eq!(address("[::1]:1").expect("is fine"), ("::1".to_owned(), 1));
    }
}
