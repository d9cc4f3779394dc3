//! The connection to a shared store: how it is found, what is looked at, and how it fares in trouble.
//!
//! Owns what an operator meets: addresses, certificates, passwords, what `config check` says. Trap: a call that was answered
//! by 503 may have been counted where its answer was lost; in these tests it never may, since what comes late does nothing.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    process::Output,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::time::sleep;

use crate::{
    process::{Program, command},
    store_acl,
    stores::{Between, Cluster, Engine, Mode, Sentinel, StoreServer},
    support::{Talk, TestServer, eventually, instance_host},
};

/// How soon all is well again after a store is, on a machine that has other things to do.
const SOON: Duration = Duration::from_secs(5);

/// What a hasty server gives the store for an answer.
const PATIENCE: Duration = Duration::from_millis(250);

/// One that is patient, as a machine with much to do needs it.
async fn server(url: &str) -> TestServer {
    let variables = [("MCP_STORE_URL", url), ("MCP_ECHO_STORE__TIMEOUT_SECONDS", "1")];
    TestServer::start(&variables).await
}

async fn hasty(url: &str) -> TestServer {
    TestServer::start(&[("MCP_STORE_URL", url)]).await
}

/// A session, begun as soon as the store can be asked.
async fn session(server: &TestServer, instance: u8) -> Talk<'_> {
    let start = Instant::now();
    let host = instance_host(instance);
    loop {
        let answer = server.initialize("2025-06-18").host(&host).send().await;
        if answer.status == 200 {
            let id = answer.header("mcp-session-id").expect("a session id").to_owned();
            return Talk { server, host, id, revision: "2025-06-18".to_owned() };
        }
        answer.expect_status(503);
        assert!(start.elapsed() < Duration::from_secs(5), "{answer:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// An echo: whether it was made. It fails in one way alone.
async fn echo(talk: &Talk<'_>) -> bool {
    let answer = talk.call("echo", json!({"message": "x"})).send().await;
    if answer.status != 200 {
        answer.expect_error(503, -32000);
        assert_eq!(answer.json()["error"]["data"]["reason"], "store_unavailable", "{answer:?}");
    }
    answer.status == 200
}

async fn count(talk: &Talk<'_>) -> Value {
    talk.info().await["request_count"].clone()
}

/// Echoes until one is made, which is soon. How many were not.
async fn is_whole(talk: &Talk<'_>) -> u64 {
    let (start, mut failed) = (Instant::now(), 0);
    while !echo(talk).await {
        assert!(start.elapsed() < SOON, "it is not whole again");
        failed += 1;
        sleep(Duration::from_millis(20)).await;
    }
    failed
}

/// Ten echoes are not made, and most of them wait for no answer.
async fn fails_at_once(talk: &Talk<'_>, what: &str) {
    let mut took = Vec::new();
    for _ in 0..10 {
        let start = Instant::now();
        assert!(!echo(talk).await, "{what}");
        took.push(start.elapsed());
    }
    took.sort();
    assert!(took[5] < PATIENCE, "{what} waits: {took:?}");
}

/// What `config check` says, and its exit code.
fn check(variables: &[(&str, &str)]) -> (String, i32) {
    told(&command(variables, &["config", "check"]).output().expect("runs"))
}

/// The same of a start, which must fail.
fn start(variables: &[(&str, &str)]) -> (String, i32) {
    told(&command(variables, &["--host", "127.0.0.1", "--port", "0"]).output().expect("runs"))
}

fn told(output: &Output) -> (String, i32) {
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8(text).expect("is text");
    assert_eq!(text.lines().count(), 1, "{text}");
    (text, output.status.code().expect("was not killed"))
}

/// Neither can it be checked nor does it start, and the line says this.
#[track_caller]
fn is_wrong(variables: &[(&str, &str)], said: &str) {
    // One that can be checked would start, and not end.
    for asked in [check, start] {
        let (text, code) = asked(variables);
        assert!(text.contains(said), "{said:?} is not in {text}");
        assert_eq!(code, 2, "{text}");
    }
}

#[test]
fn a_check_says_what_the_store_is() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let url = store.url();
        let (text, code) = check(&[("MCP_STORE_URL", &url)]);
        let version = match engine {
            Engine::Redis => "the store: Redis 7.",
            Engine::Valkey => "the store: Valkey 9.",
        };
        assert!(text.starts_with("the configuration is fine; "), "{text}");
        for part in [version, &format!(" at 127.0.0.1:{}", store.port()), "nothing on its disk"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert_eq!(code, 0);
    }
    let store = StoreServer::with(Engine::Redis, &["--appendonly", "yes"]);
    let (text, code) = check(&[("MCP_STORE_URL", &format!("{}/3", store.url()))]);
    assert!(!text.contains("disk"), "{text}");
    assert_eq!(code, 0);

    store.kill();
    let (text, code) = check(&[("MCP_STORE_URL", &store.url())]);
    assert!(text.contains("cannot be reached"), "{text}");
    assert_eq!(code, 2);
}

#[test]
fn what_the_url_says_wrongly_is_told_without_it() {
    let file = NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("is text");
    for (variables, said) in [
        (vec![("MCP_STORE_URL", "redis://user:hidden@a,b")], "store.url: names several servers"),
        (vec![("MCP_ECHO_STORE__URL_FILE", path)], "is empty"),
        (vec![("MCP_ECHO_STORE__URL_FILE", "/no/such")], "/no/such"),
        (
            vec![("MCP_STORE_URL", "redis://hidden"), ("MCP_ECHO_STORE__URL_FILE", path)],
            "stands beside store.url",
        ),
        (
            vec![("MCP_STORE_URL", "redis://hidden"), ("MCP_ECHO_STORE__CA_FILE", path)],
            "store.ca_file: is for TLS",
        ),
        (
            vec![("MCP_STORE_URL", "redis://hidden"), ("MCP_ECHO_SESSION__STORE", "memory")],
            "is of no use: every instance",
        ),
        (vec![("MCP_ECHO_STORE__WAIT_AOF", "true")], "does nothing without a store"),
        (vec![("MCP_ECHO_STORE__ALLOW_EVICTION", "true")], "does nothing without a store"),
        (vec![("MCP_ECHO_STORE__CA_FILE", path)], "does nothing without a store"),
        (vec![("MCP_ECHO_STORE__NAMESPACE", "a:b")], "must be visible ASCII without"),
        (vec![("MCP_ECHO_STORE__NAMESPACE", "a b")], "must be visible ASCII without"),
        (vec![("MCP_ECHO_STORE__TIMEOUT_SECONDS", "0")], "must be from 0.01 to 10"),
        (vec![("MCP_ECHO_STORE__TIMEOUT_SECONDS", "11")], "must be from 0.01 to 10"),
    ] {
        let (text, code) = check(&variables);
        assert!(text.contains(said), "{said:?} is not in {text}");
        assert!(!text.contains("hidden"), "{text}");
        assert_eq!(code, 2);
    }
}

#[tokio::test]
async fn a_password_is_asked_for_and_given() {
    let store = StoreServer::start(Engine::Redis);
    let port = store.port();
    store.command(&["CONFIG", "SET", "requirepass", "p@ss/word"]);
    is_wrong(&[("MCP_STORE_URL", &store.url())], "asks for a password");
    let wrong = format!("redis://:other@127.0.0.1:{port}");
    is_wrong(&[("MCP_STORE_URL", &wrong)], "refuses the user or password");
    let file = NamedTempFile::new().expect("a file");
    fs::write(file.path(), format!("redis://:p%40ss%2fword@127.0.0.1:{port}\n"))
        .expect("is written");
    let path = file.path().to_str().expect("is text");
    let server = TestServer::start(&[("MCP_ECHO_STORE__URL_FILE", path)]).await;
    assert!(echo(&session(&server, 0).await).await);
}

/// The test has no password of its own, so the server has none for whoever asks by the socket.
#[test]
fn a_user_without_rights_is_refused() {
    let store = StoreServer::start(Engine::Redis);
    let port = store.port();
    for (name, rights, said) in [
        ("foreign", &["~other:*", "&*", "+@all"][..], "lacks a right"),
        ("reading", &["~*", "&*", "+@all", "-hset"][..], "HSET"),
        ("deaf", &["~*", "+@all"][..], "PUBLISH"),
        ("blind", &["~*", "&*", "+@all", "-info"][..], "lacks a right"),
    ] {
        let user = [&["ACL", "SETUSER", name, "on", ">secret"], rights].concat();
        assert_eq!(store.command(&user).text(), "OK");
        let url = format!("redis://{name}:secret@127.0.0.1:{port}");
        is_wrong(&[("MCP_STORE_URL", &url)], said);
    }
    // What the documents give, but for one command of a script.
    let given = store_acl::rules();
    let from = given.iter().position(|right| *right == "+evalsha").expect("a script is run");
    let commands = given[from..].iter().filter(|right| !["+eval", "+unsubscribe"].contains(right));
    let commands: Vec<_> = commands.map(|right| &right[1..]).collect();
    assert!(commands.len() > 25, "{commands:?}");
    for command in commands {
        let user = ["ACL", "SETUSER", "short", "reset"];
        let without = format!("-{command}");
        let user = [&user[..], &given, &[&without]].concat();
        assert_eq!(store.command(&user).text(), "OK");
        let url = format!("redis://short:s3cret@127.0.0.1:{port}");
        is_wrong(&[("MCP_STORE_URL", &url)], &command.to_uppercase());
    }
    let url = format!("redis://enough:secret@127.0.0.1:{port}");
    let may_use = |keys: &[&str]| {
        let user = ["ACL", "SETUSER", "enough", "reset", "on", ">secret", "&mcpe:*"];
        let rights = ["+@all", "-@admin", "-config"];
        assert_eq!(store.command(&[&user[..], keys, &rights].concat()).text(), "OK");
    };
    for keys in [&["~mcpe:*"][..], &["~mcpe:{mcpe:7}:*", "~mcpe:{mcpe}:*"]] {
        may_use(keys);
        let (text, code) = check(&[("MCP_STORE_URL", &url)]);
        assert_eq!(code, 0, "{text}");
    }
    // What all instances share is needed by each.
    may_use(&["~mcpe:{mcpe:7}:*"]);
    is_wrong(&[("MCP_STORE_URL", &url)], "mcpe:{mcpe}:");
}

#[test]
fn a_store_that_may_evict_or_is_none_is_refused() {
    let store = StoreServer::with(Engine::Redis, &["--maxmemory-policy", "allkeys-lru"]);
    let url = store.url();
    is_wrong(&[("MCP_STORE_URL", &url)], "maxmemory-policy is allkeys-lru");
    let allowed = [("MCP_STORE_URL", &*url), ("MCP_ECHO_STORE__ALLOW_EVICTION", "true")];
    let (text, code) = check(&allowed);
    assert_eq!(code, 0, "{text}");

    let sentinel = Sentinel::start();
    let [first, watching] = [sentinel.stores[0].port(), sentinel.sentinel.port()];
    is_wrong(&[("MCP_STORE_URL", &format!("redis://127.0.0.1:{watching}"))], "it is a sentinel");
    let unknown = format!("redis+sentinel://127.0.0.1:{watching}/other");
    is_wrong(&[("MCP_STORE_URL", &unknown)], "knows no master other");
    let none = format!("redis+sentinel://127.0.0.1:{first}/mymaster");
    is_wrong(&[("MCP_STORE_URL", &none)], "no sentinel");
    let alone = format!("redis+cluster://127.0.0.1:{first}");
    is_wrong(&[("MCP_STORE_URL", &alone)], "not part of a cluster");
    let replica = format!("redis://127.0.0.1:{}", sentinel.stores[1].port());
    let (text, code) = check(&[("MCP_STORE_URL", &replica)]);
    assert!(text.contains("it is a replica"), "{text}");
    assert_eq!(code, 2);
}

#[test]
fn a_store_that_is_too_old_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let url = format!("redis://{}", listener.local_addr().expect("is bound"));
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                let asked = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let info = "redis_version:6.2.14\r\nredis_mode:standalone\r\nrole:master\r\n";
                let answer = match asked.contains("HELLO") {
                    true => format!(
                        "%1\r\n$7\r\nversion\r\n$6\r\n6.2.14\r\n{}",
                        "+OK\r\n".repeat(asked.matches("SETINFO").count())
                    ),
                    false => format!("${}\r\n{info}\r\n", info.len()),
                };
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    is_wrong(&[("MCP_STORE_URL", &url)], "it is Redis 6.2.14, and 7.0 is the oldest");
}

