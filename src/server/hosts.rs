//! Host selection: from the authority of a request, and at the front door its path, to the instance that answers it.
//!
//! Owns the front door and the way to each instance, which change as a whole when the configuration does; it is the one
//! place that knows more than one tenant. Refuses a request that names its host in a way that cannot be trusted (400) and
//! hosts that are not ours (421), before any router sees it. Health answers whatever the host, and where no place is left.
//! The rule: a request has one host. In HTTP/1.1 it has exactly one valid Host header, whatever its target says; a target
//! in absolute form is the host, and the header is then ignored (RFC 9112 §3.2.2). In HTTP/2 a Host header must agree with
//! `:authority` (RFC 9113 §8.3.1).
//! Trap: a proxy in front may have gone by the other one of two names.

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use axum::{Router, response::Response};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, ready},
};
use http::{HeaderValue, Request, StatusCode, Version, header};
use tower::Service;

use super::{
    protocols::head_fits,
    stack::{Tenant, nothing_at},
};
use crate::{
    admin::health,
    config::FrontDoor,
    http::{Recorded, answer::Answer, ask, head, problem},
    id::{InstanceId, SessionId},
    observe::{FRONT_DOOR_NAMES, MAX_HOST, shown},
    paths::Path,
    process::Process,
    tenant::{HostTable, Target, hosts::without_port},
    tools,
    wire::{Era, Head, Known, Single, headers::decode},
};

/// Why a request's host cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BadHost {
    Missing,
    Several,
    Malformed,
}

impl BadHost {
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

/// The host of a request, by the rule above; `None` if it need not name one, in HTTP/1.0, and does not.
fn host(request: &Request<Recorded>) -> Result<Option<&str>, BadHost> {
    let name = |text| without_port(text).ok_or(BadHost::Malformed);
    let header = match head(request).single(Known::Host) {
        Single::Missing if request.version() == Version::HTTP_11 => return Err(BadHost::Missing),
        Single::Missing => None,
        Single::Several => return Err(BadHost::Several),
        Single::Value(value) => Some(value.to_str().map_err(|_| BadHost::Malformed)?),
    };
    let Some(target) = request.uri().authority() else { return header.map(name).transpose() };
    let target = name(target.as_str())?;
    // It is empty where the client's target has no authority.
    if let Some(header) = header.filter(|header| !header.is_empty()) {
        let other = name(header)?;
        if request.version() >= Version::HTTP_2 && !target.eq_ignore_ascii_case(other) {
            return Err(BadHost::Several);
        }
    }
    Ok(Some(target))
}

/// What the host of a request selects.
enum Selected<'a> {
    Target(Target),
    /// It is not ours.
    Foreign(&'a str),
    /// It need not name one, and does not.
    Nothing,
}

fn select<'a>(request: &'a Request<Recorded>, table: &HostTable) -> Result<Selected<'a>, BadHost> {
    if let Some(instance) = at_once(request, table) {
        return Ok(Selected::Target(Target::Instance(instance)));
    }
    let Some(host) = host(request)? else { return Ok(Selected::Nothing) };
    Ok(table.select(host).map_or(Selected::Foreign(host), Selected::Target))
}

/// The instance of a request that names it in its one Host header, in the usual spelling.
fn at_once(request: &Request<Recorded>, table: &HostTable) -> Option<InstanceId> {
    match (request.uri().authority(), head(request).single(Known::Host)) {
        (None, Single::Value(host)) => table.instance(host.as_bytes()),
        (_, _) => None,
    }
}

/// What the hosts are, as one configuration has it.
#[derive(Debug)]
pub struct Hosts {
    /// Their names.
    pub table: Arc<HostTable>,
    /// How the front door picks.
    pub front_door: FrontDoor,
    /// The ten instances in order.
    pub tenants: Vec<Tenant>,
    /// The same as the front door has them, each below its name.
    pub tenants_by_path: Vec<Tenant>,
    /// Answers the operator's paths at the front door, and its page for people.
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
    /// Either of them where no place is left: for health alone.
    Full,
}

/// The answer to a host that is not ours. It is a host name, so there is nothing in it to escape.
fn not_served(host: &str) -> Response {
    let host = shown::shown(host, MAX_HOST);
    let text = format!(
        "the host {host} is not served here; if it is yours, add it to hosts.front_door_names ({FRONT_DOOR_NAMES}=localhost,127.0.0.1,{host})"
    );
    problem(StatusCode::MISDIRECTED_REQUEST, &text)
}

