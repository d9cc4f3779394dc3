//! `/metrics`: each number is right after a known conversation, and no client can make a series.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    path::Path,
    sync::mpsc,
    time::Duration,
};

use mcp_echo_stateful::{
    id::EndReason,
    link::usage::{OPERATIONS, Outcome},
    observe::{
        access::AccessLog,
        lines::Lines,
        metrics::{ERAS, Kind, STATUSES, StreamKind},
        outcome::RequestOutcome,
    },
    tenant::tasks::Stage,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    modern::FIXTURES,
    store_news::reaches,
    stores::{Engine, StoreServer},
    support::{Answer, Connection, PATIENCE, TestServer, eventually, instance_host},
};

/// So that a store on a machine with much to do is not called lost.
const PATIENT: (&str, &str) = ("MCP_ECHO_STORE__TIMEOUT_SECONDS", "5");

async fn get(server: &TestServer, host: &str) -> Answer {
    let request = server.request("GET", "/metrics").host(host);
    request.header("Authorization", "Bearer admin-secret").send().await
}

/// A page as a reader of the format takes it: sample by sample, each below its family's head.
#[derive(Debug)]
pub struct Samples {
    types: BTreeMap<String, String>,
    values: BTreeMap<String, f64>,
}

impl Samples {
    fn parse(page: &str) -> Self {
        let (mut types, mut values) = (BTreeMap::new(), BTreeMap::new());
        let (mut helped, mut family) = (String::new(), String::new());
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                helped = help.split_once(' ').expect("a help text").0.to_owned();
            } else if let Some(head) = line.strip_prefix("# TYPE ") {
                let (name, kind) = head.split_once(' ').expect("a type");
                assert_eq!(name, helped, "help and type stand together");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
                family = name.to_owned();
            } else {
                let (sample, value) = line.rsplit_once(' ').expect("a value");
                let name = sample.split('{').next().expect("a name");
                let suffixes: &[_] = match types[&family].as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                let fits = suffixes.iter().any(|suffix| *name == format!("{family}{suffix}"));
                assert!(fits, "{name} stands below {family}");
                let value = value.parse().expect("a number");
                assert!(values.insert(sample.to_owned(), value).is_none(), "{sample} twice");
            }
        }
        assert!(values.len() > 50, "{page}");
        Self { types, values }
    }

    /// Of all ten instances and the process.
    pub async fn of(server: &TestServer) -> Self {
        let answer = get(server, "localhost").await;
        Self::parse(&answer.expect_status(200).text())
    }

    #[track_caller]
    pub fn get(&self, sample: &str) -> f64 {
        let value = self.values.get(sample);
        *value.unwrap_or_else(|| panic!("there is no {sample} in {:#?}", self.values.keys()))
    }

    /// The names of all families.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.types.keys().map(String::as_str)
    }

    /// The samples of a name, with their labels.
    pub fn family<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.values.iter().filter_map(move |(sample, value)| {
            let labels = sample.strip_prefix(name)?;
            (labels.is_empty() || labels.starts_with('{')).then_some((labels, *value))
        })
    }

    pub fn sum(&self, name: &str) -> f64 {
        self.family(name).map(|(_, value)| value).sum()
    }

    /// Requests that have ended, scrapes left out.
    fn ended(&self) -> f64 {
        let requests = self.family("mcp_echo_requests_total");
        requests.filter(|(labels, _)| !labels.contains("method=\"admin\"")).map(|(_, n)| n).sum()
    }
}

/// The page once so many requests have ended: an answer may be read before its request has been counted.
#[track_caller]
fn after(server: &TestServer, requests: u32) -> impl Future<Output = Samples> {
    until(server, move |samples| samples.ended() >= f64::from(requests))
}

