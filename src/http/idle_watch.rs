//! How long a connection has had no request in flight.
//!
//! Owns [`IdleWatch`], which the outermost layer tells of both ends of each request, and which the connection's task
//! asks. A request ends when the last byte of its answer has left for the peer. In both protocols this bounds how long a
//! head may take, and how long a connection may be kept for nothing: hyper arms a timer for every head; one per
//! connection, re-checked now and then, is cheaper and just as good. HTTP/2 has several requests at a time, so they are
//! counted.
//! It also knows whether the peer may still be sending a request that nobody will read to its end: such a connection is
//! closed in stages.
//! Trap: an answer's end is the end of its body, not its head: an event stream is one long request.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

use crate::clock::{Clock, Moment};

/// The requests of one connection, as far as its end depends on them.
#[derive(Debug)]
pub struct IdleWatch {
    clock: Clock,
    begun: AtomicU64,
    ended: AtomicU64,
    /// Milliseconds on the clock at which a request last ended, or the connection began.
    quiet_since: AtomicU64,
    /// Bytes that have come since a request was last read to its end. HTTP/1 alone.
    unread: AtomicUsize,
}

impl IdleWatch {
    /// For a connection that begins now.
    pub fn new(clock: Clock) -> Self {
        let now = AtomicU64::new(clock.now().as_millis());
        Self {
            clock,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            quiet_since: now,
            unread: AtomicUsize::new(0),
        }
    }

    /// A request has come. Called by the task that asks.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer has ended, just now. Called by any task.
    pub fn end(&self, now: Moment) {
        self.quiet_since.store(now.as_millis(), Ordering::Relaxed);
        // Whoever sees that it has ended sees when.
        self.ended.fetch_add(1, Ordering::Release);
    }

    /// The same, with a look at the clock.
    pub fn end_now(&self) {
        self.end(self.clock.now());
    }

    /// Begins to count anew, if no request is in flight.
    pub fn rest(&self) {
        self.quiet_since.store(self.clock.now().as_millis(), Ordering::Relaxed);
    }

    /// Bytes have come. Called by the task that asks.
    pub fn heard(&self, bytes: usize) {
        let unread = self.unread.load(Ordering::Relaxed);
        self.unread.store(unread.saturating_add(bytes), Ordering::Relaxed);
    }

    /// A request has been read to its end.
    pub fn read_whole(&self) {
        self.unread.store(0, Ordering::Relaxed);
    }

    /// How many bytes have come of a request that is not read to its end.
    pub fn unread(&self) -> usize {
        self.unread.load(Ordering::Relaxed)
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether no request is in flight.
    pub fn is_idle(&self) -> bool {
        self.under_way() == 0
    }

    /// How many requests are in flight.
    pub fn under_way(&self) -> u64 {
        self.begun().saturating_sub(self.ended.load(Ordering::Acquire))
    }

    /// Whether a request has ever come.
    pub fn was_used(&self) -> bool {
        self.begun() > 0
    }

    /// Completes when no request has been in flight for so long.
    pub fn idle_for(self: &Arc<Self>, patience: Duration) -> Idle {
        let watch = Arc::clone(self);
        let timer = sleep(watch.left_of(patience));
        Idle { watch, patience, timer }
    }

    fn left_of(&self, patience: Duration) -> Duration {
        match self.quiet_since() {
            None => patience,
            Some(since) => patience.saturating_sub(self.clock.now().since(since)),
        }
    }

    /// Since when no request is in flight; `None` if one is.
    fn quiet_since(&self) -> Option<Moment> {
        self.is_idle().then(|| Moment::from_millis(self.quiet_since.load(Ordering::Relaxed)))
    }
}

pin_project! {
    /// See [`IdleWatch::idle_for`]. May be polled again when it has completed.
    #[must_use = "futures do nothing unless polled"]
    #[derive(Debug)]
    pub struct Idle {
        watch: Arc<IdleWatch>,
        patience: Duration,
        #[pin]
        timer: Sleep,
    }
}

impl Idle {
    /// What it asks.
    pub fn watch(&self) -> &Arc<IdleWatch> {
        &self.watch
    }
}

impl Future for Idle {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            ready!(this.timer.as_mut().poll(cx));
            let left = this.watch.left_of(*this.patience);
            if left.is_zero() {
                return Poll::Ready(());
            }
            // Not less than a timer can tell apart.
            let left = left.max(Duration::from_millis(1));
            this.timer.as_mut().reset(tokio::time::Instant::now() + left);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_idle_between_requests_alone() {
        let watch = Arc::new(IdleWatch::new(Clock::start()));
        let patience = Duration::from_millis(30);
        watch.idle_for(patience).await;
        assert!(!watch.was_used());
        watch.begin();
        watch.begin();
        watch.end(watch.clock.now());
        assert!(timeout(patience * 3, watch.idle_for(patience)).await.is_err(), "one in flight");
        watch.end(watch.clock.now());
        let just_now = timeout(Duration::from_millis(10), watch.idle_for(Duration::from_secs(1)));
        assert!(just_now.await.is_err());
        watch.idle_for(patience).await;
        assert!(watch.was_used());
    }
}
