//! The clock of all times that a client or an operator reads.
//!
//! Owns [`Clock`] and [`Moment`]: milliseconds since the process started, which never jump, and their
//! translation into the time of day. Refuses arithmetic on wall-clock times.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Counts from the start of the process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
    started: Timestamp,
}

/// A point on the [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { epoch: Instant::now(), started: Timestamp::now() }
    }

    /// Now.
    pub fn now(self) -> Moment {
        self.moment(Instant::now())
    }

    /// When that was.
    pub fn moment(self, instant: Instant) -> Moment {
        let since = instant.saturating_duration_since(self.epoch);
        Moment(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// A moment as the time of day, to the millisecond.
    pub fn time(self, moment: Moment) -> Timestamp {
        let since = i64::try_from(moment.0).unwrap_or(i64::MAX);
        let unix = self.started.as_millisecond().saturating_add(since);
        Timestamp::from_millisecond(unix).unwrap_or(Timestamp::MAX)
    }

    /// How long the process has been running.
    pub fn uptime(self) -> Duration {
        self.epoch.elapsed()
    }
}

impl Moment {
    /// From and to the milliseconds that an atomic can hold.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the process started.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment and a while.
    pub fn plus(self, while_: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(while_.as_millis()).unwrap_or(u64::MAX)))
    }
}
