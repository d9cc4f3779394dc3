//! What clients see while the session store cannot be asked: never "not found", and nothing is lost.

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::{
    events::{Event, Events, events_of},
    modern::{FIXTURES, Modern},
    server_requests::{able, ask, outcome},
    store_news::at,
    stores::{Between, Engine, Mode, StoreServer},
    support::{Answer, PATIENCE, Request, Talk, TestServer},
};

/// 503, with what a client needs to know to come back.
#[track_caller]
fn expect_unavailable(answer: &Answer, code: i64) {
    answer.expect_error(503, code);
    assert_eq!(answer.json()["error"]["data"]["reason"], "store_unavailable", "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
}

#[tokio::test]
async fn every_request_of_a_session_is_told_to_come_back() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    talk.call("set_session_data", json!({"key": "k", "value": 1})).send().await.expect_status(200);
    let store = &server.instances[0].state.sessions;
    store.set_available(false);
    for request in [
        talk.call("echo", json!({"message": "x"})),
        talk.rpc("tools/list", json!({})),
        talk.rpc("resources/read", json!({"uri": format!("session://{}/data/k", talk.id)})),
        talk.request("GET").header("Accept", "text/event-stream"),
        talk.request("DELETE"),
        server.rpc("initialize", json!({"protocolVersion": "2025-06-18", "capabilities": {}})),
        server.rpc("tools/list", json!({})),
    ] {
        expect_unavailable(&request.send().await, -32000);
    }
    // What needs no session is served, and so are the other nine.
    server.request("GET", "/livez").send().await.expect_status(200);
    let other = server.session(1).await;
    other.call("echo", json!({"message": "x"})).send().await.expect_status(200);

    store.set_available(true);
    let info = talk.call("get_session_info", json!({})).send().await;
    let info = &info.json()["result"]["structuredContent"];
    assert_eq!((&info["request_count"], &info["data_keys"]), (&json!(1), &json!(["k"])));
}

#[tokio::test]
async fn a_handle_is_not_called_lost() {
    let server = TestServer::start(&[]).await;
    let handle = server.handle(0).await;
    let store = &server.instances[0].state.sessions;
    store.set_available(false);
    for tool in ["echo", "get_session_info", "end_session"] {
        let call = match tool {
            "echo" => json!({"message": "x", "session": handle}),
            _ => json!({"session": handle}),
        };
        let request = server.modern_call(tool, call);
        expect_unavailable(&request.send().await, -32603);
    }
    expect_unavailable(&server.modern_call("create_session", json!({})).send().await, -32603);
    // Without a handle there is nothing to ask the store for.
    server.modern_call("echo", json!({"message": "x"})).result().await;
    store.set_available(true);
    server.modern_call("echo", json!({"message": "x", "session": handle})).result().await;
}

#[tokio::test]
async fn a_call_under_way_says_so_and_an_operator_too() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(0).await;
    let mut waiting = talk.call("echo", json!({"message": "x", "delay": 0.3})).begin().await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    server.instances[0].state.sessions.set_available(false);
    let answer = waiting.answer().await;
    assert_eq!(answer.json()["error"]["data"]["reason"], "store_unavailable", "{answer:?}");
    server.operate("GET", "/debug/sessions").send().await.expect_status(503);
    let counts = server.instances[0].state.sessions.counts();
    assert_eq!((counts.live, counts.created), (1, 1));
}

const SESSIONED: i64 = -32000;
const STATELESS: i64 = -32603;
/// What need not write; or takes something away first, which a full store lets it.
const LIGHT: [&str; 3] = ["listen to a task", "tasks/get", "tasks/update"];
const WATCHED: &str = "test://watched-resource";

/// What was begun while the store was there.
struct Begun<'a> {
    talk: Talk<'a>,
    /// Of the server, which nobody has answered.
    question: Value,
    /// The first event of a stream that is over, which had three more.
    first: Event,
    handle: String,
    task: String,
}

