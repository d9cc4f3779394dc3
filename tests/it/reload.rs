//! Another configuration while serving: what is taken over at once, what waits for a start, and what a bad
//! one changes, which is nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use mcp_echo_stateful::config::{Flags, Held, Key, Layers, POLICY_SECTIONS, Reload};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    events::Events,
    modern::FIXTURES,
    support::{Answer, Connection, TestServer, eventually, instance_host},
};

/// A server with a configuration file that can be changed.
struct Reloading {
    server: TestServer,
    directory: TempDir,
}

impl Reloading {
    async fn start(text: &str, variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.toml");
        fs::write(&path, text).expect("is written");
        Self { server: TestServer::start_from(&path, variables).await, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn ask(&self) -> Answer {
        self.server.operate("POST", "/debug/reload").send().await
    }

    /// What comes of another file.
    async fn write(&self, text: &str) -> Answer {
        fs::write(self.path("config.toml"), text).expect("is written");
        self.ask().await
    }

    /// Another file that must do.
    #[track_caller]
    fn change(&self, text: &str) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.write(text).await;
            assert_eq!(answer.status, 200, "{} at {caller}", answer.text());
            answer.json()
        }
    }
}

fn applied(keys: &[&str]) -> Value {
    json!({"applied": keys, "needs_restart": []})
}

