//! Resources, prompts, completion, pages of lists and log levels, in both eras.

use serde_json::{Value, json};

use crate::{
    events::Events,
    modern::{FIXTURES, PASSTHROUGH, messages},
    support::{Talk, TestServer},
};

const ALL: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
const WATCHED: &str = "test://watched-resource";
const INVALID_PARAMS: i64 = -32602;
const UPDATED: &str = "notifications/resources/updated";

/// The result of a request that must succeed.
async fn result(talk: &Talk<'_>, method: &str, params: Value) -> Value {
    let answer = talk.rpc(method, params).send().await;
    answer.expect_status(200);
    let message = answer.json();
    assert!(message["result"].is_object(), "{message}");
    message["result"].clone()
}

/// The code of the error of a request that must fail in-band.
async fn error(talk: &Talk<'_>, method: &str, params: Value) -> Value {
    let answer = talk.rpc(method, params).send().await;
    answer.expect_status(200);
    answer.json()["error"].clone()
}

#[tokio::test]
async fn pages_together_are_the_whole_list_in_every_revision() {
    let paged = TestServer::start(&[FIXTURES, ("MCP_ECHO_PROTOCOL__PAGE_SIZE", "2")]).await;
    let whole = TestServer::start(&[FIXTURES]).await;
    for (method, member) in [
        ("tools/list", "tools"),
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ] {
        for version in ALL.into_iter().chain(["2026-07-28"]) {
            let stateless = version == "2026-07-28";
            let page = async |server: &TestServer, cursor: Option<Value>| -> Value {
                let params = cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
                match stateless {
                    true => json!(server.modern(method, params).result().await),
                    false => {
                        let talk = server.session_of(0, version).await;
                        result(&talk, method, params).await
                    }
                }
            };
            let all = page(&whole, None).await;
            assert_eq!(all.get("nextCursor"), None);
            let all = all[member].as_array().expect("a list").clone();
            assert!(!all.is_empty());
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let next = page(&paged, cursor).await;
                let entries = next[member].as_array().expect("a list");
                assert!((1..=2).contains(&entries.len()), "{next}");
                assert_eq!(next.get("ttlMs").is_some(), stateless);
                assert_eq!(next["cacheScope"] == "public", stateless, "{next}");
                seen.extend(entries.clone());
                cursor = next.get("nextCursor").cloned();
                match &cursor {
                    Some(cursor) => assert!(cursor.is_string(), "{cursor}"),
                    None => break,
                }
                assert!(seen.len() < all.len(), "no empty page at the end");
            }
            assert_eq!(seen, all, "{version} {method}");
        }
        let talk = paged.session_of(0, "2025-11-25").await;
        for cursor in ["", "nonsense", "page-0x1", "page-9999", "page--1"] {
            let refused = error(&talk, method, json!({"cursor": cursor})).await;
            assert_eq!(refused["code"], INVALID_PARAMS, "{cursor}");
            let answer = paged.modern(method, json!({"cursor": cursor})).send().await;
            assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{answer:?}");
        }
        assert_eq!(error(&talk, method, json!({"cursor": 7})).await["code"], INVALID_PARAMS);
    }
}

