//! `/debug/failures` and ended sessions: what an operator is told of what went wrong.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{TestServer, eventually, instance_host};

async fn get(server: &TestServer, host: &str, path: &str) -> Value {
    server.operate("GET", path).host(host).send().await.expect_status(200).json()
}

async fn failures(server: &TestServer, host: &str, query: &str) -> (u64, Vec<Value>) {
    let list = get(server, host, &format!("/debug/failures{query}")).await;
    let failures = list["failures"].as_array().expect("failures").clone();
    assert_eq!(list["shown"], failures.len());
    (list["total"].as_u64().expect("a total"), failures)
}

/// Waits until that instance has answered so many requests.
async fn answered(server: &TestServer, instance: usize, count: u64) {
    eventually(|| server.instances[instance].state.requests.totals().requests == count).await;
}

#[tokio::test]
async fn a_session_sent_to_the_wrong_host_is_told_with_who_minted_and_who_served() {
    let tag = ("MCP_ECHO_REPLICA__TAG", "a1");
    let server = TestServer::start(&[tag]).await;
    let talk = server.session(0).await;
    let reference = talk.info().await["session_ref"].clone();
    let wrong = talk.rpc("tools/call", json!({"name": "echo", "arguments": {"message": "x"}}));
    wrong.host(&instance_host(3)).header("X-Request-Id", "mine").send().await.expect_gone();
    answered(&server, 3, 1).await;

    let (total, all) = failures(&server, "localhost", "").await;
    assert_eq!((total, all.len()), (1, 1), "what went well is not there");
    let boot = &get(&server, "localhost", "/debug/overview").await["boot"];
    let by = |instance| json!({"instance": instance, "replica_tag": "a1", "boot": boot});
    for (name, expected) in [
        ("instance", json!(3)),
        ("http_method", json!("POST")),
        ("path", json!("/mcp")),
        ("status", json!(404)),
        ("outcome", json!("other_instance")),
        ("why", json!("another instance minted this session id")),
        ("session", reference),
        ("minted_by", by(0)),
        ("served_by", by(3)),
        ("host", json!(instance_host(3))),
        ("peer", json!("127.0.0.1")),
        ("request_id", json!("mine")),
    ] {
        assert_eq!(all[0][name], expected, "{name}");
    }
    assert!(all[0]["at"].is_string() && all[0]["duration_us"].is_u64());
    assert!(!all[0].to_string().contains(&talk.id[6..]), "no more of the id than its reference");
}

#[tokio::test]
async fn what_was_asked_for_is_told_and_looking_is_not() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(3).await;
    let _ = talk.call("no_such_tool", json!({})).send().await;
    let _ = talk.rpc("no/such", json!({})).send().await;
    let _ = talk.call("get_session_data", json!({"key": 5})).send().await;
    answered(&server, 3, 4).await;
    // Neither a wrong token, nor a probe, nor a browser that looks for an icon.
    server.request("GET", "/debug/failures").send().await.expect_status(401);
    server.request("GET", "/nothing").host(&instance_host(3)).send().await.expect_status(404);
    server.request("POST", "/readyz").send().await.expect_status(405);

    let (total, all) = failures(&server, "localhost", "").await;
    let shown: Vec<_> = all
        .iter()
        .map(|failed| ["rpc_method", "tool", "outcome"].map(|name| failed[name].as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            [Some("tools/call"), Some("get_session_data"), Some("invalid_params")],
            [Some("no/such"), None, Some("method_not_found")],
            [Some("tools/call"), Some("no_such_tool"), Some("unknown_tool")],
        ],
        "the last first"
    );
    assert_eq!(total, 3);
    let here = |failed: &Value| failed["minted_by"] == failed["served_by"];
    assert!(all.iter().all(here), "{all:?}");
    // Who minted an unknown id, nobody knows.
    let made_up = server.rpc("ping", json!({})).host(&instance_host(3));
    let made_up = made_up.header("Mcp-Session-Id", "made-up").send().await;
    assert_eq!(made_up.expect_gone(), "unknown");
    answered(&server, 3, 5).await;
    let (_, all) = failures(&server, "localhost", "?limit=1").await;
    assert_eq!((&all[0]["outcome"], &all[0]["minted_by"]), (&json!("unknown"), &Value::Null));
    assert!(all[0]["session"].is_string());
}

