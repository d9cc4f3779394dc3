//! An honest client among the others: echoes at a steady rate and notes how long each took.
//!
//! Owns a thread and a runtime of its own, so that what the scenario does in this process delays it
//! little. Trap: on a shared machine some delay is nobody's fault, so a [`Watch`] asks a second server
//! at the same time, which nobody else uses, and what that one lets it wait is granted.

use std::{
    fmt::{self, Display},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::{
    facts::ms,
    server::Server,
    wire::{self, Wire},
};

/// Longer than any answer may take, so that a hang fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What one turn of a probe does.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    /// An echo in the same session, always.
    Echo(u8),
    /// A new session, and an echo in it.
    Begin(u8),
}

/// A probe that runs.
pub struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Duration>>>,
}

/// How long the probe's requests took.
#[derive(Clone, Debug)]
pub struct Times {
    sorted: Vec<Duration>,
}

impl Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p99, worst) = (ms(self.percentile(99.0)), ms(self.worst()));
        write!(f, "{}, 99 % within {p99}, the longest {worst}", self.count())
    }
}

impl Times {
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { sorted: times }
    }

    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    pub fn worst(&self) -> Duration {
        self.sorted.last().copied().unwrap_or_default()
    }

    /// The time that so many of a hundred did not exceed.
    pub fn percentile(&self, percent: f64) -> Duration {
        let index = (self.sorted.len() as f64 * percent / 100.0) as usize;
        self.sorted.get(index.min(self.sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl Probe {
    /// Connects, and takes a turn of each kind every `period`.
    pub fn start(address: SocketAddr, turns: &[Turn], period: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, turns) = (Arc::clone(&stop), turns.to_vec());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(address, turns, period, &stopped))
        });
        Self { stop, thread }
    }

    /// Ends it; how long its requests took. Fails if one failed.
    pub fn finish(self) -> Result<Vec<Duration>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the probe panicked")?
    }
}

/// A probe and its control: the same turns at the same time at a server that is left alone.
pub struct Watch {
    probe: Probe,
    control: Probe,
}

impl Watch {
    pub fn start(server: &Server, control: &Server, turns: &[Turn]) -> Self {
        let start = |server: &Server| Probe::start(server.address, turns, Duration::from_millis(5));
        Self { probe: start(server), control: start(control) }
    }

    /// How long the others had to wait, and how long the control.
    pub fn finish(self) -> Result<(Times, Times)> {
        Ok((Times::of(self.probe.finish()?), Times::of(self.control.finish()?)))
    }
}

async fn run(
    address: SocketAddr,
    turns: Vec<Turn>,
    period: Duration,
    stop: &AtomicBool,
) -> Result<Vec<Duration>> {
    let mut wires = Vec::new();
    let mut times = Vec::new();
    for turn in turns {
        let start = Instant::now();
        let mut wire = Wire::open(address).await?;
        let session = match turn {
            Turn::Echo(instance) => begin(&mut wire, instance).await?,
            Turn::Begin(_) => String::new(),
        };
        times.push(start.elapsed());
        wires.push((turn, wire, session));
    }
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        for (turn, wire, session) in &mut wires {
            let start = Instant::now();
            match *turn {
                Turn::Echo(instance) => echo(wire, instance, session).await?,
                Turn::Begin(instance) => {
                    let session = begin(wire, instance).await?;
                    times.push(start.elapsed());
                    let start = Instant::now();
                    echo(wire, instance, &session).await?;
                    times.push(start.elapsed());
                    continue;
                }
            }
            times.push(start.elapsed());
        }
    }
    Ok(times)
}

/// A new session's id.
pub async fn begin(wire: &mut Wire, instance: u8) -> Result<String> {
    let answer =
        timeout(PATIENCE, wire.ask(&wire::initialize(instance))).await.context("no answer")??;
    ensure!(answer.status == 200, "initialize was refused: {} {}", answer.status, answer.text());
    answer.session()
}

/// An echo that must succeed.
pub async fn echo(wire: &mut Wire, instance: u8, session: &str) -> Result<()> {
    let answer = timeout(PATIENCE, wire.ask(&wire::echo(instance, session)))
        .await
        .context("no answer")??;
    let right = answer.status == 200 && answer.text().contains("thirty bytes of message");
    ensure!(right, "echo was answered with {} {}", answer.status, answer.text());
    Ok(())
}