#[tokio::test]
async fn what_is_for_everyone_holds_nothing_of_anyone() {
    // server/resources, "Capabilities"; server/utilities/caching, "Security Considerations".
    let server = TestServer::start(&[FIXTURES, PASSTHROUGH]).await;
    let lists = async |caller: &str| {
        let mut lists = Vec::new();
        for method in [
            "server/discover",
            "tools/list",
            "prompts/list",
            "resources/list",
            "resources/templates/list",
        ] {
            let list = server.modern(method, json!({})).by(caller).result().await;
            assert_eq!(list["cacheScope"], "public", "{method}");
            lists.push(list);
        }
        lists
    };
    let before = lists("alice").await;
    let create = server.modern_call("create_session", json!({"label": "hush"})).by("alice");
    let created = create.structured().await;
    let handle = created["session"].as_str().expect("a handle");
    let store = json!({"key": "hush", "value": "hush", "session": handle});
    server.modern_call("set_session_data", store).by("alice").structured().await;
    let uri = format!("session://{handle}/data/hush");
    let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": [uri]});
    let listen = server.modern("subscriptions/listen", json!({"notifications": wanted}));
    let mut events = Events::open(listen.by("alice").build()).await;
    events.message().await;
    for caller in ["alice", "bob"] {
        assert_eq!(lists(caller).await, before, "{caller}");
    }
    for uri in [uri.as_str(), "echo://server"] {
        let read = server.modern("resources/read", json!({"uri": uri})).by("alice");
        assert_eq!(read.result().await["cacheScope"], "private", "{uri}");
    }
}

#[tokio::test]
async fn every_listed_resource_can_be_read() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let list = result(&talk, "resources/list", json!({})).await;
    let list = list["resources"].as_array().expect("resources");
    assert!(list.len() >= 5, "{list:?}");
    for resource in list {
        let uri = json!({"uri": resource["uri"]});
        let sessioned = result(&talk, "resources/read", uri.clone()).await;
        let stateless = json!(server.modern("resources/read", uri).result().await);
        for result in [sessioned, stateless] {
            let contents = &result["contents"][0];
            assert_eq!(contents["uri"], resource["uri"]);
            assert_eq!(contents["mimeType"], resource["mimeType"]);
            assert_ne!(contents["text"].is_string(), contents["blob"].is_string(), "{contents}");
        }
    }
    let uri = json!({"uri": "test://template/a-1/data"});
    let contents = result(&talk, "resources/read", uri).await["contents"][0].clone();
    let data: Value = serde_json::from_str(contents["text"].as_str().expect("text")).expect("JSON");
    assert_eq!(data["id"], "a-1");
}

#[tokio::test]
async fn a_resource_that_is_not_there_is_an_error_in_the_words_of_its_era() {
    let server = TestServer::start(&[FIXTURES, PASSTHROUGH]).await;
    let created = server.modern_call("create_session", json!({})).by("alice").structured().await;
    let handle = created["session"].as_str().expect("a handle");
    for uri in [
        "test://nothing",
        "test://template//data",
        "test://template/a/b/data",
        "file:///etc/passwd",
        "session://nobody/data/k",
        &format!("session://{handle}/data/never-stored"),
        "",
    ] {
        let read = server.modern("resources/read", json!({"uri": uri})).by("alice").send().await;
        let refused = read.json()["error"].clone();
        assert_eq!(refused["code"], INVALID_PARAMS, "{read:?}");
        assert_eq!(refused["data"]["uri"], uri);
        let read = server.rpc("resources/read", json!({"uri": uri}));
        let read = read.header("Authorization", "Bearer alice").header("Mcp-Session-Id", handle);
        let refused = read.send().await.json()["error"].clone();
        assert_eq!((&refused["code"], &refused["data"]["uri"]), (&json!(-32002), &json!(uri)));
    }
}

