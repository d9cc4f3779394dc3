//! Revision 2026-07-28: the server asks by its result, and the client carries the state
//! (basic/patterns/mrtr).

use serde_json::{Value, json};

use crate::{
    modern::{FIXTURES, PASSTHROUGH},
    support::TestServer,
};

const INVALID_PARAMS: i64 = -32602;

/// A tool that asks, its capabilities and an answer.
const ASKER: &str = "test_input_required_result_tampered_state";

fn asker() -> (Value, Value) {
    let confirm = json!({"action": "accept", "content": {"ok": true}});
    (json!({"elicitation": {}}), json!({"confirm": confirm}))
}

#[tokio::test]
async fn input_is_asked_for_by_result_and_the_state_comes_back() {
    let server = TestServer::start(&[FIXTURES]).await;
    let (capabilities, answers) = asker();
    let call = || server.modern_call(ASKER, json!({})).capabilities(capabilities.clone());
    let first = call().id(1).result().await;
    assert_eq!(first["resultType"], "input_required");
    assert_eq!(first["inputRequests"]["confirm"]["method"], "elicitation/create");
    let state = first["requestState"].as_str().expect("a state");
    let retry = || call().id(2).param("requestState", state);
    assert_eq!(retry().param("inputResponses", answers.clone()).text().await, "state-ok");
    // What is missing or of no use is asked for again, and what nobody asked for is ignored.
    for incomplete in [
        json!({}),
        json!({"other": {"action": "accept"}}),
        json!({"confirm": null}),
        json!({"confirm": 7}),
    ] {
        let again = retry().param("inputResponses", incomplete).result().await;
        assert_eq!(again["resultType"], "input_required", "{again:?}");
        assert!(again["inputRequests"]["confirm"].is_object());
    }
    let more = json!({"confirm": answers["confirm"], "other": {}});
    assert_eq!(retry().param("inputResponses", more).text().await, "state-ok");
    for wrong in [json!([]), json!("yes"), json!(1)] {
        let answer = retry().param("inputResponses", wrong).send().await;
        assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_refused_by_name() {
    let server = TestServer::start(&[FIXTURES]).await;
    let all = json!({"elicitation": {}, "sampling": {}, "roots": {}});
    let accept = |content: Value| json!({"action": "accept", "content": content});
    for (tool, answers, key) in [
        (
            "test_input_required_result_elicitation",
            json!({"user_name": accept(json!({"name": 7}))}),
            "user_name",
        ),
        (
            "test_input_required_result_elicitation",
            json!({"user_name": {"action": "maybe"}}),
            "user_name",
        ),
        (
            "test_input_required_result_sampling",
            json!({"capital_question": {"foo": 1}}),
            "capital_question",
        ),
        (
            "test_input_required_result_list_roots",
            json!({"client_roots": {"roots": [{"uri": "https://x"}]}}),
            "client_roots",
        ),
        (ASKER, json!({"confirm": accept(json!({}))}), "confirm"),
        (
            "test_input_required_result_multiple_inputs",
            json!({"greeting": {"role": "assistant"}}),
            "greeting",
        ),
        (
            "test_input_required_result_multi_round",
            json!({"step1": accept(json!({"name": true}))}),
            "step1",
        ),
        (
            "test_input_required_result_capabilities",
            json!({"client_roots": {"roots": 1}}),
            "client_roots",
        ),
        ("test_tool_with_task", json!({"user_name": {"action": 1}}), "user_name"),
    ] {
        let call = || server.modern_call(tool, json!({})).capabilities(all.clone());
        let asked = call().result().await;
        let retry = call().param("inputResponses", answers);
        let retry = match asked.get("requestState") {
            Some(state) => retry.param("requestState", state.clone()),
            None => retry,
        };
        let answer = retry.send().await;
        let error = answer.expect_error(200, INVALID_PARAMS);
        let text = error["message"].as_str().expect("a text");
        assert!(text.contains("inputResponses") && text.contains(key), "{tool}: {text}");
    }
    let prompt = json!({"name": "test_input_required_result_prompt"});
    let prompt = server.modern("prompts/get", prompt).capabilities(all);
    let wrong = json!({"user_context": accept(json!({"context": 7}))});
    let error = prompt.param("inputResponses", wrong).refused(200, INVALID_PARAMS).await;
    assert!(error["message"].as_str().is_some_and(|text| text.contains("context")), "{error}");
}

#[tokio::test]
async fn several_things_are_asked_at_once_and_rounds_follow_rounds() {
    let server = TestServer::start(&[FIXTURES]).await;
    let all = json!({"elicitation": {}, "sampling": {}, "roots": {}});
    let call = |tool| server.modern_call(tool, json!({})).capabilities(all.clone());

    let tool = "test_input_required_result_multiple_inputs";
    let first = call(tool).result().await;
    let methods = |result: &serde_json::Map<String, Value>| -> Vec<(String, String)> {
        let requests = result["inputRequests"].as_object().expect("requests");
        let pair = |(key, request): (&String, &Value)| {
            (key.clone(), request["method"].as_str().expect("a method").to_owned())
        };
        requests.iter().map(pair).collect()
    };
    let mut asked = methods(&first);
    asked.sort();
    let expected = [
        ("client_roots", "roots/list"),
        ("greeting", "sampling/createMessage"),
        ("user_name", "elicitation/create"),
    ];
    assert_eq!(asked, expected.map(|(key, method)| (key.to_owned(), method.to_owned())));
    let sampling = &first["inputRequests"]["greeting"]["params"];
    assert!(sampling["maxTokens"].is_u64() && sampling.get("includeContext").is_none());
    let name = json!({"action": "accept", "content": {"name": "Ada"}});
    let text = json!({"type": "text", "text": "Good day"});
    let greeting = json!({"role": "assistant", "content": text, "model": "m"});
    let roots = json!({"roots": [{"uri": "file:///r"}]});
    let answers = json!({"user_name": name, "greeting": greeting, "client_roots": roots});
    let retry = call(tool).param("requestState", first["requestState"].clone());
    let text = retry.param("inputResponses", answers).text().await;
    for part in ["Ada", "Good day", "file:///r"] {
        assert!(text.contains(part), "{text}");
    }

    let tool = "test_input_required_result_multi_round";
    let first = call(tool).result().await;
    let name = json!({"step1": {"action": "accept", "content": {"name": "Ada"}}});
    let second = call(tool).param("requestState", first["requestState"].clone());
    let second = second.param("inputResponses", name).result().await;
    assert_ne!(first["requestState"], second["requestState"]);
    assert!(second["inputRequests"]["step2"].is_object(), "{second:?}");
    let color = json!({"step2": {"action": "accept", "content": {"color": "blue"}}});
    let third = call(tool).param("requestState", second["requestState"].clone());
    let text = third.param("inputResponses", color).text().await;
    assert!(text.contains("Ada") && text.contains("blue"), "{text}");
}

#[tokio::test]
async fn a_prompt_may_ask_and_a_list_never_does() {
    let server = TestServer::start(&[FIXTURES]).await;
    let prompt = || {
        let params = json!({"name": "test_input_required_result_prompt"});
        server.modern("prompts/get", params).capabilities(json!({"elicitation": {}}))
    };
    let first = prompt().result().await;
    assert_eq!(first["resultType"], "input_required");
    let context = json!({"action": "accept", "content": {"context": "rainy"}});
    let retry = prompt().param("inputResponses", json!({"user_context": context}));
    let result = retry.result().await;
    assert_eq!(result["resultType"], "complete");
    assert!(result["messages"][0]["content"]["text"].as_str().is_some_and(|t| t.contains("rainy")));
    let error = prompt().capabilities(json!({"sampling": {}})).refused(400, -32021).await;
    assert_eq!(error["data"]["requiredCapabilities"], json!({"elicitation": {"form": {}}}));
    // Sessions have no such results.
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let talk = server.session_of(0, version).await;
        let get = talk.rpc("prompts/get", json!({"name": "test_input_required_result_prompt"}));
        get.send().await.expect_error(200, INVALID_PARAMS);
    }
    for list in ["tools/list", "prompts/list", "resources/list"] {
        let list = server.modern(list, json!({})).param("inputResponses", json!({"x": {}}));
        assert_eq!(list.result().await["resultType"], "complete");
    }
}

#[tokio::test]
async fn a_state_opens_for_its_own_request_alone() {
    let server = TestServer::start(&[FIXTURES, PASSTHROUGH]).await;
    let (capabilities, answers) = asker();
    let call = |tool: &str, arguments: Value| {
        let request = server.modern_call(tool, arguments).capabilities(capabilities.clone());
        request.by("alice").param("inputResponses", answers.clone())
    };
    let first = call(ASKER, json!({})).without_param("inputResponses").result().await;
    let state = first["requestState"].as_str().expect("a state").to_owned();

    let mut changed: Vec<String> = ["", "x", ".", "a.b"].map(str::to_owned).into();
    for position in [0, 1, state.len() / 2, state.len() - 1] {
        let mut bytes = state.clone().into_bytes();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        changed.push(String::from_utf8(bytes).expect("is text"));
    }
    changed.extend([format!("{state}A"), format!("{state}="), state[..state.len() - 1].to_owned()]);
    for state in changed {
        let answer = call(ASKER, json!({})).param("requestState", state.as_str()).send().await;
        assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{state}: {answer:?}");
    }
    for state in [json!(1), json!({}), json!(null)] {
        let answer = call(ASKER, json!({})).param("requestState", state).send().await;
        let answer = answer.json();
        let refused = answer["error"]["code"] == INVALID_PARAMS;
        assert!(refused || answer["result"]["resultType"] == "input_required", "{answer}");
    }
    let own = || call(ASKER, json!({})).param("requestState", state.as_str());
    for foreign in [
        own().by("bob"),
        call("test_input_required_result_request_state", json!({}))
            .param("requestState", state.as_str()),
        call("test_elicitation", json!({"message": "x"})).param("requestState", state.as_str()),
    ] {
        let answer = foreign.send().await;
        assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{answer:?}");
    }
    let prompt = json!({"name": "test_input_required_result_prompt"});
    let prompt = server.modern("prompts/get", prompt).by("alice");
    let prompt = prompt.capabilities(capabilities.clone()).param("requestState", state.as_str());
    assert_eq!(prompt.send().await.json()["error"]["code"], INVALID_PARAMS);
    assert_eq!(own().text().await, "state-ok");
}

#[tokio::test]
async fn a_state_opens_for_its_own_arguments_alone() {
    let server = TestServer::start(&[FIXTURES]).await;
    let (capabilities, answers) = asker();
    let call =
        |arguments: Value| server.modern_call(ASKER, arguments).capabilities(capabilities.clone());
    let state = call(json!({})).result().await["requestState"].clone();
    let answer = call(json!({"other": 1})).param("requestState", state.clone());
    let answer = answer.param("inputResponses", answers.clone()).send().await;
    assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{answer:?}");
    // No arguments, in whatever way.
    let retry = || call(json!({})).param("requestState", state.clone());
    for same in [retry(), retry().without_param("arguments")] {
        assert_eq!(same.param("inputResponses", answers.clone()).text().await, "state-ok");
    }
}

#[tokio::test]
async fn a_state_opens_on_its_own_instance_alone() {
    let server = TestServer::start(&[FIXTURES]).await;
    let (capabilities, answers) = asker();
    let call = |instance| {
        server.modern_call(ASKER, json!({})).capabilities(capabilities.clone()).on(instance)
    };
    let state = call(1).result().await["requestState"].clone();
    let retry = |instance| {
        call(instance).param("requestState", state.clone()).param("inputResponses", answers.clone())
    };
    let answer = retry(2).send().await;
    assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "instances are strangers");
    assert_eq!(retry(1).text().await, "state-ok");
}
