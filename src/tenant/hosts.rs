//! Our host names.
//!
//! Owns [`HostTable`]: which name selects which instance, and which the front door.
//! Trap: names are compared without case, port and trailing dot. Where one of these is forgotten, a page with a rebound
//! DNS name gets in, or a request that came through a proxy does not.

use crate::{
    config::{HostName, HostsConfig, is_host_name},
    id::InstanceId,
};

/// What every name of an instance begins with.
const LABEL: &str = "echo-stateful";

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

    /// The instance that an authority selects if it is written as we write it ourselves, as nearly all are; `None` says
    /// nothing of any other.
    pub(crate) fn instance(&self, authority: &[u8]) -> Option<InstanceId> {
        let (digit, rest) = authority.strip_prefix(LABEL.as_bytes())?.split_first()?;
        let rest = rest.strip_prefix(b".")?;
        let fits = |base: &String| match rest.strip_prefix(base.as_bytes()) {
            Some([]) => true,
            Some([b':', port @ ..]) => is_port(port),
            Some(_) | None => false,
        };
        let id = InstanceId::new(digit.wrapping_sub(b'0'))?;
        self.bases.iter().any(fits).then_some(id)
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
            let rest = label.get(LABEL.len()..)?;
            if !same(label.get(..LABEL.len())?, LABEL) {
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
        Some(digits) => is_port(digits.as_bytes()),
        None => port.is_empty(),
    };
    (port_fits && is_host_name(host)).then_some(host)
}

/// Whether this can be the port of an authority, which may be empty.
fn is_port(digits: &[u8]) -> bool {
    digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit)
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

        /// The short way leads nowhere else.
        #[test]
        fn what_is_known_at_once_is_what_would_be_found(
            text in "(echo-stateful)?[0-9a]?\\.?(localhost|example\\.com)[.x]?(:[0-9a]{0,6})?",
        ) {
            if let Some(instance) = table().instance(text.as_bytes()) {
                let host = without_port(&text);
                prop_assert_eq!(host.and_then(|host| table().select(host)), Some(Target::Instance(instance)));
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
            let plain = !upper && !dot;
            prop_assert_eq!(table().instance(authority.as_bytes()).is_some(), plain);
            let host = without_port(&authority).expect("is an authority");
            prop_assert_eq!(table().select(host), InstanceId::new(digit).map(Target::Instance));
        }
    }
}
