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

use axum::BoxError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{idle_watch::IdleWatch, quiet};
use crate::observe::RequestRecord;

/// Frames that are looked at when nobody has read the body.
const AT_HAND: usize = 16;

/// Where a body comes from.
#[derive(Debug)]
pub enum Source {
    /// A connection, without a box: nearly every body does.
    Connection(hyper::body::Incoming),
    /// A caller within the process.
    Caller(axum::body::Body),
}

impl From<hyper::body::Incoming> for Source {
    fn from(body: hyper::body::Incoming) -> Self {
        Self::Connection(body)
    }
}

impl From<axum::body::Body> for Source {
    fn from(body: axum::body::Body) -> Self {
        Self::Caller(body)
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Connection(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Caller(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Connection(body) => body.is_end_stream(),
            Self::Caller(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Connection(body) => body.size_hint(),
            Self::Caller(body) => body.size_hint(),
        }
    }
}

/// The body of a request, as the connection knows it.
#[derive(Debug)]
pub struct Incoming {
    source: Source,
    record: Arc<RequestRecord>,
    idle_watch: Option<Arc<IdleWatch>>,
    whole: bool,
}

impl Incoming {
    pub(super) fn new(
        source: Source,
        record: &Arc<RequestRecord>,
        idle_watch: Option<&Arc<IdleWatch>>,
    ) -> Self {
        let (record, idle_watch) = (Arc::clone(record), idle_watch.cloned());
        let mut incoming = Self { source, record, idle_watch, whole: false };
        incoming.note(incoming.source.is_end_stream());
        incoming
    }

    fn note(&mut self, ended: bool) {
        if ended && !self.whole {
            self.whole = true;
            if let Some(idle_watch) = &self.idle_watch {
                idle_watch.read_whole();
            }
        }
    }
}

impl Drop for Incoming {
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

impl Body for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (frame, held_back) = quiet::take(|| Pin::new(&mut self.source).poll_frame(cx));
        let ended = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => self.source.is_end_stream(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        self.note(ended);
        if let Some(connection) = held_back
            && !ended
        {
            connection.let_go();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}
