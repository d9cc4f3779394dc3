//! Streams of the sessioned revisions that break and are picked up again: the event ids, what is
//! repeated and what never is.

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::{
    events::{Event, Events, events_of},
    modern::FIXTURES,
    support::{Request, Talk, TestServer, eventually},
};

const ALL: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// Streams are picked up by GET, however they began.
fn resume(talk: &Talk<'_>, id: &str) -> Request {
    talk.request("GET").header("Accept", "text/event-stream").header("Last-Event-ID", id)
}

/// A call that sends that many events.
fn ticks(talk: &Talk<'_>, count: u64, interval_ms: u64) -> Request {
    let arguments = json!({"count": count, "interval_ms": interval_ms});
    let params = json!({
        "name": "stream_ticks", "arguments": arguments, "_meta": {"progressToken": "t"},
    });
    talk.rpc("tools/call", params)
}

fn progress(event: &Event) -> f64 {
    let message = event.message();
    message["params"]["progress"].as_f64().unwrap_or_else(|| panic!("{message}"))
}

async fn trigger(talk: &Talk<'_>, what: &str) {
    talk.call(&format!("test_trigger_{what}"), json!({})).send().await.expect_status(200);
}

#[tokio::test]
async fn a_priming_event_opens_a_stream_in_2025_11_25_alone() {
    let server = TestServer::start(&[("MCP_ECHO_STREAM__RETRY_SECONDS", "0.7")]).await;
    for version in ALL {
        let talk = server.session_of(0, version).await;
        let mut post = Events::open(ticks(&talk, 1, 1)).await;
        let first = post.next().await.expect("an event");
        let mut get = Events::open(talk.request("GET")).await;
        if version == "2025-11-25" {
            assert_eq!((first.data.as_str(), first.retry), ("", Some(700)));
            assert!(!first.id().is_empty());
            let standalone = get.next().await.expect("an event");
            assert_eq!((standalone.data.as_str(), standalone.retry), ("", Some(700)));
            assert_ne!(standalone.id(), first.id());
        } else {
            // Clients of these revisions would choke on an event without data.
            assert_eq!(progress(&first), 1.0, "{version}");
            get.expect_quiet().await;
        }
        assert!(post.rest().await.iter().all(|event| !event.data.is_empty()));
    }
}

#[tokio::test]
async fn an_answer_by_events_is_primed_too() {
    // 2025-11-25, basic/transports, "Sending Messages to the Server", 6: whatever is called.
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let call = talk.call("echo", json!({"message": "x", "delay": 0.1}));
    let mut events = Events::open(call.header("Accept", "text/event-stream")).await;
    let first = events.next().await.expect("an event");
    assert_eq!(first.data, "", "{first:?}");
    let id = first.id().to_owned();
    drop(events);
    let mut again = Events::open(resume(&talk, &id)).await;
    assert_eq!(again.message().await["result"]["content"][0]["text"], "x");
}

