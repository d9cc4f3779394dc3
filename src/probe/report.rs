//! The report of a probe, as text or JSON.
//!
//! Owns the shape of the report, and the hints, which name the usual cause of a finding. It never shows an id or a token.
//! Trap: if the user stops the run, the sessions that were not finished must not count as whole.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    arguments::Plan,
    tally::{Route, Tally, Verdicts},
    verdict::{Cause, Place, Process, Reason},
};
use crate::wire::Era;

/// What a run found.
#[derive(Serialize)]
pub struct Report {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<String>,
    elapsed_seconds: f64,
    sessions: Sessions,
    eras: Eras,
    requests: u64,
    requests_per_second: f64,
    statuses: BTreeMap<u16, u64>,
    errors: Vec<ErrorCount>,
    lost: BTreeMap<&'static str, u32>,
    misroutes: Vec<Misroute>,
    replicas: Vec<Minted>,
    latencies: Vec<Latency>,
    broken: Vec<Broken>,
    hints: Vec<&'static str>,
}

#[derive(Serialize)]
struct Sessions {
    asked: u32,
    #[serde(flatten)]
    verdicts: Verdicts,
    unfinished: u32,
}

#[derive(Serialize)]
struct Eras {
    sessioned: Verdicts,
    stateless: Verdicts,
}

#[derive(Serialize)]
struct ErrorCount {
    cause: String,
    sessions: u64,
    first: String,
}

#[derive(Serialize)]
struct Misroute {
    minted_by: Place,
    served_by: Place,
    sessions: u32,
}

#[derive(Serialize)]
struct Minted {
    #[serde(flatten)]
    process: Process,
    sessions: u32,
}

#[derive(Serialize)]
struct Latency {
    instance: Option<u8>,
    requests: u64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

#[derive(Serialize)]
struct Broken {
    session: u32,
    era: &'static str,
    host: String,
    at: &'static str,
    verdict: &'static str,
    detail: String,
}

impl Latency {
    fn of(instance: Option<u8>, histogram: &Histogram<u64>) -> Self {
        let milliseconds = |micros: u64| micros as f64 / 1000.0;
        let at = |quantile| milliseconds(histogram.value_at_quantile(quantile));
        let (requests, max_ms) = (histogram.len(), milliseconds(histogram.max()));
        Self { instance, requests, p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99), max_ms }
    }
}

impl Report {
    pub(super) fn of(plan: &Plan, tally: &Tally, elapsed: Duration) -> Self {
        let asked = plan.asked.sessions;
        let place = |(instance, at): (Option<u8>, usize)| {
            let process = tally.processes.get(at).map(|(process, _)| process.clone());
            Place { instance, process: process.unwrap_or_default() }
        };
        let broken = tally.examples.iter().map(|example| Broken {
            session: example.session,
            era: match example.era {
                Era::Sessioned => "sessioned",
                Era::Stateless => "stateless",
            },
            host: example.host.clone(),
            at: example.at,
            verdict: example.defect.as_str(),
            detail: example.defect.to_string(),
        });
        let errors = tally.causes.iter().map(|(cause, (sessions, first))| ErrorCount {
            cause: cause.to_string(),
            sessions: *sessions,
            first: first.clone(),
        });
        let misroutes = tally.routes.iter().map(|(route, sessions)| Misroute {
            minted_by: place(route.minted_by),
            served_by: place(route.served_by),
            sessions: *sessions,
        });
        let minted = |(process, sessions): &(Process, u32)| Minted {
            process: process.clone(),
            sessions: *sessions,
        };
        Self {
            url: plan.asked.url.clone(),
            connect: plan.asked.connect.clone(),
            elapsed_seconds: elapsed.as_secs_f64(),
            sessions: Sessions {
                asked,
                verdicts: tally.verdicts,
                unfinished: asked - tally.verdicts.total(),
            },
            eras: Eras { sessioned: tally.sessioned, stateless: tally.stateless },
            requests: tally.requests,
            requests_per_second: tally.requests as f64 / elapsed.as_secs_f64().max(f64::EPSILON),
            statuses: tally.statuses.clone(),
            errors: errors.collect(),
            lost: tally.reasons.iter().map(|(reason, count)| (reason.as_str(), *count)).collect(),
            misroutes: misroutes.collect(),
            replicas: tally.processes.iter().map(minted).collect(),
            latencies: tally.latencies.iter().map(|(at, all)| Latency::of(*at, all)).collect(),
            broken: broken.collect(),
            hints: hints(tally),
        }
    }

    /// Whether every session that was asked for is whole.
    pub fn is_whole(&self) -> bool {
        self.sessions.verdicts.whole == self.sessions.asked
    }

    /// The report as a JSON document.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// The result in one line.
    pub fn summary(&self) -> String {
        let Sessions { asked, verdicts: Verdicts { whole, .. }, .. } = self.sessions;
        format!("{whole} of {asked} sessions are whole")
    }
}

