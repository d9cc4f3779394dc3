//! What clients can make the server hold: each resource driven to its limit over a real port, the refusal seen, the
//! metric seen, and the metric back where it was when all is over.

use serde_json::{Value, json};

use crate::{
    http2::Http2,
    limits_table::metric,
    support::{Answer, PATIENCE, Talk, TestServer, eventually, instance_host},
};

/// HTTP/2's error code for a stream that is not needed any more.
const CANCEL: u8 = 8;

/// The share of an instance in most tests here: as small as it may be.
const SHARE: usize = 16 << 20;

async fn small(more: &[(&str, &str)]) -> TestServer {
    let share = SHARE.to_string();
    let mut variables = vec![("MCP_ECHO_MEMORY__MAX_INSTANCE_BYTES", &*share)];
    variables.extend(more);
    TestServer::start(&variables).await
}

fn share_booked(server: &TestServer) -> usize {
    server.instances[1].state.share.booked()
}

fn no_room(answer: &Answer) {
    answer.expect_error(503, -32000);
    assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
    let text = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(text.contains("memory.max_instance_bytes"), "{text}");
}

/// Sends calls that take time, in a session of the second instance, until one is refused; the connections are kept.
async fn calls_until_refused(
    talk: &Talk<'_>,
    message: &str,
    most: usize,
) -> (Vec<crate::support::Connection>, Option<Answer>) {
    let under_way = || talk.server.instances[1].state.calls.count();
    let mut open = Vec::new();
    for number in 0..most {
        let call = json!({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {
            "name": "echo", "arguments": {"message": message, "delay": 30}}});
        let mut connection = talk.post(call.to_string()).begin().await;
        tokio::select! {
            answer = connection.answer() => return (open, Some(answer)),
            () = eventually(|| under_way() == open.len() as u64 + 1) => {}
        }
        open.push(connection);
    }
    (open, None)
}

#[tokio::test]
async fn calls_under_way_are_bounded_by_bytes() {
    let server = small(&[]).await;
    let talk = server.session(1).await;
    let before = share_booked(&server);
    let (open, refused) = calls_until_refused(&talk, &"x".repeat(1_000_000), 40).await;
    no_room(&refused.expect("one is refused"));
    assert!((2..10).contains(&open.len()), "{} calls of 1 MB in 16 MiB", open.len());
    let booked = share_booked(&server);
    assert!(booked <= SHARE && booked > SHARE / 2, "{booked}");
    assert!(metric(&server, "mcp_echo_memory_refused_total").await >= 1.0);
    assert_eq!(metric(&server, "mcp_echo_calls_open").await, open.len() as f64);
    // Another instance is not concerned, and small requests still are answered.
    server.session(2).await.ask("echo", json!({"message": "y".repeat(1_000_000)})).await;
    talk.ask("echo", json!({"message": "small"})).await;
    // The clients leave, the calls go on; the end of the session does not end them, and so neither what they hold.
    drop(open);
    assert!(share_booked(&server) > SHARE / 2);
    assert!(before < 100_000, "{before}");
}

/// A client of HTTP/2 that resets a stream has not cancelled its call, which goes on and stays booked.
#[tokio::test]
async fn calls_whose_streams_are_reset_are_bounded_by_bytes() {
    let server = small(&[]).await;
    let open = || server.instances[0].state.calls.count();
    let mut reset = Vec::new();
    let status = loop {
        let number = reset.len() as u64 + 1;
        assert!(number < 200, "never refused");
        let mut client = Http2::opened(server.address).await;
        // As much as the windows of HTTP/2 let a client send at once.
        let slow = json!({"message": "x".repeat(60_000), "delay": 30});
        client.call(1, None, "echo", slow).await;
        tokio::select! {
            status = client.status(1) => break status,
            () = eventually(|| open() == number) => {}
        }
        client.write_frame(3, 0, 1, &[0, 0, 0, CANCEL]).await;
        reset.push(client);
    };
    assert_eq!(status, 503);
    assert!((20..150).contains(&reset.len()), "{} calls of 60 kB in 16 MiB", reset.len());
    assert_eq!(open(), reset.len() as u64, "they go on");
    let booked = server.instances[0].state.share.booked();
    assert!(booked <= SHARE && booked > SHARE / 2, "{booked}");
}

