//! Connections: what they open with, how long they may be idle, and what they cost while nothing comes.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    http2::{Encoding, Frame, Http2, PREFACE, SETTINGS, encodings},
    process::Program,
    support::{Connection, TestServer},
};

async fn with_deadline(seconds: &str) -> TestServer {
    TestServer::start(&[("MCP_ECHO_HTTP__HEADER_TIMEOUT_SECONDS", seconds)]).await
}

/// Processor time in ticks of 10 ms that a program takes while 1,000 connections have sent `opening` and wait.
async fn ticks_while_waiting(program: &Program, opening: &[u8]) -> u64 {
    let mut connections = Vec::new();
    for _ in 0..1000 {
        let mut connection = Connection::open(program.address).await;
        connection.write(opening).await;
        connections.push(connection);
    }
    sleep(Duration::from_millis(500)).await;
    let before = program.ticks();
    sleep(Duration::from_secs(2)).await;
    program.ticks() - before
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_that_waits_costs_no_processor_time() {
    let program = Program::start(&[]);
    // A byte that begins no HTTP/2 connection, and one that may.
    let other = ticks_while_waiting(&program, b"G").await;
    let undecided = ticks_while_waiting(&program, b"P").await;
    assert!(undecided <= other + 5, "{undecided} ticks, and {other} where HTTP/1 is certain");
}

#[tokio::test]
async fn http2_may_open_in_pieces() {
    let server = TestServer::start(&[]).await;
    for pieces in [1, 5, 23, 24] {
        let mut client = Http2::open(server.address).await;
        for piece in PREFACE.chunks(pieces) {
            client.write(piece).await;
            sleep(Duration::from_millis(3)).await;
        }
        client.write(&SETTINGS).await;
        client.get(1, "/livez").await;
        assert!(client.reads(&Frame::Headers(1, 200)).await, "pieces of {pieces}");
    }
}

/// What both sides remember of heads is a list that is searched for each header, and a session's id is a secret.
#[tokio::test]
async fn ids_take_no_place_among_the_headers_that_http2_remembers() {
    let server = TestServer::start(&[]).await;
    let session = server.session(0).await;
    let mut client = Http2::opened(server.address).await;
    for (stream, remembered) in [(1, true), (3, false), (5, false)] {
        client.call(stream, Some(&session.id), "echo", json!({"message": "x"})).await;
        assert_eq!(client.status(stream).await, 200);
        let found = encodings(&client.head);
        let count = |encoding| found.iter().filter(|other| **other == encoding).count();
        // The request's and the session's.
        assert_eq!(count(Encoding::NeverIndexed), 2, "{found:?}");
        // At most the date is another one.
        assert_eq!(count(Encoding::Remembered) > 1, remembered, "{found:?}");
    }
}

#[tokio::test]
async fn http1_may_begin_like_http2() {
    let server = TestServer::start(&[]).await;
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {}}).to_string();
    for (request, status) in [
        (server.post(ping), 200),
        (server.request("PUT", "/mcp"), 405),
        (server.request("PRI", "/mcp"), 405),
    ] {
        let mut connection = Connection::open(server.address).await;
        for byte in request.bytes().chunks(1) {
            connection.write(byte).await;
            sleep(Duration::from_micros(300)).await;
        }
        connection.answer().await.expect_status(status);
    }
}

#[tokio::test]
async fn a_connection_that_closes_early_frees_its_place_at_once() {
    let server = TestServer::start(&[("MCP_ECHO_HTTP__MAX_CONNECTIONS", "2")]).await;
    for opening in ["", "P", "PRI * HTTP/2", "POST /mcp"] {
        for _ in 0..4 {
            Connection::open(server.address).await.write(opening.as_bytes()).await;
        }
        let alive = timeout(Duration::from_secs(5), server.request("GET", "/livez").send());
        alive.await.expect("has a place").expect_status(200);
    }
}

#[tokio::test]
async fn what_never_becomes_a_request_is_closed_after_the_deadline() {
    let server = with_deadline("0.4").await;
    let openings = ["", "P", "PRI * HTT", "G", "POST /mcp HTTP/1.1\r\nHost: loc"];
    let closing = openings.map(async |opening| {
        let start = Instant::now();
        let mut connection = Connection::open(server.address).await;
        connection.write(opening.as_bytes()).await;
        assert!(connection.closes().await, "after {opening:?}");
        (opening, start.elapsed())
    });
    for (opening, took) in futures_util::future::join_all(closing).await {
        assert!(took > Duration::from_millis(350), "{opening:?} {took:?}");
        assert!(took < Duration::from_secs(3), "{opening:?} {took:?}");
    }
}

