//! What the store says without being asked: that something has been published.
//!
//! Owns [`Bells`], one for each channel. A bell only rings; the truth is in the keys. So whoever waits for one reads on from
//! where it was, and a bell rings as well when a connection has been made anew, since messages may have been missed.
//! Trap: whoever is told runs on the connection's own task, and must not wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

use super::lock;

/// Rings for one channel.
#[derive(Debug, Default)]
pub(crate) struct Bell(Notify);

impl Bell {
    /// Waits until it rings; at once, if it has since the last time.
    pub(crate) async fn rung(&self) {
        self.0.notified().await;
    }
}

/// The bells by channel.
#[derive(Debug, Default)]
pub(super) struct Bells {
    known: Mutex<HashMap<String, Arc<Bell>>>,
    /// A channel has been added.
    pub(super) added: Notify,
}

impl Bells {
    pub(super) fn of(&self, channel: &str) -> Arc<Bell> {
        let mut known = lock(&self.known);
        let bell = Arc::clone(known.entry(channel.to_owned()).or_default());
        self.added.notify_one();
        bell
    }

    pub(super) fn channels(&self) -> Vec<String> {
        let known = lock(&self.known);
        known.keys().cloned().collect()
    }

    /// Something may have been missed on every channel.
    pub(super) fn ring_all(&self) {
        let known = lock(&self.known);
        known.values().for_each(|bell| bell.0.notify_one());
    }

    /// What the store has pushed.
    pub(super) fn hear(&self, pushed: &PushInfo) {
        if let (PushKind::Message, [Value::BulkString(channel), ..]) = (&pushed.kind, &*pushed.data)
            && let Ok(channel) = std::str::from_utf8(channel)
        {
            let known = lock(&self.known);
            known.get(channel).into_iter().for_each(|bell| bell.0.notify_one());
        }
    }
}
