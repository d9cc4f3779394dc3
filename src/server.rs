//! The running server: build the ten instances, accept, reload, drain.
//!
//! Owns the accept loop, the connection limits, the change to another configuration and the two stages of a
//! stop. `Server::build` is where everything that can fail does, before a port is open; `Server::run` is the
//! only way to serve, for the program and for the tests. Refuses to know what is in a request.
//! Traps: hyper puts no time on the first bytes of a connection; a graceful shutdown waits for ever on
//! an open event stream unless the stream is told.

pub mod hosts;
mod socket;
pub mod stack;

use std::{future::poll_fn, net::SocketAddr, pin::pin, sync::Arc, task::Poll, time::Duration};

use axum::body::Body;
use futures_util::FutureExt as _;
use http::Request;
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tower::Service;

use self::{
    hosts::{Port, VirtualHosts},
    socket::Socket,
    stack::Stack,
};
use crate::{
    admin::Admin,
    config::{Config, Reloaded, Secret},
    http::{access_log::Identity, idle_watch::IdleWatch},
    id::EndReason,
    mcp::Endpoint,
    observe::{
        access::AccessLog,
        events::{EventKind, Subject},
    },
    process::Process,
    reload::{Asked, NotReloaded, Reloads, Source},
    tenant::Instance,
};

/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request head beyond this is answered with 431. Bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Connections to the operator's own port at the most.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// Ten instances, ready to serve.
#[derive(Debug)]
pub struct Server {
    process: Arc<Process>,
    endpoints: Vec<Arc<Endpoint>>,
    identity: Arc<Identity>,
    hosts: VirtualHosts,
    admin: Admin,
    generated_admin_token: Option<Secret>,
    timing: Timing,
    connections: Arc<Semaphore>,
    /// As many as `connections` has in all.
    max_connections: usize,
    source: Option<Source>,
    reloads: Reloads,
    asked: mpsc::Receiver<Asked>,
}

/// How long is waited, and for what.
#[derive(Clone, Copy, Debug)]
struct Timing {
    header: Duration,
    write: Duration,
    drain: Duration,
}

impl Timing {
    fn of(config: &Config) -> Self {
        Self {
            header: config.http.header_timeout_seconds.get(),
            write: config.http.write_timeout_seconds.get(),
            drain: config.shutdown.drain_seconds.get(),
        }
    }
}

/// Where a server listens.
#[derive(Debug)]
pub struct Listeners {
    /// For everyone.
    pub main: TcpListener,
    /// For the operator (`admin.listen`).
    pub admin: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(main: TcpListener) -> Self {
        Self { main, admin: None }
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything in flight was finished.
    Clean,
    /// The time to drain was over first.
    CutOff,
}

impl Server {
    /// Makes everything that a request will need.
    ///
    /// `access_log` is where the line of each request goes.
    pub fn build(config: &Config, access_log: AccessLog) -> anyhow::Result<Self> {
        let process = Process { log: access_log, ..Process::build(config)? };
        let process = Arc::new(process);
        let (admin, generated_admin_token) = Admin::build(config)?;
        let instances = Instance::build_all(config, &process, &[])?;
        let endpoints = Endpoint::build_all(&instances, &[]);
        let (reloads, asked) = Reloads::channel();
        let hosts = stack::hosts(config, &endpoints, &admin, &reloads);
        let max_connections = most_connections(config);
        Ok(Self {
            identity: Arc::new(Identity::of(&process, &instances)),
            hosts: VirtualHosts::new(&process, hosts),
            process,
            endpoints,
            admin,
            generated_admin_token,
            timing: Timing::of(config),
            connections: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            source: None,
            reloads,
            asked,
        })
    }

    /// Lets the configuration be read again while serving.
    pub fn reloading_from(self, source: Source) -> Self {
        Self { source: Some(source), ..self }
    }

    /// A way to ask for that.
    pub fn reloads(&self) -> Reloads {
        self.reloads.clone()
    }

    /// The admin token that was generated because none is configured, to be shown once.
    pub fn generated_admin_token(&self) -> Option<&Secret> {
        self.generated_admin_token.as_ref()
    }

