//! News between replicas: one stream an instance in the store, and a bell.
//!
//! Owns [`News`], this replica's part of it, and the one reader. The bell only rings; what has happened stands in the
//! stream. So after a bell, and every few seconds without one, the reader reads from where it was. What it has missed for
//! good, because the stream is bounded, it makes up for by asking the store how its conversations stand.
//! Trap: its own news come back to a replica, and the same news may come again. So to act on them twice does no harm, and
//! what would be notified twice says who wrote it.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    select,
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{SharedStore, codec::read_level, subscribers::unveil};
use crate::{
    clock::millis,
    id::SessionDigest,
    link::{Call, Lost, Reply, scripts},
    session::{
        Conversation, lock,
        news::{Audience, Changed, Untold},
    },
    wire::{Id, jsonrpc::MAX_ID},
};

scripts! { "prelude.lua":
    HEAR: repeated, "hear.lua";
    STANDING: repeated, "standing.lua";
    PUBLISH: repeated, "publish.lua";
    ASK: repeated, "ask.lua";
    ANSWER: promised, "answer.lua";
    TAKE: repeated, "take.lua";
    WITHDRAW: repeated, "withdraw.lua";
    CANCEL: repeated, "cancel.lua";
    SILENT: repeated, "silent.lua";
}

/// A bell that was not heard is made good after that time.
const AT_LATEST: Duration = Duration::from_secs(3);
/// After this, what the store could not be told is told again.
const AGAIN: Duration = Duration::from_millis(250);
/// Between two reads, so that many changes are one read.
const PAUSE: Duration = Duration::from_millis(5);
/// How many entries one script reads, and of how many sessions one tells how they stand.
const PAGE: u64 = 256;
/// How much longer than its asker waits a question stands in the store.
const MARGIN: Duration = Duration::from_secs(30);
/// What has not been told.
const UNTOLD: usize = 1024;
/// As many are told at once.
const TOLD_AT_ONCE: usize = 64;

/// The answer that is an error; others begin with `=`.
const REFUSED: &str = "!";

/// What a replica knows of the others.
#[derive(Debug)]
pub(super) struct News {
    /// Who writes here.
    writer: String,
    outbox: mpsc::Sender<Untold>,
    /// Until the reader takes it.
    untold: Mutex<Option<mpsc::Receiver<Untold>>>,
    /// What there was no room to tell.
    dropped: AtomicU64,
    /// Those who wait for event logs, by session.
    logs: Mutex<HashMap<SessionDigest, watch::Sender<()>>>,
}

impl News {
    pub(super) fn new() -> Self {
        let (outbox, untold) = mpsc::channel(UNTOLD);
        Self {
            writer: uuid::Uuid::new_v4().simple().to_string(),
            outbox,
            untold: Mutex::new(Some(untold)),
            dropped: AtomicU64::new(0),
            logs: Mutex::default(),
        }
    }

    /// Who writes here.
    pub(super) fn writer(&self) -> &str {
        &self.writer
    }

    /// Tells it soon, if there is room.
    pub(super) fn tell(&self, what: Untold) {
        if self.outbox.try_send(what).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An event log of the session may have grown.
    fn ring_log(&self, session: SessionDigest) {
        if let Some(bell) = lock(&self.logs).get(&session) {
            bell.send_replace(());
        }
    }

    /// A session has ended: its event logs grow no more.
    pub(super) fn no_more_of(&self, session: SessionDigest) {
        lock(&self.logs).remove(&session);
    }
}

/// One entry of the stream.
#[derive(Debug, Default)]
struct Entry {
    kind: String,
    writer: String,
    session: Option<SessionDigest>,
    digest: Option<SessionDigest>,
    level: String,
    question: Option<u64>,
    call: String,
    uri: String,
}

impl Entry {
    /// A member that is not known was written by a later version.
    fn read(mut members: Reply) -> Option<Self> {
        let mut entry = Self::default();
        while members.len() > 0 {
            let (name, value) = (members.text()?, members.text()?);
            match &*name {
                "k" => entry.kind = value,
                "w" => entry.writer = value,
                "s" => entry.session = SessionDigest::parse(value.as_bytes()),
                "d" => entry.digest = SessionDigest::parse(value.as_bytes()),
                "l" => entry.level = value,
                "q" => entry.question = value.parse().ok(),
                "c" => entry.call = value,
                "u" => entry.uri = value,
                _ => {}
            }
        }
        Some(entry)
    }
}

impl SharedStore {
    /// Tells other replicas of a change soon.
    pub(in crate::session) fn tell(&self, what: Changed) {
        self.news.tell(Untold::Changed(what));
    }

