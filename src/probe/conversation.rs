//! One session of a probe, from its beginning to after its end.
//!
//! Owns the course of the conversation and what only this session can know: its messages, its count, its
//! data. Refuses to go on once something was wrong: what follows would only repeat it.
//! Trap: a client may know its session by another id than the server does, so what the server calls it is
//! compared with what it said before, never with what was sent.

use std::{
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::HeaderValue;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    arguments::{Target, revision},
    exchange::{Answered, Channel, Shared, shortened},
    message,
    tally::Example,
    verdict::{Cause, Defect, Place, Reason, WrittenPlace},
};
use crate::wire::{headers::SESSION_HEADER, version::Era};

/// The key under which each session keeps its secret: the same in all, so that they would collide.
const KEY: &str = "secret";

/// Sees the session of that number through, and counts what became of it.
pub async fn hold(shared: &Shared<'_>, number: u32) {
    let turns = shared.plan.asked.era.turns();
    let era = turns[number as usize % turns.len()];
    let targets = &shared.plan.targets;
    let place = number as usize / turns.len() % targets.len();
    let target = &targets[place];
    // Where it must not be known; none if there is one host alone.
    let stranger = targets.get((place + 1) % targets.len()).filter(|_| targets.len() > 1);
    let mut talk = Talk {
        channel: Channel::new(shared, era, target),
        number,
        at: "",
        claimed: None,
        called: OnceLock::new(),
        counted: AtomicU64::new(0),
    };
    let broken = talk.see_through(stranger).await.err().map(|defect| {
        let host = target.name.clone();
        Example { session: number, era, host, at: talk.at, defect }
    });
    let ids = [talk.claimed, talk.called.into_inner()];
    let mut tally = shared.tally();
    tally.release(number, ids.iter().flatten());
    tally.ended(era, broken);
}

/// A session under way.
struct Talk<'a> {
    channel: Channel<'a>,
    number: u32,
    /// What it is about now: a tool, a method, or in words.
    at: &'static str,
    /// Its id, once nobody else's.
    claimed: Option<String>,
    /// What its server calls it.
    called: OnceLock<String>,
    /// Calls that the server must have counted.
    counted: AtomicU64,
}

