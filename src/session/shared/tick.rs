//! What a shared store is asked for again and again: to keep what is held, to end what is due, and to count.
//!
//! Owns the tick of one instance at this replica. Any replica's tick ends what is due at all of them.
//! Trap: one script must not take long, however many sessions are held or due: each does so many, and is run again.

use std::{sync::atomic::Ordering, time::Duration};

use super::SharedStore;
use crate::{
    clock::millis,
    id::{EndReason, SessionDigest},
    link::{Call, Reply, scripts},
    session::store::Unavailable,
};

scripts! { "prelude.lua":
    TICK: repeated, "tick.lua";
}

/// Sessions that one script is told of, so that it does not take long.
const NAMED_AT_ONCE: usize = 256;

/// How often a store that has nothing to do is asked for its counts.
const AT_REST: Duration = Duration::from_secs(3);

impl SharedStore {
    /// Ends what is due, keeps what is held, and counts; not if there is nothing of it to do.
    pub(in crate::session) async fn tick(&self) -> Result<(), Unavailable> {
        let idle = self.link.store_now() < self.next_tick.load(Ordering::Relaxed);
        match idle && self.holds.is_quiet() && self.logs.writes().is_empty() {
            true => Ok(()),
            false => self.tick_now().await,
        }
    }

    pub(in crate::session) async fn tick_now(&self) -> Result<(), Unavailable> {
        let (held, released) = self.holds.take();
        let told = self.keep_and_sweep(&[&held[..], &released].concat(), held.len()).await;
        told.inspect_err(|_| self.holds.put_back(&held, &released))
    }

    /// Of these sessions so many are held, which come first; the others are held no longer.
    async fn keep_and_sweep(
        &self,
        mut sessions: &[SessionDigest],
        mut held: usize,
    ) -> Result<(), Unavailable> {
        loop {
            let (page, rest) = sessions.split_at(sessions.len().min(NAMED_AT_ONCE));
            let mut call = Call::new(&TICK, &self.key)
                .text(self.logs.writes())
                .flag(rest.is_empty())
                .number(held.min(page.len()) as u64);
            for session in page {
                call = call.bytes(session.digits().as_str().as_bytes().to_vec());
            }
            let mut reply = self.run(&call).await?;
            let swept = self.take_counts(&mut reply).ok_or(Unavailable)?;
            if rest.is_empty() && swept == 0 {
                return Ok(());
            }
            (sessions, held) = (rest, held.saturating_sub(page.len()));
        }
    }

    /// Returns how many have expired.
    fn take_counts(&self, reply: &mut Reply) -> Option<usize> {
        self.take_tally(reply)?;
        let (remembered, due, ended) = (reply.count()?, reply.integer()?, reply.list()?);
        let swept = ended.len();
        self.note_ends(ended, EndReason::Expired);
        self.remembered.store(remembered, Ordering::Relaxed);
        let rested = reply.now.saturating_add_unsigned(millis(AT_REST));
        let next = if due > 0 { due.min(rested) } else { rested };
        self.next_tick.store(next, Ordering::Relaxed);
        Some(swept)
    }
}
