//! Configuration: what was written.
//!
//! Owns the tree of keys, their layering (embedded defaults < file < environment < flags) and each
//! key's own check. Refuses unknown keys and values that could not work, with one line that names
//! the key, the value and where it came from. What the values *mean* (host tables, prebuilt answers)
//! is built from here by `instance` and `http::vhost`.
//! Trap: a running server reads all of it again when it is asked to, so what it says must be a matter of
//! file and environment alone; [`change`] tells what of it such a server can take over.

mod change;
mod source;
mod value;

use std::{fmt, net::IpAddr, path::PathBuf};

use figment::{
    Figment, Metadata,
    providers::{Format, Toml},
    value::{Dict, Value},
};
use serde::Deserialize;
use serde_json::json;

pub use self::{
    change::{Change, Held, NEEDS_RESTART},
    source::{CONFIG_VARIABLE, PLAIN_NAMES},
    value::{
        FrontDoor, Listen, LogLevel, Network, Seconds, Secret, is_host_name, is_token, split_pair,
    },
};
use crate::{
    id::{InstanceId, ReplicaTag},
    wire::version::{Era, ProtocolVersion},
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

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Several lines an event, for a person at a terminal.
    Pretty,
    /// One line an event.
    Compact,
    /// One JSON object an event.
    Json,
}

/// Form of the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResponseForm {
    /// JSON unless the call streams or the client takes only `text/event-stream`.
    Auto,
    /// JSON, whatever the client accepts.
    Json,
    /// An event stream, whatever the client accepts.
    Sse,
}

/// `auth.mode`; what it means is `auth::AuthMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthModeName {
    /// No token is asked for.
    Off,
    /// A well-formed token must be there; it is not verified.
    Passthrough,
    /// One of the configured tokens must be there.
    Tokens,
}

/// A group of tools that configuration turns on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolSet {
    /// Echo and session state.
    Session,
    /// What arrived, and how the server is.
    Diagnostics,
    /// Streams and large answers, for people who test proxies.
    Streaming,
    /// What the official conformance suite asks for.
    Conformance,
}

/// Why a configuration cannot be used: one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    key: String,
    origin: String,
    problem: String,
}

