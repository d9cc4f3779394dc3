//! Questions of the server to a client of the sessioned revisions: on the stream of the call that they
//! belong to, answered, refused, left unanswered.

use mcp_echo_stateful::server::Stopped;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::{
    events::Events,
    modern::FIXTURES,
    support::{Talk, TestServer, eventually, instance_host},
};

/// Longer than a client that means to answer takes, and short enough to be waited for.
pub const IMPATIENT: (&str, &str) = ("MCP_ECHO_SESSION__ANSWER_TIMEOUT_SECONDS", "0.3");

/// A session of a client that can do these things, and has not yet said that it is ready.
async fn begun<'a>(server: &'a TestServer, version: &str, capabilities: Value) -> Talk<'a> {
    let info = json!({"name": "test", "version": "1"});
    let params =
        json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": info});
    let host = instance_host(0);
    let answer = server.rpc("initialize", params).host(&host).send().await;
    answer.expect_status(200);
    let id = answer.header("mcp-session-id").expect("a session id").to_owned();
    Talk { server, host, id, revision: version.to_owned() }
}

async fn is_ready(talk: &Talk<'_>) {
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    talk.post(ready.to_string()).send().await.expect_status(202);
}

/// A session of a client that can do these things.
async fn client<'a>(server: &'a TestServer, version: &str, capabilities: Value) -> Talk<'a> {
    let talk = begun(server, version, capabilities).await;
    is_ready(&talk).await;
    talk
}

fn everything() -> Value {
    json!({"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}})
}

/// A client that can be asked everything that revision has.
pub async fn able<'a>(server: &'a TestServer, version: &str) -> Talk<'a> {
    client(server, version, everything()).await
}

/// Calls a tool that asks, and gives its stream and the question.
pub async fn ask(talk: &Talk<'_>, tool: &str, arguments: Value) -> (Events, Value) {
    let mut events = Events::open(talk.call(tool, arguments)).await;
    let question = events.message().await;
    assert_eq!(question["jsonrpc"], "2.0");
    assert!(question["id"].is_u64() || question["id"].is_string(), "{question}");
    (events, question)
}

pub async fn answer(talk: &Talk<'_>, question: &Value, result: Value) {
    let message = json!({"jsonrpc": "2.0", "id": question["id"], "result": result});
    let answer = talk.post(message.to_string()).send().await;
    answer.expect_status(202);
    assert!(answer.body.is_empty());
}

/// The question must be taken back before the response that ends the stream.
pub async fn taken_back(events: &mut Events, question: &Value) {
    let cancelled = events.message().await;
    assert_eq!(cancelled["method"], "notifications/cancelled", "{cancelled}");
    assert_eq!(cancelled["params"]["requestId"], question["id"], "{cancelled}");
    assert!(cancelled["params"]["reason"].is_string(), "{cancelled}");
}

/// The text of the response that ends the stream, and whether it is a tool's error.
pub async fn outcome(events: &mut Events) -> (String, bool) {
    let response = events.message().await;
    assert_eq!(response["id"], 1, "{response}");
    assert_eq!(events.rest().await, [], "the response ends the stream");
    let result = &response["result"];
    let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{response}"));
    (text.to_owned(), result["isError"] == true)
}

#[tokio::test]
async fn a_model_is_asked_and_its_answer_used() {
    let server = TestServer::start(&[FIXTURES]).await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let talk = able(&server, version).await;
        let (mut events, question) = ask(&talk, "test_sampling", json!({"prompt": "Why?"})).await;
        assert_eq!(question["method"], "sampling/createMessage");
        let params = &question["params"];
        let text = json!({"type": "text", "text": "Why?"});
        assert_eq!(params["messages"], json!([{"role": "user", "content": text}]));
        assert!(params["maxTokens"].is_u64());
        assert_eq!(params.get("includeContext"), None, "{version}");
        assert_eq!(talk.open_questions(), 1);
        let said = json!({"type": "text", "text": "Because."});
        let reply = json!({"role": "assistant", "content": said, "model": "m"});
        answer(&talk, &question, reply).await;
        assert_eq!(outcome(&mut events).await, ("LLM response: Because.".to_owned(), false));
        assert_eq!(talk.open_questions(), 0);
    }
}

