//! What one replica does, another knows: two servers on one store, a client that is served by now one, now the other.

use std::{collections::BTreeSet, time::Duration};

use mcp_echo_stateful::id::SessionId;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    events::Events,
    modern::FIXTURES,
    server_requests::{IMPATIENT, able, answer, ask, outcome, taken_back},
    stores::{Between, Engine, Mode, StoreServer},
    support::{PATIENCE, Talk, TestServer, eventually},
};

/// What news may take on a machine that has other things to do.
const SOON: Duration = Duration::from_secs(1);
/// So that a store on such a machine is not called lost.
const PATIENT: (&str, &str) = ("MCP_ECHO_STORE__TIMEOUT_SECONDS", "1");
/// What they may take if nobody hears the bell.
const AT_LATEST: Duration = Duration::from_secs(4);

/// Two replicas.
pub async fn two(store: &StoreServer, more: &[(&str, &str)]) -> [TestServer; 2] {
    pair(&[&[("MCP_STORE_URL", &*store.url()), PATIENT], more].concat()).await
}

/// Two that have reached their store.
pub async fn pair(variables: &[(&str, &str)]) -> [TestServer; 2] {
    let both = [TestServer::start(variables).await, TestServer::start(variables).await];
    for server in &both {
        reaches(server).await;
    }
    both
}

/// One that has reached its store.
async fn replica(url: &str, more: &[(&str, &str)]) -> TestServer {
    let server = TestServer::start(&[&[("MCP_STORE_URL", url), PATIENT], more].concat()).await;
    reaches(&server).await;
    server
}

