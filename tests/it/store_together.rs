//! Several replicas that do something to one session at once: what they make of it together, and what stands in the store
//! afterwards.
//!
//! Owns bursts of calls to three replicas, in which no call is sent twice, and a look at every key and value of the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    events::Events,
    modern::{FIXTURES, PASSTHROUGH},
    store_ledger::replicas,
    store_news::{at, pair},
    stores::{Between, Engine, Loss, Mode, Reply, StoreServer},
    support::{Answer, PATIENCE, Request, Talk, TestServer, eventually, instance_host},
};

/// So that a store on a machine that has other things to do is not called lost.
const PATIENT: (&str, &str) = ("MCP_ECHO_STORE__TIMEOUT_SECONDS", "5");

/// The structured content of a call that has succeeded.
#[track_caller]
fn content(answer: &Answer) -> Value {
    let result = &answer.expect_status(200).json()["result"];
    assert!(result["isError"].is_null(), "{answer:?}");
    result["structuredContent"].clone()
}

/// What a session holds.
type Data = BTreeMap<String, Value>;

/// Keys and values, as the quota counts them.
fn bytes(data: &Data) -> usize {
    data.iter().map(|(key, value)| key.len() + value.to_string().len()).sum()
}

/// Fails unless every replica says that the session holds this and nothing else, to its client and to operators.
async fn expect_data(servers: &[TestServer], talk: &Talk<'_>, data: &Data) {
    let keys: Vec<_> = data.keys().collect();
    for server in servers {
        let here = at(server, talk);
        let info = here.info().await;
        assert_eq!((&info["data_keys"], &info["data_bytes"]), (&json!(keys), &json!(bytes(data))));
        let told = here.ask("get_session_data", json!({})).await;
        assert_eq!(told["data"], json!(data));
        let list = server.operate("GET", "/debug/sessions").send().await.json();
        let mut held = list["sessions"].as_array().expect("sessions").iter().filter_map(|it| {
            let held = (it["data_keys"].as_u64()?, it["data_bytes"].as_u64()?);
            (held.0 > 0).then_some(held)
        });
        assert_eq!(held.next(), Some((keys.len() as u64, bytes(data) as u64)), "{list}");
        assert_eq!(held.next(), None, "only one session holds anything: {list}");
    }
}

/// Stores a hundred keys at once, of which fifty fit.
async fn fill(engine: Engine, limit: (&str, &str), value: impl Fn(usize) -> String) {
    let store = StoreServer::start(engine);
    let servers = replicas(3, &store.url(), &[PATIENT, limit]).await;
    let talk = servers[0].session(0).await;
    let entry = |number: usize| (format!("k{number:02}"), json!(value(number)));
    let answers = join_all((0..100).map(|number| {
        let (key, value) = entry(number);
        let here = at(&servers[number % 3], &talk);
        here.call("set_session_data", json!({ "key": key, "value": value })).send()
    }));
    let (mut stored, mut counts) = (Data::new(), Vec::new());
    for (number, answer) in answers.await.iter().enumerate() {
        let result = &answer.expect_status(200).json()["result"];
        if result["isError"] == true {
            let text = result["content"][0]["text"].as_str().expect("a text");
            let key = if limit.0.ends_with("KEYS") { "max_data_keys" } else { "max_data_bytes" };
            assert!(text.contains(&format!("session.{key}")), "{text}");
        } else {
            let content = content(answer);
            assert_eq!(content["replaced"], false, "{content}");
            counts.push(content["data_keys"].as_array().expect("keys").len());
            stored.extend([entry(number)]);
        }
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=50).collect::<Vec<_>>(), "each was told of a moment of its own");
    expect_data(&servers, &talk, &stored).await;
    let held = store.command(&["HGET", "mcpe:{mcpe:0}:counts", "bytes"]).integer();
    assert_eq!(usize::try_from(held), Ok(bytes(&stored)));
}

#[tokio::test]
async fn a_session_holds_so_many_keys_and_no_more_whoever_writes() {
    for engine in Engine::ALL {
        // No two of one size, so that the sum tells which there are.
        fill(engine, ("MCP_ECHO_SESSION__MAX_DATA_KEYS", "50"), |number| "x".repeat(number)).await;
    }
}

