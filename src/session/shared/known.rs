//! What the store said last of sessions: how they began, and which have ended lately.
//!
//! Owns [`Known`], which is bounded. How a session began never changes. So where it is known, a call
//! needs no other script than its commit.
//! Trap: another process may have ended a session that is known here, so to be known says nothing of whether it lives.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

use crate::{id::SessionDigest, session::record::Head};

/// Heads, and for how long after each was last asked for.
const HEADS: u64 = 20_000;
const HEADS_FOR: Duration = Duration::from_secs(600);
/// Ends, which a conversation that begins just now may have missed.
const ENDS: u64 = 10_000;
const ENDS_FOR: Duration = Duration::from_secs(60);

/// Both have the same type, so that the cache's code is in the program once.
#[derive(Debug)]
pub(super) struct Known {
    heads: Cache<SessionDigest, Option<Arc<Head>>>,
    ended: Cache<SessionDigest, Option<Arc<Head>>>,
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            heads: Cache::builder().max_capacity(HEADS).time_to_idle(HEADS_FOR).build(),
            ended: Cache::builder().max_capacity(ENDS).time_to_live(ENDS_FOR).build(),
        }
    }

    /// How a session began, unless that is not known here.
    pub(super) fn head(&self, session: SessionDigest) -> Option<Arc<Head>> {
        self.heads.get(&session)?
    }

    pub(super) fn begun(&self, head: &Arc<Head>) {
        self.heads.insert(head.id.digest(), Some(Arc::clone(head)));
    }

    pub(super) fn ended(&self, session: SessionDigest) {
        self.ended.insert(session, None);
    }

    /// Whether it has ended lately, as far as is known here.
    pub(super) fn has_ended(&self, session: SessionDigest) -> bool {
        self.ended.get(&session).is_some()
    }
}
