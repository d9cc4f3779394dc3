//! What operators see of the shared store: metrics, readiness, `/debug`, the greeting.

use std::{collections::BTreeSet, fs, path::Path};

use futures_util::future::join_all;
use mcp_echo_stateful::link::usage::OPERATIONS;
use serde_json::{Value, json};

use crate::{
    metrics::{self, Samples},
    process::Program,
    stores::{Between, Engine, Mode, StoreServer},
    support::{PATIENCE, TestServer, eventually, instance_host},
};

const REACHED: &str = "mcp_echo_store_up";

fn text_of_sources(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            text_of_sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).expect("is text"));
        }
    }
}

/// A script that is not in the table is counted nowhere.
#[test]
fn every_script_is_counted() {
    let mut text = String::new();
    text_of_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    // NAME: promised, "file.lua";
    let declared = text.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(": ")?;
        let kinds = ["promised, \"", "repeated, \""];
        let is_one = kinds.iter().any(|kind| rest.starts_with(kind)) && rest.ends_with(".lua\";");
        is_one.then(|| name.to_lowercase())
    });
    let declared: BTreeSet<String> = declared.collect();
    assert!(declared.len() >= 10, "{declared:?}");
    assert_eq!(declared, OPERATIONS.iter().map(|name| (*name).to_owned()).collect());
}

fn operations(page: &Samples, operation: &str, outcome: &str) -> f64 {
    let labels = format!("{{operation=\"{operation}\",outcome=\"{outcome}\"}}");
    page.get(&format!("mcp_echo_store_operations_total{labels}"))
}

#[tokio::test]
async fn what_the_store_is_asked_is_counted() {
    let (store, plain) = (StoreServer::start(Engine::Redis), TestServer::start(&[]).await);
    let page = Samples::of(&plain).await;
    assert_eq!(page.types().filter(|name| name.contains("_store_")).count(), 0);

    let between = Between::start(store.port());
    // Nothing is asked twice because the machine is busy.
    let patient = ("MCP_ECHO_STORE__TIMEOUT_SECONDS", "5");
    let server = TestServer::start(&[("MCP_STORE_URL", &between.url()), patient]).await;
    becomes(&server, 200).await;
    let talk = server.session(3).await;
    for _ in 0..3 {
        talk.ask("echo", json!({"message": "x"})).await;
    }
    talk.request("DELETE").send().await.expect_status(204);
    let page = Samples::of(&server).await;
    for (operation, count) in [("create", 1.0), ("commit", 3.0), ("finish", 1.0), ("list", 0.0)] {
        assert_eq!(operations(&page, operation, "ok"), count, "{operation}");
        assert_eq!(operations(&page, operation, "silent"), 0.0, "{operation}");
    }
    assert!(page.get("mcp_echo_store_scripts_sent_total") >= 3.0);
    assert_eq!((page.get(REACHED), page.get("mcp_echo_store_reconnects_total")), (1.0, 0.0));
    let asked = page.sum("mcp_echo_store_operations_total");
    assert_eq!(page.get("mcp_echo_store_duration_seconds_count"), asked);
    assert!(page.get("mcp_echo_store_duration_seconds_sum") > 0.0);

    between.set(Mode::Refuse);
    let talk = metrics::until(&server, |page| page.get(REACHED) == 0.0);
    talk.await;
    server.initialize("2025-06-18").host(&instance_host(3)).send().await.expect_status(503);
    between.set(Mode::Pass);
    let page = metrics::until(&server, |page| page.get(REACHED) == 1.0).await;
    assert!(operations(&page, "create", "down") + operations(&page, "create", "broken") >= 1.0);
    assert!(page.get("mcp_echo_store_reconnects_total") >= 1.0);
}

#[tokio::test]
async fn a_replica_is_ready_when_the_store_was_reached() {
    let store = StoreServer::start(Engine::Redis);
    for needed in ["false", "true"] {
        let between = Between::start(store.port());
        between.set(Mode::Refuse);
        let variables =
            [("MCP_STORE_URL", &*between.url()), ("MCP_ECHO_STORE__UNREADY_WHEN_LOST", needed)];
        let server = TestServer::start(&variables).await;
        let ready = async || server.request("GET", "/readyz").send().await;
        for path in ["/readyz", "/health"] {
            let answer = server.request("GET", path).send().await;
            answer.expect_status(503);
            assert_eq!(answer.text(), "the store has not been reached yet\n");
        }
        server.request("GET", "/livez").send().await.expect_status(200);
        between.set(Mode::Pass);
        becomes(&server, 200).await;

        between.set(Mode::Refuse);
        metrics::until(&server, |page| page.get(REACHED) == 0.0).await;
        let lost = if needed == "true" { 503 } else { 200 };
        ready().await.expect_status(lost);
        server.request("GET", "/livez").send().await.expect_status(200);
        between.set(Mode::Pass);
        becomes(&server, 200).await;
    }
}

