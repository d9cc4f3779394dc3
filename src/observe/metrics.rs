//! What is counted of requests and streams.
//!
//! Owns [`Counters`], the numbers of one instance, and [`ProcessCounters`], those that belong to none. A request costs
//! four additions: each counter is found by the index of an enum, in an array that is there from the start. All labels
//! are variants of closed sets, so a client cannot create a series.
//! Trap: how long an event stream lasts is no latency. A request that opens one is counted but not timed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    outcome::RequestOutcome,
    record::{Facts, RpcMethod},
};
use crate::{
    histogram::Histogram,
    wire::{Era, Method},
};

/// What a request asks for: the label `method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A POST to `/mcp`, by what its body asks for.
    Rpc(RpcMethod),
    /// A POST to `/mcp` that was refused before its body was parsed.
    Post,
    /// A GET of `/mcp`, which opens a stream.
    Get,
    /// A DELETE of `/mcp`.
    Delete,
    /// Another HTTP method at `/mcp`, such as a preflight's OPTIONS.
    OtherHttp,
    /// `/livez`, `/readyz`, `/health`.
    Health,
    /// `/debug` and `/metrics`.
    Admin,
    /// `/.well-known/…`
    WellKnown,
    /// Any other path, which is no instance's.
    Elsewhere,
}

impl Kind {
    const COUNT: usize = Method::ALL.len() + 12;

    /// Every kind, in the order of [`Kind::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        let known = Method::ALL.iter().copied().map(RpcMethod::Known);
        let more =
            [RpcMethod::Other, RpcMethod::Batch, RpcMethod::Notification, RpcMethod::Response];
        let others = [
            Self::Post,
            Self::Get,
            Self::Delete,
            Self::OtherHttp,
            Self::Health,
            Self::Admin,
            Self::WellKnown,
            Self::Elsewhere,
        ];
        known.chain(more).map(Self::Rpc).chain(others)
    }

    /// Position in [`Kind::all`].
    pub(crate) const fn index(self) -> usize {
        let after = match self {
            Self::Rpc(RpcMethod::Known(method)) => return method as usize,
            Self::Rpc(RpcMethod::Other) => 0,
            Self::Rpc(RpcMethod::Batch) => 1,
            Self::Rpc(RpcMethod::Notification) => 2,
            Self::Rpc(RpcMethod::Response) => 3,
            Self::Post => 4,
            Self::Get => 5,
            Self::Delete => 6,
            Self::OtherHttp => 7,
            Self::Health => 8,
            Self::Admin => 9,
            Self::WellKnown => 10,
            Self::Elsewhere => 11,
        };
        Method::ALL.len() + after
    }

    /// As a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rpc(method) => method.as_str(),
            Self::Post => "http_post",
            Self::Get => "http_get",
            Self::Delete => "http_delete",
            Self::OtherHttp => "http_other",
            Self::Health => "health",
            Self::Admin => "admin",
            Self::WellKnown => "well_known",
            Self::Elsewhere => "elsewhere",
        }
    }

    /// Whether the answer is a stream that lasts as long as its reader likes.
    const fn is_endless(self) -> bool {
        matches!(self, Self::Get | Self::Rpc(RpcMethod::Known(Method::Listen)))
    }
}

/// The label `era`, by position; the last is for a request that no era handled.
pub const ERAS: [&str; 3] = ["sessioned", "stateless", "none"];

const fn era_index(era: Option<Era>) -> usize {
    match era {
        Some(Era::Sessioned) => 0,
        Some(Era::Stateless) => 1,
        None => 2,
    }
}

/// The label `status`, by the first digit of the status; "none" is for a client that left before there was one.
pub const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// What keeps a stream open: the label `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A GET.
    Standalone,
    /// The answer to one call.
    Call,
    /// `subscriptions/listen`.
    Subscription,
}

