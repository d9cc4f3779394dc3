//! Readers that are slow and readers that stand still, in both protocols: the first go on, the second are let go.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    http2::{Frame, Http2},
    process::Program,
    support::{TestServer, eventually},
};

/// A call that has more to send than fits any window or buffer.
fn ticks() -> Value {
    json!({
        "name": "stream_ticks",
        "arguments": {"count": 1000, "interval_ms": 0},
        "_meta": {"progressToken": "x".repeat(20_000)},
    })
}

fn lines(program: &Program, tool: &str) -> Vec<Value> {
    let log = program.log.lock().expect("lock").clone();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["gen_ai.tool.name"] == tool).collect()
}

#[tokio::test]
async fn a_slow_reader_is_not_idle() {
    let program = Program::start(&[
        ("LOG_FORMAT", "json"),
        ("MCP_ECHO_HTTP__HEADER_TIMEOUT_SECONDS", "0.3"),
        ("MCP_ECHO_HTTP__WRITE_TIMEOUT_SECONDS", "1"),
    ]);
    let mut slow = program.call("big_response", json!({"bytes": 12_000_000})).await;
    let answer = slow.head().await;
    let length: usize = answer.header("content-length").expect("a length").parse().expect("fits");
    let start = Instant::now();
    let mut taken = 0;
    while taken < length {
        let more = slow.take(500_000.min(length - taken)).await;
        assert!(more > 0, "cut after {taken} of {length}");
        taken += more;
        sleep(Duration::from_millis(120)).await;
    }
    assert!(start.elapsed() > Duration::from_secs(2));
    eventually(|| lines(&program, "big_response").len() == 1).await;
    let line = lines(&program, "big_response").remove(0);
    assert_eq!(
        (&line["mcp_echo.outcome"], &line["http.response.body.size"]),
        (&json!("ok"), &json!(length)),
        "{line}"
    );
    assert!(slow.closes().await, "the idle clock runs from the end");
}

#[tokio::test]
async fn what_was_not_sent_is_not_logged_as_sent() {
    let program = Program::start(&[("LOG_FORMAT", "json")]);
    let mut left = program.call("big_response", json!({"bytes": 12_000_000})).await;
    left.head().await.expect_status(200);
    left.take(100_000).await;
    drop(left);
    let mut http2 = Http2::opened(program.address).await;
    http2.call(1, None, "big_response", json!({"bytes": 12_000_000})).await;
    assert!(http2.reads(&Frame::Data(1, 16_384)).await);
    drop(http2);
    eventually(|| lines(&program, "big_response").len() == 2).await;
    for line in lines(&program, "big_response") {
        assert_eq!(line["mcp_echo.outcome"], "client_gone", "{line}");
        assert!(
            line["http.response.body.size"].as_u64().is_some_and(|bytes| bytes < 11_000_000),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_stop_lets_a_slow_reader_finish() {
    let server = TestServer::start(&[("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "15")]).await;
    let mut slow = server.call("big_response", json!({"bytes": 8_000_000})).begin().await;
    let answer = slow.head().await;
    let length: usize = answer.header("content-length").expect("a length").parse().expect("fits");
    server.stop();
    let mut taken = 0;
    while taken < length {
        let more = slow.take(500_000.min(length - taken)).await;
        assert!(more > 0, "cut after {taken} of {length}");
        taken += more;
        sleep(Duration::from_millis(50)).await;
    }
    server.stopped().await;
}

#[tokio::test]
async fn a_stalled_stream_of_http2_is_reset_and_costs_no_other() {
    let server = TestServer::start(&[
        ("MCP_ECHO_HTTP__WRITE_TIMEOUT_SECONDS", "0.6"),
        ("MCP_SESSION_TIMEOUT", "0.5"),
    ])
    .await;
    let talk = server.session(0).await;
    let mut client = Http2::with_window(server.address, 0).await;
    let start = Instant::now();
    client.call(1, Some(&talk.id), "big_response", json!({"bytes": 1_000_000})).await;
    // Another that takes nothing at all, one that takes a byte, and one that takes all.
    client.call(3, None, "echo", json!({"message": "x"})).await;
    client.call(5, None, "echo", json!({"message": "x"})).await;
    client.call(7, None, "echo", json!({"message": "x", "delay": 1.5})).await;
    client.open_window(5, 1).await;
    client.open_window(7, 60_000).await;
    let mut reset = Vec::new();
    while reset.len() < 3 {
        match client.next(|frame| matches!(frame, Frame::Reset(..))).await {
            Some(Frame::Reset(stream, code)) => reset.push((stream, code)),
            other => panic!("{other:?} after {reset:?}"),
        }
    }
    let took = start.elapsed();
    assert!(took > Duration::from_millis(550) && took < Duration::from_secs(5), "{took:?}");
    reset.sort_unstable();
    assert_eq!(reset, [(1, 8), (3, 8), (5, 8)], "cancelled");
    assert!(client.reads(&Frame::EndOfData(7)).await, "the others go on");
    eventually(|| server.instances[0].state.sessions.counts().live == 0).await;
}

#[tokio::test]
async fn a_stalled_reader_of_events_in_http2_does_not_keep_its_session() {
    let server = TestServer::start(&[
        ("MCP_ECHO_HTTP__WRITE_TIMEOUT_SECONDS", "0.5"),
        ("MCP_ECHO_STREAM__KEEP_ALIVE_SECONDS", "0.1"),
        ("MCP_SESSION_TIMEOUT", "0.5"),
    ])
    .await;
    let (calls, listens) = (server.session(0).await, server.session(0).await);
    let mut client = Http2::with_window(server.address, 10).await;
    client.rpc(1, Some(&calls.id), "tools/call", ticks()).await;
    client.request(3, "GET", "/mcp", &[("mcp-session-id", &listens.id)], b"").await;
    assert_eq!(client.status(3).await, 200);
    let mut reset = 0;
    while reset < 2 {
        assert!(client.next(|frame| matches!(frame, Frame::Reset(_, 8))).await.is_some());
        reset += 1;
    }
    eventually(|| server.instances[0].state.sessions.counts().live == 0).await;
}

#[tokio::test]
async fn a_slow_reader_of_http2_goes_on_as_long_as_it_takes_something() {
    let server = TestServer::start(&[("MCP_ECHO_HTTP__WRITE_TIMEOUT_SECONDS", "1")]).await;
    let mut client = Http2::with_window(server.address, 0).await;
    client.call(1, None, "big_response", json!({"bytes": 20_000})).await;
    let start = Instant::now();
    let mut ended = false;
    while !ended {
        client.open_window(1, 1000).await;
        sleep(Duration::from_millis(100)).await;
        let frame = client
            .next(|frame| matches!(frame, Frame::Data(..) | Frame::EndOfData(_) | Frame::Reset(..)))
            .await;
        ended = frame == Some(Frame::EndOfData(1));
        assert!(!matches!(frame, None | Some(Frame::Reset(..))), "{frame:?}");
    }
    assert!(start.elapsed() > Duration::from_millis(1500), "{:?}", start.elapsed());
}
