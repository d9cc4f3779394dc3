//! The log: where lines go, how they look, and what is known of one request.
//!
//! Owns the tracing subscriber with its non-blocking writer, and [`RequestRecord`], which collects facts
//! while a request is worked on and becomes its one line. Refuses to block a request for the log: when
//! the writer cannot keep up, lines are dropped and counted.
//! Trap: whatever is recorded here is read by people who must not learn a token or a whole session id.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Write},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::SubscriberBuilder;

use crate::{
    config::{LogConfig, LogFormat, LogLevel},
    place::InstanceId,
    session::SessionRef,
};

/// Lines that wait for the writer at the most; beyond, they are dropped and counted.
const BUFFERED_LINES: usize = 65_536;

/// Keeps the log going; what is still buffered is written when it is dropped.
#[derive(Debug)]
pub struct Telemetry {
    dropped: ErrorCounter,
    _worker: WorkerGuard,
}

impl Telemetry {
    /// Opens the log file, if there is one, and installs the subscriber for the whole process.
    pub fn install(config: &LogConfig) -> anyhow::Result<Self> {
        let file = match config.file.as_os_str().is_empty() {
            true => None,
            false => Some(open(config).map_err(|error| {
                anyhow::anyhow!("log.file: {}: cannot be written: {error}", config.file.display())
            })?),
        };
        // A file is read by programs, so colours only where a terminal is all there is.
        let ansi = file.is_none() && io::stdout().is_terminal();
        let (writer, worker) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(BUFFERED_LINES)
            .finish(Tee { file });
        let dropped = writer.error_counter();

        let LogLevel(level) = config.level;
        let builder: SubscriberBuilder<_, _, _, _> = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::from_level(level))
            .with_ansi(ansi)
            .with_writer(writer);
        let installed = match config.format {
            LogFormat::Pretty => tracing::subscriber::set_global_default(
                builder.pretty().with_file(false).with_line_number(false).finish(),
            ),
            LogFormat::Compact => tracing::subscriber::set_global_default(builder.finish()),
            LogFormat::Json => tracing::subscriber::set_global_default(
                builder.json().flatten_event(true).with_current_span(false).finish(),
            ),
        };
        installed?;
        Ok(Self { dropped, _worker: worker })
    }

    /// Lines that were dropped because the writer could not keep up.
    pub fn dropped_lines(&self) -> usize {
        self.dropped.dropped_lines()
    }
}

fn open(config: &LogConfig) -> io::Result<File> {
    if let Some(directory) = config.file.parent().filter(|path| !path.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    OpenOptions::new().create(true).append(true).open(&config.file)
}

/// Standard output, and the file if there is one.
struct Tee {
    file: Option<File>,
}

impl Write for Tee {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(file) = &mut self.file {
            file.write_all(line)?;
        }
        io::stdout().write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)?;
        io::stdout().flush()
    }
}

/// What is known of one request, filled in where it becomes known.
#[derive(Debug)]
pub struct RequestRecord {
    /// Our name for the request, or the caller's if it sent a fit one.
    pub id: Arc<str>,
    /// When its head had been read.
    pub received: Instant,
    instance: OnceLock<InstanceId>,
    method: OnceLock<&'static str>,
    tool: OnceLock<&'static str>,
    session: OnceLock<SessionRef>,
    outcome: OnceLock<&'static str>,
    trace: OnceLock<TraceId>,
    bytes: AtomicU64,
}

/// The trace that a request belongs to (W3C Trace Context, `traceparent`): 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    /// Reads the second field of a `traceparent`; an invalid one is ignored, as the standard asks.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut fields = traceparent.split('-');
        let (version, trace) = (fields.next()?, fields.next()?);
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let fits = hex(version, 2) && hex(trace, 32) && hex(fields.next()?, 16);
        let number = u128::from_str_radix(trace, 16).ok().filter(|number| *number != 0);
        number.filter(|_| fits).map(Self)
    }
}

impl std::fmt::Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl RequestRecord {
    /// A record that begins now.
    pub fn begin(id: Arc<str>) -> Self {
        Self {
            id,
            received: Instant::now(),
            instance: OnceLock::new(),
            method: OnceLock::new(),
            tool: OnceLock::new(),
            session: OnceLock::new(),
            outcome: OnceLock::new(),
            trace: OnceLock::new(),
            bytes: AtomicU64::new(0),
        }
    }

    /// The instance that answers. The first word counts, here and below.
    pub fn set_instance(&self, instance: InstanceId) {
        let _ = self.instance.set(instance);
    }

    /// The JSON-RPC method; "batch" for several, "other" for a name that no revision knows.
    pub fn set_method(&self, method: &'static str) {
        let _ = self.method.set(method);
    }

    /// The tool that is called.
    pub fn set_tool(&self, tool: &'static str) {
        let _ = self.tool.set(tool);
    }

    /// The session, or what the caller takes for one.
    pub fn set_session(&self, session: SessionRef) {
        let _ = self.session.set(session);
    }

    /// How it went: "ok", "tool_error", or the name of a failure.
    pub fn set_outcome(&self, outcome: &'static str) {
        let _ = self.outcome.set(outcome);
    }

    /// The trace that the caller says the request belongs to.
    pub fn set_trace(&self, traceparent: &str) {
        if let Some(trace) = TraceId::parse(traceparent) {
            let _ = self.trace.set(trace);
        }
    }

    /// More bytes of the answer's body are on their way.
    pub fn add_bytes(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Time since the head had been read.
    pub fn elapsed(&self) -> Duration {
        self.received.elapsed()
    }

    /// Writes the line.
    pub fn log(&self, http_method: &str, path: &str, status: u16, complete: bool) {
        let outcome = match (complete, self.outcome.get()) {
            (false, _) => "client_gone",
            (true, Some(outcome)) => outcome,
            (true, None) if status < 400 => "ok",
            (true, None) => "refused",
        };
        tracing::info!(
            target: "mcp_echo_stateful::access",
            instance = self.instance.get().map(|id| id.digit()),
            http.method = http_method,
            http.path = path,
            rpc.method = self.method.get(),
            tool = self.tool.get(),
            session = self.session.get().map(tracing::field::display),
            status,
            bytes = self.bytes.load(Ordering::Relaxed),
            duration_us = u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX),
            outcome,
            request_id = &*self.id,
            trace_id = self.trace.get().map(tracing::field::display),
            "request"
        );
    }
}