impl StreamKind {
    /// Every kind, in the order of the enum.
    pub const ALL: [Self; 3] = [Self::Standalone, Self::Call, Self::Subscription];

    /// As a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Call => "call",
            Self::Subscription => "subscription",
        }
    }
}

/// How many of something there are now.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

/// Lowers its gauge when it is dropped.
#[derive(Debug)]
pub(crate) struct Open(Arc<AtomicU64>);

impl Gauge {
    /// Counts one more until the guard is dropped.
    pub(crate) fn open(&self) -> Open {
        self.0.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(&self.0))
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(number: &AtomicU64, more: u64) {
    number.fetch_add(more, Ordering::Relaxed);
}

fn read(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

type Statuses = [AtomicU64; STATUSES.len()];

/// The numbers of one instance, or of requests that reached none.
#[derive(Debug)]
pub struct Counters {
    requests: [[Statuses; ERAS.len()]; Kind::COUNT],
    outcomes: [AtomicU64; RequestOutcome::ALL.len()],
    /// By era, for requests that one handled.
    durations: [Histogram; ERAS.len() - 1],
    streams: [Gauge; StreamKind::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            requests: [const { [const { [const { AtomicU64::new(0) }; STATUSES.len()] }; ERAS.len()] };
                Kind::COUNT],
            outcomes: [const { AtomicU64::new(0) }; RequestOutcome::ALL.len()],
            durations: Default::default(),
            streams: Default::default(),
        }
    }
}

impl Counters {
    /// Counts a request that has ended.
    pub(crate) fn count(
        &self,
        kind: Kind,
        facts: &Facts,
        status: u16,
        outcome: RequestOutcome,
        duration: Duration,
    ) {
        let era = era_index(facts.era);
        let class = usize::from(status / 100).min(STATUSES.len() - 1);
        add(&self.requests[kind.index()][era][class], 1);
        add(&self.outcomes[outcome as usize], 1);
        if let Some(durations) = self.durations.get(era).filter(|_| !kind.is_endless()) {
            durations.observe(duration);
        }
    }

    /// Requests that have ended: kind, and positions in [`ERAS`] and [`STATUSES`].
    pub(crate) fn requests(&self) -> impl Iterator<Item = (Kind, usize, usize, u64)> {
        Kind::all().zip(&self.requests).flat_map(|(kind, eras)| {
            eras.iter().enumerate().flat_map(move |(era, statuses)| {
                let numbers = statuses.iter().enumerate();
                numbers.map(move |(status, number)| (kind, era, status, read(number)))
            })
        })
    }

    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (RequestOutcome, u64)> {
        RequestOutcome::ALL.iter().copied().zip(self.outcomes.iter().map(read))
    }

    /// By era, without the requests that no era handled.
    pub(crate) fn durations(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        ERAS.into_iter().zip(&self.durations)
    }

    /// Counts a stream as open until the guard is dropped.
    pub(crate) fn open_stream(&self, kind: StreamKind) -> Open {
        self.streams[kind as usize].open()
    }

    /// Open streams.
    pub fn streams(&self) -> impl Iterator<Item = (StreamKind, u64)> {
        StreamKind::ALL.into_iter().zip(self.streams.iter().map(Gauge::count))
    }
}

/// The numbers that belong to no instance.
#[derive(Debug, Default)]
pub(crate) struct ProcessCounters {
    /// Requests that reached no instance: probes, `/debug` at the front door, hosts and paths that are not served.
    pub(crate) nowhere: Counters,
    pub(crate) connections: Gauge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_place_and_a_name_of_its_own() {
        let all: Vec<_> = Kind::all().collect();
        assert_eq!(all.len(), Kind::COUNT);
        for (place, kind) in all.iter().enumerate() {
            assert_eq!(kind.index(), place, "{kind:?}");
            let alike = all.iter().filter(|other| other.as_str() == kind.as_str());
            assert_eq!(alike.count(), 1, "{kind:?}");
        }
    }
}