/// Another value for every key, by its path.
const OTHERS: &[(&str, &str)] = &[
    ("debug", "false"),
    ("server.host", r#""127.0.0.2""#),
    ("server.port", "4"),
    ("server.name", r#""x""#),
    ("server.version", r#""x""#),
    ("hosts.base_domains", r#"["one.test"]"#),
    ("hosts.front_door_names", r#"["localhost", "gate"]"#),
    ("hosts.front_door", r#""sticky""#),
    ("replica.name", r#""x""#),
    ("replica.tag", r#""b2""#),
    ("http.max_connections", "10"),
    ("http.header_timeout_seconds", "10"),
    ("http.body_timeout_seconds", "20"),
    ("http.write_timeout_seconds", "10"),
    ("http.max_body_bytes", "2048"),
    ("http.trusted_proxies", r#"["10.0.0.0/8"]"#),
    ("memory.max_bytes", "900000000"),
    ("memory.max_instance_bytes", "300000000"),
    ("log.level", r#""warn""#),
    ("log.format", r#""json""#),
    ("log.file", r#""/x""#),
    ("admin.token", r#""x""#),
    ("admin.token_file", r#""/x""#),
    ("admin.listen", r#""127.0.0.1:1""#),
    ("admin.recent_requests", "1"),
    ("store.url", r#""rediss://127.0.0.1:1""#),
    ("store.url_file", r#""/x""#),
    ("store.ca_file", r#""/x""#),
    ("store.namespace", r#""x""#),
    ("store.timeout_seconds", "1"),
    ("store.wait_aof", "true"),
    ("store.allow_eviction", "true"),
    ("store.unready_when_lost", "true"),
    ("shutdown.drain_seconds", "1"),
    ("protocol.version", r#""2025-03-26""#),
    ("protocol.versions", r#"["2025-06-18"]"#),
    ("protocol.response", r#""sse""#),
    ("protocol.page_size", "1"),
    ("session.store", r#""memory""#),
    ("session.timeout_seconds", "1"),
    ("session.implicit", "false"),
    ("session.capacity", "1"),
    ("session.max_data_bytes", "1"),
    ("session.max_data_keys", "1"),
    ("session.max_streams", "1"),
    ("session.max_calls", "1"),
    ("session.answer_timeout_seconds", "1"),
    ("stream.keep_alive_seconds", "1"),
    ("stream.retry_seconds", "2"),
    ("stream.max_replay_bytes", "1"),
    ("stream.max_subscriptions", "1"),
    ("auth.mode", r#""passthrough""#),
    ("auth.tokens", r#"["a=b"]"#),
    ("auth.tokens_file", r#""/x""#),
    ("auth.authorization_servers", r#"["https://id.test"]"#),
    ("auth.scopes", r#"["x"]"#),
    ("origin.allowed", r#"["*"]"#),
    ("tools.sets", r#"["session"]"#),
    ("tools.max_delay_seconds", "1"),
    ("tools.max_response_bytes", "1"),
    ("tools.max_calls", "1"),
    ("tasks.ttl_seconds", "1"),
    ("tasks.capacity", "1"),
];

/// What the table says of every key that [`OTHERS`] has a value for, which is every key.
fn by_table() -> BTreeMap<&'static str, Reload> {
    let table: BTreeMap<_, _> = Key::all().map(|key| (key.path, key.reload)).collect();
    let others: BTreeSet<_> = OTHERS.iter().map(|(key, _)| *key).collect();
    assert_eq!(table.keys().copied().collect::<BTreeSet<_>>(), others);
    table
}

#[test]
fn each_key_is_taken_as_the_table_says() {
    let layers = |text: &str| {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(&file, text).expect("is written");
        let flags = Flags { file: Some(file.path().to_owned()), ..Flags::default() };
        Layers::merge(&flags, &[]).expect("is merged")
    };
    let meaning = |layers: &Layers| format!("{:?}", layers.check().expect("fits"));
    let table = by_table();
    for (key, value) in OTHERS {
        // What is said of a store needs one.
        let needed = key.starts_with("store.") && !key.starts_with("store.url");
        let beside = if needed { "store.url = 'rediss://127.0.0.1:2'\n" } else { "" };
        let before = layers(beside);
        let old = meaning(&before);
        let (section, _) = key.split_once('.').unwrap_or((key, ""));
        let own = format!("instances.3.{key}");
        let names = [Some(*key), POLICY_SECTIONS.contains(&section).then_some(own.as_str())];
        for name in names.into_iter().flatten() {
            let after = layers(&format!("{beside}{name} = {value}"));
            let new = meaning(&after);
            assert_ne!(old, new, "{name} = {value} changes nothing");
            let (layers, reloaded) = after.taking_over(&before).expect("can be taken over");
            let name = name.to_owned();
            match table[key] {
                Reload::Live | Reload::Pushed => {
                    assert_eq!((reloaded.applied, reloaded.needs_restart), (vec![name], vec![]));
                    assert_eq!(meaning(&layers), new, "{key} is applied");
                }
                Reload::Restart(why) => {
                    let held = vec![Held { key: name, why }];
                    assert_eq!((reloaded.applied, reloaded.needs_restart), (vec![], held));
                    assert_eq!(meaning(&layers), old, "{key} is held");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_server_answers_for_all_keys_at_once() {
    let reloading = Reloading::start("", &[("HOST", "")]).await;
    // The token comes from the environment, so the file does not change it; there is one way to name a store; and what is said
    // of one changes nothing in a process that was started without.
    let left_out = |key: &str| {
        key.starts_with("admin.token")
            || ["store.url_file", "store.unready_when_lost"].contains(&key)
    };
    let others = || OTHERS.iter().filter(|(key, _)| !left_out(key));
    let text: String = others().map(|(key, value)| format!("{key} = {value}\n")).collect();
    let answer = reloading.change(&text).await;
    let told = |list: &Value, key: fn(&Value) -> &Value| {
        let keys = list.as_array().expect("a list").iter();
        keys.map(|told| key(told).as_str().expect("a key").to_owned()).collect::<BTreeSet<_>>()
    };
    let table = by_table();
    let (held, applied): (BTreeSet<_>, BTreeSet<_>) = others()
        .map(|(key, _)| (*key).to_owned())
        .partition(|key| matches!(table[key.as_str()], Reload::Restart(_)));
    assert!(!held.is_empty() && !applied.is_empty());
    assert_eq!(told(&answer["applied"], |key| key), applied);
    assert_eq!(told(&answer["needs_restart"], |held| &held["key"]), held);
}

#[tokio::test]
async fn only_what_changed_is_told() {
    let sets = |sets: &str| format!("[tools]\nsets = [\"session\", {sets}]");
    let reloading = Reloading::start(&sets("\"diagnostics\""), &[]).await;
    let server = &reloading.server;
    let talk = server.session_of(0, "2025-11-25").await;
    let mut stream = Events::open(talk.request("GET")).await;
    let wanted = json!({"toolsListChanged": true, "promptsListChanged": true});
    let listen = server.modern("subscriptions/listen", json!({"notifications": wanted})).on(0);
    let mut listener = Events::open(listen.build()).await;
    listener.message().await;
    let (tools, prompts) =
        ("notifications/tools/list_changed", "notifications/prompts/list_changed");
    let told = async |events: &mut Events, methods: &[&str]| {
        for method in methods {
            assert_eq!(events.message().await["method"], *method);
        }
        events.expect_quiet().await;
    };
    for (change, methods) in [
        (sets("\"streaming\""), &[tools][..]),
        (sets("\"conformance\""), &[tools, prompts]),
        (sets("\"conformance\"") + "\n[protocol]\npage_size = 3", &[tools, prompts]),
        (sets("\"conformance\"") + "\n[protocol]\npage_size = 3\nresponse = \"json\"", &[]),
    ] {
        reloading.change(&change).await;
        told(&mut stream, methods).await;
        told(&mut listener, methods).await;
    }
}

#[tokio::test]
async fn tools_come_and_go_and_sessions_stay_and_are_told() {
    let reloading = Reloading::start("", &[]).await;
    let talk = reloading.server.session_of(3, "2025-11-25").await;
    talk.ask("set_session_data", json!({"key": "k", "value": 1})).await;
    let mut stream = talk.request("GET").header("Accept", "text/event-stream").begin().await;
    stream.head().await.expect_status(200);

    let change =
        reloading.change("[instances.3.tools]\nsets = [\"session\", \"conformance\"]").await;
    assert_eq!(change, applied(&["instances.3.tools.sets"]));
    let mut told = String::new();
    while !told.contains("notifications/tools/list_changed") {
        told += &String::from_utf8(stream.chunk().await.expect("an event")).expect("text");
    }
    let names = async |talk: &crate::support::Talk<'_>| {
        let list = talk.rpc("tools/list", json!({})).send().await.json();
        let tools = list["result"]["tools"].as_array().expect("tools").clone();
        tools
            .iter()
            .map(|tool| tool["name"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    let now = names(&talk).await;
    assert!(now.contains(&"test_simple_text".into()) && !now.contains(&"printHeader".into()));
    let data = talk.ask("get_session_data", json!({"key": "k"})).await;
    assert_eq!(data["value"], 1, "the session is what it was");

    let other = reloading.server.session(4).await;
    assert!(names(&other).await.contains(&"printHeader".into()), "others are not touched");
    assert_eq!(reloading.change("").await, applied(&["instances.3.tools.sets"]));
    assert!(names(&talk).await.contains(&"printHeader".into()));
    assert_eq!(reloading.change("").await, applied(&[]));
}

#[tokio::test]
async fn limits_change_and_live_sessions_stay() {
    let reloading = Reloading::start("[session]\ncapacity = 3", &[]).await;
    let server = &reloading.server;
    let (one, _two) = (server.session(0).await, server.session(0).await);
    assert_eq!(
        reloading.change("[session]\ncapacity = 1\n[http]\nmax_body_bytes = 2048").await,
        applied(&["http.max_body_bytes", "session.capacity"])
    );
    one.info().await;
    assert_eq!(server.instances[0].state.sessions.counts().live, 2);
    server.initialize("2025-06-18").send().await.expect_status(503);
    server.post(vec![b' '; 3000]).send().await.expect_status(413);

    let numbers = server.operate("GET", "/metrics").send().await.text();
    for line in [
        "mcp_echo_sessions_capacity{mcp_instance=\"0\"} 1",
        "mcp_echo_sessions_created_total{mcp_instance=\"0\"} 2",
        "mcp_echo_sessions_refused_total{mcp_instance=\"0\"} 1",
        // Counted before and after.
        "mcp_echo_requests_total{mcp_instance=\"0\",method=\"initialize\",era=\"sessioned\",status=\"2xx\"} 2",
        "mcp_echo_requests_total{mcp_instance=\"0\",method=\"initialize\",era=\"sessioned\",status=\"5xx\"} 1",
    ] {
        assert!(numbers.lines().any(|known| known == line), "{line} is not in {numbers}");
    }

    let change = reloading.change("[session]\ncapacity = 3\nmax_data_keys = 1").await;
    assert_eq!(
        change,
        applied(&["http.max_body_bytes", "session.capacity", "session.max_data_keys"])
    );
    server.initialize("2025-06-18").send().await.expect_status(200);
    one.ask("set_session_data", json!({"key": "a", "value": 1})).await;
    let second = one.call("set_session_data", json!({"key": "b", "value": 1})).send().await.json();
    assert_eq!(second["result"]["isError"], true, "{second}");
}

#[tokio::test]
async fn tasks_and_what_is_kept_to_be_resumed_have_the_new_limits() {
    let reloading = Reloading::start("", &[FIXTURES]).await;
    let server = &reloading.server;
    let slow = || server.modern_call("slow_compute", json!({"seconds": 20})).with_tasks();
    let resumed = async || {
        let talk = server.session_of(0, "2025-11-25").await;
        let mut ticks = json!({"name": "stream_ticks", "arguments": {"interval_ms": 1}});
        ticks["_meta"] = json!({"progressToken": 1});
        talk.rpc("tools/call", ticks).send().await.expect_status(200);
        let again = talk.request("GET").header("Last-Event-ID", "1-0").send().await;
        again.text().matches("data: {").count()
    };
    assert_eq!(slow().result().await["ttlMs"], 300_000);
    assert_eq!(resumed().await, 6);
    let text = "[tasks]\nttl_seconds = 100\ncapacity = 2\n[stream]\nmax_replay_bytes = 0";
    let change = reloading.change(text).await;
    assert_eq!(
        change,
        applied(&["stream.max_replay_bytes", "tasks.capacity", "tasks.ttl_seconds"])
    );
    assert_eq!(slow().result().await["ttlMs"], 100_000);
    slow().send().await.expect_status(503);
    assert!(resumed().await < 2);
}

#[tokio::test]
async fn the_front_door_and_its_names_change() {
    let reloading = Reloading::start("", &[]).await;
    let server = &reloading.server;
    // A connection that was open before is served by the new table as well.
    let mut kept = Connection::open(server.address).await;
    let ping = |host: &str| server.initialize("2025-06-18").host(host).bytes();
    kept.write(&ping("localhost")).await;
    assert_eq!(kept.answer().await.header("mcp-echo-instance"), Some("0"));
    let change = reloading
        .change("[hosts]\nfront_door = \"fixed:7\"\nfront_door_names = [\"localhost\", \"gate\"]")
        .await;
    assert_eq!(change, applied(&["hosts.front_door", "hosts.front_door_names"]));
    for host in ["localhost", "gate"] {
        kept.write(&ping(host)).await;
        assert_eq!(kept.answer().await.header("mcp-echo-instance"), Some("7"), "{host}");
    }
}

#[tokio::test]
async fn tokens_change_and_their_sessions_stay() {
    let file = |token: &str| {
        format!("[instances.4.auth]\nmode = \"tokens\"\ntokens = [\"alice={token}\"]")
    };
    let reloading = Reloading::start(&file("first"), &[]).await;
    let server = &reloading.server;
    let host = instance_host(4);
    let with = |token: &str, method: &str| {
        let request = server.initialize("2025-06-18").host(&host);
        let request = match method {
            "initialize" => request,
            _ => server.rpc(method, json!({})).host(&host),
        };
        request.header("Authorization", &format!("Bearer {token}"))
    };
    let begun = with("first", "initialize").send().await;
    let id = begun.expect_status(200).header("mcp-session-id").expect("an id").to_owned();
    let change = reloading.change(&file("second")).await;
    assert_eq!(change, applied(&["instances.4.auth.tokens"]));
    assert!(!change.to_string().contains("second"));
    with("first", "ping").header("Mcp-Session-Id", &id).send().await.expect_status(401);
    with("second", "ping").header("Mcp-Session-Id", &id).send().await.expect_status(200);
}

#[tokio::test]
async fn the_admin_token_changes_but_is_not_taken_away() {
    let reloading =
        Reloading::start("[admin]\ntoken = \"admin-secret\"", &[("ADMIN_TOKEN", "")]).await;
    let held = reloading.change("").await;
    assert_eq!(held["applied"], json!([]));
    assert_eq!(held["needs_restart"][0]["key"], "admin.token");

    fs::write(reloading.path("token"), "from-a-file\n").expect("is written");
    let path = reloading.path("token");
    let text = format!("[admin]\ntoken_file = {:?}", path.display().to_string());
    assert_eq!(reloading.change(&text).await, applied(&["admin.token", "admin.token_file"]));
    reloading.ask().await.expect_status(401);
    let with = |token: &str| {
        let request = reloading.server.request("POST", "/debug/reload");
        request.header("Authorization", &format!("Bearer {token}"))
    };
    // What is in the file is read again as well.
    fs::write(&path, "another").expect("is written");
    with("from-a-file").send().await.expect_status(200);
    with("from-a-file").send().await.expect_status(401);
    with("another").send().await.expect_status(200);
    fs::write(&path, "two words").expect("is written");
    let refused = with("another").send().await;
    assert!(refused.expect_status(422).text().contains("admin.token_file"), "{refused:?}");
    with("another").send().await.expect_status(422);
}

#[tokio::test]
async fn what_only_a_start_can_change_is_refused_by_name_and_the_rest_applied() {
    let reloading = Reloading::start("", &[]).await;
    let talk = reloading.server.session(2).await;
    let change = reloading
        .change(
            "debug = false\n[server]\nport = 4\nname = \"x\"\n[replica]\ntag = \"b2\"\n[log]\nformat = \"json\"\nfile = \"/x\"
             [protocol]\nversions = [\"2026-07-28\"]\n[session]\ntimeout_seconds = 1\nmax_streams = 2
             [instances.2.auth]\nmode = \"passthrough\"\n[admin]\nlisten = \"127.0.0.1:1\"",
        )
        .await;
    assert_eq!(change["applied"], json!(["session.max_streams"]));
    let held = change["needs_restart"].as_array().expect("a list");
    let keys: Vec<_> = held.iter().map(|held| held["key"].as_str().expect("a key")).collect();
    assert_eq!(
        keys,
        [
            "admin.listen",
            "debug",
            "log.file",
            "log.format",
            "replica.tag",
            "server.name",
            "server.port",
            "instances.2.auth.mode",
            "protocol.versions",
            "session.timeout_seconds",
        ]
    );
    assert!(held.iter().all(|held| held["why"].as_str().is_some_and(|why| why.len() > 5)));
    let info = talk.info().await;
    assert_eq!(info["idle_timeout_seconds"], 300.0);
    // The same again is no news for what is in force, and still refused.
    let again = reloading.ask().await.json();
    assert_eq!(
        (&again["applied"], &again["needs_restart"]),
        (&json!([]), &change["needs_restart"])
    );
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing() {
    let good = "[session]\ncapacity = 2";
    let reloading = Reloading::start(good, &[]).await;
    let server = &reloading.server;
    for (bad, named) in [
        ("[session]\ncapacity = 0\nmax_streams = 1", "session.capacity"),
        ("[session]\ncapacity = 9\n[sesion]", "sesion"),
        ("[session\n", "config.toml"),
        ("[session]\ncapacity = 9\n[instances.1.auth]\ntokens = [\"s3cret\"]", "auth.tokens"),
        ("[session]\ncapacity = 9\n[auth]\ntokens_file = \"/nowhere\"\nmode = \"tokens\"", ""),
    ] {
        let answer = reloading.write(bad).await;
        if named.is_empty() {
            // The mode waits for a start, so the file is not needed yet.
            assert_eq!(answer.expect_status(200).json()["needs_restart"][0]["key"], "auth.mode");
            reloading.write(good).await.expect_status(200);
            continue;
        }
        let text = answer.expect_status(422).text();
        assert!(text.contains(named) && !text.contains("s3cret"), "{text}");
        let counts = &server.operate("GET", "/debug/sessions").send().await.json()["instances"][0];
        assert_eq!(counts["capacity"], 2, "after {bad}");
    }
    fs::remove_file(reloading.path("config.toml")).expect("is removed");
    assert!(reloading.ask().await.expect_status(422).text().contains("cannot be read"));
    server.session(0).await.info().await;
}

#[tokio::test]
async fn a_running_call_ends_as_it_began() {
    let reloading = Reloading::start("", &[]).await;
    let talk = reloading.server.session(1).await;
    let mut slow = talk.call("echo", json!({"message": "m", "delay": 0.5})).begin().await;
    sleep(Duration::from_millis(100)).await;
    reloading.change("[tools]\nsets = [\"diagnostics\"]").await;
    assert_eq!(slow.answer().await.json()["result"]["content"][0]["text"], "m");
    talk.call("echo", json!({"message": "m"})).send().await.expect_error(200, -32602);
}

#[tokio::test]
async fn connections_may_become_fewer_and_more() {
    let reloading = Reloading::start("[http]\nmax_connections = 6", &[]).await;
    let server = &reloading.server;
    // Each holds its place until it is dropped.
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut connection = Connection::open(server.address).await;
        connection.write(&server.request("GET", "/livez").bytes()).await;
        connection.answer().await.expect_status(200);
        open.push(connection);
    }
    reloading.change("[http]\nmax_connections = 2").await;
    let waits = async || server.request("GET", "/nowhere").send().await.status == 503;
    assert!(waits().await, "five are open where two may be");
    open.truncate(1);
    // Another still has room.
    eventually_async(async || !waits().await).await;
    assert_eq!(open.len(), 1);
}

async fn eventually_async(what: impl AsyncFn() -> bool) {
    for _ in 0..300 {
        if what().await {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true");
}

#[tokio::test]
async fn only_the_operator_of_all_may_ask() {
    let reloading = Reloading::start("", &[]).await;
    let server = &reloading.server;
    server.request("POST", "/debug/reload").send().await.expect_status(401);
    server.operate("GET", "/debug/reload").send().await.expect_status(405);
    server.operate("POST", "/debug/reload").host(&instance_host(3)).send().await.expect_status(404);
}

#[tokio::test]
async fn who_asks_while_it_stops_is_told() {
    let reloading = Reloading::start("[shutdown]\ndrain_seconds = 3", &[]).await;
    let talk = reloading.server.session(0).await;
    let mut slow = talk.call("echo", json!({"message": "m", "delay": 1})).begin().await;
    eventually(|| reloading.server.instances[0].state.sessions.counts().live == 1).await;
    sleep(Duration::from_millis(100)).await;
    reloading.server.stop();
    eventually(|| reloading.server.instances[0].process.lifecycle.is_draining()).await;
    reloading.ask().await.expect_status(503);
    slow.answer().await.expect_status(200);
}
