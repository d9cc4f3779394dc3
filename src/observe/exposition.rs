//! Prometheus' text format 0.0.4, as far as it is needed here.
//!
//! Owns [`Page`], which writes a family's head before its samples. A library for this has counters of its own that are
//! looked up by label. Ours are arrays: to copy them into a library's samples takes more code than to write the text.
//! Traps: all samples of a family must follow its head, or a reader rejects the page; and label values are not escaped,
//! so they must come from closed sets.

use std::fmt::{Display, Write};

use crate::histogram::Histogram;

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Counter,
    Gauge,
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

#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

/// A family whose head has been written.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Page {
    pub(crate) fn family(&mut self, name: &'static str, type_: Type, help: &str) -> Family<'_> {
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", type_.as_str()));
        Family { page: self, name }
    }

    /// A family of one sample without labels.
    pub(crate) fn single(
        &mut self,
        name: &'static str,
        type_: Type,
        help: &str,
        value: impl Display,
    ) {
        self.family(name, type_, help).sample(&[], value);
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = self.text.write_fmt(text);
    }
}

impl Family<'_> {
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.suffixed("", labels, value);
    }

    /// The samples of one histogram.
    pub(crate) fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let (buckets, sum) = histogram.read();
        let mut count = 0;
        let bounds = Histogram::BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
        for (bound, more) in bounds.zip(buckets) {
            count += more;
            self.suffixed("_bucket", &[labels, &[("le", bound)]].concat(), count);
        }
        self.suffixed("_sum", labels, sum.as_secs_f64());
        self.suffixed("_count", labels, count);
    }

    /// One sample whose name has a suffix, as those of a histogram have.
    fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.page.put(format_args!("{}{suffix}", self.name));
        for (place, (label, text)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            self.page.put(format_args!("{before}{label}=\"{text}\""));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.page.put(format_args!("{end} {value}\n"));
    }
}
