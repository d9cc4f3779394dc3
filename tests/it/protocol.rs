//! The sessioned revisions on Streamable HTTP, each with its own rules.

use crate::support::TestServer;
use mcp_echo_stateful::wire::version::{Era, Feature, ProtocolVersion};
use serde_json::{Value, json};

fn sessioned() -> impl Iterator<Item = ProtocolVersion> {
    ProtocolVersion::ALL.into_iter().filter(|version| version.era() == Era::Sessioned)
}

#[tokio::test]
async fn a_served_version_is_echoed_and_any_other_gets_the_default() {
    let server = TestServer::start(&[]).await;
    let negotiated = async |version: &str| {
        let answer = server.initialize(version).send().await;
        answer.expect_status(200);
        answer.json()["result"]["protocolVersion"].as_str().expect("a version").to_owned()
    };
    for version in sessioned() {
        assert_eq!(negotiated(version.as_str()).await, version.as_str());
    }
    for version in ["1999-01-01", "2026-07-28", "2099-12-31", "", "DRAFT-2025-v1"] {
        assert_eq!(negotiated(version).await, "2025-06-18");
    }
}

#[tokio::test]
async fn operators_choose_what_is_served() {
    let server = TestServer::start(&[
        ("MCP_PROTOCOL_VERSION", "2025-03-26"),
        ("MCP_PROTOCOL_VERSIONS_SUPPORTED", "2025-06-18, 2025-03-26"),
    ])
    .await;
    let answer = server.initialize("2025-11-25").send().await;
    assert_eq!(answer.json()["result"]["protocolVersion"], "2025-03-26");
    let answer =
        server.rpc("ping", json!({})).header("MCP-Protocol-Version", "2025-11-25").send().await;
    let error = answer.expect_error(400, -32000);
    assert_eq!(error["data"]["supported"], json!(["2025-06-18", "2025-03-26"]));
}

#[tokio::test]
async fn the_version_header_is_checked_but_the_handshake_decides() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    for header in ["2025-11-25", "2025-03-26"] {
        talk.rpc("ping", json!({}))
            .header("MCP-Protocol-Version", header)
            .send()
            .await
            .expect_status(200);
    }
    for header in ["1999-01-01", "latest", ""] {
        let answer =
            talk.rpc("ping", json!({})).header("MCP-Protocol-Version", header).send().await;
        answer.expect_error(400, -32000);
    }
    // The body's version decides what initialize is answered with, whatever its header says.
    for header in ["2025-06-18", "1999-01-01", "v999.0.0"] {
        let answer =
            server.initialize("2025-11-25").header("MCP-Protocol-Version", header).send().await;
        assert_eq!(answer.json()["result"]["protocolVersion"], "2025-11-25");
    }
}

#[tokio::test]
async fn who_asks_for_http_with_sse_is_told_that_it_is_not_offered() {
    let server = TestServer::start(&[]).await;
    for (path, status) in [("/sse", 404), ("/messages", 404), ("/mcp", 400)] {
        let asked = server.request("GET", path).header("Accept", "text/event-stream");
        let answer = asked.send().await;
        answer.expect_status(status);
        assert!(answer.text().contains("(HTTP+SSE is not offered)"), "{path}: {}", answer.text());
        assert!(answer.text().contains(if status == 404 { "/mcp" } else { "initialize" }));
    }
}

#[tokio::test]
async fn where_it_is_not_served_the_stateless_era_is_refused_with_what_is() {
    let versions = "2025-11-25,2025-06-18,2025-03-26,2024-11-05";
    let server = TestServer::start(&[("MCP_PROTOCOL_VERSIONS_SUPPORTED", versions)]).await;
    let meta = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}});
    for request in [
        server.rpc("server/discover", meta.clone()),
        server.rpc("tools/list", meta).header("MCP-Protocol-Version", "2026-07-28"),
        server.rpc("tools/list", json!({})).header("MCP-Protocol-Version", "v999.0.0"),
    ] {
        let error = request.send().await.expect_error(400, -32000);
        assert_eq!(error["data"]["supported"][0], "2025-11-25");
    }
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn notifications_and_responses_are_accepted_without_a_word() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    for body in [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/unheard_of","params":{"a":1}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":"no"}}"#,
    ] {
        let answer = talk.post(body).send().await;
        answer.expect_status(202);
        assert!(answer.body.is_empty());
    }
    assert_eq!(talk.info().await["initialized"], true);
}

#[tokio::test]
async fn ids_come_back_as_they_went() {
    let server = TestServer::start(&[]).await;
    for id in ["0", "-7", "9223372036854775808", r#""""#, r#""a\"b\u00e9""#, r#""é""#] {
        let answer =
            server.post(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)).send().await;
        assert_eq!(answer.text(), format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
    }
}

