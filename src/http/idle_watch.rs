//! Whether a connection is between two requests, and since when.
//!
//! Owns [`IdleWatch`], which the outermost layer beats at both ends of a request and the connection listens to.
//! It bounds how long a request head may take: a timer for each head, as the HTTP library has it, costs a
//! request more than reading its body does, and one for each connection that looks now and then tells the same.
//! Trap: an answer's end is the end of its body, not its head: an event stream is one long request.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::clock::{Clock, Moment};

/// Stands for "in a request".
const BUSY: u64 = u64::MAX;

/// One connection's pulse.
#[derive(Debug)]
pub struct IdleWatch {
    clock: Clock,
    /// Milliseconds on the clock at which the last request ended, or the connection began.
    quiet_since: AtomicU64,
}

impl IdleWatch {
    /// A connection that begins now.
    pub fn new(clock: Clock) -> Self {
        Self { clock, quiet_since: AtomicU64::new(clock.now().as_millis()) }
    }

    /// A request has come.
    pub fn begin(&self) {
        self.quiet_since.store(BUSY, Ordering::Relaxed);
    }

    /// Its answer has ended, just now.
    pub fn end(&self, now: Instant) {
        self.quiet_since.store(self.clock.moment(now).as_millis(), Ordering::Relaxed);
    }

    /// Completes when no request has come for so long.
    pub async fn stopped(&self, patience: Duration) {
        loop {
            let quiet_since = self.quiet_since.load(Ordering::Relaxed);
            let left = match quiet_since {
                BUSY => patience,
                since => {
                    let quiet = self.clock.now().since(Moment::from_millis(since));
                    patience.saturating_sub(quiet)
                }
            };
            if left.is_zero() {
                return;
            }
            // Not less than a timer can tell apart.
            sleep(left.max(Duration::from_millis(1))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn it_stops_between_requests_alone() {
        let pulse = IdleWatch::new(Clock::start());
        let patience = Duration::from_millis(30);
        pulse.stopped(patience).await;
        pulse.begin();
        assert!(timeout(patience * 3, pulse.stopped(patience)).await.is_err(), "in a request");
        pulse.end(Instant::now());
        assert!(timeout(patience / 3, pulse.stopped(patience)).await.is_err(), "just now");
        pulse.stopped(patience).await;
    }
}
