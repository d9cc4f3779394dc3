//! The access log: one line for each request, in the form of every other line.
//!
//! Owns [`AccessLog`], which composes the line itself: it is the one event that every request causes, and
//! to pass it through the subscriber field by field costs more than answering an `echo` does.
//! Refuses to differ from what the subscriber would write: same time, level, target and fields in each format.
//! Trap: the path and the request id are the client's words; they are escaped.

use std::{fmt::Display, io::Write};

use http::Method;
use tracing::Level;

use super::{
    lines::Lines,
    record::{Facts, RequestRecord},
};
use crate::{clock::Rfc3339, config::LogFormat};

/// The level of a request's line.
pub const LEVEL: Level = Level::INFO;

const TARGET: &str = "mcp_echo_stateful::access";
const MESSAGE: &str = "request";

/// Where the line of each request goes, and how it looks.
#[derive(Clone, Debug)]
pub struct AccessLog(Option<Sink>);

#[derive(Clone, Debug)]
struct Sink {
    lines: Lines,
    format: LogFormat,
    ansi: bool,
}

/// How a request ended, as far as HTTP tells.
#[derive(Debug)]
pub struct Ending<'a> {
    /// HTTP method.
    pub method: &'a Method,
    /// Path of the request target.
    pub path: &'a str,
    /// Status of the answer; 0 if there is none.
    pub status: u16,
    /// Whether the client took the whole answer.
    pub complete: bool,
}

impl AccessLog {
    /// Writes to these lines.
    pub fn new(lines: Lines, format: LogFormat, ansi: bool) -> Self {
        Self(Some(Sink { lines, format, ansi }))
    }

    /// Writes nothing.
    pub fn silent() -> Self {
        Self(None)
    }

    /// Writes the line of a request.
    pub fn write(&self, record: &RequestRecord, ending: &Ending<'_>) {
        if let Some(Sink { lines, format, ansi }) = &self.0 {
            let line = Line { text: Vec::with_capacity(512), format: *format, ansi: *ansi };
            lines.push(&line.compose(record, ending));
        }
    }
}

/// A line that is being composed.
struct Line {
    text: Vec<u8>,
    format: LogFormat,
    ansi: bool,
}

// Writing into a vector does not fail.
impl Line {
    fn compose(mut self, record: &RequestRecord, ending: &Ending<'_>) -> Vec<u8> {
        let Facts { instance, method, tool, session, outcome, trace } = record.facts();
        let outcome = match (ending.complete, outcome) {
            (false, _) => "client_gone",
            (true, Some(outcome)) => outcome,
            (true, None) if ending.status < 400 => "ok",
            (true, None) => "refused",
        };
        let micros = u64::try_from(record.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.open();
        if let Some(instance) = instance {
            self.number("instance", instance.digit().into());
        }
        self.escaped("http.method", ending.method.as_str());
        self.escaped("http.path", ending.path);
        if let Some(method) = method {
            self.quoted("rpc.method", method);
        }
        if let Some(tool) = tool {
            self.quoted("tool", tool);
        }
        if let Some(session) = session {
            self.plain("session", session);
        }
        self.number("status", ending.status.into());
        self.number("bytes", record.bytes());
        self.number("duration_us", micros);
        self.quoted("outcome", outcome);
        self.escaped("request_id", record.id.as_str());
        if let Some(trace) = trace {
            self.plain("trace_id", trace);
        }
        self.close();
        self.text
    }

    fn add(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    fn dim(&mut self, text: &str) {
        self.add(if self.ansi { "\x1b[2m" } else { "" });
        self.add(text);
        self.add(if self.ansi { "\x1b[0m" } else { "" });
    }

    fn open(&mut self) {
        let now = Rfc3339::now();
        match self.format {
            LogFormat::Json => {
                self.add("{\"timestamp\":\"");
                self.add(now.as_str());
                self.add("\",\"level\":\"INFO\",\"message\":\"");
                self.add(MESSAGE);
                self.add("\"");
            }
            LogFormat::Compact | LogFormat::Pretty => {
                if self.format == LogFormat::Pretty {
                    self.add("  ");
                }
                self.dim(now.as_str());
                self.add(if self.ansi { " \x1b[32m INFO\x1b[0m " } else { "  INFO " });
                self.dim(TARGET);
                self.dim(":");
                self.add(" ");
                self.add(MESSAGE);
            }
        }
    }

    fn name(&mut self, name: &str) {
        match self.format {
            LogFormat::Json => {
                self.add(",\"");
                self.add(name);
                self.add("\":");
            }
            LogFormat::Compact | LogFormat::Pretty => {
                let (before, after) = match self.format {
                    LogFormat::Pretty => (", ", ": "),
                    LogFormat::Compact | LogFormat::Json => (" ", "="),
                };
                self.add(before);
                self.add(if self.ansi { "\x1b[3m" } else { "" });
                self.add(name);
                self.add(if self.ansi { "\x1b[0m" } else { "" });
                self.dim(after);
            }
        }
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        self.add(itoa::Buffer::new().format(number));
    }

    /// A word of ours, which needs no escaping, in quotes.
    fn quoted(&mut self, name: &str, word: &'static str) {
        self.name(name);
        self.add("\"");
        self.add(word);
        self.add("\"");
    }

    /// A client's word, in quotes.
    fn escaped(&mut self, name: &str, text: &str) {
        self.name(name);
        let _ = serde_json::to_writer(&mut self.text, text);
    }

    /// Something that needs no escaping: in quotes where everything but a number is.
    fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name);
        let _ = match self.format {
            LogFormat::Json => write!(self.text, "\"{value}\""),
            LogFormat::Compact | LogFormat::Pretty => write!(self.text, "{value}"),
        };
    }

    fn close(&mut self) {
        match self.format {
            LogFormat::Json => {
                self.add(",\"target\":\"");
                self.add(TARGET);
                self.add("\"}\n");
            }
            LogFormat::Compact => self.add("\n"),
            LogFormat::Pretty => self.add("\n\n"),
        }
    }
}
