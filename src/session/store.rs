//! The session store: every access to a session's record goes through it.
//!
//! Owns the operations that every kind of store offers: create, load, commit, hold, end, list, count. They return values
//! and take changes, so that a store which several processes share can offer them as well.
//! Traps: `load` restarts the idle clock, listing must not. And a store that cannot be reached says nothing about a
//! session: [`NotLoaded::Unavailable`] must never become "not found", which makes a client discard its session.

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
    ledger::EndedSession,
    memory::MemoryStore,
    record::{Change, Handshake, Listed, QuotaExceeded, Record, Want},
    search::{Found, Search},
    shared::{self, Logs, SharedStore},
    stream::{EventLog, ReplayBudget},
};
use crate::{
    budget::{NoRoom, Share},
    config::{SessionConfig, StoreName},
    id::{Caller, EndReason, InstanceId, MintedBy, SessionId, SessionRef},
    link::Link,
    process::Process,
};

/// One instance's sessions.
#[derive(Debug)]
pub struct SessionStore {
    backend: Backend,
    conversations: Arc<Conversations>,
    /// See [`SessionStore::set_available`].
    available: AtomicBool,
}

#[derive(Clone, Debug)]
enum Backend {
    Memory(Arc<MemoryStore>),
    Shared(Arc<SharedStore>),
}

/// Why there is no such session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Another instance minted the id.
    OtherInstance(InstanceId),
    /// Another replica minted the id: the request was routed to the wrong one.
    OtherReplica(MintedBy),
    /// This replica minted the id, but before it was last started.
    EarlierBoot(MintedBy),
    /// It expired, after being idle for so long.
    Expired(Duration),
    /// Its client, an operator or a shutdown ended it.
    Terminated(EndReason),
    /// The id was never given out, belongs to another caller, or its session ended too long ago to be remembered.
    Unknown,
}

impl Gone {
    /// `error.data.reason`. Part of the protocol: the log has names of its own.
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
    /// `session.capacity` is reached.
    #[error("{capacity} sessions are live, the most this instance holds (session.capacity)")]
    Full {
        /// The limit on live sessions.
        capacity: u64,
        /// After which time a session may have expired.
        retry_after_seconds: u64,
    },
    /// The process is stopping.
    #[error("the server is shutting down")]
    Draining,
    /// There is no room for it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The operating system gave no random bytes.
    #[error("no random bytes for a session id")]
    NoEntropy,
    /// The store cannot be reached.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The store cannot be reached. Nothing is known of the session, and nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session store cannot be reached")]
pub struct Unavailable;

/// Why no session was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLoaded {
    /// There is no such session.
    Gone(Gone),
    /// See [`Unavailable`].
    Unavailable,
}

/// Why nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCommitted {
    /// The session has ended.
    Gone(Gone),
    /// Its data would be too large.
    Quota(QuotaExceeded),
    /// There is no room for it.
    NoRoom,
    /// See [`Unavailable`].
    Unavailable,
}

/// How many sessions an instance had. `live` is always `created` minus all that `ended`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Since the process was started.
    pub created: u64,
    /// Now.
    pub live: u64,
    /// By [`EndReason::index`].
    pub ended: [u64; EndReason::ALL.len()],
    /// Not created, because the instance was full or draining.
    pub refused: u64,
    /// What live sessions hold: keys, values and last echoes.
    pub data_bytes: u64,
}

impl SessionStore {
    /// The store that the configuration of an instance asks for.
    pub fn build(
        id: InstanceId,
        config: &SessionConfig,
        process: &Arc<Process>,
        share: &Arc<Share>,
        replay: &Arc<ReplayBudget>,
    ) -> Self {
        match (&process.link, config.store) {
            (Some(link), StoreName::Shared) => {
                Self::shared(id, config, process, link, share, replay)
            }
            (Some(_), StoreName::Memory) | (None, StoreName::Shared | StoreName::Memory) => {
                Self::in_memory(id, config, process, share, replay)
            }
        }
    }

    /// A store in the memory of this process. What its sessions hold is booked on `share`; what their streams keep to be
    /// resumed is limited by `replay`.
    pub fn in_memory(
        id: InstanceId,
        config: &SessionConfig,
        process: &Arc<Process>,
        share: &Arc<Share>,
        replay: &Arc<ReplayBudget>,
    ) -> Self {
        let conversations =
            Arc::new(Conversations::new(process.lifecycle.closing(), share, replay));
        Self {
            backend: Backend::Memory(Arc::new(MemoryStore::new(
                id,
                config,
                process,
                share,
                &conversations,
            ))),
            conversations,
            available: AtomicBool::new(true),
        }
    }

    /// A store that other processes share, over that link.
    pub fn shared(
        id: InstanceId,
        config: &SessionConfig,
        process: &Arc<Process>,
        link: &Arc<Link>,
        share: &Arc<Share>,
        replay: &Arc<ReplayBudget>,
    ) -> Self {
        let logs = Logs::new(&shared::key_of(id, link), process, link, replay);
        let conversations = Conversations::new(process.lifecycle.closing(), share, replay);
        let conversations = Arc::new(conversations.shared(&logs));
        let store = SharedStore::new(id, config, process, link, &logs, &conversations);
        Self {
            backend: Backend::Shared(Arc::new(store)),
            conversations,
            available: AtomicBool::new(true),
        }
    }

