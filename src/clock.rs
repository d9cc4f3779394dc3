//! The clock behind all times that a client or an operator reads.
//!
//! Owns [`Clock`] and [`Moment`], milliseconds that never jump, with room for what began before the process; [`TimeOfDay`], by which
//! moments are told as times of day; and their text ([`Rfc3339`], and [`Ticker`] for the log). The time of day is read when
//! it is told, so a clock that has been set is right at once; what is told in one answer is told by one reading.
//! Trap: the time of day may jump, so nothing is calculated with it. It has four digits for the year.

use std::{
    num::NonZero,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// By how many milliseconds two clocks may seem to differ only because they are not read at once.
const UNEVENNESS: i64 = 50;

/// How long before the start of the process moment zero is: sessions of a shared store may be older than the process.
const ROOM: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Counts from [`ROOM`] before the start of the process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    wall: &'static Wall,
}

/// The machine's time of day.
#[derive(Debug)]
struct Wall {
    /// Milliseconds since 1970.
    now: fn() -> i64,
    /// The time of day of moment zero, as it was last told: so one moment is told alike each time, to the millisecond.
    epoch: AtomicI64,
}

/// A point on the [`Clock`].
///
/// Milliseconds since moment zero and one, so that an `Option` of it takes no more room: a session has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(NonZero<u64>);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self::beside(|| {
            let since = since_1970();
            since.as_secs() as i64 * 1000 + i64::from(since.subsec_millis())
        })
    }

    /// A clock that starts now, on a machine with that time of day.
    fn beside(now: fn() -> i64) -> Self {
        // Never freed, so that a clock can be copied: a process has one.
        let epoch = now().saturating_sub_unsigned(millis(ROOM));
        let wall = Box::leak(Box::new(Wall { now, epoch: AtomicI64::new(epoch) }));
        Self { started: Instant::now(), wall }
    }

    /// Now.
    pub fn now(self) -> Moment {
        self.moment(Instant::now())
    }

    pub(crate) fn moment(self, instant: Instant) -> Moment {
        let since = instant.saturating_duration_since(self.started);
        Moment::from_millis(millis(since) + millis(ROOM))
    }

    /// When the process started.
    pub(crate) fn started(self) -> Moment {
        self.moment(self.started)
    }

    /// What to tell times by in one answer.
    pub(crate) fn time_of_day(self) -> TimeOfDay {
        self.time_of_day_at(self.now())
    }

    /// The same, where it has just been read what moment it is.
    pub(crate) fn time_of_day_at(self, now: Moment) -> TimeOfDay {
        let kept = self.wall.epoch.load(Ordering::Relaxed);
        match self.epoch_seen(now).abs_diff(kept) <= UNEVENNESS.unsigned_abs() {
            true => TimeOfDay { epoch: kept },
            false => TimeOfDay { epoch: self.set_again(kept) },
        }
    }

    /// The time of day of moment zero, as the machine's clock has it now.
    fn epoch_seen(self, now: Moment) -> i64 {
        (self.wall.now)().saturating_sub_unsigned(now.as_millis())
    }

    /// The machine's clock has been set, or this thread was held up between the two readings.
    #[cold]
    fn set_again(self, kept: i64) -> i64 {
        for _ in 0..4 {
            let before = self.now();
            let seen = self.epoch_seen(before);
            if self.now().as_millis() - before.as_millis() <= 1 {
                if seen.abs_diff(kept) <= UNEVENNESS.unsigned_abs() {
                    return kept;
                }
                self.wall.epoch.store(seen, Ordering::Relaxed);
                return seen;
            }
        }
        kept
    }

    pub(crate) fn uptime(self) -> Duration {
        self.started.elapsed()
    }
}

/// Tells moments as times of day, all by one reading of the machine's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeOfDay {
    /// Milliseconds from 1970 to moment zero.
    epoch: i64,
}

impl TimeOfDay {
    /// Milliseconds from 1970 to moment zero.
    pub(crate) fn epoch(self) -> i64 {
        self.epoch
    }

    /// To the millisecond.
    pub(crate) fn time(self, moment: Moment) -> Timestamp {
        let unix = self.epoch.saturating_add_unsigned(moment.as_millis());
        Timestamp::from_millisecond(unix).unwrap_or(Timestamp::MAX)
    }

    /// The same as text.
    pub(crate) fn text(self, moment: Moment) -> Rfc3339 {
        let unix = self.epoch.saturating_add_unsigned(moment.as_millis());
        Rfc3339::of_millis(u64::try_from(unix).unwrap_or(0))
    }
}

impl Moment {
    /// The moment of [`Moment::as_millis`].
    pub(crate) fn from_millis(millis: u64) -> Self {
        Self(NonZero::<u64>::MIN.saturating_add(millis))
    }

    /// Milliseconds since moment zero.
    pub(crate) fn as_millis(self) -> u64 {
        self.0.get() - 1
    }

    /// How long after `earlier` this is, at least zero.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// Saturates.
    pub(crate) fn plus(self, while_: Duration) -> Self {
        Self(self.0.saturating_add(millis(while_)))
    }
}