    /// How much was not told, because too much was untold already.
    pub(in crate::session) fn dropped(&self) -> u64 {
        self.news.dropped.load(Ordering::Relaxed)
    }

    /// See [`SessionStore::log_bell`](crate::session::SessionStore::log_bell).
    pub(in crate::session) fn log_bell(&self, session: SessionDigest) -> watch::Receiver<()> {
        let mut logs = lock(&self.news.logs);
        // Now and then those go for whom nobody waits.
        if logs.len().is_power_of_two() {
            logs.retain(|_, bell| bell.receiver_count() > 0);
        }
        logs.entry(session).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// See [`SessionStore::hear`](crate::session::SessionStore::hear).
    pub(in crate::session) async fn hear(&self, audience: &dyn Audience) {
        // Of two readers one would hear nothing.
        let Some(mut untold) = lock(&self.news.untold).take() else { return };
        let channel = self.key.strip_suffix("live").unwrap_or(&self.key);
        let bell = self.link.bell(&format!("{channel}bell"));
        let (mut last, mut some) = (String::new(), Vec::new());
        loop {
            // The next bell or the next few seconds make good what fails.
            let _ = self.read_on(&mut last, audience).await;
            sleep(PAUSE).await;
            let latest = Instant::now() + AT_LATEST;
            loop {
                let none = some.is_empty();
                select! {
                    () = bell.rung() => break,
                    () = sleep_until(latest) => break,
                    _ = untold.recv_many(&mut some, TOLD_AT_ONCE), if none => {}
                    () = sleep(AGAIN), if !none => {}
                }
                self.publish(&mut some).await;
            }
        }
    }

    /// Tells the other replicas. What the store could not be told is left.
    async fn publish(&self, some: &mut Vec<Untold>) {
        let mut changes = Call::new(&PUBLISH, &self.key).text(&self.news.writer);
        let mut withdrawals = Call::new(&WITHDRAW, &self.key);
        let mut silences = Call::new(&SILENT, &self.key).text(&self.news.writer);
        let mut once = Vec::with_capacity(some.len());
        some.retain(|what| {
            let new = !once.contains(what);
            once.push(*what);
            new
        });
        for what in some.iter() {
            match *what {
                Untold::Changed(what) => {
                    let (kind, digest) = match what {
                        Changed::Tools => ("tools", None),
                        Changed::Prompts => ("prompts", None),
                        Changed::Resource(digest) => ("resource", Some(digest)),
                        Changed::Task(digest) => ("task", Some(digest)),
                    };
                    changes = changes.text(kind).bytes(digest.map(digits).unwrap_or_default());
                }
                Untold::Withdrawn(session, question) => {
                    withdrawals = withdrawals.bytes(digits(session)).number(question);
                }
                Untold::Silent(session) => silences = silences.bytes(digits(session)),
            }
        }
        type IsOfIt = fn(&Untold) -> bool;
        let kinds: [(Call, IsOfIt); 3] = [
            (withdrawals, |what| matches!(what, Untold::Withdrawn(..))),
            (silences, |what| matches!(what, Untold::Silent(_))),
            (changes, |what| matches!(what, Untold::Changed(_))),
        ];
        for (call, is_of_it) in kinds {
            if some.iter().any(is_of_it) && self.run(&call).await.is_ok() {
                some.retain(|what| !is_of_it(what));
            }
        }
    }

    /// See [`SessionStore::expect_answer`](crate::session::SessionStore::expect_answer).
    pub(in crate::session) async fn expect_answer(
        &self,
        session: SessionDigest,
        question: u64,
        time: Duration,
    ) -> Result<(), Lost> {
        let call = Call::new(&ASK, &self.key).bytes(digits(session)).number(question);
        let call = call.number(millis(time.saturating_add(MARGIN)));
        let until = Instant::now() + time;
        while self.run(&call).await.is_err() {
            if Instant::now() >= until {
                return Err(Lost);
            }
            sleep(AGAIN).await;
        }
        Ok(())
    }

    /// See [`SessionStore::answer_elsewhere`](crate::session::SessionStore::answer_elsewhere).
    pub(in crate::session) async fn answer_elsewhere(
        &self,
        session: SessionDigest,
        question: u64,
        result: Option<&str>,
    ) -> Result<(), Lost> {
        let answer = result.map_or(REFUSED.to_owned(), |result| format!("={result}"));
        let call = Call::new(&ANSWER, &self.key).bytes(digits(session)).number(question);
        self.run(&call.bytes(answer.into_bytes())).await.map(|_| ())
    }

    pub(in crate::session) fn withdraw(&self, session: SessionDigest, question: u64) {
        // One that is not withdrawn expires.
        self.news.tell(Untold::Withdrawn(session, question));
    }

    pub(in crate::session) async fn cancel_elsewhere(
        &self,
        session: SessionDigest,
        id: Id<'_>,
    ) -> Result<(), Lost> {
        let id = id.to_string();
        // No call has one that is longer.
        if id.len() > MAX_ID {
            return Ok(());
        }
        let call = Call::new(&CANCEL, &self.key).bytes(digits(session));
        let call = call.text(&self.news.writer).text(&id);
        self.run(&call).await.map(|_| ())
    }

    /// Hands an answer that was given elsewhere to whoever waits for it here.
    async fn take_answer(
        &self,
        conversation: &Conversation,
        session: SessionDigest,
        question: u64,
    ) -> Result<(), Lost> {
        if !conversation.is_asked(question) {
            return Ok(());
        }
        let call = Call::new(&TAKE, &self.key).bytes(digits(session)).number(question);
        let answer = self.run(&call).await?.text().ok_or(Lost)?;
        if let Some(result) = answer.strip_prefix('=') {
            conversation.answer(question, serde_json::from_str(result).ok());
        } else if answer == REFUSED {
            conversation.answer(question, None);
        }
        Ok(())
    }

    async fn read_on(&self, last: &mut String, audience: &dyn Audience) -> Result<(), Lost> {
        loop {
            let call = Call::new(&HEAR, &self.key).text(last).number(PAGE);
            let mut reply = self.run(&call).await?;
            let missed = reply.count() == Some(1);
            let next = reply.text().ok_or(Lost)?;
            let mut entries = reply.list().ok_or(Lost)?;
            let more = entries.len() as u64 == PAGE;
            if missed {
                self.make_up(audience).await?;
                if !last.is_empty() {
                    audience.missed();
                }
            }
            while let Some(mut entry) = entries.list() {
                let id = entry.text().ok_or(Lost)?;
                if let Some(entry) = entry.list().and_then(Entry::read) {
                    self.take_in(entry, audience).await?;
                }
                // What was taken in is not told again where a later one fails.
                *last = id;
            }
            *last = next;
            if !more {
                return Ok(());
            }
        }
    }

    async fn take_in(&self, entry: Entry, audience: &dyn Audience) -> Result<(), Lost> {
        let elsewhere = entry.writer != self.news.writer;
        let what = match (&*entry.kind, entry.digest, entry.session) {
            ("tools", ..) => Changed::Tools,
            ("prompts", ..) => Changed::Prompts,
            ("resource", Some(digest), _) => Changed::Resource(digest),
            ("task", Some(digest), _) => Changed::Task(digest),
            (_, _, Some(session)) => {
                return self.take_in_of(session, &entry, elsewhere, audience).await;
            }
            // Of a later version.
            (_, _, None) => return Ok(()),
        };
        if elsewhere {
            audience.changed(what);
        }
        Ok(())
    }

    async fn take_in_of(
        &self,
        session: SessionDigest,
        entry: &Entry,
        elsewhere: bool,
        audience: &dyn Audience,
    ) -> Result<(), Lost> {
        match &*entry.kind {
            "end" => self.end_here(session),
            "log" => self.news.ring_log(session),
            _ => {}
        }
        let Some((id, conversation)) = self.conversations.named(session) else { return Ok(()) };
        match (&*entry.kind, elsewhere) {
            ("level", _) => conversation.set_log_level(read_level(&entry.level)),
            ("answer", _) => {
                if let Some(question) = entry.question {
                    self.take_answer(&conversation, session, question).await?;
                }
            }
            // Its own was for a call that has ended, and there may be another of that id.
            ("cancel", true) => {
                if let Some(call) = Id::parse(&entry.call) {
                    conversation.cancel_call(call);
                }
            }
            ("follow", true) if conversation.has_standalone() => {
                let uri = entry.digest.and_then(|digest| unveil(id, digest, &entry.uri));
                uri.iter().for_each(|uri| audience.follow(&conversation, uri));
            }
            ("unfollow", true) => {
                entry.digest.iter().for_each(|digest| conversation.unsubscribe_digest(*digest));
            }
            ("speaker", _) => conversation.set_speaking(!elsewhere),
            ("silent", true) if conversation.has_listener() => {
                self.speak(id).await?;
            }
            // Not for this replica, or of a later version.
            _ => {}
        }
        Ok(())
    }

    /// A session has ended, so whatever is open for it here ends.
    fn end_here(&self, session: SessionDigest) {
        self.mark_ended(session);
        if let Some((id, _)) = self.conversations.named(session) {
            self.conversations.end(id);
        }
    }

    /// News were missed: asks how the sessions stand that have a conversation here.
    async fn make_up(&self, audience: &dyn Audience) -> Result<(), Lost> {
        lock(&self.news.logs).values().for_each(|bell| bell.send_replace(()));
        for some in self.conversations.digests().chunks(PAGE as usize) {
            let mut call = Call::new(&STANDING, &self.key);
            for digest in some {
                call = call.bytes(digits(*digest));
            }
            let mut standing = self.run(&call).await?.list().ok_or(Lost)?;
            for digest in some {
                let mut stands = standing.list().ok_or(Lost)?;
                let (lives, level, speaker) = (stands.count(), stands.text(), stands.text());
                if lives != Some(1) {
                    self.end_here(*digest);
                    continue;
                }
                let Some((id, conversation)) = self.conversations.named(*digest) else { continue };
                for question in conversation.asked() {
                    self.take_answer(&conversation, *digest, question).await?;
                }
                if let Some(level) = level.filter(|level| !level.is_empty()) {
                    conversation.set_log_level(read_level(&level));
                }
                if let Some(speaker) = speaker.filter(|speaker| !speaker.is_empty()) {
                    conversation.set_speaking(speaker == self.news.writer);
                }
                if conversation.has_standalone() {
                    for uri in self.subscriptions(id, "").await? {
                        audience.follow(&conversation, &uri);
                    }
                }
            }
        }
        Ok(())
    }
}

pub(super) fn digits(digest: SessionDigest) -> Vec<u8> {
    digest.digits().as_str().as_bytes().to_vec()
}
