//! State without sessions: handles, and the large and the mirrored answers that need no state at all.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use crate::{
    modern::{PASSTHROUGH, VERSION},
    support::{TestServer, eventually, instance_host},
};

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn handle_of(created: &Value) -> &str {
    created["session"].as_str().expect("a handle")
}

#[tokio::test]
async fn a_handle_keeps_state_across_requests() {
    let server = TestServer::start(&[]).await;
    let arguments = json!({"label": "my basket", "timeout_seconds": 20});
    let created = server.modern_call("create_session", arguments).structured().await;
    let handle = handle_of(&created);
    assert_eq!(created["label"], "my basket");
    assert_eq!(created["idle_timeout_seconds"], 20.0);
    assert_eq!(created["minted_by"]["instance"], 0);
    let expires: jiff::Timestamp =
        created["expires_at"].as_str().and_then(|text| text.parse().ok()).expect("a time");
    let left = expires.as_second() - jiff::Timestamp::now().as_second();
    assert!((18..=21).contains(&left), "{left}");

    let with = |mut arguments: Value| {
        arguments["session"] = handle.into();
        arguments
    };
    for count in 1..=2 {
        let echo = server.modern_call("echo", with(json!({"message": "hello"})));
        let echo = echo.structured().await;
        assert_eq!((&echo["session_id"], &echo["request_count"]), (&json!(handle), &json!(count)));
    }
    let store = with(json!({"key": "k", "value": {"a": [1, null]}}));
    let stored = server.modern_call("set_session_data", store).structured().await;
    assert_eq!(stored["data_keys"], json!(["k"]));
    let data = server.modern_call("get_session_data", with(json!({"key": "k"}))).structured().await;
    assert_eq!(data["value"], json!({"a": [1, null]}));
    let last = server.modern_call("replayLastEcho", with(json!({}))).structured().await;
    assert_eq!(last["message"], "hello");
    let info = server.modern_call("get_session_info", with(json!({}))).structured().await;
    assert_eq!(info["label"], "my basket");
    assert_eq!(info["request_count"], 5);
    assert_eq!(info["protocol_version"], Value::Null);
    assert_eq!(info["idle_timeout_seconds"], 20.0);
}

#[tokio::test]
async fn the_limits_of_a_handle_are_told() {
    let server = TestServer::start(&[("MCP_SESSION_TIMEOUT", "60")]).await;
    let create = |arguments: Value| server.modern_call("create_session", arguments);
    // Never longer than the server's own.
    let long = create(json!({"timeout_seconds": 100_000})).structured().await;
    assert_eq!(long["idle_timeout_seconds"], 60.0);
    let usual = create(json!({})).structured().await;
    assert_eq!((&usual["idle_timeout_seconds"], &usual["label"]), (&json!(60.0), &Value::Null));
    for wrong in [
        json!({"timeout_seconds": 0}),
        json!({"timeout_seconds": -1}),
        json!({"timeout_seconds": "soon"}),
        json!({"label": 7}),
        json!({"label": "x".repeat(1000)}),
        json!({"other": 1}),
    ] {
        let text = create(wrong).tool_error().await;
        assert!(text.contains("create_session"), "{text}");
    }
    assert_eq!(server.created(), 2);
    // server/tools, "Stateful tools": the description of the tool says how long a handle lives.
    let tools = server.modern("tools/list", json!({})).result().await;
    let tools = tools["tools"].as_array().expect("tools");
    let tool = tools.iter().find(|tool| tool["name"] == "create_session").expect("create_session");
    let description = tool["description"].as_str().expect("a description");
    assert!(description.contains("expire"), "{description}");
}

