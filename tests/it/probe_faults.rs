//! `probe` through proxies that do wrong: each check of the probe has a fault here that it must find.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::sleep,
};

use crate::{
    between::{Passed, Passing, Proxy},
    probe::{ERAS, Found, probe},
    support::{TestServer, instance_host, other_boot},
};

/// What a probe of a few sessions finds there.
async fn through(proxy: &Proxy, era: &str, more: &[&str]) -> Found {
    let url = format!("http://{}/mcp", proxy.address);
    let few = [&url, "--era", era, "--sessions", "4", "--concurrency", "1", "--requests", "4"];
    probe(&[&few, more].concat()).await
}

/// Something of a session, for those that come later.
type Kept<T> = Arc<Mutex<Option<T>>>;

fn keep_first<T: Clone>(kept: &Kept<T>, value: T) -> T {
    kept.lock().expect("lock").get_or_insert(value).clone()
}

async fn replica(name: &str, tag: &str) -> TestServer {
    TestServer::start(&[("HOSTNAME", name), ("MCP_ECHO_REPLICA__TAG", tag)]).await
}

#[tokio::test]
async fn a_balancer_that_takes_turns_is_named_with_both_ends() {
    // With names that differ, and with boots alone.
    for names in [["pod-a", "pod-b"], ["same", "same"]] {
        let a = replica(names[0], "a1").await;
        let b = other_boot(&a, async || replica(names[1], "b2").await).await;
        let to = [a.address, b.address];
        for era in ERAS {
            let proxy = Proxy::start(move |request| {
                let to = to[request.number % 2];
                request.on(to)
            })
            .await;
            let found = through(&proxy, era, &[]).await;
            found.tells("other_replica", "digits 1-2");
            let misroutes = found.json["misroutes"].as_array().expect("a list").clone();
            let mut sessions = 0;
            for misroute in &misroutes {
                sessions += misroute["sessions"].as_u64().expect("a number");
                let ends = ["minted_by", "served_by"].map(|end| &misroute[end]);
                let mut tags = ends.map(|end| end["replica_tag"].as_str().unwrap_or("?"));
                tags.sort_unstable();
                if era == "sessioned" {
                    assert_eq!(tags, ["a1", "b2"], "{misroute}");
                }
                let boots = ends.map(|end| end["boot"].as_str().expect("a boot"));
                assert_ne!(boots[0], boots[1], "{misroute}");
                let mut replicas = ends.map(|end| end["replica"].as_str().expect("a name"));
                replicas.sort_unstable();
                assert_eq!(replicas, names, "{misroute}");
            }
            assert_eq!(sessions, 4, "{misroutes:?}");
            let broken = found.all("misrouted");
            let detail = broken["detail"].as_str().expect("a text");
            assert!(detail.contains("minted by") && detail.contains(names[1]), "{detail}");
        }
    }
}

#[tokio::test]
async fn a_balancer_that_follows_the_tag_is_whole() {
    let [a, b] = [replica("pod-a", "a1").await, replica("pod-b", "b2").await];
    let to = [a.address, b.address];
    let proxy = Proxy::start(move |request: Passing| {
        let at = match request.session().map(|id| id[1..3].to_owned()).as_deref() {
            Some("a1") => 0,
            Some("b2") => 1,
            Some(other) => panic!("{other}"),
            None => request.number % 2,
        };
        request.on(to[at])
    })
    .await;
    let few = ["--sessions", "20", "--concurrency", "3", "--connections", "new"];
    let found = through(&proxy, "both", &few).await.whole();
    let replicas = found.json["replicas"].as_array().expect("a list");
    let names: Vec<_> = replicas.iter().map(|it| it["replica"].as_str().expect("a name")).collect();
    assert!(names.len() == 2 && names.contains(&"pod-a") && names.contains(&"pod-b"), "{names:?}");
    let minted = replicas.iter().map(|it| it["sessions"].as_u64().expect("a number"));
    assert_eq!(minted.sum::<u64>(), 20);
    assert!(a.created() > 0 && b.created() > 0 && a.created() + b.created() == 20);
}

