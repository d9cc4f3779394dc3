//! Streams of a session whose store two replicas share: begun at one, read on at the other, event for event.

use mcp_echo_stateful::server::Stopped;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::{
    events::{Event, Events},
    modern::FIXTURES,
    process::Program,
    stores::{Between, Engine, Mode, StoreServer},
    support::{Request, Talk, TestServer, eventually},
};

const VERSION: &str = "2025-11-25";

/// So that a store on a machine with much to do is not called lost.
const PATIENT: (&str, &str) = ("MCP_ECHO_STORE__TIMEOUT_SECONDS", "5");

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
        let all = [&[PATIENT], variables].concat();
        let (a, b) = (replica(&store.url(), &all).await, replica(&store.url(), &all).await);
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
    reached(|| server.initialize(VERSION)).await;
    server
}

/// Waits until a replica has reached its store, which it does beside.
async fn reached(request: impl Fn() -> Request) {
    let start = Instant::now();
    while request().send().await.status == 503 {
        assert!(start.elapsed() < Duration::from_secs(10), "the store is reached");
        sleep(Duration::from_millis(20)).await;
    }
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

/// Whether the store has the event of that id.
fn is_kept(store: &StoreServer, id: &str) -> bool {
    let (stream, number) = id.split_once('-').expect("an id");
    let heads = store.command(&["KEYS", &format!("*:h:*:{stream}")]);
    assert!(heads.list().len() <= 1, "of one session: {heads}");
    let Some(head) = heads.list().first() else { return false };
    let next: u64 = store.command(&["HGET", head.text(), "next"]).text().parse().expect("a number");
    next > number.parse().expect("a number")
}

/// Waits until a replica has heard all that another had to tell, or it would tell it once more where it speaks from now
/// on. News come in their order.
async fn is_heard(from: &TestServer, at: &TestServer) {
    let watched = json!({"resourceSubscriptions": ["test://watched-resource"]});
    let listen = at.modern("subscriptions/listen", json!({ "notifications": watched }));
    let mut events = Events::open(listen.build()).await;
    assert_eq!(events.message().await["method"], "notifications/subscriptions/acknowledged");
    from.modern_call("test_trigger_resource_update", json!({})).text().await;
    assert_eq!(events.message().await["method"], "notifications/resources/updated");
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

#[tokio::test]
async fn a_call_whose_client_has_left_is_read_elsewhere() {
    let pair = Pair::start().await;
    let (here, there) = pair.talks().await;
    let mut events = Events::open(ticks(&here, 3, 30)).await;
    let primed = events.next().await.expect("the priming event");
    drop(events);
    sleep(Duration::from_millis(400)).await;
    let rest = Events::open(resume(&there, primed.id())).await.rest().await;
    assert_eq!(counted(&rest), all_ticks(1, 3));
    assert_eq!(there.info().await["request_count"], 1, "the call went on");
    // An answer that was there at once is one that can be read again, too.
    let list = here.rpc("tools/list", json!({})).header("Accept", "text/event-stream");
    let all = Events::open(list).await.rest().await;
    let again = Events::open(resume(&there, all[0].id())).await.rest().await;
    assert_eq!(again, all[1..]);
}

#[tokio::test]
async fn a_reader_elsewhere_takes_a_stream_over() {
    let pair = Pair::start().await;
    let (here, there) = pair.talks().await;
    let mut first = Events::open(ticks(&here, 4, 1000)).await;
    let primed = first.next().await.expect("the priming event");
    let mut second = Events::open(resume(&there, primed.id())).await;
    let heard = counted(&first.rest().await);
    assert!(!heard.contains(&Value::Null), "the first reader is let go: {heard:?}");
    // And back again.
    let mut third = Events::open(resume(&here, primed.id())).await;
    let heard = counted(&second.rest().await);
    assert!(!heard.contains(&Value::Null), "so is the second: {heard:?}");
    assert_eq!(counted(&third.rest().await), all_ticks(1, 4));
}

#[tokio::test]
async fn what_a_killed_replica_had_sent_is_read_elsewhere() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let b = replica(&store.url(), &[PATIENT]).await;
        let a = Program::start(&[("MCP_STORE_URL", &store.url()), FIXTURES, PATIENT]);
        let talk = b.session_of(0, VERSION).await;
        reached(|| talk.rpc("ping", json!({})).to(a.address)).await;
        let mut get = Events::open(talk.request("GET").to(a.address)).await;
        let standalone = get.next().await.expect("the priming event");
        let mut events = Events::open(ticks(&talk, 200, 40).to(a.address)).await;
        let mut read = some(&mut events, 10).await;
        eventually(|| is_kept(&store, read[9].id())).await;
        a.signal("KILL");
        let start = Instant::now();
        let mut again = Events::open(resume(&talk, read[4].id())).await;
        let rest = again.rest().await;
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        assert_eq!(rest[..5], read[5..]);
        assert!(rest.iter().all(|event| event.message()["id"].is_null()), "there is no answer");
        read.extend(rest[5..].iter().cloned());
        assert_eq!(counted(&read).len(), read.len() - 1, "the first is the priming event");
        // Again the same.
        let again = Events::open(resume(&talk, read[0].id())).await.rest().await;
        assert_eq!(again, read[1..]);
        // The stream for what belongs to no call goes on here.
        let mut get = Events::open(resume(&talk, standalone.id())).await;
        trigger(&talk).await;
        assert_eq!(get.message().await["method"], "notifications/tools/list_changed");
        get.expect_quiet().await;
    }
}

