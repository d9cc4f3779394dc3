//! Sessions in this process: a moka cache, and a queue of when they expire.
//!
//! Owns the entries of one instance's sessions. Admission is decided by the ledger's exact count before anything is
//! inserted, and expiry by the queue. The cache itself has no capacity, since it would make room by removing live
//! sessions; and its own time to idle is only a backstop, since it would remove all that have expired at once, on
//! the thread of whichever request comes next.
//!
//! Locks. None is held while another is taken, while moka is called, or across an await, so there is no order to keep:
//!
//! | lock | guards | taken by |
//! |---|---|---|
//! | `Entry::state` | what changes in one session, and its end | load, commit, end, every listing |
//! | `MemoryStore::held` | which sessions are in use | hold, release, tick, and who asks if one has expired |
//! | `MemoryStore::queue` | when sessions expire | create, tick |
//! | `Ledger::counts` | the counts, and with them who is admitted | create, end, tick, counts |
//! | `Ledger::ended` | how sessions ended | end; load and commit where there is none; an operator's search |
//! | `Conversations::open` | which sessions converse | end, streams, and calls that take time |
//!
//! `Entry::touched`, `Ledger::data_bytes` and the capacity are atomics. Ending a session removes its entry first, then
//! marks it as ended, then counts and remembers the end, then ends the conversation. A commit that found the entry
//! just before sees the mark and changes nothing.
//! Traps: moka's `get` restarts the cache's idle clock, iteration does not. A moka listener that panics is switched off
//! for good. Going through a million sessions takes a while, so it is done on a blocking thread.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::{notification::RemovalCause, sync::Cache};
use tokio::task::spawn_blocking;

use super::{
    conversation::Conversations,
    entry::{Entry, NotApplied},
    expiry::ExpiryQueue,
    id_hasher::BuildIdHasher,
    ledger::{EndedSession, Ledger},
    lock,
    record::{Change, Handshake, Head, Listed, Record, Want},
    search::{Found, Search},
    store::{Counts, Gone, NotCommitted, NotCreated},
};
use crate::{
    budget::Share,
    clock::{Moment, millis},
    config::SessionConfig,
    id::{Caller, Elsewhere, EndReason, InstanceId, MintedBy, SessionId, SessionRef},
    observe::{EventKind, Subject},
    process::Process,
    wire::ProtocolVersion,
};

/// By how much the cache's own time to idle is longer than the store's.
const BACKSTOP: Duration = Duration::from_secs(3600);

/// Sessions from the queue that are looked at in one go: about a millisecond's work.
const BATCH: usize = 256;

/// One instance's sessions.
#[derive(Debug)]
pub(super) struct MemoryStore {
    here: MintedBy,
    process: Arc<Process>,
    capacity: AtomicU64,
    timeout: Duration,
    live: Cache<SessionId, Arc<Entry>, BuildIdHasher>,
    /// Sessions that do not expire, each with its number of calls and streams under way.
    held: Mutex<HashMap<SessionId, (Arc<Entry>, usize)>>,
    ledger: Arc<Ledger>,
    queue: Mutex<ExpiryQueue<Entry>>,
    /// How many had ended when the cache last released what was removed.
    released: AtomicU64,
}

impl MemoryStore {
    pub(super) fn new(
        instance: InstanceId,
        config: &SessionConfig,
        process: &Arc<Process>,
        share: &Arc<Share>,
        conversations: &Arc<Conversations>,
    ) -> Self {
        let (here, timeout) = (process.minted_by(instance), config.timeout_seconds.get());
        let ledger = Arc::new(Ledger::new(here, process, share, conversations));
        let listener = {
            let ledger = Arc::clone(&ledger);
            move |_, entry: Arc<Entry>, cause| match cause {
                // Without a capacity there is no `Size`; if there were, the session would be gone too.
                RemovalCause::Expired | RemovalCause::Size => {
                    entry.end(&ledger, EndReason::Expired);
                }
                // Whoever removed it ends it, with the right reason.
                RemovalCause::Explicit | RemovalCause::Replaced => {}
            }
        };
        let live = Cache::builder()
            .time_to_idle(timeout.saturating_add(BACKSTOP))
            .eviction_listener(listener)
            .build_with_hasher(BuildIdHasher);
        Self {
            here,
            process: Arc::clone(process),
            capacity: AtomicU64::new(config.capacity),
            timeout,
            live,
            held: Mutex::default(),
            ledger,
            queue: Mutex::default(),
            released: AtomicU64::new(0),
        }
    }

