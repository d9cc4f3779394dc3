//! The log tells each request in one line with its facts, and never a secret.
//!
//! The program writes to `LOG_FILE`; what is in the file when it has ended is what is judged.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use mcp_echo_stateful::{
    config::{Flags, Layers},
    id::SessionRef,
    observe::log::Log,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    process::{Program, rpc, under_way},
    support::{Answer, Connection, eventually},
};

/// What opens `/metrics`.
const TOKEN: (&str, &str) = ("ADMIN_TOKEN", "t0ken");

/// A program that logs to a file in a directory that does not exist yet.
struct Logged {
    program: Program,
    path: PathBuf,
    _directory: TempDir,
}

impl Logged {
    fn start(variables: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("deep/down/server.log");
        let file = [("LOG_FILE", path.to_str().expect("is text"))];
        Self { program: Program::start(&[&file, variables].concat()), path, _directory: directory }
    }

    async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        self.program.begin(method, path, headers, body).await.answer().await
    }

    /// The log of the whole run.
    async fn end(mut self) -> String {
        self.program.signal("TERM");
        let (status, _) = self.program.exited().await;
        assert_eq!(status.code(), Some(0));
        read(&self.path)
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("there is a log")
}

/// Every line as JSON.
fn lines(log: &str) -> Vec<Value> {
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect();
    assert!(!lines.is_empty());
    lines
}

/// The lines of requests.
fn requests(log: &str) -> Vec<Value> {
    lines(log).into_iter().filter(|line| line["message"] == "request").collect()
}

const JSON: (&str, &str) = ("LOG_FORMAT", "json");

fn echo(message: &str) -> String {
    rpc("tools/call", json!({"name": "echo", "arguments": {"message": message}}))
}

#[tokio::test]
async fn every_request_is_one_line_with_its_facts() {
    let logged = Logged::start(&[
        JSON,
        ("MCP_ECHO_HOSTS__FRONT_DOOR", "fixed:3"),
        ("MCP_ECHO_SESSION__MAX_DATA_KEYS", "0"),
    ]);
    let id = logged.program.session().await;
    let own = format!("Mcp-Session-Id: {id}\r\n");
    let strange = "Mcp-Session-Id: hello\r\n";
    let (own_ref, strange_ref) =
        (SessionRef::of(&id).to_string(), SessionRef::of("hello").to_string());
    let (own_ref, strange_ref) = (Some(&*own_ref), Some(&*strange_ref));

    let tool = |name: &str, arguments: Value| {
        rpc("tools/call", json!({"name": name, "arguments": arguments}))
    };
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
    let store = tool("set_session_data", json!({"key": "k", "value": 1}));
    let ping = rpc("ping", json!({}));
    let batch = format!("[{ping}]");
    let version = "MCP-Protocol-Version: 2025-03-26\r\n";
    // HTTP method, path, headers, body; RPC method, tool, session, status, outcome.
    #[rustfmt::skip]
    let rows = [
        ("POST", "/mcp", &*own, &*echo("x"), Some("tools/call"), Some("echo"), own_ref, 200, "ok"),
        ("POST", "/mcp", &own, &store, Some("tools/call"), Some("set_session_data"), own_ref, 200, "tool_error"),
        ("POST", "/mcp", &own, &tool("sing", json!({})), Some("tools/call"), Some("sing"), own_ref, 200, "unknown_tool"),
        ("POST", "/mcp", &own, &tool("echo", json!({})), Some("tools/call"), Some("echo"), own_ref, 200, "invalid_params"),
        ("POST", "/mcp", &own, &rpc("tools/sing", json!({})), Some("tools/sing"), None, own_ref, 200, "method_not_found"),
        ("POST", "/mcp", &own, &rpc("tools/list", json!({})), Some("tools/list"), None, own_ref, 200, "ok"),
        ("POST", "/mcp", &own, &notification, Some("notification"), None, own_ref, 202, "ok"),
        ("POST", "/mcp", version, &batch, Some("batch"), None, None, 200, "ok"),
        ("POST", "/mcp", "", "hello", None, None, None, 400, "not_json"),
        ("POST", "/mcp", "", "{}", None, None, None, 400, "not_a_message"),
        ("POST", "/mcp", strange, &ping, None, None, strange_ref, 404, "unknown"),
        ("GET", "/mcp", "", "", None, None, None, 400, "session_required"),
        ("PUT", "/mcp", "", "", None, None, None, 405, "method_not_allowed"),
        ("POST", "/mcp", "Origin: https://evil.org\r\n", &ping, None, None, None, 403, "foreign_origin"),
        ("GET", "/nothing", "", "", None, None, None, 404, "refused"),
        ("DELETE", "/mcp", &own, "", None, None, own_ref, 204, "ok"),
        ("POST", "/mcp", &own, &ping, None, None, own_ref, 404, "terminated"),
    ];
    let mut bytes = Vec::new();
    for (number, (method, path, headers, body, ..)) in rows.iter().enumerate() {
        let headers = format!("{headers}X-Request-Id: row-{number}\r\n");
        bytes.push(logged.send(method, path, &headers, body).await.body.len());
    }

    let lines = requests(&logged.end().await);
    assert_eq!(lines.len(), 1 + rows.len(), "one line a request");
    assert_eq!(lines[0]["mcp.method.name"], "initialize");
    let by_id: HashMap<_, _> = lines
        .iter()
        .map(|line| (line["mcp_echo.request_id"].as_str().expect("an id"), line))
        .collect();
    for (number, row) in rows.into_iter().enumerate() {
        let (method, path, _, _, rpc_method, tool, session, status, outcome) = row;
        let line = by_id[&*format!("row-{number}")];
        assert_eq!(line["mcp_echo.instance"], 3, "{line}");
        assert_eq!(line["http.request.method"], method, "{line}");
        assert_eq!(line["url.path"], path, "{line}");
        // The method of a message that is refused with its session may be told or not.
        if rpc_method.is_some() {
            assert_eq!(line["mcp.method.name"].as_str(), rpc_method, "{line}");
        }
        assert_eq!(line["gen_ai.tool.name"].as_str(), tool, "{line}");
        assert_eq!(line["mcp.session.id"].as_str(), session, "{line}");
        assert_eq!(line["http.response.status_code"], status, "{line}");
        assert_eq!(line["mcp_echo.outcome"], outcome, "{line}");
        assert_eq!(line["http.response.body.size"], bytes[number], "{line}");
        assert!(
            line["mcp_echo.duration_us"].as_u64().is_some_and(|duration| duration > 0),
            "{line}"
        );
        assert!(line["timestamp"].is_string() && line["level"] == "INFO", "{line}");
    }
}

