//! The access log: one line for each request, in the format of all other lines.
//!
//! Owns [`AccessLog`], which composes the line itself: every request has one, and to pass it through the tracing
//! subscriber field by field costs more than answering an `echo`. In each format, time, level, target and fields look
//! as the subscriber would write them. A line is at level info, or at debug where a machine asks by the clock.
//! Trap: the path, the host, the request id and names that do not exist are chosen by the client; they are escaped.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Method;
use tracing::Level;

use super::{
    fields::{FIELDS, Field},
    lines::Lines,
    outcome::RequestOutcome,
    record::{Facts, Missing, RequestId, RequestRecord, RpcMethod},
    shown,
};
use crate::{
    clock::Ticker,
    config::LogFormat,
    id::{InstanceId, MintedBy},
    paths,
};

/// Longest host that is shown. Characters.
pub(crate) const MAX_HOST: usize = 128;

/// The variable that lets another host in.
pub(crate) const FRONT_DOOR_NAMES: &str = "MCP_ECHO_HOSTS__FRONT_DOOR_NAMES";

/// The status of an answer to a host that is not ours.
const MISDIRECTED: u16 = 421;

const TARGET: &str = "mcp_echo_stateful::access";
const MESSAGE: &str = "request";

/// Where the line of each request goes, and how it looks.
#[derive(Clone)]
pub struct AccessLog {
    written: Option<Arc<Written>>,
    lines: Option<Lines>,
}

type Out = dyn Fn(&[u8]) + Send + Sync;

struct Written {
    out: Box<Out>,
    style: Style,
    /// Whether lines of each [`Weight`] are logged.
    on: [AtomicBool; 2],
    /// What a line is composed in, if nobody else is at it: nobody waits for it.
    spare: Mutex<Spare>,
}

#[derive(Default)]
struct Spare {
    text: Vec<u8>,
    ticker: Ticker,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Someone asked for something: info.
    Usual,
    /// A probe or a scrape, of which a pod has tens of thousands a day: debug.
    Probe,
}

impl Weight {
    const ALL: [Self; 2] = [Self::Usual, Self::Probe];

    const fn level(self) -> Level {
        match self {
            Self::Usual => Level::INFO,
            Self::Probe => Level::DEBUG,
        }
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.written.is_some() { "AccessLog" } else { "AccessLog(silent)" })
    }
}

/// What stands between the values of a line, composed once.
#[derive(Debug)]
struct Style {
    /// Before the time.
    time: &'static str,
    /// Between the time and the first field, by [`Weight`].
    heads: [String; 2],
    names: [String; FIELDS.len()],
    /// With the quotation mark that a text begins with.
    quoted: [String; FIELDS.len()],
    /// What all calls of an instance have in common: itself, POST and `/mcp`.
    calls: [Vec<u8>; InstanceId::COUNT],
    /// Whether hexadecimal digits stand in quotes.
    quote: bool,
    end: String,
}

impl Style {
    fn new(format: LogFormat, ansi: bool) -> Self {
        let mut style = Self::without_calls(format, ansi);
        for instance in InstanceId::all() {
            let mut text = Vec::new();
            let mut line = Line { text: &mut text, style: &style };
            line.http(Some(instance), &Method::POST);
            line.word(Field::Path, paths::MCP.as_bytes());
            style.calls[instance.index()] = text;
        }
        style
    }

