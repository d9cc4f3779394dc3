//! The Host header selects the instance, and nothing else does.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    http2::Http2,
    modern::FIXTURES,
    support::{Connection, TestServer, instance_host},
};
use serde_json::json;

#[tokio::test]
async fn every_spelling_of_a_name_reaches_its_instance() {
    let server = TestServer::start(&[]).await;
    for instance in 0..10u8 {
        for host in [
            format!("echo-stateful{instance}.localhost"),
            format!("ECHO-STATEFUL{instance}.Example.Com:{}", server.address.port()),
            format!("echo-stateful{instance}.example.com."),
        ] {
            let answer = server.rpc("ping", json!({})).host(&host).send().await;
            answer.expect_status(200);
            assert_eq!(
                answer.header("mcp-echo-instance"),
                Some(instance.to_string().as_str()),
                "{host}"
            );
        }
    }
}

#[tokio::test]
async fn at_the_front_door_a_path_names_an_instance() {
    let server = TestServer::start(&[("MCP_ECHO_HOSTS__FRONT_DOOR", "fixed:9")]).await;
    for instance in 0..10u8 {
        let path = format!("/echo-stateful{instance}/mcp");
        let begun = server.initialize("2025-11-25").at(&path).send().await;
        begun.expect_status(200);
        let id = begun.header("mcp-session-id").expect("an id");
        assert_eq!(id[..1], instance.to_string());
        for host in ["localhost:3000", "127.0.0.1", "echo-stateful.example.com"] {
            for path in [path.clone(), path.clone() + "/"] {
                let ping = server.rpc("ping", json!({})).at(&path).host(host);
                let answer = ping.header("Mcp-Session-Id", id).send().await;
                answer.expect_status(200);
                assert_eq!(answer.header("mcp-echo-instance"), Some(&*instance.to_string()));
            }
        }
        // It is the same session by host.
        let ping = server.rpc("ping", json!({})).host(&instance_host(instance));
        ping.header("Mcp-Session-Id", id).send().await.expect_status(200);
        // No path, no header and no policy leads to another instance.
        let other =
            server.rpc("ping", json!({})).at(&format!("/echo-stateful{}/mcp", 9 - instance));
        let other = other.header("Mcp-Session-Id", id).send().await;
        assert_eq!(other.expect_gone(), "other_instance");
        assert!(other.text().contains(&format!(" {path} at the front door")), "{other:?}");
        let end = server.request("DELETE", "/mcp").at(&path).header("Mcp-Session-Id", id);
        end.send().await.expect_status(204);

        let modern = server.modern_call("create_session", json!({})).build().at(&path);
        let made = modern.send().await.json();
        assert_eq!(made["result"]["structuredContent"]["minted_by"]["instance"], instance);
    }
}

