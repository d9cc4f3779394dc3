//! What clients see while the session store cannot be asked: never "not found", and nothing is lost.

use serde_json::json;

use crate::support::{Answer, TestServer};

/// 503, with what a client needs to know to come back.
#[track_caller]
fn expect_unavailable(answer: &Answer, code: i64) {
    answer.expect_error(503, code);
    assert_eq!(answer.json()["error"]["data"]["reason"], "store_unavailable", "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
}

#[tokio::test]
async fn every_request_of_a_session_is_told_to_come_back() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    talk.call("set_session_data", json!({"key": "k", "value": 1})).send().await.expect_status(200);
    let store = &server.instances[0].state.sessions;
    store.set_available(false);
    for request in [
        talk.call("echo", json!({"message": "x"})),
        talk.rpc("tools/list", json!({})),
        talk.rpc("resources/read", json!({"uri": format!("session://{}/data/k", talk.id)})),
        talk.request("GET").header("Accept", "text/event-stream"),
        talk.request("DELETE"),
        server.rpc("initialize", json!({"protocolVersion": "2025-06-18", "capabilities": {}})),
        server.rpc("tools/list", json!({})),
    ] {
        expect_unavailable(&request.send().await, -32000);
    }
    // What needs no session is served, and so are the other nine.
    server.request("GET", "/livez").send().await.expect_status(200);
    let other = server.session(1).await;
    other.call("echo", json!({"message": "x"})).send().await.expect_status(200);

    store.set_available(true);
    let info = talk.call("get_session_info", json!({})).send().await;
    let info = &info.json()["result"]["structuredContent"];
    assert_eq!((&info["request_count"], &info["data_keys"]), (&json!(1), &json!(["k"])));
}

#[tokio::test]
async fn a_handle_is_not_called_lost() {
    let server = TestServer::start(&[]).await;
    let handle = server.handle(0).await;
    let store = &server.instances[0].state.sessions;
    store.set_available(false);
    for tool in ["echo", "get_session_info", "end_session"] {
        let call = match tool {
            "echo" => json!({"message": "x", "session": handle}),
            _ => json!({"session": handle}),
        };
        let request = server.modern_call(tool, call);
        expect_unavailable(&request.send().await, -32603);
    }
    expect_unavailable(&server.modern_call("create_session", json!({})).send().await, -32603);
    // Without a handle there is nothing to ask the store for.
    server.modern_call("echo", json!({"message": "x"})).result().await;
    store.set_available(true);
    server.modern_call("echo", json!({"message": "x", "session": handle})).result().await;
}

#[tokio::test]
async fn a_call_under_way_says_so_and_an_operator_too() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    let mut waiting = talk.call("echo", json!({"message": "x", "delay": 0.3})).begin().await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    server.instances[0].state.sessions.set_available(false);
    let answer = waiting.answer().await;
    assert_eq!(answer.json()["error"]["data"]["reason"], "store_unavailable", "{answer:?}");
    server.operate("GET", "/debug/sessions").send().await.expect_status(503);
    let counts = server.instances[0].state.sessions.counts();
    assert_eq!((counts.live, counts.created), (1, 1));
}