    fn without_calls(format: LogFormat, ansi: bool) -> Self {
        let styled = |code: u8, text: &str| match ansi {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        };
        let (dim, italic) = (|text| styled(2, text), |text| styled(3, text));
        let after = if ansi { "\x1b[0m" } else { "" };
        let heads = Weight::ALL.map(|weight| match (format, weight) {
            (LogFormat::Json, weight) => {
                format!("\",\"level\":\"{}\",\"message\":\"{MESSAGE}\"", weight.level())
            }
            (LogFormat::Compact | LogFormat::Pretty, weight) => {
                let level = match weight {
                    Weight::Usual => styled(32, " INFO"),
                    Weight::Probe => styled(34, "DEBUG"),
                };
                format!("{after} {level} {}{} {MESSAGE}", dim(TARGET), dim(":"))
            }
        });
        let people = |between: &'static str, equals: &'static str| {
            FIELDS.map(|(short, _)| format!("{between}{}{}", italic(short), dim(equals)))
        };
        let names = match format {
            LogFormat::Json => FIELDS.map(|(_, name)| format!(",\"{name}\":")),
            LogFormat::Compact => people(" ", "="),
            LogFormat::Pretty => people(", ", ": "),
        };
        let (time, end) = match format {
            LogFormat::Json => ("{\"timestamp\":\"", format!(",\"target\":\"{TARGET}\"}}\n")),
            LogFormat::Compact => (if ansi { "\x1b[2m" } else { "" }, "\n".to_owned()),
            LogFormat::Pretty => (if ansi { "  \x1b[2m" } else { "  " }, "\n\n".to_owned()),
        };
        let quoted = names.each_ref().map(|name| format!("{name}\""));
        let quote = matches!(format, LogFormat::Json);
        Self { time, heads, names, quoted, calls: Default::default(), quote, end }
    }
}

/// How a request ended.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    pub(crate) method: &'a Method,
    /// Of the request target; borrowed if it is one of ours.
    pub(crate) path: &'a Cow<'static, str>,
    /// What the client asked for, where it was refused.
    pub(crate) host: Option<&'a str>,
    /// 0 if there is no answer.
    pub(crate) status: u16,
    pub(crate) outcome: RequestOutcome,
    pub(crate) weight: Weight,
    /// From its head to the end of its answer.
    pub(crate) duration: Duration,
}

impl AccessLog {
    /// Hands each line to `out`.
    pub fn new(out: impl Fn(&[u8]) + Send + Sync + 'static, format: LogFormat, ansi: bool) -> Self {
        let style = Style::new(format, ansi);
        let on = Weight::ALL.map(|weight| AtomicBool::new(weight == Weight::Usual));
        let written = Written { out: Box::new(out), style, on, spare: Mutex::default() };
        Self { written: Some(Arc::new(written)), lines: None }
    }

    /// Writes nothing.
    pub fn silent() -> Self {
        Self { written: None, lines: None }
    }

    /// The same, with [`AccessLog::dropped_lines`] counted by `lines`.
    pub fn beside(self, lines: Lines) -> Self {
        Self { lines: Some(lines), ..self }
    }

    /// Lines of the whole log that were dropped because its writer could not keep up.
    pub(crate) fn dropped_lines(&self) -> u64 {
        self.lines.as_ref().map_or(0, Lines::dropped)
    }

    /// From now on, writes the lines that this least severe level lets pass.
    pub(crate) fn set_level(&self, level: Level) {
        let on = self.written.iter().flat_map(|written| &written.on);
        for (on, weight) in on.zip(Weight::ALL) {
            on.store(level >= weight.level(), Ordering::Relaxed);
        }
    }

    pub(crate) fn write(&self, record: &RequestRecord, facts: &Facts, ending: &Ending<'_>) {
        match &self.written {
            Some(written) if written.on[ending.weight as usize].load(Ordering::Relaxed) => {
                let mut own = Spare::default();
                let mut spare = written.spare.try_lock();
                let Spare { text, ticker } = spare.as_deref_mut().unwrap_or(&mut own);
                text.clear();
                Line { text, style: &written.style }.compose(ticker, record, facts, ending);
                (written.out)(text);
            }
            Some(_) | None => {}
        }
    }
}

struct Line<'a> {
    text: &'a mut Vec<u8>,
    style: &'a Style,
}

