//! The outermost layer: request id, identity headers, one log line per request.
//!
//! Owns when the line is written and the request is counted: when the response body ends or is dropped. So a stream is
//! logged with its whole length, and a client that disconnected is told from one that read to the end.
//! Trap: the handler's future may be dropped before there is a response; the line must be written then too.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header, uri::Authority};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::Service;

use super::{Recorded, idle_watch::IdleWatch};
use crate::{
    id::InstanceId,
    observe::{
        CompletedRequest, Ending, Kind, OwnId, RequestId, RequestOutcome, RequestRecord, Weight,
        shown,
    },
    paths::{self, Path},
    process::Process,
    tenant::{Instance, State},
    wire::{
        BOOT_HEADER, INSTANCE_HEADER, REPLICA_HEADER, REQUEST_ID_HEADER, Single,
        TRACEPARENT_HEADER, headers::single,
    },
};

/// Longest path in the log. Characters.
const MAX_PATH: usize = 128;

/// The identity headers, the numbering of requests, and where requests are logged and counted.
#[derive(Debug)]
pub struct Identity {
    replica: HeaderValue,
    boot: HeaderValue,
    instances: [HeaderValue; InstanceId::COUNT],
    requests: AtomicU64,
    process: Arc<Process>,
    /// Counters and recent requests of each instance, by its index.
    tenants: Vec<Arc<State>>,
}

impl Identity {
    pub(crate) fn of(process: &Arc<Process>, instances: &[Arc<Instance>]) -> Self {
        Self {
            // The configuration check allows only names that fit a header.
            replica: HeaderValue::from_str(&process.replica)
                .unwrap_or(HeaderValue::from_static("local")),
            boot: HeaderValue::from_str(&process.boot.to_string())
                .unwrap_or(HeaderValue::from_static("000")),
            instances: std::array::from_fn(HeaderValue::from),
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

    fn sign(&self, record: &RequestRecord, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID_HEADER, record.id.to_header());
        headers.insert(REPLICA_HEADER, self.replica.clone());
        headers.insert(BOOT_HEADER, self.boot.clone());
        if let Some(instance) = record.instance() {
            headers.insert(INSTANCE_HEADER, self.instances[instance.index()].clone());
        }
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

impl<S, B> Service<Request<axum::body::Body>> for AccessLogged<S>
where
    S: Service<Request<Recorded>, Response = Response<B>>,
    B: Body,
{
    type Response = Response<Logged<B>>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<axum::body::Body>) -> Self::Future {
        if let Some(idle_watch) = &self.idle_watch {
            idle_watch.begin();
        }
        let headers = request.headers();
        let id = self.identity.request_id(match single(headers, REQUEST_ID_HEADER) {
            Single::Value(sent) => Some(sent),
            Single::Missing | Single::Several => None,
        });
        let record = Arc::new(RequestRecord::begin(id, self.peer));
        // A trace that cannot be read, or of two, is ignored, as the standard asks.
        if let Single::Value(trace) = single(headers, TRACEPARENT_HEADER)
            && let Ok(trace) = trace.to_str()
        {
            record.set_trace(trace);
        }
        let line = Line {
            identity: Arc::clone(&self.identity),
            record: Arc::clone(&record),
            method: request.method().clone(),
            path: shown(request.uri().path()),
            host: Asked::of(&request),
            idle_watch: self.idle_watch.clone(),
            status: 0,
            complete: false,
        };
        let request = request.map(|body| Recorded { record, body });
        Answering { inner: self.inner.call(request), line: Some(line) }
    }
}

/// A path as the log shows it: bounded, and without session ids.
fn shown(path: &str) -> Cow<'static, str> {
    match (path, Path::of(path)) {
        (paths::MCP, _) => paths::MCP.into(),
        (_, Path::Session) => "/debug/sessions/{ref}".into(),
        (_, Path::Mcp | Path::Health | Path::Admin | Path::WellKnown | Path::Other) => {
            let path = shown::masked(path);
            let end = path.char_indices().nth(MAX_PATH).map_or(path.len(), |(end, _)| end);
            path[..end].to_owned().into()
        }
    }
}

/// What to count a request as whose body has not been read.
fn kind_of(method: &Method, path: &str) -> Kind {
    match Path::of(path) {
        Path::Mcp => match *method {
            Method::POST => Kind::Post,
            Method::GET => Kind::Get,
            Method::DELETE => Kind::Delete,
            _ => Kind::OtherHttp,
        },
        Path::Health => Kind::Health,
        Path::Session | Path::Admin => Kind::Admin,
        Path::WellKnown => Kind::WellKnown,
        Path::Other => Kind::Elsewhere,
    }
}

/// The host that a request names, in whichever place; not copied, since few are shown.
#[derive(Debug, Default)]
struct Asked {
    header: Option<HeaderValue>,
    target: Option<Authority>,
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Self {
        Self {
            header: request.headers().get(header::HOST).cloned(),
            target: request.uri().authority().cloned(),
        }
    }

