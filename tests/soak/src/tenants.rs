//! One instance saturated, and nine that keep their throughput and their latency.
//!
//! Nine tenants ask at a modest fixed rate. Meanwhile nobody else asks; or the same pressure comes from all
//! ten, evenly; or it comes from the tenth alone. The nine must keep 80 % of the throughput that they have
//! when nobody else asks, and of the 99th percentile that they have when all are equal. Last, the tenth asks
//! for large answers, each the work of many echoes: then too the nine must be served, as they are at the same
//! time by a server that is left alone, and with 100 ms more to wait.
//! The four take turns in short bursts, so that what the machine does meanwhile falls on all of them, and
//! the median of the bursts counts. What was too little or too late is measured once more.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{task::JoinSet, time::sleep_until};

use crate::{
    facts::{Facts, ms},
    probe::{Times, begin, echo},
    server::{Place, Server},
    wire::{self, Wire},
};

/// Requests a second of each of the nine.
const RATE: u32 = 100;
/// Connections that ask as fast as they are answered.
const PRESSURE: usize = 120;
/// Shares that must be kept.
const KEEP: f64 = 0.8;
/// What one percentile of a short burst may stray on a shared machine.
const NOISE: Duration = Duration::from_millis(3);

/// Connections that ask for large answers, and how large. Bytes.
const LARGE_PRESSURE: usize = 8;
const LARGE: usize = 8_000_000;
/// What the nine may wait while the tenth asks for these.
const PAUSE: Duration = Duration::from_millis(100);

/// From where the pressure comes.
#[derive(Clone, Copy, PartialEq)]
enum Pressure {
    Nobody,
    Everyone,
    One,
    OneLarge,
}

/// What the nine saw: of each burst, the rate of the least of them, their 99th percentile here and at the
/// control; and what those who pressed got.
#[derive(Default)]
struct Seen {
    control: Vec<Duration>,
    rates: Vec<f64>,
    times: Vec<Duration>,
    pressed: Vec<f64>,
}

fn median<T: Copy + PartialOrd>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted[sorted.len() / 2]
}

pub async fn run(place: &Place, facts: &mut Facts) -> Result<()> {
    let (rounds, burst) = if place.long { (100, 2.0) } else { (5, 0.5) };
    let server = Server::start(place, "tenants", "")?;
    let control = Server::start(place, "tenants-control", "")?;
    let mut judged = judge(&server, &control, rounds, burst, facts).await?;
    if judged.iter().any(|(fine, _)| !fine) {
        for (_, text) in &judged {
            facts.note(format_args!("measured once more: {text}"));
        }
        judged = judge(&server, &control, rounds, burst, facts).await?;
    }
    for (fine, text) in judged {
        facts.check(fine, format_args!("{text}"));
    }
    Ok(())
}

/// Measures, and says of each thing that must hold whether it does.
async fn judge(
    server: &Server,
    control: &Server,
    rounds: u32,
    burst: f64,
    facts: &Facts,
) -> Result<[(bool, String); 3]> {
    let mut seen = [(); 4].map(|()| Seen::default());
    for _ in 0..rounds {
        let turns = [Pressure::Nobody, Pressure::Everyone, Pressure::One, Pressure::OneLarge];
        for (seen, pressure) in seen.iter_mut().zip(turns) {
            measure(server, control, pressure, Duration::from_secs_f64(burst), seen).await?;
        }
    }
    let [quiet, equal, one, large] = seen
        .each_ref()
        .map(|seen| (median(&seen.rates), median(&seen.times), median(&seen.pressed)));
    let alone = median(&seen[3].control);
    facts.note(format_args!("the pressure: {:.0} echoes a second from all ten, {:.0} from one; {:.0} answers of {LARGE} bytes", equal.2, one.2, large.2));
    Ok([
        (
            one.0 >= KEEP * quiet.0,
            format!(
                "throughput of the least of nine: {:.0} a second beside one that saturates, {:.0} when all press, {:.0} alone",
                one.0, equal.0, quiet.0
            ),
        ),
        (
            one.1 <= equal.1.div_f64(KEEP) + NOISE,
            format!(
                "99th percentile of nine: {} beside one that saturates, {} when all press, {} alone",
                ms(one.1),
                ms(equal.1),
                ms(quiet.1)
            ),
        ),
        (
            large.0 >= KEEP * quiet.0 && large.1 <= PAUSE + alone * 2,
            format!(
                "beside one that asks for large answers: {:.0} a second, 99th percentile {}; at a server left alone {}",
                large.0,
                ms(large.1),
                ms(alone)
            ),
        ),
    ])
}