impl Line<'_> {
    fn compose(
        mut self,
        ticker: &mut Ticker,
        record: &RequestRecord,
        facts: &Facts,
        ending: &Ending<'_>,
    ) {
        let Facts { instance, era: _, method, tool, session, minted_by, outcome: _, trace } =
            *facts;
        let micros = u64::try_from(ending.duration.as_micros()).unwrap_or(u64::MAX);
        self.add(self.style.time);
        self.text.extend_from_slice(ticker.now().as_bytes());
        self.add(&self.style.heads[ending.weight as usize]);
        match (instance, ending.method, ending.path) {
            (Some(instance), &Method::POST, Cow::Borrowed(paths::MCP)) => {
                self.text.extend_from_slice(&self.style.calls[instance.index()]);
            }
            (_, method, path) => {
                self.http(instance, method);
                match path {
                    Cow::Borrowed(known) => self.word(Field::Path, known.as_bytes()),
                    Cow::Owned(path) => self.escaped(Field::Path, path),
                }
            }
        }
        self.what(method, tool, record.missing());
        if let Some(session) = session {
            self.digits(Field::Session, &session.digits());
        }
        if let Some(MintedBy { instance, tag, boot }) = minted_by {
            self.word(Field::MintedBy, format!("{instance}/{tag}/{boot}").as_bytes());
        }
        self.number(Field::Status, ending.status.into());
        self.number(Field::Bytes, record.bytes());
        self.number(Field::Duration, micros);
        self.word(Field::Outcome, ending.outcome.as_str().as_bytes());
        if ending.status >= 400 {
            if let Some(host) = ending.host {
                self.escaped(Field::Host, &shown::shown(host, MAX_HOST));
            }
            let peer = record.peer.to_canonical().to_string();
            self.word(Field::Peer, peer.as_bytes());
            if ending.status == MISDIRECTED {
                self.word(Field::AdmittedBy, FRONT_DOOR_NAMES.as_bytes());
            }
        }
        match &record.id {
            RequestId::Ours(id) => self.word(Field::RequestId, id.as_bytes()),
            id @ RequestId::Callers(_) => self.escaped(Field::RequestId, id.as_str()),
        }
        if let Some(trace) = trace {
            self.digits(Field::TraceId, trace.to_string().as_bytes());
        }
        self.add(&self.style.end);
    }

    fn http(&mut self, instance: Option<InstanceId>, method: &Method) {
        if let Some(instance) = instance {
            self.number(Field::Instance, instance.digit().into());
        }
        // An HTTP method has neither quotes nor backslashes.
        self.word(Field::HttpMethod, method.as_str().as_bytes());
    }

    /// What was asked for. A name that does not exist stands in the place of the one that would.
    fn what(
        &mut self,
        method: Option<RpcMethod>,
        tool: Option<&'static str>,
        missing: Option<&Missing>,
    ) {
        match (method, missing) {
            (_, Some(Missing::Method(name))) => self.escaped(Field::Method, name),
            (Some(method), _) => self.word(Field::Method, method.as_str().as_bytes()),
            (None, _) => {}
        }
        match (tool, missing) {
            (_, Some(Missing::Tool(name))) => self.escaped(Field::Tool, name),
            (Some(tool), _) => self.word(Field::Tool, tool.as_bytes()),
            (None, _) => {}
        }
    }

    fn add(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    fn name(&mut self, field: Field) {
        self.add(&self.style.names[field as usize]);
    }

    fn number(&mut self, field: Field, number: u64) {
        self.name(field);
        self.add(itoa::Buffer::new().format(number));
    }

    fn escaped(&mut self, field: Field, text: &str) {
        self.name(field);
        shown::quote(self.text, text);
    }

    /// Text that needs no escaping.
    fn word(&mut self, field: Field, word: &[u8]) {
        self.add(&self.style.quoted[field as usize]);
        self.text.extend_from_slice(word);
        self.text.push(b'"');
    }

    fn digits(&mut self, field: Field, digits: &[u8]) {
        if self.style.quote {
            return self.word(field, digits);
        }
        self.name(field);
        self.text.extend_from_slice(digits);
    }
}
