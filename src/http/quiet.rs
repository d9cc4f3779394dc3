//! Wake-ups of a connection's task that tell it nothing.
//!
//! Owns [`TaskWaker`], by which hyper wakes the task of an HTTP/1 connection, and [`take`], within which it is held back.
//! hyper wakes the connection whenever a frame of a body is taken, so that the next can be read. Nearly every body is one
//! frame, which has come with its head: then nothing is left to read, and the whole task would run once more for nothing.
//! Traps: what is held back must be known to be the body's. So it is held back on the thread alone that takes the frame,
//! and only as long as that takes: the socket wakes the task from other threads, or at other times.

use std::{
    cell::Cell,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Wake, Waker},
};

thread_local! {
    /// Whether this thread is taking a frame.
    static TAKING: Cell<bool> = const { Cell::new(false) };
    /// What was to be woken meanwhile.
    static HELD_BACK: Cell<Option<Arc<TaskWaker>>> = const { Cell::new(None) };
}

/// Wakes the task that polls a connection.
#[derive(Debug)]
pub(crate) struct TaskWaker(Mutex<Waker>);

impl TaskWaker {
    /// Wakes nobody yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Waker::noop().clone())))
    }

    /// From now on wakes the task of this context. The waker to poll by.
    pub(crate) fn of(self: &Arc<Self>, cx: &Context<'_>) -> Waker {
        let mut task = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        task.clone_from(cx.waker());
        drop(task);
        Waker::from(Arc::clone(self))
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if TAKING.get() {
            HELD_BACK.set(Some(self));
        } else {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

/// Takes a frame of a body. The connection that is woken by this is held back, to be let go if there is more to be read.
pub(super) fn take<T>(frame: impl FnOnce() -> T) -> (T, Option<HeldBack>) {
    let _taking = Taking::begin();
    let taken = frame();
    (taken, HELD_BACK.take().map(HeldBack))
}

/// A connection that was to be woken; dropped, it is not.
#[must_use = "a connection that is not woken may wait for ever"]
pub(super) struct HeldBack(Arc<TaskWaker>);

impl HeldBack {
    /// Wakes it.
    pub(super) fn let_go(self) {
        self.0.wake();
    }
}

/// Ends even if taking the frame panics, and then holds nobody back.
struct Taking;

impl Taking {
    fn begin() -> Self {
        TAKING.set(true);
        Self
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        TAKING.set(false);
        if let Some(connection) = HELD_BACK.take() {
            connection.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_a_frame_wakes_is_held_back_and_nothing_else() {
        let count = Arc::<Count>::default();
        let task = Waker::from(Arc::clone(&count));
        let connection = TaskWaker::new().of(&Context::from_waker(&task));
        let woken = || count.0.load(Ordering::Relaxed);
        connection.wake_by_ref();
        assert_eq!(woken(), 1);
        let ((), held_back) = take(|| connection.wake_by_ref());
        assert_eq!(woken(), 1, "by a frame");
        held_back.expect("was to be woken").let_go();
        assert_eq!(woken(), 2);
        let elsewhere = || thread::scope(|scope| _ = scope.spawn(|| connection.wake_by_ref()));
        assert!(take(elsewhere).1.is_none());
        assert_eq!(woken(), 3, "by another thread, which does not take the frame");
        let panics = AssertUnwindSafe(|| {
            take::<()>(|| {
                connection.wake_by_ref();
                panic!("on purpose");
            })
        });
        assert!(catch_unwind(panics).is_err());
        assert_eq!(woken(), 4, "by a frame that nobody got");
    }
}
