//! Sessions in a store that several processes share.
//!
//! Owns the operations of the door on Redis or Valkey, each one script. What operators ask is in `survey`.
//! Trap: a script whose answer was lost may have run: see [`Link::run`].

mod codec;
mod holds;
mod known;
mod logs;
mod news;
mod resume;
mod shelf;
mod subscribers;
mod survey;
mod tick;

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) use self::codec::caller_text;
use self::{
    codec::{Ending, handshake_text, read_head, read_level, read_record},
    holds::Holds,
    known::Known,
    news::News,
};
pub(super) use self::{
    logs::{Logs, Stream},
    shelf::{End, Shelf},
};
use super::{
    conversation::Conversations,
    lock,
    record::{Change, Handshake, Head, QuotaExceeded, Record, Want},
    store::{Counts, Gone, NotCommitted, NotCreated, NotLoaded, Unavailable},
    stream::EventLog,
};
use crate::{
    clock::millis,
    config::SessionConfig,
    id::{Caller, EndReason, InstanceId, MintedBy, SessionDigest, SessionId, SessionRef},
    link::{Away, Call, Link, Lost, Reply, scripts},
    observe::{EventKind, Subject},
    process::Process,
    wire::ProtocolVersion,
};

scripts! { "shared/prelude.lua":
    CREATE: promised, "shared/create.lua";
    LOAD: repeated, "shared/load.lua";
    COMMIT: promised, "shared/commit.lua";
    LOOK: repeated, "shared/commit.lua";
    FINISH: promised, "shared/finish.lua";
    FINISH_ALL: promised, "shared/finish_all.lua";
}

/// One instance's sessions.
#[derive(Debug)]
pub(super) struct SharedStore {
    here: MintedBy,
    process: Arc<Process>,
    link: Arc<Link>,
    /// What the keys of this instance begin with, and `live`: the key that every script is given.
    key: String,
    capacity: AtomicU64,
    timeout: Duration,
    known: Known,
    holds: Holds,
    logs: Arc<Logs>,
    news: News,
    conversations: Arc<Conversations>,
    /// As of the last reply that told them, which came of that moment of the store's clock.
    counts: Mutex<(i64, Counts)>,
    remembered: AtomicU64,
    away: Away,
    /// When a tick has something to do, on the store's clock.
    next_tick: AtomicI64,
}

impl SharedStore {
    pub(super) fn new(
        instance: InstanceId,
        config: &SessionConfig,
        process: &Arc<Process>,
        link: &Arc<Link>,
        logs: &Arc<Logs>,
        conversations: &Arc<Conversations>,
    ) -> Self {
        Self {
            here: process.minted_by(instance),
            process: Arc::clone(process),
            link: Arc::clone(link),
            key: key_of(instance, link),
            capacity: AtomicU64::new(config.capacity),
            timeout: config.timeout_seconds.get(),
            known: Known::new(),
            holds: Holds::default(),
            logs: Arc::clone(logs),
            news: News::new(),
            conversations: Arc::clone(conversations),
            counts: Mutex::default(),
            remembered: AtomicU64::new(0),
            away: Away::default(),
            next_tick: AtomicI64::new(0),
        }
    }

