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

use futures_util::future::BoxFuture;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use self::{
    accept::{Accepted, Limit, Listener},
    connection::{Connection, Settings},
    hosts::{Port, VirtualHosts},
    reload::{Reading, Reloading},
    stack::Stack,
};
use crate::{
    admin::Admin,
    budget::Budget,
    config::{Config, Secret},
    http::access_log::Identity,
    lifecycle::Lifecycle,
    link::Link,
    mcp::Endpoint,
    observe::{AccessLog, EventKind, Subject},
    process::Process,
    reload::{Asked, Reloads, Source},
    tenant::{Instance, capacity},
};

/// Connections to the operator's own port at the most.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// How much of the time to drain is for those who are cut off, at the most.
const FAREWELL: Duration = Duration::from_millis(500);

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
    /// Of connections beyond the cap.
    reserved: Arc<Settings>,
    drain_time: watch::Sender<Duration>,
    limit: Limit,
    source: Option<Reading>,
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
        let settings = Settings::new(&process, &config.http);
        capacity::warn(config);
        Ok(Self {
            identity: Arc::new(Identity::of(&process, &instances)),
            hosts: VirtualHosts::new(&process, hosts),
            reserved: Arc::new(settings.reserved()),
            settings: Arc::new(settings),
            process,
            endpoints,
            admin,
            generated_admin_token,
            drain_time: watch::Sender::new(config.shutdown.drain_seconds.get()),
            limit: Limit::new(config.http.max_connections),
            source: None,
            reloads,
            asked,
        })
    }

    /// Lets the configuration be read again while serving.
    pub fn reloading_from(self, source: Source) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// A way to ask for that.
    pub fn reloads(&self) -> Reloads {
        self.reloads.clone()
    }

    /// How long a stop may take, as the configuration in force has it.
    pub fn drain_time(&self) -> watch::Receiver<Duration> {
        self.drain_time.subscribe()
    }

    /// The admin token that was generated because none is configured, to be shown once.
    pub fn generated_admin_token(&self) -> Option<&Secret> {
        self.generated_admin_token.as_ref()
    }

    /// Whether there is something for an operator to see: `/debug`.
    pub fn has_admin(&self) -> bool {
        matches!(self.admin, Admin::Token(_))
    }

    /// What clients can make it hold.
    pub fn budget(&self) -> Arc<Budget> {
        Arc::clone(&self.process.budget)
    }

    /// To the store that it shares with other replicas, if it does.
    pub fn link(&self) -> Option<&Arc<Link>> {
        self.process.link.as_ref()
    }

    /// The ten instances in order.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.endpoints.iter().map(|endpoint| &endpoint.instance)
    }

    /// What every request is answered with, for callers that bring a transport of their own: they say who
    /// is at the other end with [`of_connection`](crate::http::access_log::AccessLogged::of_connection), and call
    /// [`tick`](crate::session::store::SessionStore::tick) on the sessions and
    /// [`sweep`](crate::tenant::tasks::Tasks::sweep) on the tasks of every instance. Instances that share a store are served
    /// by [`run`](Self::run) alone, which hears of other replicas too.
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
        let mut tickers = JoinSet::<()>::new();
        let mut keep = |work: BoxFuture<'static, ()>| {
            tickers.spawn(work);
        };
        for instance in self.instances() {
            keep(Box::pin(tick(Arc::clone(instance))));
            if instance.state.sessions.is_shared() {
                let state = Arc::clone(&instance.state);
                keep(Box::pin(async move { state.sessions.hear(&*state).await }));
                let state = Arc::clone(&instance.state);
                keep(Box::pin(async move { state.tasks.keep().await }));
            }
        }
        if let Some(link) = self.process.link.clone() {
            keep(Box::pin(async move { link.keep().await }));
            let process = Arc::clone(&self.process);
            keep(Box::pin(async move { process.seals.keep().await }));
        }

        let Listeners { main, admin } = listeners.into();
        let when_full = self.stack_through(Port::Full);
        let (through, budget) = (|port| self.stack_through(port), &self.process.budget);
        let main =
            Listener::new(Some(main), &self.limit, through(Port::Main), when_full.clone(), budget);
        let few = Limit::new(MAX_ADMIN_CONNECTIONS);
        let admin = Listener::new(admin, &few, through(Port::Admin), when_full, budget);
        self.serve_until(shutdown, &main, &admin).await;
        let stopped = self.drain(&main, &admin).await;
        for instance in self.instances() {
            instance.state.sessions.shut_down().await;
        }
        let (cut_off, tasks) = self.process.lifecycle.left_undone();
        let clean = stopped == Stopped::Clean;
        tracing::info!(clean, cut_off, tasks, "stopped");
        stopped
    }

    async fn serve_until(
        &mut self,
        shutdown: impl Future<Output = ()>,
        main: &Listener,
        admin: &Listener,
    ) {
        let mut shutdown = pin!(shutdown);
        let mut reloading = Reloading::Idle;
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                accepted = main.accept() => self.serve(accepted),
                accepted = admin.accept() => self.serve(accepted),
                Some(answer) = self.asked.recv(), if reloading.is_idle() => {
                    reloading = self.begin_reload(answer);
                }
                read = reloading.read() => {
                    let outcome = self.reload(read);
                    // Whoever asked may have left; it is done all the same.
                    let _ = reloading.take().map(|answer| answer.send(outcome));
                }
            }
        }
    }

    async fn drain(&mut self, main: &Listener, admin: &Listener) -> Stopped {
        let drain_time = *self.drain_time.borrow();
        tracing::info!(
            drain_seconds = drain_time.as_secs_f64(),
            "stopping: not ready, no new session"
        );
        // Whoever waits for a reload is told that there will be none.
        self.asked.close();
        while self.asked.try_recv().is_ok() {}
        let lifecycle = &self.process.lifecycle;
        self.process.events.note(EventKind::Draining, Subject::Process);
        lifecycle.drain();
        self.settings = Arc::new(self.settings.single());
        // The last of it is for those who are cut off to be told.
        let farewell = FAREWELL.min(drain_time / 8);
        let mut deadline = pin!(sleep(drain_time.saturating_sub(farewell)));
        let mut idle = pin!(lifecycle.idle());
        loop {
            tokio::select! {
                () = &mut idle => return Stopped::Clean,
                () = &mut deadline => break,
                // Still accepting, so that a readiness probe is told and not refused.
                accepted = main.accept() => self.serve(accepted),
                accepted = admin.accept() => self.serve(accepted),
            }
        }
        // Calls end, then connections; a tool or a peer that knows no end is left behind.
        for end in [Lifecycle::cut_off, Lifecycle::end] {
            end(lifecycle);
            if timeout(farewell / 2, &mut idle).await.is_ok() {
                break;
            }
        }
        Stopped::CutOff
    }

    fn serve(&self, accepted: Accepted) {
        let settings = if accepted.reserved { &self.reserved } else { &self.settings };
        let connection = Connection::new(Arc::clone(settings), accepted);
        self.process.lifecycle.spawn_unboxed(connection);
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
