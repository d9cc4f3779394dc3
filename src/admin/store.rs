//! What operators are told of the shared store.
//!
//! Owns its families of `/metrics`, its part of `/debug/overview`, and where the sessions of an instance live.
//! Trap: a process without a store shows none of these families, so an alert on a store that is lost has nothing to fire on
//! where there is none to be lost.

use serde_json::{Value, json};

use super::metrics::INSTANCE;
use crate::{
    link::Link,
    observe::{
        Page,
        Type::{self, Counter, Gauge},
    },
    tenant::Instance,
};

/// Where the sessions of an instance live.
pub(super) fn home(instance: &Instance) -> &'static str {
    match instance.state.sessions.is_shared() {
        true => "shared",
        false => "memory",
    }
}

/// As JSON, for the overview.
pub(super) fn shown(link: &Link) -> Value {
    json!({
        "address": link.address().to_string(),
        "namespace": link.namespace(),
        "up": link.is_up(),
        "reached": link.was_reached(),
    })
}

/// The families of the store, with what these instances make of it.
pub(super) fn families(page: &mut Page, link: &Link, instances: &[(&'static str, &Instance)]) {
    let usage = link.usage();
    let help = "1 while the store is connected and answers, else 0.";
    page.single("mcp_echo_store_up", Gauge, help, u8::from(link.is_up()));
    let help = "Connections to the store that were made after the first.";
    page.single("mcp_echo_store_reconnects_total", Counter, help, link.reconnects());
    let help = "Scripts that were run again: no answer had come, it came too late, or the master is another.";
    page.single("mcp_echo_store_repeats_total", Counter, help, usage.repeated());
    let help = "Scripts that were sent whole, since the store did not know them.";
    page.single("mcp_echo_store_scripts_sent_total", Counter, help, usage.sent_whole());
    let help = "Scripts that the store was asked to run, by name and by what came of them.";
    let mut family = page.family("mcp_echo_store_operations_total", Counter, help);
    for (operation, outcome, count) in usage.operations() {
        family.sample(&[("operation", operation), ("outcome", outcome.as_str())], count);
    }
    let help = "How long the store took for a script, all attempts together, in seconds; what failed at once left out.";
    let mut family = page.family("mcp_echo_store_duration_seconds", Type::Histogram, help);
    family.histogram(&[], &usage.durations);
    let help = "Changes that other replicas were not told of, because too much was untold already.";
    let mut family = page.family("mcp_echo_store_news_dropped_total", Counter, help);
    for (name, own) in instances {
        family.sample(&[(INSTANCE, name)], own.state.sessions.news_dropped());
    }
}
