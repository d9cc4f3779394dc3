//! Event streams: the standalone one, answers as events, and what a vanished client means.

use std::time::Duration;

use crate::support::{PATIENCE, TestServer, eventually};
use serde_json::json;
use tokio::time::{Instant, sleep};

const EVENTS: (&str, &str) = ("Accept", "text/event-stream");

#[tokio::test]
async fn the_standalone_stream_is_kept_alive_and_unbuffered() {
    let server = TestServer::start(&[("MCP_ECHO_STREAM__KEEP_ALIVE_SECONDS", "0.1")]).await;
    let talk = server.session(1).await;
    let mut stream = talk.request("GET").header(EVENTS.0, EVENTS.1).begin().await;
    let head = stream.head().await;
    head.expect_status(200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    assert_eq!(head.header("cache-control"), Some("no-cache"));
    for _ in 0..3 {
        assert_eq!(stream.chunk().await.as_deref(), Some(&b": keep-alive\n\n"[..]));
    }
    // Nothing that was answered on a POST comes here as well.
    talk.ask("echo", json!({"message": "not here"})).await;
    assert_eq!(stream.chunk().await.as_deref(), Some(&b": keep-alive\n\n"[..]));
}

#[tokio::test]
async fn a_stream_needs_a_client_that_takes_events() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(1).await;
    talk.request("GET").header("Accept", "application/json").send().await.expect_error(406, -32000);
    for accept in ["*/*", "text/*", "application/json, text/event-stream"] {
        talk.request("GET").header("Accept", accept).begin().await.head().await.expect_status(200);
    }
}

#[tokio::test]
async fn streams_of_a_session_are_bounded_and_given_back() {
    let server = TestServer::start(&[("MCP_ECHO_SESSION__MAX_STREAMS", "2")]).await;
    let talk = server.session(1).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = talk.request("GET").begin().await;
        stream.head().await.expect_status(200);
        open.push(stream);
    }
    talk.request("GET").send().await.expect_error(409, -32000);
    open.pop();
    eventually(|| talk.open_streams() == 1).await;
    talk.request("GET").begin().await.head().await.expect_status(200);
}

#[tokio::test]
async fn the_end_of_a_session_ends_its_streams() {
    let server = TestServer::start(&[]).await;
    let (talk, other) = (server.session(1).await, server.session(1).await);
    let mut stream = talk.request("GET").begin().await;
    stream.head().await.expect_status(200);
    let mut unrelated = other.request("GET").begin().await;
    unrelated.head().await.expect_status(200);
    talk.request("DELETE").send().await.expect_status(204);
    assert_eq!(stream.chunk().await.as_deref(), Some(&b": closing\n\n"[..]));
    assert_eq!(stream.chunk().await, None);
    let quiet = tokio::time::timeout(Duration::from_millis(100), unrelated.chunk()).await;
    assert!(quiet.is_err(), "the other session's stream stays open");
}

#[tokio::test]
async fn a_client_that_takes_only_events_gets_its_answer_as_one() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(1).await;
    for (arguments, text) in
        [(json!({"message": "now"}), "now"), (json!({"message": "later", "delay": 0.1}), "later")]
    {
        let answer = talk.call("echo", arguments).header(EVENTS.0, EVENTS.1).send().await;
        answer.expect_status(200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        let body = answer.text();
        // One that takes time has an id, so that it can be resumed.
        let data = body.split_once("event: message\ndata: ").map(|(_, rest)| rest);
        let data = data.and_then(|rest| rest.strip_suffix("\n\n"));
        let message: serde_json::Value =
            serde_json::from_str(data.expect("one event")).expect("JSON");
        assert_eq!(message["result"]["content"][0]["text"], text);
    }
    let unknown = talk.call("nothing", json!({})).header(EVENTS.0, EVENTS.1).send().await;
    assert_eq!(unknown.header("content-type"), Some("text/event-stream"));
    assert!(unknown.text().contains("-32602"));
}

#[tokio::test]
async fn the_form_of_answers_can_be_forced() {
    let server = TestServer::start(&[
        ("MCP_ECHO_INSTANCES__1__PROTOCOL__RESPONSE", "sse"),
        ("MCP_ECHO_INSTANCES__2__PROTOCOL__RESPONSE", "json"),
    ])
    .await;
    for (instance, accept, expected) in [
        (0, "application/json, text/event-stream", "application/json"),
        (1, "application/json", "text/event-stream"),
        (2, "text/event-stream", "application/json"),
    ] {
        let host = crate::support::instance_host(instance);
        let answer =
            server.initialize("2025-06-18").host(&host).header("Accept", accept).send().await;
        assert_eq!(answer.header("content-type"), Some(expected));
    }
}

#[tokio::test]
async fn a_vanished_client_has_not_cancelled() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(1).await;
    let call = |accept: &str| {
        talk.call("echo", json!({"message": "x", "delay": 2})).header("Accept", accept)
    };
    let json = call("application/json").begin().await;
    let events = call("text/event-stream").begin().await;
    eventually(|| server.instances[1].state.calls.count() == 2).await;
    drop((json, events));
    let start = Instant::now();
    while talk.info().await["request_count"] != 2 {
        assert!(start.elapsed() < PATIENCE, "both calls complete");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_cancelled_call_ends_and_is_not_counted() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(1).await;
    let under_way = || server.instances[1].state.calls.count();
    for accept in ["application/json", "text/event-stream"] {
        eventually(|| under_way() == 0).await;
        let start = Instant::now();
        let mut call = talk
            .call("echo", json!({"message": "x", "delay": 30}))
            .header("Accept", accept)
            .begin()
            .await;
        eventually(|| under_way() == 1).await;
        for id in [r#""1""#, "2", "null", "1"] {
            let body = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"test"}}}}"#
            );
            talk.post(body).send().await.expect_status(202);
        }
        let answer = call.answer().await;
        // A stream ends without a response; a JSON answer must have a body.
        let told = answer.text().contains("cancelled");
        assert_eq!(told, accept == "application/json", "{answer:?}");
        assert!(!answer.text().contains("\"result\""));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(talk.info().await["request_count"], 0);
}

#[tokio::test]
async fn a_cancellation_that_comes_too_late_does_no_harm() {
    let server = TestServer::start(&[]).await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let talk = server.session_of(1, version).await;
        for accept in ["application/json", "text/event-stream"] {
            let call = || {
                let call = talk.call("echo", json!({"message": "x", "delay": 0.05}));
                call.header("Accept", accept).send()
            };
            let first = call().await.json();
            assert_eq!(first["result"]["content"][0]["text"], "x");
            let late = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
                "params": {"requestId": first["id"]}});
            let answer = talk.post(late.to_string()).send().await;
            assert!(answer.expect_status(202).body.is_empty());
            // The next one of that id is another call.
            assert_eq!(call().await.json()["result"]["content"][0]["text"], "x", "{version}");
        }
        assert_eq!(talk.info().await["request_count"], 4, "{version}");
    }
}
