//! What happens to sessions and to the process, for operators who watch.
//!
//! Owns [`Events`], a ring of the last few hundred events with their numbers. A reader keeps only the number up to
//! which it has read, so it costs nothing while nothing happens; a slow one misses events and is told how many.
//! Traps: an event must not hold a whole session id; and half a million sessions may expire at once, so noting an event
//! takes no memory and wakes nobody unless someone waits.

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Created,
    Ended(EndReason),
    /// A GET stream or a subscription, not the answer to a call.
    StreamOpened,
    StreamClosed,
    /// The process is stopping and takes no new session.
    Draining,
    Reloaded,
}

impl EventKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "session_created",
            Self::Ended(_) => "session_ended",
            Self::StreamOpened => "stream_opened",
            Self::StreamClosed => "stream_closed",
            Self::Draining => "draining",
            Self::Reloaded => "reloaded",
        }
    }

    pub(crate) const fn reason(self) -> Option<EndReason> {
        if let Self::Ended(reason) = self { Some(reason) } else { None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Process,
    /// A subscription (2026-07-28) has no session.
    Instance(InstanceId, Option<SessionRef>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// Counts from 1 in each process, without a gap.
    pub(crate) number: u64,
    pub(crate) at: Moment,
    pub(crate) kind: EventKind,
    pub(crate) subject: Subject,
}

#[derive(Debug)]
pub(crate) struct Events {
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

#[derive(Debug, Default)]
pub(crate) struct Unread {
    /// How many are no longer kept.
    pub(crate) missed: u64,
    /// Oldest first.
    pub(crate) events: Vec<Event>,
    /// The number of the newest event.
    pub(crate) last: u64,
}

impl Events {
    pub(crate) fn new(clock: Clock) -> Self {
        let ring = Ring { next: 1, events: VecDeque::with_capacity(KEPT) };
        Self { clock, ring: Mutex::new(ring), more: Notify::new() }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, kind: EventKind, subject: Subject) {
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

    /// Events after that number. A number that is yet to come is from an earlier start, and counts as 0.
    pub(crate) fn after(&self, number: u64) -> Unread {
        let ring = self.ring();
        let last = ring.next - 1;
        let read = if number > last { 0 } else { number };
        let first = ring.next - ring.events.len() as u64;
        let skip = (read + 1).saturating_sub(first);
        Unread {
            // A new reader asks for what is kept, and misses nothing.
            missed: if read == 0 { 0 } else { first.saturating_sub(read + 1) },
            events: ring.events.iter().skip(skip as usize).copied().collect(),
            last,
        }
    }

    /// Completes at the next event, counted from when this is enabled or first polled.
    pub(crate) fn more(&self) -> Notified<'_> {
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
