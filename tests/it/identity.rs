//! Headers that decide something: each stands once, its value is its bytes, and whoever it names is never nobody.

use serde_json::json;

use crate::{
    modern::messages,
    support::{Connection, Request, TestServer},
    tools::jwt,
};

/// Everybody here is a trusted proxy.
const TRUSTING: (&str, &str) = ("MCP_ECHO_HTTP__TRUSTED_PROXIES", "127.0.0.0/8");

/// Headers that decide, with a value that each may have, and whether they do so on GET.
const DECIDING: [(&str, &str, &str); 11] = [
    ("POST", "Authorization", "Bearer abc"),
    ("POST", "Content-Type", "application/json"),
    ("POST", "Content-Encoding", "identity"),
    ("POST", "X-User-Id", "alice"),
    ("POST", "X-User-Name", "Alice"),
    ("POST", "X-Forwarded-Proto", "https"),
    ("OPTIONS", "Access-Control-Request-Method", "POST"),
    ("OPTIONS", "Access-Control-Request-Headers", "x-a"),
    ("POST", "MCP-Protocol-Version", "2025-11-25"),
    ("POST", "Mcp-Session-Id", "x"),
    ("GET", "Last-Event-ID", "1-1"),
];

/// Sends what a request has on the wire, with `@` in its head replaced by these bytes.
async fn send_bytes(server: &TestServer, request: Request, bytes: &[u8]) -> crate::support::Answer {
    let sent = request.bytes();
    let at = sent.iter().position(|byte| *byte == b'@').expect("a place");
    let mut connection = Connection::open(server.address).await;
    connection.write(&[&sent[..at], bytes, &sent[at + 1..]].concat()).await;
    connection.answer().await
}

#[tokio::test]
async fn a_header_that_decides_stands_once() {
    let server = TestServer::start(&[TRUSTING]).await;
    let talk = server.session(0).await;
    for (method, name, value) in DECIDING {
        let begun = server.created();
        let other = if value == "alice" { "bob" } else { value };
        // The same value twice is no better: whoever added one did not see the other.
        for second in [value, other] {
            let request = match method {
                "POST" => server.initialize("2025-06-18"),
                "GET" => talk.request("GET"),
                _ => server.request(method, "/mcp").header("Origin", "http://localhost"),
            };
            let answer = request.header(name, value).header(name, second).send().await;
            answer.expect_error(400, -32000);
            assert!(answer.text().contains(name), "{name}: {}", answer.text());
        }
        assert_eq!(server.created(), begun, "{name}");
    }
    // On other paths, and before the bearer check.
    let twice = |path| server.operate("GET", path).header("Authorization", "Bearer admin-secret");
    for path in ["/debug/sessions", "/.well-known/oauth-protected-resource"] {
        let answer = twice(path).send().await;
        assert!(answer.expect_status(400).text().contains("Authorization"), "{}", answer.text());
    }
    let strict = TestServer::start(&[TRUSTING, ("MCP_ECHO_AUTH__MODE", "passthrough")]).await;
    let request = strict.initialize("2025-06-18").header("Authorization", "Bearer a");
    request.header("Authorization", "Bearer b").send().await.expect_error(400, -32000);
    let request = strict.initialize("2025-06-18").header("X-Forwarded-Proto", "gopher");
    assert!(request.send().await.expect_status(400).text().contains("X-Forwarded-Proto"));
    // A page can read why.
    let page = server.initialize("2025-06-18").header("Origin", "http://localhost");
    let answer = page.header("X-User-Id", "a").header("X-User-Id", "b").send().await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost"));
}

#[tokio::test]
async fn the_stateless_revision_says_so_in_its_own_way() {
    let server = TestServer::start(&[TRUSTING]).await;
    let handle = server.handle(0).await;
    for (name, value) in [
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "echo"),
        ("Mcp-Param-Session", &*handle),
    ] {
        let call = server.modern_call("echo", json!({"message": "x", "session": handle}));
        let answer = call.build().header(name, value).send().await;
        let error = answer.expect_error(400, -32020);
        let text = error["message"].as_str().unwrap_or_default().to_ascii_lowercase();
        assert!(text.contains(&name.to_ascii_lowercase()), "{text}");
    }
    let call = server.modern_call("echo", json!({"message": "x"})).build();
    call.header("X-User-Id", "a").header("X-User-Id", "b").send().await.expect_error(400, -32600);
}