#[tokio::test]
async fn subscribers_are_told_on_the_get_stream_until_they_unsubscribe() {
    let server = TestServer::start(&[FIXTURES]).await;
    for version in ALL {
        let talk = server.session_of(0, version).await;
        let stranger = server.session_of(0, version).await;
        let value = format!("session://{}/data/a%20key", talk.id);
        let mut events = Events::open(talk.request("GET")).await;
        let mut other = Events::open(stranger.request("GET")).await;
        if version == "2025-11-25" {
            events.next().await.expect("the priming event");
            other.next().await.expect("the priming event");
        }
        let trigger = async || {
            talk.call("test_trigger_resource_update", json!({})).send().await.expect_status(200);
        };
        let store = async |key: &str| {
            talk.ask("set_session_data", json!({"key": key, "value": 1})).await;
        };
        trigger().await;
        store("a key").await;
        events.expect_quiet().await;
        for uri in [WATCHED, &value] {
            let subscribed = result(&talk, "resources/subscribe", json!({"uri": uri})).await;
            assert_eq!(subscribed, json!({}));
            // Twice is once.
            result(&talk, "resources/subscribe", json!({"uri": uri})).await;
        }
        store("another key").await;
        trigger().await;
        let told = events.message().await;
        assert_eq!((&told["method"], &told["params"]["uri"]), (&json!(UPDATED), &json!(WATCHED)));
        store("a key").await;
        let told = events.message().await;
        assert_eq!((&told["method"], &told["params"]["uri"]), (&json!(UPDATED), &json!(value)));
        // A change is a change, whichever era it was made in.
        let arguments = json!({"key": "a key", "value": 2, "session": talk.id});
        server.modern_call("set_session_data", arguments).on(0).structured().await;
        assert_eq!(events.message().await["params"]["uri"], value);
        for uri in [WATCHED, &value] {
            let ended = result(&talk, "resources/unsubscribe", json!({"uri": uri})).await;
            assert_eq!(ended, json!({}));
        }
        trigger().await;
        store("a key").await;
        events.expect_quiet().await;
        other.expect_quiet().await;
    }
}

#[tokio::test]
async fn what_is_no_uri_is_no_resource() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = server.session_of(0, "2025-06-18").await;
    // RFC 3986 §2; an answer would have to repeat them.
    for id in ["a b", "a\u{0}", "é", "a#b", "%4", "%", "<", "[", "\u{2028}"] {
        let uri = json!({"uri": format!("test://template/{id}/data")});
        for method in ["resources/read", "resources/subscribe"] {
            assert_eq!(error(&talk, method, uri.clone()).await["code"], -32002, "{uri}");
        }
    }
    for id in ["a", "a%20b", "a-._~!$&'()*+,;=:@", "%C3%A9"] {
        let uri = json!({"uri": format!("test://template/{id}/data")});
        let contents = result(&talk, "resources/read", uri.clone()).await["contents"][0].clone();
        assert_eq!(contents["uri"], uri["uri"]);
    }
}

#[tokio::test]
async fn however_a_key_is_written_it_is_one_resource() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-06-18").await;
    let mut events = Events::open(talk.request("GET")).await;
    let store = json!({"key": "é: ~", "value": 1});
    let uri = |key: &str| json!({"uri": format!("session://{}/data/{key}", talk.id)});
    let written = "%C3%A9%3A%20~";
    for key in [written, "é: ~", "%c3%a9:%20%7E", "é%3a ~"] {
        talk.ask("set_session_data", store.clone()).await;
        let read = result(&talk, "resources/read", uri(key)).await;
        assert_eq!(read["contents"][0]["uri"], uri(written)["uri"]);
        assert_eq!(read["contents"][0]["text"], "1");
        result(&talk, "resources/subscribe", uri(key)).await;
        talk.ask("set_session_data", store.clone()).await;
        assert_eq!(events.message().await["params"]["uri"], uri(written)["uri"]);
        // In another spelling than it was asked for.
        result(&talk, "resources/unsubscribe", uri("%c3%a9%3a ~")).await;

        let wanted = json!({"resourceSubscriptions": [uri(key)["uri"]]});
        let listen = server.modern("subscriptions/listen", json!({"notifications": wanted}));
        let mut listener = Events::open(listen.build()).await;
        let honoured = listener.message().await["params"]["notifications"].clone();
        assert_eq!(honoured, wanted, "what was asked for, as it was asked for");
        talk.ask("set_session_data", store.clone()).await;
        assert_eq!(listener.message().await["params"]["uri"], uri(key)["uri"]);
    }
    // In two spellings at once it is still one.
    let wanted = json!({"resourceSubscriptions": [uri("é: ~")["uri"], uri(written)["uri"]]});
    let listen = server.modern("subscriptions/listen", json!({"notifications": wanted}));
    let mut listener = Events::open(listen.build()).await;
    assert_eq!(listener.message().await["params"]["notifications"], wanted);
    talk.ask("set_session_data", store.clone()).await;
    assert_eq!(listener.message().await["params"]["uri"], wanted["resourceSubscriptions"][0]);
    listener.expect_quiet().await;
    events.expect_quiet().await;
    for no_key in ["%zz", "%", "%ff"] {
        error(&talk, "resources/subscribe", uri(no_key)).await;
    }
}

