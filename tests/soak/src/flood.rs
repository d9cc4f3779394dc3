//! Far more `initialize` than capacity.
//!
//! An instance is filled to its capacity and then asked for sessions as fast as this client can ask. Every
//! one of these is refused with 503 and `Retry-After`; memory stays flat; the sessions that are in use keep
//! their data and their counts; and when the others have expired there is room for exactly as many again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

use crate::{
    facts::{Facts, mib, ms},
    pour::{Until, pour},
    probe::{Probe, Times, Turn, begin, echo},
    server::{Place, Server},
    wire::{self, Wire},
};

const CAPACITY: u64 = 20_000;
/// Sessions that are in use.
const KEPT: usize = 100;
/// The instance that is flooded, and a bystander.
const FLOODED: u8 = 1;
const OTHER: u8 = 2;
/// What refusing may cost in memory: nothing, but for what the allocator takes along.
const GROWTH: usize = 16 << 20;

pub async fn run(place: &Place, facts: &mut Facts) -> Result<()> {
    let seconds = if place.long { 60 } else { 5 };
    let timeout = seconds + 6;
    let server = Server::start(
        place,
        "flood",
        &format!(
            "[instances.{FLOODED}.session]\ncapacity = {CAPACITY}\ntimeout_seconds = {timeout}\n"
        ),
    )?;

    let mut wire = Wire::open(server.address).await?;
    let mut kept = Vec::new();
    for number in 0..KEPT {
        let session = begin(&mut wire, FLOODED).await?;
        let body = wire::call("set_session_data", &format!(r#"{{"key":"k","value":{number}}}"#));
        let stored = wire.ask(&wire::request("POST", FLOODED, Some(&session), &body)).await?;
        ensure!(stored.status == 200, "not stored: {}", stored.text());
        kept.push(session);
    }
    let fill = pour(server.address, 16, Until::Requests(CAPACITY - KEPT as u64), || {
        wire::initialize(FLOODED)
    })
    .await?;
    let due = Instant::now() + Duration::from_secs(timeout);
    facts.check(
        fill.fine == CAPACITY - KEPT as u64,
        format_args!("{CAPACITY} sessions are live, as many as may be"),
    );
    // What the connections of a flood cost is not what refusing costs.
    let before =
        pour(server.address, 32, Until::Requests(10_000), || wire::initialize(FLOODED)).await?;
    let plateau = server.rss()?;

    let probe = Probe::start(server.address, &[Turn::Echo(OTHER)], Duration::from_millis(5));
    let start = Instant::now();
    let mut flooding = JoinSet::new();
    flooding.spawn(pour(
        server.address,
        32,
        Until::Time(start + Duration::from_secs(seconds)),
        || wire::initialize(FLOODED),
    ));
    let (mut peak, mut rounds) = (0, 0);
    let mut flood = None;
    while flood.is_none() {
        for session in &kept {
            echo(&mut wire, FLOODED, session).await?;
        }
        rounds += 1;
        peak = peak.max(server.rss()?);
        sleep(Duration::from_millis(100)).await;
        flood = flooding.try_join_next();
    }
    let flood = flood.context("no flood")???;
    let times = Times::of(probe.finish()?);
    facts.check(
        flood.fine == 0 && flood.odd == 0 && flood.refused > CAPACITY,
        format_args!(
            "{} initialize in {} ({} a second): {} refused with 503 and Retry-After, {} let in, {} answered otherwise {}",
            flood.refused + flood.fine + flood.odd, ms(flood.took), flood.per_second(), flood.refused, flood.fine, flood.odd,
            flood.example.unwrap_or_default(),
        ),
    );
    facts.check(
        peak <= plateau + GROWTH,
        format_args!("memory went from {} to at most {}", mib(plateau), mib(peak)),
    );
    let counts = server.counts(FLOODED).await?;
    facts.check(
        counts.live == CAPACITY
            && counts.created == CAPACITY
            && counts.refused == before.refused + flood.refused,
        format_args!(
            "counted: {} live of {} created, {} refused",
            counts.live, counts.created, counts.refused
        ),
    );
    let mut whole = 0;
    for (number, session) in kept.iter().enumerate() {
        let data = structured(&mut wire, session, "get_session_data", r#"{"key":"k"}"#).await?;
        let info = structured(&mut wire, session, "get_session_info", "{}").await?;
        // One more for each: what was stored, and what has just been read.
        whole += usize::from(data["value"] == number && info["request_count"] == rounds + 2);
    }
    facts.check(
        whole == KEPT,
        format_args!(
            "{whole} of {KEPT} sessions in use kept their data and their count of {rounds} echoes"
        ),
    );
    facts.check(
        times.count() > 100,
        format_args!(
            "another instance answered all {} echoes meanwhile, 99 % within {}",
            times.count(),
            ms(times.percentile(99.0))
        ),
    );

    let mut empty = false;
    sleep_until(due.into()).await;
    let patience = Instant::now() + Duration::from_secs(20);
    while !empty && Instant::now() < patience {
        for session in &kept {
            echo(&mut wire, FLOODED, session).await?;
        }
        empty = server.counts(FLOODED).await?.live == KEPT as u64;
        sleep(Duration::from_millis(50)).await;
    }
    facts.check(
        empty,
        format_args!(
            "the {} that nobody used have expired, the {KEPT} in use have not",
            CAPACITY - KEPT as u64
        ),
    );
    let again =
        pour(server.address, 16, Until::Requests(CAPACITY), || wire::initialize(FLOODED)).await?;
    facts.check(
        (again.fine, again.refused) == (CAPACITY - KEPT as u64, KEPT as u64),
        format_args!(
            "of {CAPACITY} new ones {} were let in, and {} refused",
            again.fine, again.refused
        ),
    );
    Ok(())
}

async fn structured(wire: &mut Wire, session: &str, tool: &str, arguments: &str) -> Result<Value> {
    let body = wire::call(tool, arguments);
    let answer = wire.ask(&wire::request("POST", FLOODED, Some(session), &body)).await?;
    let mut document: Value = serde_json::from_slice(answer.body).context("no JSON")?;
    Ok(document["result"]["structuredContent"].take())
}
