//! Readers that do not read, writers that hardly write, and connections that say nothing.
//!
//! Ten thousand streams are opened and never read. Beside them, calls that stream more than a reader who
//! has stopped will take, heads that never end, bodies that come a byte at a time or never, and connections
//! that say nothing at all. The deadlines end every one of these but the idle streams; memory stays within
//! a bound per connection; an honest client hardly notices; and when the clients are gone, so is everything.

use std::{
    future::Future,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    facts::{Facts, mib, ms},
    probe::{PATIENCE, Turn, Watch, begin},
    server::{Place, Server},
    wire::{self, Wire},
};

const STREAMS: usize = 10_000;
const STREAMS_PER_SESSION: usize = 8;
/// Calls that stream to a reader who does not read; of each other kind as many connections.
const STALLED: usize = 300;
const OF_EACH: usize = 200;
/// Deadlines in seconds, and how long after them everything must have ended.
const DEADLINE: u64 = 3;
const SLACK: Duration = Duration::from_secs(10);
/// What one connection may cost.
const STREAM_BYTES: usize = 24 << 10;
const STALLED_BYTES: usize = 256 << 10;
const HEAD_BYTES: usize = 128 << 10;
/// Between two pieces of what never ends; and what others may wait.
const PAUSE: Duration = Duration::from_millis(100);
/// Whose streams stay open, whose stall, and a bystander.
const OPEN: u8 = 1;
const STALLING: u8 = 2;
const OTHER: u8 = 3;

/// How a connection that misbehaves came to its end.
struct End {
    status: Option<u16>,
    after: Duration,
}

pub async fn run(place: &Place, facts: &mut Facts) -> Result<()> {
    let server = Server::start(
        place,
        "slow",
        &format!(
            "[http]\nheader_timeout_seconds = {DEADLINE}\nbody_timeout_seconds = {DEADLINE}\nwrite_timeout_seconds = {DEADLINE}\n\
             [session]\ntimeout_seconds = 3\n[stream]\nkeep_alive_seconds = 2\n"
        ),
    )?;
    let others = STALLED + 4 * OF_EACH + 100;
    let room = server.file_limit()?.saturating_sub(others);
    let streams = STREAMS.min(room);
    ensure!(streams >= 1000, "the limit of open files leaves no room for streams");
    if streams < STREAMS {
        facts.note(format_args!(
            "ONLY {streams} STREAMS: the limit of open files leaves room for no more of {STREAMS}"
        ));
    }
    let empty = server.rss()?;

    let start = Instant::now();
    let open = open_streams(server.address, streams).await?;
    sleep(Duration::from_millis(500)).await;
    let full = server.rss()?;
    let each = full.saturating_sub(empty) / streams;
    facts.check(
        each <= STREAM_BYTES,
        format_args!(
            "{} streams that nobody reads opened in {}: {} bytes each",
            open.len(),
            ms(start.elapsed()),
            each
        ),
    );

    let control = Server::start(place, "slow-control", "")?;
    let watch = Watch::start(&server, &control, &[Turn::Echo(OTHER), Turn::Begin(OTHER)]);
    let start = Instant::now();
    let address = server.address;
    let mut stalled = JoinSet::new();
    for _ in 0..STALLED {
        stalled.spawn(async move { stall(address).await });
    }
    let silent = many(address, |wire| misbehave(wire, b"", b"", PAUSE));
    let heads = many(address, |wire| {
        misbehave(
            wire,
            b"POST /mcp HTTP/1.1\r\nHost: echo-stateful3.test\r\n",
            b"X-More: of the same\r\n",
            PAUSE,
        )
    });
    let long = many(address, |wire| {
        misbehave(
            wire,
            b"POST /mcp HTTP/1.1\r\nHost: echo-stateful3.test\r\n",
            LONG_HEADER,
            Duration::ZERO,
        )
    });
    let bodies = many(address, |wire| misbehave(wire, BODY_HEAD, b" ", PAUSE));
    let none = many(address, |wire| misbehave(wire, BODY_HEAD, b"", PAUSE));
    let weigh = async {
        let mut peak = 0;
        while start.elapsed() < Duration::from_secs(DEADLINE) + Duration::from_secs(1) {
            peak = peak.max(server.rss()?);
            sleep(Duration::from_millis(50)).await;
        }
        Ok::<_, anyhow::Error>(peak)
    };
    let (silent, heads, long, bodies, none, peak) =
        tokio::join!(silent, heads, long, bodies, none, weigh);
    let peak = peak?;

    ended(facts, "connections that say nothing", &silent?, &[None]);
    ended(facts, "heads that come a line at a time and never end", &heads?, &[None, Some(408)]);
    // The answer may be lost on one who goes on sending.
    ended(facts, "heads that come fast and never end", &long?, &[Some(431), None]);
    ended(facts, "bodies that come a byte at a time", &bodies?, &[Some(408)]);
    ended(facts, "bodies that never come", &none?, &[Some(408)]);
    let mut ends = Vec::new();
    while let Some(end) = stalled.join_next().await {
        ends.push(end??);
    }
    ended(facts, "calls that stream to a reader who does not read", &ends, &[None]);
    let (times, control) = watch.finish()?;
    let bound = full + STALLED * STALLED_BYTES + 5 * OF_EACH * HEAD_BYTES;
    facts.check(
        peak <= bound,
        format_args!(
            "memory went from {} to at most {}; {} would be the bound",
            mib(full),
            mib(peak),
            mib(bound)
        ),
    );
    facts.check(
        times.percentile(99.0) <= PAUSE + control.percentile(99.0) * 2,
        format_args!("the waits of others: {times}; at a server left alone: {control}"),
    );
    let gone = server
        .eventually(PATIENCE, async |server| Ok(server.counts(STALLING).await?.live == 0))
        .await?;
    facts.check(gone, "the sessions of stalled calls were let go");
    let held = server.counts(OPEN).await?;
    facts.check(
        held.live == held.created && server.sockets()? >= streams,
        format_args!(
            "{} sessions with {streams} open streams are held, long after their timeout",
            held.live
        ),
    );

    drop(open);
    let gone = server
        .eventually(PATIENCE, async |server| {
            Ok(server.sockets()? < 20 && server.counts(OPEN).await?.live == 0)
        })
        .await?;
    facts.check(
        gone,
        format_args!(
            "when the clients were gone, so was everything: {} sockets, memory {}",
            server.sockets()?,
            mib(server.rss()?)
        ),
    );
    Ok(())
}