/// Who was turned away, and where to.
#[tokio::test]
async fn a_refusal_says_which_host_was_asked_for_and_by_whom() {
    let tokens = [("MCP_ECHO_AUTH__MODE", "tokens"), ("MCP_ECHO_AUTH__TOKENS", "alice=s3cret")];
    let limit = [JSON, ("MCP_ECHO_HTTP__MAX_BODY_BYTES", "1024")];
    let logged = Logged::start(&[&tokens[..], &limit].concat());
    let ping = rpc("ping", json!({}));
    let large = format!("{ping:2000}");
    let alice = "Authorization: Bearer s3cret\r\n";
    let raw = |host: &str, path: &str, headers: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        )
    };
    for (request, status) in [
        (raw("evil\u{9b}.example.org", "/mcp", "", &ping), 400),
        (raw("evil.example.org:3000", "/mcp", "", &ping), 421),
        (raw("localhost", "/mcp", "", &ping), 401),
        (raw("localhost", "/mcp", "Origin: https://evil.example.org\r\n", &ping), 403),
        (raw("localhost", "/mcp", alice, &large), 413),
        (raw("localhost", "/metrics", "", ""), 405),
        (raw("localhost", "/mcp", alice, &ping), 200),
    ] {
        let mut connection = Connection::open(logged.program.address).await;
        connection.write(request.as_bytes()).await;
        connection.answer().await.expect_status(status);
    }
    let lines = requests(&logged.end().await);
    let facts: Vec<_> = lines
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().map(str::to_owned);
            let admitted_by = text("mcp_echo.admitted_by");
            let known = "MCP_ECHO_HOSTS__FRONT_DOOR_NAMES".to_owned();
            let misdirected = line["http.response.status_code"] == 421;
            assert_eq!(admitted_by, misdirected.then_some(known), "{line}");
            (
                line["http.response.status_code"].as_u64(),
                text("server.address"),
                text("client.address"),
            )
        })
        .collect();
    let row = |status, host: Option<&str>, peer: Option<&str>| {
        (Some(status), host.map(str::to_owned), peer.map(str::to_owned))
    };
    let peer = Some("127.0.0.1");
    assert_eq!(
        facts,
        [
            // What a client wrote is shown escaped.
            row(400, Some("evil\u{9b}.example.org"), peer),
            row(421, Some("evil.example.org:3000"), peer),
            row(401, Some("localhost"), peer),
            row(403, Some("localhost"), peer),
            row(413, Some("localhost"), peer),
            row(405, Some("localhost"), peer),
            row(200, None, None),
        ]
    );
}

