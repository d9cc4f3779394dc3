//! Sessions in this process: a moka cache, and a calendar of when they are due.
//!
//! Owns one instance's cache, its exact counts and the memory of how recent sessions ended. Refuses a
//! session beyond the capacity before anything is inserted, and ends one that was idle for too long by
//! itself. The cache has no bound of its own, since it would throw a live session away there, and its time to
//! idle is a backstop: it would remove all that is due at once, on the thread of whoever comes next.
//! Traps: `get` sets the cache's idle clock back, iteration does not; a listener that panics is switched off
//! for good, so it only counts; a great many sessions take a while to remove or to look at, so that is not
//! done on a thread that serves.

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
use serde_json::value::RawValue;
use tokio::task::spawn_blocking;

use super::{
    EndReason, Handshake, QuotaExceeded, Session, SessionId, SessionRef,
    calendar::Calendar,
    signed,
    store::{Counts, Gone, Refused},
};
use crate::{
    auth::Caller, clock::Moment, config::SessionConfig, instance::Process,
    mcp::version::ProtocolVersion, place::InstanceId,
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
pub struct MemoryStore {
    instance: InstanceId,
    process: Arc<Process>,
    capacity: AtomicU64,
    timeout: Duration,
    live: Cache<SessionId, Arc<Session>, BuildDrawn>,
    /// Sessions with a call or a stream under way, and how many of them.
    held: Mutex<HashMap<SessionId, (Arc<Session>, usize)>>,
    ledger: Arc<Ledger>,
    calendar: Mutex<Calendar>,
}

/// What outlives a session: the counts, and how it ended.
#[derive(Debug)]
struct Ledger {
    instance: InstanceId,
    process: Arc<Process>,
    counts: Mutex<Counts>,
    /// What a change and an end add may come in either order, so it may be less than nothing for a moment.
    data_bytes: AtomicI64,
    timeout: Duration,
    ended: Mutex<Ended>,
}

/// The sessions that ended last.
#[derive(Debug, Default)]
struct Ended {
    how: HashMap<SessionId, End, BuildDrawn>,
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

    /// Counts the end of a session once, however many ways lead here; true for the first.
    fn note_end(&self, session: &Session, reason: EndReason) -> bool {
        let Some(data_bytes) = session.mark_ended() else { return false };
        self.add_data(-signed(data_bytes));
        let mut counts = self.counts();
        counts.live -= 1;
        counts.ended[reason.index()] += 1;
        drop(counts);
        let (mut ended, now) = self.ended();
        let timeout = session.timeout(self.timeout);
        ended.how.insert(session.id, End { reason, timeout, owner: session.owner });
        ended.order.push_back((session.id, now));
        drop(ended);
        tracing::debug!(
            instance = self.instance.digit(),
            session = %session.reference,
            reason = reason.as_str(),
            "session ended"
        );
        true
    }
}

/// Hashes an id by the bits that were drawn for it: nobody can choose them, so nothing need be mixed. (A
/// made-up id is looked for the same way; it is never put there.)
#[derive(Clone, Copy, Debug, Default)]
struct Drawn(u64);

#[derive(Clone, Copy, Debug, Default)]
struct BuildDrawn;

impl BuildHasher for BuildDrawn {
    type Hasher = Drawn;

    fn build_hasher(&self) -> Drawn {
        Drawn::default()
    }
}

impl Hasher for Drawn {
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
    ) -> Self {
        let timeout = config.timeout_seconds.get();
        let ledger = Arc::new(Ledger {
            instance,
            process: Arc::clone(process),
            counts: Mutex::default(),
            data_bytes: AtomicI64::new(0),
            timeout,
            ended: Mutex::default(),
        });
        let listener = {
            let ledger = Arc::clone(&ledger);
            move |_, session: Arc<Session>, cause| match cause {
                // `Size` cannot happen without a bound; were it to, the session is gone all the same.
                RemovalCause::Expired | RemovalCause::Size => {
                    ledger.note_end(&session, EndReason::Expired);
                }
                // Noted by whoever removed it, with the reason.
                RemovalCause::Explicit | RemovalCause::Replaced => {}
            }
        };
        let live = Cache::builder()
            .time_to_idle(timeout.saturating_add(BACKSTOP))
            .eviction_listener(listener)
            .build_with_hasher(BuildDrawn);
        Self {
            instance,
            process: Arc::clone(process),
            capacity: AtomicU64::new(config.capacity),
            timeout,
            live,
            held: Mutex::default(),
            ledger,
            calendar: Mutex::default(),
        }
    }

    pub(super) fn create(
        &self,
        handshake: Handshake,
        owner: Caller,
    ) -> Result<Arc<Session>, Refused> {
        if self.process.lifecycle.is_draining() {
            self.ledger.counts().refused += 1;
            return Err(Refused::Draining);
        }
        if !self.admit() {
            // Sessions may be due that nobody has asked for since.
            while self.end_due() && !self.has_room() {}
            if !self.admit() {
                self.ledger.counts().refused += 1;
                let retry_after_seconds = self.timeout.as_secs().clamp(1, 30);
                return Err(Refused::Full { capacity: self.capacity(), retry_after_seconds });
            }
        }
        let Ok(id) = SessionId::mint(self.instance, self.process.origin) else {
            let mut counts = self.ledger.counts();
            (counts.live, counts.created) = (counts.live - 1, counts.created - 1);
            return Err(Refused::NoEntropy);
        };
        let session = Arc::new(Session::begin(id, handshake, owner, self.process.clock.now()));
        self.live.insert(id, Arc::clone(&session));
        self.calendar().file(self.due(&session), &session);
        tracing::debug!(
            instance = self.instance.digit(),
            session = %session.reference,
            version = session.handshake.version.map(ProtocolVersion::as_str),
            "session created"
        );
        Ok(session)
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

    pub(super) fn find(&self, text: &str, caller: Caller) -> Result<Arc<Session>, Gone> {
        let id = SessionId::parse(text).ok_or(Gone::Unknown)?;
        let Some(session) = self.live.get(&id) else {
            return Err(self.diagnose(id, caller));
        };
        let now = self.process.clock.now();
        if self.is_over(&session, now) {
            self.remove(session.id, EndReason::Expired);
            return Err(self.diagnose(id, caller));
        }
        if session.owner != caller {
            return Err(Gone::Unknown);
        }
        session.touch(now);
        Ok(session)
    }

    fn diagnose(&self, id: SessionId, caller: Caller) -> Gone {
        let ours = self.process.origin;
        match id.instance() {
            None => return Gone::Unknown,
            Some(other) if other != self.instance => return Gone::OtherInstance(other),
            Some(_) => {}
        }
        if id.origin().tag != ours.tag {
            return Gone::OtherReplica(id.origin());
        }
        if id.origin().boot != ours.boot {
            return Gone::EarlierBoot(id.origin());
        }
        self.ledger.how_it_ended(id, caller).unwrap_or(Gone::Unknown)
    }

    fn calendar(&self) -> MutexGuard<'_, Calendar> {
        self.calendar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a session will have been idle for too long.
    fn due(&self, session: &Session) -> Moment {
        session.touched().plus(session.timeout(self.timeout))
    }

    /// Whether a session has been idle for too long.
    fn is_over(&self, session: &Session, now: Moment) -> bool {
        now >= self.due(session) && !self.held().contains_key(&session.id)
    }

    /// Ends some of the sessions that have been idle for too long; false if none is left that may be.
    fn end_due(&self) -> bool {
        let now = self.process.clock.now();
        let taken = self.calendar().take_due(now, BATCH);
        for session in taken.iter().filter_map(Weak::upgrade) {
            if self.is_over(&session, now) {
                self.remove(session.id, EndReason::Expired);
            } else if self.live.get(&session.id).is_some() {
                // It has been used; or it is held, and will have been used when it is let go.
                let due = match self.due(&session) {
                    due if due > now => due,
                    _ => now.plus(session.timeout(self.timeout) / 4),
                };
                self.calendar().file(due, &session);
            }
        }
        !taken.is_empty()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<SessionId, (Arc<Session>, usize)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold(&self, session: &Arc<Session>) {
        self.held().entry(session.id).or_insert_with(|| (Arc::clone(session), 0)).1 += 1;
    }

    pub(super) fn release(&self, session: &Session) {
        let mut held = self.held();
        if let Some((_, count)) = held.get_mut(&session.id) {
            *count -= 1;
            if *count == 0 {
                held.remove(&session.id);
            }
        }
        drop(held);
        session.touch(self.process.clock.now());
    }

    pub(super) fn set_data(
        &self,
        session: &Session,
        key: &str,
        value: Box<RawValue>,
        quota: &SessionConfig,
    ) -> Result<bool, QuotaExceeded> {
        let (replaced, grown) = session.set_data(key, value, quota)?;
        self.ledger.add_data(grown);
        Ok(replaced)
    }

    pub(super) fn end(&self, id: SessionId, reason: EndReason) -> bool {
        let Some(session) = self.live.get(&id) else { return false };
        if self.is_over(&session, self.process.clock.now()) {
            self.remove(session.id, EndReason::Expired);
            return false;
        }
        self.remove(id, reason)
    }

    /// True for the one who ended it.
    fn remove(&self, id: SessionId, reason: EndReason) -> bool {
        self.live.remove(&id).is_some_and(|session| self.ledger.note_end(&session, reason))
    }

    pub(super) async fn end_all(self: &Arc<Self>, reason: EndReason) {
        let store = Arc::clone(self);
        let work = move || {
            for (_, session) in &store.live {
                store.end(session.id, reason);
            }
        };
        // It fails only if it panicked, which the panic hook has told.
        let _ = spawn_blocking(work).await;
    }

    pub(super) async fn list(self: &Arc<Self>) -> Vec<Arc<Session>> {
        self.survey(|sessions| sessions.collect()).await
    }

    pub(super) async fn recent(self: &Arc<Self>, limit: usize) -> Vec<Arc<Session>> {
        if limit == 0 {
            return Vec::new();
        }
        self.survey(move |sessions| {
            let mut recent: Vec<_> = sessions.collect();
            recent.sort_by_cached_key(|session| Reverse(session.touched()));
            recent.truncate(limit);
            recent
        })
        .await
    }

    pub(super) async fn find_reference(
        self: &Arc<Self>,
        wanted: [Option<SessionRef>; 2],
    ) -> Option<Arc<Session>> {
        self.survey(move |mut sessions| {
            Iterator::find(&mut sessions, |session| wanted.contains(&Some(session.reference)))
        })
        .await
    }

    /// Looks at every session, away from the threads that serve: a great many take a while.
    async fn survey<T: Default + Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&mut dyn Iterator<Item = Arc<Session>>) -> T + Send + 'static,
    ) -> T {
        let store = Arc::clone(self);
        let now = self.process.clock.now();
        let work = move || {
            let sessions = store.live.iter().map(|(_, session)| session);
            look(&mut sessions.filter(|session| !store.is_over(session, now)))
        };
        spawn_blocking(work).await.unwrap_or_default()
    }

    pub(super) fn counts(&self) -> Counts {
        let data_bytes = self.ledger.data_bytes.load(Ordering::Relaxed);
        Counts { data_bytes: u64::try_from(data_bytes).unwrap_or(0), ..*self.ledger.counts() }
    }

    pub(super) async fn tick(self: &Arc<Self>) {
        let now = self.process.clock.now();
        for (session, _) in self.held().values() {
            session.touch(now);
        }
        let live = self.counts().live;
        let (due, stale) = {
            let calendar = self.calendar();
            (calendar.has_due(now), calendar.is_stale(live))
        };
        if !due && !stale {
            return;
        }
        let store = Arc::clone(self);
        let work = move || {
            while store.end_due() {}
            let mut page = stale.then_some(0);
            while let Some(from) = page {
                page = store.calendar().sweep(from);
            }
        };
        let _ = spawn_blocking(work).await;
    }
}
