//! A store that fails in every way that it can: it is stopped, killed, paused, read-only, full, has a full disk, refuses the
//! password, or its answers are swallowed or delayed.
//!
//! Owns what all of these have in common. While it lasts every request of a session gets 503 and is told to come back, and
//! never 404; what needs no session is served; streams stay open. After it, all is whole within two seconds, and the counts
//! of the server are those of a ledger. Trap: a request that got 503 may have been done, so the ledger has two bounds.

use std::{fs, path::Path, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    store_seen::becomes,
    stores::{Between, Engine, Loss, Mode, StoreServer},
    support::{Answer, PATIENCE, Request, Talk, TestServer, eventually},
};

/// How soon all is whole after the store is: two seconds, and what a machine takes that has other things to do.
const SOON: Duration = Duration::from_secs(5);

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// A server with a store, and one instance that keeps its sessions itself.
async fn serve(url: &str) -> TestServer {
    let file = NamedTempFile::new().expect("a file");
    fs::write(file.path(), "[instances.9.session]\nstore = 'memory'\n").expect("is written");
    let server = TestServer::start_from(file.path(), &[("MCP_STORE_URL", url)]).await;
    becomes(&server, 200).await;
    server
}

/// What a client knows of its session.
#[derive(Debug, Default)]
struct Ledger {
    /// Calls that were answered, and those that may have been done.
    counted: u64,
    unknown: u64,
    /// The last value that was stored, and those that may have been since.
    stored: Option<u64>,
    perhaps: Vec<u64>,
    next: u64,
}

impl Ledger {
    async fn echo(&mut self, talk: &Talk<'_>) -> Answer {
        let answer = talk.call("echo", json!({"message": "x"})).send().await;
        match answer.status {
            200 => self.counted += 1,
            _ => self.unknown += 1,
        }
        answer
    }

    async fn write(&mut self, talk: &Talk<'_>) -> Answer {
        self.next += 1;
        let call = json!({"key": "k", "value": self.next});
        let answer = talk.call("set_session_data", call).send().await;
        match answer.status {
            200 => {
                (self.counted, self.stored) = (self.counted + 1, Some(self.next));
                self.perhaps.clear();
            }
            _ => {
                self.unknown += 1;
                self.perhaps.push(self.next);
            }
        }
        answer
    }

    async fn balance(&self, talk: &Talk<'_>) {
        let count = talk.info().await["request_count"].as_u64().expect("a count");
        let bounds = self.counted..=self.counted + self.unknown;
        assert!(bounds.contains(&count), "{count} is not in {bounds:?}");
        let data = talk.ask("get_session_data", json!({"key": "k"})).await;
        let stored = data["value"].as_u64();
        let fits = stored == self.stored || stored.is_some_and(|it| self.perhaps.contains(&it));
        assert!(fits, "{data} is not of {self:?}");
    }
}

/// 503, with what a client needs to know to come back.
#[track_caller]
fn expect_unavailable(what: &str, answer: &Answer) {
    assert_eq!(answer.status, 503, "{what}: {answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"), "{what}: {answer:?}");
    let error = &answer.json()["error"];
    assert_eq!(error["data"]["reason"], "store_unavailable", "{what}: {answer:?}");
    let text = error["message"].as_str().expect("a text");
    assert!(text.contains("keep the session"), "{text}");
}