const LONG_HEADER: &[u8] = &{
    let mut line = *b"X-Long: 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n";
    line[8] = b'x';
    line
};
const BODY_HEAD: &[u8] = b"POST /mcp HTTP/1.1\r\nHost: echo-stateful3.test\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{";

/// Opens so many GET streams, several a session, and reads nothing but their heads.
async fn open_streams(address: SocketAddr, count: usize) -> Result<Vec<Wire>> {
    let mut tasks = JoinSet::new();
    let lanes = 16;
    for lane in 0..lanes {
        let mine = count / lanes + usize::from(lane < count % lanes);
        tasks.spawn(async move {
            let mut wires = Vec::with_capacity(mine);
            let mut asking = Wire::open(address).await?;
            let mut session = String::new();
            for number in 0..mine {
                if number % STREAMS_PER_SESSION == 0 {
                    session = begin(&mut asking, OPEN).await?;
                }
                let mut wire = Wire::open(address).await?;
                wire.send(&wire::request("GET", OPEN, Some(&session), "")).await?;
                ensure!(timeout(PATIENCE, wire.status()).await?? == 200, "a stream was refused");
                wires.push(wire);
            }
            Ok::<_, anyhow::Error>(wires)
        });
    }
    let mut wires = Vec::with_capacity(count);
    while let Some(lane) = tasks.join_next().await {
        wires.extend(lane??);
    }
    Ok(wires)
}

/// A call that streams more than anyone will keep for a reader who does not read.
async fn stall(address: SocketAddr) -> Result<End> {
    let mut asking = Wire::open(address).await?;
    let session = begin(&mut asking, STALLING).await?;
    let level =
        r#"{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":"debug"}}"#;
    asking.ask(&wire::request("POST", STALLING, Some(&session), level)).await?;
    drop(asking);
    let mut wire = Wire::narrow(address).await?;
    let body = wire::call("stream_ticks", r#"{"count":2000,"interval_ms":1}"#);
    wire.send(&wire::request("POST", STALLING, Some(&session), &body)).await?;
    ensure!(wire.status().await? == 200, "the call was refused");
    let start = Instant::now();
    // Not a read: a reset shows as an error that can be asked for. It may get lost, since there is no room for
    // it in a window that is shut; whoever then says something is told again.
    loop {
        let late = start.elapsed() > Duration::from_secs(DEADLINE + 2);
        let nudged = !late || wire.stream.try_write(b"\r\n").is_ok();
        if !nudged || wire.stream.take_error()?.is_some() {
            return Ok(End { status: None, after: start.elapsed() });
        }
        ensure!(start.elapsed() < PATIENCE * 2, "a stalled call kept its connection");
        sleep(Duration::from_millis(100)).await;
    }
}

/// So many connections that each do the same.
async fn many<F>(address: SocketAddr, each: impl Fn(Wire) -> F) -> Result<Vec<End>>
where
    F: Future<Output = Result<End>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for _ in 0..OF_EACH {
        tasks.spawn(each(Wire::open(address).await?));
    }
    let mut ends = Vec::new();
    while let Some(end) = tasks.join_next().await {
        ends.push(end??);
    }
    Ok(ends)
}

/// Sends a beginning and then the same piece again and again, until the other side has had enough.
async fn misbehave(
    mut wire: Wire,
    begin: &'static [u8],
    piece: &'static [u8],
    pause: Duration,
) -> Result<End> {
    let start = Instant::now();
    wire.send(begin).await?;
    loop {
        tokio::select! {
            status = wire.status() => return Ok(End { status: status.ok(), after: start.elapsed() }),
            () = sleep(pause.max(Duration::from_millis(1))) => {}
        }
        ensure!(start.elapsed() < PATIENCE * 2, "a connection was kept for ever");
        // What it sends after the end is lost, and tells it of the end.
        let _ = wire.send(piece).await;
    }
}

fn ended(facts: &mut Facts, what: &str, ends: &[End], expected: &[Option<u16>]) {
    let right = ends.iter().filter(|end| expected.contains(&end.status)).count();
    let last = ends.iter().map(|end| end.after).max().unwrap_or_default();
    let shown = ends.iter().find(|end| !expected.contains(&end.status)).map(|end| end.status);
    facts.check(
        right == ends.len() && !ends.is_empty() && last <= Duration::from_secs(DEADLINE) + SLACK,
        format_args!(
            "{} {what}: {right} ended as they should {}, the last after {}",
            ends.len(),
            shown.map(|status| format!("(another with {status:?})")).unwrap_or_default(),
            ms(last)
        ),
    );
}