#[tokio::test]
async fn every_answer_by_events_is_primed() {
    let server = TestServer::start(&[FIXTURES]).await;
    let only = |request: Request| request.header("Accept", "text/event-stream");
    for version in ALL {
        let talk = server.session_of(0, version).await;
        let modern = version == "2025-11-25";
        for request in [
            talk.rpc("tools/list", json!({})),
            talk.rpc("ping", json!({})),
            talk.call("echo", json!({"message": "x"})),
            talk.call("no such tool", json!({})),
            talk.call("big_response", json!({"bytes": 5 << 20})),
        ] {
            let events = events_of(&only(request).send().await);
            let (response, before) = events.split_last().expect("an event");
            assert_eq!(response.message()["id"], 1, "{version}");
            assert_eq!(before.len(), usize::from(modern), "{version}");
            if let [first] = before {
                assert!(first.data.is_empty() && first.retry.is_some(), "{first:?}");
                assert_eq!(response.id(), first.id().replace("-0", "-1"));
                let again = Events::open(resume(&talk, first.id())).await.rest().await;
                assert_eq!(again, std::slice::from_ref(response), "it can be read again");
            }
        }
        // The session that it begins is the one that it belongs to.
        let mut begun = only(server.initialize(version)).begin().await;
        let answer = begun.answer().await;
        let id = answer.header("mcp-session-id").expect("an id").to_owned();
        let events = events_of(&answer);
        assert_eq!(events.len(), 1 + usize::from(modern), "{events:?}");
        if modern {
            let host = "localhost".to_owned();
            let talk = Talk { server: &server, host, id, revision: version.to_owned() };
            let mut again = Events::open(resume(&talk, events[0].id())).await;
            assert_eq!(again.message().await["result"]["protocolVersion"], version);
        }
    }
    // Without a session there is nothing to resume.
    let ping = only(server.rpc("ping", json!({}))).header("MCP-Protocol-Version", "2025-11-25");
    assert_eq!(events_of(&ping.send().await).len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_there_is_given_though_no_stream_is_left() {
    let server = TestServer::start(&[("MCP_ECHO_SESSION__MAX_CALLS", "1")]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let mut running = Events::open(ticks(&talk, 100, 100)).await;
    running.next().await.expect("an event");
    let list = talk.rpc("tools/list", json!({})).header("Accept", "text/event-stream");
    let answer = list.send().await;
    answer.expect_status(200);
    let events = events_of(&answer);
    assert_eq!((events.len(), events[0].id.as_deref()), (1, None));
}

#[tokio::test]
async fn event_ids_are_unique_in_a_session() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let mut standalone = Events::open(talk.request("GET")).await;
    trigger(&talk, "tool_change").await;
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..2 {
        ids.push(standalone.next().await.expect("an event").id().to_owned());
    }
    for _ in 0..3 {
        let events = Events::open(ticks(&talk, 3, 1)).await.rest().await;
        assert_eq!(events.len(), 5, "a priming event, three ticks, a response");
        ids.extend(events.iter().map(|event| event.id().to_owned()));
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), count), (17, 17));
}

#[tokio::test]
async fn a_broken_stream_is_picked_up_where_it_broke() {
    let server = TestServer::start(&[]).await;
    for version in ALL {
        let talk = server.session_of(0, version).await;
        let mut events = Events::open(ticks(&talk, 6, 30)).await;
        let mut last = events.next().await.expect("an event");
        while last.data.is_empty() || progress(&last) < 2.0 {
            last = events.next().await.expect("an event");
        }
        drop(events);
        let rest = Events::open(resume(&talk, last.id())).await.rest().await;
        let (response, before) = rest.split_last().expect("events");
        let seen: Vec<_> = before.iter().map(progress).collect();
        assert_eq!(seen, [3.0, 4.0, 5.0, 6.0], "{version}: nothing lost, nothing twice");
        assert_eq!(response.message()["id"], 1);
        assert_eq!(response.message()["result"]["structuredContent"]["count"], 6);
    }
}

#[tokio::test]
async fn a_finished_stream_can_be_read_again_from_any_event() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let all = Events::open(ticks(&talk, 3, 1)).await.rest().await;
    for (position, event) in all.iter().enumerate() {
        let rest = Events::open(resume(&talk, event.id())).await.rest().await;
        assert_eq!(rest, all[position + 1..], "the same events under the same ids");
    }
}

#[tokio::test]
async fn a_response_waits_for_whoever_comes_late() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let mut events = Events::open(ticks(&talk, 2, 50)).await;
    let primed = events.next().await.expect("the priming event");
    drop(events);
    sleep(Duration::from_millis(300)).await;
    let rest = Events::open(resume(&talk, primed.id())).await.rest().await;
    assert_eq!(rest.len(), 3);
    assert_eq!(talk.info().await["request_count"], 1, "the call went on");
}

#[tokio::test]
async fn no_stream_tells_what_was_said_on_another() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let mut standalone = Events::open(talk.request("GET")).await;
    let primed = standalone.next().await.expect("the priming event");
    let mut first = Events::open(ticks(&talk, 4, 20)).await;
    let first_primed = first.next().await.expect("the priming event");
    let second = Events::open(ticks(&talk, 2, 1)).await.rest().await;
    drop((standalone, first));
    trigger(&talk, "tool_change").await;

    let rest = Events::open(resume(&talk, first_primed.id())).await.rest().await;
    let totals: Vec<_> =
        rest[..rest.len() - 1].iter().map(|e| e.message()["params"]["total"].clone()).collect();
    assert_eq!(totals, vec![json!(4.0); 4]);
    let rest = Events::open(resume(&talk, second[0].id())).await.rest().await;
    assert_eq!(rest, second[1..]);
    let mut standalone = Events::open(resume(&talk, primed.id())).await;
    assert_eq!(standalone.message().await["method"], "notifications/tools/list_changed");
    standalone.expect_quiet().await;
}

