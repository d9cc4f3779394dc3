//! Sends and receives: many connections in one thread, one write and one read per call.
//!
//! Closed loop: a connection calls again as soon as it has its answer. Open loop: calls go out on schedule, and their
//! latency counts from the moment they were due, so a slow server cannot slow the questions down. The end of a burst
//! waits for every answer, so that what was counted and what was paid are the same calls.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use nix::{
    time::{ClockId, clock_getcpuclockid},
    unistd::Pid,
};

use crate::{conversation::Work, dialect::Dialect, http};

/// No answer from anyone for so long: the server is stuck.
const STUCK: Duration = Duration::from_secs(30);

/// How much to send.
#[derive(Clone, Copy)]
pub struct Plan {
    pub connections: usize,
    pub seconds: Option<Duration>,
    pub rate: Option<f64>,
    pub most: Option<u64>,
}

impl Plan {
    /// Until the work has no more.
    pub fn all(connections: usize) -> Self {
        Self { connections, seconds: None, rate: None, most: None }
    }
}

/// What came back.
pub struct Tally {
    pub answers: u64,
    pub elapsed: Duration,
    pub server_cpu: Duration,
    pub own_cpu: Duration,
    /// Nanoseconds, in the order of the answers.
    pub latencies: Vec<u32>,
}

/// CPU time of the server and of this process so far.
fn cpu(pids: &[i32]) -> anyhow::Result<(Duration, Duration)> {
    let mut server = Duration::ZERO;
    for &pid in pids {
        let clock = clock_getcpuclockid(Pid::from_raw(pid))
            .with_context(|| format!("the clock of process {pid}"))?;
        server += Duration::from(clock.now()?);
    }
    Ok((server, ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?.into()))
}

struct Connection {
    stream: TcpStream,
    /// What has come of the answer.
    buffer: Vec<u8>,
    filled: usize,
    /// When the call in flight was due.
    since: Option<Instant>,
}

/// Sends what the plan says of the work, and waits for all answers.
pub fn drive(dialect: &Dialect, work: &mut impl Work, plan: &Plan) -> anyhow::Result<Tally> {
    let mut poll = Poll::new()?;
    let mut connections = Vec::with_capacity(plan.connections);
    for number in 0..plan.connections {
        let stream = std::net::TcpStream::connect(dialect.address).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        connections.push(Connection { stream, buffer: vec![0; 16 * 1024], filled: 0, since: None });
    }
    let mut engine = Engine {
        connections,
        idle: VecDeque::new(),
        work,
        plan,
        sent: 0,
        in_flight: 0,
        latencies: Vec::new(),
        out: Vec::new(),
        end: None,
    };

    let (server_before, own_before) = cpu(&dialect.pids)?;
    let start = Instant::now();
    engine.end = plan.seconds.map(|seconds| start + seconds);
    for connection in 0..plan.connections {
        match plan.rate {
            Some(_) => engine.idle.push_back(connection),
            None => engine.call(connection, Instant::now())?,
        }
    }
    let mut events = Events::with_capacity(1024);
    let mut last_answer = start;
    loop {
        let scheduling =
            plan.rate.is_some_and(|rate| engine.schedule(start, rate).unwrap_or(false));
        engine.send_due(start)?;
        if engine.in_flight == 0 && !scheduling {
            break;
        }
        // On schedule there is no time to sleep: a timer's grain would be in every latency.
        let patience = if scheduling { Duration::ZERO } else { STUCK };
        match poll.poll(&mut events, Some(patience)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            done => done?,
        }
        for event in &events {
            engine.receive(event.token().0)?;
            last_answer = Instant::now();
        }
        ensure!(last_answer.elapsed() < STUCK || engine.in_flight == 0, "no answer for {STUCK:?}");
    }
    let elapsed = start.elapsed();
    let (server_after, own_after) = cpu(&dialect.pids)?;
    Ok(Tally {
        answers: engine.latencies.len() as u64,
        elapsed,
        server_cpu: server_after - server_before,
        own_cpu: own_after - own_before,
        latencies: engine.latencies,
    })
}

struct Engine<'a, W> {
    connections: Vec<Connection>,
    /// Connections without a call, in open loop.
    idle: VecDeque<usize>,
    work: &'a mut W,
    plan: &'a Plan,
    sent: u64,
    in_flight: usize,
    latencies: Vec<u32>,
    out: Vec<u8>,
    end: Option<Instant>,
}

impl<W: Work> Engine<'_, W> {
    /// In open loop: whether calls are still to be sent.
    fn schedule(&self, start: Instant, rate: f64) -> Option<bool> {
        let end = self.end?;
        Some(self.due(start, rate) < end && self.plan.most.is_none_or(|most| self.sent < most))
    }

    /// When the next call is due.
    fn due(&self, start: Instant, rate: f64) -> Instant {
        start + Duration::from_secs_f64(self.sent as f64 / rate)
    }

    /// In open loop: sends every call whose time has come, as far as connections are free.
    fn send_due(&mut self, start: Instant) -> anyhow::Result<()> {
        let Some(rate) = self.plan.rate else { return Ok(()) };
        while self.schedule(start, rate).unwrap_or(false) {
            let due = self.due(start, rate);
            if due > Instant::now() {
                break;
            }
            let Some(connection) = self.idle.pop_front() else { break };
            self.call(connection, due)?;
        }
        Ok(())
    }

    fn call(&mut self, connection: usize, due: Instant) -> anyhow::Result<()> {
        let over = self.plan.rate.is_none() && self.end.is_some_and(|end| due >= end);
        if over || self.plan.most.is_some_and(|most| self.sent >= most) {
            return Ok(());
        }
        self.out.clear();
        if !self.work.next(connection, &mut self.out) {
            return Ok(());
        }
        let here = &mut self.connections[connection];
        here.since = Some(due);
        // A request is far smaller than an empty socket buffer.
        let written = here.stream.write(&self.out).context("sending")?;
        ensure!(written == self.out.len(), "the kernel took a part of a request");
        self.sent += 1;
        self.in_flight += 1;
        Ok(())
    }

    fn receive(&mut self, connection: usize) -> anyhow::Result<()> {
        loop {
            let here = &mut self.connections[connection];
            if here.filled == here.buffer.len() {
                here.buffer.resize(here.filled * 2, 0);
            }
            match here.stream.read(&mut here.buffer[here.filled..]) {
                Ok(0) if here.since.is_none() => return Ok(()),
                Ok(0) => bail!("the server closed a connection instead of answering"),
                Ok(count) => here.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("receiving"),
            }
            let Some(answer) = http::answer(&here.buffer[..here.filled])? else { continue };
            let since = here.since.take().context("an answer to nothing")?;
            ensure!(answer.length == here.filled, "more than one answer");
            self.work.judge(connection, &answer)?;
            let now = Instant::now();
            here.filled = 0;
            self.in_flight -= 1;
            let nanoseconds = now.saturating_duration_since(since).as_nanos();
            self.latencies.push(u32::try_from(nanoseconds).unwrap_or(u32::MAX));
            match self.plan.rate {
                Some(_) => self.idle.push_back(connection),
                None => self.call(connection, now)?,
            }
            // What comes next raises an event of its own: the buffer of the socket was emptied up to here.
            return Ok(());
        }
    }
}
