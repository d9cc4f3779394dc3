//! What must not be lost with a store that was away for a moment, or that did not take something for a moment.
//!
//! Owns short outages: idle time that stands still, questions and news that wait, counts of what was refused, and records
//! that the store itself has thrown away. What a client is told while the store is away is `store_faults`.
//! Trap: a right that is taken away fails one script and no other, which no broken connection does.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    events::Events,
    modern::FIXTURES,
    server_requests::{able, answer, outcome},
    store_news::{at, listen, pair, reaches, two},
    stores::{Between, Engine, Loss, StoreServer},
    support::{PATIENCE, Talk, TestServer},
};

/// What a replica may do: all, but for keys that begin with this letter.
fn forbid(store: &StoreServer, letter: Option<char>) {
    let keys = letter.map_or("~mcpe:*".to_owned(), |it| format!("~mcpe:{{mcpe:?}}:[^{it}]*"));
    let user = ["ACL", "SETUSER", "app", "reset", "on", ">secret", "&*", "+@all"];
    let user = [&user[..], &["~mcpe:{mcpe}:*", &keys]].concat();
    assert_eq!(store.command(&user).text(), "OK");
}

/// Asks until the store has been reached.
async fn served(talk: &Talk<'_>) -> u16 {
    let start = Instant::now();
    loop {
        let answer = talk.call("echo", json!({"message": "x"})).send().await;
        if answer.status != 503 {
            return answer.status;
        }
        assert!(start.elapsed() < PATIENCE, "it is reached again");
    }
}

/// However shortly the store was away when a session was due, and whichever replica asks first.
#[tokio::test]
async fn a_short_outage_ends_no_session() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let url = store.url();
        let variables = [("MCP_STORE_URL", &*url), ("MCP_SESSION_TIMEOUT", "3")];
        let [a, b] = pair(&variables).await;
        let start = Instant::now();
        let mut talks = Vec::new();
        // From 3.0 to 4.0 seconds after the start they are due.
        for number in 0..10 {
            sleep_until(start + Duration::from_millis(number * 100)).await;
            talks.push(a.session(0).await);
        }
        sleep_until(start + Duration::from_millis(2600)).await;
        store.pause();
        while start.elapsed() < Duration::from_millis(4000) {
            let calls = talks.iter().map(|talk| talk.call("echo", json!({"message": "x"})).send());
            for answer in join_all(calls).await {
                assert_eq!(answer.status, 503, "{answer:?}");
            }
        }
        store.resume();
        let elsewhere: Vec<_> = talks.iter().map(|talk| at(&b, talk)).collect();
        let asked = talks.iter().step_by(2).chain(elsewhere.iter().skip(1).step_by(2));
        let statuses = join_all(asked.map(served)).await;
        assert_eq!(statuses, [200; 10], "{engine:?}");
        // And after that they are idle again.
        sleep(Duration::from_millis(4500)).await;
        assert_eq!(talks[0].rpc("ping", json!({})).send().await.expect_gone(), "expired");
    }
}

/// The store does nothing else meanwhile.
#[tokio::test]
async fn however_many_there_are_an_outage_costs_one_short_script() {
    let store = StoreServer::start(Engine::Redis);
    let [a, _b] = two(&store, &[]).await;
    let talk = a.session(0).await;
    let live = "mcpe:{mcpe:0}:live";
    let fill = "local t = redis.call('TIME')[1] * 1000 + 600000
        for i = 1, 100000 do redis.call('ZADD', KEYS[1], t, string.format('%032x', i)) end";
    store.command(&["EVAL", fill, "1", live]);
    assert_eq!(store.command(&["ZCARD", live]).integer(), 100_001);
    store.command(&["CONFIG", "SET", "slowlog-log-slower-than", "150000"]);
    store.command(&["SLOWLOG", "RESET"]);
    store.pause();
    sleep(Duration::from_secs(6)).await;
    store.resume();
    assert_eq!(served(&talk).await, 200);
    sleep(Duration::from_millis(600)).await;
    assert!(store.command(&["HGET", "mcpe:{mcpe:0}:counts", "away"]).text().len() >= 4);
    assert_eq!(store.command(&["SLOWLOG", "LEN"]).integer(), 0);
}

