//! The connection to the shared store, a Redis or Valkey server.
//!
//! Owns [`Link`]: one connection that all scripts share, a time limit for each, and the repetition of one whose answer
//! has not come. It knows scripts and replies, and nothing of sessions; nobody else knows the crate beneath.
//! Traps: a script whose answer is lost may have run. So one that must not run twice carries the id of the operation, under
//! which it keeps what came of it, and a moment after which it does nothing: a store that was held up runs late what
//! was sent to it.

mod address;
mod bells;
mod fuse;
mod line;
mod script;
pub mod usage;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::sleep;

use self::{
    address::Address,
    fuse::Fuse,
    line::{Line, Trouble},
    usage::{Outcome, Usage},
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
/// Between two attempts to get an answer of a store that is silent.
const PAUSE: Duration = Duration::from_millis(100);

/// The store could not be asked, or what it said was of no use. What was to be changed may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared store cannot be reached")]
pub struct Lost;

/// The connection to the shared store, of one process.
#[derive(Debug)]
pub struct Link {
    line: Line,
    fuse: Fuse,
    usage: Usage,
    unready_when_lost: AtomicBool,
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
            fuse: Fuse::default(),
            usage: Usage::default(),
            unready_when_lost: AtomicBool::new(config.unready_when_lost),
            patience: config.timeout_seconds.get(),
            clock,
            zero: AtomicI64::new(clock.time_of_day().epoch()),
            namespace: config.namespace.clone(),
        })))
    }

    /// Makes the connection, and makes it again whenever it is lost. To be run as long as the link is used.
    pub async fn keep(&self) {
        tokio::join!(self.line.keep(self.patience), self.mend());
    }

    /// Asks a store that has not answered whether it answers again, so that nobody else must wait to find out.
    async fn mend(&self) {
        loop {
            self.fuse.blows().await;
            let mut told = false;
            loop {
                match self.line.ask(&script::harmless(), self.patience).await {
                    // The line itself says so.
                    Err(Trouble::Down) => {}
                    Err(Trouble::Silent | Trouble::Broken) => {
                        if !std::mem::replace(&mut told, true) {
                            tracing::warn!(store = %self.address(), "the store does not answer");
                        }
                    }
                    Ok(_)
                    | Err(
                        Trouble::NoScript
                        | Trouble::Late(_)
                        | Trouble::Refused(_)
                        | Trouble::Garbled,
                    ) => break,
                }
                sleep(PAUSE).await;
            }
            self.fuse.mend();
            if told {
                tracing::info!(store = %self.address(), "the store answers again");
            }
        }
    }

    /// Where the store is, without the password.
    pub(crate) fn address(&self) -> impl fmt::Display {
        self.line.address()
    }

    /// Whether there is a connection, and the store answers on it.
    pub fn is_up(&self) -> bool {
        self.line.is_up() && !self.fuse.is_blown()
    }

    /// Whether there ever was a connection.
    pub fn was_reached(&self) -> bool {
        self.line.made() > 0
    }

    /// How often a connection was made after the first.
    pub(crate) fn reconnects(&self) -> u64 {
        self.line.made().saturating_sub(1)
    }

    /// What was counted of its use.
    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Whether no request should come here while the store is lost (`store.unready_when_lost`).
    pub(crate) fn is_needed(&self) -> bool {
        self.unready_when_lost.load(Ordering::Relaxed)
    }

    /// Applies what a reload may change.
    pub(crate) fn keep_to(&self, config: &StoreConfig) {
        self.unready_when_lost.store(config.unready_when_lost, Ordering::Relaxed);
    }

    /// What every key begins with.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Rings whenever something is published on a channel, and whenever something may have been missed.
    pub(crate) fn bell(&self, channel: &str) -> Arc<Bell> {
        self.line.bell(channel)
    }

    /// Runs a script. One whose answer does not come in time is run again, once, on another connection.
    pub(crate) async fn run(&self, call: &Call<'_>) -> Result<Reply, Lost> {
        let start = Instant::now();
        let came = match self.fuse.is_blown() {
            true => Err(Trouble::Down),
            false => self.at_most_twice(call).await,
        };
        self.usage.count(call.script.name, Outcome::of(&came), start.elapsed());
        came.map_err(|trouble| {
            if let Trouble::Down | Trouble::Silent | Trouble::Broken = trouble {
                self.fuse.blow();
            }
            tracing::debug!(script = call.script.name, %trouble, "the store did not answer");
            Lost
        })
    }

    async fn at_most_twice(&self, call: &Call<'_>) -> Result<Reply, Trouble> {
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
                trouble => return Err(trouble),
            }
            self.usage.count_repeated();
        }
    }

    async fn once(&self, call: &Call<'_>, not_after: i64) -> Result<Reply, Trouble> {
        match self.line.ask(&call.short(not_after), self.patience).await {
            Err(Trouble::NoScript) => {
                self.usage.count_sent_whole();
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
