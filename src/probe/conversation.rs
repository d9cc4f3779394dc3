//! One session of a probe, from its beginning until after its end.
//!
//! Owns the order of the requests, and what only this session can check: its messages, its count, its data. It stops at
//! the first defect, since others would only follow from it.
//! Trap: a proxy may give clients other ids than the server's, so the id that the server reports is compared with what it
//! reported before, not with the id that is sent.

use std::{
    collections::HashSet,
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
    exchange::{Answered, Channel, Deleted, Shared, shortened},
    names::TICKS,
    opening, survey,
    tally::Example,
    target::Target,
    verdict::{Cause, Defect, Place, Reason},
};
use crate::wire::Era;

/// The key of each session's data. It is the same in all, so that they collide if they are not kept apart.
const KEY: &str = "secret";

/// Runs the session of that number and counts what became of it.
pub(super) async fn hold(shared: &Shared<'_>, number: u32) {
    let turns = shared.plan.turns;
    let era = turns[number as usize % turns.len()];
    let targets = &shared.plan.targets;
    let place = number as usize / turns.len() % targets.len();
    let target = &targets[place];
    // Where the session must not be known; none if there is only one host.
    let stranger = targets.get((place + 1) % targets.len()).filter(|_| targets.len() > 1);
    let mut talk = Talk {
        channel: Channel::new(shared, era, target),
        number,
        at: "",
        claimed: None,
        called: OnceLock::new(),
        counted: AtomicU64::new(0),
    };
    let mut broken = talk.see_through(stranger).await.err();
    let anew = broken == Some(Defect::Lost(Reason::Replaced)) && talk.is_anew_each_time().await;
    if let Some(defect) = &mut broken {
        talk.explain(defect).await;
    }
    let host = || target.label.clone();
    let broken =
        broken.map(|defect| Example { session: number, era, host: host(), at: talk.at, defect });
    let roamed = talk.channel.roamed.into_inner();
    let ids = [talk.claimed, talk.called.into_inner()];
    let mut tally = shared.tally();
    if let Some(revision) = talk.channel.revision {
        *tally.evidence.revisions.entry(revision).or_default() += 1;
    }
    tally.evidence.anew_each_time += u32::from(anew);
    tally.evidence.roamed += u32::from(roamed);
    tally.release(number, ids.iter().flatten());
    tally.ended(era, broken);
}

struct Talk<'a> {
    channel: Channel<'a>,
    number: u32,
    /// The current step, as reports show it: a tool, a method, or words.
    at: &'static str,
    /// The id that is sent, once it is known that no other session has it.
    claimed: Option<String>,
    /// The id that the server reports.
    called: OnceLock<String>,
    /// What `request_count` must be.
    counted: AtomicU64,
}

