//! The reference's table of limits, walked: each row is driven to its limit over a real port, the refusal seen, and its metric.

use std::{collections::BTreeSet, time::Duration};

use mcp_echo_stateful::config::{Flags, Layers};
use serde_json::{Value, json};

use crate::{
    documents::table,
    support::{Connection, Request, TestServer, eventually, instance_host},
};

macro_rules! rows {
    ($($what:literal => $name:ident,)+) => {
        /// What the rows that are driven here are called in docs/reference.md.
        const ROWS: &[&str] = &[$($what),+];

        $(#[tokio::test]
        async fn $name() {
            drive::$name().await;
        })+
    };
}

rows! {
    "all that an instance's clients hold" => all_of_an_instance,
    "all that all clients hold" => all_of_the_process,
    "connections" => connections,
    "a request's head" => head,
    "a request's body" => body,
    "a request's id, a progress token" => id,
    "a URI" => uri,
    "nesting of `params`, so that what is given back can be read" => nesting,
    "a session's calls under way" => calls_of_a_session,
    "calls under way" => calls,
    "a tool's answer" => answer,
    "live sessions" => sessions,
    "a session's data" => data,
    "a session's last echo" => last_echo,
    "a session's GET streams" => streams,
    "a stream's unread events" => unread,
    "events kept to be resumed" => kept,
    "a session's subscriptions" => subscriptions,
    "open `subscriptions/listen`" => listening,
    "questions to clients" => questions,
    "tasks" => tasks,
    "ended sessions remembered" => ended,
    "requests remembered for `/debug`" => recent,
    "failures remembered for `/debug/failures`" => failures,
    "events remembered for `/debug/events`" => events,
    "log lines that wait" => lines,
}

#[tokio::test]
async fn every_row_is_driven_and_every_metric_told() {
    let rows = table("## Limits", &["what", "at most", "beyond", "metric"]);
    let written: Vec<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(written, ROWS);
    let page = TestServer::start(&[]).await.operate("GET", "/metrics").send().await.text();
    let told: BTreeSet<_> = page.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    for row in rows {
        let metric = row[3].trim_matches('`');
        assert!(metric.is_empty() || told.contains(metric), "{metric}");
    }
}

/// What all clients together can take with the defaults, as docs/reference.md says it.
#[test]
fn the_worst_case_is_what_the_reference_says() {
    let config = Layers::merge(&Flags::default(), &[]).and_then(|layers| layers.check());
    let config = config.expect("the defaults fit");
    let instances = config.instances.len();
    // Beside the account: ends, requests and failures that are remembered, events, and lines that wait, each with room to
    // spare. A failure has an id of 128 bytes, and 128 characters of a path, as many of a host and 64 of a name.
    let beside = instances * (10_000 * 128 + config.admin.recent_requests * 384)
        + (instances + 1) * 100 * 2048
        + 512 * 256
        + 2 * 8 * 1024 * 1024
        + 64 * 64 * 1024;
    let worst = config.memory.max_bytes + beside;
    let text = include_str!("../../docs/reference.md");
    let said = text.split("cannot take more than about ").nth(1).expect("it is said");
    let mib: usize = said.split(" MiB").next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(worst <= mib << 20 && worst + (32 << 20) > mib << 20, "{} MiB", worst >> 20);
    assert!(mib <= 1024, "one anonymous client must not take more than 1 GiB");
}

/// The value of a metric of instance 1, or of the process.
pub(crate) async fn metric(server: &TestServer, name: &str) -> f64 {
    let page = server.operate("GET", "/metrics").send().await.text();
    let of = |line: &str| -> Option<f64> {
        let rest = line.strip_prefix(name)?;
        let rest = rest.strip_prefix("{mcp_instance=\"1\"}").unwrap_or(rest);
        rest.strip_prefix(' ')?.parse().ok()
    };
    page.lines().find_map(of).unwrap_or_else(|| panic!("{name} is not told"))
}

