//! Which protocol a connection speaks, and how each is served.
//!
//! Owns [`Protocols`], hyper's settings for both, and [`Served`], a connection in one of them. What opens in HTTP/1 is
//! served as such; what may be HTTP/2 is left to hyper-util's automatic connection, which reads until it knows.
//! Trap: reading the opening takes the first head of HTTP/1 apart, and hyper doubles its buffer for the rest: 4 KiB more
//! for each connection that is kept. So the first bytes are looked at, once, and not read.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use http::Request;
use hyper::{body::Incoming, rt::Executor, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use pin_project_lite::pin_project;
use tokio::io::ReadBuf;
use tower::Service;

use super::{socket::Socket, stack::Stack};
use crate::process::Process;

/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request head beyond this is answered with 431. Bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Requests that one HTTP/2 connection may have under way.
const MAX_STREAMS: u32 = 256;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// How both are served.
#[derive(Debug)]
pub(super) struct Protocols {
    http1: http1::Builder,
    either: auto::Builder<Tracked>,
}

impl Protocols {
    /// With HTTP/1 connections that end after one answer, or do not, and HTTP/2 connections whose peers are asked so
    /// often whether they are there.
    pub(super) fn new(process: &Arc<Process>, keep_alive: bool, ping_interval: Duration) -> Self {
        let mut http1 = http1::Builder::new();
        // For the deadline of a head see `http::idle_watch`.
        http1.header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES).keep_alive(keep_alive);
        let mut either = auto::Builder::new(Tracked(Arc::clone(process)));
        let mut as_http1 = either.http1();
        as_http1.header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES).keep_alive(keep_alive);
        either
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(ping_interval)
            .max_concurrent_streams(MAX_STREAMS);
        Self { http1, either }
    }
}

pin_project! {
    /// A connection that is served; completes when it has ended.
    #[project = ServedProjection]
    #[must_use = "futures do nothing unless polled"]
    pub(super) enum Served {
        /// Nothing has come.
        Opening { protocols: Arc<Protocols>, parts: Option<(Socket, Stack)> },
        Http1 { #[pin] connection: http1::Connection<TokioIo<Socket>, Requests> },
        /// In a box: HTTP/2 has twice the state of HTTP/1, and most connections do without.
        Either { connection: Pin<Box<auto::Connection<'static, TokioIo<Socket>, Requests, Tracked>>> },
    }
}

impl Served {
    pub(super) fn new(protocols: Arc<Protocols>, socket: Socket, stack: Stack) -> Self {
        Self::Opening { protocols, parts: Some((socket, stack)) }
    }

    /// Ends it when what has been asked is answered; at once if it has not said which protocol it speaks.
    pub(super) fn graceful_shutdown(self: Pin<&mut Self>) {
        match self.project() {
            ServedProjection::Opening { parts, .. } => *parts = None,
            ServedProjection::Http1 { connection } => connection.graceful_shutdown(),
            ServedProjection::Either { connection } => connection.as_mut().graceful_shutdown(),
        }
    }
}

impl Future for Served {
    type Output = Result<(), Failed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        loop {
            let next = match self.as_mut().project() {
                ServedProjection::Http1 { connection } => {
                    return connection.poll(cx).map_err(Into::into);
                }
                ServedProjection::Either { connection } => return connection.as_mut().poll(cx),
                ServedProjection::Opening { protocols, parts } => {
                    let Some((socket, _)) = parts else { return Poll::Ready(Ok(())) };
                    let may_be_http2 = ready!(may_be_http2(socket, cx))?;
                    let Some((socket, stack)) = parts.take() else { return Poll::Ready(Ok(())) };
                    let (socket, requests) = (TokioIo::new(socket), Requests(stack));
                    if may_be_http2 {
                        let connection = protocols.either.serve_connection(socket, requests);
                        Self::Either { connection: Box::pin(connection.into_owned()) }
                    } else {
                        let connection = protocols.http1.serve_connection(socket, requests);
                        Self::Http1 { connection }
                    }
                }
            };
            self.set(next);
        }
    }
}

/// Whether what has come first is the beginning of HTTP/2's preface, or all of it.
fn may_be_http2(socket: &Socket, cx: &mut Context<'_>) -> Poll<std::io::Result<bool>> {
    let mut opening = [0; HTTP2_PREFACE.len()];
    let mut opening = ReadBuf::new(&mut opening);
    let come = ready!(socket.stream().poll_peek(cx, &mut opening))?;
    Poll::Ready(Ok(come > 0 && HTTP2_PREFACE.starts_with(opening.filled())))
}

/// The stack as hyper calls it.
pub(super) struct Requests(Stack);

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
pub(super) struct Tracked(Arc<Process>);

impl<F> Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.lifecycle.spawn(stream);
    }
}
