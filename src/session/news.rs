//! What other replicas do, and what they are told.
//!
//! Owns the door to the news between replicas that share a store: [`Changed`], what may be told; [`Audience`], who is told of
//! what is not a session's own; and [`SessionStore::hear`], which takes part for as long as it runs.
//! Traps: news are hints that come after the fact, at least once, and to whoever is connected; what must not be lost stands
//! in the store itself. Telling never waits: where too much is untold, the newest is dropped and counted.

use tokio::sync::mpsc;

use super::store::SessionStore;
use crate::id::SessionDigest;

/// Changes that clients of all replicas may want to be notified of. The store knows texts by their digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Changed {
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
    /// The contents of the resource of that URI.
    Resource(SessionDigest),
    /// The state of the task of that id.
    Task(SessionDigest),
}

/// Whoever notifies clients of this replica.
pub trait Audience: Send + Sync {
    /// Something has changed at another replica.
    fn changed(&self, what: Changed);

    /// News were missed, so anything may have changed.
    fn missed(&self);
}

/// Nobody.
impl Audience for () {
    fn changed(&self, _: Changed) {}

    fn missed(&self) {}
}

/// Tells other replicas of changes.
#[derive(Clone, Debug)]
pub struct Outbox(pub(super) mpsc::Sender<Changed>);

impl Outbox {
    /// Tells of a change soon, if there is room.
    pub(crate) fn tell(&self, what: Changed) {
        if self.0.try_send(what).is_err() {
            tracing::warn!(?what, "other replicas are not told: too much is untold already");
        }
    }
}

impl SessionStore {
    /// Hears what other replicas do, and tells them of what happens here. To be run as long as the store is used; never ends.
    pub async fn hear(&self, audience: &dyn Audience) {
        match self.shared_store() {
            Some(store) => store.hear(audience).await,
            None => std::future::pending().await,
        }
    }

    /// Where changes are told to other replicas, if there are any.
    pub(crate) fn outbox(&self) -> Option<Outbox> {
        self.shared_store().map(|store| store.outbox())
    }
}
