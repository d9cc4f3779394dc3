//! The outermost layer: the request id, and one log line per request.
//!
//! Owns when the line is written and the request is counted: when its answer has ended, or is given up. So a stream is
//! logged with its whole length, and a client that disconnected is told from one that read to the end.
//! Traps: the handler's future may be dropped before there is a response; the line must be written then too. A client that
//! has its answer may look into the log, so the line of an ordinary answer is written before its last bytes leave.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{
    HeaderValue, Method, Request, Response, Uri, Version, header::CONNECTION, uri::Authority,
};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::Service;

use super::{
    Recorded,
    idle_watch::IdleWatch,
    incoming::{Incoming, Source},
    outgoing::Outgoing,
    signature::Signature,
};
use crate::{
    clock::Moment,
    observe::{
        CompletedRequest, Ending, Facts, FailedRequest, Kind, MAX_HOST, OwnId, RequestId,
        RequestOutcome, RequestRecord, Weight, shown,
    },
    paths::{self, Path},
    process::Process,
    tenant::{Instance, State},
    wire::{Head, Known, Lines, Single},
};

/// An answer of so many bytes leaves as soon as it has ended.
const SMALL: u64 = 16 * 1024;

/// Longest path in the log. Characters.
const MAX_PATH: usize = 128;

/// The identity headers, the numbering of requests, and where requests are logged and counted.
#[derive(Debug)]
pub struct Identity {
    signature: Signature,
    requests: AtomicU64,
    process: Arc<Process>,
    /// Counters and recent requests of each instance, by its index.
    tenants: Vec<Arc<State>>,
}

impl Identity {
    pub(crate) fn of(process: &Arc<Process>, instances: &[Arc<Instance>]) -> Self {
        Self {
            signature: Signature::of(process),
            requests: AtomicU64::new(1),
            process: Arc::clone(process),
            tenants: instances.iter().map(|own| Arc::clone(&own.state)).collect(),
        }
    }

    /// The id that the caller sent, if it is valid, or else the next of our own.
    fn request_id(&self, sent: Option<&HeaderValue>) -> RequestId {
        RequestId::of_caller(sent).unwrap_or_else(|| {
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            RequestId::Ours(OwnId::new(self.process.tag, self.process.boot, number))
        })
    }
}

/// Logs and counts requests, and adds the identity headers to responses.
#[derive(Clone, Debug)]
pub struct AccessLogged<S> {
    inner: S,
    identity: Arc<Identity>,
    peer: IpAddr,
    idle_watch: Option<Arc<IdleWatch>>,
}

impl<S> AccessLogged<S> {
    pub(crate) fn new(inner: S, identity: Arc<Identity>) -> Self {
        let peer = Ipv4Addr::UNSPECIFIED.into();
        Self { inner, identity, peer, idle_watch: None }
    }

    /// The stack for the requests of one connection, which its watch is told of.
    pub fn of_connection(self, peer: IpAddr, idle_watch: Option<Arc<IdleWatch>>) -> Self {
        Self { peer, idle_watch, ..self }
    }
}

impl<S> AccessLogged<S>
where
    S: Service<Request<Recorded>> + Clone,
{
    /// What the service does, for a caller that would have to clone it first.
    pub(crate) fn answer(&self, request: Request<impl Into<Source>>) -> Answering<S> {
        if let Some(idle_watch) = &self.idle_watch {
            idle_watch.begin();
        }
        let lines = Lines::of(request.headers());
        let head = lines.head(request.headers());
        let id = self.identity.request_id(match head.single(Known::RequestId) {
            Single::Value(sent) => Some(sent),
            Single::Missing | Single::Several => None,
        });
        let come = self.idle_watch.as_ref().map_or(0, |idle_watch| idle_watch.unread());
        let record = Arc::new(RequestRecord::begin(id, self.peer, lines, come));
        // A trace that cannot be read, or of two, is ignored, as the standard asks.
        if let Single::Value(trace) = head.single(Known::TraceParent)
            && let Ok(trace) = trace.to_str()
        {
            record.set_trace(trace);
        }
        let line = Arc::new(Line {
            identity: Arc::clone(&self.identity),
            record: Arc::clone(&record),
            method: request.method().clone(),
            path: shown(request.uri().path()),
            host: Asked::of(head, request.uri()),
            idle_watch: self.idle_watch.clone(),
            closes: request.version() < Version::HTTP_2,
            status: 0,
            left: AtomicU64::new(0),
            whole: AtomicU64::new(u64::MAX),
            written: AtomicBool::new(false),
            ended: AtomicU64::new(0),
        });
        let request = request.map(|body| {
            let body = Incoming::new(body.into(), &record, self.idle_watch.as_ref());
            Recorded { record, body }
        });
        let stage = Stage::Asked { service: self.inner.clone(), request: Some(request) };
        Answering { stage, line: Some(line) }
    }
}