#[tokio::test]
async fn a_misroute_at_any_point_is_found() {
    let [a, b] = [replica("pod-a", "a1").await, replica("pod-b", "b2").await];
    let to = [a.address, b.address];
    for era in ERAS {
        // Requests of one session, the last included. Before a handle is there, any replica may answer.
        let (first, last) = if era == "sessioned" { (1, 15) } else { (3, 14) };
        for wrong in first..last {
            let proxy = Proxy::start(move |request| {
                let to = to[usize::from(request.number == wrong)];
                request.on(to)
            })
            .await;
            let found = through(&proxy, era, &["--sessions", "1"]).await;
            assert_eq!(found.json["requests"], wrong + 1, "{}", found.report);
            found.all("misrouted");
        }
        let proxy = Proxy::start(move |request| request.on(to[0])).await;
        let found = through(&proxy, era, &["--sessions", "1"]).await.whole();
        assert_eq!(found.json["requests"], last, "each of them was tried");
    }
}

/// A proxy that says in the answers to echo who else gave them.
async fn signing(server: &TestServer, header: &'static str, value: &'static str) -> Proxy {
    let to = server.address;
    Proxy::start(move |request: Passing| async move {
        let meddle = request.calls("echo");
        let mut answer = request.on(to).await;
        if meddle {
            answer.headers.insert(header, http::HeaderValue::from_static(value));
        }
        answer
    })
    .await
}

#[tokio::test]
async fn an_answer_of_another_instance_is_misrouted_though_it_is_right() {
    let server = TestServer::start(&[]).await;
    for era in ERAS {
        let proxy = signing(&server, "mcp-echo-instance", "7").await;
        let broken = through(&proxy, era, &[]).await.all("misrouted");
        assert_eq!(broken["at"], "echo", "{broken}");
    }
}

#[tokio::test]
async fn a_session_that_several_replicas_serve_is_roaming_and_whole() {
    let server = TestServer::start(&[]).await;
    for era in ERAS {
        for (header, value) in [("mcp-echo-replica", "another"), ("mcp-echo-boot", "fff-")] {
            let proxy = signing(&server, header, value).await;
            let found = through(&proxy, era, &[]).await.sound();
            found.tells("roaming", "4 sessions");
            found.tells_only(&["roaming"]);
        }
    }
}

#[tokio::test]
async fn a_proxy_that_drops_the_host_mixes_instances() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    for era in ERAS {
        for signed in [true, false] {
            let proxy = Proxy::start(move |mut request: Passing| async move {
                request.set("host", &instance_host(0));
                let answer = request.on(to).await;
                if signed { answer } else { answer.unsigned() }
            })
            .await;
            let address = proxy.address.to_string();
            let found = probe(&[
                "http://echo-stateful{1-2}.example.com",
                "--connect",
                &address,
                "--era",
                era,
                "--sessions",
                "4",
            ])
            .await;
            found.tells("other_instance", "Host header");
            let misroute = &found.json["misroutes"][0];
            let instance = |end: &str| misroute[end]["instance"].as_u64();
            assert!(matches!(instance("minted_by"), Some(1 | 2)), "{misroute}");
            assert_eq!(instance("served_by"), Some(0), "{misroute}");
            found.all("misrouted");
        }
    }
}

#[tokio::test]
async fn an_id_that_opens_another_host_is_crossed() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    for era in ERAS {
        let proxy = Proxy::start(move |mut request: Passing| async move {
            // Routes by the id alone.
            if let Some(id) = request.session().map(str::to_owned) {
                request.set("host", &format!("echo-stateful{}.example.com", &id[..1]));
            }
            request.on(to).await
        })
        .await;
        let address = proxy.address.to_string();
        let url = "http://echo-stateful{3-4}.example.com";
        let found = probe(&[url, "--connect", &address, "--era", era, "--sessions", "4"]).await;
        let broken = found.all("crossed");
        assert_eq!(broken["at"], "the id at another host");
        assert!(broken["detail"].as_str().expect("a text").contains("echo-stateful"), "{broken}");
    }
}

