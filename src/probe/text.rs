//! The report as a person reads it.
//!
//! Owns the layout alone.
//! Trap: what peers say stands in it, on one line each and shortened; see [`shortened`](super::exchange::shortened).

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

use super::{
    evidence::Leftovers,
    report::{Broken, Eras, ErrorCount, Latency, Misroute, Progress, Report, Sessions},
};

/// Writes a title, and a row for each count; nothing, if there is none.
fn list<N: Display>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    rows: impl IntoIterator<Item = (N, impl Display)>,
) -> fmt::Result {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_some() {
        writeln!(f, "\n{title}")?;
    }
    rows.try_for_each(|(count, row)| writeln!(f, "{count:>9}  {row}"))
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
        let row = |Misroute { minted_by, served_by, sessions }: &Misroute| {
            (*sessions, format!("minted by {minted_by}, served by {served_by}"))
        };
        list(f, "misrouted", self.misroutes.iter().map(row))?;
        let minted = self.replicas.iter().filter(|row| row.sessions > 0);
        let minted = minted.map(|row| (row.sessions, row.process.to_string()));
        list(f, "sessions minted by", minted)?;
        let statuses = self.statuses.iter().map(|(status, count)| (*count, status.to_string()));
        list(f, "answers by status", statuses)?;
        let row = |row: &ErrorCount| (row.sessions, format!("{}: {}", row.cause, row.first));
        list(f, "failures", self.errors.iter().map(row))
    }

    fn write_traffic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revisions = self.revisions.iter().map(|(revision, count)| (*count, *revision));
        list(f, "sessions by revision", revisions)?;
        let mut progress = BTreeMap::new();
        for Progress { era, sent, arrived, arrival, .. } in &self.progress {
            let (all_arrived, all_sent) = progress.entry((*era, *arrival)).or_insert((0, 0));
            *all_arrived += arrived;
            *all_sent += sent;
        }
        let row =
            |((era, arrival), (arrived, sent))| (arrived, format!("of {sent} ({era}), {arrival}"));
        list(f, "progress events that arrived", progress.into_iter().map(row))?;
        if let Some(Leftovers { looked_for, left }) = &self.left_behind {
            let row = format!("of {looked_for} that were looked for");
            list(f, "upstream sessions left behind", [(left, row)])?;
        }
        Ok(())
    }

    fn write_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.latencies.is_empty() {
            return Ok(());
        }
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

impl Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, era, host, at, verdict, detail } = self;
        write!(f, "session {session} ({era}, {host}), {at}: {verdict}: {detail}")
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_verdicts(f)?;
        self.write_counts(f)?;
        self.write_latencies(f)?;
        self.write_traffic(f)?;
        if !self.broken.is_empty() {
            writeln!(f, "\nthe first that are not whole")?;
            self.broken.iter().try_for_each(|broken| writeln!(f, "  {broken}"))?;
        }
        if !self.findings.is_empty() {
            writeln!(f)?;
        }
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}