impl<S, B, R> Service<Request<R>> for AccessLogged<S>
where
    S: Service<Request<Recorded>, Response = Response<B>> + Clone,
    B: Body,
    R: Into<Source>,
{
    type Response = Response<Outgoing<B>>;
    type Error = S::Error;
    type Future = Answering<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        self.answer(request)
    }
}

/// A path as the log shows it: bounded, and without session ids.
fn shown(path: &str) -> Cow<'static, str> {
    match (path, Path::of(path)) {
        (paths::MCP, _) => paths::MCP.into(),
        (_, Path::Session) => "/debug/sessions/{ref}".into(),
        (
            _,
            Path::Mcp
            | Path::McpOf(_)
            | Path::MetadataOf(_)
            | Path::NoInstance
            | Path::Home
            | Path::Health
            | Path::Admin
            | Path::WellKnown
            | Path::Other,
        ) => {
            let path = shown::masked(path);
            let end = path.char_indices().nth(MAX_PATH).map_or(path.len(), |(end, _)| end);
            path[..end].to_owned().into()
        }
    }
}

/// What to count a request as whose body has not been read.
fn kind_of(method: &Method, path: &str) -> Kind {
    match Path::of(path) {
        Path::Mcp | Path::McpOf(_) => match *method {
            Method::POST => Kind::Post,
            Method::GET => Kind::Get,
            Method::DELETE => Kind::Delete,
            _ => Kind::OtherHttp,
        },
        Path::Health => Kind::Health,
        Path::Session | Path::Admin => Kind::Admin,
        Path::WellKnown | Path::MetadataOf(_) => Kind::WellKnown,
        Path::NoInstance | Path::Home | Path::Other => Kind::Elsewhere,
    }
}

/// The host that a request names, in whichever place; not copied, since few are shown.
#[derive(Debug, Default)]
struct Asked {
    header: Option<HeaderValue>,
    target: Option<Authority>,
}

impl Asked {
    fn of(head: Head<'_>, target: &Uri) -> Self {
        Self {
            header: match head.single(Known::Host) {
                Single::Value(host) => Some(host.clone()),
                Single::Missing | Single::Several => None,
            },
            target: target.authority().cloned(),
        }
    }

    fn text(&self) -> Option<&str> {
        let header =
            || self.header.as_ref().and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        self.target.as_ref().map(Authority::as_str).or_else(header)
    }
}