/// Waits until `/readyz` has that status.
pub(crate) async fn becomes(server: &TestServer, status: u16) {
    let start = tokio::time::Instant::now();
    while server.request("GET", "/readyz").send().await.status != status {
        assert!(start.elapsed() < PATIENCE, "/readyz never became {status}");
    }
}

#[tokio::test]
async fn a_reload_changes_what_readiness_asks() {
    let store = StoreServer::start(Engine::Redis);
    let file = tempfile::NamedTempFile::new().expect("a file");
    let server = TestServer::start_from(file.path(), &[("MCP_STORE_URL", &store.url())]).await;
    becomes(&server, 200).await;
    store.kill();
    metrics::until(&server, |page| page.get(REACHED) == 0.0).await;
    server.request("GET", "/readyz").send().await.expect_status(200);
    fs::write(file.path(), "[store]\nunready_when_lost = true\n").expect("is written");
    server.operate("POST", "/debug/reload").send().await.expect_status(200);
    let answer = server.request("GET", "/readyz").send().await;
    answer.expect_status(503);
    assert_eq!(answer.text(), "the store is lost\n");
}

#[tokio::test]
async fn the_overview_says_where_sessions_live_and_the_list_who_has_them_open() {
    let store = StoreServer::start(Engine::Redis);
    store.command(&["ACL", "SETUSER", "app", "on", ">s3cret", "~*", "&*", "+@all"]);
    let url = format!("redis://app:s3cret@127.0.0.1:{}", store.port());
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), "[instances.9.session]\nstore = 'memory'\n").expect("is written");
    let variables = [("MCP_STORE_URL", &*url)];
    let start = || TestServer::start_from(file.path(), &variables);
    let (here, there) = (start().await, start().await);
    becomes(&here, 200).await;
    let overview = |server: &TestServer| {
        let asked = server.operate("GET", "/debug/overview").send();
        async move { asked.await.json() }
    };
    let seen = overview(&here).await;
    assert!(!seen.to_string().contains("s3cret"), "{seen}");
    let told = json!({
        "address": format!("127.0.0.1:{}", store.port()), "namespace": "mcpe", "up": true, "reached": true,
    });
    assert_eq!(seen["store"], told);
    let lives = |place: usize| seen["instances"][place]["sessions"].clone();
    assert_eq!((lives(0), lives(9)), ("shared".into(), "memory".into()));

    let talk = here.session(2).await;
    let stream = talk.request("GET").header("Accept", "text/event-stream").begin().await;
    eventually(|| talk.open_streams() == 1).await;
    for (server, open) in [(&here, true), (&there, false)] {
        let list = server.operate("GET", "/debug/sessions").send().await.json();
        let sessions = list["sessions"].as_array().expect("sessions");
        assert_eq!(sessions.len(), 1, "{list}");
        assert_eq!(sessions[0]["open_here"], open, "{list}");
        assert_eq!(sessions[0]["instance"], 2);
    }
    drop(stream);

    let plain = TestServer::start(&[]).await;
    let seen = overview(&plain).await;
    assert_eq!(
        (&seen["store"], &seen["instances"][0]["sessions"]),
        (&Value::Null, &"memory".into())
    );
}

/// Many are used in one millisecond.
#[tokio::test]
async fn a_list_that_is_asked_for_again_stands_as_it_stood() {
    let store = StoreServer::start(Engine::Redis);
    for variables in [&[("MCP_STORE_URL", &*store.url())][..], &[]] {
        let server = TestServer::start(variables).await;
        becomes(&server, 200).await;
        join_all((0..200).map(|count| server.session(count % 10))).await;
        let list = async |limit: usize| {
            let path = format!("/debug/sessions?limit={limit}");
            let list = server.operate("GET", &path).send().await.json();
            let sessions = list["sessions"].as_array().expect("sessions").iter();
            let refs = sessions.map(|session| session["ref"].as_str().expect("a ref").to_owned());
            refs.collect::<Vec<_>>()
        };
        let all = list(200).await;
        assert_eq!(all.len(), 200);
        for limit in [200, 50, 120, 1] {
            assert_eq!(list(limit).await, all[..limit]);
        }
    }
}

#[tokio::test]
async fn the_greeting_says_where_sessions_live() {
    let store = StoreServer::start(Engine::Redis);
    let url = store.url();
    let place = format!("shared, in the store at 127.0.0.1:{}, namespace mcpe", store.port());
    let keeps = ("MCP_ECHO_INSTANCES__9__SESSION__STORE", "memory");
    let but = format!("{place}; of instance 9 in memory");
    for (variables, said) in [
        (vec![], "in memory"),
        (vec![("MCP_STORE_URL", url.as_str())], place.as_str()),
        (vec![("MCP_STORE_URL", url.as_str()), keeps], but.as_str()),
    ] {
        let program = Program::start(&variables);
        eventually(|| program.greeting.lock().expect("lock").contains("Try it")).await;
        let greeting = program.greeting.lock().expect("lock").clone();
        assert!(greeting.contains(&format!("  sessions    {said}\n")), "{greeting}");
    }
}
