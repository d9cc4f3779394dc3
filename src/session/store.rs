//! The door to sessions.
//!
//! Owns the operations that every kind of store offers: create, load, commit, hold, end, list, count. Values go out
//! and changes come in, so that a store which several processes share can stand here too.
//! Traps: `load` sets the idle clock back; listing must not. And that a store cannot be asked says nothing about a
//! session: [`NotLoaded::Unavailable`] is never told as "not found", which makes a client throw its session away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

use super::{
    conversation::{Conversation, Conversations},
    memory::MemoryStore,
    record::{Change, Handshake, Head, QuotaExceeded, Record, Want},
    search::{Found, Search},
    stream::ReplayBudget,
};
use crate::{
    config::SessionConfig,
    id::{Caller, EndReason, InstanceId, MintedBy, SessionId, SessionRef},
    process::Process,
};

/// Where one instance's sessions are kept, and what this process has open for them.
#[derive(Debug)]
pub struct SessionStore {
    kept: Kept,
    conversations: Arc<Conversations>,
    /// Whether it answers; see [`SessionStore::set_available`].
    available: AtomicBool,
}

/// The kinds of store.
#[derive(Debug)]
enum Kept {
    /// In this process.
    Memory(Arc<MemoryStore>),
}

/// Why there is no such session, as far as its id tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Another of the ten minted it.
    OtherInstance(InstanceId),
    /// Another replica minted it: the request was routed to the wrong one.
    OtherReplica(MintedBy),
    /// This replica minted it, but before its last start.
    EarlierBoot(MintedBy),
    /// It was idle for so long.
    Expired(Duration),
    /// It was ended by its client, an operator or a shutdown.
    Terminated(EndReason),
    /// It never was one, belongs to someone else, or ended too long ago to be remembered.
    Unknown,
}

impl Gone {
    /// `error.data.reason`: what clients are told, whatever the log calls it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::OtherInstance(_) => "other_instance",
            Self::OtherReplica(_) => "other_replica",
            Self::EarlierBoot(_) => "earlier_boot",
            Self::Expired(_) => "expired",
            Self::Terminated(_) => "terminated",
            Self::Unknown => "unknown",
        }
    }
}

/// Why no session was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCreated {
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
    /// The store could not be asked.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The store could not be asked: nothing is known, and nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session store cannot be reached")]
pub struct Unavailable;