/// The usual causes of the findings, and what to do.
fn hints(tally: &Tally) -> Vec<&'static str> {
    let mut hints = Vec::new();
    let astray = |Route { minted_by, served_by }: &Route| minted_by.1 != served_by.1;
    if tally.routes.keys().any(astray) {
        hints.push(
            "Another replica was asked than the one that minted the session. A hash of the request's session header does this, since initialize carries no id yet: route by digits 1-2 of the id, or let the proxy learn it from the answer (deploy/README.md).",
        );
    }
    if tally.routes.keys().any(|route| !astray(route)) {
        hints.push(
            "Another of the ten instances answered. The proxy must pass the Host header on as it came, and a front door that is round_robin or random mixes instances on purpose.",
        );
    }
    if tally.reasons.contains_key(&Reason::Replaced) {
        hints.push(
            "Requests were answered in new sessions. The proxy must pass Mcp-Session-Id on, and Mcp-Param-Session in 2026-07-28.",
        );
    }
    if tally.verdicts.crossed > 0 {
        hints.push(
            "Answers held what belongs to others. No cache may answer a POST, and no two clients may share a session.",
        );
    }
    for cause in tally.causes.keys() {
        hints.extend(match cause {
            Cause::Status(401) => {
                Some("401: send a token with --bearer, or in MCP_PROBE_BEARER.")
            }
            Cause::Status(421) => {
                Some("421: the server has no such host. See BASE_DOMAIN, and whether the proxy passes the Host header on.")
            }
            Cause::Status(503) => {
                Some("503: no server for the session, or one that is full (session.capacity) or stopping.")
            }
            Cause::NoTool => Some(
                "The server lacks a tool that the probe needs: it is not mcp-echo-stateful, or tools.sets leaves out \"session\".",
            ),
            Cause::Tls => Some(
                "The certificate is not trusted: --cacert FILE names its issuer, --insecure trusts anyone.",
            ),
            Cause::Connect
            | Cause::Timeout
            | Cause::Broken
            | Cause::Status(_)
            | Cause::Rpc(_)
            | Cause::Tool
            | Cause::Protocol => None,
        });
    }
    hints
}

/// Writes a title, and a row for each count.
fn list<N: Display>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    rows: impl IntoIterator<Item = (N, String)>,
) -> fmt::Result {
    writeln!(f, "\n{title}")?;
    rows.into_iter().try_for_each(|(count, row)| writeln!(f, "{count:>9}  {row}"))
}

impl Report {
    fn write_verdicts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sessions { asked, verdicts, unfinished } = &self.sessions;
        match &self.connect {
            Some(address) => writeln!(f, "{} at {address}", self.url)?,
            None => writeln!(f, "{}", self.url)?,
        }
        writeln!(
            f,
            "{asked} sessions, {} requests in {:.1} s ({:.0}/s)\n",
            self.requests, self.elapsed_seconds, self.requests_per_second
        )?;
        let Eras { sessioned, stateless } = &self.eras;
        writeln!(f, "{:<12}{:>9}{:>11}{:>11}", "", "sessions", "sessioned", "stateless")?;
        for (((name, all), (_, sessioned)), (_, stateless)) in
            verdicts.rows().into_iter().zip(sessioned.rows()).zip(stateless.rows())
        {
            writeln!(f, "{name:<12}{all:>9}{sessioned:>11}{stateless:>11}")?;
        }
        if *unfinished > 0 {
            writeln!(f, "{:<12}{unfinished:>9}", "unfinished")?;
        }
        for (reason, count) in &self.lost {
            writeln!(f, "\nlost: {reason:<18}{count:>9}")?;
        }
        Ok(())
    }

    fn write_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.misroutes.is_empty() {
            let row = |Misroute { minted_by, served_by, sessions }: &Misroute| {
                (*sessions, format!("minted by {minted_by}, served by {served_by}"))
            };
            list(f, "misrouted", self.misroutes.iter().map(row))?;
        }
        let minted = self.replicas.iter().map(|row| (row.sessions, row.process.to_string()));
        list(f, "sessions minted by", minted)?;
        let statuses = self.statuses.iter().map(|(status, count)| (*count, status.to_string()));
        list(f, "answers by status", statuses)?;
        if !self.errors.is_empty() {
            let errors = self.errors.iter();
            let row = |row: &ErrorCount| (row.sessions, format!("{}: {}", row.cause, row.first));
            list(f, "failures", errors.map(row))?;
        }
        Ok(())
    }

    fn write_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<10}{:>9}{:>10}{:>10}{:>10}{:>10}  ms",
            "instance", "answers", "p50", "p90", "p99", "max"
        )?;
        for Latency { instance, requests, p50_ms, p90_ms, p99_ms, max_ms } in &self.latencies {
            let instance = instance.map_or("not said".to_owned(), |number| number.to_string());
            writeln!(
                f,
                "{instance:<10}{requests:>9}{p50_ms:>10.2}{p90_ms:>10.2}{p99_ms:>10.2}{max_ms:>10.2}"
            )?;
        }
        Ok(())
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_verdicts(f)?;
        self.write_counts(f)?;
        self.write_latencies(f)?;
        if !self.broken.is_empty() {
            writeln!(f, "\nthe first that are not whole")?;
            for Broken { session, era, host, at, verdict, detail } in &self.broken {
                writeln!(f, "  session {session} ({era}, {host}), {at}: {verdict}: {detail}")?;
            }
        }
        if !self.hints.is_empty() {
            writeln!(f)?;
        }
        self.hints.iter().try_for_each(|hint| writeln!(f, "{hint}"))
    }
}
