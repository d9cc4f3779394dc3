//! `mcp-echo-stateful probe URL`: opens sessions through whatever proxies lie between, and checks each to its end.
//!
//! Owns the run: a number of sessions, some of them at a time, until all are done or the user stops it. A broken session
//! does not end the run, which is to find out how many break and how.
//! Trap: all sessions share one task, so nothing here may block.

pub mod arguments;
mod connection;
mod conversation;
mod exchange;
mod message;
pub mod progress;
pub mod report;
mod tally;
mod tls;
mod verdict;

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
use progress::Teller;
use report::Report;
use tally::Tally;

/// How often progress is shown.
const BEAT: Duration = Duration::from_secs(1);

/// Runs what was planned, until it is done or `stop` completes, and shows progress meanwhile.
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
                    teller.tell(plan.asked.sessions, &shared.tally(), began.elapsed());
                }
            }
        }
    }
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Report::of(plan, &tally, began.elapsed()))
}

/// Eight hexadecimal digits that tell this run from others.
fn nonce() -> anyhow::Result<String> {
    let number = getrandom::u32().map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(format!("{number:08x}"))
}
