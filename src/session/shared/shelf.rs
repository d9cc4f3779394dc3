//! Events on their way from a log in memory to the shared store.
//!
//! Owns [`Shelf`], a bounded queue between those who write a log and the one task that carries its events away, in batches and
//! in order. What is taken stays until the store has it, so a batch that got lost is taken again.
//! Trap: a log that cannot wait may find the shelf full. Then nothing more is put there, since a log with a hole is worse than
//! one that ends: what follows can be read only here.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Notify, time::timeout};

use crate::{budget::Share, session::lock};

/// From which on a writer that can wait does.
const HIGH_WATER: usize = 64;
/// The most that waits for the store.
const MAX_FRAMES: usize = 256;
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The largest frame that goes to the store.
const LARGEST: usize = 4 * 1024 * 1024;
/// The most of one batch; a frame that is larger goes alone.
const BATCH_FRAMES: usize = 64;
const BATCH_BYTES: usize = 512 * 1024;

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum End {
    /// All was written.
    Finished,
    /// Here it goes on, or is forgotten; in the store it does not.
    CutOff,
}

/// What is to be written next.
#[derive(Debug)]
pub(super) struct Batch {
    /// Each with its number.
    pub(super) frames: Vec<(u64, Bytes)>,
    /// Whether nothing follows.
    pub(super) end: Option<End>,
}

/// What a log has yet to bring to the store.
#[derive(Debug)]
pub(in crate::session) struct Shelf {
    /// Who writes the log: the replica and a number that no other log has.
    pub(super) writer: String,
    queue: Mutex<Queue>,
    /// There is something to take.
    filled: Notify,
    /// There is less.
    emptied: Notify,
    /// Readers that the log has had elsewhere, as far as it is known here.
    readers: AtomicU64,
    /// How long the end of a stream waits for the store.
    patience: Duration,
    share: Arc<Share>,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// Nothing more is put here.
    end: Option<End>,
    /// Nothing more is taken.
    closed: bool,
}

impl Queue {
    fn has_room_for(&self, more: usize) -> bool {
        self.frames.is_empty() || self.frames.len() < HIGH_WATER && self.bytes + more <= LARGEST
    }
}

impl Shelf {
    pub(super) fn new(writer: String, patience: Duration, share: &Arc<Share>) -> Self {
        Self {
            writer,
            queue: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            readers: AtomicU64::new(0),
            patience,
            share: Arc::clone(share),
        }
    }

    /// Puts an event there, if there is room.
    pub(in crate::session) fn put(&self, number: u64, frame: &Bytes) {
        let mut queue = lock(&self.queue);
        if queue.end.is_some() || queue.closed {
            return;
        }
        let full = queue.frames.len() >= MAX_FRAMES || queue.bytes + frame.len() > MAX_BYTES;
        match full || frame.len() > LARGEST {
            true => queue.end = Some(End::CutOff),
            false => {
                self.share.book_anyway(frame.len());
                queue.bytes += frame.len();
                queue.frames.push_back((number, frame.clone()));
            }
        }
        self.filled.notify_one();
    }

    /// Nothing more will be put there.
    pub(in crate::session) fn end(&self, end: End) {
        lock(&self.queue).end.get_or_insert(end);
        self.filled.notify_one();
    }

    /// Waits until a writer who can wait may put so many bytes there.
    pub(in crate::session) async fn room_for(&self, more: usize) {
        self.until(|queue| queue.closed || queue.end.is_some() || queue.has_room_for(more)).await;
    }

    /// Waits until all is in the store, or does not get there in time.
    pub(in crate::session) async fn carried(&self) {
        let _ = timeout(self.patience, self.until(|queue| queue.closed)).await;
    }

    async fn until(&self, is_so: impl Fn(&Queue) -> bool) {
        loop {
            let emptied = self.emptied.notified();
            let mut emptied = std::pin::pin!(emptied);
            emptied.as_mut().enable();
            if is_so(&lock(&self.queue)) {
                return;
            }
            emptied.await;
        }
    }

    /// Waits until there is something to write.
    pub(super) async fn next(&self) -> Batch {
        loop {
            let batch = self.at_hand();
            if !batch.frames.is_empty() || batch.end.is_some() {
                return batch;
            }
            self.filled.notified().await;
        }
    }

    /// What there is to write now, which stays until it was [`written`](Self::written).
    pub(super) fn at_hand(&self) -> Batch {
        let queue = lock(&self.queue);
        let mut bytes = 0;
        let fitting = queue.frames.iter().take(BATCH_FRAMES).take_while(|(_, frame)| {
            let first = bytes == 0;
            bytes += frame.len();
            first || bytes <= BATCH_BYTES
        });
        let frames: Vec<_> = fitting.cloned().collect();
        let end = queue.end.filter(|_| frames.len() == queue.frames.len());
        Batch { frames, end }
    }

    /// The first so many are in the store.
    pub(super) fn written(&self, count: usize) {
        let mut queue = lock(&self.queue);
        let bytes: usize = queue.frames.drain(..count).map(|(_, frame)| frame.len()).sum();
        queue.bytes -= bytes;
        self.share.give_back(bytes);
        drop(queue);
        self.emptied.notify_waiters();
    }

    /// Nothing more is taken.
    pub(super) fn close(&self) {
        let count = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            queue.frames.len()
        };
        self.written(count);
    }

    /// The store counts so many readers: whether one has come elsewhere since.
    pub(super) fn has_new_reader(&self, readers: u64) -> bool {
        self.readers.fetch_max(readers, Ordering::Relaxed) < readers
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn shelf() -> (Shelf, Arc<Share>) {
        let share = Share::of(&Budget::of(1 << 30), 1 << 30);
        (Shelf::new("a:1".to_owned(), Duration::from_millis(20), &share), share)
    }

    fn frame(bytes: usize) -> Bytes {
        vec![b'x'; bytes].into()
    }

    #[tokio::test]
    async fn batches_are_bounded_and_taken_again_until_written() {
        let (shelf, share) = shelf();
        for number in 0..100 {
            shelf.put(number, &frame(10));
        }
        shelf.put(100, &frame(BATCH_BYTES + 1));
        shelf.end(End::Finished);
        let mut numbers = Vec::new();
        loop {
            let (batch, again) = (shelf.next().await, shelf.next().await);
            assert_eq!((&batch.frames, batch.end), (&again.frames, again.end));
            assert!(batch.frames.len() <= BATCH_FRAMES);
            numbers.extend(batch.frames.iter().map(|(number, _)| *number));
            shelf.written(batch.frames.len());
            if batch.end == Some(End::Finished) {
                break;
            }
        }
        assert_eq!(numbers, (0..=100).collect::<Vec<_>>());
        assert_eq!(share.booked(), 0);
    }

    #[tokio::test]
    async fn a_full_shelf_takes_nothing_more() {
        let (shelf, share) = shelf();
        for number in 0..=MAX_FRAMES as u64 {
            shelf.put(number, &frame(1));
        }
        shelf.put(1000, &frame(1));
        let mut taken = 0;
        while shelf.at_hand().end.is_none() {
            let count = shelf.at_hand().frames.len();
            taken += count;
            shelf.written(count);
        }
        assert_eq!(taken + shelf.at_hand().frames.len(), MAX_FRAMES);
        assert_eq!(shelf.at_hand().end, Some(End::CutOff));
        // Whoever waits for it is let go.
        shelf.room_for(1).await;
        shelf.close();
        shelf.carried().await;
        assert_eq!(share.booked(), 0);
    }
}