#[tokio::test]
async fn a_session_holds_so_many_bytes_and_no_more_whoever_writes() {
    for engine in Engine::ALL {
        // A hundred bytes each, with the key and the quotes.
        let value = |number: usize| format!("{number:095}");
        fill(engine, ("MCP_ECHO_SESSION__MAX_DATA_BYTES", "5099"), value).await;
    }
}

#[tokio::test]
async fn the_last_writer_of_a_key_wins_and_no_other_key_is_touched() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let servers = replicas(3, &store.url(), &[PATIENT]).await;
        let talk = servers[0].session(0).await;
        let set = |replica: usize, key: &str, value: &Value| {
            let here = at(&servers[replica], &talk);
            here.call("set_session_data", json!({ "key": key, "value": value })).send()
        };
        let mut data = Data::from([("before".to_owned(), json!({ "kept": [1, 2, 3] }))]);
        content(&set(2, "before", &data["before"]).await);
        for round in 0..20usize {
            // Of other lengths each time.
            let [left, right, first, second] =
                [1, 2, 3, 4].map(|times| json!("x".repeat(round * times % 13)));
            let (at_a, at_b) = tokio::join!(set(0, "left", &left), set(1, "right", &right));
            assert_eq!(
                [content(&at_a), content(&at_b)].map(|it| it["replaced"] == (round > 0)),
                [true; 2]
            );
            // The same key, one after the other.
            let (a, b) = (round % 3, (round + 1) % 3);
            content(&set(a, "same", &first).await);
            assert_eq!(content(&set(b, "same", &second).await)["replaced"], true);
            for (key, value) in [("left", left), ("right", right), ("same", second)] {
                data.insert(key.to_owned(), value);
            }
            // The same key at once: one of the two, and counted as that.
            let (one, other) = (json!({ "by": a }), json!({ "by": b, "and": "longer" }));
            let (at_a, at_b) = tokio::join!(set(a, "both", &one), set(b, "both", &other));
            let replaced = [content(&at_a), content(&at_b)].map(|it| it["replaced"] == true);
            assert_eq!(replaced.contains(&false), round == 0, "the first of all found nothing");
            let both =
                at(&servers[2], &talk).ask("get_session_data", json!({ "key": "both" })).await;
            let both = both["value"].clone();
            assert!(both == one || both == other, "{both}");
            data.insert("both".to_owned(), both);
            expect_data(&servers, &talk, &data).await;
        }
    }
}

/// Three replicas on one store, of which the last reaches it through a proxy; they know the scripts and the session.
struct Three {
    store: StoreServer,
    between: Between,
    servers: Vec<TestServer>,
}

/// Whose session it is that is looked at in the store.
const INSTANCE: u8 = 3;

impl Three {
    async fn start(engine: Engine) -> Self {
        let store = StoreServer::start(engine);
        let between = Between::start(store.port());
        let mut servers = replicas(2, &store.url(), &[PATIENT]).await;
        servers.extend(replicas(1, &between.url(), &[PATIENT]).await);
        Self { store, between, servers }
    }

    /// A session that every replica has seen and nobody has called.
    async fn session(&self) -> Talk<'_> {
        let (other, talk) =
            (self.servers[0].session(INSTANCE).await, self.servers[0].session(INSTANCE).await);
        for server in &self.servers {
            at(server, &other)
                .ask("echo", json!({ "message": "so that the script is there" }))
                .await;
            assert_eq!(at(server, &talk).info().await["request_count"], 0);
        }
        other.request("DELETE").send().await.expect_status(204);
        talk
    }

    /// A hundred echoes at once, the third of them through the proxy, each sent once and answered with a count.
    async fn burst(&self, talk: &Talk<'_>) -> Vec<u64> {
        let echo = |number: usize| {
            let here = at(&self.servers[number % 3], talk);
            here.call("echo", json!({ "message": format!("m{number}") })).send()
        };
        let answers = join_all((0..100).map(echo)).await;
        let count = |answer: &Answer| content(answer)["request_count"].as_u64().expect("a count");
        let mut counts: Vec<_> = answers.iter().map(count).collect();
        counts.sort_unstable();
        counts
    }

    /// How many calls the store has counted in the only session of the instance.
    fn counted(&self) -> i64 {
        let prefix = format!("mcpe:{{mcpe:{INSTANCE}}}:");
        let live = self.store.command(&["ZRANGE", &format!("{prefix}live"), "0", "-1"]);
        let [only] = live.list() else { panic!("one session: {live}") };
        match self.store.command(&["HGET", &format!("{prefix}s:{only}"), "count"]) {
            Reply::Nil => 0,
            count => count.integer(),
        }
    }

    async fn repeats(&self) -> u64 {
        let page = self.servers[2].operate("GET", "/metrics").send().await.text();
        let found =
            page.lines().find_map(|line| line.strip_prefix("mcp_echo_store_repeats_total "));
        found.expect("a count").parse().expect("a number")
    }
}

