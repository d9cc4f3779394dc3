//! A line of the log as JSON.
//!
//! Owns [`JsonEvents`], by which the subscriber writes events, and [`json_line`], for what is said where there is no
//! subscriber: before the log has begun, after it has ended, and what must not get into it.
//! Trap: with `log.format` json everything that the process writes is read by a program, on standard error too.

use std::fmt;

use tracing::{Event, Level, Subscriber, field::Field};
use tracing_subscriber::{
    fmt::{
        FmtContext,
        format::{FormatEvent, FormatFields, Writer},
    },
    registry::LookupSpan,
};

use super::fields::in_json;
use crate::{clock::Ticker, wire::model::write_string};

/// The name of the library, which begins the target of every event of ours.
const OURS: &str = "mcp_echo_stateful";

/// A line by itself, its end included.
pub fn json_line(level: Level, message: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut line = Line::new(level, OURS);
    for (name, value) in [("message", message)].iter().chain(fields) {
        line.text(name, value);
    }
    line.end(OURS)
}

/// Writes each event as one object. Spans are left out: ours has none, and those of libraries say what they please.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonEvents;

impl<S, N> FormatEvent<S, N> for JsonEvents
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = Line::new(*metadata.level(), metadata.target());
        event.record(&mut line);
        let line = line.end(metadata.target());
        writer.write_str(str::from_utf8(&line).map_err(|_| fmt::Error)?)
    }
}

struct Line {
    text: Vec<u8>,
    ours: bool,
}

impl Line {
    fn new(level: Level, target: &str) -> Self {
        let mut line = Self { text: Vec::with_capacity(256), ours: target.starts_with(OURS) };
        line.text.extend_from_slice(b"{\"timestamp\":\"");
        line.text.extend_from_slice(Ticker::default().now().as_bytes());
        line.text.extend_from_slice(b"\",\"level\":");
        write_string(&mut line.text, level.as_str());
        line
    }

    fn name(&mut self, name: &str) {
        self.text.push(b',');
        write_string(&mut self.text, &in_json(name, self.ours));
        self.text.push(b':');
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        write_string(&mut self.text, value);
    }

    /// What JSON writes as Rust does.
    fn bare(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        self.text.extend_from_slice(value.to_string().as_bytes());
    }

    fn end(mut self, target: &str) -> Vec<u8> {
        self.text.extend_from_slice(b",\"target\":");
        write_string(&mut self.text, target);
        self.text.extend_from_slice(b"}\n");
        self.text
    }
}

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.bare(field.name(), value),
            false => self.text(field.name(), &value.to_string()),
        }
    }
}
