//! The bearer check, the challenge, and whose session it is.

use crate::{
    support::{TestServer, instance_host},
    tools::jwt,
};
use serde_json::json;

#[tokio::test]
async fn without_a_check_no_token_matters() {
    let server = TestServer::start(&[]).await;
    for header in ["Bearer x", "Bearer ", "Basic abc", "nonsense"] {
        let answer = server.initialize("2025-06-18").header("Authorization", header).send().await;
        answer.expect_status(200);
    }
}

#[tokio::test]
async fn a_missing_token_is_challenged_with_where_to_look() {
    let server = TestServer::start(&[("MCP_ECHO_INSTANCES__3__AUTH__MODE", "passthrough")]).await;
    let host = format!("{}:8080", instance_host(3));
    for (header, status, error) in [
        (None, 401, None),
        // RFC 6750 §3.1: who shows no bearer token is told of no error.
        (Some("Basic abc"), 401, None),
        (Some("Bearers"), 401, None),
        (Some("Bearer"), 400, Some("invalid_request")),
        (Some("bearer  "), 400, Some("invalid_request")),
        (Some("Bearer a b"), 400, Some("invalid_request")),
        (Some("Bearer abcé"), 400, Some("invalid_request")),
    ] {
        let request = server.initialize("2025-06-18").host(&host);
        let request = match header {
            Some(header) => request.header("Authorization", header),
            None => request,
        };
        let answer = request.send().await;
        answer.expect_error(status, -32000);
        let challenge = answer.header("www-authenticate").expect("a challenge");
        assert!(challenge.starts_with("Bearer "), "{challenge}");
        let metadata =
            format!("resource_metadata=\"http://{host}/.well-known/oauth-protected-resource/mcp\"");
        assert!(challenge.contains(&metadata), "{challenge}");
        assert_eq!(error.is_some(), challenge.contains("error="), "{challenge}");
        assert!(error.is_none_or(|error| challenge.contains(error)), "{challenge}");
    }
    // The others are open, and on the closed one only the endpoint is.
    server.session(4).await;
    for path in ["/nowhere", "/.well-known/nothing"] {
        server.request("GET", path).host(&host).send().await.expect_status(404);
    }
    assert_eq!(server.created(), 1);
}

#[tokio::test]
async fn the_challenge_has_a_code_of_its_revision() {
    let server = TestServer::start(&[
        ("MCP_ECHO_AUTH__MODE", "passthrough"),
        ("MCP_ECHO_INSTANCES__3__PROTOCOL__VERSIONS", "2026-07-28"),
    ])
    .await;
    for (instance, version, code) in [
        (0, None, -32000),
        (0, Some("2025-11-25"), -32000),
        (0, Some("2026-07-28"), -32600),
        (3, None, -32600),
    ] {
        let request = server.rpc("ping", json!({})).host(&instance_host(instance));
        let answer = match version {
            Some(version) => request.header("MCP-Protocol-Version", version).send().await,
            None => request.send().await,
        };
        answer.expect_error(401, code);
    }
}

#[tokio::test]
async fn the_challenge_names_the_scopes() {
    let server = TestServer::start(&[
        ("MCP_ECHO_AUTH__MODE", "passthrough"),
        ("MCP_ECHO_INSTANCES__3__AUTH__SCOPES", "mcp:read,mcp:write"),
    ])
    .await;
    let challenge = async |instance: u8, header: Option<&str>| {
        let request = server.initialize("2025-11-25").host(&instance_host(instance));
        let answer = match header {
            Some(header) => request.header("Authorization", header).send().await,
            None => request.send().await,
        };
        answer.expect_status(401);
        answer.header("www-authenticate").expect("a challenge").to_owned()
    };
    for header in [None, Some("Basic a")] {
        let with = challenge(3, header).await;
        assert!(with.contains(", scope=\"mcp:read mcp:write\""), "{with}");
        assert!(with.contains("resource_metadata="), "{with}");
        let without = challenge(4, header).await;
        assert!(!without.contains("scope"), "{without}");
    }
}

#[tokio::test]
async fn metadata_names_the_resource_as_the_client_reached_it() {
    let server = TestServer::start(&[
        ("MCP_ECHO_AUTH__MODE", "passthrough"),
        ("MCP_ECHO_AUTH__AUTHORIZATION_SERVERS", "https://auth.example.com"),
        ("MCP_ECHO_AUTH__SCOPES", "mcp:read,mcp:write"),
        ("MCP_ECHO_HTTP__TRUSTED_PROXIES", "127.0.0.1/32"),
    ])
    .await;
    for path in
        ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"]
    {
        let answer = server.request("GET", path).host("echo-stateful6.localhost:3000").send().await;
        let document = answer.expect_status(200).json();
        assert_eq!(document["resource"], "http://echo-stateful6.localhost:3000/mcp");
        assert_eq!(document["authorization_servers"], json!(["https://auth.example.com"]));
        assert_eq!(document["scopes_supported"], json!(["mcp:read", "mcp:write"]));
        assert_eq!(document["bearer_methods_supported"], json!(["header"]));
        let behind = server
            .request("GET", path)
            .host(&instance_host(6))
            .header("X-Forwarded-Proto", "https");
        assert_eq!(
            behind.send().await.json()["resource"],
            "https://echo-stateful6.example.com/mcp"
        );
    }
}