/// Why no session was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLoaded {
    /// There is none.
    Gone(Gone),
    /// The store could not be asked.
    Unavailable,
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCommitted {
    /// The session has ended.
    Gone(Gone),
    /// The session may not hold what was to be stored.
    Quota(QuotaExceeded),
    /// The store could not be asked.
    Unavailable,
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
    /// A store in this process for one instance. Streams keep what `replay` allows.
    pub fn in_memory(
        id: InstanceId,
        config: &SessionConfig,
        process: &Arc<Process>,
        replay: &Arc<ReplayBudget>,
    ) -> Self {
        let conversations = Arc::new(Conversations::new(process.lifecycle.closing(), replay));
        Self {
            kept: Kept::Memory(Arc::new(MemoryStore::new(id, config, process, &conversations))),
            conversations,
            available: AtomicBool::new(true),
        }
    }

    /// Whether the store answers from now on. One that does not is out of reach on purpose, so that what must hold
    /// then can be tried: every operation comes to `Unavailable`, and no session is harmed.
    pub fn set_available(&self, available: bool) {
        self.available.store(available, Ordering::Relaxed);
    }

    fn kept(&self) -> Result<&Kept, Unavailable> {
        self.available.load(Ordering::Relaxed).then_some(&self.kept).ok_or(Unavailable)
    }

    /// From now on so many sessions may be live. Those that are stay, were it fewer.
    pub fn set_capacity(&self, capacity: u64) {
        match &self.kept {
            Kept::Memory(store) => store.set_capacity(capacity),
        }
    }

    /// Begins a session, unless the instance is full or draining.
    pub async fn create(&self, handshake: Handshake, owner: Caller) -> Result<Record, NotCreated> {
        match self.kept()? {
            Kept::Memory(store) => store.create(handshake, owner),
        }
    }

    /// The live session of that id, if `caller` made it. Sets its idle clock back.
    pub async fn load(&self, id: &str, caller: Caller, want: Want) -> Result<Record, NotLoaded> {
        match self.kept().map_err(|Unavailable| NotLoaded::Unavailable)? {
            Kept::Memory(store) => store.load(id, caller, want).map_err(NotLoaded::Gone),
        }
    }

    /// Changes a live session that has been loaded; what it is afterwards. All of the change is made, or none.
    pub async fn commit(
        &self,
        session: &Head,
        change: Change<'_>,
        quota: &SessionConfig,
    ) -> Result<Record, NotCommitted> {
        match self.kept().map_err(|Unavailable| NotCommitted::Unavailable)? {
            Kept::Memory(store) => store.commit(session, change, quota),
        }
    }

    /// Keeps a session from expiring until the lease is dropped, and sets its idle clock back then: for calls that
    /// take time and for open streams.
    pub fn hold(&self, id: SessionId) -> Lease {
        match &self.kept {
            Kept::Memory(store) => {
                store.hold(id);
                Lease { store: Arc::clone(store), id }
            }
        }
    }

    /// What is open for a session here, made if there was nothing.
    pub fn conversation(&self, id: SessionId) -> Arc<Conversation> {
        let conversation = self.conversations.begin(id);
        let lives = match &self.kept {
            Kept::Memory(store) => store.lives(id),
        };
        // Whoever ended it meanwhile may have been there before the conversation was.
        if !lives {
            self.conversations.end(id);
        }
        conversation
    }

    /// What is open for a session here, if there is anything.
    pub fn conversation_of(&self, id: SessionId) -> Option<Arc<Conversation>> {
        self.conversations.get(id)
    }

    /// Ends a session; false if it was gone already.
    pub async fn end(&self, id: SessionId, reason: EndReason) -> Result<bool, Unavailable> {
        match self.kept()? {
            Kept::Memory(store) => Ok(store.end(id, reason)),
        }
    }

    /// Ends all sessions; how many that were.
    pub async fn end_all(&self, reason: EndReason) -> u64 {
        match &self.kept {
            Kept::Memory(store) => store.end_all(reason).await,
        }
    }

    /// The live sessions, in no order. Sets no clock back.
    pub async fn list(&self) -> Result<Vec<Record>, Unavailable> {
        match self.kept()? {
            Kept::Memory(store) => Ok(store.list().await),
        }
    }

    /// At most so many of the live sessions that fit, those used last. Sets no clock back.
    pub async fn recent(&self, limit: usize, search: &Search) -> Result<Found, Unavailable> {
        match self.kept()? {
            Kept::Memory(store) => Ok(store.recent(limit, search).await),
        }
    }

    /// A live session that has one of these references, with its data. Sets no clock back.
    pub async fn find_reference(
        &self,
        wanted: [Option<SessionRef>; 2],
    ) -> Result<Option<Record>, Unavailable> {
        match self.kept()? {
            Kept::Memory(store) => Ok(store.find_reference(wanted).await),
        }
    }

    /// Lives and deaths.
    pub fn counts(&self) -> Counts {
        match &self.kept {
            Kept::Memory(store) => store.counts(),
        }
    }

    /// To be called a few times per timeout: lets idle sessions end although nobody asks for them.
    pub async fn tick(&self) {
        match &self.kept {
            Kept::Memory(store) => store.tick().await,
        }
    }
}

/// See [`SessionStore::hold`].
#[derive(Debug)]
pub struct Lease {
    store: Arc<MemoryStore>,
    id: SessionId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.store.release(self.id);
    }
}
