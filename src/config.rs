//! Configuration: what was written.
//!
//! Owns the tree of keys. Each is declared once, below, with its type and with how a running server takes a change of
//! it; the types, the document and [`Key::all`] follow from that. What the values *mean* (host tables, prebuilt answers)
//! is built from here by `tenant` and `server`.
//! Trap: a running server reads all of it again when it is asked to, so it must depend on the file, the environment and
//! the flags alone.

mod address;
mod checks;
mod describe;
pub(crate) mod file;
mod layers;
mod nearest;
mod profile;
mod reloaded;
mod source;
mod tree;
mod value;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use figment::value::Dict;
use serde::Deserialize;

use self::{
    Reload::{Live, Pushed, Restart},
    tree::{section, tree},
};
pub use self::{
    address::{BindAddress, FrontDoorName, HostName, Listen, Network, Origin, is_host_name},
    describe::ConfigError,
    layers::{Flags, Layers, log_format},
    profile::Profile,
    reloaded::{Held, Reloaded},
    source::{CONFIG_VARIABLE, PLAIN_NAMES, PROFILE_VARIABLE},
    tree::{Key, Reload},
    value::{
        AuthModeName, FrontDoor, LogFormat, LogLevel, ResponseForm, Seconds, Secret, StoreName,
        ToolSet, is_token, split_pair,
    },
};
use crate::{
    id::{InstanceId, ReplicaTag},
    wire::ProtocolVersion,
};

/// `config/default.toml`: every key with its default.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

// What each key means, and its unit, stands in config/default.toml.
tree! {
    debug: bool => Restart("it settles at the start whether /debug exists"),

    process {
        server: ServerConfig {
            host: BindAddress => Restart("the port is bound"),
            port: u16 => Restart("the port is bound"),
            name: String => Restart("clients have been told the name"),
            version: String => Restart("clients have been told the version"),
        }
        hosts: HostsConfig {
            base_domains: Vec<HostName> => Live,
            front_door_names: Vec<FrontDoorName> => Live,
            front_door: FrontDoor => Live,
        }
        replica: ReplicaConfig {
            name: String => Restart("every answer carries it"),
            tag: String => Restart("every id carries it"),
        }
        http: HttpConfig {
            max_connections: usize => Pushed,
            header_timeout_seconds: Seconds => Live,
            body_timeout_seconds: Seconds => Live,
            write_timeout_seconds: Seconds => Live,
            max_body_bytes: usize => Live,
            trusted_proxies: Vec<Network> => Live,
        }
        memory: MemoryConfig {
            max_bytes: usize => Pushed,
            max_instance_bytes: usize => Pushed,
        }
        log: LogConfig {
            level: LogLevel => Pushed,
            format: LogFormat => Restart("the log has begun"),
            file: PathBuf => Restart("the log has begun; the same file is opened anew"),
        }
        admin: AdminConfig {
            token: Secret => Live,
            token_file: PathBuf => Live,
            listen: Listen => Restart("the port is bound"),
            recent_requests: usize => Restart("the memory for it is laid out"),
        }
        store: StoreConfig {
            url: Secret => Restart("sessions are kept there"),
            url_file: PathBuf => Restart("sessions are kept there"),
            ca_file: PathBuf => Restart("the connection is made"),
            namespace: String => Restart("sessions are kept under it"),
            timeout_seconds: Seconds => Restart("the connection is made"),
            wait_aof: bool => Restart("the connection is made"),
            allow_eviction: bool => Restart("it is looked at when the connection is made"),
            unready_when_lost: bool => Live,
        }
        shutdown: ShutdownConfig {
            drain_seconds: Seconds => Live,
        }
    }

    policy {
        protocol: ProtocolConfig {
            version: ProtocolVersion => Restart("sessions have agreed on a revision"),
            versions: Vec<ProtocolVersion> => Restart("sessions have agreed on a revision"),
            response: ResponseForm => Live,
            page_size: usize => Live,
        }
        session: SessionConfig {
            store: StoreName => Restart("sessions are kept there"),
            timeout_seconds: Seconds => Restart("sessions have been promised theirs"),
            implicit: bool => Live,
            capacity: u64 => Pushed,
            max_data_bytes: usize => Live,
            max_data_keys: usize => Live,
            max_streams: usize => Live,
            max_calls: usize => Live,
            answer_timeout_seconds: Seconds => Live,
        }
        stream: StreamConfig {
            keep_alive_seconds: Seconds => Live,
            retry_seconds: Seconds => Live,
            max_replay_bytes: usize => Pushed,
            max_subscriptions: usize => Live,
        }
        auth: AuthConfig {
            mode: AuthModeName => Restart("it says to whom sessions belong"),
            tokens: Vec<Secret> => Live,
            tokens_file: PathBuf => Live,
            authorization_servers: Vec<String> => Live,
            scopes: Vec<String> => Live,
        }
        origin: OriginConfig {
            allowed: Vec<Origin> => Live,
        }
        tools: ToolsConfig {
            sets: Vec<ToolSet> => Live,
            max_delay_seconds: Seconds => Live,
            max_response_bytes: u64 => Live,
            max_calls: u64 => Live,
        }
        tasks: TasksConfig {
            ttl_seconds: Seconds => Pushed,
            capacity: usize => Pushed,
        }
    }
}

impl ReplicaConfig {
    /// What this host is called: as `HOSTNAME` says, which containers set, or else the system, where that can be read.
    pub fn host_name(&self) -> String {
        match self.name.as_str() {
            "" => file::read(Path::new("/proc/sys/kernel/hostname"))
                .unwrap_or_default()
                .trim()
                .to_owned(),
            name => name.to_owned(),
        }
    }

    /// The tag as written, or `None` where it is to be derived.
    pub fn tag(&self) -> Result<Option<ReplicaTag>, &'static str> {
        match self.tag.as_str() {
            "" => Ok(None),
            text => text.parse().map(Some),
        }
    }
}
