//! `probe` through gateways: clients have ids of the gateway's own there, and what it does upstream is its affair. Each
//! finding has a gateway here that it must be found of, and one that does all well has none.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method};
use mcp_echo_stateful::probe::findings;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use crate::{
    between::{Live, Passed, Passing, Proxy},
    probe::{ERAS, Found, probe},
    support::TestServer,
};

/// What a gateway does with its clients' sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Each has one of its own upstream, that ends with it.
    OfItsOwn,
    OneForAll,
    NewForEachRequest,
    LeavesBehind,
    LivesOn,
    AnswersAnew,
    /// What has ended is given to the next client.
    UsesAgain,
    AllowsNoDelete,
    GivesNoId,
}

/// A gateway before a server, which turns its clients' ids into its own.
async fn gateway(server: &TestServer, way: Way) -> Proxy {
    let to = server.address;
    let upstream: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    let pool: Arc<Mutex<Vec<String>>> = Arc::default();
    let clients = Arc::new(AtomicUsize::new(0));
    Proxy::start(move |mut request: Passing| {
        let (upstream, pool, clients) = (upstream.clone(), pool.clone(), clients.clone());
        async move {
            let mut known = upstream.lock().await;
            let (client, id) = match request.session().map(str::to_owned) {
                None if !request.begins() => return request.on(to).await.unsigned(),
                None => {
                    let client = format!("client-{}", clients.fetch_add(1, Ordering::Relaxed));
                    let answer = request.clone().on(to).await;
                    let own = pool.lock().await.pop().unwrap_or_else(|| id_of(&answer));
                    let own = match way {
                        Way::OneForAll => known.entry("all".to_owned()).or_insert(own).clone(),
                        _ => own,
                    };
                    known.insert(client.clone(), own);
                    let mut answer = answer.unsigned();
                    match way {
                        Way::GivesNoId => drop(answer.headers.remove("mcp-session-id")),
                        _ => drop(answer.headers.insert("mcp-session-id", value(&client))),
                    }
                    return answer;
                }
                Some(client) => match (known.get(&client).cloned(), way) {
                    (Some(id), _) => (client, id),
                    (None, Way::AnswersAnew) => {
                        let id = id_of(&request.beginning().on(to).await);
                        known.insert(client.clone(), id.clone());
                        (client, id)
                    }
                    (None, _) => return Passed::of(404, "no such session"),
                },
            };
            if request.method == Method::DELETE {
                match way {
                    Way::AllowsNoDelete => return Passed::of(405, ""),
                    Way::LivesOn => return Passed::of(204, ""),
                    Way::OneForAll | Way::LeavesBehind => {
                        known.remove(&client);
                        return Passed::of(204, "");
                    }
                    Way::UsesAgain => {
                        known.remove(&client);
                        pool.lock().await.push(id);
                        return Passed::of(204, "");
                    }
                    Way::OfItsOwn | Way::NewForEachRequest | Way::AnswersAnew | Way::GivesNoId => {
                        known.remove(&client);
                    }
                }
            }
            let id = match way {
                Way::NewForEachRequest => id_of(&request.beginning().on(to).await),
                _ => id,
            };
            drop(known);
            request.rename(&id);
            request.on(to).await.unsigned()
        }
    })
    .await
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a value")
}

fn id_of(answer: &Passed) -> String {
    answer.headers["mcp-session-id"].to_str().expect("is text").to_owned()
}

async fn through(proxy: &Proxy, more: &[&str]) -> Found {
    let url = format!("http://{}/mcp", proxy.address);
    let few = [&url, "--sessions", "4", "--concurrency", "2", "--requests", "2"];
    probe(&[&few, more].concat()).await
}

#[tokio::test]
async fn a_gateway_that_does_well_is_whole() {
    let server = TestServer::start(&[]).await;
    let proxy = gateway(&server, Way::OfItsOwn).await;
    let found = through(&proxy, &[]).await.whole();
    assert_eq!(found.json["left_behind"], json!({"looked_for": 4, "left": 0}));
    let live: u64 = server.instances.iter().map(|it| it.state.sessions.counts().live).sum();
    assert_eq!(live, 0, "the witness has ended as well");
}

#[tokio::test]
async fn what_gateways_do_with_sessions_is_named() {
    let server = TestServer::start(&[]).await;
    for (way, verdict, name, words) in [
        (Way::OneForAll, "crossed", "one_upstream_session", "one upstream session for all clients"),
        (
            Way::NewForEachRequest,
            "lost",
            "upstream_session_per_request",
            "a new upstream session for every request",
        ),
        (Way::LivesOn, "failed", "lives_on", "the session lives on after its end"),
        (
            Way::AnswersAnew,
            "failed",
            "answered_anew",
            "a new session answers for the id of one that has ended",
        ),
    ] {
        let proxy = gateway(&server, way).await;
        let found = through(&proxy, &[]).await;
        found.tells_only(&[name]);
        found.tells(name, words);
        let text = found.report.to_string();
        assert!(found.json["sessions"][verdict].as_u64() >= Some(3), "{text}");
    }
}

