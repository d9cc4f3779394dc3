//! What the shared store is asked for a request: so many scripts and no more, over two connections.
//!
//! Owns a count of the scripts by name, as `/metrics` has them, for each tool and each method. What a replica asks in any
//! case (ticks, news, tasks) comes between, and is left out.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::{
    metrics::Samples,
    modern::FIXTURES,
    store_ledger::replicas,
    store_news::at,
    stores::{Engine, StoreServer},
    support::{PATIENCE, Request, Talk, TestServer, eventually},
};

/// So that a store on a machine that has other things to do is not called lost, and is asked once.
const PATIENT: (&str, &str) = ("MCP_ECHO_STORE__TIMEOUT_SECONDS", "5");

/// What is asked without a request, or after several.
const BESIDE: [&str; 8] =
    ["tick", "hear", "standing", "publish", "withdraw", "silent", "task_look", "task_sweep"];

/// How often each script was run, of those that somebody has.
type Scripts = BTreeMap<String, u64>;

async fn scripts(server: &TestServer) -> Scripts {
    let page = Samples::of(server).await;
    let mut scripts = Scripts::new();
    for (labels, count) in page.family("mcp_echo_store_operations_total") {
        let (_, rest) = labels.split_once("operation=\"").expect("a label");
        let (name, _) = rest.split_once('"').expect("ends");
        if count > 0.0 {
            *scripts.entry(name.to_owned()).or_default() += count as u64;
        }
    }
    scripts
}

/// How much more there is.
fn more(before: &Scripts, after: &Scripts) -> Scripts {
    let grown = after
        .iter()
        .map(|(name, count)| (name.clone(), count - before.get(name).copied().unwrap_or_default()));
    grown.filter(|(_, count)| *count > 0).collect()
}

fn of_requests(mut scripts: Scripts) -> Scripts {
    scripts.retain(|name, _| !BESIDE.contains(&&**name));
    scripts
}

#[tokio::test]
async fn an_echo_is_one_script() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let servers = replicas(1, &store.url(), &[PATIENT]).await;
        let talk = servers[0].session(0).await;
        talk.ask("echo", json!({ "message": "so that the script is there" })).await;
        let before = scripts(&servers[0]).await;
        assert_eq!(store.command(&["CONFIG", "RESETSTAT"]).text(), "OK");
        for number in 1..=100 {
            let echo = talk.ask("echo", json!({ "message": format!("m{number}") })).await;
            assert_eq!(echo["request_count"], number + 1);
        }
        let stats = store.commandstats();
        let after = more(&before, &scripts(&servers[0]).await);
        assert_eq!(of_requests(after.clone()), Scripts::from([("commit".to_owned(), 100)]));
        let calls = |name: &str| stats.get(name).copied().unwrap_or_default();
        let (ran, known) = (calls("evalsha") + calls("eval"), after.values().sum::<u64>());
        // A script is counted when it is answered, and one of a tick may be sent twice the first time.
        assert!((100..=known + 8).contains(&ran), "{ran} scripts, {after:?}");
    }
}

#[tokio::test]
async fn a_replica_has_two_connections() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        for count in 1..=3usize {
            let servers = replicas(count, &store.url(), &[PATIENT]).await;
            // On all instances, which share them.
            for instance in 0..10 {
                let talk = servers[count - 1].session(instance).await;
                talk.ask("echo", json!({ "message": "x" })).await;
            }
            let connections = || {
                let list = store.command(&["CLIENT", "LIST"]);
                list.text().lines().filter(|line| line.contains(" addr=127.0.0.1:")).count()
            };
            eventually(|| connections() == 2 * count).await;
            drop(servers);
            eventually(|| connections() == 0).await;
        }
    }
}

/// A request, and what it is.
type Row = (String, Request);

/// Those that have three: a call that begins or ends a session is counted beside, and of a resource it is asked first
/// whether it is there.
const THREE: [&str; 3] = ["create_session", "end_session", "resources/subscribe"];
/// What a stream keeps to be resumed is written beside the call, which does not wait for it.
const KEPT: &str = "append";

/// The arguments of a tool that needs some.
fn arguments(tool: &str) -> Value {
    match tool {
        "echo" => json!({ "message": "x" }),
        "set_session_data" => json!({ "key": "k", "value": 1 }),
        "get_session_data" => json!({ "key": "k" }),
        "stream_ticks" => json!({ "count": 1, "interval_ms": 1 }),
        "big_response" => json!({ "bytes": 1000 }),
        "slow_compute" => json!({ "seconds": 0 }),
        "greet" => json!({ "name": "Ada" }),
        "test_sampling" => json!({ "prompt": "Why?" }),
        "test_elicitation" => json!({ "message": "Who?" }),
        _ => json!({}),
    }
}

/// Each tool that a session has, the one that ends it last.
async fn tools(talk: &Talk<'_>) -> Vec<Row> {
    let list = talk.rpc("tools/list", json!({})).send().await.json();
    let tools = list["result"]["tools"].as_array().expect("tools").iter();
    let mut names: Vec<_> = tools.map(|tool| tool["name"].as_str().expect("a name")).collect();
    assert!(names.len() > 30, "{names:?}");
    names.sort_by_key(|name| *name == "end_session");
    names.iter().map(|&name| (name.to_owned(), talk.call(name, arguments(name)))).collect()
}

