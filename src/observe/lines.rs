//! Lines on their way to the log: a bounded buffer and the thread that empties it.
//!
//! Owns [`Lines`]. A caller copies its line into the buffer and goes on; the thread writes whatever has gathered in one
//! piece, so that a busy server makes a few system calls for its log, not one for each line.
//! Nobody waits for the log, and the buffer does not grow: a line that finds it full is dropped and counted.
//! Trap: to wake the thread for each line would cost a request more than the line itself.

use std::{
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Size of the buffer. Bytes.
const MAX_WAITING: usize = 8 * 1024 * 1024;

/// How long lines gather before they are written together.
const GATHER: Duration = Duration::from_millis(5);

/// What a batch keeps allocated once it has been written. Bytes.
const KEPT: usize = 256 * 1024;

/// Where lines go; clones share one buffer.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether the thread must be woken.
    asleep: bool,
    closed: bool,
}

impl Lines {
    /// Starts the thread, which ends when the lines are closed.
    pub fn write_to(mut out: impl Write + Send + 'static) -> io::Result<(Self, JoinHandle<()>)> {
        let shared = Arc::<Shared>::default();
        let lines = Self(Arc::clone(&shared));
        let run = move || {
            let mut batch = Vec::new();
            while shared.gather(&mut batch) {
                // There is nowhere to report that the log cannot be written.
                let _ = out.write_all(&batch);
                batch.clear();
                batch.shrink_to(KEPT);
            }
        };
        let writer = thread::Builder::new().name("log".to_owned()).spawn(run)?;
        Ok((lines, writer))
    }

    /// Appends whole lines, or drops them if there is no room.
    pub fn push(&self, lines: &[u8]) {
        let mut state = self.0.state();
        if state.waiting.len() + lines.len() > MAX_WAITING {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(lines);
        if std::mem::take(&mut state.asleep) {
            drop(state);
            self.0.wake.notify_one();
        }
    }

    /// How many were dropped.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// The thread writes what is buffered, and ends.
    pub fn close(&self) {
        self.0.state().closed = true;
        self.0.wake.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines and takes them; false when there will be no more.
    fn gather(&self, batch: &mut Vec<u8>) -> bool {
        let mut state = self.state();
        while state.waiting.is_empty() && !state.closed {
            state.asleep = true;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.asleep = false;
        if !state.closed {
            let open = |state: &mut State| !state.closed;
            let waited = self.wake.wait_timeout_while(state, GATHER, open);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut state.waiting, batch);
        !batch.is_empty() || !state.closed
    }
}

/// For the tracing subscriber, which writes one whole line at a time.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Hands on what is written, and waits to be let go on.
    struct Gate(mpsc::Sender<Vec<u8>>, mpsc::Receiver<()>);

    impl Write for Gate {
        fn write(&mut self, batch: &[u8]) -> io::Result<usize> {
            self.0.send(batch.to_owned()).expect("the test listens");
            self.1.recv().expect("the test lets it go on");
            Ok(batch.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Lines, JoinHandle<()>, mpsc::Receiver<Vec<u8>>, mpsc::Sender<()>) {
        let (written, batches) = mpsc::channel();
        let (go, going) = mpsc::channel();
        let (lines, writer) = Lines::write_to(Gate(written, going)).expect("starts");
        (lines, writer, batches, go)
    }

    #[test]
    fn lines_keep_their_order_and_leave_in_batches() {
        let (lines, writer, batches, go) = gated();
        lines.push(b"0\n");
        assert_eq!(batches.recv().expect("a batch"), b"0\n");
        for number in 1..1000 {
            lines.push(format!("{number}\n").as_bytes());
        }
        lines.close();
        go.send(()).expect("the writer waits");
        let rest = batches.recv().expect("the rest in one piece");
        go.send(()).expect("the writer waits");
        writer.join().expect("ends");
        let expected: String = (1..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&rest), expected);
        assert_eq!(lines.dropped(), 0);
    }

    #[test]
    fn a_full_buffer_drops_and_counts() {
        let (lines, writer, batches, go) = gated();
        lines.push(b"first\n");
        batches.recv().expect("the writer has it, and waits");
        let line = vec![b'x'; MAX_WAITING / 4];
        for _ in 0..6 {
            lines.push(&line);
        }
        assert_eq!(lines.dropped(), 2);
        lines.close();
        go.send(()).expect("the writer waits");
        assert_eq!(batches.recv().expect("the rest").len(), MAX_WAITING);
        go.send(()).expect("the writer waits");
        writer.join().expect("ends");
    }
}
