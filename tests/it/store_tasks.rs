//! Tasks and sealed state in a shared store: two replicas, and a client that asks now one, now the other.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    events::Events,
    modern::{FIXTURES, Modern, PASSTHROUGH},
    process::Program,
    store_news,
    stores::{Between, Engine, Loss, StoreServer},
    support::{PATIENCE, TestServer, eventually},
};

const INVALID_PARAMS: i64 = -32602;
const INTERNAL_ERROR: i64 = -32603;
/// What a change may take to be known elsewhere, on a machine that has other things to do.
const SOON: Duration = Duration::from_secs(2);
/// How long a replica is taken to be alive that says nothing, and some more.
const LEASE: Duration = Duration::from_secs(15);

type Object = Map<String, Value>;

async fn start(server: &TestServer, tool: &str, arguments: Value) -> String {
    let task = server.modern_call(tool, arguments).with_tasks().result().await;
    assert_eq!(task["resultType"], "task", "{task:?}");
    task["taskId"].as_str().expect("an id").to_owned()
}

fn task<'a>(server: &'a TestServer, method: &str, id: &str) -> Modern<'a> {
    server.modern(&format!("tasks/{method}"), json!({ "taskId": id })).with_tasks()
}

async fn get(server: &TestServer, id: &str) -> Object {
    task(server, "get", id).result().await
}

async fn update(server: &TestServer, id: &str, answers: Value) -> Object {
    task(server, "update", id).param("inputResponses", answers).result().await
}

