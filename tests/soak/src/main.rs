//! The server stays itself under load and abuse: what must be bounded is, and who behaves is served.
//!
//! Each scenario starts the release binary with a configuration of its own, loads it from this process
//! over loopback, looks at it from outside (answers, `/debug`, `/proc`), and prints one line per fact.
//! A fact that does not hold makes the exit status 1. Nothing asserts a bare wall time: delays are held
//! against a baseline of the same run, deadlines against generous multiples.
//!
//! | scenario | what it proves |
//! |---|---|
//! | [`flood`] | far more `initialize` than capacity: memory flat, live sessions untouched, 503 with `Retry-After`, room again by expiry |
//! | [`expiry`] | 500,000 sessions expire at once, and no one else waits |
//! | [`slow`] | readers that do not read, heads and bodies that do not come: memory bounded, deadlines hold, others unaffected |
//! | [`tenants`] | one instance saturated, nine keep their throughput and their latency |
//! | [`abuse`] | calls abandoned, windows never opened, bodies that go on, streams cut, sessions deleted in use, reloads, all at once: nothing left behind, a neighbour unharmed |
//! | [`churn`] | sessions come and go in every way, for long: every one accounted for, nothing left behind, memory flat |

mod abuse;
mod churn;
mod expiry;
mod facts;
mod flood;
mod http2;
mod pour;
mod probe;
mod server;
mod slow;
mod tenants;
mod wire;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};

use crate::{facts::Facts, server::Place};

const SCENARIOS: [&str; 6] = ["flood", "expiry", "slow", "tenants", "abuse", "churn"];

fn main() -> ExitCode {
    let done = arguments().and_then(|(place, names)| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(run(&place, &names))
    });
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            println!("{failed} facts do not hold");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("FAILED {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<(Place, Vec<String>)> {
    let mut place = Place { binary: PathBuf::new(), scratch: PathBuf::new(), long: false };
    let mut names = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--server" => place.binary = arguments.next().context("--server PATH")?.into(),
            "--scratch" => place.scratch = arguments.next().context("--scratch PATH")?.into(),
            "--long" => place.long = true,
            name if SCENARIOS.contains(&name) => names.push(name.to_owned()),
            other => bail!("{other}: the scenarios are {}", SCENARIOS.join(" ")),
        }
    }
    if names.is_empty() {
        names = SCENARIOS.map(str::to_owned).to_vec();
    }
    Ok((place, names))
}

/// Runs the scenarios; how many facts do not hold.
async fn run(place: &Place, names: &[String]) -> Result<usize> {
    let mut failed = 0;
    for name in SCENARIOS.iter().filter(|name| names.iter().any(|chosen| chosen == *name)) {
        let mut facts = Facts::of(name);
        let start = std::time::Instant::now();
        let done = match *name {
            "flood" => flood::run(place, &mut facts).await,
            "expiry" => expiry::run(place, &mut facts).await,
            "slow" => slow::run(place, &mut facts).await,
            "tenants" => tenants::run(place, &mut facts).await,
            "abuse" => abuse::run(place, &mut facts).await,
            "churn" => churn::run(place, &mut facts).await,
            other => bail!("there is no scenario {other}"),
        };
        done.with_context(|| format!("{name} broke off"))?;
        facts.note(format!("took {:.0} s", start.elapsed().as_secs_f64()));
        failed += facts.failed;
    }
    Ok(failed)
}