#[tokio::test]
async fn passed_through_tokens_own_their_sessions_by_identity() {
    let server = TestServer::start(&[("MCP_ECHO_AUTH__MODE", "passthrough")]).await;
    let bearer = |claims: serde_json::Value| format!("Bearer {}", jwt(&claims));
    let first = bearer(json!({"sub": "alice", "iss": "a", "iat": 1}));
    let begun = server.initialize("2025-06-18").header("Authorization", &first).send().await;
    let id = begun.header("mcp-session-id").expect("an id").to_owned();
    let ping = |token: &str| {
        server
            .rpc("ping", json!({}))
            .header("Authorization", token)
            .header("Mcp-Session-Id", &id)
            .send()
    };
    ping(&first).await.expect_status(200);
    let refreshed = bearer(json!({"sub": "alice", "iss": "a", "iat": 2}));
    ping(&refreshed).await.expect_status(200);
    for stranger in [
        bearer(json!({"sub": "bob", "iss": "a"})),
        bearer(json!({"sub": "alice", "iss": "b"})),
        "Bearer alice".to_owned(),
    ] {
        assert_eq!(ping(&stranger).await.expect_gone(), "unknown");
        for method in ["GET", "DELETE"] {
            let request = server.request(method, "/mcp").header("Mcp-Session-Id", &id);
            let answer = request.header("Authorization", &stranger).send().await;
            assert_eq!(answer.expect_gone(), "unknown");
        }
    }
    ping(&first).await.expect_status(200);
}

#[tokio::test]
async fn configured_tokens_are_the_only_ones() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "# people\n\ncarol=from-the-file\n").expect("writes");
    let server = TestServer::start(&[
        ("MCP_ECHO_AUTH__MODE", "tokens"),
        ("MCP_ECHO_AUTH__TOKENS", "alice=s3cret,alice=s3cret-new,bob=t0ken="),
        ("MCP_ECHO_AUTH__TOKENS_FILE", file.path().to_str().expect("a path")),
    ])
    .await;
    let with = |token: &str| {
        server.initialize("2025-06-18").header("Authorization", &format!("Bearer {token}")).send()
    };
    for token in ["s3cret", "t0ken=", "from-the-file"] {
        with(token).await.expect_status(200);
    }
    for (token, status) in [
        ("s3cre", 401),
        ("s3crets", 401),
        ("S3CRET", 401),
        ("alice", 401),
        // A token ends with its equals signs.
        ("alice=s3cret", 400),
    ] {
        let answer = with(token).await;
        answer.expect_status(status);
        assert!(answer.header("www-authenticate").is_some(), "{token}");
    }
    // A new token of the same name keeps the session.
    let begun = with("s3cret").await;
    let id = begun.header("mcp-session-id").expect("an id");
    let ping = |token: &str| {
        let request = server.rpc("ping", json!({})).header("Mcp-Session-Id", id);
        request.header("Authorization", &format!("Bearer {token}")).send()
    };
    ping("s3cret-new").await.expect_status(200);
    assert_eq!(ping("t0ken=").await.expect_gone(), "unknown");
}

#[tokio::test]
async fn a_lost_session_is_a_404_and_not_a_401() {
    let server = TestServer::start(&[("MCP_ECHO_AUTH__MODE", "passthrough")]).await;
    let request = server.rpc("ping", json!({})).header("Authorization", "Bearer abc");
    let answer =
        request.header("Mcp-Session-Id", "00000000-0000-8000-8000-000000000000").send().await;
    answer.expect_error(404, -32001);
}

#[tokio::test]
async fn every_request_needs_its_token_and_in_its_header() {
    let server = TestServer::start(&[
        ("MCP_ECHO_AUTH__MODE", "tokens"),
        ("MCP_ECHO_AUTH__TOKENS", "alice=s3cret"),
    ])
    .await;
    let with = |request: crate::support::Request| request.header("Authorization", "Bearer s3cret");
    let begun = with(server.initialize("2025-06-18")).send().await;
    let id = begun.header("mcp-session-id").expect("an id");
    let here = |method: &str, query: &str| {
        let request = server.request(method, &format!("/mcp{query}")).header("Mcp-Session-Id", id);
        match method {
            "POST" => {
                let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
                request.header("Content-Type", "application/json").with_body(ping)
            }
            _ => request,
        }
    };
    for method in ["POST", "GET", "DELETE"] {
        for query in ["", "?access_token=s3cret"] {
            here(method, query).send().await.expect_error(401, -32000);
        }
    }
    with(here("POST", "")).send().await.expect_status(200);
    with(here("DELETE", "")).send().await.expect_status(204);
}
