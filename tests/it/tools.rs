//! The tools: what they say about themselves, and that they do it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{modern::FIXTURES, support::TestServer};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mcp_echo_stateful::{
    config::ToolSet,
    tools,
    wire::version::{Era, Feature, ProtocolVersion},
};
use serde_json::{Value, json};

/// Fit arguments for the tools that need some.
fn fit_arguments(tool: &str) -> Value {
    match tool {
        "echo" => json!({"message": "hello"}),
        "set_session_data" => json!({"key": "k", "value": [1]}),
        "stream_ticks" => json!({"count": 2, "interval_ms": 1}),
        "big_response" => json!({"bytes": 1000}),
        _ => json!({}),
    }
}

/// Some clients map a schema onto a dialect in which it has one type.
#[tokio::test]
async fn no_schema_has_a_list_of_types() {
    fn count(schema: &Value, nullable: &mut usize) {
        assert!(!schema["type"].is_array(), "{schema}");
        let parts = schema.as_object().into_iter().flat_map(|all| all.values());
        let items = schema.as_array().into_iter().flatten();
        *nullable += usize::from(schema["anyOf"][1]["type"] == "null");
        parts.chain(items).for_each(|part| count(part, nullable));
    }
    let server = TestServer::start(&[FIXTURES]).await;
    let list = server.modern("tools/list", json!({})).result().await;
    let mut nullable = 0;
    count(&list["tools"], &mut nullable);
    assert!(nullable > 20, "{nullable}");
}

#[tokio::test]
async fn the_fixtures_check_their_arguments() {
    let server = TestServer::start(&[FIXTURES]).await;
    let (old, new) = (server.session(0).await, server.session_of(0, "2025-11-25").await);
    let list = new.rpc("tools/list", json!({})).send().await.json();
    let (contact, mirrored) = ("json_schema_2020_12_tool", "test_custom_header");
    let most = 9_007_199_254_740_991_i64;
    for (tool, arguments, fits) in [
        (contact, json!({}), false),
        (contact, json!({"email": "a@b"}), true),
        (contact, json!({"email": "a@b", "name": "Ada", "contactMethod": "email"}), true),
        (contact, json!({"email": "a@b", "phone": "1", "contactMethod": "phone"}), true),
        (contact, json!({"phone": "1", "contactMethod": "phone"}), true),
        (contact, json!({"phone": "1"}), false),
        (contact, json!({"phone": "1", "contactMethod": "email"}), false),
        (contact, json!({"email": "a@b", "contactMethod": "phone"}), false),
        (contact, json!({"email": "a@b", "contactMethod": "fax"}), false),
        (contact, json!({"email": 7}), false),
        (contact, json!({"email": "a@b", "name": ["Ada"]}), false),
        (contact, json!({"email": "a@b", "other": 1}), false),
        (contact, json!({"email": "a@b", "address": "Street 1"}), false),
        (contact, json!({"email": "a@b", "address": {"street": 1}}), false),
        (contact, json!({"email": "a@b", "address": {"street": "s", "city": "c", "x": 1}}), true),
        ("test_sampling", json!({}), false),
        ("test_sampling", json!({"prompt": 7}), false),
        ("test_elicitation", json!({"message": ["x"]}), false),
        ("greet", json!({"name": true}), false),
        ("greet", json!({"name": "Ada"}), true),
        ("slow_compute", json!({"seconds": -1}), false),
        ("slow_compute", json!({"seconds": "0"}), false),
        ("slow_compute", json!({"seconds": 0, "label": 1}), false),
        ("slow_compute", json!({"seconds": 0, "label": "x"}), true),
        ("confirm_delete", json!({}), false),
        ("confirm_delete", json!({"filename": 1}), false),
        (mirrored, json!({"value": "x", "count": 1.5}), false),
        (mirrored, json!({"value": "x", "count": "1"}), false),
        (mirrored, json!({"value": "x", "count": 42.0}), true),
        (mirrored, json!({"value": "x", "count": -most}), true),
        (mirrored, json!({"value": "x", "count": most}), true),
        (mirrored, json!({"value": "x", "count": most + 1}), false),
        (mirrored, json!({"value": "x", "count": most + 2}), false),
        (mirrored, json!({"value": "x", "count": -most - 1}), false),
    ] {
        let all = list["result"]["tools"].as_array().expect("tools");
        let schema = &all.iter().find(|listed| listed["name"] == tool).expect("is there");
        let schema = jsonschema::draft202012::new(&schema["inputSchema"]).expect("a schema");
        assert_eq!(schema.is_valid(&arguments), fits, "{arguments}");
        let result = new.call(tool, arguments.clone()).send().await.json()["result"].clone();
        assert_eq!(result["isError"] != true, fits, "{arguments}: {result}");
        let answer = old.call(tool, arguments.clone()).send().await.json();
        let code = answer["error"]["code"].as_i64();
        assert_eq!(code, (!fits).then_some(-32602), "{arguments}");
        if tool == contact {
            let result = server.modern_call(tool, arguments.clone()).result().await;
            assert_eq!(result.get("isError").is_none(), fits, "{arguments}: {result:?}");
        }
    }
}

