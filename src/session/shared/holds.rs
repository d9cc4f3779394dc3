//! Which sessions this process keeps from expiring.
//!
//! Owns [`Holds`]: how many calls and streams of each session are under way. The next tick tells the
//! store of a new one, and later ticks tell it again in time. When a session's last one has ended,
//! the next tick says that too, and the session's idle clock starts.
//! Trap: a tick that did not reach the store must not have told it anything, so what it took is put back.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::{id::SessionDigest, session::lock};

/// A session is named again after a quarter of its time, since a replica that lets it go gives it no more than that; at
/// the latest when a quarter of its lease in the store is over.
const AT_LATEST: Duration = Duration::from_millis(2500);

#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    under_way: HashMap<SessionDigest, Hold>,
    /// Those whose last call or stream has ended since the last tick.
    released: HashSet<SessionDigest>,
}

#[derive(Debug, Default)]
struct Hold {
    count: usize,
    again_after: Duration,
    /// When the store was told.
    told: Option<Instant>,
}

impl Hold {
    fn is_due(&self, now: Instant) -> bool {
        self.told.is_none_or(|told| now.saturating_duration_since(told) >= self.again_after)
    }
}

impl Holds {
    /// `timeout` is the session's, as far as it is known.
    pub(super) fn hold(&self, session: SessionDigest, timeout: Option<Duration>) {
        let mut held = lock(&self.0);
        let hold = held.under_way.entry(session).or_default();
        hold.count += 1;
        hold.again_after = (timeout.unwrap_or_default() / 4).min(AT_LATEST);
    }

    pub(super) fn release(&self, session: SessionDigest) {
        let mut held = lock(&self.0);
        let Some(hold) = held.under_way.get_mut(&session) else { return };
        hold.count -= 1;
        if hold.count == 0 {
            held.under_way.remove(&session);
            held.released.insert(session);
        }
    }

    /// Whether there is nothing to tell the store now.
    pub(super) fn is_quiet(&self) -> bool {
        let (held, now) = (lock(&self.0), Instant::now());
        held.released.is_empty() && !held.under_way.values().any(|hold| hold.is_due(now))
    }

    /// All that the store must be told of now: what is held, and what is held no longer.
    pub(super) fn take(&self) -> (Vec<SessionDigest>, Vec<SessionDigest>) {
        let mut held = lock(&self.0);
        let mut released = std::mem::take(&mut held.released);
        released.retain(|session| !held.under_way.contains_key(session));
        let now = Instant::now();
        let due = held.under_way.iter_mut().filter(|(_, hold)| hold.is_due(now));
        let due = due.map(|(session, hold)| {
            hold.told = Some(now);
            *session
        });
        (due.collect(), released.into_iter().collect())
    }

    /// The store was not told of these.
    pub(super) fn put_back(&self, held_still: &[SessionDigest], released: &[SessionDigest]) {
        let mut held = lock(&self.0);
        for session in held_still {
            if let Some(hold) = held.under_way.get_mut(session) {
                hold.told = None;
            }
        }
        held.released.extend(released);
    }
}