#[tokio::test]
async fn what_decides_nothing_may_be_sent_twice() {
    let server = TestServer::start(&[]).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
    let mut request = server.initialize("2025-06-18");
    for (name, value) in
        [("Accept", "application/json"), ("traceparent", trace), ("X-Request-Id", "mine")]
    {
        request = request.header(name, value).header(name, value);
    }
    let answer = request.send().await;
    answer.expect_status(200);
    assert_ne!(answer.header("x-request-id"), Some("mine"), "of two names none counts");
}

#[tokio::test]
async fn an_identity_is_its_bytes() {
    let server = TestServer::start(&[TRUSTING]).await;
    let begun = server.initialize("2025-06-18").header("X-User-Id", "josé").send().await;
    let id = begun.expect_status(200).header("mcp-session-id").expect("an id").to_owned();
    let ping = || server.rpc("ping", json!({})).header("Mcp-Session-Id", &id);
    ping().header("X-User-Id", "josé").send().await.expect_status(200);
    // HTTP/1 takes space around a value away; HTTP/2 may not.
    ping().header("X-User-Id", "  josé ").send().await.expect_status(200);
    for stranger in ["zoë", "jose", "JOSÉ", "jos"] {
        assert_eq!(ping().header("X-User-Id", stranger).send().await.expect_gone(), "unknown");
    }
    assert_eq!(ping().send().await.expect_gone(), "unknown", "nobody is not josé");
    let latin = ping().header("X-User-Id", "@");
    assert_eq!(send_bytes(&server, latin, b"jos\xe9").await.expect_gone(), "unknown");
    // A byte that is no text is an identity all the same.
    let begun = server.initialize("2025-06-18").header("X-User-Id", "@");
    let begun = send_bytes(&server, begun, b"\xff\xfe").await;
    let id = begun.expect_status(200).header("mcp-session-id").expect("an id").to_owned();
    let ping = || server.rpc("ping", json!({})).header("Mcp-Session-Id", &id);
    assert_eq!(ping().send().await.expect_gone(), "unknown");
    let own = ping().header("X-User-Id", "@");
    send_bytes(&server, own, b"\xff\xfe").await.expect_status(200);
    let context = server.call("authContext", json!({})).header("X-User-Id", "josé");
    let shown = context.header("X-User-Name", "José").send().await.json();
    let shown = &shown["result"]["structuredContent"];
    assert_eq!(shown["identity_known"], true);
    assert_eq!(shown["proxy_identity"]["headers"]["x-user-id"], "josé");
    let goat = server.call("whoIStheGOAT", json!({})).header("X-User-Name", "José").send().await;
    assert_eq!(goat.json()["result"]["structuredContent"]["subject"], "José");
}

