//! Sessions in this process: a moka cache, and a queue of when they are due.
//!
//! Owns one instance's entries, its exact counts and the memory of how recent sessions ended. Refuses a session beyond
//! the capacity before anything is inserted, and ends one that was idle for too long by itself. The cache has no bound
//! of its own, since it would throw a live session away there, and its time to idle is a backstop: it would remove all
//! that is due at once, on the thread of whoever comes next.
//!
//! Locks, each held for a few instructions and none while another is taken, so they have no order to get wrong:
//!
//! | lock | guards | taken by |
//! |---|---|---|
//! | `Entry::state` | what changes in one session, and whether it has ended | load, commit, end |
//! | `MemoryStore::held` | who has a call or a stream under way | hold, release, tick; expiry, for a session that is due |
//! | `MemoryStore::queue` | when sessions are due | create, tick, a create at capacity |
//! | `Ledger::counts` | the counts; who may come in is decided here | create, end |
//! | `Ledger::ended` | how sessions ended | end, a load that finds nothing |
//! | `Conversations::open` | what is open for them | end, and whoever opens something |
//!
//! Between them: an end removes the entry first, then marks it ended, then counts, then closes its conversation. Who
//! still holds the entry finds the mark, and changes nothing more.
//! Traps: moka's `get` sets the cache's idle clock back, iteration does not; a listener that panics is switched off for
//! good, so it only counts; a great many sessions take a while to remove or to look at, so that is not done on a
//! thread that serves.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::{notification::RemovalCause, sync::Cache};
use tokio::task::spawn_blocking;

use super::{
    conversation::Conversations,
    expiry::ExpiryQueue,
    record::{Change, Data, Handshake, Head, More, NO_DATA, QuotaExceeded, Record, Tally, Want},
    search::{Found, Search},
    store::{Counts, Gone, NotCommitted, NotCreated},
};
use crate::{
    clock::Moment,
    config::SessionConfig,
    id::{Caller, Elsewhere, EndReason, InstanceId, MintedBy, SessionId, SessionRef},
    observe::events::{EventKind, Subject},
    process::Process,
    wire::{model::LogLevel, version::ProtocolVersion},
};

/// How many ended sessions are remembered, and for how long, so that a 404 can say how they ended.
const REMEMBERED: usize = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);

/// The cache's own time to idle is so much longer than the store's.
const BACKSTOP: Duration = Duration::from_secs(3600);

/// Due sessions that are looked at in one go: about a millisecond.
const BATCH: usize = 256;

/// One instance's sessions.
#[derive(Debug)]
pub(super) struct MemoryStore {
    here: MintedBy,
    process: Arc<Process>,
    capacity: AtomicU64,
    timeout: Duration,
    live: Cache<SessionId, Arc<Entry>, BuildIdHasher>,
    /// Sessions with a call or a stream under way, and how many of them.
    held: Mutex<HashMap<SessionId, (Arc<Entry>, usize)>>,
    ledger: Arc<Ledger>,
    queue: Mutex<ExpiryQueue<Entry>>,
}

/// One live session.
#[derive(Debug)]
struct Entry {
    head: Arc<Head>,
    touched: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    initialized: bool,
    log_level: Option<LogLevel>,
    tally: Tally,
    data: Option<Arc<Data>>,
    /// Text.
    last_echo: Option<Box<[u8]>>,
}

impl Entry {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves plain values behind, each of them whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touched(&self) -> Moment {
        Moment::from_millis(self.touched.load(Ordering::Relaxed))
    }

    fn touch(&self, now: Moment) {
        self.touched.store(now.as_millis(), Ordering::Relaxed);
    }

    fn due(&self) -> Moment {
        self.head.due(self.touched())
    }

    fn record(&self, want: Want) -> Record {
        self.state().record(self, want)
    }
}

impl State {
    fn record(&self, entry: &Entry, want: Want) -> Record {
        let (data_keys, data_bytes) =
            self.data.as_ref().map_or((0, 0), |data| (data.values().len(), data.bytes()));
        Record {
            head: Arc::clone(&entry.head),
            touched: entry.touched(),
            tally: self.tally,
            initialized: self.initialized,
            log_level: self.log_level.unwrap_or(LogLevel::Info),
            data_keys,
            data_bytes,
            replaced: false,
            more: match want {
                Want::Nothing => More::Nothing,
                Want::Data => More::Data(self.data.clone().unwrap_or_default()),
                Want::Echo => More::Echo(self.last_echo()),
            },
        }
    }

    fn last_echo(&self) -> Option<Box<str>> {
        self.last_echo.as_deref().map(|last| String::from_utf8_lossy(last).into())
    }

