//! The names of the log's fields.
//!
//! Owns the one table of them. Each has two: a short one for people, in the formats `compact` and `pretty`, and for
//! programs, in JSON, the name that OpenTelemetry's conventions (HTTP, MCP, GenAI) have for it. What they have no name
//! for stands below `mcp_echo.`.
//! Trap: programs query these names, so a change of one is a breaking change.

use std::borrow::Cow;

macro_rules! fields {
    ($($field:ident = $short:literal, $in_json:literal;)+) => {
        /// The fields of a request's line, in their order.
        #[derive(Clone, Copy)]
        pub(super) enum Field { $($field,)+ }

        /// The short name and the one in JSON of each field of a request's line.
        pub const FIELDS: [(&str, &str); [$($short),+].len()] = [$(($short, $in_json)),+];
    };
}

fields! {
    Instance = "instance", "mcp_echo.instance";
    HttpMethod = "http", "http.request.method";
    Path = "path", "url.path";
    Method = "method", "mcp.method.name";
    Tool = "tool", "gen_ai.tool.name";
    Session = "session", "mcp.session.id";
    MintedBy = "minted_by", "mcp_echo.minted_by";
    Status = "status", "http.response.status_code";
    Bytes = "bytes", "http.response.body.size";
    Duration = "duration_us", "mcp_echo.duration_us";
    Outcome = "outcome", "mcp_echo.outcome";
    Host = "host", "server.address";
    Peer = "peer", "client.address";
    AdmittedBy = "admitted_by", "mcp_echo.admitted_by";
    RequestId = "request_id", "mcp_echo.request_id";
    TraceId = "trace_id", "trace_id";
}

/// Fields of other lines that OpenTelemetry has a name for.
const OTHERS: [(&str, &str); 3] = [
    ("error", "exception.message"),
    ("release", "service.version"),
    ("version", "mcp.protocol.version"),
];

/// A field's name in JSON. `ours` says whether the line is of this program, and not of a library.
pub(super) fn in_json(short: &str, ours: bool) -> Cow<'_, str> {
    if !ours || short == "message" {
        return short.into();
    }
    match FIELDS.iter().chain(&OTHERS).find(|(known, _)| *known == short) {
        Some((_, name)) => Cow::Borrowed(name),
        None => format!("mcp_echo.{short}").into(),
    }
}