#[tokio::test]
async fn a_host_that_is_not_served_is_told_at_the_front_door_alone() {
    let server = TestServer::start(&[]).await;
    let id = server.session(0).await.id;
    for host in ["gateway.internal", &format!("{id}.internal"), &"x".repeat(200)] {
        server.rpc("ping", json!({})).host(host).send().await.expect_status(421);
    }
    let path = "/echo-stateful12/mcp";
    server.request("POST", path).send().await.expect_status(404);
    server.rpc("ping", json!({})).without_host().send().await.expect_status(400);
    let none = "?instance=none";
    let told = async || failures(&server, "localhost", none).await;
    while told().await.0 < 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (_, all) = told().await;
    let of = |name: &str| all.iter().map(|failed| failed[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("status"), [400, 404, 421, 421, 421].map(|status| json!(status)));
    assert_eq!(of("path")[1], path);
    let hosts = of("host");
    assert_eq!(hosts[4], "gateway.internal");
    assert_eq!(hosts[3], "{id}.internal");
    assert_eq!(hosts[2].as_str().map(|host| host.chars().count()), Some(129), "it is cut");
    assert_eq!(all[4]["why"], "this host is not served here (hosts.front_door_names lets it in)");
    for failed in &all {
        assert_eq!((&failed["instance"], &failed["minted_by"]), (&Value::Null, &Value::Null));
        assert_eq!(failed["served_by"]["instance"], Value::Null);
        assert!(failed["served_by"]["replica_tag"].is_string());
    }
    assert_eq!(failures(&server, "localhost", "").await.0, 5, "they are among all");
    assert_eq!(failures(&server, &instance_host(0), "").await.0, 0);
    server
        .operate("GET", "/debug/failures?instance=none")
        .host(&instance_host(0))
        .send()
        .await
        .expect_status(404);
    let overview = get(&server, "localhost", "/debug/overview").await;
    assert_eq!(overview["errors_of_no_instance"], 5);
    let own = get(&server, &instance_host(0), "/debug/overview").await;
    assert_eq!(own["errors_of_no_instance"], Value::Null);
}

#[tokio::test]
async fn the_last_hundred_of_each_instance_are_kept_whatever_succeeds_after_them() {
    let server = TestServer::start(&[("MCP_ECHO_ADMIN__RECENT_REQUESTS", "150")]).await;
    let (loud, quiet) = (server.session(3).await, server.session(4).await);
    let _ = quiet.call("no_such_tool", json!({})).send().await;
    for _ in 0..120 {
        let _ = loud.call("no_such_tool", json!({})).send().await;
    }
    for _ in 0..160 {
        quiet.ask("echo", json!({"message": "x"})).await;
    }
    answered(&server, 3, 121).await;
    answered(&server, 4, 162).await;
    for (query, total, shown) in [
        ("", 121, 101),
        ("?instance=3", 120, 100),
        ("?instance=4", 1, 1),
        ("?instance=5", 0, 0),
        ("?limit=7", 121, 7),
    ] {
        let (told, all) = failures(&server, "localhost", query).await;
        assert_eq!((told, all.len()), (total, shown), "{query}");
    }
    assert_eq!(failures(&server, &instance_host(4), "").await.1.len(), 1, "its own alone");
    for (host, query, status) in [
        (instance_host(4), "?instance=3", 404),
        ("localhost".to_owned(), "?instance=10", 400),
        ("localhost".to_owned(), "?instance=x", 400),
        ("localhost".to_owned(), "?limit=x", 400),
        ("localhost".to_owned(), "?order=age", 400),
    ] {
        let path = format!("/debug/failures{query}");
        server.operate("GET", &path).host(&host).send().await.expect_status(status);
    }

    // Who wants no request to be remembered has none of these either.
    let server = TestServer::start(&[("MCP_ECHO_ADMIN__RECENT_REQUESTS", "0")]).await;
    let _ = server.session(3).await.call("no_such_tool", json!({})).send().await;
    answered(&server, 3, 2).await;
    let (total, all) = failures(&server, "localhost", "").await;
    assert_eq!((total, all.len()), (1, 0));
}

#[tokio::test]
async fn an_ended_session_is_found_with_why_it_ended_and_its_last_requests() {
    let server = TestServer::start(&[]).await;
    let (client, admin, live) =
        (server.session(1).await, server.session(2).await, server.session(1).await);
    let reference = async |talk: &crate::support::Talk<'_>| {
        talk.info().await["session_ref"].as_str().expect("a ref").to_owned()
    };
    let client_ref = reference(&client).await;
    let admin_ref = reference(&admin).await;
    let live_ref = reference(&live).await;
    client.ask("echo", json!({"message": "x"})).await;
    client.request("DELETE").send().await.expect_status(204);
    client.rpc("ping", json!({})).send().await.expect_gone();
    let path = format!("/debug/sessions/{admin_ref}");
    server.operate("DELETE", &path).send().await.expect_status(204);
    answered(&server, 1, 7).await;

    let search = async |host: &str, text: &str| {
        let list = get(&server, host, &format!("/debug/sessions?search={text}")).await;
        list["ended"].as_array().expect("ended ones").clone()
    };
    for text in [&client_ref, &client_ref[..6], &client.id] {
        let found = search("localhost", text).await;
        let [ended] = &*found else { panic!("{text}: {found:?}") };
        assert!(ended["ended_at"].is_string());
        let told = ["ref", "instance", "reason", "why"].map(|name| ended[name].clone());
        let expected = [json!(client_ref), json!(1), json!("client"), json!("its client ended it")];
        assert_eq!(told, expected);
    }
    for (host, text) in [
        ("localhost", ""),
        ("localhost", "nobody"),
        ("localhost", &*live_ref),
        (&*instance_host(2), &*client_ref),
    ] {
        assert_eq!(search(host, text).await, Vec::<Value>::new(), "{host} {text}");
    }
    let narrowed = format!("/debug/sessions?search={admin_ref}&instance=1");
    assert_eq!(get(&server, "localhost", &narrowed).await["ended"], json!([]));

    for name in [&client_ref, &client.id] {
        let detail = get(&server, "localhost", &format!("/debug/sessions/{name}")).await;
        assert_eq!((&detail["reason"], &detail["ref"]), (&json!("client"), &json!(client_ref)));
        let requests = detail["requests"].as_array().expect("requests");
        let outcomes: Vec<_> = requests.iter().map(|request| request["outcome"].clone()).collect();
        assert_eq!(outcomes, ["terminated", "ok", "ok", "ok", "ok"].map(|name| json!(name)));
        assert_eq!(requests[0]["why"], "this session had been ended");
        assert_eq!(requests[1]["why"], Value::Null);
    }
    let detail = get(&server, "localhost", &path).await;
    assert_eq!(detail["why"], "an operator ended it");
    for (host, name) in [("localhost", "0123456789ab"), (&*instance_host(1), &*admin_ref)] {
        let path = format!("/debug/sessions/{name}");
        server.operate("GET", &path).host(host).send().await.expect_status(404);
    }
    let gone = format!("/debug/sessions/{client_ref}");
    server.operate("DELETE", &gone).send().await.expect_status(404);
}

