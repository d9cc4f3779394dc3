//! Revision 2026-07-28: what stands in the headers is what stands in the body, or the request is refused
//! with both values named (basic/transports/streamable-http, "Server Validation").

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    modern::{FIXTURES, META_VERSION, VERSION},
    support::TestServer,
};

const HEADER_MISMATCH: i64 = -32020;
const INVALID_PARAMS: i64 = -32602;

/// The header and the body value that a mismatch must name.
#[track_caller]
fn assert_names(error: &Value, parts: &[&str]) {
    let text = error["message"].as_str().expect("a message");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in {text:?}");
    }
}

#[tokio::test]
async fn the_version_header_must_say_what_the_body_says() {
    let server = TestServer::start(&[]).await;
    let list = || server.modern("tools/list", json!({}));
    let error = list().without("MCP-Protocol-Version").refused(400, HEADER_MISMATCH).await;
    assert_names(&error, &[VERSION]);
    for header in ["2025-11-25", "1999-01-01", "v999.0.0"] {
        let request = list().header("MCP-Protocol-Version", header);
        let error = request.refused(400, HEADER_MISMATCH).await;
        assert_names(&error, &[header, VERSION]);
    }
    // A mismatch comes before the question whether either is served.
    for claim in ["2025-11-25", "1999-01-01"] {
        let request = list().meta(META_VERSION, claim);
        let error = request.refused(400, HEADER_MISMATCH).await;
        assert_names(&error, &[VERSION, claim]);
    }
    // Optional whitespace is no part of a value; the case of a name says nothing.
    let spaced = list().without("MCP-Protocol-Version");
    spaced.header("mcp-PROTOCOL-version", "  2026-07-28\t").result().await;
    let twice = list().build().header("MCP-Protocol-Version", VERSION).send().await;
    assert_eq!(twice.status, 400, "{twice:?}");
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn mcp_method_must_say_what_the_body_says() {
    let server = TestServer::start(&[]).await;
    let list = || server.modern("tools/list", json!({}));
    let error = list().without("Mcp-Method").refused(400, HEADER_MISMATCH).await;
    assert_names(&error, &["Mcp-Method", "tools/list"]);
    for header in ["prompts/list", "TOOLS/LIST", "tools/list, tools/list", ""] {
        let error = list().header("Mcp-Method", header).refused(400, HEADER_MISMATCH).await;
        assert_names(&error, &[header, "tools/list"]);
    }
    // It comes before the question whether there is such a method.
    let unknown = server.modern("no/such", json!({})).header("Mcp-Method", "tools/list");
    unknown.refused(400, HEADER_MISMATCH).await;
    list().without("Mcp-Method").header("MCP-METHOD", "tools/list").result().await;
}

#[tokio::test]
async fn mcp_name_must_say_what_the_body_says() {
    let server = TestServer::start(&[FIXTURES]).await;
    let requests = || {
        [
            ("test_simple_text", server.modern_call("test_simple_text", json!({}))),
            ("echo://server", server.modern("resources/read", json!({"uri": "echo://server"}))),
            (
                "test_simple_prompt",
                server.modern("prompts/get", json!({"name": "test_simple_prompt"})),
            ),
        ]
    };
    for (name, request) in requests() {
        let error = request.without("Mcp-Name").refused(400, HEADER_MISMATCH).await;
        assert_names(&error, &["Mcp-Name", name]);
    }
    for (name, request) in requests() {
        let error = request.header("Mcp-Name", "other").refused(400, HEADER_MISMATCH).await;
        assert_names(&error, &["Mcp-Name", "other", name]);
    }
    for (name, request) in requests() {
        let upper = name.to_uppercase();
        request.header("Mcp-Name", &upper).refused(400, HEADER_MISMATCH).await;
    }
    for (name, request) in requests() {
        let encoded = format!("=?base64?{}?=", STANDARD.encode(name));
        request.header("Mcp-Name", &encoded).result().await;
    }
    for (_, request) in requests() {
        let encoded = format!("=?base64?{}?=", STANDARD.encode("other"));
        let error = request.header("Mcp-Name", &encoded).refused(400, HEADER_MISMATCH).await;
        assert_names(&error, &["other"]);
    }
    for wrong in ["=?base64?@@@?=", "=?base64?dGVzdA?=", "=?base64?/w==?="] {
        for (name, request) in requests() {
            let error = request.header("Mcp-Name", wrong).refused(400, HEADER_MISMATCH).await;
            assert_names(&error, &["Mcp-Name"]);
            assert!(!error["message"].as_str().is_some_and(|m| m.contains("missing")), "{name}");
        }
    }
    // Where a method has no name, the header is nobody's business.
    let list = server.modern("tools/list", json!({})).header("Mcp-Name", "whatever");
    list.result().await;
}

#[tokio::test]
async fn a_name_beyond_ascii_is_compared_decoded() {
    let server = TestServer::start(&[]).await;
    let handle = server.handle(0).await;
    let key = "schlüssel";
    let store = json!({"key": key, "value": 1, "session": handle});
    server.modern_call("set_session_data", store).structured().await;
    let uri = format!("session://{handle}/data/{key}");
    let encoded = format!("=?base64?{}?=", STANDARD.encode(&uri));
    let read = server.modern("resources/read", json!({"uri": uri})).header("Mcp-Name", &encoded);
    assert_eq!(read.result().await["contents"][0]["text"], "1");
    // A name that looks like an encoded one is a name all the same.
    let name = "=?base64?dGVzdA==?=";
    let plain = server.modern_call(name, json!({}));
    plain.refused(400, HEADER_MISMATCH).await;
    let encoded = format!("=?base64?{}?=", STANDARD.encode(name));
    let error = server.modern_call(name, json!({})).header("Mcp-Name", &encoded).send().await;
    assert_eq!(error.json()["error"]["code"], INVALID_PARAMS, "{error:?}");
}

#[tokio::test]
async fn mirrored_arguments_must_say_what_the_body_says() {
    let server = TestServer::start(&[FIXTURES]).await;
    let base64 = |text: &str| format!("=?base64?{}?=", STANDARD.encode(text));
    let call = |arguments: &Value, headers: &[(&str, &str)]| {
        let request = server.modern_call("test_custom_header", arguments.clone());
        headers.iter().fold(request, |request, (name, value)| request.header(name, value))
    };
    let (value, count, flag) = ("Mcp-Param-Value", "Mcp-Param-Count", "Mcp-Param-Flag");
    let (greeting, padded) = (base64("Hello, 世界"), base64(" padded "));
    let (lines, literal) = (base64("line1\nline2"), base64("=?base64?literal?="));
    let (plain, empty) = (base64("us-west1"), base64(""));
    for (arguments, headers) in [
        (json!({"value": "us-west1"}), vec![(value, "us-west1")]),
        (json!({"value": "us-west1"}), vec![("mcp-param-VALUE", "us-west1")]),
        (json!({"value": "us-west1"}), vec![(value, plain.as_str())]),
        (json!({"value": "two words"}), vec![(value, "two words")]),
        (json!({"value": ""}), vec![(value, "")]),
        (json!({"value": ""}), vec![(value, empty.as_str())]),
        (json!({"value": "Hello, 世界"}), vec![(value, greeting.as_str())]),
        (json!({"value": " padded "}), vec![(value, padded.as_str())]),
        (json!({"value": "line1\nline2"}), vec![(value, lines.as_str())]),
        (json!({"value": "=?base64?literal?="}), vec![(value, literal.as_str())]),
        // The marks are case-sensitive, so this is a literal.
        (json!({"value": "=?BASE64?eA==?="}), vec![(value, "=?BASE64?eA==?=")]),
        (json!({"value": "eA=="}), vec![(value, "eA==")]),
        (json!({"value": "=?base64?eA=="}), vec![(value, "=?base64?eA==")]),
        (json!({"value": "a\"b"}), vec![(value, "a\"b")]),
        (json!({"value": "x", "count": 42}), vec![(value, "x"), (count, "42")]),
        (json!({"value": "x", "count": 42}), vec![(value, "x"), (count, "42.0")]),
        (json!({"value": "x", "count": -7}), vec![(value, "x"), (count, "-7")]),
        (json!({"value": "x", "flag": true}), vec![(value, "x"), (flag, "true")]),
        (json!({"value": "x", "flag": false}), vec![(value, "x"), (flag, "false")]),
        (json!({"value": "x", "count": null, "flag": null}), vec![(value, "x")]),
        // Not recognized, so ignored.
        (json!({"value": "x"}), vec![(value, "x"), ("Mcp-Param-Other", "=?base64?@?=")]),
    ] {
        let text = call(&arguments, &headers).text().await;
        assert_eq!(text, arguments["value"].as_str().expect("a value"), "{headers:?}");
    }
    for (arguments, headers, named) in [
        (json!({"value": "a"}), vec![], vec![value, "a"]),
        (json!({"value": "a"}), vec![(value, "b")], vec![value, "\"b\"", "\"a\""]),
        (json!({"value": "a"}), vec![(value, "A")], vec![value]),
        (json!({"value": "a"}), vec![(value, "")], vec![value]),
        (json!({"value": "a"}), vec![(value, "=?base64?Yg==?=")], vec!["\"b\"", "\"a\""]),
        (json!({"value": "a"}), vec![(value, "=?base64?YQ?=")], vec![value]),
        (json!({"value": "a"}), vec![(value, "=?base64?@@?=")], vec![value]),
        (json!({"value": "a"}), vec![(value, "YQ==")], vec![value]),
        // As it is in the body, but no header may hold it.
        (json!({"value": "é"}), vec![(value, "é")], vec!["visible ASCII"]),
        (json!({"value": "世界"}), vec![(value, "世界")], vec!["visible ASCII"]),
        (json!({"value": "x", "count": 42}), vec![(value, "x")], vec![count, "42"]),
        (json!({"value": "x", "count": 42}), vec![(value, "x"), (count, "43")], vec!["43", "42"]),
        (json!({"value": "x", "count": 42}), vec![(value, "x"), (count, "four")], vec!["four"]),
        (json!({"value": "x", "count": 42}), vec![(value, "x"), (count, "")], vec![count]),
        // As doubles they are one.
        (
            json!({"value": "x", "count": 9_007_199_254_740_993_u64}),
            vec![(value, "x"), (count, "9007199254740992")],
            vec!["9007199254740992", "9007199254740993"],
        ),
        (json!({"value": "x", "flag": true}), vec![(value, "x"), (flag, "false")], vec![flag]),
        (json!({"value": "x", "flag": true}), vec![(value, "x"), (flag, "True")], vec!["True"]),
        (json!({"value": "x", "flag": true}), vec![(value, "x"), (flag, "1")], vec![flag]),
        // What the body does not say, no header may.
        (json!({"value": "x"}), vec![(value, "x"), (count, "1")], vec![count]),
        (json!({"value": "x", "flag": null}), vec![(value, "x"), (flag, "true")], vec![flag]),
    ] {
        let error = call(&arguments, &headers).refused(400, HEADER_MISMATCH).await;
        assert_names(&error, &named);
    }
    // Header and body agree, on what some readers take for its neighbour.
    let beyond = json!({"value": "x", "count": 9_007_199_254_740_992_u64});
    let refused = call(&beyond, &[(value, "x"), (count, "9007199254740992")]);
    assert!(refused.tool_error().await.contains("count"));
}

#[tokio::test]
async fn a_handle_is_mirrored_too() {
    let server = TestServer::start(&[]).await;
    let (handle, other) = (server.handle(0).await, server.handle(0).await);
    let echo =
        |session: &str| server.modern_call("echo", json!({"message": "x", "session": session}));
    assert_eq!(echo(&handle).structured().await["session_id"], handle);
    let error = echo(&handle).without("Mcp-Param-Session").refused(400, HEADER_MISMATCH).await;
    assert_names(&error, &["Mcp-Param-Session", &handle]);
    let request = echo(&handle).header("Mcp-Param-Session", &other);
    let error = request.refused(400, HEADER_MISMATCH).await;
    assert_names(&error, &[&other, &handle]);
    let bare = server.modern_call("echo", json!({"message": "x"}));
    bare.header("Mcp-Param-Session", &handle).refused(400, HEADER_MISMATCH).await;
    // So that clients know: the annotation stands in the list, on a string.
    let tools = server.modern("tools/list", json!({})).result().await;
    let tools = tools["tools"].as_array().expect("tools");
    let echo = tools.iter().find(|tool| tool["name"] == "echo").expect("echo");
    let session = &echo["inputSchema"]["properties"]["session"];
    assert_eq!((&session["type"], &session["x-mcp-header"]), (&json!("string"), &json!("Session")));
}

/// Every part of a schema that is marked, and whether it is reached by properties alone.
fn marked<'a>(schema: &'a Value, plainly: bool, found: &mut Vec<(&'a Value, bool)>) {
    if schema.get("x-mcp-header").is_some() {
        found.push((schema, plainly));
    }
    for (name, part) in schema.as_object().into_iter().flatten() {
        match part {
            Value::Object(all) if name == "properties" => {
                all.values().for_each(|property| marked(property, plainly, found));
            }
            Value::Array(parts) => parts.iter().for_each(|part| marked(part, false, found)),
            part => marked(part, false, found),
        }
    }
}

#[tokio::test]
async fn only_what_clients_can_mirror_is_marked() {
    // basic/transports/streamable-http, "Schema Extension".
    let server = TestServer::start(&[FIXTURES]).await;
    let list = server.modern("tools/list", json!({})).result().await;
    let mut count = 0;
    for tool in list["tools"].as_array().expect("tools") {
        let mut found = Vec::new();
        marked(&tool["inputSchema"], true, &mut found);
        let mut names = BTreeSet::new();
        for (schema, plainly) in found {
            assert!(plainly, "{tool}");
            let of = schema["type"].as_str().unwrap_or_default();
            assert!(["string", "integer", "boolean"].contains(&of), "{tool}");
            // RFC 9110 §5.6.2.
            let name = schema["x-mcp-header"].as_str().expect("a name");
            let may = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert!(!name.is_empty() && name.bytes().all(may), "{tool}");
            assert!(names.insert(name.to_ascii_lowercase()), "twice: {tool}");
            count += 1;
        }
    }
    assert!(count >= 10, "{count}");
}