#[tokio::test]
async fn without_a_handle_there_is_no_state() {
    let server = TestServer::start(&[]).await;
    let echo = server.modern_call("echo", json!({"message": "x"})).structured().await;
    assert_eq!((&echo["session_id"], &echo["request_count"]), (&Value::Null, &Value::Null));
    for tool in ["get_session_data", "get_session_info", "replayLastEcho", "end_session"] {
        let text = server.modern_call(tool, json!({})).tool_error().await;
        // Why, and the two ways on.
        for part in [
            "has no sessions",
            "set_session_data or create_session",
            "\"session\"",
            "--profile sessioned",
        ] {
            assert!(text.contains(part), "{tool}: {part} is not in {text}");
        }
        assert_eq!(text.matches(['.', '\n']).count(), 0, "one sentence: {text}");
    }
    let info = server.modern_call("sessionInfo", json!({})).structured().await;
    assert_eq!(info["session"], Value::Null);
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn to_store_without_a_handle_begins_a_session() {
    let server = TestServer::start(&[]).await;
    let store = json!({"key": "k", "value": {"a": 1}});
    let result = server.modern_call("set_session_data", store.clone()).on(4).result().await;
    let stored = &result["structuredContent"];
    assert_eq!((&stored["stored"], &stored["data_keys"]), (&json!(true), &json!(["k"])));
    let handle = stored["session"].as_str().expect("a handle");
    let expires = stored["expires_at"].as_str().expect("a time").parse::<jiff::Timestamp>();
    assert!(expires.is_ok_and(|time| time > jiff::Timestamp::now()), "{stored}");
    let note = stored["note"].as_str().expect("a note");
    assert!(note.contains("pass its handle as \"session\""), "{note}");
    // Who reads the text alone learns the same.
    let text = result["content"][0]["text"].as_str().expect("a text");
    assert!(text.contains(handle) && text.contains("this call began the session"), "{text}");

    let read = json!({"key": "k", "session": handle});
    let read = server.modern_call("get_session_data", read).on(4).structured().await;
    assert_eq!(read["value"], json!({"a": 1}));
    let info = json!({"session": handle});
    let info = server.modern_call("get_session_info", info).on(4).structured().await;
    assert_eq!((&info["request_count"], &info["note"]), (&json!(2), &Value::Null));
    // With it nothing begins, without it another.
    let again = json!({"key": "l", "value": 2, "session": handle});
    let again = server.modern_call("set_session_data", again).on(4).structured().await;
    assert_eq!((&again["session"], &again["data_keys"]), (&Value::Null, &json!(["k", "l"])));
    let other = server.modern_call("set_session_data", store).on(4).structured().await;
    assert_ne!(other["session"], handle);
    assert_eq!(server.created(), 2);
    // In an older revision the connection's session is there already.
    let talk = server.session_of(4, "2025-11-25").await;
    let stored = talk.ask("set_session_data", json!({"key": "k", "value": 1})).await;
    assert_eq!(stored.as_object().map(serde_json::Map::len), Some(5), "{stored}");
}

#[tokio::test]
async fn to_store_in_vain_without_a_handle_leaves_nothing_behind() {
    let variables =
        [("MCP_ECHO_SESSION__MAX_DATA_BYTES", "10"), ("MCP_ECHO_SESSION__CAPACITY", "1")];
    let server = TestServer::start(&variables).await;
    let store =
        |value: &str| server.modern_call("set_session_data", json!({"key": "k", "value": value}));
    for _ in 0..3 {
        let text = store("a long value").tool_error().await;
        assert!(text.contains("session.max_data_bytes"), "{text}");
        assert_eq!(server.instances[0].state.sessions.counts().live, 0);
    }
    assert!(
        server
            .modern_call("set_session_data", json!({"key": ""}))
            .tool_error()
            .await
            .contains("value")
    );
    assert_eq!(server.created(), 3);
    store("v").structured().await;
    let text = store("v").tool_error().await;
    assert!(text.contains("session.capacity"), "{text}");
}

/// As some clients do, knowingly or not.
#[tokio::test]
async fn a_session_for_each_call_is_told_to_whoever_looks_for_what_it_stored() {
    let server = TestServer::start(&[]).await;
    for handshake in [true, false] {
        // A client that begins one for each call, with or without initialize.
        let call = async |tool: &str, arguments: Value| {
            let call = server.call(tool, arguments);
            let call = match handshake {
                true => {
                    let id = server.initialize("2025-11-25").send().await;
                    call.header("Mcp-Session-Id", id.header("mcp-session-id").expect("an id"))
                }
                false => call,
            };
            let result = call.send().await.json()["result"].clone();
            let text = result["content"][0]["text"].as_str().expect("a text").to_owned();
            (result["structuredContent"].clone(), text)
        };
        let told = |text: &str| {
            for part in ["is its first call", "one session for all calls", "create_session"] {
                assert!(text.contains(part), "{part} is not in {text}");
            }
        };
        call("set_session_data", json!({"key": "k", "value": 1})).await;
        let (one, text) = call("get_session_data", json!({"key": "k"})).await;
        assert_eq!(one["found"], false);
        told(&text);
        told(one["note"].as_str().expect("a note"));
        for (tool, arguments) in [
            ("get_session_data", json!({})),
            ("get_session_info", json!({})),
            ("sessionInfo", json!({})),
        ] {
            told(&call(tool, arguments).await.1);
        }
        told(&call("replayLastEcho", json!({})).await.1);
    }
    // Who keeps a session is told nothing of it, nor who has just been given a handle.
    let talk = server.session_of(0, "2025-11-25").await;
    talk.ask("echo", json!({"message": "x"})).await;
    let missing = talk.ask("get_session_data", json!({"key": "k"})).await;
    assert_eq!(missing, json!({"key": "k", "found": false, "value": null}));
    assert_eq!(talk.info().await["note"], Value::Null);
    let handle = server.handle(0).await;
    let missing = talk.ask("get_session_data", json!({"key": "k", "session": handle})).await;
    assert_eq!(missing, json!({"key": "k", "found": false, "value": null}));
}

#[tokio::test]
async fn a_session_and_a_handle_are_the_same_in_both_eras() {
    let server = TestServer::start(&[]).await;
    // Begun by initialize, reached by handle.
    let talk = server.session_of(2, "2025-11-25").await;
    talk.ask("set_session_data", json!({"key": "k", "value": "old era"})).await;
    let arguments = json!({"key": "k", "session": talk.id});
    let read = server.modern_call("get_session_data", arguments).on(2).structured().await;
    assert_eq!(read["value"], "old era");
    let arguments = json!({"key": "k", "value": "new era", "session": talk.id});
    server.modern_call("set_session_data", arguments).on(2).structured().await;
    let read = talk.ask("get_session_data", json!({"key": "k"})).await;
    assert_eq!(read["value"], "new era");
    assert_eq!(talk.info().await["request_count"], 4, "every call counts, whichever way it came");

    // Created as a handle, reached by header, in every revision.
    let handle = server.handle(2).await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let echo = server.call("echo", json!({"message": version})).host(&instance_host(2));
        let echo = echo.header("Mcp-Session-Id", &handle).header("MCP-Protocol-Version", version);
        let answer = echo.send().await;
        answer.expect_status(200);
        assert_eq!(answer.header("mcp-session-id"), Some(&*handle));
        let last = server.modern_call("replayLastEcho", json!({"session": handle})).on(2);
        assert_eq!(last.structured().await["message"], version);
    }
    // And as an argument next to another session's header.
    let echo = talk.ask("echo", json!({"message": "for the other", "session": handle})).await;
    assert_eq!(echo["session_id"], handle);
    assert_eq!(talk.info().await["request_count"], 4);

    // What one era ends is over in the other.
    talk.request("DELETE").send().await.expect_status(204);
    let arguments = json!({"session": talk.id});
    let text = server.modern_call("get_session_info", arguments).on(2).tool_error().await;
    assert!(text.contains("ended"), "{text}");
    server.modern_call("end_session", json!({"session": handle})).on(2).structured().await;
    let ping = server.rpc("ping", json!({})).host(&instance_host(2));
    assert_eq!(ping.header("Mcp-Session-Id", &handle).send().await.expect_gone(), "terminated");
}