#[tokio::test]
async fn calls_under_way_are_bounded_by_number() {
    for (variable, key) in [
        ("MCP_ECHO_SESSION__MAX_CALLS", "session.max_calls"),
        ("MCP_ECHO_TOOLS__MAX_CALLS", "tools.max_calls"),
    ] {
        let server = TestServer::start(&[(variable, "3")]).await;
        let talk = server.session(1).await;
        let (open, refused) = calls_until_refused(&talk, "x", 5).await;
        let refused = refused.expect("one is refused");
        refused.expect_error(503, -32000);
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert!(refused.json()["error"]["message"].to_string().contains(key), "{refused:?}");
        assert_eq!(open.len(), 3);
        assert_eq!(metric(&server, "mcp_echo_calls_open").await, 3.0);
        // What takes no time is no call under way.
        talk.ask("echo", json!({"message": "now"})).await;
        talk.rpc("ping", json!({})).send().await.expect_status(200);
    }
}

#[tokio::test]
async fn a_call_of_the_stateless_era_is_under_way_until_its_client_leaves() {
    let server = TestServer::start(&[("MCP_ECHO_TOOLS__MAX_CALLS", "1")]).await;
    let call = || server.modern_call("echo", json!({"message": "x", "delay": 30})).on(1);
    let open = call().begin().await;
    eventually(|| server.instances[1].state.calls.count() == 1).await;
    call().send().await.expect_error(503, -32603);
    drop(open);
    eventually(|| server.instances[1].state.calls.count() == 0).await;
}

#[tokio::test]
async fn sessions_and_their_data_are_booked_and_given_back() {
    let server = small(&[("MCP_ECHO_SESSION__MAX_DATA_BYTES", "2000000")]).await;
    let host = instance_host(1);
    let store = |value: &str| {
        let arguments = json!({"key": "k", "value": value});
        server.call("set_session_data", arguments).host(&host)
    };
    // Each in a session of its own, which the request begins.
    let mut sessions = Vec::new();
    let refused = loop {
        assert!(sessions.len() < 40, "never refused");
        let answer = store(&"v".repeat(900_000)).send().await;
        match answer.status {
            200 => sessions.push(answer.header("mcp-session-id").expect("an id").to_owned()),
            _ => break answer,
        }
    };
    no_room(&refused);
    // Three quarters may be kept.
    assert!((8..=13).contains(&sessions.len()), "{}", sessions.len());
    assert!(
        metric(&server, "mcp_echo_session_data_bytes").await >= 900_000.0 * sessions.len() as f64
    );
    // Requests are still answered, and so is the end of a session, which makes room again.
    let mut end = server.request("DELETE", "/mcp").host(&host);
    end = end.header("Mcp-Session-Id", &sessions[0]);
    end.send().await.expect_status(204);
    store(&"v".repeat(800_000)).send().await.expect_status(200);
    for instance in &server.instances {
        let ended = instance.state.sessions.end_all(mcp_echo_stateful::id::EndReason::Admin).await;
        ended.expect("asked");
    }
    eventually(|| share_booked(&server) == 0).await;
    assert_eq!(metric(&server, "mcp_echo_session_data_bytes").await, 0.0);
}