async fn measure(
    server: &Server,
    control: &Server,
    pressure: Pressure,
    time: Duration,
    seen: &mut Seen,
) -> Result<()> {
    let (address, control) = (server.address, control.address);
    let stop = Arc::new(AtomicBool::new(false));
    let pressed = Arc::new(AtomicU64::new(0));
    let mut pressing = JoinSet::new();
    let connections = if pressure == Pressure::OneLarge { LARGE_PRESSURE } else { PRESSURE };
    for number in 0..connections {
        let instance = match pressure {
            Pressure::Nobody => break,
            Pressure::Everyone => (number % 10) as u8,
            Pressure::One | Pressure::OneLarge => 0,
        };
        let large = wire::call("big_response", &format!(r#"{{"bytes":{LARGE}}}"#));
        let (stop, pressed) = (Arc::clone(&stop), Arc::clone(&pressed));
        pressing.spawn(async move {
            let mut wire = Wire::open(address).await?;
            let session = begin(&mut wire, instance).await?;
            while !stop.load(Ordering::Relaxed) {
                if pressure == Pressure::OneLarge {
                    let answer =
                        wire.ask(&wire::request("POST", 0, Some(&session), &large)).await?;
                    ensure!(answer.body.len() > LARGE, "no large answer");
                } else {
                    echo(&mut wire, instance, &session).await?;
                }
                pressed.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    // Threads of their own, so that the pressing clients delay these little.
    let before = pressed.load(Ordering::Relaxed);
    let nine_at = |address| {
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(nine(address, time))
        })
    };
    let (here, there) = (nine_at(address), nine_at(control));
    let ((answers, times), (_, alone)) = (here.await??, there.await??);
    let asked = pressed.load(Ordering::Relaxed) - before;
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = pressing.join_next().await {
        done??;
    }
    let seconds = time.as_secs_f64();
    seen.pressed.push(asked as f64 / seconds);
    seen.rates.push(answers.iter().copied().min().unwrap_or_default() as f64 / seconds);
    seen.times.push(Times::of(times).percentile(99.0));
    seen.control.push(Times::of(alone).percentile(99.0));
    Ok(())
}

/// Nine tenants at a fixed rate. A request counts from when it was due, not from when its turn came.
async fn nine(address: SocketAddr, time: Duration) -> Result<([u64; 9], Vec<Duration>)> {
    let mut tenants = JoinSet::new();
    for instance in 1..10u8 {
        tenants.spawn(async move {
            let mut wire = Wire::open(address).await?;
            let session = begin(&mut wire, instance).await?;
            let start = Instant::now();
            let mut times = Vec::new();
            for number in 0.. {
                let due = start + Duration::from_secs(number) / RATE;
                if due > start + time || Instant::now() > start + time {
                    break;
                }
                sleep_until(due.into()).await;
                echo(&mut wire, instance, &session).await?;
                times.push(due.elapsed());
            }
            Ok::<_, anyhow::Error>((usize::from(instance) - 1, times))
        });
    }
    let (mut answers, mut all) = ([0; 9], Vec::new());
    while let Some(tenant) = tenants.join_next().await {
        let (index, times) = tenant.context("a tenant panicked")??;
        answers[index] = times.len() as u64;
        all.extend(times);
    }
    Ok((answers, all))
}