#[tokio::test]
async fn nothing_is_asked_before_the_client_is_ready() {
    // basic/lifecycle, "Initialization": before `initialized` no requests but pings.
    let server = TestServer::start(&[FIXTURES]).await;
    for (version, tool, arguments) in [
        ("2024-11-05", "test_sampling", json!({"prompt": "x"})),
        ("2025-03-26", "test_list_roots", json!({})),
        ("2025-06-18", "test_elicitation", json!({"message": "x"})),
        ("2025-11-25", "test_elicitation_url", json!({})),
    ] {
        let talk = begun(&server, version, everything()).await;
        let mut events = Events::open(talk.call(tool, arguments.clone())).await;
        let (text, is_error) = outcome(&mut events).await;
        assert!(is_error && text.contains("notifications/initialized"), "{version}: {text}");
        assert_eq!(talk.open_questions(), 0);
        is_ready(&talk).await;
        ask(&talk, tool, arguments).await;
    }
}

#[tokio::test]
async fn a_user_is_asked_by_form_or_url_where_the_revision_has_it() {
    let server = TestServer::start(&[FIXTURES]).await;
    for version in ["2025-06-18", "2025-11-25"] {
        let talk = able(&server, version).await;
        let message = json!({"message": "Who are you?"});
        let (mut events, question) = ask(&talk, "test_elicitation", message).await;
        assert_eq!(question["method"], "elicitation/create");
        assert_eq!(question["params"]["message"], "Who are you?");
        let schema = &question["params"]["requestedSchema"];
        assert_eq!(schema["required"], json!(["username", "email"]));
        let content = json!({"username": "ada", "email": "ada@example.com"});
        answer(&talk, &question, json!({"action": "accept", "content": content})).await;
        let (text, is_error) = outcome(&mut events).await;
        assert!(text.contains("ada@example.com") && !is_error, "{text}");
    }
    let talk = able(&server, "2025-11-25").await;
    let (mut events, question) = ask(&talk, "test_elicitation_url", json!({})).await;
    let params = &question["params"];
    assert_eq!(params["mode"], "url");
    assert!(params["url"].as_str().is_some_and(|url| url.starts_with("https://")));
    assert!(params["elicitationId"].is_string() && params["message"].is_string(), "{params}");
    answer(&talk, &question, json!({"action": "accept"})).await;
    assert!(!outcome(&mut events).await.1);
}

#[tokio::test]
async fn a_form_has_only_what_its_revision_knows() {
    let server = TestServer::start(&[FIXTURES]).await;
    let form = async |version: &str, tool: &str| {
        let talk = able(&server, version).await;
        let (_events, question) = ask(&talk, tool, json!({})).await;
        question["params"].clone()
    };
    let (defaults, choices) =
        ("test_elicitation_sep1034_defaults", "test_elicitation_sep1330_enums");
    // 2025-06-18, schema, PrimitiveSchemaDefinition.
    let old = form("2025-06-18", defaults).await;
    assert_eq!(old.get("mode"), None);
    let old = &old["requestedSchema"]["properties"];
    assert_eq!(old["name"], json!({"type": "string"}));
    assert_eq!(old["age"], json!({"type": "integer"}));
    assert_eq!(old["score"], json!({"type": "number"}));
    let status = json!({"type": "string", "enum": ["active", "inactive", "pending"]});
    assert_eq!(old["status"], status);
    assert_eq!(old["verified"], json!({"type": "boolean", "default": true}));
    let old = form("2025-06-18", choices).await;
    let old = old["requestedSchema"]["properties"].as_object().expect("an object").clone();
    let (values, names) = (["value1", "value2", "value3"], ["First", "Second", "Third"]);
    let titled = json!({"type": "string", "enum": values, "enumNames": names});
    assert_eq!(old["titledSingle"], titled);
    assert!(old["legacyEnum"]["enumNames"].is_array());
    let kept: Vec<_> = old.keys().map(String::as_str).collect();
    assert_eq!(kept, ["legacyEnum", "titledSingle", "untitledSingle"]);

    let new = form("2025-11-25", defaults).await;
    assert_eq!(new["mode"], "form");
    assert_eq!(new["requestedSchema"]["properties"]["age"]["default"], 30);
    let new = form("2025-11-25", choices).await;
    let new = &new["requestedSchema"]["properties"];
    assert!(new["titledSingle"]["oneOf"].is_array() && new["titledMulti"]["items"].is_object());
}