#[tokio::test]
async fn tls_is_spoken_to_who_can_prove_its_name() {
    let store = StoreServer::tls();
    let (url, ca) = (store.url(), store.ca_file().display().to_string());
    let trusting = [("MCP_STORE_URL", &*url), ("MCP_ECHO_STORE__CA_FILE", &*ca)];
    let (text, code) = check(&trusting);
    assert_eq!(code, 0, "{text}");
    let server = TestServer::start(&trusting).await;
    assert!(echo(&session(&server, 0).await).await);

    let other = StoreServer::tls();
    let other = other.ca_file().display().to_string();
    let distrusting = [("MCP_STORE_URL", &*url), ("MCP_ECHO_STORE__CA_FILE", &*other)];
    is_wrong(&distrusting, "certificate is not trusted (store.ca_file)");
    let misnamed = url.replace("localhost", "127.0.0.1");
    let misnamed = [("MCP_STORE_URL", &*misnamed), ("MCP_ECHO_STORE__CA_FILE", &*ca)];
    is_wrong(&misnamed, "certificate is not trusted (store.ca_file)");

    let plain = StoreServer::start(Engine::Redis);
    let plain = format!("rediss://localhost:{}", plain.port());
    let (text, code) = check(&[("MCP_STORE_URL", &plain), ("MCP_ECHO_STORE__CA_FILE", &ca)]);
    assert!(text.contains("the store (localhost:"), "{text}");
    assert_eq!(code, 2);
}

