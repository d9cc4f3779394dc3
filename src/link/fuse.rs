//! Whether it is of any use to ask the store.
//!
//! Owns [`Fuse`]. It blows when a script went without an answer at both attempts; from then on everyone is told at once that
//! the store is lost, until it has answered one whom nobody waits for.
//! Trap: that a connection can be made says little. A store that is paused greets, and is silent then.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Fuse {
    is_blown: AtomicBool,
    blown: Notify,
}

impl Fuse {
    pub(super) fn is_blown(&self) -> bool {
        self.is_blown.load(Ordering::Relaxed)
    }

    pub(super) fn blow(&self) {
        if !self.is_blown.swap(true, Ordering::Relaxed) {
            self.blown.notify_one();
        }
    }

    /// Waits until it blows.
    pub(super) async fn blows(&self) {
        self.blown.notified().await;
    }

    pub(super) fn mend(&self) {
        self.is_blown.store(false, Ordering::Relaxed);
    }
}
