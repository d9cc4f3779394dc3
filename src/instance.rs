//! One tenant: what its configuration means.
//!
//! Owns [`Instance`]: policy, sessions, tools and prepared answers of one of the ten servers, built before
//! they are needed so that a request only compares and clones references. Refuses to know the other nine: no
//! handler that holds an `Arc<Instance>` can name another tenant.
//! Traps: whatever can fail must fail in [`Instance::build_all`], before the port is open. And an instance is
//! built anew when its configuration changes, so what must outlive that is shared by the old one and the new.

use std::{net::IpAddr, sync::Arc};

use crate::{
    auth::AuthMode,
    clock::Clock,
    config::{Config, Network, PolicyConfig},
    http::origin::Origins,
    hub::{Change, Hub},
    lifecycle::Lifecycle,
    mcp::{catalogue::Catalogue, seal::Sealer, stream::ReplayBudget, version::Era},
    metrics::{Counters, ProcessCounters},
    place::{Boot, InstanceId, Origin, Tag},
    session::store::SessionStore,
    tasks::Tasks,
    telemetry::access::AccessLog,
};
use ipnet::IpNet;

/// What the ten instances share: facts about the process, none about a session.
#[derive(Debug)]
pub struct Process {
    /// `serverInfo.name`.
    pub server_name: String,
    /// `serverInfo.version`.
    pub server_version: String,
    /// Name of this replica.
    pub replica: String,
    /// What every id minted here carries.
    pub origin: Origin,
    /// Counts from the start.
    pub clock: Clock,
    /// Seals what clients carry for us.
    pub sealer: Sealer,
    /// Draining, closing, tasks.
    pub lifecycle: Lifecycle,
    /// What is counted and belongs to no instance.
    pub counters: ProcessCounters,
    /// Where the line of each request goes.
    pub log: AccessLog,
}

impl Process {
    /// Draws the boot and, unless it is configured, the replica tag.
    pub fn build(config: &Config) -> anyhow::Result<Self> {
        let mut random = [0u8; 3];
        getrandom::fill(&mut random)?;
        let [tag, high, low] = random;
        let clock = Clock::start();
        let configured = config.replica.tag().map_err(anyhow::Error::msg)?;
        let replica = match config.replica.name.as_str() {
            "" => "local",
            name => name,
        };
        Ok(Self {
            server_name: config.server.name.clone(),
            server_version: config.server.version.clone(),
            replica: replica.to_owned(),
            origin: Origin {
                tag: configured.unwrap_or(Tag(tag)),
                boot: Boot(u16::from_be_bytes([high, low]) & 0xfff),
            },
            clock,
            sealer: Sealer::new(clock)?,
            lifecycle: Lifecycle::default(),
            counters: ProcessCounters::default(),
            log: AccessLog::silent(),
        })
    }
}

/// One of the ten MCP servers.
#[derive(Debug)]
pub struct Instance {
    /// Which one.
    pub id: InstanceId,
    /// What its operator wrote.
    pub policy: PolicyConfig,
    /// The bearer check.
    pub auth: AuthMode,
    /// The `Origin` check.
    pub origins: Origins,
    /// Its sessions, and no one else's.
    pub sessions: SessionStore,
    /// Its tools and prepared answers.
    pub catalogue: Arc<Catalogue>,
    /// What its streams may keep to be resumed.
    pub replay: Arc<ReplayBudget>,
    /// Who wants to be told of changes.
    pub hub: Arc<Hub>,
    /// Its tasks.
    pub tasks: Arc<Tasks>,
    /// What is counted of its requests and streams.
    pub counters: Arc<Counters>,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Bytes of a request body at the most.
    pub max_body_bytes: usize,
    /// How long a body may take.
    pub body_timeout: std::time::Duration,
    /// What it shares with the other nine.
    pub process: Arc<Process>,
}

impl Instance {
    /// Whether a revision of that era is served.
    pub fn serves(&self, era: Era) -> bool {
        self.policy.protocol.versions.iter().any(|version| version.era() == era)
    }

    /// Whether forwarding headers from this peer count.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.contains(&peer.to_canonical()))
    }

    /// All ten. Those whose lists are the same share what is prepared of them. `before` are the same ten as
    /// another configuration made them, whose state these go on with; none at the start.
    pub fn build_all(
        config: &Config,
        process: &Arc<Process>,
        before: &[Arc<Self>],
    ) -> anyhow::Result<Vec<Arc<Self>>> {
        let mut instances: Vec<Arc<Self>> = Vec::with_capacity(InstanceId::COUNT);
        for (id, policy) in InstanceId::all().zip(&config.instances) {
            let before = before.get(id.index());
            let alike = before.into_iter().chain(&instances).find(|other| {
                other.policy.tools == policy.tools && other.policy.protocol == policy.protocol
            });
            let catalogue = match alike {
                Some(other) => Arc::clone(&other.catalogue),
                None => Arc::new(Catalogue::build(policy, process)),
            };
            instances.push(Arc::new(Self::build(id, policy, catalogue, config, process, before)?));
        }
        Ok(instances)
    }

    /// Turns a policy into what it means; reads `auth.tokens_file`.
    fn build(
        id: InstanceId,
        policy: &PolicyConfig,
        catalogue: Arc<Catalogue>,
        config: &Config,
        process: &Arc<Process>,
        before: Option<&Arc<Self>>,
    ) -> anyhow::Result<Self> {
        let auth = AuthMode::build(&policy.auth)?;
        let (sessions, replay, hub, tasks) = match before {
            Some(before) => (
                before.sessions.clone(),
                Arc::clone(&before.replay),
                Arc::clone(&before.hub),
                Arc::clone(&before.tasks),
            ),
            None => {
                let hub = Arc::<Hub>::default();
                (
                    SessionStore::in_memory(id, &policy.session, process),
                    ReplayBudget::of(policy.stream.max_replay_bytes),
                    Arc::clone(&hub),
                    Arc::new(Tasks::new(id, &policy.tasks, process, &hub)),
                )
            }
        };
        Ok(Self {
            id,
            auth,
            origins: Origins::build(&policy.origin, &config.hosts),
            sessions,
            catalogue,
            replay,
            tasks,
            hub,
            counters: before.map(|before| Arc::clone(&before.counters)).unwrap_or_default(),
            trusted_proxies: config.http.trusted_proxies.iter().map(|Network(net)| *net).collect(),
            max_body_bytes: config.http.max_body_bytes,
            body_timeout: config.http.body_timeout_seconds.get(),
            process: Arc::clone(process),
            policy: policy.clone(),
        })
    }

    /// Takes the place of the same instance as another configuration made it: what they share keeps to
    /// these limits from now on, and clients whose lists are others are told.
    pub fn supersede(&self, before: &Self) {
        self.sessions.set_capacity(self.policy.session.capacity);
        self.replay.set_limit(self.policy.stream.max_replay_bytes);
        self.tasks.set_limits(&self.policy.tasks);
        if !Arc::ptr_eq(&self.catalogue, &before.catalogue) {
            self.hub.publish(&Change::Tools);
            self.hub.publish(&Change::Prompts);
        }
    }
}
