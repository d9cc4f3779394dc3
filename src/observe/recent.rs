//! The requests that one instance has answered: totals, the last ones, and the last that failed.
//!
//! Owns [`RequestLog`], to which every request of an instance is added when its answer has ended, and [`FailureLog`], which
//! keeps those that failed for longer, as the others would push them out. Requests for `/debug` are left out, or operators
//! would see themselves looking.
//! Trap: every request passes here, so it allocates nothing, and the lock is held for one copy. Only a failure does more.

use std::{
    borrow::Cow,
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    outcome::RequestOutcome,
    record::{Missing, RequestId, RpcMethod},
};
use crate::id::{MintedBy, SessionRef};

#[derive(Clone, Debug)]
pub(crate) struct CompletedRequest {
    pub(crate) id: RequestId,
    pub(crate) received: Instant,
    /// From its head to the end of its answer.
    pub(crate) duration: Duration,
    /// "other" if HTTP itself does not define it.
    pub(crate) http_method: &'static str,
    pub(crate) method: Option<RpcMethod>,
    pub(crate) tool: Option<&'static str>,
    pub(crate) session: Option<SessionRef>,
    /// 0 if the client left before there was an answer.
    pub(crate) status: u16,
    pub(crate) outcome: RequestOutcome,
}

impl CompletedRequest {
    /// A refusal or an error of a tool; a client that left is no error.
    pub(crate) fn is_error(&self) -> bool {
        self.outcome.is_refusal() || self.outcome == RequestOutcome::ToolError
    }
}

/// A request that failed, with what tells why. What its client wrote is bounded, and holds no whole session id.
#[derive(Debug)]
pub(crate) struct FailedRequest {
    pub(crate) request: CompletedRequest,
    pub(crate) path: Cow<'static, str>,
    /// What the client asked for, with a status of 400 or more.
    pub(crate) host: Option<String>,
    /// Of the connection, which may be a proxy's.
    pub(crate) peer: IpAddr,
    /// What was asked for and does not exist.
    pub(crate) missing: Option<Missing>,
    /// Who minted the id that it named, if that was elsewhere.
    pub(crate) minted_by: Option<MintedBy>,
}

/// How many failures are remembered of each instance, and of what reached none.
const FAILURES: usize = 100;

/// The last requests that failed, and how many did.
#[derive(Debug)]
pub(crate) struct FailureLog {
    total: AtomicU64,
    keep: usize,
    last: Mutex<VecDeque<Arc<FailedRequest>>>,
}

impl FailureLog {
    /// Remembers no more than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { total: AtomicU64::new(0), keep: FAILURES.min(most), last: Mutex::default() }
    }

    #[cold]
    pub(crate) fn note(&self, failed: FailedRequest) {
        self.total.fetch_add(1, Ordering::Relaxed);
        if self.keep == 0 {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == self.keep {
            last.pop_front();
        }
        last.push_back(Arc::new(failed));
    }

    /// How many there were.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// The remembered ones, the last first.
    pub(crate) fn last(&self) -> Vec<Arc<FailedRequest>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().rev().map(Arc::clone).collect()
    }
}

/// Counts since the start.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// Requests whose answer has ended.
    pub requests: u64,
    /// Those that were refused, or in which a tool failed.
    pub errors: u64,
}

/// The requests that one instance has answered.
#[derive(Debug)]
pub struct RequestLog {
    requests: AtomicU64,
    /// To which whoever notes a request that failed adds it as well.
    pub(crate) failures: FailureLog,
    keep: usize,
    last: Mutex<Ring>,
}

/// The last requests; a new one replaces the oldest.
#[derive(Debug)]
struct Ring {
    kept: Vec<CompletedRequest>,
    /// Where the next one goes.
    next: usize,
}

impl RequestLog {
    /// `keep` is how many requests are remembered.
    pub(crate) fn new(keep: usize) -> Self {
        Self {
            requests: AtomicU64::new(0),
            failures: FailureLog::new(keep),
            keep,
            last: Mutex::new(Ring { kept: Vec::with_capacity(keep), next: 0 }),
        }
    }

    fn last(&self) -> MutexGuard<'_, Ring> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are remembered.
    pub(crate) fn remembered(&self) -> usize {
        self.last().kept.len()
    }

    pub(crate) fn note(&self, request: CompletedRequest) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.keep == 0 {
            return;
        }
        let ring = &mut *self.last();
        match ring.kept.get_mut(ring.next) {
            Some(oldest) => *oldest = request,
            None => ring.kept.push(request),
        }
        ring.next = if ring.next + 1 == self.keep { 0 } else { ring.next + 1 };
    }

    /// Counts as of now.
    pub fn totals(&self) -> Totals {
        Totals { requests: self.requests.load(Ordering::Relaxed), errors: self.failures.total() }
    }

    /// The remembered requests of one session, the last first.
    pub(crate) fn last_of(&self, session: SessionRef, limit: usize) -> Vec<CompletedRequest> {
        let ring = self.last();
        let (newer, older) = ring.kept.split_at(ring.next);
        let all = newer.iter().rev().chain(older.iter().rev());
        all.filter(|request| request.session == Some(session)).take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn passed(session: &str, outcome: RequestOutcome) -> CompletedRequest {
        CompletedRequest {
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

    fn failed(request: CompletedRequest) -> FailedRequest {
        FailedRequest {
            request,
            path: "/mcp".into(),
            host: None,
            peer: IpAddr::from([127, 0, 0, 1]),
            missing: None,
            minted_by: None,
        }
    }

    #[test]
    fn the_last_failures_are_kept_whatever_succeeds_after_them() {
        for (keep, kept) in [(0, 0), (1, 1), (10, 10), (1000, FAILURES)] {
            let log = RequestLog::new(keep);
            for number in 0..FAILURES + 50 {
                log.failures.note(failed(passed(&number.to_string(), RequestOutcome::Unknown)));
            }
            for _ in 0..2 * keep {
                log.note(passed("busy", RequestOutcome::Ok));
            }
            let last = log.failures.last();
            assert_eq!((last.len(), log.totals().errors), (kept, FAILURES as u64 + 50));
            if let [first, ..] = &*last {
                let newest = SessionRef::of(&(FAILURES + 49).to_string());
                assert_eq!(first.request.session, Some(newest), "the last first");
            }
        }
    }

    #[test]
    fn the_last_requests_are_kept_and_all_are_counted() {
        for keep in [0, 1, 10] {
            let log = RequestLog::new(keep);
            for number in 0..50 {
                let session = if number % 2 == 0 { "even" } else { "odd" };
                log.note(passed(session, RequestOutcome::Ok));
            }
            log.note(passed("even", RequestOutcome::ToolError));
            assert_eq!(log.totals().requests, 51);
            let even = log.last_of(SessionRef::of("even"), 100);
            // The last one, and every other before it.
            assert_eq!(even.len(), keep.div_ceil(2));
            if let [first, ..] = &*even {
                assert_eq!(first.outcome, RequestOutcome::ToolError, "the last first");
            }
            assert_eq!(log.last_of(SessionRef::of("even"), 3).len(), even.len().min(3));
        }
    }
}
