//! From exec to the first right answer.

use std::{
    collections::BTreeMap,
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::{
    conversation::{Call, Calls},
    dialect::Dialect,
    engine::{Plan, drive},
};

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_micros(50);
const TOO_LONG: Duration = Duration::from_secs(30);

/// Ends the program when the measurement is over, however it went.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long the program took to answer its first call, from just before it was executed.
pub fn until_answer(
    dialect: &Dialect,
    call: Call,
    program: &str,
    arguments: &[String],
    environment: &BTreeMap<String, String>,
) -> anyhow::Result<Duration> {
    let mut calls = Calls::new(dialect, call, &[])?;
    let start = Instant::now();
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let _running = Running(child);
    while TcpStream::connect(dialect.address).is_err() {
        ensure!(start.elapsed() < TOO_LONG, "{program} does not listen");
        sleep(PAUSE);
    }
    drive(dialect, &mut calls, &Plan { most: Some(1), ..Plan::all(1) })?;
    Ok(start.elapsed())
}
