//! Everything at once that clients do to a server without meaning well, or without knowing.
//!
//! Calls are abandoned, HTTP/2 readers never open their window, bodies go on after the refusal, streams are cut and
//! resumed, sessions are deleted while they are used, and the configuration is read again all the while, on instances 0 to
//! 4. Instance 5 must not notice. When all have left, every resource's gauge is back at zero, every session is accounted
//! for, and memory is what it was after the first minute. Trap: what is abandoned goes on for a while by the
//! specification, so the end is waited for.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    facts::{Facts, mib},
    http2,
    probe::{PATIENCE, Turn, Watch, begin},
    server::{Place, Server, Signal},
    wire::{Wire, call, host, request},
};

/// Instances 0 to 4 are abused.
const ABUSED: u8 = 5;

/// Gauges that are zero when nobody is there.
const GAUGES: [&str; 9] = [
    "mcp_echo_sessions_live",
    "mcp_echo_session_data_bytes",
    "mcp_echo_memory_booked_bytes",
    "mcp_echo_calls_open",
    "mcp_echo_questions_open",
    "mcp_echo_subscriptions_open",
    "mcp_echo_resource_subscriptions",
    "mcp_echo_replay_bytes",
    "mcp_echo_streams_open",
];

const CONFIG: &str = "[session]\ntimeout_seconds = 1\n[memory]\nmax_instance_bytes = 33554432\n[http]\nheader_timeout_seconds = 3\nwrite_timeout_seconds = 2\nbody_timeout_seconds = 2\n";

pub async fn run(place: &Place, facts: &mut Facts) -> Result<()> {
    let server = Server::start(place, "abuse", CONFIG)?;
    let control = Server::start(place, "abuse-control", CONFIG)?;
    let time = Duration::from_secs(if place.long { 600 } else { 12 });
    let watch = Watch::start(&server, &control, &[Turn::Echo(ABUSED), Turn::Begin(ABUSED)]);
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicU64::new(0));
    let mut abusers = JoinSet::new();
    for instance in 0..ABUSED {
        let (stop, rounds, address) = (Arc::clone(&stop), Arc::clone(&rounds), server.address);
        abusers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                // What they are told does not matter, only what is left of it.
                let _ = timeout(PATIENCE, round(address, instance)).await;
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let (start, mut plateau, mut most) = (Instant::now(), 0, 0);
    while start.elapsed() < time {
        server.signal(Signal::Hangup)?;
        sleep(Duration::from_millis(500)).await;
        let rss = server.rss()?;
        most = most.max(rss);
        if start.elapsed() < time / 3 {
            plateau = plateau.max(rss);
        }
    }
    let last = server.rss()?;
    stop.store(true, Ordering::Relaxed);
    while abusers.join_next().await.is_some() {}
    let (others, alone) = watch.finish()?;
    facts.note(format_args!("{} rounds of abuse", rounds.load(Ordering::Relaxed)));
    facts.check(
        last as f64 <= plateau as f64 * 1.25,
        format_args!(
            "memory: {} in the first third, {} at the end, {} at the most",
            mib(plateau),
            mib(last),
            mib(most)
        ),
    );
    let granted = alone.percentile(99.0) * 4 + Duration::from_millis(100);
    facts.check(
        others.percentile(99.0) <= granted,
        format_args!("the waits of instance {ABUSED}: {others}; at a server left alone: {alone}"),
    );
    let clean =
        server.eventually(PATIENCE, async |server| Ok(left(server).await?.is_empty())).await?;
    facts.check(clean, format_args!("every gauge is back at zero: {:?}", left(&server).await?));
    let mut wrong = Vec::new();
    for instance in 0..10 {
        let counts = server.counts(instance).await?;
        if counts.live != 0 || counts.created != counts.ended() {
            wrong.push(counts);
        }
    }
    facts.check(wrong.is_empty(), format_args!("every session is accounted for: {wrong:?}"));
    let idle = server.eventually(PATIENCE, async |server| Ok(server.sockets()? < 20)).await?;
    facts.check(idle, format_args!("no connection is left: {} sockets", server.sockets()?));
    facts.check(server.stop().await?, "asked to stop, it did, with exit code 0");
    Ok(())
}

