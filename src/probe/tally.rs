//! What a probe has seen so far, in bounded space.
//!
//! Owns the counts, the latencies by instance, the processes met, and which live session has which id.
//! Refuses to grow with what peers send: every table has a limit, and what goes beyond is counted together.
//! Trap: an answer's headers tell a process's name and boot, its bodies tag and boot; only what names both
//! makes one of the two.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    time::Duration,
};

use hdrhistogram::Histogram;

use super::verdict::{Cause, Defect, Place, Process, Reason};
use crate::wire::version::Era;

/// Sessions that are shown with what went wrong.
const MAX_EXAMPLES: usize = 20;
/// Processes that are told apart.
const MAX_PROCESSES: usize = 64;
/// Longest latency that is told apart from longer ones: an hour, in microseconds.
const MAX_LATENCY: u64 = 3_600_000_000;

/// How sessions ended, one era's or all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verdicts {
    /// Every answer, every count and the isolation were right.
    pub whole: u32,
    /// See [`Defect::Lost`].
    pub lost: u32,
    /// See [`Defect::NoSession`].
    pub no_session: u32,
    /// See [`Defect::Crossed`].
    pub crossed: u32,
    /// See [`Defect::Failed`].
    pub failed: u32,
}

impl Verdicts {
    /// Sessions with a verdict.
    pub const fn total(&self) -> u32 {
        self.whole + self.lost + self.no_session + self.crossed + self.failed
    }

    /// As rows of a table.
    pub const fn rows(&self) -> [(&'static str, u32); 5] {
        let Self { whole, lost, no_session, crossed, failed } = *self;
        [
            ("whole", whole),
            ("lost", lost),
            ("no_session", no_session),
            ("crossed", crossed),
            ("failed", failed),
        ]
    }

    fn count(&mut self, ended: Result<(), &Defect>) {
        *match ended {
            Ok(()) => &mut self.whole,
            Err(Defect::Lost(_)) => &mut self.lost,
            Err(Defect::NoSession { .. }) => &mut self.no_session,
            Err(Defect::Crossed(_)) => &mut self.crossed,
            Err(Defect::Failed(..)) => &mut self.failed,
        } += 1;
    }
}

/// Which session, and what it was about when it was found not to be whole.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its number in this run, from 0.
    pub session: u32,
    /// Its era.
    pub era: Era,
    /// The host that it spoke to.
    pub host: String,
    /// The tool or method.
    pub at: &'static str,
    /// What was found.
    pub defect: Defect,
}

/// From whom to whom sessions went astray: instances where the process is the same, else processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Who minted, or was asked for.
    pub minted_by: (Option<u8>, usize),
    /// Who served.
    pub served_by: (Option<u8>, usize),
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Tally {
    /// All sessions with a verdict.
    pub verdicts: Verdicts,
    /// Those of the era that has sessions.
    pub sessioned: Verdicts,
    /// Those of the era that has handles.
    pub stateless: Verdicts,
    /// Requests that have been answered, and those that never were.
    pub requests: u64,
    /// Answers by HTTP status.
    pub statuses: BTreeMap<u16, u64>,
    /// What went wrong around the messages: how often, and the first of them.
    pub causes: BTreeMap<Cause, (u64, String)>,
    /// Why sessions were lost.
    pub reasons: BTreeMap<Reason, u32>,
    /// Where sessions went astray.
    pub routes: BTreeMap<Route, u32>,
    /// Those processes, and how many sessions each of them minted.
    pub processes: Vec<(Process, u32)>,
    /// By the instance that answered, if it said so. Microseconds.
    pub latencies: BTreeMap<Option<u8>, Histogram<u64>>,
    /// The first sessions that were not whole.
    pub examples: Vec<Example>,
    /// Ids of live sessions, as either side knows them, and the number of each session.
    ids: HashMap<String, u32>,
}

impl Tally {
    /// An answer has come.
    pub fn answered(&mut self, status: u16, served_by: &Place, took: Duration) {
        self.requests += 1;
        *self.statuses.entry(status).or_default() += 1;
        self.learn(&served_by.process);
        // Only the ten can be told apart, so that no answer makes a table grow.
        let instance = served_by.instance.filter(|number| *number < 10);
        let histogram = match self.latencies.entry(instance) {
            Entry::Occupied(known) => known.into_mut(),
            // Three digits, from a microsecond to an hour: the arguments are right.
            Entry::Vacant(new) => match Histogram::new_with_bounds(1, MAX_LATENCY, 3) {
                Ok(histogram) => new.insert(histogram),
                Err(_) => return,
            },
        };
        let micros = u64::try_from(took.as_micros()).unwrap_or(MAX_LATENCY);
        histogram.saturating_record(micros.max(1));
    }

    /// An answer has not come.
    pub fn unanswered(&mut self) {
        self.requests += 1;
    }

    /// A session has been minted there.
    pub fn minted(&mut self, by: &Place) {
        if let Some((_, minted)) = self.learn(&by.process).and_then(|at| self.processes.get_mut(at))
        {
            *minted += 1;
        }
    }

    /// Where that process stands in the list, which it may join; `None` if the list is full.
    pub fn learn(&mut self, process: &Process) -> Option<usize> {
        // What says nothing of itself is one process, and no other's.
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

    /// This session goes by that id; the number of another live one that does already.
    pub fn claim(&mut self, id: &str, session: u32) -> Result<(), u32> {
        let owner = *self.ids.entry(id.to_owned()).or_insert(session);
        if owner == session { Ok(()) } else { Err(owner) }
    }

    /// The number of the live session that goes by that id.
    pub fn owner(&self, id: &str) -> Option<u32> {
        self.ids.get(id).copied()
    }

    /// The session goes by these ids no longer.
    pub fn release<'a>(&mut self, session: u32, ids: impl IntoIterator<Item = &'a String>) {
        for id in ids {
            if self.owner(id) == Some(session) {
                self.ids.remove(id);
            }
        }
    }

    /// A session has come to its end, or to what is wrong with it.
    pub fn ended(&mut self, era: Era, broken: Option<Example>) {
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
            Defect::NoSession { minted_by, served_by } => {
                let to = self.learn(&served_by.process);
                // Before anything is minted, an instance is asked for, wherever it runs.
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

/// Whether something that tells processes apart is known of both.
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