/// A client that was asked may answer at any replica, so it is asked only when every replica can take the answer.
#[tokio::test]
async fn a_question_waits_until_any_replica_takes_its_answer() {
    let store = StoreServer::start(Engine::Redis);
    forbid(&store, None);
    let url = format!("redis://app:secret@127.0.0.1:{}", store.port());
    let [a, b] = pair(&[("MCP_STORE_URL", &url), FIXTURES]).await;
    let (talk, there) = (able(&a, "2025-11-25").await, able(&b, "2025-11-25").await);
    assert_eq!((served(&talk).await, served(&there).await), (200, 200));
    // Questions stand under a:.
    forbid(&store, Some('a'));
    let call = talk.call("test_elicitation", json!({"message": "?"}));
    let mut events = Events::open(call).await;
    assert!(
        timeout(Duration::from_secs(1), events.message()).await.is_err(),
        "it is not asked yet"
    );
    forbid(&store, None);
    let question = timeout(PATIENCE, events.message()).await.expect("it is asked");
    answer(&at(&b, &talk), &question, json!({"action": "decline"})).await;
    let (text, is_error) = timeout(PATIENCE, outcome(&mut events)).await.expect("in time");
    assert!(!is_error, "{text}");
}

/// It was acknowledged, so whoever follows the resource is told of it.
#[tokio::test]
async fn news_that_the_store_did_not_take_are_told_later() {
    let store = StoreServer::start(Engine::Redis);
    forbid(&store, None);
    let url = format!("redis://app:secret@127.0.0.1:{}", store.port());
    let [a, b] = pair(&[("MCP_STORE_URL", &url)]).await;
    let talk = able(&a, "2025-06-18").await;
    let there = at(&b, &talk);
    assert_eq!((served(&talk).await, served(&there).await), (200, 200));
    let mut stream = listen(&there).await;
    let uri = format!("session://{}/data/k", talk.id);
    there.rpc("resources/subscribe", json!({"uri": uri})).send().await.expect_status(200);
    // News stand under news.
    forbid(&store, Some('n'));
    talk.ask("set_session_data", json!({"key": "k", "value": 1})).await;
    sleep(Duration::from_secs(1)).await;
    forbid(&store, None);
    let told = timeout(PATIENCE, stream.message()).await.expect("in time");
    assert_eq!(told["method"], "notifications/resources/updated", "{told}");
}

/// A store that may evict, or an operator, has deleted it.
#[tokio::test]
async fn a_session_without_a_record_is_gone() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[]).await;
    for server in [&a, &b] {
        let talk = a.session(0).await;
        let there = at(server, &talk);
        talk.ask("set_session_data", json!({"key": "k", "value": 1})).await;
        there.ask("echo", json!({"message": "x"})).await;
        let records = store.command(&["KEYS", "mcpe:{mcpe:0}:s:*"]);
        assert_eq!(records.list().len(), 1, "{records}");
        store.command(&["DEL", records.list()[0].text()]);
        let call = there.call("echo", json!({"message": "x"})).send().await;
        assert_eq!(call.expect_gone(), "unknown");
        assert_eq!(talk.rpc("ping", json!({})).send().await.expect_gone(), "unknown");
        let counts = a.instances[0].state.sessions.count().await.expect("is asked");
        assert_eq!(counts.live, 0);
        assert!(store.command(&["KEYS", "mcpe:{mcpe:0}:[sd]:*"]).list().is_empty());
    }
}

#[tokio::test]
async fn a_begin_that_is_refused_is_counted_once_though_its_answer_is_lost() {
    let store = StoreServer::start(Engine::Redis);
    let between = Between::start(store.port());
    let variables = [("MCP_STORE_URL", &*between.url()), ("MCP_ECHO_SESSION__CAPACITY", "1")];
    let server = TestServer::start(&variables).await;
    reaches(&server).await;
    let talk = server.session(0).await;
    for (count, loss) in [(1, Loss::Silent), (2, Loss::Closed)] {
        between.lose_answer(1, loss);
        server.initialize("2025-06-18").host(&talk.host).send().await.expect_status(503);
        assert!(between.has_lost());
        let counts = server.instances[0].state.sessions.count().await.expect("is asked");
        assert_eq!(counts.refused, count);
    }
}
