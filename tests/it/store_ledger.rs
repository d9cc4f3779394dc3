//! What replicas that share a store have promised, added up: no count and no write that was answered is lost, none is made
//! twice, and no limit is passed, whichever replica is asked and whatever becomes of it.
//!
//! Owns a ledger kept by clients, as they see it, and compares it with what the server says at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    process::{Program, rpc},
    stores::{Between, Engine, Loss, StoreServer},
    support::TestServer,
};

/// Replicas in this process, which have reached their store.
pub async fn replicas(count: usize, url: &str, more: &[(&str, &str)]) -> Vec<TestServer> {
    let variables = [&[("MCP_STORE_URL", url)], more].concat();
    let servers = join_all((0..count).map(|_| TestServer::start(&variables))).await;
    for server in &servers {
        let start = Instant::now();
        while server.initialize("2025-06-18").send().await.status == 503 {
            assert!(start.elapsed() < Duration::from_secs(10), "the store is not reached");
            sleep(Duration::from_millis(20)).await;
        }
    }
    servers
}

#[tokio::test]
async fn a_hundred_at_once_are_a_hundred() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        // The machine may have other things to do, and a call that was told to come back is not repeated here.
        let patient = ("MCP_ECHO_STORE__TIMEOUT_SECONDS", "5");
        let servers = replicas(3, &store.url(), &[patient]).await;
        let talk = servers[0].session(0).await;
        let echo = |number: usize| {
            let echo = talk.call("echo", json!({ "message": format!("m{number}") }));
            echo.to(servers[number % 3].address).send()
        };
        let answers = join_all((0..100).map(echo)).await;
        let mut counts: Vec<_> = answers
            .iter()
            .map(|answer| {
                answer.expect_status(200);
                answer.json()["result"]["structuredContent"]["request_count"].as_u64()
            })
            .collect();
        counts.sort();
        assert_eq!(counts, (1..=100).map(Some).collect::<Vec<_>>(), "each its own");
        assert_eq!(talk.info().await["request_count"], 100);
    }
}

#[tokio::test]
async fn answers_that_get_lost_are_not_counted_twice() {
    for loss in [Loss::Closed, Loss::Silent] {
        let store = StoreServer::start(Engine::Redis);
        let between = Between::start(store.port());
        // What is asked here is not how long a machine that is busy takes.
        let patient = [("MCP_ECHO_STORE__TIMEOUT_SECONDS", "1")];
        let servers = replicas(1, &between.url(), &patient).await;
        let talk = servers[0].session(0).await;
        // So that the store knows the script, and what is lost is the answer of one that has run.
        talk.ask("echo", json!({ "message": "first" })).await;
        for number in 2..=11 {
            between.lose_answer(1, loss);
            let echo = talk.call("echo", json!({ "message": "x" })).send().await;
            echo.expect_status(200);
            assert!(between.has_lost(), "an answer was lost");
            let count = &echo.json()["result"]["structuredContent"]["request_count"];
            assert_eq!(count, number, "{loss:?}");
        }
        between.lose_answer(1, loss);
        let write = talk.call("set_session_data", json!({ "key": "k", "value": 1 })).send().await;
        let write = &write.expect_status(200).json()["result"]["structuredContent"];
        assert_eq!(write["replaced"], false, "although the repetition found it");
        assert_eq!(talk.info().await["request_count"], 12);
    }
}

#[tokio::test]
async fn no_more_sessions_begin_than_may() {
    let store = StoreServer::start(Engine::Redis);
    let servers = replicas(3, &store.url(), &[("MCP_ECHO_SESSION__CAPACITY", "20")]).await;
    // Those that were begun to see whether the store is there.
    let begun = servers.len();
    let begin = |number: usize| servers[number % 3].initialize("2025-06-18").send();
    let answers = join_all((0..60).map(begin)).await;
    let created = answers.iter().filter(|answer| answer.status == 200).count();
    let full = answers.iter().filter(|answer| answer.status == 503);
    assert_eq!((created, full.count()), (20 - begun, 40 + begun));
    let live = store.command(&["ZCARD", "mcpe:{mcpe:0}:live"]).integer();
    assert_eq!(live, 20);
}