#[tokio::test]
async fn what_is_lost_says_why() {
    let server = TestServer::start(&[("MCP_SESSION_TIMEOUT", "1")]).await;
    let lasting = TestServer::start(&[]).await;
    let (to, lasting_at) = (server.address, lasting.address);
    for era in ERAS {
        let proxy = Proxy::start(move |request: Passing| async move {
            if request.calls("echo") {
                sleep(Duration::from_millis(2200)).await;
            }
            request.on(to).await
        })
        .await;
        let found = through(&proxy, era, &["--concurrency", "4"]).await;
        assert_eq!(found.json["lost"], json!({"expired": 4}));
        assert_eq!(found.all("lost")["at"], "echo");

        let proxy = Proxy::start(move |request: Passing| async move {
            if request.calls("echo") {
                let mut end = request.clone();
                end.method = http::Method::DELETE;
                end.set("mcp-protocol-version", "2025-11-25");
                end.set("mcp-session-id", request.session().expect("an id"));
                end.body.clear();
                assert_eq!(end.on(lasting_at).await.status, 204);
            }
            request.on(lasting_at).await
        })
        .await;
        let found = through(&proxy, era, &[]).await;
        assert_eq!(found.json["lost"], json!({"terminated": 4}));
        assert_eq!(found.all("lost")["at"], "echo");

        // An id that its server does not know, with nothing to tell why.
        let proxy = Proxy::start(move |mut request: Passing| async move {
            if request.calls("echo") {
                request.rename("0a1b2c3d-nonsense");
            }
            request.on(lasting_at).await
        })
        .await;
        let found = through(&proxy, era, &[]).await;
        assert_eq!(found.json["lost"], json!({"unknown": 4}));
        found.all("lost");
    }
    let proxy = Proxy::start(move |request: Passing| async move {
        if request.calls("echo") { Passed::of(404, "<html>") } else { request.on(lasting_at).await }
    })
    .await;
    let found = through(&proxy, "sessioned", &[]).await;
    assert_eq!(found.json["lost"], json!({"unknown": 4}));
    found.all("lost");
}

#[tokio::test]
async fn a_restart_is_no_misroute() {
    let start = async || replica("pod", "a1").await;
    let before = start().await;
    let after = other_boot(&before, start).await;
    let to = [before.address, after.address];
    for era in ERAS {
        let proxy = Proxy::start(move |request: Passing| {
            let to = to[usize::from(request.calls("echo"))];
            request.on(to)
        })
        .await;
        let found = through(&proxy, era, &[]).await;
        assert_eq!(found.json["lost"], json!({"earlier_boot": 4}), "{}", found.report);
        found.all("lost");
    }
}

#[tokio::test]
async fn a_proxy_that_drops_the_id_begins_sessions_anew() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    let proxy = Proxy::start(move |mut request: Passing| async move {
        if request.body.contains("tools/call") {
            request.headers.remove("mcp-session-id");
        }
        request.on(to).await
    })
    .await;
    let found = through(&proxy, "sessioned", &[]).await;
    assert_eq!(found.json["lost"], json!({"replaced": 4}));
    found.tells("upstream_session_per_request", "Mcp-Session-Id");
    found.tells_only(&["upstream_session_per_request"]);
    found.all("lost");
}

#[tokio::test]
async fn sessions_that_are_mixed_up_are_crossed() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    for era in ERAS {
        // From one tool on, all requests go to the first session that came so far.
        for (tool, at) in [
            ("get_session_info", "get_session_info"),
            ("set_session_data", "echo"),
            ("echo", "echo"),
            ("get_session_data", "get_session_data"),
        ] {
            let first: Kept<String> = Arc::default();
            let proxy = Proxy::start(move |mut request: Passing| {
                let first = Arc::clone(&first);
                async move {
                    if request.calls(tool) {
                        let own = request.session().expect("an id").to_owned();
                        let other = keep_first(&first, own);
                        request.rename(&other);
                    }
                    // It stays, so that others can be mixed up with it.
                    if request.ends() && first.lock().expect("lock").as_deref() == request.session()
                    {
                        return Passed::of(200, "");
                    }
                    request.on(to).await
                }
            })
            .await;
            let found = through(&proxy, era, &["--concurrency", "4", "--requests", "40"]).await;
            // The first may be spared, if what the others do there does not show.
            let crossed = found.json["sessions"]["crossed"].as_u64().expect("a number");
            assert!(crossed >= 3, "{tool} in {era}: {}", found.report);
            let crossed: Vec<_> =
                found.broken().iter().filter(|it| it["verdict"] == "crossed").collect();
            assert!(crossed.iter().any(|it| it["at"] == at), "{tool}: {}", found.report);
            let name = match tool {
                "get_session_info" => "one_upstream_session",
                _ => "crossed",
            };
            found.tells(name, "");
        }
    }
}

/// Meddles with the answers to one tool, in a text that stands in them.
async fn rewriting(
    server: &TestServer,
    tool: &'static str,
    from: &'static str,
    to: &'static str,
) -> Proxy {
    let address = server.address;
    Proxy::start(move |request: Passing| async move {
        let meddle = request.calls(tool);
        let mut answer = request.on(address).await;
        if meddle {
            assert!(answer.body.contains(from), "{from} is not in {}", answer.body);
            answer.body = answer.body.replace(from, to);
        }
        answer
    })
    .await
}

