//! Tracking every task, and stopping in stages.
//!
//! Owns the process-wide [`Lifecycle`]: whether new sessions are still taken (`draining`), the signals that close event
//! streams (`closing`), end what is still being answered (`cutting`) and end connections (`over`), the count of what was
//! cut off, and the tracker of every spawned task. `tokio::spawn` is forbidden, because a shutdown cuts off work that
//! nobody tracks. The rule: who is cut off by a stop is told so where an answer can still be sent, and is never counted as
//! having left.
//! Traps: whoever waits for work must hear of its panic too; a stream that is not told to close holds a graceful
//! shutdown for ever.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The outcome of work that nobody joins. `None` if it panicked, which the panic hook has logged, so that whoever
/// waits for the outcome can be told.
pub(crate) async fn outcome_of<T>(work: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(work).catch_unwind().await.ok()
}

/// Shared by the server and all instances.
#[derive(Debug, Default)]
pub struct Lifecycle {
    draining: AtomicBool,
    closing: CancellationToken,
    cutting: CancellationToken,
    over: CancellationToken,
    cut_off: AtomicU64,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// Runs `work` to its end even when the request that began it goes away; a shutdown waits for it. In a box, so that
    /// the runtime's code for tasks is there once and not for each kind of work.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.spawn_unboxed(Box::pin(work) as BoxFuture<'static, T>)
    }

    /// The same for what is begun so often that its box would be felt.
    pub(crate) fn spawn_unboxed<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        #[expect(clippy::disallowed_methods, reason = "this is the tracked spawn that replaces it")]
        tokio::spawn(self.tasks.track_future(work))
    }

    /// Whether the process is stopping: not ready, and no new session.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Cancelled when event streams must end; a child of it ends one session's streams.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// First stage: not ready, no new session, streams closed. In-flight calls go on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.closing.cancel();
        self.tasks.close();
    }

    /// Second stage: completes when every tracked task has ended.
    pub(crate) async fn idle(&self) {
        self.tasks.wait().await;
    }

    /// Third stage, where the second takes too long: calls end with an error.
    pub(crate) fn cut_off(&self) {
        self.cutting.cancel();
    }

    /// Cancelled when calls must end.
    pub(crate) fn cutting(&self) -> &CancellationToken {
        &self.cutting
    }

    /// Last stage: connections end, whatever is left to send.
    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    /// Cancelled when connections must end.
    pub(crate) fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// Counts a request that a stop has cut off.
    pub(crate) fn count_cut_off(&self) {
        self.cut_off.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that a stop has cut off, and tasks that it has left undone.
    pub(crate) fn left_undone(&self) -> (u64, usize) {
        (self.cut_off.load(Ordering::Relaxed), self.tasks.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_has_an_outcome() {
        assert_eq!(outcome_of(async { 7 }).await, Some(7));
        let on_purpose = async { assert!(std::hint::black_box(false), "on purpose") };
        assert_eq!(outcome_of(on_purpose).await, None);
    }
}
