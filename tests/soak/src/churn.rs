//! Sessions come and go in every way, for long.
//!
//! In each cycle sessions are begun on all ten instances, used, given data, streamed to, cut off in the middle,
//! resumed, and then deleted, ended by the operator, or left alone until they expire. After each cycle nothing
//! is live, and every session is accounted for by how it ended; after the last, memory is within 20 % of
//! where it levelled off. Timeouts are compressed to one second. Trap: the server remembers how the last
//! 10,000 sessions of an instance ended, so memory levels off only after these.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    facts::{Facts, mib},
    probe::{PATIENCE, begin, echo},
    server::{Counts, Place, Server},
    wire::{self, Wire, host},
};

/// Sessions of one cycle on one instance.
const SESSIONS: usize = 200;
/// Sessions of an instance that are remembered when they have ended, and some more.
const REMEMBERED: usize = 10_500;
/// Cycles after which memory must have levelled off.
const WARM: usize = 3;

/// How a session is to end.
#[derive(Clone, Copy)]
enum Fate {
    Delete,
    Operator,
    Forgotten,
}

impl Fate {
    fn of(number: usize) -> Self {
        match number % 8 {
            0..3 => Self::Delete,
            3 => Self::Operator,
            _ => Self::Forgotten,
        }
    }
}

pub async fn run(place: &Place, facts: &mut Facts) -> Result<()> {
    let server = Server::start(
        place,
        "churn",
        "[session]\ntimeout_seconds = 1\n[stream]\nkeep_alive_seconds = 0.5\n",
    )?;
    let time = Duration::from_secs(if place.long { 3600 } else { 10 });
    let ended = forget(server.address).await?;
    facts.note(format_args!(
        "{ended} sessions began and were deleted, so that no more ends can be remembered"
    ));
    let start = Instant::now();
    let (mut plateau, mut cycles, mut wrong) = (0, 0, 0);
    let mut seen = Vec::new();
    while start.elapsed() < time || cycles < WARM + 3 {
        cycle(server.address).await?;
        let empty = server
            .eventually(PATIENCE, async |server| {
                for instance in 0..10 {
                    if server.counts(instance).await?.live > 0 {
                        return Ok(false);
                    }
                }
                Ok(true)
            })
            .await?;
        cycles += 1;
        for instance in 0..10 {
            let counts = server.counts(instance).await?;
            let right = empty && is_accounted_for(&counts, cycles);
            if !right && wrong == 0 {
                facts.note(format_args!("cycle {cycles}, instance {instance}: {counts:?}"));
            }
            wrong += usize::from(!right);
        }
        let rss = server.rss()?;
        seen.push(rss);
        if cycles <= WARM {
            plateau = plateau.max(rss);
        }
    }
    let sessions = cycles * SESSIONS * 10;
    facts.check(
        wrong == 0,
        format_args!("{cycles} cycles, {sessions} sessions: after each nothing was live and every end was accounted for (deleted, by the operator, expired)"),
    );
    let last = seen.last().copied().unwrap_or_default();
    let most = seen.iter().skip(WARM).copied().max().unwrap_or_default();
    facts.check(
        last as f64 <= plateau as f64 * 1.2,
        format_args!(
            "memory levelled off at {} within {WARM} cycles; after {cycles}, {} (at most {})",
            mib(plateau),
            mib(last),
            mib(most)
        ),
    );
    let idle = server.eventually(PATIENCE, async |server| Ok(server.sockets()? < 20)).await?;
    facts.check(idle, format_args!("no connection is left: {} sockets", server.sockets()?));
    facts.check(server.stop().await?, "asked to stop, it did, with exit code 0");
    Ok(())
}

fn is_accounted_for(counts: &Counts, cycles: usize) -> bool {
    let share = |fate: fn(Fate) -> bool| {
        ((0..SESSIONS).filter(|number| fate(Fate::of(*number))).count() * cycles) as u64
    };
    counts.live == 0
        && counts.created == (REMEMBERED + SESSIONS * cycles) as u64
        && counts.client == REMEMBERED as u64 + share(|fate| matches!(fate, Fate::Delete))
        && counts.admin == share(|fate| matches!(fate, Fate::Operator))
        && counts.expired == share(|fate| matches!(fate, Fate::Forgotten))
}