/// The gauges that are not zero.
async fn left(server: &Server) -> Result<BTreeMap<String, String>> {
    let mut wire = Wire::open(server.address).await?;
    let head = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer soak\r\n\r\n";
    let page = wire.ask(head.as_bytes()).await?.text();
    let samples = page.lines().filter(|line| GAUGES.iter().any(|gauge| line.starts_with(gauge)));
    let samples: Vec<_> = samples.filter_map(|line| line.rsplit_once(' ')).collect();
    ensure!(samples.len() >= GAUGES.len() * 10, "only {} gauges", samples.len());
    let left = samples.into_iter().filter(|(_, value)| *value != "0");
    Ok(left.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// One of everything.
async fn round(address: SocketAddr, instance: u8) -> Result<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(abandon(address, instance));
    tasks.spawn(stall(address, instance));
    tasks.spawn(talk_on(address));
    tasks.spawn(reconnect(address, instance));
    tasks.spawn(race(address, instance));
    while let Some(done) = tasks.join_next().await {
        // Refused for want of room, most likely: that is what it is there for.
        let _ = done?;
    }
    Ok(())
}

/// Calls whose clients leave as soon as they have been sent.
async fn abandon(address: SocketAddr, instance: u8) -> Result<()> {
    let mut wire = Wire::open(address).await?;
    let session = begin(&mut wire, instance).await?;
    let message = "x".repeat(300_000);
    let body = call("echo", &format!(r#"{{"message":"{message}","delay":0.5}}"#));
    for _ in 0..20 {
        let mut wire = Wire::open(address).await?;
        wire.send(&request("POST", instance, Some(&session), &body)).await?;
    }
    Ok(())
}

/// Readers in HTTP/2 that never open their windows.
async fn stall(address: SocketAddr, instance: u8) -> Result<()> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(&http2::opening(0)).await?;
    let body = call("big_response", r#"{"bytes":1000000}"#);
    for number in 0..8 {
        stream.write_all(&http2::post(number * 2 + 1, &host(instance), body.as_bytes())).await?;
    }
    sleep(Duration::from_millis(300)).await;
    Ok(())
}

/// Bodies that go on after they have been refused.
async fn talk_on(address: SocketAddr) -> Result<()> {
    for head in [
        "POST /mcp HTTP/1.1\r\nHost: example.org\r\nContent-Type: application/json\r\nContent-Length: 5000000\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 5000000\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5000000\r\n\r\n",
    ] {
        let mut wire = Wire::open(address).await?;
        wire.send(head.as_bytes()).await?;
        let _ = timeout(Duration::from_secs(1), wire.send(&vec![b'x'; 5_000_000])).await;
        let _ = timeout(Duration::from_secs(1), wire.status()).await;
    }
    Ok(())
}

/// Streams that are cut and picked up, again and again.
async fn reconnect(address: SocketAddr, instance: u8) -> Result<()> {
    let mut wire = Wire::open(address).await?;
    let session = begin(&mut wire, instance).await?;
    let body = call("stream_ticks", r#"{"count":50,"interval_ms":2}"#);
    for _ in 0..20 {
        let mut stream = Wire::open(address).await?;
        stream.send(&request("POST", instance, Some(&session), &body)).await?;
        stream.status().await?;
    }
    let resume = String::from_utf8(request("GET", instance, Some(&session), ""))?;
    for number in 1..=20 {
        let cursor = format!("\r\nLast-Event-ID: {number}-0\r\n");
        let mut stream = Wire::open(address).await?;
        stream.send(resume.replacen("\r\n", &cursor, 1).as_bytes()).await?;
        stream.status().await?;
    }
    Ok(())
}

/// Sessions that are deleted while they are used.
async fn race(address: SocketAddr, instance: u8) -> Result<()> {
    for _ in 0..5 {
        let mut wire = Wire::open(address).await?;
        let session = begin(&mut wire, instance).await?;
        let subscribe = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{{"uri":"session://{session}/data/k"}}}}"#
        );
        let requests = [
            request("GET", instance, Some(&session), ""),
            request(
                "POST",
                instance,
                Some(&session),
                &call("set_session_data", r#"{"key":"k","value":1}"#),
            ),
            request(
                "POST",
                instance,
                Some(&session),
                &call("stream_ticks", r#"{"count":5,"interval_ms":5}"#),
            ),
            request("POST", instance, Some(&session), &subscribe),
            request("DELETE", instance, Some(&session), ""),
            request(
                "POST",
                instance,
                Some(&session),
                &call("echo", r#"{"message":"x","delay":0.1}"#),
            ),
        ];
        let mut open = Vec::new();
        for bytes in requests {
            let mut wire = Wire::open(address).await?;
            wire.send(&bytes).await?;
            open.push(wire);
        }
        for wire in &mut open {
            let _ = timeout(Duration::from_millis(200), wire.stream.read_u8()).await;
        }
    }
    Ok(())
}
