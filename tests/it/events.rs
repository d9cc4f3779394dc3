//! An event stream as a client reads it, event by event.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::support::{Answer, Connection, PATIENCE, Request};

/// Long enough for whatever is wrongly sent to arrive.
const QUIET: Duration = Duration::from_millis(150);

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub retry: Option<u64>,
    pub data: String,
}

impl Event {
    pub fn message(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The id that it must have.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_else(|| panic!("no id: {self:?}"))
    }
}

/// An open stream. Its client is gone when it is dropped.
pub struct Events {
    connection: Connection,
    text: String,
}

impl Events {
    /// Sends a request that must be answered with a stream.
    pub async fn open(request: Request) -> Self {
        let mut connection = request.begin().await;
        let head = connection.head().await;
        head.expect_status(200);
        assert_eq!(head.header("content-type"), Some("text/event-stream"), "{head:?}");
        assert_eq!(head.header("x-accel-buffering"), Some("no"), "{head:?}");
        Self { connection, text: String::new() }
    }

    /// The next event; `None` at the end. Comments are skipped, as clients do.
    pub async fn next(&mut self) -> Option<Event> {
        timeout(PATIENCE, self.event()).await.expect("an event or the end")
    }

    async fn event(&mut self) -> Option<Event> {
        loop {
            while let Some((frame, rest)) = self.text.split_once("\n\n") {
                let event = parse(frame);
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            let chunk = self.connection.chunk().await?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("is text"));
        }
    }

    /// The next message; there must be one.
    pub async fn message(&mut self) -> Value {
        loop {
            let event = self.next().await.expect("a message before the end");
            if !event.data.is_empty() {
                return event.message();
            }
        }
    }

    /// Everything that is still to come.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// The messages that are still to come.
    pub async fn messages(&mut self) -> Vec<Value> {
        let events = self.rest().await;
        events.iter().filter(|event| !event.data.is_empty()).map(Event::message).collect()
    }

    /// Nothing may come now, and the stream must stay open.
    pub async fn expect_quiet(&mut self) {
        if let Ok(event) = timeout(QUIET, self.next()).await {
            panic!("the stream should be quiet, not {event:?}");
        }
    }
}

/// The events of a whole answer.
pub fn events_of(answer: &Answer) -> Vec<Event> {
    answer.text().split_terminator("\n\n").filter_map(parse).collect()
}

fn parse(frame: &str) -> Option<Event> {
    let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
    Some(Event {
        id: field("id: ").map(str::to_owned),
        retry: field("retry: ").map(|text| text.parse().expect("milliseconds")),
        data: field("data: ")?.to_owned(),
    })
}