#[tokio::test]
async fn one_subscribes_to_what_is_there_and_to_what_is_one_s_own() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    for uri in ["test://nothing", "file:///etc/passwd"] {
        let refused = error(&talk, "resources/subscribe", json!({"uri": uri})).await;
        assert_eq!((&refused["code"], &refused["data"]["uri"]), (&json!(-32002), &json!(uri)));
    }
    for params in [json!({}), json!({"uri": 7})] {
        let refused = error(&talk, "resources/subscribe", params).await;
        assert_eq!(refused["code"], INVALID_PARAMS);
    }
    result(&talk, "resources/unsubscribe", json!({"uri": WATCHED})).await;
}

#[tokio::test]
async fn another_caller_s_session_is_not_watched() {
    let server = TestServer::start(&[PASSTHROUGH]).await;
    let as_caller = |request: crate::support::Request, id: &str, token: &str| {
        let request = request.header("Authorization", &format!("Bearer {token}"));
        request.header("Mcp-Session-Id", id)
    };
    let begin = async |token: &str| {
        let request = server.initialize("2025-06-18");
        let answer = request.header("Authorization", &format!("Bearer {token}")).send().await;
        answer.header("mcp-session-id").expect("a session id").to_owned()
    };
    let (alice, bob) = (begin("alice").await, begin("bob").await);
    let get = as_caller(server.request("GET", "/mcp"), &bob, "bob");
    let mut events = Events::open(get).await;
    let uri = json!({"uri": format!("session://{alice}/data/k")});
    // Whatever it is told, it must hear nothing.
    let subscribe = as_caller(server.rpc("resources/subscribe", uri), &bob, "bob").send().await;
    subscribe.expect_status(200);
    let store = server.call("set_session_data", json!({"key": "k", "value": 1}));
    as_caller(store, &alice, "alice").send().await.expect_status(200);
    events.expect_quiet().await;
}

#[tokio::test]
async fn prompts_are_filled_in_in_every_revision() {
    let server = TestServer::start(&[FIXTURES]).await;
    let filled = json!({"arg1": "hello", "arg2": "world"});
    for version in ALL {
        let talk = server.session_of(0, version).await;
        let get = async |name: &str, arguments: Value| {
            result(&talk, "prompts/get", json!({"name": name, "arguments": arguments})).await
        };
        let prompt = get("test_prompt_with_arguments", filled.clone()).await;
        assert_eq!(prompt["messages"][0]["role"], "user");
        let text = prompt["messages"][0]["content"]["text"].as_str().expect("a text");
        assert!(text.contains("arg1='hello'") && text.contains("arg2='world'"), "{text}");
        let uri = "test://example";
        let arguments = json!({"resourceUri": uri});
        let prompt = get("test_prompt_with_embedded_resource", arguments).await;
        assert_eq!(prompt["messages"][0]["content"]["type"], "resource");
        assert_eq!(prompt["messages"][0]["content"]["resource"]["uri"], uri);
        let prompt = get("test_prompt_with_image", json!({})).await;
        assert_eq!(prompt["messages"][0]["content"]["mimeType"], "image/png");
        result(&talk, "prompts/get", json!({"name": "test_simple_prompt"})).await;
    }
    let talk = server.session_of(0, "2025-11-25").await;
    for params in [
        json!({"name": "nothing"}),
        json!({"name": "test_prompt_with_arguments", "arguments": {"arg1": "x"}}),
        json!({"name": "test_prompt_with_arguments"}),
        json!({"name": "test_simple_prompt", "arguments": {"other": "x"}}),
        json!({"name": "echo", "arguments": {"message": 7}}),
        json!({"name": "echo", "arguments": ["x"]}),
        json!({"name": "echo", "arguments": {"message": "x", "format": "xml"}}),
        // It would be repeated as the URI of a resource.
        json!({"name": "test_prompt_with_embedded_resource", "arguments": {"resourceUri": "x y"}}),
        json!({"name": "test_prompt_with_embedded_resource", "arguments": {"resourceUri": "a://b:c"}}),
    ] {
        let refused = error(&talk, "prompts/get", params.clone()).await;
        assert_eq!(refused["code"], INVALID_PARAMS, "{params}");
        let answer = server.modern("prompts/get", params).send().await;
        assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{answer:?}");
    }
}

