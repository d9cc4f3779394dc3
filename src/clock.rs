//! The clock behind all times that a client or an operator reads.
//!
//! Owns [`Clock`] and [`Moment`], milliseconds since the process started, which never jump, and their conversion to the
//! time of day, as a value or as text ([`Rfc3339`]).
//! Trap: the time of day may jump, so nothing is calculated with it. It has four digits for the year.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

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

    pub(crate) fn moment(self, instant: Instant) -> Moment {
        let since = instant.saturating_duration_since(self.epoch);
        Moment(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// A moment as the time of day, to the millisecond.
    pub(crate) fn time(self, moment: Moment) -> Timestamp {
        let since = i64::try_from(moment.0).unwrap_or(i64::MAX);
        let unix = self.started.as_millisecond().saturating_add(since);
        Timestamp::from_millisecond(unix).unwrap_or(Timestamp::MAX)
    }

    /// A moment as text, to the millisecond.
    pub(crate) fn text(self, moment: Moment) -> Rfc3339 {
        let started = u64::try_from(self.started.as_millisecond()).unwrap_or(0);
        Rfc3339::of_millis(started.saturating_add(moment.0))
    }

    pub(crate) fn uptime(self) -> Duration {
        self.epoch.elapsed()
    }
}

impl Moment {
    /// The moment of [`Moment::as_millis`].
    pub(crate) fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the process started.
    pub(crate) fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is, at least zero.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Saturates.
    pub(crate) fn plus(self, while_: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(while_.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// A time of day as RFC 3339 writes it, in UTC, such as `2026-07-28T09:30:00.123456Z`.
///
/// Composed on the stack, digit by digit, because every request writes three of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rfc3339 {
    text: [u8; 27],
    length: usize,
}

impl Rfc3339 {
    /// Now, to the microsecond.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::compose(since.as_secs(), since.subsec_micros(), 6)
    }

    fn of_millis(millis: u64) -> Self {
        Self::compose(millis / 1000, (millis % 1000) as u32, 3)
    }

    fn compose(seconds: u64, fraction: u32, places: usize) -> Self {
        let (days, second) = ((seconds / 86_400) as u32, (seconds % 86_400) as u32);
        // The calendar repeats every 400 years; years begin in March, so that a leap day is the last one.
        let shifted = days + 719_468;
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let march = (5 * day + 2) / 153;
        let date = day - (153 * march + 2) / 5 + 1;
        let month = if march < 10 { march + 3 } else { march - 9 };
        let year = year + era * 400 + u32::from(month <= 2);

        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut pair = |at: usize, number: u32| {
            text[at] = b'0' + (number / 10) as u8;
            text[at + 1] = b'0' + (number % 10) as u8;
        };
        pair(0, year / 100);
        pair(2, year % 100);
        pair(5, month);
        pair(8, date);
        pair(11, second / 3600);
        pair(14, second / 60 % 60);
        pair(17, second % 60);
        let micros = if places == 3 { fraction * 1000 } else { fraction };
        pair(20, micros / 10_000);
        pair(22, micros / 100 % 100);
        pair(24, micros % 100);
        text[20 + places] = b'Z';
        Self { text, length: 21 + places }
    }

    /// As text, all of it ASCII.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// From 1970 to 9999, as a library writes it.
        #[test]
        fn text_is_what_a_library_writes(millis in 0u64..253_402_300_799_999, micros in 0u32..1_000_000) {
            let time = Timestamp::from_millisecond(millis as i64).expect("is a time");
            let text = Rfc3339::of_millis(millis);
            prop_assert_eq!(text.as_str(), format!("{time:.3}"));
            let seconds = millis / 1000;
            let time = Timestamp::from_microsecond(seconds as i64 * 1_000_000 + i64::from(micros));
            let text = Rfc3339::compose(seconds, micros, 6);
            prop_assert_eq!(text.as_str(), format!("{:.6}", time.expect("is a time")));
        }
    }
}
