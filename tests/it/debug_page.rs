//! What the page at `/debug` is given: itself, the numbers, the sessions, the events.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mcp_echo_stateful::{id::EndReason, observe::events::KEPT};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::support::{
    Answer, Connection, PATIENCE, Request, TestServer, eventually, instance_host,
};

const BEARER: &str = "Bearer admin-secret";

fn admin(server: &TestServer, method: &str, host: &str, path: &str) -> Request {
    server.request(method, path).host(host).header("Authorization", BEARER)
}

async fn get(server: &TestServer, host: &str, path: &str) -> Value {
    let answer = admin(server, "GET", host, path).send().await;
    answer.expect_status(200);
    answer.json()
}

fn open_streams(server: &TestServer, instance: usize) -> u64 {
    server.instances[instance].state.counters.streams().map(|(_, open)| open).sum()
}

fn reference(info: &Value) -> String {
    info["session_ref"].as_str().expect("a ref").to_owned()
}

#[tokio::test]
async fn the_page_runs_what_it_brings_and_nothing_else() {
    let server = TestServer::start(&[]).await;
    for host in ["localhost".to_owned(), instance_host(3)] {
        for path in ["/debug", "/debug/"] {
            let page = server.request("GET", path).host(&host).send().await;
            page.expect_status(200);
            let document = page.text();
            let policy = page.header("content-security-policy").expect("a policy").to_owned();
            let directives: Vec<_> = policy.split(';').map(str::trim).collect();
            for expected in [
                "default-src 'none'",
                "connect-src 'self'",
                "img-src data:",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
                "require-trusted-types-for 'script'",
                "trusted-types 'none'",
            ] {
                assert!(directives.contains(&expected), "{expected} is not in {policy}");
            }
            for (directive, opening, closing) in [
                ("script-src", "<script type=\"module\">", "</script>"),
                ("style-src", "<style>", "</style>"),
            ] {
                let parts: Vec<_> = document.split(opening).collect();
                let [_, rest] = &*parts else { panic!("{} of {opening}", parts.len() - 1) };
                let (inline, _) = rest.split_once(closing).expect("it ends");
                assert!(inline.len() > 1000, "{opening} holds something");
                let digest = STANDARD.encode(Sha256::digest(inline));
                let expected = format!("{directive} 'sha256-{digest}'");
                assert!(directives.contains(&&*expected), "{expected} is not in {policy}");
            }
            for (name, value) in [
                ("content-type", "text/html; charset=utf-8"),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
                ("cache-control", "no-store"),
            ] {
                assert_eq!(page.header(name), Some(value));
            }
            // Nothing from elsewhere, nothing that the policy would refuse.
            for word in ["{{", "src=", "style=", "onclick=", "@import", "innerHTML"] {
                assert!(!document.contains(word), "{word}");
            }
            assert!(!document.contains("href=\"http"));
        }
    }
    server.request("POST", "/debug").send().await.expect_status(405);
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn without_a_token_that_could_be_given_there_is_no_page() {
    let server = TestServer::start(&[("ADMIN_TOKEN", ""), ("DEBUG", "false")]).await;
    for host in ["localhost".to_owned(), instance_host(3)] {
        for path in ["/debug", "/debug/", "/debug/overview", "/debug/events"] {
            server.request("GET", path).host(&host).send().await.expect_status(404);
        }
    }
}

#[tokio::test]
async fn all_but_the_page_needs_the_token() {
    let server = TestServer::start(&[]).await;
    for (method, path) in [
        ("GET", "/debug/overview"),
        ("GET", "/debug/events"),
        ("GET", "/debug/sessions"),
        ("DELETE", "/debug/sessions?instance=0"),
    ] {
        for host in ["localhost".to_owned(), instance_host(0)] {
            server.request(method, path).host(&host).send().await.expect_status(401);
            let wrong =
                server.request(method, path).host(&host).header("Authorization", "Bearer x");
            wrong.send().await.expect_status(401);
        }
    }
}

#[tokio::test]
async fn the_overview_counts() {
    let server = TestServer::start(&[("HOSTNAME", "pod-7"), ("MCP_ECHO_REPLICA__TAG", "a1")]).await;
    let talk = server.session(3).await;
    talk.ask("set_session_data", json!({"key": "k", "value": "12345"})).await;
    let _ = talk.call("no_such_tool", json!({})).send().await;
    let _ = talk.call("get_session_data", json!({"key": 5})).send().await;
    // Neither a look at it nor what reaches no instance is traffic of one.
    let _ = get(&server, &instance_host(3), "/debug/sessions").await;
    let _ = server.request("GET", "/mcp").host("example.org").send().await;
    let mut stream = talk.request("GET").header("Accept", "text/event-stream").begin().await;
    stream.head().await.expect_status(200);

    let traffic = &server.instances[3].state.requests;
    eventually(|| traffic.totals().requests == 4).await;
    let all = get(&server, "localhost", "/debug/overview").await;
    assert_eq!((&all["replica"], &all["tag"]), (&json!("pod-7"), &json!("a1")));
    assert_eq!(
        (&all["draining"], &all["version"]),
        (&json!(false), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(all["boot"].as_str().map(str::len), Some(3));
    assert!(all["uptime_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    assert_eq!(all["instances"].as_array().map(Vec::len), Some(10));
    let three = &all["instances"][3];
    let numbers =
        ["instance", "live", "created", "requests", "errors", "open_streams", "data_bytes"];
    assert_eq!(
        numbers.map(|name| three[name].as_u64()),
        [3, 1, 1, 4, 2, 1, 8].map(Some),
        "{three}"
    );
    let four = &all["instances"][4];
    assert_eq!(numbers.map(|name| four[name].as_u64()), [4, 0, 0, 0, 0, 0, 0].map(Some), "{four}");

    let own = get(&server, &instance_host(3), "/debug/overview").await;
    assert_eq!(own["instances"].as_array().map(Vec::len), Some(1));
    assert_eq!(own["instances"][0]["instance"], 3);

    drop(stream);
    eventually(|| open_streams(&server, 3) == 0).await;
    assert_eq!(traffic.totals().errors, 2, "a stream that its client closes is no error");
}

#[tokio::test]
async fn a_subscription_is_an_open_stream_too() {
    let server = TestServer::start(&[]).await;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({"notifications": {"toolsListChanged": true}, "_meta": meta});
    let request = server.rpc("subscriptions/listen", params).host(&instance_host(2));
    let request = request
        .header("MCP-Protocol-Version", "2026-07-28")
        .header("Mcp-Method", "subscriptions/listen")
        .header("Accept", "text/event-stream");
    let mut stream = request.begin().await;
    stream.head().await.expect_status(200);
    assert_eq!(open_streams(&server, 2), 1);
    drop(stream);
    eventually(|| open_streams(&server, 2) == 0).await;
    let mut events = Events::open(&server, "localhost", None).await;
    for expected in ["stream_opened", "stream_closed"] {
        let (_, event) = events.next().await;
        assert_eq!((&event["event"], &event["instance"]), (&json!(expected), &json!(2)));
        assert_eq!(event["session"], Value::Null);
    }
}

#[tokio::test]
async fn sessions_are_found_by_what_an_operator_knows() {
    let server = TestServer::start(&[]).await;
    let (one, two) = (server.session(1).await, server.session(2).await);
    let [one_ref, two_ref] = [one.info().await, two.info().await].map(|info| reference(&info));
    let label = "Überprüfung <b>";
    let made = two.ask("create_session", json!({"label": label})).await;
    let hostile = "<script>alert(1)</script>";
    let client = json!({"name": hostile, "version": "1"});
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
    server.rpc("initialize", params).host(&instance_host(1)).send().await.expect_status(200);

    let find = async |query: &str, host: &str| {
        let list = get(&server, host, &format!("/debug/sessions?{query}")).await;
        let sessions = list["sessions"].as_array().expect("sessions").clone();
        assert_eq!(list["shown"], sessions.len());
        (list["matched"].as_u64(), sessions)
    };
    for (query, expected) in [
        ("", 4),
        ("search=", 4),
        ("search=TEST", 2),
        (&*format!("search={one_ref}"), 1),
        (&*format!("search={}", &two_ref[..5]), 1),
        (&*format!("search={}", one.id), 1),
        ("search=%C3%BCBERPR%C3%9C", 1),
        ("search=%3Cscript%3E", 1),
        ("search=nobody", 0),
        ("instance=1", 2),
        ("instance=2&search=test", 1),
        ("instance=5", 0),
    ] {
        let (matched, sessions) = find(query, "localhost").await;
        assert_eq!((matched, sessions.len()), (Some(expected), expected as usize), "{query}");
    }
    let (matched, sessions) = find("search=test&limit=1", "localhost").await;
    assert_eq!((matched, sessions.len()), (Some(2), 1));
    let (_, sessions) = find("search=script", "localhost").await;
    assert_eq!(
        sessions[0]["client"]["name"], hostile,
        "as it is: what shows it must not believe it"
    );
    assert!(made["session"].is_string());
    let (_, sessions) = find("search=berpr", "localhost").await;
    assert_eq!(sessions[0]["label"], label);
    // Another instance's sessions do not exist at this host.
    assert_eq!(find(&format!("search={two_ref}"), &instance_host(1)).await.0, Some(0));
    let foreign =
        admin(&server, "GET", &instance_host(1), "/debug/sessions?instance=2").send().await;
    foreign.expect_status(404);

    let long = format!("search={}", "x".repeat(257));
    for query in
        ["instance=10", "instance=-1", "instance=", "instance=x", "search=a&search=b", &long]
    {
        let path = format!("/debug/sessions?{query}");
        let refused = admin(&server, "GET", "localhost", &path).send().await;
        refused.expect_status(400);
        assert!(refused.json()["error"].as_str().is_some_and(|text| text.contains("search")));
    }
}

#[tokio::test]
async fn a_session_is_shown_with_its_last_requests() {
    let server = TestServer::start(&[("MCP_ECHO_ADMIN__RECENT_REQUESTS", "60")]).await;
    let (talk, other) = (server.session(3).await, server.session(3).await);
    let path = format!("/debug/sessions/{}", reference(&talk.info().await));
    let named = talk.call("echo", json!({"message": "x"})).header("X-Request-Id", "my-name");
    named.send().await.expect_status(200);
    let _ = talk.call("no_such_tool", json!({})).send().await;
    other.ask("echo", json!({"message": "x"})).await;
    let _ = talk.request("PUT").send().await;
    eventually(|| server.instances[3].state.requests.totals().requests == 7).await;

    let detail = get(&server, "localhost", &path).await;
    let requests = detail["requests"].as_array().expect("requests");
    let shown: Vec<_> = requests
        .iter()
        .map(|request| {
            assert!(request["duration_us"].is_u64() && request["at"].is_string());
            let words = ["http_method", "rpc_method", "tool", "outcome"];
            let words = words.map(|name| request[name].as_str().unwrap_or("-"));
            (words.join(" "), request["status"].as_u64(), request["error"] == true)
        })
        .collect();
    let expected = [
        ("POST tools/call - unknown_tool", 200, true),
        ("POST tools/call echo ok", 200, false),
        ("POST tools/call get_session_info ok", 200, false),
        ("POST initialize - ok", 200, false),
    ];
    let expected = expected.map(|(words, status, error)| (words.to_owned(), Some(status), error));
    assert_eq!(shown, expected);
    assert_eq!(requests[1]["request_id"], "my-name");

    // The instance remembers so many, whosever they are; a detail shows 50 of them.
    for _ in 0..30 {
        other.ask("echo", json!({"message": "x"})).await;
        talk.ask("echo", json!({"message": "x"})).await;
    }
    eventually(|| server.instances[3].state.requests.totals().requests == 67).await;
    let detail = get(&server, "localhost", &path).await;
    assert_eq!(detail["requests"].as_array().map(Vec::len), Some(30));
    for _ in 0..60 {
        talk.ask("echo", json!({"message": "x"})).await;
    }
    eventually(|| server.instances[3].state.requests.totals().requests == 127).await;
    let detail = get(&server, "localhost", &path).await;
    assert_eq!(detail["requests"].as_array().map(Vec::len), Some(50));
}

#[tokio::test]
async fn all_sessions_of_one_instance_are_ended_and_never_all_ten() {
    let server = TestServer::start(&[]).await;
    let mut talks = Vec::new();
    for instance in [3, 3, 3, 4, 5] {
        talks.push(server.session(instance).await);
    }
    for query in
        ["", "?", "?instance=", "?instance=10", "?instance=all", "?instance=3&x=1", "?search=x"]
    {
        let path = format!("/debug/sessions{query}");
        let refused = admin(&server, "DELETE", "localhost", &path).send().await;
        refused.expect_status(400);
        assert!(refused.json()["error"].as_str().is_some_and(|text| text.contains("instance=N")));
    }
    let foreign = admin(&server, "DELETE", &instance_host(4), "/debug/sessions?instance=3");
    foreign.send().await.expect_status(404);
    let live = || server.instances.iter().map(|i| i.state.sessions.counts().live).sum::<u64>();
    assert_eq!(live(), 5);

    let mut stream = talks[0].request("GET").header("Accept", "text/event-stream").begin().await;
    stream.head().await.expect_status(200);
    for expected in [3, 0] {
        let ended =
            admin(&server, "DELETE", "localhost", "/debug/sessions?instance=3").send().await;
        assert_eq!(ended.expect_status(200).json(), json!({"ended": expected}));
    }
    assert_eq!(stream.chunk().await.as_deref(), Some(&b": closing\n\n"[..]));
    assert_eq!(talks[0].rpc("ping", json!({})).send().await.expect_gone(), "terminated");
    talks[3].rpc("ping", json!({})).send().await.expect_status(200);
    let counts = server.instances[3].state.sessions.counts();
    assert_eq!((counts.live, counts.ended[EndReason::Admin.index()]), (0, 3));

    // At its own host an instance need not be named, and may be.
    for (instance, query) in [(4, ""), (5, "?instance=5")] {
        let path = format!("/debug/sessions{query}");
        let ended = admin(&server, "DELETE", &instance_host(instance), &path).send().await;
        assert_eq!(ended.expect_status(200).json(), json!({"ended": 1}));
    }
    assert_eq!(live(), 0);
}

/// An open `/debug/events`.
struct Events {
    connection: Connection,
    text: String,
}

impl Events {
    async fn open(server: &TestServer, host: &str, last: Option<&str>) -> Self {
        let mut request = admin(server, "GET", host, "/debug/events");
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let mut connection = request.begin().await;
        let head = connection.head().await;
        head.expect_status(200);
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("x-accel-buffering"), Some("no"));
        let mut events = Self { connection, text: String::new() };
        assert_eq!(events.frame().await.as_deref(), Some("retry: 1000"));
        events
    }

    /// The next frame; `None` at the end.
    async fn frame(&mut self) -> Option<String> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(frame);
            }
            let chunk = timeout(PATIENCE, self.connection.chunk()).await.expect("in time")?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// The id and the data of the next event.
    async fn next(&mut self) -> (String, Value) {
        let frame = self.frame().await.expect("an event");
        let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
        let data = field("data: ").unwrap_or_else(|| panic!("no data: {frame}"));
        (field("id: ").unwrap_or_default().to_owned(), serde_json::from_str(data).expect("JSON"))
    }

    /// Whether nothing comes for a while.
    async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_millis(300), self.frame()).await.is_err()
    }
}

#[tokio::test]
async fn events_come_in_order_and_can_be_resumed() {
    let server = TestServer::start(&[]).await;
    let first = server.session(3).await;
    let reference_of = async |talk: &crate::support::Talk<'_>| reference(&talk.info().await);
    let first_ref = reference_of(&first).await;

    // What happened before is told first, then what happens.
    let mut events = Events::open(&server, "localhost", None).await;
    let (id, created) = events.next().await;
    assert_eq!(created["event"], "session_created");
    assert_eq!((&created["instance"], &created["session"]), (&json!(3), &json!(first_ref)));
    assert!(created["at"].is_string() && created["reason"].is_null());
    assert!(events.is_quiet().await);
    let start = Instant::now();
    let mut stream = first.request("GET").header("Accept", "text/event-stream").begin().await;
    stream.head().await.expect_status(200);
    assert_eq!(events.next().await.1["event"], "stream_opened");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    first.request("DELETE").send().await.expect_status(204);
    let (_, ended) = events.next().await;
    assert_eq!((&ended["event"], &ended["reason"]), (&json!("session_ended"), &json!("client")));
    let _ = stream.chunk().await;
    drop(stream);
    let (last, closed) = events.next().await;
    assert_eq!(
        (&closed["event"], &closed["session"]),
        (&json!("stream_closed"), &json!(first_ref))
    );
    drop(events);

    // Nobody watches meanwhile.
    let second = server.session(4).await;
    let second_ref = reference_of(&second).await;
    let mut resumed = Events::open(&server, "localhost", Some(&last)).await;
    assert_eq!(resumed.next().await.1["session"], second_ref);
    assert!(resumed.is_quiet().await, "nothing twice");
    let mut resumed = Events::open(&server, "localhost", Some(&id)).await;
    assert_eq!(resumed.next().await.1["event"], "stream_opened");
    // From another start of the process, and from a future that never was: all that is kept.
    let boot = &last[..3];
    let other = if boot == "000" { "001" } else { "000" };
    for id in [format!("{other}-4"), format!("{boot}-99")] {
        let mut again = Events::open(&server, "localhost", Some(&id)).await;
        assert_eq!(again.next().await.1["session"], first_ref, "{id}");
    }
    for id in ["", "7", "x", "zzz-1", "6d3-x", "-"] {
        let request = admin(&server, "GET", "localhost", "/debug/events");
        request.header("Last-Event-ID", id).send().await.expect_status(400);
    }
    // No event holds more of an id than its reference.
    let mut all = Events::open(&server, "localhost", None).await;
    for _ in 0..5 {
        let (_, event) = all.next().await;
        assert!(![&first.id, &second.id].iter().any(|id| event.to_string().contains(&id[6..])));
    }
}

#[tokio::test]
async fn an_instance_tells_of_itself_alone() {
    let server = TestServer::start(&[]).await;
    let (three, _four) = (server.session(3).await, server.session(4).await);
    let mut events = Events::open(&server, &instance_host(3), None).await;
    assert_eq!(events.next().await.1["session"], reference(&three.info().await));
    let _another = server.session(4).await;
    assert!(events.is_quiet().await);
    three.request("DELETE").send().await.expect_status(204);
    assert_eq!(events.next().await.1["reason"], "client");
}

#[tokio::test]
async fn a_reader_that_was_away_too_long_is_told_what_it_missed() {
    let server = TestServer::start(&[]).await;
    let _first = server.session(0).await;
    let (id, _) = Events::open(&server, "localhost", None).await.next().await;
    let (begin, gone) = (KEPT + 50, 51);
    for _ in 0..begin {
        let _ = server.initialize("2025-06-18").send().await;
    }
    // One more than are kept were begun after the first 51, of which the first had been read.
    let mut events = Events::open(&server, "localhost", Some(&id)).await;
    let (_, missed) = events.next().await;
    assert_eq!(missed, json!({"event": "missed", "count": gone - 1}));
    for _ in 0..KEPT {
        assert_eq!(events.next().await.1["event"], "session_created");
    }
    assert!(events.is_quiet().await);
    // At an instance's host it is not known whose they were.
    let mut own = Events::open(&server, &instance_host(0), Some(&id)).await;
    assert_eq!(own.next().await.1["event"], "session_created");
}

#[tokio::test]
async fn a_stop_is_told_and_ends_the_stream() {
    let server = TestServer::start(&[("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "60")]).await;
    let talk = server.session(0).await;
    let mut slow = talk.call("echo", json!({"message": "x", "delay": 5})).begin().await;
    let mut events = Events::open(&server, "localhost", None).await;
    assert_eq!(events.next().await.1["event"], "session_created");
    eventually(|| server.instances[0].state.calls.count() == 1).await;
    server.stop();
    let (_, draining) = events.next().await;
    assert_eq!((&draining["event"], &draining["instance"]), (&json!("draining"), &Value::Null));
    assert_eq!(events.frame().await.as_deref(), Some(": closing"));
    assert_eq!(events.frame().await, None);
    // Whoever asks now is told as well, and not kept.
    assert_eq!(get(&server, "localhost", "/debug/overview").await["draining"], true);
    let mut late = Events::open(&server, "localhost", None).await;
    assert_eq!(late.next().await.1["event"], "session_created");
    assert_eq!(late.next().await.1["event"], "draining");
    assert_eq!(late.frame().await.as_deref(), Some(": closing"));
    let answer: Answer = slow.answer().await;
    answer.expect_status(200);
    drop((events, late));
    assert_eq!(server.stopped().await, mcp_echo_stateful::server::Stopped::Clean);
}

#[tokio::test]
async fn a_reload_is_told_and_forgets_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("config.toml");
    std::fs::write(&file, "").expect("is written");
    let server = TestServer::start_from(&file, &[]).await;
    let talk = server.session(3).await;
    let reference = reference(&talk.info().await);
    let mut events = Events::open(&server, "localhost", None).await;
    assert_eq!(events.next().await.1["event"], "session_created");

    std::fs::write(&file, "[session]\ncapacity = 7").expect("is written");
    let reloaded = admin(&server, "POST", "localhost", "/debug/reload").send().await;
    reloaded.expect_status(200);
    let (_, told) = events.next().await;
    assert_eq!((&told["event"], &told["instance"]), (&json!("reloaded"), &Value::Null));
    talk.ask("echo", json!({"message": "x"})).await;
    eventually(|| server.instances[3].state.requests.totals().requests == 3).await;
    let three = get(&server, "localhost", "/debug/overview").await["instances"][3].clone();
    let numbers = ["capacity", "live", "requests"].map(|name| three[name].as_u64());
    assert_eq!(numbers, [7, 1, 3].map(Some), "{three}");
    let detail = get(&server, "localhost", &format!("/debug/sessions/{reference}")).await;
    assert_eq!(detail["requests"].as_array().map(Vec::len), Some(3));
    // The stream that was open goes on.
    talk.request("DELETE").send().await.expect_status(204);
    assert_eq!(events.next().await.1["event"], "session_ended");

    std::fs::write(&file, "nonsense").expect("is written");
    let refused = admin(&server, "POST", "localhost", "/debug/reload").send().await;
    refused.expect_status(422);
    assert!(events.is_quiet().await);
}

#[tokio::test]
async fn on_a_port_of_its_own_the_page_shows_all_ten() {
    let server = TestServer::start(&[("MCP_ECHO_ADMIN__LISTEN", "127.0.0.1:0")]).await;
    let port = server.admin.expect("a port");
    for host in ["localhost", "10.1.2.3:9090", &instance_host(3)] {
        server.request("GET", "/debug").host(host).to(port).send().await.expect_status(200);
        let overview = admin(&server, "GET", host, "/debug/overview").to(port).send().await;
        let overview = overview.expect_status(200).json();
        assert_eq!(overview["instances"].as_array().map(Vec::len), Some(10));
        let events = admin(&server, "GET", host, "/debug/events").to(port);
        events.begin().await.head().await.expect_status(200);
    }
}
