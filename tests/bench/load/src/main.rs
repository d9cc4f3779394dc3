//! The load generator: one process per server, told what to do in JSON lines on standard input, one JSON line back for
//! each.
//!
//! The first line is the [`dialect::Dialect`] of the server, every further one a [`Command`]. Sessions are kept from one
//! command to the next; connections are opened for each command anew, because some servers close idle ones after
//! seconds. Any wrong answer ends the command with an error: a fast error is no result.

mod conversation;
mod dialect;
mod engine;
mod http;
mod start;
mod streams;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
    time::Duration,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use conversation::{Call, Calls, Ending, Opening, Session};
use dialect::Dialect;
use engine::{Plan, Tally, drive};
use streams::Streams;

/// What can be asked.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Command {
    /// Opens sessions, each with initialize, notifications/initialized and one proven echo, until there are `count`.
    Sessions { count: usize, connections: usize },
    /// Calls for a while: a warm-up in which every answer is read whole and proven, then the measured part.
    Burst {
        call: Call,
        connections: usize,
        seconds: f64,
        warmup: f64,
        /// Calls per second, sent on schedule whether or not answers come; without it, each connection calls again as
        /// soon as it has its answer.
        rate: Option<f64>,
        /// Calls go around these sessions, the first ones.
        sessions: usize,
        /// Stop after so many calls, if that comes first.
        most: Option<u64>,
    },
    /// Opens GET streams, each in a session of its own (from the end of the list), and keeps them.
    Streams { count: usize },
    /// How many of the kept streams are still open.
    StreamsOpen,
    /// Starts a program and waits for its first right answer.
    Start {
        program: String,
        arguments: Vec<String>,
        environment: BTreeMap<String, String>,
        call: Call,
    },
    /// The answer to one echo, whole.
    Sample { call: Call },
}

/// What a burst came to. Times are in seconds, latencies in microseconds.
#[derive(Serialize)]
struct Burst {
    answers: u64,
    seconds: f64,
    server_cpu: f64,
    own_cpu: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Burst {
    fn of(mut tally: Tally) -> Self {
        tally.latencies.sort_unstable();
        let at = |share: f64| {
            let last = tally.latencies.len().saturating_sub(1);
            let place = (last as f64 * share).round() as usize;
            tally.latencies.get(place).map_or(0.0, |&nanoseconds| f64::from(nanoseconds) / 1e3)
        };
        Self {
            answers: tally.answers,
            seconds: tally.elapsed.as_secs_f64(),
            server_cpu: tally.server_cpu.as_secs_f64(),
            own_cpu: tally.own_cpu.as_secs_f64(),
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

struct Load {
    dialect: Dialect,
    sessions: Vec<Session>,
    streams: Streams,
}

impl Load {
    fn obey(&mut self, command: Command) -> anyhow::Result<Value> {
        Ok(match command {
            Command::Sessions { count, connections } => {
                let more = count.saturating_sub(self.sessions.len());
                let first = self.sessions.len() as u64;
                let mut opening = Opening::new(&self.dialect, first, more, connections);
                let tally = drive(&self.dialect, &mut opening, &Plan::all(connections))?;
                self.sessions.append(&mut opening.sessions);
                json!({"sessions": self.sessions.len(), "seconds": tally.elapsed.as_secs_f64()})
            }
            Command::Burst { call, connections, seconds, warmup, rate, sessions, most } => {
                let plan = Plan {
                    connections,
                    seconds: Some(Duration::from_secs_f64(seconds)),
                    rate,
                    most,
                };
                let warm =
                    Plan { seconds: Some(Duration::from_secs_f64(warmup)), most: None, ..plan };
                let count = sessions.min(self.sessions.len());
                let (tally, made) = {
                    let mut calls = Calls::new(&self.dialect, call, &self.sessions[..count])?;
                    drive(&self.dialect, &mut calls, &warm).context("in the warm-up")?;
                    calls.thorough = false;
                    (drive(&self.dialect, &mut calls, &plan)?, calls.made)
                };
                if self.dialect.delete && !made.is_empty() {
                    let mut ending = Ending::new(&self.dialect, &made);
                    drive(&self.dialect, &mut ending, &Plan::all(16))
                        .context("ending the sessions that the burst made")?;
                }
                serde_json::to_value(Burst::of(tally))?
            }
            Command::Streams { count } => {
                let Some(first) = self.sessions.len().checked_sub(count) else {
                    bail!("{count} streams need as many sessions");
                };
                self.streams.open(&self.dialect, &self.sessions[first..])?;
                json!({"streams": self.streams.still_open()?})
            }
            Command::StreamsOpen => json!({"streams": self.streams.still_open()?}),
            Command::Start { program, arguments, environment, call } => {
                let took =
                    start::until_answer(&self.dialect, call, &program, &arguments, &environment)?;
                json!({"seconds": took.as_secs_f64()})
            }
            Command::Sample { call } => {
                let mut calls = Calls::new(&self.dialect, call, &self.sessions)?;
                drive(&self.dialect, &mut calls, &Plan { most: Some(1), ..Plan::all(1) })?;
                json!({"body": calls.last_body, "head": calls.last_head})
            }
        })
    }
}

fn main() -> anyhow::Result<()> {
    let mut lines = io::stdin().lock().lines();
    let first = lines.next().context("the first line describes the server")??;
    let dialect = serde_json::from_str(&first).context("the first line describes the server")?;
    let mut load = Load { dialect, sessions: Vec::new(), streams: Streams::default() };
    for line in lines {
        let command = serde_json::from_str(&line?).context("a command")?;
        let answer =
            load.obey(command).unwrap_or_else(|error| json!({"error": format!("{error:#}")}));
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &answer)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}
