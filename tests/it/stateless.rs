//! Revision 2026-07-28: every request stands for itself, with what it carries alone.

use mcp_echo_stateful::{failure::Failure, server::Stopped, wire::version::Era};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::{
    events::Events,
    modern::{
        FIXTURES, META_CAPABILITIES, META_LOG_LEVEL, META_SERVER, META_VERSION, TASKS, VERSION,
        messages,
    },
    support::{Connection, TestServer, eventually, instance_host},
};

/// What is served by default, as it is told: newest first.
const SERVED: [&str; 5] = [VERSION, "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

const HEADER_MISMATCH: i64 = -32020;
const MISSING_CAPABILITY: i64 = -32021;
const UNSUPPORTED_VERSION: i64 = -32022;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;

#[tokio::test]
async fn discover_tells_all_that_there_is_to_know() {
    let server = TestServer::start(&[]).await;
    let result = server.modern("server/discover", json!({})).result().await;
    assert_eq!(result["resultType"], "complete");
    assert_eq!(result["supportedVersions"], json!(SERVED));
    assert!(result["ttlMs"].as_u64().is_some(), "{result:?}");
    // Nothing in it depends on who asks.
    assert_eq!(result["cacheScope"], "public");
    let capabilities = &result["capabilities"];
    assert_eq!(capabilities["tools"], json!({"listChanged": true}));
    assert_eq!(capabilities["prompts"], json!({"listChanged": true}));
    assert_eq!(capabilities["resources"]["subscribe"], true);
    assert_eq!(capabilities["logging"], json!({}));
    assert_eq!(capabilities["completions"], json!({}));
    assert_eq!(capabilities["extensions"], json!({TASKS: {}}));
    assert!(capabilities.get("tasks").is_none(), "the experimental tasks of 2025-11-25 are gone");
    assert_eq!(result["_meta"][META_SERVER]["name"], "mcp-echo-streamablehttp-stateful");
    assert!(result["instructions"].is_string());
}

#[tokio::test]
async fn every_result_says_its_type_and_who_answers() {
    let server = TestServer::start(&[FIXTURES]).await;
    // `result` asserts what every result must say.
    for (method, params) in [
        ("server/discover", json!({})),
        ("tools/list", json!({})),
        ("prompts/list", json!({})),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("resources/read", json!({"uri": "echo://server"})),
    ] {
        let result = server.modern(method, params).result().await;
        assert_eq!(result["resultType"], "complete");
        assert!(result["ttlMs"].as_u64().is_some(), "{method}: {result:?}");
        let scope = result["cacheScope"].as_str();
        assert!(matches!(scope, Some("public" | "private")), "{method}: {result:?}");
    }
    let prompt = json!({"name": "echo", "arguments": {"message": "x"}});
    let reference = json!({"type": "ref/prompt", "name": "echo"});
    let argument = json!({"name": "format", "value": "p"});
    let completion = json!({"ref": reference, "argument": argument});
    for request in [
        server.modern("prompts/get", prompt),
        server.modern("completion/complete", completion).without("Mcp-Name"),
        server.modern_call("echo", json!({"message": "x"})),
        server.modern_call("echo", json!({})),
        server.modern_call("test_error_handling", json!({})),
    ] {
        let result = request.result().await;
        assert_eq!(result["resultType"], "complete");
        assert_eq!(result.get("ttlMs"), None, "only what may be cached says so: {result:?}");
    }
    let ask = server.modern_call("test_input_required_result_elicitation", json!({}));
    let result = ask.capabilities(json!({"elicitation": {}})).result().await;
    assert_eq!(result["resultType"], "input_required");
    assert_eq!(result.get("ttlMs"), None);
    let task = server.modern_call("slow_compute", json!({"seconds": 0})).with_tasks();
    assert_eq!(task.result().await["resultType"], "task");
}

#[tokio::test]
async fn ids_come_back_in_results_and_errors() {
    let server = TestServer::start(&[]).await;
    for id in [json!(0), json!(-7), json!("seven"), json!("1"), json!(9_007_199_254_740_993_u64)] {
        server.modern("tools/list", json!({})).id(id.clone()).result().await;
        let unknown = server.modern("no/such", json!({})).id(id.clone());
        unknown.refused(404, METHOD_NOT_FOUND).await;
        let bare = server.modern("tools/list", json!({})).id(id).without_param("_meta");
        bare.refused(400, INVALID_PARAMS).await;
    }
}

#[tokio::test]
async fn a_session_id_is_neither_looked_at_nor_given() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    let before = server.created();
    // `send` asserts that no answer carries one.
    for id in [talk.id.as_str(), "0a1b2c3d-0000-8000-8000-000000000000", "nonsense"] {
        let request = server.modern_call("echo", json!({"message": "x"}));
        let echo = request.header("Mcp-Session-Id", id).header("Last-Event-ID", "1-1");
        assert_eq!(echo.structured().await["session_id"], Value::Null);
        let refused = server.modern("ping", json!({})).header("Mcp-Session-Id", id);
        refused.refused(404, METHOD_NOT_FOUND).await;
    }
    assert_eq!(server.created(), before);
    assert_eq!(talk.info().await["request_count"], 0);
}