#[tokio::test]
async fn the_last_echo_is_within_the_quota_and_in_the_metric() {
    let server = TestServer::start(&[("MCP_ECHO_SESSION__MAX_DATA_BYTES", "1000")]).await;
    let talk = server.session(1).await;
    talk.ask("echo", json!({"message": "x".repeat(1000)})).await;
    assert_eq!(metric(&server, "mcp_echo_session_data_bytes").await, 1000.0);
    let kept = talk.ask("replayLastEcho", json!({})).await;
    assert_eq!(kept["message"].as_str().map(str::len), Some(1000));
    talk.ask("echo", json!({"message": "x".repeat(1001)})).await;
    assert_eq!(metric(&server, "mcp_echo_session_data_bytes").await, 0.0);
    let answer = talk.call("replayLastEcho", json!({})).send().await;
    let result = &answer.json()["result"];
    assert_eq!(result["structuredContent"]["found"], json!(false));
    assert!(
        result["content"][0]["text"].to_string().contains("session.max_data_bytes"),
        "{result}"
    );
    // Data and echo are counted together, and both go with the session.
    talk.ask("set_session_data", json!({"key": "k", "value": 12})).await;
    talk.ask("echo", json!({"message": "yyy"})).await;
    assert_eq!(metric(&server, "mcp_echo_session_data_bytes").await, 6.0);
    talk.request("DELETE").send().await.expect_status(204);
    assert_eq!(metric(&server, "mcp_echo_session_data_bytes").await, 0.0);
}

#[tokio::test]
async fn subscriptions_of_sessions_are_bounded_in_length_number_and_bytes() {
    let server = small(&[]).await;
    let talk = server.session(1).await;
    let uri = |key: &str| format!("session://{}/data/{key}", talk.id);
    let subscribe = |uri: String| talk.rpc("resources/subscribe", json!({"uri": uri}));
    subscribe(uri(&"k".repeat(1_000_000))).send().await.expect_error(200, -32602);
    let long = subscribe(uri(&"k".repeat(5000))).send().await;
    assert!(long.json()["error"]["message"].to_string().contains("4096"), "{long:?}");
    for number in 0..1000 {
        subscribe(uri(&format!("{number}"))).send().await.expect_status(200);
    }
    assert_eq!(metric(&server, "mcp_echo_resource_subscriptions").await, 1000.0);
    // The same again is no more; another is.
    assert_eq!(subscribe(uri("7")).send().await.json()["result"], json!({}));
    subscribe(uri("more")).send().await.expect_error(200, -32602);
    talk.rpc("resources/unsubscribe", json!({"uri": uri("7")})).send().await.expect_status(200);
    assert_eq!(subscribe(uri("more")).send().await.json()["result"], json!({}));
    let booked = share_booked(&server);
    talk.request("DELETE").send().await.expect_status(204);
    assert_eq!(metric(&server, "mcp_echo_resource_subscriptions").await, 0.0);
    eventually(|| share_booked(&server) + 300_000 < booked).await;
}

#[tokio::test]
async fn ids_tokens_and_keys_have_a_length_of_their_own() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(1).await;
    let fits = "i".repeat(1022);
    for (id, status) in [(fits.clone(), 200), (format!("{fits}i"), 400), ("i".repeat(900_000), 400)]
    {
        let body = json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
        let answer = talk.post(body.to_string()).send().await;
        answer.expect_status(status);
    }
    let digits = "9".repeat(2000);
    let body = format!(r#"{{"jsonrpc":"2.0","id":{digits},"method":"ping"}}"#);
    talk.post(body).send().await.expect_status(400);
    let token = |token: &str| {
        let params = json!({"name": "stream_ticks", "arguments": {"count": 1, "interval_ms": 0},
            "_meta": {"progressToken": token}});
        talk.rpc("tools/call", params)
    };
    token(&fits).send().await.expect_status(200);
    token(&"t".repeat(900_000)).send().await.expect_error(200, -32602);
    let key = |key: &str| talk.call("set_session_data", json!({"key": key, "value": 1}));
    assert!(key(&"k".repeat(1024)).send().await.json()["result"]["isError"].is_null());
    key(&"k".repeat(1025)).send().await.expect_error(200, -32602);
}

