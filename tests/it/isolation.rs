//! Ten tenants that never meet.

use crate::support::{TestServer, instance_host};
use serde_json::json;

#[tokio::test]
async fn an_id_is_unknown_on_the_other_nine_and_they_say_whose_it_is() {
    let server = TestServer::start(&[]).await;
    let talk = server.session(3).await;
    let mut others = 0;
    for instance in (0..10).filter(|instance| *instance != 3) {
        for method in ["POST", "GET", "DELETE"] {
            let request = match method {
                "POST" => server.call("echo", json!({"message": "x"})),
                _ => server.request(method, "/mcp"),
            };
            let answer = request
                .host(&instance_host(instance))
                .header("Mcp-Session-Id", &talk.id)
                .send()
                .await;
            assert_eq!(answer.expect_gone(), "other_instance", "{method} on {instance}");
            let data = &answer.json()["error"]["data"];
            assert_eq!(data["minted_by"]["instance"], 3);
            assert_eq!(data["served_by"]["instance"], instance);
            others += 1;
        }
    }
    assert_eq!(others, 27);
    assert_eq!(talk.info().await["request_count"], 0, "and it is still whole at home");
    assert_eq!(server.created(), 1);
}

#[tokio::test]
async fn equal_keys_in_ten_instances_hold_ten_values() {
    let server = TestServer::start(&[]).await;
    let mut talks = Vec::new();
    for instance in 0..10 {
        talks.push(server.session(instance).await);
    }
    for (instance, talk) in talks.iter().enumerate() {
        talk.ask("set_session_data", json!({"key": "same", "value": instance})).await;
    }
    for (instance, talk) in talks.iter().enumerate() {
        assert_eq!(talk.ask("get_session_data", json!({"key": "same"})).await["value"], instance);
        let info = talk.info().await;
        assert_eq!(info["minted_by"]["instance"], instance);
        assert_eq!(info["served_by"]["instance"], instance);
    }
}

#[tokio::test]
async fn a_full_instance_leaves_the_others_serving() {
    let server = TestServer::start(&[("MCP_ECHO_SESSION__CAPACITY", "5")]).await;
    let mut kept = Vec::new();
    for _ in 0..5 {
        kept.push(server.session(3).await);
    }
    for request in
        [server.initialize("2025-06-18"), server.call("echo", json!({"message": "implicit"}))]
    {
        let answer = request.host(&instance_host(3)).send().await;
        answer.expect_error(503, -32000);
        let wait: u64 = answer.header("retry-after").expect("a hint").parse().expect("seconds");
        assert!((1..=30).contains(&wait));
    }
    for talk in &kept {
        assert_eq!(talk.info().await["request_count"], 0, "no live session made room");
    }
    for instance in (0..10).filter(|instance| *instance != 3) {
        server.session(instance).await;
    }
    // Room comes back with an end.
    kept[0].request("DELETE").send().await.expect_status(204);
    server.session(3).await;
    let counts = server.instances[3].state.sessions.counts();
    assert_eq!((counts.live, counts.created, counts.refused), (5, 6, 2));
}
