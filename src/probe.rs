//! `mcp-echo-stateful probe URL`: opens sessions through whatever proxies lie between, and checks each to its end.
//!
//! Owns the run: a number of sessions, some of them at a time, until all are done or the user stops it. A broken session
//! does not end the run, which is to find out how many break and how.
//! Trap: all sessions share one task, so nothing here may block.

pub mod arguments;
mod connection;
mod conversation;
mod dial;
mod evidence;
mod exchange;
pub mod findings;
mod junit;
mod leftovers;
mod markdown;
mod message;
mod names;
mod opening;
pub mod progress;
pub mod report;
mod survey;
mod tally;
mod target;
mod text;
mod ticks;
mod tls;
mod verdict;

use std::{
    future::{Future, ready},
    pin::pin,
    sync::{Mutex, PoisonError},
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
    let shared = Shared::new(plan, &tally, &run);
    let began = Instant::now();
    let elapsed = {
        let talks = stream::iter(0..plan.asked.sessions)
            .map(|number| conversation::hold(&shared, number))
            .buffer_unordered(plan.asked.concurrency as usize)
            // Where nobody is, more attempts show no more.
            .take_while(|()| ready(!shared.tally().has_failed_to_reach(plan.ways())));
        let mut work = pin!(async {
            talks.for_each(|()| ready(())).await;
            let elapsed = began.elapsed();
            leftovers::look(&shared).await;
            elapsed
        });
        let mut stop = pin!(stop);
        let mut beat = interval_at(Tick::now() + BEAT, BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                elapsed = &mut work => break elapsed,
                () = &mut stop => break began.elapsed(),
                _ = beat.tick() => {
                    teller.tell(plan.asked.sessions, &shared.tally(), began.elapsed());
                }
            }
        }
    };
    drop(shared);
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Report::of(plan, &tally, elapsed))
}

/// Eight hexadecimal digits that tell this run from others.
fn nonce() -> anyhow::Result<String> {
    let number = getrandom::u32().map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(format!("{number:08x}"))
}