/// Polls until the task is in that state, and says how long that took.
async fn until(server: &TestServer, id: &str, status: &str) -> (Object, Duration) {
    let start = Instant::now();
    loop {
        let task = get(server, id).await;
        if task["status"] == status {
            return (task, start.elapsed());
        }
        assert!(start.elapsed() < PATIENCE, "{task:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the server has reached the store, and knows the key of `requestState`.
async fn ready(server: &TestServer) {
    let start = Instant::now();
    loop {
        let call = server.modern_call(ASKER, json!({})).capabilities(json!({"elicitation": {}}));
        if call.send().await.status == 200 {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "the store is never reached");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Two replicas that have reached the store.
async fn two(store: &StoreServer, more: &[(&str, &str)]) -> [TestServer; 2] {
    let both = store_news::two(store, more).await;
    for server in &both {
        ready(server).await;
    }
    both
}

/// The fields of the only task in the store.
fn kept(store: &StoreServer) -> BTreeMap<String, String> {
    let keys = store.command(&["KEYS", "mcpe:{mcpe:0}:t:*"]);
    assert_eq!(keys.list().len(), 1, "{keys}");
    let fields = store.command(&["HGETALL", keys.list()[0].text()]);
    let pairs = fields.list().chunks(2);
    pairs.map(|pair| (pair[0].text().to_owned(), pair[1].text().to_owned())).collect()
}

#[tokio::test]
async fn a_task_is_found_at_another_replica_and_is_the_same() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let [a, b] = two(&store, &[FIXTURES]).await;
        let arguments = json!({"seconds": 2, "label": "lab"});
        let created = a.modern_call("slow_compute", arguments).with_tasks().result().await;
        let id = created["taskId"].as_str().expect("an id");
        let at_b = get(&b, id).await;
        assert_eq!(at_b["status"], "working");
        for member in ["createdAt", "lastUpdatedAt", "ttlMs", "pollIntervalMs", "taskId"] {
            assert_eq!(at_b[member], created[member], "{member}");
        }
        let (done, _) = until(&b, id, "completed").await;
        assert!(done["result"]["content"][0]["text"].is_string(), "{done:?}");
        assert_eq!(get(&a, id).await, done);
        // Who reads the store learns no id.
        let all = format!("{:?} {}", kept(&store), store.command(&["KEYS", "*"]));
        assert!(!all.contains(id), "{all}");
        // Another instance has none of it.
        let answer = task(&b, "get", id).on(1).send().await;
        assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{answer:?}");
    }
}

#[tokio::test]
async fn questions_are_answered_at_another_replica() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[FIXTURES]).await;
    let id = start(&a, "multi_input", json!({})).await;
    let (asking, _) = until(&b, &id, "input_required").await;
    assert_eq!(get(&a, &id).await["inputRequests"], asking["inputRequests"]);
    let good = json!({"action": "accept", "content": {"name": "Ada"}});
    let wrong = json!({"action": "accept", "content": {"name": 7}});
    let request = task(&b, "update", &id);
    let request = request.param("inputResponses", json!({"first": good, "second": wrong}));
    let error = request.refused(200, INVALID_PARAMS).await;
    assert!(error["message"].as_str().is_some_and(|text| text.contains("second")), "{error}");
    assert_eq!(get(&b, &id).await["inputRequests"], asking["inputRequests"]);
    update(&b, &id, json!({"first": good, "nobody": good})).await;
    let half = get(&a, &id).await;
    assert_eq!(half["status"], "input_required");
    let left: Vec<_> = half["inputRequests"].as_object().expect("questions").keys().collect();
    assert_eq!(left, ["second"]);
    update(&a, &id, json!({"first": {"action": "decline"}})).await;
    update(&b, &id, json!({"second": good})).await;
    let (done, took) = until(&b, &id, "completed").await;
    println!("from the answer at one replica to the result of the other: {took:?}");
    assert!(done["result"]["content"][0]["text"].as_str().is_some_and(|text| text.contains('2')));
    assert!(took < SOON, "{took:?}");

    for (answer, text) in [
        (json!({"action": "accept", "content": {"confirm": true}}), "deleted"),
        (json!({"action": "decline"}), "kept"),
    ] {
        let id = start(&a, "confirm_delete", json!({"filename": "notes.txt"})).await;
        let (asking, _) = until(&b, &id, "input_required").await;
        let key = asking["inputRequests"].as_object().and_then(|all| all.keys().next()).cloned();
        update(&b, &id, json!({ key.expect("a question"): answer })).await;
        let (done, _) = until(&b, &id, "completed").await;
        let said = done["result"]["content"][0]["text"].as_str().expect("a text");
        assert!(said.contains(text), "{answer}: {said}");
    }
}

#[tokio::test]
async fn a_task_is_cancelled_at_another_replica_and_its_work_stops() {
    let store = StoreServer::start(Engine::Valkey);
    let [a, b] = store_news::two(&store, &[FIXTURES, PASSTHROUGH]).await;
    for server in [&a, &b] {
        let call = || server.modern_call(ASKER, json!({})).by("alice");
        let call = || call().capabilities(json!({"elicitation": {}})).send();
        let start = Instant::now();
        while call().await.status != 200 {
            assert!(start.elapsed() < PATIENCE, "the store is never reached");
            sleep(Duration::from_millis(10)).await;
        }
    }
    let call = a.modern_call("slow_compute", json!({"seconds": 60})).with_tasks();
    let created = call.by("alice").result().await;
    let id = created["taskId"].as_str().expect("an id");
    for method in ["get", "update", "cancel"] {
        let request = task(&b, method, id).param("inputResponses", json!({}));
        let answer = request.by("bob").send().await;
        assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{answer:?}");
    }
    assert_eq!(task(&a, "get", id).by("alice").result().await["status"], "working");
    assert_eq!(a.instances[0].state.calls.count(), 1);
    let start = Instant::now();
    task(&b, "cancel", id).by("alice").result().await;
    eventually(|| a.instances[0].state.calls.count() == 0).await;
    println!("from the cancel at one replica to the end of the work: {:?}", start.elapsed());
    assert!(start.elapsed() < SOON);
    let cancelled = task(&a, "get", id).by("alice").result().await;
    assert_eq!(cancelled["status"], "cancelled");
    // A terminal state never changes again.
    let late = task(&b, "update", id).param("inputResponses", json!({"x": {"action": "accept"}}));
    late.by("alice").result().await;
    task(&a, "cancel", id).by("alice").result().await;
    assert_eq!(task(&b, "get", id).by("alice").result().await, cancelled);
}

#[tokio::test]
async fn all_replicas_together_hold_so_many_and_no_more() {
    let store = StoreServer::start(Engine::Redis);
    let limits = [("MCP_ECHO_TASKS__CAPACITY", "7"), ("MCP_ECHO_TASKS__TTL_SECONDS", "3")];
    let [a, b] = two(&store, &[&[FIXTURES][..], &limits].concat()).await;
    let begin = async |server: &TestServer| {
        let call = server.modern_call("slow_compute", json!({"seconds": 60})).with_tasks();
        call.send().await.status
    };
    let all = (0..30).map(|at| begin(if at % 2 == 0 { &a } else { &b }));
    let statuses = futures_util::future::join_all(all).await;
    let count = |status| statuses.iter().filter(|known| **known == status).count();
    assert_eq!((count(200), count(503)), (7, 23), "{statuses:?}");
    // Their time is over for all, and the work with it.
    eventually(|| [&a, &b].iter().all(|it| it.instances[0].state.calls.count() == 0)).await;
    eventually(|| [&a, &b].iter().all(|it| it.instances[0].state.tasks.is_empty())).await;
    assert_eq!(store.command(&["KEYS", "mcpe:{mcpe:0}:t:*"]).list().len(), 0);
    assert_eq!(begin(&b).await, 200);
}

#[tokio::test]
async fn a_task_whose_replica_is_gone_has_failed() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[FIXTURES, ("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "0.1")]).await;
    let working = start(&a, "slow_compute", json!({"seconds": 60})).await;
    let asking = start(&a, "multi_input", json!({})).await;
    until(&b, &asking, "input_required").await;
    // What is worked on outlives its lease, since that is renewed.
    sleep(Duration::from_secs(11)).await;
    assert_eq!(get(&b, &working).await["status"], "working");
    a.stop();
    a.stopped().await;
    let since = Instant::now();
    for id in [&working, &asking] {
        let (failed, _) = until(&b, id, "failed").await;
        assert_eq!(failed["error"]["code"], INTERNAL_ERROR, "{failed:?}");
        let why = failed["statusMessage"].as_str().expect("a diagnosis");
        assert!(why.contains("gone"), "{why}");
        // And so it stays.
        task(&b, "cancel", id).result().await;
        assert_eq!(get(&b, id).await, failed);
    }
    println!("from the end of a replica to the failure of its tasks: {:?}", since.elapsed());
    assert!(since.elapsed() < LEASE, "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_replica_that_is_killed_leaves_no_task_under_way() {
    let store = StoreServer::start(Engine::Valkey);
    let url = store.url();
    let variables = [FIXTURES, ("MCP_STORE_URL", &*url)];
    let b = TestServer::start(&variables).await;
    ready(&b).await;
    let a = Program::start(&variables);
    let call = b.modern_call("slow_compute", json!({"seconds": 60})).with_tasks();
    let start = Instant::now();
    let created = loop {
        let answer = call.clone().build().to(a.address).send().await;
        match answer.status {
            200 => break answer.json()["result"].clone(),
            _ => assert!(start.elapsed() < PATIENCE, "{answer:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    };
    let id = created["taskId"].as_str().expect("an id");
    assert_eq!(get(&b, id).await["status"], "working");
    let since = Instant::now();
    a.signal("KILL");
    let (failed, _) = until(&b, id, "failed").await;
    assert!(failed["statusMessage"].as_str().is_some_and(|why| why.contains("gone")), "{failed:?}");
    assert!(since.elapsed() < LEASE, "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_made_once() {
    let store = StoreServer::start(Engine::Redis);
    let between = Between::start(store.port());
    let url = between.url();
    // Connections that are lost soon after they were made are not made again at once.
    let patient = ("MCP_ECHO_STORE__TIMEOUT_SECONDS", "1");
    let b = TestServer::start(&[FIXTURES, ("MCP_STORE_URL", &url), patient]).await;
    let straight = store.url();
    let a = TestServer::start(&[FIXTURES, ("MCP_STORE_URL", &straight), patient]).await;
    ready(&a).await;
    ready(&b).await;
    let id = start(&a, "multi_input", json!({})).await;
    let (asking, _) = until(&b, &id, "input_required").await;
    let questions = asking["inputRequests"].as_object().expect("questions");
    assert_eq!(questions.len(), 2);
    let good = json!({"action": "accept", "content": {"name": "Ada"}});
    let before: u64 = kept(&store)["version"].parse().expect("a number");
    for nth in 1..=4 {
        between.lose_answer(nth, Loss::Closed);
        get(&b, &id).await;
        eventually(|| between.has_lost()).await;
        // It may have been the answer to something else. The connection is whole again before the next one is lost: what is
        // lost twice is not asked for a third time.
        get(&b, &id).await;
    }
    between.lose_answer(2, Loss::Silent);
    update(&b, &id, json!({"first": good})).await;
    assert!(between.has_lost());
    let after: u64 = kept(&store)["version"].parse().expect("a number");
    assert_eq!(after, before + 1, "one answer is one change");
    between.lose_answer(2, Loss::Closed);
    update(&b, &id, json!({"second": good})).await;
    let (done, _) = until(&a, &id, "completed").await;
    assert!(done["result"]["content"][0]["text"].as_str().is_some_and(|text| text.contains('2')));
    let total: u64 = kept(&store)["version"].parse().expect("a number");
    assert_eq!(total, after + 2, "the last answer and the result");
    // One that was created is there once.
    between.lose_answer(1, Loss::Closed);
    start(&b, "slow_compute", json!({"seconds": 0})).await;
    let tasks = store.command(&["ZCARD", "mcpe:{mcpe:0}:tasks"]);
    assert_eq!(tasks.integer(), 2, "{tasks}");
}

#[tokio::test]
async fn while_the_store_is_away_nothing_is_lost() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[FIXTURES]).await;
    let finishing = start(&a, "slow_compute", json!({"seconds": 0.5})).await;
    let asking = start(&a, "multi_input", json!({})).await;
    until(&b, &asking, "input_required").await;
    store.pause();
    let unavailable = async |request: Modern<'_>| {
        let answer = request.send().await;
        answer.expect_status(503);
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert_eq!(answer.json()["error"]["data"]["reason"], "store_unavailable", "{answer:?}");
    };
    for method in ["get", "update", "cancel"] {
        unavailable(task(&b, method, &asking).param("inputResponses", json!({}))).await;
    }
    unavailable(b.modern_call("slow_compute", json!({"seconds": 1})).with_tasks()).await;
    sleep(Duration::from_millis(700)).await;
    store.resume();
    let start = Instant::now();
    loop {
        let answer = task(&b, "get", &asking).send().await;
        if answer.status == 200 {
            assert_eq!(answer.json()["result"]["status"], "input_required", "{answer:?}");
            break;
        }
        answer.expect_status(503);
        assert!(start.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
    // Its work had ended meanwhile.
    until(&b, &finishing, "completed").await;
    let good = json!({"action": "accept", "content": {"name": "Ada"}});
    update(&b, &asking, json!({"first": good, "second": good})).await;
    until(&b, &asking, "completed").await;
}

#[tokio::test]
async fn the_census_is_of_all_replicas() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[FIXTURES]).await;
    start(&a, "slow_compute", json!({"seconds": 60})).await;
    let done = start(&b, "slow_compute", json!({"seconds": 0})).await;
    until(&a, &done, "completed").await;
    for server in [&a, &b] {
        let start = Instant::now();
        loop {
            let page = server.operate("GET", "/metrics").send().await.text();
            let has = |status: &str| {
                let sample =
                    format!("mcp_echo_tasks{{mcp_instance=\"0\",status=\"{status}\"}} 1\n");
                page.contains(&sample)
            };
            if has("working") && has("completed") {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{page}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn who_listens_elsewhere_hears_of_each_change() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[FIXTURES]).await;
    let id = start(&a, "confirm_delete", json!({"filename": "notes.txt"})).await;
    let (asking, _) = until(&a, &id, "input_required").await;
    let filter =
        json!({"notifications": {"taskIds": [id, "11111111-2222-8333-8444-555555555555"]}});
    let request = b.modern("subscriptions/listen", filter).with_tasks();
    let mut events = Events::open(request.build()).await;
    let acknowledged = events.message().await;
    assert_eq!(acknowledged["params"]["notifications"]["taskIds"], json!([id]));
    let key = asking["inputRequests"].as_object().and_then(|all| all.keys().next()).cloned();
    let since = Instant::now();
    update(&a, &id, json!({ key.expect("a question"): {"action": "decline"} })).await;
    loop {
        let told = events.message().await;
        assert_eq!(told["method"], "notifications/tasks", "{told}");
        assert_eq!(told["params"]["taskId"], json!(id));
        if told["params"]["status"] == "completed" {
            let mut shown = get(&b, &id).await;
            for member in ["result", "lastUpdatedAt"] {
                assert_eq!(told["params"][member], shown.remove(member).expect("is there"));
            }
            break;
        }
    }
    println!("from the answer to the news of the result: {:?}", since.elapsed());
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
}

/// A tool that asks, and needs the state that it was given back.
const ASKER: &str = "test_input_required_result_tampered_state";

async fn ask(server: &TestServer) -> String {
    let call = server.modern_call(ASKER, json!({})).capabilities(json!({"elicitation": {}}));
    let asked = call.result().await;
    asked["requestState"].as_str().expect("a state").to_owned()
}

fn answer<'a>(server: &'a TestServer, state: &str) -> Modern<'a> {
    let confirm = json!({"action": "accept", "content": {"ok": true}});
    let call = server.modern_call(ASKER, json!({})).capabilities(json!({"elicitation": {}}));
    call.param("requestState", state).param("inputResponses", json!({ "confirm": confirm }))
}

#[tokio::test]
async fn what_one_replica_sealed_another_opens_and_a_later_one_too() {
    let store = StoreServer::start(Engine::Valkey);
    let [a, b] = two(&store, &[FIXTURES]).await;
    let state = ask(&a).await;
    assert_eq!(answer(&b, &state).text().await, "state-ok");
    let from_b = ask(&b).await;
    assert_eq!(answer(&a, &from_b).text().await, "state-ok");
    // It is of that caller, request and instance alone, here as well.
    let elsewhere = answer(&b, &state).on(1).send().await;
    elsewhere.expect_error(200, INVALID_PARAMS);
    for server in [&a, &b] {
        server.stop();
        server.stopped().await;
    }
    let [c, d] = two(&store, &[FIXTURES]).await;
    assert_eq!(answer(&c, &state).text().await, "state-ok");
    // A store that has lost the key gets it back from whoever has it.
    store.start_again();
    sleep(Duration::from_millis(500)).await;
    ready(&d).await;
    let [e, f] = two(&store, &[FIXTURES]).await;
    assert_eq!(answer(&e, &state).text().await, "state-ok");
    // Where nobody has it there is another one.
    for server in [&c, &d, &e, &f] {
        server.stop();
        server.stopped().await;
    }
    store.start_again();
    let [g, _] = two(&store, &[FIXTURES]).await;
    let error = answer(&g, &state).refused(200, INVALID_PARAMS).await;
    assert!(error["message"].as_str().is_some_and(|it| it.contains("requestState")), "{error}");
}

#[tokio::test]
async fn without_the_key_nothing_is_sealed_and_nothing_opened() {
    let store = StoreServer::start(Engine::Redis);
    let url = store.url();
    let own = ("MCP_ECHO_INSTANCES__1__SESSION__STORE", "memory");
    let variables = [FIXTURES, ("MCP_STORE_URL", &url), own];
    let first = TestServer::start(&variables).await;
    ready(&first).await;
    let state = ask(&first).await;
    store.kill();
    // Whoever knows the key already needs no store for it.
    assert_eq!(answer(&first, &state).text().await, "state-ok");
    let late = TestServer::start(&variables).await;
    for instance in [0, 1] {
        let call = late.modern_call(ASKER, json!({})).capabilities(json!({"elicitation": {}}));
        for request in [call.on(instance), answer(&late, &state).on(instance)] {
            let answer = request.send().await;
            answer.expect_status(503);
            let reason = answer.json()["error"]["data"]["reason"].clone();
            assert_eq!(reason, "store_unavailable", "{answer:?}");
        }
    }
    store.start_again();
    ready(&late).await;
    assert!(!ask(&late).await.is_empty());
}