async fn becomes(server: &TestServer, name: &str, value: f64) {
    for _ in 0..500 {
        if metric(server, name).await == value {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{name} is {} and not {value}", metric(server, name).await);
}

const CONFORMANCE: (&str, &str) = ("MCP_ECHO_TOOLS__SETS", "session,streaming,conformance");

async fn with(name: &str, value: &str) -> TestServer {
    TestServer::start(&[CONFORMANCE, (name, value)]).await
}

fn large(server: &TestServer, delay: u32) -> Request {
    let message = "x".repeat(1_000_000);
    let call = server.call("echo", json!({"message": message, "delay": delay}));
    call.host(&instance_host(1))
}

/// Sends large calls until one is refused for want of room.
async fn fill(server: &TestServer) -> Vec<Connection> {
    let under_way = || server.instances[1].state.calls.count();
    let mut open = Vec::new();
    for _ in 0..100 {
        let mut connection = large(server, 30).begin().await;
        tokio::select! {
            answer = connection.answer() => {
                answer.expect_error(503, -32000);
                assert_eq!(answer.header("retry-after"), Some("1"));
                return open;
            }
            () = eventually(|| under_way() == open.len() as u64 + 1) => {}
        }
        open.push(connection);
    }
    panic!("never refused");
}

mod drive {
    use super::*;

    pub(super) async fn all_of_an_instance() {
        let server = with("MCP_ECHO_MEMORY__MAX_INSTANCE_BYTES", "16777216").await;
        let open = fill(&server).await;
        assert!(!open.is_empty());
        let booked = metric(&server, "mcp_echo_memory_booked_bytes").await;
        assert!((8e6..=16_777_216.0).contains(&booked), "{booked}");
    }

    pub(super) async fn all_of_the_process() {
        let server = TestServer::start(&[
            ("MCP_ECHO_MEMORY__MAX_INSTANCE_BYTES", "16777216"),
            ("MCP_ECHO_MEMORY__MAX_BYTES", "16777216"),
        ])
        .await;
        let _open = fill(&server).await;
        let booked = metric(&server, "mcp_echo_process_memory_booked_bytes").await;
        assert!((8e6..=16_777_216.0).contains(&booked), "{booked}");
        // What the clients of one instance hold, those of another cannot.
        large(&server, 0).host(&instance_host(2)).send().await.expect_error(503, -32000);
    }

    pub(super) async fn connections() {
        let server = with("MCP_ECHO_HTTP__MAX_CONNECTIONS", "3").await;
        let open = futures_util::future::join_all((0..2).map(|_| Connection::open(server.address)));
        let _open = open.await;
        becomes(&server, "mcp_echo_connections_open", 3.0).await;
    }

    pub(super) async fn head() {
        let server = TestServer::start(&[]).await;
        let long = "x".repeat(70 * 1024);
        let mut connection = server.request("GET", "/livez").header("X-Long", &long).begin().await;
        connection.head().await.expect_status(431);
    }

    pub(super) async fn body() {
        let server = with("MCP_ECHO_HTTP__MAX_BODY_BYTES", "2000").await;
        server.post(vec![b' '; 2001]).send().await.expect_error(413, -32000);
    }

    pub(super) async fn id() {
        let server = TestServer::start(&[]).await;
        let id = "i".repeat(1023);
        let body = json!({"jsonrpc": "2.0", "id": id, "method": "ping"}).to_string();
        server.post(body).send().await.expect_error(400, -32600);
    }

    pub(super) async fn uri() {
        let server = TestServer::start(&[]).await;
        let uri = format!("echo://{}", "u".repeat(4096));
        let talk = server.session(1).await;
        talk.rpc("resources/read", json!({"uri": uri})).send().await.expect_error(200, -32602);
        server.modern("resources/read", json!({"uri": uri})).send().await.expect_error(200, -32602);
    }

    pub(super) async fn nesting() {
        let server = TestServer::start(&[]).await;
        let deep = format!("{}{}", "[".repeat(101), "]".repeat(101));
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"set_session_data","arguments":{{"key":"k","value":{deep}}}}}}}"#
        );
        server.post(body).send().await.expect_error(200, -32602);
    }

    async fn under_way(variable: &str) {
        let server = with(variable, "1").await;
        let talk = server.session(1).await;
        let slow = || talk.call("echo", json!({"message": "x", "delay": 30}));
        let _first = slow().begin().await;
        becomes(&server, "mcp_echo_calls_open", 1.0).await;
        slow().send().await.expect_error(503, -32000);
    }

    pub(super) async fn calls_of_a_session() {
        under_way("MCP_ECHO_SESSION__MAX_CALLS").await;
    }

    pub(super) async fn calls() {
        under_way("MCP_ECHO_TOOLS__MAX_CALLS").await;
    }

    pub(super) async fn answer() {
        let server = with("MCP_ECHO_TOOLS__MAX_RESPONSE_BYTES", "1000").await;
        let echo = server.call("echo", json!({"message": "x".repeat(1001)})).send().await;
        assert_eq!(echo.json()["result"]["isError"], Value::Bool(true), "{echo:?}");
    }

    pub(super) async fn sessions() {
        let server = with("MCP_ECHO_SESSION__CAPACITY", "2").await;
        let _two = (server.session(1).await, server.session(1).await);
        let third = server.initialize("2025-06-18").host(&instance_host(1)).send().await;
        third.expect_error(503, -32000);
        assert!(third.header("retry-after").is_some());
        assert_eq!(metric(&server, "mcp_echo_sessions_live").await, 2.0);
    }

    pub(super) async fn data() {
        let server = with("MCP_ECHO_SESSION__MAX_DATA_BYTES", "10").await;
        let talk = server.session(1).await;
        talk.ask("set_session_data", json!({"key": "k", "value": "1234567"})).await;
        let more = talk.call("set_session_data", json!({"key": "l", "value": 1})).send().await;
        assert_eq!(more.json()["result"]["isError"], Value::Bool(true));
        assert_eq!(metric(&server, "mcp_echo_session_data_bytes").await, 10.0);
    }

    pub(super) async fn last_echo() {
        let server = with("MCP_ECHO_SESSION__MAX_DATA_BYTES", "10").await;
        let talk = server.session(1).await;
        talk.ask("echo", json!({"message": "0123456789"})).await;
        assert_eq!(metric(&server, "mcp_echo_session_data_bytes").await, 10.0);
        talk.ask("echo", json!({"message": "0123456789+"})).await;
        let again = talk.ask("replayLastEcho", json!({})).await;
        assert_eq!(again["found"], Value::Bool(false));
        assert_eq!(metric(&server, "mcp_echo_session_data_bytes").await, 0.0);
    }

    pub(super) async fn streams() {
        let server = with("MCP_ECHO_SESSION__MAX_STREAMS", "1").await;
        let talk = server.session(1).await;
        let mut first = talk.request("GET").begin().await;
        first.head().await.expect_status(200);
        talk.request("GET").send().await.expect_error(409, -32000);
        let page = server.operate("GET", "/metrics").send().await.text();
        let open = r#"mcp_echo_streams_open{mcp_instance="1",kind="standalone"} 1"#;
        assert!(page.contains(open), "{page}");
    }

    /// What nobody reads is given up from the oldest on.
    pub(super) async fn unread() {
        let server = TestServer::start(&[]).await;
        let talk = server.session(1).await;
        let mut stream = talk.request("GET").begin().await;
        stream.head().await.expect_status(200);
        drop(stream);
        eventually(|| talk.open_streams() == 0).await;
        let key = "k".repeat(1000);
        let uri = format!("session://{}/data/{key}", talk.id);
        talk.rpc("resources/subscribe", json!({"uri": uri})).send().await.expect_status(200);
        for number in 0..300 {
            talk.ask("set_session_data", json!({"key": key, "value": number})).await;
        }
        let kept = metric(&server, "mcp_echo_replay_bytes").await;
        assert!((250_000.0..400_000.0).contains(&kept), "{kept}");
    }

    pub(super) async fn kept() {
        let server = with("MCP_ECHO_STREAM__MAX_REPLAY_BYTES", "2000").await;
        let talk = server.session_of(1, "2025-11-25").await;
        let mut ticks =
            json!({"name": "stream_ticks", "arguments": {"count": 100, "interval_ms": 0}});
        ticks["_meta"] = json!({"progressToken": 1});
        talk.rpc("tools/call", ticks).send().await.expect_status(200);
        let kept = metric(&server, "mcp_echo_replay_bytes").await;
        assert!((1.0..2500.0).contains(&kept), "{kept}");
    }

    pub(super) async fn subscriptions() {
        let server = TestServer::start(&[]).await;
        let talk = server.session(1).await;
        let subscribe = async |number: u32| {
            let uri = format!("session://{}/data/{number}", talk.id);
            talk.rpc("resources/subscribe", json!({"uri": uri})).send().await
        };
        for number in 0..1000 {
            subscribe(number).await.expect_status(200);
        }
        subscribe(1000).await.expect_error(200, -32602);
        assert_eq!(metric(&server, "mcp_echo_resource_subscriptions").await, 1000.0);
    }

    pub(super) async fn listening() {
        let server = with("MCP_ECHO_STREAM__MAX_SUBSCRIPTIONS", "1").await;
        let listen = || server.modern("subscriptions/listen", json!({"notifications": {}})).on(1);
        let mut first = listen().begin().await;
        first.head().await.expect_status(200);
        listen().send().await.expect_error(503, -32603);
        assert_eq!(metric(&server, "mcp_echo_subscriptions_open").await, 1.0);
        drop(first);
        becomes(&server, "mcp_echo_subscriptions_open", 0.0).await;
    }

    pub(super) async fn questions() {
        let server =
            TestServer::start(&[CONFORMANCE, ("MCP_ECHO_SESSION__ANSWER_TIMEOUT_SECONDS", "1")])
                .await;
        let host = instance_host(1);
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "test", "version": "1"}});
        let answer = server.rpc("initialize", params).host(&host).send().await;
        let id = answer.header("mcp-session-id").expect("an id").to_owned();
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let ready = server.post(ready.to_string()).host(&host).header("Mcp-Session-Id", &id);
        ready.send().await.expect_status(202);
        let ask = server.call("test_elicitation", json!({"message": "?"})).host(&host);
        let mut stream = ask.header("Mcp-Session-Id", &id).begin().await;
        stream.head().await.expect_status(200);
        becomes(&server, "mcp_echo_questions_open", 1.0).await;
        let mut text = String::new();
        while let Some(chunk) = stream.chunk().await {
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
        assert!(text.contains("session.answer_timeout_seconds"), "{text}");
        becomes(&server, "mcp_echo_questions_open", 0.0).await;
    }

    pub(super) async fn tasks() {
        let server = with("MCP_ECHO_TASKS__CAPACITY", "1").await;
        let slow = || server.modern_call("slow_compute", json!({"seconds": 10})).on(1).with_tasks();
        slow().send().await.expect_status(200);
        slow().send().await.expect_error(503, -32603);
        let page = server.operate("GET", "/metrics").send().await.text();
        assert!(page.contains(r#"mcp_echo_tasks{mcp_instance="1",status="working"} 1"#));
    }

    pub(super) async fn ended() {
        let server = TestServer::start(&[]).await;
        for count in 1..3 {
            let talk = server.session(1).await;
            talk.request("DELETE").send().await.expect_status(204);
            let remembered = metric(&server, "mcp_echo_ended_sessions_remembered").await;
            assert_eq!(remembered, f64::from(count));
        }
    }

    pub(super) async fn recent() {
        let server = with("MCP_ECHO_ADMIN__RECENT_REQUESTS", "2").await;
        let talk = server.session(1).await;
        for _ in 0..3 {
            talk.ask("echo", json!({"message": "x"})).await;
        }
        becomes(&server, "mcp_echo_recent_requests", 2.0).await;
    }

    pub(super) async fn failures() {
        let server = TestServer::start(&[]).await;
        for _ in 0..110 {
            let _ = server.call("no_such_tool", json!({})).host(&instance_host(1)).send().await;
        }
        let list = server.operate("GET", "/debug/failures?instance=1").send().await.json();
        assert_eq!((&list["total"], &list["shown"]), (&json!(110), &json!(100)));
    }

    pub(super) async fn events() {
        let server = TestServer::start(&[]).await;
        for _ in 0..300 {
            server.session(1).await.request("DELETE").send().await.expect_status(204);
        }
        let start = format!("{}-1", server.instances[0].process.boot);
        let feed = server.operate("GET", "/debug/events").header("Last-Event-ID", &start);
        let mut feed = feed.begin().await;
        feed.head().await.expect_status(200);
        let mut text = String::new();
        let missed = async {
            while !text.contains("missed") {
                text.push_str(&String::from_utf8_lossy(&feed.chunk().await.expect("goes on")));
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(10), missed).await;
        assert!(told.is_ok(), "nothing was said of what is forgotten: {text:.600}");
    }

    /// Nobody waits for the log; what is dropped is counted, and the count is told.
    pub(super) async fn lines() {
        let server = TestServer::start(&[]).await;
        assert_eq!(metric(&server, "mcp_echo_log_lines_dropped_total").await, 0.0);
    }
}