#[tokio::test]
async fn the_stream_of_a_get_goes_on_where_it_is_resumed() {
    let pair = Pair::start().await;
    let (here, there) = pair.talks().await;
    let mut events = Events::open(here.request("GET")).await;
    let mut last = events.next().await.expect("the priming event").id().to_owned();
    let stream = last.split_once('-').expect("an id").0.to_owned();
    trigger(&here).await;
    last = events.next().await.expect("an event").id().to_owned();
    assert_eq!(last, format!("{stream}-1"));
    drop(events);
    eventually(|| here.open_streams() == 0).await;
    // While nobody listens.
    trigger(&here).await;
    trigger(&here).await;
    eventually(|| is_kept(&pair.store, &format!("{stream}-3"))).await;
    is_heard(&pair.a, &pair.b).await;
    let mut number = 1;
    for talk in [&there, &here, &there] {
        let mut events = Events::open(resume(talk, &last)).await;
        let waiting = if number == 1 { 2 } else { 0 };
        for _ in 0..waiting + 1 {
            let event = match number < 3 {
                true => events.next().await,
                false => {
                    trigger(talk).await;
                    events.next().await
                }
            };
            number += 1;
            last = event.expect("an event").id().to_owned();
            assert_eq!(last, format!("{stream}-{number}"), "the numbers go on");
        }
        events.expect_quiet().await;
        drop(events);
        eventually(|| talk.open_streams() == 0).await;
        eventually(|| is_kept(&pair.store, &last)).await;
        for (from, at) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
            is_heard(from, at).await;
        }
    }
    // All of it can be read again.
    let mut events = Events::open(resume(&here, &format!("{stream}-0"))).await;
    let all = some(&mut events, number).await;
    let ids: Vec<_> = all.iter().map(|event| event.id().to_owned()).collect();
    let expected: Vec<_> = (1..=number).map(|number| format!("{stream}-{number}")).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn event_ids_that_were_not_sent_are_refused_at_every_replica() {
    let pair = Pair::start().await;
    let (here, there) = pair.talks().await;
    let all = Events::open(ticks(&here, 1, 1)).await.rest().await;
    let stream = all[0].id().split_once('-').expect("an id").0.to_owned();
    for talk in [&here, &there] {
        for id in ["nonsense", "1-0", "4294967296-0"] {
            resume(talk, id).send().await.expect_error(400, -32600);
        }
        for number in ["3", "999", "18446744073709551615"] {
            let id = format!("{stream}-{number}");
            resume(talk, &id).send().await.expect_error(400, -32600);
        }
    }
    // The streams of another session are not found by it.
    let other = pair.b.session_of(0, VERSION).await;
    resume(&other, all[0].id()).send().await.expect_error(400, -32600);
    assert_eq!(there.open_streams(), 0);
}

