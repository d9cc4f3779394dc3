//! The contract of a session store, run against every kind there is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mcp_echo_stateful::{
    auth::Caller,
    config::{Flags, Layers, SessionConfig},
    instance::Process,
    mcp::version::ProtocolVersion,
    place::InstanceId,
    session::{
        EndReason, Handshake, SessionId,
        store::{Gone, Refused, SessionStore},
    },
};
use tokio::time::sleep;

pub(crate) const TIMEOUT: Duration = Duration::from_millis(300);

/// A store of every kind, empty.
pub(crate) fn every_kind(capacity: u64) -> Vec<SessionStore> {
    let variables = [
        ("MCP_SESSION_TIMEOUT".to_owned(), TIMEOUT.as_secs_f64().to_string()),
        ("MCP_ECHO_SESSION__CAPACITY".to_owned(), capacity.to_string()),
    ];
    let config = Layers::merge(&Flags::default(), &variables)
        .and_then(|layers| layers.check())
        .expect("fits");
    let process = Arc::new(Process::build(&config).expect("builds"));
    let session: &SessionConfig = &config.instances[4].session;
    let id = InstanceId::new(4).expect("exists");
    vec![SessionStore::in_memory(id, session, &process)]
}

pub(crate) fn handshake() -> Handshake {
    Handshake::implicit(Some(ProtocolVersion::V2025_06_18))
}

#[tokio::test]
async fn a_session_is_found_by_its_owner_alone() {
    for store in every_kind(10) {
        let owner = Caller::known("user", "a");
        let session = store.create(handshake(), owner).await.expect("room");
        let id = session.id.to_string();
        assert!(Arc::ptr_eq(&store.find(&id, owner).await.expect("found"), &session));
        for stranger in [Caller::Anonymous, Caller::known("user", "b"), Caller::known("token", "a")]
        {
            assert_eq!(store.find(&id, stranger).await.unwrap_err(), Gone::Unknown);
        }
    }
}

#[tokio::test]
async fn a_stranger_neither_keeps_a_session_nor_learns_how_it_ended() {
    for store in every_kind(10) {
        let owner = Caller::known("user", "a");
        let (stranger, other) = (Caller::Anonymous, Caller::known("user", "b"));
        let (idle, done) = (
            store.create(handshake(), owner).await.expect("room").id,
            store.create(handshake(), owner).await.expect("room").id,
        );
        assert!(store.end(done, EndReason::Client).await);
        let start = Instant::now();
        while start.elapsed() < TIMEOUT * 2 {
            for (id, caller) in [(idle, stranger), (idle, other), (done, stranger), (done, other)] {
                let found = store.find(&id.to_string(), caller).await;
                assert_eq!(found.unwrap_err(), Gone::Unknown);
            }
            sleep(TIMEOUT / 10).await;
        }
        let find = async |id: SessionId| store.find(&id.to_string(), owner).await.unwrap_err();
        assert_eq!(find(idle).await, Gone::Expired(TIMEOUT));
        assert_eq!(find(done).await, Gone::Terminated(EndReason::Client));
    }
}

#[tokio::test]
async fn a_shorter_life_is_over_to_the_moment() {
    for store in every_kind(10) {
        let timeout = Duration::from_millis(30);
        let create = async || {
            let handshake = Handshake { timeout: Some(timeout), ..handshake() };
            store.create(handshake, Caller::Anonymous).await.expect("room").id
        };
        let (asked, ended) = (create().await, create().await);
        create().await;
        sleep(timeout * 2).await;
        let gone = store.find(&asked.to_string(), Caller::Anonymous).await.unwrap_err();
        assert_eq!(gone, Gone::Expired(timeout));
        assert!(!store.end(ended, EndReason::Client).await, "it was over");
        store.end_all(EndReason::Shutdown).await;
        let counts = store.counts();
        assert_eq!((counts.live, counts.ended), (0, [3, 0, 0, 0]));
    }
}

#[tokio::test]
async fn the_ends_that_are_remembered_are_the_last_ones() {
    for store in every_kind(10) {
        let mut last = Vec::new();
        for number in 0..10_200 {
            let id = store.create(handshake(), Caller::Anonymous).await.expect("room").id;
            store.end(id, EndReason::Client).await;
            if number >= 10_000 {
                last.push(id.to_string());
            }
        }
        for id in last {
            let gone = store.find(&id, Caller::Anonymous).await.unwrap_err();
            assert_eq!(gone, Gone::Terminated(EndReason::Client));
        }
    }
}