/// Begins and ends as many sessions on each instance as are remembered; how many that are.
async fn forget(address: SocketAddr) -> Result<usize> {
    let mut tasks = JoinSet::new();
    for instance in 0..10u8 {
        tasks.spawn(async move {
            let mut wire = Wire::open(address).await?;
            let mut left = REMEMBERED;
            while left > 0 {
                let batch = left.min(50);
                wire.send(&wire::initialize(instance).repeat(batch)).await?;
                let mut ends = Vec::new();
                for _ in 0..batch {
                    let session = timeout(PATIENCE, wire.answer()).await??.session()?;
                    ends.extend(wire::request("DELETE", instance, Some(&session), ""));
                }
                wire.send(&ends).await?;
                for _ in 0..batch {
                    let answer = timeout(PATIENCE, wire.answer()).await??;
                    ensure!(answer.status == 204, "not deleted: {}", answer.status);
                }
                left -= batch;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(REMEMBERED * 10)
}

async fn cycle(address: SocketAddr) -> Result<()> {
    let mut tasks = JoinSet::new();
    for instance in 0..10u8 {
        tasks.spawn(async move {
            for number in 0..SESSIONS {
                let mut wire = Wire::open(address).await?;
                live(&mut wire, address, instance, number)
                    .await
                    .with_context(|| format!("session {number} of instance {instance}"))?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// One session's life.
async fn live(wire: &mut Wire, address: SocketAddr, instance: u8, number: usize) -> Result<()> {
    let session = begin(wire, instance).await?;
    for _ in 0..number % 4 {
        echo(wire, instance, &session).await?;
    }
    let value = "x".repeat(number * 50);
    let body = wire::call("set_session_data", &format!(r#"{{"key":"k","value":"{value}"}}"#));
    let stored = wire.ask(&wire::request("POST", instance, Some(&session), &body)).await?;
    ensure!(stored.status == 200, "not stored: {}", stored.text());
    match number % 5 {
        // A standalone stream that is cut.
        0 => {
            let mut stream = Wire::open(address).await?;
            stream.send(&wire::request("GET", instance, Some(&session), "")).await?;
            ensure!(timeout(PATIENCE, stream.status()).await?? == 200, "no stream");
        }
        // A call that streams, cut in the middle, and picked up again.
        1 => {
            let mut stream = Wire::open(address).await?;
            let body = wire::call("stream_ticks", r#"{"count":20,"interval_ms":1}"#);
            stream.send(&wire::request("POST", instance, Some(&session), &body)).await?;
            ensure!(timeout(PATIENCE, stream.status()).await?? == 200, "no stream");
            drop(stream);
            let mut stream = Wire::open(address).await?;
            let text = String::from_utf8(wire::request("GET", instance, Some(&session), ""))?;
            let resume = text.replacen("\r\n", "\r\nLast-Event-ID: 1-0\r\n", 1);
            stream.send(resume.as_bytes()).await?;
            let status = timeout(PATIENCE, stream.status()).await??;
            // 400 if it was cut before its first event.
            ensure!(status == 200 || status == 400, "not resumed: {status}");
        }
        _ => {}
    }
    match Fate::of(number) {
        Fate::Forgotten => {}
        Fate::Delete => {
            let gone = wire.ask(&wire::request("DELETE", instance, Some(&session), "")).await?;
            ensure!(gone.status == 204, "not deleted: {}", gone.status);
        }
        Fate::Operator => {
            let head = format!(
                "DELETE /debug/sessions/{session} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer soak\r\n\r\n",
                host(instance)
            );
            let gone = wire.ask(head.as_bytes()).await?;
            ensure!(gone.status == 204, "not ended: {} {}", gone.status, gone.text());
        }
    }
    Ok(())
}