/// What was asked for can be read at night, and can neither fill nor dress up the log.
#[tokio::test]
async fn a_name_that_does_not_exist_is_shown_bounded_and_escaped() {
    let logged = Logged::start(&[]);
    let id = logged.program.session().await;
    let header = format!("Mcp-Session-Id: {id}\r\n");
    let call = |name: &str| rpc("tools/call", json!({"name": name, "arguments": {}}));
    for body in [
        rpc("tools/sing", json!({})),
        call("sing"),
        call("red\u{9b}31m\u{202e}\n"),
        call(&"long".repeat(1000)),
        call(&id),
    ] {
        logged.send("POST", "/mcp", &header, &body).await.expect_status(200);
    }
    let log = logged.end().await;
    for part in [
        "method=\"tools/sing\"",
        "tool=\"sing\"",
        r"red\u009b31m\u202e\u000a",
        &format!("{}…\"", "long".repeat(16)),
    ] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    assert!(!log.contains(&id) && !log.contains('\u{9b}'), "{log}");
    assert!(log.lines().all(|line| line.len() < 600), "{log}");
}

#[tokio::test]
async fn a_misrouted_request_says_who_minted_its_id() {
    let tag = ("MCP_ECHO_REPLICA__TAG", "b2");
    let logged = Logged::start(&[JSON, tag]);
    let ping = rpc("ping", json!({}));
    for id in ["3a1f0aaa-0000-8000-8000-00000000cafe", "0b2f0faa-0000-8000-8000-00000000cafe"] {
        let headers = format!("Mcp-Session-Id: {id}\r\n");
        logged.send("POST", "/mcp", &headers, &ping).await.expect_status(404);
    }
    let call = json!({"name": "get_session_info", "arguments": {"session": "0a1fff00-0000-8000-8000-00000000cafe"}});
    logged.send("POST", "/mcp", "", &rpc("tools/call", call)).await.expect_status(200);
    logged.program.session().await;
    let lines = requests(&logged.end().await);
    let minted: Vec<_> = lines.iter().map(|line| line["mcp_echo.minted_by"].as_str()).collect();
    assert_eq!(minted[0], Some("3/a1/f0a"));
    assert_eq!(minted[1].map(|text| &text[..5]), Some("0/b2/"));
    assert_eq!(minted[2], Some("0/a1/fff"), "a handle's id as well");
    assert_eq!(minted[3], None);
}

