//! The contract of a session store, run against every kind there is.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use mcp_echo_stateful::{
    budget::Share,
    config::{Flags, Layers, SessionConfig},
    id::{Caller, EndReason, InstanceId, SessionId},
    process::Process,
    session::{
        record::{Change, Handshake, LastEcho, QuotaExceeded, Record, Want},
        store::{Counts, Gone, NotCommitted, NotCreated, NotLoaded, SessionStore, Unavailable},
        stream::ReplayBudget,
    },
    wire::{model::LogLevel, version::ProtocolVersion},
};
use serde_json::value::RawValue;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    stores::{Cluster, Engine, StoreServer},
    support::PATIENCE,
};

/// Of sessions that are to expire.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(300);

/// Of all others: longer than any test takes, on whatever machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Where a store is: in memory, on a server of one engine, or on three shards.
pub(crate) enum Place {
    Memory,
    Alone(StoreServer),
    Shards(Cluster),
}

impl Place {
    /// One of each.
    pub(crate) fn all() -> Vec<Arc<Self>> {
        let alone = Engine::ALL.map(|engine| Self::Alone(StoreServer::start(engine)));
        let shards = Self::Shards(Cluster::start(Engine::Redis));
        [Self::Memory].into_iter().chain(alone).chain([shards]).map(Arc::new).collect()
    }

    /// What the configuration says of it, if it is shared.
    pub(crate) fn url(&self) -> Option<String> {
        match self {
            Self::Memory => None,
            Self::Alone(server) => Some(server.url()),
            Self::Shards(cluster) => Some(cluster.url()),
        }
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.url().is_some()
    }
}

/// A kind of store, empty: one in memory, or one that two replicas share. Whatever is asked of it is asked of the next of
/// them in turn.
pub(crate) struct Kind {
    pub(crate) replicas: Vec<SessionStore>,
    turn: AtomicUsize,
    pub(crate) place: Arc<Place>,
    _links: JoinSet<()>,
}

impl Deref for Kind {
    type Target = SessionStore;

    fn deref(&self) -> &SessionStore {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.replicas[turn % self.replicas.len()]
    }
}

impl Kind {
    pub(crate) async fn counts(&self) -> Counts {
        self.count().await.expect("the store can be asked")
    }

    /// Ticks all replicas, also where there seems to be nothing to do.
    pub(crate) async fn tick(&self) {
        for replica in &self.replicas {
            replica.tick().await;
            replica.count().await.expect("the store can be asked");
        }
    }

    /// At that place, by two replicas where it is shared.
    pub(crate) fn build(capacity: u64, timeout: Duration, place: &Arc<Place>) -> Self {
        let mut links = JoinSet::new();
        let namespace = format!("test-{:x}", getrandom::u64().expect("random bits"));
        let url = place.url();
        let replicas = (0..if url.is_some() { 2 } else { 1 }).map(|_| {
            let mut variables = vec![
                ("MCP_SESSION_TIMEOUT".to_owned(), timeout.as_secs_f64().to_string()),
                ("MCP_ECHO_SESSION__CAPACITY".to_owned(), capacity.to_string()),
            ];
            if let Some(url) = &url {
                variables.push(("MCP_STORE_URL".to_owned(), url.clone()));
                variables.push(("MCP_ECHO_STORE__NAMESPACE".to_owned(), namespace.clone()));
                // What is asked here is not how long a machine that is busy takes.
                variables.push(("MCP_ECHO_STORE__TIMEOUT_SECONDS".to_owned(), "10".to_owned()));
            }
            let config = Layers::merge(&Flags::default(), &variables)
                .and_then(|layers| layers.check())
                .expect("fits");
            let process = Arc::new(Process::build(&config).expect("builds"));
            if let Some(link) = process.link.clone() {
                links.spawn(async move { link.keep().await });
            }
            let session: &SessionConfig = &config.instances[4].session;
            let id = InstanceId::new(4).expect("exists");
            let share = Share::of(&process.budget, config.memory.max_instance_bytes);
            let replay = ReplayBudget::of(0, &share);
            SessionStore::build(id, session, &process, &share, &replay)
        });
        let replicas = replicas.collect();
        let place = Arc::clone(place);
        Self { replicas, turn: AtomicUsize::new(0), place, _links: links }
    }
}