    pub(super) fn create(
        &self,
        mut handshake: Handshake,
        owner: Caller,
    ) -> Result<Record, NotCreated> {
        if self.process.lifecycle.is_draining() {
            self.ledger.refuse();
            return Err(NotCreated::Draining);
        }
        let capacity = self.capacity.load(Ordering::Relaxed);
        if !self.ledger.admit(capacity) {
            // Make room by ending what has expired since the last tick.
            while self.end_due() && self.ledger.counts().live >= capacity {}
            if !self.ledger.admit(capacity) {
                self.ledger.refuse();
                let retry_after_seconds = self.timeout.as_secs().clamp(1, 30);
                return Err(NotCreated::Full { capacity, retry_after_seconds });
            }
        }
        let minted = SessionId::mint(self.here).map_err(|_| NotCreated::NoEntropy);
        let booked = minted.and_then(|id| Ok(self.ledger.book(&handshake).map(|()| id)?));
        let id = booked.inspect_err(|_| self.ledger.take_back())?;
        let now = self.process.clock.now();
        handshake.timeout_millis = handshake.timeout_millis.min(millis(self.timeout));
        let reference = id.reference();
        let head = Arc::new(Head { id, reference, owner, handshake, created: now });
        let entry = Arc::new(Entry::new(head, now));
        self.live.insert(id, Arc::clone(&entry));
        lock(&self.queue).file(entry.due(), &entry);
        tracing::debug!(
            instance = self.here.instance.digit(),
            session = %reference,
            version = entry.head.handshake.version.map(ProtocolVersion::as_str),
            "session created"
        );
        let subject = Subject::Instance(self.here.instance, Some(reference));
        self.process.events.note(EventKind::Created, subject);
        Ok(entry.record(Want::Nothing))
    }