impl<'a> Begun<'a> {
    /// At that replica; and the stream on which the question was asked.
    async fn at(server: &'a TestServer) -> (Self, Events) {
        let talk = able(server, "2025-11-25").await;
        let ticks = json!({"name": "stream_ticks", "arguments": {"count": 2, "interval_ms": 1}, "_meta": {"progressToken": 1}});
        let ticks = talk.rpc("tools/call", ticks).send().await;
        let first = events_of(&ticks)[0].clone();
        let (asked, question) = ask(&talk, "test_sampling", json!({"prompt": "Why?"})).await;
        let handle = server.handle(0).await;
        let task = server.modern_call("multi_input", json!({})).with_tasks().result().await;
        let task = task["taskId"].as_str().expect("an id").to_owned();
        let start = Instant::now();
        let get = || server.modern("tasks/get", json!({"taskId": task})).with_tasks();
        while get().result().await["status"] != "input_required" {
            assert!(start.elapsed() < PATIENCE, "it never asks");
            sleep(Duration::from_millis(20)).await;
        }
        (Self { talk, question, first, handle, task }, asked)
    }

    /// The answer to the question.
    fn reply(&self) -> Value {
        let said = json!({"type": "text", "text": "Because."});
        let said = json!({"role": "assistant", "content": said, "model": "m"});
        json!({"jsonrpc": "2.0", "id": self.question["id"], "result": said})
    }

    /// Requests in a session that `store_faults` leaves out, at that replica, each with its status where all is well.
    fn of_the_session(&self, server: &TestServer) -> Vec<(&'static str, Request, u16)> {
        let talk = at(server, &self.talk);
        let cancel = json!({"requestId": 77});
        let cancel =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel});
        let refusal = json!({"code": -1, "message": "no"});
        let refusal = json!({"jsonrpc": "2.0", "id": 1234567, "error": refusal});
        let resume = talk.request("GET").header("Accept", "text/event-stream");
        let resume = resume.header("Last-Event-ID", self.first.id());
        vec![
            ("subscribe", talk.rpc("resources/subscribe", json!({"uri": WATCHED})), 200),
            ("unsubscribe", talk.rpc("resources/unsubscribe", json!({"uri": WATCHED})), 200),
            ("a level", talk.rpc("logging/setLevel", json!({"level": "error"})), 200),
            ("templates", talk.rpc("resources/templates/list", json!({})), 200),
            ("prompts", talk.rpc("prompts/list", json!({})), 200),
            ("a prompt", talk.rpc("prompts/get", json!({"name": "test_simple_prompt"})), 200),
            ("a cancellation", talk.post(cancel.to_string()), 202),
            ("a refusal", talk.post(refusal.to_string()), 202),
            ("a response", talk.post(self.reply().to_string()), 202),
            ("a resumption", resume, 200),
        ]
    }

    /// The same for what a handle or a task is named in.
    fn stateless<'s>(&self, server: &'s TestServer) -> Vec<(&'static str, Modern<'s>)> {
        let listen = |notifications: Value| {
            server.modern("subscriptions/listen", json!({ "notifications": notifications }))
        };
        let task = |method: &str| {
            server.modern(&format!("tasks/{method}"), json!({"taskId": self.task})).with_tasks()
        };
        let uri = format!("session://{}/data/k", self.handle);
        let answers = json!({"first": {"action": "accept", "content": {"name": "Ada"}}});
        vec![
            ("a handle's value", server.modern("resources/read", json!({ "uri": uri }))),
            ("listen to a handle", listen(json!({"resourceSubscriptions": [uri]}))),
            ("listen to a task", listen(json!({"taskIds": [self.task]})).with_tasks()),
            ("tasks/get", task("get")),
            ("tasks/update", task("update").param("inputResponses", answers)),
            ("tasks/cancel", task("cancel")),
        ]
    }
}

/// What names neither: it is served, whatever the store does.
async fn expect_served(server: &TestServer) {
    for method in ["server/discover", "tools/list", "prompts/list", "resources/templates/list"] {
        server.modern(method, json!({})).result().await;
    }
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    Events::open(server.modern("subscriptions/listen", wanted).build()).await.message().await;
    // What this revision has not is refused as ever.
    for method in ["tasks/result", "tasks/list", "resources/subscribe", "logging/setLevel"] {
        server.modern(method, json!({})).with_tasks().refused(404, -32601).await;
    }
}