/// One request of every kind that needs a session, beside those that the ledger knows.
fn of_every_kind(
    talk: &Talk<'_>,
    batching: &Talk<'_>,
    handle: &str,
) -> Vec<(&'static str, Request)> {
    let server = talk.server;
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
    let key = json!({
        "ref": {"type": "ref/resource", "uri": "session://{session}/data/{key}"},
        "argument": {"name": "key", "value": ""}, "context": {"arguments": {"session": talk.id}},
    });
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"tools/list"}]"#;
    let handle = json!({"message": "x", "session": handle});
    vec![
        ("ping", talk.rpc("ping", json!({}))),
        ("tools/list", talk.rpc("tools/list", json!({}))),
        ("data", talk.call("get_session_data", json!({"key": "k"}))),
        ("a slow echo", talk.call("echo", json!({"message": "x", "delay": 0.01}))),
        ("resources/list", talk.rpc("resources/list", json!({}))),
        (
            "resources/read",
            talk.rpc("resources/read", json!({"uri": format!("session://{}/data/k", talk.id)})),
        ),
        ("completion", talk.rpc("completion/complete", key)),
        ("a notification", talk.post(notification)),
        ("a batch", batching.post(batch)),
        ("a stream", batching.request("GET").header("Accept", "text/event-stream")),
        ("an end", batching.request("DELETE")),
        ("a begin", server.initialize("2025-06-18").host(&talk.host)),
        ("an implicit session", server.call("echo", json!({"message": "x"})).host(&talk.host)),
        ("a handle", server.modern_call("echo", handle).on(1).build()),
        ("a new handle", server.modern_call("create_session", json!({})).on(1).build()),
    ]
}

/// Asks for everything while the store fails. Once that has lasted a second, nobody waits for it any more.
async fn endure(talk: &Talk<'_>, lasting: Duration, ledger: &mut Ledger, kept: &Kept<'_>) {
    let (start, mut first, mut at_once) = (Instant::now(), None, Vec::new());
    while start.elapsed() < lasting {
        for write in [false, true] {
            let asked = Instant::now();
            let answer = match write {
                true => ledger.write(talk).await,
                false => ledger.echo(talk).await,
            };
            let took = asked.elapsed();
            expect_unavailable("a call", &answer);
            // Two attempts of a quarter of a second, and what the machine takes for itself.
            assert!(took < SOON, "{took:?}");
            if first.get_or_insert(asked).elapsed() > Duration::from_secs(1) + took {
                at_once.push(took);
            }
        }
        let all = of_every_kind(talk, &kept.batching, &kept.handle);
        let all =
            all.into_iter().map(|(what, request)| async move { (what, request.send().await) });
        for (what, answer) in join_all(all).await {
            if ["a slow echo", "data"].contains(&what) {
                ledger.unknown += 1;
            }
            expect_unavailable(what, &answer);
        }
        what_needs_no_session(talk.server, &kept.own).await;
        sleep(Duration::from_millis(50)).await;
    }
    at_once.sort();
    let median = at_once.get(at_once.len() / 2).expect("it lasted long enough");
    // Less than one attempt.
    assert!(*median < Duration::from_millis(150), "{at_once:?}");
}

async fn what_needs_no_session(server: &TestServer, own: &Talk<'_>) {
    server.request("GET", "/").send().await.expect_status(200);
    server.request("GET", "/livez").send().await.expect_status(200);
    server.request("GET", "/readyz").send().await.expect_status(200);
    server.operate("GET", "/metrics").send().await.expect_status(200);
    server.operate("GET", "/debug/overview").send().await.expect_status(200);
    // A store that does not take writes may be read by operators.
    let list = server.operate("GET", "/debug/sessions").send().await;
    assert_eq!(list.status == 503, list.header("retry-after") == Some("1"), "{list:?}");
    let list = list.status;
    let (found, ended) = match list {
        200 => (404, 200),
        _ => (503, 503),
    };
    assert!([200, 503].contains(&list), "{list}");
    server.operate("GET", "/debug/sessions/000000000000").send().await.expect_status(found);
    server.operate("DELETE", "/debug/sessions?instance=5").send().await.expect_status(ended);
    server.modern_call("echo", json!({"message": "x"})).on(0).result().await;
    own.ask("echo", json!({"message": "x"})).await;
}

/// Sessions beside the one of the ledger.
struct Kept<'a> {
    own: Talk<'a>,
    batching: Talk<'a>,
    handle: String,
}

