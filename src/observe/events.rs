//! What happens to sessions and to the process, for operators who watch.
//!
//! Owns the [`Events`]: the last few hundred events, numbered, in one ring. Whoever watches keeps only the
//! number up to which it has read, so a reader costs nothing while nothing happens, and one that is slow
//! misses events and is told how many. Refuses whole session ids, and to wait for anyone.
//! Trap: half a million sessions may expire at once, so noting an event takes no memory and wakes nobody
//! unless someone waits.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, futures::Notified};

use crate::{
    clock::{Clock, Moment},
    id::{EndReason, InstanceId, SessionRef},
};

/// Events that are kept.
pub const KEPT: usize = 512;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A session began.
    Created,
    /// A session ended.
    Ended(EndReason),
    /// A client opened a stream on which the server speaks first.
    StreamOpened,
    /// Such a stream was closed, by either side.
    StreamClosed,
    /// The process takes no new session: it is stopping.
    Draining,
    /// The configuration was read again and is in force.
    Reloaded,
}

impl EventKind {
    /// As the feed names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "session_created",
            Self::Ended(_) => "session_ended",
            Self::StreamOpened => "stream_opened",
            Self::StreamClosed => "stream_closed",
            Self::Draining => "draining",
            Self::Reloaded => "reloaded",
        }
    }

    /// Why a session ended, where that is what happened.
    pub const fn reason(self) -> Option<EndReason> {
        match self {
            Self::Ended(reason) => Some(reason),
            Self::Created
            | Self::StreamOpened
            | Self::StreamClosed
            | Self::Draining
            | Self::Reloaded => None,
        }
    }
}

/// Whom it happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// All ten instances.
    Process,
    /// One instance, and one session of it if it has one: a subscription of 2026-07-28 has none.
    Instance(InstanceId, Option<SessionRef>),
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Counts from 1 in each process, without a gap.
    pub number: u64,
    /// When it happened.
    pub at: Moment,
    /// What happened.
    pub kind: EventKind,
    /// To whom.
    pub subject: Subject,
}

/// The last events, and who waits for the next.
#[derive(Debug)]
pub struct Events {
    clock: Clock,
    ring: Mutex<Ring>,
    more: Notify,
}

#[derive(Debug)]
struct Ring {
    /// The number of the next event.
    next: u64,
    events: VecDeque<Event>,
}

/// What a reader has not read yet.
#[derive(Debug, Default)]
pub struct Unread {
    /// Events that are no longer kept.
    pub missed: u64,
    /// Those that are, oldest first.
    pub events: Vec<Event>,
    /// The number of the last event there was.
    pub last: u64,
}

impl Events {
    /// A feed in which nothing has happened.
    pub fn new(clock: Clock) -> Self {
        let ring = Ring { next: 1, events: VecDeque::with_capacity(KEPT) };
        Self { clock, ring: Mutex::new(ring), more: Notify::new() }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something happens now.
    pub fn note(&self, kind: EventKind, subject: Subject) {
        let at = self.clock.now();
        let mut ring = self.ring();
        if ring.events.len() == KEPT {
            ring.events.pop_front();
        }
        let event = Event { number: ring.next, at, kind, subject };
        ring.events.push_back(event);
        ring.next += 1;
        drop(ring);
        self.more.notify_waiters();
    }

    /// What happened after the event of that number. A number that is yet to come counts as none.
    pub fn after(&self, number: u64) -> Unread {
        let ring = self.ring();
        let last = ring.next - 1;
        let read = if number > last { 0 } else { number };
        let first = ring.next - ring.events.len() as u64;
        let skip = (read + 1).saturating_sub(first);
        Unread {
            // Who has read nothing has asked for what is kept, and misses nothing.
            missed: if read == 0 { 0 } else { first.saturating_sub(read + 1) },
            events: ring.events.iter().skip(skip as usize).copied().collect(),
            last,
        }
    }

    /// Completes at the next event, counted from when this is enabled or first polled.
    pub fn more(&self) -> Notified<'_> {
        self.more.notified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_is_told_what_it_missed() {
        let feed = Events::new(Clock::start());
        let unread = feed.after(0);
        assert_eq!((unread.missed, unread.events.len(), unread.last), (0, 0, 0));
        let many = KEPT as u64 + 100;
        for _ in 0..many {
            feed.note(EventKind::Created, Subject::Process);
        }
        let numbers =
            |unread: &Unread| unread.events.iter().map(|event| event.number).collect::<Vec<_>>();
        for (read, missed, first) in [
            (0, 0, 101),
            (10, 90, 101),
            (100, 0, 101),
            (101, 0, 102),
            (many - 1, 0, many),
            // From another life of the process.
            (many + 1, 0, 101),
        ] {
            let unread = feed.after(read);
            assert_eq!((unread.missed, unread.last), (missed, many), "{read}");
            assert_eq!(numbers(&unread), (first..=many).collect::<Vec<_>>(), "{read}");
        }
        assert!(feed.after(many).events.is_empty());
    }
}
