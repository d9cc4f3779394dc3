//! One connection from its first byte to its end, in HTTP/1 or HTTP/2.
//!
//! Owns which of the two is spoken, the deadline for request heads, and how a connection ends: by its peer, by that
//! deadline, or by a shutdown, which lets what is being answered finish.
//! Traps: hyper puts no time on the first bytes of a connection; a graceful shutdown waits for ever on an open event
//! stream unless the stream is told.

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
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};
use tower::Service;

use super::{socket::Socket, stack::Stack};
use crate::{http::idle_watch::IdleWatch, process::Process};

/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request head beyond this is answered with 431. Bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// One connection and what its requests are answered with.
pub(super) struct Connection {
    pub process: Arc<Process>,
    pub stack: Stack,
    pub header_timeout: Duration,
    pub peer: SocketAddr,
}

impl Connection {
    /// Serves it to its end. What most connections do not need is in boxes: there may be many.
    pub(super) async fn run(self, socket: Socket, _permit: OwnedSemaphorePermit) {
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
