//! Stopping: not ready, no new session, streams closed, calls finished, all of it bounded.

use std::time::{Duration, Instant};

use crate::support::{TestServer, eventually};
use mcp_echo_stateful::{id::EndReason, server::Stopped};
use serde_json::json;
use tokio::time::sleep;

/// Longer than a stop may take that waits for nothing, and than a call here.
const LONG_DRAIN: (&str, &str) = ("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "60");

#[tokio::test]
async fn a_stop_finishes_what_is_in_flight() {
    let server = TestServer::start(&[LONG_DRAIN]).await;
    let talk = server.session(0).await;
    let mut stream = server.session(1).await.request("GET").begin().await;
    stream.head().await.expect_status(200);
    let mut json = talk.call("echo", json!({"message": "json", "delay": 5})).begin().await;
    let mut events = talk
        .call("echo", json!({"message": "events", "delay": 5}))
        .header("Accept", "text/event-stream")
        .begin()
        .await;
    eventually(|| server.instances[0].state.calls.count() == 2).await;
    server.stop();

    assert_eq!(stream.chunk().await.as_deref(), Some(&b": closing\n\n"[..]));
    assert_eq!(stream.chunk().await, None);
    server.request("GET", "/readyz").send().await.expect_status(503);
    server.request("GET", "/livez").send().await.expect_status(200);
    let refused = server.initialize("2025-06-18").send().await;
    refused.expect_error(503, -32000);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(json.answer().await.json()["result"]["content"][0]["text"], "json");
    assert!(events.answer().await.text().contains("events"));

    assert_eq!(server.stopped().await, Stopped::Clean);
    let counts: Vec<_> =
        server.instances.iter().map(|instance| instance.state.sessions.counts()).collect();
    assert!(counts.iter().all(|counts| counts.live == 0));
    assert_eq!(counts[0].ended[EndReason::Shutdown.index()], 1);
}

#[tokio::test]
async fn a_stop_is_bounded() {
    let server = TestServer::start(&[("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "0.5")]).await;
    let talk = server.session(0).await;
    let _call = talk.call("echo", json!({"message": "x", "delay": 30})).begin().await;
    eventually(|| server.instances[0].state.calls.count() == 1).await;
    let start = Instant::now();
    server.stop();
    assert_eq!(server.stopped().await, Stopped::CutOff);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_stop_with_nothing_in_flight_is_at_once() {
    let server = TestServer::start(&[LONG_DRAIN]).await;
    // An idle kept-alive connection holds nothing up.
    let mut idle = server.rpc("ping", json!({})).begin().await;
    idle.answer().await.expect_status(200);
    let start = Instant::now();
    server.stop();
    assert_eq!(server.stopped().await, Stopped::Clean);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(idle.closes().await);
}

#[tokio::test]
async fn every_created_session_is_accounted_for() {
    let server = TestServer::start(&[("MCP_SESSION_TIMEOUT", "2")]).await;
    server.session(0).await;
    sleep(Duration::from_secs(3)).await;
    server.session(0).await.request("DELETE").send().await.expect_status(204);
    let talk = server.session(0).await;
    let list =
        server.request("GET", "/debug/sessions").header("Authorization", "Bearer admin-secret");
    let reference =
        list.send().await.json()["sessions"][0]["ref"].as_str().expect("a ref").to_owned();
    let end = server.request("DELETE", &format!("/debug/sessions/{reference}"));
    end.header("Authorization", "Bearer admin-secret").send().await.expect_status(204);
    assert_eq!(talk.rpc("ping", json!({})).send().await.expect_gone(), "terminated");
    server.session(0).await;
    server.stop();
    server.stopped().await;
    let counts = server.instances[0].state.sessions.counts();
    assert_eq!((counts.created, counts.live, counts.ended), (4, 0, [1, 1, 1, 1]));
}
