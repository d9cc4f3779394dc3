//! The types that configuration values are parsed into; names and addresses have a file of their own.
//!
//! Owns what each value may look like. Anything else is refused with a text that says what to write.
//! Trap: a [`Secret`] must never reach a log or an error, so it has no `Display` and its `Debug`
//! is a constant.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::address::{BindAddress, FrontDoorName, HostName, Listen, Network, Origin};
use crate::id::InstanceId;

/// A token or the like: compared, never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// From now on the text cannot be printed by accident.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one comparison that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"***\"" })
    }
}

/// A length of time written as a number of seconds, fractions allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Duration);

impl Seconds {
    /// As a `Duration`.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        // A year is beyond any use here and far below the range in which timers overflow.
        if !(0.0..=31_536_000.0).contains(&seconds) {
            return Err(D::Error::custom("must be a number of seconds from 0 to 31536000"));
        }
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

/// Which instance answers where the host name does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontDoor {
    /// Always this one.
    Fixed(InstanceId),
    /// The instance that minted the session id; the next in turn for a request without one.
    Sticky,
    /// The next in turn, whatever id the request carries.
    RoundRobin,
    /// Any, whatever id the request carries.
    Random,
}

impl FrontDoor {
    /// Who answers there, in words.
    pub(crate) fn picks(self) -> String {
        match self {
            Self::Fixed(instance) => format!("instance {instance} answers"),
            Self::Sticky => {
                "the session's own instance answers; new sessions take turns".to_owned()
            }
            Self::RoundRobin => "each instance in turn, whatever the session".to_owned(),
            Self::Random => "any instance, whatever the session".to_owned(),
        }
    }
}

impl FromStr for FrontDoor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sticky" => Ok(Self::Sticky),
            "round_robin" => Ok(Self::RoundRobin),
            "random" => Ok(Self::Random),
            other => other
                .strip_prefix("fixed:")
                .and_then(|digit| digit.parse().ok())
                .and_then(InstanceId::new)
                .map(Self::Fixed)
                .ok_or("must be fixed:0 to fixed:9, sticky, round_robin or random"),
        }
    }
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(pub tracing::Level);

impl FromStr for LogLevel {
    type Err = &'static str;

    /// Any case; Python's names (`WARNING`, `CRITICAL`) are understood too.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use tracing::Level;
        match text.to_ascii_lowercase().as_str() {
            "error" | "critical" | "fatal" => Ok(Self(Level::ERROR)),
            "warn" | "warning" => Ok(Self(Level::WARN)),
            "info" => Ok(Self(Level::INFO)),
            "debug" => Ok(Self(Level::DEBUG)),
            "trace" => Ok(Self(Level::TRACE)),
            _ => Err("must be error, warn, info, debug or trace"),
        }
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

/// `auth.mode`; what it means is `tenant::auth::AuthMode`.
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

/// `session.store`: where an instance keeps its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreName {
    /// In the store of `store.url`, or in memory where there is none.
    Shared,
    /// In the memory of this process, whatever `store.url` says.
    Memory,
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

macro_rules! deserialize_from_str {
    ($($name:ty),+) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )+};
}
deserialize_from_str!(
    BindAddress,
    FrontDoor,
    FrontDoorName,
    HostName,
    Listen,
    LogLevel,
    Network,
    Origin
);

/// `name=token`; both parts must be there.
pub fn split_pair(pair: &str) -> Option<(&str, &str)> {
    let (name, token) = pair.split_once('=')?;
    let (name, token) = (name.trim(), token.trim());
    (!name.is_empty() && is_token(token)).then_some((name, token))
}

/// RFC 6750's `b64token`.
pub fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

/// RFC 6749's `scope-token`.
pub(super) fn is_scope(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'"' && byte != b'\\')
}
