//! How long a stream of HTTP/2 waits for its peer.
//!
//! Owns [`Paced`], a stream with the deadline for writes, and [`Pace`], which its answer's body tells what is on its way.
//! The rule: a stream whose peer has taken nothing of what waits for it for `http.write_timeout_seconds` is reset, and
//! its connection goes on. In HTTP/1 the connection is the stream, and its socket sees to the same.
//! Traps: hyper does not ask a body for more while the peer's window is closed, so the deadline cannot be the body's. h2
//! gives back no hold of a stream whose last data it has taken, so a body ends when they have left, and not before.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use pin_project_lite::pin_project;
use tokio::{
    task::futures::TaskLocalFuture,
    time::{Instant, Sleep, sleep},
};

use crate::clock::{Clock, Moment};

tokio::task_local! {
    /// Of the stream whose task this is; HTTP/1 has none.
    static PACE: Arc<Pace>;
}

/// What of an answer waits for its peer.
#[derive(Debug)]
pub(crate) struct Pace {
    clock: Clock,
    /// Bytes that were handed over and have not left.
    waiting: AtomicUsize,
    /// Milliseconds on the clock at which some left last, or had to wait first.
    moved: AtomicU64,
    /// The body, where it waits for the rest to leave.
    body: AtomicWaker,
}

impl Pace {
    /// That of the stream whose task this is; `None` in HTTP/1.
    pub(super) fn of_this_task() -> Option<Arc<Self>> {
        PACE.try_with(Arc::clone).ok()
    }

    /// So many bytes are on their way. Called by the stream's task.
    pub(super) fn handed(&self, bytes: usize) {
        if self.waiting.load(Ordering::Acquire) == 0 {
            self.moved.store(self.clock.now().as_millis(), Ordering::Relaxed);
        }
        self.waiting.fetch_add(bytes, Ordering::Release);
    }

    /// So many have left. Called by the connection's task.
    pub(super) fn left(&self, bytes: usize) {
        self.moved.store(self.clock.now().as_millis(), Ordering::Relaxed);
        if self.waiting.fetch_sub(bytes, Ordering::AcqRel) == bytes {
            self.body.wake();
        }
    }

    /// Completes when nothing waits.
    pub(super) fn poll_all_left(&self, cx: &Context<'_>) -> Poll<()> {
        self.body.register(cx.waker());
        match self.waiting.load(Ordering::Acquire) {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// How long the peer has taken nothing of what waits for it; `None` if nothing does.
    fn stalled(&self) -> Option<Duration> {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return None;
        }
        let moved = Moment::from_millis(self.moved.load(Ordering::Relaxed));
        Some(self.clock.now().since(moved))
    }
}

pin_project! {
    /// A stream that ends when its peer takes nothing for too long. Dropped before its end, it is reset.
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Paced<F> {
        #[pin]
        stream: TaskLocalFuture<Arc<Pace>, F>,
        pace: Arc<Pace>,
        patience: Duration,
        // Runs from the first time that something waits.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = ()>> Paced<F> {
    pub(crate) fn new(stream: F, clock: Clock, patience: Duration) -> Self {
        let pace = Arc::new(Pace {
            clock,
            waiting: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
            body: AtomicWaker::new(),
        });
        Self { stream: PACE.scope(Arc::clone(&pace), stream), pace, patience, timer: None }
    }
}

impl<F: Future<Output = ()>> Future for Paced<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let Some(stalled) = this.pace.stalled() else { return Poll::Pending };
            let left = this.patience.saturating_sub(stalled);
            if left.is_zero() {
                return Poll::Ready(());
            }
            let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(left)));
            ready!(timer.as_mut().poll(cx));
            // Not less than a timer can tell apart.
            timer.as_mut().reset(Instant::now() + left.max(Duration::from_millis(1)));
        }
    }
}
