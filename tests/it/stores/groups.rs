//! Servers that belong together: a cluster of three shards, and a master with a replica that Sentinel watches.
//!
//! Owns how they find each other. Trap: the directory with a server's cluster nodes or Sentinel's file is the server's
//! own, so after `start_again` it remembers its peers, but only on its old port.

use super::{Engine, StoreServer, directory, wait_until};

/// Three shards without replicas.
pub struct Cluster {
    pub shards: Vec<StoreServer>,
}

impl Cluster {
    /// Starts one that serves all slots. Takes about three seconds.
    pub fn start(engine: Engine) -> Self {
        let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let arguments = [&arguments[..], &["--cluster-announce-ip", "127.0.0.1"]].concat();
        let start = |_| StoreServer::with(engine, &arguments);
        let shards: Vec<_> = (0..3).map(start).collect();
        let told = |shard: &StoreServer, command: &[&str]| {
            assert_eq!(shard.command(command).to_string(), "OK", "{command:?}");
        };
        let slots = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        for (shard, ((first, last), epoch)) in
            shards.iter().zip(slots.into_iter().zip(["1", "2", "3"]))
        {
            told(shard, &["CLUSTER", "SET-CONFIG-EPOCH", epoch]);
            told(shard, &["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        for shard in &shards[1..] {
            told(shard, &["CLUSTER", "MEET", "127.0.0.1", &shards[0].port().to_string()]);
        }
        let is_ok = |shard: &StoreServer| {
            let info = shard.command(&["CLUSTER", "INFO"]);
            ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"]
                .iter()
                .all(|line| info.text().contains(line))
        };
        wait_until("the cluster serves", || shards.iter().all(is_ok));
        Self { shards }
    }

    pub fn url(&self) -> String {
        let hosts = self.shards.iter().map(|shard| format!("127.0.0.1:{}", shard.port()));
        format!("redis+cluster://{}", hosts.collect::<Vec<_>>().join(","))
    }

    /// The shard that has this key.
    pub fn shard_of(&self, key: &str) -> &StoreServer {
        let slot = self.shards[0].command(&["CLUSTER", "KEYSLOT", key]).integer();
        let at = [5461, 10923].iter().filter(|&&first| slot >= first).count();
        &self.shards[at]
    }
}

/// Redis with a replica, and one Sentinel that watches them.
pub struct Sentinel {
    /// The one that begins as the master comes first.
    pub stores: [StoreServer; 2],
    pub sentinel: StoreServer,
}

impl Sentinel {
    pub fn start() -> Self {
        let first = StoreServer::with(Engine::Redis, &["--repl-ping-replica-period", "1"]);
        let port = first.port().to_string();
        let replica = StoreServer::with(Engine::Redis, &["--replicaof", "127.0.0.1", &port]);
        // The master sends it nothing before its first acknowledgement, whatever both say of their link. There is
        // something to acknowledge when it was pinged.
        wait_until("the replica follows", || {
            let info = first.command(&["INFO", "replication"]);
            info.text().contains("state=online") && !info.text().contains("offset=0,")
        });
        let file = |own| {
            format!(
                "port {own}\nsentinel monitor mymaster 127.0.0.1 {port} 1\n\
                 sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n"
            )
        };
        let sentinel = StoreServer::launch(Engine::Redis, directory(), &["--sentinel"], file);
        wait_until("Sentinel knows the replica", || {
            let replicas = sentinel.command(&["SENTINEL", "REPLICAS", "mymaster"]);
            replicas
                .list()
                .iter()
                .any(|replica| replica.to_string().contains("master-link-status\", \"ok"))
        });
        Self { stores: [first, replica], sentinel }
    }

    pub fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/mymaster", self.sentinel.port())
    }

    /// The one that is the master now, as Sentinel says.
    pub fn master(&self) -> &StoreServer {
        let address = self.sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]);
        let port = address.list()[1].integer();
        let is_it = |store: &&StoreServer| i64::from(store.port()) == port;
        self.stores.iter().find(is_it).expect("is one of them")
    }

    /// Makes the replica the master, and waits until it is and Sentinel says so.
    pub fn fail_over(&self) {
        let before = self.master().port();
        wait_until("a failover begins", || {
            !self.sentinel.command(&["SENTINEL", "FAILOVER", "mymaster"]).is_error()
        });
        self.failed_over(before);
    }

    /// Waits until another than the one on this port is the master, as after `master().kill()`.
    pub fn failed_over(&self, before: u16) {
        wait_until("another is the master", || {
            let master = self.master();
            master.port() != before && master.command(&["ROLE"]).list()[0].text() == "master"
        });
    }
}
