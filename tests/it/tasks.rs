//! Tasks (extension `io.modelcontextprotocol/tasks`, SEP-2663): their states, their owner, their end.

use std::time::Duration;

use mcp_echo_stateful::server::Stopped;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    modern::{FIXTURES, Modern, PASSTHROUGH, TASKS},
    support::{PATIENCE, TestServer, eventually},
};

const INVALID_PARAMS: i64 = -32602;
const MISSING_CAPABILITY: i64 = -32021;
const METHOD_NOT_FOUND: i64 = -32601;

type Object = Map<String, Value>;

/// Starts a task and gives its id.
async fn start(server: &TestServer, tool: &str, arguments: Value) -> String {
    let task = server.modern_call(tool, arguments).with_tasks().result().await;
    assert_eq!(task["resultType"], "task", "{task:?}");
    task["taskId"].as_str().expect("an id").to_owned()
}

fn task<'a>(server: &'a TestServer, method: &str, id: &str) -> Modern<'a> {
    server.modern(&format!("tasks/{method}"), json!({ "taskId": id })).with_tasks()
}

async fn get(server: &TestServer, id: &str) -> Object {
    let task = task(server, "get", id).result().await;
    assert_eq!(task["resultType"], "complete", "the standard result of tasks/get");
    assert_well_formed(&task);
    task
}

