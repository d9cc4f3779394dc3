//! One connection from its first byte to its end, in HTTP/1 or HTTP/2.
//!
//! Owns [`Settings`], which every new connection is served by, and how a connection ends: by its peer, by the deadline
//! for request heads, or by a shutdown, which lets what is being answered finish. hyper-util finds out which protocol
//! is spoken, by the first bytes.
//! Traps: hyper puts no time on the first bytes of a connection; a graceful shutdown waits for ever on an open event
//! stream unless the stream is told, and ends at once where the protocol is not known yet.

use std::{
    convert::Infallible,
    mem::replace,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use http::Request;
use hyper::{body::Incoming, rt::Executor};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use pin_project_lite::pin_project;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tower::Service;

use super::{accept::Accepted, socket::Socket, stack::Stack};
use crate::{
    config::HttpConfig,
    http::idle_watch::{Idle, IdleWatch},
    observe::metrics::Open,
    process::Process,
};

/// A request head beyond this is answered with 431. Bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Requests that one HTTP/2 connection may have under way.
const MAX_STREAMS: u32 = 256;

/// What a connection that has never had a request has to take its leave, beyond the deadline for heads.
const GOODBYE: Duration = Duration::from_secs(1);

/// What all connections that are accepted from now on have in common.
#[derive(Debug)]
pub(super) struct Settings {
    process: Arc<Process>,
    header_timeout: Duration,
    write_timeout: Duration,
    draining: bool,
    protocols: auto::Builder<Tracked>,
}

impl Settings {
    /// As configured.
    pub(super) fn new(process: &Arc<Process>, config: &HttpConfig) -> Self {
        Self::with(
            Arc::clone(process),
            config.header_timeout_seconds.get(),
            config.write_timeout_seconds.get(),
            false,
        )
    }

    /// The same for those that come while the server drains: they get one answer each.
    pub(super) fn while_draining(&self) -> Self {
        Self::with(Arc::clone(&self.process), self.header_timeout, self.write_timeout, true)
    }

    fn with(
        process: Arc<Process>,
        header_timeout: Duration,
        write_timeout: Duration,
        draining: bool,
    ) -> Self {
        let mut protocols = auto::Builder::new(Tracked(Arc::clone(&process)));
        protocols
            .http1()
            // See `http::idle_watch`.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD_BYTES)
            .keep_alive(!draining);
        protocols
            .http2()
            .timer(TokioTimer::new())
            // Asks the peer whether it is there.
            .keep_alive_interval(header_timeout)
            .max_concurrent_streams(MAX_STREAMS);
        Self { process, header_timeout, write_timeout, draining, protocols }
    }
}

pin_project! {
    /// A connection that is served; completes when it has ended. Written out, since an `async fn` would keep its
    /// arguments beside what becomes of them, and there may be thousands.
    #[must_use = "futures do nothing unless polled"]
    pub(super) struct Connection {
        #[pin]
        inner: auto::Connection<'static, TokioIo<Socket>, Requests, Tracked>,
        #[pin]
        idle: Idle,
        #[pin]
        closing: WaitForCancellationFutureOwned,
        settings: Arc<Settings>,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
        open: Open,
        // Whether `closing` has been asked once.
        asked: bool,
        // Whether it has been told to end.
        leaving: bool,
    }
}

impl Connection {
    pub(super) fn new(settings: Arc<Settings>, accepted: Accepted) -> Self {
        let Accepted { stream, peer, permit, stack } = accepted;
        let process = &settings.process;
        let watch = Arc::new(IdleWatch::new(process.clock));
        let requests = Requests(stack.of_connection(peer.ip(), Some(Arc::clone(&watch))));
        let socket = TokioIo::new(Socket::new(stream, settings.write_timeout));
        Self {
            inner: settings.protocols.serve_connection(socket, requests).into_owned(),
            idle: watch.idle_for(settings.header_timeout),
            closing: process.lifecycle.closing().clone().cancelled_owned(),
            peer,
            permit,
            open: process.counters.connections.open(),
            asked: false,
            leaving: false,
            settings,
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let lifecycle = &this.settings.process.lifecycle;
        loop {
            if let Poll::Ready(result) = this.inner.as_mut().poll(cx) {
                // One that is told to end before it has said which protocol it speaks ends with an error.
                if let Err(error) = result
                    && !*this.leaving
                {
                    // A broken connection is the peer's business; its requests have been logged.
                    tracing::debug!(peer = %this.peer, %error, "connection ended early");
                }
                return Poll::Ready(());
            }
            let too_long = this.idle.as_mut().poll(cx).is_ready();
            let used = this.idle.watch().was_used();
            if *this.leaving {
                // What has been asked is answered first. Where nothing has been, a head may have begun.
                return if too_long && !used { Poll::Ready(()) } else { Poll::Pending };
            }
            // All connections share one `closing`, behind a lock, and this is polled at every request: so it is
            // asked once, to wake this task, and again when the answer is known. A connection that came while
            // draining has its first request answered.
            let ask = (!this.settings.draining || used)
                && (!replace(this.asked, true) || lifecycle.is_draining());
            let should_end = too_long || (ask && this.closing.as_mut().poll(cx).is_ready());
            if !should_end {
                return Poll::Pending;
            }
            *this.leaving = true;
            let watch = Arc::clone(this.idle.watch());
            let patience = this.settings.header_timeout.saturating_add(GOODBYE);
            this.idle.set(watch.idle_for(patience));
            this.inner.as_mut().graceful_shutdown();
        }
    }
}

/// The stack as hyper calls it.
struct Requests(Stack);

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = <Stack as Service<Request<Body>>>::Response;
    type Error = Infallible;
    type Future = <Stack as Service<Request<Body>>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.0.clone().call(request.map(Body::new))
    }
}

/// Runs the streams of HTTP/2 connections as tracked tasks.
#[derive(Clone, Debug)]
struct Tracked(Arc<Process>);

impl<F> Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.lifecycle.spawn(stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        // What tokio adds to a task; both together take 2 KiB of the allocator, or else 2.5.
        let task = size_of::<Connection>() + 104;
        assert!(task <= 2048, "there may be thousands of them, of {task} bytes each");
    }
}
