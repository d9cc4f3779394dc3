//! What each MCP revision allows.
//!
//! Owns [`ProtocolVersion`], [`Era`] and the tables ([`Feature::window`], [`Method::window`]) that say
//! which revision has what. Refuses to be asked by comparing version strings anywhere else.
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
    pub const UNNAMED: Self = Self::V2025_03_26;

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

    /// How a conversation in this revision is kept together.
    pub const fn era(self) -> Era {
        match self {
            Self::V2024_11_05 | Self::V2025_03_26 | Self::V2025_06_18 | Self::V2025_11_25 => {
                Era::Sessioned
            }
            Self::V2026_07_28 => Era::Stateless,
        }
    }

    /// Position in [`ProtocolVersion::ALL`], for tables prepared per version.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether this revision has `feature`.
    pub fn has(self, feature: Feature) -> bool {
        within(self, feature.window())
    }
}

/// The first revision that has something, and the last if it was removed.
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

/// Versions as a list to read.
pub fn names(versions: &[ProtocolVersion]) -> String {
    versions.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", ")
}

/// What not every revision has, beside its methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `Mcp-Session-Id`, GET and DELETE.
    Sessions,
    /// A POST may carry an array of messages (basic, "Batching").
    Batches,
    /// `Last-Event-ID` (basic/transports, "Resumability and Redelivery").
    Resumption,
    /// An event with an id and no data opens a stream, so that it can be resumed from its start.
    PrimingEvent,
    /// The server asks the client on the stream of a call.
    ServerRequests,
    /// A result that asks for input (basic/patterns/mrtr).
    InputRequired,
    /// `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` must agree with the body.
    MirroredHeaders,
    /// `ttlMs` and `cacheScope`.
    CacheHints,
    /// `io.modelcontextprotocol/tasks`.
    TasksExtension,
    /// `Tool.annotations`.
    ToolAnnotations,
    /// `message` in `notifications/progress`.
    ProgressMessages,
    /// `audio` content.
    Audio,
    /// The capability `completions`.
    CompletionsCapability,
    /// `title` beside `name`.
    Titles,
    /// `Tool.outputSchema`.
    OutputSchema,
    /// `elicitation/create` with a form.
    FormElicitation,
    /// `elicitation/create` with a URL.
    UrlElicitation,
    /// Arguments that do not fit are a tool result with `isError`, not a JSON-RPC error (SEP-1303).
    ArgumentErrorsAreResults,
}

impl Feature {
    /// Every feature, in the order of the table in the README.
    pub const ALL: [Self; 18] = [
        Self::Sessions,
        Self::Batches,
        Self::Resumption,
        Self::PrimingEvent,
        Self::ServerRequests,
        Self::InputRequired,
        Self::MirroredHeaders,
        Self::CacheHints,
        Self::TasksExtension,
        Self::ToolAnnotations,
        Self::ProgressMessages,
        Self::Audio,
        Self::CompletionsCapability,
        Self::Titles,
        Self::OutputSchema,
        Self::FormElicitation,
        Self::UrlElicitation,
        Self::ArgumentErrorsAreResults,
    ];

    /// When it exists.
    pub const fn window(self) -> Window {
        use ProtocolVersion::{V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25, V2026_07_28};
        match self {
            Self::Sessions | Self::Resumption | Self::ServerRequests => {
                (V2024_11_05, Some(V2025_11_25))
            }
            Self::Batches => (V2025_03_26, Some(V2025_03_26)),
            Self::PrimingEvent => (V2025_11_25, Some(V2025_11_25)),
            Self::InputRequired
            | Self::MirroredHeaders
            | Self::CacheHints
            | Self::TasksExtension => (V2026_07_28, None),
            Self::ToolAnnotations
            | Self::ProgressMessages
            | Self::Audio
            | Self::CompletionsCapability => (V2025_03_26, None),
            Self::Titles | Self::OutputSchema | Self::FormElicitation => (V2025_06_18, None),
            Self::UrlElicitation | Self::ArgumentErrorsAreResults => (V2025_11_25, None),
        }
    }

