//! The log: where lines go and how they look.
//!
//! Owns the tracing subscriber and the access log, which share one [`Lines`], and the [`LogControl`] that changes their
//! level and reopens their file. No request waits for the log: when the writer cannot keep up, lines are dropped and
//! counted. Nor does the end of the process, but for a moment.
//! Trap: operators read what is logged, and must not learn a token or a whole session id.

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Write},
    panic,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Registry, fmt, layer::SubscriberExt as _, registry, reload};

use super::{access::AccessLog, json::JsonEvents, lines::Lines};
use crate::config::{LogConfig, LogFormat, LogLevel, file};

/// How long the end of the process waits for what is still buffered to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs the log; dropping it writes what is still buffered, if somebody takes it.
#[derive(Debug)]
pub struct Log {
    lines: Lines,
    control: LogControl,
    writer: Option<JoinHandle<()>>,
}

impl Log {
    /// Opens the log file, if there is one, and installs the subscriber for the whole process.
    pub fn install(config: &LogConfig) -> anyhow::Result<Self> {
        let file = match config.file.as_os_str().is_empty() {
            true => None,
            false => Some(
                LogFile::open(&config.file)
                    .map_err(|error| cannot_be_written(&config.file, &error))?,
            ),
        };
        let path = file.as_ref().map(|file| file.path.clone());
        let moved = file.as_ref().map(|file| Arc::clone(&file.moved));
        // Programs read a file, so there are colours only if there is none.
        let ansi = file.is_none() && io::stdout().is_terminal();
        let (lines, writer) = Lines::write_to(Tee { file })?;

        let LogLevel(level) = config.level;
        let (filter, level_of_events) = reload::Layer::new(LevelFilter::from_level(level));
        let subscriber = registry().with(filter);
        let writing = lines.clone();
        let events = fmt::layer().with_ansi(ansi).with_writer(move || writing.clone());
        match config.format {
            LogFormat::Pretty => tracing::subscriber::set_global_default(
                subscriber.with(events.pretty().with_file(false).with_line_number(false)),
            ),
            LogFormat::Compact => tracing::subscriber::set_global_default(subscriber.with(events)),
            LogFormat::Json => tracing::subscriber::set_global_default(
                subscriber.with(events.event_format(JsonEvents)),
            ),
        }?;
        if config.format == LogFormat::Json {
            // Rust's own hook writes plain text, which who reads the log could not read.
            panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        }
        let pushing = lines.clone();
        let access = AccessLog::new(move |line| pushing.push(line), config.format, ansi)
            .beside(lines.clone());
        let control = LogControl { events: level_of_events, access, path, moved };
        control.turn(config.level);
        Ok(Self { lines, control, writer: Some(writer) })
    }

    /// What changes the log while it is written.
    pub fn control(&self) -> LogControl {
        self.control.clone()
    }

    /// Where the line of each request goes.
    pub fn access_log(&self) -> AccessLog {
        self.control.access.clone()
    }

    /// Lines that were dropped because the writer could not keep up.
    pub fn dropped_lines(&self) -> u64 {
        self.control.access.dropped_lines()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.close();
        let Some(writer) = self.writer.take() else { return };
        let deadline = Instant::now() + LAST_WORDS;
        // A pipe that nobody reads would keep it for ever.
        while !writer.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Changes the log while it is written.
#[derive(Clone, Debug)]
pub struct LogControl {
    events: reload::Handle<LevelFilter, Registry>,
    access: AccessLog,
    /// Of the file, if there is one.
    path: Option<PathBuf>,
    moved: Option<Arc<AtomicBool>>,
}

impl LogControl {
    /// Sets the least severe level that is logged.
    pub(crate) fn turn(&self, LogLevel(level): LogLevel) {
        self.access.set_level(level);
        // Fails only once the subscriber is gone.
        let _ = self.events.modify(|filter| *filter = LevelFilter::from_level(level));
    }

    /// Fails if what has taken the place of the log file cannot be written to.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        file::append(path).map(drop).map_err(|error| cannot_be_written(path, &error))
    }

    /// Opens the log file by its name again before the next line, because it may have been moved away.
    pub(crate) fn reopen(&self) {
        if let Some(moved) = &self.moved {
            moved.store(true, Ordering::Relaxed);
        }
    }
}

fn cannot_be_written(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("log.file: {}: cannot be written: {error}", path.display())
}

struct LogFile {
    path: PathBuf,
    file: File,
    /// Whether it must be opened again.
    moved: Arc<AtomicBool>,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let moved = Arc::<AtomicBool>::default();
        Ok(Self { path: path.to_owned(), file: Self::append(path)?, moved })
    }

    fn append(path: &Path) -> io::Result<File> {
        if let Some(directory) = path.parent().filter(|path| !path.as_os_str().is_empty()) {
            fs::create_dir_all(directory)?;
        }
        file::append(path)
    }

    fn write_all(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.moved.swap(false, Ordering::Relaxed)
            && let Ok(file) = Self::append(&self.path)
        {
            self.file = file;
        }
        self.file.write_all(lines)
    }
}

/// Standard output, and the file if there is one.
struct Tee {
    file: Option<LogFile>,
}

impl Write for Tee {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // If one of the two fails, the other still gets the lines.
        let filed = self.file.as_mut().map_or(Ok(()), |file| file.write_all(lines));
        let mut out = io::stdout().lock();
        out.write_all(lines).and_then(|()| out.flush()).and(filed)?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
