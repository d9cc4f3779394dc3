//! The life of a session: how it begins, what it remembers, how it ends, and what is said afterwards.

use std::time::Duration;

use crate::support::{TestServer, eventually, instance_host};
use mcp_echo_stateful::id::EndReason;
use serde_json::json;
use tokio::time::sleep;

const SHORT: (&str, &str) = ("MCP_SESSION_TIMEOUT", "2");

#[tokio::test]
async fn request_count_is_the_number_of_completed_calls() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    talk.rpc("tools/list", json!({})).send().await.expect_status(200);
    talk.rpc("ping", json!({})).send().await.expect_status(200);
    for expected in 1..=5 {
        let echo = talk.ask("echo", json!({"message": "x"})).await;
        assert_eq!(echo["request_count"], expected);
        talk.info().await;
    }
    talk.call("nothing", json!({})).send().await.expect_error(200, -32602);
    let info = talk.info().await;
    assert_eq!(info["request_count"], 5);
    assert!(info["first_request_at"].as_str() <= info["last_request_at"].as_str());
    assert_eq!(info["client"], json!({"name": "test", "version": "1"}));
}

#[tokio::test]
async fn the_first_valid_request_without_an_id_makes_a_session() {
    let server = TestServer::start(&[]).await;
    let answer = server.call("echo", json!({"message": "x"})).send().await;
    let id = answer.header("mcp-session-id").expect("an id").to_owned();
    let again =
        server.call("get_session_info", json!({})).header("Mcp-Session-Id", &id).send().await;
    let info = &again.json()["result"]["structuredContent"];
    assert_eq!(info["session_id"], id.as_str());
    assert_eq!(info["request_count"], 1);
    assert!(info["client"].is_null());
    assert_eq!(info["protocol_version"], "2025-03-26");
    assert!(server.rpc("tools/list", json!({})).send().await.header("mcp-session-id").is_some());
    assert_eq!(server.created(), 2);
}

#[tokio::test]
async fn nothing_else_without_an_id_makes_one() {
    let server = TestServer::start(&[]).await;
    let ping = server.rpc("ping", json!({})).send().await;
    ping.expect_status(200);
    assert_eq!(ping.json()["result"], json!({}));
    let requests = [
        server.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
        server.post(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
        server.call("nothing", json!({})),
        server.call("echo", json!({})),
        server.rpc("resources/nothing", json!({})),
        server.rpc("tools/list", json!({"cursor": "x"})),
        server.request("GET", "/mcp"),
        server.request("DELETE", "/mcp"),
        server.request("GET", "/readyz"),
    ];
    for request in requests {
        let answer = request.send().await;
        assert_eq!(answer.header("mcp-session-id"), None, "{answer:?}");
    }
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn without_implicit_sessions_an_id_is_required() {
    let server = TestServer::start(&[("MCP_ECHO_SESSION__IMPLICIT", "false")]).await;
    for request in [
        server.call("echo", json!({"message": "x"})),
        server.rpc("tools/list", json!({})),
        server.rpc("ping", json!({})),
        server.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
        server.request("GET", "/mcp"),
    ] {
        request.send().await.expect_error(400, -32000);
    }
    server.session(0).await.rpc("ping", json!({})).send().await.expect_status(200);
    assert_eq!(server.created(), 1);
}

#[tokio::test]
async fn initialize_always_begins_anew() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    let again = server
        .initialize("2025-06-18")
        .host(&talk.host)
        .header("Mcp-Session-Id", &talk.id)
        .send()
        .await;
    again.expect_status(200);
    assert_ne!(again.header("mcp-session-id"), Some(talk.id.as_str()));
    let stale = server.initialize("2025-06-18").header("Mcp-Session-Id", "gone").send().await;
    stale.expect_status(200);
    talk.rpc("ping", json!({})).send().await.expect_status(200);
}

#[tokio::test]
async fn an_idle_session_expires_and_a_used_one_does_not() {
    let server = TestServer::start(&[SHORT]).await;
    let (idle, used) = (server.session(0).await, server.session(0).await);
    for _ in 0..15 {
        sleep(Duration::from_millis(200)).await;
        used.rpc("ping", json!({})).send().await.expect_status(200);
    }
    for request in [idle.rpc("ping", json!({})), idle.request("GET"), idle.request("DELETE")] {
        assert_eq!(request.send().await.expect_gone(), "expired");
    }
    // Expiry needs nobody to ask: the counts fall by themselves.
    eventually(|| server.instances[0].state.sessions.counts().live == 0).await;
    let counts = server.instances[0].state.sessions.counts();
    assert_eq!(counts.ended[EndReason::Expired.index()], 2);
}

#[tokio::test]
async fn the_idle_clock_waits_for_running_calls_and_open_streams() {
    let server = TestServer::start(&[SHORT]).await;
    let (calling, listening) = (server.session(0).await, server.session(0).await);
    let mut stream = listening.request("GET").begin().await;
    stream.head().await.expect_status(200);
    calling.ask("echo", json!({"message": "slow", "delay": 3})).await;
    calling.rpc("ping", json!({})).send().await.expect_status(200);
    listening.rpc("ping", json!({})).send().await.expect_status(200);
    drop(stream);
    eventually(|| server.instances[0].state.sessions.counts().live == 0).await;
    assert_eq!(listening.rpc("ping", json!({})).send().await.expect_gone(), "expired");
}

#[tokio::test]
async fn an_ended_session_is_gone_for_every_method() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(2).await;
    talk.request("DELETE").send().await.expect_status(204);
    for request in [talk.rpc("ping", json!({})), talk.request("GET"), talk.request("DELETE")] {
        let answer = request.send().await;
        assert_eq!(answer.expect_gone(), "terminated");
        assert_eq!(answer.json()["error"]["data"]["ended_by"], "client");
    }
    assert_eq!(server.created(), 1, "and is never made again");
}

