//! Event streams: a bounded log that one reader follows.
//!
//! Owns [`EventLog`] (what was sent, as frames encoded once) and [`EventStream`] (the HTTP body that
//! reads it: keep-alive comments, its end). A log outlives its reader, which is what makes a stream
//! resumable; a log without event ids keeps nothing that was read. Refuses to grow: a writer that can
//! wait does while a slow reader catches up, one that cannot cuts the reader off; and all logs of an
//! instance together keep what its [`ReplayBudget`] allows.
//! Trap: a reader that is gone is only noticed when the body is dropped, so what must happen then hangs
//! on a guard inside the body.

use std::{
    any::Any,
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use tokio::{
    sync::Notify,
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::wire::sse;

/// Frames and bytes a log keeps at the most.
const MAX_FRAMES: usize = 256;
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Frames that wait for a reader before a writer does.
const HIGH_WATER: usize = 32;

/// What the logs of one instance may keep together so that streams can be resumed. Single it is spent, a log
/// that is written or read gives up what has been read, or, while nobody reads it, all but its last event.
#[derive(Debug)]
pub struct ReplayBudget {
    limit: AtomicUsize,
    kept: AtomicUsize,
}

impl ReplayBudget {
    /// A budget of so many bytes.
    pub fn of(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: AtomicUsize::new(limit), kept: AtomicUsize::new(0) })
    }

    /// From now on so many bytes may be kept.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Bytes that are kept now.
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    fn is_spent(&self) -> bool {
        self.kept() > self.limit.load(Ordering::Relaxed)
    }
}

/// What was sent on one stream.
#[derive(Debug)]
pub struct EventLog {
    /// The stream's number in its session; `None` if it cannot be resumed.
    pub stream: Option<u32>,
    budget: Option<Arc<ReplayBudget>>,
    state: Mutex<LogState>,
    room: Notify,
}

#[derive(Debug, Default)]
struct LogState {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Number of the first frame that is kept.
    first: u64,
    /// Number of the next frame to be read.
    cursor: u64,
    finished: bool,
    primed: bool,
    /// Which reader may read; 0 while there is none.
    reader: u64,
    readers: u64,
    waker: Option<Waker>,
}

impl LogState {
    fn next(&self) -> u64 {
        self.first + self.frames.len() as u64
    }

    /// Where in `frames` the next to be read is.
    fn position(&self) -> usize {
        usize::try_from(self.cursor - self.first).unwrap_or(usize::MAX)
    }

    /// Whether so many bytes more can wait for the reader. One message may be larger than all bounds: it
    /// waits alone.
    fn takes(&self, more: usize) -> bool {
        let unread = self.frames.iter().skip(self.position());
        let (frames, bytes) = unread.fold((0, 0), |(n, bytes), frame| (n + 1, bytes + frame.len()));
        frames == 0 || frames < HIGH_WATER && bytes + more <= MAX_BYTES
    }