#[tokio::test]
async fn every_part_of_an_answer_is_compared() {
    let server = TestServer::start(&[]).await;
    for era in ERAS {
        for (tool, from, to, part) in [
            ("echo", "\"text\":\"", "\"text\":\"other ", "was told"),
            ("echo", "\"message\":\"", "\"message\":\"other ", "was told"),
            ("echo", "\"request_count\":", "\"request_count\":1", "calls so far"),
            ("get_session_data", "\"session\":", "\"session\":1", "stored"),
            ("get_session_data", "\"run\":\"", "\"run\":\"0", "stored"),
            ("get_session_data", "\"data\":{", "\"data\":{\"more\":1,", "stored"),
            ("get_session_data", "\"id\":", "\"id\":9", "the id"),
            ("get_session_info", "\"data_keys\":[", "\"data_keys\":[\"more\"", "keys"),
            ("get_session_info", "\"request_count\":", "\"request_count\":1", "calls so far"),
        ] {
            // What is there in one of two answers of the tool is meddled with there.
            let address = server.address;
            let proxy = Proxy::start(move |request: Passing| async move {
                let meddle = request.calls(tool);
                let mut answer = request.on(address).await;
                if meddle {
                    answer.body = answer.body.replace(from, to);
                }
                answer
            })
            .await;
            let broken = through(&proxy, era, &[]).await.all("crossed");
            assert_eq!(broken["at"], tool, "{from}: {broken}");
            assert!(broken["detail"].as_str().is_some_and(|it| it.contains(part)), "{broken}");
        }
        // A session of another name, with the count that is expected.
        let proxy = rewriting(&server, "echo", "\"session_id\":\"", "\"session_id\":\"f").await;
        let found = through(&proxy, era, &[]).await;
        assert_eq!(found.json["lost"], json!({"replaced": 4}));
        found.tells_only(&["replaced"]);
        found.tells("replaced", "new sessions");
        // No session at all.
        let proxy =
            rewriting(&server, "echo", "\"session_id\":\"", "\"session_id\":null,\"x\":\"").await;
        assert_eq!(through(&proxy, era, &[]).await.json["lost"], json!({"replaced": 4}));
    }
}

#[tokio::test]
async fn answers_from_a_cache_are_crossed() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    for era in ERAS {
        for fit in [false, true] {
            let cache: Arc<Mutex<HashMap<String, Passed>>> = Arc::default();
            let proxy = Proxy::start(move |request: Passing| {
                let cache = Arc::clone(&cache);
                async move {
                    if !request.calls("echo") {
                        return request.on(to).await;
                    }
                    let key = request.session().expect("an id").to_owned();
                    let cached = cache.lock().expect("lock").get(&key).cloned();
                    match cached {
                        Some(answer) if fit => answer.answering(&request),
                        Some(answer) => answer,
                        None => {
                            let answer = request.on(to).await;
                            cache.lock().expect("lock").insert(key, answer.clone());
                            answer
                        }
                    }
                }
            })
            .await;
            for in_flight in ["1", "4"] {
                let broken = through(&proxy, era, &["--in-flight", in_flight]).await.all("crossed");
                let detail = broken["detail"].as_str().expect("a text");
                assert!(detail.contains(if fit { "was told" } else { "the id" }), "{detail}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_is_sent_twice_shows_in_the_count() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    for era in ERAS {
        for in_flight in ["1", "4"] {
            for tool in ["echo", "set_session_data"] {
                let proxy = Proxy::start(move |request: Passing| async move {
                    if request.calls(tool) {
                        let _ = request.clone().on(to).await;
                    }
                    request.on(to).await
                })
                .await;
                let broken = through(&proxy, era, &["--in-flight", in_flight]).await.all("crossed");
                let detail = broken["detail"].as_str().expect("a text");
                assert_eq!(broken["at"], "echo");
                assert!(detail.contains("calls so far"), "{detail}");
            }
        }
    }
}

#[tokio::test]
async fn an_id_that_two_sessions_get_is_crossed() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    for era in ERAS {
        let first: Kept<Passed> = Arc::default();
        let proxy = Proxy::start(move |request: Passing| {
            let first = Arc::clone(&first);
            async move {
                if !request.begins() {
                    // So that the first is still live when the others begin.
                    sleep(Duration::from_millis(20)).await;
                    return request.on(to).await;
                }
                let known = first.lock().expect("lock").clone();
                match known {
                    Some(answer) => answer.answering(&request),
                    None => {
                        let answer = request.clone().on(to).await;
                        keep_first(&first, answer).answering(&request)
                    }
                }
            }
        })
        .await;
        // The first is alone, so that it is known which answer the others get.
        let found = through(&proxy, era, &["--sessions", "5", "--concurrency", "5"]).await;
        let crossed = found.json["sessions"]["crossed"].as_u64().expect("a number");
        assert!(crossed >= 1 && !found.report.is_whole(), "{}", found.report);
        assert!(
            found.report.to_string().contains("was given the id that session"),
            "{}",
            found.report
        );
        // One after another: what is given again has ended.
        let found = through(&proxy, era, &[]).await;
        assert_eq!(found.json["lost"], json!({"terminated": 4}), "{}", found.report);
    }
}

#[tokio::test]
async fn an_end_that_is_swallowed_is_found() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    for (era, answer) in [
        ("sessioned", Passed::of(204, "")),
        (
            "stateless",
            Passed::of(
                200,
                r#"{"jsonrpc":"2.0","id":0,"result":{"structuredContent":{"ended":true}}}"#,
            ),
        ),
    ] {
        let proxy = Proxy::start(move |request: Passing| {
            let mut answer = answer.clone();
            async move {
                if !request.ends() {
                    return request.on(to).await;
                }
                let json = http::HeaderValue::from_static("application/json");
                answer.headers.insert("content-type", json);
                if answer.body.is_empty() { answer } else { answer.answering(&request) }
            }
        })
        .await;
        let found = through(&proxy, era, &[]).await;
        found.tells_only(&["lives_on"]);
        found.tells("lives_on", "the session lives on after its end");
        assert_eq!(found.all("failed")["at"], "after its end");
    }
}

