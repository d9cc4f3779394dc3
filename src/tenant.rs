//! One of the ten MCP servers: what its configuration means, and what it holds.
//!
//! Owns [`Instance`]: a policy, which a reload replaces, and a state, which it keeps. An instance knows nothing of the
//! other nine, so code that has an `Arc<Instance>` cannot reach another tenant.

pub mod auth;
pub(crate) mod capacity;
pub mod hosts;
pub mod inbound;
pub mod instance;
pub mod origins;
pub mod subscriptions;
pub mod tasks;

pub use self::instance::Instance;
pub(crate) use self::{
    auth::{AuthMode, Claims, Unauthorized},
    hosts::{HostTable, Target},
    inbound::Inbound,
    instance::{OpenStream, State},
    origins::{EXPOSED, METHODS, Verdict},
    subscriptions::{Subscription, TooMany, Update},
    tasks::{NotCreated, Stage, Task},
};