    fn drop_first(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.len();
            self.first += 1;
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl EventLog {
    /// An empty log whose events have no ids.
    pub fn passing() -> Arc<Self> {
        Arc::new(Self { stream: None, budget: None, state: Mutex::default(), room: Notify::new() })
    }

    /// An empty log that can be resumed: its events have ids that begin with that number.
    pub fn resumable(stream: u32, budget: &Arc<ReplayBudget>) -> Arc<Self> {
        Arc::new(Self {
            stream: Some(stream),
            budget: Some(Arc::clone(budget)),
            state: Mutex::default(),
            room: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends the event that makes a stream resumable before anything has happened on it.
    pub fn prime(&self, retry: Duration) {
        let mut state = self.state();
        if let Some(stream) = self.stream {
            let frame = sse::priming((stream, state.next()), retry);
            state.primed = true;
            self.append(&mut state, frame);
        }
    }

    /// Appends a message at once. A reader that is too far behind is cut off.
    pub fn push(&self, message: &[u8]) {
        let mut state = self.state();
        let id = self.stream.map(|stream| (stream, state.next()));
        let frame = sse::frame(message, id);
        self.append(&mut state, frame);
    }

    fn append(&self, state: &mut LogState, frame: Bytes) {
        if state.finished {
            return;
        }
        let before = state.bytes;
        state.bytes += frame.len();
        state.frames.push_back(frame);
        while state.frames.len() > MAX_FRAMES || (state.bytes > MAX_BYTES && state.frames.len() > 1)
        {
            if state.first >= state.cursor && state.reader != 0 {
                state.reader = 0;
            }
            state.drop_first();
        }
        state.cursor = state.cursor.max(state.first);
        self.settle(state, before);
        state.wake();
    }

    /// Books what the log keeps now, where it kept so many bytes before; gives up what may be if the budget is
    /// spent.
    fn settle(&self, state: &mut LogState, before: usize) {
        let Some(budget) = &self.budget else { return };
        budget.kept.fetch_add(state.bytes, Ordering::Relaxed);
        budget.kept.fetch_sub(before, Ordering::Relaxed);
        while budget.is_spent()
            && state.frames.len() > 1
            && (state.first < state.cursor || state.reader == 0)
        {
            let before = state.bytes;
            state.drop_first();
            budget.kept.fetch_sub(before - state.bytes, Ordering::Relaxed);
        }
        state.cursor = state.cursor.max(state.first);
    }

    /// Appends a message, waiting while a reader is far behind.
    pub async fn send(&self, message: &[u8]) {
        loop {
            let room = self.room.notified();
            let mut room = std::pin::pin!(room);
            room.as_mut().enable();
            {
                let state = self.state();
                if state.reader == 0 || state.takes(message.len()) {
                    break;
                }
            }
            room.await;
        }
        self.push(message);
    }

    /// Nothing more will be sent.
    pub fn finish(&self) {
        let mut state = self.state();
        state.finished = true;
        state.wake();
    }

    /// Whether an event of that number has been sent.
    pub fn has_sent(&self, number: u64) -> bool {
        number < self.state().next()
    }

    /// Whether its reader has been told how to come back.
    pub fn is_primed(&self) -> bool {
        self.state().primed
    }

    /// Whether someone is reading.
    pub fn has_reader(&self) -> bool {
        self.state().reader != 0
    }

    /// Ends the connection that reads, not the stream: its reader is to come back.
    pub fn hang_up(&self) {
        let mut state = self.state();
        state.reader = 0;
        state.wake();
        drop(state);
        self.room.notify_waiters();
    }

    /// Begins to read after the event of that number, or where the last reader stopped. Whoever was
    /// reading is cut off.
    fn attach(&self, after: Option<u64>) -> u64 {
        let mut state = self.state();
        state.readers += 1;
        state.reader = state.readers;
        if let Some(after) = after {
            state.cursor = (after + 1).clamp(state.first, state.next());
        }
        state.wake();
        self.room.notify_waiters();
        state.reader
    }

    fn detach(&self, reader: u64) {
        let mut state = self.state();
        if state.reader == reader {
            state.reader = 0;
        }
        self.room.notify_waiters();
    }

    /// The next frame for that reader; `None` at the end, or when it has been cut off.
    fn poll_next(&self, reader: u64, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state();
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
        if let Some(budget) = &self.budget {
            budget.kept.fetch_sub(self.state().bytes, Ordering::Relaxed);
        }
    }
}

/// The body of an open event stream.
#[derive(Debug)]
pub struct EventStream {
    log: Arc<EventLog>,
    reader: u64,
    keep_alive: Duration,
    quiet: Pin<Box<Sleep>>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    farewell: Bytes,
    closed: bool,
    _guard: Box<dyn Any + Send>,
}

impl EventStream {
    /// Reads a log until it is finished or `closing` is cancelled. `guard` is dropped with the body.
    pub fn new(
        log: Arc<EventLog>,
        after: Option<u64>,
        keep_alive: Duration,
        closing: CancellationToken,
        guard: impl Any + Send,
    ) -> Self {
        Self {
            reader: log.attach(after),
            log,
            keep_alive,
            quiet: Box::pin(sleep(keep_alive)),
            closing: Box::pin(closing.cancelled_owned()),
            farewell: sse::CLOSING,
            closed: false,
            _guard: Box::new(guard),
        }
    }

    /// What goes out last when the stream is closed from this side.
    pub fn with_farewell(mut self, farewell: Bytes) -> Self {
        self.farewell = farewell;
        self
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.log.detach(self.reader);
    }
}

impl http_body::Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.closed {
            return Poll::Ready(None);
        }
        // Frames first: what was sent before the end still goes out.
        match self.log.poll_next(self.reader, cx) {
            Poll::Ready(Some(frame)) => {
                let next = Instant::now() + self.keep_alive;
                self.quiet.as_mut().reset(next);
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        if self.closing.as_mut().poll(cx).is_ready() {
            self.closed = true;
            return Poll::Ready(Some(Ok(Frame::data(self.farewell.clone()))));
        }
        if self.quiet.as_mut().poll(cx).is_ready() {
            let next = Instant::now() + self.keep_alive;
            self.quiet.as_mut().reset(next);
            // Asks to be woken for the next one.
            let _ = self.quiet.as_mut().poll(cx);
            return Poll::Ready(Some(Ok(Frame::data(sse::KEEP_ALIVE))));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

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
        let log = EventLog::resumable(1, &ReplayBudget::of(usize::MAX));
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
        let budget = ReplayBudget::of(10_000);
        let logs: Vec<_> = (0..10).map(|number| EventLog::resumable(number, &budget)).collect();
        let message = [b'x'; 100];
        let frame = sse::frame(&message, Some((0, 10))).len();
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
