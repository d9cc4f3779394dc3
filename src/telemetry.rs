//! The log: where lines go and how they look.
//!
//! Owns the tracing subscriber and the access log, which share one [`Lines`]. Refuses to block a request
//! for the log: when the writer cannot keep up, lines are dropped and counted.
//! Trap: whatever is recorded here is read by people who must not learn a token or a whole session id.

pub mod access;
pub mod lines;
pub mod outcome;
pub mod record;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Write},
    thread::JoinHandle,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::SubscriberBuilder;

use self::{access::AccessLog, lines::Lines};
use crate::config::{LogConfig, LogFormat, LogLevel};

/// Keeps the log going; what is still buffered is written when it is dropped.
#[derive(Debug)]
pub struct Telemetry {
    lines: Lines,
    access: AccessLog,
    writer: Option<JoinHandle<()>>,
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
        let (lines, writer) = Lines::write_to(Tee { file })?;

        let LogLevel(level) = config.level;
        let writing = lines.clone();
        let builder: SubscriberBuilder<_, _, _, _> = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::from_level(level))
            .with_ansi(ansi)
            .with_writer(move || writing.clone());
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
        let access = match level >= access::LEVEL {
            true => {
                let lines = lines.clone();
                AccessLog::new(move |line| lines.push(line), config.format, ansi)
            }
            false => AccessLog::silent(),
        }
        .beside(lines.clone());
        Ok(Self { lines, access, writer: Some(writer) })
    }

    /// Where the line of each request goes.
    pub fn access_log(&self) -> AccessLog {
        self.access.clone()
    }

    /// Lines that were dropped because the writer could not keep up.
    pub fn dropped_lines(&self) -> u64 {
        self.access.dropped_lines()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.lines.close();
        if let Some(writer) = self.writer.take() {
            // It has said why, if it failed.
            let _ = writer.join();
        }
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