    pub(super) fn set_capacity(&self, capacity: u64) {
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    pub(super) async fn create(
        &self,
        mut handshake: Handshake,
        owner: Caller,
    ) -> Result<Record, NotCreated> {
        if self.process.lifecycle.is_draining() {
            return Err(NotCreated::Draining);
        }
        let capacity = self.capacity.load(Ordering::Relaxed);
        handshake.timeout_millis = handshake.timeout_millis.min(millis(self.timeout));
        let id = SessionId::mint(self.here).map_err(|_| NotCreated::NoEntropy)?;
        let digits = id.digest().digits();
        let call = Call::new(&CREATE, &self.key)
            .text(digits.as_str())
            .bytes(caller_text(owner).into_bytes())
            .bytes(handshake_text(&handshake).into_bytes())
            .number(handshake.timeout_millis)
            .number(capacity);
        let mut reply = self.run(&call).await?;
        match reply.text().as_deref() {
            Some("ok") => {}
            Some("full") => {
                self.take_tally(&mut reply);
                let retry_after_seconds = self.timeout.as_secs().clamp(1, 30);
                return Err(NotCreated::Full { capacity, retry_after_seconds });
            }
            _ => return Err(Unavailable.into()),
        }
        self.take_tally(&mut reply);
        let due = reply.now.saturating_add_unsigned(handshake.timeout_millis);
        self.next_tick.fetch_min(due, Ordering::Relaxed);
        let (reference, created) = (id.reference(), self.link.moment(reply.now));
        let head = Arc::new(Head { id, reference, owner, handshake, created });
        self.known.begun(&head);
        tracing::debug!(
            instance = self.here.instance.digit(),
            session = %reference,
            version = head.handshake.version.map(ProtocolVersion::as_str),
            "session created"
        );
        self.note(EventKind::Created, reference);
        Ok(Record { touched: created, asked: true, ..Record::unasked(head) })
    }

    /// The session of that id, if it is the caller's. One that is known here is not asked for.
    pub(super) async fn find(&self, text: &str, caller: Caller) -> Result<Record, NotLoaded> {
        let known = SessionId::parse(text).and_then(|id| self.known.head(id.digest()));
        match known {
            Some(head) if head.owner == caller => Ok(Record::unasked(head)),
            Some(_) => Err(NotLoaded::Gone(Gone::Unknown)),
            None => self.load(text, caller, Want::Nothing).await,
        }
    }

    pub(super) async fn load(
        &self,
        text: &str,
        caller: Caller,
        want: Want,
    ) -> Result<Record, NotLoaded> {
        let id = SessionId::parse(text).ok_or(NotLoaded::Gone(Gone::Unknown))?;
        let digest = id.digest();
        let known = self.known.head(digest);
        let digits = digest.digits();
        let call = Call::new(&LOAD, &self.key)
            .text(digits.as_str())
            .bytes(caller_text(caller).into_bytes())
            .text(wanted(want))
            .flag(known.is_none());
        let mut reply = self.run(&call).await.map_err(|Lost| NotLoaded::Unavailable)?;
        match reply.text().as_deref() {
            Some("ok") => {}
            Some("gone") => return Err(NotLoaded::Gone(self.gone(id, caller, &mut reply))),
            _ => return Err(NotLoaded::Unavailable),
        }
        let read = read_record(&self.link, &mut reply, want).ok_or(NotLoaded::Unavailable)?;
        let head = match known {
            Some(head) => head,
            None => {
                let (handshake, created) =
                    read_head(&self.link, &mut reply).ok_or(NotLoaded::Unavailable)?;
                let reference = id.reference();
                let head = Arc::new(Head { id, reference, owner: caller, handshake, created });
                self.known.begun(&head);
                head
            }
        };
        let due = reply.now.saturating_add_unsigned(head.handshake.timeout_millis);
        self.next_tick.fetch_min(due, Ordering::Relaxed);
        Ok(read.with(head))
    }

    pub(super) async fn commit(
        &self,
        session: &Record,
        change: Change<'_>,
        quota: &SessionConfig,
    ) -> Result<Record, NotCommitted> {
        let Head { id, owner, .. } = *session.head;
        let digits = id.digest().digits();
        let (key, value) = change.set.map_or(("", ""), |(key, value)| (key, value.get()));
        let changes = change.count
            || change.echo.is_some()
            || change.set.is_some()
            || change.initialized
            || change.log_level.is_some();
        let script = if changes { &COMMIT } else { &LOOK };
        let level = change.log_level.map(codec::level_text).unwrap_or_default();
        let call = Call::new(script, &self.key)
            .text(digits.as_str())
            .flag(!session.asked)
            .flag(change.count)
            .flag(change.echo.is_some())
            .text(change.echo.unwrap_or_default())
            .flag(change.set.is_some())
            .text(key)
            .text(value)
            .number(quota.max_data_keys as u64)
            .number(quota.max_data_bytes as u64)
            .flag(change.initialized)
            .bytes(level.into_bytes())
            .text(wanted(change.want));
        let mut reply = self.run(&call).await.map_err(|Lost| NotCommitted::Unavailable)?;
        match reply.text().as_deref() {
            Some("ok") => {}
            Some("gone") => return Err(NotCommitted::Gone(self.gone(id, owner, &mut reply))),
            Some("keys") => {
                let limit = quota.max_data_keys;
                return Err(NotCommitted::Quota(QuotaExceeded::Keys { limit }));
            }
            Some("bytes") => {
                let needed = reply.count().and_then(|bytes| usize::try_from(bytes).ok());
                let (needed, limit) = (needed.unwrap_or(usize::MAX), quota.max_data_bytes);
                return Err(NotCommitted::Quota(QuotaExceeded::Bytes { needed, limit }));
            }
            _ => return Err(NotCommitted::Unavailable),
        }
        let read = read_record(&self.link, &mut reply, change.want);
        Ok(read.ok_or(NotCommitted::Unavailable)?.with(Arc::clone(&session.head)))
    }

    /// What the store says of a session that does not live. Whatever is open for it here ends.
    fn gone(&self, id: SessionId, caller: Caller, reply: &mut Reply) -> Gone {
        let ending = reply.text().and_then(|text| Ending::parse(&text));
        let how = reply.count();
        let Some(ending) = ending else {
            // Another's session lives on.
            if how != Some(2) {
                self.forget(id);
            }
            return match id.minted_by() {
                Some(by) if by.instance != self.here.instance => Gone::OtherInstance(by.instance),
                Some(_) | None => Gone::Unknown,
            };
        };
        self.forget(id);
        if how == Some(1) {
            self.note_end(id.reference(), ending.reason);
        }
        ending.told_to(caller)
    }

    /// The session has ended, here or elsewhere.
    fn forget(&self, id: SessionId) {
        self.mark_ended(id.digest());
        self.conversations.end(id);
    }

    fn mark_ended(&self, session: SessionDigest) {
        self.known.ended(session);
        self.news.no_more_of(session);
    }

    /// Whether the session has ended lately, as far as is known here.
    pub(super) fn has_ended(&self, id: SessionId) -> bool {
        self.known.has_ended(id.digest())
    }

    fn note_end(&self, reference: SessionRef, reason: EndReason) {
        tracing::debug!(
            instance = self.here.instance.digit(),
            session = %reference,
            reason = reason.as_str(),
            "session ended"
        );
        self.note(EventKind::Ended(reason), reference);
    }

    fn note(&self, kind: EventKind, reference: SessionRef) {
        let subject = Subject::Instance(self.here.instance, Some(reference));
        self.process.events.note(kind, subject);
    }

    pub(super) fn hold(&self, id: SessionId) {
        let session = id.digest();
        let timeout = self.known.head(session).map(|head| head.timeout());
        self.holds.hold(session, timeout);
    }

    pub(super) fn release(&self, id: SessionId) {
        self.holds.release(id.digest());
    }

    pub(super) async fn end(&self, id: SessionId, reason: EndReason) -> Result<bool, Unavailable> {
        let ended = self.end_digest(id.digest(), reason).await?;
        self.forget(id);
        Ok(ended)
    }

    pub(super) async fn end_digest(
        &self,
        digest: SessionDigest,
        reason: EndReason,
    ) -> Result<bool, Unavailable> {
        let digits = digest.digits();
        let call = Call::new(&FINISH, &self.key).text(digits.as_str()).text(reason.as_str());
        let mut reply = self.run(&call).await?;
        let (ended, expired) = (reply.count() == Some(1), reply.count() == Some(1));
        self.take_tally(&mut reply);
        if ended || expired {
            let reason = if ended { reason } else { EndReason::Expired };
            self.note_end(digest.reference(), reason);
        }
        Ok(ended)
    }

    pub(super) async fn end_all(&self, reason: EndReason) -> Result<u64, Unavailable> {
        let mut all = 0;
        loop {
            let call = Call::new(&FINISH_ALL, &self.key).text(reason.as_str());
            let mut reply = self.run(&call).await?;
            let some = reply.count().ok_or(Unavailable)?;
            let ended = reply.list().ok_or(Unavailable)?;
            all += ended.len() as u64;
            self.take_tally(&mut reply);
            self.note_ends(ended, reason);
            if some == 0 {
                self.conversations.end_all();
                return Ok(all);
            }
        }
    }

    fn note_ends(&self, mut ended: Reply, reason: EndReason) {
        while let Some(digits) = ended.bytes() {
            if let Some(digest) = SessionDigest::parse(&digits) {
                self.mark_ended(digest);
                self.note_end(digest.reference(), reason);
            }
        }
    }

    /// As of the last tick, beginning or end of a session here.
    pub(super) fn counts(&self) -> Counts {
        lock(&self.counts).1
    }

    pub(super) fn remembered(&self) -> usize {
        usize::try_from(self.remembered.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// Reads what there is and has been. Of two replies the later one counts, whichever comes first.
    fn take_tally(&self, reply: &mut Reply) -> Option<()> {
        let mut tally = reply.list()?;
        let mut next = || tally.count();
        let (live, created, refused) = (next()?, next()?, next()?);
        let data_bytes = next().unwrap_or(0);
        let ended = [next()?, next()?, next()?, next()?];
        let counts = Counts { created, live, ended, refused, data_bytes };
        let grown =
            |counts: &Counts| counts.created + counts.refused + counts.ended.iter().sum::<u64>();
        let mut known = lock(&self.counts);
        if (reply.now, grown(&counts)) >= (known.0, grown(&known.1)) {
            *known = (reply.now, counts);
        }
        Some(())
    }

    /// The stream of a session that is to be read on after an event, if that was sent on it.
    pub(super) async fn stream(
        &self,
        id: SessionId,
        number: u32,
        after: u64,
    ) -> Result<Option<Arc<EventLog>>, Unavailable> {
        let conversation = self.conversations.get_or_begin(id);
        let session = id.digest();
        let bell = self.log_bell(session);
        Ok(self.logs.find(session, &conversation, number, after, bell).await?)
    }

    async fn run(&self, call: &Call<'_>) -> Result<Reply, Lost> {
        self.link.run_noting(call, &self.away).await
    }
}

/// The key that every script of an instance is given; the others begin as it does.
pub(super) fn key_of(instance: InstanceId, link: &Link) -> String {
    let namespace = link.namespace();
    format!("{namespace}:{{{namespace}:{instance}}}:live")
}

impl From<Lost> for Unavailable {
    fn from(Lost: Lost) -> Self {
        Self
    }
}

impl From<Lost> for NotCreated {
    fn from(Lost: Lost) -> Self {
        Unavailable.into()
    }
}

impl Record {
    /// Of a session of which nothing is known but its head.
    fn unasked(head: Arc<Head>) -> Self {
        Self {
            touched: head.created,
            head,
            tally: super::Tally::default(),
            initialized: false,
            log_level: read_level(""),
            data_keys: 0,
            data_bytes: 0,
            replaced: false,
            asked: false,
            more: super::record::More::Nothing,
            hint: Weak::<()>::new(),
        }
    }
}

const fn wanted(want: Want) -> &'static str {
    match want {
        Want::Nothing => "",
        Want::Data => "d",
        Want::Echo => "e",
    }
}
