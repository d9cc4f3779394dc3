//! Starting no task that is forgotten, and stopping in two stages.
//!
//! Owns the process-wide [`Lifecycle`]: whether new sessions are still taken (`draining`), the signal
//! that closes event streams (`closing`), and the tracker of every spawned task. Refuses bare spawns:
//! work that nobody waits for would be cut off by a shutdown.
//! Trap: a stream that is not told to close holds a graceful shutdown for ever.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Shared by the server and all instances.
#[derive(Debug, Default)]
pub struct Lifecycle {
    draining: AtomicBool,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// Runs `work` to its end even when the request that began it goes away; a shutdown waits for it.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        #[expect(clippy::disallowed_methods, reason = "this is the tracked spawn that replaces it")]
        tokio::spawn(self.tasks.track_future(work))
    }

    /// Whether the process is on its way out: not ready, and no new session.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Cancelled when event streams must end; a child of it ends one session's streams.
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// First stage: not ready, no new session, streams closed. In-flight calls go on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.closing.cancel();
        self.tasks.close();
    }

    /// Second stage: completes when every tracked task has ended.
    pub async fn idle(&self) {
        self.tasks.wait().await;
    }
}
