//! Memory that one thread has freed and another still keeps.
//!
//! Owns the way back to the system for what an idle server no longer needs. The allocator keeps what a thread has
//! allocated and another has freed until the first one allocates again; a worker that nobody asks for anything never
//! does. So, when clients hold much less than before, each thread tells the allocator to look.
//! Trap: to look costs milliseconds, and page faults afterwards, and all workers meet for it; so it is done when little
//! goes on. Under load they allocate all the time anyway.

use std::{
    convert::Infallible,
    hint::black_box,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, task::JoinSet, time::sleep};

use crate::budget::Budget;

/// How often is looked what is booked.
const PERIOD: Duration = Duration::from_secs(1);

/// Less than this is not worth it. Bytes.
const WORTH: usize = 4 << 20;

/// By how much what is booked may change from one look to the next while little goes on: a few requests. Bytes.
const LITTLE: usize = 64 * 1024;

/// How long workers wait for each other.
const PATIENCE: Duration = Duration::from_millis(20);

/// No process has as many bytes of addresses left. From 256 TiB on, mimalloc refuses without looking.
const MORE_THAN_THERE_IS: usize = (1 << 48) - (1 << 20);

/// Gives the system what this thread has allocated and others have freed: the allocator looks for it before it says that
/// there is no room.
fn collect() {
    let _ = black_box(Vec::<u8>::new().try_reserve_exact(black_box(MORE_THAN_THERE_IS)));
}

/// What was booked at times, as far as it tells when to collect.
#[derive(Debug, Default)]
struct Watch {
    /// The most since the last collection.
    most: usize,
    last: usize,
    /// Whether it was much the same when it was last looked at.
    still: bool,
}

impl Watch {
    /// Whether what clients hold has fallen by a quarter or more, and has been much the same for two looks.
    fn look(&mut self, booked: usize) -> bool {
        let still = self.last.abs_diff(booked) <= LITTLE;
        let settled = still && self.still;
        (self.last, self.still) = (booked, still);
        self.most = self.most.max(booked);
        settled && self.most - booked >= WORTH.max(self.most / 4)
    }

    fn collected(&mut self) {
        self.most = self.last;
    }
}

/// Where the workers of the runtime meet, so that none comes twice and another not at all.
#[derive(Debug, Default)]
struct Meeting {
    come: Mutex<usize>,
    all: Condvar,
}

impl Meeting {
    /// Holds up the thread until `all` have come, or for as long as they may take; false if some have not.
    fn attend(&self, all: usize) -> bool {
        let mut come = self.come.lock().unwrap_or_else(PoisonError::into_inner);
        *come += 1;
        if *come >= all {
            self.all.notify_all();
        }
        let come = self.all.wait_timeout_while(come, PATIENCE, |come| *come < all);
        *come.unwrap_or_else(PoisonError::into_inner).0 >= all
    }
}

/// Has each worker collect; false if some were busy.
async fn collect_from_workers() -> bool {
    let workers = Handle::current().metrics().num_workers();
    let (meeting, mut tasks) = (Arc::<Meeting>::default(), JoinSet::new());
    for _ in 0..workers {
        let meeting = Arc::clone(&meeting);
        tasks.spawn(async move {
            let all = meeting.attend(workers);
            collect();
            all
        });
    }
    let mut all = true;
    while let Some(met) = tasks.join_next().await {
        all &= met.unwrap_or(false);
    }
    all
}

/// Watches what clients hold, for as long as it is polled, and has memory collected from each worker of the runtime, and
/// from the thread that polls it, which should be the one that accepts connections.
pub async fn watch(budget: Arc<Budget>) -> Infallible {
    let mut watch = Watch::default();
    loop {
        sleep(PERIOD).await;
        if watch.look(budget.booked()) {
            collect();
            if collect_from_workers().await {
                watch.collected();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said at each of these looks, in MB, where each collection succeeds.
    fn looks(watch: &mut Watch, booked: &[usize]) -> Vec<bool> {
        let look = |mb: &usize| {
            let due = watch.look(mb << 20);
            if due {
                watch.collected();
            }
            due
        };
        booked.iter().map(look).collect()
    }

    #[test]
    fn it_waits_until_much_has_gone_and_no_more_goes() {
        let mut watch = Watch::default();
        assert_eq!(looks(&mut watch, &[100, 100, 100]), [false; 3], "nothing has gone");
        assert_eq!(looks(&mut watch, &[60, 30, 10]), [false; 3], "it falls");
        assert_eq!(looks(&mut watch, &[10, 10, 10]), [false, true, false], "once");
        assert_eq!(looks(&mut watch, &[13, 10, 10, 10]), [false; 4], "little");
        assert_eq!(looks(&mut watch, &[200, 160, 160, 160]), [false; 4], "less than a quarter");
        assert_eq!(looks(&mut watch, &[140, 140, 140]), [false, false, true], "in two steps");
        assert_eq!(looks(&mut watch, &[20, 30, 20, 30]), [false; 4], "much goes on");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 9)]
    async fn every_worker_is_reached() {
        let mut met = false;
        for _ in 0..100 {
            met = met || collect_from_workers().await;
        }
        assert!(met);
        // One that has something to do is not waited for.
        let mut busy = JoinSet::new();
        busy.spawn(async { std::thread::sleep(Duration::from_secs(1)) });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = std::time::Instant::now();
        assert!(!collect_from_workers().await);
        assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
    }
}
