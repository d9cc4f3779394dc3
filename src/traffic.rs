//! What passes through one instance: totals, the last requests, open streams.
//!
//! Owns [`Traffic`], which every request of an instance adds itself to when its answer has ended, and
//! [`OpenStream`], which counts a stream for as long as it exists. Refuses requests for `/debug`: whoever
//! looks would see himself looking.
//! Trap: it is on the way of every request, so it allocates nothing, and a lock is held for one copy.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    feed::{Happening, Subject},
    instance::{Instance, Process},
    metrics::{Open, StreamKind},
    session::SessionRef,
    telemetry::{
        outcome::RequestOutcome,
        record::{RequestId, RpcMethod},
    },
};

/// A request that has ended.
#[derive(Clone, Debug)]
pub struct Passed {
    /// Its name, as in the log.
    pub id: RequestId,
    /// When its head had been read.
    pub received: Instant,
    /// From its head to the end of its answer.
    pub duration: Duration,
    /// HTTP method; "other" for one that HTTP itself does not define.
    pub http_method: &'static str,
    /// What its body asked for.
    pub method: Option<RpcMethod>,
    /// The tool that was called.
    pub tool: Option<&'static str>,
    /// The session, or what the caller took for one.
    pub session: Option<SessionRef>,
    /// HTTP status; 0 if the client left before there was an answer.
    pub status: u16,
    /// How it went.
    pub outcome: RequestOutcome,
}

impl Passed {
    /// Whether something went wrong, here or in a tool; a client that left is no error.
    pub fn is_error(&self) -> bool {
        self.outcome.is_refusal() || self.outcome == RequestOutcome::ToolError
    }
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests whose answer has ended.
    pub requests: u64,
    /// Those of them that [went wrong](Passed::is_error).
    pub errors: u64,
}

/// What passes through one instance.
#[derive(Debug)]
pub struct Traffic {
    requests: AtomicU64,
    errors: AtomicU64,
    keep: usize,
    last: Mutex<Ring>,
}

/// The last requests, each in the place of the oldest.
#[derive(Debug)]
struct Ring {
    kept: Vec<Passed>,
    /// Where the next one goes.
    next: usize,
}

impl Traffic {
    /// Nothing yet; `keep` is how many requests are remembered.
    pub fn new(keep: usize) -> Arc<Self> {
        Arc::new(Self {
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            keep,
            last: Mutex::new(Ring { kept: Vec::with_capacity(keep), next: 0 }),
        })
    }

    fn last(&self) -> MutexGuard<'_, Ring> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that has ended, and remembers it.
    pub fn note(&self, passed: Passed) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if passed.is_error() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        if self.keep == 0 {
            return;
        }
        let ring = &mut *self.last();
        match ring.kept.get_mut(ring.next) {
            Some(oldest) => *oldest = passed,
            None => ring.kept.push(passed),
        }
        ring.next = if ring.next + 1 == self.keep { 0 } else { ring.next + 1 };
    }

    /// Totals as of now.
    pub fn totals(&self) -> Totals {
        Totals {
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }

    /// At most so many of the remembered requests of one session, the last first.
    pub fn last_of(&self, session: SessionRef, limit: usize) -> Vec<Passed> {
        let ring = self.last();
        let (newer, older) = ring.kept.split_at(ring.next);
        let all = newer.iter().rev().chain(older.iter().rev());
        all.filter(|passed| passed.session == Some(session)).take(limit).cloned().collect()
    }
}

/// A stream on which the server speaks first, counted until this is dropped; both are told to operators.
#[derive(Debug)]
pub struct OpenStream {
    process: Arc<Process>,
    subject: Subject,
    _open: Open,
}

impl OpenStream {
    /// Counts a stream of that session, or a subscription, which has none.
    pub fn begin(instance: &Instance, kind: StreamKind, session: Option<SessionRef>) -> Self {
        let process = Arc::clone(&instance.process);
        let subject = Subject::Instance(instance.id, session);
        process.feed.note(Happening::StreamOpened, subject);
        Self { process, subject, _open: instance.counters.open_stream(kind) }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.process.feed.note(Happening::StreamClosed, self.subject);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn passed(session: &str, outcome: RequestOutcome) -> Passed {
        Passed {
            id: RequestId::Callers(HeaderValue::from_static("-")),
            received: Instant::now(),
            duration: Duration::ZERO,
            http_method: "POST",
            method: None,
            tool: None,
            session: Some(SessionRef::of(session)),
            status: 200,
            outcome,
        }
    }

    #[test]
    fn the_last_requests_are_kept_and_all_are_counted() {
        for keep in [0, 1, 10] {
            let traffic = Traffic::new(keep);
            for number in 0..50 {
                let session = if number % 2 == 0 { "even" } else { "odd" };
                traffic.note(passed(session, RequestOutcome::Ok));
            }
            traffic.note(passed("even", RequestOutcome::ToolError));
            let totals = traffic.totals();
            assert_eq!((totals.requests, totals.errors), (51, 1));
            let even = traffic.last_of(SessionRef::of("even"), 100);
            // The last one, and every other before it.
            assert_eq!(even.len(), keep.div_ceil(2));
            if let [first, ..] = &*even {
                assert_eq!(first.outcome, RequestOutcome::ToolError, "the last first");
            }
            assert_eq!(traffic.last_of(SessionRef::of("even"), 3).len(), even.len().min(3));
        }
    }
}
