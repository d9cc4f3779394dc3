//! How far a probe is, told once a second to whoever waits.
//!
//! Owns the line on standard error, so that standard output holds the report alone. Refuses to fill a log:
//! on a terminal the line is written over, elsewhere it is one line a beat.
//! Trap: the line must be wiped before anything else is written on the same terminal.

use std::{
    fmt::{self, Display},
    io::{IsTerminal as _, Write as _, stderr},
    time::Duration,
};

use super::tally::{Tally, Verdicts};

/// Back to the start of the line, and wipes it.
const WIPE: &str = "\r\x1b[K";

/// How far a run is.
#[derive(Clone, Debug)]
pub struct Progress {
    elapsed: Duration,
    asked: u32,
    requests: u64,
    verdicts: Verdicts,
}

impl Progress {
    /// So far, of so many sessions.
    pub fn of(asked: u32, tally: &Tally, elapsed: Duration) -> Self {
        let (requests, verdicts) = (tally.requests, tally.verdicts);
        Self { elapsed, asked, requests, verdicts }
    }
}

impl Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { elapsed, asked, requests, verdicts } = self;
        let Verdicts { whole, lost, no_session, crossed, failed } = verdicts;
        write!(
            f,
            "{:.0} s: {} of {asked} sessions, {requests} requests; {whole} whole, {lost} lost, {no_session} no_session, {crossed} crossed, {failed} failed",
            elapsed.as_secs_f64(),
            verdicts.total(),
        )
    }
}

/// Writes on standard error; wipes what it wrote when it is dropped.
#[derive(Debug)]
pub struct Teller {
    terminal: bool,
}

impl Teller {
    /// Asks whether standard error is a terminal.
    pub fn of_process() -> Self {
        Self { terminal: stderr().is_terminal() }
    }

    /// Tells; whether anybody reads it is not its business.
    pub fn tell(&self, progress: &Progress) {
        let _ = match self.terminal {
            true => write!(stderr(), "{WIPE}{progress}"),
            false => writeln!(stderr(), "{progress}"),
        };
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(stderr(), "{WIPE}");
        }
    }
}
