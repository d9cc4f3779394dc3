//! `admin.listen`: what is the operator's has a port of its own, and the main port knows nothing of it.

use crate::support::{TestServer, instance_host};

#[tokio::test]
async fn what_is_the_operators_moves_to_its_own_port() {
    let server = TestServer::start(&[("MCP_ECHO_ADMIN__LISTEN", "127.0.0.1:0")]).await;
    let admin = server.admin.expect("a second port");
    let talk = server.session(3).await;
    for host in ["localhost", &instance_host(3)] {
        for path in ["/debug/sessions", "/metrics", "/debug"] {
            server.operate("GET", path).host(host).send().await.expect_status(404);
        }
        server.operate("POST", "/debug/reload").host(host).send().await.expect_status(404);
    }
    // Whatever the host: who scrapes it knows an address.
    for host in ["localhost", "10.1.2.3:9090", "foreign.example"] {
        let list = server.operate("GET", "/debug/sessions").host(host).to(admin).send().await;
        assert_eq!(list.expect_status(200).json()["total"], 1);
    }
    server.request("GET", "/debug/sessions").to(admin).send().await.expect_status(401);
    // Whoever can reach the port may count.
    let numbers = server.request("GET", "/metrics").to(admin).send().await;
    assert!(
        numbers.expect_status(200).text().contains("mcp_echo_sessions_live{mcp_instance=\"3\"} 1")
    );
    server.operate("POST", "/debug/reload").to(admin).send().await.expect_status(200);
    for path in ["/livez", "/readyz"] {
        server.request("GET", path).to(admin).send().await.expect_status(200);
        server.request("GET", path).send().await.expect_status(200);
    }
    // It is no way to the instances.
    server.initialize("2025-06-18").to(admin).send().await.expect_status(404);
    let host = instance_host(3);
    server.initialize("2025-06-18").host(&host).to(admin).send().await.expect_status(404);
    talk.info().await;
}

#[tokio::test]
async fn without_it_there_is_one_port() {
    let server = TestServer::start(&[]).await;
    assert!(server.admin.is_none());
    server.operate("GET", "/debug/sessions").send().await.expect_status(200);
}

#[tokio::test]
async fn a_stop_is_told_there_as_well() {
    let server = TestServer::start(&[("MCP_ECHO_ADMIN__LISTEN", "127.0.0.1:0")]).await;
    let admin = server.admin.expect("a second port");
    let talk = server.session(0).await;
    let arguments = serde_json::json!({"message": "m", "delay": 1});
    let mut slow = talk.call("echo", arguments).begin().await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    server.stop();
    crate::support::eventually(|| server.instances[0].process.lifecycle.is_draining()).await;
    server.request("GET", "/readyz").to(admin).send().await.expect_status(503);
    slow.answer().await.expect_status(200);
}