/// What is proposed, in both eras alike.
async fn proposed(talk: &Talk<'_>, params: Value) -> Vec<String> {
    let sessioned = result(talk, "completion/complete", params.clone()).await;
    let stateless = talk.server.modern("completion/complete", params);
    let stateless = stateless.without("Mcp-Name").result().await;
    assert_eq!(sessioned["completion"], stateless["completion"]);
    let completion = &sessioned["completion"];
    let values = completion["values"].as_array().expect("values");
    assert!(values.len() <= 100, "the bound of the schema");
    assert_eq!(completion["hasMore"], json!(completion["total"].as_u64() > Some(100)));
    values.iter().map(|value| value.as_str().expect("a text").to_owned()).collect()
}

#[tokio::test]
async fn completion_proposes_what_begins_like_that() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = server.session_of(0, "2025-06-18").await;
    let prompt = |name: &str, argument: &str, value: &str| {
        let reference = json!({"type": "ref/prompt", "name": name});
        json!({"ref": reference, "argument": {"name": argument, "value": value}})
    };
    assert_eq!(proposed(&talk, prompt("echo", "format", "")).await.len(), 3);
    assert_eq!(proposed(&talk, prompt("echo", "format", "p")).await, ["plain"]);
    assert!(proposed(&talk, prompt("echo", "format", "xyz")).await.is_empty());
    let name = "test_prompt_with_arguments";
    assert_eq!(proposed(&talk, prompt(name, "arg1", "test")).await, ["test", "testing"]);
    let template = json!({"type": "ref/resource", "uri": "test://template/{id}/data"});
    let params = json!({"ref": template, "argument": {"name": "id", "value": "12"}});
    assert_eq!(proposed(&talk, params).await, ["123"]);
    for params in [
        prompt("nothing", "format", ""),
        prompt("echo", "nothing", ""),
        json!({"ref": {"type": "ref/resource", "uri": "test://nothing/{x}"}, "argument": {"name": "x", "value": ""}}),
        json!({"ref": {"type": "ref/tool", "name": "echo"}, "argument": {"name": "x", "value": ""}}),
        json!({"ref": {"type": "ref/prompt", "name": "echo"}}),
        json!({"argument": {"name": "format", "value": ""}}),
        json!({"ref": {"type": "ref/prompt", "name": "echo"}, "argument": ["format", ""]}),
        json!({}),
    ] {
        let refused = error(&talk, "completion/complete", params.clone()).await;
        assert_eq!(refused["code"], INVALID_PARAMS, "{params}");
        let answer = server.modern("completion/complete", params.clone()).send().await;
        assert_eq!(answer.json()["error"]["code"], INVALID_PARAMS, "{params}: {answer:?}");
    }
}

