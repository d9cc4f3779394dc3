//! The MCP wire format: messages, headers, server-sent events, sealed state.
//!
//! Owns parsing and writing, and the tables that say which revision has what. It knows nothing of this server's
//! instances, sessions or configuration.

mod answers;
pub mod fault;
mod fields;
pub mod headers;
pub mod inputs;
pub mod json;
pub mod jsonrpc;
pub mod model;
pub mod params;
pub mod percent;
pub mod seal;
pub mod sse;
mod text;
pub mod version;

pub(crate) use self::{
    fields::{Fields, RawObject},
    headers::{
        ACCEL_BUFFERING_HEADER, BOOT_HEADER, BadHeader, HANDLE_HEADER, Head, INSTANCE_HEADER,
        Known, Lines, METHOD_HEADER, NAME_HEADER, REPLICA_HEADER, REQUEST_ID_HEADER,
        SESSION_HEADER, Single, VERSION_HEADER,
    },
    inputs::{Ask, InputKind, InputRequest, Inputs, Questions},
    json::Raw,
    jsonrpc::{
        Body, EnvelopeError, ErrorObject, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, Id,
        MAX_ID, METHOD_NOT_FOUND, Message, OwnedId, PARSE_ERROR,
    },
    model::{
        CancelledParams, Capabilities, Common, CompleteParams, Content, Contents, Filter,
        InitializeParams, Json, LevelParams, ListParams, LogLevel, META_CAPABILITIES, META_SERVER,
        META_VERSION, NamedParams, Nested, Object, PromptMessage, PromptResult, Reference,
        TASKS_EXTENSION, Tagged, TaskParams, ToolResult, UriParams,
    },
    params::{BadMeta, BadParams, Meta, Params},
    seal::{BadState, Binding, Sealer},
    text::Text,
    version::{Era, Feature, Method, Notification, ProtocolVersion},
};