#[tokio::test]
async fn what_every_request_must_carry_is_asked_for() {
    let server = TestServer::start(&[]).await;
    let list = || server.modern("tools/list", json!({}));
    for bare in [
        list().without_param("_meta"),
        list().param("_meta", json!({})),
        list().param("_meta", json!({"progressToken": 1})),
        list().without_meta(META_VERSION),
        list().without_meta(META_CAPABILITIES),
        list().meta(META_VERSION, 20_260_728),
        list().meta(META_CAPABILITIES, "all"),
        list().meta(META_CAPABILITIES, json!([])),
        list().param("_meta", "text"),
    ] {
        bare.refused(400, INVALID_PARAMS).await;
    }
    // No params at all.
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    let answer = list().around(body).send().await;
    answer.expect_error(400, INVALID_PARAMS);
    // What may be missing.
    list().without_meta("io.modelcontextprotocol/clientInfo").result().await;
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn what_the_connection_has_said_before_counts_for_nothing() {
    // basic/index, "Statelessness".
    let server = TestServer::start(&[FIXTURES]).await;
    let able = || {
        let call = server.modern_call("test_missing_capability", json!({}));
        call.capabilities(json!({"sampling": {}}))
    };
    let mut connection = Connection::open(server.address).await;
    for (later, code) in [
        (able().without_param("_meta"), INVALID_PARAMS),
        (able().without_meta(META_VERSION), INVALID_PARAMS),
        (able().without_meta(META_CAPABILITIES), INVALID_PARAMS),
        (able().capabilities(json!({})), MISSING_CAPABILITY),
        (able().without("MCP-Protocol-Version"), HEADER_MISMATCH),
        (able().without("Mcp-Method"), HEADER_MISMATCH),
    ] {
        connection.write(&able().build().bytes()).await;
        let answer = connection.answer().await;
        assert!(answer.text().contains("can sample"), "{answer:?}");
        connection.write(&later.build().bytes()).await;
        connection.answer().await.expect_error(400, code);
    }
    let logs = || server.modern_call("test_logging_tool", json!({}));
    for (request, count) in [(logs().meta(META_LOG_LEVEL, "debug"), 2), (logs(), 1)] {
        connection.write(&request.build().bytes()).await;
        assert_eq!(messages(&connection.answer().await).len(), count);
    }
}

#[tokio::test]
async fn an_unserved_version_is_told_what_is_served() {
    let server = TestServer::start(&[]).await;
    for version in ["1999-01-01", "2026-07-29", "2027-01-01", "v999.0.0", "2025-11-25", ""] {
        let request = server.modern("tools/list", json!({}));
        let request = request.header("MCP-Protocol-Version", version).meta(META_VERSION, version);
        let error = request.refused(400, UNSUPPORTED_VERSION).await;
        assert_eq!(error["data"]["supported"], json!(SERVED), "{version}");
        assert_eq!(error["data"]["requested"], version);
        // What is served, but not in this way, is told how to be.
        let text = error["message"].as_str().expect("a text");
        assert_eq!(text.contains("initialize"), version == "2025-11-25", "{text}");
    }
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn what_is_served_is_told_newest_first_however_it_is_configured() {
    let versions = "2025-06-18,2026-07-28,2024-11-05";
    let sessions = ("MCP_ECHO_INSTANCES__3__PROTOCOL__VERSIONS", "2025-06-18,2025-11-25");
    let server =
        TestServer::start(&[("MCP_PROTOCOL_VERSIONS_SUPPORTED", versions), sessions]).await;
    let served = json!([VERSION, "2025-06-18", "2024-11-05"]);
    let discovered = server.modern("server/discover", json!({})).result().await;
    assert_eq!(discovered["supportedVersions"], served);
    let list = server.modern("tools/list", json!({})).meta(META_VERSION, "2027-01-01");
    let list = list.header("MCP-Protocol-Version", "2027-01-01");
    let error = list.refused(400, UNSUPPORTED_VERSION).await;
    assert_eq!(error["data"]["supported"], served);
    let ping = server.rpc("ping", json!({})).header("MCP-Protocol-Version", "2025-11-25");
    let error = ping.send().await.expect_error(400, -32000);
    assert_eq!(error["data"]["supported"], served);
    // An instance of the sessioned revisions tells it as well.
    let list = server.modern("tools/list", json!({})).on(3).meta(META_VERSION, "2025-11-25");
    let error = list.without("MCP-Protocol-Version").refused(400, -32000).await;
    assert_eq!(error["data"]["supported"], json!(["2025-11-25", "2025-06-18"]));
    assert!(error["message"].as_str().is_some_and(|text| text.contains("initialize")), "{error}");
}

#[tokio::test]
async fn an_unserved_version_is_refused_whatever_it_comes_on() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let call = talk.call("stream_ticks", json!({"count": 20, "interval_ms": 50}));
    let mut running = Events::open(call.header("Accept", "text/event-stream")).await;
    let notice = |params: Value| {
        let method = "notifications/cancelled";
        json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
    };
    let cancel = notice(json!({"requestId": 1}));
    let claiming =
        |version: &str| notice(json!({"requestId": 1, "_meta": {META_VERSION: version}}));
    for version in ["2026-07-29", "2027-01-01", "2099-12-31"] {
        let named = ("MCP-Protocol-Version", version);
        for request in [
            talk.post(cancel.clone()).header(named.0, named.1),
            talk.post(claiming(version)).header(named.0, named.1),
            talk.post(claiming(version)),
            talk.request("GET").header("Accept", "text/event-stream").header(named.0, named.1),
            talk.request("DELETE").header(named.0, named.1),
        ] {
            let answer = request.send().await;
            let error = answer.expect_error(400, UNSUPPORTED_VERSION);
            let data = json!({"supported": SERVED, "requested": version});
            assert_eq!(error["data"], data);
            assert_eq!(answer.json().get("id"), None, "{answer:?}");
        }
    }
    let posted = |body: String| server.post(body).header("MCP-Protocol-Version", VERSION);
    let answer = posted(claiming("2099-12-31")).send().await;
    answer.expect_error(400, HEADER_MISMATCH);
    assert_eq!(answer.json().get("id"), None, "{answer:?}");
    for fine in [cancel.clone(), claiming(VERSION)] {
        posted(fine).send().await.expect_status(202);
    }
    server.post(claiming(VERSION)).send().await.expect_status(202);
    let said = running.messages().await;
    assert!(said.last().is_some_and(|last| last.get("result").is_some()), "cancelled: {said:?}");
}

#[tokio::test]
async fn methods_that_are_gone_or_unknown_are_404() {
    let server = TestServer::start(&[FIXTURES]).await;
    for method in [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "tasks/result",
        "tasks/list",
        "no/such",
        "Tools/List",
        "",
    ] {
        let params = json!({"protocolVersion": VERSION, "uri": "test://static-text"});
        let error = server.modern(method, params).refused(404, METHOD_NOT_FOUND).await;
        assert!(error["message"].as_str().is_some_and(|text| text.contains(method)), "{error}");
    }
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn a_capability_that_is_needed_is_asked_for() {
    let server = TestServer::start(&[FIXTURES]).await;
    let prompt = json!({"prompt": "x"});
    let message = json!({"message": "x"});
    let form = json!({"elicitation": {"form": {}}});
    for (tool, arguments, capabilities, required) in [
        ("test_missing_capability", json!({}), json!({}), json!({"sampling": {}})),
        ("test_sampling", prompt, json!({"elicitation": {}}), json!({"sampling": {}})),
        ("test_elicitation", message.clone(), json!({}), form.clone()),
        ("test_elicitation", message.clone(), json!({"sampling": {}}), form.clone()),
        // A client that can do URLs alone cannot fill forms in.
        ("test_elicitation", message, json!({"elicitation": {"url": {}}}), form),
        (
            "test_elicitation_url",
            json!({}),
            json!({"elicitation": {}}),
            json!({"elicitation": {"url": {}}}),
        ),
        ("test_list_roots", json!({}), json!({}), json!({"roots": {}})),
        ("failing_job", json!({}), json!({}), json!({"extensions": {TASKS: {}}})),
    ] {
        let request = server.modern_call(tool, arguments).capabilities(capabilities);
        let error = request.refused(400, MISSING_CAPABILITY).await;
        assert_eq!(error["data"]["requiredCapabilities"], required, "{tool}");
    }
    let only_urls = json!({"elicitation": {"url": {}}});
    let url = server.modern_call("test_elicitation_url", json!({})).capabilities(only_urls);
    let result = url.result().await;
    let question = result["inputRequests"]["page"].clone();
    assert_eq!(question["params"]["mode"], "url", "{result:?}");
    // Gone with the notification that it was for.
    assert_eq!(question["params"].get("elicitationId"), None);
    let can = server.modern_call("test_missing_capability", json!({}));
    can.capabilities(json!({"sampling": {}})).text().await;
}

#[tokio::test]
async fn all_missing_capabilities_are_listed() {
    let server = TestServer::start(&[FIXTURES]).await;
    let form = json!({"form": {}});
    for (capabilities, required) in [
        (json!({}), json!({"elicitation": form, "sampling": {}, "roots": {}})),
        (json!({"elicitation": {}}), json!({"sampling": {}, "roots": {}})),
        (
            json!({"roots": {}, "elicitation": {"url": {}}}),
            json!({"elicitation": form, "sampling": {}}),
        ),
    ] {
        let tool = "test_input_required_result_multiple_inputs";
        let call = server.modern_call(tool, json!({})).capabilities(capabilities.clone());
        let error = call.refused(400, MISSING_CAPABILITY).await;
        assert_eq!(error["data"]["requiredCapabilities"], required, "{capabilities}");
    }
}

#[tokio::test]
async fn notifications_are_accepted_and_responses_are_not() {
    let server = TestServer::start(&[]).await;
    let list = || server.modern("tools/list", json!({}));
    for body in [
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/unheard_of"}"#,
    ] {
        let answer = list().without("Mcp-Method").around(body).send().await;
        answer.expect_status(202);
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("mcp-session-id"), None);
    }
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}"#,
    ] {
        let answer = list().around(body).send().await;
        answer.expect_error(400, INVALID_REQUEST);
    }
    // What is no notification is not answered as if it were a request.
    for body in [
        r#"{"jsonrpc":"1.0","method":"notifications/cancelled"}"#,
        r#"{"jsonrpc":"2.0","method":7}"#,
        r#"{"jsonrpc":"2.0","params":{"requestId":1}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":[1]}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":"all"}"#,
    ] {
        let answer = list().without("Mcp-Method").around(body).send().await;
        answer.expect_error(400, INVALID_REQUEST);
        assert_eq!(answer.json().get("id"), None, "{answer:?}");
    }
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn batches_are_refused_by_header_or_claim() {
    let server = TestServer::start(&[]).await;
    let one = server.modern("tools/list", json!({})).body();
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
    let with_header =
        server.modern("tools/list", json!({})).around(json!([ping.clone()]).to_string());
    for request in [
        with_header,
        server.post(json!([one]).to_string()),
        server.post(json!([ping, one]).to_string()),
        server.post(json!([one]).to_string()).header("MCP-Protocol-Version", "2025-03-26"),
    ] {
        let answer = request.send().await;
        answer.expect_error(400, INVALID_REQUEST);
        assert_eq!(answer.header("mcp-session-id"), None);
    }
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn there_is_nothing_but_post() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    for method in ["GET", "DELETE"] {
        let request = talk.request(method).header("MCP-Protocol-Version", VERSION);
        let answer = request.header("Accept", "text/event-stream").send().await;
        answer.expect_status(405);
        let allow = answer.header("allow").expect("Allow");
        assert!(allow.contains("POST") && !allow.contains(method), "{allow}");
    }
    talk.rpc("ping", json!({})).send().await.expect_status(200);
}

