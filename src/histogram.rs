//! How often something took how long.
//!
//! Owns [`Histogram`], in the buckets that a histogram of Prometheus has. To count one more costs two additions.
//! Trap: a duration falls into the first bucket whose bound it does not exceed, and the buckets are not added up here as they
//! are on a page of metrics.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Durations.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// By the first bound that is not exceeded; the last bucket has none.
    buckets: [AtomicU64; Self::BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Histogram {
    /// Upper bounds of the buckets in microseconds, and in seconds as the label `le`. An `echo` takes a few tens of
    /// microseconds; a call may be told to take seconds.
    pub(crate) const BOUNDS: [(u64, &str); 17] = [
        (50, "0.00005"),
        (100, "0.0001"),
        (250, "0.00025"),
        (500, "0.0005"),
        (1_000, "0.001"),
        (2_500, "0.0025"),
        (5_000, "0.005"),
        (10_000, "0.01"),
        (25_000, "0.025"),
        (50_000, "0.05"),
        (100_000, "0.1"),
        (250_000, "0.25"),
        (500_000, "0.5"),
        (1_000_000, "1"),
        (2_500_000, "2.5"),
        (5_000_000, "5"),
        (10_000_000, "10"),
    ];

    /// Counts one more.
    pub(crate) fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // Nearly every request falls into one of the first few.
        let place = Self::BOUNDS.iter().position(|(micros, _)| nanos <= micros * 1000);
        self.buckets[place.unwrap_or(Self::BOUNDS.len())].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many fell into each bucket, not added up, and the sum of all durations.
    pub(crate) fn read(&self) -> ([u64; Self::BOUNDS.len() + 1], Duration) {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (self.buckets.each_ref().map(read), Duration::from_nanos(read(&self.nanos)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [0, 50, 51, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let (buckets, sum) = histogram.read();
        assert_eq!((buckets[0], buckets[1], buckets[16], buckets[17]), (2, 1, 1, 1));
        assert_eq!(sum, Duration::from_micros(20_000_102));
        for (micros, text) in Histogram::BOUNDS {
            assert_eq!(text.parse(), Ok(micros as f64 / 1e6), "{text}");
        }
    }
}
