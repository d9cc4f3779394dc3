//! What a probe has found so far, in bounded memory.
//!
//! Owns the counts, the latencies by instance, the processes that answered, and which live session has which id. No
//! table grows without limit with what peers send.
//! Trap: headers give a process's name and boot, bodies its tag and boot. Only an answer with both shows that they belong
//! to the same process.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    time::Duration,
};

use hdrhistogram::Histogram;

use super::{
    evidence::Evidence,
    verdict::{Cause, Defect, Place, Process, Reason},
};
use crate::wire::Era;

/// Broken sessions that the report shows.
const MAX_EXAMPLES: usize = 20;
/// Processes that are counted separately.
const MAX_PROCESSES: usize = 64;
/// Longest latency that can be recorded: an hour, in microseconds.
const MAX_LATENCY: u64 = 3_600_000_000;

/// How many sessions ended in which way. For all but `whole`, see [`Defect`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Verdicts {
    pub(super) whole: u32,
    pub(super) lost: u32,
    pub(super) misrouted: u32,
    pub(super) crossed: u32,
    pub(super) failed: u32,
}

impl Verdicts {
    pub(super) const fn total(&self) -> u32 {
        self.whole + self.lost + self.misrouted + self.crossed + self.failed
    }

    pub(super) const fn rows(&self) -> [(&'static str, u32); 5] {
        let Self { whole, lost, misrouted, crossed, failed } = *self;
        [
            ("whole", whole),
            ("lost", lost),
            ("misrouted", misrouted),
            ("crossed", crossed),
            ("failed", failed),
        ]
    }

    fn count(&mut self, ended: Result<(), &Defect>) {
        *match ended {
            Ok(()) => &mut self.whole,
            Err(Defect::Lost(_)) => &mut self.lost,
            Err(Defect::Misrouted { .. }) => &mut self.misrouted,
            Err(Defect::Crossed(_)) => &mut self.crossed,
            Err(Defect::Failed(..)) => &mut self.failed,
        } += 1;
    }
}

/// A broken session.
pub(super) struct Example {
    /// Its number in this run, from 0.
    pub(super) session: u32,
    pub(super) era: Era,
    pub(super) host: String,
    /// The step at which it broke.
    pub(super) at: &'static str,
    pub(super) defect: Defect,
}

/// Who created misrouted sessions and who answered: places in [`Tally::processes`], with the instances if the process is
/// the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    pub(super) minted_by: (Option<u8>, usize),
    pub(super) served_by: (Option<u8>, usize),
}

#[derive(Default)]
pub(super) struct Tally {
    /// Of both eras together.
    pub(super) verdicts: Verdicts,
    pub(super) sessioned: Verdicts,
    pub(super) stateless: Verdicts,
    /// With and without an answer.
    pub(super) requests: u64,
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Failures by cause: how many, and the first one's detail.
    pub(super) causes: BTreeMap<Cause, (u64, String)>,
    /// Why sessions were lost.
    pub(super) reasons: BTreeMap<Reason, u32>,
    /// How sessions were misrouted.
    pub(super) routes: BTreeMap<Route, u32>,
    /// Processes, and how many sessions each of them created.
    pub(super) processes: Vec<(Process, u32)>,
    /// By the instance that answered, if it said so. Microseconds.
    pub(super) latencies: BTreeMap<Option<u8>, Histogram<u64>>,
    /// The first broken sessions.
    pub(super) examples: Vec<Example>,
    /// What they show together.
    pub(super) evidence: Evidence,
    /// Session numbers by the ids of live sessions, both the client's and the server's.
    ids: HashMap<String, u32>,
}

impl Tally {
    pub(super) fn answered(&mut self, status: u16, served_by: &Place, took: Option<Duration>) {
        self.requests += 1;
        *self.statuses.entry(status).or_default() += 1;
        self.learn(&served_by.process);
        let Some(took) = took else { return };
        // There are ten instances; other numbers must not make the table grow.
        let instance = served_by.instance.filter(|number| *number < 10);
        let histogram = match self.latencies.entry(instance) {
            Entry::Occupied(known) => known.into_mut(),
            // Fails only for invalid bounds.
            Entry::Vacant(new) => match Histogram::new_with_bounds(1, MAX_LATENCY, 3) {
                Ok(histogram) => new.insert(histogram),
                Err(_) => return,
            },
        };
        let micros = u64::try_from(took.as_micros()).unwrap_or(MAX_LATENCY);
        histogram.saturating_record(micros.max(1));
    }

    /// Counts a session that was created there.
    pub(super) fn minted(&mut self, by: &Place) {
        if let Some((_, minted)) = self.learn(&by.process).and_then(|at| self.processes.get_mut(at))
        {
            *minted += 1;
        }
    }

    /// The index of that process in the list, to which it is added if it is new; `None` if the list is full.
    pub(super) fn learn(&mut self, process: &Process) -> Option<usize> {
        // All answers that say nothing of their process count as one, and never as a known one.
        let same = |known: &Process| {
            known.is_unknown() == process.is_unknown()
                && known.may_be(process)
                && (process.is_unknown() || shares(known, process))
        };
        if let Some(at) = self.processes.iter().position(|(known, _)| same(known)) {
            self.processes[at].0.learn(process);
            return Some(at);
        }
        if self.processes.len() == MAX_PROCESSES {
            return None;
        }
        self.processes.push((process.clone(), 0));
        Some(self.processes.len() - 1)
    }

