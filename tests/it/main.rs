//! Behaviour through a real port: one binary, one file per kind of behaviour.

#![cfg(test)]
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

mod support;

mod admin;
mod admin_port;
mod auth;
mod bad_input;
mod between;
mod capacity;
mod config;
mod config_values;
mod connections;
mod debug_page;
mod documents;
mod early_answers;
mod events;
mod failures;
mod fidelity;
mod handles;
mod home;
mod hosts;
mod http;
mod http2;
mod identity;
mod ids;
mod input_required;
mod isolation;
mod lifecycle;
mod limits;
mod limits_table;
mod logging;
mod metrics;
mod mirrored_headers;
mod modern;
mod probe;
mod probe_faults;
mod probe_gateways;
mod process;
mod protocol;
mod reclaim;
mod reload;
mod resources;
mod resumption;
mod rmcp_client;
mod schema;
mod server_requests;
mod sessions;
mod slow_readers;
mod snippets;
mod stateless;
mod stopping;
mod store;
mod store_acl;
mod store_budget;
mod store_faults;
mod store_ledger;
mod store_link;
mod store_logs;
mod store_model;
mod store_news;
mod store_seen;
mod store_tasks;
mod store_together;
mod store_unavailable;
mod stores;
mod streams;
mod structure;
mod subscriptions;
mod tasks;
mod tools;