pin_project! {
    /// The future of a response.
    pub struct Answering<S> where S: Service<Request<Recorded>> {
        #[pin]
        stage: Stage<S, S::Future>,
        line: Option<Arc<Line>>,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<S, F> {
        // Not asked before it is polled: by then hyper has read what came with the head.
        Asked { service: S, request: Option<Request<Recorded>> },
        Under { #[pin] way: F },
    }
}

impl<S, B> Future for Answering<S>
where
    S: Service<Request<Recorded>, Response = Response<B>>,
    B: Body,
{
    type Output = Result<Response<Outgoing<B>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut response = loop {
            let way = match this.stage.as_mut().project() {
                StageProjection::Under { way } => break ready!(way.poll(cx))?,
                StageProjection::Asked { service, request } => match request.take() {
                    Some(request) => service.call(request),
                    None => return Poll::Pending,
                },
            };
            this.stage.set(Stage::Under { way });
        };
        // Nobody else has it before the answer does.
        if let Some(line) = this.line.as_mut().and_then(Arc::get_mut) {
            line.status = response.status().as_u16();
            // A host is shown of what was refused, and keeps the read buffer of the connection alive until then.
            if line.status < 400 {
                line.host = Asked::default();
            }
            line.identity.signature.sign(&line.record, response.headers_mut());
            if line.closes && line.record.is_left_unread() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        let line = this.line.take();
        Poll::Ready(Ok(response.map(|inner| Outgoing::new(inner, line))))
    }
}

/// The log line of a request, which is written when its answer has ended, or else when this is dropped. The connection is
/// not idle before that.
#[derive(Debug)]
pub(super) struct Line {
    identity: Arc<Identity>,
    record: Arc<RequestRecord>,
    method: Method,
    path: Cow<'static, str>,
    host: Asked,
    idle_watch: Option<Arc<IdleWatch>>,
    /// Whether an answer before the request's end must end the connection: in HTTP/1.
    closes: bool,
    /// 0 while there is no response.
    status: u16,
    /// Bytes of the answer's body that have left.
    left: AtomicU64,
    /// The length of the answer's body, once it is known.
    whole: AtomicU64,
    written: AtomicBool,
    /// When a small answer has ended, which then leaves at once: milliseconds on the clock, and one more; 0 for others.
    ended: AtomicU64,
}

impl Line {
    /// Counts bytes of the answer's body that have left.
    pub(super) fn add_left(&self, bytes: usize) {
        self.left.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many have.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// The answer ends when so many have.
    pub(super) fn expect(&self, bytes: u64) {
        self.whole.store(bytes, Ordering::Relaxed);
    }

    /// The answer has ended, after so many bytes.
    pub(super) fn end(&self, bytes: u64) {
        let now = Instant::now();
        if bytes <= SMALL {
            let moment = self.identity.process.clock.moment(now);
            self.ended.store(moment.as_millis() + 1, Ordering::Relaxed);
        }
        self.write(bytes, true, now);
    }

    fn write(&self, bytes: u64, complete: bool, at: Instant) {
        if self.written.swap(true, Ordering::Relaxed) {
            return;
        }
        let Self { identity, record, method, path, host, status, .. } = self;
        record.set_bytes(bytes);
        let facts = record.facts();
        let status = *status;
        // hyper does not ask for the body of an answer to HEAD.
        let complete = complete || (*method == Method::HEAD && status != 0);
        let lifecycle = &identity.process.lifecycle;
        let stops = !complete && lifecycle.cutting().is_cancelled();
        let outcome = RequestOutcome::settled(facts.outcome, complete, stops, status);
        if outcome == RequestOutcome::CutOff {
            lifecycle.count_cut_off();
        }
        let duration = at.saturating_duration_since(record.received);
        let kind = facts.method.map_or_else(|| kind_of(method, path), Kind::Rpc);
        let Identity { process, tenants, .. } = &**identity;
        // What is asked of an instance is below its own paths; a browser that looks for an icon is not its error.
        let instance = facts.instance.filter(|_| kind != Kind::Elsewhere);
        let tenant = instance.and_then(|instance| tenants.get(instance.index()));
        let counters = tenant.map_or(&process.counters.nowhere, |state| &state.counters);
        counters.count(kind, &facts, status, outcome, duration);
        let scraped = path == paths::METRICS && status < 400;
        let weight = match kind == Kind::Health || scraped {
            true => Weight::Probe,
            false => Weight::Usual,
        };
        let host = host.text();
        let ending = Ending { method, path, host, status, outcome, duration, weight };
        process.log.write(record, &facts, &ending);
        if kind == Kind::Admin {
            return;
        }
        let completed = || self.completed(&facts, outcome, duration);
        match tenant {
            Some(state) => {
                let request = completed();
                if request.is_error() {
                    state.requests.failures.note(self.failed(request.clone(), &facts));
                }
                state.requests.note(request);
            }
            None if facts.instance.is_none() && kind != Kind::Health && outcome.is_refusal() => {
                process.refused.note(self.failed(completed(), &facts));
            }
            None => {}
        }
    }

    fn completed(
        &self,
        facts: &Facts,
        outcome: RequestOutcome,
        duration: Duration,
    ) -> CompletedRequest {
        CompletedRequest {
            id: self.record.id.clone(),
            received: self.record.received,
            duration,
            http_method: name_of(&self.method),
            method: facts.method,
            tool: facts.tool,
            session: facts.session,
            status: self.status,
            outcome,
        }
    }

    #[cold]
    fn failed(&self, request: CompletedRequest, facts: &Facts) -> FailedRequest {
        FailedRequest {
            request,
            path: self.path.clone(),
            host: self.host.text().map(|host| shown::shown(host, MAX_HOST)),
            peer: self.record.peer.to_canonical(),
            missing: self.record.missing().cloned(),
            minted_by: facts.minted_by,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let now = match *self.ended.get_mut() {
            0 => {
                let (now, left) = (Instant::now(), self.left());
                self.write(left, left == self.whole.load(Ordering::Relaxed), now);
                self.identity.process.clock.moment(now)
            }
            ended => Moment::from_millis(ended - 1),
        };
        if let Some(idle_watch) = &self.idle_watch {
            idle_watch.end(now);
        }
    }
}

fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "POST",
        Method::GET => "GET",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}
