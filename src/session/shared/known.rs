//! What the store said last of sessions: how they began, or that they have ended.
//!
//! Owns [`Known`], bounded. How a session began never changes, so a call by one that is known needs no script but its commit.
//! Trap: another process may have ended a session that is known here, so to be known says nothing of whether it lives.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

use crate::{id::SessionDigest, session::record::Head};

/// How many sessions, and for how long after each was last asked for.
const MOST: u64 = 30_000;
const KEPT_FOR: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Known(Cache<SessionDigest, Said>);

#[derive(Clone, Debug)]
enum Said {
    Begun(Arc<Head>),
    Ended,
}

impl Known {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(MOST).time_to_idle(KEPT_FOR).build())
    }

    /// How a session began, unless that is not known here, or it has ended.
    pub(super) fn head(&self, session: SessionDigest) -> Option<Arc<Head>> {
        match self.0.get(&session)? {
            Said::Begun(head) => Some(head),
            Said::Ended => None,
        }
    }

    pub(super) fn begun(&self, head: &Arc<Head>) {
        self.0.insert(head.id.digest(), Said::Begun(Arc::clone(head)));
    }

    pub(super) fn ended(&self, session: SessionDigest) {
        self.0.insert(session, Said::Ended);
    }

    /// Whether it has ended lately, as far as is known here.
    pub(super) fn has_ended(&self, session: SessionDigest) -> bool {
        matches!(self.0.get(&session), Some(Said::Ended))
    }
}
