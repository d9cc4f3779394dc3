//! Configuration: what was written.
//!
//! Owns the tree of keys, their layering (embedded defaults < file < environment < flags) and each
//! key's own check. Refuses unknown keys and values that could not work, with one line that names
//! the key, the value and where it came from. What the values *mean* (host tables, prebuilt answers)
//! is built from here by `instance` and `http::vhost`.
//! Trap: a running server reads all of it again when it is asked to, so what it says must be a matter of
//! file and environment alone; [`change`] tells what of it such a server can take over.

mod change;
mod checks;
mod describe;
mod layers;
mod source;
mod value;

use std::{net::IpAddr, path::PathBuf};

use figment::value::Dict;
use serde::Deserialize;

pub use self::{
    change::{Change, Held, NEEDS_RESTART},
    describe::ConfigError,
    layers::{Flags, Layers},
    source::{CONFIG_VARIABLE, PLAIN_NAMES},
    value::{
        AuthModeName, FrontDoor, Listen, LogFormat, LogLevel, Network, ResponseForm, Seconds,
        Secret, ToolSet, is_host_name, is_token, split_pair,
    },
};
use crate::{
    id::{InstanceId, ReplicaTag},
    wire::version::ProtocolVersion,
};

/// `config/default.toml`: every key with its default.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

/// The sections that `[instances.N.*]` may change for one instance.
pub const POLICY_SECTIONS: [&str; 7] =
    ["protocol", "session", "stream", "auth", "origin", "tools", "tasks"];

/// Everything that an operator can say.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether debug mode is on.
    pub debug: bool,
    /// Where to bind and what to be called.
    pub server: ServerConfig,
    /// Which host names exist.
    pub hosts: HostsConfig,
    /// Which process this is among several.
    pub replica: ReplicaConfig,
    /// Limits on connections and requests.
    pub http: HttpConfig,
    /// Where the log goes.
    pub log: LogConfig,
    /// Access to `/debug`.
    pub admin: AdminConfig,
    /// How to stop.
    pub shutdown: ShutdownConfig,
    /// The policy of each of the ten instances, `[instances.N]` applied.
    pub instances: Vec<PolicyConfig>,
}

/// One instance's policy.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyConfig {
    /// Revisions and the form of answers.
    pub protocol: ProtocolConfig,
    /// Life and limits of sessions.
    pub session: SessionConfig,
    /// Event streams.
    pub stream: StreamConfig,
    /// The bearer check.
    pub auth: AuthConfig,
    /// Browser origins.
    pub origin: OriginConfig,
    /// Which tools exist, and their limits.
    pub tools: ToolsConfig,
    /// Calls that outlive their request.
    pub tasks: TasksConfig,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)+ }
    };
}