#[tokio::test]
async fn an_instance_s_own_host_leads_to_no_other_by_path() {
    let server = TestServer::start(&[]).await;
    for path in ["/echo-stateful3/mcp", "/echo-stateful4/mcp", "/echo-stateful4/mcp/"] {
        let answer = server.initialize("2025-06-18").at(path).host(&instance_host(3)).send().await;
        answer.expect_status(404);
        assert!(answer.text().contains("at the front door alone"), "{answer:?}");
        let path = format!("/.well-known/oauth-protected-resource{path}");
        server.request("GET", &path).host(&instance_host(3)).send().await.expect_status(404);
    }
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn a_path_that_names_no_instance_is_told_which_there_are() {
    let server = TestServer::start(&[]).await;
    for path in [
        "/echo-stateful/mcp",
        "/echo-stateful10/mcp",
        "/echo-stateful3",
        "/echo-stateful3/",
        "/echo-stateful3/mcpx",
        "/echo-stateful3/debug",
        "/echo-stateful%33/mcp",
        "/.well-known/oauth-protected-resource/echo-stateful10/mcp",
    ] {
        let answer = server.initialize("2025-06-18").at(path).send().await;
        answer.expect_status(404);
        assert!(answer.text().contains("/echo-stateful0/mcp to /echo-stateful9/mcp"), "{answer:?}");
        assert_eq!(answer.header("mcp-echo-instance"), None, "{path}");
    }
    let answer = server.initialize("2025-06-18").at("/instance3/mcp").send().await;
    answer.expect_status(404);
    assert!(answer.text().contains("/echo-stateful0/mcp to /echo-stateful9/mcp"), "{answer:?}");
    assert_eq!(server.created(), 0);
}

#[tokio::test]
async fn by_path_the_layers_are_those_of_the_instance() {
    let server = TestServer::start(&[
        ("MCP_ECHO_INSTANCES__3__AUTH__MODE", "passthrough"),
        ("MCP_ECHO_INSTANCES__3__ORIGIN__ALLOWED", "https://app.test"),
    ])
    .await;
    let at = |path: &str| server.rpc("ping", json!({})).at(path);
    let answer = at("/echo-stateful3/mcp").host("localhost:3000").send().await;
    answer.expect_status(401);
    let metadata = "/.well-known/oauth-protected-resource/echo-stateful3/mcp";
    let challenge = format!("Bearer resource_metadata=\"http://localhost:3000{metadata}\"");
    assert_eq!(answer.header("www-authenticate"), Some(&*challenge));
    let document = server.request("GET", metadata).host("localhost:3000").send().await;
    assert_eq!(document.json()["resource"], "http://localhost:3000/echo-stateful3/mcp");
    at("/echo-stateful4/mcp").send().await.expect_status(200);

    let from =
        |path| at(path).header("Origin", "https://app.test").header("Authorization", "Bearer x");
    let allowed = from("/echo-stateful3/mcp").send().await;
    allowed.expect_status(200);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.test"));
    from("/echo-stateful4/mcp").send().await.expect_status(403);
}

#[tokio::test]
async fn the_front_door_is_instance_0_by_default() {
    let server = TestServer::start(&[]).await;
    for host in [
        "localhost",
        "LOCALHOST.",
        "localhost:3000",
        "127.0.0.1",
        "[::1]:3000",
        "echo-stateful.example.com",
    ] {
        let answer = server.rpc("ping", json!({})).host(host).send().await;
        assert_eq!(answer.header("mcp-echo-instance"), Some("0"), "{host}");
    }
}

#[tokio::test]
async fn a_container_is_reached_by_its_own_name_and_from_within_another() {
    let variables = [("HOSTNAME", "c0ffee123456"), ("MCP_ECHO_HOSTS__FRONT_DOOR", "fixed:2")];
    let server = TestServer::start(&variables).await;
    for host in ["c0ffee123456:3000", "host.docker.internal", "C0FFEE123456."] {
        let answer = server.rpc("ping", json!({})).host(host).send().await;
        answer.expect_status(200);
        assert_eq!(answer.header("mcp-echo-instance"), Some("2"), "{host}");
    }
    server.rpc("ping", json!({})).host("c0ffee").send().await.expect_status(421);
    // The instances keep their names, whatever a container is called.
    let server = TestServer::start(&[("HOSTNAME", "echo-stateful3.example.com")]).await;
    let answer = server.rpc("ping", json!({})).host("echo-stateful3.example.com").send().await;
    assert_eq!(answer.header("mcp-echo-instance"), Some("3"));
    // Without HOSTNAME the system is asked.
    if let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        let server = TestServer::start(&[]).await;
        server.rpc("ping", json!({})).host(name.trim()).send().await.expect_status(200);
    }
}