#[tokio::test]
async fn a_foreign_page_is_turned_away_whatever_its_host_says() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    let evil = ("Origin", "https://evil.example.net");
    for request in [
        server.modern("tools/list", json!({})).build(),
        server.modern("server/discover", json!({})).without("Mcp-Method").build(),
        server.initialize("2025-11-25"),
        talk.rpc("ping", json!({})),
        talk.request("GET"),
        talk.request("DELETE"),
    ] {
        request.header(evil.0, evil.1).send().await.expect_status(403);
    }
    talk.rpc("ping", json!({})).send().await.expect_status(200);
    let own = format!("http://localhost:{}", server.address.port());
    server.modern("tools/list", json!({})).header("Origin", &own).result().await;
}

#[tokio::test]
async fn bodies_and_answers_have_their_types() {
    let server = TestServer::start(&[]).await;
    let list = || server.modern("tools/list", json!({}));
    for accept in ["text/html", "application/xml, image/*", "application/json;q=0"] {
        let answer = list().header("Accept", accept).send().await;
        assert_eq!(answer.status, 406, "{accept}: {answer:?}");
    }
    let body = list().body().to_string();
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\n";
    for content_type in ["", "Content-Type: text/plain\r\n"] {
        let mut connection = Connection::open(server.address).await;
        let length = body.len();
        let request = format!("{head}{content_type}Content-Length: {length}\r\n\r\n{body}");
        connection.write(request.as_bytes()).await;
        connection.answer().await.expect_status(415);
    }
    for (accept, form) in [
        ("application/json, text/event-stream", "application/json"),
        ("text/event-stream, application/json", "application/json"),
        ("*/*", "application/json"),
        ("Application/JSON; q=0.1", "application/json"),
        ("application/json;q=0, */*", "text/event-stream"),
        ("text/*, application/json;q=0", "text/event-stream"),
        ("*/*;q=0, text/*", "text/event-stream"),
        ("application/json", "application/json"),
        ("text/event-stream", "text/event-stream"),
    ] {
        let answer = list().header("Accept", accept).send().await;
        answer.expect_status(200);
        assert_eq!(answer.header("content-type"), Some(form), "{accept}");
    }
}

