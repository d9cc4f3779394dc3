//! The body of a request on its way in.
//!
//! Owns [`Incoming`], which notes whether a request was read to its end. The rule: an answer that is given before that
//! ends an HTTP/1 connection, in stages (RFC 9112 §9.6), so that the answer reaches a peer that is still sending. The
//! stages are the socket's.
//! Trap: most bodies that nobody reads have come with their head, and need not cost the connection.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::idle_watch::IdleWatch;
use crate::observe::RequestRecord;

/// Frames that are looked at when nobody has read the body.
const AT_HAND: usize = 16;

/// The body of a request, as the connection knows it.
pub(super) struct Incoming<B: Body<Data = Bytes> + Unpin> {
    inner: B,
    record: Arc<RequestRecord>,
    idle_watch: Option<Arc<IdleWatch>>,
    whole: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Incoming<B> {
    pub(super) fn new(
        inner: B,
        record: &Arc<RequestRecord>,
        idle_watch: Option<&Arc<IdleWatch>>,
    ) -> Self {
        Self { inner, record: Arc::clone(record), idle_watch: idle_watch.cloned(), whole: false }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Drop for Incoming<B> {
    fn drop(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..AT_HAND {
            if self.whole {
                return;
            }
            match Pin::new(&mut *self).poll_frame(&mut cx) {
                Poll::Ready(None | Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_))) | Poll::Pending => break,
            }
        }
        if !self.whole {
            self.record.leave_unread();
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Incoming<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        let ended = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => self.inner.is_end_stream(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if ended && !self.whole {
            self.whole = true;
            if let Some(idle_watch) = &self.idle_watch {
                idle_watch.read_whole();
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
