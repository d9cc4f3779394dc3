//! `subscriptions/listen`: acknowledged first, tagged, filtered, bounded, ended well.

use mcp_echo_stateful::server::Stopped;
use serde_json::{Value, json};

use crate::{
    events::Events,
    modern::{FIXTURES, META_SERVER, META_SUBSCRIPTION, Modern, PASSTHROUGH, TASKS},
    support::{TestServer, eventually},
};

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
const WATCHED: &str = "test://watched-resource";

fn listen(server: &TestServer, notifications: Value) -> Modern<'_> {
    server.modern("subscriptions/listen", json!({ "notifications": notifications }))
}

/// Opens a subscription and gives what was acknowledged.
async fn open(request: Modern<'_>) -> (Events, Value) {
    let id = request.body()["id"].clone();
    let mut events = Events::open(request.build()).await;
    let first = events.message().await;
    assert_eq!(first["method"], ACKNOWLEDGED, "{first}");
    assert_eq!(first["params"]["_meta"][META_SUBSCRIPTION], id, "{first}");
    (events, first["params"]["notifications"].clone())
}

async fn trigger(server: &TestServer, what: &str) {
    server.modern_call(&format!("test_trigger_{what}"), json!({})).text().await;
}

#[tokio::test]
async fn what_is_honoured_is_acknowledged_first() {
    let server = TestServer::start(&[FIXTURES]).await;
    for (wanted, honoured) in [
        (json!({}), json!({})),
        (json!({"toolsListChanged": true}), json!({"toolsListChanged": true})),
        (
            json!({"toolsListChanged": false, "promptsListChanged": true}),
            json!({"promptsListChanged": true}),
        ),
        // The list of resources never changes, and what is unknown cannot be honoured.
        (json!({"resourcesListChanged": true, "weatherChanged": true}), json!({})),
        (json!({"resourceSubscriptions": [WATCHED]}), json!({"resourceSubscriptions": [WATCHED]})),
        (
            json!({"resourceSubscriptions": ["test://no-such-resource", WATCHED]}),
            json!({"resourceSubscriptions": [WATCHED]}),
        ),
        (json!({"resourceSubscriptions": ["test://no-such-resource"]}), json!({})),
    ] {
        let (_events, acknowledged) = open(listen(&server, wanted.clone())).await;
        assert_eq!(acknowledged, honoured, "{wanted}");
    }
}

#[tokio::test]
async fn a_session_s_value_can_be_waited_for_before_it_is_there() {
    let server = TestServer::start(&[]).await;
    let handle = server.handle(0).await;
    let uri = format!("session://{handle}/data/not%20yet");
    let wanted = json!({"resourceSubscriptions": [uri]});
    let (mut events, acknowledged) = open(listen(&server, wanted.clone())).await;
    assert_eq!(acknowledged, wanted);
    let store = json!({"key": "not yet", "value": 1, "session": handle});
    server.modern_call("set_session_data", store).structured().await;
    let told = events.message().await;
    assert_eq!(told["method"], "notifications/resources/updated");
    assert_eq!(told["params"]["uri"], uri);
    let read = server.modern("resources/read", json!({"uri": uri})).result().await;
    assert_eq!(read["contents"][0]["text"], "1");
}

#[tokio::test]
async fn ids_of_both_types_tag_everything() {
    let server = TestServer::start(&[FIXTURES]).await;
    for id in [json!(1), json!("1"), json!(0), json!("a b")] {
        let all = json!({"toolsListChanged": true, "resourceSubscriptions": [WATCHED]});
        let (mut events, _) = open(listen(&server, all).id(id.clone())).await;
        trigger(&server, "tool_change").await;
        trigger(&server, "resource_update").await;
        for method in ["notifications/tools/list_changed", "notifications/resources/updated"] {
            let told = events.message().await;
            assert_eq!(told["method"], method);
            assert_eq!(told["params"]["_meta"][META_SUBSCRIPTION], id);
            assert_eq!(told.get("id"), None, "a notification has no id");
        }
    }
}

#[tokio::test]
async fn each_hears_what_it_asked_for_and_nothing_else() {
    let server = TestServer::start(&[FIXTURES]).await;
    let (mut tools, _) = open(listen(&server, json!({"toolsListChanged": true})).id(1)).await;
    let (mut prompts, _) = open(listen(&server, json!({"promptsListChanged": true})).id(2)).await;
    let wanted = json!({"resourceSubscriptions": [WATCHED]});
    let (mut watched, _) = open(listen(&server, wanted).id(3)).await;
    let (mut nothing, _) = open(listen(&server, json!({})).id(4)).await;
    let everything = json!({"toolsListChanged": true, "promptsListChanged": true});
    let (mut elsewhere, _) = open(listen(&server, everything).on(1)).await;
    for what in ["tool_change", "prompt_change", "resource_update"] {
        trigger(&server, what).await;
    }
    for (events, method) in [
        (&mut tools, "notifications/tools/list_changed"),
        (&mut prompts, "notifications/prompts/list_changed"),
        (&mut watched, "notifications/resources/updated"),
    ] {
        assert_eq!(events.message().await["method"], method);
        events.expect_quiet().await;
    }
    nothing.expect_quiet().await;
    elsewhere.expect_quiet().await;
}