/// Each method of a session, its end last.
fn methods(talk: &Talk<'_>) -> Vec<Row> {
    let uri = json!({ "uri": format!("session://{}/data/k", talk.id) });
    let complete = json!({
        "ref": { "type": "ref/resource", "uri": "session://{session}/data/{key}" },
        "argument": { "name": "key", "value": "" }, "context": { "arguments": { "session": talk.id } },
    });
    let notice = |method: &str, params: Value| {
        let notice = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        (method.to_owned(), talk.post(notice.to_string()))
    };
    let mut rows: Vec<_> = [
        ("ping", json!({})),
        ("tools/list", json!({})),
        (
            "tools/call",
            json!({ "name": "set_session_data", "arguments": { "key": "k", "value": 1 } }),
        ),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("resources/read", uri.clone()),
        ("resources/subscribe", uri.clone()),
        ("resources/unsubscribe", uri),
        ("prompts/list", json!({})),
        ("prompts/get", json!({ "name": "echo", "arguments": { "message": "x" } })),
        ("completion/complete", complete),
        ("logging/setLevel", json!({ "level": "error" })),
    ]
    .map(|(method, params)| (method.to_owned(), talk.rpc(method, params)))
    .into();
    let response = json!({ "jsonrpc": "2.0", "id": 17, "result": {} });
    rows.extend([
        notice("notifications/initialized", json!({})),
        notice("notifications/cancelled", json!({ "requestId": 17 })),
        ("a response".to_owned(), talk.post(response.to_string())),
        ("DELETE".to_owned(), talk.request("DELETE")),
        ("initialize".to_owned(), talk.server.initialize("2025-06-18").host(&talk.host)),
    ]);
    rows
}

/// Each tool that takes a handle, and each method of the stateless revision that asks the store.
async fn stateless(server: &TestServer) -> Vec<Row> {
    let handle = server.handle(0).await;
    let call = |tool: &str, arguments: Value| {
        (tool.to_owned(), server.modern_call(tool, arguments).build())
    };
    let mut rows = vec![call("create_session", json!({}))];
    // Which begins one of its own.
    rows.push(call("set_session_data", arguments("set_session_data")));
    for tool in [
        "echo",
        "set_session_data",
        "get_session_data",
        "get_session_info",
        "replayLastEcho",
        "sessionInfo",
    ] {
        let mut arguments = arguments(tool);
        arguments["session"] = json!(handle);
        rows.push(call(tool, arguments));
    }
    let uri = format!("session://{handle}/data/k");
    rows.push((
        "resources/read".to_owned(),
        server.modern("resources/read", json!({ "uri": uri })).build(),
    ));
    rows.push(call("end_session", json!({ "session": handle })));
    let task = server.modern_call("multi_input", json!({})).with_tasks().result().await;
    let id = task["taskId"].as_str().expect("an id");
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let request = server.modern(method, json!({ "taskId": id, "inputResponses": {} }));
        rows.push((method.to_owned(), request.with_tasks().build()));
    }
    rows
}

/// Waits until nothing more is asked, and gives what was.
async fn settled(server: &TestServer) -> Scripts {
    let (start, mut last) = (Instant::now(), Scripts::new());
    loop {
        let now = of_requests(scripts(server).await);
        if now == last {
            return now;
        }
        assert!(start.elapsed() < PATIENCE, "it never rests");
        last = now;
        sleep(Duration::from_millis(50)).await;
    }
}

/// Sends them one after the other, and fails if one asks for more than it may.
async fn expect_few(server: &TestServer, rows: Vec<Row>) {
    let mut before = settled(server).await;
    for (what, request) in rows {
        let answer = request.send().await;
        assert!([200, 202, 204].contains(&answer.status), "{what}: {answer:?}");
        let after = settled(server).await;
        let mut asked = more(&before, &after);
        asked.remove(KEPT);
        let most = if THREE.contains(&&*what) { 3 } else { 2 };
        assert!(asked.values().sum::<u64>() <= most, "{what}: {asked:?}");
        before = after;
    }
}

#[tokio::test]
async fn no_request_asks_for_more_than_two_scripts() {
    let store = StoreServer::start(Engine::Redis);
    let servers = replicas(1, &store.url(), &[PATIENT, FIXTURES]).await;
    let server = &servers[0];
    let (talk, other) = (server.session(0).await, server.session(0).await);
    expect_few(server, tools(&talk).await).await;
    expect_few(server, methods(&other)).await;
    expect_few(server, stateless(server).await).await;
}

#[tokio::test]
async fn the_first_call_at_a_replica_asks_for_one_more() {
    let store = StoreServer::start(Engine::Redis);
    let servers = replicas(2, &store.url(), &[PATIENT]).await;
    let talk = servers[0].session(0).await;
    let mut before = settled(&servers[1]).await;
    for most in [2, 1, 1] {
        at(&servers[1], &talk).ask("echo", json!({ "message": "x" })).await;
        let after = settled(&servers[1]).await;
        let asked = more(&before, &after);
        assert!(asked.values().sum::<u64>() <= most, "{asked:?}");
        assert_eq!(asked["commit"], 1, "{asked:?}");
        before = after;
    }
}
