//! The connection to the shared store, a Redis or Valkey server.
//!
//! Owns [`Link`]: the connection that all scripts share, and another that hears what is published.
//! Each script has a time limit, and one whose answer has not come is run once more. It knows scripts
//! and replies, and nothing of sessions; nobody else knows the crate beneath.
//! Traps: a script whose answer is lost may have run. So one that must not run twice carries the id of the operation, under
//! which it keeps what came of it. And a store that was held up runs late what was sent to it, so each script carries the
//! moment after which it does nothing.

mod address;
mod away;
mod bells;
mod check;
mod cluster;
mod dial;
mod disk;
mod line;
mod look;
mod script;
mod slot;
mod trouble;
pub mod usage;

use std::{
    fmt,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Cmd, Value};
use tokio::time::Instant;

pub use self::check::Fault;
use self::{
    address::{Address, Way},
    bells::Bells,
    check::Demands,
    cluster::Cluster,
    dial::{Dialler, Target},
    line::Line,
    script::Moments,
    trouble::Trouble,
    usage::{Outcome, Usage},
};
pub(crate) use self::{
    away::Away,
    bells::Bell,
    script::{Call, Reply, Script, scripts},
};
use crate::{
    clock::{Clock, Moment, millis},
    config::{StoreConfig, file},
    tls::Roots,
};

/// How far the store's clock and this machine's may differ, in milliseconds, and count as the same.
const AGREEMENT: u64 = 100;

/// How long the store remembers an operation beyond its two attempts, in milliseconds.
const MARGIN: u64 = 1000;

/// Between two lines in the log that say that the store refuses what it is asked, in milliseconds.
const SELDOM: u64 = 10_000;

/// The store could not be asked, or what it said was of no use. What was to be changed may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared store cannot be reached")]
pub struct Lost;

/// The connection to the shared store, of one process.
#[derive(Debug)]
pub struct Link {
    route: Route,
    dialler: Arc<Dialler>,
    bells: Arc<Bells>,
    usage: Usage,
    unready_when_lost: AtomicBool,
    patience: Duration,
    clock: Clock,
    /// What the store's clock shows at moment zero, in milliseconds since 1970, as of its last answer.
    zero: AtomicI64,
    /// When the log may be told next that the store refuses.
    quiet_until: AtomicU64,
    /// What every key begins with.
    namespace: String,
    /// Of this process alone, so that its operations have ids that no other has.
    token: u64,
    operations: AtomicU64,
}

/// How the server is found that has a key.
#[derive(Debug)]
enum Route {
    /// What is published is heard on a connection of its own: a store hangs up on a listener that has much to read.
    Single {
        line: Line,
        hearing: Box<Line>,
    },
    Cluster(Cluster),
}