/// A store of every kind.
pub(crate) fn every_kind(capacity: u64, timeout: Duration) -> Vec<Kind> {
    Place::all().iter().map(|place| Kind::build(capacity, timeout, place)).collect()
}

/// The same for what waits: with all of them at once.
async fn with_every_kind(capacity: u64, timeout: Duration, test: impl AsyncFn(&Kind)) {
    join_all(every_kind(capacity, timeout).iter().map(|store| test(store))).await;
}

pub(crate) fn handshake() -> Handshake {
    Handshake::implicit(Some(ProtocolVersion::V2025_06_18))
}

/// Of a session that lives no longer than that.
fn brief(timeout: Duration) -> Handshake {
    Handshake { timeout_millis: timeout.as_millis() as u64, ..handshake() }
}

/// The session of that id, or what became of it.
pub(crate) async fn load(store: &SessionStore, id: &str, caller: Caller) -> Result<Record, Gone> {
    store.load(id, caller, Want::Nothing).await.map_err(|error| match error {
        NotLoaded::Gone(gone) => gone,
        NotLoaded::Unavailable => panic!("the store can be asked"),
    })
}

pub(crate) async fn end(store: &SessionStore, id: SessionId, reason: EndReason) -> bool {
    store.end(id, reason).await.expect("the store can be asked")
}

#[tokio::test]
async fn a_session_is_found_by_its_owner_alone() {
    for store in every_kind(10, LONG) {
        let owner = Caller::known("user", "a");
        let session = store.create(handshake(), owner).await.expect("room");
        let id = session.head.id.to_string();
        let found = store.load(&id, owner, Want::Nothing).await.expect("found");
        assert_eq!((found.head.id, found.head.owner), (session.head.id, owner));
        for stranger in [Caller::Anonymous, Caller::known("user", "b"), Caller::known("token", "a")]
        {
            assert_eq!(load(&store, &id, stranger).await.unwrap_err(), Gone::Unknown);
        }
    }
}

#[tokio::test]
async fn a_stranger_neither_keeps_a_session_nor_learns_how_it_ended() {
    for store in every_kind(10, LONG) {
        let owner = Caller::known("user", "a");
        let (stranger, other) = (Caller::Anonymous, Caller::known("user", "b"));
        let (idle, done) = (
            store.create(brief(TIMEOUT), owner).await.expect("room").head.id,
            store.create(handshake(), owner).await.expect("room").head.id,
        );
        assert!(end(&store, done, EndReason::Client).await);
        let start = Instant::now();
        while start.elapsed() < TIMEOUT * 2 {
            for (id, caller) in [(idle, stranger), (idle, other), (done, stranger), (done, other)] {
                let found = load(&store, &id.to_string(), caller).await;
                assert_eq!(found.unwrap_err(), Gone::Unknown);
            }
            sleep(TIMEOUT / 10).await;
        }
        let find = async |id: SessionId| load(&store, &id.to_string(), owner).await.unwrap_err();
        assert_eq!(find(idle).await, Gone::Expired(TIMEOUT));
        assert_eq!(find(done).await, Gone::Terminated(EndReason::Client));
    }
}

#[tokio::test]
async fn a_shorter_life_is_over_to_the_moment() {
    for store in every_kind(10, LONG) {
        let timeout = Duration::from_millis(30);
        let create =
            async || store.create(brief(timeout), Caller::Anonymous).await.expect("room").head.id;
        let (asked, ended) = (create().await, create().await);
        create().await;
        sleep(timeout * 2).await;
        let gone = load(&store, &asked.to_string(), Caller::Anonymous).await.unwrap_err();
        assert_eq!(gone, Gone::Expired(timeout));
        assert!(!end(&store, ended, EndReason::Client).await, "it was over");
        store.end_all(EndReason::Shutdown).await.expect("asked");
        let counts = store.counts().await;
        assert_eq!((counts.live, counts.ended), (0, [3, 0, 0, 0]));
    }
}

