//! What surrounds MCP: CORS, Origin, limits, deadlines, request ids, paths.

use std::time::{Duration, Instant};

use crate::support::{Connection, TestServer, eventually, instance_host};
use serde_json::json;

const PAGE: &str = "http://localhost:6274";

#[tokio::test]
async fn a_page_can_read_every_answer_that_it_may_get() {
    let server = TestServer::start(&[
        ("MCP_ECHO_AUTH__MODE", "passthrough"),
        ("MCP_ECHO_SESSION__CAPACITY", "1"),
    ])
    .await;
    let token = "Bearer abc";
    let with = |request: crate::support::Request| {
        request.header("Origin", PAGE).header("Authorization", token)
    };
    let answers = [
        (200, with(server.initialize("2025-06-18")).send().await),
        (503, with(server.initialize("2025-06-18")).send().await),
        (401, server.initialize("2025-06-18").header("Origin", PAGE).send().await),
        (404, with(server.request("GET", "/nowhere")).send().await),
        (400, with(server.request("GET", "/mcp")).send().await),
        (400, with(server.post("{")).send().await),
        (405, with(server.request("PUT", "/mcp")).send().await),
        (413, with(server.post(vec![b' '; 2_000_000])).send().await),
    ];
    for (status, answer) in answers {
        answer.expect_status(status);
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "{status}");
        let exposed = answer.header("access-control-expose-headers").expect("exposed");
        for name in [
            "mcp-session-id",
            "mcp-protocol-version",
            "mcp-echo-instance",
            "www-authenticate",
            "retry-after",
        ] {
            assert!(exposed.contains(name), "{status}: {exposed}");
        }
    }
}

#[tokio::test]
async fn a_preflight_needs_no_token() {
    let server = TestServer::start(&[("MCP_ECHO_AUTH__MODE", "passthrough")]).await;
    let answer = server
        .request("OPTIONS", "/mcp")
        .header("Origin", PAGE)
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "content-type, mcp-session-id, authorization")
        .send()
        .await;
    answer.expect_status(204);
    assert!(
        answer.header("access-control-allow-methods").is_some_and(|all| all.contains("DELETE"))
    );
    let allowed = answer.header("access-control-allow-headers");
    assert_eq!(allowed, Some("content-type, mcp-session-id, authorization"));
}

#[tokio::test]
async fn a_caller_that_is_no_page_gets_no_cors_headers() {
    // The seed page's `curl -D - | grep -i mcp-session-id` must find one line.
    let server = TestServer::start(&[]).await;
    let answer = server.initialize("2025-06-18").send().await;
    assert_eq!(answer.header("access-control-expose-headers"), None);
}

#[tokio::test]
async fn a_foreign_page_is_turned_away_before_anything_happens() {
    let server = TestServer::start(&[]).await;
    for origin in [
        "http://evil.example.org",
        "null",
        "https://localhost.evil.org",
        "file://",
        "http://echo-stateful3.example.com.evil.org",
    ] {
        let answer = server.initialize("2025-06-18").header("Origin", origin).send().await;
        answer.expect_status(403);
        assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
    }
    assert_eq!(server.created(), 0);
    for origin in [
        "http://127.0.0.1:9999",
        "http://[::1]",
        "https://echo-stateful4.example.com",
        "http://app.localhost:1",
    ] {
        server.initialize("2025-06-18").header("Origin", origin).send().await.expect_status(200);
    }
}

#[tokio::test]
async fn the_origin_list_is_per_instance() {
    let server =
        TestServer::start(&[("MCP_ECHO_INSTANCES__2__ORIGIN__ALLOWED", "https://app.example.org")])
            .await;
    let from_page = |instance| {
        server
            .initialize("2025-06-18")
            .host(&instance_host(instance))
            .header("Origin", "https://app.example.org")
    };
    from_page(2).send().await.expect_status(200);
    from_page(3).send().await.expect_status(403);
}