#[tokio::test]
async fn every_listed_tool_can_be_called_and_keeps_its_promise() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    let listed = talk.rpc("tools/list", json!({})).send().await.json()["result"]["tools"].clone();
    let mut listed = listed.as_array().expect("a list").clone();
    // Last, since it leaves nothing to call the others on.
    listed.sort_by_key(|tool| tool["name"] == "end_session");
    assert_eq!(listed.len(), 19);
    for tool in &listed {
        let name = tool["name"].as_str().expect("a name");
        for member in ["title", "description"] {
            assert!(tool[member].as_str().is_some_and(|text| text.len() > 3), "{name}: {member}");
        }
        assert_eq!(tool["inputSchema"]["type"], "object", "{name}");
        assert!(tool["annotations"]["readOnlyHint"].is_boolean(), "{name}");
        let answer = talk.call(name, fit_arguments(name)).send().await;
        let result = &answer.json()["result"];
        assert!(result["isError"].is_null(), "{name}: {answer:?}");
        let text = result["content"][0]["text"].as_str().expect("a text");
        assert!(!text.is_empty(), "{name}");
        let schema = jsonschema::draft202012::new(&tool["outputSchema"]).expect("a schema");
        let structured = &result["structuredContent"];
        // docs/reference.md says what the texts of these are.
        if !["echo", "replayLastEcho", "big_response"].contains(&name) {
            let as_text: Value = serde_json::from_str(text).expect("the structure");
            assert_eq!(as_text, *structured, "{name}");
        }
        let errors: Vec<_> =
            schema.iter_errors(structured).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?} in {structured}");
        jsonschema::draft202012::new(&tool["inputSchema"]).expect("a schema");
        if name == "end_session" {
            talk.rpc("ping", json!({})).send().await.expect_gone();
            continue;
        }
        // Nothing more than listed.
        let more = talk.call(name, json!({"no_such_argument": 1})).send().await;
        more.expect_error(200, -32602);
    }
}

#[tokio::test]
async fn names_and_schemas_of_all_tools_are_fit() {
    let server = TestServer::start(&[FIXTURES]).await;
    let list = server.modern("tools/list", json!({})).result().await;
    let list = list["tools"].as_array().expect("tools");
    assert!(list.len() > 50, "{}", list.len());
    let mut names = BTreeSet::new();
    for tool in list {
        // server/tools, "Tool Names".
        let name = tool["name"].as_str().expect("a name");
        let may = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        assert!((1..=128).contains(&name.len()) && name.bytes().all(may), "{name}");
        assert!(names.insert(name), "{name} is there twice");
        // basic/index, "Schema Validation".
        for schema in tool.get("outputSchema").into_iter().chain([&tool["inputSchema"]]) {
            assert_eq!(schema["type"], "object", "{name}");
            assert!(jsonschema::draft202012::meta::is_valid(schema), "{name}: {schema}");
            jsonschema::draft202012::new(schema).expect("a schema");
        }
    }
}

#[tokio::test]
async fn each_revision_sees_what_it_knows() {
    let server = TestServer::start(&[]).await;
    for version in ProtocolVersion::ALL.into_iter().filter(|v| v.era() == Era::Sessioned) {
        let talk = server.session_of(0, version.as_str()).await;
        let list = talk.rpc("tools/list", json!({})).send().await.json()["result"]["tools"].clone();
        let echo = &list[0];
        assert_eq!(echo["name"], "echo");
        assert_eq!(echo["title"].is_string(), version.has(Feature::Titles), "{version}");
        assert_eq!(
            echo["outputSchema"].is_object(),
            version.has(Feature::OutputSchema),
            "{version}"
        );
        assert_eq!(
            echo["annotations"].is_object(),
            version.has(Feature::ToolAnnotations),
            "{version}"
        );
        let bad = talk.call("echo", json!({"message": 7})).send().await;
        match version.has(Feature::ArgumentErrorsAreResults) {
            false => {
                let error = bad.expect_error(200, -32602);
                assert_eq!(
                    error["message"],
                    "invalid params: echo: the argument \"message\" must be a string, not a number"
                );
            }
            true => assert_eq!(bad.json()["result"]["isError"], true),
        }
        talk.call("nothing", json!({})).send().await.expect_error(200, -32602);
    }
}