    pub(super) fn set_capacity(&self, capacity: u64) {
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    pub(super) fn load(&self, text: &str, caller: Caller, want: Want) -> Result<Record, Gone> {
        let id = SessionId::parse(text).ok_or(Gone::Unknown)?;
        let Some(entry) = self.live.get(&id) else {
            return Err(self.diagnose(id, caller));
        };
        let now = self.process.clock.now();
        if self.has_expired(&entry, now) {
            self.remove(id, EndReason::Expired);
            return Err(self.diagnose(id, caller));
        }
        if entry.head.owner != caller {
            return Err(Gone::Unknown);
        }
        entry.touch(now);
        entry.live_record(want).ok_or_else(|| self.diagnose(id, caller))
    }

    pub(super) fn commit(
        &self,
        session: &Record,
        change: Change<'_>,
        quota: &SessionConfig,
    ) -> Result<Record, NotCommitted> {
        let gone = || NotCommitted::Gone(self.diagnose(session.head.id, session.head.owner));
        // An entry that has ended is gone or marked, so the hint is as good as a look-up.
        let entry = session.hint.upgrade().and_then(|entry| entry.downcast::<Entry>().ok());
        let entry = entry.ok_or_else(gone)?;
        let mut state = lock(&entry.state);
        if state.ended {
            drop(state);
            return Err(gone());
        }
        let (keep, now) = (|more| self.ledger.keep(more), || self.process.clock.now());
        let (grown, replaced) =
            state.apply(&change, quota, keep, now).map_err(|not| match not {
                NotApplied::Quota(exceeded) => NotCommitted::Quota(exceeded),
                NotApplied::NoRoom => NotCommitted::NoRoom,
            })?;
        let record = Record { replaced, ..state.record(&entry, change.want) };
        drop(state);
        self.ledger.add_data(grown);
        Ok(record)
    }

    /// Why there is no such session, as far as its id and the recent ends tell.
    fn diagnose(&self, id: SessionId, caller: Caller) -> Gone {
        let Some(minted_by) = id.minted_by() else { return Gone::Unknown };
        match minted_by.elsewhere(self.here) {
            Some(Elsewhere::Instance) => Gone::OtherInstance(minted_by.instance),
            Some(Elsewhere::Replica) => Gone::OtherReplica(minted_by),
            Some(Elsewhere::Boot) => Gone::EarlierBoot(minted_by),
            None => self.ledger.how_it_ended(id, caller).unwrap_or(Gone::Unknown),
        }
    }

    pub(super) fn lives(&self, id: SessionId) -> bool {
        self.live.contains_key(&id)
    }

    fn has_expired(&self, entry: &Entry, now: Moment) -> bool {
        now >= entry.due() && !lock(&self.held).contains_key(&entry.head.id)
    }

    /// Takes a batch of sessions that may have expired from the queue, and ends those that have; false if there was none.
    fn end_due(&self) -> bool {
        let now = self.process.clock.now();
        let taken = lock(&self.queue).take_due(now, BATCH);
        for entry in taken.iter().filter_map(Weak::upgrade) {
            let id = entry.head.id;
            if self.has_expired(&entry, now) {
                self.remove(id, EndReason::Expired);
            } else if self.live.get(&id).is_some() {
                // It has been used since it was filed, or is held. What is held counts as used when it is released.
                let due = match entry.due() {
                    due if due > now => due,
                    _ => now.plus(entry.head.timeout() / 4),
                };
                lock(&self.queue).file(due, &entry);
            }
        }
        !taken.is_empty()
    }

    pub(super) fn hold(&self, id: SessionId) {
        let Some(entry) = self.live.get(&id) else { return };
        lock(&self.held).entry(id).or_insert_with(|| (entry, 0)).1 += 1;
    }

    pub(super) fn release(&self, id: SessionId) {
        let mut held = lock(&self.held);
        let Some((entry, count)) = held.get_mut(&id) else { return };
        *count -= 1;
        let entry = match *count {
            0 => held.remove(&id).map(|(entry, _)| entry),
            _ => Some(Arc::clone(entry)),
        };
        drop(held);
        if let Some(entry) = entry {
            entry.touch(self.process.clock.now());
        }
    }

    pub(super) fn end(&self, id: SessionId, reason: EndReason) -> bool {
        let Some(entry) = self.live.get(&id) else { return false };
        if self.has_expired(&entry, self.process.clock.now()) {
            self.remove(id, EndReason::Expired);
            return false;
        }
        self.remove(id, reason)
    }

    /// Removes and ends a session; true for the one who did.
    fn remove(&self, id: SessionId, reason: EndReason) -> bool {
        self.live.remove(&id).is_some_and(|entry| entry.end(&self.ledger, reason))
    }

    pub(super) async fn end_all(self: &Arc<Self>, reason: EndReason) -> u64 {
        let store = Arc::clone(self);
        let work = move || {
            let ids = store.live.iter().map(|(id, _)| *id);
            ids.map(|id| u64::from(store.end(id, reason))).sum()
        };
        // Fails only after a panic, which the panic hook has logged.
        spawn_blocking(work).await.unwrap_or_default()
    }

    pub(super) async fn list(self: &Arc<Self>) -> Vec<Listed> {
        self.survey(|entries| entries.map(|entry| entry.record(Want::Nothing).into()).collect())
            .await
    }

    pub(super) async fn recent(self: &Arc<Self>, limit: usize, search: &Search) -> Found {
        let search = search.clone();
        self.survey(move |entries| {
            let mut recent: Vec<_> = entries.filter(|entry| search.matches(&entry.head)).collect();
            let count = recent.len();
            recent.sort_by_cached_key(|entry| entry.by_use());
            recent.truncate(limit);
            let sessions = recent.iter().map(|entry| entry.record(Want::Nothing).into()).collect();
            Found { count, sessions }
        })
        .await
    }

    pub(super) async fn find_reference(
        self: &Arc<Self>,
        wanted: [Option<SessionRef>; 2],
    ) -> Option<Listed> {
        self.survey(move |entries| {
            let mut found = entries.filter(|entry| wanted.contains(&Some(entry.head.reference)));
            Iterator::next(&mut found).map(|entry| entry.record(Want::Data).into())
        })
        .await
    }

    pub(super) async fn last_ended(
        &self,
        limit: usize,
        fits: impl Fn(SessionRef) -> bool + Send + 'static,
    ) -> Vec<EndedSession> {
        let ledger = Arc::clone(&self.ledger);
        spawn_blocking(move || ledger.last_ended(limit, fits)).await.unwrap_or_default()
    }

    /// Looks at every session that has not expired, on a blocking thread. Restarts no idle clock.
    async fn survey<T: Default + Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&mut dyn Iterator<Item = Arc<Entry>>) -> T + Send + 'static,
    ) -> T {
        let store = Arc::clone(self);
        let now = self.process.clock.now();
        let work = move || {
            let entries = store.live.iter().map(|(_, entry)| entry);
            look(&mut entries.filter(|entry| !store.has_expired(entry, now)))
        };
        spawn_blocking(work).await.unwrap_or_default()
    }

    pub(super) fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    pub(super) fn remembered(&self) -> usize {
        self.ledger.remembered()
    }

    pub(super) async fn tick(self: &Arc<Self>) {
        let now = self.process.clock.now();
        for (entry, _) in lock(&self.held).values() {
            entry.touch(now);
        }
        let counts = self.counts();
        let (due, stale) = {
            let queue = lock(&self.queue);
            (queue.has_due(now), queue.is_stale(counts.live))
        };
        // The cache keeps what was removed until it is touched again.
        let ended = counts.ended.iter().sum();
        let unreleased = self.released.swap(ended, Ordering::Relaxed) != ended;
        if !due && !stale && !unreleased {
            return;
        }
        let store = Arc::clone(self);
        let work = move || {
            while store.end_due() {}
            let mut bucket = stale.then_some(0);
            while let Some(from) = bucket {
                bucket = lock(&store.queue).sweep(from);
            }
            store.live.run_pending_tasks();
        };
        let _ = spawn_blocking(work).await;
    }
}
