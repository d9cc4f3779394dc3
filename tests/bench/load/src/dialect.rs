//! How to talk to one server: what differs between servers that say the same.

use std::net::SocketAddr;

use serde::Deserialize;

/// The server's side of things, as told in the first line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dialect {
    /// Where it listens.
    pub address: SocketAddr,
    /// What stands in `Host`; sessions go around them.
    pub hosts: Vec<String>,
    pub path: String,
    /// The sessioned revision that is spoken.
    pub version: String,
    pub accept: String,
    /// The tool that echoes, and the name of its argument.
    pub tool: String,
    pub argument: String,
    /// It gives one answer to everything, which holds the message of session 0; so there are no sessions.
    pub fixed: bool,
    /// It ends a session on DELETE.
    pub delete: bool,
    /// Its processes, whose CPU time is counted.
    pub pids: Vec<i32>,
}