section! {
    /// `[server]`
    ServerConfig {
        /// Address to bind.
        host: IpAddr,
        /// Port to bind; 0 takes a free one.
        port: u16,
        /// `serverInfo.name`.
        name: String,
        /// `serverInfo.version`.
        version: String,
    }
}
section! {
    /// `[hosts]`
    HostsConfig {
        /// Domains below which the eleven names exist.
        base_domains: Vec<String>,
        /// Further names of the front door.
        front_door_names: Vec<String>,
        /// How the front door picks.
        front_door: FrontDoor,
    }
}
section! {
    /// `[replica]`
    ReplicaConfig {
        /// The `Mcp-Echo-Replica` header; empty means "local".
        name: String,
        /// Digits 1-2 of every id; empty means drawn at the start.
        tag: String,
    }
}
section! {
    /// `[http]`
    HttpConfig {
        /// Open connections at the most.
        max_connections: usize,
        /// Time for a request head to arrive.
        header_timeout_seconds: Seconds,
        /// Time for a body to arrive after its head.
        body_timeout_seconds: Seconds,
        /// How long a peer may take nothing of what it is sent.
        write_timeout_seconds: Seconds,
        /// Bytes of a body at the most.
        max_body_bytes: usize,
        /// Peers whose forwarding headers are believed.
        trusted_proxies: Vec<Network>,
    }
}
section! {
    /// `[log]`
    LogConfig {
        /// Least severe level that is logged.
        level: LogLevel,
        /// Shape of a line.
        format: LogFormat,
        /// File to append to; empty means none.
        file: PathBuf,
    }
}
section! {
    /// `[admin]`
    AdminConfig {
        /// Bearer token for `/debug`; empty means none.
        token: Secret,
        /// File that holds it; empty means none.
        token_file: PathBuf,
        /// Where else to listen, for `/debug` and `/metrics`.
        listen: Listen,
        /// Requests of each instance that are remembered; 0 for none.
        recent_requests: usize,
    }
}
section! {
    /// `[shutdown]`
    ShutdownConfig {
        /// How long in-flight calls may finish.
        drain_seconds: Seconds,
    }
}
section! {
    /// `[protocol]`
    ProtocolConfig {
        /// Answered to an `initialize` for a version that is not served.
        version: ProtocolVersion,
        /// What is served.
        versions: Vec<ProtocolVersion>,
        /// Form of answers.
        response: ResponseForm,
        /// Entries of a page of a list.
        page_size: usize,
    }
}
section! {
    /// `[session]`
    SessionConfig {
        /// Idle time until expiry.
        timeout_seconds: Seconds,
        /// Whether the first valid request without an id makes a session.
        implicit: bool,
        /// Live sessions at the most.
        capacity: u64,
        /// Bytes of keys and values of one session.
        max_data_bytes: usize,
        /// Keys of one session.
        max_data_keys: usize,
        /// Open GET streams of one session.
        max_streams: usize,
        /// How long a client may take to answer a question of the server.
        answer_timeout_seconds: Seconds,
    }
}
section! {
    /// `[stream]`
    StreamConfig {
        /// A comment line goes out on a stream that is quiet this long.
        keep_alive_seconds: Seconds,
        /// What clients are told to wait before they resume a stream.
        retry_seconds: Seconds,
        /// Bytes of sent events that all streams together keep to be resumed.
        max_replay_bytes: usize,
        /// Open `subscriptions/listen` streams.
        max_subscriptions: usize,
    }
}
section! {
    /// `[auth]`
    AuthConfig {
        /// Whether and how a bearer token is checked.
        mode: AuthModeName,
        /// `name=token` pairs.
        tokens: Vec<Secret>,
        /// File of further pairs, one a line; empty means none.
        tokens_file: PathBuf,
        /// Issuer URLs for the protected-resource metadata (RFC 9728).
        authorization_servers: Vec<String>,
        /// `scopes_supported` there.
        scopes: Vec<String>,
    }
}
section! {
    /// `[origin]`
    OriginConfig {
        /// Browser origins allowed beside loopback and our own hosts; `*` allows any.
        allowed: Vec<String>,
    }
}
section! {
    /// `[tools]`
    ToolsConfig {
        /// Which groups of tools exist.
        sets: Vec<ToolSet>,
        /// Upper bound of a tool's delays, together.
        max_delay_seconds: Seconds,
        /// Upper bound of what `big_response` returns.
        max_response_bytes: u64,
    }
}
section! {
    /// `[tasks]`
    TasksConfig {
        /// How long a task is kept.
        ttl_seconds: Seconds,
        /// Tasks at the most.
        capacity: usize,
    }
}

impl ReplicaConfig {
    /// The tag as written, or `None` where it is to be drawn.
    pub fn tag(&self) -> Result<Option<ReplicaTag>, &'static str> {
        match self.tag.as_str() {
            "" => Ok(None),
            text => text.parse().map(Some),
        }
    }
}

/// The whole document; the policy sections are read per instance.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    debug: bool,
    server: ServerConfig,
    hosts: HostsConfig,
    replica: ReplicaConfig,
    http: HttpConfig,
    log: LogConfig,
    admin: AdminConfig,
    shutdown: ShutdownConfig,
    #[serde(rename = "protocol")]
    _protocol: ProtocolConfig,
    #[serde(rename = "session")]
    _session: SessionConfig,
    #[serde(rename = "stream")]
    _stream: StreamConfig,
    #[serde(rename = "auth")]
    _auth: AuthConfig,
    #[serde(rename = "origin")]
    _origin: OriginConfig,
    #[serde(rename = "tools")]
    _tools: ToolsConfig,
    #[serde(rename = "tasks")]
    _tasks: TasksConfig,
    #[serde(default, rename = "instances")]
    _instances: std::collections::BTreeMap<InstanceId, Overrides>,
}

/// `[instances.N]`: which sections it may hold; what is in them is checked where they are applied.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Overrides {
    #[serde(rename = "protocol")]
    _protocol: Option<Dict>,
    #[serde(rename = "session")]
    _session: Option<Dict>,
    #[serde(rename = "stream")]
    _stream: Option<Dict>,
    #[serde(rename = "auth")]
    _auth: Option<Dict>,
    #[serde(rename = "origin")]
    _origin: Option<Dict>,
    #[serde(rename = "tools")]
    _tools: Option<Dict>,
    #[serde(rename = "tasks")]
    _tasks: Option<Dict>,
}