#[tokio::test]
async fn an_idle_http2_connection_is_asked_to_leave() {
    let server = with_deadline("0.4").await;
    let (mut silent, mut used) =
        (Http2::opened(server.address).await, Http2::opened(server.address).await);
    used.get(1, "/livez").await;
    let start = Instant::now();
    assert!(used.reads(&Frame::Headers(1, 200)).await);
    assert!(silent.is_dismissed().await && used.is_dismissed().await);
    let took = start.elapsed();
    assert!(took > Duration::from_millis(350) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn an_idle_http2_connection_gives_its_place_back_whatever_its_peer_does() {
    let server = TestServer::start(&[
        ("MCP_ECHO_HTTP__HEADER_TIMEOUT_SECONDS", "0.4"),
        ("MCP_ECHO_HTTP__MAX_CONNECTIONS", "2"),
    ])
    .await;
    let start = Instant::now();
    let mut open = Vec::new();
    for used in [false, true] {
        let mut client = Http2::opened(server.address).await;
        client.answers_pings = false;
        if used {
            client.get(1, "/livez").await;
            assert_eq!(client.status(1).await, 200);
        }
        open.push(client);
    }
    for mut client in open {
        assert!(client.is_dismissed().await);
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    server.rpc("ping", json!({})).send().await.expect_status(200);
}

#[tokio::test]
async fn beyond_the_cap_health_is_told_and_others_are_told_to_come_again() {
    let server = TestServer::start(&[("MCP_ECHO_HTTP__MAX_CONNECTIONS", "2")]).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut connection = server.rpc("ping", json!({})).begin().await;
        connection.answer().await.expect_status(200);
        open.push(connection);
    }
    // More than there are reserved places, none of which says a word.
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(Connection::open(server.address).await);
    }
    for path in ["/livez", "/readyz", "/health"] {
        let answer = server.request("GET", path).send().await;
        answer.expect_status(200);
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let mut http2 = Http2::opened(server.address).await;
    http2.get(1, "/readyz").await;
    assert_eq!(http2.status(1).await, 200);
    assert!(http2.is_dismissed().await, "one answer each");
    for request in [server.rpc("ping", json!({})), server.request("GET", "/debug/overview")] {
        let answer = request.send().await;
        answer.expect_status(503);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    drop(open);
    server.rpc("ping", json!({})).send().await.expect_status(200);
}

#[tokio::test]
async fn a_head_has_the_same_limits_in_both_protocols() {
    let server = TestServer::start(&[]).await;
    // A line beside Host or :authority, whose value has so many bytes; or so many lines.
    let long = |length: usize| vec![("x-long".to_owned(), "x".repeat(length))];
    let many = |count: usize| (0..count).map(|n| (format!("x-{n}"), "x".to_owned())).collect();
    let heads: [(Vec<(String, String)>, u16); 4] =
        [(long(65_300), 404), (long(65_600), 431), (many(99), 404), (many(101), 431)];
    for (lines, status) in heads {
        let request = lines
            .iter()
            .fold(server.request("GET", "/nowhere"), |all, (name, value)| all.header(name, value));
        request.begin().await.head().await.expect_status(status);
        let lines: Vec<_> = lines.iter().map(|(name, value)| (&**name, &**value)).collect();
        let mut client = Http2::opened(server.address).await;
        client.request(1, "GET", "/nowhere", &lines, b"").await;
        assert_eq!(client.status(1).await, status, "{} lines", lines.len());
    }
}

#[tokio::test]
async fn an_http2_connection_with_a_request_in_flight_is_not_idle() {
    let server = with_deadline("0.3").await;
    let mut client = Http2::opened(server.address).await;
    client.echo(1, 1.5).await;
    // Others begin and end meanwhile.
    client.get(3, "/livez").await;
    assert!(client.reads(&Frame::Headers(3, 200)).await);
    let start = Instant::now();
    assert!(client.reads(&Frame::Headers(1, 200)).await);
    assert!(start.elapsed() > Duration::from_secs(1));
    assert!(client.reads(&Frame::EndOfData(1)).await);
    assert!(!client.dismissed);
    let start = Instant::now();
    assert!(client.is_dismissed().await);
    let took = start.elapsed();
    assert!(took > Duration::from_millis(250) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_stop_ends_connections_in_both_protocols() {
    let server = TestServer::start(&[("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "60")]).await;
    let mut undecided = Connection::open(server.address).await;
    undecided.write(b"PRI * HTT").await;
    let (mut silent, mut busy) =
        (Http2::opened(server.address).await, Http2::opened(server.address).await);
    busy.echo(1, 5.0).await;
    busy.get(3, "/livez").await;
    assert!(busy.reads(&Frame::Headers(3, 200)).await, "so the others have been accepted");
    server.stop();
    assert!(undecided.closes().await && silent.is_dismissed().await);
    assert_eq!(server.instances[0].state.calls.count(), 1, "they do not wait for the call");

    // One that comes now has what it asks answered, and no more.
    let mut late = Http2::opened(server.address).await;
    late.get(1, "/livez").await;
    assert!(late.reads(&Frame::Headers(1, 200)).await);
    assert!(late.is_dismissed().await);

    assert!(busy.reads(&Frame::GoAway).await);
    assert!(busy.reads(&Frame::EndOfData(1)).await, "what was asked is answered");
    let answered = Instant::now();
    server.stopped().await;
    assert!(answered.elapsed() < Duration::from_secs(5), "{:?}", answered.elapsed());
}
