//! Progress of a run, shown once a second on standard error.
//!
//! Owns that line; standard output holds nothing but the report. On a terminal the line is overwritten each time.
//! Trap: the line must be erased before anything else is written to the same terminal.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    time::Duration,
};

use super::tally::{Tally, Verdicts};

/// Returns to the start of the line and erases it.
const ERASE: &str = "\r\x1b[K";

/// Writes progress on standard error, and erases it when dropped.
#[derive(Debug)]
pub struct Teller {
    terminal: bool,
}

impl Teller {
    /// For the standard error of this process.
    pub fn of_process() -> Self {
        Self { terminal: stderr().is_terminal() }
    }

    /// Shows progress towards the number of sessions that was `asked` for. Write errors are ignored.
    pub(super) fn tell(&self, asked: u32, tally: &Tally, elapsed: Duration) {
        let Verdicts { whole, lost, misrouted, crossed, failed } = tally.verdicts;
        let progress = format!(
            "{:.0} s: {} of {asked} sessions, {} requests; {whole} whole, {lost} lost, {misrouted} misrouted, {crossed} crossed, {failed} failed",
            elapsed.as_secs_f64(),
            tally.verdicts.total(),
            tally.requests,
        );
        let _ = match self.terminal {
            true => write!(stderr(), "{ERASE}{progress}"),
            false => writeln!(stderr(), "{progress}"),
        };
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(stderr(), "{ERASE}");
        }
    }
}