#[tokio::test]
async fn the_body_limit_holds_for_declared_and_for_chunked_bodies() {
    let server = TestServer::start(&[("MCP_ECHO_HTTP__MAX_BODY_BYTES", "2048")]).await;
    let padded = |size: usize| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
        format!("{body}{}", " ".repeat(size - body.len()))
    };
    server.post(padded(2048)).send().await.expect_status(200);
    server.post(padded(2049)).send().await.expect_error(413, -32000);

    let mut connection = Connection::open(server.address).await;
    connection
        .write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    connection.write(format!("1000\r\n{}\r\n", " ".repeat(0x1000)).as_bytes()).await;
    connection.answer().await.expect_error(413, -32000);
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn heads_and_bodies_that_never_come_are_given_up_on() {
    let server = TestServer::start(&[
        ("MCP_ECHO_HTTP__HEADER_TIMEOUT_SECONDS", "0.3"),
        ("MCP_ECHO_HTTP__BODY_TIMEOUT_SECONDS", "0.3"),
    ])
    .await;
    let start = Instant::now();
    for opening in ["", "P", "PRI * HTT", "POST /mcp HTTP/1.1\r\nHost: local"] {
        let mut connection = Connection::open(server.address).await;
        connection.write(opening.as_bytes()).await;
        assert!(connection.closes().await, "{opening:?}");
    }
    let mut connection = Connection::open(server.address).await;
    connection
        .write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{")
        .await;
    connection.answer().await.expect_error(408, -32000);
    // A kept connection is as idle as one that never spoke.
    let mut kept = server.rpc("ping", json!({})).begin().await;
    kept.answer().await.expect_status(200);
    assert!(kept.closes().await);
    assert!(start.elapsed() < Duration::from_secs(8));
    server.rpc("ping", json!({})).send().await.expect_status(200);
}

#[tokio::test]
async fn a_request_id_is_kept_or_given() {
    let server = TestServer::start(&[]).await;
    let answer = server.rpc("ping", json!({})).header("X-Request-Id", "my-id-7").send().await;
    assert_eq!(answer.header("x-request-id"), Some("my-id-7"));
    let first = server.rpc("ping", json!({})).header("X-Request-Id", "not one").send().await;
    let second = server.request("GET", "/nowhere").host("unknown.example.org").send().await;
    let (first, second) = (first.header("x-request-id"), second.header("x-request-id"));
    assert!(first.is_some() && second.is_some() && first != second && first != Some("not one"));
}

#[tokio::test]
async fn every_answer_says_who_gave_it() {
    let server = TestServer::start(&[("HOSTNAME", "pod-7"), ("MCP_ECHO_REPLICA__TAG", "a1")]).await;
    let mut boots = std::collections::BTreeSet::new();
    for (status, request) in [
        (200, server.initialize("2025-06-18")),
        (421, server.request("GET", "/mcp").host("unknown.example.org")),
        (200, server.request("GET", "/livez")),
        (404, server.request("GET", "/nowhere")),
    ] {
        let answer = request.send().await;
        answer.expect_status(status);
        assert_eq!(answer.header("mcp-echo-replica"), Some("pod-7"));
        boots.insert(answer.header("mcp-echo-boot").expect("a boot").to_owned());
    }
    assert_eq!(boots.len(), 1);
    let talk = server.session(4).await;
    assert_eq!(talk.id[..6], format!("4a1{}", boots.first().expect("one")));
}

#[tokio::test]
async fn both_spellings_of_the_path_are_the_endpoint() {
    let server = TestServer::start(&[]).await;
    for path in ["/mcp", "/mcp/"] {
        let answer = server.request("DELETE", path).send().await;
        answer.expect_error(400, -32000);
        let answer = server.request("PUT", path).send().await;
        answer.expect_error(405, -32000);
        assert_eq!(answer.header("allow"), Some("GET, POST, DELETE, OPTIONS"));
    }
    for path in ["//", "/mcp/x", "/mcpx", "/debugger", "/.well-known/x"] {
        server.request("GET", path).send().await.expect_status(404);
    }
}

#[tokio::test]
async fn a_reader_that_stops_does_not_keep_its_session() {
    let server = TestServer::start(&[
        ("MCP_ECHO_HTTP__WRITE_TIMEOUT_SECONDS", "0.5"),
        ("MCP_SESSION_TIMEOUT", "0.5"),
    ])
    .await;
    let talk = server.session(3).await;
    // More than the kernel takes for a reader that does not read: each event repeats the token.
    let ticks = json!({
        "name": "stream_ticks",
        "arguments": {"count": 1000, "interval_ms": 0},
        "_meta": {"progressToken": "x".repeat(20_000)},
    });
    let mut stream = talk.rpc("tools/call", ticks).begin().await;
    stream.head().await.expect_status(200);
    eventually(|| server.instances[3].state.sessions.counts().live == 0).await;
}

#[tokio::test]
async fn a_reader_that_stops_loses_its_connection_and_one_that_is_slow_does_not() {
    let server = TestServer::start(&[("MCP_ECHO_HTTP__WRITE_TIMEOUT_SECONDS", "1")]).await;
    let talk = server.session(3).await;
    let big = || talk.call("big_response", json!({"bytes": 6_000_000})).begin();
    let (stopped, mut slow) = (big().await, big().await);
    let mut taken = 0;
    while taken < 6_000_000 {
        taken += slow.take(500_000).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let mut stopped = stopped;
    let mut taken = 0;
    loop {
        match stopped.take(1_000_000).await {
            0 => break,
            more => taken += more,
        }
    }
    assert!((1..4_000_000).contains(&taken), "{taken}");
}