#[tokio::test]
async fn a_star_stands_for_every_name_below() {
    let names = ("MCP_ECHO_HOSTS__FRONT_DOOR_NAMES", "mcp_echo,*.example.com,*.SVC.cluster.local");
    let server = TestServer::start(&[names, ("MCP_ECHO_HOSTS__FRONT_DOOR", "fixed:2")]).await;
    for (host, instance) in [
        ("mcp_echo:3000", "2"),
        ("any.example.com", "2"),
        ("a.b.example.com:80", "2"),
        ("echo.test.svc.cluster.local.", "2"),
        // These are more exact.
        ("echo-stateful3.example.com", "3"),
        ("echo-stateful12.example.com", "2"),
    ] {
        let answer = server.rpc("ping", json!({})).host(host).send().await;
        answer.expect_status(200);
        assert_eq!(answer.header("mcp-echo-instance"), Some(instance), "{host}");
    }
    for host in ["example.com", "anexample.com", "svc.cluster.local", "localhost"] {
        server.rpc("ping", json!({})).host(host).send().await.expect_status(421);
    }
    // A page from there is one of ours, any other is not.
    for (origin, status) in [("http://any.example.com", 200), ("http://any.example.org", 403)] {
        let ping = server.rpc("ping", json!({})).host("any.example.com").header("Origin", origin);
        ping.send().await.expect_status(status);
    }
}

/// DNS rebinding: the page of a foreign name that now leads here.
#[tokio::test]
async fn a_page_of_a_rebound_name_gets_in_by_no_host() {
    let server = TestServer::start(&[("HOSTNAME", "c0ffee123456")]).await;
    let ping = || server.rpc("ping", json!({})).header("Origin", "http://evil.test:3000");
    ping().host("evil.test:3000").send().await.expect_status(421);
    for host in ["localhost", "c0ffee123456", "host.docker.internal", "echo-stateful3.localhost"] {
        ping().host(host).send().await.expect_status(403);
        ping().at("/echo-stateful3/mcp").host(host).send().await.expect_status(403);
    }
    // A page's GET of its own host carries no Origin.
    server.request("GET", "/mcp").host("evil.test:3000").send().await.expect_status(421);
}

#[tokio::test]
async fn a_host_that_is_not_served_is_told_and_how_to_let_it_in() {
    let server = TestServer::start(&[]).await;
    let answer = server.rpc("ping", json!({})).host("mcp-echo:3000").send().await;
    answer.expect_status(421);
    let text = answer.json()["error"].as_str().expect("a text").to_owned();
    let variable = "MCP_ECHO_HOSTS__FRONT_DOOR_NAMES=localhost,127.0.0.1,mcp-echo";
    assert!(text.contains("the host mcp-echo is not served") && text.contains(variable), "{text}");
    // What it says is so.
    let (name, value) = variable.split_once('=').expect("a pair");
    let admitting = TestServer::start(&[(name, value)]).await;
    admitting.rpc("ping", json!({})).host("mcp-echo:3000").send().await.expect_status(200);
    // And it is bounded.
    let long = ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(60)].join(".");
    let answer = server.rpc("ping", json!({})).host(&long).send().await;
    answer.expect_status(421);
    assert!(answer.text().contains("bbb") && answer.text().len() < 500, "{answer:?}");
}

#[tokio::test]
async fn a_sticky_front_door_follows_the_session_id() {
    let server = TestServer::start(&[("MCP_ECHO_HOSTS__FRONT_DOOR", "sticky")]).await;
    let mut seen = Vec::new();
    for _ in 0..12 {
        let begun = server.initialize("2025-06-18").send().await;
        let id = begun.header("mcp-session-id").expect("an id");
        let minted = begun.header("mcp-echo-instance").expect("an instance").to_owned();
        assert!(id.starts_with(&minted));
        for _ in 0..3 {
            let answer = server
                .call("echo", json!({"message": "x"}))
                .header("Mcp-Session-Id", id)
                .send()
                .await;
            answer.expect_status(200);
            assert_eq!(answer.header("mcp-echo-instance"), Some(minted.as_str()));
        }
        seen.push(minted);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 10, "new sessions take turns");
}

#[tokio::test]
async fn a_sticky_front_door_follows_a_mirrored_handle() {
    let server = TestServer::start(&[("MCP_ECHO_HOSTS__FRONT_DOOR", "sticky")]).await;
    server.session(3).await;
    let handle = server.session(7).await.id;
    for _ in 0..5 {
        let answer =
            server.rpc("ping", json!({})).header("Mcp-Param-Session", &handle).send().await;
        assert_eq!(answer.header("mcp-echo-instance"), Some("7"));
    }
}