#[tokio::test]
async fn no_session_reads_the_streams_of_another() {
    let server = TestServer::start(&[]).await;
    let (mine, other) =
        (server.session_of(0, "2025-11-25").await, server.session_of(0, "2025-11-25").await);
    let all = Events::open(ticks(&mine, 2, 1)).await.rest().await;
    let id = all[0].id();
    resume(&other, id).send().await.expect_error(400, -32600);
    // Even where a stream of its own has that name, it is its own.
    let own = Events::open(ticks(&other, 3, 1)).await.rest().await;
    assert_eq!(own[0].id(), id, "names are per session, which is what makes this test one");
    let rest = Events::open(resume(&other, id)).await.rest().await;
    assert_eq!(rest, own[1..]);
    assert_ne!(rest, all[1..]);
}

#[tokio::test]
async fn unknown_event_ids_are_refused() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    Events::open(ticks(&talk, 1, 1)).await.rest().await;
    for id in ["", "nonsense", "1", "1-", "-1", "99-0", "0-0", "1-x", "1--1", "4294967296-0"] {
        resume(&talk, id).send().await.expect_error(400, -32600);
    }
    let twice = resume(&talk, "1-0").header("Last-Event-ID", "1-1").send().await;
    assert_eq!(twice.status, 400, "{twice:?}");
    // An event that was never sent: there is nothing after it.
    let never = resume(&talk, "1-999").send().await;
    assert_eq!(never.status, 400, "{never:?}");
    assert_eq!(talk.open_streams(), 0);
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let first = Events::open(ticks(&talk, 1, 1)).await.rest().await;
    for _ in 0..40 {
        Events::open(ticks(&talk, 1, 1)).await.rest().await;
    }
    resume(&talk, first[0].id()).send().await.expect_error(400, -32600);
    // A stream that nobody reads keeps its latest events.
    let mut standalone = Events::open(talk.request("GET")).await;
    let primed = standalone.next().await.expect("the priming event");
    drop(standalone);
    eventually(|| talk.open_streams() == 0).await;
    let changes: u64 = 400;
    for _ in 0..changes {
        trigger(&talk, "tool_change").await;
    }
    let mut connection = resume(&talk, primed.id()).begin().await;
    connection.head().await.expect_status(200);
    let opening = String::from_utf8(connection.chunk().await.expect("a chunk")).expect("text");
    let missed = opening.strip_prefix(": ").and_then(|rest| rest.split_once(' '));
    let (missed, rest) = missed.unwrap_or_else(|| panic!("how many are missing: {opening}"));
    assert!(rest.starts_with("events are no longer kept\n\n"), "{opening}");
    let missed: u64 = missed.parse().expect("a number");
    drop(connection);
    let mut standalone = Events::open(resume(&talk, primed.id())).await;
    let mut kept = 0;
    while let Ok(Some(_)) =
        tokio::time::timeout(Duration::from_millis(300), standalone.next()).await
    {
        kept += 1;
    }
    assert!((16..changes).contains(&kept), "{kept}");
    assert_eq!(kept + missed, changes, "none goes missing without a word");
    drop(standalone);
    // Where nothing is missing, nothing is said.
    let last = format!("{}-{changes}", primed.id().split_once('-').expect("an id").0);
    let mut connection = resume(&talk, &last).begin().await;
    connection.head().await.expect_status(200);
    let said = tokio::time::timeout(Duration::from_millis(300), connection.chunk()).await;
    assert!(said.is_err(), "{said:?}");
}

#[tokio::test]
async fn a_resumed_stream_counts_as_open_and_is_bounded() {
    let server = TestServer::start(&[("MCP_ECHO_SESSION__MAX_STREAMS", "1")]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let mut events = Events::open(ticks(&talk, 2, 2000)).await;
    let primed = events.next().await.expect("the priming event");
    let standalone = Events::open(talk.request("GET")).await;
    // Too many is not unknown: the client may come back.
    resume(&talk, primed.id()).send().await.expect_error(409, -32000);
    drop(standalone);
    eventually(|| talk.open_streams() == 0).await;
    let again = Events::open(resume(&talk, primed.id())).await;
    assert_eq!(talk.open_streams(), 1);
    drop(again);
    eventually(|| talk.open_streams() == 0).await;
}

#[tokio::test]
async fn a_second_reader_takes_a_stream_over() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let mut first = Events::open(ticks(&talk, 3, 1000)).await;
    let primed = first.next().await.expect("the priming event");
    let mut second = Events::open(resume(&talk, primed.id())).await;
    // Each event goes to one connection at a time.
    assert_eq!(first.rest().await, [], "the first reader is let go");
    assert_eq!(second.rest().await.len(), 4);
}

