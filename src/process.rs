//! What the ten instances share.
//!
//! Owns [`Process`]: who this replica is, its clock, its life cycle, and where it logs and counts.
//! Trap: it is built before the instances and knows none of them.

mod seals;

use std::sync::Arc;

pub(crate) use self::seals::{NotOpened, Seals};

use crate::{
    budget::Budget,
    clock::Clock,
    config::{BindAddress, Config, HostName, Listen},
    id::{Boot, InstanceId, MintedBy, ReplicaTag},
    lifecycle::Lifecycle,
    link::Link,
    observe::{AccessLog, Events, FailureLog, ProcessCounters},
    ruler::Ruler,
};

/// What the ten instances share.
#[derive(Debug)]
pub struct Process {
    pub(crate) server_name: String,
    pub(crate) server_version: String,
    /// Where clients find it, if operators have another port.
    pub(crate) clients_port: Option<u16>,
    pub(crate) profile: Option<&'static str>,
    pub(crate) replica: String,
    /// What this host is called, and the address that is bound if it is one alone: names of the front door.
    pub(crate) own_names: Vec<HostName>,
    /// Which replica, in every id minted here.
    pub tag: ReplicaTag,
    /// Which start of the process, in every id minted here.
    pub boot: Boot,
    pub(crate) clock: Clock,
    /// What `requestState` is sealed with.
    pub(crate) seals: Seals,
    pub(crate) ruler: Ruler,
    /// What clients can make it hold.
    pub budget: Arc<Budget>,
    /// Draining, closing, spawned tasks.
    pub lifecycle: Lifecycle,
    pub(crate) events: Events,
    pub(crate) counters: ProcessCounters,
    /// Requests that were refused before they reached an instance, such as those for another host.
    pub(crate) refused: FailureLog,
    pub(crate) log: AccessLog,
    /// To the store that it shares with other replicas, if it does.
    pub link: Option<Arc<Link>>,
}

impl Process {
    /// Draws the boot. The replica tag is as configured, or else always the same on one host and port.
    pub fn build(config: &Config) -> anyhow::Result<Self> {
        let mut random = [0u8; 3];
        getrandom::fill(&mut random)?;
        let [tag, high, low] = random;
        let clock = Clock::start();
        let host_name = config.replica.host_name();
        let tag = match (config.replica.tag().map_err(anyhow::Error::msg)?, config.server.port) {
            (Some(configured), _) => configured,
            // Which port it will be is not known yet, and the next start takes another.
            (None, 0) => ReplicaTag(tag),
            (None, port) => ReplicaTag::of(&host_name, port),
        };
        let replica = match config.replica.name.as_str() {
            "" => "local",
            name => name,
        };
        let BindAddress(bound) = config.server.host;
        let bound = (!bound.is_unspecified()).then(|| bound.to_string());
        // A replica may be called what no host is.
        let own_names = [Some(host_name), bound].into_iter().flatten();
        let own_names = own_names.filter_map(|name| name.parse().ok()).collect();
        let link = Link::build(&config.store, clock)?;
        Ok(Self {
            own_names,
            server_name: config.server.name.clone(),
            server_version: config.server.version.clone(),
            clients_port: match (&config.admin.listen, config.server.port) {
                (Listen(None), _) | (Listen(Some(_)), 0) => None,
                (Listen(Some(_)), port) => Some(port),
            },
            profile: config.profile.map(|profile| profile.name),
            replica: replica.to_owned(),
            tag,
            boot: Boot(u16::from_be_bytes([high, low]) & 0xfff),
            clock,
            seals: Seals::build(link.as_ref(), clock)?,
            ruler: Ruler::default(),
            budget: Budget::of(config.memory.max_bytes),
            lifecycle: Lifecycle::default(),
            events: Events::new(clock),
            counters: ProcessCounters::default(),
            refused: FailureLog::new(config.admin.recent_requests),
            log: AccessLog::silent(),
            link,
        })
    }

    /// What every id of that instance says of its origin.
    pub fn minted_by(&self, instance: InstanceId) -> MintedBy {
        MintedBy { instance, tag: self.tag, boot: self.boot }
    }
}