/// The page once something is so.
#[track_caller]
pub fn until(server: &TestServer, so: impl Fn(&Samples) -> bool) -> impl Future<Output = Samples> {
    let caller = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        loop {
            let samples = Samples::of(server).await;
            if so(&samples) {
                return samples;
            }
            let page = &samples.values;
            assert!(start.elapsed() < PATIENCE, "never came true at {caller}: {page:#?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_known_conversation_gives_known_numbers() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(3).await;
    for _ in 0..2 {
        talk.ask("echo", json!({"message": "x"})).await;
    }
    talk.ask("set_session_data", json!({"key": "key", "value": "12345"})).await;
    let answer = talk.call("echo", json!({})).send().await;
    answer.expect_status(200);
    talk.rpc("tools/sing", json!({})).send().await.expect_status(200);
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    talk.post(notification.to_string()).send().await.expect_status(202);
    talk.rpc("ping", json!({}))
        .header("Origin", "https://evil.org")
        .send()
        .await
        .expect_status(403);
    server.modern_call("echo", json!({"message": "x"})).on(4).send().await.expect_status(200);
    let wrong = talk.rpc("ping", json!({})).host(&instance_host(5)).send().await;
    assert_eq!(wrong.expect_gone(), "other_instance");
    server.post("hello").host(&instance_host(6)).send().await.expect_status(400);
    server.request("PUT", "/mcp").host(&instance_host(6)).send().await.expect_status(405);
    server.request("GET", "/mcp").host(&instance_host(6)).send().await.expect_status(400);
    server.post("hello").at("/echo-stateful7/mcp").send().await.expect_status(400);
    let metadata = server.request("GET", "/.well-known/oauth-protected-resource");
    metadata.host(&instance_host(6)).send().await.expect_status(200);
    // What browsers and scanners look for is no instance's error.
    for path in ["/robots.txt", "/apple-touch-icon.png", "/mcp/more", "/debugger"] {
        server.request("GET", path).host(&instance_host(6)).send().await.expect_status(404);
    }
    server.request("GET", "/livez").send().await.expect_status(200);
    server.post("hello").host("evil.org").send().await.expect_status(421);

    let page = after(&server, 21).await;
    for (labels, count) in [
        (r#"3",method="initialize",era="sessioned",status="2xx"#, 1.0),
        (r#"3",method="tools/call",era="sessioned",status="2xx"#, 4.0),
        (r#"3",method="other",era="sessioned",status="2xx"#, 1.0),
        (r#"3",method="notification",era="sessioned",status="2xx"#, 1.0),
        (r#"3",method="http_post",era="none",status="4xx"#, 1.0),
        (r#"4",method="tools/call",era="stateless",status="2xx"#, 1.0),
        (r#"5",method="ping",era="sessioned",status="4xx"#, 1.0),
        (r#"6",method="http_post",era="sessioned",status="4xx"#, 1.0),
        (r#"6",method="http_other",era="sessioned",status="4xx"#, 1.0),
        (r#"6",method="http_get",era="sessioned",status="4xx"#, 1.0),
        (r#"7",method="http_post",era="sessioned",status="4xx"#, 1.0),
        (r#"6",method="well_known",era="none",status="2xx"#, 1.0),
        (r#"none",method="elsewhere",era="none",status="4xx"#, 4.0),
        (r#"none",method="health",era="none",status="2xx"#, 1.0),
        (r#"none",method="http_post",era="none",status="4xx"#, 1.0),
    ] {
        let sample = format!("mcp_echo_requests_total{{mcp_instance=\"{labels}\"}}");
        assert_eq!(page.get(&sample), count, "{sample}");
    }
    assert_eq!(page.ended(), 21.0);
    assert_eq!(server.instances[6].state.requests.totals().requests, 4);
    for (labels, count) in [
        (r#"3",outcome="ok"#, 5.0),
        (r#"3",outcome="refused"#, 3.0),
        (r#"4",outcome="ok"#, 1.0),
        (r#"5",outcome="refused"#, 1.0),
        (r#"6",outcome="refused"#, 3.0),
        (r#"7",outcome="refused"#, 1.0),
        (r#"none",outcome="refused"#, 5.0),
    ] {
        let sample = format!("mcp_echo_outcomes_total{{mcp_instance=\"{labels}\"}}");
        assert_eq!(page.get(&sample), count, "{sample}");
    }
    assert_eq!(page.sum("mcp_echo_outcomes_total"), page.sum("mcp_echo_requests_total"));
    for (labels, count) in [
        (r#"3",reason="invalid_params"#, 1.0),
        (r#"3",reason="method_not_found"#, 1.0),
        (r#"3",reason="foreign_origin"#, 1.0),
        (r#"5",reason="other_instance"#, 1.0),
        (r#"6",reason="not_json"#, 1.0),
        (r#"6",reason="method_not_allowed"#, 1.0),
        (r#"6",reason="session_required"#, 1.0),
        (r#"6",reason="refused"#, 0.0),
        (r#"7",reason="not_json"#, 1.0),
        (r#"none",reason="refused"#, 5.0),
        (r#"7",reason="internal"#, 0.0),
    ] {
        let sample = format!("mcp_echo_refusals_total{{mcp_instance=\"{labels}\"}}");
        assert_eq!(page.get(&sample), count, "{sample}");
    }
    assert_eq!(page.sum("mcp_echo_refusals_total"), 13.0);
    assert_eq!(page.get("mcp_echo_sessions_live{mcp_instance=\"3\"}"), 1.0);
    assert_eq!(page.get("mcp_echo_session_data_bytes{mcp_instance=\"3\"}"), 11.0);
    assert_eq!(page.sum("mcp_echo_sessions_created_total"), 1.0);
    assert_eq!(page.get("mcp_echo_sessions_capacity{mcp_instance=\"0\"}"), 100_000.0);
    assert_eq!(page.sum("mcp_echo_sessions_shared"), 0.0);
}

#[tokio::test]
async fn an_answer_is_told_from_a_tool_that_failed_and_a_question() {
    let server = TestServer::start(&[FIXTURES, ("MCP_ECHO_SESSION__MAX_DATA_KEYS", "0")]).await;
    let talk = server.session(3).await;
    let full = talk.call("set_session_data", json!({"key": "k", "value": 1})).send().await;
    assert_eq!(full.json()["result"]["isError"], true);
    let asks = || server.modern_call("test_input_required_result_elicitation", json!({})).on(3);
    let asked = asks().capabilities(json!({"elicitation": {}})).result().await;
    assert_eq!(asked["resultType"], "input_required");
    asks().capabilities(json!({})).send().await.expect_error(400, -32021);
    let mut slow = talk.call("echo", json!({"message": "x", "delay": 30})).begin().await;
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    eventually(|| server.instances[3].state.calls.count() == 1).await;
    talk.post(cancel.to_string()).send().await.expect_status(202);
    slow.answer().await.expect_status(200);
    let page = after(&server, 6).await;
    let outcome = |name: &str| {
        page.get(&format!("mcp_echo_outcomes_total{{mcp_instance=\"3\",outcome=\"{name}\"}}"))
    };
    let counts = ["ok", "tool_error", "input_required", "cancelled", "refused", "client_gone"];
    // `initialize` and the notification went well.
    assert_eq!(counts.map(outcome), [2.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
    let reason = r#"mcp_echo_refusals_total{mcp_instance="3",reason="missing_capability"}"#;
    assert_eq!(page.get(reason), 1.0);
}

#[tokio::test]
async fn every_answer_is_timed_but_the_endless_ones() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(3).await;
    talk.ask("echo", json!({"message": "x", "delay": 1.2})).await;
    let mut stream = talk.request("GET").begin().await;
    stream.head().await.expect_status(200);
    drop(stream);
    let page = until(&server, |page| {
        page.values.keys().any(|sample| sample.contains("method=\"http_get\""))
    })
    .await;
    let name = "mcp_echo_request_duration_seconds";
    let own = r#"{mcp_instance="3",era="sessioned""#;
    let bucket = |bound: &str| page.get(&format!("{name}_bucket{own},le=\"{bound}\"}}"));
    assert_eq!(page.get(&format!("{name}_count{own}}}")), 2.0, "the GET is not timed");
    assert_eq!((bucket("+Inf"), bucket("10"), bucket("1")), (2.0, 2.0, 1.0));
    let sum = page.get(&format!("{name}_sum{own}}}"));
    assert!((1.2..10.0).contains(&sum), "{sum}");
    for (name, other) in page.family("mcp_echo_request_duration_seconds_count") {
        assert!(other == 0.0 || name.starts_with(own), "{name}");
    }
    // Cumulative, from the smallest bound to the largest.
    let mut buckets: Vec<(f64, f64)> = page
        .family("mcp_echo_request_duration_seconds_bucket")
        .filter(|(labels, _)| labels.starts_with(own))
        .map(|(labels, count)| {
            let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
            (bound.and_then(|bound| bound.parse().ok()).expect("a bound"), count)
        })
        .collect();
    buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    assert_eq!(buckets.len(), 18);
    assert!(buckets.is_sorted_by(|(_, a), (_, b)| a <= b), "{buckets:?}");
}

#[tokio::test]
async fn live_is_created_less_ended_and_data_goes_with_its_session() {
    let server = TestServer::start(&[
        ("MCP_SESSION_TIMEOUT", "1"),
        ("MCP_ECHO_INSTANCES__1__SESSION__CAPACITY", "1"),
    ])
    .await;
    let balanced = |page: &Samples| {
        for instance in 0..10 {
            let of = |name: &str| page.get(&format!("{name}{{mcp_instance=\"{instance}\"}}"));
            let ended: f64 = EndReason::ALL
                .map(|reason| {
                    let labels =
                        format!("mcp_instance=\"{instance}\",reason=\"{}\"", reason.as_str());
                    page.get(&format!("mcp_echo_sessions_ended_total{{{labels}}}"))
                })
                .iter()
                .sum();
            let created = of("mcp_echo_sessions_created_total");
            assert_eq!(of("mcp_echo_sessions_live"), created - ended);
        }
    };
    let by_client = server.session(0).await;
    let by_admin = server.session(0).await;
    let expires = server.session(1).await;
    for talk in [&by_client, &by_admin, &expires] {
        talk.ask("set_session_data", json!({"key": "k", "value": "a longer value"})).await;
        talk.ask("set_session_data", json!({"key": "k", "value": 1})).await;
    }
    let full = server.initialize("2025-06-18").host(&instance_host(1)).send().await;
    full.expect_status(503);
    let page = Samples::of(&server).await;
    balanced(&page);
    assert_eq!(page.sum("mcp_echo_sessions_live"), 3.0);
    assert_eq!(page.sum("mcp_echo_session_data_bytes"), 6.0);
    assert_eq!(page.get("mcp_echo_sessions_refused_total{mcp_instance=\"1\"}"), 1.0);

    by_client.request("DELETE").send().await.expect_status(204);
    let path = format!("/debug/sessions/{}", by_admin.id);
    let request = server.request("DELETE", &path).header("Authorization", "Bearer admin-secret");
    request.send().await.expect_status(204);
    let page = until(&server, |page| {
        balanced(page);
        page.sum("mcp_echo_sessions_live") == 0.0
    })
    .await;
    for (instance, reason) in [(0, "client"), (0, "admin"), (1, "expired")] {
        let labels = format!("{{mcp_instance=\"{instance}\",reason=\"{reason}\"}}");
        assert_eq!(page.get(&format!("mcp_echo_sessions_ended_total{labels}")), 1.0, "{labels}");
    }
    assert_eq!(page.sum("mcp_echo_session_data_bytes"), 0.0);
}

#[tokio::test]
async fn what_goes_up_comes_down() {
    let server = TestServer::start(&[FIXTURES]).await;
    let open = |page: &Samples, kind: &str| {
        page.get(&format!("mcp_echo_streams_open{{mcp_instance=\"3\",kind=\"{kind}\"}}"))
    };
    let talk = server.session(3).await;
    let standalone = talk.request("GET").begin().await;
    let slow = json!({"message": "x", "delay": 5});
    let call = talk.call("echo", slow.clone()).header("Accept", "text/event-stream").begin().await;
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let subscription = server.modern("subscriptions/listen", filter).on(3).begin().await;
    let idle = Connection::open(server.address).await;
    let task =
        server.modern_call("slow_compute", json!({"seconds": 30})).on(3).with_tasks().send().await;
    assert_eq!(task.expect_status(200).json()["result"]["resultType"], "task", "{task:?}");

    let page = until(&server, |page| {
        StreamKind::ALL.iter().all(|kind| open(page, kind.as_str()) == 1.0)
            && page.sum("mcp_echo_tasks") == 1.0
            // The scrape has a connection of its own.
            && page.get("mcp_echo_connections_open") == 5.0
    })
    .await;
    assert!(page.get("mcp_echo_replay_bytes{mcp_instance=\"3\"}") >= 0.0);
    drop((standalone, call, subscription, idle));
    let page = until(&server, |page| {
        page.sum("mcp_echo_streams_open") == 0.0 && page.get("mcp_echo_connections_open") == 1.0
    })
    .await;
    let gone = r#"mcp_echo_outcomes_total{mcp_instance="3",outcome="client_gone"}"#;
    assert_eq!(page.get(gone), 3.0, "each of the three streams was left by its client");
}

#[tokio::test]
async fn what_streams_keep_is_told() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(3, "2025-11-25").await;
    let _open = talk.request("GET").begin().await;
    until(&server, |page| page.get("mcp_echo_replay_bytes{mcp_instance=\"3\"}") > 0.0).await;
    assert!(server.instances[3].state.replay.kept() > 0);
}

/// Label names and the values that each may have.
fn allowed() -> BTreeMap<&'static str, BTreeSet<String>> {
    let set = |values: Vec<&str>| values.into_iter().map(str::to_owned).collect();
    let digits = (0..10).map(|digit: u8| digit.to_string()).chain(["none".to_owned()]);
    let outcomes: Vec<_> = RequestOutcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    let ends = EndReason::ALL.map(EndReason::as_str);
    let stages = Stage::ALL.map(Stage::as_str);
    BTreeMap::from([
        ("mcp_instance", digits.collect()),
        ("method", set(Kind::all().map(Kind::as_str).collect())),
        ("era", set(ERAS.to_vec())),
        ("status", set([&STATUSES[..], &stages].concat())),
        ("outcome", set([&outcomes[..], &Outcome::ALL.map(Outcome::as_str)].concat())),
        ("operation", set(OPERATIONS.to_vec())),
        ("reason", set([&outcomes[..], &ends].concat())),
        ("kind", set(StreamKind::ALL.map(StreamKind::as_str).to_vec())),
        ("version", set(vec![env!("CARGO_PKG_VERSION")])),
    ])
}

#[tokio::test]
async fn nothing_a_client_says_is_a_label() {
    let store = StoreServer::start(Engine::Redis);
    let server = TestServer::start(&[("MCP_STORE_URL", &store.url()), PATIENT]).await;
    reaches(&server).await;
    let talk = server.session(3).await;
    let before = after(&server, 1).await;
    for request in [
        server.request("EVIL", "/mcp"),
        server.request("GET", "/evil/evil?evil=1"),
        server.request("GET", "/metrics/evil"),
        server.post("evil"),
        server.post("evil").host("evil.example.org"),
        server.post("evil").header("MCP-Protocol-Version", "evil"),
        server.rpc("evil/evil", json!({"evil": "evil"})),
        server.call("evil", json!({})),
        talk.rpc("evil\"} 1\nevil{x=\"", json!({})),
        talk.rpc("ping", json!({})).header("User-Agent", "evil").header("X-Request-Id", "evil"),
        server.rpc("ping", json!({})).header("Mcp-Session-Id", "evil"),
        server.modern("evil", json!({})).header("Mcp-Name", "evil").build(),
        server.request("GET", "/debug/evil").header("Authorization", "Bearer evil"),
        server.request("GET", "/metrics").header("Authorization", "Bearer evil"),
    ] {
        let _ = request.send().await;
    }
    let page = after(&server, 12).await;
    let text = get(&server, "localhost").await.text();
    assert!(!text.contains("evil") && !text.contains(&talk.id), "{text}");
    let allowed = allowed();
    let mut seen = BTreeSet::new();
    for sample in page.values.keys() {
        let labels = sample.split_once('{').map_or("", |(_, rest)| rest.trim_end_matches('}'));
        for label in
            labels.split(',').filter(|label| !label.is_empty() && !label.starts_with("le="))
        {
            let (name, value) = label.split_once('=').expect("a label");
            let value = value.trim_matches('"');
            assert!(allowed[name].contains(value), "{name} is {value:?} in {sample}");
            seen.insert(name.to_owned());
        }
    }
    assert!(seen.iter().eq(allowed.keys()), "{seen:?}");
    // Series come from what is asked, and those of requests alone.
    let names = |page: &Samples| -> BTreeSet<String> {
        let samples =
            page.values.keys().filter(|name| !name.starts_with("mcp_echo_requests_total"));
        samples.cloned().collect()
    };
    assert_eq!(names(&before), names(&page));
}

#[tokio::test]
async fn the_token_opens_it_on_every_host_of_ours() {
    let server = TestServer::start(&[]).await;
    for host in ["localhost", &instance_host(3)] {
        let request = || server.request("GET", "/metrics").host(host);
        request().send().await.expect_status(401);
        request().header("Authorization", "Bearer wrong").send().await.expect_status(401);
        let answer = get(&server, host).await;
        let kind = answer.expect_status(200).header("content-type");
        assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    }
    get(&server, "example.org").await.expect_status(421);
    let request = server.request("POST", "/metrics").header("Authorization", "Bearer admin-secret");
    request.send().await.expect_status(405);
    let closed = TestServer::start(&[("ADMIN_TOKEN", ""), ("DEBUG", "false")]).await;
    get(&closed, "localhost").await.expect_status(404);
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn an_instance_tells_of_itself_alone() {
    let server = TestServer::start(&[]).await;
    let _talks = (server.session(3).await, server.session(4).await);
    after(&server, 2).await;
    let own = Samples::parse(&get(&server, &instance_host(3)).await.text());
    for sample in own.values.keys() {
        assert!(sample.contains("{mcp_instance=\"3\""), "{sample}");
    }
    assert_eq!(own.sum("mcp_echo_sessions_live"), 1.0);
    let all = Samples::of(&server).await;
    assert_eq!(all.sum("mcp_echo_sessions_live"), 2.0);
    // What the one page says of the instance, the other does as well.
    let missing: Vec<_> =
        own.values.keys().filter(|sample| !all.values.contains_key(*sample)).collect();
    assert!(missing.iter().all(|sample| sample.contains("method=\"admin\"")), "{missing:?}");
}

#[tokio::test]
async fn the_process_tells_of_itself() {
    let server = TestServer::start(&[]).await;
    let page = Samples::of(&server).await;
    let now = jiff::Timestamp::now().as_duration().as_secs_f64();
    let started = page.get("process_start_time_seconds");
    assert!((now - 60.0..=now).contains(&started), "{started} of {now}");
    assert!(page.get("process_resident_memory_bytes") > 1e6);
    assert!(page.get("process_virtual_memory_bytes") > page.get("process_resident_memory_bytes"));
    assert!(page.get("process_threads") >= 1.0);
    assert!(page.get("process_max_fds") > page.get("process_open_fds"));
    assert!(page.get("process_open_fds") > 3.0);
    let version = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    assert_eq!(page.get(&format!("mcp_echo_build_info{version}")), 1.0);
    assert_eq!(page.get("mcp_echo_draining"), 0.0);
    assert!(page.types.len() > 20, "{:?}", page.types);
    for (name, kind) in &page.types {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(name.starts_with("mcp_echo_") || name.starts_with("process_"), "{name}");
    }
    // Work shows as processor time.
    until(&server, |later| {
        later.get("process_cpu_seconds_total") > page.get("process_cpu_seconds_total")
    })
    .await;
}

/// Takes nothing until it is dropped.
struct Stuck(mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn lines_that_the_log_lost_are_told() {
    let (go, stuck) = mpsc::channel();
    let (lines, writer) = Lines::write_to(Stuck(stuck)).expect("starts");
    let server = TestServer::start_logging(&[], AccessLog::silent().beside(lines.clone())).await;
    assert_eq!(Samples::of(&server).await.get("mcp_echo_log_lines_dropped_total"), 0.0);
    let line = vec![b'x'; 1024 * 1024];
    (0..32).for_each(|_| lines.push(&line));
    let dropped = lines.dropped();
    assert!(dropped > 8, "{dropped}");
    let page = Samples::of(&server).await;
    assert_eq!(page.get("mcp_echo_log_lines_dropped_total"), dropped as f64);
    drop(go);
    lines.close();
    writer.join().expect("ends");
}

/// Every expression of the rules and the dashboard, with where it stands.
fn expressions() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus");
    let rules = fs::read_to_string(directory.join("rules.yml")).expect("there are rules");
    let lines: Vec<_> = rules.lines().collect();
    let mut found = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let Some(expression) = line.trim_start().strip_prefix("expr:") else { continue };
        let indent = |line: &str| line.len() - line.trim_start().len();
        let more = lines[place + 1..].iter().take_while(|next| indent(next) > indent(line));
        let whole = more.fold(expression.to_owned(), |whole, next| format!("{whole} {next}"));
        found.push((format!("rules.yml:{}", place + 1), whole));
    }
    assert!(found.len() > 5, "the rules were found");
    let rules = found.len();
    let text = fs::read_to_string(directory.join("grafana-dashboard.json")).expect("a dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("is JSON");
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            found.push((panel["title"].to_string(), expression.to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        if let Some(query) = variable["query"]["query"].as_str() {
            found.push((variable["name"].to_string(), query.to_owned()));
        }
    }
    assert!(found.len() > rules + 10, "the panels were found");
    found
}

#[tokio::test]
async fn rules_and_dashboard_name_what_is_there() {
    let store = StoreServer::start(Engine::Redis);
    let server = TestServer::start(&[("MCP_STORE_URL", &store.url()), PATIENT]).await;
    reaches(&server).await;
    let _talk = server.session(0).await;
    let page = after(&server, 1).await;
    let families: BTreeSet<&str> =
        page.values.keys().filter_map(|sample| sample.split('{').next()).collect();
    assert_eq!(page.sum("mcp_echo_sessions_shared"), 10.0);
    let allowed = allowed();
    let (mut named, mut labelled) = (0, 0);
    for (place, expression) in expressions() {
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
        let words = expression.split(word);
        for name in words.filter(|w| w.starts_with("mcp_echo_") || w.starts_with("process_")) {
            named += 1;
            assert!(families.contains(name), "{place} asks for {name}");
        }
        // A matcher that names one value names one that there is.
        for (label, values) in &allowed {
            for operator in ["=\"", "!=\""] {
                for part in expression.split(&format!("{label}{operator}")).skip(1) {
                    let value = part.split('"').next().expect("an end");
                    labelled += 1;
                    assert!(values.contains(value), "{place}: {label} is never {value:?}");
                }
            }
        }
    }
    assert!(named > 20 && labelled > 3, "{named} names, {labelled} labels");
}

#[tokio::test]
async fn counts_go_on_when_the_configuration_is_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.toml");
    fs::write(&path, "").expect("is written");
    let server = TestServer::start_from(&path, &[]).await;
    let talk = server.session(3).await;
    let _stream = talk.request("GET").begin().await;
    talk.ask("set_session_data", json!({"key": "k", "value": 1})).await;
    until(&server, |page| page.sum("mcp_echo_streams_open") == 1.0).await;
    fs::write(&path, "[session]\ncapacity = 7\n").expect("is written");
    server.operate("POST", "/debug/reload").send().await.expect_status(200);
    talk.ask("echo", json!({"message": "x"})).await;
    let page = after(&server, 3).await;
    let calls = r#"{mcp_instance="3",method="tools/call",era="sessioned",status="2xx"}"#;
    assert_eq!(page.get(&format!("mcp_echo_requests_total{calls}")), 2.0);
    assert_eq!(page.get("mcp_echo_sessions_capacity{mcp_instance=\"3\"}"), 7.0);
    for (name, value) in [
        ("mcp_echo_sessions_live", 1.0),
        ("mcp_echo_sessions_created_total", 1.0),
        ("mcp_echo_session_data_bytes", 3.0),
        ("mcp_echo_streams_open", 1.0),
    ] {
        assert_eq!(page.sum(name), value, "{name}");
    }
}

#[tokio::test]
async fn it_moves_to_the_operators_port() {
    let server = TestServer::start(&[("MCP_ECHO_ADMIN__LISTEN", "127.0.0.1:0")]).await;
    let admin = server.admin.expect("a second port");
    let _talk = server.session(3).await;
    for host in ["localhost", &instance_host(3)] {
        server.operate("GET", "/metrics").host(host).send().await.expect_status(404);
    }
    // Whoever scrapes it knows an address, and sends that as the host.
    let answer = server.operate("GET", "/metrics").host("10.1.2.3:9090").to(admin).send().await;
    let page = Samples::parse(&answer.expect_status(200).text());
    assert_eq!(page.sum("mcp_echo_sessions_live"), 1.0);
    assert_eq!(page.family("mcp_echo_sessions_live").count(), 10);
    assert!(page.get("mcp_echo_connections_open") >= 1.0);
}