    /// Makes the change, or none of it. By how many bytes the data have grown, and whether a value was replaced.
    fn apply(
        &mut self,
        change: &Change<'_>,
        quota: &SessionConfig,
        now: impl FnOnce() -> Moment,
    ) -> Result<(i64, bool), QuotaExceeded> {
        let (mut grown, mut replaced) = (0, false);
        // First what can be refused.
        if let Some((key, value)) = change.set {
            let data = self.data.as_deref().unwrap_or(&NO_DATA);
            let needed = data.admit(key, value, quota)?;
            grown = signed(needed) - signed(data.bytes());
            // A reader may still hold what was there; then this one goes on with a copy.
            let data = Arc::make_mut(self.data.get_or_insert_default());
            replaced = data.set(key, Arc::clone(value), needed);
        }
        if let Some(message) = change.echo {
            match &mut self.last_echo {
                // With a million sessions, to free and to allocate are two more cache misses.
                Some(last) if last.len() == message.len() => {
                    last.copy_from_slice(message.as_bytes());
                }
                last => *last = Some(message.as_bytes().into()),
            }
        }
        self.initialized |= change.initialized;
        self.log_level = change.log_level.or(self.log_level);
        if change.count {
            self.tally.add(now());
        }
        Ok((grown, replaced))
    }
}

/// A number of bytes, to be added or taken away.
fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What outlives a session: the counts, and how it ended.
#[derive(Debug)]
struct Ledger {
    here: MintedBy,
    process: Arc<Process>,
    conversations: Arc<Conversations>,
    counts: Mutex<Counts>,
    /// What a change and an end add may come in either order, so it may be less than nothing for a moment.
    data_bytes: AtomicI64,
    ended: Mutex<Ended>,
}

/// The sessions that ended last.
#[derive(Debug, Default)]
struct Ended {
    how: HashMap<SessionId, End, BuildIdHasher>,
    order: VecDeque<(SessionId, Moment)>,
}

/// What is remembered of a session.
#[derive(Clone, Copy, Debug)]
struct End {
    reason: EndReason,
    /// After which idle time it would have expired.
    timeout: Duration,
    owner: Caller,
}

impl Ended {
    fn forget_old(&mut self, now: Moment) {
        while let Some((id, since)) = self.order.front()
            && (self.order.len() > REMEMBERED || now.since(*since) > REMEMBERED_FOR)
        {
            self.how.remove(id);
            self.order.pop_front();
        }
    }
}

impl Ledger {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sessions that ended last, as of now.
    fn ended(&self) -> (MutexGuard<'_, Ended>, Moment) {
        let now = self.process.clock.now();
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.forget_old(now);
        (ended, now)
    }

    /// How the caller's session of that id ended; nobody else is told.
    fn how_it_ended(&self, id: SessionId, caller: Caller) -> Option<Gone> {
        let end = self.ended().0.how.get(&id).copied()?;
        (end.owner == caller).then_some(match end.reason {
            EndReason::Expired => Gone::Expired(end.timeout),
            reason @ (EndReason::Client | EndReason::Admin | EndReason::Shutdown) => {
                Gone::Terminated(reason)
            }
        })
    }

