//! When idle sessions expire.
//!
//! Owns [`ExpiryQueue`]: sessions filed by the time at which they expire if nobody uses them until then. Using a session
//! does not touch the queue. When its time has come, the store looks how long the session has really been idle, and
//! files it again if it has not expired.
//! Trap: the queue holds weak references, and a session that ends early stays filed. So a queue that consists mostly of
//! such sessions is swept.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use crate::clock::Moment;

/// Milliseconds that share a bucket. A bucket is due when its last millisecond has passed.
const BUCKET: u64 = 64;

fn is_due(bucket: u64, now: Moment) -> bool {
    (bucket + 1) * BUCKET <= now.as_millis()
}

#[derive(Debug)]
pub(super) struct ExpiryQueue<S> {
    buckets: BTreeMap<u64, Vec<Weak<S>>>,
    filed: u64,
}

impl<S> Default for ExpiryQueue<S> {
    fn default() -> Self {
        Self { buckets: BTreeMap::new(), filed: 0 }
    }
}

impl<S> ExpiryQueue<S> {
    pub(super) fn file(&mut self, due: Moment, session: &Arc<S>) {
        self.buckets.entry(due.as_millis() / BUCKET).or_default().push(Arc::downgrade(session));
        self.filed += 1;
    }

    pub(super) fn has_due(&self, now: Moment) -> bool {
        self.buckets.first_key_value().is_some_and(|(bucket, _)| is_due(*bucket, now))
    }

    /// Takes out sessions that are due, at most so many.
    pub(super) fn take_due(&mut self, now: Moment, most: usize) -> Vec<Weak<S>> {
        let Some(mut bucket) = self.buckets.first_entry() else { return Vec::new() };
        if !is_due(*bucket.key(), now) {
            return Vec::new();
        }
        let sessions = bucket.get_mut();
        let taken = sessions.split_off(sessions.len().saturating_sub(most));
        if sessions.is_empty() {
            bucket.remove();
        }
        self.filed -= taken.len() as u64;
        taken
    }

    /// Whether most of the sessions filed have ended, when so many are live.
    pub(super) fn is_stale(&self, live: u64) -> bool {
        self.filed > live * 2 + 1024
    }

    /// Drops ended sessions from the first bucket at or after `bucket`. Returns the bucket to go on with.
    pub(super) fn sweep(&mut self, bucket: u64) -> Option<u64> {
        let (&bucket, sessions) = self.buckets.range_mut(bucket..).next()?;
        let before = sessions.len();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.shrink_to_fit();
        self.filed -= (before - sessions.len()) as u64;
        if sessions.is_empty() {
            self.buckets.remove(&bucket);
        }
        Some(bucket + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_due_is_taken_in_batches_and_nothing_before_its_time() {
        let (mut queue, sessions) = (ExpiryQueue::default(), [(); 10].map(|()| Arc::new(())));
        for (seconds, session) in (1..).zip(&sessions) {
            queue.file(Moment::from_millis(seconds * 1000), session);
        }
        let at = |seconds: u64| Moment::from_millis(seconds * 1000 + BUCKET);
        assert!(!queue.has_due(Moment::from_millis(1000)));
        assert_eq!(queue.take_due(at(0), 10).len(), 0);
        let mut taken = Vec::new();
        while queue.has_due(at(7)) {
            taken.extend(queue.take_due(at(7), 3));
        }
        assert_eq!(taken.len(), 7);
        assert!(taken[6].upgrade().is_some_and(|last| Arc::ptr_eq(&last, &sessions[6])));
        let same = at(20);
        sessions.iter().for_each(|session| queue.file(same, session));
        let later = same.plus(Duration::from_secs(1));
        let sizes = [(); 6].map(|()| queue.take_due(later, 4).len());
        assert_eq!(sizes.iter().sum::<usize>(), 13);
        assert!(sizes.iter().all(|size| *size <= 4));
        assert_eq!((queue.filed, queue.buckets.len()), (0, 0));
    }

    #[test]
    fn what_has_ended_is_swept() {
        let mut queue = ExpiryQueue::default();
        let live = Arc::new(());
        for number in 0..2000u64 {
            queue.file(Moment::from_millis(number * 10), &Arc::new(()));
        }
        queue.file(Moment::from_millis(5000), &live);
        assert!(queue.is_stale(1) && !queue.is_stale(1000));
        let mut bucket = Some(0);
        while let Some(from) = bucket {
            bucket = queue.sweep(from);
        }
        assert_eq!((queue.filed, queue.buckets.len()), (1, 1));
        assert!(!queue.is_stale(1));
    }
}