#[tokio::test]
async fn an_id_of_another_replica_or_boot_is_told_from_an_unknown_one() {
    let server = TestServer::start(&[("MCP_ECHO_REPLICA__TAG", "a1")]).await;
    let talk = server.session(5).await;
    let boot = talk.id[3..6].to_owned();
    let other_boot = if boot == "000" { "001" } else { "000" };
    let gone = async |id: String| {
        let answer = server
            .rpc("ping", json!({}))
            .host(&instance_host(5))
            .header("Mcp-Session-Id", &id)
            .send()
            .await;
        answer.expect_gone()
    };
    assert_eq!(gone(format!("5a2{}", &talk.id[3..])).await, "other_replica");
    assert_eq!(gone(format!("5a1{other_boot}{}", &talk.id[6..])).await, "earlier_boot");
    let last = if talk.id.ends_with('0') { "1" } else { "0" };
    assert_eq!(gone(format!("{}{last}", &talk.id[..35])).await, "unknown");
    assert_eq!(gone("not-an-id".to_owned()).await, "unknown");
    assert_eq!(gone(talk.id.to_uppercase()).await, "unknown");
    assert_eq!(gone(format!("f{}", &talk.id[1..])).await, "unknown");
}

#[tokio::test]
async fn data_is_kept_as_it_came_and_replaced_by_key() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    let value = json!({"theme": "dark", "n": [1, 2.50, null, true], "é\n": {"deep": []}});
    let set = talk.ask("set_session_data", json!({"key": "a", "value": value})).await;
    assert_eq!((&set["stored"], &set["replaced"]), (&json!(true), &json!(false)));
    assert_eq!(talk.ask("get_session_data", json!({"key": "a"})).await["value"], value);
    let set = talk.ask("set_session_data", json!({"key": "a", "value": null})).await;
    assert_eq!(set["replaced"], true);
    let one = talk.ask("get_session_data", json!({"key": "a"})).await;
    assert_eq!(one, json!({"key": "a", "found": true, "value": null}));
    let none = talk.ask("get_session_data", json!({"key": "b"})).await;
    assert_eq!(none, json!({"key": "b", "found": false, "value": null}));
    talk.ask("set_session_data", json!({"key": "b", "value": "text"})).await;
    let all = talk.ask("get_session_data", json!({})).await;
    assert_eq!(all, json!({"data": {"a": null, "b": "text"}, "data_keys": ["a", "b"]}));
    assert_eq!(talk.info().await["data_keys"], json!(["a", "b"]));

    // Digit for digit, on one line.
    let body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"set_session_data\",\"arguments\":{\"key\":\"n\",\"value\":[\n 1.0,\r\n 12345678901234567890123 ]}}}";
    talk.post(body).send().await.expect_status(200);
    let answer = talk.call("get_session_data", json!({"key": "n"})).send().await;
    assert!(
        answer.text().contains(r#""value":[1.0,12345678901234567890123]"#),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn the_data_quota_is_told_and_loses_nothing() {
    let server = TestServer::start(&[
        ("MCP_ECHO_SESSION__MAX_DATA_KEYS", "2"),
        ("MCP_ECHO_SESSION__MAX_DATA_BYTES", "60"),
    ])
    .await;
    for version in ["2024-11-05", "2025-11-25"] {
        let talk = server.session_of(0, version).await;
        for key in ["a", "b"] {
            talk.ask("set_session_data", json!({"key": key, "value": 1})).await;
        }
        let refused = async |arguments, word| {
            let answer = talk.call("set_session_data", arguments).send().await;
            let result = &answer.json()["result"];
            assert_eq!(result["isError"], true, "{answer:?}");
            assert!(result["content"][0]["text"].as_str().is_some_and(|text| text.contains(word)));
        };
        refused(json!({"key": "c", "value": 1}), "max_data_keys").await;
        refused(json!({"key": "a", "value": "x".repeat(60)}), "max_data_bytes").await;
        let all = talk.ask("get_session_data", json!({})).await;
        assert_eq!(all["data"], json!({"a": 1, "b": 1}));
        talk.ask("set_session_data", json!({"key": "a", "value": "y".repeat(50)})).await;
    }
}

#[tokio::test]
async fn concurrent_calls_are_each_counted_once() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    let calls = (0..50).map(|_| talk.ask("echo", json!({"message": "x", "delay": 0.01})));
    let mut counts: Vec<_> = futures_util::future::join_all(calls)
        .await
        .iter()
        .map(|echo| echo["request_count"].as_u64().expect("a number"))
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=50).collect::<Vec<_>>());
}
