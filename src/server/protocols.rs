//! Which protocol a connection speaks, and how each is served.
//!
//! Owns [`Protocols`], hyper's settings for both, with the limits of a request's head, and [`Served`], a connection in one
//! of them.
//! Trap: reading the opening takes the first head of HTTP/1 apart, and hyper doubles its buffer for the rest: 4 KiB more
//! for each connection that is kept. So the first bytes are looked at, and read only where they may be HTTP/2's.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Request;
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tower::Service;

use super::{socket::Socket, stack::Stack};
use crate::{
    http::{head_bytes, idle_watch::IdleWatch, pace::Paced, quiet::TaskWaker},
    process::Process,
};

/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request head beyond this is answered with 431, in both protocols. Bytes, as HTTP/1 writes them.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// So is one with more lines.
const MAX_HEAD_LINES: usize = 100;

/// What HTTP/2 counts beside the text of such a head: 32 bytes a line, of which it has four more (RFC 9113 §6.5.2).
const HTTP2_OVERHEAD: usize = 32 * (MAX_HEAD_LINES + 4) + MAX_HEAD_LINES;

/// Whether a head is within these limits. hyper and h2 read no more than that either, but for what they happen to have
/// room for, and h2 does not count lines.
pub(super) fn head_fits<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    headers.len() <= MAX_HEAD_LINES && head_bytes(headers, request.uri()) <= MAX_HEAD_BYTES
}

/// Requests that one HTTP/2 connection may have under way.
const MAX_STREAMS: u32 = 256;

/// How both are served.
#[derive(Debug)]
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<Tracked>,
}

impl Protocols {
    /// With HTTP/1 connections that end after one answer, or do not; HTTP/2 connections whose peers are asked so often
    /// whether they are there; and streams that are reset when their peer takes nothing for `write_timeout`.
    pub(super) fn new(
        process: &Arc<Process>,
        keep_alive: bool,
        ping_interval: Duration,
        write_timeout: Duration,
    ) -> Self {
        let mut http1 = http1::Builder::new();
        // For the deadline of a head see `http::idle_watch`.
        http1.header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES).keep_alive(keep_alive);
        let mut http2 =
            http2::Builder::new(Tracked { process: Arc::clone(process), write_timeout });
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(ping_interval)
            .max_header_list_size(
                u32::try_from(MAX_HEAD_BYTES + HTTP2_OVERHEAD).unwrap_or(u32::MAX),
            )
            .max_concurrent_streams(MAX_STREAMS);
        Self { http1, http2 }
    }
}

/// What a connection is made of.
pub(super) struct Parts {
    pub(super) protocols: Arc<Protocols>,
    pub(super) socket: Socket,
    pub(super) stack: Stack,
    pub(super) watch: Arc<IdleWatch>,
}

pin_project! {
    /// A connection that is served; completes when it has ended.
    #[project = ServedProjection]
    #[must_use = "futures do nothing unless polled"]
    pub(super) enum Served {
        /// It has not said which protocol it speaks.
        Opening { parts: Option<Parts> },
        Http1 {
            #[pin]
            connection: http1::Connection<TokioIo<Socket>, Requests>,
            waker: Arc<TaskWaker>,
        },
        /// In a box: HTTP/2 has twice the state of HTTP/1, and most connections do without.
        Http2 {
            connection: Pin<Box<http2::Connection<TokioIo<Socket>, Requests, Tracked>>>,
            watch: Arc<IdleWatch>,
            // Whether the streams that were ready have had their turn.
            waited: bool,
        },
    }
}

impl Served {
    pub(super) fn new(parts: Parts) -> Self {
        Self::Opening { parts: Some(parts) }
    }

    /// Ends it when what has been asked is answered; at once if it has not said which protocol it speaks.
    pub(super) fn graceful_shutdown(self: Pin<&mut Self>) {
        match self.project() {
            ServedProjection::Opening { parts } => *parts = None,
            ServedProjection::Http1 { connection, .. } => connection.graceful_shutdown(),
            ServedProjection::Http2 { connection, .. } => connection.as_mut().graceful_shutdown(),
        }
    }
}

impl Future for Served {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        loop {
            let next = match self.as_mut().project() {
                ServedProjection::Http1 { connection, waker } => {
                    return connection.poll(&mut Context::from_waker(&waker.of(cx)));
                }
                ServedProjection::Http2 { connection, watch, waited } => {
                    // The first stream that answers wakes this task, which would run next and send that answer alone. So
                    // it goes to the end of the queue once, behind all other streams that are ready.
                    *waited = !*waited && watch.under_way() > 1;
                    if *waited {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    return connection.as_mut().poll(cx);
                }
                ServedProjection::Opening { parts } => {
                    let Some(Parts { socket, .. }) = parts else { return Poll::Ready(Ok(())) };
                    let opening = ready!(socket.poll_opens_with(HTTP2_PREFACE, cx));
                    // A peer that is gone before it has said anything has asked nothing.
                    let (Ok(is_http2), Some(parts)) = (opening, parts.take()) else {
                        return Poll::Ready(Ok(()));
                    };
                    let Parts { protocols, mut socket, stack, watch } = parts;
                    let requests = Requests(stack);
                    if is_http2 {
                        if socket.widen().is_err() {
                            return Poll::Ready(Ok(()));
                        }
                        let socket = TokioIo::new(socket);
                        let connection = protocols.http2.serve_connection(socket, requests);
                        Self::Http2 { connection: Box::pin(connection), watch, waited: false }
                    } else {
                        let socket = TokioIo::new(socket.watched(watch));
                        let connection = protocols.http1.serve_connection(socket, requests);
                        Self::Http1 { connection, waker: TaskWaker::new() }
                    }
                }
            };
            self.set(next);
        }
    }
}

/// The stack as hyper calls it.
pub(super) struct Requests(Stack);

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = <Stack as Service<Request<Incoming>>>::Response;
    type Error = Infallible;
    type Future = <Stack as Service<Request<Incoming>>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.0.answer(request)
    }
}

/// Runs the streams of HTTP/2 connections as tracked tasks, each with its deadline for writes.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    process: Arc<Process>,
    write_timeout: Duration,
}

impl<F> Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Process { lifecycle, clock, .. } = &*self.process;
        lifecycle.spawn_unboxed(Paced::new(stream, *clock, self.write_timeout));
    }
}