/// A fault from its beginning to its end, and all that is promised of it.
async fn outlive(url: &str, lasting: Duration, begin: impl FnOnce(), end: impl FnOnce()) {
    let server = serve(url).await;
    let talk = server.session(0).await;
    let kept = Kept {
        own: server.session(9).await,
        batching: server.session_of(1, "2025-03-26").await,
        handle: server.handle(1).await,
    };
    let mut ledger = Ledger::default();
    for _ in 0..5 {
        ledger.echo(&talk).await.expect_status(200);
        ledger.write(&talk).await.expect_status(200);
    }
    let mut stream = talk.request("GET").header("Accept", "text/event-stream").begin().await;
    stream.head().await.expect_status(200);
    eventually(|| talk.open_streams() == 1).await;

    begin();
    endure(&talk, lasting, &mut ledger, &kept).await;
    end();

    let ended = Instant::now();
    loop {
        let answer = ledger.echo(&talk).await;
        if answer.status == 200 {
            break;
        }
        expect_unavailable("an echo afterwards", &answer);
        assert!(ended.elapsed() < SOON, "it is whole again");
        sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..5 {
        ledger.echo(&talk).await.expect_status(200);
        ledger.write(&talk).await.expect_status(200);
    }
    ledger.balance(&talk).await;
    for (what, request) in of_every_kind(&talk, &talk, &kept.handle) {
        if ["a batch", "a stream", "an end"].contains(&what) {
            continue;
        }
        let answer = request.send().await;
        assert!([200, 202].contains(&answer.status), "{what}: {answer:?}");
    }
    // An end whose client was told to come back was done as a whole or not at all.
    let ended = kept.batching.rpc("ping", json!({})).send().await;
    assert!(ended.status == 200 || ended.expect_gone() == "terminated", "{ended:?}");
    // It was open all the while, and is still of use.
    assert_eq!(talk.open_streams(), 1);
    assert!(timeout(Duration::from_millis(50), stream.closes()).await.is_err(), "it is open");
    let own = kept.own.info().await["request_count"].as_u64().expect("a count");
    assert!(own > 0, "{own}");
}

const LONG: Duration = Duration::from_secs(3);

#[tokio::test]
async fn stopped() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        outlive(&store.url(), LONG, || store.pause(), || store.resume()).await;
    }
}

#[tokio::test]
async fn killed_and_started_again() {
    for engine in Engine::ALL {
        let store = StoreServer::with(engine, &DURABLE);
        outlive(&store.url(), LONG, || store.kill(), || store.start_again()).await;
    }
}

/// Writes alone are paused: a connection can still be made.
#[tokio::test]
async fn paused() {
    for (engine, what) in [(Engine::Redis, "WRITE"), (Engine::Valkey, "ALL")] {
        let store = StoreServer::start(engine);
        let pause = || _ = store.command(&["CLIENT", "PAUSE", "4500", what]);
        let over = || std::thread::sleep(Duration::from_millis(1500));
        outlive(&store.url(), LONG, pause, over).await;
    }
}

#[tokio::test]
async fn read_only() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let follow = |host: &str, port: &str| _ = store.command(&["REPLICAOF", host, port]);
        outlive(&store.url(), LONG, || follow("127.0.0.1", "1"), || follow("NO", "ONE")).await;
    }
}

#[tokio::test]
async fn without_its_replicas() {
    let store = StoreServer::start(Engine::Redis);
    let wants = |count: &str| _ = store.command(&["CONFIG", "SET", "min-replicas-to-write", count]);
    outlive(&store.url(), LONG, || wants("1"), || wants("0")).await;
}

#[tokio::test]
async fn full() {
    for engine in Engine::ALL {
        let store = StoreServer::with(engine, &["--maxmemory-policy", "noeviction"]);
        let limit = |limit: &str| _ = store.command(&["CONFIG", "SET", "maxmemory", limit]);
        outlive(&store.url(), LONG, || limit("1mb"), || limit("0")).await;
    }
}

