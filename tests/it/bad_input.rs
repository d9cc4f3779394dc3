//! What is wrong is refused: with the right status, an error that says what is wrong, no session, and
//! no harm to those who come after.
//!
//! One table. Where nothing else is said, a row's request would begin a session were it not for its one
//! fault. Expectations are those of RFC 9110 and 9112, RFC 8259, JSON-RPC 2.0 and the MCP revisions.

use serde_json::{Value, json};

use crate::support::{Answer, Connection, Request, TestServer};

/// What the client is told.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// A JSON-RPC error of that code.
    Rpc(i64),
    /// A batch of one answer, a JSON-RPC error of that code.
    InBatch(i64),
    /// Not MCP: a JSON object with a text.
    Problem,
    /// Not even HTTP: the status alone.
    Nothing,
}
use Told::{InBatch, Nothing, Problem, Rpc};

const PARSE_ERROR: Told = Rpc(-32700);
const INVALID_REQUEST: Told = Rpc(-32600);
const METHOD_NOT_FOUND: Told = Rpc(-32601);
const INVALID_PARAMS: Told = Rpc(-32602);
const TRANSPORT: Told = Rpc(-32000);
const SESSION_GONE: Told = Rpc(-32001);

struct Row {
    name: &'static str,
    request: Vec<u8>,
    status: u16,
    told: Told,
}

fn row(name: &'static str, request: impl Into<Vec<u8>>, status: u16, told: Told) -> Row {
    Row { name, request: request.into(), status, told }
}

