//! What the sessions of a run show together of what lies between.
//!
//! Owns what no session can know alone: whose upstream session one was given, what it was called, what is left of it.
//! [`findings`](super::findings) says what it means.
//! Trap: a gateway's clients have other ids than its own sessions with the server, which are meant by "upstream".

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::ticks::Ticks;
use crate::wire::ProtocolVersion;

/// Upstream sessions that are remembered.
const MAX_UPSTREAM: usize = 100_000;
/// Ended upstream sessions that are looked for.
const MAX_ENDED: usize = 100;

#[derive(Default)]
pub(super) struct Evidence {
    /// Sessions by the revision in which they were held.
    pub(super) revisions: BTreeMap<ProtocolVersion, u32>,
    /// One that was offered instead of what was asked for.
    pub(super) offered: Option<ProtocolVersion>,
    /// A tool, and what it is called there.
    pub(super) renamed: Option<(&'static str, String)>,
    /// A server that offers nothing to see progress by.
    pub(super) without_ticks: bool,
    pub(super) progress: Vec<Ticks>,
    /// Sessions without an id.
    pub(super) nameless: u32,
    /// Sessions that no client may end.
    pub(super) undeletable: u32,
    /// Sessions that more than one process served.
    pub(super) roamed: u32,
    /// Sessions of which every request was answered in another one.
    pub(super) anew_each_time: u32,
    /// Sessions that were given the upstream session of an earlier one.
    pub(super) reused: u32,
    /// Upstream sessions, and which session was the first to be given it.
    upstream: HashMap<String, u32>,
    /// Upstream sessions whose clients have ended theirs.
    pub(super) ended: Vec<Ended>,
    pub(super) leftovers: Option<Leftovers>,
}

/// An upstream session whose client has ended its own.
pub(super) struct Ended {
    /// The number of the target.
    pub(super) target: usize,
    pub(super) id: String,
}

/// What is left of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Leftovers {
    pub(super) looked_for: u32,
    pub(super) left: u32,
}

impl Evidence {
    /// Notes which upstream session a session was given. Returns the session that was given it before.
    pub(super) fn given(&mut self, upstream: &str, session: u32) -> Option<u32> {
        let earlier = self.upstream.get(upstream).copied().filter(|earlier| *earlier != session);
        self.reused += u32::from(earlier.is_some());
        if earlier.is_none() && self.upstream.len() < MAX_UPSTREAM {
            self.upstream.insert(upstream.to_owned(), session);
        }
        earlier
    }

    /// Whether several sessions were all given the same one.
    pub(super) fn one_upstream(&self) -> bool {
        self.reused > 0 && self.upstream.len() == 1
    }

    pub(super) fn has_ended(&mut self, target: usize, id: String) {
        if self.ended.len() < MAX_ENDED {
            self.ended.push(Ended { target, id });
        }
    }
}
