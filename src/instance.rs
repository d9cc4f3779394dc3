//! One tenant: what its configuration means.
//!
//! Owns [`InstanceId`] and [`Instance`]: policy, sessions, tools and prepared answers of one of the ten
//! servers, built once at the start so that a request only compares and clones references. Refuses to
//! know the other nine: no handler that holds an `Arc<Instance>` can name another tenant.
//! Trap: whatever can fail must fail in [`Instance::build`], before the port is open.

use std::{fmt, net::IpAddr, sync::Arc};

use http::HeaderValue;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    auth::AuthMode,
    clock::Clock,
    config::{Config, Network, PolicyConfig, Tag},
    http::origin::Origins,
    hub::Hub,
    lifecycle::Lifecycle,
    mcp::{catalogue::Catalogue, seal::Sealer, version::Era},
    session::store::SessionStore,
    tasks::Tasks,
};

/// Which of the ten: 0 to 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct InstanceId(u8);

impl InstanceId {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// The id of that number, if there is such an instance.
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// All ten, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// As an index into a table of ten.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The digit that opens every session id of this instance.
    pub const fn digit(self) -> u8 {
        self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    /// From the key of a table, so from a text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = text.parse().ok().and_then(Self::new).filter(|id| id.to_string() == text);
        known.ok_or_else(|| D::Error::custom(format!("{text:?} is no instance: they are 0 to 9")))
    }
}

/// The digits of an id that say where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Digits 1-2: which replica.
    pub tag: Tag,
    /// Digits 3-5: which start of it.
    pub boot: Boot,
}

/// Drawn anew at every start: 12 bits, three hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot(pub u16);

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03x}", self.0)
    }
}

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
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Seals what clients carry for us.
    pub sealer: Sealer,
    /// Draining, closing, tasks.
    pub lifecycle: Lifecycle,
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
            trusted_proxies: config.http.trusted_proxies.iter().map(|Network(net)| *net).collect(),
            lifecycle: Lifecycle::default(),
        })
    }

    /// Whether forwarding headers from this peer count.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.contains(&peer.to_canonical()))
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
    pub catalogue: Catalogue,
    /// Who wants to be told of changes.
    pub hub: Arc<Hub>,
    /// Its tasks.
    pub tasks: Tasks,
    /// Bytes of a request body at the most.
    pub max_body_bytes: usize,
    /// How long a body may take.
    pub body_timeout: std::time::Duration,
    /// Sent with every answer: `Mcp-Echo-Instance`.
    pub header: HeaderValue,
    /// What it shares with the other nine.
    pub process: Arc<Process>,
}

impl Instance {
    /// Whether a revision of that era is served.
    pub fn serves(&self, era: Era) -> bool {
        self.policy.protocol.versions.iter().any(|version| version.era() == era)
    }

    /// Turns a policy into what it means; reads `auth.tokens_file`.
    pub fn build(id: InstanceId, config: &Config, process: &Arc<Process>) -> anyhow::Result<Self> {
        let policy = config.instances[id.index()].clone();
        let hub = Arc::<Hub>::default();
        Ok(Self {
            id,
            auth: AuthMode::build(&policy.auth)?,
            origins: Origins::build(&policy.origin, &config.hosts),
            sessions: SessionStore::in_memory(id, &policy.session, process),
            catalogue: Catalogue::build(&policy, process),
            tasks: Tasks::new(id, &policy.tasks, process, &hub),
            hub,
            max_body_bytes: config.http.max_body_bytes,
            body_timeout: config.http.body_timeout_seconds.get(),
            header: HeaderValue::from(u16::from(id.digit())),
            process: Arc::clone(process),
            policy,
        })
    }
}