impl ConfigError {
    fn new(key: &str, origin: &str, problem: impl Into<String>) -> Self {
        Self { key: key.to_owned(), origin: origin.to_owned(), problem: problem.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, origin, problem } = self;
        match key.is_empty() {
            true => write!(f, "{problem} (from {origin})"),
            false => write!(f, "{key}: {problem} (from {origin})"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// What the command line says about configuration.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`
    pub file: Option<PathBuf>,
    /// `--host`
    pub host: Option<String>,
    /// `--port`
    pub port: Option<u16>,
}

/// The layers, merged but not yet checked: what `config print` shows.
#[derive(Debug)]
pub struct Layers(Figment);

impl Layers {
    /// Merges the layers for this process: its environment and its flags.
    pub fn of_process(flags: &Flags) -> Result<Self, ConfigError> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect::<Vec<_>>();
        Self::merge(flags, &variables)
    }

    /// Merges the layers, with the environment as an argument.
    pub fn merge(flags: &Flags, variables: &[(String, String)]) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        let defaults: Dict = figment.extract().map_err(|error| describe(&error, None))?;

        let from_variable = variables.iter().find(|(name, _)| name == CONFIG_VARIABLE);
        let file = flags.file.clone().or_else(|| from_variable.map(|(_, path)| path.into()));
        if let Some(file) = file {
            let text = std::fs::read_to_string(&file).map_err(|error| {
                ConfigError::new(
                    "",
                    &file.display().to_string(),
                    format!("cannot be read: {error}"),
                )
            })?;
            // Parsed once by itself, so that a syntax error is told before any key is looked at.
            figment = figment.merge(TomlFile { text, path: file });
        }
        for setting in source::environment(variables, &defaults)? {
            figment = figment.merge(setting);
        }
        figment = follow_versions(figment);
        if let Some(host) = &flags.host {
            figment = figment.merge(source::Setting::flag("--host", "server.host", host.as_str()));
        }
        if let Some(port) = flags.port {
            figment = figment.merge(source::Setting::flag("--port", "server.port", port));
        }
        Ok(Self(figment))
    }

    /// Every key in force as a line of TOML with its origin, secrets redacted.
    pub fn print(&self) -> Result<String, ConfigError> {
        let tree = self.tree(&self.0)?;
        let mut leaves = Vec::new();
        collect_leaves("", &tree, &mut leaves);
        let mut lines = String::new();
        for (key, value) in leaves {
            let text = display(&key, &value);
            lines.push_str(&format!("{key} = {text}  # {}\n", self.origin(&key)));
        }
        Ok(lines)
    }

    /// Checks everything and gives the configuration.
    pub fn check(&self) -> Result<Config, ConfigError> {
        let written: Written =
            self.0.extract().map_err(|error| self.describe(&error, &error.path))?;
        let mut instances = Vec::with_capacity(InstanceId::COUNT);
        // Read once for all instances that have no section of their own.
        let mut common: Option<PolicyConfig> = None;
        for id in InstanceId::all() {
            let own = self.0.contains(&format!("instances.{id}"));
            instances.push(match &common {
                Some(common) if !own => common.clone(),
                Some(_) | None => self.policy(id)?,
            });
            if !own {
                common.get_or_insert_with(|| instances[id.index()].clone());
            }
        }
        let config = Config {
            debug: written.debug,
            server: written.server,
            hosts: written.hosts,
            replica: written.replica,
            http: written.http,
            log: written.log,
            admin: written.admin,
            shutdown: written.shutdown,
            instances,
        };
        self.check_process(&config)?;
        Ok(config)
    }

    /// All that is in there, whatever it is.
    fn tree(&self, figment: &Figment) -> Result<Dict, ConfigError> {
        figment.extract().map_err(|error| self.describe(&error, &error.path))
    }

    /// These layers as one instance has them: its own section is on top.
    fn of_instance(&self, id: InstanceId) -> Figment {
        let own = self.0.focus(&format!("instances.{id}"));
        let merged = match own.extract::<Dict>() {
            Ok(dict) if !dict.is_empty() => self.0.clone().merge(own),
            Ok(_) | Err(_) => self.0.clone(),
        };
        follow_versions(merged)
    }

    fn policy(&self, id: InstanceId) -> Result<PolicyConfig, ConfigError> {
        let prefix = format!("instances.{id}");
        let merged = self.of_instance(id);
        let policy = PolicyConfig {
            protocol: self.section(&merged, &prefix, "protocol")?,
            session: self.section(&merged, &prefix, "session")?,
            stream: self.section(&merged, &prefix, "stream")?,
            auth: self.section(&merged, &prefix, "auth")?,
            origin: self.section(&merged, &prefix, "origin")?,
            tools: self.section(&merged, &prefix, "tools")?,
            tasks: self.section(&merged, &prefix, "tasks")?,
        };
        self.check_policy(&prefix, &policy)?;
        Ok(policy)
    }

    fn section<'de, T: Deserialize<'de>>(
        &self,
        merged: &Figment,
        prefix: &str,
        name: &str,
    ) -> Result<T, ConfigError> {
        merged.extract_inner(name).map_err(|error| {
            // In a focused figment the section comes last.
            let rest = error.path.iter().filter(|part| *part != name).cloned();
            let path: Vec<String> = std::iter::once(name.to_owned()).chain(rest).collect();
            let own: Vec<String> =
                prefix.split('.').map(str::to_owned).chain(path.clone()).collect();
            let is_own = self.0.contains(&key_of(&own));
            self.describe(&error, if is_own { &own } else { &path })
        })
    }

    fn describe(&self, error: &figment::Error, path: &[String]) -> ConfigError {
        let key = key_of(path);
        let value = self.0.find_value(&key).ok().map(|value| display(&key, &value));
        describe(error, Some((key, value)))
    }

    fn check_process(&self, config: &Config) -> Result<(), ConfigError> {
        let HttpConfig { max_connections, max_body_bytes, header_timeout_seconds, .. } =
            &config.http;
        self.require("server.name", !config.server.name.is_empty(), "must not be empty")?;
        self.require(
            "hosts.base_domains",
            !config.hosts.base_domains.is_empty(),
            "must not be empty",
        )?;
        for (key, names) in [
            ("hosts.base_domains", &config.hosts.base_domains),
            ("hosts.front_door_names", &config.hosts.front_door_names),
        ] {
            let fine = names.iter().all(|name| is_host_name(name));
            self.require(key, fine, "must be host names without scheme, port or path")?;
        }
        let token = config.admin.token.expose();
        let usable = token.is_empty() || is_token(token);
        let problem = "cannot be sent as a bearer token: use letters, digits and -._~+/";
        self.require("admin.token", usable, problem)?;
        let one = token.is_empty() || config.admin.token_file.as_os_str().is_empty();
        self.require("admin.token_file", one, "stands beside admin.token: set one of them")?;
        let bounded = config.admin.recent_requests <= 100_000;
        self.require("admin.recent_requests", bounded, "must be at most 100000")?;
        if let Err(problem) = config.replica.tag() {
            return self.require("replica.tag", false, problem);
        }
        let visible = config.replica.name.bytes().all(|byte| byte.is_ascii_graphic());
        self.require(
            "replica.name",
            visible,
            "must be visible ASCII, since it is sent as a header",
        )?;
        self.require("http.max_connections", *max_connections >= 1, "must be at least 1")?;
        self.require("http.max_body_bytes", *max_body_bytes >= 1024, "must be at least 1024")?;
        let positive = !header_timeout_seconds.get().is_zero();
        self.require("http.header_timeout_seconds", positive, "must be more than 0")?;
        let positive = !config.http.body_timeout_seconds.get().is_zero();
        self.require("http.body_timeout_seconds", positive, "must be more than 0")?;
        let positive = !config.http.write_timeout_seconds.get().is_zero();
        self.require("http.write_timeout_seconds", positive, "must be more than 0")
    }

    fn check_policy(&self, prefix: &str, policy: &PolicyConfig) -> Result<(), ConfigError> {
        // A key set for one instance alone is told under that name.
        let require = |key: &str, fine: bool, problem: &str| {
            let own = format!("{prefix}.{key}");
            let key = if self.0.contains(&own) { own.as_str() } else { key };
            self.require(key, fine, problem)
        };
        let PolicyConfig { protocol, session, stream, auth, origin, tools: _, tasks: _ } = policy;
        require(
            "protocol.versions",
            !protocol.versions.is_empty(),
            "must name at least one version",
        )?;
        // It answers an initialize, so it matters where there are revisions that have one.
        let sessioned = |version: &ProtocolVersion| version.era() == Era::Sessioned;
        let listed = protocol.versions.contains(&protocol.version) && sessioned(&protocol.version);
        let fine = listed || !protocol.versions.iter().any(sessioned);
        let problem = "must be one of protocol.versions that has initialize (up to 2025-11-25)";
        require("protocol.version", fine, problem)?;
        require("protocol.page_size", protocol.page_size >= 1, "must be at least 1")?;
        let enough = session.timeout_seconds.get().as_millis() >= 100;
        require("session.timeout_seconds", enough, "must be at least 0.1")?;
        require("session.capacity", session.capacity >= 1, "must be at least 1")?;
        require("session.max_streams", session.max_streams >= 1, "must be at least 1")?;
        let listable =
            |allowed: &String| matches!(allowed.as_str(), "*" | "null") || allowed.contains("://");
        let fine = origin.allowed.iter().all(listable);
        require("origin.allowed", fine, "must be origins such as https://app.example.com, or *")?;
        let enough = stream.keep_alive_seconds.get().as_millis() >= 100;
        require("stream.keep_alive_seconds", enough, "must be at least 0.1")?;
        let pairs = auth.tokens.iter().all(|pair| split_pair(pair.expose()).is_some());
        require("auth.tokens", pairs, "must be name=token pairs, both parts not empty")?;
        let tokens = !auth.tokens.is_empty() || !auth.tokens_file.as_os_str().is_empty();
        let unusable = auth.mode == AuthModeName::Tokens && !tokens;
        require("auth.mode", !unusable, "needs auth.tokens or auth.tokens_file")
    }

    fn require(&self, key: &str, fine: bool, problem: &str) -> Result<(), ConfigError> {
        if fine {
            return Ok(());
        }
        let value = self.0.find_value(key).map(|value| display(key, &value)).unwrap_or_default();
        Err(ConfigError::new(key, &self.origin(key), format!("{value} {problem}")))
    }

    fn origin(&self, key: &str) -> String {
        self.0.find_metadata(key).map_or_else(|| "default".to_owned(), origin_name)
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

/// A file already read, so that "missing" is an error and not an empty layer.
struct TomlFile {
    text: String,
    path: PathBuf,
}

impl figment::Provider for TomlFile {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.path.display().to_string())
    }

    fn data(&self) -> Result<figment::value::Map<figment::Profile, Dict>, figment::Error> {
        Toml::string(&self.text).data()
    }
}

/// An operator who narrows the versions need not name the default as well: where it is not among them and
/// nobody set it, the newest with an `initialize` takes its place.
fn follow_versions(figment: Figment) -> Figment {
    let newest = || {
        let versions: Vec<ProtocolVersion> = figment.extract_inner("protocol.versions").ok()?;
        let version: ProtocolVersion = figment.extract_inner("protocol.version").ok()?;
        let origin = figment.find_metadata("protocol.version").map(origin_name)?;
        let unset = ["default", source::DERIVED].contains(&origin.as_str());
        let sessioned = versions.iter().filter(|version| version.era() == Era::Sessioned).max();
        sessioned.filter(|_| unset && !versions.contains(&version)).map(|newest| newest.as_str())
    };
    match newest() {
        Some(newest) => figment.merge(source::Setting::derived("protocol.version", newest)),
        None => figment,
    }
}

fn origin_name(metadata: &Metadata) -> String {
    match &*metadata.name {
        "TOML source string" => "default".to_owned(),
        name => name.to_owned(),
    }
}

/// A path as a key; an element of a list is told by the list.
fn key_of(path: &[String]) -> String {
    let end =
        path.len() - usize::from(path.last().is_some_and(|part| part.parse::<usize>().is_ok()));
    path[..end].join(".")
}

/// figment's error in one line: the key, its value, what is wrong, where it was written.
fn describe(error: &figment::Error, at: Option<(String, Option<String>)>) -> ConfigError {
    use figment::error::Kind;
    let origin = error.metadata.as_ref().map_or_else(|| "configuration".to_owned(), origin_name);
    let (mut key, value) = at.unwrap_or_default();
    let value = value.unwrap_or_default();
    let problem = match &error.kind {
        Kind::UnknownField(name, known) => {
            if error.path.iter().all(|part| part != name) {
                key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            }
            format!("there is no such key; here are: {}", known.join(", "))
        }
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => {
            format!("{value} is not {expected}")
        }
        // The lines between the first and the text show the file, which may hold secrets.
        Kind::Message(text) if key.is_empty() => {
            text.lines().filter(|line| !line.contains('|')).collect::<Vec<_>>().join(": ")
        }
        kind => format!("{value} {}", kind.to_string().replace('\n', " ")),
    };
    ConfigError::new(&key, &origin, problem)
}

fn is_secret(key: &str) -> bool {
    key.ends_with("admin.token") || key.contains("auth.tokens") && !key.ends_with("tokens_file")
}

fn collect_leaves(prefix: &str, tree: &Dict, leaves: &mut Vec<(String, Value)>) {
    for (name, value) in tree {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Dict(_, inner) => collect_leaves(&key, inner, leaves),
            leaf => leaves.push((key, leaf.clone())),
        }
    }
}

/// A value as TOML; a secret as `"***"`, an unset one as `""`.
fn display(key: &str, value: &Value) -> String {
    match value {
        Value::String(_, text) if is_secret(key) && !text.is_empty() => "\"***\"".to_owned(),
        _ if is_secret(key) && !matches!(value, Value::Array(..) | Value::String(..)) => {
            "\"***\"".to_owned()
        }
        // A JSON string is a TOML string.
        Value::String(_, text) => json!(text).to_string(),
        Value::Char(_, char) => json!(char).to_string(),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
            (Some(integer), ..) => integer.to_string(),
            (None, Some(integer), _) => integer.to_string(),
            (None, None, Some(float)) => format!("{float:?}"),
            (None, None, None) => "0".to_owned(),
        },
        Value::Array(_, items) => {
            let items: Vec<_> = items.iter().map(|item| display(key, item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Dict(..) => "a table".to_owned(),
        Value::Empty(..) => "\"\"".to_owned(),
    }
}