/// What a connection beyond the cap is told about anything but health.
fn no_place() -> Response {
    let text = "as many connections are open as may be (http.max_connections)";
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
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
    fn pick(&self, front_door: FrontDoor, head: Head<'_>) -> InstanceId {
        let nth = |number: usize| InstanceId::wrapping(number);
        let next = || nth(self.turn.fetch_add(1, Ordering::Relaxed));
        match front_door {
            FrontDoor::Fixed(instance) => instance,
            FrontDoor::Sticky => named(head).unwrap_or_else(next),
            FrontDoor::RoundRobin => next(),
            FrontDoor::Random => {
                let mut byte = [0];
                // Without random bytes, turns are as good.
                getrandom::fill(&mut byte).map_or_else(|_| next(), |()| nth(byte[0].into()))
            }
        }
    }
}

/// The instance of the session or task that a request names. In a revision without sessions, a request that names a tool
/// or a prompt alone has one by that name, for it may be the second attempt of one that has been asked something, and what
/// the first has sealed opens nowhere else.
fn named(head: Head<'_>) -> Option<InstanceId> {
    // Of two, or of one that is no id, none counts: the instance that answers refuses it.
    let text = |known| match head.single(known) {
        Single::Value(value) => decode(value.to_str().ok()?),
        Single::Missing | Single::Several => None,
    };
    let minted_by = |id: &str| Some(SessionId::parse(id)?.minted_by()?.instance);
    let by = |known| text(known).and_then(|id| minted_by(&id));
    match Era::of(false, text(Known::Version).as_deref()) {
        Era::Sessioned => by(Known::Session).or_else(|| by(Known::Handle)),
        Era::Stateless => by(Known::Handle).or_else(|| {
            let name = text(Known::Name)?;
            let uri = name.strip_prefix("session://").and_then(|rest| rest.split('/').next());
            minted_by(uri.unwrap_or(&name)).or_else(|| {
                let mut hasher = DefaultHasher::new();
                name.hash(&mut hasher);
                // New sessions take turns.
                (!tools::BEGIN_SESSIONS.contains(&&*name))
                    .then(|| InstanceId::wrapping(hasher.finish() as usize))
            })
        }),
    }
}

impl Service<Request<Recorded>> for VirtualHosts {
    type Response = Answer;
    type Error = Infallible;
    /// A tenant's answer, the operator's overview, or one that is known at once.
    type Future = Either<
        <&'static Tenant as Service<Request<Recorded>>>::Future,
        BoxFuture<'static, Result<Answer, Infallible>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Recorded>) -> Self::Future {
        let answer =
            |response: Response| Either::Right(ready(Ok(response.map(Into::into))).boxed());
        let through = |router: &Router, request| Either::Right(ask(&mut router.clone(), request));
        let Shared { process, hosts, .. } = &*self.shared;
        if request.body().record.may_be_long() && !head_fits(&request) {
            let text = "the head of the request has more than 64 KiB or 100 lines";
            return answer(problem(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text));
        }
        let path = Path::of(request.uri().path());
        if path == Path::Health {
            let response = health::answer(process, request.method(), request.uri().path());
            return answer(response);
        }
        let hosts = hosts.load();
        let selected = match select(&request, &hosts.table) {
            Ok(selected) => selected,
            Err(bad) => return answer(problem(StatusCode::BAD_REQUEST, bad.text())),
        };
        match self.port {
            Port::Main => {}
            Port::Admin => return through(&hosts.operators, request),
            Port::Full => return answer(no_place()),
        }
        let (tenants, instance) = match selected {
            Selected::Target(Target::Instance(instance)) => (&hosts.tenants, instance),
            Selected::Target(Target::FrontDoor) => match path {
                Path::Mcp | Path::Health | Path::WellKnown | Path::Other => {
                    (&hosts.tenants, self.shared.pick(hosts.front_door, head(&request)))
                }
                Path::McpOf(instance) | Path::MetadataOf(instance) => {
                    (&hosts.tenants_by_path, instance)
                }
                Path::NoInstance => return answer(nothing_at(request.uri().path())),
                Path::Home | Path::Admin | Path::Session => {
                    return through(&hosts.overview, request);
                }
            },
            Selected::Foreign(host) => return answer(not_served(host)),
            Selected::Nothing => {
                return answer(problem(StatusCode::BAD_REQUEST, BadHost::Missing.text()));
            }
        };
        request.body().record.set_instance(instance);
        Either::Left((&tenants[instance.index()]).call(request))
    }
}
