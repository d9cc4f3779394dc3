//! One of the ten MCP servers: what its configuration means, and what it holds.
//!
//! Owns [`Instance`], a policy that a reload replaces and a state that it keeps. Knows nothing of the other nine:
//! who holds an `Arc<Instance>` cannot name another tenant.

pub mod auth;
pub mod hosts;
pub mod inbound;
pub mod instance;
pub mod origins;
pub mod subscriptions;
pub mod tasks;

pub use self::instance::Instance;