#[tokio::test]
async fn nobody_reads_the_streams_of_another_caller() {
    let tokens = ("MCP_ECHO_AUTH__TOKENS", "alice=secret-a,bob=secret-b");
    let mode = ("MCP_ECHO_AUTH__MODE", "tokens");
    let store = StoreServer::start(Engine::Redis);
    let own = ("MCP_STORE_URL", &*store.url());
    let (a, b) = (
        TestServer::start(&[own, tokens, mode, PATIENT]).await,
        TestServer::start(&[own, tokens, mode, PATIENT]).await,
    );
    let by = |request: Request, who: &str| {
        request.header("Authorization", &format!("Bearer secret-{who}"))
    };
    for server in [&a, &b] {
        reached(|| by(server.initialize(VERSION), "a")).await;
    }
    let answer = by(a.initialize(VERSION), "a").send().await;
    let id = answer.expect_status(200).header("mcp-session-id").expect("an id").to_owned();
    let talk = Talk { server: &a, host: "localhost".into(), id, revision: VERSION.into() };
    let there = at(&talk, &b);
    let all = Events::open(by(ticks(&talk, 1, 1), "a")).await.rest().await;
    by(resume(&there, all[0].id()), "b").send().await.expect_error(404, -32001);
    let again = Events::open(by(resume(&there, all[0].id()), "a")).await.rest().await;
    assert_eq!(again, all[1..]);
}

#[tokio::test]
async fn nothing_is_lost_while_the_store_is_away() {
    let store = StoreServer::start(Engine::Redis);
    let between = Between::start(store.port());
    let a = replica(&between.url(), &[]).await;
    let b = replica(&store.url(), &[PATIENT]).await;
    for mode in [Mode::Hang, Mode::Refuse, Mode::SwallowAnswers] {
        let here = a.session_of(0, VERSION).await;
        let there = at(&here, &b);
        let mut events = Events::open(ticks(&here, 50, 40)).await;
        let mut read = some(&mut events, 3).await;
        let mut following = Events::open(resume(&there, read[0].id())).await;
        let first = following.next().await.expect("an event");
        assert_eq!(first, read[1]);
        between.set(mode);
        sleep(Duration::from_secs(1)).await;
        between.set(Mode::Pass);
        read.extend(events.rest().await);
        let mut there_read = vec![first];
        there_read.extend(following.rest().await);
        assert_eq!(counted(&there_read), all_ticks(1, 50), "{mode:?}");
        let again = Events::open(resume(&there, read[0].id())).await.rest().await;
        assert_eq!(again, there_read, "{mode:?}");
    }
}

#[tokio::test]
async fn what_is_kept_in_the_store_is_bounded_and_goes_with_its_session() {
    let pair = Pair::start().await;
    let (here, there) = pair.talks().await;
    let first = Events::open(ticks(&here, 1, 1)).await.rest().await;
    for _ in 0..20 {
        Events::open(ticks(&here, 1, 1)).await.rest().await;
    }
    resume(&there, first[0].id()).send().await.expect_error(400, -32600);
    let logs = || pair.store.command(&["KEYS", "*:e:*"]).list().len();
    assert_eq!(logs(), 16);

    let mut standalone = Events::open(here.request("GET")).await;
    let primed = standalone.next().await.expect("the priming event");
    drop(standalone);
    eventually(|| here.open_streams() == 0).await;
    let changes: u64 = 300;
    for _ in 0..changes {
        trigger(&here).await;
    }
    let stream = primed.id().split_once('-').expect("an id").0;
    eventually(|| is_kept(&pair.store, &format!("{stream}-{changes}"))).await;
    is_heard(&pair.a, &pair.b).await;
    let mut connection = resume(&there, primed.id()).begin().await;
    connection.head().await.expect_status(200);
    let opening = String::from_utf8(connection.chunk().await.expect("a chunk")).expect("text");
    assert_eq!(opening, ": 44 events are no longer kept\n\n");
    drop(connection);
    let mut standalone = Events::open(resume(&there, primed.id())).await;
    assert_eq!(some(&mut standalone, 256).await[255].id().split_once('-').expect("an id").1, "300");

    there.request("DELETE").send().await.expect_status(204);
    for kind in ["e", "h", "l"] {
        let left = pair.store.command(&["KEYS", &format!("*:{kind}:*")]);
        assert_eq!(left.list().len(), 0, "{left}");
    }
}

