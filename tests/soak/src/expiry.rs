//! Half a million sessions expire at once, and no one else waits.
//!
//! A process that was frozen (a suspended machine, a paused container) finds all of them due when it
//! wakes; so this freezes it. Then the same for sessions that were told to end at the same second.
//! Meanwhile a probe uses another instance, begins sessions in the instance that expires, and uses them:
//! its worst wait may be 50 ms, and what the machine did meanwhile to a server that was left alone. One that
//! was worse is measured once more.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::{sleep, sleep_until};

use crate::{
    facts::{Facts, mib, ms},
    pour::{Until, pour},
    probe::{Turn, Watch, begin},
    server::{Place, Server, Signal},
    wire::{self, Wire},
};

const MANY: u64 = 500_000;
const PAUSE: Duration = Duration::from_millis(50);
/// The instance whose sessions expire, the one whose sessions were told when to, and a bystander.
const EXPIRING: u8 = 1;
const TOLD: u8 = 2;
const OTHER: u8 = 3;

pub async fn run(place: &Place, facts: &mut Facts) -> Result<()> {
    // Those that begin first must not expire before the last has begun.
    let control = Server::start(place, "expiry-control", "")?;
    let rate = pour(control.address, 16, Until::Requests(20_000), || wire::initialize(OTHER))
        .await?
        .per_second();
    let timeout = (MANY as f64 / rate as f64 * 1.5).ceil() + 1.0;
    let server = Server::start(
        place,
        "expiry",
        &format!(
            "[memory]\nmax_bytes = 2147483648\nmax_instance_bytes = 1073741824\n\
             [session]\ntimeout_seconds = 3600\n\
             [instances.{EXPIRING}.session]\ncapacity = {}\ntimeout_seconds = {timeout}\n\
             [instances.{TOLD}.session]\ncapacity = {}\n",
            MANY + 10_000,
            MANY + 10_000,
        ),
    )?;
    let measure = async |facts: &mut Facts| frozen(&server, &control, timeout, facts).await;
    let rate = twice_at_most(facts, measure).await?;
    twice_at_most(facts, async |facts| told(&server, &control, rate, facts).await).await?;
    Ok(())
}

/// What was seen of an expiry.
struct Seen {
    fine: bool,
    /// How long others had to wait.
    waits: String,
    /// Sessions that began in a second.
    rate: u64,
}

/// A wait that is too long may be the machine's; two in a row are not. Returns the rate.
async fn twice_at_most(
    facts: &mut Facts,
    measure: impl AsyncFn(&mut Facts) -> Result<Seen>,
) -> Result<u64> {
    let mut seen = measure(facts).await?;
    if !seen.fine {
        facts.note(format_args!("measured once more: {}", seen.waits));
        seen = measure(facts).await?;
    }
    facts.check(seen.fine, &seen.waits);
    Ok(seen.rate)
}

/// A server that stands still until all of its sessions are due.
async fn frozen(
    server: &Server,
    control: &Server,
    timeout: f64,
    facts: &mut Facts,
) -> Result<Seen> {
    let (empty, before) = (server.rss()?, server.counts(EXPIRING).await?);
    let poured =
        pour(server.address, 16, Until::Requests(MANY), || wire::initialize(EXPIRING)).await?;
    let due = Instant::now() + Duration::from_secs_f64(timeout);
    let full = server.rss()?;
    facts.check(
        poured.fine == MANY,
        format_args!("{} sessions began, {} a second", poured.fine, poured.per_second()),
    );
    facts.note(format_args!(
        "memory went from {} to {}, {} bytes a session",
        mib(empty),
        mib(full),
        full.saturating_sub(empty) / MANY as usize
    ));
    server.signal(Signal::Stop)?;
    sleep_until((due + Duration::from_millis(500)).into()).await;
    server.signal(Signal::Continue)?;
    let watch = Watch::start(server, control, &turns(EXPIRING));
    let all = before.expired + MANY;
    let rate = poured.per_second();
    judge(server, facts, EXPIRING, all, "frozen until all were due", watch, rate).await
}

/// Sessions each of which is told to live until the same moment.
async fn told(server: &Server, control: &Server, rate: u64, facts: &mut Facts) -> Result<Seen> {
    let mut wire = Wire::open(server.address).await?;
    let session = begin(&mut wire, TOLD).await?;
    // Those that live on: the one that asks, and what an earlier measurement has left.
    let before = server.counts(TOLD).await?;
    let due = Instant::now() + Duration::from_secs_f64(MANY as f64 / rate as f64 * 3.0 + 2.0);
    let create = move || {
        let left = due.saturating_duration_since(Instant::now()).as_secs_f64();
        let body = wire::call("create_session", &format!(r#"{{"timeout_seconds":{left:.3}}}"#));
        wire::request("POST", TOLD, Some(&session), &body)
    };
    let poured = pour(server.address, 16, Until::Requests(MANY), create).await?;
    let many = server.counts(TOLD).await?.live - before.live;
    // Those asked for in the last second are refused: it is the shortest life.
    facts.check(
        many > MANY / 2,
        format_args!("{many} handles of the same end, {} a second", poured.per_second()),
    );
    sleep_until((due - Duration::from_millis(500)).into()).await;
    let watch = Watch::start(server, control, &turns(TOLD));
    let all = before.expired + many;
    judge(server, facts, TOLD, all, "told to end at once", watch, rate).await
}

fn turns(instance: u8) -> [Turn; 3] {
    [Turn::Echo(OTHER), Turn::Echo(instance), Turn::Begin(instance)]
}

/// Lets the sessions of an instance expire until so many have, while others are watched, and holds their waits against the
/// control's.
async fn judge(
    server: &Server,
    facts: &mut Facts,
    instance: u8,
    all: u64,
    how: &str,
    watch: Watch,
    rate: u64,
) -> Result<Seen> {
    let start = Instant::now();
    let gone = server
        .eventually(Duration::from_secs(60), async |server| {
            Ok(server.counts(instance).await?.expired >= all)
        })
        .await?;
    let took = start.elapsed();
    sleep(Duration::from_millis(300)).await;
    let (times, control) = watch.finish()?;
    let counts = server.counts(instance).await?;
    facts.check(
        gone && counts.created == counts.live + counts.ended(),
        format_args!(
            "{how}: {} expired within {}; created {} = live {} + ended {}",
            counts.expired,
            ms(took),
            counts.created,
            counts.live,
            counts.ended()
        ),
    );
    facts.note(format_args!("memory is {}", mib(server.rss()?)));
    let fine = times.worst() <= PAUSE + control.worst() * 2;
    let waits = format!("{how}: the waits of others: {times}; at a server left alone: {control}");
    Ok(Seen { fine, waits, rate })
}