    /// Whether other processes share it.
    pub fn is_shared(&self) -> bool {
        self.shared_store().is_some()
    }

    /// The store that other processes share, if it is one.
    pub(super) fn shared_store(&self) -> Option<&Arc<SharedStore>> {
        match &self.backend {
            Backend::Memory(_) => None,
            Backend::Shared(store) => Some(store),
        }
    }

    /// Makes the store unreachable on purpose, or reachable again, so that tests can see what clients are told. While it
    /// is unreachable every operation that can fail returns `Unavailable`, and the sessions stay as they are.
    pub fn set_available(&self, available: bool) {
        self.available.store(available, Ordering::Relaxed);
    }

    fn reach(&self) -> Result<&Backend, Unavailable> {
        self.available.load(Ordering::Relaxed).then_some(&self.backend).ok_or(Unavailable)
    }

    /// Ends no session, even if more than `capacity` are live.
    pub(crate) fn set_capacity(&self, capacity: u64) {
        match &self.backend {
            Backend::Memory(store) => store.set_capacity(capacity),
            Backend::Shared(store) => store.set_capacity(capacity),
        }
    }

    /// Creates a session for the caller who is its owner.
    pub async fn create(&self, handshake: Handshake, owner: Caller) -> Result<Record, NotCreated> {
        match self.reach()? {
            Backend::Memory(store) => store.create(handshake, owner),
            Backend::Shared(store) => Box::pin(store.create(handshake, owner)).await,
        }
    }

    /// The session of that id, if `caller` owns it. A store that must be asked over a network may leave that to the commit
    /// that follows, for a session that is known here: see [`Record::asked`] and [`prove`](Self::prove).
    pub async fn find(&self, id: &str, caller: Caller) -> Result<Record, NotLoaded> {
        match self.reach().map_err(|Unavailable| NotLoaded::Unavailable)? {
            Backend::Memory(store) => {
                store.load(id, caller, Want::Nothing).map_err(NotLoaded::Gone)
            }
            Backend::Shared(store) => Box::pin(store.find(id, caller)).await,
        }
    }

    /// The session as the store has it, which [`find`](Self::find) may have left open.
    pub async fn prove(&self, session: Record) -> Result<Record, NotLoaded> {
        match session.asked {
            true => Ok(session),
            false => {
                let (id, owner) = (session.head.id.to_string(), session.head.owner);
                self.load(&id, owner, Want::Nothing).await
            }
        }
    }

    /// Loads the session of that id if `caller` owns it, and restarts its idle clock.
    pub async fn load(&self, id: &str, caller: Caller, want: Want) -> Result<Record, NotLoaded> {
        match self.reach().map_err(|Unavailable| NotLoaded::Unavailable)? {
            Backend::Memory(store) => store.load(id, caller, want).map_err(NotLoaded::Gone),
            Backend::Shared(store) => Box::pin(store.load(id, caller, want)).await,
        }
    }

    /// Makes all of a change or none of it, and returns the record as it is afterwards.
    pub async fn commit(
        &self,
        session: &Record,
        change: Change<'_>,
        quota: &SessionConfig,
    ) -> Result<Record, NotCommitted> {
        match self.reach().map_err(|Unavailable| NotCommitted::Unavailable)? {
            Backend::Memory(store) => store.commit(session, change, quota),
            Backend::Shared(store) => Box::pin(store.commit(session, change, quota)).await,
        }
    }

    /// Keeps a session from expiring while a call or a stream is under way. Dropping the lease restarts its idle clock.
    pub fn hold(&self, id: SessionId) -> Lease {
        match &self.backend {
            Backend::Memory(store) => store.hold(id),
            Backend::Shared(store) => store.hold(id),
        }
        Lease { backend: self.backend.clone(), id }
    }

    /// The conversation of a session, created if there was none.
    pub(crate) fn conversation(&self, id: SessionId) -> Arc<Conversation> {
        let conversation = self.conversations.get_or_begin(id);
        let lives = match &self.backend {
            Backend::Memory(store) => store.lives(id),
            // Of a later end the reader of news hears when the conversation is there.
            Backend::Shared(store) => !store.has_ended(id),
        };
        // The session may have ended just before its conversation was there to be ended.
        if !lives {
            self.conversations.end(id);
        }
        conversation
    }

    /// The conversation of a session, if it has one.
    pub fn conversation_of(&self, id: SessionId) -> Option<Arc<Conversation>> {
        self.conversations.get(id)
    }

