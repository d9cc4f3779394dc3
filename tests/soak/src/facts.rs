//! What a scenario has found out: one line a fact, with its numbers.

use std::{fmt::Display, time::Duration};

/// The facts of one scenario.
pub struct Facts {
    scenario: &'static str,
    pub failed: usize,
}

impl Facts {
    pub fn of(scenario: &'static str) -> Self {
        Self { scenario, failed: 0 }
    }

    /// Something that must be so.
    pub fn check(&mut self, holds: bool, fact: impl Display) {
        let verdict = if holds { "ok    " } else { "FAILED" };
        self.failed += usize::from(!holds);
        println!("{verdict} {:8} {fact}", self.scenario);
    }

    /// Something worth knowing.
    pub fn note(&self, fact: impl Display) {
        println!("       {:8} {fact}", self.scenario);
    }
}

/// Bytes as MiB.
pub fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A duration as milliseconds.
pub fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
