//! What outlives a session: how many there were, and how the last ones ended.
//!
//! Owns the exact counts of one instance's sessions, by which a new one is admitted or refused, and the memory of recent
//! ends, so that a 404 can say what became of a session. What live sessions hold is booked here.
//! Trap: the data of a session may be changed and the session ended at the same time, and the two sizes may arrive here
//! in either order. So the sum of all data can be negative for a moment.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use super::{
    conversation::Conversations,
    id_hasher::BuildIdHasher,
    lock,
    record::{Handshake, Head},
    store::{Counts, Gone},
};
use crate::{
    budget::{NoRoom, Share},
    clock::Moment,
    id::{Caller, EndReason, MintedBy, SessionId, SessionRef},
    observe::{EventKind, Subject},
    process::Process,
};

/// What a live session takes without its data: its entry, its place in the cache and in the queue.
pub(crate) const SESSION_BYTES: usize = 576;

/// How many ends are remembered, and for how long.
const REMEMBERED: usize = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Ledger {
    here: MintedBy,
    process: Arc<Process>,
    share: Arc<Share>,
    conversations: Arc<Conversations>,
    /// All but `data_bytes`, which is counted apart so that a commit need not take this lock.
    counts: Mutex<Counts>,
    data_bytes: AtomicI64,
    ended: Mutex<Ended>,
}

/// The sessions that ended last.
#[derive(Debug, Default)]
struct Ended {
    how: HashMap<SessionId, End, BuildIdHasher>,
    order: VecDeque<(SessionId, Moment)>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    reference: SessionRef,
    reason: EndReason,
    timeout: Duration,
    owner: Caller,
}

/// A session that has ended, as operators see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndedSession {
    pub(crate) reference: SessionRef,
    pub(crate) at: Moment,
    pub(crate) reason: EndReason,
    /// After how long without a request it would have expired, or has.
    pub(crate) timeout: Duration,
}

impl Ledger {
    pub(super) fn new(
        here: MintedBy,
        process: &Arc<Process>,
        share: &Arc<Share>,
        conversations: &Arc<Conversations>,
    ) -> Self {
        Self {
            here,
            process: Arc::clone(process),
            share: Arc::clone(share),
            conversations: Arc::clone(conversations),
            counts: Mutex::default(),
            data_bytes: AtomicI64::new(0),
            ended: Mutex::default(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let data_bytes = u64::try_from(self.data_bytes.load(Ordering::Relaxed)).unwrap_or(0);
        Counts { data_bytes, ..*lock(&self.counts) }
    }

    /// Counts a session that is about to be created, unless `capacity` are live.
    pub(super) fn admit(&self, capacity: u64) -> bool {
        let mut counts = lock(&self.counts);
        let room = counts.live < capacity;
        if room {
            counts.live += 1;
            counts.created += 1;
        }
        room
    }

    /// Books a session that is about to be created, with what its client says of itself.
    pub(super) fn book(&self, handshake: &Handshake) -> Result<(), NoRoom> {
        self.share.keep(SESSION_BYTES + handshake.bytes())
    }

    /// Books what a session is about to hold more.
    pub(super) fn keep(&self, bytes: usize) -> Result<(), NoRoom> {
        self.share.keep(bytes)
    }

    /// The session that was admitted has not been created after all.
    pub(super) fn take_back(&self) {
        let mut counts = lock(&self.counts);
        counts.live -= 1;
        counts.created -= 1;
    }

    pub(super) fn refuse(&self) {
        lock(&self.counts).refused += 1;
    }

    /// What a live session holds has grown by so many bytes. More has been [kept](Self::keep) before.
    pub(super) fn add_data(&self, bytes: i64) {
        if bytes != 0 {
            self.data_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        if let Ok(less) = usize::try_from(-bytes) {
            self.share.give_back(less);
        }
    }

    /// The recent ends, without those that are too old by now.
    fn ended(&self) -> (MutexGuard<'_, Ended>, Moment) {
        let now = self.process.clock.now();
        let mut guard = lock(&self.ended);
        let ended = &mut *guard;
        while let Some((id, since)) = ended.order.front()
            && (ended.order.len() > REMEMBERED || now.since(*since) > REMEMBERED_FOR)
        {
            ended.how.remove(id);
            ended.order.pop_front();
        }
        (guard, now)
    }

    /// How many ends are remembered.
    pub(super) fn remembered(&self) -> usize {
        lock(&self.ended).order.len()
    }

    /// The remembered ends that fit, the last first; at most `limit`. It looks at all of them.
    pub(super) fn last_ended(
        &self,
        limit: usize,
        fits: impl Fn(SessionRef) -> bool,
    ) -> Vec<EndedSession> {
        let (ended, _) = self.ended();
        let newest_first = ended.order.iter().rev();
        let all = newest_first.filter_map(|(id, at)| {
            let End { reference, reason, timeout, owner: _ } = *ended.how.get(id)?;
            Some(EndedSession { reference, at: *at, reason, timeout })
        });
        all.filter(|end| fits(end.reference)).take(limit).collect()
    }

    /// How a session ended, if it was the caller's.
    pub(super) fn how_it_ended(&self, id: SessionId, caller: Caller) -> Option<Gone> {
        let end = self.ended().0.how.get(&id).copied()?;
        (end.owner == caller).then_some(match end.reason {
            EndReason::Expired => Gone::Expired(end.timeout),
            reason @ (EndReason::Client | EndReason::Admin | EndReason::Shutdown) => {
                Gone::Terminated(reason)
            }
        })
    }

    /// Notes the end of a session whose data took so many bytes, and ends its conversation. Must be called once for each.
    pub(super) fn note_end(&self, session: &Head, data_bytes: i64, reason: EndReason) {
        let Head { id, reference, owner, .. } = *session;
        self.add_data(-data_bytes);
        self.share.give_back(SESSION_BYTES + session.handshake.bytes());
        let mut counts = lock(&self.counts);
        counts.live -= 1;
        counts.ended[reason.index()] += 1;
        drop(counts);
        let (mut ended, now) = self.ended();
        ended.how.insert(id, End { reference, reason, timeout: session.timeout(), owner });
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
    }
}