#[tokio::test]
async fn each_page_to_open_has_an_id_of_its_own() {
    let server = TestServer::start(&[FIXTURES]).await;
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let talk = able(&server, "2025-11-25").await;
        for _ in 0..2 {
            let (_events, question) = ask(&talk, "test_elicitation_url", json!({})).await;
            let id = question["params"]["elicitationId"].as_str().expect("an id");
            assert!(id.len() >= 32, "it cannot be guessed: {id}");
            ids.insert(id.to_owned());
        }
    }
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn a_user_may_decline_or_cancel() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = able(&server, "2025-11-25").await;
    for action in ["decline", "cancel"] {
        let (mut events, question) = ask(&talk, "test_elicitation", json!({"message": "?"})).await;
        answer(&talk, &question, json!({"action": action})).await;
        let (text, _) = outcome(&mut events).await;
        assert!(text.contains(action), "{text}");
    }
}

#[tokio::test]
async fn roots_are_asked_for() {
    let server = TestServer::start(&[FIXTURES]).await;
    for version in ["2024-11-05", "2025-11-25"] {
        let talk = able(&server, version).await;
        let (mut events, question) = ask(&talk, "test_list_roots", json!({})).await;
        assert_eq!(question["method"], "roots/list");
        let roots = json!([{"uri": "file:///home"}, {"uri": "file:///etc"}]);
        answer(&talk, &question, json!({"roots": roots})).await;
        let (text, is_error) = outcome(&mut events).await;
        assert!(text.contains("file:///home") && text.contains("file:///etc") && !is_error);
    }
}

#[tokio::test]
async fn a_client_is_not_asked_what_it_cannot_answer() {
    let server = TestServer::start(&[FIXTURES]).await;
    let form_only = json!({"elicitation": {}});
    for (version, capabilities, tool, arguments, named) in [
        ("2025-11-25", json!({}), "test_sampling", json!({"prompt": "x"}), "sampling"),
        ("2025-11-25", json!({}), "test_elicitation", json!({"message": "x"}), "elicitation"),
        ("2025-11-25", json!({}), "test_list_roots", json!({}), "roots"),
        ("2025-11-25", form_only.clone(), "test_elicitation_url", json!({}), "url"),
        (
            "2025-11-25",
            json!({"elicitation": {"url": {}}}),
            "test_elicitation",
            json!({"message": "x"}),
            "elicitation",
        ),
        // What a revision does not have cannot be asked in it, whatever is declared.
        ("2025-03-26", form_only, "test_elicitation", json!({"message": "x"}), "elicitation"),
        (
            "2025-06-18",
            json!({"elicitation": {"url": {}}}),
            "test_elicitation_url",
            json!({}),
            "elicitation",
        ),
    ] {
        let talk = client(&server, version, capabilities).await;
        let mut events = Events::open(talk.call(tool, arguments)).await;
        let (text, is_error) = outcome(&mut events).await;
        assert!(is_error && text.contains(named), "{version} {tool}: {text}");
        assert_eq!(talk.open_questions(), 0);
    }
    // In 2025-06-18 the capability has no modes yet, and an empty object means forms.
    let talk = client(&server, "2025-06-18", json!({"elicitation": {}})).await;
    let (_events, question) = ask(&talk, "test_elicitation", json!({"message": "x"})).await;
    assert_eq!(question["method"], "elicitation/create");
}