#[tokio::test]
async fn one_that_expired_says_after_how_long() {
    let server = TestServer::start(&[("MCP_SESSION_TIMEOUT", "0.3")]).await;
    let talk = server.session(0).await;
    let reference = talk.info().await["session_ref"].as_str().expect("a ref").to_owned();
    eventually(|| server.instances[0].state.sessions.counts().live == 0).await;
    let detail = get(&server, "localhost", &format!("/debug/sessions/{reference}")).await;
    assert_eq!(detail["why"], "it expired after 0.3 seconds without a request");
}

#[tokio::test]
async fn an_instance_tells_its_host_and_its_policy() {
    let server = TestServer::start(&[
        ("BASE_DOMAIN", "example.test"),
        ("MCP_ECHO_INSTANCES__6__AUTH__MODE", "passthrough"),
        ("MCP_ECHO_INSTANCES__6__SESSION__TIMEOUT_SECONDS", "7"),
    ])
    .await;
    let overview = get(&server, "localhost", "/debug/overview").await;
    let six = &overview["instances"][6];
    assert_eq!(six["host"], "echo-stateful6.example.test");
    let newest_first = ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
    let policy = json!({"auth": "passthrough", "protocol_versions": newest_first, "idle_timeout_seconds": 7.0});
    assert_eq!(six["policy"], policy);
    assert_eq!(overview["instances"][5]["policy"]["auth"], "off");
    assert_eq!(overview["port"], Value::Null, "clients find it where the operator does");
}
