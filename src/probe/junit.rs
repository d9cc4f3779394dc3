//! The report as JUnit XML, as CI systems read it.
//!
//! Owns the cases: one for the sessions of each era, one for progress, one for what is left behind upstream.
//! Trap: XML has no way at all to write most control characters, so they are left out.

use std::fmt::Write as _;

use super::{
    findings::{About, Finding},
    report::{Report, era_name},
};
use crate::wire::Era;

/// How a case went.
enum Outcome {
    Passed,
    /// In one line, and all that there is to say.
    Failed(String, String),
    Skipped,
}

pub(super) fn of(report: &Report) -> String {
    let sessions = report.turns.iter().map(|era| (session_case(*era), of_era(report, *era)));
    let progress = match report.progress.is_empty() {
        true => Outcome::Skipped,
        false => of_faults(report, About::Progress),
    };
    let leftovers = match report.left_behind {
        None => Outcome::Skipped,
        Some(_) => of_faults(report, About::Leftovers),
    };
    let others = [
        ("progress arrives as it is sent", progress),
        ("no upstream session is left behind", leftovers),
    ];
    let cases: Vec<_> = sessions.chain(others).collect();
    let count = |which: fn(&Outcome) -> bool| cases.iter().filter(|(_, how)| which(how)).count();
    let (tests, seconds) = (cases.len(), report.elapsed_seconds);
    let failures = count(|how| matches!(how, Outcome::Failed(..)));
    let skipped = count(|how| matches!(how, Outcome::Skipped));
    let url = escaped(&report.url);
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"mcp-echo-stateful probe\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{seconds:.3}\">\n"
    );
    for (name, outcome) in cases {
        let _ = write!(xml, "    <testcase classname=\"{url}\" name=\"{name}\"");
        match outcome {
            Outcome::Passed => xml.push_str("/>\n"),
            Outcome::Skipped => xml.push_str("><skipped/></testcase>\n"),
            Outcome::Failed(line, all) => {
                let [line, all] = [line, all].map(|text| escaped(&text));
                let _ = writeln!(xml, "><failure message=\"{line}\">{all}</failure></testcase>");
            }
        }
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

const fn session_case(era: Era) -> &'static str {
    match era {
        Era::Sessioned => "sessions stay whole",
        Era::Stateless => "handles stay whole",
    }
}

fn of_era(report: &Report, era: Era) -> Outcome {
    let verdicts = match era {
        Era::Sessioned => &report.eras.sessioned,
        Era::Stateless => &report.eras.stateless,
    };
    if report.reached() && verdicts.whole == verdicts.total() && report.sessions.unfinished == 0 {
        return Outcome::Passed;
    }
    let line = match report.reached() {
        true => format!("{} of {} are whole", verdicts.whole, verdicts.total()),
        false => report.summary(),
    };
    let mut all = String::new();
    for broken in report.broken.iter().filter(|broken| broken.era == era_name(era)) {
        let _ = writeln!(all, "{broken}");
    }
    write_faults(&mut all, report, About::Sessions);
    Outcome::Failed(line, all)
}

fn of_faults(report: &Report, about: About) -> Outcome {
    let fits = |fault: &&Finding| fault.about == about;
    let Some(first) = report.faults().find(fits) else { return Outcome::Passed };
    let mut all = String::new();
    write_faults(&mut all, report, about);
    Outcome::Failed(format!("{}: {}", first.says, first.detail), all)
}

fn write_faults(all: &mut String, report: &Report, about: About) {
    for fault in report.faults().filter(|fault| fault.about == about) {
        let _ = writeln!(all, "{fault}");
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push('\n'),
            '\u{fffe}' | '\u{ffff}' => {}
            sign if sign.is_control() => {}
            sign => escaped.push(sign),
        }
    }
    escaped
}
