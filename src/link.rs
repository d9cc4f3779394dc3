//! The connection to the shared store, a Redis or Valkey server.
//!
//! Owns [`Link`]: one connection that all scripts share, a time limit for each, and the repetition of one whose answer
//! has not come. It knows scripts and replies, and nothing of sessions; nobody else knows the crate beneath.
//! Traps: a script whose answer is lost may have run. So one that must not run twice carries the id of the operation, under
//! which it keeps what came of it, and a moment after which it does nothing: a store that was held up runs late what
//! was sent to it.

mod address;
mod bells;
mod line;
mod script;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use self::{
    address::Address,
    line::{Line, Trouble},
};
pub(crate) use self::{
    bells::Bell,
    script::{Call, Reply, Script, scripts},
};
use crate::{
    clock::{Clock, Moment, millis},
    config::{StoreConfig, file},
};

/// How far the store's clock and this machine's may differ, in milliseconds, and count as the same.
const AGREEMENT: u64 = 100;

/// The store could not be asked, or what it said was of no use. What was to be changed may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared store cannot be reached")]
pub struct Lost;

/// The connection to the shared store, of one process.
#[derive(Debug)]
pub struct Link {
    line: Line,
    patience: Duration,
    clock: Clock,
    /// What the store's clock shows at moment zero, in milliseconds since 1970, as of its last answer.
    zero: AtomicI64,
    /// What every key begins with.
    namespace: String,
}

impl Link {
    /// The connection that the configuration describes, not made yet; `None` if it names no store. Fails where the address
    /// cannot be read.
    pub fn build(config: &StoreConfig, clock: Clock) -> anyhow::Result<Option<Arc<Self>>> {
        let url = match config.url_file.as_os_str().is_empty() {
            true => config.url.expose().to_owned(),
            false => file::read(&config.url_file).map_err(|error| {
                anyhow::anyhow!("store.url_file: {}: {error}", config.url_file.display())
            })?,
        };
        if url.trim().is_empty() {
            return Ok(None);
        }
        let address: Address =
            url.trim().parse().map_err(|problem| anyhow::anyhow!("store.url: {problem}"))?;
        Ok(Some(Arc::new(Self {
            line: Line::new(address),
            patience: config.timeout_seconds.get(),
            clock,
            zero: AtomicI64::new(clock.time_of_day().epoch()),
            namespace: config.namespace.clone(),
        })))
    }

    /// Makes the connection, and makes it again whenever it is lost. To be run as long as the link is used.
    pub async fn keep(&self) {
        self.line.keep(self.patience).await
    }

    /// What every key begins with.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// How long one answer is waited for.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Rings whenever something is published on a channel, and whenever something may have been missed.
    pub(crate) fn bell(&self, channel: &str) -> Arc<Bell> {
        self.line.bell(channel)
    }

    /// Runs a script. One whose answer does not come in time is run again, once, on another connection.
    pub(crate) async fn run(&self, call: &Call<'_>) -> Result<Reply, Lost> {
        let mut tries = 2;
        loop {
            tries -= 1;
            let not_after = self.store_now().saturating_add_unsigned(millis(self.patience) + 50);
            let trouble = match self.once(call, not_after).await {
                Ok(reply) => {
                    self.set_clock(reply.now);
                    return Ok(reply);
                }
                Err(trouble) => trouble,
            };
            match trouble {
                // The store's clock has been set, or the store is another one.
                Trouble::Late(now) if tries > 0 => self.set_clock(now),
                Trouble::Silent | Trouble::Broken if tries > 0 => {}
                trouble => {
                    tracing::debug!(script = call.script.name, %trouble, "the store did not answer");
                    return Err(Lost);
                }
            }
        }
    }

    async fn once(&self, call: &Call<'_>, not_after: i64) -> Result<Reply, Trouble> {
        match self.line.ask(&call.short(not_after), self.patience).await {
            Err(Trouble::NoScript) => {
                let value = self.line.ask(&call.whole(not_after), self.patience).await?;
                Reply::read(value).ok_or(Trouble::Garbled)
            }
            value => Reply::read(value?).ok_or(Trouble::Garbled),
        }
    }

    /// The moment that the store's clock showed as so many milliseconds since 1970.
    pub(crate) fn moment(&self, at: i64) -> Moment {
        Moment::from_millis(u64::try_from(at - self.zero()).unwrap_or(0))
    }

    /// What the store's clock shows at moment zero. Where it agrees with this machine's, a time is told alike by all replicas.
    fn zero(&self) -> i64 {
        let (seen, own) = (self.zero.load(Ordering::Relaxed), self.clock.time_of_day().epoch());
        if seen.abs_diff(own) <= AGREEMENT { own } else { seen }
    }

    pub(crate) fn store_now(&self) -> i64 {
        self.zero.load(Ordering::Relaxed).saturating_add_unsigned(self.clock.now().as_millis())
    }

    fn set_clock(&self, now: i64) {
        let zero = now.saturating_sub_unsigned(self.clock.now().as_millis());
        self.zero.store(zero, Ordering::Relaxed);
    }
}
