//! Who may do what in the store: the user that docs/store.md describes is enough for everything, and one that is given
//! the keys of one instance is enough for that instance and for no other.
//!
//! Trap: a refusal is seen in the store's `ACL LOG`, which also tells of what a client never noticed.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::json;

use crate::{
    documents::ROOT,
    stores::{Engine, StoreServer},
    support::TestServer,
};

const DOCUMENT: &str = include_str!("../../docs/store.md");

/// The line of the document that makes a user.
pub(crate) fn rules() -> Vec<&'static str> {
    let line = DOCUMENT.lines().find_map(|line| line.strip_prefix("ACL SETUSER mcpe "));
    line.expect("docs/store.md has a user").split(' ').collect()
}

/// A user with these rules, and the address with which a server is that user.
fn let_in(store: &StoreServer, name: &str, rules: &[String]) -> String {
    let command = ["ACL", "SETUSER", name].into_iter().chain(rules.iter().map(String::as_str));
    let reply = store.command(&command.collect::<Vec<_>>());
    assert!(!reply.is_error(), "{reply:?}");
    store.url().replace("redis://", &format!("redis://{name}:s3cret@"))
}

/// A server that is this user. Its store may take as long as a busy machine does.
async fn server(variables: &[(&str, &str)]) -> TestServer {
    TestServer::start(&[variables, &[("MCP_ECHO_STORE__TIMEOUT_SECONDS", "5")]].concat()).await
}

/// The same rules for the keys and the channels of one instance, and what belongs to all of them.
fn of_one(instance: u8) -> Vec<String> {
    let narrow = |rule: &&str| match *rule {
        "~mcpe:*" => vec![format!("~mcpe:{{mcpe:{instance}}}:*"), "~mcpe:{mcpe}:*".to_owned()],
        "&mcpe:*" => vec![format!("&mcpe:{{mcpe:{instance}}}:*"), "&mcpe:{mcpe}:*".to_owned()],
        rule => vec![rule.to_owned()],
    };
    let narrowed: Vec<_> = rules().iter().flat_map(narrow).collect();
    assert_eq!(narrowed.len(), rules().len() + 2);
    narrowed
}

/// Whatever a session does, at one instance.
async fn use_a_session(server: &TestServer, instance: u8) {
    let talk = server.session(instance).await;
    talk.call("echo", json!({"message": "x"})).send().await.expect_status(200);
    talk.call("set_session_data", json!({"key": "k", "value": 1})).send().await.expect_status(200);
    talk.call("get_session_data", json!({"key": "k"})).send().await.expect_status(200);
    let info = talk.info().await;
    assert_eq!(info["data_keys"], json!(["k"]), "{info}");
    talk.request("DELETE").send().await.expect_status(204);
    talk.rpc("ping", json!({})).send().await.expect_status(404);
    server.session(instance).await.rpc("ping", json!({})).send().await.expect_status(200);
}

#[track_caller]
fn expect_no_refusal(store: &StoreServer) {
    let refused = store.command(&["ACL", "LOG"]);
    assert!(refused.list().is_empty(), "{refused:?}");
}

#[tokio::test]
async fn the_user_of_the_document_can_do_all_that_is_needed_and_nothing_else() {
    for engine in Engine::ALL {
        let store = StoreServer::start(engine);
        let rules: Vec<_> = rules().into_iter().map(str::to_owned).collect();
        let url = let_in(&store, "mcpe", &rules);
        let server = server(&[("MCP_STORE_URL", &url)]).await;
        for instance in 0..10 {
            use_a_session(&server, instance).await;
        }
        expect_no_refusal(&store);
        for command in [
            &["GET", "elsewhere"][..],
            &["PUBLISH", "elsewhere", "x"],
            &["KEYS", "*"],
            &["FLUSHALL"],
            &["CONFIG", "SET", "maxmemory", "1"],
            &["ACL", "LIST"],
        ] {
            let reply = store.command(&[&["ACL", "DRYRUN", "mcpe"], command].concat());
            assert!(reply.is_error() || reply.text() != "OK", "{command:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn ten_instances_never_see_each_others_keys() {
    let store = StoreServer::start(Engine::Redis);
    for instance in 0..10 {
        let url = let_in(&store, &format!("only-{instance}"), &of_one(instance));
        // The other nine keep theirs in memory: this server has no business at their keys.
        let others: Vec<_> = (0..10)
            .filter(|other| *other != instance)
            .map(|other| format!("MCP_ECHO_INSTANCES__{other}__SESSION__STORE"))
            .collect();
        let others = others.iter().map(|name| (name.as_str(), "memory"));
        let variables: Vec<_> = others.chain([("MCP_STORE_URL", url.as_str())]).collect();
        let server = server(&variables).await;
        use_a_session(&server, instance).await;
        // What was tried to find out which rights there are.
        store.command(&["ACL", "LOG", "RESET"]);
        use_a_session(&server, instance).await;
        expect_no_refusal(&store);
        use_a_session(&server, (instance + 1) % 10).await;
        expect_no_refusal(&store);
    }
    let live = store.command(&["KEYS", "mcpe:{mcpe:*}:live"]);
    assert_eq!(live.list().len(), 10, "{live:?}");
    let foreign = store.command(&["KEYS", "*"]);
    assert!(foreign.list().iter().all(|key| key.text().starts_with("mcpe:{mcpe")), "{foreign:?}");
}

#[tokio::test]
async fn an_instance_that_has_no_right_to_its_keys_begins_no_session() {
    let store = StoreServer::start(Engine::Redis);
    let url = let_in(&store, "only-3", &of_one(3));
    let server = server(&[("MCP_STORE_URL", &url)]).await;
    let refused = server.initialize("2025-11-25").host("echo-stateful4.example.com").send().await;
    refused.expect_error(503, -32000);
    assert!(!store.command(&["ACL", "LOG"]).list().is_empty());
    assert!(store.command(&["KEYS", "mcpe:{mcpe:4}:*"]).list().is_empty());
}

/// What scripts call is checked against the user who runs them.
#[test]
fn the_user_may_call_what_scripts_call() {
    let allowed: BTreeSet<_> =
        rules().iter().filter_map(|rule| rule.strip_prefix('+')).map(str::to_uppercase).collect();
    let mut called = BTreeSet::new();
    collect(&Path::new(ROOT).join("src"), &mut called);
    assert!(called.len() > 15, "{called:?}");
    let missing: Vec<_> = called.difference(&allowed).collect();
    assert!(missing.is_empty(), "docs/store.md gives its user no {missing:?}");
}

/// The commands in all scripts below a directory.
fn collect(directory: &Path, called: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, called);
        } else if path.extension().is_some_and(|extension| extension == "lua") {
            let text = fs::read_to_string(&path).expect("is text");
            let calls = text.split("redis.call('").skip(1).filter_map(|rest| rest.split_once('\''));
            called.extend(calls.map(|(command, _)| command.to_owned()));
        }
    }
}