/// Whole milliseconds; saturates.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The numbers from 0 to 99 in two digits.
const PAIRS: [[u8; 2]; 100] = {
    let (mut pairs, mut number) = ([[0; 2]; 100], 0);
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// A time of day as RFC 3339 writes it, in UTC, such as `2026-07-28T09:30:00.123456Z`.
///
/// Composed on the stack, digit by digit, because every request writes three of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rfc3339 {
    text: [u8; 27],
    length: usize,
}

/// What the machine's clock says.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Tells what time it is, to the microsecond; keeps the text for as long as a second lasts.
#[derive(Debug)]
pub(crate) struct Ticker {
    second: u64,
    text: Rfc3339,
}

impl Default for Ticker {
    /// Costs nothing, since one is made beside each line.
    fn default() -> Self {
        let text = *b"1970-01-01T00:00:00.000000Z";
        Self { second: 0, text: Rfc3339 { text, length: text.len() } }
    }
}

impl Ticker {
    pub(crate) fn now(&mut self) -> &Rfc3339 {
        self.at(since_1970())
    }

    fn at(&mut self, since: Duration) -> &Rfc3339 {
        let (second, micros) = (since.as_secs(), since.subsec_micros());
        if second != self.second {
            *self = Self { second, text: Rfc3339::compose(second, micros, 6) };
        }
        self.text.set_fraction(micros, 6);
        &self.text
    }
}

impl Rfc3339 {
    fn of_millis(millis: u64) -> Self {
        Self::compose(millis / 1000, (millis % 1000) as u32, 3)
    }

    fn compose(seconds: u64, fraction: u32, places: usize) -> Self {
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // By Neri and Schneider, "Euclidean affine functions and their application to calendar algorithms" (2023): years
        // begin in March, so that a leap day is the last one, and what remains of one division is where the next begins.
        let day = 4 * (days + 719_468) + 3;
        let (century, of_century) = (day / 146_097, (day % 146_097) | 3);
        let years = 2_939_745 * of_century;
        let (year, of_year) = (years >> 32, u64::from(years as u32) / 2_939_745 / 4);
        let months = 2141 * of_year + 197_913;
        let (march, date) = (months >> 16, (months & 0xffff) / 2141 + 1);
        let month = if march > 12 { march - 12 } else { march };
        let year = 100 * century + year + u64::from(march > 12);

        let mut text = Self { text: *b"0000-00-00T00:00:00.000000Z", length: 21 + places };
        text.set_pair(0, year / 100);
        text.set_pair(2, year % 100);
        text.set_pair(5, month);
        text.set_pair(8, date);
        text.set_pair(11, second / 3600);
        text.set_pair(14, second / 60 % 60);
        text.set_pair(17, second % 60);
        text.set_fraction(fraction, places);
        text
    }

    fn set_fraction(&mut self, fraction: u32, places: usize) {
        let micros = u64::from(if places == 3 { fraction * 1000 } else { fraction });
        self.set_pair(20, micros / 10_000);
        self.set_pair(22, micros / 100 % 100);
        self.set_pair(24, micros % 100);
        self.text[20 + places] = b'Z';
    }

    fn set_pair(&mut self, at: usize, number: u64) {
        if let (Some(place), Some(digits)) =
            (self.text[at..].first_chunk_mut(), PAIRS.get(number as usize))
        {
            *place = *digits;
        }
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

    static MACHINE: AtomicI64 = AtomicI64::new(1_800_000_000_000);

    #[test]
    fn a_machine_s_clock_that_is_set_is_told_at_once_and_alike() {
        const HOUR: i64 = 3_600_000;
        let clock = Clock::beside(|| MACHINE.load(Ordering::Relaxed));
        let created = clock.now();
        let told = |moment| clock.time_of_day().time(moment).as_millisecond();
        let before = told(created);
        assert_eq!(told(created), before);
        for shift in [HOUR, -2 * HOUR] {
            let (first, told_before) = (clock.time_of_day(), told(created));
            MACHINE.fetch_add(shift, Ordering::Relaxed);
            let moved = told(created) - told_before;
            assert!((moved - shift).abs() <= 5_000, "{moved}");
            // What one reading tells keeps its distances, whatever the machine's clock does.
            let later = created.plus(Duration::from_secs(300));
            assert_eq!(
                first.time(later).as_millisecond(),
                first.time(created).as_millisecond() + 300_000
            );
            let now = clock.time_of_day();
            assert_eq!(now.text(later).as_str(), format!("{:.3}", now.time(later)));
        }
    }

    proptest! {
        /// From 1970 to 9999, as a library writes it.
        #[test]
        fn text_is_what_a_library_writes(millis in 0u64..253_402_300_799_999, micros in 0u32..1_000_000, ahead in 0u64..2) {
            let time = Timestamp::from_millisecond(millis as i64).expect("is a time");
            let text = Rfc3339::of_millis(millis);
            prop_assert_eq!(text.as_str(), format!("{time:.3}"));
            let seconds = millis / 1000;
            let time = Timestamp::from_microsecond(seconds as i64 * 1_000_000 + i64::from(micros));
            let text = Rfc3339::compose(seconds, micros, 6);
            let shown = format!("{:.6}", time.expect("is a time"));
            prop_assert_eq!(text.as_str(), &shown);
            // Whatever it told before, of that second or another.
            let mut ticker = Ticker::default();
            ticker.at(Duration::from_secs(seconds + ahead));
            prop_assert_eq!(ticker.at(Duration::new(seconds, micros * 1000)).as_str(), &shown);
        }
    }
}
