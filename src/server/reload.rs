//! Another configuration while serving.
//!
//! Owns the order of a reload: read, check, build everything anew, and only then replace what serves, so that a
//! configuration that does not fit changes nothing.
//! Files are read in a thread of their own, so that connections are accepted meanwhile, however long that takes.
//! Trap: connections keep the stack and the deadlines with which they began, but find the new instances through it.

use std::{fmt, future::pending, mem::replace, sync::Arc};

use tokio::task::{JoinHandle, spawn_blocking};

use super::{Server, connection::Settings, stack};
use crate::{
    config::{ConfigError, Layers, Reloaded},
    mcp::Endpoint,
    observe::{EventKind, LogControl, Subject},
    reload::{Asked, NotReloaded, Source},
    tenant::Instance,
};

type Read = Result<Layers, ConfigError>;

/// A [`Source`] that another thread can read.
pub(super) struct Reading {
    layers: Layers,
    read: Arc<dyn Fn() -> Read + Send + Sync>,
    log: Option<LogControl>,
}

impl From<Source> for Reading {
    fn from(Source { layers, read, log }: Source) -> Self {
        Self { layers, read: read.into(), log }
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The layers hold secrets.
        f.write_str("Reading")
    }
}

/// A reload that is under way, if one is.
pub(super) enum Reloading {
    Idle,
    Reading(Asked, JoinHandle<Read>),
    /// There is nothing to read.
    Sourceless(Asked),
}

impl Reloading {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    /// What was read, when it has been.
    pub(super) async fn read(&mut self) -> Result<Read, NotReloaded> {
        match self {
            Self::Idle => pending().await,
            Self::Reading(_, task) => {
                task.await.map_err(|error| NotReloaded::Refused(error.to_string()))
            }
            Self::Sourceless(_) => Err(NotReloaded::NoSource),
        }
    }

    /// Who waits for the answer.
    pub(super) fn take(&mut self) -> Option<Asked> {
        match replace(self, Self::Idle) {
            Self::Idle => None,
            Self::Reading(asked, _) | Self::Sourceless(asked) => Some(asked),
        }
    }
}

impl Server {
    /// Begins to read the configuration again.
    pub(super) fn begin_reload(&self, asked: Asked) -> Reloading {
        let Some(source) = &self.source else { return Reloading::Sourceless(asked) };
        let read = Arc::clone(&source.read);
        Reloading::Reading(asked, spawn_blocking(move || read()))
    }

    /// Serves by what has been read, or says why it does not.
    pub(super) fn reload(
        &mut self,
        read: Result<Read, NotReloaded>,
    ) -> Result<Reloaded, NotReloaded> {
        match read.and_then(|read| self.try_reload(read)) {
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

    fn try_reload(&mut self, read: Read) -> Result<Reloaded, NotReloaded> {
        let refused = |error: anyhow::Error| NotReloaded::Refused(format!("{error:#}"));
        let source = self.source.as_ref().ok_or(NotReloaded::NoSource)?;
        if let Some(log) = &source.log {
            log.check().map_err(refused)?;
        }
        let read = read.and_then(|layers| layers.taking_over(&source.layers));
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
        let settings = Settings::new(&self.process, &config.http);
        self.reserved = Arc::new(settings.reserved());
        self.settings = Arc::new(settings);
        self.process.budget.set_limit(config.memory.max_bytes);
        self.drain_time.send_replace(config.shutdown.drain_seconds.get());
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