/// Waits until that replica has reached its store.
pub async fn reaches(server: &TestServer) {
    let start = Instant::now();
    while server.instances[0].state.sessions.count().await.is_err() {
        assert!(start.elapsed() < PATIENCE, "the store is reached");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The same session, at another replica.
pub fn at<'a>(server: &'a TestServer, talk: &Talk<'_>) -> Talk<'a> {
    let Talk { host, id, revision, .. } = talk;
    Talk { server, host: host.clone(), id: id.clone(), revision: revision.clone() }
}

/// Opens a standalone stream.
pub async fn listen(talk: &Talk<'_>) -> Events {
    let mut events = Events::open(talk.request("GET").header("Accept", "text/event-stream")).await;
    if talk.revision == "2025-11-25" {
        assert_eq!(events.next().await.expect("the priming event").data, "");
    }
    events
}

/// Fails if most of them took too long.
#[track_caller]
#[expect(clippy::print_stdout, reason = "for whoever runs it with --nocapture")]
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
    let ended_at = async |server| {
        let talk = a.session(1).await;
        eventually(|| a.instances[1].state.calls.count() == 0).await;
        let mut waiting = talk.call("echo", json!({"message": "x", "delay": 3})).begin().await;
        eventually(|| a.instances[1].state.calls.count() == 1).await;
        at(server, &talk).request("DELETE").send().await.expect_status(204);
        let answer = waiting.answer().await;
        (answer.status, answer.json()["error"]["code"].clone())
    };
    assert_eq!(ended_at(&b).await, ended_at(&a).await);
}

#[tokio::test]
async fn a_session_that_expires_elsewhere_closes_its_streams() {
    let store = StoreServer::start(Engine::Redis);
    let between = Between::start(store.port());
    let short = [("MCP_SESSION_TIMEOUT", "1")];
    let (a, b) = (replica(&between.url(), &short).await, replica(&store.url(), &short).await);
    let talk = a.session(1).await;
    let mut stream = listen(&talk).await;
    // The stream keeps it, until its replica cannot say so.
    sleep(Duration::from_secs(2)).await;
    between.set(Mode::Refuse);
    eventually(|| b.instances[1].state.sessions.counts().ended[0] == 1).await;
    stream.expect_quiet().await;
    between.set(Mode::Pass);
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
    reaches(&a).await;
    reaches(&b).await;
    let talk = a.session(1).await;
    let mut stream = listen(&talk).await;
    at(&b, &talk).request("DELETE").send().await.expect_status(204);
    assert_eq!(timeout(AT_LATEST, stream.rest()).await.expect("ends"), []);
}

/// Much more news than the store keeps, and then one that this program writes.
async fn a_great_many_news(store: &StoreServer, talk: &Talk<'_>) {
    let many = "for _ = 1, 12000 do redis.call('XADD', KEYS[1], '*', 'k', 'none') end";
    store.command(&["EVAL", many, "1", "mcpe:{mcpe:1}:news"]);
    talk.rpc("logging/setLevel", json!({"level": "debug"})).send().await.expect_status(200);
}

#[tokio::test]
async fn a_replica_that_was_away_for_too_long_goes_on() {
    let store = StoreServer::start(Engine::Redis);
    let between = Between::start(store.port());
    let a = replica(&between.url(), &[]).await;
    let b = replica(&store.url(), &[]).await;
    let (talk, other) = (a.session(1).await, b.session(1).await);
    let mut stream = listen(&talk).await;
    between.set(Mode::Refuse);
    at(&b, &talk).request("DELETE").send().await.expect_status(204);
    a_great_many_news(&store, &other).await;
    let kept = store.command(&["XLEN", "mcpe:{mcpe:1}:news"]).integer();
    assert!((10_000..10_200).contains(&kept), "{kept} entries are kept");
    stream.expect_quiet().await;
    between.set(Mode::Pass);
    assert_eq!(timeout(AT_LATEST, stream.rest()).await.expect("ends"), []);

    reaches(&a).await;
    let talk = a.session(1).await;
    let mut stream = listen(&talk).await;
    at(&b, &talk).request("DELETE").send().await.expect_status(204);
    assert_eq!(timeout(AT_LATEST, stream.rest()).await.expect("ends"), []);
}

#[tokio::test]
async fn a_question_is_answered_at_any_replica() {
    let store = StoreServer::start(Engine::Valkey);
    let [a, b] = two(&store, &[FIXTURES]).await;
    let mut took = Vec::new();
    let mut ids = BTreeSet::new();
    for number in 0..5 {
        let talk = able(&a, "2025-11-25").await;
        let (mut events, question) = ask(&talk, "test_sampling", json!({"prompt": "Why?"})).await;
        assert!(ids.insert(question["id"].as_u64().expect("a number")), "{ids:?}");
        let elsewhere = at(if number == 4 { &a } else { &b }, &talk);
        // One to nothing that is known is ignored.
        answer(&elsewhere, &json!({"id": 17}), json!({})).await;
        let start = Instant::now();
        let said = json!({"type": "text", "text": "Because."});
        let reply = json!({"role": "assistant", "content": said, "model": "m"});
        answer(&elsewhere, &question, reply.clone()).await;
        assert_eq!(outcome(&mut events).await, ("LLM response: Because.".to_owned(), false));
        took.push(start.elapsed());
        assert_eq!(talk.open_questions(), 0);
        // A second response is one to nothing that is known.
        answer(&elsewhere, &question, reply).await;
    }
    assert!(ids.iter().all(|id| *id < 1 << 53), "{ids:?}");
    expect_soon("an answer", took);
    // Nothing of them stays in the store.
    let start = Instant::now();
    while !store.command(&["KEYS", "*:a:*"]).list().is_empty() {
        assert!(start.elapsed() < AT_LATEST, "{}", store.command(&["KEYS", "*:a:*"]));
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_refusal_reaches_the_replica_that_has_asked() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[FIXTURES]).await;
    let talk = able(&a, "2025-11-25").await;
    let (mut events, question) = ask(&talk, "test_elicitation", json!({"message": "?"})).await;
    let error = json!({"code": -1, "message": "no"});
    let refusal = json!({"jsonrpc": "2.0", "id": question["id"], "error": error});
    at(&b, &talk).post(refusal.to_string()).send().await.expect_status(202);
    let (text, is_error) = outcome(&mut events).await;
    assert!(is_error && text.contains("answered elicitation/create with an error"), "{text}");
}

#[tokio::test]
async fn an_answer_that_rang_no_bell_is_taken_all_the_same() {
    let store = StoreServer::start(Engine::Redis);
    let [a, _b] = two(&store, &[FIXTURES]).await;
    let talk = able(&a, "2025-11-25").await;
    let (mut events, question) = ask(&talk, "test_elicitation", json!({"message": "?"})).await;
    sleep(Duration::from_millis(300)).await;
    let (sid, number) = (only_session(&store, 0), question["id"].to_string());
    let key = format!("mcpe:{{mcpe:0}}:a:{sid}:{number}");
    assert!(store.command(&["PTTL", &key]).integer() > 0, "it expires");
    store.command(&["SET", &key, r#"={"action":"decline"}"#, "KEEPTTL"]);
    let news = "mcpe:{mcpe:0}:news";
    store.command(&["XADD", news, "*", "k", "answer", "s", &sid, "q", &number]);
    let (text, is_error) = timeout(AT_LATEST, outcome(&mut events)).await.expect("in time");
    assert!(!is_error, "{text}");
}

#[tokio::test]
async fn a_question_that_was_given_up_is_answered_nowhere() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[FIXTURES, IMPATIENT]).await;
    let talk = able(&a, "2025-11-25").await;
    let (mut events, question) = ask(&talk, "test_elicitation", json!({"message": "?"})).await;
    assert_eq!(store.command(&["KEYS", "*:a:*"]).list().len(), 1);
    taken_back(&mut events, &question).await;
    assert!(outcome(&mut events).await.1);
    let start = Instant::now();
    while !store.command(&["KEYS", "*:a:*"]).list().is_empty() {
        assert!(start.elapsed() < AT_LATEST, "it is withdrawn");
        sleep(Duration::from_millis(20)).await;
    }
    answer(&at(&b, &talk), &question, json!({"action": "decline"})).await;
    assert!(store.command(&["KEYS", "*:a:*"]).list().is_empty(), "nothing is kept of it");
}

#[tokio::test]
async fn the_end_at_another_replica_ends_what_is_under_way() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[FIXTURES]).await;
    let talk = able(&a, "2025-11-25").await;
    let (mut events, question) = ask(&talk, "test_elicitation", json!({"message": "?"})).await;
    at(&b, &talk).request("DELETE").send().await.expect_status(204);
    timeout(AT_LATEST, taken_back(&mut events, &question)).await.expect("in time");
    events.rest().await;
    assert_eq!(talk.open_questions(), 0);
}