#[tokio::test]
async fn a_client_that_takes_only_events_is_served_by_events() {
    let server = TestServer::start(&[FIXTURES]).await;
    let only =
        |request: crate::modern::Modern<'_>| request.header("Accept", "text/event-stream").build();
    for request in [
        server.modern("server/discover", json!({})),
        server.modern_call("echo", json!({"message": "x"})),
        server.modern_call("echo", json!({"message": "x", "delay": 0.05})),
        server.modern_call("test_error_handling", json!({})),
        server.modern_call("stream_ticks", json!({"count": 1, "interval_ms": 1})),
    ] {
        let answer = only(request).send().await;
        answer.expect_status(200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        let found = messages(&answer);
        assert_eq!(found.len(), 1, "{answer:?}");
        assert!(found[0]["result"]["resultType"].is_string(), "{answer:?}");
        let resumable =
            answer.text().lines().any(|line| line.starts_with("id") || line.starts_with("retry"));
        assert!(!resumable, "streams cannot be resumed: {answer:?}");
    }
}

#[tokio::test]
async fn an_instance_of_this_revision_alone_answers_no_other() {
    let server = TestServer::start(&[("MCP_ECHO_INSTANCES__3__PROTOCOL__VERSIONS", VERSION)]).await;
    let host = instance_host(3);
    server.modern("tools/list", json!({})).on(3).result().await;
    let error = server.initialize("2025-11-25").host(&host).send().await;
    let error = error.expect_error(400, UNSUPPORTED_VERSION);
    assert_eq!(error["data"], json!({"supported": [VERSION], "requested": "2025-11-25"}));
    // Whatever it is refused for, this may be all that a client's user gets to see.
    for header in ["2025-06-18", VERSION] {
        let request = server.initialize("2025-06-18").host(&host);
        let answer = request.header("MCP-Protocol-Version", header).send().await;
        answer.expect_status(400);
        assert!(answer.text().contains(VERSION), "{header}: {answer:?}");
    }
    let id = server.session(0).await.id;
    for (method, params) in
        [("ping", json!({})), ("tools/list", json!({})), ("tools/call", json!({"name": "echo"}))]
    {
        let request = server.rpc(method, params.clone()).host(&host);
        request.send().await.expect_error(400, HEADER_MISMATCH);
        let request = server.rpc(method, params).host(&host).header("Mcp-Session-Id", &id);
        request.send().await.expect_error(400, HEADER_MISMATCH);
    }
    for method in ["GET", "DELETE"] {
        let request = server.request(method, "/mcp").host(&host);
        let answer = request.header("Mcp-Session-Id", &id).send().await;
        answer.expect_status(405);
        assert!(answer.header("allow").is_some_and(|allow| allow.contains("POST")), "{answer:?}");
    }
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#;
    server.post(batch).host(&host).send().await.expect_error(400, INVALID_REQUEST);
    assert_eq!(server.instances[3].state.sessions.counts().created, 0);
}

#[tokio::test]
async fn an_instance_of_the_sessioned_revisions_alone_makes_clients_fall_back() {
    let versions = ("MCP_ECHO_INSTANCES__3__PROTOCOL__VERSIONS", "2025-11-25,2025-06-18");
    let server = TestServer::start(&[versions]).await;
    let host = instance_host(3);
    for request in [
        server.modern("server/discover", json!({})),
        server.modern("tools/list", json!({})),
        server.modern_call("echo", json!({"message": "x"})),
        server.modern("tools/list", json!({})).without("MCP-Protocol-Version"),
        server.modern("tools/list", json!({})).without_param("_meta"),
        server.modern("tools/list", json!({})).header("MCP-Protocol-Version", "2025-11-25"),
    ] {
        let answer = request.on(3).send().await;
        answer.expect_status(400);
        // A client that recognized one of these would take the server for a modern one.
        let code = answer.json()["error"]["code"].as_i64().expect("a code");
        assert!(!(-32099..=-32020).contains(&code), "{answer:?}");
        assert!(![INVALID_PARAMS, METHOD_NOT_FOUND].contains(&code), "{answer:?}");
    }
    // An unsupported version on GET and DELETE is what these revisions answer with 400.
    for method in ["GET", "DELETE"] {
        let request = server.request(method, "/mcp").host(&host);
        let answer = request.header("MCP-Protocol-Version", VERSION).send().await;
        answer.expect_status(400);
    }
    assert_eq!(server.created(), 0);
    let answer = server.initialize(VERSION).host(&host).send().await;
    answer.expect_status(200);
    assert_eq!(answer.json()["result"]["protocolVersion"], "2025-06-18");
}

#[tokio::test]
async fn log_messages_come_if_the_request_asks_and_only_then() {
    let server = TestServer::start(&[FIXTURES]).await;
    let levels = async |tool: &str, level: Option<&str>| -> Vec<Value> {
        let request = server.modern_call(tool, json!({}));
        let request = match level {
            Some(level) => request.meta(META_LOG_LEVEL, level),
            None => request,
        };
        let messages = messages(&request.send().await);
        let (last, logged) = messages.split_last().expect("an answer");
        assert!(last["result"].is_object(), "the response comes last: {last}");
        let all = logged.iter().filter(|message| message["method"] == "notifications/message");
        all.map(|message| message["params"]["level"].clone()).collect()
    };
    assert_eq!(levels("test_logging_tool", None).await, [] as [Value; 0]);
    assert_eq!(levels("test_tool_with_logging", None).await, [] as [Value; 0]);
    for level in ["debug", "info", "notice", "warning", "error"] {
        assert_eq!(levels("test_logging_tool", Some(level)).await, ["error"], "{level}");
    }
    for level in ["critical", "alert", "emergency"] {
        assert_eq!(levels("test_logging_tool", Some(level)).await, [] as [Value; 0], "{level}");
    }
    assert_eq!(levels("test_tool_with_logging", Some("info")).await, ["info", "info", "info"]);
    assert_eq!(levels("test_tool_with_logging", Some("notice")).await, [] as [Value; 0]);
    for wrong in [json!("loud"), json!("ERROR"), json!(3)] {
        let request = server.modern_call("test_logging_tool", json!({}));
        let answer = request.meta(META_LOG_LEVEL, wrong).send().await;
        assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{answer:?}");
    }
}

#[tokio::test]
async fn progress_comes_in_order_with_the_token_that_was_sent() {
    let server = TestServer::start(&[FIXTURES]).await;
    for token in [json!("abc"), json!("7"), json!(7), json!(0)] {
        let request = server.modern_call("stream_ticks", json!({"count": 4, "interval_ms": 5}));
        let request = request.meta("progressToken", token.clone()).id("call");
        let mut events = Events::open(request.build()).await;
        let messages = events.messages().await;
        let (response, progress) = messages.split_last().expect("messages");
        assert_eq!(response["id"], "call");
        assert_eq!(response["result"]["structuredContent"]["streamed"], true);
        let seen: Vec<_> = progress
            .iter()
            .map(|message| {
                assert_eq!(message["method"], "notifications/progress");
                assert_eq!(message["params"]["progressToken"], token);
                assert_eq!(message["params"]["total"], 4.0);
                let text = message["params"]["message"].as_str().expect("a text for people");
                assert!(text.starts_with("tick ") && text.contains(" of 4"), "{text}");
                message["params"]["progress"].as_f64().expect("a number")
            })
            .collect();
        assert_eq!(seen, [1.0, 2.0, 3.0, 4.0]);
    }
    for wrong in [json!({}), json!([1]), json!(true)] {
        let request = server.modern_call("stream_ticks", json!({"count": 1}));
        let answer = request.meta("progressToken", wrong).send().await;
        assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{answer:?}");
    }
    // Without a token there is no progress, and a client without events gets one document.
    let request = server.modern_call("stream_ticks", json!({"count": 2, "interval_ms": 1}));
    assert_eq!(messages(&request.clone().send().await).len(), 1);
    let request = request.meta("progressToken", 1).header("Accept", "application/json");
    assert_eq!(request.structured().await["streamed"], false);
}

#[tokio::test]
async fn events_go_out_when_they_happen() {
    let server = TestServer::start(&[]).await;
    let request = server.modern_call("stream_ticks", json!({"count": 3, "interval_ms": 1000}));
    let start = Instant::now();
    let mut events = Events::open(request.meta("progressToken", 1).build()).await;
    let first = events.message().await;
    assert_eq!(first["params"]["progress"], 1.0);
    assert_eq!(server.instances[0].state.calls.count(), 1, "held back until the call has ended");
    assert_eq!(events.messages().await.len(), 3);
    assert!(start.elapsed() >= Duration::from_secs(3));
}

#[tokio::test]
async fn closing_the_response_cancels() {
    let server = TestServer::start(&[]).await;
    let handle = server.handle(0).await;
    let ticks = json!({"count": 10, "interval_ms": 3000});
    let mut stream =
        Events::open(server.modern_call("stream_ticks", ticks).meta("progressToken", 1).build())
            .await;
    stream.expect_quiet().await;
    let echo = json!({"message": "x", "delay": 30, "session": handle});
    let json = server.modern_call("echo", echo.clone()).header("Accept", "application/json");
    let events = server.modern_call("echo", echo).header("Accept", "text/event-stream");
    let (json, events) = (json.begin().await, events.begin().await);
    eventually(|| server.instances[0].state.calls.count() == 3).await;
    drop((stream, json, events));
    // A short call that is left alone completes; those that were left do not.
    let kept = json!({"message": "x", "delay": 0.2, "session": handle});
    let echo = server.modern_call("echo", kept).structured().await;
    assert_eq!(echo["request_count"], 1);
    // Were any of them still at work, this would wait for it and then cut it off.
    let start = Instant::now();
    server.stop();
    assert_eq!(server.stopped().await, Stopped::Clean);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_cancelled_call_leaves_its_session_as_it_was() {
    let server = TestServer::start(&[FIXTURES]).await;
    let handle = server.handle(0).await;
    let under_way = || server.instances[0].state.calls.count();
    for accept in ["application/json", "text/event-stream"] {
        let arguments = json!({"message": "lost", "delay": 5, "session": handle});
        let call = server.modern_call("echo", arguments).header("Accept", accept).begin().await;
        eventually(|| under_way() == 1).await;
        drop(call);
        eventually(|| under_way() == 0).await;
    }
    let session = json!({"session": handle});
    let info = server.modern_call("get_session_info", session.clone()).structured().await;
    assert_eq!(info["request_count"], 0);
    let last = server.modern_call("replayLastEcho", session).structured().await;
    assert_eq!(last["found"], false);
}

#[tokio::test]
async fn the_time_of_a_session_waits_for_its_call_and_not_for_one_that_was_left() {
    let server = TestServer::start(&[("MCP_ECHO_SESSION__TIMEOUT_SECONDS", "2")]).await;
    let handle = server.handle(0).await;
    let echo = |delay: f64| json!({"message": "x", "delay": delay, "session": handle});
    server.modern_call("echo", echo(3.0)).structured().await;
    let left = server.modern_call("echo", echo(30.0)).begin().await;
    eventually(|| server.instances[0].state.calls.count() == 1).await;
    drop(left);
    eventually(|| server.instances[0].state.sessions.counts().live == 0).await;
}

#[tokio::test]
async fn bad_arguments_are_told_and_do_no_harm() {
    let server = TestServer::start(&[]).await;
    for arguments in [json!({}), json!({"message": 7}), json!({"message": "x", "extra": 1})] {
        let text = server.modern_call("echo", arguments).tool_error().await;
        assert!(text.contains("echo"), "{text}");
    }
    for params in [json!({"name": "nothing"}), json!({"name": "echo", "arguments": []})] {
        let answer = server.modern("tools/call", params).send().await;
        assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{answer:?}");
    }
    for params in [json!({}), json!({"name": 7})] {
        let answer = server.modern("tools/call", params).header("Mcp-Name", "echo").send().await;
        let code = answer.json()["error"]["code"].as_i64().expect("a code");
        assert!([INVALID_PARAMS, HEADER_MISMATCH].contains(&code), "{answer:?}");
    }
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn no_error_uses_a_code_that_this_revision_gave_up() {
    // basic/index, "Error Codes": -32000 to -32019 should not be used, -32002 and -32042 must not.
    let limits = [("MCP_ECHO_STREAM__MAX_SUBSCRIPTIONS", "0"), ("MCP_ECHO_TASKS__CAPACITY", "0")];
    let server = TestServer::start(&[FIXTURES, limits[0], limits[1]]).await;
    let list = || server.modern("tools/list", json!({}));
    let listen = || server.modern("subscriptions/listen", json!({"notifications": {}}));
    let answers = [
        listen().send().await,
        listen().header("Accept", "application/json").send().await,
        list().header("Accept", "text/html").send().await,
        server.modern_call("slow_compute", json!({})).with_tasks().send().await,
        server.modern("resources/read", json!({"uri": "test://nothing"})).send().await,
        server.request("GET", "/mcp").header("MCP-Protocol-Version", VERSION).send().await,
        list().build().header("MCP-Protocol-Version", VERSION).send().await,
    ];
    let mut used = Vec::new();
    for answer in answers {
        assert!(answer.status >= 400 || answer.json()["error"].is_object(), "{answer:?}");
        let code = answer.json()["error"]["code"].as_i64().expect("a code");
        if (-32019..=-32000).contains(&code) || code == -32042 {
            used.push((answer.status, code, answer.text()));
        }
    }
    assert!(used.is_empty(), "{used:#?}");
}

#[test]
fn the_codes_of_the_specification_are_used_for_what_it_says() {
    // basic/index, "Error Codes": from -32020 to -32099 no code but those that are defined.
    let rows = Failure::ROWS.iter().filter(|row| row.eras.contains(&Era::Stateless));
    let reserved = rows.filter(|row| (-32099..=-32020).contains(&row.code[1]));
    let mut used: Vec<_> = reserved
        .flat_map(|row| row.outcomes.iter().map(move |outcome| (row.code[1], outcome.as_str())))
        .collect();
    used.sort_unstable();
    let defined = [
        (-32022, "unsupported_revision"),
        (-32021, "missing_capability"),
        (-32020, "header_mismatch"),
    ];
    assert_eq!(used, defined);
}

#[tokio::test]
async fn a_client_that_disappears_leaves_nothing_behind() {
    let server = TestServer::start(&[FIXTURES]).await;
    let instance = &server.instances[0];
    let handle = server.handle(0).await;
    let before = (
        instance.state.sessions.counts().live,
        instance.state.tasks.len(),
        instance.state.subscriptions.open(),
    );
    let listen = json!({"notifications": {"toolsListChanged": true}});
    let ticks = json!({"count": 20, "interval_ms": 1000});
    let echo = json!({"message": "x", "delay": 30, "session": handle});
    let requests = || {
        [
            server.modern("subscriptions/listen", listen.clone()),
            server.modern_call("stream_ticks", ticks.clone()).meta("progressToken", 1),
            server.modern_call("echo", echo.clone()),
            server.modern_call("echo", echo.clone()).header("Accept", "text/event-stream"),
            server
                .modern_call("test_input_required_result_elicitation", json!({}))
                .capabilities(json!({"elicitation": {}})),
            server.modern_call("big_response", json!({"bytes": 1_000_000})),
        ]
    };
    let mut gone = Vec::new();
    for request in requests() {
        // In the middle of the head, of the body, and while the answer is under way.
        let bytes = request.build().bytes();
        for part in [20, bytes.len() - 10, bytes.len()] {
            let mut connection = Connection::open(server.address).await;
            connection.write(&bytes[..part]).await;
            gone.push(connection);
        }
    }
    eventually(|| instance.state.subscriptions.open() == 1).await;
    sleep(Duration::from_millis(100)).await;
    drop(gone);
    eventually(|| {
        (
            instance.state.sessions.counts().live,
            instance.state.tasks.len(),
            instance.state.subscriptions.open(),
        ) == before
    })
    .await;
    let session = json!({"session": handle});
    let info = server.modern_call("get_session_info", session).structured().await;
    assert_eq!(info["request_count"], 0);
    server.stop();
    assert_eq!(server.stopped().await, Stopped::Clean, "nothing is still at work");
}