#[tokio::test]
async fn a_revision_without_audio_gets_none() {
    let server = TestServer::start(&[("MCP_ECHO_TOOLS__SETS", "conformance")]).await;
    for (version, kind) in [("2024-11-05", "text"), ("2025-03-26", "audio")] {
        let talk = server.session_of(0, version).await;
        let answer = talk.call("test_audio_content", json!({})).send().await;
        assert_eq!(answer.json()["result"]["content"][0]["type"], kind, "{version}");
    }
}

#[tokio::test]
async fn sets_can_be_turned_off_per_instance() {
    let server = TestServer::start(&[("MCP_ECHO_INSTANCES__4__TOOLS__SETS", "session")]).await;
    let names = async |instance| {
        let talk = server.session(instance).await;
        let list = talk.rpc("tools/list", json!({})).send().await.json()["result"]["tools"].clone();
        list.as_array().expect("a list").len()
    };
    assert_eq!(names(4).await, tools::of_set(ToolSet::Session).len());
    assert!(names(5).await > names(4).await);
    let talk = server.session(4).await;
    talk.call("printHeader", json!({})).send().await.expect_error(200, -32602);
}

#[tokio::test]
async fn echo_answers_in_three_formats_and_waits_as_told() {
    let server = TestServer::start(&[("MCP_ECHO_TOOLS__MAX_DELAY_SECONDS", "2")]).await;
    let talk = server.session(0).await;
    let text = async |arguments| {
        let answer = talk.call("echo", arguments).send().await;
        answer.json()["result"]["content"][0]["text"].as_str().expect("text").to_owned()
    };
    let message = "Hello, \"stateful\" wörld!\n";
    assert_eq!(text(json!({"message": message})).await, message);
    assert_eq!(text(json!({"message": message, "format": "plain", "delay": null})).await, message);
    let as_json: Value =
        serde_json::from_str(&text(json!({"message": message, "format": "json"})).await)
            .expect("JSON");
    assert_eq!((&as_json["message"], &as_json["request_count"]), (&json!(message), &json!(3)));
    let markdown = text(json!({"message": message, "format": "markdown"})).await;
    assert!(markdown.contains(message) && markdown.contains(&talk.id), "{markdown}");

    let start = std::time::Instant::now();
    text(json!({"message": "x", "delay": 0.3})).await;
    assert!(start.elapsed().as_secs_f64() >= 0.3);
    for delay in [json!(-1), json!(2.1), json!(1e300), json!("1"), json!(true)] {
        let answer = talk.call("echo", json!({"message": "x", "delay": delay})).send().await;
        let error = answer.expect_error(200, -32602);
        assert!(error["message"].as_str().is_some_and(|text| text.contains("delay")), "{error}");
    }
    assert_eq!(talk.ask("replayLastEcho", json!({})).await["message"], "x");
}

#[tokio::test]
async fn replay_is_empty_before_the_first_echo() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    assert_eq!(talk.ask("replayLastEcho", json!({})).await["found"], false);
}

#[tokio::test]
async fn headers_are_shown_as_they_came_but_credentials_are_not() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    let answer = talk
        .call("printHeader", json!({}))
        .header("X-Twice", "one")
        .header("X-Twice", "two")
        .header("X-Forwarded-For", "203.0.113.7")
        .header("Authorization", "Bearer very-secret-token")
        .header("Cookie", "session=very-secret-cookie")
        .header("X-Auth-Token", "very-secret-header")
        .send()
        .await;
    assert!(!answer.text().contains("very-secret"), "{}", answer.text());
    let shown = &answer.json()["result"]["structuredContent"];
    let twice: Vec<_> = shown["headers"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|header| header["name"] == "x-twice")
        .map(|header| header["value"].as_str().expect("text"))
        .collect();
    assert_eq!(twice, ["one", "two"]);
    assert_eq!(shown["forwarded"]["x-forwarded-for"], "203.0.113.7");
    assert_eq!(shown["peer_is_trusted_proxy"], false);
    assert_eq!(shown["http_version"], "HTTP/1.1");
}

/// A token that nobody signed.
pub fn jwt(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256", "typ": "JWT", "kid": "k1"})), part(claims))
}

