//! Values and errors as text: what `config print` shows, and the one line that says why a configuration cannot
//! be used.
//!
//! Owns [`ConfigError`] and the way a value is written. Trap: a text of figment shows the value, one of the TOML
//! parser the line; either may hold a secret, so both are taken apart here.

use std::fmt;

use figment::{
    Metadata,
    value::{Dict, Value},
};
use serde_json::json;

/// Why a configuration cannot be used: one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    key: String,
    origin: String,
    problem: String,
}

impl ConfigError {
    pub(super) fn new(key: &str, origin: &str, problem: impl Into<String>) -> Self {
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

pub(super) fn origin_name(metadata: &Metadata) -> String {
    match &*metadata.name {
        "TOML source string" => "default".to_owned(),
        name => name.to_owned(),
    }
}

/// A path as a key; an element of a list is told by the list.
pub(super) fn key_of(path: &[String]) -> String {
    let end =
        path.len() - usize::from(path.last().is_some_and(|part| part.parse::<usize>().is_ok()));
    path[..end].join(".")
}

/// figment's error in one line: the key, its value, what is wrong, where it was written.
pub(super) fn describe(
    error: &figment::Error,
    at: Option<(String, Option<String>)>,
) -> ConfigError {
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

/// Every key of a tree with its value.
pub(super) fn leaves(tree: &Dict) -> Vec<(String, Value)> {
    fn collect(prefix: &str, tree: &Dict, leaves: &mut Vec<(String, Value)>) {
        for (name, value) in tree {
            match value {
                Value::Dict(_, inner) => collect(&format!("{prefix}{name}."), inner, leaves),
                leaf => leaves.push((format!("{prefix}{name}"), leaf.clone())),
            }
        }
    }
    let mut leaves = Vec::new();
    collect("", tree, &mut leaves);
    leaves
}

/// A value as TOML; a secret as `"***"`, an unset one as `""`.
pub(super) fn display(key: &str, value: &Value) -> String {
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
