//! Another configuration while serving.
//!
//! Owns the order of a reload: read, check, build everything anew, and only then replace what serves, so that a
//! configuration that does not fit changes nothing.
//! Whatever reads or opens a file is done in a thread of its own, so that connections are accepted meanwhile, however long
//! that takes.
//! Trap: connections keep the stack and the deadlines with which they began, but find the new instances through it.

use std::{fmt, future::pending, mem::replace, sync::Arc};

use tokio::task::{JoinHandle, spawn_blocking};

use super::{Server, connection::Settings, stack};
use crate::{
    admin::Admin,
    config::{Config, ConfigError, Layers, Reloaded},
    mcp::Endpoint,
    observe::{EventKind, LogControl, Subject},
    process::Process,
    reload::{Asked, NotReloaded, Source},
    tenant::{Instance, capacity},
};

/// A [`Source`] that another thread can read.
#[derive(Clone)]
pub(super) struct Reading {
    layers: Arc<Layers>,
    read: Arc<dyn Fn() -> Result<Layers, ConfigError> + Send + Sync>,
    log: Option<LogControl>,
}

impl From<Source> for Reading {
    fn from(Source { layers, read, log }: Source) -> Self {
        Self { layers: Arc::new(layers), read: read.into(), log }
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The layers hold secrets.
        f.write_str("Reading")
    }
}

/// What a reload replaces, all of it built.
pub(super) struct Built {
    layers: Layers,
    change: Reloaded,
    config: Config,
    admin: Admin,
    instances: Vec<Arc<Instance>>,
}

impl Reading {
    /// Reads everything again and builds it anew, from what serves now.
    fn build(
        &self,
        admin: &Admin,
        process: &Arc<Process>,
        before: &[Arc<Instance>],
    ) -> anyhow::Result<Built> {
        if let Some(log) = &self.log {
            log.check()?;
        }
        let (layers, change) = (self.read)()?.taking_over(&self.layers)?;
        let config = layers.check()?;
        let admin = admin.supersede(&config)?;
        let instances = Instance::build_all(&config, process, before)?;
        Ok(Built { layers, change, config, admin, instances })
    }
}

/// A reload that is under way, if one is.
pub(super) enum Reloading {
    Idle,
    Reading(Asked, JoinHandle<anyhow::Result<Built>>),
    /// There is nothing to read.
    Sourceless(Asked),
}

impl Reloading {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    /// What was read, when it has been.
    pub(super) async fn read(&mut self) -> Result<Built, NotReloaded> {
        let refused = |error: anyhow::Error| NotReloaded::Refused(format!("{error:#}"));
        match self {
            Self::Idle => pending().await,
            Self::Reading(_, task) => {
                task.await.unwrap_or_else(|panic| Err(panic.into())).map_err(refused)
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
        let Some(source) = self.source.clone() else { return Reloading::Sourceless(asked) };
        let (admin, process) = (self.admin.clone(), Arc::clone(&self.process));
        let before: Vec<_> = self.instances().cloned().collect();
        let build = move || source.build(&admin, &process, &before);
        Reloading::Reading(asked, spawn_blocking(build))
    }

    /// Serves by what has been built, or says why it does not.
    pub(super) fn reload(
        &mut self,
        built: Result<Built, NotReloaded>,
    ) -> Result<Reloaded, NotReloaded> {
        match built.map(|built| self.take_over(built)) {
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

    /// Nothing here can fail.
    fn take_over(&mut self, built: Built) -> Reloaded {
        let Built { layers, change, config, admin, instances } = built;
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
        self.process.link.iter().for_each(|link| link.keep_to(&config.store));
        self.drain_time.send_replace(config.shutdown.drain_seconds.get());
        self.limit.change(config.http.max_connections, &self.process.lifecycle);
        if let Some(source) = &mut self.source {
            source.layers = Arc::new(layers);
            if let Some(log) = &source.log {
                log.turn(config.log.level);
                log.reopen();
            }
        }
        capacity::warn(&config);
        change
    }
}
