//! Streams of a session whose store two replicas share: begun at one, read on at the other, event for event.

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::{
    events::{Event, Events},
    modern::FIXTURES,
    process::Program,
    stores::{Between, Engine, Mode, StoreServer},
    support::{Connection, Request, Talk, TestServer, eventually},
};

const VERSION: &str = "2025-11-25";

/// Two replicas on one store.
struct Pair {
    a: TestServer,
    b: TestServer,
    store: StoreServer,
}

impl Pair {
    async fn start() -> Self {
        Self::with(Engine::Redis, &[]).await
    }

    async fn with(engine: Engine, variables: &[(&str, &str)]) -> Self {
        let store = StoreServer::start(engine);
        let (a, b) =
            (replica(&store.url(), variables).await, replica(&store.url(), variables).await);
        Self { a, b, store }
    }

    /// A session that began at A, and the same at B.
    async fn talks(&self) -> (Talk<'_>, Talk<'_>) {
        let talk = self.a.session_of(0, VERSION).await;
        let there = at(&talk, &self.b);
        (talk, there)
    }
}

async fn replica(store: &str, variables: &[(&str, &str)]) -> TestServer {
    let own = [("MCP_STORE_URL", store), FIXTURES];
    let all: Vec<_> = own.iter().chain(variables).copied().collect();
    let server = TestServer::start(&all).await;
    let start = Instant::now();
    // The connection to the store is made beside.
    while server.initialize(VERSION).send().await.status != 200 {
        assert!(start.elapsed() < Duration::from_secs(10), "the store is reached");
        sleep(Duration::from_millis(20)).await;
    }
    server
}

/// The same session at another replica.
fn at<'a>(talk: &Talk<'_>, server: &'a TestServer) -> Talk<'a> {
    Talk { server, host: talk.host.clone(), id: talk.id.clone(), revision: talk.revision.clone() }
}

fn resume(talk: &Talk<'_>, id: &str) -> Request {
    talk.request("GET").header("Accept", "text/event-stream").header("Last-Event-ID", id)
}

fn ticks(talk: &Talk<'_>, count: u64, interval_ms: u64) -> Request {
    let arguments = json!({"count": count, "interval_ms": interval_ms});
    talk.rpc(
        "tools/call",
        json!({"name": "stream_ticks", "arguments": arguments, "_meta": {"progressToken": "t"}}),
    )
}

/// What the ticks of a call and its answer count to; a priming event counts nothing.
fn counted(events: &[Event]) -> Vec<Value> {
    let messages = events.iter().filter(|event| !event.data.is_empty()).map(Event::message);
    messages.map(|it| it["params"]["progress"].clone()).collect()
}

/// From 1 to the last, then the answer.
fn all_ticks(from: u64, to: u64) -> Vec<Value> {
    (from..=to).map(|number| json!(number as f64)).chain([Value::Null]).collect()
}

async fn trigger(talk: &Talk<'_>) {
    talk.call("test_trigger_tool_change", json!({})).send().await.expect_status(200);
}

async fn some(events: &mut Events, count: usize) -> Vec<Event> {
    let mut some = Vec::new();
    while some.len() < count {
        some.push(events.next().await.expect("an event"));
    }
    some
}

#[tokio::test]
async fn a_call_at_one_replica_is_read_to_its_end_at_another() {
    for engine in Engine::ALL {
        let pair = Pair::with(engine, &[]).await;
        let (here, there) = pair.talks().await;
        let mut events = Events::open(ticks(&here, 10, 50)).await;
        let mut read = some(&mut events, 3).await;
        drop(events);
        // While it runs.
        let mut again = Events::open(resume(&there, read[2].id())).await;
        read.extend(some(&mut again, 3).await);
        assert_eq!(pair.b.instances[0].state.sessions.counts().created, 0);
        drop(again);
        read.extend(Events::open(resume(&there, read[5].id())).await.rest().await);
        assert_eq!(counted(&read), all_ticks(1, 10));
        // After it has ended, from every event, at both.
        for position in 0..read.len() {
            for talk in [&here, &there] {
                let rest = Events::open(resume(talk, read[position].id())).await.rest().await;
                assert_eq!(rest, read[position + 1..], "the same events under the same ids");
            }
        }
        eventually(|| there.open_streams() == 0).await;
    }
}