#[tokio::test]
async fn of_a_hundred_at_once_none_counts_twice_though_an_answer_is_lost() {
    let three = Three::start(Engine::Redis).await;
    let losses = [
        (1, Loss::Closed),
        (7, Loss::Closed),
        (20, Loss::Closed),
        (33, Loss::Closed),
        (3, Loss::Silent),
    ];
    for (nth, loss) in losses {
        let talk = three.session().await;
        let before = three.repeats().await;
        three.between.lose_answer(nth, loss);
        let counts = three.burst(&talk).await;
        assert!(three.between.has_lost(), "an answer was lost");
        assert!(three.repeats().await > before, "and asked for again");
        assert_eq!(counts, (1..=100).collect::<Vec<_>>(), "{nth}, {loss:?}");
        assert_eq!(three.counted(), 100);
        talk.request("DELETE").send().await.expect_status(204);
    }
}

/// The store has done all of them, and one replica hears of none.
#[tokio::test]
async fn of_a_hundred_at_once_none_counts_twice_though_a_third_of_the_answers_are_lost() {
    for engine in Engine::ALL {
        let three = Three::start(engine).await;
        let talk = three.session().await;
        let before = three.repeats().await;
        three.between.set(Mode::SwallowAnswers);
        let (counts, ()) = tokio::join!(three.burst(&talk), async {
            eventually(|| three.counted() == 100).await;
            three.between.set(Mode::Refuse);
            three.between.set(Mode::Pass);
        });
        assert_eq!(counts, (1..=100).collect::<Vec<_>>(), "{engine:?}");
        assert!(three.repeats().await >= before + 33);
        for server in &three.servers {
            assert_eq!(at(server, &talk).info().await["request_count"], 100);
        }
    }
}

const TOKEN: &str = "a-token-that-nobody-may-see";

fn by(request: Request) -> Request {
    request.header("Authorization", &format!("Bearer {TOKEN}"))
}

/// How long a session lives that nobody uses.
const TIMEOUT: (&str, &str) = ("MCP_SESSION_TIMEOUT", "600");

/// A client with a token that has used everything of which something is kept, and what it has open.
struct Busy<'a> {
    talk: Talk<'a>,
    handle: String,
    ended: String,
    tasks: Vec<String>,
    streams: [Events; 2],
    _listening: Events,
}

