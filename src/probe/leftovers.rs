//! Whether a gateway leaves its sessions with the server behind when its clients end theirs.
//!
//! Owns looking for them, after all sessions have ended: a witness, one more client of the gateway, asks `get_session_info`
//! for each by its upstream id, which every session tool takes as a handle in every revision. The server then says itself
//! whether it has ended. So it works through whatever lies between, and no other client disturbs it.
//! Traps: gateways may end a session some time after they have answered the DELETE. Behind several replicas the witness may
//! reach another one than had the session, so each round has a new witness.

use std::{mem, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use super::{
    evidence::{Ended, Leftovers},
    exchange::{Channel, Shared},
    opening, survey,
    target::Target,
    verdict::Defect,
};
use crate::wire::Era;

/// What passes before each round.
const WAITS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(300),
    Duration::from_millis(700),
    Duration::from_secs(2),
];

/// What the server says of an upstream session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    There,
    Gone,
    /// None of those that were asked would know.
    Unknown,
}

/// Looks for what all ended sessions may have left behind.
pub(super) async fn look(shared: &Shared<'_>) {
    let ended = mem::take(&mut shared.tally().evidence.ended);
    if ended.is_empty() {
        return;
    }
    let here = |number| ended.iter().filter(move |one: &&Ended| one.target == number);
    let targets = shared.plan.targets.iter();
    let looks = targets.map(|target| look_at(shared, target, here(target.number).collect()));
    let states: Vec<_> = join_all(looks).await.into_iter().flatten().collect();
    let count = |wanted| states.iter().filter(|state| **state == wanted).count() as u32;
    let (left, gone) = (count(State::There), count(State::Gone));
    shared.tally().evidence.leftovers = Some(Leftovers { looked_for: left + gone, left });
}

async fn look_at(shared: &Shared<'_>, target: &Target, ended: Vec<&Ended>) -> Vec<State> {
    let mut states: Vec<_> = ended.iter().map(|_| State::Unknown).collect();
    let mut witness = None;
    for wait in WAITS {
        if states.iter().all(|state| *state == State::Gone) {
            break;
        }
        sleep(wait).await;
        // One that fails has seen nothing.
        let Ok(channel) = (match witness.take() {
            Some(channel) => Ok(channel),
            None => open(shared, target).await,
        }) else {
            continue;
        };
        for (one, state) in ended.iter().zip(&mut states) {
            if *state == State::Gone {
                continue;
            }
            match ask(&channel, one).await {
                State::Unknown => {}
                known @ (State::There | State::Gone) => *state = known,
            }
        }
        match states.contains(&State::Unknown) {
            true => close(channel).await,
            false => witness = Some(channel),
        }
    }
    if let Some(channel) = witness {
        close(channel).await;
    }
    states
}

async fn open<'a>(shared: &'a Shared<'a>, target: &'a Target) -> Result<Channel<'a>, Defect> {
    let mut channel = Channel::new(shared, Era::Sessioned, target);
    (_, channel.id) = opening::initialize(&mut channel).await?;
    channel.notify("notifications/initialized").await?;
    survey::learn_names(&channel).await?;
    Ok(channel)
}

async fn ask(channel: &Channel<'_>, one: &Ended) -> State {
    match channel.call("get_session_info", json!({ "session": one.id })).await {
        Ok((_, told)) if told["session_id"] == one.id.as_str() => State::There,
        Err(Defect::Lost(_)) => State::Gone,
        Ok(_) | Err(Defect::Misrouted { .. } | Defect::Crossed(_) | Defect::Failed(..)) => {
            State::Unknown
        }
    }
}

async fn close(channel: Channel<'_>) {
    if channel.id.is_some() {
        // What becomes of it is no concern here: sessions that end are looked at elsewhere.
        let _ = channel.delete().await;
    }
}