#[tokio::test]
async fn a_handle_belongs_to_its_caller() {
    let server = TestServer::start(&[PASSTHROUGH]).await;
    let created = server.modern_call("create_session", json!({})).by("alice").structured().await;
    let handle = handle_of(&created);
    let session = json!({"session": handle});
    let arguments = json!({"key": "k", "value": "secret", "session": handle});
    server.modern_call("set_session_data", arguments).by("alice").structured().await;
    for tool in ["get_session_data", "get_session_info", "replayLastEcho", "end_session"] {
        let text = server.modern_call(tool, session.clone()).by("bob").tool_error().await;
        assert!(text.contains("not found") && text.contains("create_session"), "{tool}: {text}");
        assert!(!text.contains("secret"));
    }
    let uri = format!("session://{handle}/data/k");
    let read = || server.modern("resources/read", json!({"uri": uri}));
    let answer = read().by("bob").send().await;
    assert_eq!(answer.json()["error"]["code"], -32602, "{answer:?}");
    let answer = server.call("get_session_data", json!({})).header("Mcp-Session-Id", handle);
    let answer = answer.header("Authorization", "Bearer bob").send().await;
    assert_eq!(answer.expect_gone(), "unknown");
    assert_eq!(read().by("alice").result().await["contents"][0]["text"], "\"secret\"");
}