#[tokio::test]
async fn a_sticky_front_door_follows_what_a_request_without_session_names() {
    let server = TestServer::start(&[FIXTURES, ("MCP_ECHO_HOSTS__FRONT_DOOR", "sticky")]).await;
    for instance in [7, 2] {
        let arguments = json!({"seconds": 30});
        let task = server.modern_call("slow_compute", arguments).with_tasks().on(instance);
        let id = task.result().await["taskId"].as_str().expect("an id").to_owned();
        let get = server.modern("tasks/get", json!({"taskId": id})).with_tasks();
        assert_eq!(get.result().await["status"], "working");

        let handle = server.handle(instance).await;
        let store = json!({"session": handle, "key": "k", "value": instance});
        let store = server.modern_call("set_session_data", store).result().await;
        assert_eq!(store.get("isError"), None, "{store:?}");
        let encoded = |text: &str| format!("=?base64?{}?=", STANDARD.encode(text));
        let info = server.modern_call("get_session_info", json!({"session": handle}));
        let info = info.header("Mcp-Param-Session", &encoded(&handle)).structured().await;
        assert_eq!(info["session_id"], handle);

        let uri = format!("session://{handle}/data/k");
        for name in [uri.clone(), encoded(&uri)] {
            let read = server.modern("resources/read", json!({"uri": uri}));
            let read = read.header("Mcp-Name", &name).result().await;
            assert_eq!(read["contents"][0]["text"], instance.to_string());
        }
        // A session id says nothing where there are no sessions.
        let info = server.modern_call("get_session_info", json!({"session": handle}));
        let other = server.session(5).await.id;
        let info = info.header("Mcp-Session-Id", &other).structured().await;
        assert_eq!(info["session_id"], handle);
    }
}

#[tokio::test]
async fn a_sticky_front_door_leads_a_retry_back() {
    let server = TestServer::start(&[FIXTURES, ("MCP_ECHO_HOSTS__FRONT_DOOR", "sticky")]).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let tool = "test_input_required_result_request_state";
        let call = || server.modern_call(tool, json!({})).capabilities(json!({"elicitation": {}}));
        let asked = call().result().await;
        assert_eq!(asked["resultType"], "input_required");
        let answers = json!({"confirm": {"action": "accept", "content": {"ok": true}}});
        let retry = call().param("requestState", asked["requestState"].clone());
        assert_eq!(retry.param("inputResponses", answers).text().await, "state-ok");
        let made = server.modern_call("create_session", json!({})).structured().await;
        seen.insert(made["minted_by"]["instance"].to_string());
    }
    assert_eq!(seen.len(), 10, "new sessions take turns");
    let mut begun = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let store = json!({"key": "k", "value": 1});
        let stored = server.modern_call("set_session_data", store).structured().await;
        begun.insert(stored["session"].as_str().expect("a handle")[..1].to_owned());
    }
    assert_eq!(begun.len(), 10, "those that begin without a handle too");
}

#[tokio::test]
async fn a_round_robin_front_door_breaks_affinity_and_the_404_says_so() {
    let server = TestServer::start(&[("MCP_ECHO_HOSTS__FRONT_DOOR", "round_robin")]).await;
    let begun = server.initialize("2025-06-18").send().await;
    let id = begun.header("mcp-session-id").expect("an id");
    let answer = server.rpc("ping", json!({})).header("Mcp-Session-Id", id).send().await;
    assert_eq!(answer.expect_gone(), "other_instance");
}

#[tokio::test]
async fn a_random_front_door_reaches_every_instance() {
    let server = TestServer::start(&[("MCP_ECHO_HOSTS__FRONT_DOOR", "random")]).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let answer = server.rpc("ping", json!({})).send().await;
        seen.insert(answer.header("mcp-echo-instance").expect("an instance").to_owned());
    }
    assert_eq!(seen.len(), 10);
}

