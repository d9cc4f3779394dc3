//! Which sessions this process keeps from expiring.
//!
//! Owns [`Holds`]: calls and streams under way by session. Each tick tells the store; the one after the last has ended as well,
//! which starts the idle clock then.
//! Trap: a tick that did not reach the store must not have told it anything, so what it took is put back.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
};

use crate::{id::SessionDigest, session::lock};

#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    under_way: HashMap<SessionDigest, usize>,
    /// Those whose last call or stream has ended since the last tick.
    released: HashSet<SessionDigest>,
}

impl Holds {
    pub(super) fn hold(&self, session: SessionDigest) {
        *lock(&self.0).under_way.entry(session).or_default() += 1;
    }

    pub(super) fn release(&self, session: SessionDigest) {
        let mut held = lock(&self.0);
        let Some(count) = held.under_way.get_mut(&session) else { return };
        *count -= 1;
        if *count == 0 {
            held.under_way.remove(&session);
            held.released.insert(session);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let held = lock(&self.0);
        held.under_way.is_empty() && held.released.is_empty()
    }

    /// All that the store must be told of now: what is held, and what is held no longer.
    pub(super) fn take(&self) -> (Vec<SessionDigest>, Vec<SessionDigest>) {
        let mut held = lock(&self.0);
        let mut released = std::mem::take(&mut held.released);
        released.retain(|session| !held.under_way.contains_key(session));
        (held.under_way.keys().copied().collect(), released.into_iter().collect())
    }

    /// The store was not told of what is held no longer.
    pub(super) fn put_back(&self, released: Vec<SessionDigest>) {
        lock(&self.0).released.extend(released);
    }
}