    /// Whether there is something for an operator to see: `/debug`.
    pub fn has_admin(&self) -> bool {
        matches!(self.admin, Admin::Token(_))
    }

    /// The ten instances in order.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.endpoints.iter().map(|endpoint| &endpoint.instance)
    }

    /// What every request is answered with, for callers that bring a transport of their own: they say who
    /// is at the other end with [`of_connection`](layers::access_log::AccessLogged::of_connection), and call
    /// [`tick`](crate::session::store::SessionStore::tick) on the sessions and
    /// [`sweep`](crate::tenant::tasks::Tasks::sweep) on the tasks of every instance.
    pub fn stack(&self) -> Stack {
        self.stack_through(Port::Main)
    }

    fn stack_through(&self, port: Port) -> Stack {
        stack::outer(self.hosts.through(port), &self.identity)
    }

    /// Serves until `shutdown` completes, then drains: not ready and no new session at once, event
    /// streams closed, calls in flight finished or, after `shutdown.drain_seconds`, cut off.
    pub async fn run(
        mut self,
        listeners: impl Into<Listeners>,
        shutdown: impl Future<Output = ()>,
    ) -> Stopped {
        // Dropped, and so aborted, when this function returns.
        let mut tickers = JoinSet::new();
        for instance in self.instances() {
            tickers.spawn(tick(Arc::clone(instance)));
        }

        let Listeners { main, admin } = listeners.into();
        let main = Door {
            listener: Some(main),
            stack: self.stack_through(Port::Main),
            connections: Arc::clone(&self.connections),
        };
        let admin = Door {
            listener: admin,
            stack: self.stack_through(Port::Admin),
            connections: Arc::new(Semaphore::new(MAX_ADMIN_CONNECTIONS)),
        };

        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                guest = main.accept() => self.serve(guest),
                guest = admin.accept() => self.serve(guest),
                Some(answer) = self.asked.recv() => {
                    let outcome = self.reload();
                    // Whoever asked may have left; it is done all the same.
                    let _ = answer.send(outcome);
                }
            }
        }

        tracing::info!(
            drain_seconds = self.timing.drain.as_secs_f64(),
            "stopping: not ready, no new session"
        );
        // Whoever waits for a reload is told that there will be none.
        self.asked.close();
        while self.asked.try_recv().is_ok() {}
        let lifecycle = &self.process.lifecycle;
        self.process.events.note(EventKind::Draining, Subject::Process);
        lifecycle.drain();
        let mut deadline = pin!(sleep(self.timing.drain));
        let mut idle = pin!(lifecycle.idle());
        let stopped = loop {
            tokio::select! {
                () = &mut idle => break Stopped::Clean,
                () = &mut deadline => break Stopped::CutOff,
                // Still accepting, so that a readiness probe is told and not refused.
                guest = main.accept() => self.serve(guest),
                guest = admin.accept() => self.serve(guest),
            }
        };
        for instance in self.instances() {
            instance.state.sessions.end_all(EndReason::Shutdown).await;
        }
        tracing::info!(clean = stopped == Stopped::Clean, "stopped");
        stopped
    }

    fn serve(&self, Guest { stream, peer, permit, stack }: Guest) {
        let connection = Connection {
            process: Arc::clone(&self.process),
            stack,
            header_timeout: self.timing.header,
            peer,
        };
        let socket = Socket::new(stream, self.timing.write);
        self.process.lifecycle.spawn(connection.run(socket, permit));
    }

    /// Reads the configuration again and serves by it, or says why it does not.
    fn reload(&mut self) -> Result<Reloaded, NotReloaded> {
        match self.try_reload() {
            Ok(change) => {
                tracing::info!(applied = %change.applied.join(" "), "configuration reloaded");
                self.process.events.note(EventKind::Reloaded, Subject::Process);
                for held in &change.needs_restart {
                    let why = held.why;
                    tracing::warn!(key = %held.key, why, "a change waits for the next start");
                }
                Ok(change)
            }
            Err(error) => {
                tracing::error!(%error, "the configuration stays as it was");
                Err(error)
            }
        }
    }

    fn try_reload(&mut self) -> Result<Reloaded, NotReloaded> {
        let refused = |error: anyhow::Error| NotReloaded::Refused(format!("{error:#}"));
        let source = self.source.as_ref().ok_or(NotReloaded::NoSource)?;
        let read = (source.read)().and_then(|layers| layers.taking_over(&source.layers));
        let (layers, change) = read.map_err(|error| refused(error.into()))?;
        let config = layers.check().map_err(|error| refused(error.into()))?;
        let admin = self.admin.supersede(&config).map_err(refused)?;
        let before: Vec<_> = self.instances().cloned().collect();
        let instances = Instance::build_all(&config, &self.process, &before).map_err(refused)?;

        // From here on nothing can fail.
        let endpoints = Endpoint::build_all(&instances, &self.endpoints);
        for (endpoint, before) in endpoints.iter().zip(&self.endpoints) {
            endpoint.supersede(before);
        }
        self.hosts.replace(stack::hosts(&config, &endpoints, &admin, &self.reloads));
        (self.endpoints, self.admin, self.timing) = (endpoints, admin, Timing::of(&config));
        self.allow_connections(most_connections(&config));
        if let Some(source) = &mut self.source {
            source.layers = layers;
            if let Some(log) = &source.log {
                log.turn(config.log.level);
                log.reopen();
            }
        }
        Ok(change)
    }

    /// From now on so many connections may be open. Those that are stay, were it fewer.
    fn allow_connections(&mut self, most: usize) {
        let before = std::mem::replace(&mut self.max_connections, most);
        self.connections.add_permits(most.saturating_sub(before));
        let fewer = before.saturating_sub(most);
        let in_use = fewer - self.connections.forget_permits(fewer);
        let Some(in_use) = u32::try_from(in_use).ok().filter(|count| *count > 0) else { return };
        // The next to close are not followed by others: this stands in the queue before the next to come.
        let mut closed = Box::pin(Arc::clone(&self.connections).acquire_many_owned(in_use));
        if let Some(Ok(permits)) = closed.as_mut().now_or_never() {
            return permits.forget();
        }
        let process = Arc::clone(&self.process);
        self.process.lifecycle.spawn(async move {
            tokio::select! {
                Ok(permits) = closed => permits.forget(),
                () = process.lifecycle.closing().cancelled() => {}
            }
        });
    }
}