impl Talk<'_> {
    async fn see_through(&mut self, stranger: Option<&Target>) -> Result<(), Defect> {
        match self.channel.era {
            Era::Sessioned => {
                self.initialize().await?;
                self.learn_names().await?;
                self.inform(&[]).await?;
                self.watch_progress().await?;
            }
            Era::Stateless => {
                self.learn_names().await?;
                // This names no session, so any place may answer.
                self.watch_progress().await?;
                self.create().await?;
                self.inform(&[]).await?;
            }
        }
        let shared = self.channel.shared;
        let secret = json!({ "run": shared.run, "session": self.number });
        self.at = "set_session_data";
        self.call(self.at, json!({ "key": KEY, "value": secret })).await?;
        // Half of the echoes come before the data is read and half after, so that sessions have time to be mixed up.
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
        self.inform(&[KEY]).await?;
        if let Some(stranger) = stranger {
            self.at = "the id at another host";
            self.stay_unknown(stranger).await?;
        }
        self.end().await
    }

    async fn end(&mut self) -> Result<(), Defect> {
        match self.channel.era {
            // What has no id has no end.
            Era::Sessioned if self.claimed.is_none() => return Ok(()),
            Era::Sessioned => {
                self.at = "DELETE";
                match self.channel.delete().await? {
                    Deleted::Ended => {}
                    Deleted::NotAllowed => {
                        self.channel.shared.tally().evidence.undeletable += 1;
                        return Ok(());
                    }
                }
            }
            Era::Stateless => {
                self.at = "end_session";
                if self.call(self.at, json!({})).await?["ended"] != true {
                    return Err(Defect::Lost(Reason::Terminated));
                }
            }
        }
        self.at = "after its end";
        let called = self.called.get();
        match self.channel.call("get_session_info", json!({})).await {
            Err(Defect::Lost(_)) => {}
            Err(defect) => return Err(defect),
            Ok((_, told)) if called.is_some_and(|id| told["session_id"] == id.as_str()) => {
                let detail = "the session still answers after its end".to_owned();
                return Err(Defect::Failed(Cause::LivesOn, detail));
            }
            Ok(_) => {
                let detail = "a new session answers for the id of one that has ended".to_owned();
                return Err(Defect::Failed(Cause::Reborn, detail));
            }
        }
        // Where the client's id is the server's, the server has just said so itself.
        if let Some(upstream) = called.filter(|id| self.claimed.as_ref() != Some(id)) {
            let target = self.channel.target.number;
            self.channel.shared.tally().evidence.has_ended(target, upstream.clone());
        }
        Ok(())
    }

    async fn initialize(&mut self) -> Result<(), Defect> {
        self.at = "initialize";
        let (answered, id) = opening::initialize(&mut self.channel).await?;
        match id {
            Some(id) => self.begin(id, &answered, Place::default())?,
            None => self.channel.shared.tally().evidence.nameless += 1,
        }
        self.at = "notifications/initialized";
        self.channel.notify(self.at).await
    }

    async fn learn_names(&mut self) -> Result<(), Defect> {
        self.at = "tools/list";
        survey::learn_names(&self.channel).await
    }

    async fn watch_progress(&mut self) -> Result<(), Defect> {
        if !survey::is_to_watch(&self.channel) {
            return Ok(());
        }
        self.at = TICKS;
        let calls = survey::watch_progress(&self.channel).await?;
        if self.channel.era == Era::Sessioned {
            self.counted.fetch_add(calls, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn create(&mut self) -> Result<(), Defect> {
        #[derive(Deserialize)]
        struct Created {
            session: String,
            minted_by: Place,
        }
        self.at = "create_session";
        let label = format!("probe {} session {}", self.channel.shared.run, self.number);
        let (answered, created) = self.channel.call(self.at, json!({ "label": label })).await?;
        let Created { session, minted_by } = read(created)?;
        let id = HeaderValue::from_str(&session);
        let id = id.map_err(|_| protocol("the handle fits no header"))?;
        self.begin(id, &answered, minted_by)
    }

    /// Gives the session its id, which no other session may have.
    fn begin(&mut self, id: HeaderValue, answered: &Answered, said: Place) -> Result<(), Defect> {
        let minted_by = &mut self.channel.minted_by;
        minted_by.learn(&answered.served_by);
        minted_by.learn(&said);
        let text = String::from_utf8_lossy(id.as_bytes()).into_owned();
        let mut tally = self.channel.shared.tally();
        if !minted_by.process.is_unknown() {
            tally.minted(minted_by);
        }
        tally.claim(&text, self.number).map_err(|owner| {
            Defect::Crossed(format!("it was given the id that session {owner} has"))
        })?;
        self.claimed = Some(text);
        self.channel.id = Some(id);
        Ok(())
    }

    /// Calls a tool that is counted.
    async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Defect> {
        let (_, structured) = self.channel.call(tool, arguments).await?;
        self.counted.fetch_add(1, Ordering::Relaxed);
        Ok(structured)
    }

    /// Calls `echo` once for each number, `--in-flight` at a time.
    async fn echo(&self, numbers: Range<u32>) -> Result<(), Defect> {
        let first = self.counted.load(Ordering::Relaxed) + 1;
        let at_a_time = self.channel.shared.plan.asked.in_flight as usize;
        let calls = stream::iter(numbers).map(|number| self.echo_once(number));
        let mut counts: Vec<u64> = calls.buffer_unordered(at_a_time).try_collect().await?;
        // Concurrent calls may be counted in any order, but each of them once.
        if at_a_time > 1 {
            counts.sort_unstable();
        }
        for (count, expected) in counts.into_iter().zip(first..) {
            expect_count(count, expected)?;
        }
        Ok(())
    }

    /// Returns the count that came with the message.
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
        // These are null if the server knows of no session.
        let (Some(id), Some(count)) = (session_id, request_count) else {
            return Err(Defect::Lost(Reason::Replaced));
        };
        self.expect_id(&id)?;
        Ok(count)
    }

    /// Checks what the session says of itself against what was done with it.
    async fn inform(&mut self, keys: &[&str]) -> Result<(), Defect> {
        #[derive(Deserialize)]
        struct Info {
            session_id: String,
            request_count: u64,
            data_keys: Vec<String>,
            minted_by: Place,
            served_by: Place,
        }
        self.at = "get_session_info";
        let expected = self.counted.load(Ordering::Relaxed);
        // This call is not counted.
        let (_, told) = self.channel.call(self.at, json!({})).await?;
        let Info { session_id, request_count, data_keys, minted_by, served_by } = read(told)?;
        self.expect_id(&session_id)?;
        // Who created it never changes, whoever serves it.
        if !self.channel.minted_by.may_be(&minted_by) {
            return Err(self.channel.misrouted(&minted_by));
        }
        if self.channel.minted_by.process.is_unknown() {
            self.channel.shared.tally().minted(&minted_by);
        }
        self.channel.minted_by.learn(&minted_by);
        self.channel.check_place(&served_by)?;
        if self.channel.minted_by.may_be(&served_by) {
            self.channel.minted_by.learn(&served_by);
        }
        self.channel.shared.tally().learn(&served_by.process);
        if expected == 0 && request_count > 0 {
            // It is new to this client alone.
            self.channel.shared.tally().evidence.reused += 1;
        }
        expect_count(request_count, expected)?;
        if data_keys != keys {
            let told = shortened(&data_keys.join(", "));
            return Err(Defect::Crossed(format!("stored the keys {keys:?}, was told of {told:?}")));
        }
        Ok(())
    }

    /// The server must always report the same id, and no other session may have been given it.
    fn expect_id(&self, id: &str) -> Result<(), Defect> {
        let mut tally = self.channel.shared.tally();
        let known = self.called.get();
        if known.is_some_and(|known| known == id) {
            return Ok(());
        }
        let earlier = match known {
            None => tally.evidence.given(id, self.number),
            Some(_) => None,
        };
        match (known, tally.owner(id).filter(|owner| *owner != self.number), earlier) {
            (_, Some(owner), _) => {
                Err(Defect::Crossed(format!("session {owner} answered in its place")))
            }
            (Some(_), None, _) => Err(Defect::Lost(Reason::Replaced)),
            (None, None, Some(earlier)) => Err(Defect::Crossed(format!(
                "it was given what session {earlier} had, which has ended"
            ))),
            (None, None, None) => {
                // Neither fails: no other session has this id, and `called` was empty under the same lock.
                let _ = tally.claim(id, self.number);
                let _ = self.called.set(id.to_owned());
                Ok(())
            }
        }
    }

    /// Whether each further request is answered in yet another session.
    async fn is_anew_each_time(&self) -> bool {
        let mut seen: HashSet<_> = self.called.get().cloned().into_iter().collect();
        for _ in 0..2 {
            let Ok((_, told)) = self.channel.call("get_session_info", json!({})).await else {
                return false;
            };
            if !told["session_id"].as_str().is_some_and(|id| seen.insert(id.to_owned())) {
                return false;
            }
        }
        true
    }

    /// Looks closer at what broke before the server has said anything.
    async fn explain(&self, defect: &mut Defect) {
        let peer = &self.channel.target.peer;
        let Defect::Failed(cause @ (Cause::Broken | Cause::Status(400)), detail) = defect else {
            return;
        };
        if !matches!(self.at, "initialize" | "tools/list") {
            return;
        }
        if peer.tls.is_none() && peer.speaks_tls().await {
            *cause = Cause::OnlyTls;
            *detail = format!("plain HTTP was sent to a port that speaks TLS: {detail}");
        } else if let (Cause::Status(400), Era::Stateless) = (*cause, self.channel.era) {
            *cause = Cause::Revision;
        }
    }

    /// Another instance must not know the session.
    async fn stay_unknown(&self, stranger: &Target) -> Result<(), Defect> {
        let asked = self.channel.elsewhere(stranger).call("get_session_data", json!({})).await;
        match asked {
            Ok(_) => {
                let host = &stranger.label;
                Err(Defect::Crossed(format!("{host} answered for it, where it was not begun")))
            }
            // Not found, whoever answered.
            Err(Defect::Lost(_) | Defect::Misrouted { .. }) => Ok(()),
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
