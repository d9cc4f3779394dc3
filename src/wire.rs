//! The MCP wire format: messages, headers, server-sent events, sealed state.
//!
//! Owns parsing and writing, and the tables that say which revision has what. It knows nothing of this server's
//! instances, sessions or configuration.

pub mod headers;
pub mod inputs;
pub mod json;
pub mod jsonrpc;
pub mod model;
pub mod params;
pub mod seal;
pub mod sse;
pub mod version;
