//! Every key and every variable changes what it says, the layers win over each other as documented, and
//! what cannot be right is refused in one line that shows no secret.
//!
//! `effect` holds one test per key of `config/default.toml`, named after it; a key without one fails
//! [`every_key_has_a_test`].

use std::{collections::BTreeSet, io::Write as _, path::Path};

use mcp_echo_stateful::config::{
    Config, ConfigError, DEFAULTS, Flags, FrontDoor, Key, Layers, LogFormat, PLAIN_NAMES, Profile,
};
use serde_json::Value;
use tempfile::NamedTempFile;

type Variables<'a> = &'a [(&'a str, &'a str)];

fn merge(flags: &Flags, variables: Variables<'_>) -> Result<Layers, ConfigError> {
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Layers::merge(flags, &variables)
}

fn checked(flags: &Flags, variables: Variables<'_>) -> Result<Config, ConfigError> {
    merge(flags, variables)?.check()
}

/// The configuration that an environment gives.
#[track_caller]
fn environment(variables: Variables<'_>) -> Config {
    checked(&Flags::default(), variables).expect("fits")
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("is written");
    file
}

fn from_file(path: &Path) -> Flags {
    Flags { file: Some(path.to_owned()), ..Flags::default() }
}

/// `config print`, as it stands.
#[track_caller]
fn print(flags: &Flags, variables: Variables<'_>) -> String {
    merge(flags, variables).and_then(|layers| layers.print()).expect("is printed")
}

/// The line that `config print` has for a key.
#[track_caller]
fn printed(key: &str, flags: &Flags, variables: Variables<'_>) -> String {
    let text = print(flags, variables);
    let start = format!("{key} = ");
    let mut lines = text.lines().filter(|line| line.starts_with(&start));
    let line = lines.next().unwrap_or_else(|| panic!("no line for {key} in\n{text}"));
    assert_eq!(lines.next(), None);
    line.to_owned()
}

/// The one line that says why this is refused.
#[track_caller]
fn refusal(flags: &Flags, variables: Variables<'_>) -> String {
    let error = checked(flags, variables).expect_err("is refused").to_string();
    assert!(!error.contains(['\n', '\r']), "more than one line: {error}");
    error
}

#[track_caller]
fn assert_names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

/// Every key of `config/default.toml`, as read from its lines.
fn keys() -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.insert(format!("{section}{key}"));
        }
    }
    keys
}

#[test]
fn every_key_has_a_test() {
    let keys = keys();
    assert!(keys.len() > 30, "{keys:?}");
    let printed: BTreeSet<_> = print(&Flags::default(), &[])
        .lines()
        .map(|line| line.split_once(" = ").expect("a key and a value").0.to_owned())
        .collect();
    assert_eq!(keys, printed, "config print knows the same keys");
    assert_eq!(Key::all().count(), keys.len());
    assert_eq!(keys, Key::all().map(|key| key.path.to_owned()).collect(), "and so does the table");
    for key in keys {
        let test = format!("async fn {}()", key.replace('.', "_"));
        // A limit is driven to where it holds, which shows that its key does something.
        let limit = format!("\"MCP_ECHO_{}\"", key.replace('.', "__").to_uppercase());
        let tested = include_str!("config.rs").contains(&test)
            || include_str!("limits_table.rs").contains(&limit);
        assert!(tested, "{key} has no test: {test}");
    }
}

#[test]
fn defaults_are_those_of_the_original() {
    let config = environment(&[]);
    assert_eq!((config.server.host.to_string().as_str(), config.server.port), ("0.0.0.0", 3000));
    assert_eq!(config.server.name, "mcp-echo-streamablehttp-stateful");
    assert_eq!(config.server.version, "0.1.0");
    assert!(config.debug);
    assert_eq!(config.log.file, Path::new(""), "no file unless LOG_FILE says so");
    assert_eq!(config.instances.len(), 10);
    for policy in config.instances {
        assert_eq!(policy.protocol.version.as_str(), "2025-06-18");
        assert_eq!(policy.session.timeout_seconds.get().as_secs(), 300);
    }
}

