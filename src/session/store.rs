//! The door to sessions.
//!
//! Owns the operations that every kind of store offers: create, find, hold, end, list, count. Refuses
//! to hand out the map behind it, so that a shared external store can stand here too.
//! Trap: `find` sets the idle clock back; listing must not.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    EndReason, Handshake, QuotaExceeded, Session, SessionId, SessionRef, memory::MemoryStore,
};
use crate::{
    auth::Caller,
    config::SessionConfig,
    instance::Process,
    place::{InstanceId, Origin},
    telemetry::outcome::RequestOutcome,
};

/// Where one instance's sessions are kept.
/// A clone is another handle to the same ones.
#[derive(Clone, Debug)]
pub enum SessionStore {
    /// In this process.
    Memory(Arc<MemoryStore>),
}

/// Why there is no such session, as far as its id tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Another of the ten minted it.
    OtherInstance(InstanceId),
    /// Another replica minted it: the request was routed to the wrong one.
    OtherReplica(Origin),
    /// This replica minted it, but before its last start.
    EarlierBoot(Origin),
    /// It was idle for so long.
    Expired(Duration),
    /// It was ended by its client, an operator or a shutdown.
    Terminated(EndReason),
    /// It never was one, belongs to someone else, or ended too long ago to be remembered.
    Unknown,
}

impl Gone {
    /// What the log calls it.
    pub const fn outcome(self) -> RequestOutcome {
        match self {
            Self::OtherInstance(_) => RequestOutcome::OtherInstance,
            Self::OtherReplica(_) => RequestOutcome::OtherReplica,
            Self::EarlierBoot(_) => RequestOutcome::EarlierBoot,
            Self::Expired(_) => RequestOutcome::Expired,
            Self::Terminated(_) => RequestOutcome::Terminated,
            Self::Unknown => RequestOutcome::Unknown,
        }
    }

    /// `error.data.reason`.
    pub const fn as_str(self) -> &'static str {
        self.outcome().as_str()
    }
}

/// Why no session was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many are live as may be.
    #[error("{capacity} sessions are live, the most this instance holds (session.capacity)")]
    Full {
        /// Live sessions at the most.
        capacity: u64,
        /// When it is worth trying again.
        retry_after_seconds: u64,
    },
    /// The process is stopping.
    #[error("the server is shutting down")]
    Draining,
    /// The operating system gave no random bytes.
    #[error("no random bytes for a session id")]
    NoEntropy,
}

/// Lives and deaths of one instance's sessions. `live` is always `created` less all that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Begun since the start.
    pub created: u64,
    /// Live now.
    pub live: u64,
    /// Ended, by [`EndReason::index`].
    pub ended: [u64; EndReason::ALL.len()],
    /// Not begun, because the instance was full or draining.
    pub refused: u64,
    /// Bytes of what live sessions stored, keys and values together.
    pub data_bytes: u64,
}

impl SessionStore {
    /// A store in this process for one instance.
    pub fn in_memory(id: InstanceId, config: &SessionConfig, process: &Arc<Process>) -> Self {
        Self::Memory(Arc::new(MemoryStore::new(id, config, process)))
    }

    /// From now on so many sessions may be live. Those that are stay, were it fewer.
    pub fn set_capacity(&self, capacity: u64) {
        match self {
            Self::Memory(store) => store.set_capacity(capacity),
        }
    }

    /// Begins a session, unless the instance is full or draining.
    pub async fn create(
        &self,
        handshake: Handshake,
        owner: Caller,
    ) -> Result<Arc<Session>, Refused> {
        match self {
            Self::Memory(store) => store.create(handshake, owner),
        }
    }

    /// The live session of that id, if `caller` made it. Sets its idle clock back.
    pub async fn find(&self, id: &str, caller: Caller) -> Result<Arc<Session>, Gone> {
        match self {
            Self::Memory(store) => store.find(id, caller),
        }
    }

    /// Keeps a session from expiring until the guard is dropped, and sets its idle clock back then:
    /// for calls that take time and for open streams.
    pub fn hold(&self, session: &Arc<Session>) -> Hold {
        match self {
            Self::Memory(store) => Hold::new(Arc::clone(store), Arc::clone(session)),
        }
    }

    /// Stores a value in a session; true if the key was there before.
    pub fn set_data(
        &self,
        session: &Session,
        key: &str,
        value: Box<RawValue>,
        quota: &SessionConfig,
    ) -> Result<bool, QuotaExceeded> {
        match self {
            Self::Memory(store) => store.set_data(session, key, value, quota),
        }
    }

    /// Ends a session; false if it was gone already.
    pub async fn end(&self, id: SessionId, reason: EndReason) -> bool {
        match self {
            Self::Memory(store) => store.end(id, reason),
        }
    }

    /// Ends all sessions.
    pub async fn end_all(&self, reason: EndReason) {
        match self {
            Self::Memory(store) => store.end_all(reason).await,
        }
    }

    /// The live sessions, in no order. Sets no clock back.
    pub async fn list(&self) -> Vec<Arc<Session>> {
        match self {
            Self::Memory(store) => store.list().await,
        }
    }

    /// At most so many live sessions, those used last. Sets no clock back.
    pub async fn recent(&self, limit: usize) -> Vec<Arc<Session>> {
        match self {
            Self::Memory(store) => store.recent(limit).await,
        }
    }

    /// A live session that has one of these references. Sets no clock back.
    pub async fn find_reference(&self, wanted: [Option<SessionRef>; 2]) -> Option<Arc<Session>> {
        match self {
            Self::Memory(store) => store.find_reference(wanted).await,
        }
    }

    /// Lives and deaths.
    pub fn counts(&self) -> Counts {
        match self {
            Self::Memory(store) => store.counts(),
        }
    }

    /// To be called a few times per timeout: lets idle sessions end although nobody asks for them.
    pub async fn tick(&self) {
        match self {
            Self::Memory(store) => store.tick().await,
        }
    }
}

/// See [`SessionStore::hold`].
#[derive(Debug)]
pub struct Hold {
    store: Arc<MemoryStore>,
    session: Arc<Session>,
}

impl Hold {
    fn new(store: Arc<MemoryStore>, session: Arc<Session>) -> Self {
        store.hold(&session);
        Self { store, session }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.store.release(&self.session);
    }
}
