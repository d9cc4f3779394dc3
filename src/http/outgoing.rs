//! The body of an answer on its way out.
//!
//! Owns [`Outgoing`], the outermost body, and [`Slice`], what it hands to the connection. The rule: what has not left is
//! not logged as sent, and a connection is not idle before its last answer has left. In HTTP/1 the last slice counts as
//! sent when it is handed over, since the kernel has room for it.
//! Trap: hyper holds what it has taken until the peer takes it, so a large frame is handed over a slice at a time. The
//! slices share its memory.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{access_log::Line, pace::Pace};

/// What is handed over at a time. Bytes.
const SLICE: usize = 64 * 1024;

/// A part of an answer; its bytes are counted as they leave.
#[derive(Debug)]
pub struct Slice {
    bytes: Bytes,
    line: Option<Arc<Line>>,
    pace: Option<Arc<Pace>>,
}

impl Buf for Slice {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(line) = &self.line {
            line.add_left(count);
        }
        if let Some(pace) = &self.pace {
            pace.left(count);
        }
    }
}

pin_project! {
    /// A response body in slices, which share the line of its request.
    #[derive(Debug)]
    pub struct Outgoing<B> where B: Body {
        #[pin]
        inner: B,
        // What is left of a frame.
        rest: Bytes,
        // Whether the inner body has ended.
        ended: bool,
        // Bytes that have been handed over.
        handed: u64,
        line: Option<Arc<Line>>,
        // In HTTP/2.
        pace: Option<Arc<Pace>>,
    }

    impl<B> PinnedDrop for Outgoing<B> where B: Body {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // hyper does not poll a body that says it has ended.
            if *this.handed == 0 && this.inner.is_end_stream() && let Some(line) = this.line {
                line.end(0);
            }
        }
    }
}

impl<B: Body> Outgoing<B> {
    pub(super) fn new(inner: B, line: Option<Arc<Line>>) -> Self {
        let pace = Pace::of_this_task();
        Self { inner, rest: Bytes::new(), ended: false, handed: 0, line, pace }
    }
}

impl<B> Body for Outgoing<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Slice;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Slice>, B::Error>>> {
        let mut this = self.project();
        if this.rest.is_empty() && !*this.ended {
            match ready!(this.inner.as_mut().poll_frame(cx)).transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => *this.rest = data,
                // No answer has trailers.
                Some(Err(_)) | None => *this.ended = true,
            }
        }
        if *this.ended {
            if let Some(pace) = this.pace {
                ready!(pace.poll_all_left(cx));
            }
            if let Some(line) = this.line.take() {
                end_if_sent(&line, *this.handed);
            }
            return Poll::Ready(None);
        }
        let bytes = this.rest.split_to(this.rest.len().min(SLICE));
        *this.handed += bytes.len() as u64;
        if let Some(pace) = this.pace {
            pace.handed(bytes.len());
        }
        if this.pace.is_none()
            && this.rest.is_empty()
            && this.inner.is_end_stream()
            && let Some(line) = this.line
        {
            end_if_sent(line, *this.handed);
        }
        let (line, pace) = (this.line.clone(), this.pace.clone());
        Poll::Ready(Some(Ok(Frame::data(Slice { bytes, line, pace }))))
    }

    fn is_end_stream(&self) -> bool {
        let all_handed = self.rest.is_empty() && (self.ended || self.inner.is_end_stream());
        // See the traps of `pace`.
        all_handed && (self.pace.is_none() || self.handed == 0)
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.inner.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(inner.lower() + rest);
        hint
    }
}

/// Ends the answer, unless more than a slice of it has not left yet: then it ends when that has.
fn end_if_sent(line: &Line, handed: u64) {
    if handed - line.left() <= SLICE as u64 {
        line.end(handed);
    } else {
        line.expect(handed);
    }
}
