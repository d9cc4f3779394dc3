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

use super::{Key, nearest::nearest, source::remedy};

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
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        write!(f, "{problem} (from {origin})")?;
        match remedy(origin) {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
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

/// The entry of a list that a path ends in, or else the value.
pub(super) fn entry_of(value: Value, path: &[String]) -> Value {
    let place = path.last().and_then(|part| part.parse::<usize>().ok());
    let entry = place.and_then(|place| value.as_array()?.get(place).cloned());
    entry.unwrap_or(value)
}

/// figment's error in one line: the key, its value, what is wrong, where it was written. Each is told once, and in the
/// words of the file, not in those of the program.
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
            no_such(&key, name, known)
        }
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => {
            format!("{value} is not {}", in_plain_words(expected))
        }
        Kind::UnknownVariant(_, known) => format!("{value} is none of {}", known.join(", ")),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => format!("{value} is too large"),
        // The lines between the first and the text show the file, which may hold secrets.
        Kind::Message(text) if key.is_empty() => {
            text.lines().filter(|line| !line.contains('|')).collect::<Vec<_>>().join(": ")
        }
        // A text of ours that says by itself which value is wrong.
        Kind::Message(text) if text.starts_with('"') || value.is_empty() => text.clone(),
        Kind::Message(text) => format!("{value} {text}"),
        kind => format!("{value}: {}", kind.to_string().replace('\n', " ")),
    };
    ConfigError::new(&key, &origin, problem)
}

/// Says what was most likely meant by a key that does not exist: one beside it, or one of another section.
fn no_such(key: &str, name: &str, known: &[&str]) -> String {
    let above = key.strip_suffix(name).unwrap_or_default();
    let beside = nearest(name, known.iter().map(|known| (*known).to_owned()));
    let beside = beside.map(|meant| format!("{above}{meant}"));
    let all = || Key::all().map(|key| key.path.to_owned());
    // The right name in the wrong section; the last of several, since the policies' come last, which are set most.
    let elsewhere = || all().filter(|path| path.rsplit('.').next() == Some(name)).last();
    match beside.or_else(elsewhere).or_else(|| nearest(key, all())) {
        Some(meant) => format!("there is no such key; did you mean {meant}?"),
        None => format!("there is no such key; here are: {}", known.join(", ")),
    }
}

/// What serde expects, as one would say it of a TOML file.
fn in_plain_words(expected: &str) -> &str {
    match expected {
        "a boolean" => "true or false",
        "a string" | "path string" => "a text in quotes",
        "a sequence" => "a list, such as [\"a\", \"b\"]",
        "u16" => "a whole number from 0 to 65535",
        "u64" | "usize" => "a whole number, 0 or more",
        "f64" => "a number",
        table if table == "a map" || table.starts_with("struct ") => "a table of keys",
        other => other,
    }
}

/// In the place of a value that is a whole section.
const A_TABLE: &str = "a table";

fn is_secret(key: &str) -> bool {
    key.ends_with("admin.token")
        || key.ends_with("store.url")
        || key.contains("auth.tokens") && !key.ends_with("tokens_file")
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
        Value::Dict(..) => A_TABLE.to_owned(),
        Value::Empty(..) => "\"\"".to_owned(),
    }
}