    /// The stream of a session that is to be read on after an event, if that event was sent on it.
    pub(crate) async fn stream(
        &self,
        id: SessionId,
        number: u32,
        after: u64,
    ) -> Result<Option<Arc<EventLog>>, Unavailable> {
        match self.reach()? {
            Backend::Memory(_) => {
                let log = self.conversation_of(id).and_then(|it| it.stream(number));
                Ok(log.filter(|log| log.has_sent(after)))
            }
            Backend::Shared(store) => Box::pin(store.stream(id, number, after)).await,
        }
    }

    /// Requests to clients that await a response, of all sessions.
    pub fn open_questions(&self) -> u64 {
        self.conversations.open_questions()
    }

    /// Ends a session; false if it was not live.
    pub async fn end(&self, id: SessionId, reason: EndReason) -> Result<bool, Unavailable> {
        match self.reach()? {
            Backend::Memory(store) => Ok(store.end(id, reason)),
            Backend::Shared(store) => store.end(id, reason).await,
        }
    }

    /// Ends a session that was listed; false if it was not live.
    pub(crate) async fn end_listed(
        &self,
        session: &Listed,
        reason: EndReason,
    ) -> Result<bool, Unavailable> {
        match (self.reach()?, session.id, session.digest) {
            (_, Some(id), _) => self.end(id, reason).await,
            (Backend::Shared(store), None, Some(digest)) => store.end_digest(digest, reason).await,
            (Backend::Memory(_) | Backend::Shared(_), None, _) => Ok(false),
        }
    }

    /// Ends all sessions, and returns how many that were.
    pub async fn end_all(&self, reason: EndReason) -> Result<u64, Unavailable> {
        match self.reach()? {
            Backend::Memory(store) => Ok(store.end_all(reason).await),
            Backend::Shared(store) => store.end_all(reason).await,
        }
    }

    /// The process stops, and with it all sessions that nobody else has.
    pub async fn shut_down(&self) {
        match &self.backend {
            Backend::Memory(store) => {
                store.end_all(EndReason::Shutdown).await;
            }
            Backend::Shared(_) => {}
        }
    }

    /// The live sessions in no particular order. Restarts no idle clock.
    pub async fn list(&self) -> Result<Vec<Listed>, Unavailable> {
        match self.reach()? {
            Backend::Memory(store) => Ok(store.list().await),
            Backend::Shared(store) => store.list().await,
        }
    }

    /// The sessions that match, those first that were used last; at most `limit`. Restarts no idle clock.
    pub(crate) async fn recent(&self, limit: usize, search: &Search) -> Result<Found, Unavailable> {
        match self.reach()? {
            Backend::Memory(store) => Ok(store.recent(limit, search).await),
            Backend::Shared(store) => store.recent(limit, search).await,
        }
    }

    /// A session that has one of these references, with its data. Restarts no idle clock.
    pub(crate) async fn find_reference(
        &self,
        wanted: [Option<SessionRef>; 2],
    ) -> Result<Option<Listed>, Unavailable> {
        match self.reach()? {
            Backend::Memory(store) => Ok(store.find_reference(wanted).await),
            Backend::Shared(store) => store.find_reference(wanted).await,
        }
    }

    /// The sessions that ended here and are remembered, if their reference fits, the last first; at most `limit`.
    pub(crate) async fn last_ended(
        &self,
        limit: usize,
        fits: impl Fn(SessionRef) -> bool + Send + 'static,
    ) -> Result<Vec<EndedSession>, Unavailable> {
        match self.reach()? {
            Backend::Memory(store) => Ok(store.last_ended(limit, fits).await),
            Backend::Shared(store) => store.last_ended(limit, fits).await,
        }
    }

    /// The counts as of now, or, of a shared store, as of the last tick, beginning or end here.
    pub fn counts(&self) -> Counts {
        match &self.backend {
            Backend::Memory(store) => store.counts(),
            Backend::Shared(store) => store.counts(),
        }
    }

    /// Has [`counts`](Self::counts) tell those of now, if the store can be asked.
    pub(crate) async fn refresh(&self) {
        // Else they are as they were.
        let _ = self.count().await;
    }

    /// The counts as of now.
    pub async fn count(&self) -> Result<Counts, Unavailable> {
        if let Backend::Shared(store) = self.reach()? {
            store.tick_now().await?;
        }
        Ok(self.counts())
    }

    /// How many ends are remembered, to say what became of a session.
    pub fn remembered(&self) -> usize {
        match &self.backend {
            Backend::Memory(store) => store.remembered(),
            Backend::Shared(store) => store.remembered(),
        }
    }

    /// Ends sessions that have expired although nobody asks for them. To be called a few times per idle timeout.
    pub async fn tick(&self) {
        match &self.backend {
            Backend::Memory(store) => store.tick().await,
            // The next one does what this one could not.
            Backend::Shared(store) => _ = store.tick().await,
        }
    }
}

/// See [`SessionStore::hold`].
#[derive(Debug)]
pub struct Lease {
    backend: Backend,
    id: SessionId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &self.backend {
            Backend::Memory(store) => store.release(self.id),
            Backend::Shared(store) => store.release(self.id),
        }
    }
}