#[tokio::test]
async fn every_end_is_counted_once_and_remembered() {
    for store in every_kind(10, LONG) {
        let create = async |handshake| {
            store.create(handshake, Caller::Anonymous).await.expect("room").head.id
        };
        let (client, admin) = (create(handshake()).await, create(handshake()).await);
        let idle = create(brief(TIMEOUT)).await;
        assert!(end(&store, client, EndReason::Client).await);
        assert!(!end(&store, client, EndReason::Admin).await, "only once");
        assert!(end(&store, admin, EndReason::Admin).await);
        sleep(TIMEOUT * 2).await;
        let find = async |id: SessionId| {
            load(&store, &id.to_string(), Caller::Anonymous).await.unwrap_err()
        };
        assert_eq!(find(client).await, Gone::Terminated(EndReason::Client));
        assert_eq!(find(admin).await, Gone::Terminated(EndReason::Admin));
        assert_eq!(find(idle).await, Gone::Expired(TIMEOUT));
        assert!(!end(&store, idle, EndReason::Client).await);
        let counts = store.counts().await;
        assert_eq!((counts.created, counts.live, counts.ended), (3, 0, [1, 1, 1, 0]));
    }
}

#[tokio::test]
async fn a_full_store_refuses_and_keeps_what_it_has() {
    for store in every_kind(50, LONG) {
        let create = || store.create(handshake(), Caller::Anonymous);
        let created = join_all((0..50).map(|_| create())).await;
        let ids: Vec<_> = created.iter().map(|made| made.as_ref().expect("room").head.id).collect();
        for refused in join_all((0..200).map(|_| create())).await {
            let refused = refused.unwrap_err();
            assert!(matches!(refused, NotCreated::Full { capacity: 50, retry_after_seconds: 30 }));
        }
        let texts: Vec<_> = ids.iter().map(ToString::to_string).collect();
        for found in join_all(texts.iter().map(|id| load(&store, id, Caller::Anonymous))).await {
            found.expect("still live");
        }
        assert_eq!(store.list().await.expect("asked").len(), 50);
        let counts = store.counts().await;
        assert_eq!((counts.live, counts.refused), (50, 200), "{:?}", store.place.url());
    }
}

#[tokio::test]
async fn room_comes_back_by_expiry_alone() {
    for store in every_kind(50, LONG) {
        let create = |handshake| store.create(handshake, Caller::Anonymous);
        for made in join_all((0..50).map(|_| create(brief(TIMEOUT)))).await {
            made.expect("room");
        }
        // Nobody ticks.
        sleep(TIMEOUT * 2).await;
        create(handshake()).await.expect("room again");
        // It made room for one; what else was due when is a matter of how fast this machine is.
        store.tick().await;
        let counts = store.counts().await;
        assert_eq!((counts.live, counts.refused), (1, 0), "{:?}", store.place.url());
    }
}

#[tokio::test]
async fn who_finds_no_room_is_told_when_there_may_be_some() {
    for place in Place::all() {
        for (timeout, seconds) in [(TIMEOUT, 1), (Duration::from_secs(7), 7), (LONG, 30)] {
            let store = Kind::build(1, timeout, &place);
            let refused = loop {
                // Where the machine stood still, the one before is over.
                if let Err(refused) = store.create(handshake(), Caller::Anonymous).await {
                    break refused;
                }
            };
            assert_eq!(refused, NotCreated::Full { capacity: 1, retry_after_seconds: seconds });
        }
    }
}