#[tokio::test]
async fn what_belongs_to_a_request_does_not_come_here() {
    let server = TestServer::start(&[FIXTURES]).await;
    let (mut events, _) = open(listen(&server, json!({"toolsListChanged": true})).id(9)).await;
    let ticks = server.modern_call("stream_ticks", json!({"count": 2, "interval_ms": 1}));
    ticks
        .meta("progressToken", 9)
        .meta("io.modelcontextprotocol/logLevel", "debug")
        .send()
        .await
        .expect_status(200);
    events.expect_quiet().await;
}

#[tokio::test]
async fn another_caller_s_session_is_not_listened_to() {
    let server = TestServer::start(&[PASSTHROUGH]).await;
    let created = server.modern_call("create_session", json!({})).by("alice").structured().await;
    let handle = created["session"].as_str().expect("a handle");
    let wanted = json!({"resourceSubscriptions": [format!("session://{handle}/data/k")]});
    let (mut own, acknowledged) = open(listen(&server, wanted.clone()).by("alice")).await;
    assert_eq!(acknowledged, wanted);
    let (mut foreign, acknowledged) = open(listen(&server, wanted).by("bob")).await;
    assert_eq!(acknowledged, json!({}));
    let store = json!({"key": "k", "value": 1, "session": handle});
    server.modern_call("set_session_data", store).by("alice").structured().await;
    own.message().await;
    foreign.expect_quiet().await;
}

#[tokio::test]
async fn a_task_tells_its_owner_every_state() {
    let server = TestServer::start(&[FIXTURES, PASSTHROUGH]).await;
    let call = server.modern_call("confirm_delete", json!({"filename": "f"})).with_tasks();
    let task = call.by("alice").result().await;
    let wanted = json!({"taskIds": [task["taskId"], "0a1b2c3d-0000-8000-8000-000000000000"]});
    let mine = json!({"taskIds": [task["taskId"]]});
    let (mut own, acknowledged) =
        open(listen(&server, wanted.clone()).with_tasks().by("alice")).await;
    assert_eq!(acknowledged, mine);
    let (mut foreign, acknowledged) =
        open(listen(&server, wanted.clone()).with_tasks().by("bob")).await;
    assert_eq!(acknowledged, json!({}));

    let get = || {
        let request = server.modern("tasks/get", json!({"taskId": task["taskId"]}));
        request.with_tasks().by("alice").result()
    };
    // Asked by the time the subscription is open, or told about it.
    while get().await["status"] != "input_required" {
        own.message().await;
    }
    let confirm = json!({"confirm": {"action": "accept", "content": {"confirm": true}}});
    let update = json!({"taskId": task["taskId"], "inputResponses": confirm});
    server.modern("tasks/update", update).with_tasks().by("alice").result().await;
    let last = loop {
        let told = own.message().await;
        assert_eq!(told["method"], "notifications/tasks");
        assert_eq!(told["params"]["_meta"][META_SUBSCRIPTION], 1);
        if told["params"]["status"] == "completed" {
            break told["params"].clone();
        }
    };
    // Identical to what tasks/get would have returned at that moment.
    let got = get().await;
    for (key, value) in
        got.iter().filter(|(key, _)| !["_meta", "resultType"].contains(&key.as_str()))
    {
        assert_eq!(&last[key], value, "{key}");
    }
    foreign.expect_quiet().await;

    // A client that does not know tasks cannot be told of them.
    let request = listen(&server, wanted).by("alice");
    let error = request.refused(400, -32021).await;
    assert_eq!(error["data"]["requiredCapabilities"], json!({"extensions": {TASKS: {}}}));
}

#[tokio::test]
async fn malformed_filters_are_refused() {
    let server = TestServer::start(&[]).await;
    for wrong in [
        json!("all"),
        json!([]),
        json!({"toolsListChanged": "yes"}),
        json!({"resourceSubscriptions": "test://x"}),
        json!({"resourceSubscriptions": [7]}),
    ] {
        let answer = listen(&server, wrong.clone()).send().await;
        assert_eq!(answer.json()["error"]["code"], -32602, "{wrong}: {answer:?}");
    }
    let answer = server.modern("subscriptions/listen", json!({})).send().await;
    assert_eq!(answer.json()["error"]["code"], -32602, "{answer:?}");
    let json_only = listen(&server, json!({})).header("Accept", "application/json").send().await;
    assert_eq!(json_only.status, 406, "a subscription is a stream: {json_only:?}");
    assert_eq!(server.instances[0].state.subscriptions.open(), 0);
}

