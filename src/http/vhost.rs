//! Host selection: from the authority of a request to the instance that answers it.
//!
//! Owns the table of host names, the front door and the routers of all instances, which change as a whole when
//! the configuration does; it is the one place that knows more than one tenant. Refuses a request that names no host or two (400) and hosts that
//! are not ours (421), before any router sees it. Health answers on any host.
//! Trap: names are compared without case, with or without port and trailing dot; a comparison that
//! misses one of these lets a rebinding page in or a proxy's request out.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use axum::{Router, extract::Request, response::Response};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, ready},
};
use http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use tower::Service;

use super::{
    Tenant,
    once::{Once, once},
    problem,
};
use crate::{
    admin,
    config::{FrontDoor, HostsConfig, is_host_name},
    instance::Process,
    mcp::{HANDLE_HEADER, reply::SESSION_HEADER},
    place::InstanceId,
    session::SessionId,
    telemetry::record::RequestRecord,
};

/// The name that opens every host name of ours.
const LABEL: &str = "echo-stateful";

/// What a host name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One of the ten.
    Instance(InstanceId),
    /// The front door picks.
    FrontDoor,
}

/// Every host name that is ours.
#[derive(Clone, Debug)]
pub struct HostTable {
    bases: Vec<String>,
    front_door_names: Vec<String>,
}

impl HostTable {
    /// Reads the names; compares them as written, without case.
    pub fn build(config: &HostsConfig) -> Self {
        let clean = |names: &[String]| {
            names.iter().map(|name| name.trim_end_matches('.').to_owned()).collect()
        };
        Self {
            bases: clean(&config.base_domains),
            front_door_names: clean(&config.front_door_names),
        }
    }

    /// What a host name, without port, stands for.
    pub fn select(&self, host: &str) -> Option<Target> {
        let host = host.strip_suffix('.').unwrap_or(host);
        if self.front_door_names.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return Some(Target::FrontDoor);
        }
        self.bases.iter().find_map(|base| {
            let start = host.len().checked_sub(base.len())?;
            let (label, end) = (host.get(..start)?, host.get(start..)?);
            let label = label.strip_suffix('.').filter(|_| end.eq_ignore_ascii_case(base))?;
            let rest = label.get(LABEL.len()..)?;
            if !label.get(..LABEL.len())?.eq_ignore_ascii_case(LABEL) {
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

/// The host of an authority: `host`, `host:port`, `[v6]`, `[v6]:port`. `None` if it is no authority.
pub fn without_port(authority: &str) -> Option<&str> {
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

/// Why a request has no host that we could serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoHost {
    Missing,
    Several,
    Malformed,
}

impl NoHost {
    const fn text(self) -> &'static str {
        match self {
            Self::Missing => "the request names no host: send one Host header",
            Self::Several => {
                "the request names two hosts: send one Host header that fits the request target"
            }
            Self::Malformed => "the Host header is not a host name with an optional port",
        }
    }
}

/// The one host of a request: the target's authority (HTTP/2, absolute form), else the Host header
/// (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, NoHost> {
    let header = match once(headers, header::HOST) {
        Once::Missing => None,
        Once::Several => return Err(NoHost::Several),
        Once::Value(value) => {
            let text = value.to_str().map_err(|_| NoHost::Malformed)?;
            Some(without_port(text).ok_or(NoHost::Malformed)?)
        }
    };
    let target = match uri.authority() {
        None => None,
        Some(authority) => Some(without_port(authority.as_str()).ok_or(NoHost::Malformed)?),
    };
    match (target, header) {
        (Some(target), Some(header)) if !target.eq_ignore_ascii_case(header) => {
            Err(NoHost::Several)
        }
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(NoHost::Missing),
    }
}

/// What the hosts are, as one configuration has it.
#[derive(Debug)]
pub struct Hosts {
    /// Their names.
    pub table: HostTable,
    /// How the front door picks.
    pub front_door: FrontDoor,
    /// The ten instances in order.
    pub tenants: Vec<Tenant>,
    /// Answers the operator's paths at the front door.
    pub overview: Router,
    /// Answers the operator's own port.
    pub operators: Router,
}

/// Through which port a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// `server.port`: for everyone.
    Main,
    /// `admin.listen`: for the operator, whatever the host.
    Admin,
}

/// The service that hands each request to the router of its instance.
#[derive(Clone, Debug)]
pub struct VirtualHosts {
    shared: Arc<Shared>,
    port: Port,
}

#[derive(Debug)]
struct Shared {
    process: Arc<Process>,
    turn: AtomicUsize,
    hosts: ArcSwap<Hosts>,
}

impl VirtualHosts {
    /// Serves these hosts on the main port.
    pub fn new(process: &Arc<Process>, hosts: Hosts) -> Self {
        let (process, hosts) = (Arc::clone(process), ArcSwap::from_pointee(hosts));
        Self {
            shared: Arc::new(Shared { process, turn: AtomicUsize::new(0), hosts }),
            port: Port::Main,
        }
    }

