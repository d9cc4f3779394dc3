//! The log: where lines go and how they look.
//!
//! Owns the tracing subscriber and the access log, which share one [`Lines`], and the [`LogControl`] that changes
//! their level and opens their file anew. Refuses to block a request for the log: when the writer cannot keep
//! up, lines are dropped and counted.
//! Trap: whatever is recorded here is read by people who must not learn a token or a whole session id.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Registry, fmt, layer::SubscriberExt as _, registry, reload};

use super::{access::AccessLog, lines::Lines};
use crate::config::{LogConfig, LogFormat, LogLevel};

/// Keeps the log going; what is still buffered is written when it is dropped.
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
            false => Some(LogFile::open(&config.file).map_err(|error| {
                anyhow::anyhow!("log.file: {}: cannot be written: {error}", config.file.display())
            })?),
        };
        let moved = file.as_ref().map(|file| Arc::clone(&file.moved));
        // A file is read by programs, so colours only where a terminal is all there is.
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
                subscriber.with(events.json().flatten_event(true).with_current_span(false)),
            ),
        }?;
        let pushing = lines.clone();
        let access = AccessLog::new(move |line| pushing.push(line), config.format, ansi)
            .beside(lines.clone());
        let control = LogControl { events: level_of_events, access, moved };
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
        if let Some(writer) = self.writer.take() {
            // It has said why, if it failed.
            let _ = writer.join();
        }
    }
}

/// Changes the log while it is written.
#[derive(Clone, Debug)]
pub struct LogControl {
    events: reload::Handle<LevelFilter, Registry>,
    access: AccessLog,
    moved: Option<Arc<AtomicBool>>,
}

impl LogControl {
    /// From now on nothing less severe is logged.
    pub fn turn(&self, LogLevel(level): LogLevel) {
        self.access.set_level(level);
        // It fails only where the subscriber is gone, and with it the log.
        let _ = self.events.modify(|filter| *filter = LevelFilter::from_level(level));
    }

    /// The log file may have been moved away, so the next line opens it by its name again.
    pub fn reopen(&self) {
        if let Some(moved) = &self.moved {
            moved.store(true, Ordering::Relaxed);
        }
    }
}

/// The log file, by its name.
struct LogFile {
    path: PathBuf,
    file: File,
    /// Whether the name may stand for another file by now.
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
        OpenOptions::new().create(true).append(true).open(path)
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
        // A full disk must not silence standard output, nor a closed standard output the file.
        let filed = self.file.as_mut().map_or(Ok(()), |file| file.write_all(lines));
        let mut out = io::stdout().lock();
        out.write_all(lines).and_then(|()| out.flush()).and(filed)?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
