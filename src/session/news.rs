//! What other replicas do, and what they are told.
//!
//! Owns the door to the news between replicas that share a store: [`Changed`], what may be told; [`Audience`], who is
//! told of what is not a session's own; and [`SessionStore::hear`], which takes part for as long as it runs.
//! Traps: news are hints that come after the fact, at least once, and to whoever is connected; what must not be lost
//! stands in the store itself. Telling never waits: where too much is untold, the newest is dropped and counted.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    conversation::{Conversation, Followed},
    shared::SharedStore,
    store::{SessionStore, Unavailable},
};
use crate::{
    id::{SessionDigest, SessionId},
    wire::Id,
};

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

    /// The client of that conversation has subscribed to a resource at another replica.
    fn follow(&self, conversation: &Arc<Conversation>, uri: &str);
}

/// Nobody.
impl Audience for () {
    fn changed(&self, _: Changed) {}

    fn missed(&self) {}

    fn follow(&self, _: &Arc<Conversation>, _: &str) {}
}

/// What can be told without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Untold {
    Changed(Changed),
    /// A question that is not awaited any more.
    Withdrawn(SessionDigest, u64),
    /// The last standalone stream of that session has lost its reader.
    Silent(SessionDigest),
}

/// Tells other replicas of changes.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<SharedStore>);

impl Outbox {
    /// Tells of a change soon, if there is room.
    pub(crate) fn tell(&self, what: Changed) {
        self.0.tell(what);
    }
}

impl SessionStore {
    /// How much was not told to other replicas, because too much was untold already.
    pub fn news_dropped(&self) -> u64 {
        self.shared_store().map_or(0, |store| store.dropped())
    }

    /// Hears what other replicas do, and tells them of what happens here. To be run as long as the store is used, by one
    /// task.
    pub async fn hear(&self, audience: &dyn Audience) {
        match self.shared_store() {
            Some(store) => store.hear(audience).await,
            None => std::future::pending().await,
        }
    }

    /// Lets every replica take the response to a question, for so long; to be called before the client is asked, or a
    /// response that another replica takes would be lost. A store that is away is waited for as long.
    pub(crate) async fn expect_answer(
        &self,
        session: SessionId,
        question: u64,
        time: Duration,
    ) -> Result<(), Unavailable> {
        if let Some(store) = self.shared_store() {
            Box::pin(store.expect_answer(session.digest(), question, time)).await?;
        }
        Ok(())
    }

    /// Hands a client's response to the replica that has asked, if it waits for it: a result as JSON, `None` for an
    /// error.
    pub(crate) async fn answer_elsewhere(
        &self,
        session: SessionId,
        question: u64,
        result: Option<&str>,
    ) -> Result<(), Unavailable> {
        match self.shared_store() {
            Some(store) => Ok(store.answer_elsewhere(session.digest(), question, result).await?),
            None => Ok(()),
        }
    }

    /// A question has been answered or given up.
    pub(crate) fn withdraw(&self, session: SessionId, question: u64) {
        if let Some(store) = self.shared_store() {
            store.withdraw(session.digest(), question);
        }
    }

    /// Lets all replicas know that the session's client wants to be told of a resource.
    pub(crate) async fn subscribe(
        &self,
        session: SessionId,
        uri: &str,
    ) -> Result<Followed, Unavailable> {
        match self.shared_store() {
            Some(store) => Box::pin(store.subscribe(session, uri)).await,
            None => Ok(Followed::Yes),
        }
    }

    /// The same for one that wants to be told no longer.
    pub(crate) async fn unsubscribe(
        &self,
        session: SessionId,
        uri: &str,
    ) -> Result<(), Unavailable> {
        match self.shared_store() {
            Some(store) => Ok(store.unsubscribe(session.digest(), uri).await?),
            None => Ok(()),
        }
    }

    /// From now on this replica sends the client what belongs to no call, on a standalone stream. Returns what the client
    /// has subscribed to, here or elsewhere.
    pub(crate) async fn speak(&self, session: SessionId) -> Result<Vec<String>, Unavailable> {
        match self.shared_store() {
            Some(store) => Ok(Box::pin(store.speak(session)).await?),
            None => Ok(Vec::new()),
        }
    }

    /// A standalone stream has lost its reader.
    pub(crate) fn fall_silent(&self, session: SessionId) {
        if let Some(store) = self.shared_store() {
            store.fall_silent(session);
        }
    }

    /// Cancels a call that another replica runs, if one does.
    pub(crate) async fn cancel_elsewhere(
        &self,
        session: SessionId,
        call: Id<'_>,
    ) -> Result<(), Unavailable> {
        match self.shared_store() {
            Some(store) => Ok(store.cancel_elsewhere(session.digest(), call).await?),
            None => Ok(()),
        }
    }

    /// Changes whenever an event log of the session may have grown at another replica, and ends with the session; `None` if
    /// there are no other replicas.
    pub fn log_bell(&self, session: SessionId) -> Option<watch::Receiver<()>> {
        self.shared_store().map(|store| store.log_bell(session.digest()))
    }

    /// Where changes are told to other replicas, if there are any.
    pub(crate) fn outbox(&self) -> Option<Outbox> {
        self.shared_store().map(|store| Outbox(Arc::clone(store)))
    }
}