#[tokio::test]
async fn a_client_that_takes_no_events_is_not_asked() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = able(&server, "2025-11-25").await;
    let call = talk.call("test_sampling", json!({"prompt": "x"}));
    let result = call.header("Accept", "application/json").send().await;
    result.expect_status(200);
    assert_eq!(result.header("content-type"), Some("application/json"));
    let result = result.json()["result"].clone();
    assert_eq!(result["isError"], true);
    assert!(result["content"][0]["text"].as_str().is_some_and(|text| text.contains("Accept")));
    assert_eq!(talk.open_questions(), 0);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_a_tool_s_error() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = able(&server, "2025-11-25").await;
    let accept = |content: Value| json!({"action": "accept", "content": content});
    let said = |content: Value| json!({"role": "assistant", "model": "m", "content": content});
    let text = json!({"type": "text", "text": "x"});
    let person = "test_elicitation";
    let (defaults, choices) =
        ("test_elicitation_sep1034_defaults", "test_elicitation_sep1330_enums");
    for (tool, reply, named) in [
        (person, json!({"action": "maybe"}), Some("action")),
        (person, json!({"content": {}}), Some("action")),
        (person, json!({"action": "accept"}), Some("content")),
        (person, accept(json!([])), Some("content")),
        (person, accept(json!({"username": "ada"})), Some("email")),
        (person, accept(json!({"username": 5, "email": "a@b"})), Some("username")),
        (person, accept(json!({"username": "ada", "email": "nowhere"})), Some("email")),
        (person, accept(json!({"username": "ada", "email": "a@b", "more": 1})), None),
        (person, json!({"action": "decline", "content": null}), None),
        (defaults, accept(json!({})), None),
        (defaults, accept(json!({"age": 30.5})), Some("age")),
        (defaults, accept(json!({"age": 30.0, "score": 1, "verified": false})), None),
        (defaults, accept(json!({"score": "1"})), Some("score")),
        (defaults, accept(json!({"status": "gone"})), Some("status")),
        (defaults, accept(json!({"verified": "yes"})), Some("verified")),
        (choices, accept(json!({"titledSingle": "First"})), Some("titledSingle")),
        (choices, accept(json!({"untitledMulti": "option1"})), Some("untitledMulti")),
        (choices, accept(json!({"untitledMulti": ["option9"]})), Some("untitledMulti")),
        (choices, accept(json!({"titledMulti": ["value4"]})), Some("titledMulti")),
        (
            choices,
            accept(
                json!({"titledSingle": "value1", "titledMulti": ["value2"], "untitledMulti": []}),
            ),
            None,
        ),
        ("test_elicitation_url", json!({"action": "opened"}), Some("action")),
        ("test_elicitation_url", json!({"action": "cancel"}), None),
        ("test_sampling", json!({"foo": 1}), Some("role")),
        ("test_sampling", json!({"role": "assistant", "content": text}), Some("model")),
        ("test_sampling", said(json!("x")), Some("content")),
        ("test_sampling", said(json!({"text": "x"})), Some("type")),
        ("test_sampling", said(json!({"type": "text", "text": 1})), Some("text")),
        ("test_sampling", said(json!([text, {"no": "type"}])), Some("type")),
        ("test_sampling", said(json!([text])), None),
        ("test_list_roots", json!({"roots": {}}), Some("roots")),
        ("test_list_roots", json!({"roots": [{"name": "x"}]}), Some("uri")),
        ("test_list_roots", json!({"roots": [{"uri": "https://x"}]}), Some("file://")),
        ("test_list_roots", json!({"roots": []}), None),
    ] {
        let arguments = match tool {
            "test_elicitation" => json!({"message": "?"}),
            "test_sampling" => json!({"prompt": "?"}),
            _ => json!({}),
        };
        let (mut events, question) = ask(&talk, tool, arguments).await;
        answer(&talk, &question, reply.clone()).await;
        let (told, is_error) = outcome(&mut events).await;
        assert_eq!(is_error, named.is_some(), "{tool} {reply}: {told}");
        let method = question["method"].as_str().expect("a method");
        let names = |named: &str| told.contains(named) && told.contains(method);
        assert!(named.is_none_or(names), "{tool} {reply}: {told}");
        assert_eq!(talk.open_questions(), 0);
    }
}

