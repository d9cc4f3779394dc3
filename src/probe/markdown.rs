//! The report as a summary in Markdown, as CI systems show it.
//!
//! Owns the layout: the result, the verdicts as a table, the findings as a list, the whole report folded away.
//! Trap: what peers say must not become markup. It stands in code alone, whose fence is longer than any in it.

use std::fmt::Write as _;

use super::report::Report;

pub(super) fn of(report: &Report) -> String {
    let sign = if report.is_whole() { "✅" } else { "❌" };
    let mut text = format!("### {sign} {}\n\n", code(&report.summary()));
    if !report.reached() {
        return text;
    }
    let _ = writeln!(text, "{}\n", code(&report.url));
    text.push_str("| verdict | sessions |\n| --- | ---: |\n");
    for (name, count) in report.sessions.verdicts.rows() {
        let _ = writeln!(text, "| {name} | {count} |");
    }
    if report.sessions.unfinished > 0 {
        let _ = writeln!(text, "| unfinished | {} |", report.sessions.unfinished);
    }
    text.push('\n');
    for finding in &report.findings {
        let (mark, detail) = (if finding.fault { "❌" } else { "ℹ️" }, code(&finding.detail));
        let _ = writeln!(text, "- {mark} **{}** {detail}  \n  {}", finding.says, finding.advice);
    }
    let whole = report.to_string();
    let fence = "`".repeat(longest_run(&whole).max(2) + 1);
    let _ = writeln!(
        text,
        "\n<details><summary>The whole report</summary>\n\n{fence}text\n{}\n{fence}\n\n</details>\n",
        whole.trim_end()
    );
    text
}

/// As code in a line; nothing, if it is empty.
fn code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let fence = "`".repeat(longest_run(text) + 1);
    format!("{fence} {text} {fence}")
}

/// The most backticks that stand side by side.
fn longest_run(text: &str) -> usize {
    text.split(|sign| sign != '`').map(str::len).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_code_stays_code() {
        assert_eq!(code("a"), "` a `");
        assert_eq!(code("a``b`"), "``` a``b` ```");
        assert_eq!(code(""), "");
    }
}