/// It could not save what it has, as on a full disk, and so takes no writes.
#[tokio::test]
async fn with_a_disk_that_takes_nothing() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let directory = store.command(&["CONFIG", "GET", "dir"]).list()[1].text().to_owned();
        let in_the_way = Path::new(&directory).join("dump.rdb/in the way");
        let save = |status: &str| {
            store.command(&["CONFIG", "SET", "save", "3600 1"]);
            store.command(&["BGSAVE"]);
            let told = || store.command(&["INFO", "persistence"]).text().to_owned();
            let saved = format!("rdb_last_bgsave_status:{status}");
            let start = Instant::now();
            while !(told().contains("rdb_bgsave_in_progress:0") && told().contains(&saved)) {
                assert!(start.elapsed() < PATIENCE, "{}", told());
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        let fill = || {
            fs::create_dir_all(&in_the_way).expect("is made");
            save("err");
        };
        let free = || {
            fs::remove_dir_all(in_the_way.parent().expect("is in one")).expect("goes");
            save("ok");
        };
        outlive(&store.url(), LONG, fill, free).await;
        assert!(store.command(&["INFO", "errorstats"]).text().contains("errorstat_MISCONF"));
    }
}

/// Ends make room, so a store that is full takes them, each as a whole.
#[tokio::test]
async fn sessions_can_be_ended_in_a_full_store() {
    for engine in Engine::ALL {
        let store = StoreServer::with(engine, &["--maxmemory-policy", "noeviction"]);
        let server = serve(&store.url()).await;
        let talk = server.session(0).await;
        talk.ask("set_session_data", json!({"key": "k", "value": 1})).await;
        let list = server.operate("GET", "/debug/sessions").send().await.json();
        let path = format!("/debug/sessions/{}", list["sessions"][0]["ref"].as_str().expect("one"));
        store.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
        expect_unavailable("a call", &talk.call("echo", json!({"message": "x"})).send().await);
        server.operate("DELETE", &path).send().await.expect_status(204);
        assert_eq!(talk.rpc("ping", json!({})).send().await.expect_gone(), "terminated");
        let counts = server.instances[0].state.sessions.count().await.expect("is asked");
        assert_eq!((counts.created, counts.live, counts.data_bytes), (1, 0, 0));
        assert_eq!(counts.ended.iter().sum::<u64>(), 1);
    }
}

/// Nobody could use it meanwhile, so it was not idle, however long the store is away.
#[tokio::test]
async fn a_session_does_not_expire_while_the_store_is_away() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let url = store.url();
        let server =
            TestServer::start(&[("MCP_STORE_URL", &url), ("MCP_SESSION_TIMEOUT", "5")]).await;
        becomes(&server, 200).await;
        let (idle, held) = (server.session(0).await, server.session(0).await);
        let stream = held.request("GET").header("Accept", "text/event-stream").begin().await;
        eventually(|| held.open_streams() == 1).await;
        store.pause();
        sleep(Duration::from_secs(16)).await;
        expect_unavailable("a call", &idle.call("echo", json!({"message": "x"})).send().await);
        store.resume();
        for talk in [&idle, &held] {
            let resumed = Instant::now();
            while talk.rpc("ping", json!({})).send().await.status == 503 {
                assert!(resumed.elapsed() < SOON, "it is whole again");
            }
            talk.ask("echo", json!({"message": "x"})).await;
        }
        assert_eq!(held.open_streams(), 1);
        drop(stream);
        sleep(Duration::from_secs(6)).await;
        assert_eq!(idle.rpc("ping", json!({})).send().await.expect_gone(), "expired");
    }
}

