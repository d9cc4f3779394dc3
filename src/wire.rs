//! MCP as bytes: messages, headers, events, sealed state.
//!
//! Owns reading and writing of what travels, and the tables that say which revision has what. Knows nothing of
//! ours: no instance, no session, no configuration.

pub mod headers;
pub mod inputs;
pub mod json;
pub mod jsonrpc;
pub mod model;
pub mod params;
pub mod seal;
pub mod sse;
pub mod version;