/// A map of headers is read in another way where a name is repeated.
#[tokio::test]
async fn a_repeated_header_hides_no_other() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(4).await;
    for origin in [None, Some("http://evil.test")] {
        let request = talk.rpc("ping", json!({})).header("X-Other", "1").header("X-Other", "2");
        let request = origin.into_iter().fold(request, |all, origin| all.header("Origin", origin));
        let answer = request.send().await;
        answer.expect_status(if origin.is_some() { 403 } else { 200 });
        assert_eq!(answer.header("mcp-echo-instance"), Some("4"));
    }
}

#[tokio::test]
async fn an_absolute_target_names_the_host() {
    let server = TestServer::start(&[]).await;
    let host = instance_host(7);
    // Whatever the Host header says, even nothing.
    for header in [host.as_str(), "localhost", "echo-stateful3.example.com:80", "evil.test", ""] {
        let target = format!("http://{host}/mcp");
        let answer = server.request("DELETE", &target).host(header).send().await;
        answer.expect_status(400);
        assert_eq!(answer.header("mcp-echo-instance"), Some("7"), "{header:?}");
    }
    let other = server.request("DELETE", "http://evil.test/mcp").host("localhost");
    other.send().await.expect_status(421);
}

#[tokio::test]
async fn http_1_0_names_its_host_in_either_way_or_is_asked_about_health_alone() {
    let server = TestServer::start(&[]).await;
    for (head, status) in [
        ("GET http://localhost/mcp HTTP/1.0\r\n", 400),
        ("GET http://localhost/nowhere HTTP/1.0\r\n", 404),
        ("GET /nowhere HTTP/1.0\r\nHost: localhost\r\n", 404),
        ("GET /nowhere HTTP/1.0\r\n", 400),
        ("GET /readyz HTTP/1.0\r\n", 200),
    ] {
        let mut connection = Connection::open(server.address).await;
        connection.write(format!("{head}\r\n").as_bytes()).await;
        connection.head().await.expect_status(status);
    }
}

#[tokio::test]
async fn in_http2_a_host_header_agrees_with_the_authority() {
    let server = TestServer::start(&[]).await;
    for (host, status) in [("localhost", 404), ("localhost:1", 404), ("evil.test", 400)] {
        let mut client = Http2::opened(server.address).await;
        client.request(1, "GET", "/nowhere", &[("host", host)], b"").await;
        assert_eq!(client.status(1).await, status, "{host}");
    }
}

#[tokio::test]
async fn http2_names_the_host_in_its_authority() {
    let server = TestServer::start(&[]).await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .resolve("echo-stateful6.localhost", server.address)
        .build()
        .expect("builds");
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let url = format!("http://echo-stateful6.localhost:{}/mcp", server.address.port());
    let answer =
        client.post(url).header("content-type", "application/json").body(body).send().await;
    let answer = answer.expect("answers");
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    assert_eq!(answer.headers()["mcp-echo-instance"], "6");
}

#[tokio::test]
async fn health_answers_on_any_host_and_makes_no_session() {
    let server = TestServer::start(&[("MCP_ECHO_AUTH__MODE", "passthrough")]).await;
    for path in ["/livez", "/readyz", "/health"] {
        for host in ["10.1.2.3:3000", "evil.example.org", "localhost"] {
            server.request("GET", path).host(host).send().await.expect_status(200);
        }
        server.request("GET", path).without_host().send().await.expect_status(200);
        server.request("HEAD", path).host("x").begin().await.head().await.expect_status(200);
        let answer = server.request("POST", path).host("x").send().await;
        answer.expect_status(405);
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    let mut connection = Connection::open(server.address).await;
    for _ in 0..1000 {
        connection.write(&server.request("GET", "/readyz").host("10.1.2.3").bytes()).await;
        connection.answer().await.expect_status(200);
    }
    assert_eq!(server.created(), 0);
}
