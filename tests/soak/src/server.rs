//! The release binary as a process of its own, seen from outside.
//!
//! Owns its start, its stop and what can be known of it: memory, sockets and, by the admin token, its
//! counts. Trap: asking must not change what is measured, so counts are asked for with no session shown.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::time::sleep;

use crate::wire::{Wire, host};

/// Where the binary is, and where files may be left.
#[derive(Clone)]
pub struct Place {
    pub binary: PathBuf,
    pub scratch: PathBuf,
    pub long: bool,
}

/// A server that runs; it is killed when this is dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

/// Lives and deaths of one instance, as `/debug/sessions` has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub live: u64,
    pub created: u64,
    pub expired: u64,
    pub client: u64,
    pub admin: u64,
    pub refused: u64,
}

impl Counts {
    /// All that ended.
    pub fn ended(&self) -> u64 {
        self.expired + self.client + self.admin
    }
}

/// Signals that a scenario sends.
#[derive(Clone, Copy)]
pub enum Signal {
    Stop,
    Continue,
    Terminate,
    Hangup,
}

impl Server {
    /// Starts it on a free port with what a scenario's configuration adds.
    pub fn start(place: &Place, scenario: &str, config: &str) -> Result<Self> {
        let file = place.scratch.join(format!("{scenario}.toml"));
        let common = "debug = false\n[server]\nhost = \"127.0.0.1\"\nport = 0\n[hosts]\nbase_domains = [\"test\"]\n[admin]\ntoken = \"soak\"\n";
        fs::write(&file, format!("{common}{config}"))?;
        let mut child = Command::new(&place.binary)
            .arg("--config")
            .arg(&file)
            .env_clear()
            // The whole default stack, access log included; where it goes is not what is measured here.
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", place.binary.display()))?;
        let mut lines = BufReader::new(child.stderr.take().context("a pipe")?).lines();
        let first = lines.next().context("the server did not start")??;
        let address = first.rsplit(' ').next().and_then(|address| address.parse().ok());
        let address = address.with_context(|| format!("the server said: {first}"))?;
        // Whatever else it says is for a person.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, address })
    }

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> Result<usize> {
        let status = fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
        Ok(kib.parse::<usize>()? * 1024)
    }

    /// Open sockets, the listener included.
    pub fn sockets(&self) -> Result<usize> {
        let open = fs::read_dir(self.proc("fd"))?
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        Ok(open.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
    }

    /// Open files that the process may have.
    pub fn file_limit(&self) -> Result<usize> {
        let limits = fs::read_to_string(self.proc("limits"))?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let soft = line.and_then(|line| line.split_whitespace().next()).context("no limit")?;
        Ok(soft.parse()?)
    }

    /// The counts of one instance.
    pub async fn counts(&self, instance: u8) -> Result<Counts> {
        let mut wire = Wire::open(self.address).await?;
        let head = format!(
            "GET /debug/sessions?limit=0 HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer soak\r\n\r\n",
            host(instance)
        );
        let answer = wire.ask(head.as_bytes()).await?;
        ensure!(answer.status == 200, "/debug said {}", answer.text());
        let document: Value = serde_json::from_slice(answer.body)?;
        let counts = &document["instances"][0];
        let number = |value: &Value| value.as_u64().context("no number");
        let ended = &counts["ended"];
        Ok(Counts {
            live: number(&counts["live"])?,
            created: number(&counts["created"])?,
            expired: number(&ended["expired"])?,
            client: number(&ended["client"])?,
            admin: number(&ended["admin"])?,
            refused: number(&counts["refused"])?,
        })
    }

    /// Waits until something is so; false if it does not become so in time.
    pub async fn eventually(
        &self,
        patience: Duration,
        mut what: impl AsyncFnMut(&Self) -> Result<bool>,
    ) -> Result<bool> {
        let start = Instant::now();
        loop {
            if what(self).await? {
                return Ok(true);
            }
            if start.elapsed() > patience {
                return Ok(false);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let name = match signal {
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
            Signal::Terminate => "-TERM",
            Signal::Hangup => "-HUP",
        };
        let sent = Command::new("kill").arg(name).arg(self.child.id().to_string()).status()?;
        ensure!(sent.success(), "kill {name} failed");
        Ok(())
    }

    /// Asks it to stop; whether it did in time, with exit code 0.
    pub async fn stop(mut self) -> Result<bool> {
        self.signal(Signal::Terminate)?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(false)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