/// Polls until the task is in that state.
async fn until(server: &TestServer, id: &str, status: &str) -> Object {
    let start = Instant::now();
    loop {
        let task = get(server, id).await;
        if task["status"] == status {
            return task;
        }
        assert!(start.elapsed() < PATIENCE, "{task:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn update(server: &TestServer, id: &str, answers: Value) -> Object {
    task(server, "update", id).param("inputResponses", answers).result().await
}

#[track_caller]
fn assert_well_formed(task: &Object) {
    let time = |name: &str| -> jiff::Timestamp {
        task[name].as_str().and_then(|text| text.parse().ok()).expect("a time")
    };
    assert!(time("createdAt") <= time("lastUpdatedAt"), "{task:?}");
    assert!(task["ttlMs"].is_null() || task["ttlMs"].as_u64().is_some_and(|ms| ms > 0));
    assert!(task["pollIntervalMs"].as_u64().is_some_and(|ms| ms > 0), "{task:?}");
    for gone in ["task", "ttl", "pollInterval", "requestState"] {
        assert!(!task.contains_key(gone), "{gone} is of another revision: {task:?}");
    }
    let status = task["status"].as_str().expect("a status");
    for (member, of) in
        [("result", "completed"), ("error", "failed"), ("inputRequests", "input_required")]
    {
        assert_eq!(task.contains_key(member), status == of, "{task:?}");
    }
}

/// An acknowledgement says nothing about the task.
#[track_caller]
fn assert_empty(result: &Object) {
    assert_eq!(result["resultType"], "complete");
    let more: Vec<_> =
        result.keys().filter(|k| !["resultType", "_meta"].contains(&k.as_str())).collect();
    assert!(more.is_empty(), "{more:?}");
}

#[tokio::test]
async fn a_task_is_there_when_its_id_is_and_ends_with_the_result() {
    let server = TestServer::start(&[FIXTURES]).await;
    let arguments = json!({"seconds": 0.2, "label": "lab"});
    let created = server.modern_call("slow_compute", arguments.clone()).with_tasks().result().await;
    assert_eq!(created["resultType"], "task");
    assert_eq!(created["status"], "working");
    assert_well_formed(&created);
    let id = created["taskId"].as_str().expect("an id");
    assert_eq!(get(&server, id).await["status"], "working");
    let done = until(&server, id, "completed").await;
    assert_eq!(done["createdAt"], created["createdAt"]);
    assert_eq!(done["taskId"], created["taskId"]);
    // What the call would have returned.
    let direct = server.modern_call("slow_compute", arguments).result().await;
    assert_eq!(direct["resultType"], "complete");
    assert_eq!(done["result"], json!(direct));
    // A result can be fetched again.
    assert_eq!(get(&server, id).await["result"], done["result"]);
}

#[tokio::test]
async fn a_client_that_does_not_know_tasks_gets_none() {
    let server = TestServer::start(&[FIXTURES]).await;
    let id = start(&server, "slow_compute", json!({"seconds": 10})).await;
    for method in ["get", "update", "cancel"] {
        for capabilities in [json!({}), json!({"tasks": {}}), json!({"extensions": {"x/y": {}}})] {
            let request = task(&server, method, &id).param("inputResponses", json!({}));
            let request = request.capabilities(capabilities);
            let error = request.refused(400, MISSING_CAPABILITY).await;
            assert_eq!(error["data"]["requiredCapabilities"], json!({"extensions": {TASKS: {}}}));
        }
    }
    assert_eq!(get(&server, &id).await["status"], "working");
    // The parameter of 2025-11-25 opts into nothing.
    let call = server.modern_call("slow_compute", json!({"seconds": 0}));
    let result = call.param("task", json!({"ttl": 1000})).result().await;
    assert_eq!(result["resultType"], "complete");
    let greet = server.modern_call("greet", json!({"name": "Ada"})).with_tasks();
    assert_eq!(greet.text().await, "Hello, Ada!");
    // Sessions have no such methods.
    let talk = server.session_of(0, "2025-11-25").await;
    for method in ["tasks/get", "tasks/update", "tasks/cancel", "tasks/result", "tasks/list"] {
        let answer = talk.rpc(method, json!({"taskId": id})).send().await;
        answer.expect_error(200, METHOD_NOT_FOUND);
    }
    // Nor has the server the capability that calls as tasks need there, so this is an ordinary one.
    let call = json!({"name": "slow_compute", "arguments": {"seconds": 0}, "task": {"ttl": 1000}});
    let result = talk.rpc("tools/call", call).send().await.json()["result"].clone();
    assert!(result["content"][0]["text"].is_string(), "{result}");
    assert_eq!((result.get("task"), result.get("isError")), (None, None), "{result}");
}

#[tokio::test]
async fn a_tool_s_error_completes_and_a_protocol_error_fails() {
    let server = TestServer::start(&[FIXTURES]).await;
    let (tool, protocol) = tokio::join!(
        start(&server, "failing_job", json!({})),
        start(&server, "protocol_error_job", json!({}))
    );
    let failed = until(&server, &protocol, "failed").await;
    assert_eq!(failed["error"]["code"], -32603);
    assert!(failed["error"]["message"].is_string());
    let diagnosis = failed.get("statusMessage");
    assert!(diagnosis.is_some_and(Value::is_string), "{failed:?}");
    let completed = until(&server, &tool, "completed").await;
    assert_eq!(completed["result"]["isError"], true);
}

#[tokio::test]
async fn a_cancelled_task_stops_and_stays_cancelled() {
    let server = TestServer::start(&[FIXTURES]).await;
    let id = start(&server, "slow_compute", json!({"seconds": 30})).await;
    assert_empty(&task(&server, "cancel", &id).result().await);
    let cancelled = until(&server, &id, "cancelled").await;
    // A terminal state never changes again, whatever is asked of it.
    assert_empty(&task(&server, "cancel", &id).result().await);
    assert_empty(&update(&server, &id, json!({"confirm": {"action": "accept"}})).await);
    assert_eq!(get(&server, &id).await, cancelled);
    let done = start(&server, "slow_compute", json!({"seconds": 0})).await;
    let completed = until(&server, &done, "completed").await;
    assert_empty(&task(&server, "cancel", &done).result().await);
    assert_eq!(get(&server, &done).await, completed);
    // While it waits for its client as well.
    let asking = start(&server, "multi_input", json!({})).await;
    until(&server, &asking, "input_required").await;
    assert_empty(&task(&server, "cancel", &asking).result().await);
    until(&server, &asking, "cancelled").await;
    // And the work has ended, not only its state.
    server.stop();
    assert_eq!(server.stopped().await, Stopped::Clean);
}

#[tokio::test]
async fn a_task_asks_and_goes_on_when_all_is_answered() {
    let server = TestServer::start(&[FIXTURES]).await;
    let id = start(&server, "multi_input", json!({})).await;
    let asking = until(&server, &id, "input_required").await;
    let questions = asking["inputRequests"].as_object().expect("questions");
    assert_eq!(questions.len(), 2, "{questions:?}");
    assert!(questions.values().all(|question| question["method"] == "elicitation/create"));
    let keys: Vec<_> = questions.keys().cloned().collect();
    let answer = json!({"action": "accept", "content": {"name": "Ada"}});

    // What was never asked is ignored, and what is no answer is none.
    assert_empty(&update(&server, &id, json!({"nobody": answer})).await);
    assert_empty(&update(&server, &id, json!({ &*keys[0]: null, &*keys[1]: 7 })).await);
    assert_eq!(get(&server, &id).await["inputRequests"], asking["inputRequests"]);

    assert_empty(&update(&server, &id, json!({ &*keys[0]: answer })).await);
    let half = get(&server, &id).await;
    assert_eq!(half["status"], "input_required");
    let left: Vec<_> = half["inputRequests"].as_object().expect("questions").keys().collect();
    assert_eq!(left, [&keys[1]]);
    // Answered already.
    assert_empty(&update(&server, &id, json!({ &*keys[0]: {"action": "decline"} })).await);
    assert_eq!(get(&server, &id).await["status"], "input_required");
    assert_empty(&update(&server, &id, json!({ &*keys[1]: answer, "nobody": answer })).await);
    let done = until(&server, &id, "completed").await;
    assert!(done["result"]["content"][0]["text"].as_str().is_some_and(|t| t.contains('2')));
    for wrong in [json!([]), json!("x")] {
        let answer = task(&server, "update", &id).param("inputResponses", wrong).send().await;
        assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{answer:?}");
    }
    let answer = task(&server, "update", &id).send().await;
    assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{answer:?}");
}

#[tokio::test]
async fn the_answer_decides() {
    let server = TestServer::start(&[FIXTURES]).await;
    for (answer, text) in [
        (json!({"action": "accept", "content": {"confirm": true}}), "deleted"),
        (json!({"action": "accept", "content": {"confirm": false}}), "kept"),
        (json!({"action": "decline"}), "kept"),
        (json!({"action": "cancel"}), "kept"),
    ] {
        let id = start(&server, "confirm_delete", json!({"filename": "notes.txt"})).await;
        let asking = until(&server, &id, "input_required").await;
        let key = asking["inputRequests"].as_object().and_then(|all| all.keys().next()).cloned();
        update(&server, &id, json!({ key.expect("a question"): answer })).await;
        let done = until(&server, &id, "completed").await;
        let said = done["result"]["content"][0]["text"].as_str().expect("a text");
        assert!(said.contains("notes.txt") && said.contains(text), "{answer}: {said}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_fit_leaves_the_question_open() {
    let server = TestServer::start(&[FIXTURES]).await;
    let id = start(&server, "multi_input", json!({})).await;
    let asking = until(&server, &id, "input_required").await;
    let good = json!({"action": "accept", "content": {"name": "Ada"}});
    for wrong in [
        json!({"action": "accept", "content": {"name": 7}}),
        json!({"action": "accept", "content": {}}),
        json!({"action": "maybe"}),
    ] {
        // What fits beside it is not taken either.
        let answers = json!({"first": good, "second": wrong});
        let request = task(&server, "update", &id).param("inputResponses", answers);
        let error = request.refused(200, INVALID_PARAMS).await;
        assert!(error["message"].as_str().is_some_and(|text| text.contains("second")), "{error}");
        assert_eq!(get(&server, &id).await["inputRequests"], asking["inputRequests"]);
    }
    assert_empty(&update(&server, &id, json!({"first": good, "second": good})).await);
    until(&server, &id, "completed").await;
}

#[tokio::test]
async fn a_question_may_come_before_the_task() {
    let server = TestServer::start(&[FIXTURES]).await;
    let call = || server.modern_call("test_tool_with_task", json!({})).with_tasks();
    let first = call().result().await;
    assert_eq!(first["resultType"], "input_required");
    assert!(!first.contains_key("taskId"), "there is no task yet: {first:?}");
    assert_eq!(server.instances[0].state.tasks.len(), 0);
    let answers = json!({"user_name": {"action": "accept", "content": {"name": "Ada"}}});
    let created = call().param("inputResponses", answers).result().await;
    assert_eq!(created["resultType"], "task");
    let done = until(&server, created["taskId"].as_str().expect("an id"), "completed").await;
    assert_eq!(done["result"]["content"][0]["text"], "Hello, Ada!");
}

#[tokio::test]
async fn a_task_belongs_to_its_caller() {
    let server = TestServer::start(&[FIXTURES, PASSTHROUGH]).await;
    let call = server.modern_call("slow_compute", json!({"seconds": 20})).with_tasks();
    let created = call.by("alice").result().await;
    let id = created["taskId"].as_str().expect("an id");
    let unknown = "0a1b2c3d-0000-8000-8000-000000000000";
    for method in ["get", "update", "cancel"] {
        let ask = |id: &str| {
            let request = task(&server, method, id).param("inputResponses", json!({}));
            request.by("bob").send()
        };
        // Nothing tells a stranger's task from none.
        let (theirs, none) = (ask(id).await, ask(unknown).await);
        assert_eq!(theirs.json()["error"]["code"], INVALID_PARAMS, "{theirs:?}");
        assert_eq!(none.json()["error"]["code"], INVALID_PARAMS, "{none:?}");
    }
    let own = task(&server, "get", id).by("alice").result().await;
    assert_eq!(own["status"], "working");
}

#[tokio::test]
async fn mcp_name_is_the_task_s_id() {
    let server = TestServer::start(&[FIXTURES]).await;
    let id = start(&server, "slow_compute", json!({"seconds": 20})).await;
    for method in ["get", "update", "cancel"] {
        let request = || task(&server, method, &id).param("inputResponses", json!({}));
        request().without("Mcp-Name").refused(400, -32020).await;
        let error = request().header("Mcp-Name", "other").refused(400, -32020).await;
        let text = error["message"].as_str().expect("a message");
        assert!(text.contains("other") && text.contains(&id), "{text}");
    }
    assert_eq!(get(&server, &id).await["status"], "working");
}

#[tokio::test]
async fn a_task_lives_as_long_as_it_says() {
    let server = TestServer::start(&[FIXTURES, ("MCP_ECHO_TASKS__TTL_SECONDS", "2")]).await;
    let done = start(&server, "slow_compute", json!({"seconds": 0})).await;
    let working = start(&server, "slow_compute", json!({"seconds": 30})).await;
    let asking = start(&server, "multi_input", json!({})).await;
    assert_eq!(get(&server, &working).await["ttlMs"], 2000);
    sleep(Duration::from_millis(2100)).await;
    for id in [&done, &working, &asking] {
        let answer = task(&server, "get", id).send().await;
        assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{answer:?}");
        let text = answer.json()["error"]["message"].as_str().expect("a message").to_owned();
        assert!(
            text.contains("time") && text.contains("over") || text.contains("expired"),
            "{text}"
        );
    }
    // Nobody has to ask for it to be forgotten, and its work ends with it.
    eventually(|| server.instances[0].state.tasks.is_empty()).await;
    server.stop();
    assert_eq!(server.stopped().await, Stopped::Clean);
}

#[tokio::test]
async fn an_instance_holds_so_many_and_no_more() {
    let server = TestServer::start(&[FIXTURES, ("MCP_ECHO_TASKS__CAPACITY", "2")]).await;
    let call = || server.modern_call("slow_compute", json!({"seconds": 20})).with_tasks();
    for _ in 0..2 {
        call().result().await;
    }
    let answer = call().send().await;
    answer.expect_status(503);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert!(answer.json()["error"]["message"].as_str().is_some_and(|m| m.contains("capacity")));
    assert_eq!(server.instances[0].state.tasks.len(), 2);
    // The others have room, and so has whoever needs no task.
    assert_eq!(call().on(1).result().await["resultType"], "task");
    server.modern_call("slow_compute", json!({"seconds": 0})).text().await;
}

#[tokio::test]
async fn an_id_says_where_its_task_is() {
    let server = TestServer::start(&[FIXTURES, ("MCP_ECHO_REPLICA__TAG", "a1")]).await;
    let call = server.modern_call("slow_compute", json!({"seconds": 20})).with_tasks();
    let created = call.on(3).result().await;
    let id = created["taskId"].as_str().expect("an id").to_owned();
    assert_eq!(&id[..3], "3a1", "instance, then replica");
    let told = async |instance: u8, id: &str| {
        let answer = task(&server, "get", id).on(instance).send().await;
        let error = answer.json()["error"].clone();
        assert_eq!(error["code"], INVALID_PARAMS, "{answer:?}");
        error["message"].as_str().expect("a message").to_owned()
    };
    let elsewhere = told(4, &id).await;
    assert!(elsewhere.contains("instance 3") && elsewhere.contains("instance 4"), "{elsewhere}");
    let replica = told(3, &id.replacen("3a1", "3b2", 1)).await;
    assert!(replica.contains("b2") && replica.contains("a1"), "{replica}");
    let flipped = if &id[3..6] == "000" { "001" } else { "000" };
    let boot = told(3, &format!("3a1{flipped}{}", &id[6..])).await;
    assert!(boot.contains("before") && boot.contains("start"), "{boot}");
    for nonsense in ["nonsense", ""] {
        assert!(told(3, nonsense).await.contains("no such task"));
    }
    // An id that was made up is not told from one that is over.
    assert!(told(3, &format!("{}ffffff", &id[..30])).await.contains("no such task"));
}

#[tokio::test]
async fn a_task_outlives_the_client_that_made_it() {
    let server = TestServer::start(&[FIXTURES]).await;
    let mut connection =
        server.modern_call("slow_compute", json!({"seconds": 0.2})).with_tasks().begin().await;
    let created = connection.answer().await.json();
    drop(connection);
    // Only tasks/cancel ends it (ext-tasks, "Task Cancellation").
    let params = json!({"requestId": created["id"]});
    let notice = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
    let list = server.modern("tools/list", json!({})).without("Mcp-Method");
    list.around(notice.to_string()).send().await.expect_status(202);
    let id = created["result"]["taskId"].as_str().expect("an id");
    until(&server, id, "completed").await;
}
