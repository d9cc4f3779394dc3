//! A store of several servers: which of them has a key.
//!
//! Owns [`Cluster`]: a line to each shard, and one to any node (the guide) that tells which shard has which slots and on which
//! is heard what is published anywhere. A node that says MOVED has done nothing, so the command goes on to where it points.
//! Trap: while a slot is moved key by key (ASK), a script finds some of a session's keys here and some there, and would take
//! the rest for missing. So nothing is asked of such a slot until it has moved.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use redis::{Cmd, Value, cmd};
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    address::Place,
    bells::Bells,
    dial::{Dialler, Target},
    line::Line,
    lock,
    slot::slot_of,
    trouble::Trouble,
};

/// Between two questions for the shards.
const PAUSE: Duration = Duration::from_millis(100);
/// The guide is asked so often although nothing has happened, so that one that is silent is noticed.
const PERIOD: Duration = Duration::from_secs(3);
/// How long a node is believed before the guide is.
const BELIEVED: Duration = Duration::from_secs(2);
/// How long a node may take to tell them.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often a command is sent on from node to node.
const MOVES: usize = 4;

/// Lines to all shards.
#[derive(Debug)]
pub(super) struct Cluster {
    dialler: Arc<Dialler>,
    guide: Arc<Line>,
    shards: watch::Sender<Shards>,
    since: Instant,
    /// The shards may be others than those that are known.
    changed: Arc<Notify>,
}

/// Which line leads to which slots.
#[derive(Debug, Default)]
struct Shards {
    lines: HashMap<Place, Arc<Line>>,
    /// First and last slot.
    slots: Vec<(u16, u16, Arc<Line>)>,
    /// What nodes have said, and when: the guide may hear of it later.
    moved: HashMap<u16, (Arc<Line>, Instant)>,
}

impl Shards {
    fn line_of(&self, slot: u16) -> Option<&Arc<Line>> {
        let known = || self.slots.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        let moved = self.moved.get(&slot).map(|(line, _)| line);
        moved.or_else(|| known().map(|(_, _, line)| line))
    }
}

/// A range of slots and where they are.
pub(super) type Shard = (u16, u16, Place);

impl Cluster {
    pub(super) fn new(nodes: Vec<Place>, dialler: &Arc<Dialler>, bells: &Arc<Bells>) -> Self {
        let changed = Arc::default();
        let guide = Line::new(Target::Node(Mutex::new(nodes)), dialler, bells, &changed);
        Self {
            dialler: Arc::clone(dialler),
            guide: Arc::new(guide),
            shards: watch::Sender::default(),
            since: Instant::now(),
            changed,
        }
    }

    /// Asks the shard that has this key.
    pub(super) async fn ask(
        &self,
        key: &str,
        command: &Cmd,
        promised: bool,
        until: Instant,
    ) -> Result<Value, Trouble> {
        let slot = slot_of(key.as_bytes());
        let mut line = self.line_of(slot, until).await?;
        for _ in 0..MOVES {
            let place = match line.ask(command, promised, until).await {
                Err(Trouble::Moved(place)) => place,
                answer => return answer,
            };
            line = self.moved(slot, place, &line);
        }
        Err(Trouble::Refused("the nodes do not agree on where the slot is".to_owned()))
    }

    /// The line to a slot. Before the shards are known, it is waited for as for a connection.
    async fn line_of(&self, slot: u16, until: Instant) -> Result<Arc<Line>, Trouble> {
        let mut shards = self.shards.subscribe();
        let until = until.min(self.since + self.dialler.demands.patience);
        let known = shards.wait_for(|shards| shards.line_of(slot).is_some());
        match timeout_at(until, known).await {
            Ok(Ok(shards)) => shards.line_of(slot).cloned().ok_or(Trouble::Down),
            Ok(Err(_)) | Err(_) => Err(Trouble::Down),
        }
    }

    /// The line to where a slot is now.
    fn moved(&self, slot: u16, mut place: Place, from: &Line) -> Arc<Line> {
        if let (true, Target::Server(asked)) = (place.host.is_empty(), from.target()) {
            place.host.clone_from(&asked.host);
        }
        let mut found = None;
        self.shards.send_modify(|shards| {
            let line = self.line_to(&mut shards.lines, place);
            shards.moved.insert(slot, (Arc::clone(&line), Instant::now()));
            found = Some(line);
        });
        self.changed.notify_one();
        found.unwrap_or_else(|| Arc::clone(&self.guide))
    }

