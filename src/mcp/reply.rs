//! What goes back to the client: nothing, one JSON document, or a stream of events.
//!
//! Owns [`Reply`] and [`EventStream`], the body of an open stream: its keep-alive comments, its end with
//! the session or the process. Refuses to produce frames by itself; they come through a bounded channel.
//! Trap: a reader that is gone is only noticed when the body is dropped, so what must happen then hangs
//! on a guard inside the body.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body::Frame;
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::sse;
use crate::session::SessionId;

/// The header that carries a session id.
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");

/// Tells nginx and others not to hold events back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The form of an answer.
#[derive(Debug)]
pub enum Reply {
    /// A notification or response was taken: 202.
    Accepted,
    /// Done, nothing to say: 204.
    NoContent,
    /// One JSON document.
    Json(Bytes),
    /// Events that are all known already.
    Events(Bytes),
    /// Events as they come.
    Stream(EventStream),
}

impl Reply {
    /// The response, with the id of the session it belongs to.
    pub fn into_response(self, session: Option<SessionId>) -> Response {
        let (status, body, content_type) = match self {
            Self::Accepted => (StatusCode::ACCEPTED, Body::empty(), None),
            Self::NoContent => (StatusCode::NO_CONTENT, Body::empty(), None),
            Self::Json(bytes) => (StatusCode::OK, Body::from(bytes), Some("application/json")),
            Self::Events(bytes) => (StatusCode::OK, Body::from(bytes), Some("text/event-stream")),
            Self::Stream(events) => (StatusCode::OK, Body::new(events), Some("text/event-stream")),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            if content_type == "text/event-stream" {
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
            }
        }
        if let Some(id) = session
            && let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(id.to_string()))
        {
            headers.insert(SESSION_HEADER, value);
        }
        response
    }
}

/// The body of an open event stream.
#[derive(Debug)]
pub struct EventStream {
    frames: mpsc::Receiver<Bytes>,
    keep_alive: Duration,
    quiet: Pin<Box<Sleep>>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    closed: bool,
    _guard: Guard,
}

/// Dropped with the stream; what it does then is its maker's business.
type Guard = Box<dyn std::any::Any + Send>;

impl EventStream {
    /// A stream of the frames that come through the channel, until its sender is dropped or `closing` is
    /// cancelled. `guard` is dropped with it.
    pub fn new(
        frames: mpsc::Receiver<Bytes>,
        keep_alive: Duration,
        closing: CancellationToken,
        guard: impl std::any::Any + Send,
    ) -> Self {
        Self {
            frames,
            keep_alive,
            quiet: Box::pin(sleep(keep_alive)),
            closing: Box::pin(closing.cancelled_owned()),
            closed: false,
            _guard: Box::new(guard),
        }
    }
}

impl http_body::Body for EventStream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.closed {
            return Poll::Ready(None);
        }
        // Frames first: what was sent before the end still goes out.
        match self.frames.poll_recv(cx) {
            Poll::Ready(Some(frame)) => {
                let next = Instant::now() + self.keep_alive;
                self.quiet.as_mut().reset(next);
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        if self.closing.as_mut().poll(cx).is_ready() {
            self.closed = true;
            return Poll::Ready(Some(Ok(Frame::data(sse::CLOSING))));
        }
        if self.quiet.as_mut().poll(cx).is_ready() {
            let next = Instant::now() + self.keep_alive;
            self.quiet.as_mut().reset(next);
            return Poll::Ready(Some(Ok(Frame::data(sse::KEEP_ALIVE))));
        }
        Poll::Pending
    }
}
