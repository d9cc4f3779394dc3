//! The running server: build the ten instances, serve, drain.
//!
//! Owns the life of the server and the two stages of its stop. `Server::build` is where everything that can fail
//! does, before a port is open; `Server::run` is the only way to serve, for the program and for the tests. Taking
//! connections is [`accept`]'s, serving one is [`connection`]'s, another configuration is [`reload`]'s.
//! Trap: connections are accepted while draining too, or a readiness probe would find a closed port and not a 503.

mod accept;
pub mod bind;
mod connection;
pub mod greeting;
pub mod hosts;
mod protocols;
mod reload;
mod socket;
pub mod stack;

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use self::{
    accept::{Accepted, Limit, Listener},
    connection::{Connection, Settings},
    hosts::{Port, VirtualHosts},
    stack::Stack,
};
use crate::{
    admin::Admin,
    config::{Config, Secret},
    http::access_log::Identity,
    id::EndReason,
    mcp::Endpoint,
    observe::{AccessLog, EventKind, Subject},
    process::Process,
    reload::{Asked, Reloads, Source},
    tenant::Instance,
};

/// Connections to the operator's own port at the most.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// Ten instances, ready to serve.
#[derive(Debug)]
pub struct Server {
    process: Arc<Process>,
    endpoints: Vec<Arc<Endpoint>>,
    identity: Arc<Identity>,
    hosts: VirtualHosts,
    admin: Admin,
    generated_admin_token: Option<Secret>,
    settings: Arc<Settings>,
    drain_time: Duration,
    limit: Limit,
    source: Option<Source>,
    reloads: Reloads,
    asked: mpsc::Receiver<Asked>,
}

/// Where a server listens.
#[derive(Debug)]
pub struct Listeners {
    /// For everyone.
    pub main: TcpListener,
    /// For the operator (`admin.listen`).
    pub admin: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(main: TcpListener) -> Self {
        Self { main, admin: None }
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything in flight was finished.
    Clean,
    /// The time to drain was over first.
    CutOff,
}

impl Server {
    /// Makes everything that a request will need.
    ///
    /// `access_log` is where the line of each request goes.
    pub fn build(config: &Config, access_log: AccessLog) -> anyhow::Result<Self> {
        let process = Process { log: access_log, ..Process::build(config)? };
        let process = Arc::new(process);
        let (admin, generated_admin_token) = Admin::build(config)?;
        let instances = Instance::build_all(config, &process, &[])?;
        let endpoints = Endpoint::build_all(&instances, &[]);
        let (reloads, asked) = Reloads::channel();
        let hosts = stack::hosts(config, &endpoints, &admin, &reloads);
        Ok(Self {
            identity: Arc::new(Identity::of(&process, &instances)),
            hosts: VirtualHosts::new(&process, hosts),
            settings: Arc::new(Settings::new(&process, &config.http)),
            process,
            endpoints,
            admin,
            generated_admin_token,
            drain_time: config.shutdown.drain_seconds.get(),
            limit: Limit::new(config.http.max_connections),
            source: None,
            reloads,
            asked,
        })
    }

    /// Lets the configuration be read again while serving.
    pub fn reloading_from(self, source: Source) -> Self {
        Self { source: Some(source), ..self }
    }

    /// A way to ask for that.
    pub fn reloads(&self) -> Reloads {
        self.reloads.clone()
    }

    /// The admin token that was generated because none is configured, to be shown once.
    pub fn generated_admin_token(&self) -> Option<&Secret> {
        self.generated_admin_token.as_ref()
    }

    /// Whether there is something for an operator to see: `/debug`.
    pub fn has_admin(&self) -> bool {
        matches!(self.admin, Admin::Token(_))
    }

    /// The ten instances in order.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.endpoints.iter().map(|endpoint| &endpoint.instance)
    }

