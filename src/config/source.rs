//! The environment as a configuration source.
//!
//! Owns the table of plain variable names and the reading of `MCP_ECHO_SECTION__KEY`. A variable is
//! parsed by the type that its key has in `config/default.toml`, so `MCP_SERVER_VERSION=1.0` stays a
//! text and `BASE_DOMAIN=a,b` becomes a list. Refuses `MCP_ECHO_*` names that are no key, and variables of ours that are
//! not UTF-8.
//! Rules: a variable that is empty counts as not set, whichever it is, since compose files pass on what nobody set. Of
//! several that set one key only the strongest is read: what another program means by `DEBUG` or `HOST` does no harm
//! beside a name that is ours alone, and without one it is refused, since it may as well be a slip.
//! Trap: Kubernetes injects `MCP_ECHO_STATEFUL_SERVICE_HOST` and the like for a Service of that name; those are ignored.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::{ConfigError, Key, POLICY_SECTIONS, nearest::nearest};

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
    ("MCP_STORE_URL", "store.url"),
    ("MCP_ECHO_HOST", "server.host"),
    ("MCP_ECHO_PORT", "server.port"),
    ("MCP_ECHO_DEBUG", "debug"),
];

/// Names the configuration file itself, so it is no key.
pub const CONFIG_VARIABLE: &str = "MCP_ECHO_CONFIG";

/// The origin of a `protocol.version` that nobody set.
pub(super) const DERIVED: &str = "the newest of protocol.versions";

/// Names a [`Profile`](super::Profile), and is no key either.
pub const PROFILE_VARIABLE: &str = "MCP_ECHO_PROFILE";

/// Variables with our prefix that set no key.
const NO_KEYS: [&str; 2] = [CONFIG_VARIABLE, PROFILE_VARIABLE];

const PREFIX: &str = "MCP_ECHO_";

/// What precedes the name of a variable where it is the origin of a value.
const ORIGIN: &str = "environment variable ";

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

    /// The key that it sets.
    pub(super) fn path(&self) -> &str {
        &self.path
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

/// The variables of a process.
pub(super) type Variables = [(OsString, OsString)];

/// All settings of the environment, but for keys that a flag sets.
///
/// `defaults` is the tree of `config/default.toml`: it says which keys exist and of what type.
pub(super) fn environment(
    variables: &Variables,
    defaults: &Dict,
    flags: &[&str],
) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    for (path, (name, value)) in strongest(variables) {
        let origin = format!("{ORIGIN}{name}");
        let Some(default) = default_of(&path, defaults) else {
            return Err(ConfigError::new(&path, &origin, no_such(&name)));
        };
        if !flags.contains(&&*path) {
            let text = text(&path, &origin, value)?;
            let value = parse_like(default, text.trim()).map_err(|expected| {
                ConfigError::new(&path, &origin, format!("{text:?} is not {expected}"))
            })?;
            settings.push(Setting { origin, path, value });
        }
    }
    Ok(settings)
}

/// What a variable says that sets no key, with its origin.
pub(super) fn said_by<'a>(
    variable: &str,
    variables: &'a Variables,
) -> Result<Option<(&'a str, String)>, ConfigError> {
    let origin = format!("{ORIGIN}{variable}");
    let named = variables.iter().find(|(name, value)| name == variable && !is_empty(value));
    let named = named.map(|(_, value)| text("", &origin, value)).transpose()?;
    Ok(named.map(|text| (text, origin)))
}

/// What the environment says of one key, if that is text.
pub(super) fn said_of(variables: &Variables, path: &str) -> Option<String> {
    let (_, value) = strongest(variables).remove(path)?;
    value.to_str().map(|text| text.trim().to_owned())
}