    fn text(&self) -> Option<&str> {
        let header = || self.header.as_ref().and_then(|value| value.to_str().ok());
        self.target.as_ref().map(Authority::as_str).or_else(header)
    }
}

pin_project! {
    /// The future of a response.
    pub struct Answering<F> {
        #[pin]
        inner: F,
        line: Option<Line>,
    }
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<Logged<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(line) = this.line {
            line.status = response.status().as_u16();
            // A host is shown of what was refused, and keeps the read buffer of the connection alive until then.
            if line.status < 400 {
                line.host = Asked::default();
            }
            line.identity.sign(&line.record, response.headers_mut());
        }
        let line = this.line.take();
        Poll::Ready(Ok(response.map(|inner| Logged { inner, line })))
    }
}

/// The log line of a request, which is written when this is dropped.
#[derive(Debug)]
struct Line {
    identity: Arc<Identity>,
    record: Arc<RequestRecord>,
    method: Method,
    path: Cow<'static, str>,
    host: Asked,
    idle_watch: Option<Arc<IdleWatch>>,
    /// 0 while there is no response.
    status: u16,
    complete: bool,
}

impl Drop for Line {
    fn drop(&mut self) {
        let Self { identity, record, method, path, host, idle_watch, status, complete } = self;
        let at = Instant::now();
        if let Some(idle_watch) = idle_watch {
            idle_watch.end(at);
        }
        let facts = record.facts();
        let status = *status;
        let outcome = RequestOutcome::settled(facts.outcome, *complete, status);
        let duration = at.saturating_duration_since(record.received);
        let kind = facts.method.map_or_else(|| kind_of(method, path), Kind::Rpc);
        let Identity { process, tenants, .. } = &**identity;
        // What is asked of an instance is below its own paths; a browser that looks for an icon is not its error.
        let instance = facts.instance.filter(|_| kind != Kind::Elsewhere);
        let tenant = instance.and_then(|instance| tenants.get(instance.index()));
        let counters = tenant.map_or(&process.counters.nowhere, |state| &state.counters);
        counters.count(kind, &facts, status, outcome, duration);
        let weight = if kind == Kind::Health { Weight::Probe } else { Weight::Usual };
        let host = host.text();
        let ending = Ending { method, path, host, status, outcome, duration, weight };
        process.log.write(record, &facts, &ending);
        if let Some(state) = tenant
            && kind != Kind::Admin
        {
            state.requests.note(CompletedRequest {
                id: record.id.clone(),
                received: record.received,
                duration,
                http_method: name_of(method),
                method: facts.method,
                tool: facts.tool,
                session: facts.session,
                status,
                outcome,
            });
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

pin_project! {
    /// A response body that counts its bytes, and drops the line when it is dropped.
    #[derive(Debug)]
    pub struct Logged<B> where B: Body {
        #[pin]
        inner: B,
        line: Option<Line>,
    }

    impl<B> PinnedDrop for Logged<B> where B: Body {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // hyper does not poll a body that says it has ended.
            if let Some(line) = this.line {
                line.complete |= this.inner.is_end_stream();
            }
        }
    }
}

impl<B> Body for Logged<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = this.inner.poll_frame(cx);
        if let Some(line) = this.line {
            match &frame {
                Poll::Ready(Some(Ok(frame))) => {
                    line.record.add_bytes(frame.data_ref().map_or(0, Buf::remaining));
                }
                Poll::Ready(None) => line.complete = true,
                Poll::Ready(Some(Err(_))) | Poll::Pending => {}
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