    /// What every request is answered with, for callers that bring a transport of their own: they say who
    /// is at the other end with [`of_connection`](crate::http::access_log::AccessLogged::of_connection), and call
    /// [`tick`](crate::session::store::SessionStore::tick) on the sessions and
    /// [`sweep`](crate::tenant::tasks::Tasks::sweep) on the tasks of every instance.
    pub fn stack(&self) -> Stack {
        self.stack_through(Port::Main)
    }

    fn stack_through(&self, port: Port) -> Stack {
        stack::outer(self.hosts.through(port), &self.identity)
    }

    /// Serves until `shutdown` completes, then drains: not ready and no new session at once, event
    /// streams closed, calls in flight finished or, after `shutdown.drain_seconds`, cut off.
    pub async fn run(
        mut self,
        listeners: impl Into<Listeners>,
        shutdown: impl Future<Output = ()>,
    ) -> Stopped {
        // Dropped, and so aborted, when this function returns.
        let mut tickers = JoinSet::new();
        for instance in self.instances() {
            tickers.spawn(tick(Arc::clone(instance)));
        }

        let Listeners { main, admin } = listeners.into();
        let main = Listener {
            tcp: Some(main),
            stack: self.stack_through(Port::Main),
            permits: self.limit.permits(),
        };
        let admin = Listener {
            tcp: admin,
            stack: self.stack_through(Port::Admin),
            permits: Limit::new(MAX_ADMIN_CONNECTIONS).permits(),
        };
        self.serve_until(shutdown, &main, &admin).await;
        let stopped = self.drain(&main, &admin).await;
        for instance in self.instances() {
            instance.state.sessions.end_all(EndReason::Shutdown).await;
        }
        tracing::info!(clean = stopped == Stopped::Clean, "stopped");
        stopped
    }

    async fn serve_until(
        &mut self,
        shutdown: impl Future<Output = ()>,
        main: &Listener,
        admin: &Listener,
    ) {
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                accepted = main.accept() => self.serve(accepted),
                accepted = admin.accept() => self.serve(accepted),
                Some(answer) = self.asked.recv() => {
                    let outcome = self.reload();
                    // Whoever asked may have left; it is done all the same.
                    let _ = answer.send(outcome);
                }
            }
        }
    }

    async fn drain(&mut self, main: &Listener, admin: &Listener) -> Stopped {
        tracing::info!(
            drain_seconds = self.drain_time.as_secs_f64(),
            "stopping: not ready, no new session"
        );
        // Whoever waits for a reload is told that there will be none.
        self.asked.close();
        while self.asked.try_recv().is_ok() {}
        let lifecycle = &self.process.lifecycle;
        self.process.events.note(EventKind::Draining, Subject::Process);
        lifecycle.drain();
        self.settings = Arc::new(self.settings.while_draining());
        let mut deadline = pin!(sleep(self.drain_time));
        let mut idle = pin!(lifecycle.idle());
        loop {
            tokio::select! {
                () = &mut idle => return Stopped::Clean,
                () = &mut deadline => return Stopped::CutOff,
                // Still accepting, so that a readiness probe is told and not refused.
                accepted = main.accept() => self.serve(accepted),
                accepted = admin.accept() => self.serve(accepted),
            }
        }
    }

    fn serve(&self, accepted: Accepted) {
        let connection = Connection::new(Arc::clone(&self.settings), accepted);
        self.process.lifecycle.spawn(connection);
    }
}

/// Lets one instance's idle sessions end, and keeps busy ones from it, a few times per timeout. Each
/// instance has its own, so that none waits for another that has a great many to remove.
async fn tick(instance: Arc<Instance>) {
    // A session may have been told to live as short as a second.
    let often = Duration::from_millis(250);
    let period = (instance.policy.config.session.timeout_seconds.get() / 4).min(often);
    let mut interval = interval(period.max(Duration::from_millis(10)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        instance.state.sessions.tick().await;
        instance.state.tasks.sweep();
    }
}
