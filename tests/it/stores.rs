//! Shared stores to test with: servers of Redis and Valkey in processes of their own, alone, over TLS, as a cluster, and
//! behind Sentinel.
//!
//! Owns how they are started, asked, paused, killed and started again; each is gone when it is dropped. Commands of the
//! tests go through a socket in the server's own directory, so they are neither refused nor swallowed with what the
//! program sends, and whoever answers there is the server that was started. Trap: nothing here is async; a test calls it
//! between its awaits, never while it waits for a server that is paused.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use uuid::Uuid;

use crate::support::PATIENCE;

mod between;
mod groups;
mod itself;
mod reply;

pub use self::{
    between::{Between, Loss, Mode},
    groups::{Cluster, Sentinel},
    reply::Reply,
};

/// Who made the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Redis,
    Valkey,
}

impl Engine {
    pub const ALL: [Self; 2] = [Self::Redis, Self::Valkey];

    fn program(self) -> PathBuf {
        match self {
            Self::Redis => "redis-server".into(),
            Self::Valkey => {
                let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("is in one");
                target.join("valkey/valkey-server")
            }
        }
    }
}

/// A server on a port of the loopback interface; killed when it is dropped.
pub struct StoreServer {
    engine: Engine,
    port: u16,
    arguments: Vec<String>,
    directory: TempDir,
    child: Mutex<Child>,
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl StoreServer {
    /// A server that forgets everything when it ends.
    pub fn start(engine: Engine) -> Self {
        Self::with(engine, &[])
    }

    /// The same with more arguments, as `["--appendonly", "yes"]`.
    pub fn with(engine: Engine, arguments: &[&str]) -> Self {
        Self::launch(engine, directory(), arguments, |port| format!("port {port}\n"))
    }

    /// One that speaks TLS and nothing else. The wheel's Valkey cannot, so it is Redis.
    pub fn tls() -> Self {
        let directory = directory();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("a certificate");
        let [certificate, key] =
            ["certificate.pem", "key.pem"].map(|name| directory.path().join(name));
        fs::write(&certificate, made.cert.pem()).expect("is written");
        fs::write(&key, made.signing_key.serialize_pem()).expect("is written");
        let [certificate, key] = [certificate.display(), key.display()];
        let files = format!(
            "tls-cert-file {certificate}\ntls-ca-cert-file {certificate}\ntls-key-file {key}\n"
        );
        Self::launch(Engine::Redis, directory, &["--tls-auth-clients", "no"], |port| {
            format!("port 0\ntls-port {port}\n{files}")
        })
    }

    /// Begins with what the file says, to which the arguments are added.
    fn launch(
        engine: Engine,
        directory: TempDir,
        arguments: &[&str],
        file: impl Fn(u16) -> String,
    ) -> Self {
        let path = directory.path().display().to_string();
        let mut all = vec![format!("{path}/configuration")];
        all.extend(arguments.iter().map(|&argument| argument.into()));
        for _ in 0..20 {
            let port = some_port();
            let file = file(port);
            let file = format!(
                "bind 127.0.0.1\ndir {path}\nunixsocket {path}/socket\nlogfile {path}/log\nsave \"\"\n\
                 appendonly no\nrepl-diskless-sync-delay 0\n{file}"
            );
            fs::write(&all[0], file).expect("is written");
            if let Some(child) = spawn(engine, directory.path(), &all) {
                return Self { engine, port, arguments: all, directory, child: Mutex::new(child) };
            }
        }
        panic!("no port was free");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        match self.ca_file().exists() {
            true => format!("rediss://localhost:{}", self.port),
            false => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// The certificate to trust, of a server over TLS.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Sends a command on a connection of its own and waits for the reply, which may be an error; one that does not come
    /// within two seconds fails the test.
    #[track_caller]
    pub fn command(&self, command: &[&str]) -> Reply {
        self.try_command(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// The same for a server that may not answer.
    pub fn try_command(&self, command: &[&str]) -> io::Result<Reply> {
        reply::ask(&self.directory.path().join("socket"), command)
    }

    /// How often each command was called, by its name in lower case; `CONFIG RESETSTAT` starts anew.
    pub fn commandstats(&self) -> BTreeMap<String, u64> {
        let info = self.command(&["INFO", "commandstats"]);
        let calls = info.text().lines().filter_map(|line| {
            let (name, figures) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let (calls, _) = figures.split_once(',')?;
            Some((name.to_owned(), calls.parse().expect("a number")))
        });
        calls.collect()
    }

    /// Stops it where it is: connections are accepted by the kernel, and nothing is answered.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.lock().expect("lock").id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill");
        assert!(sent.success(), "the server runs");
    }

    /// Ends it by SIGKILL.
    pub fn kill(&self) {
        let mut child = self.child.lock().expect("lock");
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Starts it after it was killed: on its port, with its arguments and its directory.
    pub fn start_again(&self) {
        self.kill();
        let path = self.directory.path();
        let start = || spawn(self.engine, path, &self.arguments);
        let child = (0..20).find_map(|_| start()).expect("its port is free");
        *self.child.lock().expect("lock") = child;
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A port below those that the kernel hands out, so that nobody is given it while its server is down; a node of a
/// cluster takes the one 10,000 above too. It may be taken by another test.
fn some_port() -> u16 {
    10_000 + u16::try_from(Uuid::new_v4().as_u128() % 10_000).expect("is small")
}

/// Starts a server and waits until it answers. Nothing if its port is taken.
fn spawn(engine: Engine, directory: &Path, arguments: &[String]) -> Option<Child> {
    let log = directory.join("log");
    let _ = fs::remove_file(&log);
    let mut command = Command::new(engine.program());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("run tests/it/stores/install first: {}: {error}", engine.program().display())
    });
    let start = Instant::now();
    let answers =
        || reply::ask(&directory.join("socket"), &["PING"]).is_ok_and(|reply| !reply.is_error());
    loop {
        if let Some(status) = child.try_wait().expect("is a child") {
            let log = fs::read_to_string(&log).unwrap_or_default();
            assert!(log.contains("Address already in use"), "{engine:?} ended, {status}: {log}");
            return None;
        }
        if answers() {
            return Some(child);
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{engine:?} never answered: {}", fs::read_to_string(&log).unwrap_or_default());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until something is so.
#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
