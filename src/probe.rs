//! `mcp-echo-stateful probe URL`: sessions through whatever lies between, each of them seen to its end.
//!
//! Owns the run: so many sessions, so many at a time, until they are done or somebody stops it. Refuses to
//! let a broken session end the run: how many broke, and how, is what is asked.
//! Trap: all sessions share one task, so nothing here may block.

pub mod arguments;
pub mod conversation;
pub mod exchange;
pub mod message;
pub mod progress;
pub mod report;
pub mod tally;
pub mod tls;
pub mod verdict;
pub mod wire;

use std::{
    future::Future,
    pin::pin,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant as Tick, MissedTickBehavior, interval_at};

use arguments::Plan;
use exchange::Shared;
use progress::{Progress, Teller};
use report::Report;
use tally::Tally;

/// How often it is told how far the run is.
const BEAT: Duration = Duration::from_secs(1);

/// Runs what was planned, or as much of it as is done when `stop` completes, and tells meanwhile how far
/// it is.
pub async fn run(
    plan: &Plan,
    teller: Teller,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<Report> {
    let tally = Mutex::new(Tally::default());
    let run = nonce()?;
    let shared = Shared { plan, tally: &tally, run: &run, ids: AtomicU64::new(1) };
    let began = Instant::now();
    {
        let talks = stream::iter(0..plan.asked.sessions)
            .map(|number| conversation::hold(&shared, number))
            .buffer_unordered(plan.asked.concurrency as usize);
        let mut done = pin!(talks.for_each(|()| std::future::ready(())));
        let mut stop = pin!(stop);
        let mut beat = interval_at(Tick::now() + BEAT, BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = &mut done => break,
                () = &mut stop => break,
                _ = beat.tick() => {
                    let sessions = plan.asked.sessions;
                    teller.tell(&Progress::of(sessions, &shared.tally(), began.elapsed()));
                }
            }
        }
    }
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Report::of(plan, &tally, began.elapsed()))
}

/// Eight digits that no other run has.
fn nonce() -> anyhow::Result<String> {
    let number = getrandom::u32().map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(format!("{number:08x}"))
}