#[tokio::test]
async fn an_answer_of_any_size_is_read_again() {
    let pair = Pair::start().await;
    let (here, there) = pair.talks().await;
    let only = |request: Request| request.header("Accept", "text/event-stream");
    let call = only(here.call("big_response", json!({"bytes": 3 << 20})));
    let all = Events::open(call).await.rest().await;
    let again = Events::open(resume(&there, all[0].id())).await.rest().await;
    assert!(again == all[1..], "an answer of 3 MiB");
    // One that is too large for the store is read where it was made.
    let call = only(here.call("big_response", json!({"bytes": 5 << 20})));
    let all = Events::open(call).await.rest().await;
    let again = Events::open(resume(&here, all[0].id())).await.rest().await;
    assert!(again == all[1..], "an answer of 5 MiB");
    assert_eq!(Events::open(resume(&there, all[0].id())).await.rest().await, []);
}

#[tokio::test]
async fn a_replica_that_stops_leaves_its_streams_to_others() {
    let pair = Pair::start().await;
    let (here, there) = pair.talks().await;
    let mut call = Events::open(ticks(&here, 20, 50)).await;
    let primed = call.next().await.expect("the priming event");
    drop(call);
    let mut connection = here.request("GET").begin().await;
    connection.head().await.expect_status(200);
    let first = String::from_utf8(connection.chunk().await.expect("a chunk")).expect("text");
    let id = first.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    pair.a.stop();
    let last = String::from_utf8(connection.chunk().await.expect("a chunk")).expect("text");
    assert!(last.starts_with(": closing\nretry: "), "{last}");
    assert_eq!(connection.chunk().await, None);
    let mut get = Events::open(resume(&there, &id)).await;
    trigger(&there).await;
    assert_eq!(get.message().await["method"], "notifications/tools/list_changed");
    let start = Instant::now();
    assert_eq!(pair.a.stopped().await, Stopped::Clean);
    assert!(start.elapsed() < Duration::from_secs(4), "it waits for nothing but the call");
    let rest = Events::open(resume(&there, primed.id())).await.rest().await;
    assert_eq!(counted(&rest), all_ticks(1, 20));
}

#[tokio::test]
async fn a_call_without_a_stream_costs_nothing_more() {
    let pair = Pair::start().await;
    let (here, _) = pair.talks().await;
    pair.store.command(&["CONFIG", "RESETSTAT"]);
    for _ in 0..20 {
        here.call("echo", json!({"message": "x"})).send().await.expect_status(200);
    }
    assert_eq!(pair.store.commandstats().get("xadd"), None);
    assert_eq!(pair.store.command(&["KEYS", "*:e:*"]).list().len(), 0);
    assert_eq!(pair.store.command(&["KEYS", "*:writers"]).list().len(), 0);
}

#[tokio::test]
async fn streams_are_bounded_at_every_replica() {
    let pair = Pair::with(Engine::Redis, &[("MCP_ECHO_SESSION__MAX_STREAMS", "1")]).await;
    let (here, there) = pair.talks().await;
    let mut events = Events::open(ticks(&here, 2, 1000)).await;
    let primed = events.next().await.expect("the priming event");
    let standalone = Events::open(there.request("GET")).await;
    resume(&there, primed.id()).send().await.expect_error(409, -32000);
    assert_eq!(counted(&events.rest().await).len(), 3, "its reader was not let go");
    drop(standalone);
}