#[tokio::test]
async fn one_upstream_session_is_found_however_its_clients_come() {
    let server = TestServer::start(&[]).await;
    for concurrency in ["1", "4"] {
        let proxy = gateway(&server, Way::OneForAll).await;
        let found = through(&proxy, &["--concurrency", concurrency]).await;
        found.tells_only(&["one_upstream_session"]);
        // One that was used before is not a new one, even if there is but one client now.
        let found = through(&proxy, &["--sessions", "1"]).await;
        found.tells_only(&["one_upstream_session"]);
        found.all("crossed");
    }
    let proxy = gateway(&server, Way::UsesAgain).await;
    let found = through(&proxy, &["--sessions", "6", "--concurrency", "2"]).await;
    found.tells("shared_upstream_session", "of others");
}

#[tokio::test]
async fn upstream_sessions_that_are_left_behind_are_found() {
    let server = TestServer::start(&[]).await;
    let proxy = gateway(&server, Way::LeavesBehind).await;
    let found = through(&proxy, &[]).await;
    found.tells("left_behind", "4 of the 4");
    found.tells_only(&["left_behind"]);
    assert_eq!(found.json["left_behind"], json!({"looked_for": 4, "left": 4}));
    assert_eq!(found.json["sessions"]["whole"], 4);
    assert!(!found.report.is_whole());
}

#[tokio::test]
async fn what_is_allowed_is_told_and_no_failure() {
    let server = TestServer::start(&[]).await;
    let proxy = gateway(&server, Way::AllowsNoDelete).await;
    let found = through(&proxy, &[]).await.sound();
    found.tells("no_delete", "405");
    found.tells_only(&["no_delete"]);

    // Each request without an id begins a session of its own.
    let proxy = gateway(&server, Way::GivesNoId).await;
    let found = through(&proxy, &[]).await;
    found.tells_only(&["upstream_session_per_request", "no_session_id"]);
    found.tells("no_session_id", "Mcp-Session-Id");
    found.all("lost");

    let older = [("MCP_PROTOCOL_VERSIONS_SUPPORTED", "2025-06-18,2025-03-26,2024-11-05")];
    let server = TestServer::start(&older).await;
    let url = format!("http://{}/mcp", server.address);
    let found = probe(&[&url, "--sessions", "2"]).await.sound();
    found.tells("older_revision", "2025-06-18");
    found.tells_only(&["older_revision"]);
    assert_eq!(found.json["revisions"], json!({"2025-06-18": 2}));
    for revision in ["2025-06-18", "2025-03-26", "2024-11-05"] {
        let found = probe(&[&url, "--sessions", "2", "--revision", revision]).await.whole();
        assert_eq!(found.json["revisions"], json!({revision: 2}));
    }
}

#[tokio::test]
async fn progress_that_is_lost_or_held_back_is_found() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    for era in ERAS {
        for (kept, name, words) in [
            (0, "progress_lost", "0 of 5 events"),
            (3, "progress_lost", "3 of 5 events"),
            (5, "progress_held_back", "all at the end"),
        ] {
            let proxy = Proxy::start(move |request: Passing| async move {
                if !request.calls("stream_ticks") {
                    return request.on(to).await;
                }
                let mut answer = request.on_whole(to).await;
                let progress = "notifications/progress";
                let events = answer.body.split_inclusive("\n\n");
                let (told, rest): (Vec<_>, Vec<_>) = events.partition(|it| it.contains(progress));
                assert_eq!(told.len(), 5, "{}", answer.body);
                answer.body = [&told[..kept], &rest[..]].concat().concat();
                answer
            })
            .await;
            let found = through(&proxy, &["--era", era]).await;
            found.tells_only(&[name]);
            found.tells(name, words);
            assert_eq!(found.json["sessions"]["whole"], 4);
            assert_eq!(found.json["progress"][0]["arrived"], kept);
        }
    }
    for (variable, value) in
        [("MCP_ECHO_TOOLS__SETS", "session"), ("MCP_ECHO_PROTOCOL__RESPONSE", "json")]
    {
        let server = TestServer::start(&[(variable, value)]).await;
        let url = format!("http://{}/mcp", server.address);
        let found = probe(&[&url, "--sessions", "2", "--era", "both"]).await.sound();
        found.tells(
            "progress_unseen",
            if value == "json" { "protocol.response" } else { "stream_ticks" },
        );
        found.tells_only(&["progress_unseen"]);
    }
}