#[tokio::test]
async fn what_became_of_a_handle_is_told() {
    let server = TestServer::start(&[("MCP_ECHO_REPLICA__TAG", "a1")]).await;
    let told = async |instance: u8, handle: &str| {
        let call = server.modern_call("get_session_data", json!({"session": handle})).on(instance);
        let text = call.tool_error().await;
        assert!(text.contains("create_session"), "what to do: {text}");
        text
    };
    let handle = server.handle(3).await;
    let end = || server.modern_call("end_session", json!({"session": handle})).on(3);
    let ended = end().structured().await;
    assert_eq!(ended, json!({"session": handle, "ended": true}));
    let text = told(3, &handle).await;
    assert!(text.contains("ended"), "{text}");
    assert!(end().tool_error().await.contains("ended"));

    let handle = server.handle(3).await;
    let text = told(4, &handle).await;
    assert!(text.contains("instance 3") && text.contains("instance 4"), "{text}");
    let text = told(3, &handle.replacen("3a1", "3b2", 1)).await;
    assert!(text.contains("b2") && text.contains("a1"), "{text}");
    let flipped = if &handle[3..6] == "000" { "001" } else { "000" };
    let text = told(3, &format!("3a1{flipped}{}", &handle[6..])).await;
    assert!(text.contains("started"), "{text}");
    for unknown in ["nonsense", ""] {
        assert!(told(3, unknown).await.contains("not found"));
    }
}

#[tokio::test]
async fn a_handle_expires_when_it_said_it_would() {
    let server = TestServer::start(&[]).await;
    let create = json!({"timeout_seconds": 1});
    let created = server.modern_call("create_session", create).structured().await;
    let handle = handle_of(&created);
    let lasting = server.handle(0).await;
    // Used, it lives on; its own time counts, not the instance's.
    for _ in 0..3 {
        sleep(Duration::from_millis(500)).await;
        let echo = json!({"message": "x", "session": handle});
        server.modern_call("echo", echo).structured().await;
    }
    eventually(|| server.instances[0].state.sessions.counts().live == 1).await;
    let text = server.modern_call("echo", json!({"message": "x", "session": handle}));
    let text = text.tool_error().await;
    assert!(text.contains("expired") && text.contains("create_session"), "{text}");
    assert!(!text.contains("300"), "that is the time of the others: {text}");
    server.modern_call("get_session_info", json!({"session": lasting})).structured().await;
}

#[tokio::test]
async fn equal_keys_of_handles_on_ten_instances_hold_ten_values() {
    let server = TestServer::start(&[]).await;
    let mut handles = Vec::new();
    for instance in 0..10 {
        let handle = server.handle(instance).await;
        assert_eq!(handle[..1], instance.to_string());
        let store = json!({"key": "k", "value": instance, "session": handle});
        server.modern_call("set_session_data", store).on(instance).structured().await;
        handles.push(handle);
    }
    for (instance, handle) in (0..).zip(&handles) {
        let read = json!({"key": "k", "session": handle});
        let read = server.modern_call("get_session_data", read);
        assert_eq!(read.clone().on(instance).structured().await["value"], instance);
        read.on((instance + 1) % 10).tool_error().await;
    }
}

#[tokio::test]
async fn a_full_instance_says_so() {
    let server = TestServer::start(&[("MCP_ECHO_SESSION__CAPACITY", "1")]).await;
    let handle = server.handle(0).await;
    let text = server.modern_call("create_session", json!({})).tool_error().await;
    assert!(text.contains("session.capacity"), "{text}");
    server.handle(1).await;
    server.modern_call("end_session", json!({"session": handle})).structured().await;
    server.handle(0).await;
}

