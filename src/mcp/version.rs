//! What each MCP revision allows.
//!
//! Owns [`ProtocolVersion`], [`Era`], [`Method`] and the one table ([`Feature::window`]) that says which
//! revision has what. Refuses to be asked by comparing version strings anywhere else.
//! Trap: the era is decided by what a request carries, never by guess: see [`Era::of`].

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error as _};

/// A revision of the specification that this server can speak, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// 2024-11-05, as negotiated over Streamable HTTP.
    V2024_11_05,
    /// 2025-03-26: Streamable HTTP, tool annotations, JSON-RPC batches.
    V2025_03_26,
    /// 2025-06-18: structured output, titles, the version header; no batches.
    V2025_06_18,
    /// 2025-11-25: argument errors are tool results.
    V2025_11_25,
}

impl ProtocolVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 4] =
        [Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25];

    /// Assumed for a request that names no version and has no session
    /// (2025-11-25, basic/transports, "Protocol Version Header").
    pub const UNNAMED: Self = Self::V2025_03_26;

    /// As it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
        }
    }

    /// Position in [`ProtocolVersion::ALL`], for tables prepared per version.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether this revision has `feature`.
    pub fn has(self, feature: Feature) -> bool {
        let (first, last) = feature.window();
        first <= self && last.is_none_or(|last| self <= last)
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProtocolVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| format!("must be one of {}", names(&Self::ALL)))
    }
}

impl<'de> Deserialize<'de> for ProtocolVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|problem| D::Error::custom(format!("{text:?} {problem}")))
    }
}

/// Versions as a list to read.
pub fn names(versions: &[ProtocolVersion]) -> String {
    versions.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", ")
}

/// What not every revision has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// A POST may carry an array of messages (basic, "Batching").
    Batches,
    /// `Tool.annotations`.
    ToolAnnotations,
    /// `title` beside `name`.
    Titles,
    /// `Tool.outputSchema`.
    OutputSchema,
    /// Arguments that do not fit are a tool result with `isError`, not a JSON-RPC error (SEP-1303).
    ArgumentErrorsAreResults,
}

impl Feature {
    /// The first revision that has it, and the last if it was removed.
    pub const fn window(self) -> (ProtocolVersion, Option<ProtocolVersion>) {
        use ProtocolVersion::{V2025_03_26, V2025_06_18, V2025_11_25};
        match self {
            Self::Batches => (V2025_03_26, Some(V2025_03_26)),
            Self::ToolAnnotations => (V2025_03_26, None),
            Self::Titles | Self::OutputSchema => (V2025_06_18, None),
            Self::ArgumentErrorsAreResults => (V2025_11_25, None),
        }
    }
}

/// The two ways in which MCP keeps a conversation together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Up to 2025-11-25: `initialize`, `Mcp-Session-Id`, server-to-client requests.
    Sessioned,
    /// From 2026-07-28 on: every request carries its version and capabilities in `_meta`.
    Stateless,
}

impl Era {
    /// The first stateless revision; later ones sort after it, and so does any "v999" probe.
    const FIRST_STATELESS: &str = "2026-07-28";

    /// The era of a request: stateless if its `_meta` claims a protocol version, or if its
    /// `MCP-Protocol-Version` header names a stateless revision (2026-07-28, basic/versioning,
    /// "Backward Compatibility with Initialization-Based Versions").
    pub fn of(claims_version: bool, header: Option<&str>) -> Self {
        let named = header.is_some_and(|version| version >= Self::FIRST_STATELESS);
        if claims_version || named { Self::Stateless } else { Self::Sessioned }
    }
}

/// The methods that a client may send to a sessioned server. Anything else is "method not found".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Begins a session.
    Initialize,
    /// Answers `{}`.
    Ping,
    /// Lists tools.
    ToolsList,
    /// Calls a tool.
    ToolsCall,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 4] = [Self::Initialize, Self::Ping, Self::ToolsList, Self::ToolsCall];

    /// As it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Ping => "ping",
            Self::ToolsList => "tools/list",
            Self::ToolsCall => "tools/call",
        }
    }

    /// The method of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }
}

/// The notifications that change something here. Others are accepted and ignored, as JSON-RPC asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// The handshake is complete.
    Initialized,
    /// The client no longer wants an answer.
    Cancelled,
}

impl Notification {
    /// The notification of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "notifications/initialized" => Some(Self::Initialized),
            "notifications/cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }
}