#[tokio::test]
async fn an_identity_that_says_nothing_is_refused() {
    let server = TestServer::start(&[TRUSTING]).await;
    for nothing in ["", "   ", "\t"] {
        let answer = server.initialize("2025-06-18").header("X-User-Id", nothing).send().await;
        answer.expect_error(400, -32000);
        assert!(answer.text().contains("X-User-Id"), "{}", answer.text());
    }
    assert_eq!(server.created(), 0);
    // From a peer that nobody trusts the header means nothing.
    let server = TestServer::start(&[]).await;
    server.initialize("2025-06-18").header("X-User-Id", "").send().await.expect_status(200);
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_not_a_missing_one() {
    let server = TestServer::start(&[("MCP_ECHO_AUTH__MODE", "passthrough")]).await;
    let plain = || server.initialize("2025-06-18").header("Authorization", "Bearer abc");
    for (name, value, status) in [
        ("Authorization", "Bearer abcé", 400),
        ("Content-Encoding", "é", 415),
        ("MCP-Protocol-Version", "é", 400),
        ("Mcp-Session-Id", "é", 400),
        ("Origin", "http://localhosté", 403),
    ] {
        plain().header(name, value).send().await.expect_status(status);
    }
    let alone = server.initialize("2025-06-18").header("Authorization", "Bearer abcé");
    let answer = alone.send().await;
    answer.expect_status(400);
    assert!(answer.header("www-authenticate").is_some(), "{answer:?}");
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn an_identity_of_two_parts_is_not_another_of_two_parts() {
    let server = TestServer::start(&[("MCP_ECHO_AUTH__MODE", "passthrough")]).await;
    let bearer = |claims: serde_json::Value| format!("Bearer {}", jwt(&claims));
    for (owner, stranger) in [
        (json!({"iss": "a\0b", "sub": "c"}), json!({"iss": "a", "sub": "b\0c"})),
        (json!({"iss": "", "sub": "c"}), json!({"sub": "c"})),
        (json!({"iss": "ab", "sub": "c"}), json!({"iss": "a", "sub": "bc"})),
        (json!({"iss": "claims", "sub": "c"}), json!({"sub": "claims\0c"})),
    ] {
        let (owner, stranger) = (bearer(owner), bearer(stranger));
        let begun = server.initialize("2025-06-18").header("Authorization", &owner).send().await;
        let id = begun.expect_status(200).header("mcp-session-id").expect("an id").to_owned();
        let ping = |token: &str| {
            let request = server.rpc("ping", json!({})).header("Mcp-Session-Id", &id);
            request.header("Authorization", token).send()
        };
        assert_eq!(ping(&stranger).await.expect_gone(), "unknown");
        ping(&owner).await.expect_status(200);
    }
}

#[tokio::test]
async fn a_body_is_taken_as_it_is() {
    let server = TestServer::start(&[]).await;
    for coding in ["gzip", "br", "GZIP", "identity, deflate", "x"] {
        let answer =
            server.initialize("2025-06-18").header("Content-Encoding", coding).send().await;
        answer.expect_error(415, -32000);
        assert_eq!(answer.header("accept-encoding"), Some("identity"), "{coding}");
        let call = server.modern_call("echo", json!({"message": "x"}));
        let answer = call.header("Content-Encoding", coding).send().await;
        answer.expect_error(415, -32600);
    }
    assert_eq!(server.created(), 0);
    for coding in ["identity", "Identity", ""] {
        let answer =
            server.initialize("2025-06-18").header("Content-Encoding", coding).send().await;
        answer.expect_status(200);
    }
    // What is wrong with the type is told without it.
    let answer = server.request("POST", "/mcp").header("Content-Type", "text/plain").send().await;
    assert_eq!(answer.expect_status(415).header("accept-encoding"), None);
}

#[tokio::test]
async fn a_body_is_chunked_or_plain() {
    let server = TestServer::start(&[]).await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let send = async |codings: &[&str], version: &str| {
        let mut connection = Connection::open(server.address).await;
        let lines: String =
            codings.iter().map(|coding| format!("Transfer-Encoding: {coding}\r\n")).collect();
        let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        connection.write(format!("{head}{version}{lines}\r\n{chunk}").as_bytes()).await;
        connection.answer().await
    };
    let modern = "MCP-Protocol-Version: 2026-07-28\r\n";
    for codings in [&["gzip, chunked"][..], &["gzip", "chunked"], &["x-own;q=1, chunked"]] {
        send(codings, "").await.expect_error(501, -32000);
        send(codings, modern).await.expect_error(501, -32600);
    }
    for coding in ["chunked", "Chunked"] {
        send(&[coding], "").await.expect_status(200);
    }
    // Where its end cannot be told either, it is no request.
    send(&["gzip"], "").await.expect_status(400);
}

#[tokio::test]
async fn options_about_the_server_as_a_whole_are_answered() {
    let server = TestServer::start(&[]).await;
    let answer = server.request("OPTIONS", "*").send().await;
    assert_eq!(
        answer.expect_status(204).header("allow"),
        Some("GET, HEAD, POST, DELETE, OPTIONS"),
        "{answer:?}"
    );
    // Another instance's host answers as well, another method does not, and hosts that are not ours stay 421.
    server.request("OPTIONS", "*").host("echo-stateful3.localhost").send().await.expect_status(204);
    server.request("OPTIONS", "*").host("evil.test").send().await.expect_status(421);
    let get = server.request("GET", "*").send().await.status;
    assert!((400..500).contains(&get), "{get}");
}

#[tokio::test]
async fn options_tells_what_a_path_takes() {
    let server = TestServer::start(&[]).await;
    for (path, allowed) in [
        ("/mcp", "GET, POST, DELETE, OPTIONS"),
        ("/livez", "GET, HEAD"),
        ("/health", "GET, HEAD"),
        ("/.well-known/oauth-protected-resource", "GET,HEAD"),
        ("/debug", "GET,HEAD"),
    ] {
        let answer = server.request("OPTIONS", path).send().await;
        answer.expect_status(204);
        let told = answer.header("allow").unwrap_or_default();
        assert!(told.starts_with(allowed), "{path}: {told:?}");
    }
    let answer = server.request("OPTIONS", "/mcp").header("MCP-Protocol-Version", "2026-07-28");
    assert_eq!(answer.send().await.expect_status(204).header("allow"), Some("POST, OPTIONS"));
    // Of a page, without what makes it a preflight.
    let answer = server.request("OPTIONS", "/mcp").header("Origin", "http://localhost");
    let answer = answer.send().await;
    assert!(answer.expect_status(204).header("allow").is_some());
    assert!(answer.header("access-control-allow-origin").is_some());
    let answer = server.operate("OPTIONS", "/debug/sessions").send().await;
    assert!(answer.expect_status(204).header("allow").is_some_and(|told| told.contains("DELETE")));
    server.request("OPTIONS", "/nowhere").send().await.expect_status(404);
}

#[tokio::test]
async fn credentials_are_hidden_in_whatever_header_they_come() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    let token = jwt(&json!({"sub": "alice"}));
    for tool in ["printHeader", "request_echo", "authContext", "corsAnalysis"] {
        let answer = server
            .request("POST", "/mcp?page=2&access_token=hush-query&to%6ben=hush-name")
            .header("Content-Type", "application/json");
        // The same call as `call` makes, with a query.
        let body =
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}});
        let mut request = answer.with_body(body.to_string()).header("Mcp-Session-Id", &talk.id);
        for (name, value) in [
            ("X-Forwarded-Access-Token", "hush-1"),
            ("X-Auth-Request-Access-Token", "hush-2"),
            ("Api-Key", "hush-3"),
            ("X-Goog-Iap-Jwt-Assertion", "hush-4"),
            ("X-Amzn-Oidc-Data", "hush-5"),
            ("Authorization", "hush-6 hush-7"),
            ("Proxy-Authorization", "Digest username=\"hush-8\""),
            ("Sec-WebSocket-Protocol", "mcp, hush-9"),
            ("X-Nobody-Knows", "Bearer hush-10"),
            ("X-Nobody-Knows-Either", &token),
            ("Referer", "https://me:hush-11@example.com/x?page=2&sig=hush-12"),
            ("X-Original-URL", "/mcp?secret=hush-13"),
            ("X-Client-Cert", "hush-14"),
            ("X-Short", "plain words"),
        ] {
            request = request.header(name, value);
        }
        let answer = request.send().await;
        let text = answer.expect_status(200).text();
        assert!(!text.contains("hush") && !text.contains(&token), "{tool}: {text}");
        if ["printHeader", "request_echo"].contains(&tool) {
            for shown in
                ["plain words", "page=2", "access_token=[redacted, 10 characters]", &talk.id]
            {
                assert!(text.contains(shown), "{tool} hides {shown}: {text}");
            }
        }
        assert_eq!(messages(&answer).len(), 1);
    }
}