#[tokio::test]
async fn sentinel_says_who_is_the_master() {
    let sentinel = Sentinel::start();
    let (text, code) = check(&[("MCP_STORE_URL", &sentinel.url())]);
    assert!(text.contains(", master mymaster"), "{text}");
    assert_eq!(code, 0);
    let server = server(&sentinel.url()).await;
    let talk = session(&server, 3).await;
    // Without this, a master that has been replaced takes writes for a while, and they are lost.
    let master = sentinel.master();
    assert_eq!(master.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).text(), "OK");
    // Those that were made for certain, and those that may be lost or made without an answer.
    let (mut made, mut perhaps) = (0, 0);
    for round in 0..2 {
        for _ in 0..20 {
            match echo(&talk).await {
                true => made += 1,
                false => perhaps += 1,
            }
        }
        let before = sentinel.master().port();
        match round {
            0 => assert!(
                !sentinel.sentinel.command(&["SENTINEL", "FAILOVER", "mymaster"]).is_error()
            ),
            _ => {
                // The old one has become a replica by now.
                let replica = sentinel.stores.iter().find(|store| store.port() != before);
                let replica = replica.expect("another");
                eventually(|| {
                    replica
                        .command(&["INFO", "replication"])
                        .text()
                        .contains("master_link_status:up")
                })
                .await;
                master_waits(sentinel.master()).await;
                // The next one is alone.
                for store in &sentinel.stores {
                    store.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
                }
                sentinel.master().kill();
            }
        }
        let start = Instant::now();
        loop {
            // What one master has answered may not have reached the next.
            echo(&talk).await;
            perhaps += 1;
            let now = sentinel.master();
            if now.port() != before && now.command(&["ROLE"]).list()[0].text() == "master" {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(40), "no failover");
            sleep(Duration::from_millis(20)).await;
        }
        perhaps += is_whole(&talk).await;
        made += 1;
    }
    let counted = count(&talk).await.as_u64().expect("a count");
    assert!((made..=made + perhaps).contains(&counted), "{counted}: {made} and {perhaps}");
}

