//! Behaviour through a real port: one binary, one file per kind of behaviour.

#![cfg(test)]
#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod support;

mod admin;
mod auth;
mod bad_input;
mod config;
mod documents;
mod hosts;
mod http;
mod isolation;
mod lifecycle;
mod logging;
mod process;
mod protocol;
mod rmcp_client;
mod schema;
mod sessions;
mod store;
mod streams;
mod structure;
mod tools;
