//! Prometheus' text format 0.0.4, as far as it is needed here.
//!
//! Owns [`Page`], which puts a family's head before its samples and a value behind its labels. A library for
//! this brings counters of its own, which are looked up by label; ours lie in tables, and to copy them into
//! another's samples would take more than to write them.
//! Refuses a label value that would need escaping: all of them come from closed sets.
//! Trap: all samples of a family stand together, below one head, or a reader rejects the page.

use std::fmt::{Display, Write};

/// What the page is (`Content-Type`).
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram,
}

impl Type {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A page in the making.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

/// A family whose head has been written, for its samples.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Page {
    /// Begins a family.
    pub fn family(&mut self, name: &'static str, type_: Type, help: &str) -> Family<'_> {
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", type_.as_str()));
        Family { page: self, name }
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &'static str, type_: Type, help: &str, value: impl Display) {
        self.family(name, type_, help).sample(&[], value);
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = self.text.write_fmt(text);
    }
}

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.suffixed("", labels, value);
    }

    /// One sample whose name has a suffix, as those of a histogram have.
    pub fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.page.put(format_args!("{}{suffix}", self.name));
        for (place, (label, text)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            self.page.put(format_args!("{before}{label}=\"{text}\""));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.page.put(format_args!("{end} {value}\n"));
    }
}