#[tokio::test]
async fn an_error_for_an_answer_is_a_tool_s_error() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = able(&server, "2025-11-25").await;
    for reply in [
        json!({"error": {"code": -1, "message": "User rejected sampling request"}}),
        json!({"result": "no object"}),
        json!({"result": null}),
    ] {
        let (mut events, question) = ask(&talk, "test_sampling", json!({"prompt": "x"})).await;
        let mut message = json!({"jsonrpc": "2.0", "id": question["id"]});
        message.as_object_mut().expect("an object").extend(reply.as_object().expect("one").clone());
        let taken = talk.post(message.to_string()).send().await;
        taken.expect_status(202);
        let (text, is_error) = outcome(&mut events).await;
        assert!(is_error && text.contains("sampling/createMessage"), "{text}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_answer_is_not_waited_for_for_ever() {
    let server = TestServer::start(&[FIXTURES, IMPATIENT]).await;
    let talk = able(&server, "2025-11-25").await;
    let start = Instant::now();
    let (mut events, question) = ask(&talk, "test_sampling", json!({"prompt": "x"})).await;
    taken_back(&mut events, &question).await;
    let (text, is_error) = outcome(&mut events).await;
    assert!(is_error && text.contains("answer_timeout_seconds"), "{text}");
    let waited = start.elapsed();
    assert!((Duration::from_millis(250)..Duration::from_secs(3)).contains(&waited), "{waited:?}");
    assert_eq!(talk.open_questions(), 0);
    // Too late is no harm.
    answer(&talk, &question, json!({"role": "assistant"})).await;
}

#[tokio::test]
async fn only_the_session_that_was_asked_can_answer() {
    let server = TestServer::start(&[FIXTURES]).await;
    let (asked, other) = (able(&server, "2025-11-25").await, able(&server, "2025-11-25").await);
    let (mut events, question) = ask(&asked, "test_sampling", json!({"prompt": "x"})).await;
    let reply = |text: &str| {
        let said = json!({"type": "text", "text": text});
        json!({"role": "assistant", "content": said, "model": "m"})
    };
    answer(&other, &question, reply("forged")).await;
    let unknown = json!({"id": 999_999});
    answer(&asked, &unknown, reply("nobody asked")).await;
    events.expect_quiet().await;
    answer(&asked, &question, reply("true")).await;
    // An answer counts once.
    answer(&asked, &question, reply("again")).await;
    assert_eq!(outcome(&mut events).await, ("LLM response: true".to_owned(), false));
}

#[tokio::test]
async fn questions_of_calls_at_once_are_told_apart() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = able(&server, "2025-11-25").await;
    let mut asked = Vec::new();
    for number in 0..5 {
        let prompt = json!({"prompt": number.to_string()});
        asked.push(ask(&talk, "test_sampling", prompt).await);
    }
    let mut ids: Vec<_> = asked.iter().map(|(_, question)| question["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5, "an id is used once");
    assert_eq!(talk.open_questions(), 5);
    for (mut events, question) in asked.into_iter().rev() {
        let prompt = question["params"]["messages"][0]["content"]["text"].clone();
        let said = json!({"type": "text", "text": prompt});
        let reply = json!({"role": "assistant", "content": said, "model": "m"});
        answer(&talk, &question, reply).await;
        let expected = format!("LLM response: {}", prompt.as_str().expect("a text"));
        assert_eq!(outcome(&mut events).await, (expected, false));
    }
}

#[tokio::test]
async fn a_client_that_is_gone_is_forgotten_in_time() {
    let patience = ("MCP_ECHO_SESSION__ANSWER_TIMEOUT_SECONDS", "2");
    let server = TestServer::start(&[FIXTURES, patience]).await;
    let talk = able(&server, "2025-11-25").await;
    for _ in 0..3 {
        let (events, _) = ask(&talk, "test_sampling", json!({"prompt": "x"})).await;
        drop(events);
    }
    assert_eq!(talk.open_questions(), 3, "gone is not cancelled");
    eventually(|| talk.open_questions() == 0).await;
}

#[tokio::test]
async fn a_question_can_be_answered_although_its_stream_broke() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = able(&server, "2025-11-25").await;
    let mut events = Events::open(talk.call("test_sampling", json!({"prompt": "x"}))).await;
    let primed = events.next().await.expect("the priming event");
    let question = events.message().await;
    drop(events);
    let said = json!({"type": "text", "text": "still here"});
    let reply = json!({"role": "assistant", "content": said, "model": "m"});
    answer(&talk, &question, reply).await;
    let mut again = Events::open(talk.request("GET").header("Last-Event-ID", primed.id())).await;
    assert_eq!(again.message().await, question, "what was missed comes again");
    assert_eq!(outcome(&mut again).await, ("LLM response: still here".to_owned(), false));
}

#[tokio::test]
async fn cancelling_the_call_withdraws_the_question() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = able(&server, "2025-11-25").await;
    let (mut events, question) = ask(&talk, "test_sampling", json!({"prompt": "x"})).await;
    let params = json!({"requestId": 1, "reason": "test"});
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
    let taken = talk.post(cancel.to_string()).send().await;
    taken.expect_status(202);
    taken_back(&mut events, &question).await;
    assert_eq!(events.rest().await, [], "a call that was cancelled has no response");
    eventually(|| talk.open_questions() == 0).await;
}

