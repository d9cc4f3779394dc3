//! Sessions in this process: a moka cache with time-to-idle expiry.
//!
//! Owns one instance's cache, its exact counts and the memory of how recent sessions ended. Refuses a
//! session beyond the capacity before anything is inserted: the cache's own bound is only a backstop,
//! since reaching it would throw a live session away.
//! Traps: `get` sets the cache's idle clock back, even for a stranger, iteration does not: so whether a
//! session is over is decided here, by when its owner last used it, and the cache only removes it. Expiry
//! runs only when the cache is touched, so it is ticked, and may run late, so nobody waits for it. A
//! listener that panics is switched off for good, so it only counts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use moka::{Expiry, policy::EvictionPolicy, sync::Cache};

use super::{
    EndReason, Handshake, Session, SessionId,
    store::{Counts, Gone, Refused},
};
use crate::{
    auth::Caller, clock::Moment, config::SessionConfig, instance::Process,
    mcp::version::ProtocolVersion, place::InstanceId,
};

/// How many ended sessions are remembered, and for how long, so that a 404 can say how they ended.
const REMEMBERED: u64 = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);

/// One instance's sessions.
#[derive(Debug)]
pub struct MemoryStore {
    instance: InstanceId,
    process: Arc<Process>,
    capacity: u64,
    timeout: Duration,
    live: Cache<SessionId, Arc<Session>>,
    /// Sessions with a call or a stream under way, and how many of them.
    held: Mutex<HashMap<SessionId, (Arc<Session>, usize)>>,
    ledger: Arc<Ledger>,
}

/// What outlives a session: the counts, and how it ended.
#[derive(Debug)]
struct Ledger {
    instance: InstanceId,
    counts: Mutex<Counts>,
    timeout: Duration,
    ended: Cache<SessionId, End>,
}

/// What is remembered of a session.
#[derive(Clone, Copy, Debug)]
struct End {
    reason: EndReason,
    /// After which idle time it would have expired.
    timeout: Duration,
    owner: Caller,
}

impl Ledger {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the end of a session once, however many ways lead here; true for the first.
    fn note_end(&self, session: &Session, reason: EndReason) -> bool {
        if !session.mark_ended() {
            return false;
        }
        let mut counts = self.counts();
        counts.live -= 1;
        counts.ended[reason.index()] += 1;
        drop(counts);
        let timeout = session.timeout(self.timeout);
        self.ended.insert(session.id, End { reason, timeout, owner: session.owner });
        tracing::debug!(
            instance = self.instance.digit(),
            session = %session.reference,
            reason = reason.as_str(),
            "session ended"
        );
        true
    }
}

/// Sessions that were told to live shorter than the instance's timeout.
struct ShorterLife;

impl Expiry<SessionId, Arc<Session>> for ShorterLife {
    fn expire_after_create(
        &self,
        _: &SessionId,
        session: &Arc<Session>,
        _: Instant,
    ) -> Option<Duration> {
        session.handshake.timeout
    }