#[tokio::test]
async fn errors_have_the_id_of_their_request() {
    let server = TestServer::start(&[]).await;
    for version in sessioned() {
        let talk = server.session_of(0, version.as_str()).await;
        for id in
            [json!(0), json!(-7), json!("seven"), json!("1"), json!(9_007_199_254_740_993_u64)]
        {
            let body = |method: Value, params: Value| {
                json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
            };
            let post = |method: &str, params: Value| talk.post(body(json!(method), params));
            let ping = || body(json!("ping"), json!({}));
            for (request, status, code) in [
                (post("no/such", json!({})), 200, -32601),
                (post("tools/call", json!({"name": 7})), 200, -32602),
                (post("tools/call", json!({"name": "no such tool"})), 200, -32602),
                (post("resources/read", json!({"uri": "echo://nothing"})), 200, -32002),
                (post("ping", json!([])), 400, -32600),
                (talk.post(body(json!(7), json!({}))), 400, -32600),
                (talk.post(ping()).header("MCP-Protocol-Version", "1999-01-01"), 400, -32000),
                (server.post(ping()).header("Mcp-Session-Id", "nobody"), 404, -32001),
            ] {
                let answer = request.send().await;
                answer.expect_error(status, code);
                assert_eq!(answer.json()["id"], id, "{version}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn only_2025_03_26_has_batches() {
    let server = TestServer::start(&[]).await;
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"slow","delay":0.2}}},
        {"jsonrpc":"2.0","method":"notifications/initialized"},
        {"jsonrpc":"2.0","id":2,"method":"ping"},
        {"jsonrpc":"2.0","id":3,"method":"nothing"},
        {"jsonrpc":"2.0","id":4,"method":"initialize","params":{"protocolVersion":"2025-03-26"}},
        17]"#;
    for version in sessioned() {
        let talk = server.session_of(0, version.as_str()).await;
        let answer = talk.post(batch).send().await;
        if !version.has(Feature::Batches) {
            answer.expect_error(400, -32600);
            continue;
        }
        answer.expect_status(200);
        let answers = answer.json();
        let kinds: Vec<_> = answers
            .as_array()
            .expect("an array")
            .iter()
            .map(|answer| (answer["id"].clone(), answer["error"]["code"].clone()))
            .collect();
        let none = Value::Null;
        assert_eq!(
            kinds,
            [
                (json!(1), none.clone()),
                (json!(2), none.clone()),
                (json!(3), json!(-32601)),
                (json!(4), json!(-32600)),
                (none, json!(-32600)),
            ]
        );
        let info = talk.info().await;
        assert_eq!((&info["request_count"], &info["initialized"]), (&json!(1), &json!(true)));
        let silent =
            talk.post(r#"[{"jsonrpc":"2.0","method":"notifications/initialized"}]"#).send().await;
        silent.expect_status(202);
        let events = talk.post(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#);
        let events = events.header("Accept", "text/event-stream").send().await;
        assert_eq!(
            events.text(),
            "event: message\ndata: [{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}]\n\n"
        );
    }
}

#[tokio::test]
async fn the_answers_of_a_batch_are_bounded_together() {
    let server = TestServer::start(&[("MCP_ECHO_TOOLS__MAX_RESPONSE_BYTES", "100000")]).await;
    let talk = server.session_of(0, "2025-03-26").await;
    talk.ask("set_session_data", json!({"key": "k", "value": "x".repeat(40_000)})).await;
    let call = |tool: &str, arguments: Value| {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": tool, "arguments": arguments}})
    };
    let post = async |messages: &[Value]| {
        let answer = talk.post(json!(messages).to_string()).send().await;
        answer.expect_status(200);
        answer.json().as_array().expect("an array").clone()
    };
    // Each answer holds the value twice: as text and as structure.
    let answers = post(&vec![call("get_session_data", json!({"key": "k"})); 10]).await;
    let whole = answers.iter().filter(|answer| answer["error"].is_null()).count();
    assert_eq!((answers.len(), whole), (10, 2));
    assert_eq!(answers[9]["error"]["code"], -32602);
    // A tool whose answers may be large has no place there at all: several would be composed at once.
    let answers = post(&vec![call("big_response", json!({"bytes": 10})); 2]).await;
    assert!(answers.iter().all(|answer| answer["error"]["code"] == -32602), "{answers:?}");
    assert_eq!(talk.ask("big_response", json!({"bytes": 10})).await["bytes"], 10);
}

#[tokio::test]
async fn one_batch_without_an_id_makes_one_session() {
    let server = TestServer::start(&[]).await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"x"}}}"#;
    let answer = server.post(format!("[{call},{call}]")).send().await;
    answer.expect_status(200);
    assert!(answer.header("mcp-session-id").is_some());
    assert_eq!(answer.json()[1]["result"]["structuredContent"]["request_count"], 2);
    assert_eq!(server.created(), 1);
}

#[tokio::test]
async fn a_client_without_an_accept_header_is_answered_in_json() {
    let server = TestServer::start(&[]).await;
    for accept in
        [None, Some("*/*"), Some("application/json"), Some("application/json, text/event-stream")]
    {
        let request = server.initialize("2025-06-18");
        let request = match accept {
            Some(accept) => request.header("Accept", accept),
            None => request,
        };
        let answer = request.send().await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        // The seed page's health check looks for these very characters.
        assert!(answer.text().contains(r#""protocolVersion":"2025-06-18""#));
    }
}
