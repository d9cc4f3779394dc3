//! News between replicas: one stream an instance in the store, and a bell.
//!
//! Owns [`News`], this replica's part of it, and the one reader. The bell only rings; what has happened stands in the stream. So
//! after a bell, and every few seconds without one, the reader reads from where it was; what it has missed for good, because the
//! stream is bounded, it makes up for by asking the store how its conversations stand.
//! Trap: its own news come back to a replica as well, and what it was told may be told again. So whoever acts on news acts on what
//! is so already without harm; changes, which would be notified twice, carry who wrote them.

use std::{sync::Mutex, time::Duration};

use moka::sync::Cache;
use tokio::{select, sync::mpsc, time::sleep};

use super::{SharedStore, codec::read_level};
use crate::{
    id::{SessionDigest, SessionId},
    link::{Call, Lost, Reply, scripts},
    session::{
        lock,
        news::{Audience, Changed, Outbox},
    },
};

scripts! { "prelude.lua":
    HEAR: repeated, "hear.lua";
    STANDING: repeated, "standing.lua";
    PUBLISH: repeated, "publish.lua";
}

/// A bell that was not heard is made good after that time.
const AT_LATEST: Duration = Duration::from_secs(3);
/// Between two reads, so that many changes are one read.
const PAUSE: Duration = Duration::from_millis(5);
/// How many entries one script reads, and of how many sessions one tells how they stand.
const PAGE: u64 = 256;
/// Changes that have not been told.
const UNTOLD: usize = 1024;
/// As many are told at once.
const TOLD_AT_ONCE: usize = 64;
/// Ends that a conversation which begins just now may have missed.
const ENDS: u64 = 10_000;
const ENDS_FOR: Duration = Duration::from_secs(60);

/// What a replica knows of the others.
#[derive(Debug)]
pub(super) struct News {
    /// Who writes here.
    writer: String,
    outbox: mpsc::Sender<Changed>,
    /// Until the reader takes it.
    untold: Mutex<Option<mpsc::Receiver<Changed>>>,
    ended: Cache<SessionDigest, ()>,
}

impl News {
    pub(super) fn new() -> Self {
        let (outbox, untold) = mpsc::channel(UNTOLD);
        Self {
            writer: uuid::Uuid::new_v4().simple().to_string(),
            outbox,
            untold: Mutex::new(Some(untold)),
            ended: Cache::builder().max_capacity(ENDS).time_to_live(ENDS_FOR).build(),
        }
    }

    /// A session has ended, here or elsewhere.
    pub(super) fn note_end(&self, session: SessionDigest) {
        self.ended.insert(session, ());
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
                _ => {}
            }
        }
        Some(entry)
    }
}

impl SharedStore {
    pub(in crate::session) fn outbox(&self) -> Outbox {
        Outbox(self.news.outbox.clone())
    }

    /// Whether the session has ended lately, as far as is known here.
    pub(in crate::session) fn has_ended(&self, id: SessionId) -> bool {
        self.news.ended.contains_key(&id.digest())
    }

    /// See [`SessionStore::hear`](crate::session::SessionStore::hear).
    pub(in crate::session) async fn hear(&self, audience: &dyn Audience) {
        // Of two readers one would hear nothing.
        let Some(mut untold) = lock(&self.news.untold).take() else { return };
        let bell = self.link.bell(&self.key.replace(":live", ":bell"));
        let mut last = String::new();
        loop {
            // The next bell or the next few seconds make good what fails.
            let _ = self.read_on(&mut last, audience).await;
            sleep(PAUSE).await;
            let mut some = Vec::new();
            loop {
                select! {
                    () = bell.rung() => break,
                    () = sleep(AT_LATEST) => break,
                    _ = untold.recv_many(&mut some, TOLD_AT_ONCE) => self.publish(&mut some).await,
                }
            }
        }
    }

    /// Tells the other replicas. What the store cannot be told is lost: they could not be served by it either.
    async fn publish(&self, some: &mut Vec<Changed>) {
        let mut call = Call::new(&PUBLISH, &self.key).text(&self.news.writer);
        let mut told = Vec::new();
        for what in some.drain(..) {
            if told.contains(&what) {
                continue;
            }
            told.push(what);
            let (kind, digest) = match what {
                Changed::Tools => ("tools", None),
                Changed::Prompts => ("prompts", None),
                Changed::Resource(digest) => ("resource", Some(digest)),
                Changed::Task(digest) => ("task", Some(digest)),
            };
            let digits = digest.map(|digest| digest.digits().as_str().to_owned());
            call = call.text(kind).bytes(digits.unwrap_or_default().into_bytes());
        }
        let _ = self.run(&call).await;
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
                self.make_up().await?;
                if !last.is_empty() {
                    audience.missed();
                }
            }
            while let Some(mut entry) = entries.list() {
                let _id = entry.bytes();
                if let Some(entry) = entry.list().and_then(Entry::read) {
                    self.take_in(entry, audience).await?;
                }
            }
            *last = next;
            if !more {
                return Ok(());
            }
        }
    }

    async fn take_in(&self, entry: Entry, audience: &dyn Audience) -> Result<(), Lost> {
        let Entry { kind, writer, session, digest, level } = entry;
        let elsewhere = writer != self.news.writer;
        let changed = |what| {
            if elsewhere {
                audience.changed(what);
            }
        };
        match (&*kind, session, digest) {
            ("end", Some(session), _) => self.end_here(session),
            ("level", Some(session), _) => {
                if let Some((_, conversation)) = self.conversations.named(session) {
                    conversation.set_log_level(read_level(&level));
                }
            }
            ("tools", ..) => changed(Changed::Tools),
            ("prompts", ..) => changed(Changed::Prompts),
            ("resource", _, Some(digest)) => changed(Changed::Resource(digest)),
            ("task", _, Some(digest)) => changed(Changed::Task(digest)),
            // Of a later version.
            _ => {}
        }
        Ok(())
    }

    /// A session has ended, so whatever is open for it here ends.
    fn end_here(&self, session: SessionDigest) {
        self.news.note_end(session);
        if let Some((id, _)) = self.conversations.named(session) {
            self.forget(id);
        }
    }

    /// News were missed: asks how the sessions stand that have a conversation here.
    async fn make_up(&self) -> Result<(), Lost> {
        for some in self.conversations.digests().chunks(PAGE as usize) {
            let mut call = Call::new(&STANDING, &self.key);
            for digest in some {
                call = call.bytes(digest.digits().as_str().as_bytes().to_vec());
            }
            let mut standing = self.run(&call).await?.list().ok_or(Lost)?;
            for digest in some {
                match &*standing.text().ok_or(Lost)? {
                    "" => self.end_here(*digest),
                    "-" => {}
                    level => {
                        if let Some((_, conversation)) = self.conversations.named(*digest) {
                            conversation.set_log_level(read_level(level));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