#[tokio::test]
async fn a_call_is_cancelled_at_any_replica() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[]).await;
    let talk = a.session(1).await;
    let under_way = || a.instances[1].state.calls.count();
    let mut took = Vec::new();
    for _ in 0..3 {
        eventually(|| under_way() == 0).await;
        let mut call = talk.call("echo", json!({"message": "x", "delay": 20})).begin().await;
        eventually(|| under_way() == 1).await;
        let start = Instant::now();
        for id in [r#""1""#, "2", "1"] {
            let body = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
            );
            at(&b, &talk).post(body).send().await.expect_status(202);
        }
        assert!(call.answer().await.text().contains("cancelled"));
        took.push(start.elapsed());
    }
    expect_soon("a cancellation", took);
    assert_eq!(talk.info().await["request_count"], 0);
    // One that comes too late does not come back to end another call.
    let late = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    for _ in 0..5 {
        talk.post(late).send().await.expect_status(202);
        let echo = talk.call("echo", json!({"message": "x", "delay": 0.2}));
        assert_eq!(echo.send().await.json()["result"]["content"][0]["text"], "x");
    }
}

#[tokio::test]
async fn a_new_level_reaches_calls_at_any_replica() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[]).await;
    let talk = a.session_of(0, "2025-11-25").await;
    let mut took = Vec::new();
    for _ in 0..3 {
        let set = async |level: &str| {
            let request = at(&b, &talk).rpc("logging/setLevel", json!({"level": level}));
            request.send().await.expect_status(200);
        };
        set("emergency").await;
        let ticks = talk.call("stream_ticks", json!({"count": 200, "interval_ms": 10}));
        let mut events = Events::open(ticks).await;
        sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        set("debug").await;
        assert_eq!(events.message().await["method"], "notifications/message");
        took.push(start.elapsed());
    }
    expect_soon("a level", took);
}

