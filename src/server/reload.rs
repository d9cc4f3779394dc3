//! Another configuration while serving.
//!
//! Owns the order of a reload: read, check, build everything anew, and only then replace what serves, so that a
//! configuration that does not fit changes nothing.
//! Trap: connections keep the stack and the deadlines with which they began, but find the new instances through it.

use std::sync::Arc;

use super::{Server, connection::Settings, stack};
use crate::{
    config::Reloaded,
    mcp::Endpoint,
    observe::{EventKind, Subject},
    reload::NotReloaded,
    tenant::Instance,
};

impl Server {
    /// Reads the configuration again and serves by it, or says why it does not.
    pub(super) fn reload(&mut self) -> Result<Reloaded, NotReloaded> {
        match self.try_reload() {
            Ok(change) => {
                tracing::info!(applied = %change.applied.join(" "), "configuration reloaded");
                self.process.events.note(EventKind::Reloaded, Subject::Process);
                for held in &change.needs_restart {
                    let why = held.why;
                    tracing::warn!(key = %held.key, why, "a change waits for the next start");
                }
                Ok(change)
            }
            Err(error) => {
                tracing::error!(%error, "the configuration stays as it was");
                Err(error)
            }
        }
    }

    fn try_reload(&mut self) -> Result<Reloaded, NotReloaded> {
        let refused = |error: anyhow::Error| NotReloaded::Refused(format!("{error:#}"));
        let source = self.source.as_ref().ok_or(NotReloaded::NoSource)?;
        let read = (source.read)().and_then(|layers| layers.taking_over(&source.layers));
        let (layers, change) = read.map_err(|error| refused(error.into()))?;
        let config = layers.check().map_err(|error| refused(error.into()))?;
        let admin = self.admin.supersede(&config).map_err(refused)?;
        let before: Vec<_> = self.instances().cloned().collect();
        let instances = Instance::build_all(&config, &self.process, &before).map_err(refused)?;

        // From here on nothing can fail.
        let endpoints = Endpoint::build_all(&instances, &self.endpoints);
        for (endpoint, before) in endpoints.iter().zip(&self.endpoints) {
            endpoint.supersede(before);
        }
        self.hosts.replace(stack::hosts(&config, &endpoints, &admin, &self.reloads));
        (self.endpoints, self.admin) = (endpoints, admin);
        self.settings = Arc::new(Settings::new(&self.process, &config.http));
        self.process.budget.set_limit(config.memory.max_bytes);
        self.drain_time = config.shutdown.drain_seconds.get();
        self.limit.change(config.http.max_connections, &self.process.lifecycle);
        if let Some(source) = &mut self.source {
            source.layers = layers;
            if let Some(log) = &source.log {
                log.turn(config.log.level);
                log.reopen();
            }
        }
        Ok(change)
    }
}
