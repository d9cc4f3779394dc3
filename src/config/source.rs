//! The environment as a configuration source.
//!
//! Owns the table of plain variable names and the reading of `MCP_ECHO_SECTION__KEY`. A variable is
//! parsed by the type that its key has in `config/default.toml`, so `MCP_SERVER_VERSION=1.0` stays a
//! text and `BASE_DOMAIN=a,b` becomes a list. Refuses `MCP_ECHO_*` names that are no key.
//! Traps: a variable that is empty counts as not set, since compose files pass on what nobody set;
//! Kubernetes injects `MCP_ECHO_STATEFUL_SERVICE_HOST` and the like for a Service of that name, and
//! those are ignored.

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::ConfigError;

/// Plain names, weakest first: where several set one key, the later row wins.
pub const PLAIN_NAMES: &[(&str, &str)] = &[
    ("HOSTNAME", "replica.name"),
    ("HOST", "server.host"),
    ("PORT", "server.port"),
    ("DEBUG", "debug"),
    ("MCP_SERVER_NAME", "server.name"),
    ("MCP_SERVER_VERSION", "server.version"),
    ("MCP_PROTOCOL_VERSION", "protocol.version"),
    ("MCP_PROTOCOL_VERSIONS_SUPPORTED", "protocol.versions"),
    ("MCP_SESSION_TIMEOUT", "session.timeout_seconds"),
    ("LOG_LEVEL", "log.level"),
    ("LOG_FORMAT", "log.format"),
    ("LOG_FILE", "log.file"),
    ("ADMIN_TOKEN", "admin.token"),
    ("ADMIN_TOKEN_FILE", "admin.token_file"),
    ("BASE_DOMAIN", "hosts.base_domains"),
    ("MCP_ECHO_HOST", "server.host"),
    ("MCP_ECHO_PORT", "server.port"),
    ("MCP_ECHO_DEBUG", "debug"),
];

/// Names the configuration file itself, so it is no key.
pub const CONFIG_VARIABLE: &str = "MCP_ECHO_CONFIG";

/// The origin of a `protocol.version` that nobody set.
pub(super) const DERIVED: &str = "the newest of protocol.versions";

const PREFIX: &str = "MCP_ECHO_";

/// One setting and where it was found.
pub(super) struct Setting {
    origin: String,
    path: String,
    value: Value,
}

impl Setting {
    /// One that follows from another.
    pub(super) fn derived(path: &str, value: impl Into<Value>) -> Self {
        Self { origin: DERIVED.to_owned(), path: path.to_owned(), value: value.into() }
    }

    /// One that a reload leaves as it was.
    pub(super) fn held(path: &str, value: Value) -> Self {
        Self { origin: "the start of this process".to_owned(), path: path.to_owned(), value }
    }

    /// One of the command line.
    pub(super) fn flag(flag: &str, path: &str, value: impl Into<Value>) -> Self {
        Self { origin: format!("flag {flag}"), path: path.to_owned(), value: value.into() }
    }
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(&self.path, self.value.clone());
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

/// All settings of the environment, weakest first.
///
/// `defaults` is the tree of `config/default.toml`: it says which keys exist and of what type.
pub(super) fn environment(
    variables: &[(String, String)],
    defaults: &Dict,
) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    for (name, path) in PLAIN_NAMES {
        for (_, text) in variables.iter().filter(|(candidate, _)| candidate == name) {
            if text.trim().is_empty() || is_service_link(name, text) {
                continue;
            }
            settings.push(setting(name, (*path).to_owned(), text, defaults)?);
        }
    }
    for (name, text) in variables {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        let known = name == CONFIG_VARIABLE || PLAIN_NAMES.iter().any(|(plain, _)| plain == name);
        if known || text.trim().is_empty() || is_service_link(name, text) {
            continue;
        }
        settings.push(setting(name, key.to_ascii_lowercase().replace("__", "."), text, defaults)?);
    }
    Ok(settings)
}

fn setting(name: &str, path: String, text: &str, defaults: &Dict) -> Result<Setting, ConfigError> {
    let origin = format!("environment variable {name}");
    let Some(default) = default_of(&path, defaults) else {
        return Err(ConfigError::new(
            &path,
            &origin,
            "there is no such key; see config/default.toml",
        ));
    };
    let value = parse_like(default, text.trim()).map_err(|expected| {
        ConfigError::new(&path, &origin, format!("{text:?} is not {expected}"))
    })?;
    Ok(Setting { origin, path, value })
}

/// The default at `path`; `instances.N.<path>` has the default of `<path>` where that is a policy key.
fn default_of<'a>(path: &str, defaults: &'a Dict) -> Option<&'a Value> {
    let mut keys = path.split('.');
    let mut first = keys.next()?;
    if first == "instances" {
        let digit: u8 = keys.next()?.parse().ok()?;
        first = keys.next()?;
        if digit > 9 || !super::POLICY_SECTIONS.contains(&first) {
            return None;
        }
    }
    let mut value = defaults.get(first)?;
    for key in keys {
        value = value.as_dict()?.get(key)?;
    }
    value.as_dict().is_none().then_some(value)
}

fn parse_like(default: &Value, text: &str) -> Result<Value, &'static str> {
    match default {
        Value::Bool(..) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Value::from(true)),
            "false" | "0" | "no" | "off" | "" => Ok(Value::from(false)),
            _ => Err("true or false"),
        },
        Value::Num(..) => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(integer), _) => Ok(Value::from(integer)),
            (Err(_), Ok(number)) => Ok(Value::from(number)),
            (Err(_), Err(_)) => Err("a number"),
        },
        Value::Array(..) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::from(items.map(Value::from).collect::<Vec<_>>()))
        }
        Value::String(..) | Value::Char(..) | Value::Dict(..) | Value::Empty(..) => {
            Ok(Value::from(text))
        }
    }
}

/// `MCP_ECHO_STATEFUL_SERVICE_HOST`, `MCP_ECHO_PORT=tcp://…`: set by Kubernetes for a Service of that name, not by the
/// operator.
fn is_service_link(name: &str, text: &str) -> bool {
    let linked =
        ["_SERVICE_HOST", "_SERVICE_PORT", "_TCP", "_UDP"].iter().any(|part| name.contains(part));
    let address = text.starts_with("tcp://") || text.starts_with("udp://");
    name.starts_with(PREFIX) && !name.contains("__") && (linked || address)
}