/// Also those that are due when a shared store is told that they are held.
#[tokio::test]
async fn however_many_are_held_none_expires() {
    let timeout = Duration::from_secs(6);
    with_every_kind(1000, timeout, async |store| {
        let replica = &store.replicas[0];
        let hold = async |_| {
            let made = replica.create(handshake(), Caller::Anonymous).await.expect("room");
            replica.hold(made.head.id)
        };
        // More than one script is told of.
        let mut held = Vec::new();
        for _ in 0..6 {
            held.extend(join_all((0..50).map(hold)).await);
        }
        sleep(timeout).await;
        replica.tick().await;
        assert_eq!(store.counts().await.live, 300, "{:?}", store.place.url());
        drop(held);
        let start = Instant::now();
        while store.counts().await.live > 0 {
            assert!(start.elapsed() < PATIENCE, "{:?}", store.place.url());
            store.tick().await;
            sleep(TIMEOUT / 6).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_held_session_does_not_expire_and_listing_does_not_hold() {
    let timeout = Duration::from_secs(1);
    with_every_kind(10, timeout, async |store| {
        let held = store.create(handshake(), Caller::Anonymous).await.expect("room");
        store.create(handshake(), Caller::Anonymous).await.expect("room");
        let (hold, second) = (store.hold(held.head.id), store.hold(held.head.id));
        let start = Instant::now();
        while start.elapsed() < timeout * 3 {
            store.tick().await;
            let _ = store.list().await;
            sleep(timeout / 20).await;
        }
        drop(hold);
        assert_eq!(store.counts().await.live, 1, "the one that is held");
        // The last hold to go starts the idle clock.
        drop(second);
        store.tick().await;
        assert_eq!(store.counts().await.live, 1);
        sleep(timeout * 2).await;
        store.tick().await;
        assert_eq!(store.counts().await.live, 0);
    })
    .await;
}

#[tokio::test]
async fn ended_and_expired_races_never_lose_count() {
    for store in every_kind(1000, TIMEOUT) {
        let store = Arc::new(store);
        let workers = (0..8).map(|worker| {
            let store = Arc::clone(&store);
            async move {
                for round in 0..100 {
                    let session = store.create(handshake(), Caller::Anonymous).await.expect("room");
                    if (round + worker) % 3 == 0 {
                        sleep(Duration::from_millis(3)).await;
                        end(&store, session.head.id, EndReason::Client).await;
                    }
                    store.tick().await;
                }
            }
        });
        join_all(workers).await;
        let counts = store.counts().await;
        assert_eq!(counts.live, counts.created - counts.ended.iter().sum::<u64>());
        store.end_all(EndReason::Shutdown).await.expect("asked");
        let counts = store.counts().await;
        assert_eq!((counts.live, counts.created), (0, 800));
        assert_eq!(counts.ended.iter().sum::<u64>(), 800);
    }
}

#[tokio::test]
async fn the_last_to_end_are_the_ones_remembered() {
    for store in every_kind(100, LONG) {
        let mut ids = Vec::new();
        let begin_and_end = async || {
            let session = store.create(handshake(), Caller::Anonymous).await.expect("room");
            assert!(end(&store, session.head.id, EndReason::Client).await);
            session.head.id
        };
        // Those of one turn in any order.
        for _ in 0..240 {
            ids.extend(join_all((0..50).map(|_| begin_and_end())).await);
        }
        let find = async |id: &SessionId| {
            load(&store, &id.to_string(), Caller::Anonymous).await.unwrap_err()
        };
        for turn in ids[2_000..].chunks(50) {
            for gone in join_all(turn.iter().map(find)).await {
                assert_eq!(gone, Gone::Terminated(EndReason::Client));
            }
        }
        assert_eq!(find(&ids[0]).await, Gone::Unknown);
    }
}

/// What one session may hold.
pub(crate) fn quota(max_data_bytes: usize, max_data_keys: usize) -> SessionConfig {
    let config = Layers::merge(&Flags::default(), &[]).and_then(|layers| layers.check());
    let session = config.expect("fits").instances[4].session.clone();
    SessionConfig { max_data_bytes, max_data_keys, ..session }
}

fn json(text: &str) -> Arc<RawValue> {
    RawValue::from_string(text.to_owned()).expect("is JSON").into()
}

#[tokio::test]
async fn a_change_is_made_as_a_whole_or_not_at_all() {
    for store in every_kind(10, LONG) {
        let session = store.create(handshake(), Caller::Anonymous).await.expect("room");
        let quota = quota(12, 2);
        let commit = async |change: Change<'_>| store.commit(&session, change, &quota).await;
        let (one, two, large) = (json("1"), json("[2]"), json("\"0123456789\""));
        let set = |key, value| Change { set: Some((key, value)), ..Change::COUNT };

        let after = commit(set("a", &one)).await.expect("fits");
        assert_eq!((after.tally.requests, after.replaced, after.data_bytes), (1, false, 2));
        assert!(after.data().values().is_empty(), "nobody asked for it");
        let echo = Change { echo: Some("hello"), want: Want::Data, ..set("a", &two) };
        let after = commit(echo).await.expect("fits");
        assert_eq!((after.tally.requests, after.replaced, after.data_bytes), (2, true, 4));
        assert_eq!(after.data().get("a").map(RawValue::get), Some("[2]"));
        commit(set("b", &one)).await.expect("fits");

        // What is refused leaves no trace: neither its count nor its echo.
        for (key, value, expected) in [
            ("a", &large, QuotaExceeded::Bytes { needed: 15, limit: 12 }),
            ("c", &one, QuotaExceeded::Keys { limit: 2 }),
        ] {
            let change = Change { echo: Some("lost"), initialized: true, ..set(key, value) };
            assert_eq!(commit(change).await.unwrap_err(), NotCommitted::Quota(expected));
        }
        let read = async |want| commit(Change { want, ..Change::default() }).await.expect("live");
        let echo = read(Want::Echo).await;
        assert_eq!(
            (echo.last_echo(), echo.tally.requests, echo.initialized),
            (LastEcho::Kept("hello"), 3, false)
        );
        let keys: Vec<Box<str>> = vec!["a".into(), "b".into()];
        assert_eq!(read(Want::Data).await.data().keys(), keys);
        assert_eq!(store.counts().await.data_bytes, 6 + "hello".len() as u64);

        let level = Some(LogLevel::Error);
        let change = Change { initialized: true, log_level: level, ..Change::default() };
        commit(change).await.expect("live");
        let loaded =
            load(&store, &session.head.id.to_string(), Caller::Anonymous).await.expect("live");
        assert_eq!((loaded.initialized, loaded.log_level), (true, LogLevel::Error));

        assert!(end(&store, session.head.id, EndReason::Client).await);
        assert_eq!(store.counts().await.data_bytes, 0);
        let gone = NotCommitted::Gone(Gone::Terminated(EndReason::Client));
        assert_eq!(commit(set("a", &one)).await.unwrap_err(), gone);
        assert_eq!(store.counts().await.data_bytes, 0);
    }
}

#[tokio::test]
async fn who_reads_keeps_what_was_there_and_who_writes_goes_on() {
    for store in every_kind(10, LONG) {
        let session = store.create(handshake(), Caller::Anonymous).await.expect("room");
        let quota = quota(1000, 100);
        let set = async |key: &str, value: &str| {
            let change =
                Change { set: Some((key, &json(value))), want: Want::Data, ..Change::default() };
            store.commit(&session, change, &quota).await.expect("fits")
        };
        let before = set("k", "1").await;
        let after = set("k", "2").await;
        assert_eq!(before.data().get("k").map(RawValue::get), Some("1"));
        assert_eq!(after.data().get("k").map(RawValue::get), Some("2"));
    }
}

#[tokio::test]
async fn counts_of_one_session_are_never_lost() {
    for store in every_kind(10, LONG) {
        let session = store.create(handshake(), Caller::Anonymous).await.expect("room");
        let quota = quota(1000, 100);
        let workers = (0..8).map(|_| async {
            for _ in 0..50 {
                store.commit(&session, Change::COUNT, &quota).await.expect("live");
                tokio::task::yield_now().await;
            }
        });
        join_all(workers).await;
        let loaded =
            load(&store, &session.head.id.to_string(), Caller::Anonymous).await.expect("live");
        assert_eq!(loaded.tally.requests, 400);
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_says_so_and_loses_nothing() {
    for store in every_kind(10, LONG) {
        let session = store.create(handshake(), Caller::Anonymous).await.expect("room");
        let (id, quota) = (session.head.id.to_string(), quota(1000, 100));
        store.replicas.iter().for_each(|replica| replica.set_available(false));
        let created = store.create(handshake(), Caller::Anonymous).await.unwrap_err();
        assert_eq!(created, NotCreated::Unavailable(Unavailable));
        let loaded = store.load(&id, Caller::Anonymous, Want::Nothing).await.unwrap_err();
        assert_eq!(loaded, NotLoaded::Unavailable);
        let committed = store.commit(&session, Change::COUNT, &quota).await.unwrap_err();
        assert_eq!(committed, NotCommitted::Unavailable);
        assert_eq!(store.end(session.head.id, EndReason::Client).await, Err(Unavailable));
        assert!(store.list().await.is_err());
        store.replicas.iter().for_each(|replica| replica.set_available(true));
        let loaded = load(&store, &id, Caller::Anonymous).await.expect("still live");
        assert_eq!(loaded.tally.requests, 0);
        assert_eq!(store.counts().await.created, 1);
    }
}
