//! The running server: build the ten instances, accept, drain.
//!
//! Owns the accept loop, the connection limits and the two stages of a stop. `Server::build` is where
//! everything that can fail does, before a port is open; `Server::run` is the only way to serve, for the
//! program and for the tests. Refuses to know what is in a request.
//! Traps: hyper puts no time on the first bytes of a connection; a graceful shutdown waits for ever on
//! an open event stream unless the stream is told.

mod socket;

use std::{future::poll_fn, net::SocketAddr, pin::pin, sync::Arc, task::Poll, time::Duration};

use axum::body::Body;
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
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tower::Service;

use self::socket::Socket;
use crate::{
    admin::{self, Admin},
    config::{Config, Secret},
    http::{self as layers, Stack, access_log::Identity, pulse::Pulse, vhost::VirtualHosts},
    instance::{Instance, Process},
    session::EndReason,
    telemetry::access::AccessLog,
};

/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request head beyond this is answered with 431. Bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Ten instances, ready to serve.
#[derive(Debug)]
pub struct Server {
    process: Arc<Process>,
    instances: Vec<Arc<Instance>>,
    stack: Stack,
    generated_admin_token: Option<Secret>,
    header_timeout: Duration,
    write_timeout: Duration,
    drain: Duration,
    connections: Arc<Semaphore>,
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
        let process = Process { log: access_log.clone(), ..Process::build(config)? };
        let process = Arc::new(process);
        let (admin, generated_admin_token) = Admin::build(config)?;
        let instances = Instance::build_all(config, &process)?;
        let tenants = instances.iter().map(|instance| layers::tenant(instance, &admin)).collect();
        let overview = layers::overview(admin::router(&admin, &instances));
        let hosts = VirtualHosts::build(&config.hosts, &process, tenants, overview);
        Ok(Self {
            stack: layers::outer(hosts, Identity::of(&process, &instances, access_log)),
            process,
            instances,
            generated_admin_token,
            header_timeout: config.http.header_timeout_seconds.get(),
            write_timeout: config.http.write_timeout_seconds.get(),
            drain: config.shutdown.drain_seconds.get(),
            connections: Arc::new(Semaphore::new(
                config.http.max_connections.min(Semaphore::MAX_PERMITS),
            )),
        })
    }

    /// The admin token that was generated because none is configured, to be shown once.
    pub fn generated_admin_token(&self) -> Option<&Secret> {
        self.generated_admin_token.as_ref()
    }

    /// The ten instances in order.
    pub fn instances(&self) -> &[Arc<Instance>] {
        &self.instances
    }

    /// What every request is answered with, for callers that bring a transport of their own: they say who
    /// is at the other end with [`of_connection`](layers::access_log::AccessLogged::of_connection), and call
    /// [`tick`](crate::session::store::SessionStore::tick) on the sessions and
    /// [`sweep`](crate::tasks::Tasks::sweep) on the tasks of every instance.
    pub fn stack(&self) -> Stack {
        self.stack.clone()
    }

    /// Serves until `shutdown` completes, then drains: not ready and no new session at once, event
    /// streams closed, calls in flight finished or, after `shutdown.drain_seconds`, cut off.
    pub async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Stopped {
        // Dropped, and so aborted, when this function returns.
        let mut tickers = JoinSet::new();
        for instance in &self.instances {
            tickers.spawn(tick(Arc::clone(instance)));
        }

        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                (stream, peer, permit) = self.accept(&listener) => self.serve(stream, peer, permit),
            }
        }

        tracing::info!(
            drain_seconds = self.drain.as_secs_f64(),
            "stopping: not ready, no new session"
        );
        let lifecycle = &self.process.lifecycle;
        lifecycle.drain();
        let mut deadline = pin!(sleep(self.drain));
        let mut idle = pin!(lifecycle.idle());
        let stopped = loop {
            tokio::select! {
                () = &mut idle => break Stopped::Clean,
                () = &mut deadline => break Stopped::CutOff,
                // Still accepting, so that a readiness probe is told and not refused.
                (stream, peer, permit) = self.accept(&listener) => self.serve(stream, peer, permit),
            }
        };
        for instance in &self.instances {
            instance.sessions.end_all(EndReason::Shutdown).await;
        }
        tracing::info!(clean = stopped == Stopped::Clean, "stopped");
        stopped
    }

    /// The next connection; waits while as many are open as may be.
    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else {
                // The semaphore is never closed.
                std::future::pending().await
            };
            match listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, permit),
                Err(error) => {
                    // Out of file descriptors, most likely: others must close before this helps.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let connection = Connection {
            process: Arc::clone(&self.process),
            stack: self.stack.clone(),
            header_timeout: self.header_timeout,
            peer,
        };
        let socket = Socket::new(stream, self.write_timeout);
        self.process.lifecycle.spawn(connection.run(socket, permit));
    }
}

/// Lets one instance's idle sessions end, and keeps busy ones from it, a few times per timeout. Each
/// instance has its own, so that none waits for another that has a great many to remove.
async fn tick(instance: Arc<Instance>) {
    // A session may have been told to live as short as a second.
    let often = Duration::from_millis(250);
    let period = (instance.policy.session.timeout_seconds.get() / 4).min(often);
    let mut interval = interval(period.max(Duration::from_millis(10)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        instance.sessions.tick().await;
        instance.tasks.sweep();
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
        let pulse = Arc::new(Pulse::new(process.clock));
        let stack = stack.of_connection(peer.ip(), Some(Arc::clone(&pulse)));
        let draining = process.lifecycle.is_draining();
        let connection = http1::Builder::new()
            // See `http::pulse`.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD_BYTES)
            // Hyper would close a connection that was accepted while draining before its first request.
            .keep_alive(!draining)
            .serve_connection(TokioIo::new(socket), service(stack));
        let mut connection = pin!(connection);
        let mut stopped = pin!(pulse.stopped(header_timeout));
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
