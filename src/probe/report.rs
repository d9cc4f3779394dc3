//! The report of a probe: its shape, and its form as JSON.
//!
//! Owns what is reported and whether it is good. It never shows an id or a token. Other forms: [`text`](super::text),
//! [`junit`](super::junit), [`markdown`](super::markdown).
//! Trap: if the user stops the run, the sessions that were not finished must not count as whole.

use std::{collections::BTreeMap, io::Write as _, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    arguments::Plan,
    evidence::Leftovers,
    findings::{self, Finding},
    junit, markdown,
    tally::{Tally, Verdicts},
    ticks::{Arrival, Ticks},
    verdict::{Place, Process},
};
use crate::wire::Era;

/// What a run found.
#[derive(Serialize)]
pub struct Report {
    pub(super) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connect: Option<String>,
    pub(super) elapsed_seconds: f64,
    pub(super) sessions: Sessions,
    pub(super) eras: Eras,
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) errors: Vec<ErrorCount>,
    pub(super) lost: BTreeMap<&'static str, u32>,
    pub(super) misroutes: Vec<Misroute>,
    pub(super) replicas: Vec<Minted>,
    pub(super) latencies: Vec<Latency>,
    pub(super) broken: Vec<Broken>,
    pub(super) revisions: BTreeMap<&'static str, u32>,
    pub(super) progress: Vec<Progress>,
    pub(super) left_behind: Option<Leftovers>,
    pub(super) findings: Vec<Finding>,
    #[serde(skip)]
    pub(super) turns: &'static [Era],
    /// Why nobody was reached, in one line.
    #[serde(skip)]
    pub(super) unreachable: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Sessions {
    pub(super) asked: u32,
    #[serde(flatten)]
    pub(super) verdicts: Verdicts,
    pub(super) unfinished: u32,
}

#[derive(Serialize)]
pub(super) struct Eras {
    pub(super) sessioned: Verdicts,
    pub(super) stateless: Verdicts,
}

#[derive(Serialize)]
pub(super) struct ErrorCount {
    pub(super) cause: String,
    pub(super) sessions: u64,
    pub(super) first: String,
}

#[derive(Serialize)]
pub(super) struct Misroute {
    pub(super) minted_by: Place,
    pub(super) served_by: Place,
    pub(super) sessions: u32,
}

#[derive(Serialize)]
pub(super) struct Minted {
    #[serde(flatten)]
    pub(super) process: Process,
    pub(super) sessions: u32,
}

#[derive(Serialize)]
pub(super) struct Latency {
    pub(super) instance: Option<u8>,
    pub(super) requests: u64,
    pub(super) p50_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

#[derive(Serialize)]
pub(super) struct Broken {
    pub(super) session: u32,
    pub(super) era: &'static str,
    pub(super) host: String,
    pub(super) at: &'static str,
    pub(super) verdict: &'static str,
    pub(super) detail: String,
}

/// How the progress of one call came.
#[derive(Serialize)]
pub(super) struct Progress {
    pub(super) era: &'static str,
    pub(super) host: String,
    pub(super) sent: u32,
    pub(super) arrived: u32,
    pub(super) sent_over_ms: f64,
    pub(super) arrived_over_ms: f64,
    pub(super) arrival: &'static str,
}

pub(super) const fn era_name(era: Era) -> &'static str {
    match era {
        Era::Sessioned => "sessioned",
        Era::Stateless => "stateless",
    }
}

impl Progress {
    fn of(ticks: &Ticks) -> Self {
        let milliseconds = |time: Duration| (time.as_secs_f64() * 1000.0).round();
        Self {
            era: era_name(ticks.era),
            host: ticks.target.clone(),
            sent: ticks.sent,
            arrived: ticks.arrived,
            sent_over_ms: milliseconds(ticks.sent_over),
            arrived_over_ms: milliseconds(ticks.arrived_over),
            arrival: match ticks.arrival() {
                Arrival::AsSent => "as sent",
                Arrival::Aside => "on the session's own stream",
                Arrival::HeldBack => "held back",
                Arrival::Lost => "lost",
                Arrival::Unstreamed => "not streamed",
            },
        }
    }
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
            era: era_name(example.era),
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
        let revisions = tally.evidence.revisions.iter();
        let url = &plan.asked.url;
        Self {
            url: url.clone(),
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
            revisions: revisions.map(|(revision, count)| (revision.as_str(), *count)).collect(),
            progress: tally.evidence.progress.iter().map(Progress::of).collect(),
            left_behind: tally.evidence.leftovers,
            findings: findings::of(tally),
            turns: plan.turns,
            unreachable: tally.unreachable().map(|why| format!("{url} cannot be reached: {why}")),
        }
    }

    /// Whether every session that was asked for is whole, and nothing else is at fault.
    pub fn is_whole(&self) -> bool {
        self.sessions.verdicts.whole == self.sessions.asked && self.faults().next().is_none()
    }

    pub(super) fn faults(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.fault)
    }

    /// The report as a JSON document.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// Whether anybody was there. Otherwise the summary says all that there is to say.
    pub fn reached(&self) -> bool {
        self.unreachable.is_none()
    }

    /// The result in one line.
    pub fn summary(&self) -> String {
        if let Some(why) = &self.unreachable {
            return why.clone();
        }
        let Sessions { asked, verdicts: Verdicts { whole, .. }, .. } = self.sessions;
        let mut summary = format!("{whole} of {asked} sessions are whole");
        for fault in self.faults() {
            summary.push_str("; ");
            summary.push_str(fault.says);
        }
        summary
    }

    /// Writes the files that were asked for.
    pub fn write_files(&self, plan: &Plan) -> std::io::Result<()> {
        if let Some(mut file) = plan.junit.as_ref() {
            file.write_all(junit::of(self).as_bytes())?;
        }
        if let Some(mut file) = plan.markdown.as_ref() {
            file.write_all(markdown::of(self).as_bytes())?;
        }
        Ok(())
    }
}