#[tokio::test]
async fn a_session_expires_once_and_all_know_why() {
    let store = StoreServer::start(Engine::Redis);
    let servers = replicas(3, &store.url(), &[("MCP_SESSION_TIMEOUT", "0.5")]).await;
    let talk = servers[0].session(0).await;
    for server in &servers {
        talk.call("echo", json!({ "message": "x" }))
            .to(server.address)
            .send()
            .await
            .expect_status(200);
    }
    sleep(Duration::from_millis(800)).await;
    for server in servers.iter().rev() {
        let gone = talk.call("echo", json!({ "message": "x" })).to(server.address).send().await;
        assert_eq!(gone.expect_gone(), "expired");
    }
    let expired = store.command(&["HGET", "mcpe:{mcpe:0}:counts", "expired"]);
    assert_eq!(expired.to_string(), "4", "this one, and the three that were begun before it");
}

/// What a client knows of its session.
#[derive(Debug, Default)]
struct Ledger {
    id: String,
    /// Calls that were answered.
    acknowledged: u64,
    /// Calls of which it is not known what came of them.
    unknown: u64,
    /// The last count that an answer told.
    last: u64,
    /// What was answered as stored.
    stored: BTreeMap<String, u64>,
}

struct Client {
    http: reqwest::Client,
    replicas: Vec<String>,
}

/// What came of a call.
enum Told {
    Result(Value),
    /// Nothing was sent, or it was refused before anything was done.
    Not,
    Unknown,
}

impl Client {
    fn new(ports: &[u16]) -> Self {
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let http = http.timeout(Duration::from_secs(10)).build().expect("builds");
        let replicas = ports.iter().map(|port| format!("http://127.0.0.1:{port}/mcp")).collect();
        Self { http, replicas }
    }

    async fn call(&self, turn: usize, session: &str, tool: &str, arguments: Value) -> Told {
        let body = rpc("tools/call", json!({ "name": tool, "arguments": arguments }));
        let request = self.http.post(&self.replicas[turn % self.replicas.len()]);
        let request = request.header("content-type", "application/json");
        match request.header("mcp-session-id", session).body(body).send().await {
            Ok(answer) if answer.status() == 200 => match answer.json::<Value>().await {
                Ok(answer) => Told::Result(answer["result"]["structuredContent"].clone()),
                Err(_) => Told::Unknown,
            },
            Ok(answer) => {
                assert_eq!(answer.status(), 503, "never 404, nor anything else");
                Told::Unknown
            }
            Err(error) if error.is_connect() => Told::Not,
            Err(_) => Told::Unknown,
        }
    }