/// The hook is of the whole process, so this test runs itself once more and panics there.
#[test]
fn with_json_a_panic_is_a_line_of_the_log() {
    const CHILD: &str = "PANIC_ON_PURPOSE";
    if std::env::var_os(CHILD).is_some() {
        let layers = Layers::merge(&Flags::default(), &[(JSON.0.into(), JSON.1.into())]);
        let config = layers.and_then(|layers| layers.check()).expect("fits");
        let log = Log::install(&config.log).expect("is installed");
        let joined = std::thread::spawn(|| panic!("on\npurpose")).join();
        assert!(joined.is_err());
        return drop(log);
    }
    let output = Command::new(std::env::current_exe().expect("runs"))
        .args(["--exact", "logging::with_json_a_panic_is_a_line_of_the_log", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("runs");
    assert!(output.status.success(), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("purpose"), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("is text");
    let log: String = text.lines().filter(|line| line.starts_with('{')).collect();
    let [line] = &lines(&log)[..] else { panic!("{text}") };
    assert_eq!(line["level"], "ERROR");
    assert!(line["message"].as_str().is_some_and(|text| text.contains("on\npurpose")), "{line}");
}

#[tokio::test]
async fn probes_are_logged_at_debug() {
    for (level, shown) in [("info", false), ("debug", true)] {
        let logged = Logged::start(&[("LOG_LEVEL", level), ("ADMIN_TOKEN", "admin-secret")]);
        let admin = "Authorization: Bearer admin-secret\r\n";
        logged.send("GET", "/metrics", admin, "").await.expect_status(200);
        // One that is turned away is worth a look.
        logged.send("GET", "/metrics", "X-Request-Id: stranger\r\n", "").await.expect_status(401);
        for (method, path) in [("GET", "/livez"), ("GET", "/readyz"), ("HEAD", "/health")] {
            let mut connection = logged.program.begin(method, path, "", "").await;
            connection.head().await.expect_status(200);
        }
        logged.send("GET", "/nothing", "", "").await.expect_status(404);
        let log = logged.end().await;
        assert!(log.contains(" INFO") && log.contains("path=\"/nothing\""), "{log}");
        assert!(log.contains("request_id=\"stranger\""), "{log}");
        for path in ["/livez", "/readyz", "/health", "/metrics"] {
            let mut lines =
                log.lines().filter(|line| line.contains(path) && !line.contains("stranger"));
            let line = lines.next();
            assert_eq!(line.is_some(), shown, "{level}: {log}");
            assert!(line.is_none_or(|line| line.contains("DEBUG")), "{log}");
        }
    }
}

#[tokio::test]
async fn lines_can_be_grepped() {
    for format in ["compact", "pretty"] {
        let logged = Logged::start(&[("LOG_FORMAT", format)]);
        let id = logged.program.session().await;
        let session = format!("Mcp-Session-Id: {id}\r\nX-Request-Id: look-for-me\r\n");
        logged.send("POST", "/mcp", &session, &echo("x")).await.expect_status(200);
        let log = logged.end().await;

        let reference = SessionRef::of(&id).to_string();
        let found: Vec<_> = log
            .lines()
            .filter(|line| line.contains("session") && line.contains(&reference))
            .collect();
        assert_eq!(found.len(), 2, "initialize and the call:\n{log}");
        let call = found[1];
        let between = if format == "compact" { "=" } else { ": " };
        for (name, value) in [
            ("instance", "0"),
            ("method", "\"tools/call\""),
            ("tool", "\"echo\""),
            ("session", &reference),
            ("status", "200"),
            ("bytes", ""),
            ("duration_us", ""),
            ("outcome", "\"ok\""),
            ("request_id", "\"look-for-me\""),
        ] {
            let field = format!("{name}{between}{value}");
            assert!(call.contains(&field), "{field} is not in {call}");
        }
    }
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    for format in ["json", "compact", "pretty"] {
        let logged = Logged::start(&[
            ("LOG_LEVEL", "trace"),
            ("LOG_FORMAT", format),
            ("ADMIN_TOKEN", "hush-admin"),
            ("MCP_ECHO_AUTH__MODE", "tokens"),
            ("MCP_ECHO_AUTH__TOKENS", "alice=hush-alice"),
        ]);
        let initialize = rpc("initialize", json!({"protocolVersion": "2025-06-18"}));
        let alice = "Authorization: Bearer hush-alice\r\n";
        let answer = logged.send("POST", "/mcp", alice, &initialize).await;
        let id = answer.expect_status(200).header("mcp-session-id").expect("an id").to_owned();
        let own = format!("Mcp-Session-Id: {id}\r\n");
        let ping = rpc("ping", json!({}));
        for (authorization, path, status) in [
            ("Bearer hush-alice", "/mcp", 200),
            ("Bearer hush-alice", "/mcp?key=hush-query", 200),
            ("Bearer hush-alice", "/mcp/hush?key=hush-query", 404),
            ("Bearer hush-wrong", "/mcp", 401),
            ("Bearer hush malformed", "/mcp", 400),
            ("hush-malformed", "/mcp", 401),
            ("Basic aHVzaDpodXNo", "/mcp", 401),
        ] {
            let headers = format!("{own}Authorization: {authorization}\r\n");
            logged.send("POST", path, &headers, &ping).await.expect_status(status);
        }
        for (token, path, status) in [
            ("hush-admin", "/debug/sessions?limit=1".to_owned(), 200),
            ("hush-wrong", "/debug/sessions?key=hush-query".to_owned(), 401),
            // The id itself is understood as well as its reference.
            ("hush-admin", format!("/debug/sessions/{id}"), 200),
        ] {
            let headers = format!("Authorization: Bearer {token}\r\n");
            logged.send("GET", &path, &headers, "").await.expect_status(status);
        }
        // A gone id is as secret as a live one: it may be live elsewhere.
        let gone = "3a1f0aaa-0000-8000-8000-00000000cafe";
        let headers = format!("{alice}Mcp-Session-Id: {gone}\r\n");
        logged.send("POST", "/mcp", &headers, &ping).await.expect_status(404);
        over_http2(&logged, &[&own, alice, "Cookie: hush-cookie\r\n"], &echo("hush-message"));
        logged.send("DELETE", "/mcp", &format!("{own}{alice}"), "").await.expect_status(204);

        let log = logged.end().await;
        assert!(log.contains("h2::"), "trace shows what libraries say");
        for secret in ["hush-", "aHVzaDpodXNo", gone, &id] {
            let shown: Vec<_> = log.lines().filter(|line| line.contains(secret)).collect();
            assert!(shown.is_empty(), "{format} shows {secret}: {shown:#?}");
        }
        assert!(log.contains(&SessionRef::of(&id).to_string()));
    }
}

/// The library below HTTP/2 logs by itself.
fn over_http2(logged: &Logged, headers: &[&str], body: &str) {
    let url = format!("http://{}/mcp?key=hush-query", logged.program.address);
    let mut curl = Command::new("curl");
    curl.args(["-sf", "--http2-prior-knowledge", &url, "-d", body]);
    for header in headers.iter().chain(&["Content-Type: application/json"]) {
        curl.args(["-H", header.trim_end()]);
    }
    let output = curl.output().expect("curl runs");
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn what_a_client_wrote_cannot_act_on_a_terminal_and_no_id_is_whole() {
    for format in ["json", "compact"] {
        let logged = Logged::start(&[("LOG_FORMAT", format), ("ADMIN_TOKEN", "hush")]);
        let id = logged.program.session().await;
        let encoded: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for path in [
            format!("//debug/sessions/{id}"),
            format!("/debug/sessions/{id}/"),
            format!("/debug/sessions%2F{id}"),
            format!("/debug/sessions/{encoded}"),
            format!("/x/{encoded}"),
            format!("/{}", id.replace('-', "")),
            format!("/{}", id.to_uppercase()),
            "/a\u{9b}31m\u{202e}b\u{2066}c\u{200b}\u{feff}é".to_owned(),
        ] {
            let headers = format!("X-Request-Id: {id}\r\n");
            let answer = logged.send("GET", &path, &headers, "").await;
            assert_ne!(answer.header("x-request-id"), Some(&*id));
        }
        let log = logged.end().await;
        let plain = id.replace('-', "");
        for hidden in [&id, &plain, &encoded, &id.to_uppercase()] {
            assert!(!log.contains(hidden.as_str()), "{format}: {hidden} is in {log}");
        }
        assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{log:?}");
        let hidden = ['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}'];
        assert!(!log.contains(hidden), "{log:?}");
        assert!(log.contains("/a\\u009b31m\\u202eb\\u2066c\\u200b\\ufeffé"), "{log}");
        assert!(log.contains("{id}"), "{log}");
    }
}

#[tokio::test]
async fn a_stream_is_logged_when_it_ends() {
    let logged = Logged::start(&[JSON]);
    let id = logged.program.session().await;
    let headers = |name: &str| format!("Mcp-Session-Id: {id}\r\nX-Request-Id: {name}\r\n");
    let mut left = logged.program.begin("GET", "/mcp", &headers("left"), "").await;
    left.head().await.expect_status(200);
    let mut ended = logged.program.begin("GET", "/mcp", &headers("ended"), "").await;
    ended.head().await.expect_status(200);
    // A request that ends later is in the log while the streams are not.
    logged.send("POST", "/mcp", &headers("later"), &echo("x")).await.expect_status(200);
    eventually(|| read(&logged.path).contains("later")).await;
    assert!(!read(&logged.path).contains("\"GET\""), "{}", read(&logged.path));

    drop(left);
    eventually(|| read(&logged.path).contains("left")).await;
    assert!(!read(&logged.path).contains("ended"));
    let log = logged.end().await;
    assert_eq!(ended.chunk().await.as_deref(), Some(&b": closing\n\n"[..]));
    let line = |name: &str| {
        let mut found =
            requests(&log).into_iter().filter(|line| line["mcp_echo.request_id"] == name);
        found.next().unwrap_or_else(|| panic!("no line for {name} in {log}"))
    };
    let facts = |name: &str| {
        let line = line(name);
        (
            line["http.response.status_code"].clone(),
            line["mcp_echo.outcome"].clone(),
            line["http.response.body.size"].clone(),
        )
    };
    assert_eq!(facts("left"), (json!(200), json!("client_gone"), json!(0)));
    assert_eq!(facts("ended"), (json!(200), json!("ok"), json!(": closing\n\n".len())));
    assert_eq!(line("ended")["mcp.session.id"], SessionRef::of(&id).to_string());
}

#[tokio::test]
async fn a_client_that_leaves_early_is_logged_as_gone() {
    let logged = Logged::start(&[JSON, TOKEN]);
    let call = logged.program.call("echo", json!({"message": "x", "delay": 30})).await;
    under_way(logged.program.address, TOKEN.1, 1).await;
    drop(call);
    eventually(|| read(&logged.path).contains("client_gone")).await;
    let lines = requests(&read(&logged.path));
    let line = lines.iter().find(|line| line["gen_ai.tool.name"] == "echo").expect("a line");
    assert_eq!(line["mcp_echo.outcome"], "client_gone", "{line}");
}

#[tokio::test]
async fn why_a_call_was_cancelled_is_told() {
    let logged = Logged::start(&[JSON, TOKEN, ("LOG_LEVEL", "debug")]);
    let id = logged.program.session().await;
    let own = format!("Mcp-Session-Id: {id}\r\n");
    let slow = json!({"name": "echo", "arguments": {"message": "x", "delay": 30}});
    let mut slow = logged.program.begin("POST", "/mcp", &own, &rpc("tools/call", slow)).await;
    let cancel = async |id: Value, reason: Value| {
        let params = json!({"requestId": id, "reason": reason});
        let notice =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
        let answer = logged.send("POST", "/mcp", &own, &notice.to_string()).await;
        answer.expect_status(202);
    };
    under_way(logged.program.address, TOKEN.1, 1).await;
    cancel(json!(99), json!("of no call")).await;
    cancel(json!(1), json!(format!("because\u{1b}[31m {id} {}", "long ".repeat(100)))).await;
    slow.answer().await.expect_error(200, -32000);
    under_way(logged.program.address, TOKEN.1, 0).await;
    // A reason that is none cancels all the same.
    let again = json!({"name": "echo", "arguments": {"message": "x", "delay": 30}});
    let mut again = logged.program.begin("POST", "/mcp", &own, &rpc("tools/call", again)).await;
    under_way(logged.program.address, TOKEN.1, 1).await;
    cancel(json!(1), json!({"no": "text"})).await;
    again.answer().await.expect_error(200, -32000);
    let log = logged.end().await;
    assert!(!log.contains("of no call") && !log.contains('\u{1b}') && !log.contains(&id), "{log}");
    let told: Vec<_> =
        lines(&log).into_iter().filter(|line| line["message"] == "call cancelled").collect();
    assert_eq!(told.len(), 2, "{log}");
    let fields = &told[0].to_string();
    assert!(fields.contains("because") && fields.contains(&SessionRef::of(&id).to_string()));
    assert!(fields.len() < 600, "{fields}");
}

#[tokio::test]
async fn the_level_filters() {
    for (level, has_requests, has_sessions) in [
        ("error", false, false),
        ("CRITICAL", false, false),
        ("WARNING", false, false),
        ("INFO", true, false),
        ("DEBUG", true, true),
        ("Trace", true, true),
    ] {
        let logged = Logged::start(&[("LOG_LEVEL", level)]);
        logged.program.session().await;
        let log = logged.end().await;
        assert_eq!(log.contains("outcome=\"ok\""), has_requests, "{level}: {log}");
        assert_eq!(log.contains("session created"), has_sessions, "{level}: {log}");
    }
}

#[tokio::test]
async fn the_file_is_added_to_and_standard_output_tells_the_same() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("server.log");
    let mut told = String::new();
    for _ in 0..2 {
        let mut program = Program::start(&[("LOG_FILE", path.to_str().expect("is text"))]);
        program.session().await;
        program.signal("TERM");
        program.exited().await;
        eventually(|| program.log.lock().expect("lock").contains("stopped")).await;
        told.push_str(&program.log.lock().expect("lock"));
    }
    assert_eq!(read(&path), told);
    assert_eq!(told.matches("listening").count(), 2, "{told}");
}