#[tokio::test]
async fn a_large_answer_is_as_long_as_was_asked() {
    let server = TestServer::start(&[("MCP_ECHO_TOOLS__MAX_RESPONSE_BYTES", "3000000")]).await;
    let talk = server.session(0).await;
    for bytes in [1, 15, 16, 17, 1000, 3_000_000] {
        let arguments = json!({"bytes": bytes});
        let modern = server.modern_call("big_response", arguments.clone()).result().await;
        let sessioned = talk.call("big_response", arguments).send().await.json()["result"].clone();
        for result in [json!(modern), sessioned] {
            let text = result["content"][0]["text"].as_str().expect("a text");
            assert_eq!(text.len(), bytes);
            let structured = &result["structuredContent"];
            assert_eq!(structured["bytes"], bytes);
            assert_eq!(structured["sha256"], hex(text.as_bytes()));
        }
    }
    for wrong in
        [json!({}), json!({"bytes": 0}), json!({"bytes": 3_000_001}), json!({"bytes": 1.5})]
    {
        let text = server.modern_call("big_response", wrong).tool_error().await;
        assert!(text.contains("bytes"), "{text}");
    }
}

#[tokio::test]
async fn a_request_is_shown_as_it_arrived() {
    let server = TestServer::start(&[]).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
    let request = server
        .modern_call("request_echo", json!({}))
        .meta("traceparent", trace)
        .meta("tracestate", "vendor=1")
        .meta("com.example/mine", json!({"a": 1}))
        .header("traceparent", "00-ffffffffffffffffffffffffffffffff-00f067aa0ba902b7-00")
        .by("very-secret-token");
    let body = request.body().to_string();
    let request = request.build().header("X-Double", "one").header("X-Other", "x");
    let request = request.header("X-Double", "two");
    let result = request.send().await.json()["result"].clone();
    let shown = &result["structuredContent"];
    let http = &shown["http"];
    assert_eq!((&http["method"], &http["path"]), (&json!("POST"), &json!("/mcp")));
    assert_eq!((&http["http_version"], &http["peer"]), (&json!("HTTP/1.1"), &json!("127.0.0.1")));
    let headers: Vec<_> = http["headers"]
        .as_array()
        .expect("headers")
        .iter()
        .map(|header| {
            (header["name"].as_str().unwrap_or(""), header["value"].as_str().unwrap_or(""))
        })
        .collect();
    let values = |name: &str| -> Vec<&str> {
        headers.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value).collect()
    };
    assert_eq!(values("x-double"), ["one", "two"], "in order, each of them");
    assert_eq!(values("mcp-protocol-version"), [VERSION]);
    assert_eq!(values("mcp-name"), ["request_echo"]);
    let position = |name: &str| headers.iter().position(|(known, _)| *known == name);
    assert!(position("mcp-method") < position("x-double"), "{headers:?}");
    assert!(position("x-double") < position("x-other"), "{headers:?}");
    let whole = result.to_string();
    assert!(!whole.contains("very-secret-token"), "credentials are redacted: {whole}");

    assert_eq!(shown["body"], json!({"bytes": body.len(), "sha256": hex(body.as_bytes())}));
    assert_eq!(shown["meta"]["com.example/mine"], json!({"a": 1}));
    assert_eq!(shown["meta"]["io.modelcontextprotocol/protocolVersion"], VERSION);
    assert_eq!(shown["meta"]["io.modelcontextprotocol/clientCapabilities"], json!({}));
    assert_eq!(shown["meta"]["traceparent"], trace);
    assert_eq!(shown["trace"]["traceparent"]["meta"], trace);
    let header = shown["trace"]["traceparent"]["header"].as_str();
    assert!(header.is_some_and(|header| header.starts_with("00-ffff")));
    assert_eq!(shown["trace"]["tracestate"]["meta"], "vendor=1");
    assert_eq!(shown["trace"]["baggage"], json!({"header": null, "meta": null}));
    // In a session as well; without _meta there is none.
    let talk = server.session(0).await;
    let shown = talk.ask("request_echo", json!({})).await;
    assert_eq!(shown["meta"], Value::Null);
}