fn most_connections(config: &Config) -> usize {
    config.http.max_connections.min(Semaphore::MAX_PERMITS)
}

/// A port, what is served there, and how many connections it may have.
struct Door {
    listener: Option<TcpListener>,
    stack: Stack,
    connections: Arc<Semaphore>,
}

/// A connection that has been accepted.
struct Guest {
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    stack: Stack,
}

impl Door {
    /// The next connection; waits while as many are open as may be.
    async fn accept(&self) -> Guest {
        // A port that is not there has no visitors.
        let Some(listener) = &self.listener else { return std::future::pending().await };
        loop {
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else {
                // The semaphore is never closed.
                return std::future::pending().await;
            };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    return Guest { stream, peer, permit, stack: self.stack.clone() };
                }
                Err(error) => {
                    // Out of file descriptors, most likely: others must close before this helps.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// Lets one instance's idle sessions end, and keeps busy ones from it, a few times per timeout. Each
/// instance has its own, so that none waits for another that has a great many to remove.
async fn tick(instance: Arc<Instance>) {
    // A session may have been told to live as short as a second.
    let often = Duration::from_millis(250);
    let period = (instance.policy.config.session.timeout_seconds.get() / 4).min(often);
    let mut interval = interval(period.max(Duration::from_millis(10)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        instance.state.sessions.tick().await;
        instance.state.tasks.sweep();
    }
}

/// One connection and what its requests are answered with.
struct Connection {
    process: Arc<Process>,
    stack: Stack,
    header_timeout: Duration,
    peer: SocketAddr,
}

impl Connection {
    /// Serves it to its end. What most connections do not need is in boxes: there may be many.
    async fn run(self, socket: Socket, _permit: OwnedSemaphorePermit) {
        let _open = self.process.counters.connections.open();
        let peer = self.peer;
        let result = match Box::pin(self.speaks_http2(&socket)).await {
            Some(true) => Box::pin(self.http2(socket)).await,
            Some(false) => self.http1(socket).await,
            None => return,
        };
        if let Err(error) = result {
            // A broken connection is the peer's business; its requests have been logged.
            tracing::debug!(%peer, %error, "connection ended early");
        }
    }

    /// Whether it opens with HTTP/2; `None` if it should be closed.
    async fn speaks_http2(&self, socket: &Socket) -> Option<bool> {
        let lifecycle = &self.process.lifecycle;
        let draining = lifecycle.is_draining();
        tokio::select! {
            opening = timeout(self.header_timeout, speaks_http2(socket.stream())) => opening.ok()?,
            // Nothing has been asked on it, so there is nothing to finish.
            () = lifecycle.closing().cancelled(), if !draining => None,
        }
    }

    async fn http1(self, socket: Socket) -> hyper::Result<()> {
        let Self { process, stack, header_timeout, peer } = self;
        let idle_watch = Arc::new(IdleWatch::new(process.clock));
        let stack = stack.of_connection(peer.ip(), Some(Arc::clone(&idle_watch)));
        let draining = process.lifecycle.is_draining();
        let connection = http1::Builder::new()
            // See `http::idle_watch`.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD_BYTES)
            // Hyper would close a connection that was accepted while draining before its first request.
            .keep_alive(!draining)
            .serve_connection(TokioIo::new(socket), service(stack));
        let mut connection = pin!(connection);
        let mut stopped = pin!(idle_watch.stopped(header_timeout));
        let mut closing = pin!(process.lifecycle.closing().cancelled());
        let mut asked = false;
        // All connections share one `closing`, behind a lock, and this is polled at every request: so it is
        // asked once, to wake this task, and again when the answer is known.
        let ended = poll_fn(|cx| {
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(result));
            }
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(Ok(())));
            }
            let ask = !draining
                && (!std::mem::replace(&mut asked, true) || process.lifecycle.is_draining());
            match ask && closing.as_mut().poll(cx).is_ready() {
                true => Poll::Ready(None),
                false => Poll::Pending,
            }
        });
        match ended.await {
            Some(result) => result,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    }

    async fn http2(self, socket: Socket) -> hyper::Result<()> {
        let Self { process, stack, header_timeout, peer } = self;
        let connection = http2::Builder::new(Tracked(Arc::clone(&process)))
            .timer(TokioTimer::new())
            // Asks the peer whether it is there.
            .keep_alive_interval(header_timeout)
            .max_concurrent_streams(256)
            .serve_connection(TokioIo::new(socket), service(stack.of_connection(peer.ip(), None)));
        let mut connection = pin!(connection);
        tokio::select! {
            result = &mut connection => return result,
            () = process.lifecycle.closing().cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }
}

/// The stack as hyper calls it.
fn service(
    stack: Stack,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = <Stack as Service<Request<Body>>>::Response,
    Error = std::convert::Infallible,
    Future = <Stack as Service<Request<Body>>>::Future,
> {
    service_fn(move |request: Request<Incoming>| stack.clone().call(request.map(Body::new)))
}

/// Whether a connection opens with HTTP/2; `None` if it closes first. Nothing is taken from the stream.
async fn speaks_http2(stream: &TcpStream) -> Option<bool> {
    let mut opening = [0; HTTP2_PREFACE.len()];
    loop {
        let read = stream.peek(&mut opening).await.ok()?;
        if read == 0 {
            return None;
        }
        if opening[..read] != HTTP2_PREFACE[..read] {
            return Some(false);
        }
        if read == opening.len() {
            return Some(true);
        }
        // Part of a preface: peeking again at once would find the same bytes.
        sleep(Duration::from_millis(10)).await;
    }
}

/// Runs the streams of HTTP/2 connections as tracked tasks.
#[derive(Clone)]
struct Tracked(Arc<Process>);

impl<F> Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.lifecycle.spawn(stream);
    }
}