impl Talk<'_> {
    async fn see_through(&mut self, stranger: Option<&Target>) -> Result<(), Defect> {
        match self.channel.era {
            Era::Sessioned => self.initialize().await?,
            Era::Stateless => self.create().await?,
        }
        // It is new, and nobody else's.
        self.at = "get_session_info";
        self.inform(&[]).await?;
        let shared = self.channel.shared;
        let secret = json!({ "run": shared.run, "session": self.number });
        self.at = "set_session_data";
        self.call(self.at, json!({ "key": KEY, "value": secret })).await?;
        // Half of the echoes come before the data is read, half after, so that it has time to meet
        // others'.
        let requests = shared.plan.asked.requests;
        self.at = "echo";
        self.echo(0..requests / 2).await?;
        self.at = "get_session_data";
        let one = self.call(self.at, json!({ "key": KEY })).await?;
        expect_data(&one["value"], &secret)?;
        self.at = "echo";
        self.echo(requests / 2..requests).await?;
        self.at = "get_session_data";
        let all = self.call(self.at, json!({})).await?;
        expect_data(&all["data"], &json!({ KEY: secret }))?;
        self.at = "get_session_info";
        self.inform(&[KEY]).await?;
        if let Some(stranger) = stranger {
            self.at = "the id at another host";
            self.stay_unknown(stranger).await?;
        }
        match self.channel.era {
            Era::Sessioned => {
                self.at = "DELETE";
                self.channel.delete().await?;
            }
            Era::Stateless => {
                self.at = "end_session";
                if self.call(self.at, json!({})).await?["ended"] != true {
                    return Err(Defect::Lost(Reason::Terminated));
                }
            }
        }
        self.at = "after its end";
        match self.call("get_session_data", json!({})).await {
            Err(Defect::Lost(_)) => Ok(()),
            Err(defect) => Err(defect),
            Ok(_) => Err(protocol("the session still answers after its end")),
        }
    }

    async fn initialize(&mut self) -> Result<(), Defect> {
        self.at = "initialize";
        let revision = revision(self.channel.era);
        let answered = self.channel.ask(self.at, message::initialize(revision), None).await?;
        let offered = &answered.result["protocolVersion"];
        if offered != revision.as_str() {
            return Err(protocol(&format!("asked for revision {revision}, was offered {offered}")));
        }
        let id = answered.headers.get(SESSION_HEADER).cloned();
        let id = id.ok_or_else(|| protocol("the answer has no Mcp-Session-Id"))?;
        self.begin(id, &answered, Place::default())?;
        self.at = "notifications/initialized";
        self.channel.notify(self.at).await
    }

    async fn create(&mut self) -> Result<(), Defect> {
        #[derive(Deserialize)]
        struct Created {
            session: String,
            minted_by: WrittenPlace,
        }
        self.at = "create_session";
        let label = format!("probe {} session {}", self.channel.shared.run, self.number);
        let (answered, created) = self.channel.call(self.at, json!({ "label": label })).await?;
        let Created { session, minted_by } = read(created)?;
        let id = HeaderValue::from_str(&session);
        let id = id.map_err(|_| protocol("the handle fits no header"))?;
        self.begin(id, &answered, minted_by.into())
    }

    /// The session has this id from now on, and nobody else has.
    fn begin(&mut self, id: HeaderValue, answered: &Answered, said: Place) -> Result<(), Defect> {
        let minted_by = &mut self.channel.minted_by;
        minted_by.learn(&answered.served_by);
        minted_by.learn(&said);
        let text = String::from_utf8_lossy(id.as_bytes()).into_owned();
        let mut tally = self.channel.shared.tally();
        tally.minted(minted_by);
        tally.claim(&text, self.number).map_err(|owner| {
            Defect::Crossed(format!("it was given the id that session {owner} has"))
        })?;
        self.claimed = Some(text);
        self.channel.id = Some(id);
        Ok(())
    }

    /// Calls a tool of this session that counts.
    async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Defect> {
        let (_, structured) = self.channel.call(tool, arguments).await?;
        self.counted.fetch_add(1, Ordering::Relaxed);
        Ok(structured)
    }

    /// Calls `echo` once for each number, as many at a time as was asked for.
    async fn echo(&self, numbers: Range<u32>) -> Result<(), Defect> {
        let first = self.counted.load(Ordering::Relaxed) + 1;
        let at_a_time = self.channel.shared.plan.asked.in_flight as usize;
        let calls = stream::iter(numbers).map(|number| self.echo_once(number));
        let mut counts: Vec<u64> = calls.buffer_unordered(at_a_time).try_collect().await?;
        // Those that are under way together are counted in any order, but each of them once.
        if at_a_time > 1 {
            counts.sort_unstable();
        }
        for (count, expected) in counts.into_iter().zip(first..) {
            expect_count(count, expected)?;
        }
        Ok(())
    }

    /// The count that came with the message.
    async fn echo_once(&self, number: u32) -> Result<u64, Defect> {
        #[derive(Deserialize)]
        struct Echoed {
            message: String,
            session_id: Option<String>,
            request_count: Option<u64>,
        }
        let sent = format!("{} session {} echo {number}", self.channel.shared.run, self.number);
        let (answered, told) = self.channel.call("echo", json!({ "message": sent })).await?;
        self.counted.fetch_add(1, Ordering::Relaxed);
        let text = answered.result["content"][0]["text"].as_str().unwrap_or_default();
        let Echoed { message, session_id, request_count } = read(told)?;
        for said in [text, &message] {
            if said != sent {
                let said = shortened(said);
                return Err(Defect::Crossed(format!("sent {sent:?}, was told {said:?}")));
            }
        }
        // Without a session, the server says so.
        let (Some(id), Some(count)) = (session_id, request_count) else {
            return Err(Defect::Lost(Reason::Replaced));
        };
        self.expect_id(&id)?;
        Ok(count)
    }

    /// What the session tells of itself must fit what was done with it.
    async fn inform(&mut self, keys: &[&str]) -> Result<(), Defect> {
        #[derive(Deserialize)]
        struct Info {
            session_id: String,
            request_count: u64,
            data_keys: Vec<String>,
            minted_by: WrittenPlace,
            served_by: WrittenPlace,
        }
        let expected = self.counted.load(Ordering::Relaxed);
        // Is not counted itself.
        let (_, told) = self.channel.call(self.at, json!({})).await?;
        let Info { session_id, request_count, data_keys, minted_by, served_by } = read(told)?;
        self.expect_id(&session_id)?;
        let (minted_by, served_by) = (Place::from(minted_by), Place::from(served_by));
        for place in [&served_by, &minted_by] {
            self.channel.check_place(place)?;
            self.channel.minted_by.learn(place);
        }
        self.channel.shared.tally().learn(&served_by.process);
        expect_count(request_count, expected)?;
        if data_keys != keys {
            let told = shortened(&data_keys.join(", "));
            return Err(Defect::Crossed(format!("stored the keys {keys:?}, was told of {told:?}")));
        }
        Ok(())
    }

    /// The server must go on calling the session what it called it first.
    fn expect_id(&self, id: &str) -> Result<(), Defect> {
        let mut tally = self.channel.shared.tally();
        match (self.called.get(), tally.owner(id)) {
            (Some(known), _) if known == id => Ok(()),
            (_, Some(owner)) if owner != self.number => {
                Err(Defect::Crossed(format!("session {owner} answered in its place")))
            }
            (Some(_), _) => Err(Defect::Lost(Reason::Replaced)),
            (None, _) => {
                // Nobody has it, as was just seen.
                let _ = tally.claim(id, self.number);
                // With several calls under way, the first to come back.
                let _ = self.called.set(id.to_owned());
                Ok(())
            }
        }
    }

    /// Another of the ten must not know the session.
    async fn stay_unknown(&self, stranger: &Target) -> Result<(), Defect> {
        let asked = self.channel.elsewhere(stranger).call("get_session_data", json!({})).await;
        match asked {
            Ok(_) => {
                let host = &stranger.name;
                Err(Defect::Crossed(format!("{host} answered for it, where it was not begun")))
            }
            // Whoever may have answered, it was not with what is this session's.
            Err(Defect::Lost(_) | Defect::NoSession { .. }) => Ok(()),
            Err(Defect::Failed(Cause::Status(status), _)) if status < 500 => Ok(()),
            Err(defect @ (Defect::Crossed(_) | Defect::Failed(..))) => Err(defect),
        }
    }
}

fn expect_data(told: &Value, stored: &Value) -> Result<(), Defect> {
    if told == stored {
        return Ok(());
    }
    let told = shortened(&told.to_string());
    Err(Defect::Crossed(format!("stored {stored}, was told {told}")))
}

fn expect_count(told: u64, expected: u64) -> Result<(), Defect> {
    if told == expected {
        return Ok(());
    }
    Err(Defect::Crossed(format!("made {expected} calls so far, was told of {told}")))
}

fn protocol(detail: &str) -> Defect {
    Defect::Failed(Cause::Protocol, detail.to_owned())
}

fn read<T: DeserializeOwned>(structured: Value) -> Result<T, Defect> {
    serde_json::from_value(structured).map_err(|error| {
        protocol(&format!("the structured content is not what it should be: {error}"))
    })
}
