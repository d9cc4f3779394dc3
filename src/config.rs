//! Configuration: what was written.
//!
//! Owns the tree of keys. Each is declared once, below, with its type and with how a running server takes a change of
//! it; the types, the document and [`Key::all`] follow from that. What the values *mean* (host tables, prebuilt answers)
//! is built from here by `tenant` and `server`.
//! Trap: a running server reads all of it again when it is asked to, so it must depend on the file, the environment and
//! the flags alone.

mod checks;
mod describe;
mod layers;
mod reloaded;
mod source;
mod tree;
mod value;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use figment::value::Dict;
use serde::Deserialize;

use self::{
    Reload::{Live, Pushed, Restart},
    tree::{section, tree},
};
pub use self::{
    describe::ConfigError,
    layers::{Flags, Layers},
    reloaded::{Held, Reloaded},
    source::{CONFIG_VARIABLE, PLAIN_NAMES},
    tree::{Key, Reload},
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

tree! {
    /// Whether `/debug` gets a generated token if none is set.
    debug: bool => Restart("it settles at the start whether /debug exists"),

    process {
        /// Where to bind and what to be called.
        server: ServerConfig {
            /// Address to bind.
            host: IpAddr => Restart("the port is bound"),
            /// Port to bind; 0 takes a free one.
            port: u16 => Restart("the port is bound"),
            /// `serverInfo.name`.
            name: String => Restart("clients have been told the name"),
            /// `serverInfo.version`.
            version: String => Restart("clients have been told the version"),
        }
        /// Which host names exist.
        hosts: HostsConfig {
            /// Domains below which the eleven names exist.
            base_domains: Vec<String> => Live,
            /// Further names of the front door.
            front_door_names: Vec<String> => Live,
            /// How the front door picks.
            front_door: FrontDoor => Live,
        }
        /// Which process this is among several.
        replica: ReplicaConfig {
            /// The `Mcp-Echo-Replica` header; empty means "local".
            name: String => Restart("every answer carries it"),
            /// Digits 1-2 of every id; empty means drawn at the start.
            tag: String => Restart("every id carries it"),
        }
        /// Limits on connections and requests.
        http: HttpConfig {
            /// Open connections at the most.
            max_connections: usize => Pushed,
            /// Time for a request head to arrive; a connection keeps the one that it began with.
            header_timeout_seconds: Seconds => Live,
            /// Time for a body to arrive after its head.
            body_timeout_seconds: Seconds => Live,
            /// How long a peer may take nothing of what it is sent; a connection keeps the one that it began with.
            write_timeout_seconds: Seconds => Live,
            /// Bytes of a body at the most.
            max_body_bytes: usize => Live,
            /// Peers whose forwarding headers are believed.
            trusted_proxies: Vec<Network> => Live,
        }
        /// Where the log goes.
        log: LogConfig {
            /// Least severe level that is logged.
            level: LogLevel => Pushed,
            /// Shape of a line.
            format: LogFormat => Restart("the log has begun"),
            /// File to append to; empty means none.
            file: PathBuf => Restart("the log has begun; the same file is opened anew"),
        }
        /// Access to `/debug`.
        admin: AdminConfig {
            /// Bearer token for `/debug`; empty means none.
            token: Secret => Live,
            /// File that holds it; empty means none.
            token_file: PathBuf => Live,
            /// Where else to listen, for `/debug` and `/metrics`.
            listen: Listen => Restart("the port is bound"),
            /// Requests of each instance that are remembered; 0 for none.
            recent_requests: usize => Restart("the memory for it is laid out"),
        }
        /// How to stop.
        shutdown: ShutdownConfig {
            /// How long in-flight calls may finish.
            drain_seconds: Seconds => Live,
        }
    }

    policy {
        /// Revisions and the form of answers.
        protocol: ProtocolConfig {
            /// Answered to an `initialize` for a version that is not served.
            version: ProtocolVersion => Restart("sessions have agreed on a revision"),
            /// What is served.
            versions: Vec<ProtocolVersion> => Restart("sessions have agreed on a revision"),
            /// JSON or events.
            response: ResponseForm => Live,
            /// Entries of a page of a list.
            page_size: usize => Live,
        }
        /// Life and limits of sessions.
        session: SessionConfig {
            /// Idle time until expiry.
            timeout_seconds: Seconds => Restart("sessions have been promised theirs"),
            /// Whether the first valid request without an id makes a session.
            implicit: bool => Live,
            /// Live sessions at the most.
            capacity: u64 => Pushed,
            /// Bytes of keys and values of one session.
            max_data_bytes: usize => Live,
            /// Keys of one session.
            max_data_keys: usize => Live,
            /// Open GET streams of one session.
            max_streams: usize => Live,
            /// How long a client may take to answer a question of the server.
            answer_timeout_seconds: Seconds => Live,
        }
        /// Event streams.
        stream: StreamConfig {
            /// A comment line goes out on a stream that is quiet this long.
            keep_alive_seconds: Seconds => Live,
            /// What clients are told to wait before they resume a stream.
            retry_seconds: Seconds => Live,
            /// Bytes of sent events that all streams together keep to be resumed.
            max_replay_bytes: usize => Pushed,
            /// Open `subscriptions/listen` streams.
            max_subscriptions: usize => Live,
        }
        /// The bearer check.
        auth: AuthConfig {
            /// Whether and how a bearer token is checked.
            mode: AuthModeName => Restart("it says to whom sessions belong"),
            /// `name=token` pairs.
            tokens: Vec<Secret> => Live,
            /// File of further pairs, one a line; empty means none.
            tokens_file: PathBuf => Live,
            /// Issuer URLs for the protected-resource metadata (RFC 9728).
            authorization_servers: Vec<String> => Live,
            /// `scopes_supported` there.
            scopes: Vec<String> => Live,
        }
        /// Browser origins.
        origin: OriginConfig {
            /// Those allowed beside loopback and our own hosts; `*` allows any.
            allowed: Vec<String> => Live,
        }
        /// Which tools exist, and their limits.
        tools: ToolsConfig {
            /// Groups of tools, resources and prompts, in the order of the lists.
            sets: Vec<ToolSet> => Live,
            /// Upper bound of a tool's delays, together.
            max_delay_seconds: Seconds => Live,
            /// Upper bound of what `big_response` returns.
            max_response_bytes: u64 => Live,
        }
        /// Calls that outlive their request.
        tasks: TasksConfig {
            /// How long a task is kept.
            ttl_seconds: Seconds => Pushed,
            /// Tasks at the most.
            capacity: usize => Pushed,
        }
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
