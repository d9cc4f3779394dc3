//! What each MCP revision allows.
//!
//! Owns [`ProtocolVersion`], [`Era`] and the tables [`Feature`] and [`Method`], which say which revision has what. No
//! other file compares version strings.
//! Trap: the era of a request is decided by what the request carries: see [`Era::of`].

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error as _};

/// A revision of the specification that this server can speak, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// 2024-11-05, as negotiated over Streamable HTTP.
    V2024_11_05,
    /// 2025-03-26: Streamable HTTP, tool annotations, JSON-RPC batches.
    V2025_03_26,
    /// 2025-06-18: structured output, titles, elicitation, the version header; no batches.
    V2025_06_18,
    /// 2025-11-25: argument errors are tool results, URL elicitation, polling.
    V2025_11_25,
    /// 2026-07-28: no sessions; every request carries its own metadata.
    V2026_07_28,
}

impl ProtocolVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 5] = [
        Self::V2024_11_05,
        Self::V2025_03_26,
        Self::V2025_06_18,
        Self::V2025_11_25,
        Self::V2026_07_28,
    ];

    /// Assumed for a request that names no version and has no session
    /// (2025-11-25, basic/transports, "Protocol Version Header").
    pub(crate) const UNNAMED: Self = Self::V2025_03_26;

    /// As it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Whether it has sessions.
    pub const fn era(self) -> Era {
        match self {
            Self::V2024_11_05 | Self::V2025_03_26 | Self::V2025_06_18 | Self::V2025_11_25 => {
                Era::Sessioned
            }
            Self::V2026_07_28 => Era::Stateless,
        }
    }

    /// Position in [`ProtocolVersion::ALL`], for tables prepared per version.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Whether this revision has `feature`.
    pub fn has(self, feature: Feature) -> bool {
        within(self, feature.window())
    }
}

/// The first revision that has something, and the last one if it was removed.
pub type Window = (ProtocolVersion, Option<ProtocolVersion>);

fn within(version: ProtocolVersion, (first, last): Window) -> bool {
    first <= version && last.is_none_or(|last| version <= last)
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

pub(crate) fn names(versions: &[ProtocolVersion]) -> String {
    texts(versions).join(", ")
}

pub(crate) fn texts(versions: &[ProtocolVersion]) -> Vec<&'static str> {
    versions.iter().map(|version| version.as_str()).collect()
}

/// In the order in which they are told to clients (2026-07-28, basic/versioning, "Protocol Version Negotiation").
pub(crate) fn newest_first(versions: &[ProtocolVersion]) -> Vec<ProtocolVersion> {
    let mut versions = versions.to_vec();
    versions.sort_unstable_by_key(|version| std::cmp::Reverse(*version));
    versions
}

const LAST_SESSIONED: Option<ProtocolVersion> = Some(ProtocolVersion::V2025_11_25);