#[test]
fn a_profile_lies_between_the_defaults_and_the_file() {
    assert!(Profile::ALL.len() >= 2);
    for Profile { name, .. } in Profile::ALL {
        let flags = Flags { profile: Some((*name).to_owned()), ..Flags::default() };
        let config = checked(&flags, &[]).expect("fits");
        assert_eq!(config.profile.map(|profile| profile.name), Some(*name));
        // It says what the file of its name says, and nothing else.
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/{name}.toml"));
        let of_file = print(&from_file(&path), &[]).replace(&*path.to_string_lossy(), "here");
        let printed = print(&flags, &[]);
        let (first, of_profile) = printed.split_once('\n').expect("lines");
        assert_eq!(first, format!("# profile {name}"));
        assert_eq!(of_profile.replace(&format!("profile {name}"), "here"), of_file);
        assert_ne!(of_file, print(&Flags::default(), &[]), "{name} does something");
    }
    let beneath = file("[protocol]\nversions = [\"2025-03-26\"]\n");
    let flags = Flags { profile: Some("sessioned".to_owned()), ..from_file(beneath.path()) };
    let versions = |flags: &Flags, variables: Variables<'_>| {
        let policy = checked(flags, variables).expect("fits").instances.swap_remove(3);
        policy.protocol.versions.iter().map(|version| version.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(versions(&flags, &[]), ["2025-03-26"], "the file wins");
    let variable = ("MCP_PROTOCOL_VERSIONS_SUPPORTED", "2026-07-28");
    let profile = ("MCP_ECHO_PROFILE", "sessioned");
    assert_eq!(versions(&Flags::default(), &[profile, variable]), ["2026-07-28"]);
    // Empty is not set, and the flag wins over the variable.
    let flags = Flags { profile: Some("conformance".to_owned()), ..Flags::default() };
    assert_eq!(versions(&flags, &[profile]).len(), 5);
    assert_eq!(environment(&[("MCP_ECHO_PROFILE", "")]).profile.map(|it| it.name), None);
}

/// Each key observed from outside, where there is something to observe.
mod effect {
    use std::time::{Duration, Instant};

    use serde_json::json;
    use tokio::time::sleep;

    use super::*;
    use crate::{
        stores::{Engine, StoreServer},
        support::{Connection, TestServer, instance_host},
    };

    async fn with(name: &str, value: &str) -> TestServer {
        TestServer::start(&[(name, value)]).await
    }

    #[tokio::test]
    async fn debug() {
        for (debug, status) in [("true", 401), ("false", 404)] {
            let server = TestServer::start(&[("MCP_ECHO_DEBUG", debug), ("ADMIN_TOKEN", "")]).await;
            server.request("GET", "/debug/sessions").send().await.expect_status(status);
        }
    }

    // Where to bind is up to whoever binds: `process` shows it on the program.
    #[tokio::test]
    async fn server_host() {
        let config = environment(&[("MCP_ECHO_SERVER__HOST", "::1")]);
        assert_eq!(config.server.host.to_string(), "::1");
    }

    #[tokio::test]
    async fn server_port() {
        assert_eq!(environment(&[("MCP_ECHO_SERVER__PORT", "4711")]).server.port, 4711);
    }

    #[tokio::test]
    async fn server_name() {
        let server = with("MCP_ECHO_SERVER__NAME", "Hamlet").await;
        let answer = server.initialize("2025-06-18").send().await.json();
        assert_eq!(answer["result"]["serverInfo"]["name"], "Hamlet");
    }

    #[tokio::test]
    async fn server_version() {
        let server = with("MCP_ECHO_SERVER__VERSION", "1.0").await;
        let answer = server.initialize("2025-06-18").send().await.json();
        assert_eq!(answer["result"]["serverInfo"]["version"], "1.0");
    }

    #[tokio::test]
    async fn hosts_base_domains() {
        let server = with("MCP_ECHO_HOSTS__BASE_DOMAINS", "one.test, Two.test").await;
        for (host, status) in [
            ("echo-stateful3.one.test", 200),
            ("echo-stateful3.two.test", 200),
            ("echo-stateful.two.test", 200),
            ("echo-stateful3.example.com", 421),
        ] {
            let answer = server.initialize("2025-06-18").host(host).send().await;
            answer.expect_status(status);
        }
    }

    #[tokio::test]
    async fn hosts_front_door_names() {
        let server = with("MCP_ECHO_HOSTS__FRONT_DOOR_NAMES", "gate.internal").await;
        server.initialize("2025-06-18").host("gate.internal").send().await.expect_status(200);
        server.initialize("2025-06-18").host("localhost").send().await.expect_status(421);
    }

    #[tokio::test]
    async fn hosts_front_door() {
        let server = with("MCP_ECHO_HOSTS__FRONT_DOOR", "fixed:7").await;
        let answer = server.initialize("2025-06-18").send().await;
        assert_eq!(answer.header("mcp-echo-instance"), Some("7"));

        let server = with("MCP_ECHO_HOSTS__FRONT_DOOR", "round_robin").await;
        let mut seen = BTreeSet::new();
        for _ in 0..10 {
            let answer = server.initialize("2025-06-18").send().await;
            seen.insert(answer.header("mcp-echo-instance").expect("an instance").to_owned());
        }
        assert_eq!(seen.len(), 10, "{seen:?}");

        for (text, front_door) in [("sticky", FrontDoor::Sticky), ("random", FrontDoor::Random)] {
            let config = environment(&[("MCP_ECHO_HOSTS__FRONT_DOOR", text)]);
            assert_eq!(config.hosts.front_door, front_door);
        }
    }

    #[tokio::test]
    async fn replica_name() {
        for (name, shown) in [("pod-7", "pod-7"), ("", "local")] {
            let answer =
                with("MCP_ECHO_REPLICA__NAME", name).await.request("GET", "/livez").send().await;
            assert_eq!(answer.header("mcp-echo-replica"), Some(shown));
        }
    }

    #[tokio::test]
    async fn replica_tag() {
        let server = with("MCP_ECHO_REPLICA__TAG", "a1").await;
        assert_eq!(&server.session(4).await.id[..3], "4a1");
    }

    #[tokio::test]
    async fn http_max_connections() {
        let server = with("MCP_ECHO_HTTP__MAX_CONNECTIONS", "1").await;
        let mut first = server.request("GET", "/nowhere").begin().await;
        first.answer().await.expect_status(404);
        server.request("GET", "/nowhere").send().await.expect_status(503);
        drop(first);
        let mut status = 503;
        while status == 503 {
            status = server.request("GET", "/nowhere").send().await.status;
        }
        assert_eq!(status, 404);
    }

    #[tokio::test]
    async fn http_header_timeout_seconds() {
        let server = with("MCP_ECHO_HTTP__HEADER_TIMEOUT_SECONDS", "0.2").await;
        let start = Instant::now();
        for begun in ["", "POST /mcp HTTP/1.1\r\nHost: loc"] {
            let mut connection = Connection::open(server.address).await;
            connection.write(begun.as_bytes()).await;
            assert!(connection.closes().await, "after {begun:?}");
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn http_body_timeout_seconds() {
        let server = with("MCP_ECHO_HTTP__BODY_TIMEOUT_SECONDS", "0.2").await;
        let start = Instant::now();
        let mut connection = Connection::open(server.address).await;
        let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
        connection.write(head.as_bytes()).await;
        connection.answer().await.expect_error(408, -32000);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn http_write_timeout_seconds() {
        let server = with("MCP_ECHO_HTTP__WRITE_TIMEOUT_SECONDS", "0.2").await;
        let big = server.call("big_response", json!({"bytes": 6_000_000}));
        let mut unread = big.begin().await;
        unread.head().await.expect_status(200);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let taken = unread.take(6_000_000).await;
        assert!(taken < 6_000_000, "closed before its end");
    }

    #[tokio::test]
    async fn http_max_body_bytes() {
        let server = with("MCP_ECHO_HTTP__MAX_BODY_BYTES", "2048").await;
        for (length, status) in [(1500, 200), (2500, 413)] {
            let echo = server.call("echo", json!({"message": "x".repeat(length)}));
            echo.send().await.expect_status(status);
        }
    }

    #[tokio::test]
    async fn http_trusted_proxies() {
        for (proxies, trusted) in [("", false), ("10.0.0.0/8,127.0.0.0/8", true)] {
            let server = with("MCP_ECHO_HTTP__TRUSTED_PROXIES", proxies).await;
            let headers = server.session(0).await.ask("printHeader", json!({})).await;
            assert_eq!(headers["peer_is_trusted_proxy"], trusted);
        }
    }

    // What the log then looks like: `logging`.
    #[tokio::test]
    async fn log_level() {
        for (text, level) in [
            ("error", tracing::Level::ERROR),
            ("WARNING", tracing::Level::WARN),
            ("Info", tracing::Level::INFO),
            ("DEBUG", tracing::Level::DEBUG),
            ("trace", tracing::Level::TRACE),
            ("CRITICAL", tracing::Level::ERROR),
        ] {
            assert_eq!(environment(&[("MCP_ECHO_LOG__LEVEL", text)]).log.level.0, level);
        }
    }

    #[tokio::test]
    async fn log_format() {
        for (text, format) in [
            ("pretty", LogFormat::Pretty),
            ("compact", LogFormat::Compact),
            ("json", LogFormat::Json),
        ] {
            assert_eq!(environment(&[("MCP_ECHO_LOG__FORMAT", text)]).log.format, format);
        }
    }

    #[tokio::test]
    async fn log_file() {
        let config = environment(&[("MCP_ECHO_LOG__FILE", "logs/server.log")]);
        assert_eq!(config.log.file, Path::new("logs/server.log"));
    }

    #[tokio::test]
    async fn admin_token() {
        let server = with("MCP_ECHO_ADMIN__TOKEN", "0pen-sesame").await;
        for (token, status) in [("0pen-sesame", 200), ("admin-secret", 401)] {
            let list = server.request("GET", "/debug/sessions");
            let answer = list.header("Authorization", &format!("Bearer {token}")).send().await;
            answer.expect_status(status);
        }
    }

    #[tokio::test]
    async fn admin_recent_requests() {
        for (keep, shown) in [("0", 0), ("2", 2)] {
            let server = with("MCP_ECHO_ADMIN__RECENT_REQUESTS", keep).await;
            let talk = server.session(0).await;
            let info = talk.info().await;
            for _ in 0..5 {
                talk.ask("echo", json!({"message": "x"})).await;
            }
            crate::support::eventually(|| {
                server.instances[0].state.requests.totals().requests == 7
            })
            .await;
            let path = format!("/debug/sessions/{}", info["session_ref"].as_str().expect("a ref"));
            let detail = server.request("GET", &path);
            let detail = detail.header("Authorization", "Bearer admin-secret").send().await.json();
            assert_eq!(detail["requests"].as_array().map(Vec::len), Some(shown));
        }
    }

    #[tokio::test]
    async fn admin_token_file() {
        let secret = file("from-a-file\n");
        let path = secret.path().display().to_string();
        let server = TestServer::start(&[("ADMIN_TOKEN", ""), ("ADMIN_TOKEN_FILE", &path)]).await;
        for (token, status) in [("from-a-file", 200), ("admin-secret", 401)] {
            let list = server.request("GET", "/debug/sessions");
            let answer = list.header("Authorization", &format!("Bearer {token}")).send().await;
            answer.expect_status(status);
        }
        let both = [("ADMIN_TOKEN", "x"), ("ADMIN_TOKEN_FILE", path.as_str())];
        assert_names(&refusal(&Flags::default(), &both), &["admin.token_file", "set one of them"]);
    }

    #[tokio::test]
    async fn admin_listen() {
        let server = with("MCP_ECHO_ADMIN__LISTEN", "127.0.0.1:0").await;
        let list = server.operate("GET", "/debug/sessions");
        list.to(server.admin.expect("a port")).send().await.expect_status(200);
        server.operate("GET", "/debug/sessions").send().await.expect_status(404);
        for wrong in ["9090", "localhost", "127.0.0.1"] {
            let message = refusal(&Flags::default(), &[("MCP_ECHO_ADMIN__LISTEN", wrong)]);
            assert_names(
                &message,
                &["admin.listen", wrong, "127.0.0.1:9090", "MCP_ECHO_ADMIN__LISTEN"],
            );
        }
    }

    /// With a store at that address.
    fn stored(name: &str, value: &str) -> mcp_echo_stateful::config::StoreConfig {
        environment(&[("MCP_STORE_URL", "redis://store"), (name, value)]).store
    }

    #[tokio::test]
    async fn store_url() {
        let store = StoreServer::start(Engine::Valkey);
        let first = with("MCP_ECHO_STORE__URL", &store.url()).await;
        let second = with("MCP_ECHO_STORE__URL", &store.url()).await;
        crate::support::eventually(|| store.commandstats().contains_key("evalsha")).await;
        let talk = first.session(0).await;
        talk.ask("echo", json!({"message": "x"})).await;
        let talk = crate::support::Talk { server: &second, ..talk };
        assert_eq!(talk.info().await["request_count"], 1);
    }

    #[tokio::test]
    async fn store_url_file() {
        let store = StoreServer::start(Engine::Redis);
        let file = file(&store.url());
        let _server =
            with("MCP_ECHO_STORE__URL_FILE", file.path().to_str().expect("is text")).await;
        crate::support::eventually(|| store.commandstats().contains_key("evalsha")).await;
    }

    #[tokio::test]
    async fn store_ca_file() {
        let store = stored("MCP_ECHO_STORE__CA_FILE", "/etc/ca.pem");
        assert_eq!(store.ca_file, Path::new("/etc/ca.pem"));
    }

    #[tokio::test]
    async fn store_namespace() {
        let store = StoreServer::start(Engine::Redis);
        let variables = [("MCP_STORE_URL", &*store.url()), ("MCP_ECHO_STORE__NAMESPACE", "other")];
        let server = TestServer::start(&variables).await;
        crate::support::eventually(|| store.commandstats().contains_key("evalsha")).await;
        server.session(3).await;
        assert_eq!(store.command(&["EXISTS", "other:{other:3}:live"]).integer(), 1);
    }

    #[tokio::test]
    async fn store_timeout_seconds() {
        let store = stored("MCP_ECHO_STORE__TIMEOUT_SECONDS", "1.5");
        assert_eq!(store.timeout_seconds.get(), Duration::from_millis(1500));
    }

    #[tokio::test]
    async fn store_wait_aof() {
        assert!(stored("MCP_ECHO_STORE__WAIT_AOF", "true").wait_aof);
    }

    #[tokio::test]
    async fn store_allow_eviction() {
        assert!(stored("MCP_ECHO_STORE__ALLOW_EVICTION", "true").allow_eviction);
    }

    #[tokio::test]
    async fn store_unready_when_lost() {
        assert!(stored("MCP_ECHO_STORE__UNREADY_WHEN_LOST", "true").unready_when_lost);
    }

    #[tokio::test]
    async fn session_store() {
        let store = StoreServer::start(Engine::Redis);
        let variables =
            [("MCP_STORE_URL", &*store.url()), ("MCP_ECHO_INSTANCES__9__SESSION__STORE", "memory")];
        let server = TestServer::start(&variables).await;
        let shared = |instance: usize| server.instances[instance].state.sessions.is_shared();
        assert!(shared(8) && !shared(9));
    }

    #[tokio::test]
    async fn shutdown_drain_seconds() {
        let server = with("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "0.2").await;
        let _call = server.call("echo", json!({"message": "x", "delay": 10})).begin().await;
        crate::support::eventually(|| server.created() == 1).await;
        let start = Instant::now();
        server.stop();
        assert_eq!(server.stopped().await, mcp_echo_stateful::server::Stopped::CutOff);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn protocol_version() {
        let server = with("MCP_ECHO_PROTOCOL__VERSION", "2025-03-26").await;
        for (asked, given) in [("1999-01-01", "2025-03-26"), ("2025-11-25", "2025-11-25")] {
            let answer = server.initialize(asked).send().await.json();
            assert_eq!(answer["result"]["protocolVersion"], given);
        }
    }

    #[tokio::test]
    async fn protocol_versions() {
        let server = with("MCP_ECHO_PROTOCOL__VERSIONS", "2025-06-18,2025-03-26").await;
        let answer = server.initialize("2025-11-25").send().await.json();
        assert_eq!(answer["result"]["protocolVersion"], "2025-06-18");
        for (version, status) in [("2025-03-26", 200), ("2025-11-25", 400)] {
            let ping = server.rpc("ping", json!({})).header("MCP-Protocol-Version", version);
            ping.send().await.expect_status(status);
        }
    }

    #[tokio::test]
    async fn protocol_response() {
        for (form, accept, content_type) in [
            ("auto", "application/json", "application/json"),
            ("auto", "text/event-stream", "text/event-stream"),
            ("json", "text/event-stream", "application/json"),
            ("sse", "application/json", "text/event-stream"),
        ] {
            let server = with("MCP_ECHO_PROTOCOL__RESPONSE", form).await;
            let answer = server.rpc("ping", json!({})).header("Accept", accept).send().await;
            assert_eq!(answer.header("content-type"), Some(content_type), "{form}, {accept}");
        }
    }

    #[tokio::test]
    async fn session_timeout_seconds() {
        let server = with("MCP_ECHO_SESSION__TIMEOUT_SECONDS", "0.3").await;
        let talk = server.session(2).await;
        assert_eq!(talk.info().await["idle_timeout_seconds"], 0.3);
        sleep(Duration::from_millis(700)).await;
        let answer = talk.rpc("ping", json!({})).send().await;
        assert_eq!(answer.expect_gone(), "expired");
    }

    #[tokio::test]
    async fn session_implicit() {
        for (implicit, status) in [("true", 200), ("false", 400)] {
            let server = with("MCP_ECHO_SESSION__IMPLICIT", implicit).await;
            server.call("get_session_info", json!({})).send().await.expect_status(status);
        }
    }

    async fn store(server: &TestServer, values: [(&str, &str); 2]) -> Value {
        let talk = server.session(0).await;
        let mut last = Value::Null;
        for (key, value) in values {
            let answer = talk.call("set_session_data", json!({"key": key, "value": value}));
            last = answer.send().await.json();
        }
        last["result"].clone()
    }

    #[tokio::test]
    async fn session_max_data_keys() {
        let server = with("MCP_ECHO_SESSION__MAX_DATA_KEYS", "1").await;
        assert!(store(&server, [("a", "1"), ("a", "2")]).await["isError"].is_null());
        let full = store(&server, [("a", "1"), ("b", "2")]).await;
        assert_eq!(full["isError"], true, "{full}");
    }

    #[tokio::test]
    async fn memory_max_instance_bytes() {
        let server = with("MCP_ECHO_MEMORY__MAX_INSTANCE_BYTES", "16777216").await;
        let page = server.operate("GET", "/metrics").send().await.text();
        assert!(page.contains("mcp_echo_memory_limit_bytes{mcp_instance=\"0\"} 16777216\n"));
    }

    #[tokio::test]
    async fn memory_max_bytes() {
        let server = with("MCP_ECHO_MEMORY__MAX_BYTES", "268435456").await;
        let page = server.operate("GET", "/metrics").send().await.text();
        assert!(page.contains("mcp_echo_process_memory_limit_bytes 268435456\n"));
    }

    #[tokio::test]
    async fn session_answer_timeout_seconds() {
        let variables = [
            ("MCP_ECHO_SESSION__ANSWER_TIMEOUT_SECONDS", "0.2"),
            ("MCP_ECHO_TOOLS__SETS", "conformance"),
        ];
        let server = TestServer::start(&variables).await;
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"sampling": {}}});
        let begun = server.rpc("initialize", params).send().await;
        let id = begun.header("mcp-session-id").expect("an id").to_owned();
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let ready = server.post(ready.to_string()).header("Mcp-Session-Id", &id);
        ready.send().await.expect_status(202);
        let call = server.call("test_sampling", json!({"prompt": "x"}));
        let answer = call.header("Mcp-Session-Id", &id).send().await;
        assert!(answer.text().contains("did not answer within 0.2 seconds"), "{}", answer.text());
    }

    #[tokio::test]
    async fn stream_retry_seconds() {
        let server = with("MCP_ECHO_STREAM__RETRY_SECONDS", "2.5").await;
        let mut stream = server.session_of(0, "2025-11-25").await.request("GET").begin().await;
        stream.head().await.expect_status(200);
        let first = stream.chunk().await.expect("a priming event");
        assert!(String::from_utf8_lossy(&first).contains("retry: 2500\n"));
    }

    #[tokio::test]
    async fn stream_max_replay_bytes() {
        // The priming event, five ticks and the result, each of some hundred bytes.
        for (limit, expected) in [("1000000", 6..7), ("700", 1..6), ("0", 0..2)] {
            let server = with("MCP_ECHO_STREAM__MAX_REPLAY_BYTES", limit).await;
            let talk = server.session_of(0, "2025-11-25").await;
            let mut request = json!({"name": "stream_ticks", "arguments": {"interval_ms": 1}});
            request["_meta"] = json!({"progressToken": 1});
            talk.rpc("tools/call", request).send().await.expect_status(200);
            let again = talk.request("GET").header("Last-Event-ID", "1-0").send().await;
            let events = again.text().matches("data: {").count();
            assert!(expected.contains(&events), "{limit}: {events}");
        }
    }

    #[tokio::test]
    async fn protocol_page_size() {
        let server = with("MCP_ECHO_PROTOCOL__PAGE_SIZE", "2").await;
        let page = server.rpc("tools/list", json!({})).send().await.json();
        assert_eq!(page["result"]["tools"].as_array().map(Vec::len), Some(2));
        assert!(page["result"]["nextCursor"].is_string());
    }

    #[tokio::test]
    async fn tools_max_response_bytes() {
        let server = with("MCP_ECHO_TOOLS__MAX_RESPONSE_BYTES", "100").await;
        server.call("big_response", json!({"bytes": 100})).send().await.expect_status(200);
        let more = server.call("big_response", json!({"bytes": 101})).send().await;
        more.expect_error(200, -32602);
    }

    const CONFORMANCE: (&str, &str) = ("MCP_ECHO_TOOLS__SETS", "conformance");

    #[tokio::test]
    async fn tasks_ttl_seconds() {
        let server =
            TestServer::start(&[CONFORMANCE, ("MCP_ECHO_TASKS__TTL_SECONDS", "0.3")]).await;
        let call = server.modern_call("slow_compute", json!({"seconds": 10})).with_tasks();
        let task = call.send().await.json()["result"].clone();
        assert_eq!(task["ttlMs"], 300);
        crate::support::eventually(|| server.instances[0].state.tasks.is_empty()).await;
    }

    #[tokio::test]
    async fn stream_keep_alive_seconds() {
        let server = with("MCP_ECHO_STREAM__KEEP_ALIVE_SECONDS", "0.1").await;
        let mut stream = server.session(0).await.request("GET").begin().await;
        stream.head().await.expect_status(200);
        let start = Instant::now();
        for _ in 0..2 {
            assert_eq!(stream.chunk().await.as_deref(), Some(&b": keep-alive\n\n"[..]));
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    /// The status of an initialize with that bearer token.
    fn knock(server: &TestServer, token: &str) -> impl Future<Output = u16> {
        let mut request = server.initialize("2025-06-18");
        if !token.is_empty() {
            request = request.header("Authorization", &format!("Bearer {token}"));
        }
        async { request.send().await.status }
    }

    #[tokio::test]
    async fn auth_mode() {
        let tokens = ("MCP_ECHO_AUTH__TOKENS", "alice=s3cret");
        for (mode, nothing, stranger, alice) in
            [("off", 200, 200, 200), ("passthrough", 401, 200, 200), ("tokens", 401, 401, 200)]
        {
            let server = TestServer::start(&[("MCP_ECHO_AUTH__MODE", mode), tokens]).await;
            assert_eq!(knock(&server, "").await, nothing, "{mode}");
            assert_eq!(knock(&server, "stranger").await, stranger, "{mode}");
            assert_eq!(knock(&server, "s3cret").await, alice, "{mode}");
        }
    }

    #[tokio::test]
    async fn auth_tokens() {
        let tokens = ("MCP_ECHO_AUTH__TOKENS", "alice=s3cret, bob=t0ken");
        let server = TestServer::start(&[("MCP_ECHO_AUTH__MODE", "tokens"), tokens]).await;
        for (token, status) in [("s3cret", 200), ("t0ken", 200), ("alice", 401)] {
            assert_eq!(knock(&server, token).await, status, "{token}");
        }
    }

    #[tokio::test]
    async fn auth_tokens_file() {
        let file = file("# who may call\nalice=s3cret\n\n  bob = t0ken\n");
        let path = ("MCP_ECHO_AUTH__TOKENS_FILE", file.path().to_str().expect("is text"));
        let server = TestServer::start(&[("MCP_ECHO_AUTH__MODE", "tokens"), path]).await;
        for (token, status) in [("s3cret", 200), ("t0ken", 200), ("other", 401)] {
            assert_eq!(knock(&server, token).await, status, "{token}");
        }
    }

    async fn metadata(server: &TestServer) -> Value {
        let path = "/.well-known/oauth-protected-resource";
        server.request("GET", path).send().await.expect_status(200).json()
    }

    #[tokio::test]
    async fn auth_authorization_servers() {
        let server = with("MCP_ECHO_AUTH__AUTHORIZATION_SERVERS", "https://id.example.org").await;
        let servers = &metadata(&server).await["authorization_servers"];
        assert_eq!(*servers, json!(["https://id.example.org"]));
    }

    #[tokio::test]
    async fn auth_scopes() {
        let server = with("MCP_ECHO_AUTH__SCOPES", "echo,read").await;
        assert_eq!(metadata(&server).await["scopes_supported"], json!(["echo", "read"]));
    }

    #[tokio::test]
    async fn origin_allowed() {
        for (allowed, status) in [("https://page.example.org", 200), ("*", 200), ("", 403)] {
            let server = with("MCP_ECHO_ORIGIN__ALLOWED", allowed).await;
            let request = server.initialize("2025-06-18");
            let answer = request.header("Origin", "https://page.example.org").send().await;
            answer.expect_status(status);
        }
    }

    #[tokio::test]
    async fn tools_sets() {
        let server = with("MCP_ECHO_TOOLS__SETS", "session").await;
        let list = server.rpc("tools/list", json!({})).send().await.text();
        assert!(list.contains("\"echo\"") && !list.contains("\"printHeader\""), "{list}");
        server.call("printHeader", json!({})).send().await.expect_error(200, -32602);
    }

    #[tokio::test]
    async fn tools_max_delay_seconds() {
        let server = with("MCP_ECHO_TOOLS__MAX_DELAY_SECONDS", "0.5").await;
        server.call("echo", json!({"message": "x", "delay": 0.1})).send().await.expect_status(200);
        let long = server.call("echo", json!({"message": "x", "delay": 0.6}));
        long.send().await.expect_error(200, -32602);
        let list = server.rpc("tools/list", json!({})).send().await.json();
        let delay = &list["result"]["tools"][0]["inputSchema"]["properties"]["delay"];
        assert_eq!(delay["maximum"], 0.5);
    }

    #[tokio::test]
    async fn an_instance_s_own_key_changes_that_instance_alone() {
        let server = with("MCP_ECHO_INSTANCES__3__SESSION__CAPACITY", "1").await;
        for instance in 0..10 {
            let host = instance_host(instance);
            let mut statuses = Vec::new();
            for _ in 0..2 {
                statuses.push(server.initialize("2025-06-18").host(&host).send().await.status);
            }
            let second = if instance == 3 { 503 } else { 200 };
            assert_eq!(statuses, [200, second], "instance {instance}");
        }
    }
}

#[test]
fn every_plain_variable_sets_its_key() {
    let values = [
        ("HOSTNAME", "pod-7", r#""pod-7""#),
        ("HOST", "127.0.0.1", r#""127.0.0.1""#),
        ("PORT", "4711", "4711"),
        ("DEBUG", "False", "false"),
        ("MCP_SERVER_NAME", "Hamlet", r#""Hamlet""#),
        ("MCP_SERVER_VERSION", "1.0", r#""1.0""#),
        ("MCP_PROTOCOL_VERSION", "2025-03-26", r#""2025-03-26""#),
        (
            "MCP_PROTOCOL_VERSIONS_SUPPORTED",
            "2025-06-18, 2025-03-26",
            r#"["2025-06-18", "2025-03-26"]"#,
        ),
        ("MCP_SESSION_TIMEOUT", "1.5", "1.5"),
        ("LOG_LEVEL", "DEBUG", r#""DEBUG""#),
        ("LOG_FORMAT", "json", r#""json""#),
        ("LOG_FILE", "/logs/server.log", r#""/logs/server.log""#),
        ("ADMIN_TOKEN", "0pen-sesame", r#""***""#),
        ("ADMIN_TOKEN_FILE", "/run/secrets/token", r#""/run/secrets/token""#),
        ("BASE_DOMAIN", "one.test,two.test", r#"["one.test", "two.test"]"#),
        ("MCP_STORE_URL", "redis://:s3cret@store", r#""***""#),
        ("MCP_ECHO_HOST", "127.0.0.2", r#""127.0.0.2""#),
        ("MCP_ECHO_PORT", "4712", "4712"),
        ("MCP_ECHO_DEBUG", "0", "false"),
    ];
    assert_eq!(
        values.map(|(name, ..)| name).as_slice(),
        PLAIN_NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>()
    );
    for ((name, text, value), (_, key)) in values.into_iter().zip(PLAIN_NAMES) {
        let variables = [(name, text)];
        environment(&variables);
        let line = printed(key, &Flags::default(), &variables);
        assert_eq!(line, format!("{key} = {value}  # environment variable {name}"));
        assert_ne!(printed(key, &Flags::default(), &[]), line);
        assert!(DEFAULTS.contains(name), "{name} stands nowhere in config/default.toml");
    }
}

#[test]
fn later_layers_win() {
    let file = file(
        "[server]\nport = 1001\nname = \"file\"\nversion = \"file\"\n[session]\ncapacity = 7\n",
    );
    let path = file.path().to_str().expect("is text");
    let in_file = from_file(file.path());
    let variables = [("PORT", "1002"), ("MCP_SERVER_NAME", "environment")];
    let flags =
        Flags { port: Some(1003), host: Some("127.0.0.9".into()), ..from_file(file.path()) };

    let origin = |key: &str, flags: &Flags, variables: Variables<'_>| {
        let line = printed(key, flags, variables);
        line.split_once(" = ").expect("a value").1.to_owned()
    };
    let none = Flags::default();
    assert_eq!(origin("server.port", &none, &[]), "3000  # default");
    assert_eq!(origin("server.port", &in_file, &[]), format!("1001  # {path}"));
    assert_eq!(origin("server.port", &in_file, &variables), "1002  # environment variable PORT");
    assert_eq!(origin("server.port", &flags, &variables), "1003  # flag --port");
    assert_eq!(origin("server.host", &flags, &[("HOST", "::1")]), "\"127.0.0.9\"  # flag --host");
    assert_eq!(checked(&flags, &variables).expect("fits").server.port, 1003);

    // A layer that is silent on a key leaves what stood below it.
    let config = checked(&flags, &variables).expect("fits");
    assert_eq!(config.server.name, "environment");
    assert_eq!(config.server.version, "file");
    assert_eq!(config.instances[9].session.capacity, 7);
    assert_eq!(config.instances[9].session.max_streams, 8);
}

#[test]
fn later_variables_win() {
    let port = |variables| environment(variables).server.port;
    assert_eq!(port(&[("MCP_ECHO_PORT", "2"), ("PORT", "1")]), 2);
    assert_eq!(port(&[("MCP_ECHO_SERVER__PORT", "3"), ("MCP_ECHO_PORT", "2"), ("PORT", "1")]), 3);
    assert!(!environment(&[("MCP_ECHO_DEBUG", "no"), ("DEBUG", "yes")]).debug);
}

#[test]
fn the_file_is_named_by_a_variable_or_a_flag() {
    let (one, two) = (file("[server]\nport = 1"), file("[server]\nport = 2"));
    let variables = [("MCP_ECHO_CONFIG", one.path().to_str().expect("is text"))];
    assert_eq!(environment(&variables).server.port, 1);
    assert_eq!(checked(&from_file(two.path()), &variables).expect("fits").server.port, 2);

    let missing = refusal(&from_file(Path::new("/no/such/file.toml")), &[]);
    assert_names(&missing, &["/no/such/file.toml", "cannot be read"]);
    let missing = refusal(&Flags::default(), &[("MCP_ECHO_CONFIG", "/no/such/file.toml")]);
    assert_names(&missing, &["/no/such/file.toml"]);
}

#[test]
fn an_instance_s_section_changes_that_instance_alone() {
    let file = file(
        r#"
        [session]
        capacity = 7
        [instances.3.session]
        capacity = 5
        [instances.3.auth]
        mode = "passthrough"
        [instances.8.tools]
        sets = ["session"]
        "#,
    );
    let variables =
        [("MCP_ECHO_INSTANCES__4__SESSION__TIMEOUT_SECONDS", "9"), ("MCP_SESSION_TIMEOUT", "8")];
    let config = checked(&from_file(file.path()), &variables).expect("fits");
    let [ref usual, .., ref eight, _] = config.instances[..] else { panic!("ten") };
    let (three, four) = (&config.instances[3], &config.instances[4]);
    assert_eq!((usual.session.capacity, three.session.capacity), (7, 5));
    assert_eq!(usual.session.timeout_seconds.get().as_secs(), 8);
    assert_eq!(three.session.timeout_seconds.get().as_secs(), 8, "the rest of it is not changed");
    assert_eq!(four.session.timeout_seconds.get().as_secs(), 9);
    assert_eq!(eight.tools.sets.len(), 1);
    for (number, policy) in config.instances.iter().enumerate() {
        let same = format!("{policy:?}") == format!("{usual:?}");
        assert_eq!(same, ![3, 4, 8].contains(&number), "instance {number}");
    }
}

#[test]
fn what_is_unknown_is_refused_by_name() {
    for (text, parts) in [
        ("sesion = 1", &["sesion"][..]),
        ("[sesion]\ncapacity = 1", &["sesion"]),
        ("[session]\ntimeout = 1", &["session.timeout", "timeout_seconds"]),
        ("[instances.3]\ncapacity = 1", &["instances.3.capacity"]),
        ("[instances.3.server]\nport = 1", &["instances.3.server"]),
        ("[instances.3.session]\ntimeout = 1", &["instances.3.session.timeout", "timeout_seconds"]),
        ("[instances.10.session]\ncapacity = 1", &["instances", "10"]),
        ("[instances.03.session]\ncapacity = 1", &["instances", "03"]),
    ] {
        let file = file(text);
        let path = file.path().to_str().expect("is text");
        let message = refusal(&from_file(file.path()), &[]);
        assert_names(&message, parts);
        assert_names(&message, &[path]);
    }
    for (name, key) in [
        ("MCP_ECHO_SESION__CAPACITY", "sesion.capacity"),
        ("MCP_ECHO_SESSION__TIMEOUT", "session.timeout"),
        ("MCP_ECHO_SESSION", "session"),
        ("MCP_ECHO_SESSION_CAPACITY", "session_capacity"),
        ("MCP_ECHO_SESSION__CAPACITY__X", "session.capacity.x"),
        ("MCP_ECHO_INSTANCES__3__SERVER__PORT", "instances.3.server.port"),
        ("MCP_ECHO_INSTANCES__10__SESSION__CAPACITY", "instances.10.session.capacity"),
        ("MCP_ECHO_INSTANCES__3", "instances.3"),
        ("MCP_ECHO_STATEFUL", "stateful"),
        ("MCP_ECHO_", "MCP_ECHO_"),
    ] {
        let message = refusal(&Flags::default(), &[(name, "1")]);
        assert_names(&message, &[key, name, "no such key"]);
    }
}

/// The key, the value and the source of everything that could not work.
#[test]
fn bad_values_are_refused_by_name() {
    let mut wrong = Vec::new();
    for (name, value, key) in [
        ("HOST", "nowhere", "server.host"),
        ("PORT", "http", "server.port"),
        ("PORT", "70000", "server.port"),
        ("MCP_ECHO_PORT", "-1", "server.port"),
        ("MCP_ECHO_SERVER__PORT", "30.5", "server.port"),
        ("DEBUG", "maybe", "debug"),
        ("BASE_DOMAIN", "http://example.org", "hosts.base_domains"),
        ("BASE_DOMAIN", ",", "hosts.base_domains"),
        ("MCP_ECHO_HOSTS__FRONT_DOOR_NAMES", "a b", "hosts.front_door_names"),
        ("MCP_ECHO_HOSTS__FRONT_DOOR", "fixed:10", "hosts.front_door"),
        ("HOSTNAME", "my pod", "replica.name"),
        ("MCP_ECHO_REPLICA__TAG", "xyz", "replica.tag"),
        ("MCP_ECHO_HTTP__MAX_CONNECTIONS", "0", "http.max_connections"),
        ("MCP_ECHO_HTTP__HEADER_TIMEOUT_SECONDS", "0", "http.header_timeout_seconds"),
        ("MCP_ECHO_HTTP__BODY_TIMEOUT_SECONDS", "-1", "http.body_timeout_seconds"),
        ("MCP_ECHO_HTTP__WRITE_TIMEOUT_SECONDS", "0", "http.write_timeout_seconds"),
        ("MCP_ECHO_HTTP__MAX_BODY_BYTES", "10", "http.max_body_bytes"),
        ("MCP_ECHO_ADMIN__RECENT_REQUESTS", "100001", "admin.recent_requests"),
        ("MCP_ECHO_HTTP__TRUSTED_PROXIES", "10.0.0.0/33", "http.trusted_proxies"),
        ("LOG_LEVEL", "loud", "log.level"),
        ("LOG_FORMAT", "xml", "log.format"),
        ("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "1e99", "shutdown.drain_seconds"),
        ("MCP_PROTOCOL_VERSION", "2020-01-01", "protocol.version"),
        ("MCP_PROTOCOL_VERSIONS_SUPPORTED", "2025-06-18,1.0", "protocol.versions"),
        ("MCP_PROTOCOL_VERSIONS_SUPPORTED", ",", "protocol.versions"),
        ("MCP_PROTOCOL_VERSION", "2026-07-28", "protocol.version"),
        ("MCP_ECHO_PROTOCOL__PAGE_SIZE", "0", "protocol.page_size"),
        ("MCP_ECHO_ORIGIN__ALLOWED", "app.example.org", "origin.allowed"),
        ("MCP_ECHO_PROTOCOL__RESPONSE", "xml", "protocol.response"),
        ("MCP_SESSION_TIMEOUT", "0", "session.timeout_seconds"),
        ("MCP_SESSION_TIMEOUT", "-5", "session.timeout_seconds"),
        ("MCP_SESSION_TIMEOUT", "soon", "session.timeout_seconds"),
        ("MCP_SESSION_TIMEOUT", "inf", "session.timeout_seconds"),
        ("MCP_SESSION_TIMEOUT", "NaN", "session.timeout_seconds"),
        ("MCP_ECHO_SESSION__IMPLICIT", "perhaps", "session.implicit"),
        ("MCP_ECHO_SESSION__CAPACITY", "0", "session.capacity"),
        ("MCP_ECHO_SESSION__CAPACITY", "-1", "session.capacity"),
        ("MCP_ECHO_SESSION__MAX_DATA_KEYS", "many", "session.max_data_keys"),
        ("MCP_ECHO_SESSION__MAX_STREAMS", "0", "session.max_streams"),
        ("MCP_ECHO_STREAM__KEEP_ALIVE_SECONDS", "0.01", "stream.keep_alive_seconds"),
        ("MCP_ECHO_AUTH__MODE", "basic", "auth.mode"),
        ("MCP_ECHO_AUTH__MODE", "tokens", "auth.mode"),
        ("MCP_ECHO_TOOLS__SETS", "session,nonsense", "tools.sets"),
        ("MCP_ECHO_TOOLS__MAX_DELAY_SECONDS", "-1", "tools.max_delay_seconds"),
        ("MCP_ECHO_INSTANCES__3__SESSION__CAPACITY", "0", "instances.3.session.capacity"),
        ("MCP_ECHO_INSTANCES__3__AUTH__MODE", "tokens", "instances.3.auth.mode"),
    ] {
        let message = refusal(&Flags::default(), &[(name, value)]);
        let source = format!("(from environment variable {name})");
        // A list is shown with its quotes, an empty one as [].
        let value = if value == "," { "[]" } else { value };
        let parts = [key, value.split(',').next_back().unwrap_or_default(), &source];
        if !parts.iter().all(|part| message.contains(part)) {
            wrong.push(format!("{name}={value}: {message}"));
        }
    }
    for (text, key, value) in [
        ("debug = \"maybe\"", "debug", "maybe"),
        ("[server]\nport = \"3000\"", "server.port", "3000"),
        ("[server]\nname = \"\"", "server.name", "\"\""),
        ("[hosts]\nbase_domains = \"example.org\"", "hosts.base_domains", "example.org"),
        ("[replica]\ntag = 12", "replica.tag", "12"),
        ("[session]\ncapacity = 1.5", "session.capacity", "1.5"),
        ("[instances.3.session]\ncapacity = \"x\"", "instances.3.session.capacity", "x"),
        (
            "[instances.3.session]\ntimeout_seconds = -3",
            "instances.3.session.timeout_seconds",
            "-3",
        ),
        ("[instances.3.protocol]\nversion = \"1.0\"", "instances.3.protocol.version", "1.0"),
        ("[instances.3]\nsession = 4711", "instances.3.session", "4711"),
        ("instances = 4711", "instances", "4711"),
    ] {
        let file = file(text);
        let source = file.path().to_str().expect("is text");
        let message = refusal(&from_file(file.path()), &[]);
        if ![key, value, source].iter().all(|part| message.contains(part)) {
            wrong.push(format!("{text:?}: {message}"));
        }
    }
    assert!(wrong.is_empty(), "without key, value or source:\n{}", wrong.join("\n"));
}

#[test]
fn a_file_that_is_no_toml_is_refused_by_name() {
    for text in ["[server", "port 3000", "[server]\nport = 1\nport = 2", "\"", "server = 1"] {
        let file = file(text);
        let message = refusal(&from_file(file.path()), &[]);
        assert_names(&message, &[file.path().to_str().expect("is text")]);
    }
}

#[test]
fn no_message_shows_a_secret() {
    const SECRET: &str = "hush-hush-4711";
    for text in [
        "[admin]\ntoken = [\"SECRET\"]",
        "[admin]\ntoken = { SECRET = 1 }",
        "[admin]\ntoken = \"SECRET",
        "[admin]\ntoken = SECRET",
        "[admin]\ntoken = \"SECRET\"\ntoken = \"SECRET\"",
        "[auth]\ntokens = \"alice=SECRET\"",
        "[auth]\ntokens = [\"SECRET\"]",
        "[auth]\ntokens = [\"alice=\", \"=SECRET\"]",
        "[auth]\ntokens = [[\"alice=SECRET\"]]",
        "[auth]\ntokens = [\"alice=SECRET\"",
        "[instances.3.auth]\ntokens = [\"SECRET\"]",
        "[instances.3.auth]\ntokens = \"alice=SECRET\"",
        "[instances.3.auth]\ntokens = \"alice=SECRET",
    ] {
        let file = file(&text.replace("SECRET", SECRET));
        let message = refusal(&from_file(file.path()), &[]);
        assert_names(&message, &[file.path().to_str().expect("is text")]);
        assert!(!message.contains(SECRET), "{text:?}: {message}");
    }
    for name in ["MCP_ECHO_AUTH__TOKENS", "MCP_ECHO_INSTANCES__3__AUTH__TOKENS"] {
        let message = refusal(&Flags::default(), &[(name, SECRET)]);
        assert_names(&message, &[name, "auth.tokens"]);
        assert!(!message.contains(SECRET), "{name}: {message}");
    }
}

#[test]
fn print_shows_no_secret() {
    let file =
        file("[instances.3.auth]\nmode = \"tokens\"\ntokens = [\"eve=hush-3\", \"mal=hush-4\"]");
    let variables = [
        ("ADMIN_TOKEN", "hush-1"),
        ("MCP_ECHO_AUTH__TOKENS", "alice=hush-2"),
        ("MCP_ECHO_AUTH__TOKENS_FILE", "/run/tokens"),
    ];
    let flags = from_file(file.path());
    let text = print(&flags, &variables);
    assert!(!text.contains("hush"), "{text}");
    for (key, value) in [
        ("admin.token", r#""***"  #"#),
        ("auth.tokens", r#"["***"]  #"#),
        ("instances.3.auth.tokens", r#"["***", "***"]  #"#),
        // A path is no secret.
        ("auth.tokens_file", r#""/run/tokens"  #"#),
    ] {
        assert_names(&printed(key, &flags, &variables), &[value]);
    }
    let config = checked(&flags, &variables).expect("fits");
    assert!(!format!("{config:?}").contains("hush"), "nor does Debug");
    assert!(printed("admin.token", &Flags::default(), &[]).contains("\"\""), "none is not hidden");
}

#[test]
fn print_is_a_configuration_file_that_gives_the_same() {
    let written = file(
        r#"
        debug = false
        [server]
        name = 'Tom "Q" \ é # 1'
        [session]
        timeout_seconds = 0.5
        capacity = 9007199254740993
        [origin]
        allowed = ["https://a.example.org", "*"]
        [instances.3.session]
        capacity = 5
        [instances.3.tools]
        sets = []
        "#,
    );
    let flags = Flags { port: Some(1), ..from_file(written.path()) };
    let variables = [("BASE_DOMAIN", "one.test,two.test"), ("LOG_LEVEL", "WARNING")];
    let text = print(&flags, &variables);
    let again = file(&text);
    let config = checked(&flags, &variables).expect("fits");
    assert_eq!(config.server.name, r#"Tom "Q" \ é # 1"#);
    let same = checked(&from_file(again.path()), &[]).expect(&text);
    assert_eq!(format!("{config:#?}"), format!("{same:#?}"));
}

#[test]
fn variables_that_kubernetes_injects_are_ignored() {
    let links = [
        ("MCP_ECHO_STATEFUL_SERVICE_HOST", "10.0.0.1"),
        ("MCP_ECHO_STATEFUL_SERVICE_PORT", "3000"),
        ("MCP_ECHO_STATEFUL_SERVICE_PORT_HTTP", "3000"),
        ("MCP_ECHO_STATEFUL_PORT", "tcp://10.0.0.1:3000"),
        ("MCP_ECHO_STATEFUL_PORT_3000_TCP", "tcp://10.0.0.1:3000"),
        ("MCP_ECHO_STATEFUL_PORT_3000_TCP_PROTO", "tcp"),
        ("MCP_ECHO_STATEFUL_PORT_3000_TCP_PORT", "3000"),
        ("MCP_ECHO_STATEFUL_PORT_3000_TCP_ADDR", "10.0.0.1"),
        // Of a second Service whose name goes on.
        ("MCP_ECHO_STATEFUL_HEADLESS_SERVICE_HOST", "None"),
        ("MCP_ECHO_STATEFUL_HEADLESS_PORT", "tcp://10.0.0.1:3000"),
    ];
    assert_eq!(format!("{:?}", environment(&links)), format!("{:?}", environment(&[])));
}

#[test]
fn variables_of_others_are_ignored() {
    let others = [("PATH", "/bin"), ("MCP_ECHOES", "1"), ("mcp_echo_port", "1"), ("LOG", "x")];
    assert_eq!(format!("{:?}", environment(&others)), format!("{:?}", environment(&[])));
}