const WATCHED: &str = "test://watched-resource";

async fn subscribe(talk: &Talk<'_>, method: &str, uri: &str) {
    let answer = talk.rpc(method, json!({"uri": uri})).send().await;
    assert_eq!(answer.json()["result"], json!({}), "{answer:?}");
}

/// The next message, which must be that notification.
async fn told(events: &mut Events, method: &str) -> Value {
    let message = timeout(AT_LATEST, events.message()).await.expect("in time");
    assert_eq!(message["method"], method, "{message}");
    message["params"].clone()
}

#[tokio::test]
async fn a_resource_s_changes_are_told_once_wherever_its_client_listens() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[]).await;
    let mut took = Vec::new();
    for before in [true, false, true, false, true] {
        let talk = a.session_of(0, "2025-11-25").await;
        let elsewhere = at(&b, &talk);
        let uri = format!("session://{}/data/k", talk.id);
        // Subscribed at one replica, listening at the other, in either order.
        let early = if before { Some(listen(&elsewhere).await) } else { None };
        subscribe(&talk, "resources/subscribe", &uri).await;
        let mut stream = match early {
            Some(stream) => stream,
            None => listen(&elsewhere).await,
        };
        sleep(Duration::from_millis(50)).await;
        for changed_at in [&talk, &elsewhere] {
            let start = Instant::now();
            changed_at.ask("set_session_data", json!({"key": "k", "value": 1})).await;
            let params = told(&mut stream, "notifications/resources/updated").await;
            assert_eq!(params["uri"], uri);
            took.push(start.elapsed());
            stream.expect_quiet().await;
        }
        // And no longer, wherever that is said.
        subscribe(&elsewhere, "resources/unsubscribe", &uri).await;
        talk.ask("set_session_data", json!({"key": "k", "value": 2})).await;
        stream.expect_quiet().await;
    }
    expect_soon("a change", took);
    // The store knows no session id.
    let mut everything = String::new();
    for key in store.command(&["KEYS", "*:u:*"]).list() {
        everything += &store.command(&["HGETALL", key.text()]).to_string();
    }
    everything += &store.command(&["XRANGE", "mcpe:{mcpe:0}:news", "-", "+"]).to_string();
    assert!(!everything.contains("session://"), "{everything}");
}

#[tokio::test]
async fn a_client_with_streams_at_two_replicas_is_told_once() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[FIXTURES]).await;
    let talk = a.session_of(0, "2025-11-25").await;
    let elsewhere = at(&b, &talk);
    subscribe(&talk, "resources/subscribe", WATCHED).await;
    let (mut first, mut last) = (listen(&talk).await, listen(&elsewhere).await);
    sleep(Duration::from_millis(100)).await;
    for changed_at in [&a, &b] {
        changed_at.modern_call("test_trigger_resource_update", json!({})).text().await;
        told(&mut last, "notifications/resources/updated").await;
        changed_at.modern_call("test_trigger_tool_change", json!({})).text().await;
        told(&mut last, "notifications/tools/list_changed").await;
        last.expect_quiet().await;
        first.expect_quiet().await;
    }
    // The other one takes over.
    drop(last);
    eventually(|| elsewhere.open_streams() == 1).await;
    sleep(Duration::from_millis(300)).await;
    for changed_at in [&a, &b] {
        changed_at.modern_call("test_trigger_resource_update", json!({})).text().await;
        told(&mut first, "notifications/resources/updated").await;
        first.expect_quiet().await;
    }
}