impl<'a> Busy<'a> {
    async fn begin(server: &'a TestServer) -> Talk<'a> {
        let params = json!({
            "protocolVersion": "2025-11-25", "capabilities": { "sampling": {} },
            "clientInfo": { "name": "busy", "version": "1" },
        });
        let host = instance_host(0);
        let answer = by(server.rpc("initialize", params).host(&host)).send().await;
        answer.expect_status(200);
        let id = answer.header("mcp-session-id").expect("a session id").to_owned();
        Talk { server, host, id, revision: "2025-11-25".to_owned() }
    }

    /// At two replicas.
    async fn use_all([a, b]: [&'a TestServer; 2]) -> Self {
        let talk = Self::begin(a).await;
        let there = at(b, &talk);
        let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        by(talk.post(ready.to_string())).send().await.expect_status(202);
        let uri = format!("session://{}/data/k", talk.id);
        for (method, params) in [
            ("resources/subscribe", json!({ "uri": uri })),
            ("resources/subscribe", json!({ "uri": "test://watched-resource" })),
            ("logging/setLevel", json!({ "level": "debug" })),
        ] {
            expect_empty(&by(talk.rpc(method, params)).send().await);
        }
        let listen = talk.request("GET").header("Accept", "text/event-stream");
        let mut heard = Events::open(by(listen)).await;
        content(
            &by(there.call("set_session_data", json!({ "key": "k", "value": 1 }))).send().await,
        );
        assert_eq!(heard.message().await["params"]["uri"], uri);
        let ticks = json!({ "count": 3, "interval_ms": 10 });
        let meta = json!({ "progressToken": "t" });
        let ticks = json!({ "name": "stream_ticks", "arguments": ticks, "_meta": meta });
        by(there.rpc("tools/call", ticks)).send().await.expect_status(200);
        let question = by(talk.call("test_sampling", json!({ "prompt": "Why?" })));
        let mut asked = Events::open(question).await;
        assert_eq!(asked.message().await["method"], "sampling/createMessage");
        let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 17 } });
        by(there.post(cancel.to_string())).send().await.expect_status(202);
        let ended = Self::begin(b).await;
        by(ended.request("DELETE")).send().await.expect_status(204);
        let (handle, listening) = Self::stateless(a, b).await;
        let tasks = Self::tasks(a, b).await;
        let streams = [heard, asked];
        Self { talk, handle, ended: ended.id, tasks, streams, _listening: listening }
    }

    /// A handle, and who waits for what is stored with it.
    async fn stateless(a: &TestServer, b: &TestServer) -> (String, Events) {
        let created = a.modern_call("create_session", json!({})).by(TOKEN).structured().await;
        let handle = created["session"].as_str().expect("a handle").to_owned();
        let wanted = json!({ "resourceSubscriptions": [format!("session://{handle}/data/k")] });
        let wanted = json!({ "notifications": wanted });
        let mut listening =
            Events::open(a.modern("subscriptions/listen", wanted).by(TOKEN).build()).await;
        listening.message().await;
        let set = json!({ "key": "k", "value": "v", "session": handle });
        b.modern_call("set_session_data", set).by(TOKEN).structured().await;
        assert_eq!(listening.message().await["method"], "notifications/resources/updated");
        (handle, listening)
    }

    /// One that is done, one that is worked on, one that asks, one that was cancelled.
    async fn tasks(a: &TestServer, b: &TestServer) -> Vec<String> {
        let mut ids = Vec::new();
        for (tool, arguments) in [
            ("slow_compute", json!({ "seconds": 0 })),
            ("slow_compute", json!({ "seconds": 60 })),
            ("multi_input", json!({})),
            ("slow_compute", json!({ "seconds": 60 })),
        ] {
            let task = a.modern_call(tool, arguments).with_tasks().by(TOKEN).result().await;
            ids.push(task["taskId"].as_str().unwrap_or_else(|| panic!("{task:?}")).to_owned());
        }
        let at_b = |method: &str, id: &str| {
            b.modern(&format!("tasks/{method}"), json!({ "taskId": id })).with_tasks().by(TOKEN)
        };
        at_b("cancel", &ids[3]).result().await;
        for (id, status) in ids.iter().zip(["completed", "working", "input_required", "cancelled"])
        {
            let start = Instant::now();
            while at_b("get", id).result().await["status"] != status {
                assert!(start.elapsed() < PATIENCE, "{id} is never {status}");
                sleep(Duration::from_millis(20)).await;
            }
        }
        ids
    }
}

#[track_caller]
fn expect_empty(answer: &Answer) {
    assert_eq!(answer.expect_status(200).json()["result"], json!({}), "{answer:?}");
}

/// The kinds of keys in docs/store.md, *What is in it*: those that are of an instance as a whole, and those that go by
/// themselves, each by what its name begins with.
fn kinds() -> (BTreeSet<String>, BTreeSet<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/store.md");
    let text = fs::read_to_string(path).expect("is text");
    let (_, table) = text.split_once("## What is in it").expect("a section");
    let first = table.lines().filter(|line| line.starts_with("| `"));
    let cells = first.map(|line| line.split('|').nth(1).expect("a cell"));
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let (some, whole): (Vec<_>, Vec<_>) = names.partition(|name| name.contains(':'));
    let beginning = |name: &&str| name.split(':').next().expect("a name").to_owned();
    let whole = whole.iter().filter(|&&name| name != "bell").map(|&name| name.to_owned());
    (whole.collect(), some.iter().map(beginning).collect())
}

/// Every key of instance 0 by its kind.
fn keys(store: &StoreServer) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for key in store.command(&["KEYS", "*"]).list() {
        let key = key.text();
        if let Some(name) = key.strip_prefix("mcpe:{mcpe:0}:") {
            let kind = name.split(':').next().expect("a name").to_owned();
            keys.entry(kind).or_default().push(key.to_owned());
        } else {
            let other = key.strip_prefix("mcpe:{mcpe").expect("of this namespace");
            let is_whole = other == "}:seal" || other.matches(':').count() == 2;
            assert!(is_whole, "nobody has used this instance: {key}");
        }
    }
    keys
}

