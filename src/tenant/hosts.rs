//! Our host names.
//!
//! Owns [`HostTable`]: which name selects which instance, and which the front door.
//! Trap: names are compared without case, port and trailing dot. Where one of these is forgotten, a page with a rebound
//! DNS name gets in, or a request that came through a proxy does not.

use crate::{
    config::{FrontDoorName, HostName, HostsConfig, is_host_name},
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
    /// Whether one of them may be an instance's.
    front_door_takes_instances: bool,
    /// Names of the front door where no instance has them: a container may be called what an instance is.
    own_names: Vec<String>,
    /// Below which every name is the front door's, if it is none of the above.
    above: Vec<String>,
}

impl HostTable {
    pub(crate) fn build(config: &HostsConfig, own_names: &[HostName]) -> Self {
        let text = |name: &HostName| name.as_str().to_owned();
        let (mut front_door_names, mut above) = (Vec::new(), Vec::new());
        for name in &config.front_door_names {
            match name {
                FrontDoorName::Is(name) => front_door_names.push(text(name)),
                FrontDoorName::Below(name) => above.push(text(name)),
            }
        }
        let like_an_instance = |name: &String| behind_label(name).is_some();
        Self {
            front_door_takes_instances: front_door_names.iter().any(like_an_instance),
            bases: config.base_domains.iter().map(text).collect(),
            front_door_names,
            own_names: own_names.iter().map(text).collect(),
            above,
        }
    }

    /// The instance that an authority selects if it is written as we write it ourselves, as nearly all are; `None` says
    /// nothing of any other.
    pub(crate) fn instance(&self, authority: &[u8]) -> Option<InstanceId> {
        let (digit, rest) = authority.strip_prefix(InstanceId::LABEL.as_bytes())?.split_first()?;
        let rest = rest.strip_prefix(b".")?;
        let fits = |base: &String| match rest.strip_prefix(base.as_bytes()) {
            Some([]) => true,
            Some([b':', port @ ..]) => is_port(port),
            Some(_) | None => false,
        };
        let id = InstanceId::new(digit.wrapping_sub(b'0'))?;
        (!self.front_door_takes_instances && self.bases.iter().any(fits)).then_some(id)
    }

    /// The base domain that a host name without port is or is below, or else the first: where the instances have theirs.
    pub(crate) fn base_of(&self, host: &str) -> Option<&str> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let fits = |base: &&String| same(base, host) || below(base, host).is_some();
        self.bases.iter().find(fits).or(self.bases.first()).map(String::as_str)
    }

    /// What a host name without port selects; `None` if it is not ours.
    pub(crate) fn select(&self, host: &str) -> Option<Target> {
        let host = host.strip_suffix('.').unwrap_or(host);
        if self.front_door_names.iter().any(|name| same(name, host)) {
            return Some(Target::FrontDoor);
        }
        let of_base = self.bases.iter().find_map(|base| {
            let label = below(base, host)?;
            match behind_label(label)?.as_bytes() {
                [] => Some(Target::FrontDoor),
                [digit @ b'0'..=b'9'] => InstanceId::new(digit - b'0').map(Target::Instance),
                _ => None,
            }
        });
        of_base.or_else(|| {
            let other = self.own_names.iter().any(|name| same(name, host))
                || self.above.iter().any(|above| below(above, host).is_some());
            other.then_some(Target::FrontDoor)
        })
    }
}

/// The labels of a host that stand before a domain, if it is below that.
fn below<'a>(domain: &str, host: &'a str) -> Option<&'a str> {
    let (labels, end) = host.split_at_checked(host.len().checked_sub(domain.len())?)?;
    labels.strip_suffix('.').filter(|labels| !labels.is_empty() && same(end, domain))
}

/// What follows the name that all instances begin with.
fn behind_label(text: &str) -> Option<&str> {
    let (name, rest) = text.split_at_checked(InstanceId::LABEL.len())?;
    same(name, InstanceId::LABEL).then_some(rest)
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
            front_door_takes_instances: false,
            own_names: vec!["pod-7".to_owned()],
            above: vec!["internal".to_owned()],
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