/// Rows that differ only in the body of their POST.
fn bodies<const N: usize>(
    server: &TestServer,
    rows: [(&'static str, Vec<u8>, u16, Told); N],
) -> Vec<Row> {
    rows.map(|(name, body, status, told)| row(name, server.post(body).bytes(), status, told)).into()
}

#[tokio::test]
async fn every_malformed_request_is_refused_and_harms_nobody() {
    let server = TestServer::start(&[]).await;
    let rows: Vec<Row> = [
        not_http(),
        not_json(&server),
        not_json_rpc(&server),
        not_mcp(&server),
        bad_headers(&server),
        bad_hosts(&server),
        wrong_places(&server),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(rows.len() >= 70, "only {} rows", rows.len());

    let mut wrong = Vec::new();
    for row in rows {
        let begun = server.created();
        let mut connection = Connection::open(server.address).await;
        connection.write(&row.request).await;
        let answer = connection.answer().await;
        if let Err(problem) = check(&row, &answer) {
            wrong.push(format!("{}: {problem}; got {} {}", row.name, answer.status, answer.text()));
        }
        if server.created() > begun {
            wrong.push(format!("{}: began a session", row.name));
        }
    }
    assert!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));

    for instance in 0..10 {
        let talk = server.session(instance).await;
        let echo = talk.ask("echo", json!({"message": "still here"})).await;
        assert_eq!(echo["message"], "still here");
    }
}

fn check(row: &Row, answer: &Answer) -> Result<(), String> {
    let must = |fine: bool, what: &str| fine.then_some(()).ok_or_else(|| what.to_owned());
    must(answer.status == row.status, &format!("status must be {}", row.status))?;
    // RFC 9110 §15.5.6.
    must(answer.status != 405 || answer.header("allow").is_some(), "405 needs Allow")?;
    must(answer.header("mcp-session-id").is_none(), "no session id may be given")?;
    if let Nothing = row.told {
        return must(answer.body.is_empty(), "nothing can be said");
    }
    must(answer.header("content-type") == Some("application/json"), "must be JSON")?;
    let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    if row.name.contains("result") {
        // It answers no request, so it has no id.
        let text = answer.text();
        must(row.name.contains("method") || !text.contains("\"id\""), "no request, so no id")?;
    }
    let is_error = |message: &Value, code: i64| {
        let text = message["error"]["message"].as_str();
        must(message["jsonrpc"] == "2.0", "must be JSON-RPC")?;
        must(message["error"]["code"] == code, &format!("code must be {code}"))?;
        must(message["result"].is_null(), "an error has no result")?;
        must(text.is_some_and(|text| text.len() > 10), "must say what is wrong")
    };
    match row.told {
        Rpc(code) => is_error(&body, code),
        InBatch(code) => {
            must(body.as_array().is_some_and(|all| all.len() == 1), "must be a batch of one")?;
            is_error(&body[0], code)
        }
        Problem => {
            let text = body["error"].as_str();
            must(text.is_some_and(|text| text.len() > 10), "must say what is wrong")
        }
        Nothing => Ok(()),
    }
}

/// An `initialize` without fault.
fn initialize() -> Value {
    let params = json!({
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    });
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
}

/// That `initialize` on the wire, with a request line and a head of the row's own.
fn raw(request_line: &str, head: &str) -> Vec<u8> {
    let body = initialize().to_string();
    let length = body.len();
    format!("{request_line}\r\n{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

const POST: &str = "POST /mcp HTTP/1.1";
const HOST: &str = "Host: localhost\r\n";

fn not_http() -> Vec<Row> {
    let chunked = |chunks: &str| {
        format!(
            "{POST}\r\n{HOST}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        )
    };
    let long = "x".repeat(600_000);
    let many: String = (0..200).map(|number| format!("X-{number}: x\r\n")).collect();
    vec![
        row("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, Nothing),
        row("garbage that is text", "hello there\r\n\r\n", 400, Nothing),
        row("HTTP/0.9", "GET /mcp\r\n\r\n", 400, Nothing),
        row("an HTTP version that does not exist", raw("POST /mcp HTTP/1.7", HOST), 400, Nothing),
        row("no version", raw("POST /mcp", HOST), 400, Nothing),
        row("a space in the target", raw("POST /m cp HTTP/1.1", HOST), 400, Nothing),
        // RFC 9112 §2.2: what a shell sends that cut the id out of `curl -D -` with its line end.
        row(
            "bare CR at the end of a header",
            raw(POST, &format!("{HOST}Mcp-Session-Id: 0a1b2c3d\r\r\n")),
            400,
            Nothing,
        ),
        row("bare CR within a header", raw(POST, &format!("{HOST}X-Test: a\rb\r\n")), 400, Nothing),
        row("NUL in a header", raw(POST, &format!("{HOST}X-Test: a\0b\r\n")), 400, Nothing),
        row("a space before the colon", raw(POST, "Host : localhost\r\n"), 400, Nothing),
        row("a header without a name", raw(POST, &format!("{HOST}: x\r\n")), 400, Nothing),
        row("a header without a colon", raw(POST, &format!("{HOST}X-Test\r\n")), 400, Nothing),
        row("a folded header", raw(POST, &format!("{HOST}X-Test: a\r\n b\r\n")), 400, Nothing),
        row("a huge header", raw(POST, &format!("{HOST}X-Test: {long}\r\n")), 431, Nothing),
        row("too many headers", raw(POST, &format!("{HOST}{many}")), 431, Nothing),
        row(
            "a huge target",
            raw(&format!("POST /{} HTTP/1.1", &long[..70_000]), HOST),
            414,
            Nothing,
        ),
        row("two lengths", raw(POST, &format!("{HOST}Content-Length: 3\r\n")), 400, Nothing),
        row(
            "a negative length",
            format!("{POST}\r\n{HOST}Content-Length: -1\r\n\r\n"),
            400,
            Nothing,
        ),
        row(
            "a length that is no number",
            format!("{POST}\r\n{HOST}Content-Length: x\r\n\r\n"),
            400,
            Nothing,
        ),
        row(
            "a transfer coding that does not end in chunked",
            format!("{POST}\r\n{HOST}Transfer-Encoding: gzip\r\n\r\n"),
            400,
            Nothing,
        ),
        row("a chunk size that is no number", chunked("zz\r\n{}\r\n0\r\n\r\n"), 400, TRANSPORT),
        row("a chunk longer than it says", chunked("1\r\n{}\r\n0\r\n\r\n"), 400, TRANSPORT),
        row("a chunk size beyond 64 bits", chunked("fffffffffffffffff\r\n{}\r\n"), 400, TRANSPORT),
        row(
            "a body too large, as its chunks show",
            chunked(&format!("100001\r\n{}", " ".repeat(0x10_0001))),
            413,
            TRANSPORT,
        ),
        row(
            "a body too large, as its length says",
            format!(
                "{POST}\r\n{HOST}Content-Type: application/json\r\nContent-Length: 1048577\r\n\r\n"
            ),
            413,
            TRANSPORT,
        ),
    ]
}

fn not_json(server: &TestServer) -> Vec<Row> {
    let good = initialize().to_string();
    let with = |before: &[u8], after: &[u8]| [before, good.as_bytes(), after].concat();
    let swap = |from: &str, to: &[u8]| {
        let (before, after) = good.split_once(from).expect("is there");
        [before.as_bytes(), to, after.as_bytes()].concat()
    };
    bodies(
        server,
        [
            ("no body", b"".into(), 400, PARSE_ERROR),
            ("a body of spaces", b" \r\n\t ".into(), 400, PARSE_ERROR),
            ("not JSON", b"initialize".into(), 400, PARSE_ERROR),
            ("a form", b"method=initialize&id=1".into(), 400, PARSE_ERROR),
            ("truncated JSON", good.as_bytes()[..good.len() - 1].into(), 400, PARSE_ERROR),
            ("truncated in a string", good.as_bytes()[..14].into(), 400, PARSE_ERROR),
            ("garbage after the JSON", with(b"", b"x"), 400, PARSE_ERROR),
            ("a second message after the first", with(good.as_bytes(), b""), 400, PARSE_ERROR),
            ("a byte order mark", with(b"\xef\xbb\xbf", b""), 400, PARSE_ERROR),
            ("UTF-16", good.encode_utf16().flat_map(u16::to_le_bytes).collect(), 400, PARSE_ERROR),
            ("invalid UTF-8 in a parameter", swap("test", b"te\xffst"), 400, PARSE_ERROR),
            ("invalid UTF-8 in the method", swap("initialize", b"init\xc3\x28"), 400, PARSE_ERROR),
            (
                "invalid UTF-8 in a member that nobody reads",
                [b"{\"x\":\"\xff\",", &good.as_bytes()[1..]].concat(),
                400,
                PARSE_ERROR,
            ),
            ("single quotes", good.replace('"', "'").into(), 400, PARSE_ERROR),
            ("a trailing comma", good.replace("}}", "},}").into(), 400, PARSE_ERROR),
            ("a comment", with(b"/* hello */", b""), 400, PARSE_ERROR),
            ("NaN", swap("\"id\":1", b"\"id\":NaN"), 400, PARSE_ERROR),
            ("a number with a leading zero", swap("\"id\":1", b"\"id\":01"), 400, PARSE_ERROR),
            ("a line break in a string", swap("test", b"te\nst"), 400, PARSE_ERROR),
            ("an escape that does not exist", swap("test", br"te\xst"), 400, PARSE_ERROR),
            ("arrays without end", vec![b'['; 200_000], 400, PARSE_ERROR),
            ("objects without end", b"{\"a\":".repeat(100_000), 400, PARSE_ERROR),
        ],
    )
}

fn not_json_rpc(server: &TestServer) -> Vec<Row> {
    // The member replaced, or taken out where the new text is empty.
    let member = |name: &str, text: &str| {
        let mut message = initialize();
        let members = message.as_object_mut().expect("is an object");
        members.remove(name);
        let rest = message.to_string();
        match text {
            "" => rest.into_bytes(),
            text => format!("{{\"{name}\":{text},{}", &rest[1..]).into_bytes(),
        }
    };
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let nested = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let mut rows = bodies(
        server,
        [
            ("no jsonrpc", member("jsonrpc", ""), 400, INVALID_REQUEST),
            ("jsonrpc 1.0", member("jsonrpc", "\"1.0\""), 400, INVALID_REQUEST),
            ("jsonrpc as a number", member("jsonrpc", "2.0"), 400, INVALID_REQUEST),
            ("jsonrpc null", member("jsonrpc", "null"), 400, INVALID_REQUEST),
            ("id null", member("id", "null"), 400, INVALID_REQUEST),
            ("id a fraction", member("id", "1.5"), 400, INVALID_REQUEST),
            ("id an object", member("id", "{}"), 400, INVALID_REQUEST),
            ("id an array", member("id", "[1]"), 400, INVALID_REQUEST),
            ("id half a surrogate pair", member("id", r#""\ud800""#), 400, INVALID_REQUEST),
            ("id with no escape", member("id", r#""\u00""#), 400, PARSE_ERROR),
            ("id a boolean", member("id", "true"), 400, INVALID_REQUEST),
            ("no method", member("method", ""), 400, INVALID_REQUEST),
            ("method a number", member("method", "1"), 400, INVALID_REQUEST),
            ("method null", member("method", "null"), 400, INVALID_REQUEST),
            ("method an object", member("method", "{}"), 400, INVALID_REQUEST),
            ("params an array", member("params", "[\"2025-06-18\"]"), 400, INVALID_REQUEST),
            ("params a string", member("params", "\"2025-06-18\""), 400, INVALID_REQUEST),
            ("params a number", member("params", "1"), 400, INVALID_REQUEST),
            ("params a boolean", member("params", "true"), 400, INVALID_REQUEST),
            ("method and result", member("result", "{}"), 400, INVALID_REQUEST),
            (
                "method and error",
                member("error", "{\"code\":1,\"message\":\"x\"}"),
                400,
                INVALID_REQUEST,
            ),
            (
                "method twice",
                [b"{\"method\":\"ping\",", &member("", "")[1..]].concat(),
                400,
                INVALID_REQUEST,
            ),
            ("id twice", [b"{\"id\":2,", &member("", "")[1..]].concat(), 400, INVALID_REQUEST),
            (
                "result and error",
                br#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"x"}}"#.into(),
                400,
                INVALID_REQUEST,
            ),
            (
                "result and error in a batch",
                br#"[{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"x"}}]"#
                    .into(),
                200,
                InBatch(-32600),
            ),
            (
                "a result with jsonrpc 1.0",
                br#"{"jsonrpc":"1.0","id":1,"result":{}}"#.into(),
                400,
                INVALID_REQUEST,
            ),
            (
                "a result without id",
                br#"{"jsonrpc":"2.0","result":{}}"#.into(),
                400,
                INVALID_REQUEST,
            ),
            (
                "an error instead of a result, without id",
                br#"{"jsonrpc":"2.0","error":{"code":1,"message":"x"}}"#.into(),
                400,
                INVALID_REQUEST,
            ),
            (
                "a result with id null",
                br#"{"jsonrpc":"2.0","id":null,"result":{}}"#.into(),
                400,
                INVALID_REQUEST,
            ),
            ("an empty object", b"{}".into(), 400, INVALID_REQUEST),
            ("a number", b"1".into(), 400, INVALID_REQUEST),
            ("a string", b"\"initialize\"".into(), 400, INVALID_REQUEST),
            ("true", b"true".into(), 400, INVALID_REQUEST),
            ("null", b"null".into(), 400, INVALID_REQUEST),
            ("an empty batch", b"[]".into(), 400, INVALID_REQUEST),
            (
                "a batch too long",
                format!("[{}]", vec![ping; 101].join(",")).into(),
                400,
                INVALID_REQUEST,
            ),
            ("a batch of a number", b"[1]".into(), 200, InBatch(-32600)),
            ("a batch within a batch", format!("[[{ping}]]").into(), 200, InBatch(-32600)),
            (
                "a message as an array in a batch",
                br#"[["2.0",1,"ping"]]"#.into(),
                200,
                InBatch(-32600),
            ),
            ("arrays fifty thousand deep", nested.into(), 200, InBatch(-32600)),
            // 2025-03-26, basic/lifecycle, "Initialization".
            ("initialize in a batch", format!("[{}]", initialize()).into(), 200, InBatch(-32600)),
        ],
    );
    for (name, version) in [
        ("a batch in 2024-11-05", "2024-11-05"),
        ("a batch in 2025-06-18", "2025-06-18"),
        ("a batch in 2025-11-25", "2025-11-25"),
    ] {
        let request = server.post(format!("[{ping}]")).header("MCP-Protocol-Version", version);
        rows.push(row(name, request.bytes(), 400, INVALID_REQUEST));
    }
    rows
}

fn not_mcp(server: &TestServer) -> Vec<Row> {
    let rpc = |method: &str, params: Value| server.rpc(method, params);
    let initialize = |params: Value| rpc("initialize", params);
    let echo = |arguments: Value| server.call("echo", arguments);
    let claim =
        |version: &str| json!({"_meta": {"io.modelcontextprotocol/protocolVersion": version}});
    let long = "x".repeat(300);
    let client = |client: Value| {
        initialize(
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}),
        )
    };
    let without_params = |method: &str| {
        server.post(json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string())
    };
    let in_result = [
        ("initialize without params", without_params("initialize"), INVALID_PARAMS),
        ("initialize without a version", initialize(json!({"capabilities": {}})), INVALID_PARAMS),
        ("initialize with a version that is a number", initialize(json!({"protocolVersion": 2025})), INVALID_PARAMS),
        ("initialize with a version that is null", initialize(json!({"protocolVersion": null})), INVALID_PARAMS),
        ("clientInfo a string", client(json!("test")), INVALID_PARAMS),
        ("clientInfo an array", client(json!(["test", "1"])), INVALID_PARAMS),
        ("clientInfo without a name", client(json!({"version": "1"})), INVALID_PARAMS),
        ("clientInfo with a name that is a number", client(json!({"name": 1, "version": "1"})), INVALID_PARAMS),
        ("clientInfo with a name too long", client(json!({"name": long, "version": "1"})), INVALID_PARAMS),
        ("clientInfo with a version too long", client(json!({"name": "a", "version": long})), INVALID_PARAMS),
        ("an unknown method", rpc("tools/run", json!({})), METHOD_NOT_FOUND),
        ("a method in the wrong case", rpc("Tools/List", json!({})), METHOD_NOT_FOUND),
        ("a method without a name", rpc("", json!({})), METHOD_NOT_FOUND),
        ("a notification as a request", rpc("notifications/initialized", json!({})), METHOD_NOT_FOUND),
        ("tools/list with a cursor that was never given", rpc("tools/list", json!({"cursor": "2"})), INVALID_PARAMS),
        ("tools/list with a cursor that is a number", rpc("tools/list", json!({"cursor": 2})), INVALID_PARAMS),
        ("_meta that is no object", rpc("logging/setLevel", json!({"_meta": [], "level": "info"})), INVALID_PARAMS),
        (
            "a member of _meta twice",
            server.post(r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"_meta":{"traceparent":"x","traceparent":"y"},"level":"info"}}"#),
            INVALID_PARAMS,
        ),
        (
            "a member of the _meta of initialize twice",
            server.post(r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"_meta":{"traceparent":"x","traceparent":"y"},"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}"#),
            INVALID_PARAMS,
        ),
        ("tools/call without params", without_params("tools/call"), INVALID_PARAMS),
        ("tools/call without a name", rpc("tools/call", json!({"arguments": {}})), INVALID_PARAMS),
        ("tools/call with a name that is a number", rpc("tools/call", json!({"name": 1})), INVALID_PARAMS),
        ("an unknown tool", server.call("ECHO", json!({"message": "x"})), INVALID_PARAMS),
        ("a tool without a name", server.call("", json!({})), INVALID_PARAMS),
        ("arguments an array", echo(json!(["x"])), INVALID_PARAMS),
        ("arguments a string", echo(json!("x")), INVALID_PARAMS),
        ("echo without arguments", rpc("tools/call", json!({"name": "echo"})), INVALID_PARAMS),
        ("echo without a message", echo(json!({})), INVALID_PARAMS),
        ("a message that is a number", echo(json!({"message": 1})), INVALID_PARAMS),
        ("a message that is null", echo(json!({"message": null})), INVALID_PARAMS),
        ("an unknown argument", echo(json!({"message": "x", "volume": 11})), INVALID_PARAMS),
        ("an unknown format", echo(json!({"message": "x", "format": "xml"})), INVALID_PARAMS),
        ("a format that is a number", echo(json!({"message": "x", "format": 1})), INVALID_PARAMS),
        ("a negative delay", echo(json!({"message": "x", "delay": -0.5})), INVALID_PARAMS),
        ("a delay too long", echo(json!({"message": "x", "delay": 60.5})), INVALID_PARAMS),
        ("a huge delay", echo(json!({"message": "x", "delay": 1e300})), INVALID_PARAMS),
        ("a delay that is NaN in words", echo(json!({"message": "x", "delay": "NaN"})), INVALID_PARAMS),
        ("a delay that is a string", echo(json!({"message": "x", "delay": "1"})), INVALID_PARAMS),
        (
            "a delay beyond every number",
            server.post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"x","delay":1e999}}}"#),
            INVALID_PARAMS,
        ),
        ("a key that is missing", server.call("set_session_data", json!({"value": 1})), INVALID_PARAMS),
        ("a key that is a number", server.call("set_session_data", json!({"key": 1, "value": 1})), INVALID_PARAMS),
        ("a key that is empty", server.call("set_session_data", json!({"key": "", "value": 1})), INVALID_PARAMS),
        ("a value that is missing", server.call("set_session_data", json!({"key": "k"})), INVALID_PARAMS),
        ("a key to read that is an array", server.call("get_session_data", json!({"key": ["k"]})), INVALID_PARAMS),
        ("an argument where there are none", server.call("get_session_info", json!({"x": 1})), INVALID_PARAMS),
        ("a completion whose ref is an array", rpc("completion/complete", json!({"ref": ["ref/prompt", "echo"], "argument": {"name": "format", "value": ""}})), INVALID_PARAMS),
        ("a completion whose argument is an array", rpc("completion/complete", json!({"ref": {"type": "ref/prompt", "name": "echo"}, "argument": ["format", ""]})), INVALID_PARAMS),
        ("a flag that is a string", server.call("bearerDecode", json!({"includeRaw": "true"})), INVALID_PARAMS),
    ];
    // An error that answers a well-formed request travels with 200.
    let mut rows: Vec<Row> =
        in_result.map(|(name, request, told)| row(name, request.bytes(), 200, told)).into();
    // What claims the stateless era is held to it.
    let half_stateless = [
        ("a claim without its header", rpc("tools/list", claim("2026-07-28")), Rpc(-32020)),
        ("a claim of a revision to come", rpc("ping", claim("v999")), Rpc(-32020)),
        (
            "a header without its claim",
            rpc("tools/list", json!({})).header("MCP-Protocol-Version", "2026-07-28"),
            INVALID_PARAMS,
        ),
    ];
    rows.extend(half_stateless.map(|(name, request, told)| row(name, request.bytes(), 400, told)));
    let refused = [
        (
            "a version that is none",
            rpc("tools/list", json!({})).header("MCP-Protocol-Version", "1.0"),
        ),
        (
            "a version in the wrong form",
            rpc("tools/list", json!({})).header("MCP-Protocol-Version", "2025-6-18"),
        ),
        (
            "two versions",
            rpc("tools/list", json!({}))
                .header("MCP-Protocol-Version", "2025-06-18")
                .header("MCP-Protocol-Version", "2025-11-25"),
        ),
    ];
    rows.extend(refused.map(|(name, request)| row(name, request.bytes(), 400, TRANSPORT)));
    // Arguments that do not fit are a result since 2025-11-25, a call that fits no schema is not.
    for arguments in [json!(["x"]), json!("x"), json!(1)] {
        let request = echo(arguments).header("MCP-Protocol-Version", "2025-11-25");
        rows.push(row("arguments that are no object", request.bytes(), 200, INVALID_PARAMS));
    }
    rows
}

fn bad_headers(server: &TestServer) -> Vec<Row> {
    let body = || initialize().to_string();
    let post = |headers: &str| raw_post(&body(), headers);
    let content_type = |value: &str| post(&format!("Content-Type: {value}\r\n"));
    let accept = |value: &str| server.post(body()).header("Accept", value);
    let listen = |accept: &str| server.request("GET", "/mcp").header("Accept", accept);
    let session =
        |method: &str, id: &str| server.request(method, "/mcp").header("Mcp-Session-Id", id);
    let list = |id: &str| server.rpc("tools/list", json!({})).header("Mcp-Session-Id", id);
    let method = |method: &str| {
        let mut request = server.request(method, "/mcp").header("Content-Type", "application/json");
        request = request.header("Content-Length", "0");
        request.bytes()
    };
    const ID: &str = "3a1f0aaa-0000-8000-8000-000000000000";
    let mut rows = vec![
        row("no Content-Type", post(""), 415, TRANSPORT),
        row("Content-Type text/plain", content_type("text/plain"), 415, TRANSPORT),
        row(
            "Content-Type of a form",
            content_type("application/x-www-form-urlencoded"),
            415,
            TRANSPORT,
        ),
        row(
            "Content-Type that only begins well",
            content_type("application/jsonp"),
            415,
            TRANSPORT,
        ),
        row("Content-Type empty", content_type(""), 415, TRANSPORT),
        row(
            "Content-Type in another charset",
            content_type("application/json; charset=iso-8859-1"),
            415,
            TRANSPORT,
        ),
        row(
            "Content-Type in UTF-16",
            content_type("application/json;charset=\"utf-16\""),
            415,
            TRANSPORT,
        ),
        row("Accept text/html", accept("text/html").bytes(), 406, TRANSPORT),
        row(
            "Accept with weight 0",
            accept("application/json;q=0, text/event-stream; q=0.000").bytes(),
            406,
            TRANSPORT,
        ),
        row("Accept everything with weight 0", accept("*/*;q=0").bytes(), 406, TRANSPORT),
        row(
            "Accept something similar",
            accept("application/json-seq, text/event-stream2").bytes(),
            406,
            TRANSPORT,
        ),
        row("GET that accepts JSON alone", listen("application/json").bytes(), 406, TRANSPORT),
        row("GET with weight 0", listen("text/event-stream;q=0").bytes(), 406, TRANSPORT),
        row("GET without a session id", listen("text/event-stream").bytes(), 400, TRANSPORT),
        row(
            "DELETE without a session id",
            server.request("DELETE", "/mcp").bytes(),
            400,
            TRANSPORT,
        ),
        row(
            "GET with an unknown version",
            session("GET", ID).header("MCP-Protocol-Version", "9").bytes(),
            400,
            TRANSPORT,
        ),
        row(
            "DELETE with an unknown version",
            session("DELETE", ID).header("MCP-Protocol-Version", "9").bytes(),
            400,
            TRANSPORT,
        ),
        row("two session ids", list(ID).header("Mcp-Session-Id", ID).bytes(), 400, TRANSPORT),
        row(
            "two session ids on GET",
            session("GET", ID).header("mcp-session-id", "x").bytes(),
            400,
            TRANSPORT,
        ),
        row("a session id that is not ASCII", list("3a1f0aaa-é").bytes(), 400, TRANSPORT),
        row("a session id of the right form", list(ID).bytes(), 404, SESSION_GONE),
        row("a session id in capitals", list(&ID.to_uppercase()).bytes(), 404, SESSION_GONE),
        row(
            "a session id of an eleventh instance",
            list(&ID.replacen('3', "a", 1)).bytes(),
            404,
            SESSION_GONE,
        ),
        row("a session id that is no UUID", list("hello").bytes(), 404, SESSION_GONE),
        row("a session id that is very long", list(&"a".repeat(5000)).bytes(), 404, SESSION_GONE),
        row("a session id with a path in it", list("../../etc/passwd").bytes(), 404, SESSION_GONE),
        row(
            "two session ids in one header",
            list(&format!("{ID}, {ID}")).bytes(),
            404,
            SESSION_GONE,
        ),
        row("GET with an unknown session id", session("GET", "hello").bytes(), 404, SESSION_GONE),
        row(
            "DELETE with an unknown session id",
            session("DELETE", "hello").bytes(),
            404,
            SESSION_GONE,
        ),
        row(
            "a notification with an unknown session id",
            server
                .post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
                .header("Mcp-Session-Id", "x")
                .bytes(),
            404,
            SESSION_GONE,
        ),
        row(
            "ping with an unknown session id",
            server.rpc("ping", json!({})).header("Mcp-Session-Id", "x").bytes(),
            404,
            SESSION_GONE,
        ),
    ];
    for name in ["PUT", "PATCH", "TRACE", "post", "FROBNICATE"] {
        rows.push(row(name, method(name), 405, TRANSPORT));
    }
    rows
}

fn raw_post(body: &str, headers: &str) -> Vec<u8> {
    format!("{POST}\r\n{HOST}{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A target in absolute form.
const ABSOLUTE: &str = "POST http://localhost/mcp HTTP/1.1";

fn bad_hosts(server: &TestServer) -> Vec<Row> {
    let host = |value: &str| server.post(initialize().to_string()).host(value).bytes();
    let target = |target: &str| raw(&format!("POST {target} HTTP/1.1"), HOST);
    let two = |other: &str| raw(POST, &format!("{HOST}Host: {other}\r\n"));
    vec![
        row("no Host", raw(POST, ""), 400, Problem),
        row("no Host in HTTP/1.0", raw("POST /mcp HTTP/1.0", ""), 400, Problem),
        row("an empty Host", host(""), 400, Problem),
        row("two equal Hosts", two("localhost"), 400, Problem),
        row("two different Hosts", two("echo-stateful1.localhost"), 400, Problem),
        row("two Hosts in one", host("localhost, localhost"), 400, Problem),
        row("a target with a host and no Host", raw(ABSOLUTE, ""), 400, Problem),
        row("a target with a host and a bad Host", raw(ABSOLUTE, "Host: a/b\r\n"), 400, Problem),
        row("a target with a host and two Hosts", raw(ABSOLUTE, &HOST.repeat(2)), 400, Problem),
        row("a target with a host of someone else", target("http://example.org/mcp"), 421, Problem),
        row(
            "a target with user information",
            target("http://me:secret@localhost/mcp"),
            400,
            Problem,
        ),
        row("a port that is no number", host("localhost:http"), 400, Problem),
        row("a port that is too long", host("localhost:123456"), 400, Problem),
        row("two ports", host("localhost:80:80"), 400, Problem),
        row("a Host with user information", host("me@localhost"), 400, Problem),
        row("a Host with a scheme", host("http://localhost"), 400, Problem),
        row("a Host with a path", host("localhost/mcp"), 400, Problem),
        row("a Host with a query", host("localhost?x"), 400, Problem),
        row("a Host with a space", host("local host"), 400, Problem),
        row("a Host that is not ASCII", host("löcalhost"), 400, Problem),
        row("a Host that begins with a dot", host(".localhost"), 400, Problem),
        row("a Host that ends with two dots", host("localhost.."), 400, Problem),
        row("a Host that is a dot", host("."), 400, Problem),
        row("an address without its end", host("[::1"), 400, Problem),
        row("an address that is none", host("[::g]"), 400, Problem),
        row("an IPv6 address without brackets", host("::1"), 400, Problem),
        row("an unknown host", host("example.org"), 421, Problem),
        row("the base domain itself", host("example.com"), 421, Problem),
        row("an eleventh instance", host("echo-stateful10.example.com"), 421, Problem),
        row("an instance that is no number", host("echo-statefulx.example.com"), 421, Problem),
        row("an instance with a leading zero", host("echo-stateful03.example.com"), 421, Problem),
        row("an instance without a domain", host("echo-stateful3"), 421, Problem),
        row(
            "an instance below another domain",
            host("echo-stateful3.example.com.evil.org"),
            421,
            Problem,
        ),
        row("a name below an instance", host("a.echo-stateful3.example.com"), 421, Problem),
        row("an instance of another domain", host("echo-stateful3.example.org"), 421, Problem),
        row("an instance without a dot", host("echo-stateful3example.com"), 421, Problem),
        row("an address that is not ours", host("192.0.2.1"), 421, Problem),
        row("an IPv6 address that is not ours", host("[2001:db8::1]:3000"), 421, Problem),
        row(
            "a target and a Host of someone else",
            raw("POST http://evil.org/mcp HTTP/1.1", "Host: evil.org\r\n"),
            421,
            Problem,
        ),
        row(
            "an unknown host on another path",
            server.request("GET", "/debug/sessions").host("evil.org").bytes(),
            421,
            Problem,
        ),
    ]
}

fn wrong_places(server: &TestServer) -> Vec<Row> {
    let good = || server.post(initialize().to_string());
    let from = |origin: &str| good().header("Origin", origin).bytes();
    let at = |path: &str| raw(&format!("POST {path} HTTP/1.1"), HOST);
    let preflight = |request: Request| request.header("Access-Control-Request-Method", "POST");
    vec![
        row("POST to the page at the root", at("/"), 405, Problem),
        row("a path below the endpoint", at("/mcp/x"), 404, Problem),
        row("a path beside the endpoint", at("/mcpx"), 404, Problem),
        row("the endpoint in capitals", at("/MCP"), 404, Problem),
        row("the endpoint after two slashes", at("//mcp"), 404, Problem),
        row("the endpoint of the older transport", at("/sse"), 404, Problem),
        row("a path that climbs", at("/x/../mcp"), 404, Problem),
        row("POST to the metadata", at("/.well-known/oauth-protected-resource"), 405, Problem),
        row("POST to the list of sessions", at("/debug/sessions"), 405, Problem),
        row("a foreign Origin", from("https://evil.org"), 403, Problem),
        row("an Origin that begins like ours", from("http://localhost.evil.org"), 403, Problem),
        row("an Origin that ends like ours", from("http://evil-localhost"), 403, Problem),
        row("an Origin with our host as user", from("http://localhost@evil.org"), 403, Problem),
        row("an Origin of another scheme", from("ftp://localhost"), 403, Problem),
        row("an Origin with a path", from("http://localhost/x"), 403, Problem),
        row("Origin null", from("null"), 403, Problem),
        row("an empty Origin", from(""), 403, Problem),
        row("an Origin that is not ASCII", from("http://löcalhost"), 403, Problem),
        row(
            "two Origins",
            good()
                .header("Origin", "http://localhost")
                .header("Origin", "http://localhost")
                .bytes(),
            403,
            Problem,
        ),
        row(
            "a preflight from a foreign Origin",
            preflight(server.request("OPTIONS", "/mcp").header("Origin", "https://evil.org"))
                .bytes(),
            403,
            Problem,
        ),
        row(
            "GET from a foreign Origin",
            server.request("GET", "/mcp").header("Origin", "https://evil.org").bytes(),
            403,
            Problem,
        ),
    ]
}