/// The keys of a session go an hour after its end at the latest, also if nobody was there to end it.
#[tokio::test]
async fn what_nobody_has_ended_is_not_counted_for_ever() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let server = serve(&store.url()).await;
        let talk = server.session(0).await;
        talk.ask("set_session_data", json!({"key": "k", "value": 1})).await;
        let sessions = &server.instances[0].state.sessions;
        assert!(sessions.count().await.expect("is asked").data_bytes > 0);
        for kind in ["s", "d"] {
            let keys = store.command(&["KEYS", &format!("mcpe:{{mcpe:0}}:{kind}:*")]);
            let key = keys.list()[0].text().to_owned();
            assert_eq!(store.command(&["DEL", &key]).integer(), 1);
            let sid = key.rsplit(':').next().expect("an end").to_owned();
            store.command(&["ZADD", "mcpe:{mcpe:0}:live", "1", &sid]);
        }
        let counts = sessions.count().await.expect("is asked");
        assert_eq!((counts.created, counts.live, counts.data_bytes), (1, 0, 0));
        assert_eq!(talk.rpc("ping", json!({})).send().await.expect_gone(), "unknown");
    }
}

/// Started again it has forgotten whom it knew.
#[tokio::test]
async fn with_another_password() {
    let store = StoreServer::with(Engine::Redis, &DURABLE);
    let know =
        || _ = store.command(&["ACL", "SETUSER", "app", "on", ">s3cret", "~*", "&*", "+@all"]);
    know();
    let url = format!("redis://app:s3cret@127.0.0.1:{}", store.port());
    outlive(&url, LONG, || store.start_again(), know).await;
}

#[tokio::test]
async fn behind_a_network_that_loses_answers() {
    let store = StoreServer::start(Engine::Redis);
    let modes =
        [Mode::SwallowAnswers, Mode::Delay(Duration::from_millis(600)), Mode::Refuse, Mode::Hang];
    for mode in modes {
        let between = Between::start(store.port());
        outlive(&between.url(), LONG, || between.set(mode), || between.set(Mode::Pass)).await;
    }
}

/// A repetition comes after the time limit, however long that is, and until then the store knows what was done.
#[tokio::test]
async fn what_is_repeated_late_is_counted_once() {
    let store = StoreServer::start(Engine::Redis);
    let between = Between::start(store.port());
    let url = between.url();
    let late = [("MCP_STORE_URL", &*url), ("MCP_ECHO_STORE__TIMEOUT_SECONDS", "3")];
    let server = TestServer::start(&late).await;
    becomes(&server, 200).await;
    let talk = server.session(0).await;
    let mut ledger = Ledger::default();
    ledger.echo(&talk).await.expect_status(200);
    between.lose_answer(1, Loss::Silent);
    ledger.echo(&talk).await.expect_status(200);
    assert!(between.has_lost());
    assert_eq!((ledger.counted, ledger.unknown), (2, 0));
    ledger.balance(&talk).await;
}

/// What was repeated is counted once, whoever waits for it.
#[tokio::test]
async fn an_answer_that_is_lost_is_asked_for_again() {
    let store = StoreServer::start(Engine::Valkey);
    let between = Between::start(store.port());
    let server = serve(&between.url()).await;
    let talk = server.session(0).await;
    let mut ledger = Ledger::default();
    for round in 0..12 {
        if round % 2 == 1 {
            between.lose_answer(1, if round % 4 == 1 { Loss::Closed } else { Loss::Silent });
        }
        ledger.echo(&talk).await.expect_status(200);
        ledger.write(&talk).await.expect_status(200);
        eventually(|| between.has_lost()).await;
    }
    assert_eq!((ledger.counted, ledger.unknown), (24, 0));
    ledger.balance(&talk).await;
    let page = server.operate("GET", "/metrics").send().await.text();
    let repeats = page.lines().find_map(|line| line.strip_prefix("mcp_echo_store_repeats_total "));
    assert!(repeats.expect("a count").parse::<u64>().expect("a number") >= 6, "{repeats:?}");
}