    fn line_to(&self, lines: &mut HashMap<Place, Arc<Line>>, place: Place) -> Arc<Line> {
        let new = || {
            let target = || Target::Server(place.clone());
            // What is published is heard by the guide.
            let line = Line::new(target(), &self.dialler, &Arc::default(), &self.changed);
            Arc::new(line.with_disk(target()))
        };
        Arc::clone(lines.entry(place.clone()).or_insert_with(new))
    }

    /// Keeps all lines, and finds out which there are.
    pub(super) async fn keep(&self) {
        let mut keepers = JoinSet::new();
        let mut kept = HashMap::new();
        let guide = Arc::clone(&self.guide);
        keepers.spawn(async move { guide.keep().await });
        loop {
            let _ = timeout(PERIOD, self.changed.notified()).await;
            self.keep_lines(&mut keepers, &mut kept);
            self.refresh().await;
            self.keep_lines(&mut keepers, &mut kept);
            while keepers.try_join_next().is_some() {}
            sleep(PAUSE).await;
        }
    }

    fn keep_lines(&self, keepers: &mut JoinSet<()>, kept: &mut HashMap<Place, AbortHandle>) {
        let shards = self.shards.borrow();
        for (place, line) in &shards.lines {
            kept.entry(place.clone()).or_insert_with(|| {
                let line = Arc::clone(line);
                keepers.spawn(async move { line.keep().await })
            });
        }
        kept.retain(|place, keeper| {
            let stays = shards.lines.contains_key(place);
            if !stays {
                keeper.abort();
            }
            stays
        });
    }

    /// Asks the guide for the shards.
    async fn refresh(&self) {
        let Some(asked) = self.guide.place() else { return };
        let told = self.guide.ask(&slots(), false, Instant::now() + PATIENCE).await;
        let told = told.ok().and_then(|value| read_shards(value, &asked)).unwrap_or_default();
        if told.is_empty() {
            // It knows nothing of the others, or does not say it: the next one may.
            return self.guide.give_up_this();
        }
        if let Target::Node(nodes) = self.guide.target() {
            let mut nodes = lock(nodes);
            for (_, _, place) in &told {
                if !nodes.contains(place) {
                    nodes.push(place.clone());
                }
            }
        }
        self.shards.send_modify(|shards| {
            let old = std::mem::take(shards);
            let mut lines = HashMap::new();
            let mut keep = |place: Place| {
                if let Some(line) = old.lines.get(&place) {
                    lines.insert(place.clone(), Arc::clone(line));
                }
                self.line_to(&mut lines, place)
            };
            for (first, last, place) in told {
                shards.slots.push((first, last, keep(place)));
            }
            for (slot, (line, when)) in old.moved {
                if let (Target::Server(place), true) = (line.target(), when.elapsed() < BELIEVED) {
                    shards.moved.insert(slot, (keep(place.clone()), when));
                }
            }
            shards.lines = lines;
        });
    }

    /// Whether all shards are known and connected.
    pub(super) fn is_up(&self) -> bool {
        let shards = self.shards.borrow();
        !shards.slots.is_empty() && shards.slots.iter().all(|(_, _, line)| line.is_up())
    }

    /// The line to any node.
    pub(super) fn guide(&self) -> &Line {
        &self.guide
    }
}

/// The command whose answer [`read_shards`] reads.
pub(super) fn slots() -> Cmd {
    let mut command = cmd("CLUSTER");
    command.arg("SLOTS");
    command
}

/// What `CLUSTER SLOTS` says, asked at that place, which a node may leave out of its own.
pub(super) fn read_shards(value: Value, asked: &Place) -> Option<Vec<Shard>> {
    type Node = (Option<String>, u16);
    let Value::Array(ranges) = value else { return None };
    let read = |range| {
        let Value::Array(parts) = range else { return None };
        let mut parts = parts.into_iter();
        let mut slot = || redis::from_redis_value::<u16>(parts.next()?).ok();
        let (first, last) = (slot()?, slot()?);
        let Value::Array(mut node) = parts.next()? else { return None };
        node.truncate(2);
        let (host, port): Node = redis::from_redis_value(Value::Array(node)).ok()?;
        let host = host.filter(|host| !host.is_empty() && host != "?");
        Some((first, last, Place { host: host.unwrap_or_else(|| asked.host.clone()), port }))
    };
    ranges.into_iter().map(read).collect()
}