#[tokio::test]
async fn a_stream_that_was_announced_can_be_resumed_however_many_there_are() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(1, "2025-11-25").await;
    let mut cursors = Vec::new();
    for number in 0..40 {
        let call = json!({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {
            "name": "stream_ticks", "arguments": {"count": 2, "interval_ms": 1500},
            "_meta": {"progressToken": number}}});
        let mut stream = talk.post(call.to_string()).begin().await;
        stream.head().await.expect_status(200);
        let first = String::from_utf8(stream.chunk().await.expect("an event")).expect("text");
        let id = first.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id");
        cursors.push(id.to_owned());
    }
    for (number, cursor) in cursors.iter().enumerate() {
        let resume = talk.request("GET").header("Accept", "text/event-stream");
        let mut stream = resume.header("Last-Event-ID", cursor).begin().await;
        let head = stream.head().await;
        assert_eq!(head.status, 200, "stream {number} of 40: {head:?}");
        let mut text = String::new();
        while !text.contains("\"result\"") {
            let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await.expect("in time");
            text.push_str(&String::from_utf8_lossy(&chunk.expect("goes on")));
        }
        assert!(text.contains(&format!("\"id\":{number}")), "{text}");
    }
}

#[tokio::test]
async fn what_has_ended_is_released_though_nobody_asks() {
    let server = TestServer::start(&[]).await;
    for _ in 0..20 {
        let talk = server.session(1).await;
        talk.ask("set_session_data", json!({"key": "k", "value": "v".repeat(200_000)})).await;
        talk.request("DELETE").send().await.expect_status(204);
    }
    eventually(|| share_booked(&server) == 0).await;
}

#[tokio::test]
async fn an_answer_is_bounded_whatever_makes_it() {
    let server = TestServer::start(&[("MCP_ECHO_TOOLS__MAX_RESPONSE_BYTES", "2000000")]).await;
    let talk = server.session(1).await;
    // Deep and wide: indented it would be more than a hundred times as long.
    let deep = format!("{}{}{}", "[".repeat(90), vec!["1"; 300_000].join(","), "]".repeat(90));
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"request_echo","arguments":{{}},"_meta":{{"deep":{deep}}}}}}}"#
    );
    let answer = talk.post(body.clone()).send().await;
    answer.expect_status(200);
    assert!(answer.body.len() < 4 * body.len(), "{} from {}", answer.body.len(), body.len());
    // The other way: the answer is larger than may be.
    let small = TestServer::start(&[("MCP_ECHO_TOOLS__MAX_RESPONSE_BYTES", "1000")]).await;
    let talk = small.session(1).await;
    let answer = talk.call("echo", json!({"message": "x".repeat(1001)})).send().await;
    let result = &answer.json()["result"];
    assert_eq!(result["isError"], Value::Bool(true), "{answer:?}");
    assert!(result["content"][0]["text"].to_string().contains("tools.max_response_bytes"));
}

/// Two requests of a megabyte of arguments that no tool knows: each was compared with all before it.
#[tokio::test]
async fn a_call_with_a_hundred_thousand_arguments_is_refused_at_once() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(1).await;
    for (from, escape) in [(0, ""), (1_000_000, "\\u0061")] {
        let names: Vec<_> =
            (from..from + 50_000).map(|n| format!("\"{escape}{n:06}\":1")).collect();
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{{}}}}}}}"#,
            names.join(",")
        );
        let answer = tokio::time::timeout(PATIENCE, talk.post(body).send()).await.expect("in time");
        answer.expect_status(200);
    }
    // Of a name that is repeated, the last counts.
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"a","\u006dessage":"b","message":"c"}}}"#;
    let answer = talk.post(body).send().await;
    assert_eq!(answer.json()["result"]["structuredContent"]["message"], "c", "{answer:?}");
}