    async fn begin(&self) -> String {
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "ledger", "version": "1"}});
        let start = Instant::now();
        loop {
            let request = self.http.post(&self.replicas[0]);
            let request = request.header("content-type", "application/json");
            let answer = request.body(rpc("initialize", params.clone())).send().await;
            if let Ok(answer) = answer
                && let Some(id) = answer.headers().get("mcp-session-id")
            {
                return id.to_str().expect("is text").to_owned();
            }
            assert!(start.elapsed() < Duration::from_secs(10), "no session can be begun");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Calls the replicas in turn until it is over, and keeps a ledger.
    async fn work(&self, number: usize, over: &AtomicBool) -> Ledger {
        let mut ledger = Ledger { id: self.begin().await, ..Ledger::default() };
        let mut turn = number;
        while !over.load(Ordering::Relaxed) {
            turn += 1;
            let (tool, arguments) = match turn % 3 {
                0 => {
                    let key = format!("k{}", turn % 7);
                    ("set_session_data", json!({ "key": key, "value": turn }))
                }
                _ => ("echo", json!({ "message": format!("m{turn}") })),
            };
            match self.call(turn, &ledger.id, tool, arguments.clone()).await {
                Told::Result(result) => {
                    ledger.acknowledged += 1;
                    if let Some(count) = result["request_count"].as_u64() {
                        assert!(count > ledger.last, "a count that was told was lost: {ledger:?}");
                        ledger.last = count;
                    } else {
                        let key = arguments["key"].as_str().expect("a key").to_owned();
                        ledger.stored.insert(key, turn as u64);
                    }
                }
                Told::Not => sleep(Duration::from_millis(5)).await,
                Told::Unknown => {
                    ledger.unknown += 1;
                    // What was stored there may have been, so nothing is known of that key any more.
                    if let Some(key) = arguments["key"].as_str() {
                        ledger.stored.remove(key);
                    }
                }
            }
        }
        ledger
    }

    async fn compare(&self, ledger: &Ledger) {
        let read = async |tool| {
            for turn in 0..30 {
                if let Told::Result(result) = self.call(turn, &ledger.id, tool, json!({})).await {
                    return result;
                }
                sleep(Duration::from_millis(100)).await;
            }
            panic!("no replica answers");
        };
        let info = read("get_session_info").await;
        let count = info["request_count"].as_u64().expect("a count");
        let Ledger { acknowledged, unknown, .. } = *ledger;
        assert!(count >= acknowledged, "{} calls are lost: {ledger:?}", acknowledged - count);
        assert!(count <= acknowledged + unknown, "counted twice: {count}, {ledger:?}");
        let data = read("get_session_data").await;
        for (key, value) in &ledger.stored {
            assert_eq!(data["data"][key], *value, "{key} of {ledger:?}");
        }
    }
}

/// Ports on which nobody listens: above those that stores take, below those that the kernel hands out.
fn free_ports(count: usize) -> Vec<u16> {
    let mut ports = BTreeSet::new();
    while ports.len() < count {
        let drawn = getrandom::u64().expect("random bits") % 2_700;
        let port = 30_000 + u16::try_from(drawn).expect("is small");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.insert(port);
        }
    }
    ports.into_iter().collect()
}

fn replica(port: u16, url: &str) -> Program {
    let number = port.to_string();
    Program::start_on(&number, &[("MCP_STORE_URL", url), ("LOG_LEVEL", "warn")])
}

/// Eight clients that call three replicas in turn, while `happens` does something to them.
async fn under_load(
    happens: impl AsyncFnOnce(&mut Vec<Program>, &dyn Fn(u16) -> Program),
) -> Vec<Ledger> {
    let store = StoreServer::with(Engine::Redis, &["--appendonly", "yes"]);
    let ports = free_ports(3);
    let start = |port| replica(port, &store.url());
    let mut programs: Vec<_> = ports.iter().map(|port| start(*port)).collect();
    let client = Arc::new(Client::new(&ports));
    let over = AtomicBool::new(false);
    let work = join_all((0..8).map(|number| client.work(number, &over)));
    let happening = async {
        sleep(Duration::from_millis(700)).await;
        happens(&mut programs, &start).await;
        sleep(Duration::from_millis(700)).await;
        over.store(true, Ordering::Relaxed);
    };
    let (ledgers, ()) = tokio::join!(work, happening);
    for ledger in &ledgers {
        client.compare(ledger).await;
        assert!(ledger.acknowledged > 20, "there was load: {ledger:?}");
    }
    ledgers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_killed_takes_nothing_with_it() {
    under_load(async |programs, start| {
        for _ in 0..2 {
            let port = programs[1].address.port();
            programs[1].signal("KILL");
            programs[1].exited().await;
            sleep(Duration::from_millis(300)).await;
            programs[1] = start(port);
            sleep(Duration::from_millis(300)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_nothing_and_ends_no_session() {
    let ledgers = under_load(async |programs, start| {
        for program in programs {
            let port = program.address.port();
            program.signal("TERM");
            program.exited().await;
            *program = start(port);
            sleep(Duration::from_millis(300)).await;
        }
    })
    .await;
    let unknown: u64 = ledgers.iter().map(|ledger| ledger.unknown).sum();
    let calls: u64 = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    println!("{calls} calls answered, {unknown} without an answer");
}