    /// The same hosts as seen through another port.
    pub fn through(&self, port: Port) -> Self {
        Self { shared: Arc::clone(&self.shared), port }
    }

    /// Serves these hosts from now on; requests that are under way go on as they began.
    pub fn replace(&self, hosts: Hosts) {
        self.shared.hosts.store(Arc::new(hosts));
    }
}

impl Shared {
    fn pick(&self, front_door: FrontDoor, headers: &HeaderMap) -> InstanceId {
        let nth = |number: usize| InstanceId::wrapping(number);
        let next = || nth(self.turn.fetch_add(1, Ordering::Relaxed));
        match front_door {
            FrontDoor::Fixed(instance) => instance,
            FrontDoor::Sticky => {
                let minted_by = |name: &HeaderName| {
                    SessionId::parse(headers.get(name)?.to_str().ok()?)?.instance()
                };
                let id = minted_by(&SESSION_HEADER).or_else(|| minted_by(&HANDLE_HEADER));
                id.unwrap_or_else(next)
            }
            FrontDoor::RoundRobin => next(),
            FrontDoor::Random => {
                let mut byte = [0];
                // Without random bytes, turns are as good.
                getrandom::fill(&mut byte).map_or_else(|_| next(), |()| nth(byte[0].into()))
            }
        }
    }
}

impl Service<Request> for VirtualHosts {
    type Response = Response;
    type Error = Infallible;
    /// A tenant's answer, the operator's overview, or one that is known at once.
    type Future = Either<
        <Tenant as Service<Request>>::Future,
        BoxFuture<'static, Result<Response, Infallible>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let answer = |response| Either::Right(ready(Ok(response)).boxed());
        let Shared { process, hosts, .. } = &*self.shared;
        if let Some(response) =
            admin::health::answer(process, request.method(), request.uri().path())
        {
            return answer(response);
        }
        let hosts = hosts.load();
        if self.port == Port::Admin {
            return Either::Right(hosts.operators.clone().call(request).boxed());
        }
        let target = match host(request.uri(), request.headers()) {
            Ok(host) => hosts.table.select(host),
            Err(problem) => return answer(super::problem(StatusCode::BAD_REQUEST, problem.text())),
        };
        let instance = match target {
            Some(Target::Instance(instance)) => instance,
            Some(Target::FrontDoor) if admin::is_path(request.uri().path()) => {
                return Either::Right(hosts.overview.clone().call(request).boxed());
            }
            Some(Target::FrontDoor) => self.shared.pick(hosts.front_door, request.headers()),
            None => {
                return answer(problem(
                    StatusCode::MISDIRECTED_REQUEST,
                    "this host is not served here; see hosts.base_domains and hosts.front_door_names",
                ));
            }
        };
        if let Some(record) = request.extensions().get::<Arc<RequestRecord>>() {
            record.set_instance(instance);
        }
        Either::Left(hosts.tenants[instance.index()].clone().call(request))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> HostTable {
        HostTable {
            bases: vec!["localhost".to_owned(), "example.com".to_owned()],
            front_door_names: vec![
                "localhost".to_owned(),
                "127.0.0.1".to_owned(),
                "[::1]".to_owned(),
            ],
        }
    }

    #[test]
    fn names_stand_for_instances() {
        let three = InstanceId::new(3).map(Target::Instance);
        for name in [
            "echo-stateful3.localhost",
            "ECHO-Stateful3.Example.COM",
            "echo-stateful3.example.com.",
        ] {
            assert_eq!(table().select(name), three, "{name}");
        }
        for name in ["localhost", "127.0.0.1", "[::1]", "echo-stateful.example.com", "LOCALHOST."] {
            assert_eq!(table().select(name), Some(Target::FrontDoor), "{name}");
        }
        for name in [
            "",
            ".",
            "example.com",
            "echo-stateful10.example.com",
            "echo-stateful3example.com",
            "echo-statefulx.example.com",
            "echo-stateful3.example.com.evil.org",
            "a.echo-stateful3.localhost",
            "echo-stateful3.example.org",
            "echo-stateful3",
            "évil.localhost",
        ] {
            assert_eq!(table().select(name), None, "{name}");
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