#[tokio::test]
async fn what_fails_around_the_messages_is_told_by_cause() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    let html = |status: u16| move || Passed::of(status, "<html>\n<h1>Bad Gateway</h1>");
    let odd = |body: &'static str, kind: &'static str| {
        move || {
            let mut answer = Passed::of(200, body);
            answer.headers.insert("content-type", http::HeaderValue::from_static(kind));
            answer
        }
    };
    type Make = Box<dyn Fn() -> Passed + Send + Sync>;
    let cases: [(Make, &str, &str); 8] = [
        (Box::new(html(502)), "status 502", "<html>"),
        (Box::new(html(302)), "status 302", "<html>"),
        (Box::new(html(200)), "protocol", "Content-Type"),
        (Box::new(odd("{}", "application/json")), "protocol", "no JSON-RPC response"),
        (Box::new(odd("{", "application/json")), "protocol", "not JSON-RPC"),
        (Box::new(odd(": nothing\n\n", "text/event-stream")), "protocol", "without a response"),
        (
            Box::new(odd(
                r#"{"id":null,"error":{"code":-32603,"message":"oops"}}"#,
                "application/json",
            )),
            "JSON-RPC error -32603",
            "oops",
        ),
        (Box::new(odd(r#"{"id":null,"result":{}}"#, "application/json")), "", "the id null"),
    ];
    for (make, cause, part) in cases {
        let make = Arc::new(make);
        for era in ERAS {
            let make = Arc::clone(&make);
            let proxy = Proxy::start(move |request: Passing| {
                let make = Arc::clone(&make);
                async move { if request.calls("echo") { make() } else { request.on(to).await } }
            })
            .await;
            let found = through(&proxy, era, &[]).await;
            if cause.is_empty() {
                found.all("crossed");
                continue;
            }
            let error = &found.json["errors"][0];
            assert_eq!((&error["cause"], &error["sessions"]), (&json!(cause), &json!(4)));
            assert!(error["first"].as_str().is_some_and(|first| first.contains(part)), "{error}");
            assert_eq!(found.all("failed")["at"], "echo");
        }
    }
}

#[tokio::test]
async fn what_never_comes_is_told_by_cause() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    let slow = Proxy::start(move |request: Passing| async move {
        if request.calls("echo") {
            sleep(Duration::from_secs(30)).await;
        }
        request.on(to).await
    })
    .await;
    let found = through(&slow, "both", &["--timeout", "2", "--concurrency", "4"]).await;
    assert_eq!(found.json["errors"][0]["cause"], "timeout");
    let of_echo = Value::from(found.json["requests"].as_u64().expect("a number"));
    // Lists of tools and ticks once in each era.
    assert_eq!(of_echo, 2 * 5 + 2 * 4 + 2 * 2, "what never came is counted as well");
    found.all("failed");

    // More than any answer of ours, and less than was promised.
    let endless = Proxy::start(move |request: Passing| async move {
        let mut answer = Passed::of(200, &"x".repeat(5_000_000));
        if !request.calls("echo") {
            answer = request.on(to).await;
        }
        answer
    })
    .await;
    let found = through(&endless, "both", &[]).await;
    assert_eq!(found.json["errors"][0]["cause"], "protocol");
    assert!(found.all("failed")["detail"].as_str().is_some_and(|it| it.contains("longer than")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let url = format!("http://{}/mcp", listener.local_addr().expect("is bound"));
    #[expect(clippy::disallowed_methods, reason = "it is joined")]
    let cuts_off = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        let _ = stream.read(&mut [0; 4096]).await.expect("reads");
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.expect("writes");
    });
    let found = probe(&[&url, "--sessions", "1"]).await;
    cuts_off.await.expect("ends");
    assert_eq!(found.json["errors"][0]["cause"], "connection broken", "{}", found.report);
    assert_eq!(found.json["statuses"], json!({}), "an answer is a whole one");
    found.all("failed");

    // Nobody there; and somebody who hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let url = format!("http://{}/mcp", listener.local_addr().expect("is bound"));
    #[expect(clippy::disallowed_methods, reason = "it is joined")]
    let hangs_up = tokio::spawn(async move {
        loop {
            drop(listener.accept().await.expect("accepts"));
        }
    });
    let found = probe(&[&url, "--sessions", "3"]).await;
    hangs_up.abort();
    let _ = hangs_up.await;
    assert_eq!(found.json["errors"][0]["cause"], "connection broken", "{}", found.report);
    found.all("failed");
    let found = probe(&[&url, "--sessions", "3", "--concurrency", "1"]).await;
    assert_eq!(found.json["errors"][0]["cause"], "connect", "{}", found.report);
    assert_eq!(found.json["statuses"], json!({}));
    let of = |key: &str| &found.json["sessions"][key];
    assert_eq!((of("failed"), of("unfinished")), (&json!(1), &json!(2)), "more would tell no more");
    let summary = found.report.summary();
    assert!(summary.contains(&url) && summary.contains("refused"), "{summary}");
}

#[tokio::test]
async fn a_server_that_is_another_says_what_it_lacks() {
    let server = TestServer::start(&[("MCP_ECHO_TOOLS__SETS", "diagnostics")]).await;
    let url = format!("http://{}/mcp", server.address);
    for era in ERAS {
        let found = probe(&[&url, "--sessions", "2", "--era", era]).await;
        found.tells("no_such_tool", "tools.sets");
        assert_eq!(found.json["errors"][0]["cause"], "no such tool");
        found.all("failed");
    }
    // A host that is not there, and a revision that is not served.
    let to = server.address.to_string();
    let found = probe(&["http://example.org/mcp", "--connect", &to, "--sessions", "2"]).await;
    found.tells("unknown_host", "421");
    found.all("failed");
    let server =
        TestServer::start(&[("MCP_PROTOCOL_VERSIONS_SUPPORTED", "2025-06-18,2025-03-26")]).await;
    let url = format!("http://{}/mcp", server.address);
    let found = probe(&[&url, "--sessions", "2", "--era", "stateless"]).await;
    found.tells("revision", "--era");
    assert_eq!(found.all("failed")["at"], "tools/list");
    let found = probe(&[&url, "--sessions", "2", "--revision", "2025-11-25"]).await;
    found.tells("revision", "--revision");
    assert!(found.report.to_string().contains("was offered"), "{}", found.report);
    assert_eq!(found.all("failed")["at"], "initialize");
}

#[tokio::test]
async fn a_few_that_are_broken_leave_the_others_whole() {
    let server = TestServer::start(&[("MCP_ECHO_SESSION__CAPACITY", "3")]).await;
    let url = format!("http://{}/mcp", server.address);
    let blocking = [server.session(0).await, server.session(0).await];
    let few = ["--sessions", "6", "--concurrency", "1", "--requests", "2"];
    probe(&[&[url.as_str()], &few[..]].concat()).await.whole();
    drop(blocking);
    let found = probe(&[&url, "--sessions", "6", "--concurrency", "6"]).await;
    let of = |key: &str| found.json["sessions"][key].as_u64().expect("a number");
    assert!(of("whole") >= 1 && of("failed") >= 1 && of("whole") + of("failed") == 6);
    assert!(!found.report.is_whole());
    found.tells("unavailable", "session.capacity");
}
