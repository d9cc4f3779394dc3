//! Whether progress arrives, and when.
//!
//! Owns one call of `stream_ticks` that asks for progress, and what becomes of its events. If they do not come as they were
//! sent, it is called again, and this time the session's own stream is listened to as well.
//! Trap: clocks of two machines differ, so only the time between the first and the last event is compared.

use std::time::{Duration, Instant};

use futures_util::future::join;
use jiff::Timestamp;
use serde_json::json;
use tokio::{sync::oneshot, time::sleep};

use super::{connection::Answer, exchange::Channel, message, names::TICKS, verdict::Defect};
use crate::wire::Era;

/// Events in one call.
const COUNT: u32 = 5;
/// Between them.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long a stream may take to be there, and an event that comes by it.
const SETTLING: Duration = Duration::from_millis(250);

/// How the events of one call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    AsSent,
    /// All of them, but on the session's own stream rather than with the answer.
    Aside,
    /// All of them, together.
    HeldBack,
    /// Not all of them.
    Lost,
    /// The server could not send any, for it was not to answer with a stream.
    Unstreamed,
}

#[derive(Clone, Debug)]
pub(super) struct Ticks {
    /// The target's label.
    pub(super) target: String,
    pub(super) era: Era,
    pub(super) sent: u32,
    pub(super) arrived: u32,
    /// From the first event to the last.
    pub(super) sent_over: Duration,
    pub(super) arrived_over: Duration,
    aside: bool,
    streamed: bool,
}

/// An event: when it came, and when it says that it was sent.
type Tick = (Instant, Option<Timestamp>);

/// What came of a call.
struct Called {
    ticks: Vec<Tick>,
    streamed: bool,
}

/// Calls once, and once more if need be. Returns how many calls it took as well.
pub(super) async fn watch(channel: &Channel<'_>) -> Result<(Ticks, u64), Defect> {
    let first = Ticks::of(channel, &call(channel, "probe-1").await?, false);
    if let Arrival::AsSent | Arrival::Unstreamed = first.arrival() {
        return Ok((first, 1));
    }
    let token = "probe-2";
    let (done, until) = oneshot::channel::<()>();
    let listen = async {
        match channel.era {
            Era::Sessioned => channel.listen(async move { _ = until.await }).await,
            // There is no other stream. But one late event may have been chance.
            Era::Stateless => None,
        }
    };
    let (aside, with_answer) = join(listen, async move {
        sleep(SETTLING).await;
        let called = call(channel, token).await;
        sleep(SETTLING).await;
        drop(done);
        called
    })
    .await;
    let mut called = with_answer?;
    let aside = aside.map(|answer| ticks(&answer, token)).unwrap_or_default();
    let is_aside = aside.len() > called.ticks.len();
    if is_aside {
        called.ticks = aside;
    }
    Ok((Ticks::of(channel, &called, is_aside), 2))
}

async fn call(channel: &Channel<'_>, token: &str) -> Result<Called, Defect> {
    let arguments = json!({ "count": COUNT, "interval_ms": INTERVAL.as_millis() as u64 });
    let (answered, told) = channel.call_telling(TICKS, arguments, Some(token)).await?;
    Ok(Called { ticks: ticks(&answered.answer, token), streamed: told["streamed"] != false })
}

fn ticks(answer: &Answer, token: &str) -> Vec<Tick> {
    let told = message::progress(&answer.body, token).into_iter().filter_map(|(end, text)| {
        let (_, came) = answer.growth.iter().find(|(length, _)| *length >= end)?;
        let sent = text.rsplit_once("sent at ").and_then(|(_, at)| at.trim().parse().ok());
        Some((*came, sent))
    });
    told.collect()
}

impl Ticks {
    fn of(channel: &Channel<'_>, called: &Called, aside: bool) -> Self {
        let ticks = &called.ticks;
        let over = ticks.first().zip(ticks.last());
        let told = over.and_then(|(first, last)| last.1?.duration_since(first.1?).try_into().ok());
        let came = over.map(|(first, last)| last.0.saturating_duration_since(first.0));
        Self {
            target: channel.target.label.clone(),
            era: channel.era,
            sent: COUNT,
            arrived: u32::try_from(ticks.len()).unwrap_or(u32::MAX),
            sent_over: told.unwrap_or(INTERVAL * (COUNT - 1)),
            arrived_over: came.unwrap_or_default(),
            aside,
            streamed: called.streamed,
        }
    }

    pub(super) fn arrival(&self) -> Arrival {
        // Half of the time between them would be much for a busy machine; what is held back takes next to none.
        let together = self.arrived_over < self.sent_over / 4;
        match (self.arrived < self.sent, together, self.aside) {
            (true, _, _) if !self.streamed => Arrival::Unstreamed,
            (true, _, _) => Arrival::Lost,
            (false, true, _) => Arrival::HeldBack,
            (false, false, true) => Arrival::Aside,
            (false, false, false) => Arrival::AsSent,
        }
    }
}