#[tokio::test]
async fn subscriptions_of_a_session_are_bounded_over_all_replicas() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[]).await;
    let talk = a.session_of(0, "2025-11-25").await;
    let both = [at(&a, &talk), at(&b, &talk)];
    let uri = |number| format!("session://{}/data/{number}", talk.id);
    for number in 0..6 {
        subscribe(&both[number % 2], "resources/subscribe", &uri(number)).await;
    }
    // The others are not what matters here.
    let key = format!("mcpe:{{mcpe:0}}:u:{}", only_session(&store, 0));
    let many = "for n = 7, 1000 do redis.call('HSET', KEYS[1], n, '') end";
    store.command(&["EVAL", many, "1", &key]);
    for talk in &both {
        // Again is no more.
        subscribe(talk, "resources/subscribe", &uri(0)).await;
        let refused = talk.rpc("resources/subscribe", json!({"uri": uri(1000)})).send().await;
        assert!(refused.json()["error"]["message"].as_str().expect("text").contains("1000"));
    }
    subscribe(&both[0], "resources/unsubscribe", &uri(1)).await;
    subscribe(&both[1], "resources/subscribe", &uri(1000)).await;
    assert!(store.command(&["PTTL", &key]).integer() > 0, "it goes with the session at last");
    talk.request("DELETE").send().await.expect_status(204);
    assert_eq!(store.command(&["EXISTS", &key]).integer(), 0);
}

#[tokio::test]
async fn listeners_of_the_stateless_era_hear_of_changes_at_other_replicas() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two(&store, &[FIXTURES]).await;
    let handle = a.handle(0).await;
    let uri = format!("session://{handle}/data/%6b");
    let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": [uri, WATCHED]});
    let listen = a.modern("subscriptions/listen", json!({"notifications": wanted}));
    let mut events = Events::open(listen.build()).await;
    told(&mut events, "notifications/subscriptions/acknowledged").await;
    sleep(Duration::from_millis(100)).await;
    let mut took = Vec::new();
    for server in [&b, &b, &a, &b] {
        let start = Instant::now();
        let change = json!({"key": "k", "value": 1, "session": handle});
        server.modern_call("set_session_data", change).structured().await;
        let params = told(&mut events, "notifications/resources/updated").await;
        assert_eq!(params["uri"], uri, "as it was asked for");
        took.push(start.elapsed());
        server.modern_call("test_trigger_resource_update", json!({})).text().await;
        let params = told(&mut events, "notifications/resources/updated").await;
        assert_eq!(params["uri"], WATCHED);
        server.modern_call("test_trigger_tool_change", json!({})).text().await;
        told(&mut events, "notifications/tools/list_changed").await;
        events.expect_quiet().await;
    }
    expect_soon("a change of the stateless era", took);
}

#[tokio::test]
async fn a_reload_of_one_replica_is_told_to_clients_of_all() {
    let store = StoreServer::start(Engine::Redis);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.toml");
    std::fs::write(&path, "").expect("is written");
    let a = replica(&store.url(), &[]).await;
    let b = TestServer::start_from(&path, &[("MCP_STORE_URL", &store.url()), PATIENT]).await;
    reaches(&b).await;
    let talk = a.session_of(3, "2025-11-25").await;
    let mut stream = listen(&talk).await;
    sleep(Duration::from_millis(100)).await;
    std::fs::write(&path, "[instances.3.tools]\nsets = [\"conformance\"]").expect("is written");
    b.operate("POST", "/debug/reload").send().await.expect_status(200);
    told(&mut stream, "notifications/tools/list_changed").await;
    told(&mut stream, "notifications/prompts/list_changed").await;
    stream.expect_quiet().await;
}

#[tokio::test]
async fn whoever_waits_for_an_event_log_is_woken() {
    let store = StoreServer::start(Engine::Redis);
    let [a, _b] = two(&store, &[]).await;
    let talk = a.session(0).await;
    let id = SessionId::parse(&talk.id).expect("an id");
    let mut bell = a.instances[0].state.sessions.log_bell(id).expect("the store is shared");
    sleep(Duration::from_millis(300)).await;
    bell.mark_unchanged();
    let (news, sid) = ("mcpe:{mcpe:0}:news", only_session(&store, 0));
    store.command(&["XADD", news, "*", "k", "log", "s", &sid, "n", "1"]);
    store.command(&["PUBLISH", "mcpe:{mcpe:0}:bell", ""]);
    timeout(SOON, bell.changed()).await.expect("in time").expect("is told");
    // With the session ends the waiting.
    talk.request("DELETE").send().await.expect_status(204);
    timeout(AT_LATEST, async { while bell.changed().await.is_ok() {} }).await.expect("ends");
}
