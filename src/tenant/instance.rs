//! One tenant: a policy and a state.
//!
//! Owns [`Instance`]. Its [`Policy`] is what the configuration means, computed beforehand so that a request need not; its
//! [`State`] is sessions, tasks and counts. A reload replaces the first and keeps the second.
//! Trap: whatever can fail must fail in [`Instance::build_all`], before the port is open.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{
    auth::AuthMode,
    hosts::HostTable,
    origins::Origins,
    subscriptions::{Subscriptions, Update},
    tasks::Tasks,
};
use crate::{
    budget::Share,
    config::{Config, HostName, Network, PolicyConfig},
    id::{InstanceId, MintedBy, SessionRef},
    observe::{Counters, EventKind, Gauge, Open, RequestLog, StreamKind, Subject},
    process::Process,
    session::{Audience, Changed, Conversation, ReplayBudget, SessionStore},
    wire::{Era, Head},
};

/// One of the ten MCP servers.
#[derive(Debug)]
pub struct Instance {
    /// Which of the ten.
    pub id: InstanceId,
    pub(crate) policy: Policy,
    /// What it holds.
    pub state: Arc<State>,
    /// What it shares with the other nine.
    pub process: Arc<Process>,
}

/// What one instance's configuration means.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) config: PolicyConfig,
    /// Its name below the first base domain.
    pub(crate) host: String,
    pub(crate) auth: AuthMode,
    pub(crate) origins: Origins,
    /// Peers whose forwarding headers count.
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) max_body_bytes: usize,
    pub(crate) body_timeout: Duration,
    max_bytes: usize,
}

impl Policy {
    /// Fails if `auth.tokens_file` cannot be used.
    fn build(
        id: InstanceId,
        config: &Config,
        policy: &PolicyConfig,
        process: &Process,
    ) -> anyhow::Result<Self> {
        let base = config.hosts.base_domains.first().map_or("localhost", HostName::as_str);
        let hosts = HostTable::build(&config.hosts, &process.own_names);
        Ok(Self {
            host: format!("{}{id}.{base}", InstanceId::LABEL),
            auth: AuthMode::build(&policy.auth)?,
            origins: Origins::build(&policy.origin, hosts),
            trusted_proxies: config.http.trusted_proxies.iter().map(|Network(net)| *net).collect(),
            max_body_bytes: config.http.max_body_bytes,
            body_timeout: config.http.body_timeout_seconds.get(),
            max_bytes: config.memory.max_instance_bytes,
            config: policy.clone(),
        })
    }
}

/// What one instance holds, through every reload.
#[derive(Debug)]
pub struct State {
    /// Its sessions.
    pub sessions: SessionStore,
    /// What its clients can make it hold.
    pub share: Arc<Share>,
    /// What its streams keep to be resumed.
    pub replay: Arc<ReplayBudget>,
    /// Who is notified of changes.
    pub subscriptions: Arc<Subscriptions>,
    /// Its tasks.
    pub tasks: Tasks,
    /// The requests that it has answered: totals, and the last ones in full.
    pub requests: RequestLog,
    /// Counts of its requests and streams.
    pub counters: Counters,
    /// Calls under way that take time.
    pub calls: Gauge,
}

impl State {
    fn new(id: InstanceId, config: &Config, policy: &PolicyConfig, process: &Arc<Process>) -> Self {
        let share = Share::of(&process.budget, config.memory.max_instance_bytes);
        let replay = ReplayBudget::of(policy.stream.max_replay_bytes, &share);
        let sessions = SessionStore::build(id, &policy.session, process, &share, &replay);
        let subscriptions = Arc::new(Subscriptions::telling(sessions.outbox()));
        let shared = sessions.is_shared();
        Self {
            sessions,
            replay,
            tasks: Tasks::new(id, &policy.tasks, process, &share, &subscriptions, shared),
            share,
            subscriptions,
            requests: RequestLog::new(config.admin.recent_requests),
            counters: Counters::default(),
            calls: Gauge::default(),
        }
    }

    /// Applies the limits of another policy. What exceeds them already stays.
    pub(crate) fn keep_to(&self, policy: &Policy) {
        self.share.set_limit(policy.max_bytes);
        let policy = &policy.config;
        self.sessions.set_capacity(policy.session.capacity);
        self.replay.set_limit(policy.stream.max_replay_bytes);
        self.tasks.set_limits(&policy.tasks);
    }
}

/// Other replicas have changes to notify this one's clients of.
impl Audience for State {
    fn changed(&self, what: Changed) {
        match what {
            Changed::Tools => self.subscriptions.notify(&Update::Tools),
            Changed::Prompts => self.subscriptions.notify(&Update::Prompts),
            Changed::Resource(digest) => self.subscriptions.resource_changed(digest),
            Changed::Task(digest) => self.tasks.hear_task(digest),
        }
    }

    fn missed(&self) {
        self.subscriptions.notify_all();
        self.tasks.missed();
    }

    fn follow(&self, conversation: &Arc<Conversation>, uri: &str) {
        // Without room it is not told here, as its client would have been told if it had subscribed here.
        let _ = self.subscriptions.follow(conversation, uri);
    }
}

impl Instance {
    /// All ten. At a reload, `before` are the ten that these replace, and they take over their state; at the start it is
    /// empty.
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
            let policy = Policy::build(id, config, policy, process)?;
            Ok(Arc::new(Self { id, policy, state, process: Arc::clone(process) }))
        };
        InstanceId::all().zip(&config.instances).map(build).collect()
    }

    /// What the ids say that it mints.
    pub(crate) fn here(&self) -> MintedBy {
        self.process.minted_by(self.id)
    }

    /// Whether it serves a revision of that era.
    pub(crate) fn serves(&self, era: Era) -> bool {
        self.policy.config.protocol.versions.iter().any(|version| version.era() == era)
    }

    /// The era of a request whose body has not been read.
    pub(crate) fn era_of(&self, head: Head<'_>) -> Era {
        match Era::of(false, head.revision()) {
            era if self.serves(era) => era,
            // The era that is served tells the client what is wrong.
            Era::Sessioned => Era::Stateless,
            Era::Stateless => Era::Sessioned,
        }
    }

    /// Whether forwarding headers count that this peer sends.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.policy.trusted_proxies.iter().any(|net| net.contains(&peer.to_canonical()))
    }

    /// Counts a call that takes time as under way until the guard is dropped; `None` if `tools.max_calls` are.
    pub(crate) fn begin_call(&self) -> Option<Open> {
        let open = self.state.calls.open();
        (self.state.calls.count() <= self.policy.config.tools.max_calls).then_some(open)
    }

    /// Counts a stream as open until the guard is dropped, and notes an event at both ends. A subscription of the
    /// stateless era has no session.
    pub(crate) fn open_stream(&self, kind: StreamKind, session: Option<SessionRef>) -> OpenStream {
        let process = Arc::clone(&self.process);
        let subject = Subject::Instance(self.id, session);
        process.events.note(EventKind::StreamOpened, subject);
        OpenStream { process, subject, _open: self.state.counters.open_stream(kind) }
    }
}

/// See [`Instance::open_stream`].
#[derive(Debug)]
pub(crate) struct OpenStream {
    process: Arc<Process>,
    subject: Subject,
    _open: Open,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.process.events.note(EventKind::StreamClosed, self.subject);
    }
}
