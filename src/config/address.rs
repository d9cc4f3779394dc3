//! Names and addresses as configuration values.
//!
//! Owns what may stand for a host, an address to bind, a network, an origin and an issuer. The rule for all of them: what
//! can never match is refused here, and what can be meant in one way only is brought into the form in which it arrives
//! (small letters, no port that the scheme implies, IPv4 not wrapped in IPv6).
//! Trap: a peer that came by IPv4 is compared as IPv4, whatever the socket calls it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;

/// The address to bind. A host name is resolved when the configuration is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindAddress(pub IpAddr);

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BindAddress {
    type Err = &'static str;

    /// An IPv6 address with or without brackets, or a name; of several addresses that a name has, IPv4 comes first.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse() {
            return Ok(Self(address));
        }
        if text.eq_ignore_ascii_case("localhost") {
            return Ok(Self(Ipv4Addr::LOCALHOST.into()));
        }
        let found = || {
            let mut found: Vec<_> = (text, 0).to_socket_addrs().ok()?.collect();
            found.sort_by_key(SocketAddr::is_ipv6);
            found.first().map(|address| Self(address.ip()))
        };
        let name = Some(text).filter(|_| bare.is_none() && is_host_name(text));
        name.and_then(|_| found()).ok_or(
            "is no address of this machine: write one such as 0.0.0.0, 127.0.0.1 or [::], or a host name",
        )
    }
}

/// An address and port to listen on, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let read = || {
            let (host, port) = text.rsplit_once(':')?;
            // Without brackets nobody can tell where an IPv6 address ends.
            let whole = !host.is_empty() && (host.starts_with('[') || !host.contains(':'));
            let BindAddress(address) = host.parse().ok().filter(|_| whole)?;
            Some(SocketAddr::new(address, port.parse().ok()?))
        };
        read().map(|address| Self(Some(address))).ok_or(
            "must be an address and a port, such as 127.0.0.1:9090, localhost:9090 or [::]:9090",
        )
    }
}

/// A range of addresses, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let net = net
            .map(without_mapping)
            .map_err(|_| "must be addresses such as 10.0.0.0/8 or 192.0.2.7".to_owned())?;
        match net == net.trunc() {
            true => Ok(Self(net)),
            false => Err(format!(
                "is an address within a network: write {} for the network or {} for the address",
                net.trunc(),
                net.addr()
            )),
        }
    }
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn without_mapping(net: IpNet) -> IpNet {
    let IpNet::V6(six) = net else { return net };
    let four = six.addr().to_ipv4_mapped().zip(six.prefix_len().checked_sub(96));
    let four = four.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
    four.map_or(net, IpNet::V4)
}

/// A name by which clients reach the server: in small letters, without a final dot; an IPv6 address in brackets and in
/// its shortest form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// As clients send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an address, below which there are no names.
    pub(super) fn is_address(&self) -> bool {
        self.0.starts_with('[') || self.0.parse::<Ipv4Addr>().is_ok()
    }
}

impl FromStr for HostName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse::<Ipv6Addr>() {
            return Ok(Self(format!("[{address}]")));
        }
        // Longer ones stand in no DNS (RFC 1035 §2.3.4).
        let short = text.split('.').all(|label| label.len() <= 63);
        match short && is_host_name(text) {
            true => Ok(Self(text.trim_end_matches('.').to_ascii_lowercase())),
            false => Err("must be host names without scheme, port, path or *"),
        }
    }
}

/// A name of the front door, or with `*.` before it every name below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrontDoorName {
    /// This one.
    Is(HostName),
    /// All below this one, and not it itself.
    Below(HostName),
}

impl FromStr for FrontDoorName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "must be host names without scheme, port and path, or *. and a name for all names below it";
        let (above, name) = match text.strip_prefix("*.") {
            Some(above) => (true, above),
            None => (false, text),
        };
        let name: HostName = name.parse().map_err(|_| FORM)?;
        match (above, name.is_address()) {
            (false, _) => Ok(Self::Is(name)),
            (true, false) => Ok(Self::Below(name)),
            (true, true) => Err(FORM),
        }
    }
}

/// `origin.allowed`: `*`, `null`, or an origin in the form in which browsers send it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Origin(String);

impl Origin {
    /// As browsers send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "must be origins such as https://app.example.com, without a path, or *";
        if matches!(text, "*" | "null") {
            return Ok(Self(text.to_owned()));
        }
        if text.contains('*') {
            return Err(
                "cannot match: browsers send no *; list each origin in full, or * alone for any",
            );
        }
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        let scheme = scheme.to_ascii_lowercase();
        let named = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let implied = match scheme.as_str() {
            "http" => Some("80"),
            "https" => Some("443"),
            _ => None,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            Some(_) | None => (authority, None),
        };
        let host: HostName = host.parse().map_err(|_| FORM)?;
        let port = port.filter(|port| Some(*port) != implied && !port.is_empty());
        let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok());
        match (named && port_fits, port) {
            (true, Some(port)) => Ok(Self(format!("{scheme}://{}:{port}", host.as_str()))),
            (true, None) => Ok(Self(format!("{scheme}://{}", host.as_str()))),
            (false, _) => Err(FORM),
        }
    }
}

/// Whether a text can name an authorization server: RFC 8414 §2, but for `http`, which is of use on one machine.
pub(super) fn is_issuer(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let uri = text.parse::<http::Uri>();
    uri.is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()))
        && !text.contains(['?', '#'])
        && !authority.contains('@')
        && !authority.is_empty()
}

/// Whether a text can be a host: a name, an IPv4 address or a bracketed IPv6 address.
pub fn is_host_name(text: &str) -> bool {
    /// Which bytes may stand in a label, by byte: every request's host is looked at here.
    const LABEL: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0u8;
        while byte < 128 {
            table[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            byte += 1;
        }
        table
    };

    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let body = text.strip_suffix('.').unwrap_or(text);
            let mut label = 0;
            for byte in body.bytes() {
                match byte {
                    _ if LABEL[usize::from(byte)] => label += 1,
                    b'.' if label > 0 => label = 0,
                    _ => return false,
                }
            }
            label > 0 && body.len() <= 253
        }
    }
}
