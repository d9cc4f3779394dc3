//! How many bytes clients can make the process hold: one budget, of which each instance may take a share.
//!
//! Owns [`Budget`] and [`Share`], and the guards [`Booking`] and [`Held`]. The rule: whatever a client can make the process
//! hold is booked where it is taken and given back where it is dropped. What a request needs while it is under way is
//! asked for, before the work. What it leaves behind may take three quarters, so that a share full of sessions still
//! answers requests, and the last sixteenth is for small requests alone. A few hundred bytes that a request leaves behind
//! are booked without asking.
//! Trap: a booking must live as long as what it stands for, so it is kept beside it, in a [`Booking`], or given back by
//! whoever knows its size.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// What all clients together hold.
#[derive(Debug)]
pub struct Budget(Account);

/// What the clients of one instance hold.
#[derive(Debug)]
pub struct Share {
    own: Account,
    whole: Arc<Budget>,
    refused: AtomicU64,
}

/// There is no room for so many bytes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server holds as much for its clients as it may (memory.max_bytes, memory.max_instance_bytes)"
)]
pub struct NoRoom;

#[derive(Debug)]
struct Account {
    limit: AtomicUsize,
    booked: AtomicUsize,
}

impl Account {
    fn of(limit: usize) -> Self {
        Self { limit: AtomicUsize::new(limit), booked: AtomicUsize::new(0) }
    }

    fn booked(&self) -> usize {
        self.booked.load(Ordering::Relaxed)
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// False, and nothing booked, if that would exceed `limit`.
    fn try_add(&self, bytes: usize, limit: usize) -> bool {
        let before = self.booked.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= limit;
        if !fits {
            self.subtract(bytes);
        }
        fits
    }

    fn subtract(&self, bytes: usize) {
        self.booked.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Up to which size a booking may take the last sixteenth.
const SMALL: usize = 16 * 1024;

/// Bytes of the whole, of no instance, that are held until this is dropped: a connection before it has asked anything.
#[derive(Debug)]
pub(crate) struct Held {
    whole: Arc<Budget>,
    bytes: usize,
}

impl Held {
    /// Holds so many bytes more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let fits = self.whole.0.try_add(bytes, self.whole.0.limit());
        fits.then(|| self.bytes += bytes).ok_or(NoRoom)
    }

    /// Holds so many bytes less.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        self.whole.0.subtract(bytes);
        self.bytes -= bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.whole.0.subtract(self.bytes);
    }
}

/// Of a limit, what may be held beyond the request that brought it.
pub(crate) fn kept_of(limit: usize) -> usize {
    limit / 4 * 3
}

/// The least limit of which so many bytes may be kept.
pub(crate) fn limit_to_keep(bytes: usize) -> usize {
    bytes.div_ceil(3).saturating_mul(4)
}

impl Budget {
    /// A budget of that many bytes.
    pub fn of(limit: usize) -> Arc<Self> {
        Arc::new(Self(Account::of(limit)))
    }

    /// Holds nothing yet.
    pub(crate) fn held(self: &Arc<Self>) -> Held {
        Held { whole: Arc::clone(self), bytes: 0 }
    }

    /// What is held already stays, even if it is more.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// The most that may be booked.
    pub fn limit(&self) -> usize {
        self.0.limit()
    }

    /// What is booked now.
    pub fn booked(&self) -> usize {
        self.0.booked()
    }
}

impl Share {
    /// A share of at most `limit` bytes.
    pub fn of(whole: &Arc<Budget>, limit: usize) -> Arc<Self> {
        let whole = Arc::clone(whole);
        Arc::new(Self { own: Account::of(limit), whole, refused: AtomicU64::new(0) })
    }

    /// What is held already stays, even if it is more.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.own.limit.store(limit, Ordering::Relaxed);
    }

    /// The most that may be booked.
    pub fn limit(&self) -> usize {
        self.own.limit()
    }

    /// What is booked now.
    pub fn booked(&self) -> usize {
        self.own.booked()
    }