#[tokio::test]
async fn progress_that_comes_by_another_stream_is_found() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    let aside: Arc<Mutex<Option<mpsc::UnboundedSender<Bytes>>>> = Arc::default();
    let proxy = Proxy::start(move |request: Passing| {
        let aside = aside.clone();
        async move {
            if request.method == Method::GET {
                let (sender, receiver) = mpsc::unbounded_channel();
                *aside.lock().await = Some(sender);
                let mut answer = Passed::of(200, ": here\n\n");
                answer.headers.insert("content-type", value("text/event-stream"));
                answer.live = Some(Live::of(stream::unfold(receiver, |mut receiver| async {
                    Some((receiver.recv().await?, receiver))
                })));
                return answer;
            }
            let mut answer = request.on(to).await;
            let Some(live) = answer.live.take() else { return answer };
            while let Some(piece) = live.next().await {
                let text = String::from_utf8(piece.to_vec()).expect("text");
                match text.contains("notifications/progress") {
                    true => _ = aside.lock().await.as_ref().map(|aside| aside.send(piece)),
                    false => answer.body.push_str(&text),
                }
            }
            answer
        }
    })
    .await;
    let found = through(&proxy, &[]).await.sound();
    found.tells("progress_aside", "GET");
    found.tells_only(&["progress_aside"]);
    assert_eq!(found.json["progress"][0]["arrived"], 5);
}

#[test]
fn each_finding_has_its_fault() {
    let tests = [
        include_str!("probe.rs"),
        include_str!("probe_faults.rs"),
        include_str!("probe_gateways.rs"),
    ]
    .concat();
    let names: Vec<_> = findings::table().map(|(name, ..)| name).collect();
    assert!(!names.is_empty());
    for name in names {
        assert!(tests.contains(&format!("\"{name}\"")), "no test finds {name}");
    }
}

/// A gateway that offers each tool once for each prefix.
async fn renaming(server: &TestServer, prefixes: &'static [&'static str], dashes: bool) -> Proxy {
    let to = server.address;
    Proxy::start(move |mut request: Passing| async move {
        let mut asked = request.json();
        if let Some(name) = asked["params"]["name"].as_str() {
            let name = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
            let Some(name) = name else { return Passed::of(400, "no such tool here") };
            let name = if dashes { name.replace('-', "_") } else { name.to_owned() };
            if request.header("mcp-name").is_some() {
                request.set("mcp-name", &name);
            }
            asked["params"]["name"] = name.into();
            request.body = asked.to_string();
        }
        let lists = asked["method"] == "tools/list";
        let mut answer = request.on(to).await;
        if lists {
            let mut told: Value = serde_json::from_str(&answer.body).expect("JSON");
            let tools = told["result"]["tools"].as_array().expect("a list").clone();
            let renamed = prefixes.iter().flat_map(|prefix| {
                tools.iter().map(move |tool| {
                    let name = tool["name"].as_str().expect("a name");
                    let name = if dashes { name.replace('_', "-") } else { name.to_owned() };
                    json!({ "name": format!("{prefix}{name}"), "inputSchema": {} })
                })
            });
            told["result"]["tools"] = renamed.collect();
            answer.body = told.to_string();
        }
        answer
    })
    .await
}

#[tokio::test]
async fn renamed_tools_are_found() {
    let server = TestServer::start(&[]).await;
    for era in ERAS {
        for (prefix, dashes) in
            [(&["i0_"], false), (&["echo0-"], false), (&["e0__"], false), (&["echo0-"], true)]
        {
            let proxy = renaming(&server, prefix, dashes).await;
            let found = through(&proxy, &["--era", era]).await.sound();
            found.tells_only(&["renamed_tools"]);
            found.tells("renamed_tools", prefix[0]);
            assert_eq!(found.json["progress"][0]["arrived"], 5);
        }
        let proxy = renaming(&server, &["i0_", "i1_"], false).await;
        let found = through(&proxy, &["--era", era]).await;
        found.tells("ambiguous_tool", "--tool-prefix");
        let error = &found.json["errors"][0];
        assert!(error["first"].as_str().is_some_and(|it| it.contains("i0_ or i1_")), "{error}");
        assert_eq!(found.all("failed")["at"], "tools/list");
        let found = through(&proxy, &["--era", era, "--tool-prefix", "i1_"]).await.sound();
        found.tells("renamed_tools", "i1_");
        let found = through(&proxy, &["--era", era, "--tool-prefix", "i2_"]).await;
        found.tells("no_such_tool", "--tool-prefix");
        let error = &found.json["errors"][0];
        assert!(error["first"].as_str().is_some_and(|it| it.contains("i0_ and i1_")), "{error}");
    }
}
