//! What one replica does, another knows: two servers on one store, a client that is served by now one, now the other.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    events::Events,
    stores::{Between, Engine, Mode, StoreServer},
    support::{PATIENCE, Talk, TestServer},
};

/// What news may take on a machine that has other things to do.
const SOON: Duration = Duration::from_secs(1);
/// What they may take if nobody hears the bell.
const AT_LATEST: Duration = Duration::from_secs(4);

/// Two replicas.
pub async fn two(store: &StoreServer, more: &[(&str, &str)]) -> [TestServer; 2] {
    let url = store.url();
    let variables = [&[("MCP_STORE_URL", &*url)], more].concat();
    [TestServer::start(&variables).await, TestServer::start(&variables).await]
}

/// The same session, at another replica.
pub fn at<'a>(server: &'a TestServer, talk: &Talk<'_>) -> Talk<'a> {
    let Talk { host, id, revision, .. } = talk;
    Talk { server, host: host.clone(), id: id.clone(), revision: revision.clone() }
}

/// Opens a standalone stream.
pub async fn listen(talk: &Talk<'_>) -> Events {
    Events::open(talk.request("GET").header("Accept", "text/event-stream")).await
}

/// Fails if most of them took too long.
#[track_caller]
fn expect_soon(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let median = took[took.len() / 2];
    println!("{what}: {median:?} (median of {})", took.len());
    assert!(median < SOON, "{what}: {took:?}");
}

/// How the store knows the only session of that instance.
fn only_session(store: &StoreServer, instance: u8) -> String {
    let live = store.command(&["ZRANGE", &format!("mcpe:{{mcpe:{instance}}}:live"), "0", "-1"]);
    assert_eq!(live.list().len(), 1, "{live}");
    live.list()[0].text().to_owned()
}

#[tokio::test]
async fn a_session_that_is_ended_elsewhere_closes_its_streams() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let [a, b] = two(&store, &[]).await;
        let mut took = Vec::new();
        for operator in [false, true, false, false, false] {
            let talk = a.session(1).await;
            let other = a.session(1).await;
            let (mut stream, mut unrelated) = (listen(&talk).await, listen(&other).await);
            let start = Instant::now();
            if operator {
                let path = format!("/debug/sessions/{}", talk.id);
                b.operate("DELETE", &path).send().await.expect_status(204);
            } else {
                at(&b, &talk).request("DELETE").send().await.expect_status(204);
            }
            assert_eq!(stream.rest().await, [], "nothing is told");
            took.push(start.elapsed());
            unrelated.expect_quiet().await;
            let gone = talk.call("echo", json!({"message": "x"})).send().await.expect_gone();
            assert_eq!(gone, "terminated");
        }
        expect_soon("an end", took);
    }
}

#[tokio::test]
async fn a_call_ends_with_its_session_wherever_that_is_ended() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[]).await;
    let talk = a.session(1).await;
    let mut waiting = talk.call("echo", json!({"message": "x", "delay": 2.0})).begin().await;
    sleep(Duration::from_millis(100)).await;
    at(&b, &talk).request("DELETE").send().await.expect_status(204);
    assert_eq!(waiting.answer().await.json()["error"]["data"]["reason"], "terminated");
}

#[tokio::test]
async fn a_session_that_expires_elsewhere_closes_its_streams() {
    let store = StoreServer::start(Engine::Redis);
    let [a, _b] = two(&store, &[]).await;
    let talk = a.session(1).await;
    let mut stream = listen(&talk).await;
    // Nobody keeps it from now on, as if this replica had been away for so long.
    let (sid, live) = (only_session(&store, 1), "mcpe:{mcpe:1}:live");
    store.command(&["ZADD", live, "1", &sid]);
    assert_eq!(timeout(AT_LATEST, stream.rest()).await.expect("ends"), []);
}

#[tokio::test]
async fn a_bell_that_nobody_hears_is_made_good() {
    let store = StoreServer::start(Engine::Redis);
    let [a, _b] = two(&store, &[]).await;
    let talk = a.session(1).await;
    let mut stream = listen(&talk).await;
    sleep(Duration::from_millis(300)).await;
    // The end is told, and no bell rings.
    let sid = only_session(&store, 1);
    store.command(&["XADD", "mcpe:{mcpe:1}:news", "*", "k", "end", "s", &sid]);
    assert_eq!(timeout(AT_LATEST, stream.rest()).await.expect("ends"), []);
}

#[tokio::test]
async fn a_connection_that_breaks_costs_no_news() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[]).await;
    for _ in 0..3 {
        let talk = a.session(1).await;
        let mut stream = listen(&talk).await;
        let elsewhere = at(&b, &talk);
        let end = elsewhere.request("DELETE").begin();
        store.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        end.await.answer().await.expect_status(204);
        assert_eq!(timeout(AT_LATEST, stream.rest()).await.expect("ends"), []);
    }
}

#[tokio::test]
async fn a_store_that_has_lost_everything_leaves_nothing_hanging() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[]).await;
    let talk = a.session(1).await;
    let mut stream = listen(&talk).await;
    store.start_again();
    assert_eq!(timeout(PATIENCE, stream.rest()).await.expect("ends"), []);
    // And news are heard again.
    let talk = a.session(1).await;
    let mut stream = listen(&talk).await;
    at(&b, &talk).request("DELETE").send().await.expect_status(204);
    assert_eq!(timeout(AT_LATEST, stream.rest()).await.expect("ends"), []);
}

/// Much more news than the store keeps.
async fn a_great_many_news(talk: &Talk<'_>) {
    let one = async |_| {
        for _ in 0..1_000 {
            let level = json!({"level": "debug"});
            talk.rpc("logging/setLevel", level).send().await.expect_status(200);
        }
    };
    futures_util::future::join_all((0..12).map(one)).await;
}

#[tokio::test]
async fn a_replica_that_was_away_for_too_long_goes_on() {
    let store = StoreServer::start(Engine::Redis);
    let between = Between::start(store.port());
    let a = TestServer::start(&[("MCP_STORE_URL", &between.url())]).await;
    let b = TestServer::start(&[("MCP_STORE_URL", &store.url())]).await;
    let (talk, other) = (a.session(1).await, b.session(1).await);
    let mut stream = listen(&talk).await;
    between.set(Mode::Refuse);
    at(&b, &talk).request("DELETE").send().await.expect_status(204);
    a_great_many_news(&other).await;
    let kept = store.command(&["XLEN", "mcpe:{mcpe:1}:news"]).integer();
    assert!((10_000..11_000).contains(&kept), "{kept} entries are kept");
    stream.expect_quiet().await;
    between.set(Mode::Pass);
    assert_eq!(timeout(AT_LATEST, stream.rest()).await.expect("ends"), []);

    let talk = a.session(1).await;
    let mut stream = listen(&talk).await;
    at(&b, &talk).request("DELETE").send().await.expect_status(204);
    assert_eq!(timeout(AT_LATEST, stream.rest()).await.expect("ends"), []);
}