#[tokio::test]
async fn every_end_is_counted_once_and_remembered() {
    for store in every_kind(10) {
        let create = async || store.create(handshake(), Caller::Anonymous).await.expect("room").id;
        let (client, admin, idle) = (create().await, create().await, create().await);
        assert!(store.end(client, EndReason::Client).await);
        assert!(!store.end(client, EndReason::Admin).await, "only once");
        assert!(store.end(admin, EndReason::Admin).await);
        sleep(TIMEOUT * 2).await;
        let find =
            async |id: SessionId| store.find(&id.to_string(), Caller::Anonymous).await.unwrap_err();
        assert_eq!(find(client).await, Gone::Terminated(EndReason::Client));
        assert_eq!(find(admin).await, Gone::Terminated(EndReason::Admin));
        assert_eq!(find(idle).await, Gone::Expired(TIMEOUT));
        assert!(!store.end(idle, EndReason::Client).await);
        let counts = store.counts();
        assert_eq!((counts.created, counts.live, counts.ended), (3, 0, [1, 1, 1, 0]));
    }
}

#[tokio::test]
async fn a_full_store_refuses_and_keeps_what_it_has() {
    for store in every_kind(50) {
        let mut ids = Vec::new();
        for _ in 0..50 {
            ids.push(store.create(handshake(), Caller::Anonymous).await.expect("room").id);
        }
        for _ in 0..200 {
            let refused = store.create(handshake(), Caller::Anonymous).await.unwrap_err();
            assert!(matches!(refused, Refused::Full { capacity: 50, retry_after_seconds: 1 }));
        }
        for id in &ids {
            store.find(&id.to_string(), Caller::Anonymous).await.expect("still live");
        }
        assert_eq!(store.list().await.len(), 50);
        // Room comes back by expiry alone, although nobody ticks.
        sleep(TIMEOUT * 2).await;
        store.create(handshake(), Caller::Anonymous).await.expect("room again");
        assert_eq!((store.counts().live, store.counts().refused), (1, 200));
    }
}

#[tokio::test]
async fn a_held_session_does_not_expire_and_listing_does_not_hold() {
    for store in every_kind(10) {
        let held = store.create(handshake(), Caller::Anonymous).await.expect("room");
        store.create(handshake(), Caller::Anonymous).await.expect("room");
        let (hold, second) = (store.hold(&held), store.hold(&held));
        let start = Instant::now();
        while start.elapsed() < TIMEOUT * 3 {
            store.tick().await;
            let _ = store.list().await;
            sleep(TIMEOUT / 6).await;
        }
        drop(hold);
        assert_eq!(store.counts().live, 1, "the one that is held");
        // The last hold to go starts the idle clock.
        drop(second);
        store.tick().await;
        assert_eq!(store.counts().live, 1);
        sleep(TIMEOUT * 2).await;
        store.tick().await;
        assert_eq!(store.counts().live, 0);
    }
}

#[tokio::test]
async fn ended_and_expired_races_never_lose_count() {
    for store in every_kind(1000) {
        let store = Arc::new(store);
        let workers = (0..8).map(|worker| {
            let store = Arc::clone(&store);
            async move {
                for round in 0..100 {
                    let session = store.create(handshake(), Caller::Anonymous).await.expect("room");
                    if (round + worker) % 3 == 0 {
                        sleep(Duration::from_millis(3)).await;
                        store.end(session.id, EndReason::Client).await;
                    }
                    store.tick().await;
                }
            }
        });
        futures_util::future::join_all(workers).await;
        let counts = store.counts();
        assert_eq!(counts.live, counts.created - counts.ended.iter().sum::<u64>());
        store.end_all(EndReason::Shutdown).await;
        let counts = store.counts();
        assert_eq!((counts.live, counts.created), (0, 800));
        assert_eq!(counts.ended.iter().sum::<u64>(), 800);
    }
}

#[tokio::test]
async fn the_last_to_end_are_the_ones_remembered() {
    for store in every_kind(10) {
        let mut ids = Vec::new();
        for _ in 0..12_000 {
            let session = store.create(handshake(), Caller::Anonymous).await.expect("room");
            ids.push(session.id);
            assert!(store.end(session.id, EndReason::Client).await);
        }
        for id in &ids[2_000..] {
            let gone = store.find(&id.to_string(), Caller::Anonymous).await.unwrap_err();
            assert_eq!(gone, Gone::Terminated(EndReason::Client));
        }
        let forgotten = store.find(&ids[0].to_string(), Caller::Anonymous).await.unwrap_err();
        assert_eq!(forgotten, Gone::Unknown);
    }
}
