//! When idle sessions are due.
//!
//! Owns the [`Calendar`]: sessions filed under the moment at which they will have been idle for too long
//! if nobody uses them. Using a session costs nothing here: whoever takes it out when it is due looks how
//! long it has really been idle, and files it again. Refuses to keep a session: its references are weak.
//! Trap: a session that ends early stays filed, so a calendar that has become mostly those is swept.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use super::Session;
use crate::clock::Moment;

/// Sessions that are due within so many milliseconds share a page, and are taken when all of it is due.
const PAGE: u64 = 64;

/// Whether all that is on a page is due.
fn is_due(page: u64, now: Moment) -> bool {
    (page + 1) * PAGE <= now.as_millis()
}

/// Sessions by the moment at which they are due.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    pages: BTreeMap<u64, Vec<Weak<Session>>>,
    filed: u64,
}

impl Calendar {
    /// Files a session that is due at that moment unless it is used until then.
    pub(super) fn file(&mut self, due: Moment, session: &Arc<Session>) {
        self.pages.entry(due.as_millis() / PAGE).or_default().push(Arc::downgrade(session));
        self.filed += 1;
    }

    /// Whether something can be taken.
    pub(super) fn has_due(&self, now: Moment) -> bool {
        self.pages.first_key_value().is_some_and(|(page, _)| is_due(*page, now))
    }

    /// Takes at most so many out that are due now.
    pub(super) fn take_due(&mut self, now: Moment, most: usize) -> Vec<Weak<Session>> {
        let Some(mut page) = self.pages.first_entry() else { return Vec::new() };
        if !is_due(*page.key(), now) {
            return Vec::new();
        }
        let sessions = page.get_mut();
        let taken = sessions.split_off(sessions.len().saturating_sub(most));
        if sessions.is_empty() {
            page.remove();
        }
        self.filed -= taken.len() as u64;
        taken
    }

    /// Whether most of what is filed has ended already, where so many are live.
    pub(super) fn is_stale(&self, live: u64) -> bool {
        self.filed > live * 2 + 1024
    }

    /// Drops what has ended from the first page that is not before `page`; the page to go on with.
    pub(super) fn sweep(&mut self, page: u64) -> Option<u64> {
        let (&page, sessions) = self.pages.range_mut(page..).next()?;
        let before = sessions.len();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.shrink_to_fit();
        self.filed -= (before - sessions.len()) as u64;
        if sessions.is_empty() {
            self.pages.remove(&page);
        }
        Some(page + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        auth::Caller,
        place::{Boot, InstanceId, Origin, Tag},
        session::{Handshake, SessionId},
    };

    fn session() -> Arc<Session> {
        let origin = Origin { tag: Tag(0), boot: Boot(0) };
        let instance = InstanceId::new(0).expect("exists");
        let id = SessionId::mint(instance, origin).expect("random bytes");
        let (nobody, start) = (Caller::Anonymous, Moment::from_millis(0));
        Arc::new(Session::begin(id, Handshake::implicit(None), nobody, start))
    }

    #[test]
    fn what_is_due_is_taken_in_batches_and_nothing_before_its_time() {
        let (mut calendar, sessions) = (Calendar::default(), [(); 10].map(|()| session()));
        for (seconds, session) in (1..).zip(&sessions) {
            calendar.file(Moment::from_millis(seconds * 1000), session);
        }
        let at = |seconds: u64| Moment::from_millis(seconds * 1000 + PAGE);
        assert!(!calendar.has_due(Moment::from_millis(1000)));
        assert_eq!(calendar.take_due(at(0), 10).len(), 0);
        let mut taken = Vec::new();
        while calendar.has_due(at(7)) {
            taken.extend(calendar.take_due(at(7), 3));
        }
        assert_eq!(taken.len(), 7);
        assert!(taken[6].upgrade().is_some_and(|last| Arc::ptr_eq(&last, &sessions[6])));
        let same = at(20);
        sessions.iter().for_each(|session| calendar.file(same, session));
        let later = same.plus(Duration::from_secs(1));
        let sizes = [(); 6].map(|()| calendar.take_due(later, 4).len());
        assert_eq!(sizes.iter().sum::<usize>(), 13);
        assert!(sizes.iter().all(|size| *size <= 4));
        assert_eq!((calendar.filed, calendar.pages.len()), (0, 0));
    }

    #[test]
    fn what_has_ended_is_swept() {
        let mut calendar = Calendar::default();
        let live = session();
        for number in 0..2000u64 {
            calendar.file(Moment::from_millis(number * 10), &session());
        }
        calendar.file(Moment::from_millis(5000), &live);
        assert!(calendar.is_stale(1) && !calendar.is_stale(1000));
        let mut page = Some(0);
        while let Some(from) = page {
            page = calendar.sweep(from);
        }
        assert_eq!((calendar.filed, calendar.pages.len()), (1, 1));
        assert!(!calendar.is_stale(1));
    }
}