#[tokio::test]
async fn a_token_is_decoded_and_said_to_be_unverified() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    let token = jwt(
        &json!({"sub": "alice", "name": "Alice A.", "iss": "https://issuer.example", "exp": 1_000_000_000}),
    );
    let decode = async |header: Option<&str>, arguments| {
        let request = talk.call("bearerDecode", arguments);
        let request = match header {
            Some(header) => request.header("Authorization", header),
            None => request,
        };
        let answer = request.send().await;
        assert!(!answer.text().contains("c2ln"), "never the signature");
        answer.json()["result"]["structuredContent"].clone()
    };
    let decoded = decode(Some(&format!("Bearer {token}")), json!({})).await;
    assert_eq!(decoded["payload"]["sub"], "alice");
    assert_eq!(decoded["header"]["kid"], "k1");
    assert_eq!((&decoded["verified"], &decoded["expired"]), (&json!(false), &json!(true)));
    assert!(decoded["note"].as_str().is_some_and(|note| note.contains("decoded, not verified")));
    assert!(decoded["raw"].is_null());
    let raw = decode(Some(&format!("bearer {token}")), json!({"includeRaw": true})).await;
    assert!(raw["raw"]["payload"].is_string());
    for (header, present) in
        [(None, false), (Some("Basic abc"), true), (Some("Bearer opaque"), true)]
    {
        let decoded = decode(header, json!({})).await;
        assert_eq!((&decoded["present"], &decoded["is_jwt"]), (&json!(present), &json!(false)));
    }
    let goat =
        talk.call("whoIStheGOAT", json!({})).header("Authorization", &format!("Bearer {token}"));
    assert_eq!(goat.send().await.json()["result"]["structuredContent"]["subject"], "Alice A.");
}

#[tokio::test]
async fn forwarded_identity_counts_only_from_trusted_proxies() {
    for (proxies, trusted) in [("", false), ("127.0.0.0/8", true)] {
        let server = TestServer::start(&[("MCP_ECHO_HTTP__TRUSTED_PROXIES", proxies)]).await;
        let begun = server.initialize("2025-06-18").header("X-User-Id", "u1").send().await;
        let id = begun.header("mcp-session-id").expect("an id").to_owned();
        let call = |user: &str| {
            let request = server.call("authContext", json!({})).header("Mcp-Session-Id", &id);
            request.header("X-User-Id", user).header("X-User-Name", "Ursula").send()
        };
        let context = call("u1").await.json()["result"]["structuredContent"].clone();
        assert_eq!(context["proxy_identity"]["trusted"], trusted);
        assert_eq!(context["proxy_identity"]["headers"]["x-user-name"], "Ursula");
        assert_eq!(context["identity_known"], trusted);
        let other = call("u2").await;
        match trusted {
            true => assert_eq!(other.expect_gone(), "unknown", "the session is u1's"),
            false => assert_eq!(other.status, 200, "the header means nothing"),
        }
    }
}

#[tokio::test]
async fn the_environment_is_shown_by_an_allow_list() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    let shown = talk.ask("environmentDump", json!({"showSecrets": true})).await;
    let shown: BTreeMap<String, Value> =
        serde_json::from_value(shown["variables"].clone()).expect("a map");
    assert!(shown.contains_key("MCP_SESSION_TIMEOUT") && shown.contains_key("LOG_FILE"));
    assert!(!shown.contains_key("PATH") && !shown.contains_key("CARGO_MANIFEST_DIR"));
}

#[tokio::test]
async fn cors_is_explained_as_it_is_decided() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    let verdict = async |origin: Option<&str>| {
        let request = talk.call("corsAnalysis", json!({}));
        let request = match origin {
            Some(origin) => request.header("Origin", origin),
            None => request,
        };
        let verdict = request.send().await.json()["result"]["structuredContent"]["verdict"].clone();
        verdict.as_str().expect("text").to_owned()
    };
    assert!(verdict(None).await.starts_with("no Origin"));
    assert!(verdict(Some("http://localhost:1")).await.contains("this machine"));
    assert!(verdict(Some("https://echo-stateful1.example.com")).await.contains("own hosts"));
}

#[tokio::test]
async fn health_and_timing_tell_the_truth() {
    let server =
        TestServer::start(&[("MCP_SERVER_NAME", "named"), ("MCP_ECHO_SESSION__CAPACITY", "1")])
            .await;
    let talk = server.session(0).await;
    let health = talk.ask("healthProbe", json!({})).await;
    assert_eq!((&health["status"], &health["server"]["name"]), (&json!("full"), &json!("named")));
    assert_eq!(health["sessions"]["live"], 1);
    let timing = talk.ask("requestTiming", json!({})).await;
    assert!(timing["elapsed_ms"].as_f64().is_some_and(|ms| ms < 5000.0));
    let statistics = talk.ask("sessionInfo", json!({})).await;
    assert_eq!(statistics["session"]["request_count"], 3, "itself included");
    assert_eq!(statistics["instance"]["session_capacity"], 1);
}