/// A replica behind that proxy, which has reached the store.
async fn behind(between: &Between) -> TestServer {
    let (url, patient) = (between.url(), ("MCP_ECHO_STORE__TIMEOUT_SECONDS", "1"));
    let server = TestServer::start(&[("MCP_STORE_URL", &*url), patient, FIXTURES]).await;
    let start = Instant::now();
    while server.initialize("2025-11-25").send().await.status != 200 {
        assert!(start.elapsed() < PATIENCE, "the store is never reached");
        sleep(Duration::from_millis(20)).await;
    }
    server
}

/// A way to fail: whether the store can still be read, how it begins, and how it ends.
type Fault = (&'static str, bool, fn(&StoreServer, &Between), fn(&StoreServer, &Between));

fn configure(store: &StoreServer, name: &str, value: &str) {
    assert_eq!(store.command(&["CONFIG", "SET", name, value]).text(), "OK");
}

const FAULTS: [Fault; 4] = [
    ("gone", false, |_, between| between.set(Mode::Refuse), |_, between| between.set(Mode::Pass)),
    ("dumb", false, |_, between| between.set(Mode::Hang), |_, between| between.set(Mode::Pass)),
    (
        "full",
        true,
        |store, _| configure(store, "maxmemory", "1"),
        |store, _| configure(store, "maxmemory", "0"),
    ),
    (
        "without its replicas",
        true,
        |store, _| configure(store, "min-replicas-to-write", "1"),
        |store, _| configure(store, "min-replicas-to-write", "0"),
    ),
];

/// Whether the only task has been given an answer.
fn has_answer(store: &StoreServer) -> bool {
    let tasks = store.command(&["KEYS", "mcpe:{mcpe:0}:t:*"]);
    let [task] = tasks.list() else { panic!("one task: {tasks}") };
    store.command(&["HEXISTS", task.text(), "a:first"]).integer() == 1
}

#[tokio::test]
async fn what_is_asked_more_seldom_is_told_to_come_back_too() {
    for (fault, is_read, begin, end) in FAULTS {
        let store = StoreServer::start(Engine::Redis);
        let between = Between::start(store.port());
        // One that knows the session, and one that has never heard of it.
        let servers = [behind(&between).await, behind(&between).await];
        let (begun, mut asked) = Begun::at(&servers[0]).await;

        begin(&store, &between);
        for server in &servers {
            for (what, request, _) in begun.of_the_session(server) {
                let answer = request.send().await;
                assert_eq!(answer.status, 503, "{fault}, {what}: {answer:?}");
                expect_unavailable(&answer, SESSIONED);
            }
            for (what, request) in begun.stateless(server) {
                // A store that takes no writes may be read, and streams stay open.
                if is_read && LIGHT.contains(&what) {
                    let status = request.begin().await.head().await.status;
                    assert!([200, 503].contains(&status), "{fault}, {what}: {status}");
                    let done = status == 200 && what == "tasks/update";
                    assert!(!done || has_answer(&store), "{fault}: the answer was taken");
                    continue;
                }
                let answer = request.send().await;
                assert_eq!(answer.status, 503, "{fault}, {what}: {answer:?}");
                expect_unavailable(&answer, STATELESS);
            }
            expect_served(server).await;
        }

        end(&store, &between);
        for server in servers.iter().rev() {
            expect_whole(&begun, server).await;
        }
        // The question had not been taken back meanwhile.
        let told = ("LLM response: Because.".to_owned(), false);
        assert_eq!(outcome(&mut asked).await, told);
    }
}

/// Everything is done that was refused.
async fn expect_whole(begun: &Begun<'_>, server: &TestServer) {
    let start = Instant::now();
    while at(server, &begun.talk).rpc("ping", json!({})).send().await.status != 200 {
        assert!(start.elapsed() < PATIENCE, "it is whole again");
    }
    for (what, request, status) in begun.of_the_session(server) {
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        if what == "a resumption" {
            assert_eq!(events_of(&answer).len(), 3, "{answer:?}");
        }
    }
    for (what, request) in begun.stateless(server) {
        let head = request.begin().await.head().await;
        assert_eq!(head.status, 200, "{what}: {head:?}");
    }
}