/// By key, the strongest of the variables that set it: its name and its value.
fn strongest(variables: &Variables) -> BTreeMap<String, (Cow<'_, str>, &OsStr)> {
    let ours = || {
        let named =
            variables.iter().map(|(name, value)| (name.to_string_lossy(), value.as_os_str()));
        named.filter(|(name, value)| !is_empty(value) && !is_service_link(name, value))
    };
    let mut found = BTreeMap::new();
    for (plain, path) in PLAIN_NAMES {
        if let Some(variable) = ours().rfind(|(name, _)| name == plain) {
            found.insert((*path).to_owned(), variable);
        }
    }
    for (name, value) in ours() {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        if NO_KEYS.iter().all(|other| *other != name)
            && PLAIN_NAMES.iter().all(|(plain, _)| *plain != name)
        {
            found.insert(key.to_ascii_lowercase().replace("__", "."), (name, value));
        }
    }
    found
}

fn is_empty(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

fn text<'a>(path: &str, origin: &str, value: &'a OsStr) -> Result<&'a str, ConfigError> {
    value.to_str().ok_or_else(|| ConfigError::new(path, origin, "the value is not UTF-8"))
}

/// Says what was most likely meant by a variable that sets no key.
fn no_such(name: &str) -> String {
    let key = name.strip_prefix(PREFIX).unwrap_or(name);
    // `INSTANCES__3__SESSION_CAPACITY`: what is wrong comes after the number.
    let numbered = key.strip_prefix("INSTANCES__").and_then(|rest| rest.split_once("__"));
    let (instance, key) = match numbered {
        Some((number, _)) if !is_instance(number) => {
            return "there is no such key; the instances are 0 to 9".to_owned();
        }
        Some((number, key)) => (format!("INSTANCES__{number}__"), key),
        None => (String::new(), key),
    };
    let keys = Key::all().filter(|key| {
        let section = key.path.split('.').next().unwrap_or_default();
        instance.is_empty() || POLICY_SECTIONS.contains(&section)
    });
    let plain = PLAIN_NAMES.iter().filter_map(|(name, _)| name.strip_prefix(PREFIX));
    let no_keys = NO_KEYS.iter().filter_map(|name| name.strip_prefix(PREFIX));
    let names = keys.map(|key| variable(key.path)).chain(plain.chain(no_keys).map(str::to_owned));
    match nearest(key, names) {
        Some(meant) => {
            format!("there is no such key; did you mean {PREFIX}{instance}{meant}?")
        }
        None => "there is no such key; see config/default.toml".to_owned(),
    }
}

/// The variable of a key, without [`PREFIX`].
fn variable(path: &str) -> String {
    path.to_ascii_uppercase().replace('.', "__")
}

/// What helps where a value of this origin is none of ours: a plain name may be another program's.
pub(super) fn remedy(origin: &str) -> Option<String> {
    let name = origin.strip_prefix(ORIGIN)?;
    let (_, path) = PLAIN_NAMES.iter().find(|(plain, _)| *plain == name)?;
    let ours = format!("{PREFIX}{}", variable(path));
    (!name.starts_with("MCP_"))
        .then(|| format!("if {name} is another program's, set {ours}, which wins"))
}

/// The default at `path`; `instances.N.<path>` has the default of `<path>` where that is a policy key.
fn default_of<'a>(path: &str, defaults: &'a Dict) -> Option<&'a Value> {
    let mut keys = path.split('.');
    let mut first = keys.next()?;
    if first == "instances" {
        let number = keys.next()?;
        first = keys.next()?;
        if !is_instance(number) || !POLICY_SECTIONS.contains(&first) {
            return None;
        }
    }
    let mut value = defaults.get(first)?;
    for key in keys {
        value = value.as_dict()?.get(key)?;
    }
    value.as_dict().is_none().then_some(value)
}

fn is_instance(number: &str) -> bool {
    matches!(number.as_bytes(), [b'0'..=b'9'])
}

fn parse_like(default: &Value, text: &str) -> Result<Value, &'static str> {
    match default {
        Value::Bool(..) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Value::from(true)),
            "false" | "0" | "no" | "off" => Ok(Value::from(false)),
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
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let text = value.to_string_lossy();
    let linked =
        ["_SERVICE_HOST", "_SERVICE_PORT", "_TCP", "_UDP"].iter().any(|part| name.contains(part));
    let address = text.starts_with("tcp://") || text.starts_with("udp://");
    name.starts_with(PREFIX) && !name.contains("__") && (linked || address)
}
