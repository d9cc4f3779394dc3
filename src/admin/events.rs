//! `/debug/events`: what happens, as server-sent events.
//!
//! Owns the stream of the process's [`Events`](crate::observe::events::Events): its form, its resumption, its end.
//! There is no queue: a reader takes what it has not read from the ring.
//! Traps: at the host of one instance the others do not exist, so their events are not even counted; and an event id
//! must not mean another event after a restart, so it begins with the boot.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use tokio::time::sleep;

use super::Scope;
use crate::{
    http::problem,
    id::Boot,
    observe::{Event, Subject, Unread},
    process::Process,
    wire::{ACCEL_BUFFERING_HEADER, Known, Lines, sse},
};

/// A comment is sent after so long without events.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events within so long are sent together, which bounds what a reader costs.
const PAUSE: Duration = Duration::from_millis(100);

/// The first frame: how soon a client reconnects, in milliseconds.
const OPENING: Bytes = Bytes::from_static(b"retry: 1000\n\n");

pub(super) fn router() -> Router<Scope> {
    Router::new().route("/debug/events", get(follow))
}

/// `GET /debug/events`: what is kept, or what came after `Last-Event-ID`; then new events.
async fn follow(State(scope): State<Scope>, headers: HeaderMap) -> Response {
    let Some(first) = scope.first() else { return StatusCode::NOT_FOUND.into_response() };
    let process = Arc::clone(&first.process);
    let id = match Lines::of(&headers).head(&headers).text(Known::LastEventId) {
        Ok(id) => id.map(parse_id),
        Err(bad) => return problem(StatusCode::BAD_REQUEST, &bad.to_string()),
    };
    let read = match id {
        None => 0,
        Some(Some((boot, number))) if boot == process.boot => number,
        // An id of an earlier start: nothing of this one has been read.
        Some(Some(_)) => 0,
        Some(None) => {
            let text = "Last-Event-ID must be an id of this stream, such as \"6d3-17\"";
            return problem(StatusCode::BAD_REQUEST, text);
        }
    };
    let follower = Follower { scope, process, read, stage: Stage::Opening };
    let frames = unfold(follower, |mut follower| async move {
        let frame = follower.next().await?;
        Some((Ok::<_, Infallible>(frame), follower))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (ACCEL_BUFFERING_HEADER, "no")];
    (headers, Body::from_stream(frames)).into_response()
}

/// `<boot>-<number>`
fn parse_id(text: &str) -> Option<(Boot, u64)> {
    let (boot, number) = text.split_once('-')?;
    let boot = u16::from_str_radix(boot, 16).ok().filter(|_| boot.len() == 3)?;
    Some((Boot(boot), number.parse().ok()?))
}

struct Follower {
    scope: Scope,
    process: Arc<Process>,
    /// The number up to which it has read.
    read: u64,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Opening,
    Following,
    Ended,
}

impl Follower {
    /// The next frames; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        match self.stage {
            Stage::Opening => {
                self.stage = Stage::Following;
                return Some(OPENING);
            }
            Stage::Following => {}
            Stage::Ended => return None,
        }
        let process = Arc::clone(&self.process);
        let closing = process.lifecycle.closing();
        let mut quiet = pin!(sleep(KEEP_ALIVE));
        loop {
            let mut more = pin!(process.events.more());
            more.as_mut().enable();
            // Read before the events are: what happened before the end is still sent.
            let ending = closing.is_cancelled();
            let frames = self.encode(process.events.after(self.read));
            if !frames.is_empty() {
                return Some(frames.into());
            }
            if ending {
                self.stage = Stage::Ended;
                return Some(sse::CLOSING);
            }
            tokio::select! {
                () = more => {}
                () = closing.cancelled() => continue,
                () = &mut quiet => return Some(sse::KEEP_ALIVE),
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = closing.cancelled() => {}
            }
        }
    }

    fn encode(&mut self, unread: Unread) -> String {
        let Unread { missed, events, last } = unread;
        let mut frames = String::new();
        // Nobody knows whose they were, so only a reader of all ten is told.
        if missed > 0 && self.scope.len() > 1 {
            frames.push_str(&format!("data: {}\n\n", json!({"event": "missed", "count": missed})));
        }
        for event in events {
            if let Some(data) = self.show(event) {
                let (boot, number) = (self.process.boot, event.number);
                frames.push_str(&format!("id: {boot}-{number}\ndata: {data}\n\n"));
            }
        }
        self.read = last;
        frames
    }

    /// An event as JSON; `None` if it is another instance's.
    fn show(&self, event: Event) -> Option<String> {
        let (instance, session) = match event.subject {
            Subject::Process => (None, None),
            Subject::Instance(id, session) => {
                self.scope.iter().find(|instance| instance.id == id)?;
                (Some(id), session)
            }
        };
        let shown = json!({
            "at": self.process.clock.time_of_day().time(event.at),
            "event": event.kind.as_str(),
            "instance": instance,
            "session": session.map(|session| session.to_string()),
            "reason": event.kind.reason(),
        });
        Some(shown.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_names_a_start_and_an_event() {
        assert_eq!(parse_id("6d3-17"), Some((Boot(0x6d3), 17)));
        for text in ["", "6d3", "6d3-", "-17", "6d-17", "xyz-1", "6d3-17-1", "6d3--1", "06d3-1"] {
            assert_eq!(parse_id(text), None, "{text}");
        }
    }
}