impl Link {
    /// The connection that the configuration describes, not made yet; `None` if it names no store. Fails where the address
    /// cannot be read, or the certificates.
    pub fn build(config: &StoreConfig, clock: Clock) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(address) = address(config)? else { return Ok(None) };
        let demands = Demands {
            namespace: config.namespace.clone(),
            allow_eviction: config.allow_eviction,
            wait_aof: config.wait_aof,
            patience: config.timeout_seconds.get(),
            cluster: matches!(address.way, Way::Cluster(_)),
        };
        let tls = match (address.tls, config.ca_file.as_os_str().is_empty()) {
            (true, true) => Some(Roots::none("store.ca_file").of_system().connector()?),
            (true, false) => {
                Some(Roots::none("store.ca_file").of_file(&config.ca_file)?.connector()?)
            }
            (false, true) => None,
            (false, false) => anyhow::bail!(
                "store.ca_file: is for TLS: write rediss in place of redis in store.url"
            ),
        };
        let dialler = Arc::new(Dialler {
            account: address.account,
            tls,
            demands,
            made: AtomicU64::new(0),
            made_again: AtomicU64::new(0),
        });
        let bells = Arc::new(Bells::default());
        let pair = |target: &dyn Fn() -> Target| {
            let line = Line::new(target(), &dialler, &Arc::default(), &Arc::default());
            let line = line.with_disk(target());
            let hearing = Line::new(target(), &dialler, &bells, &Arc::default());
            Route::Single { line, hearing: Box::new(hearing.untold()) }
        };
        let route = match address.way {
            Way::Single(place) => pair(&|| Target::Server(place.clone())),
            Way::Sentinel { sentinels, master } => {
                pair(&|| Target::Master { sentinels: sentinels.clone(), name: master.clone() })
            }
            Way::Cluster(nodes) => Route::Cluster(Cluster::new(nodes, &dialler, &bells)),
        };
        Ok(Some(Arc::new(Self {
            route,
            dialler,
            bells,
            usage: Usage::default(),
            unready_when_lost: AtomicBool::new(config.unready_when_lost),
            patience: config.timeout_seconds.get(),
            clock,
            zero: AtomicI64::new(clock.time_of_day().epoch()),
            quiet_until: AtomicU64::new(0),
            namespace: config.namespace.clone(),
            token: getrandom::u64()?,
            operations: AtomicU64::new(0),
        })))
    }

    /// Makes the connection, and makes it again whenever it is lost. To be run as long as the link is used.
    pub async fn keep(&self) {
        match &self.route {
            Route::Single { line, hearing } => {
                tokio::join!(line.keep(), hearing.keep(), hearing.pulse());
            }
            Route::Cluster(cluster) => cluster.keep().await,
        }
    }

    /// Where the store is, without the password.
    pub(crate) fn address(&self) -> impl fmt::Display {
        self.any().target()
    }

    /// Whether there is a connection to each server that is needed.
    pub fn is_up(&self) -> bool {
        match &self.route {
            Route::Single { line, .. } => line.is_up(),
            Route::Cluster(cluster) => cluster.is_up(),
        }
    }

    /// Whether there ever was a connection.
    pub fn was_reached(&self) -> bool {
        self.dialler.made() > 0
    }

    /// How often a connection was made again.
    pub(crate) fn reconnects(&self) -> u64 {
        self.dialler.made_again()
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

    /// The line that stands for the store.
    fn any(&self) -> &Line {
        match &self.route {
            Route::Single { line, .. } => line,
            Route::Cluster(cluster) => cluster.guide(),
        }
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
        self.bells.of(channel)
    }

    /// Runs a script. One whose answer does not come in time is run again, once, on another connection.
    pub(crate) async fn run(&self, call: &Call<'_>) -> Result<Reply, Lost> {
        self.run_noting(call, &Away::default()).await
    }

    /// The same, and `away` learns whether there was an answer. The script is told when there was none.
    pub(crate) async fn run_noting(&self, call: &Call<'_>, away: &Away) -> Result<Reply, Lost> {
        let start = Instant::now();
        let came = self.at_most_twice(call, away).await;
        self.usage.count(call.script.name, Outcome::of(&came), start.elapsed());
        came.map_err(|trouble| {
            self.tell(call, &trouble);
            Lost
        })
    }

    async fn at_most_twice(&self, call: &Call<'_>, away: &Away) -> Result<Reply, Trouble> {
        let operation = match call.script.promised {
            true => {
                let number = self.operations.fetch_add(1, Ordering::Relaxed);
                let kept = 2 * millis(self.patience) + MARGIN;
                format!("{kept}-{:016x}{number:x}", self.token)
            }
            false => String::new(),
        };
        let mut tries = 2;
        loop {
            tries -= 1;
            let (began, sent) = (self.clock.now(), self.store_now());
            let not_after = sent.saturating_add_unsigned(millis(self.patience) + 50);
            let moments = Moments { sent, not_after, away: away.span() };
            let trouble = match self.once(call, &operation, moments).await {
                Ok(reply) => {
                    self.set_clock(reply.now, began);
                    away.heard(reply.now);
                    return Ok(reply);
                }
                Err(trouble) => trouble,
            };
            away.failed(&trouble);
            match trouble {
                // The store's clock has been set, or the store is another one.
                Trouble::Late(now) if tries > 0 => self.set_clock(now, began),
                Trouble::Silent | Trouble::Broken | Trouble::ReadOnly if tries > 0 => {}
                trouble => return Err(trouble),
            }
            self.usage.count_repeated();
        }
    }

    async fn once(
        &self,
        call: &Call<'_>,
        operation: &str,
        moments: Moments,
    ) -> Result<Reply, Trouble> {
        let until = Instant::now() + self.patience;
        let value = match self.ask(call, &call.short(operation, moments), until).await {
            Err(Trouble::NoScript) => {
                self.usage.count_sent_whole();
                self.ask(call, &call.whole(operation, moments), until).await?
            }
            value => value?,
        };
        Reply::read(value).ok_or(Trouble::Garbled)
    }

    async fn ask(&self, call: &Call<'_>, command: &Cmd, until: Instant) -> Result<Value, Trouble> {
        let promised = call.script.promised;
        match &self.route {
            Route::Single { line, .. } => line.ask(command, promised, until).await,
            Route::Cluster(cluster) => cluster.ask(call.key(), command, promised, until).await,
        }
    }

    /// A store that refuses may do so with each request.
    fn tell(&self, call: &Call<'_>, trouble: &Trouble) {
        let script = call.script.name;
        match trouble {
            Trouble::Refused(_)
            | Trouble::Full(_)
            | Trouble::NotOnDisk
            | Trouble::Garbled
            | Trouble::Moved(_) => {
                let (now, told) = (self.clock.now().as_millis(), Ordering::Relaxed);
                let quiet = self.quiet_until.load(told);
                let next = now + SELDOM;
                if now >= quiet
                    && self.quiet_until.compare_exchange(quiet, next, told, told).is_ok()
                {
                    tracing::warn!(script, why = %trouble, "the store refuses what it is asked");
                }
            }
            Trouble::Down
            | Trouble::Silent
            | Trouble::Broken
            | Trouble::NoScript
            | Trouble::Late(_)
            | Trouble::ReadOnly => {
                tracing::debug!(script, why = %trouble, "the store did not answer");
            }
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

    /// The store's clock showed this at some time since then.
    fn set_clock(&self, now: i64, began: Moment) {
        let known = self.zero.load(Ordering::Relaxed);
        let zero = agreed(known, now, began.as_millis()..=self.clock.now().as_millis());
        if zero != known {
            self.zero.store(zero, Ordering::Relaxed);
        }
    }
}

/// What a clock shows at moment zero that showed `now` at one of these moments. It stays what it was thought to be unless
/// it cannot be, so that one moment is told alike each time, however late an answer comes.
fn agreed(known: i64, now: i64, between: RangeInclusive<u64>) -> i64 {
    let at = |moment: u64| now.saturating_sub_unsigned(moment);
    // Both clocks are read to the millisecond below.
    known.clamp(at(*between.end()) - 1, at(*between.start()) + 1)
}

/// Where the store is, if there is one.
fn address(config: &StoreConfig) -> anyhow::Result<Option<Address>> {
    let (key, url) = match config.url_file.as_os_str().is_empty() {
        true => ("store.url".to_owned(), config.url.expose().to_owned()),
        false => {
            let key = format!("store.url_file: {}", config.url_file.display());
            let text = file::read(&config.url_file);
            let text = text.map_err(|error| anyhow::anyhow!("{key}: {error}"))?;
            anyhow::ensure!(!text.trim().is_empty(), "{key}: is empty");
            (key, text)
        }
    };
    match url.trim() {
        "" => Ok(None),
        url => url.parse().map(Some).map_err(|problem| anyhow::anyhow!("{key}: {problem}")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_moves_no_clock_and_one_that_contradicts_it_does() {
        for known in [995, 1000, 1005] {
            assert_eq!(agreed(known, 2000, 990..=1010), known);
        }
        assert_eq!(agreed(1000, 2000, 1000..=1000), 1000);
        assert_eq!(agreed(1000, 2001, 1000..=1000), 1000);
        assert_eq!(agreed(0, 2000, 990..=1010), 989);
        assert_eq!(agreed(5000, 2000, 990..=1010), 1011);
    }
}