    fn add_data(&self, more: i64) {
        if more != 0 {
            self.data_bytes.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Notes the end of a session once, however many ways lead here; true for the first.
    fn note_end(&self, entry: &Entry, reason: EndReason) -> bool {
        let Head { id, reference, owner, timeout, .. } = *entry.head;
        let data_bytes = {
            let mut state = entry.state();
            if std::mem::replace(&mut state.ended, true) {
                return false;
            }
            state.data.as_ref().map_or(0, |data| data.bytes())
        };
        self.add_data(-signed(data_bytes));
        let mut counts = self.counts();
        counts.live -= 1;
        counts.ended[reason.index()] += 1;
        drop(counts);
        let (mut ended, now) = self.ended();
        ended.how.insert(id, End { reason, timeout, owner });
        ended.order.push_back((id, now));
        drop(ended);
        self.conversations.end(id);
        let instance = self.here.instance;
        tracing::debug!(
            instance = instance.digit(),
            session = %reference,
            reason = reason.as_str(),
            "session ended"
        );
        let subject = Subject::Instance(instance, Some(reference));
        self.process.events.note(EventKind::Ended(reason), subject);
        true
    }
}

/// Hashes an id by the bits that were drawn for it: nobody can choose them, so nothing need be mixed. (A
/// made-up id is looked for the same way; it is never put there.)
#[derive(Clone, Copy, Debug, Default)]
struct IdHasher(u64);

#[derive(Clone, Copy, Debug, Default)]
struct BuildIdHasher;

impl BuildHasher for BuildIdHasher {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher::default()
    }
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        // The second half holds none of the digits that say where an id was minted, but two bits of a UUID
        // that are always the same: they go to the middle, since maps look at both ends.
        let drawn = bytes.last_chunk().copied().map_or(0, u64::from_le_bytes);
        self.0 = (self.0 ^ drawn).rotate_left(28);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl MemoryStore {
    /// An empty store.
    pub(super) fn new(
        instance: InstanceId,
        config: &SessionConfig,
        process: &Arc<Process>,
        conversations: &Arc<Conversations>,
    ) -> Self {
        let (here, timeout) = (process.minted_by(instance), config.timeout_seconds.get());
        let ledger = Arc::new(Ledger {
            here,
            process: Arc::clone(process),
            conversations: Arc::clone(conversations),
            counts: Mutex::default(),
            data_bytes: AtomicI64::new(0),
            ended: Mutex::default(),
        });
        let listener = {
            let ledger = Arc::clone(&ledger);
            move |_, entry: Arc<Entry>, cause| match cause {
                // `Size` cannot happen without a bound; were it to, the session is gone all the same.
                RemovalCause::Expired | RemovalCause::Size => {
                    ledger.note_end(&entry, EndReason::Expired);
                }
                // Noted by whoever removed it, with the reason.
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
        }
    }

    pub(super) fn create(&self, handshake: Handshake, owner: Caller) -> Result<Record, NotCreated> {
        if self.process.lifecycle.is_draining() {
            self.ledger.counts().refused += 1;
            return Err(NotCreated::Draining);
        }
        if !self.admit() {
            // Sessions may be due that nobody has asked for since.
            while self.end_due() && !self.has_room() {}
            if !self.admit() {
                self.ledger.counts().refused += 1;
                let retry_after_seconds = self.timeout.as_secs().clamp(1, 30);
                return Err(NotCreated::Full { capacity: self.capacity(), retry_after_seconds });
            }
        }
        let Ok(id) = SessionId::mint(self.here) else {
            let mut counts = self.ledger.counts();
            (counts.live, counts.created) = (counts.live - 1, counts.created - 1);
            return Err(NotCreated::NoEntropy);
        };
        let now = self.process.clock.now();
        let timeout = handshake.timeout.map_or(self.timeout, |own| own.min(self.timeout));
        let reference = id.reference();
        let head = Arc::new(Head { id, reference, owner, handshake, created: now, timeout });
        let entry = Arc::new(Entry {
            head,
            touched: AtomicU64::new(now.as_millis()),
            state: Mutex::default(),
        });
        self.live.insert(id, Arc::clone(&entry));
        self.queue().file(entry.due(), &entry);
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

    fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.ledger.counts().live < self.capacity()
    }

    fn admit(&self) -> bool {
        let mut counts = self.ledger.counts();
        let room = counts.live < self.capacity();
        if room {
            counts.live += 1;
            counts.created += 1;
        }
        room
    }

    pub(super) fn load(&self, text: &str, caller: Caller, want: Want) -> Result<Record, Gone> {
        let id = SessionId::parse(text).ok_or(Gone::Unknown)?;
        let Some(entry) = self.live.get(&id) else {
            return Err(self.diagnose(id, caller));
        };
        let now = self.process.clock.now();
        if self.is_over(&entry, now) {
            self.remove(id, EndReason::Expired);
            return Err(self.diagnose(id, caller));
        }
        if entry.head.owner != caller {
            return Err(Gone::Unknown);
        }
        entry.touch(now);
        Ok(entry.record(want))
    }

    pub(super) fn commit(
        &self,
        head: &Head,
        change: Change<'_>,
        quota: &SessionConfig,
    ) -> Result<Record, NotCommitted> {
        let gone = || NotCommitted::Gone(self.diagnose(head.id, head.owner));
        let entry = self.live.get(&head.id).ok_or_else(gone)?;
        let mut state = entry.state();
        if state.ended {
            drop(state);
            return Err(gone());
        }
        let applied = state.apply(&change, quota, || self.process.clock.now());
        let (grown, replaced) = applied.map_err(NotCommitted::Quota)?;
        let record = Record { replaced, ..state.record(&entry, change.want) };
        drop(state);
        self.ledger.add_data(grown);
        Ok(record)
    }

    fn diagnose(&self, id: SessionId, caller: Caller) -> Gone {
        let Some(minted_by) = id.minted_by() else { return Gone::Unknown };
        match minted_by.elsewhere(self.here) {
            Some(Elsewhere::Instance) => Gone::OtherInstance(minted_by.instance),
            Some(Elsewhere::Replica) => Gone::OtherReplica(minted_by),
            Some(Elsewhere::Boot) => Gone::EarlierBoot(minted_by),
            None => self.ledger.how_it_ended(id, caller).unwrap_or(Gone::Unknown),
        }
    }

    fn queue(&self) -> MutexGuard<'_, ExpiryQueue<Entry>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lives(&self, id: SessionId) -> bool {
        self.live.contains_key(&id)
    }

    /// Whether a session has been idle for too long.
    fn is_over(&self, entry: &Entry, now: Moment) -> bool {
        now >= entry.due() && !self.held().contains_key(&entry.head.id)
    }

    /// Ends some of the sessions that have been idle for too long; false if none is left that may be.
    fn end_due(&self) -> bool {
        let now = self.process.clock.now();
        let taken = self.queue().take_due(now, BATCH);
        for entry in taken.iter().filter_map(Weak::upgrade) {
            let id = entry.head.id;
            if self.is_over(&entry, now) {
                self.remove(id, EndReason::Expired);
            } else if self.live.get(&id).is_some() {
                // It has been used; or it is held, and will have been used when it is let go.
                let due = match entry.due() {
                    due if due > now => due,
                    _ => now.plus(entry.head.timeout / 4),
                };
                self.queue().file(due, &entry);
            }
        }
        !taken.is_empty()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<SessionId, (Arc<Entry>, usize)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold(&self, id: SessionId) {
        let Some(entry) = self.live.get(&id) else { return };
        self.held().entry(id).or_insert_with(|| (entry, 0)).1 += 1;
    }

    pub(super) fn release(&self, id: SessionId) {
        let mut held = self.held();
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
        if self.is_over(&entry, self.process.clock.now()) {
            self.remove(id, EndReason::Expired);
            return false;
        }
        self.remove(id, reason)
    }

    /// True for the one who ended it.
    fn remove(&self, id: SessionId, reason: EndReason) -> bool {
        self.live.remove(&id).is_some_and(|entry| self.ledger.note_end(&entry, reason))
    }

    pub(super) async fn end_all(self: &Arc<Self>, reason: EndReason) -> u64 {
        let store = Arc::clone(self);
        let work = move || {
            let ids = store.live.iter().map(|(id, _)| *id);
            ids.map(|id| u64::from(store.end(id, reason))).sum()
        };
        // It fails only if it panicked, which the panic hook has told.
        spawn_blocking(work).await.unwrap_or_default()
    }

    pub(super) async fn list(self: &Arc<Self>) -> Vec<Record> {
        self.survey(|entries| entries.map(|entry| entry.record(Want::Nothing)).collect()).await
    }

    pub(super) async fn recent(self: &Arc<Self>, limit: usize, search: &Search) -> Found {
        let search = search.clone();
        self.survey(move |entries| {
            let mut recent: Vec<_> = entries.filter(|entry| search.fits(&entry.head)).collect();
            let count = recent.len();
            recent.sort_by_cached_key(|entry| Reverse(entry.touched()));
            recent.truncate(limit);
            let sessions = recent.iter().map(|entry| entry.record(Want::Nothing)).collect();
            Found { count, sessions }
        })
        .await
    }

    pub(super) async fn find_reference(
        self: &Arc<Self>,
        wanted: [Option<SessionRef>; 2],
    ) -> Option<Record> {
        self.survey(move |entries| {
            let mut found = entries.filter(|entry| wanted.contains(&Some(entry.head.reference)));
            Iterator::next(&mut found).map(|entry| entry.record(Want::Data))
        })
        .await
    }

    /// Looks at every session, away from the threads that serve: a great many take a while.
    async fn survey<T: Default + Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&mut dyn Iterator<Item = Arc<Entry>>) -> T + Send + 'static,
    ) -> T {
        let store = Arc::clone(self);
        let now = self.process.clock.now();
        let work = move || {
            let entries = store.live.iter().map(|(_, entry)| entry);
            look(&mut entries.filter(|entry| !store.is_over(entry, now)))
        };
        spawn_blocking(work).await.unwrap_or_default()
    }

    pub(super) fn counts(&self) -> Counts {
        let data_bytes = self.ledger.data_bytes.load(Ordering::Relaxed);
        Counts { data_bytes: u64::try_from(data_bytes).unwrap_or(0), ..*self.ledger.counts() }
    }

    pub(super) async fn tick(self: &Arc<Self>) {
        let now = self.process.clock.now();
        for (entry, _) in self.held().values() {
            entry.touch(now);
        }
        let live = self.counts().live;
        let (due, stale) = {
            let queue = self.queue();
            (queue.has_due(now), queue.is_stale(live))
        };
        if !due && !stale {
            return;
        }
        let store = Arc::clone(self);
        let work = move || {
            while store.end_due() {}
            let mut bucket = stale.then_some(0);
            while let Some(from) = bucket {
                bucket = store.queue().sweep(from);
            }
        };
        let _ = spawn_blocking(work).await;
    }
}