/// Until what the master has is at its replica.
async fn master_waits(master: &StoreServer) {
    eventually(|| master.command(&["INFO", "replication"]).text().contains("state=online")).await;
    sleep(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_cluster_has_the_ten_instances_among_its_shards() {
    for engine in Engine::ALL {
        let cluster = Cluster::start(engine);
        let (text, code) = check(&[("MCP_STORE_URL", &cluster.url())]);
        assert!(text.contains(", 3 shards"), "{text}");
        assert_eq!(code, 0);
        let alone = format!("redis://127.0.0.1:{}", cluster.shards[1].port());
        is_wrong(&[("MCP_STORE_URL", &alone)], "part of a cluster: write redis+cluster");

        let one = format!("redis+cluster://127.0.0.1:{}", cluster.shards[2].port());
        let (first, second) = (server(&cluster.url()).await, server(&one).await);
        for instance in 0..10 {
            let talk = session(&first, instance).await;
            assert!(echo(&talk).await);
            let there = session(&second, instance).await;
            let there = Talk { id: talk.id.clone(), ..there };
            is_whole(&there).await;
            assert_eq!(count(&talk).await, 2, "instance {instance}");
        }
        let keys = |shard: &StoreServer| shard.command(&["DBSIZE"]).integer();
        assert!(
            cluster.shards.iter().filter(|shard| keys(shard) > 0).count() >= 2,
            "they are spread"
        );
    }
}

/// The id of a node.
fn node(shard: &StoreServer) -> String {
    shard.command(&["CLUSTER", "MYID"]).text().to_owned()
}

#[tokio::test]
async fn a_slot_that_moves_takes_its_sessions_along() {
    for engine in Engine::ALL {
        let cluster = Cluster::start(engine);
        let server = server(&cluster.url()).await;
        let talk = session(&server, 3).await;
        assert!(echo(&talk).await);
        let key = "mcpe:{mcpe:3}:live";
        let from = cluster.shard_of(key);
        let to = cluster.shards.iter().find(|shard| shard.port() != from.port()).expect("another");
        let slot = from.command(&["CLUSTER", "KEYSLOT", key]).to_string();
        let mut made = 1;
        match engine {
            Engine::Valkey => {
                let moved =
                    ["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", &slot, &slot, "NODE", &node(to)];
                assert_eq!(from.command(&moved).to_string(), "OK");
                let start = Instant::now();
                while !to
                    .command(&["CLUSTER", "COUNTKEYSINSLOT", &slot])
                    .to_string()
                    .starts_with(|c: char| c > '0')
                    || !from.command(&["GET", key]).to_string().contains("MOVED")
                {
                    made += u64::from(echo(&talk).await);
                    assert!(start.elapsed() < Duration::from_secs(20), "it does not move");
                }
            }
            Engine::Redis => {
                to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &node(from)]);
                from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &node(to)]);
                let keys = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
                let port = to.port().to_string();
                for key in keys.list() {
                    let moved = ["MIGRATE", "127.0.0.1", &port, key.text(), "0", "2000"];
                    // What an operation came to is soon forgotten.
                    assert!(["OK", "NOKEY"].contains(&from.command(&moved).text()));
                    // Half of it is here and half of it there, and nobody is told that it is gone.
                    assert!(!echo(&talk).await, "after {key}");
                }
                for shard in [to, from] {
                    shard.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &node(to)]);
                }
            }
        }
        is_whole(&talk).await;
        assert_eq!(count(&talk).await, made + 1, "{engine:?}");
        assert!(to.commandstats().contains_key("evalsha"));
    }
}

