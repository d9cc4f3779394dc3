//! Our host names.
//!
//! Owns [`HostTable`]: which name selects which instance, and which the front door.
//! Trap: names are compared without case, port and trailing dot. Where one of these is forgotten, a page with a rebound
//! DNS name gets in, or a request that came through a proxy does not.

use crate::{
    config::{HostName, HostsConfig, is_host_name},
    id::InstanceId,
};

/// What a host name selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Instance(InstanceId),
    /// Some instance: `hosts.front_door` decides which.
    FrontDoor,
}

/// All our host names.
#[derive(Debug)]
pub struct HostTable {
    bases: Vec<String>,
    front_door_names: Vec<String>,
}

impl HostTable {
    pub(crate) fn build(config: &HostsConfig) -> Self {
        let texts =
            |names: &[HostName]| names.iter().map(|name| name.as_str().to_owned()).collect();
        Self {
            bases: texts(&config.base_domains),
            front_door_names: texts(&config.front_door_names),
        }
    }

    /// What a host name without port selects; `None` if it is not ours.
    pub(crate) fn select(&self, host: &str) -> Option<Target> {
        let host = host.strip_suffix('.').unwrap_or(host);
        if self.front_door_names.iter().any(|name| same(name, host)) {
            return Some(Target::FrontDoor);
        }
        self.bases.iter().find_map(|base| {
            let start = host.len().checked_sub(base.len())?;
            let (label, end) = (host.get(..start)?, host.get(start..)?);
            let label = label.strip_suffix('.').filter(|_| same(end, base))?;
            let (name, rest) = label.split_at_checked(InstanceId::LABEL.len())?;
            if !same(name, InstanceId::LABEL) {
                return None;
            }
            match rest.as_bytes() {
                [] => Some(Target::FrontDoor),
                [digit @ b'0'..=b'9'] => InstanceId::new(digit - b'0').map(Target::Instance),
                _ => None,
            }
        })
    }
}

/// Without case; nearly every client writes a name as we do, and bytes are compared faster.
fn same(name: &str, other: &str) -> bool {
    name == other || name.eq_ignore_ascii_case(other)
}

/// The host of an authority: `host`, `host:port`, `[v6]`, `[v6]:port`. `None` if it is none of these.
pub(crate) fn without_port(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')? + 2;
            (authority.get(..end)?, authority.get(end..)?)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_fits = match port.strip_prefix(':') {
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    (port_fits && is_host_name(host)).then_some(host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> HostTable {
        HostTable {
            bases: vec!["localhost".to_owned(), "example.com".to_owned()],
            front_door_names: ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).into(),
        }
    }

    proptest! {
        #[test]
        fn any_authority_is_read_or_refused(text in "\\PC{0,60}") {
            if let Some(host) = without_port(&text) {
                prop_assert!(text.starts_with(host));
                let _ = table().select(host);
            }
        }

        #[test]
        fn port_case_and_dot_make_no_difference(
            digit in 0u8..10, port in proptest::option::of(0u16..), upper: bool, dot: bool,
        ) {
            let mut name = format!("echo-stateful{digit}.example.com");
            if upper { name.make_ascii_uppercase(); }
            if dot { name.push('.'); }
            let authority = match port {
                Some(port) => format!("{name}:{port}"),
                None => name,
            };
            let host = without_port(&authority).expect("is an authority");
            prop_assert_eq!(table().select(host), InstanceId::new(digit).map(Target::Instance));
        }
    }
}
