//! Whether an instance can ever hold as many sessions as `session.capacity` says.
//!
//! Owns the warning for the operator where it cannot, since the memory that its clients may take is full before. It is no
//! error: the server runs, and refuses a session more for want of memory.
//! Trap: less than all of an instance's share is for what requests leave behind.

use crate::{
    budget::{self, kept_of},
    config::{Config, MemoryConfig},
    id::InstanceId,
    session::SESSION_BYTES,
};

/// Logs which instances can never have as many sessions as they may, how many fit, and which key to raise to what.
pub(crate) fn warn(config: &Config) {
    let MemoryConfig { max_bytes, max_instance_bytes } = config.memory;
    let fits = kept_of(max_bytes.min(max_instance_bytes)) / SESSION_BYTES;
    let capacities = config.instances.iter().map(|policy| policy.session.capacity);
    let capacities = capacities.map(|capacity| usize::try_from(capacity).unwrap_or(usize::MAX));
    let beyond: Vec<_> =
        InstanceId::all().zip(capacities).filter(|(_, capacity)| *capacity > fits).collect();
    let Some(capacity) = beyond.iter().map(|(_, capacity)| *capacity).max() else { return };
    let needed = budget::limit_to_keep(capacity.saturating_mul(SESSION_BYTES));
    let keys = [("memory.max_instance_bytes", max_instance_bytes), ("memory.max_bytes", max_bytes)];
    let raise: Vec<_> =
        keys.iter().filter(|(_, bytes)| *bytes < needed).map(|(key, _)| *key).collect();
    let instances: Vec<_> = beyond.iter().map(|(id, _)| id.to_string()).collect();
    tracing::warn!(
        instances = instances.join(" "),
        capacity,
        fits,
        raise = raise.join(" "),
        to = needed,
        "session.capacity cannot be reached: the memory is full before"
    );
}