#[tokio::test]
async fn a_server_may_hang_up_and_be_polled() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let mut events = Events::open(talk.call("test_reconnection", json!({}))).await;
    let primed = events.next().await.expect("the priming event");
    assert_eq!(primed.data, "");
    assert!(primed.retry.is_some_and(|ms| ms > 0), "{primed:?}");
    let start = Instant::now();
    assert_eq!(events.rest().await, [], "closed before the result");
    assert!(start.elapsed() < Duration::from_secs(2));
    let mut again = Events::open(resume(&talk, primed.id())).await;
    let response = again.message().await;
    assert_eq!(response["id"], 1);
    assert!(response["result"]["content"][0]["text"].is_string());
    assert_eq!(again.rest().await, [], "the response ends the stream");
    // Clients that were not told how to come back are not hung up on.
    for version in &ALL[..3] {
        let talk = server.session_of(0, version).await;
        let mut events = Events::open(talk.call("test_reconnection", json!({}))).await;
        assert_eq!(events.message().await["id"], 1, "{version}");
    }
}

#[tokio::test]
async fn the_end_of_a_session_is_the_end_of_its_streams() {
    let server = TestServer::start(&[]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let all = Events::open(ticks(&talk, 1, 1)).await.rest().await;
    talk.request("DELETE").send().await.expect_status(204);
    assert_eq!(resume(&talk, all[0].id()).send().await.expect_gone(), "terminated");
}

#[tokio::test]
async fn a_message_goes_to_one_of_several_streams() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let other = server.session_of(0, "2025-11-25").await;
    let elsewhere = server.session_of(1, "2025-11-25").await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut events = Events::open(talk.request("GET")).await;
        events.next().await.expect("the priming event");
        streams.push(events);
    }
    let mut theirs = Events::open(other.request("GET")).await;
    let mut far = Events::open(elsewhere.request("GET")).await;
    for events in [&mut theirs, &mut far] {
        events.next().await.expect("the priming event");
    }
    for what in ["tool_change", "prompt_change"] {
        trigger(&talk, what).await;
    }
    let mut heard: Vec<Value> = Vec::new();
    for events in &mut streams {
        while let Ok(event) = tokio::time::timeout(Duration::from_millis(150), events.next()).await
        {
            heard.push(event.expect("an event").message()["method"].clone());
        }
    }
    let both = ["notifications/tools/list_changed", "notifications/prompts/list_changed"];
    assert_eq!(heard, both, "each of them once");
    for method in both {
        assert_eq!(theirs.message().await["method"], method, "every session of the instance");
    }
    far.expect_quiet().await;
    // A stream that is gone is not spoken to while another is read.
    while streams.len() > 1 {
        streams.pop();
        eventually(|| talk.open_streams() == streams.len()).await;
        trigger(&talk, "tool_change").await;
        let mut heard = 0;
        for events in &mut streams {
            let next = tokio::time::timeout(Duration::from_millis(150), events.next());
            heard += u32::from(next.await.is_ok());
        }
        assert_eq!(heard, 1, "with {} streams left", streams.len());
    }
}

#[tokio::test]
async fn what_is_said_while_nobody_listens_is_kept_for_the_stream() {
    let server = TestServer::start(&[FIXTURES]).await;
    let talk = server.session_of(0, "2025-11-25").await;
    let mut events = Events::open(talk.request("GET")).await;
    let primed = events.next().await.expect("the priming event");
    drop(events);
    eventually(|| talk.open_streams() == 0).await;
    for _ in 0..3 {
        trigger(&talk, "tool_change").await;
    }
    let mut again = Events::open(resume(&talk, primed.id())).await;
    for _ in 0..3 {
        assert_eq!(again.message().await["method"], "notifications/tools/list_changed");
    }
    again.expect_quiet().await;
}