#[tokio::test]
async fn the_end_of_the_session_ends_what_it_was_asked() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = able(&server, "2025-11-25").await;
    let (mut events, question) = ask(&talk, "test_elicitation", json!({"message": "?"})).await;
    let start = Instant::now();
    talk.request("DELETE").send().await.expect_status(204);
    // No answer can come any more, so waiting for one would be in vain.
    taken_back(&mut events, &question).await;
    events.rest().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    eventually(|| talk.open_questions() == 0).await;
}

#[tokio::test]
async fn every_kind_of_question_is_taken_back_and_no_answered_one_is() {
    let server = TestServer::start(&[FIXTURES, IMPATIENT]).await;
    let talk = able(&server, "2025-11-25").await;
    for tool in ["test_elicitation", "test_elicitation_url", "test_list_roots"] {
        let arguments =
            if tool == "test_elicitation" { json!({"message": "?"}) } else { json!({}) };
        let (mut events, question) = ask(&talk, tool, arguments).await;
        taken_back(&mut events, &question).await;
        assert!(outcome(&mut events).await.1, "{tool}");
    }
    let (mut events, question) = ask(&talk, "test_list_roots", json!({})).await;
    answer(&talk, &question, json!({"roots": []})).await;
    assert!(!outcome(&mut events).await.1, "the response comes, and nothing is taken back");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_answer() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = able(&server, "2025-11-25").await;
    let (_events, _) = ask(&talk, "test_sampling", json!({"prompt": "x"})).await;
    let start = Instant::now();
    server.stop();
    let stopped = server.stopped().await;
    assert_eq!(stopped, Stopped::Clean, "an unanswered question holds nothing up");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_client_that_disappears_leaves_nothing_behind() {
    let server = TestServer::start(&[FIXTURES, IMPATIENT]).await;
    let talk = able(&server, "2025-11-25").await;
    let instance = &server.instances[0];
    let count = || {
        let counts = instance.state.sessions.counts();
        (
            counts.live,
            talk.open_streams(),
            talk.open_questions(),
            instance.state.subscriptions.open(),
        )
    };
    let before = count();
    assert_eq!(before, (1, 0, 0, 0));
    let mut gone = Vec::new();
    for request in [
        talk.request("GET").header("Accept", "text/event-stream"),
        talk.call("test_sampling", json!({"prompt": "x"})),
        talk.call("test_tool_with_progress", json!({})),
        talk.call("test_reconnection", json!({})),
        talk.call("stream_ticks", json!({"count": 3, "interval_ms": 50})),
        talk.call("echo", json!({"message": "x", "delay": 0.2})),
        talk.rpc("tools/list", json!({})),
    ] {
        let bytes = request.bytes();
        // In the middle of the head, of what follows, and while the answer is under way.
        for part in [20, bytes.len() - 3, bytes.len()] {
            let mut connection = crate::support::Connection::open(server.address).await;
            connection.write(&bytes[..part]).await;
            gone.push(connection);
        }
    }
    eventually(|| talk.open_streams() == 1).await;
    drop(gone);
    eventually(|| count() == before).await;
    server.stop();
    assert_eq!(server.stopped().await, Stopped::Clean, "nothing is still at work");
}
