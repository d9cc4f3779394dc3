//! Ten isolated stateful MCP test servers in one process.

pub mod admin;
pub mod clock;
pub mod config;
pub mod failure;
pub mod healthcheck;
pub mod http;
pub mod id;
pub mod lifecycle;
pub mod mcp;
pub mod observe;
pub mod paths;
pub mod probe;
pub mod process;
pub mod reload;
pub mod server;
pub mod session;
pub mod tenant;
pub mod tools;
pub mod wire;
