//! What is sent on event streams: bounded logs of events.
//!
//! Owns [`EventLog`], which keeps events as frames that are encoded once. A log outlives its reader, which is what makes a
//! stream resumable; a log without event ids drops what was read. Every log is bounded: a writer that can wait waits for
//! a slow reader, one that cannot disconnects it. Together the logs of an instance keep what their [`ReplayBudget`]
//! allows, and what they hold is booked on its [`Share`].
//! Trap: whoever reads may be disconnected at any time, by a later reader or because it is too slow; what it has not read
//! by then it can ask for again.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    lock,
    shared::{End, Shelf},
};
use crate::{budget::Share, wire::sse};

/// What a log keeps.
const MAX_FRAMES: usize = 256;
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Unread frames from which on a writer waits.
const HIGH_WATER: usize = 32;
/// Unread frames that a reader may be behind where there is no room.
const LOW_WATER: usize = 8;
/// What a log takes beside its frames, and a frame beside its bytes; rounded up.
const LOG_BYTES: usize = 512;
const FRAME_BYTES: usize = 64;

/// How many bytes the logs of one instance may keep together, so that streams can be resumed. When they keep more, a log
/// that is written or read drops what was read; while it has no reader, all but its last event. Where the share itself is
/// full, a reader that is far behind is disconnected.
#[derive(Debug)]
pub struct ReplayBudget {
    limit: AtomicUsize,
    kept: AtomicUsize,
    share: Arc<Share>,
}

impl ReplayBudget {
    /// A budget of `limit` bytes, which are booked on `share` as well.
    pub fn of(limit: usize, share: &Arc<Share>) -> Arc<Self> {
        let share = Arc::clone(share);
        Arc::new(Self { limit: AtomicUsize::new(limit), kept: AtomicUsize::new(0), share })
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// What the logs' bytes are booked on.
    pub(super) fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// How many bytes are kept now.
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    fn is_spent(&self) -> bool {
        self.kept() > self.limit.load(Ordering::Relaxed) || self.share.is_full()
    }

    /// A log holds `now` bytes and no longer `before`.
    fn correct(&self, before: usize, now: usize) {
        self.kept.fetch_add(now, Ordering::Relaxed);
        self.kept.fetch_sub(before, Ordering::Relaxed);
        match now.checked_sub(before) {
            Some(more) => self.share.book_anyway(more),
            None => self.share.give_back(before - now),
        }
    }
}

/// What was sent on one stream.
#[derive(Debug)]
pub(crate) struct EventLog {
    /// The stream's number in its session; `None` if it cannot be resumed.
    pub(super) stream: Option<u32>,
    budget: Arc<ReplayBudget>,
    state: Mutex<LogState>,
    /// Wakes writers that wait for a reader.
    room: Notify,
    /// What brings its events to a shared store, if they are kept there too.
    shelf: Option<Arc<Shelf>>,
}

#[derive(Debug, Default)]
struct LogState {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// The number of `frames[0]`.
    first: u64,
    /// The number of the next frame to read.
    cursor: u64,
    finished: bool,
    primed: bool,
    /// The reader that may read; 0 if there is none.
    reader: u64,
    /// How many readers there have been.
    readers: u64,
    waker: Option<Waker>,
}

impl LogState {
    fn next(&self) -> u64 {
        self.first + self.frames.len() as u64
    }

    /// Where in `frames` the cursor is.
    fn position(&self) -> usize {
        usize::try_from(self.cursor - self.first).unwrap_or(usize::MAX)
    }

    /// Whether a writer may append so many bytes now. A message that exceeds the limit by itself waits until all others
    /// have been read.
    fn has_room_for(&self, more: usize) -> bool {
        let unread = self.frames.iter().skip(self.position());
        let (frames, bytes) = unread.fold((0, 0), |(n, bytes), frame| (n + 1, bytes + frame.len()));
        frames == 0 || frames < HIGH_WATER && bytes + more <= MAX_BYTES
    }

    fn drop_first(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.len() + FRAME_BYTES;
            self.first += 1;
        }
    }

