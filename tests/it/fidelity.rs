//! What arrives is given back as it came, and what is wrong with it is said.

use serde_json::{Value, json};

use crate::{
    events::Events,
    modern::{META_CAPABILITIES, META_SUBSCRIPTION, META_VERSION, VERSION},
    support::{Answer, Talk, TestServer},
};

/// A call of a tool as somebody might write it by hand.
fn written(tool: &str, params: &str) -> String {
    format!(
        "{{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tools/call\", \"params\": {{\"name\": \"{tool}\"{params}}}}}"
    )
}

/// The text of what went wrong, in whatever form.
fn problem(answer: &Answer) -> String {
    let answer = answer.json();
    let text = match &answer["error"]["message"] {
        Value::Null => &answer["result"]["content"][0]["text"],
        message => message,
    };
    text.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// `_meta` that no reader of numbers and names gives back.
const ODD: &str = r#"{"n": 12345678901234567890123456789, "x": 1.10, "e": 1E+2, "z": -0, "twice": 1, "twice": 2, "half": "\ud83d", "é": "\u00e9\/"}"#;

#[tokio::test]
async fn what_arrived_is_shown_character_for_character() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let body = written("request_echo", &format!(", \"_meta\": {ODD}"));
    let answer = talk.post(&*body).send().await;
    assert!(answer.expect_status(200).text().contains(&format!("\"meta\":{ODD}")), "{answer:?}");
    // In the text as well, where it is quoted.
    let quoted = Value::from(ODD).to_string();
    assert!(answer.text().contains(quoted.trim_matches('"')), "{}", answer.text());
    // An event has one line for it, however many it came in.
    let broken = body.replace(", ", ",\r\n");
    let events = talk.post(&*broken).header("Accept", "text/event-stream").send().await;
    let text = events.expect_status(200).text();
    assert!(text.contains("12345678901234567890123456789") && text.contains("1.10"), "{text}");
    assert_eq!(text.matches("\ndata: {").count(), 1, "{text}");
    assert!(text.ends_with("}\n\n") && !text.contains('\r'), "{text}");

    let meta = format!(
        "{{\"{META_VERSION}\":\"{VERSION}\",\"{META_CAPABILITIES}\":{{}},\"tracestate\":\"a=\\u0031\",{}",
        &ODD[1..]
    );
    let call = server.modern("tools/call", json!({"name": "request_echo"}));
    let body = written("request_echo", &format!(",\"_meta\":{meta}"));
    let answer = call.header("Accept", "application/json").around(body).send().await;
    assert!(answer.expect_status(200).text().contains(&format!("\"meta\":{meta}")), "{answer:?}");
    assert!(answer.text().contains("\"meta\":\"a=\\u0031\""), "{}", answer.text());
}

#[tokio::test]
async fn the_query_and_repeated_headers_are_shown() {
    let server = TestServer::start(&[]).await;
    let body = written("request_echo", "");
    let request =
        server.request("POST", "/mcp?a=1&a=%32&b").header("Content-Type", "application/json");
    let request = request.header("baggage", "k=v").header("baggage", "é=w").with_body(body);
    let answer = request.send().await.json();
    let shown = &answer["result"]["structuredContent"];
    assert_eq!(
        (&shown["http"]["path"], &shown["http"]["query"]),
        (&json!("/mcp"), &json!("a=1&a=%32&b"))
    );
    assert_eq!(shown["trace"]["baggage"]["header"], "k=v, é=w");
    let talk = server.session(0).await;
    assert_eq!(talk.ask("printHeader", json!({})).await["query"], Value::Null);
}

#[tokio::test]
async fn tokens_and_ids_come_back_digit_for_digit() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    for token in
        ["123456789012345678901234567890", "-18446744073709551617", "1.0", r#""\u00e9""#, "1e30"]
    {
        let rest = format!(
            ", \"arguments\": {{\"count\": 2, \"interval_ms\": 1}}, \"_meta\": {{\"progressToken\": {token}}}"
        );
        let request = talk.post(written("stream_ticks", &rest));
        let text = request.header("Accept", "text/event-stream").send().await.text();
        assert_eq!(text.matches(&format!("\"progressToken\":{token},")).count(), 2, "{text}");
    }
    for id in ["18446744073709551617", "-1", r#""\u00e9""#, "\"x\""] {
        let listen = server
            .modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
        let mut body = listen.body();
        body["id"] = json!("HERE");
        let body = body.to_string().replace("\"HERE\"", id);
        let mut connection = listen.around(body).begin().await;
        connection.head().await.expect_status(200);
        let first = connection.chunk().await.expect("a chunk");
        let first = String::from_utf8(first).expect("text");
        assert!(first.contains(&format!("\"{META_SUBSCRIPTION}\":{id}}}")), "{first}");
        server.instances[0].state.subscriptions.open();
    }
}