    /// What the README calls it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Sessions => "sessions, GET stream, DELETE",
            Self::Batches => "JSON-RPC batches",
            Self::Resumption => "resumable streams (`Last-Event-ID`)",
            Self::PrimingEvent => "priming event, polling",
            Self::ServerRequests => "server-to-client requests on the stream",
            Self::InputRequired => "`input_required` results",
            Self::MirroredHeaders => "`Mcp-Method`, `Mcp-Name`, `Mcp-Param-*`",
            Self::CacheHints => "`ttlMs`, `cacheScope`",
            Self::TasksExtension => "tasks extension",
            Self::ToolAnnotations => "tool annotations",
            Self::ProgressMessages => "progress messages",
            Self::Audio => "audio content",
            Self::CompletionsCapability => "`completions` capability",
            Self::Titles => "titles",
            Self::OutputSchema => "output schemas",
            Self::FormElicitation => "elicitation by form",
            Self::UrlElicitation => "elicitation by URL",
            Self::ArgumentErrorsAreResults => "argument errors as tool results",
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
    /// The first stateless revision; later ones sort after it.
    const FIRST_STATELESS: &str = "2026-07-28";

    /// The era of a request: stateless if its `_meta` claims a protocol version, or if its
    /// `MCP-Protocol-Version` header names a stateless revision (2026-07-28, basic/versioning,
    /// "Backward Compatibility with Initialization-Based Versions").
    pub fn of(claims_version: bool, header: Option<&str>) -> Self {
        // Revisions are named by dates; what is no date names none of either era.
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
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $first:ident to $last:expr;)+) => {
        /// The methods that a client may send, each with the revisions that have it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Method { $($(#[$doc])* $variant,)+ }

        impl Method {
            /// Every method.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// When it exists.
            pub const fn window(self) -> Window {
                match self { $(Self::$variant => (ProtocolVersion::$first, $last),)+ }
            }

            /// The method of that name, if that revision has it.
            pub fn parse(name: &str, version: ProtocolVersion) -> Option<Self> {
                let method = match name {
                    $($name => Self::$variant,)+
                    _ => return None,
                };
                within(version, method.window()).then_some(method)
            }
        }
    };
}

const LAST_SESSIONED: Option<ProtocolVersion> = Some(ProtocolVersion::V2025_11_25);

methods! {
    /// Begins a session.
    Initialize = "initialize", V2024_11_05 to LAST_SESSIONED;
    /// Answers `{}`.
    Ping = "ping", V2024_11_05 to LAST_SESSIONED;
    /// Tells what the server is.
    Discover = "server/discover", V2026_07_28 to None;
    /// Lists tools.
    ToolsList = "tools/list", V2024_11_05 to None;
    /// Calls a tool.
    ToolsCall = "tools/call", V2024_11_05 to None;
    /// Lists resources.
    ResourcesList = "resources/list", V2024_11_05 to None;
    /// Lists resource templates.
    ResourceTemplatesList = "resources/templates/list", V2024_11_05 to None;
    /// Reads a resource.
    ResourcesRead = "resources/read", V2024_11_05 to None;
    /// Asks to be told of a resource's changes.
    ResourcesSubscribe = "resources/subscribe", V2024_11_05 to LAST_SESSIONED;
    /// The counterpart.
    ResourcesUnsubscribe = "resources/unsubscribe", V2024_11_05 to LAST_SESSIONED;
    /// Lists prompts.
    PromptsList = "prompts/list", V2024_11_05 to None;
    /// Fills a prompt in.
    PromptsGet = "prompts/get", V2024_11_05 to None;
    /// Proposes values.
    Complete = "completion/complete", V2024_11_05 to None;
    /// Sets the session's log level.
    SetLevel = "logging/setLevel", V2024_11_05 to LAST_SESSIONED;
    /// Opens a stream of changes.
    Listen = "subscriptions/listen", V2026_07_28 to None;
    /// Looks at a task.
    TasksGet = "tasks/get", V2026_07_28 to None;
    /// Gives a task its input.
    TasksUpdate = "tasks/update", V2026_07_28 to None;
    /// Asks a task to stop.
    TasksCancel = "tasks/cancel", V2026_07_28 to None;
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
