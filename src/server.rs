//! The running server: build the ten instances, accept, drain.
//!
//! Owns the accept loop, the connection limits and the two stages of a stop. `Server::build` is where
//! everything that can fail does, before a port is open; `Server::run` is the only way to serve, for the
//! program and for the tests. Refuses to know what is in a request.
//! Traps: hyper puts no time on the first bytes of a connection; a graceful shutdown waits for ever on
//! an open event stream unless the stream is told.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

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

use crate::{
    admin::{self, Admin},
    config::{Config, Secret},
    http::{self as layers, Peer, Stack, vhost::VirtualHosts},
    instance::{Instance, Process},
    place::InstanceId,
    session::EndReason,
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
    pub fn build(config: &Config) -> anyhow::Result<Self> {
        let process = Arc::new(Process::build(config)?);
        let (admin, generated_admin_token) = Admin::build(config)?;
        let instances = InstanceId::all()
            .map(|id| Instance::build(id, config, &process).map(Arc::new))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let routers = instances.iter().map(|instance| layers::instance(instance, &admin)).collect();
        let overview = layers::overview(admin::router(&admin, &instances));
        let hosts = VirtualHosts::build(&config.hosts, &process, routers, overview);
        Ok(Self {
            stack: layers::application(hosts, &process),
            process,
            instances,
            generated_admin_token,
            header_timeout: config.http.header_timeout_seconds.get(),
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

    /// What every request is answered with, for callers that bring a transport of their own: put the
    /// [`Peer`] into each request, and call [`tick`](crate::session::store::SessionStore::tick) on the
    /// sessions and [`sweep`](crate::tasks::Tasks::sweep) on the tasks of every instance.
    pub fn stack(&self) -> Stack {
        self.stack.clone()
    }

    /// Serves until `shutdown` completes, then drains: not ready and no new session at once, event
    /// streams closed, calls in flight finished or, after `shutdown.drain_seconds`, cut off.
    pub async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Stopped {
        // Dropped, and so aborted, when this function returns.
        let mut ticker = JoinSet::new();
        ticker.spawn(tick(self.instances.clone()));

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
        self.process.lifecycle.spawn(async move {
            connection.run(stream).await;
            drop(permit);
        });
    }
}

/// Lets idle sessions end, and keeps busy ones from it, a few times per timeout.
async fn tick(instances: Vec<Arc<Instance>>) {
    let shortest =
        instances.iter().map(|instance| instance.policy.session.timeout_seconds.get()).min();
    // A session may have been told to live as short as a second.
    let often = Duration::from_millis(250);
    let period = shortest.map_or(often, |shortest| (shortest / 4).min(often));
    let mut interval = interval(period.max(Duration::from_millis(10)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        for instance in &instances {
            instance.sessions.tick();
            instance.tasks.sweep();
        }
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
    async fn run(self, stream: TcpStream) {
        // An answer is one small write; without this it would wait for the next one.
        let _ = stream.set_nodelay(true);
        let Self { process, stack, header_timeout, peer } = self;
        let draining = process.lifecycle.is_draining();
        let http2 = tokio::select! {
            opening = timeout(header_timeout, speaks_http2(&stream)) => match opening {
                Ok(Some(http2)) => http2,
                Ok(None) | Err(_) => return,
            },
            // Nothing has been asked on it, so there is nothing to finish.
            () = process.lifecycle.closing().cancelled(), if !draining => return,
        };
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            stack.clone().call(request)
        });
        let io = TokioIo::new(stream);
        let lifecycle = &process.lifecycle;
        // A broken connection is the peer's business; its requests have been logged.
        let result = if http2 {
            let connection = http2::Builder::new(Tracked(Arc::clone(&process)))
                .timer(TokioTimer::new())
                .keep_alive_interval(header_timeout)
                .max_concurrent_streams(256)
                .serve_connection(io, service);
            let mut connection = pin!(connection);
            tokio::select! {
                result = &mut connection => result,
                () = lifecycle.closing().cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        } else {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(header_timeout)
                .max_buf_size(MAX_HEAD_BYTES)
                // Hyper would close a connection that was accepted while draining before its first request.
                .keep_alive(!lifecycle.is_draining())
                .serve_connection(io, service);
            let mut connection = pin!(connection);
            let draining = lifecycle.is_draining();
            tokio::select! {
                result = &mut connection => result,
                () = lifecycle.closing().cancelled(), if !draining => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "connection ended early");
        }
    }
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