#[tokio::test]
async fn the_farewell_of_a_subscription_names_it_digit_for_digit() {
    let server = TestServer::start(&[]).await;
    let listen = server.modern("subscriptions/listen", json!({"notifications": {}})).id(json!(1));
    let body = listen.body().to_string().replace("\"id\":1,", "\"id\":18446744073709551617,");
    let mut connection = listen.around(body).begin().await;
    connection.head().await.expect_status(200);
    connection.chunk().await.expect("the acknowledgement");
    server.stop();
    let mut last = String::new();
    while let Some(chunk) = connection.chunk().await {
        last.push_str(&String::from_utf8(chunk).expect("text"));
    }
    assert!(last.contains("\"id\":18446744073709551617,"), "{last}");
    assert!(last.contains("\"requestId\":18446744073709551617,"), "{last}");
    assert_eq!(
        last.matches(&format!("\"{META_SUBSCRIPTION}\":18446744073709551617")).count(),
        2,
        "{last}"
    );
}

/// Cancels a call by an id that is written so.
async fn cancel(talk: &Talk<'_>, id: &str) {
    let cancel = format!(
        "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{{\"requestId\":{id}}}}}"
    );
    talk.post(cancel).send().await.expect_status(202);
}

#[tokio::test]
async fn an_id_is_the_same_however_it_is_written() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    for (called, cancelled) in
        [(r#""\u00e9""#, "\"é\""), ("\"/\"", r#""\/""#), ("0", "-0"), (r#""a\u0062c""#, "\"abc\"")]
    {
        let body =
            written("stream_ticks", ", \"arguments\": {\"count\": 50, \"interval_ms\": 1000}");
        let body = body.replace("\"id\": 1", &format!("\"id\": {called}"));
        let mut events = Events::open(talk.post(body)).await;
        events.next().await.expect("the priming event");
        cancel(&talk, "\"another\"").await;
        events.expect_quiet().await;
        cancel(&talk, cancelled).await;
        assert_eq!(events.messages().await, Vec::<Value>::new(), "{called} as {cancelled}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let server = TestServer::start(&[]).await;
    for version in ["2025-06-18", "2025-11-25"] {
        let talk = server.session_of(0, version).await;
        for (tool, rest, told) in [
            ("echo", r#","arguments":{"message":"a\ud83d"}"#, "\"message\" holds a lone surrogate"),
            ("echo", r#","arguments":{"message":"\udc00"}"#, "\\udc00"),
            (
                "echo",
                r#","arguments":{"message":"a","format":"\ud83d"}"#,
                "\"format\" holds a lone",
            ),
            (
                "echo",
                r#","arguments":{"message":"a","delay":1e400}"#,
                "\"delay\" holds a number too large",
            ),
            ("echo", r#","arguments":{"message":"a","\ud83d":1}"#, "\"arguments\" holds a lone"),
            (
                "set_session_data",
                r#","arguments":{"key":"\ud83d","value":1}"#,
                "\"key\" holds a lone",
            ),
            (
                "set_session_data",
                r#","arguments":{"key":"k","value":[1e999]}"#,
                "\"value\" holds a number",
            ),
            (
                "big_response",
                r#","arguments":{"bytes":1e400}"#,
                "\"bytes\" holds a number too large",
            ),
            (
                "echo",
                r#","arguments":{"message":"a"},"_meta":{},"_meta":{}"#,
                "\"_meta\" is given twice",
            ),
            (
                "echo",
                r#","arguments":{"message":"a"},"arguments":{}"#,
                "\"arguments\" is given twice",
            ),
            (
                "echo",
                r#","arguments":{"message":"a"},"_meta":{"progressToken":1,"progressToken":2}"#,
                "\"progressToken\" is given twice",
            ),
            (
                "echo",
                r#","arguments":{"message":"a"},"_meta":{"progressToken":"\ud83d"}"#,
                "\"progressToken\" holds a lone",
            ),
            (
                "echo",
                r#","arguments":{"message":"a"},"_meta":{"\ud83d":1}"#,
                "\"_meta\" holds a lone surrogate",
            ),
            (
                "echo",
                r#","arguments":{"message":"a"},"\ud83d":1"#,
                "\"params\" holds a lone surrogate",
            ),
        ] {
            let answer = talk.post(written(tool, rest)).send().await;
            let text = problem(answer.expect_status(200));
            assert!(text.contains(told), "{version} {tool}{rest}: {text}");
        }
    }
    for (meta, told) in [
        (
            format!(r#"{{"{META_VERSION}":"{VERSION}","{META_CAPABILITIES}":{{"a":"\ud83d"}}}}"#),
            "clientCapabilities\" in \"_meta\" holds a lone surrogate",
        ),
        (
            format!(
                r#"{{"{META_VERSION}":"{VERSION}","{META_CAPABILITIES}":{{}},"{META_CAPABILITIES}":{{}}}}"#
            ),
            "clientCapabilities\" is given twice",
        ),
        (
            format!(r#"{{"{META_VERSION}":"{VERSION}","{META_CAPABILITIES}":{{"a":1e400}}}}"#),
            "clientCapabilities\" in \"_meta\" holds a number too large",
        ),
        (
            format!(r#"{{"{META_VERSION}":"{VERSION}"}}"#),
            "must have \"io.modelcontextprotocol/clientCapabilities\", an object",
        ),
    ] {
        let call = server.modern("tools/call", json!({"name": "echo"}));
        let body = written("echo", &format!(r#","arguments":{{"message":"a"}},"_meta":{meta}"#));
        let answer = call.around(body).send().await;
        answer.expect_error(400, -32602);
        assert!(problem(&answer).contains(told), "{meta}: {}", problem(&answer));
    }
    for (body, told) in [
        (r#"{"jsonrpc":"2.0","id":"\ud83d","method":"ping"}"#, "\"id\" holds a lone surrogate"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"\ud83d"}"#, "\"method\" holds a lone surrogate"),
        (r#"{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}"#, "\"id\" is given twice"),
        (r#"{"jsonrpc":"2.0","id":1,"id":1]}"#, "\"id\" is given twice"),
    ] {
        let answer = server.post(body).send().await;
        answer.expect_error(400, -32600);
        assert!(problem(&answer).contains(told), "{body}: {}", problem(&answer));
    }
}

fn nested(levels: usize) -> String {
    format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test]
async fn what_is_taken_can_be_read_when_it_is_given_back() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-03-26").await;
    let echo =
        |levels| written("request_echo", &format!(", \"_meta\": {{\"deep\": {}}}", nested(levels)));
    let store = |levels| {
        let value = nested(levels);
        written(
            "set_session_data",
            &format!(", \"arguments\": {{\"key\": \"k\", \"value\": {value}}}"),
        )
    };
    // Two levels of `params` and `_meta` or `arguments` are around each.
    for body in [echo(99), store(99), echo(124), store(126), echo(50_000)] {
        let answer = talk.post(body).send().await;
        let error = answer.expect_error(200, -32602);
        assert!(
            error["message"].as_str().is_some_and(|text| text.contains("100 levels")),
            "{error}"
        );
    }
    // serde reads 128 levels, as usual readers do: `json` would fail.
    for body in [echo(98), store(98)] {
        let answer = talk.post(body).send().await;
        assert!(answer.expect_status(200).json()["result"]["isError"].is_null(), "{answer:?}");
    }
    let read = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "get_session_data"}});
    let answer = talk.post(json!([read]).to_string()).send().await;
    assert!(answer.expect_status(200).json()[0]["result"].is_object(), "in a batch too");
    let call = server.modern_call("request_echo", json!({}));
    let deep = serde_json::from_str::<Value>(&nested(97)).expect("JSON");
    call.clone().meta("deep", deep).structured().await;
    let body = call.body().to_string().replacen(
        "\"_meta\":{",
        &format!("\"_meta\":{{\"deep\":{},", nested(120)),
        1,
    );
    call.around(body).send().await.expect_error(200, -32602);
}

#[tokio::test]
async fn an_event_is_one_line_for_every_reader() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let message = "a\u{2028}b\u{2029}c\u{85}d\u{b}\u{c}\u{1c}\u{1d}\u{1e}é\u{1f600}\r\n";
    for delay in [0.0, 0.01] {
        let call = talk.call("echo", json!({"message": message, "delay": delay}));
        let answer = call.header("Accept", "text/event-stream").send().await;
        let text = answer.expect_status(200).text();
        let breaks = ['\u{2028}', '\u{2029}', '\u{85}', '\u{b}', '\u{c}', '\u{1c}', '\r'];
        assert!(!text.contains(breaks), "{text:?}");
        assert_eq!(answer.json()["result"]["structuredContent"]["message"], message);
    }
    // A document has no lines to break.
    let answer = talk.call("echo", json!({"message": message})).send().await;
    assert!(answer.text().contains('\u{2028}'));
}

#[tokio::test]
async fn a_secret_of_the_environment_is_not_shown_at_all() {
    let program = crate::process::Program::start(&[
        ("ADMIN_TOKEN", "hush-abcdefghijklmnopqrstuvwxyz-hush"),
        ("MCP_ECHO_INSTANCES__3__AUTH__MODE", "tokens"),
        ("MCP_ECHO_INSTANCES__3__AUTH__TOKENS", "alice=hush-a-long-token-of-alice,bob=hush-b"),
    ]);
    for arguments in [json!({}), json!({"showSecrets": true}), json!({"showSecrets": false})] {
        let answer = program.call("environmentDump", arguments).await.answer().await;
        let text = answer.expect_status(200).text();
        assert!(!text.contains("hush") && !text.contains("alice"), "{text}");
        assert!(text.contains("[redacted]"), "{text}");
    }
}
