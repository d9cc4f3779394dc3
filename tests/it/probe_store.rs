//! `probe` through balancers that know nothing of sessions, before replicas that share them in a store: all are whole. And
//! the same replicas without the store, which shows that the probe would tell.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;

use crate::{
    between::{Passing, Proxy},
    probe::{ERAS, Found, probe},
    stores::{Engine, StoreServer},
    support::{TestServer, other_boot},
};

async fn replica(name: &str, tag: &str, store: Option<&StoreServer>) -> TestServer {
    let url = store.map(StoreServer::url).unwrap_or_default();
    TestServer::start(&[
        ("HOSTNAME", name),
        ("MCP_ECHO_REPLICA__TAG", tag),
        ("MCP_STORE_URL", &url),
        // As long as a busy machine takes.
        ("MCP_ECHO_STORE__TIMEOUT_SECONDS", "5"),
    ])
    .await
}

/// Each request to the next of them.
async fn in_turn(replicas: &[TestServer]) -> Proxy {
    let to: Vec<_> = replicas.iter().map(|replica| replica.address).collect();
    Proxy::start(move |request: Passing| {
        let to = to[request.number % to.len()];
        request.on(to)
    })
    .await
}

async fn through(proxy: &Proxy, era: &str) -> Found {
    let url = format!("http://{}/mcp", proxy.address);
    probe(&[&url, "--era", era, "--sessions", "20", "--requests", "5", "--concurrency", "1"]).await
}

/// Three replicas with these tags.
async fn three(store: Option<&StoreServer>) -> [TestServer; 3] {
    [
        replica("pod-a", "a1", store).await,
        replica("pod-b", "b2", store).await,
        replica("pod-c", "c3", store).await,
    ]
}

#[tokio::test]
async fn replicas_that_share_a_store_need_no_affinity() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let replicas = three(Some(&store)).await;
        let proxy = in_turn(&replicas).await;
        for era in ERAS {
            let found = through(&proxy, era).await.sound();
            found.tells("roaming", "20 sessions");
            found.tells_only(&["roaming"]);
            let minted = found.json["replicas"].as_array().expect("a list");
            assert_eq!(minted.len(), 3, "{minted:?}");
        }
    }
}

#[tokio::test]
async fn without_the_store_the_same_replicas_do() {
    let replicas = three(None).await;
    let proxy = in_turn(&replicas).await;
    for era in ERAS {
        let found = through(&proxy, era).await;
        found.tells("other_replica", "docs/store.md");
        found.all("misrouted");
    }
}

#[tokio::test]
async fn a_session_is_whole_though_its_replica_is_another_process_by_now() {
    let store = StoreServer::start(Engine::Redis);
    for era in ERAS {
        // The same name and tag: only the boots differ.
        let start = async || replica("pod", "a1", Some(&store)).await;
        let before = start().await;
        let boots = [&before, &other_boot(&before, start).await];
        let to = boots.map(|boot| boot.address);
        let asked = Arc::new(AtomicUsize::new(0));
        let proxy = Proxy::start(move |request: Passing| {
            // The second is the only one from the middle of the first session on.
            let to = to[usize::from(asked.fetch_add(1, Ordering::Relaxed) >= 5)];
            request.on(to)
        })
        .await;
        let found = through(&proxy, era).await.sound();
        found.tells("roaming", "1 session");
    }
}

#[tokio::test]
async fn what_the_store_has_lost_is_lost_and_not_misrouted() {
    for era in ERAS {
        let store = Arc::new(StoreServer::start(Engine::Redis));
        let replicas = three(Some(&store)).await;
        let to = replicas.each_ref().map(|replica| replica.address);
        let proxy = Proxy::start(move |request: Passing| {
            // In the middle of its echoes.
            if request.number == 50 {
                store.command(&["FLUSHALL"]);
            }
            let to = to[request.number % to.len()];
            request.on(to)
        })
        .await;
        let url = format!("http://{}/mcp", proxy.address);
        let found = probe(&[&url, "--era", era, "--sessions", "1", "--requests", "100"]).await;
        assert_eq!(found.json["lost"], json!({"unknown": 1}), "{}", found.report);
        found.all("lost");
    }
}