#[tokio::test]
async fn completion_looks_at_what_is_filled_in_already() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    for (key, value) in [("apple", 1), ("apricot", 2), ("banana", 3)] {
        talk.ask("set_session_data", json!({"key": key, "value": value})).await;
    }
    let template = json!({"type": "ref/resource", "uri": "session://{session}/data/{key}"});
    let params = |value: &str, session: Option<&str>| {
        let mut params = json!({"ref": template, "argument": {"name": "key", "value": value}});
        if let Some(session) = session {
            params["context"] = json!({"arguments": {"session": session}});
        }
        params
    };
    assert_eq!(proposed(&talk, params("ap", Some(&talk.id))).await, ["apple", "apricot"]);
    assert_eq!(proposed(&talk, params("", Some(&talk.id))).await.len(), 3);
    assert!(proposed(&talk, params("ap", Some("nobody"))).await.is_empty());
    // A session knows itself; a request without one does not.
    let own = result(&talk, "completion/complete", params("b", None)).await;
    assert_eq!(own["completion"]["values"], json!(["banana"]));
    let none = server.modern("completion/complete", params("b", None)).result().await;
    assert_eq!(none["completion"]["values"], json!([]));
    // More than the schema allows to be listed.
    for number in 0..120 {
        talk.ask("set_session_data", json!({"key": format!("n{number:03}"), "value": 0})).await;
    }
    assert_eq!(proposed(&talk, params("n", Some(&talk.id))).await.len(), 100);
}

#[tokio::test]
async fn another_caller_s_keys_are_not_proposed() {
    let server = TestServer::start(&[PASSTHROUGH]).await;
    let create = server.modern_call("create_session", json!({})).by("alice");
    let created = create.structured().await;
    let handle = created["session"].as_str().expect("a handle");
    let store = json!({"key": "mine", "value": 1, "session": handle});
    server.modern_call("set_session_data", store).by("alice").structured().await;
    let template = json!({"type": "ref/resource", "uri": "session://{session}/data/{key}"});
    let argument = json!({"name": "key", "value": ""});
    let context = json!({"arguments": {"session": handle}});
    let params = json!({"ref": template, "argument": argument, "context": context});
    for (caller, keys) in [("alice", json!(["mine"])), ("bob", json!([]))] {
        let complete = server.modern("completion/complete", params.clone()).by(caller);
        assert_eq!(complete.result().await["completion"]["values"], keys, "{caller}");
        let bearer = format!("Bearer {caller}");
        let own = |request: crate::support::Request| request.header("Authorization", &bearer);
        let begun = own(server.initialize("2025-11-25")).send().await;
        let id = begun.header("mcp-session-id").expect("a session id");
        let complete = own(server.rpc("completion/complete", params.clone()));
        let answer = complete.header("Mcp-Session-Id", id).send().await.json();
        assert_eq!(answer["result"]["completion"]["values"], keys, "{caller}: {answer}");
    }
}

#[tokio::test]
async fn log_messages_are_filtered_by_the_session_s_level() {
    let server = TestServer::start(&[FIXTURES]).await;
    for version in ALL {
        let (talk, other) =
            (server.session_of(0, version).await, server.session_of(0, version).await);
        let logged = async |talk: &Talk<'_>, tool: &str, arguments: Value| -> usize {
            let messages = messages(&talk.call(tool, arguments).send().await);
            messages.iter().filter(|m| m["method"] == "notifications/message").count()
        };
        let tick = json!({"count": 2, "interval_ms": 1});
        let set = async |level: &str| {
            assert_eq!(result(&talk, "logging/setLevel", json!({"level": level})).await, json!({}));
        };
        set("debug").await;
        assert_eq!(logged(&talk, "stream_ticks", tick.clone()).await, 2, "{version}");
        set("info").await;
        assert_eq!(logged(&talk, "stream_ticks", tick.clone()).await, 0);
        assert_eq!(logged(&talk, "test_logging_tool", json!({})).await, 1);
        set("error").await;
        assert_eq!(logged(&talk, "test_logging_tool", json!({})).await, 1);
        for level in ["critical", "alert", "emergency"] {
            set(level).await;
            assert_eq!(logged(&talk, "test_logging_tool", json!({})).await, 0, "{level}");
        }
        // Another session's level is its own.
        assert_eq!(logged(&other, "test_logging_tool", json!({})).await, 1);
        for params in [json!({"level": "loud"}), json!({"level": 3}), json!({})] {
            let refused = error(&talk, "logging/setLevel", params).await;
            assert_eq!(refused["code"], INVALID_PARAMS);
        }
    }
}