#[tokio::test]
async fn a_shard_that_is_gone_takes_only_its_own_along() {
    let cluster = Cluster::start(Engine::Redis);
    for shard in &cluster.shards {
        shard.command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let server = server(&cluster.url()).await;
    let mut talks = Vec::new();
    for instance in 0..10 {
        talks.push(session(&server, instance).await);
    }
    let at = |instance: u8| cluster.shard_of(&format!("{{mcpe:{instance}}}")).port();
    // The first is the one that tells where the others are.
    let killed = cluster.shards.iter().find(|shard| shard.port() == at(0)).expect("has it");
    let far = (1..10).find(|&instance| at(instance) != at(0)).expect("is elsewhere");
    killed.pause();
    let start = Instant::now();
    assert!(!echo(&talks[0]).await);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    for _ in 0..20 {
        assert!(echo(&talks[usize::from(far)]).await);
    }
    killed.resume();
    is_whole(&talks[0]).await;
    assert_eq!(count(&talks[0]).await, 1);
}

#[tokio::test]
async fn an_answer_waits_for_the_disk() {
    let store = StoreServer::start(Engine::Redis);
    let waiting = |url: &str| {
        vec![("MCP_STORE_URL", url.to_owned()), ("MCP_ECHO_STORE__WAIT_AOF", "true".into())]
    };
    let is_refused = |url: &str, said| {
        let variables = waiting(url);
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
        is_wrong(&variables, said);
    };
    is_refused(
        &store.url(),
        "store.wait_aof needs Redis 7.2 or later, or Valkey, and this is Redis 7.0",
    );
    is_refused(&StoreServer::start(Engine::Valkey).url(), "set appendonly yes");
    let append =
        |how| StoreServer::with(Engine::Valkey, &["--appendonly", "yes", "--appendfsync", how]);
    is_refused(&append("everysec").url(), "appendfsync is everysec");
    is_refused(&append("no").url(), "appendfsync is no");

    let store = append("always");
    let variables = waiting(&store.url());
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
    let server = TestServer::start(&variables).await;
    let talk = session(&server, 0).await;
    let before = store.commandstats().get("waitaof").copied().unwrap_or_default();
    for _ in 0..10 {
        assert!(echo(&talk).await);
    }
    // What changes nothing waits for nothing.
    assert_eq!(count(&talk).await, 10);
    assert!(store.commandstats()["waitaof"] >= before + 10);
    // Nothing reaches the disk any more.
    store.command(&["CONFIG", "SET", "appendfsync", "no"]);
    assert!(!echo(&talk).await);
    let uri = json!({"uri": format!("session://{}/data/k", talk.id)});
    for method in ["resources/subscribe", "resources/unsubscribe"] {
        talk.rpc(method, uri.clone()).send().await.expect_status(503);
    }
    store.command(&["CONFIG", "SET", "appendfsync", "always"]);
    is_whole(&talk).await;
}

/// A disk that is written once a second takes what has come since, however much that is.
#[tokio::test]
async fn those_who_wait_for_the_disk_wait_together() {
    let everysec = ["--appendonly", "yes", "--appendfsync", "everysec"];
    let store = StoreServer::with(Engine::Valkey, &everysec);
    let url = store.url();
    let server = TestServer::start(&[
        ("MCP_STORE_URL", &url),
        ("MCP_ECHO_STORE__WAIT_AOF", "true"),
        ("MCP_ECHO_STORE__TIMEOUT_SECONDS", "3"),
    ])
    .await;
    let talk = session(&server, 0).await;
    assert!(echo(&talk).await);
    let before = store.commandstats()["waitaof"];
    let start = Instant::now();
    for done in join_all((0..60).map(|_| echo(&talk))).await {
        assert!(done);
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(store.commandstats()["waitaof"] < before + 30);
    assert_eq!(count(&talk).await, 61);
}

/// Breaks a store and mends it, by commands.
type Trouble =
    (&'static str, &'static [&'static [&'static str]], &'static [&'static [&'static str]]);

#[tokio::test]
async fn a_store_that_refuses_is_never_taken_for_one_that_has_nothing() {
    const KILL: &[&str] = &["CLIENT", "KILL", "TYPE", "normal"];
    const USER: &[&str] = &["ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all"];
    let troubles: [Trouble; 6] = [
        ("read-only", &[&["REPLICAOF", "127.0.0.1", "1"]], &[&["REPLICAOF", "NO", "ONE"]]),
        (
            "master down",
            &[
                &["CONFIG", "SET", "replica-serve-stale-data", "no"],
                &["REPLICAOF", "127.0.0.1", "1"],
            ],
            &[&["REPLICAOF", "NO", "ONE"]],
        ),
        ("full", &[&["CONFIG", "SET", "maxmemory", "1"]], &[&["CONFIG", "SET", "maxmemory", "0"]]),
        (
            "evicting",
            &[&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"], KILL],
            &[&["CONFIG", "SET", "maxmemory-policy", "noeviction"]],
        ),
        (
            "alone",
            &[&["CONFIG", "SET", "min-replicas-to-write", "1"]],
            &[&["CONFIG", "SET", "min-replicas-to-write", "0"]],
        ),
        ("user gone", &[&["ACL", "DELUSER", "app"]], &[USER]),
    ];
    for engine in Engine::ALL {
        for (name, breaking, mending) in troubles {
            let store = StoreServer::start(engine);
            store.command(USER);
            let url = format!("redis://app:secret@127.0.0.1:{}", store.port());
            let server = server(&url).await;
            let talk = session(&server, 0).await;
            assert!(echo(&talk).await);
            for command in breaking {
                assert!(!store.command(command).is_error(), "{name}: {command:?}");
            }
            fails_at_once(&talk, name).await;
            for command in mending {
                assert!(!store.command(command).is_error(), "{name}: {command:?}");
            }
            // One whose answer was late may count.
            let most = 2 + is_whole(&talk).await;
            let counted = count(&talk).await.as_u64().expect("a count");
            assert!((2..=most).contains(&counted), "{engine:?} {name}: {counted}");
        }
    }
}

#[tokio::test]
async fn a_store_that_stops_answering_costs_two_waits_and_then_none() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let between = Between::start(store.port());
        let (direct, through) = (hasty(&store.url()).await, hasty(&between.url()).await);
        let (talk, far) = (session(&direct, 0).await, session(&through, 0).await);
        is_whole(&talk).await;
        is_whole(&far).await;
        for way in ["paused", "hanging", "refusing", "killed"] {
            let talk = if matches!(way, "paused" | "killed") { &talk } else { &far };
            match way {
                "paused" => store.pause(),
                "hanging" => between.set(Mode::Hang),
                "refusing" => between.set(Mode::Refuse),
                _ => {
                    store.kill();
                    store.start_again();
                    // It has forgotten everything, which is told; another session begins.
                    let start = Instant::now();
                    let fresh = session(&direct, 0).await;
                    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
                    is_whole(&fresh).await;
                    continue;
                }
            }
            let start = Instant::now();
            assert!(!echo(talk).await, "{way}");
            assert!(start.elapsed() < SOON, "{way}: {:?}", start.elapsed());
            sleep(PATIENCE * 2).await;
            fails_at_once(talk, way).await;
            store.resume();
            between.set(Mode::Pass);
            is_whole(talk).await;
        }
    }
}

#[tokio::test]
async fn a_lost_store_is_told_once_and_so_is_its_return() {
    let store = StoreServer::start(Engine::Redis);
    let program = Program::start(&[("MCP_STORE_URL", &store.url()), ("LOG_FORMAT", "json")]);
    let said = |what: &str| program.log.lock().expect("lock").matches(what).count();
    eventually(|| said("the store is reached\"") == 1).await;
    assert_eq!(said("the store keeps nothing on its disk"), 1);
    store.kill();
    eventually(|| said("the store cannot be reached") == 1).await;
    sleep(Duration::from_millis(500)).await;
    store.start_again();
    eventually(|| said("the store is reached again") == 1).await;

    // On a connection that stays.
    store.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    eventually(|| said("the store cannot be used") == 1).await;
    sleep(Duration::from_millis(500)).await;
    store.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    eventually(|| said("the store is reached again") == 2).await;
    let counts = ["the store cannot be reached", "the store cannot be used", "keeps nothing"];
    assert_eq!(counts.map(said), [1, 1, 1]);
}

#[tokio::test]
async fn a_start_waits_for_a_store_that_is_not_there_yet() {
    let store = StoreServer::start(Engine::Redis);
    store.kill();
    let program = Program::start(&[("MCP_STORE_URL", &store.url())]);
    store.start_again();
    let told = || program.log.lock().expect("lock").contains("the store is reached again");
    eventually(told).await;
    program.session().await;
}

/// How often a store that hangs up is asked: it is not asked without end.
#[tokio::test]
async fn who_hangs_up_is_not_asked_without_end() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let url = format!("redis://{}", listener.local_addr().expect("is bound"));
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&asked);
    std::thread::spawn(move || {
        while listener.accept().is_ok() {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let _server = server(&url).await;
    sleep(Duration::from_secs(1)).await;
    let asked = asked.load(std::sync::atomic::Ordering::Relaxed);
    // By two lines.
    assert!((4..=24).contains(&asked), "{asked}");
}