    /// Whether so many sessions found nobody, and no request has been answered.
    pub(super) fn has_failed_to_reach(&self, attempts: usize) -> bool {
        self.statuses.is_empty() && self.unreached() as usize >= attempts
    }

    fn unreached(&self) -> u64 {
        let of = |cause| self.causes.get(&cause).map_or(0, |(sessions, _)| *sessions);
        of(Cause::Connect) + of(Cause::Timeout)
    }

    /// Why nobody was reached at all, by any session.
    pub(super) fn unreachable(&self) -> Option<&str> {
        let alone = self.causes.len() == 1 && self.has_failed_to_reach(1);
        let (_, (_, first)) = self.causes.first_key_value().filter(|_| alone)?;
        Some(first)
    }

    /// Registers a session's id. Fails with the number of another live session that has the same id.
    pub(super) fn claim(&mut self, id: &str, session: u32) -> Result<(), u32> {
        let owner = *self.ids.entry(id.to_owned()).or_insert(session);
        if owner == session { Ok(()) } else { Err(owner) }
    }

    /// The live session that has that id.
    pub(super) fn owner(&self, id: &str) -> Option<u32> {
        self.ids.get(id).copied()
    }

    /// Forgets ids of a session that has ended.
    pub(super) fn release<'a>(&mut self, session: u32, ids: impl IntoIterator<Item = &'a String>) {
        for id in ids {
            if self.owner(id) == Some(session) {
                self.ids.remove(id);
            }
        }
    }

    /// Counts a session that has ended, or is broken.
    pub(super) fn ended(&mut self, era: Era, broken: Option<Example>) {
        let ended = broken.as_ref().map_or(Ok(()), |example| Err(&example.defect));
        let of_era = match era {
            Era::Sessioned => &mut self.sessioned,
            Era::Stateless => &mut self.stateless,
        };
        for verdicts in [&mut self.verdicts, of_era] {
            verdicts.count(ended);
        }
        let Some(example) = broken else { return };
        match &example.defect {
            Defect::Lost(reason) => *self.reasons.entry(*reason).or_default() += 1,
            Defect::Misrouted { minted_by, served_by } => {
                let to = self.learn(&served_by.process);
                // Before the session exists, only the instance that was asked is known, not the process.
                let from = match minted_by.process.is_unknown() {
                    true => to,
                    false => self.learn(&minted_by.process),
                };
                if let (Some(from), Some(to)) = (from, to) {
                    let instance = |place: &Place| place.instance.filter(|_| from == to);
                    let route = Route {
                        minted_by: (instance(minted_by), from),
                        served_by: (instance(served_by), to),
                    };
                    *self.routes.entry(route).or_default() += 1;
                }
            }
            Defect::Crossed(_) => {}
            Defect::Failed(cause, detail) => {
                self.causes.entry(*cause).or_insert_with(|| (0, detail.clone())).0 += 1;
            }
        }
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(example);
        }
    }
}

/// Whether one of the names is known of both.
fn shares(one: &Process, other: &Process) -> bool {
    (one.boot.is_some() && other.boot.is_some())
        || (one.replica_tag.is_some() && other.replica_tag.is_some())
        || (one.replica.is_some() && other.replica.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(replica: Option<&str>, tag: Option<&str>, boot: Option<&str>) -> Process {
        Process {
            replica: replica.map(Box::from),
            replica_tag: tag.map(Box::from),
            boot: boot.map(Box::from),
        }
    }

    #[test]
    fn processes_are_told_apart_by_what_is_known() {
        let mut tally = Tally::default();
        let local = Some("local");
        assert_eq!(tally.learn(&process(local, None, Some("001"))), Some(0));
        assert_eq!(tally.learn(&process(local, None, Some("002"))), Some(1));
        assert_eq!(tally.learn(&process(None, Some("a1"), Some("001"))), Some(0));
        assert_eq!(tally.learn(&process(None, Some("b2"), Some("002"))), Some(1));
        // The same boot by chance.
        assert_eq!(tally.learn(&process(None, Some("c3"), Some("001"))), Some(2));
        assert_eq!(tally.learn(&Process::default()), Some(3));
        assert_eq!(tally.learn(&Process::default()), Some(3));
        assert_eq!(tally.processes[0].0, process(local, Some("a1"), Some("001")));
        for number in 0..1000 {
            tally.learn(&process(Some(&format!("pod-{number}")), None, None));
        }
        assert_eq!(tally.processes.len(), MAX_PROCESSES);
    }

    #[test]
    fn an_id_has_one_owner_at_a_time() {
        let mut tally = Tally::default();
        assert_eq!(tally.claim("a", 1), Ok(()));
        assert_eq!(tally.claim("a", 1), Ok(()));
        assert_eq!(tally.claim("a", 2), Err(1));
        assert_eq!(tally.owner("a"), Some(1));
        tally.release(2, ["a".to_owned()].iter());
        assert_eq!(tally.owner("a"), Some(1));
        tally.release(1, ["a".to_owned()].iter());
        assert_eq!((tally.owner("a"), tally.claim("a", 2)), (None, Ok(())));
    }
}
