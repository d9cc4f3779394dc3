//! `/debug`: what operators see, and that seeing changes nothing.

use std::time::Duration;

use crate::support::{Answer, TestServer, eventually, instance_host};
use serde_json::json;
use tokio::time::sleep;

async fn admin(server: &TestServer, method: &str, host: &str, path: &str) -> Answer {
    let request = server.request(method, path).host(host);
    request.header("Authorization", "Bearer admin-secret").send().await
}

#[tokio::test]
async fn the_front_door_shows_all_and_an_instance_shows_its_own() {
    let server = TestServer::start(&[]).await;
    let (three, seven) = (server.session(3).await, server.session(7).await);
    three.ask("set_session_data", json!({"key": "k", "value": "hidden value"})).await;
    let all = admin(&server, "GET", "localhost", "/debug/sessions").await;
    all.expect_status(200);
    for secret in [&three.id, &seven.id, "hidden value"] {
        assert!(!all.text().contains(secret));
    }
    let all = all.json();
    assert_eq!((&all["total"], &all["shown"]), (&json!(2), &json!(2)));
    assert_eq!(all["instances"].as_array().map(Vec::len), Some(10));
    assert_eq!(all["instances"][3]["created"], 1);
    let own = admin(&server, "GET", &instance_host(3), "/debug/sessions").await.json();
    assert_eq!((&own["total"], &own["sessions"][0]["instance"]), (&json!(1), &json!(3)));
    assert_eq!(own["sessions"][0]["client"]["name"], "test");
    let page = admin(&server, "GET", "localhost", "/debug/sessions?limit=1").await.json();
    assert_eq!((&page["total"], &page["shown"]), (&json!(2), &json!(1)));
    for query in ["limit=x", "limit=-1", "order=age"] {
        admin(&server, "GET", "localhost", &format!("/debug/sessions?{query}"))
            .await
            .expect_status(400);
    }
}

#[tokio::test]
async fn one_session_in_detail_and_its_end() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(3).await;
    talk.ask("set_session_data", json!({"key": "k", "value": "12345"})).await;
    let reference = talk.info().await["session_ref"].as_str().expect("a ref").to_owned();
    for name in [&reference, &talk.id] {
        let detail = admin(&server, "GET", "localhost", &format!("/debug/sessions/{name}")).await;
        assert_eq!(detail.expect_status(200).json()["data"], json!([{"key": "k", "bytes": 7}]));
    }
    let path = format!("/debug/sessions/{reference}");
    for method in ["GET", "DELETE"] {
        admin(&server, method, &instance_host(4), &path).await.expect_status(404);
    }
    admin(&server, "POST", "localhost", &path).await.expect_status(405);
    admin(&server, "DELETE", &instance_host(3), &path).await.expect_status(204);
    admin(&server, "DELETE", &instance_host(3), &path).await.expect_status(404);
    let gone = talk.rpc("ping", json!({})).send().await;
    assert_eq!(gone.expect_gone(), "terminated");
    assert_eq!(gone.json()["error"]["data"]["ended_by"], "admin");
}

#[tokio::test]
async fn looking_does_not_extend_a_life() {
    let server = TestServer::start(&[("MCP_SESSION_TIMEOUT", "0.5")]).await;
    let talk = server.session(0).await;
    let reference = talk.info().await["session_ref"].as_str().expect("a ref").to_owned();
    for _ in 0..12 {
        let _ = admin(&server, "GET", "localhost", "/debug/sessions").await;
        let _ = admin(&server, "GET", "localhost", &format!("/debug/sessions/{reference}")).await;
        sleep(Duration::from_millis(60)).await;
    }
    eventually(|| server.instances[0].state.sessions.counts().live == 0).await;
    assert_eq!(talk.rpc("ping", json!({})).send().await.expect_gone(), "expired");
}

#[tokio::test]
async fn the_admin_token_is_required() {
    let server = TestServer::start(&[]).await;
    for header in [None, Some("Bearer wrong"), Some("Bearer admin-secre"), Some("admin-secret")] {
        for path in ["/debug/sessions", "/debug/sessions/abc"] {
            let request = server.request("GET", path);
            let request = match header {
                Some(header) => request.header("Authorization", header),
                None => request,
            };
            let answer = request.send().await;
            answer.expect_status(401);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"debug\""));
        }
    }
}

#[tokio::test]
async fn what_an_operator_reads_is_stored_nowhere() {
    let server = TestServer::start(&[]).await;
    for path in ["/debug/overview", "/debug/sessions", "/metrics", "/debug"] {
        let answer = admin(&server, "GET", "localhost", path).await;
        assert_eq!(answer.expect_status(200).header("cache-control"), Some("no-store"), "{path}");
    }
    let refused = server.request("GET", "/debug/sessions").host("localhost").send().await;
    assert_eq!(refused.expect_status(401).header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn without_a_token_it_depends_on_debug() {
    for (debug, status) in [("true", 401), ("false", 404)] {
        let server = TestServer::start(&[("ADMIN_TOKEN", ""), ("DEBUG", debug)]).await;
        for host in ["localhost".to_owned(), instance_host(3)] {
            server.request("GET", "/debug/sessions").host(&host).send().await.expect_status(status);
        }
    }
}
