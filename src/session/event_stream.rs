//! The HTTP body that reads an event log.
//!
//! Owns [`EventStream`], with its keep-alive comments, what is said first after a gap, and the farewell.
//! Trap: a client that has gone away is noticed only when its body is dropped. What must happen then is done by a guard
//! inside the body.

use std::{
    any::Any,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::stream::EventLog;
use crate::wire::sse;

/// The body of a response that is an event stream.
#[derive(Debug)]
pub(crate) struct EventStream {
    log: Arc<EventLog>,
    reader: u64,
    /// Sent first: how many events before the first one are no longer kept.
    gap: Option<Bytes>,
    keep_alive: Duration,
    quiet: Pin<Box<Sleep>>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    farewell: Bytes,
    /// What a reader that was cut off is told; nothing where it can resume.
    cut_off: Option<Bytes>,
    closed: bool,
    _guard: Box<dyn Any + Send>,
}

impl EventStream {
    /// Reads a log until it is finished or `closing` is cancelled. `guard` is dropped with the body.
    pub(crate) fn new(
        log: Arc<EventLog>,
        after: Option<u64>,
        keep_alive: Duration,
        closing: CancellationToken,
        guard: impl Any + Send,
    ) -> Self {
        let (reader, missed) = log.attach(after);
        Self {
            reader,
            gap: (missed > 0).then(|| sse::gap(missed)),
            log,
            keep_alive,
            quiet: Box::pin(sleep(keep_alive)),
            closing: Box::pin(closing.cancelled_owned()),
            farewell: sse::CLOSING,
            cut_off: None,
            closed: false,
            _guard: Box::new(guard),
        }
    }

    /// What is sent last when `closing` is cancelled, and when the reader is cut off.
    pub(crate) fn with_farewells(mut self, closing: Bytes, cut_off: Bytes) -> Self {
        (self.farewell, self.cut_off) = (closing, Some(cut_off));
        self
    }

    /// What is sent last when `closing` is cancelled.
    pub(crate) fn closing_with(mut self, farewell: Bytes) -> Self {
        self.farewell = farewell;
        self
    }

    fn restart_keep_alive(&mut self) {
        let next = Instant::now() + self.keep_alive;
        self.quiet.as_mut().reset(next);
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.log.detach(self.reader);
    }
}

impl http_body::Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.closed {
            return Poll::Ready(None);
        }
        if let Some(gap) = self.gap.take() {
            return Poll::Ready(Some(Ok(Frame::data(gap))));
        }
        // Frames come first, so that what was sent before the end still goes out.
        match self.log.poll_next(self.reader, cx) {
            Poll::Ready(Some(frame)) => {
                self.restart_keep_alive();
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            Poll::Ready(None) => {
                self.closed = true;
                let last = self.cut_off.take();
                return Poll::Ready(last.map(|last| Ok(Frame::data(last))));
            }
            Poll::Pending => {}
        }
        if self.closing.as_mut().poll(cx).is_ready() {
            self.closed = true;
            return Poll::Ready(Some(Ok(Frame::data(self.farewell.clone()))));
        }
        if self.quiet.as_mut().poll(cx).is_ready() {
            self.restart_keep_alive();
            // Registers the waker for the next one.
            let _ = self.quiet.as_mut().poll(cx);
            return Poll::Ready(Some(Ok(Frame::data(sse::KEEP_ALIVE))));
        }
        Poll::Pending
    }
}