/// All that stands under a key.
fn value(store: &StoreServer, key: &str) -> String {
    let kind = store.command(&["TYPE", key]);
    let command: &[&str] = match kind.text() {
        "string" => &["GET", key],
        "hash" => &["HGETALL", key],
        "list" => &["LRANGE", key, "0", "-1"],
        "set" => &["SMEMBERS", key],
        "zset" => &["ZRANGE", key, "0", "-1", "WITHSCORES"],
        "stream" => &["XRANGE", key, "-", "+"],
        "none" => return String::new(),
        other => panic!("{key} is a {other}"),
    };
    let value = store.command(command);
    assert!(!value.is_error(), "{value}");
    value.to_string()
}

/// Two replicas that take any token, and have the tools that ask and those that are tasks.
async fn two_with_tokens(store: &StoreServer) -> [TestServer; 2] {
    let url = store.url();
    let variables = [("MCP_STORE_URL", &*url), PATIENT, TIMEOUT, FIXTURES, PASSTHROUGH];
    pair(&variables).await
}

/// What nobody looks after any more goes by itself, and what does not is of the instance.
#[tokio::test]
async fn every_key_of_a_session_goes_by_itself_at_last() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let [a, b] = two_with_tokens(&store).await;
        let busy = Busy::use_all([&a, &b]).await;
        content(&by(busy.talk.call("echo", json!({ "message": "x" }))).send().await);
        let (whole, some) = kinds();
        let found = keys(&store);
        let seen = |kind: &String| found.contains_key(kind);
        assert!(some.len() >= 9 && some.iter().all(seen), "{some:?} in {:?}", found.keys());
        assert!(whole.len() >= 9 && whole.iter().all(seen), "{whole:?} in {:?}", found.keys());
        for (kind, keys) in found.iter().filter(|(kind, _)| !whole.contains(*kind)) {
            assert!(some.contains(kind), "docs/store.md does not know {keys:?}");
            for key in keys {
                let left = store.command(&["PTTL", key]).integer();
                // It may have gone since.
                assert!(left > 0 || left == -2, "{key} stays for ever: {left}");
                let of_session = ["s", "d", "u", "l", "h", "e"].contains(&&**kind);
                let fits = !of_session || (600_000..=4_200_000).contains(&left);
                assert!(fits, "{key} goes before its session, or long after it: {left}");
            }
        }
        by(at(&b, &busy.talk).request("DELETE")).send().await.expect_status(204);
        let end = json!({ "session": busy.handle });
        b.modern_call("end_session", end).by(TOKEN).structured().await;
        for mut stream in busy.streams {
            stream.rest().await;
        }
        let of_sessions = ["s", "d", "u", "l", "h", "e", "a"];
        eventually(|| !keys(&store).keys().any(|kind| of_sessions.contains(&&**kind))).await;
    }
}

/// Who reads the store can neither use a session nor pretend to be its owner; but events stand there as they were sent.
#[tokio::test]
async fn who_reads_the_store_learns_no_id_and_no_token() {
    let store = StoreServer::start(Engine::Redis);
    let [a, b] = two_with_tokens(&store).await;
    let busy = Busy::use_all([&a, &b]).await;
    let plain = |text: &str| text.replace('-', "").to_lowercase();
    let ids: Vec<_> =
        [&busy.talk.id, &busy.handle, &busy.ended].into_iter().chain(&busy.tasks).collect();
    let (mut looked_at, mut events) = (0, String::new());
    for key in store.command(&["KEYS", "*"]).list() {
        let key = key.text();
        let dump = plain(&format!("{key} {}", value(&store, key)));
        looked_at += dump.len();
        assert!(!dump.contains(&plain(TOKEN)), "{key}: {dump}");
        if key.contains("}:e:") {
            events += &dump;
            continue;
        }
        for id in &ids {
            assert!(!dump.contains(&plain(id)), "{key} names {id}: {dump}");
        }
    }
    // So it would have been found elsewhere too.
    assert!(events.contains(&plain(&busy.talk.id)), "{events}");
    assert!(looked_at > 2_000, "{looked_at} bytes");
}
