//! What a value may be: understood where its meaning is clear, refused where it could never do anything, and told in
//! plain words.

use mcp_echo_stateful::config::{Config, Flags, Layers};
use serde_json::json;

use crate::support::TestServer;

fn checked(name: &str, value: &str) -> Result<Config, String> {
    let variables = [(name.to_owned(), value.to_owned())];
    let layers = Layers::merge(&Flags::default(), &variables);
    layers.and_then(|layers| layers.check()).map_err(|error| error.to_string())
}

#[track_caller]
fn understood(name: &str, value: &str) -> Config {
    checked(name, value).unwrap_or_else(|error| panic!("{name}={value}: {error}"))
}

/// The line of a refusal, which names the key and the source.
#[track_caller]
fn refused(name: &str, value: &str, key: &str) -> String {
    let line = match checked(name, value) {
        Ok(_) => panic!("{name}={value} is taken"),
        Err(line) => line,
    };
    assert!(line.starts_with(&format!("{key}: ")), "{name}={value}: {line}");
    assert!(line.contains(&format!("(from environment variable {name})")), "{line}");
    line
}

#[test]
fn a_host_may_be_written_in_every_usual_form() {
    for (text, address) in [
        ("127.0.0.2", "127.0.0.2"),
        ("::", "::"),
        ("[::]", "::"),
        ("[::1]", "::1"),
        ("localhost", "127.0.0.1"),
        ("LOCALHOST", "127.0.0.1"),
    ] {
        for name in ["HOST", "MCP_ECHO_HOST", "MCP_ECHO_SERVER__HOST"] {
            assert_eq!(understood(name, text).server.host.to_string(), address, "{name}={text}");
        }
        let flags = Flags { host: Some(text.to_owned()), ..Flags::default() };
        let config = Layers::merge(&flags, &[]).and_then(|layers| layers.check()).expect("fits");
        assert_eq!(config.server.host.to_string(), address, "--host {text}");
    }
    for text in ["[127.0.0.1", "http://localhost", "127.0.0.1:3000", "*", "a b"] {
        refused("HOST", text, "server.host");
    }
    for (text, address) in [
        ("localhost:9090", "127.0.0.1:9090"),
        ("[::1]:9090", "[::1]:9090"),
        ("127.0.0.1:9090", "127.0.0.1:9090"),
    ] {
        let listen = understood("MCP_ECHO_ADMIN__LISTEN", text).admin.listen.0;
        assert_eq!(listen.map(|address| address.to_string()).as_deref(), Some(address));
    }
    // The same port of the other family is another one.
    understood("MCP_ECHO_ADMIN__LISTEN", "[::1]:3000");
    for text in [":9090", "::1:9090", "localhost", "9090", "localhost:http", "localhost:70000"] {
        refused("MCP_ECHO_ADMIN__LISTEN", text, "admin.listen");
    }
}

