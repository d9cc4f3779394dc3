//! One tenant: a policy and a state.
//!
//! Owns [`Instance`]: what its configuration means ([`Policy`]), built before it is needed so that a request only
//! compares, and what it holds ([`State`]). A reload replaces the first and keeps the second.
//! Trap: whatever can fail must fail in [`Instance::build_all`], before the port is open.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{auth::AuthMode, origins::Origins, subscriptions::Subscriptions, tasks::Tasks};
use crate::{
    config::{Config, Network, PolicyConfig},
    id::{InstanceId, MintedBy, SessionRef},
    observe::{
        events::{EventKind, Subject},
        metrics::{Counters, Open, StreamKind},
        recent::RequestLog,
    },
    process::Process,
    session::{store::SessionStore, stream::ReplayBudget},
    wire::version::Era,
};

/// One of the ten MCP servers.
#[derive(Debug)]
pub struct Instance {
    /// Which one.
    pub id: InstanceId,
    /// What its operator wants of it.
    pub policy: Policy,
    /// What it holds.
    pub state: Arc<State>,
    /// What it shares with the other nine.
    pub process: Arc<Process>,
}

/// What one instance's configuration means.
#[derive(Debug)]
pub struct Policy {
    /// As it was written.
    pub config: PolicyConfig,
    /// The bearer check.
    pub auth: AuthMode,
    /// The `Origin` check.
    pub origins: Origins,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Bytes of a request body at the most.
    pub max_body_bytes: usize,
    /// How long a body may take.
    pub body_timeout: Duration,
}

impl Policy {
    /// Reads `auth.tokens_file`.
    fn build(config: &Config, policy: &PolicyConfig) -> anyhow::Result<Self> {
        Ok(Self {
            auth: AuthMode::build(&policy.auth)?,
            origins: Origins::build(&policy.origin, &config.hosts),
            trusted_proxies: config.http.trusted_proxies.iter().map(|Network(net)| *net).collect(),
            max_body_bytes: config.http.max_body_bytes,
            body_timeout: config.http.body_timeout_seconds.get(),
            config: policy.clone(),
        })
    }
}

/// What one instance holds, whatever its configuration comes to be.
#[derive(Debug)]
pub struct State {
    /// Its sessions, and no one else's.
    pub sessions: SessionStore,
    /// What its streams may keep to be resumed.
    pub replay: Arc<ReplayBudget>,
    /// Who wants to be told of changes.
    pub subscriptions: Arc<Subscriptions>,
    /// Its tasks.
    pub tasks: Tasks,
    /// The requests that it has answered: totals, and the last ones.
    pub requests: RequestLog,
    /// What is counted of its requests and streams.
    pub counters: Counters,
}

impl State {
    fn new(id: InstanceId, config: &Config, policy: &PolicyConfig, process: &Arc<Process>) -> Self {
        let replay = ReplayBudget::of(policy.stream.max_replay_bytes);
        let subscriptions = Arc::<Subscriptions>::default();
        Self {
            sessions: SessionStore::in_memory(id, &policy.session, process, &replay),
            replay,
            tasks: Tasks::new(id, &policy.tasks, process, &subscriptions),
            subscriptions,
            requests: RequestLog::new(config.admin.recent_requests),
            counters: Counters::default(),
        }
    }

    /// Keeps to the limits of another policy from now on. What there is stays, were it more than that.
    pub fn keep_to(&self, policy: &PolicyConfig) {
        self.sessions.set_capacity(policy.session.capacity);
        self.replay.set_limit(policy.stream.max_replay_bytes);
        self.tasks.set_limits(&policy.tasks);
    }
}

impl Instance {
    /// All ten. `before` are the same ten by another configuration, whose state these go on with; none at the start.
    pub fn build_all(
        config: &Config,
        process: &Arc<Process>,
        before: &[Arc<Self>],
    ) -> anyhow::Result<Vec<Arc<Self>>> {
        let build = |(id, policy): (InstanceId, &PolicyConfig)| {
            let state = match before.get(id.index()) {
                Some(before) => Arc::clone(&before.state),
                None => Arc::new(State::new(id, config, policy, process)),
            };
            let policy = Policy::build(config, policy)?;
            Ok(Arc::new(Self { id, policy, state, process: Arc::clone(process) }))
        };
        InstanceId::all().zip(&config.instances).map(build).collect()
    }

    /// What the ids carry that it mints.
    pub fn here(&self) -> MintedBy {
        self.process.minted_by(self.id)
    }

    /// Whether a revision of that era is served.
    pub fn serves(&self, era: Era) -> bool {
        self.policy.config.protocol.versions.iter().any(|version| version.era() == era)
    }

    /// Whether forwarding headers from this peer count.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.policy.trusted_proxies.iter().any(|net| net.contains(&peer.to_canonical()))
    }

    /// Counts a stream on which the server speaks first until the guard is dropped; operators are told of both ends.
    /// A subscription has no session.
    pub fn open_stream(&self, kind: StreamKind, session: Option<SessionRef>) -> OpenStream {
        let process = Arc::clone(&self.process);
        let subject = Subject::Instance(self.id, session);
        process.events.note(EventKind::StreamOpened, subject);
        OpenStream { process, subject, _open: self.state.counters.open_stream(kind) }
    }
}

/// See [`Instance::open_stream`].
#[derive(Debug)]
pub struct OpenStream {
    process: Arc<Process>,
    subject: Subject,
    _open: Open,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.process.events.note(EventKind::StreamClosed, self.subject);
    }
}