    fn expire_after_read(
        &self,
        _: &SessionId,
        session: &Arc<Session>,
        _: Instant,
        _: Option<Duration>,
        _: Instant,
    ) -> Option<Duration> {
        session.handshake.timeout
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
            counts: Mutex::default(),
            timeout,
            ended: Cache::builder()
                .max_capacity(REMEMBERED)
                // By default a full cache would keep the first ones, and refuse the last.
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(REMEMBERED_FOR)
                .build(),
        });
        let listener = {
            let ledger = Arc::clone(&ledger);
            // Whoever removes a session for another reason has noted that already. (`Size` cannot happen
            // below the backstop; were it to, the session is gone all the same.)
            move |_, session: Arc<Session>, _| {
                ledger.note_end(&session, EndReason::Expired);
            }
        };
        let live = Cache::builder()
            .max_capacity(config.capacity.saturating_mul(2))
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(timeout)
            .expire_after(ShorterLife)
            .eviction_listener(listener)
            .build();
        Self {
            instance,
            process: Arc::clone(process),
            capacity: config.capacity,
            timeout,
            live,
            held: Mutex::default(),
            ledger,
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
            // Sessions may have expired that nobody has asked for since.
            self.live.run_pending_tasks();
            if !self.admit() {
                self.ledger.counts().refused += 1;
                let retry_after_seconds = self.timeout.as_secs().clamp(1, 30);
                return Err(Refused::Full { capacity: self.capacity, retry_after_seconds });
            }
        }
        let Ok(id) = SessionId::mint(self.instance, self.process.origin) else {
            let mut counts = self.ledger.counts();
            (counts.live, counts.created) = (counts.live - 1, counts.created - 1);
            return Err(Refused::NoEntropy);
        };
        let session = Arc::new(Session::begin(id, handshake, owner, self.process.clock.now()));
        self.live.insert(id, Arc::clone(&session));
        tracing::debug!(
            instance = self.instance.digit(),
            session = %session.reference,
            version = session.handshake.version.map(ProtocolVersion::as_str),
            "session created"
        );
        Ok(session)
    }

    fn admit(&self) -> bool {
        let mut counts = self.ledger.counts();
        let room = counts.live < self.capacity;
        if room {
            counts.live += 1;
            counts.created += 1;
        }
        room
    }

    pub(super) fn find(&self, text: &str, caller: Caller) -> Result<Arc<Session>, Gone> {
        let id = SessionId::parse(text).ok_or(Gone::Unknown)?;
        let now = self.process.clock.now();
        let Some(session) = self.live.get(&id).filter(|session| !self.is_over(session, now)) else {
            return Err(self.diagnose(id, caller));
        };
        if session.owner != caller {
            return Err(Gone::Unknown);
        }
        session.touch(now);
        Ok(session)
    }

    /// Whether a session has been idle for too long, be it still in the cache.
    fn is_over(&self, session: &Session, now: Moment) -> bool {
        now.since(session.touched()) > session.timeout(self.timeout)
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
        // An expired session may still await its removal.
        self.live.remove(&id);
        match self.ledger.ended.get(&id).filter(|end| end.owner == caller) {
            None => Gone::Unknown,
            Some(End { reason: EndReason::Expired, timeout, .. }) => Gone::Expired(timeout),
            Some(End {
                reason: reason @ (EndReason::Client | EndReason::Admin | EndReason::Shutdown),
                ..
            }) => Gone::Terminated(reason),
        }
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
        self.keep(session);
    }

    /// Sets the idle clock back, unless the session has ended.
    fn keep(&self, session: &Session) {
        if self.live.get(&session.id).is_some() {
            session.touch(self.process.clock.now());
        }
    }

    pub(super) fn end(&self, id: SessionId, reason: EndReason) -> bool {
        let now = self.process.clock.now();
        let session = self.live.get(&id).filter(|session| !self.is_over(session, now));
        let ended = session.is_some_and(|session| self.ledger.note_end(&session, reason));
        // If it was over, it has expired by this.
        self.live.remove(&id);
        ended
    }

    pub(super) fn end_all(&self, reason: EndReason) {
        for session in self.list() {
            self.end(session.id, reason);
        }
        // What is not listed is over, and awaits its removal.
        self.live.invalidate_all();
        self.live.run_pending_tasks();
    }

    pub(super) fn list(&self) -> Vec<Arc<Session>> {
        self.live.iter().map(|(_, session)| session).collect()
    }

    pub(super) fn counts(&self) -> Counts {
        *self.ledger.counts()
    }

    pub(super) fn tick(&self) {
        let busy: Vec<_> = self.held().values().map(|(session, _)| Arc::clone(session)).collect();
        for session in busy {
            self.keep(&session);
        }
        self.live.run_pending_tasks();
    }
}