#[test]
fn a_network_is_one_and_can_match() {
    for (text, network) in [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ] {
        let config = understood("MCP_ECHO_HTTP__TRUSTED_PROXIES", text);
        assert_eq!(config.http.trusted_proxies[0].0.to_string(), network, "{text}");
    }
    for (text, hint) in [
        ("10.0.0.5/8", "10.0.0.0/8 for the network or 10.0.0.5 for the address"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("::ffff:10.0.0.0/90", ""),
        ("proxy.internal", "such as 10.0.0.0/8"),
        ("10.0.0.0/8,::ffff:10.0.0.0/104", "twice"),
    ] {
        let line = refused("MCP_ECHO_HTTP__TRUSTED_PROXIES", text, "http.trusted_proxies");
        assert!(line.contains(hint), "{line}");
    }
}

#[tokio::test]
async fn a_mapped_network_trusts_the_peers_that_it_names() {
    let proxies = ("MCP_ECHO_HTTP__TRUSTED_PROXIES", "::ffff:127.0.0.0/104");
    let server = TestServer::start(&[proxies]).await;
    let headers = server.session(0).await.ask("printHeader", json!({})).await;
    assert_eq!(headers["peer_is_trusted_proxy"], true);
}

#[test]
fn an_origin_is_brought_into_the_form_that_browsers_send() {
    for (text, origin) in [
        ("https://App.Example.com", "https://app.example.com"),
        ("HTTPS://app.example.com/", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80/", "http://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("http://[0:0:0:0:0:0:0:1]:8080", "http://[::1]:8080"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("*", "*"),
        ("null", "null"),
    ] {
        let config = understood("MCP_ECHO_ORIGIN__ALLOWED", text);
        assert_eq!(config.instances[0].origin.allowed[0].as_str(), origin, "{text}");
    }
    for text in [
        "https://*.example.com",
        "*.example.com",
        "https://app.example.com/login",
        "https://app.example.com?x",
        "https://user@app.example.com",
        "https://app.example.com:99999",
        "https://bücher.example",
        "https://",
        "file://",
        "://app.example.com",
        "https://app.example.com,https://APP.example.com:443",
    ] {
        refused("MCP_ECHO_ORIGIN__ALLOWED", text, "origin.allowed");
    }
}

#[tokio::test]
async fn an_origin_with_the_port_of_its_scheme_lets_its_page_in() {
    let allowed = ("MCP_ECHO_ORIGIN__ALLOWED", "https://Page.example.org:443/");
    let server = TestServer::start(&[allowed]).await;
    for (origin, status) in
        [("https://page.example.org", 200), ("https://page.example.org:8443", 403)]
    {
        let answer = server.initialize("2025-06-18").header("Origin", origin).send().await;
        answer.expect_status(status);
    }
}

#[tokio::test]
async fn an_address_among_the_front_door_names_may_be_written_in_full() {
    let names = ("MCP_ECHO_HOSTS__FRONT_DOOR_NAMES", "[0:0:0:0:0:0:0:2],GATE.internal.,::3");
    let server = TestServer::start(&[names]).await;
    for host in ["[::2]", "gate.internal", "[::3]:3000"] {
        server.initialize("2025-06-18").host(host).send().await.expect_status(200);
    }
}

#[test]
fn what_could_never_do_anything_is_refused() {
    let long = format!("{}example.com", "a.".repeat(120));
    let label = format!("{}.example.com", "a".repeat(64));
    for (name, value, key) in [
        ("BASE_DOMAIN", "[::1]", "hosts.base_domains"),
        ("BASE_DOMAIN", "10.0.0.1", "hosts.base_domains"),
        ("BASE_DOMAIN", "example.com:3000", "hosts.base_domains"),
        ("BASE_DOMAIN", "*.example.com", "hosts.base_domains"),
        ("BASE_DOMAIN", "example.com,Example.COM.", "hosts.base_domains"),
        ("BASE_DOMAIN", long.as_str(), "hosts.base_domains"),
        ("BASE_DOMAIN", label.as_str(), "hosts.base_domains"),
        ("MCP_ECHO_HOSTS__FRONT_DOOR_NAMES", "gate:3000", "hosts.front_door_names"),
        ("MCP_ECHO_HOSTS__FRONT_DOOR_NAMES", "gate,gate", "hosts.front_door_names"),
        ("MCP_ECHO_HOSTS__FRONT_DOOR_NAMES", "*.gate,*.GATE.", "hosts.front_door_names"),
        ("MCP_ECHO_HOSTS__FRONT_DOOR_NAMES", "*", "hosts.front_door_names"),
        ("MCP_ECHO_HOSTS__FRONT_DOOR_NAMES", "*gate", "hosts.front_door_names"),
        ("MCP_ECHO_HOSTS__FRONT_DOOR_NAMES", "a.*.gate", "hosts.front_door_names"),
        ("MCP_ECHO_HOSTS__FRONT_DOOR_NAMES", "*.127.0.0.1", "hosts.front_door_names"),
        ("MCP_PROTOCOL_VERSIONS_SUPPORTED", "2025-06-18,2025-06-18", "protocol.versions"),
        ("MCP_ECHO_TOOLS__SETS", "session,session", "tools.sets"),
        ("MCP_ECHO_AUTH__SCOPES", "read write", "auth.scopes"),
        ("MCP_ECHO_AUTH__SCOPES", "read,read", "auth.scopes"),
        ("MCP_ECHO_AUTH__SCOPES", "read,offline_access", "auth.scopes"),
        ("MCP_ECHO_AUTH__AUTHORIZATION_SERVERS", "id.example.com", "auth.authorization_servers"),
        ("MCP_ECHO_AUTH__AUTHORIZATION_SERVERS", "https://", "auth.authorization_servers"),
        (
            "MCP_ECHO_AUTH__AUTHORIZATION_SERVERS",
            "https://id.example.com/?tenant=1",
            "auth.authorization_servers",
        ),
        ("MCP_ECHO_SESSION__ANSWER_TIMEOUT_SECONDS", "0", "session.answer_timeout_seconds"),
        ("MCP_ECHO_TASKS__TTL_SECONDS", "0", "tasks.ttl_seconds"),
        ("MCP_ECHO_ADMIN__LISTEN", "0.0.0.0:3000", "admin.listen"),
        ("MCP_ECHO_ADMIN__LISTEN", "127.0.0.1:3000", "admin.listen"),
        ("ADMIN_TOKEN", "two words", "admin.token"),
        ("MCP_ECHO_AUTH__TOKENS", "alice=two words", "auth.tokens"),
        ("MCP_ECHO_AUTH__TOKENS", "alice=s3cret,bob=s3cret", "auth.tokens"),
        ("MCP_ECHO_INSTANCES__3__TOOLS__SETS", "session,session", "instances.3.tools.sets"),
    ] {
        refused(name, value, key);
    }
}

#[test]
fn messages_are_plain_and_tell_a_value_once() {
    for (name, value, key, problem) in [
        ("PORT", "70000", "server.port", "70000 is not a whole number from 0 to 65535"),
        ("PORT", "-1", "server.port", "-1 is not a whole number from 0 to 65535"),
        ("PORT", "http", "server.port", "\"http\" is not a number"),
        ("DEBUG", "maybe", "debug", "\"maybe\" is not true or false"),
        ("LOG_FORMAT", "xml", "log.format", "\"xml\" is none of pretty, compact, json"),
        (
            "MCP_PROTOCOL_VERSIONS_SUPPORTED",
            "2025-06-18,1.0",
            "protocol.versions",
            "\"1.0\" must be one of 2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25, 2026-07-28",
        ),
        (
            "MCP_ECHO_TOOLS__SETS",
            "session,nonsense",
            "tools.sets",
            "\"nonsense\" is none of session, diagnostics, streaming, conformance",
        ),
        (
            "MCP_ECHO_SESSION__CAPACITY",
            "1.5",
            "session.capacity",
            "1.5 is not a whole number, 0 or more",
        ),
        (
            "MCP_ECHO_SESSION__CAPACITY",
            "-1",
            "session.capacity",
            "-1 is not a whole number, 0 or more",
        ),
    ] {
        let line = refused(name, value, key);
        assert!(line.contains(&format!("{key}: {problem} (from")), "{line}");
        for rust in ["u16", "u64", "usize", "struct ", "invalid type", "`"] {
            assert!(!line.contains(rust), "{rust}: {line}");
        }
    }
}

/// Another program may mean something else by a name as plain as these.
#[test]
fn a_plain_name_that_cannot_be_read_says_which_name_wins() {
    for (name, value, ours) in [
        ("DEBUG", "express:*", "MCP_ECHO_DEBUG"),
        ("HOST", "x86_64-conda-linux-gnu:0", "MCP_ECHO_SERVER__HOST"),
        ("PORT", "tcp://10.0.0.1:80", "MCP_ECHO_SERVER__PORT"),
        ("LOG_LEVEL", "silly", "MCP_ECHO_LOG__LEVEL"),
        ("LOG_FORMAT", "%h %l %u", "MCP_ECHO_LOG__FORMAT"),
        ("HOSTNAME", "my pod", "MCP_ECHO_REPLICA__NAME"),
    ] {
        let line = checked(name, value).expect_err("is refused").to_string();
        let remedy = format!("if {name} is another program's, set {ours}, which wins");
        assert!(line.ends_with(&remedy), "{line}");
    }
    let ours = checked("MCP_ECHO_PORT", "many").expect_err("is refused");
    assert!(ours.ends_with("(from environment variable MCP_ECHO_PORT)"), "{ours}");
}

#[test]
fn the_strongest_of_several_names_is_the_only_one_that_is_read() {
    let all = |variables: &[(&str, &str)], flags: Flags| {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Layers::merge(&flags, &variables).and_then(|layers| layers.check()).expect("fits")
    };
    let none = Flags::default();
    assert!(all(&[("DEBUG", "express:*"), ("MCP_ECHO_DEBUG", "true")], none.clone()).debug);
    let hosts = [("HOST", "a b"), ("MCP_ECHO_HOST", "c d"), ("MCP_ECHO_SERVER__HOST", "::1")];
    assert_eq!(all(&hosts, none.clone()).server.host.to_string(), "::1");
    let levels = [("LOG_LEVEL", "silly"), ("MCP_ECHO_LOG__LEVEL", "warn")];
    assert_eq!(all(&levels, none).log.level.0, tracing::Level::WARN);
    let flags = Flags { port: Some(7), ..Flags::default() };
    assert_eq!(all(&[("PORT", "tcp://10.0.0.1:80")], flags).server.port, 7);
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let names = mcp_echo_stateful::config::PLAIN_NAMES.iter().map(|(name, _)| (*name).to_owned());
    let keys = mcp_echo_stateful::config::Key::all()
        .map(|key| format!("MCP_ECHO_{}", key.path.to_uppercase().replace('.', "__")));
    let instance = "MCP_ECHO_INSTANCES__3__AUTH__SCOPES".to_owned();
    let names: Vec<_> = names.chain(keys).chain(["MCP_ECHO_CONFIG".to_owned(), instance]).collect();
    let none = format!("{:?}", understood("PATH", "/bin"));
    for empty in ["", "  ", "\t"] {
        let all: Vec<_> = names.iter().map(|name| (name.clone(), empty.to_owned())).collect();
        let layers = Layers::merge(&Flags::default(), &all).expect("merges");
        assert_eq!(format!("{:?}", layers.check().expect("fits")), none, "{empty:?}");
    }
    // A weaker one that says something is not hidden by an empty one.
    let both = [("MCP_ECHO_PORT", ""), ("PORT", "4711")].map(|(a, b)| (a.into(), b.into()));
    let layers = Layers::merge(&Flags::default(), &both).expect("merges");
    assert_eq!(layers.check().expect("fits").server.port, 4711);
}

#[test]
fn a_name_that_is_nearly_right_is_led_to_the_right_one() {
    for (wrong, right) in [
        ("MCP_ECHO_SESSION_CAPACITY", "MCP_ECHO_SESSION__CAPACITY"),
        ("MCP_ECHO_SESION__CAPACITY", "MCP_ECHO_SESSION__CAPACITY"),
        ("MCP_ECHO_SESSION__TIMEOUT", "MCP_ECHO_SESSION__TIMEOUT_SECONDS"),
        ("MCP_ECHO_HTTP_TRUSTED_PROXIES", "MCP_ECHO_HTTP__TRUSTED_PROXIES"),
        ("MCP_ECHO_CONFG", "MCP_ECHO_CONFIG"),
        ("MCP_ECHO_PROT", "MCP_ECHO_PORT"),
        ("MCP_ECHO_INSTANCES__3__SESSION_CAPACITY", "MCP_ECHO_INSTANCES__3__SESSION__CAPACITY"),
    ] {
        let line = checked(wrong, "1").expect_err("is refused");
        assert!(line.contains(&format!("did you mean {right}?")), "{line}");
    }
    let eleventh = checked("MCP_ECHO_INSTANCES__10__SESSION__CAPACITY", "1");
    assert!(eleventh.expect_err("is refused").contains("the instances are 0 to 9"));
    let far = checked("MCP_ECHO_KUBERNETES", "1").expect_err("is refused");
    assert!(!far.contains("did you mean"), "{far}");

    for (text, right) in [
        ("[session]\ncapcity = 1", "session.capacity"),
        ("[sesion]\ncapacity = 1", "session"),
        ("[session]\nport = 1", "server.port"),
        ("timeout_seconds = 1", "session.timeout_seconds"),
        ("[instances.3.session]\ncapcity = 1", "instances.3.session.capacity"),
    ] {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("is written");
        let flags = Flags { file: Some(file.path().to_owned()), ..Flags::default() };
        let line = Layers::merge(&flags, &[]).and_then(|layers| layers.check().map(drop));
        let line = line.expect_err("is refused").to_string();
        assert!(line.contains(&format!("did you mean {right}?")), "{text:?}: {line}");
    }
}