#[tokio::test]
async fn a_new_level_holds_for_calls_under_way() {
    let server = TestServer::start(&[]).await;
    for version in ALL {
        let talk = server.session_of(0, version).await;
        let set = async |level: &str| {
            result(&talk, "logging/setLevel", json!({"level": level})).await;
        };
        set("debug").await;
        let ticks = talk.call("stream_ticks", json!({"count": 20, "interval_ms": 50}));
        let mut events = Events::open(ticks).await;
        for _ in 0..3 {
            assert_eq!(events.message().await["method"], "notifications/message");
        }
        set("emergency").await;
        let mut late = 0;
        let mut message = events.message().await;
        while message.get("result").is_none() {
            late += 1;
            message = events.message().await;
        }
        assert!(late <= 2, "{version}: {late} messages after the level was raised");

        let ticks = talk.call("stream_ticks", json!({"count": 20, "interval_ms": 50}));
        let mut events = Events::open(ticks).await;
        set("debug").await;
        assert_eq!(events.message().await["method"], "notifications/message", "{version}");
    }
}

#[tokio::test]
async fn progress_comes_in_order_with_the_token_that_was_sent() {
    let server = TestServer::start(&[FIXTURES]).await;
    for version in ALL {
        let talk = server.session_of(0, version).await;
        for token in [json!("abc"), json!(7)] {
            let meta = json!({"progressToken": token});
            let params = json!({"name": "test_tool_with_progress", "_meta": meta});
            let found = messages(&talk.rpc("tools/call", params).send().await);
            let (response, progress) = found.split_last().expect("messages");
            assert_eq!(response["id"], 1);
            let seen: Vec<_> = progress
                .iter()
                .map(|message| {
                    assert_eq!(message["method"], "notifications/progress");
                    assert_eq!(message["params"]["progressToken"], token);
                    // Came with 2025-03-26.
                    let described = message["params"].get("message").is_some();
                    assert_eq!(described, version != "2024-11-05");
                    message["params"]["progress"].as_f64().expect("a number")
                })
                .collect();
            assert_eq!(seen, [0.0, 50.0, 100.0], "{version}");
        }
        let call = talk.call("test_tool_with_progress", json!({})).send().await;
        assert_eq!(messages(&call).len(), 1, "no token, no progress");
        for wrong in [json!(false), json!({}), json!([1]), json!(1.5)] {
            let meta = json!({"progressToken": wrong});
            let params = json!({"name": "test_tool_with_progress", "_meta": meta});
            assert_eq!(error(&talk, "tools/call", params).await["code"], INVALID_PARAMS);
        }
    }
}

/// Whatever is read or watched goes back under its URI, so it must be one.
#[tokio::test]
async fn what_is_no_uri_names_no_resource() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = server.session(0).await;
    let read =
        async |uri: &str| talk.rpc("resources/read", json!({"uri": uri})).send().await.json();
    assert!(read("test://template/a%20b/data").await["result"].is_object());
    for wrong in ["a b", "é", "\u{fffd}", "a\"b", "{id}", "50%", "%2", "%zz", "a\\b"] {
        let uri = format!("test://template/{wrong}/data");
        assert!(read(&uri).await["error"].is_object(), "{uri}");
        let error = error(&talk, "resources/subscribe", json!({"uri": uri})).await;
        assert!(error.is_object(), "{uri}");
    }
}
