//! What the ten instances share: facts about the process, none about a session.
//!
//! Owns [`Process`]: who this replica is, its clock, its life cycle, and where it logs and counts.
//! Trap: it is built before the instances and knows none of them.

use crate::{
    clock::Clock,
    config::Config,
    id::{Boot, InstanceId, MintedBy, ReplicaTag},
    lifecycle::Lifecycle,
    observe::{access::AccessLog, events::Events, metrics::ProcessCounters},
    wire::seal::Sealer,
};

/// What the ten instances share: facts about the process, none about a session.
#[derive(Debug)]
pub struct Process {
    /// `serverInfo.name`.
    pub server_name: String,
    /// `serverInfo.version`.
    pub server_version: String,
    /// Name of this replica.
    pub replica: String,
    /// Which replica, in every id that is minted here.
    pub tag: ReplicaTag,
    /// Which start of it.
    pub boot: Boot,
    /// Counts from the start.
    pub clock: Clock,
    /// Seals what clients carry for us.
    pub sealer: Sealer,
    /// Draining, closing, tasks.
    pub lifecycle: Lifecycle,
    /// What happens, for operators who watch.
    pub events: Events,
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
            tag: configured.unwrap_or(ReplicaTag(tag)),
            boot: Boot(u16::from_be_bytes([high, low]) & 0xfff),
            clock,
            sealer: Sealer::new(clock)?,
            lifecycle: Lifecycle::default(),
            events: Events::new(clock),
            counters: ProcessCounters::default(),
            log: AccessLog::silent(),
        })
    }

    /// What the ids carry that this instance mints.
    pub fn minted_by(&self, instance: InstanceId) -> MintedBy {
        MintedBy { instance, tag: self.tag, boot: self.boot }
    }
}