#[tokio::test]
async fn subscriptions_are_bounded_per_instance_and_given_back() {
    let server = TestServer::start(&[("MCP_ECHO_STREAM__MAX_SUBSCRIPTIONS", "2")]).await;
    let request = || listen(&server, json!({"toolsListChanged": true}));
    let first = open(request()).await;
    let second = open(request()).await;
    let answer = request().send().await;
    answer.expect_status(503);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert!(answer.json()["error"]["code"].is_i64());
    let elsewhere = open(request().on(1)).await;
    assert_eq!(
        (
            server.instances[0].state.subscriptions.open(),
            server.instances[1].state.subscriptions.open()
        ),
        (2, 1)
    );
    drop(first);
    eventually(|| server.instances[0].state.subscriptions.open() == 1).await;
    let third = open(request()).await;
    drop((second, third, elsewhere));
    eventually(|| server.instances.iter().all(|instance| instance.state.subscriptions.open() == 0))
        .await;
}

#[tokio::test]
async fn a_quiet_subscription_is_kept_alive_and_a_vanished_one_forgotten() {
    let server =
        TestServer::start(&[FIXTURES, ("MCP_ECHO_STREAM__KEEP_ALIVE_SECONDS", "0.1")]).await;
    let mut connection = listen(&server, json!({"toolsListChanged": true})).begin().await;
    connection.head().await.expect_status(200);
    connection.chunk().await.expect("the acknowledgement");
    assert_eq!(connection.chunk().await.as_deref(), Some(&b": keep-alive\n\n"[..]));
    assert_eq!(connection.chunk().await.as_deref(), Some(&b": keep-alive\n\n"[..]));
    drop(connection);
    eventually(|| server.instances[0].state.subscriptions.open() == 0).await;
    trigger(&server, "tool_change").await;
}

#[tokio::test]
async fn a_reader_that_never_reads_holds_nobody_up() {
    let server = TestServer::start(&[FIXTURES]).await;
    let (mut good, _) = open(listen(&server, json!({"toolsListChanged": true}))).await;
    let _idle = listen(&server, json!({"toolsListChanged": true})).begin().await;
    eventually(|| server.instances[0].state.subscriptions.open() == 2).await;
    for _ in 0..100 {
        trigger(&server, "tool_change").await;
        good.message().await;
    }
}

#[tokio::test]
async fn a_reader_that_is_cut_off_is_told() {
    let server = TestServer::start(&[FIXTURES]).await;
    // On every message, so that few fill what lies between.
    let id = json!("x".repeat(1000));
    let request = listen(&server, json!({"toolsListChanged": true})).id(id.clone());
    let (mut events, _) = open(request).await;
    let talk = server.session_of(0, "2025-03-26").await;
    let call = |id: u64| {
        let params = json!({"name": "test_trigger_tool_change", "arguments": {}});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
    };
    let batch = Value::Array((0..100).map(call).collect()).to_string();
    for _ in 0..150 {
        talk.post(batch.clone()).send().await.expect_status(200);
    }
    let messages = events.messages().await;
    assert!(messages.len() < 15_000, "some are lost: {}", messages.len());
    let [.., changed, response, cancelled] = &messages[..] else { panic!("{}", messages.len()) };
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    assert_eq!(response["id"], id);
    assert_eq!(response["result"]["resultType"], "complete");
    assert_eq!(cancelled["method"], "notifications/cancelled");
    assert_eq!(cancelled["params"]["requestId"], id);
    let reason = cancelled["params"]["reason"].as_str();
    assert!(reason.is_some_and(|reason| reason.contains("behind")), "{reason:?}");
}

#[tokio::test]
async fn a_stop_ends_a_subscription_with_its_response() {
    let server = TestServer::start(&[]).await;
    for id in [json!(7), json!("seven")] {
        let (mut events, _) = open(listen(&server, json!({})).id(id)).await;
        events.expect_quiet().await;
    }
    let mut open_ones = Vec::new();
    for id in [json!(7), json!("seven")] {
        open_ones.push((id.clone(), open(listen(&server, json!({})).id(id)).await.0));
    }
    server.stop();
    for (id, mut events) in open_ones {
        let messages = events.messages().await;
        // The response first: clients take the cancellation for the end and read no further.
        let [response, cancelled] = &messages[..] else { panic!("{messages:?}") };
        // basic/patterns/cancellation: the server says that it ends the subscription.
        assert_eq!(cancelled["method"], "notifications/cancelled");
        assert_eq!(cancelled["params"]["requestId"], id);
        assert_eq!(response["id"], id);
        assert_eq!(response["result"]["resultType"], "complete");
        assert_eq!(response["result"]["_meta"][META_SUBSCRIPTION], id);
        assert!(response["result"]["_meta"][META_SERVER]["name"].is_string());
    }
    assert_eq!(server.stopped().await, Stopped::Clean);
}