macro_rules! features {
    ($($(#[$doc:meta])* $variant:ident = $title:literal, $first:ident to $last:expr;)+) => {
        /// What only some revisions have, apart from methods; in the order of the table in docs/reference.md.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Feature { $($(#[$doc])* $variant,)+ }

        impl Feature {
            /// Every feature.
            pub const ALL: [Self; [$($title),+].len()] = [$(Self::$variant),+];

            /// The revisions that have it.
            pub const fn window(self) -> Window {
                match self { $(Self::$variant => (ProtocolVersion::$first, $last),)+ }
            }

            /// What that table calls it.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }
        }
    };
}

features! {
    /// `Mcp-Session-Id`, GET and DELETE.
    Sessions = "sessions, GET stream, DELETE", V2024_11_05 to LAST_SESSIONED;
    /// A POST may carry an array of messages (basic, "Batching").
    Batches = "JSON-RPC batches", V2025_03_26 to Some(ProtocolVersion::V2025_03_26);
    /// `Last-Event-ID` (basic/transports, "Resumability and Redelivery").
    Resumption = "resumable streams (`Last-Event-ID`)", V2024_11_05 to LAST_SESSIONED;
    /// An event with an id and no data opens a stream, so that it can be resumed from its start.
    PrimingEvent = "priming event, polling", V2025_11_25 to LAST_SESSIONED;
    /// The server asks the client on the stream of a call.
    ServerRequests = "server-to-client requests on the stream", V2024_11_05 to LAST_SESSIONED;
    /// A result that asks for input (basic/patterns/mrtr).
    InputRequired = "`input_required` results", V2026_07_28 to None;
    /// `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` must agree with the body.
    MirroredHeaders = "`Mcp-Method`, `Mcp-Name`, `Mcp-Param-*`", V2026_07_28 to None;
    /// `ttlMs` and `cacheScope`.
    CacheHints = "`ttlMs`, `cacheScope`", V2026_07_28 to None;
    /// `io.modelcontextprotocol/tasks`.
    TasksExtension = "tasks extension", V2026_07_28 to None;
    /// `Tool.annotations`.
    ToolAnnotations = "tool annotations", V2025_03_26 to None;
    /// `message` in `notifications/progress`.
    ProgressMessages = "progress messages", V2025_03_26 to None;
    /// `audio` content.
    Audio = "audio content", V2025_03_26 to None;
    /// The capability `completions`.
    CompletionsCapability = "`completions` capability", V2025_03_26 to None;
    /// `title` beside `name`.
    Titles = "titles", V2025_06_18 to None;
    /// `Tool.outputSchema`.
    OutputSchema = "output schemas", V2025_06_18 to None;
    /// `elicitation/create` with a form.
    FormElicitation = "elicitation by form", V2025_06_18 to None;
    /// `elicitation/create` with a URL.
    UrlElicitation = "elicitation by URL", V2025_11_25 to None;
    /// `mode`, lists, `oneOf` with titles and defaults of all types in a form (SEP-1034, SEP-1330).
    RichForms = "forms with lists, titled choices, defaults", V2025_11_25 to None;
    /// Arguments that do not fit are a tool result with `isError`, not a JSON-RPC error (SEP-1303).
    ArgumentErrorsAreResults = "argument errors as tool results", V2025_11_25 to None;
}

/// The two ways of MCP: with sessions, or with requests that carry everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Up to 2025-11-25: `initialize`, `Mcp-Session-Id`, server-to-client requests.
    Sessioned,
    /// From 2026-07-28 on: every request carries its version and capabilities in `_meta`.
    Stateless,
}

impl Era {
    /// The first stateless revision; later ones sort after it.
    const FIRST_STATELESS: &str = "2026-07-28";

    /// The era of a request: stateless if its `_meta` claims a protocol version, or if its
    /// `MCP-Protocol-Version` header names a stateless revision (2026-07-28, basic/versioning,
    /// "Backward Compatibility with Initialization-Based Versions").
    pub(crate) fn of(claims_version: bool, header: Option<&str>) -> Self {
        // Revisions are dates; any other text names no revision.
        let is_date = |text: &str| {
            let shape = text.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
            shape.eq("0000-00-00".bytes())
        };
        let named =
            header.is_some_and(|version| is_date(version) && version >= Self::FIRST_STATELESS);
        if claims_version || named { Self::Stateless } else { Self::Sessioned }
    }
}

macro_rules! methods {
    ($($variant:ident = $name:literal, $first:ident to $last:expr;)+) => {
        /// The methods that a client may send, each with the revisions that have it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Method { $(#[doc = $name] $variant,)+ }

        impl Method {
            /// Every method.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The revisions that have it.
            pub const fn window(self) -> Window {
                match self { $(Self::$variant => (ProtocolVersion::$first, $last),)+ }
            }

            /// The method of that name, whichever revision has it.
            pub(crate) fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Whether that revision has it.
            pub(crate) fn is_in(self, version: ProtocolVersion) -> bool {
                within(version, self.window())
            }
        }
    };
}

methods! {
    Initialize = "initialize", V2024_11_05 to LAST_SESSIONED;
    Ping = "ping", V2024_11_05 to LAST_SESSIONED;
    Discover = "server/discover", V2026_07_28 to None;
    ToolsList = "tools/list", V2024_11_05 to None;
    ToolsCall = "tools/call", V2024_11_05 to None;
    ResourcesList = "resources/list", V2024_11_05 to None;
    ResourceTemplatesList = "resources/templates/list", V2024_11_05 to None;
    ResourcesRead = "resources/read", V2024_11_05 to None;
    ResourcesSubscribe = "resources/subscribe", V2024_11_05 to LAST_SESSIONED;
    ResourcesUnsubscribe = "resources/unsubscribe", V2024_11_05 to LAST_SESSIONED;
    PromptsList = "prompts/list", V2024_11_05 to None;
    PromptsGet = "prompts/get", V2024_11_05 to None;
    Complete = "completion/complete", V2024_11_05 to None;
    SetLevel = "logging/setLevel", V2024_11_05 to LAST_SESSIONED;
    Listen = "subscriptions/listen", V2026_07_28 to None;
    TasksGet = "tasks/get", V2026_07_28 to None;
    TasksUpdate = "tasks/update", V2026_07_28 to None;
    TasksCancel = "tasks/cancel", V2026_07_28 to None;
}

/// The notifications that have an effect. Others are accepted and ignored, as JSON-RPC asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notification {
    Initialized,
    Cancelled,
}

impl Notification {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "notifications/initialized" => Some(Self::Initialized),
            "notifications/cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }
}