    /// How often there was no room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether more is booked than may be kept.
    pub(crate) fn is_full(&self) -> bool {
        let over = |account: &Account| account.booked() > kept_of(account.limit());
        over(&self.own) || over(&self.whole.0)
    }

    /// Books what is held while a request is under way.
    pub(crate) fn book(&self, bytes: usize) -> Result<(), NoRoom> {
        let most = |limit: usize| if bytes > SMALL { limit - limit / 16 } else { limit };
        self.try_book(bytes, most(self.own.limit()), most(self.whole.0.limit()))
    }

    /// Books what a request leaves behind.
    pub(crate) fn keep(&self, bytes: usize) -> Result<(), NoRoom> {
        self.try_book(bytes, kept_of(self.own.limit()), kept_of(self.whole.0.limit()))
    }

    fn try_book(&self, bytes: usize, own: usize, whole: usize) -> Result<(), NoRoom> {
        if self.own.try_add(bytes, own) {
            if self.whole.0.try_add(bytes, whole) {
                return Ok(());
            }
            self.own.subtract(bytes);
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(NoRoom)
    }

    /// Books what must be held whatever else is: little, or what has been asked for by another booking.
    pub(crate) fn book_anyway(&self, bytes: usize) {
        self.own.booked.fetch_add(bytes, Ordering::Relaxed);
        self.whole.0.booked.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.own.subtract(bytes);
        self.whole.0.subtract(bytes);
    }
}

/// Bytes that are booked until this is dropped.
#[derive(Debug)]
pub(crate) struct Booking {
    share: Arc<Share>,
    bytes: AtomicUsize,
}

impl Booking {
    /// A booking of nothing yet.
    pub(crate) fn of(share: &Arc<Share>) -> Self {
        Self { share: Arc::clone(share), bytes: AtomicUsize::new(0) }
    }

    /// Books so many bytes more.
    pub(crate) fn add(&self, bytes: usize) -> Result<(), NoRoom> {
        self.share.book(bytes)?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Books so many bytes more that a request leaves behind.
    pub(crate) fn keep(&self, bytes: usize) -> Result<(), NoRoom> {
        self.share.keep(bytes)?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Books so many bytes more, whatever else is held.
    pub(crate) fn add_anyway(&self, bytes: usize) {
        self.share.book_anyway(bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives so many of its bytes back.
    pub(crate) fn remove(&self, bytes: usize) {
        self.share.give_back(bytes);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.share.give_back(*self.bytes.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_and_the_whole_both_hold() {
        let budget = Budget::of(1000);
        let (one, other) = (Share::of(&budget, 800), Share::of(&budget, 800));
        let booking = Booking::of(&one);
        assert_eq!(booking.add(700), Ok(()));
        assert_eq!(booking.add(200), Err(NoRoom), "the share has 800");
        assert_eq!(other.book(400), Err(NoRoom), "the whole has 1000");
        assert_eq!(other.book(300), Ok(()));
        assert_eq!((one.booked(), other.booked(), budget.booked()), (700, 300, 1000));
        assert_eq!((one.refused(), other.refused()), (1, 1));
        drop(booking);
        other.give_back(300);
        assert_eq!((one.booked(), other.booked(), budget.booked()), (0, 0, 0));
    }

    #[test]
    fn a_limit_is_as_large_as_it_must_be() {
        for bytes in [0, 1, 2, 3, 4, 575, 576, 57_600_000] {
            let limit = limit_to_keep(bytes);
            assert!(kept_of(limit) >= bytes && kept_of(limit.saturating_sub(1)) < bytes.max(1));
        }
    }

    #[test]
    fn what_is_kept_leaves_room_for_requests() {
        let share = Share::of(&Budget::of(1000), 1000);
        assert_eq!(share.keep(750), Ok(()));
        assert!(!share.is_full());
        assert_eq!(share.keep(1), Err(NoRoom));
        assert_eq!(share.book(250), Ok(()));
        assert_eq!(share.book(1), Err(NoRoom));
        share.book_anyway(100);
        assert!(share.is_full());
        assert_eq!(share.booked(), 1100);
    }
}