    fn unread(&self) -> usize {
        self.frames.len().saturating_sub(self.position())
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl EventLog {
    /// A log whose events have no ids.
    pub(crate) fn passing(budget: &Arc<ReplayBudget>) -> Arc<Self> {
        Arc::new(Self::new(None, budget))
    }

    /// A log that can be resumed: the ids of its events begin with `stream`.
    pub(super) fn resumable(stream: u32, budget: &Arc<ReplayBudget>) -> Arc<Self> {
        Arc::new(Self::new(Some(stream), budget))
    }

    /// One that is kept in a shared store as well. Its next event has that number.
    pub(super) fn shelved(
        stream: u32,
        budget: &Arc<ReplayBudget>,
        next: u64,
        shelf: Arc<Shelf>,
    ) -> Arc<Self> {
        let mut log = Self::new(Some(stream), budget).from(next);
        log.shelf = Some(shelf);
        Arc::new(log)
    }

    /// One of events that another replica writes, of which the first has that number. It waits for its reader.
    pub(super) fn following(stream: u32, budget: &Arc<ReplayBudget>, first: u64) -> Arc<Self> {
        let log = Self::new(Some(stream), budget).from(first);
        let mut state = lock(&log.state);
        (state.reader, state.readers) = (1, 1);
        drop(state);
        Arc::new(log)
    }

    fn new(stream: Option<u32>, budget: &Arc<ReplayBudget>) -> Self {
        let budget = Arc::clone(budget);
        budget.share.book_anyway(LOG_BYTES);
        Self { stream, budget, state: Mutex::default(), room: Notify::new(), shelf: None }
    }

    fn from(self, number: u64) -> Self {
        let mut state = lock(&self.state);
        (state.first, state.cursor) = (number, number);
        drop(state);
        self
    }

    pub(super) fn shelf(&self) -> Option<&Shelf> {
        self.shelf.as_deref()
    }

    /// Appends an event without a message, so that the client has an id to resume from before anything was sent.
    pub(crate) fn prime(&self, retry: Duration) {
        let mut state = lock(&self.state);
        if let Some(stream) = self.stream {
            let frame = sse::priming((stream, state.next()), retry);
            state.primed = true;
            self.append_new(&mut state, frame);
        }
    }

    /// Appends a message at once. A reader that is too far behind is disconnected.
    pub(crate) fn push(&self, message: &[u8]) {
        let mut state = lock(&self.state);
        let id = self.stream.map(|stream| (stream, state.next()));
        let frame = sse::frame(message, id);
        self.append_new(&mut state, frame);
    }

    /// Appends an event that was written before.
    pub(super) fn repeat(&self, frame: Bytes) {
        self.append(&mut lock(&self.state), frame);
    }

    fn append_new(&self, state: &mut LogState, frame: Bytes) {
        if let Some(shelf) = self.shelf.as_ref().filter(|_| !state.finished) {
            shelf.put(state.next(), &frame);
        }
        self.append(state, frame);
    }

    fn append(&self, state: &mut LogState, frame: Bytes) {
        if state.finished {
            return;
        }
        let before = state.bytes;
        state.bytes += frame.len() + FRAME_BYTES;
        state.frames.push_back(frame);
        while state.frames.len() > MAX_FRAMES || (state.bytes > MAX_BYTES && state.frames.len() > 1)
        {
            if state.first >= state.cursor {
                state.reader = 0;
            }
            state.drop_first();
        }
        state.cursor = state.cursor.max(state.first);
        self.settle(state, before);
        state.wake();
    }

    /// Corrects the budget for a log that kept `before` bytes. If the budget is spent, drops what this log may drop.
    fn settle(&self, state: &mut LogState, before: usize) {
        let budget = &self.budget;
        budget.correct(before, state.bytes);
        if budget.share.is_full() && state.unread() > LOW_WATER {
            state.reader = 0;
        }
        while budget.is_spent()
            && state.frames.len() > 1
            && (state.first < state.cursor || state.reader == 0)
        {
            let before = state.bytes;
            state.drop_first();
            budget.correct(before, state.bytes);
        }
        state.cursor = state.cursor.max(state.first);
    }

    /// Appends a message, after waiting for a slow reader or a slow store.
    pub(crate) async fn send(&self, message: &[u8]) {
        self.room_for(message.len()).await;
        if let Some(shelf) = &self.shelf {
            shelf.room_for(message.len()).await;
        }
        self.push(message);
    }

    /// Waits for a slow reader.
    pub(super) async fn room_for(&self, more: usize) {
        loop {
            let room = self.room.notified();
            let mut room = std::pin::pin!(room);
            room.as_mut().enable();
            {
                let state = lock(&self.state);
                if state.reader == 0 || state.has_room_for(more) {
                    return;
                }
            }
            room.await;
        }
    }

    /// Sends the last message, if there is one. Its stream ends when a shared store has it, or does not answer in time.
    pub(crate) async fn conclude(&self, message: Option<&[u8]>) {
        if let Some(message) = message {
            self.send(message).await;
        }
        if let Some(shelf) = &self.shelf {
            shelf.end(End::Finished);
            shelf.carried().await;
        }
        self.finish();
    }

    /// Nothing more will be sent.
    pub(crate) fn finish(&self) {
        if let Some(shelf) = &self.shelf {
            shelf.end(End::Finished);
        }
        let mut state = lock(&self.state);
        state.finished = true;
        state.wake();
    }

    /// Whether something can be sent on it still.
    pub(super) fn is_open(&self) -> bool {
        !lock(&self.state).finished
    }

    pub(crate) fn has_sent(&self, number: u64) -> bool {
        number < lock(&self.state).next()
    }

    pub(crate) fn is_primed(&self) -> bool {
        lock(&self.state).primed
    }

    pub(super) fn has_reader(&self) -> bool {
        lock(&self.state).reader != 0
    }

    /// How readily it can be given up: first what was read to its end, then what has ended unread, then what a GET opened;
    /// neither what has a reader nor the answer of a call that is still under way.
    pub(super) fn dispensable(&self, standalone: bool) -> Option<u8> {
        let state = lock(&self.state);
        match (state.reader, state.finished, state.unread()) {
            (0, true, 0) => Some(0),
            (0, true, _) => Some(1),
            (0, false, _) if standalone => Some(2),
            _ => None,
        }
    }

    /// Disconnects the reader, who may resume the stream.
    pub(crate) fn hang_up(&self) {
        let mut state = lock(&self.state);
        state.reader = 0;
        state.wake();
        drop(state);
        self.room.notify_waiters();
    }

    /// Begins to read after the event of that number, or where the last reader stopped. Disconnects another reader. The
    /// second value tells how many events in between are no longer kept.
    pub(super) fn attach(&self, after: Option<u64>) -> (u64, u64) {
        let mut state = lock(&self.state);
        state.readers += 1;
        state.reader = state.readers;
        let mut missed = 0;
        if let Some(after) = after {
            missed = state.first.saturating_sub(after + 1);
            state.cursor = (after + 1).clamp(state.first, state.next());
        }
        state.wake();
        self.room.notify_waiters();
        (state.reader, missed)
    }

    pub(super) fn detach(&self, reader: u64) {
        let mut state = lock(&self.state);
        if state.reader == reader {
            state.reader = 0;
        }
        self.room.notify_waiters();
    }

    /// The next frame; `None` at the end, or if the reader was disconnected.
    pub(super) fn poll_next(&self, reader: u64, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = lock(&self.state);
        if state.reader != reader {
            return Poll::Ready(None);
        }
        let Some(frame) = state.frames.get(state.position()).cloned() else {
            if state.finished {
                return Poll::Ready(None);
            }
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.cursor += 1;
        let before = state.bytes;
        if self.stream.is_none() {
            state.drop_first();
        }
        self.settle(&mut state, before);
        drop(state);
        self.room.notify_waiters();
        Poll::Ready(Some(frame))
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        if let Some(shelf) = &self.shelf {
            shelf.end(End::CutOff);
        }
        self.budget.correct(lock(&self.state).bytes, 0);
        self.budget.share.give_back(LOG_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{budget::Budget, session::EventStream};

    fn budget(limit: usize) -> Arc<ReplayBudget> {
        ReplayBudget::of(limit, &Share::of(&Budget::of(1 << 30), 1 << 30))
    }

    fn read(log: &Arc<EventLog>, after: Option<u64>) -> EventStream {
        let quiet = Duration::from_secs(60);
        EventStream::new(Arc::clone(log), after, quiet, CancellationToken::new(), ())
    }

    async fn next(reader: &mut EventStream) -> Option<Bytes> {
        let frame = reader.frame().await?.expect("never fails");
        Some(frame.into_data().expect("is data"))
    }

    #[tokio::test]
    async fn a_message_of_any_size_waits_for_its_reader() {
        let log = EventLog::resumable(1, &budget(usize::MAX));
        log.prime(Duration::from_secs(1));
        let mut reader = read(&log, None);
        let large = vec![b'x'; MAX_BYTES + 1];
        let write = async {
            log.send(b"small").await;
            log.send(&large).await;
            log.finish();
        };
        let follow = async {
            let mut sizes = Vec::new();
            while let Some(frame) = next(&mut reader).await {
                sizes.push(frame.len() > MAX_BYTES);
                tokio::task::yield_now().await;
            }
            sizes
        };
        let ((), sizes) = tokio::join!(write, follow);
        assert_eq!(sizes, [false, false, true]);
    }

    #[tokio::test]
    async fn all_logs_together_keep_what_the_budget_allows() {
        let budget = budget(10_000);
        let logs: Vec<_> = (0..10).map(|number| EventLog::resumable(number, &budget)).collect();
        let message = [b'x'; 100];
        let frame = sse::frame(&message, Some((0, 10))).len() + FRAME_BYTES;
        // Read at once: all of it is kept only so that it can be read again.
        let mut readers: Vec<_> = logs.iter().map(|log| read(log, None)).collect();
        for _ in 0..50 {
            for (log, reader) in logs.iter().zip(&mut readers) {
                log.push(&message);
                assert!(next(reader).await.is_some());
            }
        }
        assert!((5_000..10_000 + 10 * frame).contains(&budget.kept()), "{}", budget.kept());
        // What has not been read yet is not given up while someone reads.
        for _ in 0..50 {
            logs[0].push(&message);
        }
        for _ in 0..50 {
            assert!(next(&mut readers[0]).await.is_some());
        }
        // Read by nobody: the last event is kept.
        readers.clear();
        for log in &logs {
            (0..200).for_each(|_| log.push(&message));
        }
        assert!(budget.kept() < 10_000 + 10 * frame, "{}", budget.kept());
        for log in &logs {
            let mut again = read(log, Some(0));
            log.finish();
            assert!(next(&mut again).await.is_some());
        }
        drop(logs);
        assert_eq!(budget.kept(), 0);
    }
}
