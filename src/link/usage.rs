//! What is counted of the scripts that the store is asked to run.
//!
//! Owns [`Usage`]: operations by script and by what came of them, how long they took, and how often more than the usual one
//! command was needed. All labels are of closed sets, so every series is there from the start.
//! Traps: a script that is missing in [`OPERATIONS`] is counted nowhere; a test reads the sources for it. And what failed at
//! once, because the store was known to be lost, took no time, so it is left out of the durations.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::trouble::Trouble;
use crate::histogram::Histogram;

/// The scripts by name: the label `operation`, in lower case.
pub const OPERATIONS: &[&str] = &[
    "create",
    "load",
    "commit",
    "look",
    "finish",
    "finish_all",
    "tick",
    "list",
    "sizes",
    "ended",
    "hear",
    "standing",
    "publish",
    "ask",
    "answer",
    "take",
    "withdraw",
    "cancel",
    "silent",
    "subscribe",
    "unsubscribe",
    "speak",
    "append",
    "attach",
    "replay",
    "agree",
    "task_create",
    "task_get",
    "task_look",
    "task_own",
    "task_ask",
    "task_update",
    "task_cancel",
    "task_finish",
    "task_sweep",
];

/// What came of a script: the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, at the second attempt at the latest.
    Ok,
    /// It was not asked, because the store is known to be lost.
    Down,
    /// No answer came in time, twice.
    Silent,
    /// The connection broke, twice.
    Broken,
    /// It ran too late to do anything, twice.
    Late,
    /// The store refused it: it is read-only, full, loading, or does not let us.
    Refused,
    /// It was done, and is not on the store's disk (`store.wait_aof`).
    NotOnDisk,
    /// The answer made no sense.
    Garbled,
}

impl Outcome {
    /// Every outcome, in the order of the enum.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Down,
        Self::Silent,
        Self::Broken,
        Self::Late,
        Self::Refused,
        Self::NotOnDisk,
        Self::Garbled,
    ];

    /// As a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Down => "down",
            Self::Silent => "silent",
            Self::Broken => "broken",
            Self::Late => "late",
            Self::Refused => "refused",
            Self::NotOnDisk => "not_on_disk",
            Self::Garbled => "garbled",
        }
    }

    pub(super) fn of<T>(came: &Result<T, Trouble>) -> Self {
        match came {
            Ok(_) => Self::Ok,
            Err(Trouble::Down) => Self::Down,
            Err(Trouble::Silent) => Self::Silent,
            Err(Trouble::Broken) => Self::Broken,
            Err(Trouble::Late(_)) => Self::Late,
            Err(
                Trouble::Refused(_)
                | Trouble::Full(_)
                | Trouble::NoScript
                | Trouble::ReadOnly
                | Trouble::Moved(_),
            ) => Self::Refused,
            Err(Trouble::NotOnDisk) => Self::NotOnDisk,
            Err(Trouble::Garbled) => Self::Garbled,
        }
    }
}

/// What was counted since the start.
#[derive(Debug)]
pub(crate) struct Usage {
    operations: Vec<[AtomicU64; Outcome::ALL.len()]>,
    pub(crate) durations: Histogram,
    repeated: AtomicU64,
    sent_whole: AtomicU64,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            operations: OPERATIONS.iter().map(|_| Default::default()).collect(),
            durations: Histogram::default(),
            repeated: AtomicU64::new(0),
            sent_whole: AtomicU64::new(0),
        }
    }
}

impl Usage {
    /// Counts a script that has been answered or given up.
    pub(super) fn count(&self, script: &str, outcome: Outcome, duration: Duration) {
        let place = OPERATIONS.iter().position(|known| script.eq_ignore_ascii_case(known));
        if let Some(outcomes) = place.and_then(|place| self.operations.get(place)) {
            outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        }
        if outcome != Outcome::Down {
            self.durations.observe(duration);
        }
    }

    /// Counts a script that is run again, since no answer has come.
    pub(super) fn count_repeated(&self) {
        self.repeated.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a script that is sent whole, since the store did not know it.
    pub(super) fn count_sent_whole(&self) {
        self.sent_whole.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn operations(&self) -> impl Iterator<Item = (&'static str, Outcome, u64)> {
        OPERATIONS.iter().copied().zip(&self.operations).flat_map(|(operation, outcomes)| {
            let numbers = Outcome::ALL.into_iter().zip(outcomes);
            numbers.map(move |(outcome, count)| (operation, outcome, read(count)))
        })
    }

    pub(crate) fn repeated(&self) -> u64 {
        read(&self.repeated)
    }

    pub(crate) fn sent_whole(&self) -> u64 {
        read(&self.sent_whole)
    }
}

fn read(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}
