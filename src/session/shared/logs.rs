//! Event logs in the shared store, so that a stream that began at one replica is resumed at another.
//!
//! Owns [`Logs`]: what brings a log of this process there, and what follows one that another writes. Each log has one writer.
//! The log of a call stays with the replica that runs the call, and is followed from elsewhere; the log of a stream that a GET
//! opened is written on by the replica that resumes it. There is one reader: one that comes is counted in the store, and the
//! replica whose log has another reader hears of it with its next event.
//! What is sent may be sent before it is in the store, so that no event waits for a round trip; what a call comes to is in the
//! store before its stream ends, unless the store cannot be reached in time. So what a replica that is killed had sent within
//! the last round trip may be missing. A call dies with its replica, and nobody knows what it would have come to: once the
//! replica has not been heard of for some seconds its stream ends, without an answer, wherever it is followed.
//! Trap: a replica may be silent because the store was, so it counts as gone only after it has been for a while since.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::shelf::{Batch, End, Shelf};
use crate::{
    budget::Share,
    id::SessionDigest,
    link::{Call, Link, Lost, scripts},
    observe::Gauge,
    process::Process,
    session::{
        conversation::Conversation,
        stream::{EventLog, ReplayBudget},
    },
};

scripts! { "prelude.lua":
    APPEND: repeated, "append.lua";
    ATTACH: repeated, "attach.lua";
    REPLAY: repeated, "replay.lua";
}

/// How often a log that another writes is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// After a store that did not answer.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// How long an event is waited for whose id was sent already, while it may be on its way to the store.
const ON_ITS_WAY: Duration = Duration::from_millis(250);
/// How long a writer must seem to be gone.
const SURELY_GONE: Duration = Duration::from_secs(1);

/// The largest number of an event that a script can reckon with.
const MAX_NUMBER: u64 = 1 << 52;

/// What an instance has of event logs in the store.
#[derive(Debug)]
pub(in crate::session) struct Logs {
    process: Arc<Process>,
    link: Arc<Link>,
    key: String,
    /// This process, as the writer of logs.
    replica: String,
    /// Logs that have been begun here.
    begun: AtomicU64,
    open: Gauge,
    share: Arc<Share>,
    replay: Arc<ReplayBudget>,
}

/// A stream of a session.
#[derive(Clone, Copy, Debug)]
pub(in crate::session) struct Stream {
    pub(in crate::session) session: SessionDigest,
    pub(in crate::session) number: u32,
    /// Whether a GET opened it.
    pub(in crate::session) standalone: bool,
}

/// What is known of a stream to resume.
enum Attached {
    /// It is written here.
    Here,
    /// Its log, from now on written here; the stream is one that a GET opened.
    Taken(Arc<EventLog>),
    /// A log that follows the one that another writes.
    Followed(Arc<EventLog>),
    /// There is none, or that event was not sent on it.
    None,
}

/// Events from the store.
struct Page {
    readers: u64,
    standing: Standing,
    first: u64,
    next: u64,
    frames: Vec<Bytes>,
}

/// What a log has to expect.
enum Standing {
    /// Nothing more.
    Done,
    /// Its writer is at work.
    Written,
    /// Its writer has not been heard of.
    Left,
}

impl Logs {
    pub(in crate::session) fn new(
        key: &str,
        process: &Arc<Process>,
        link: &Arc<Link>,
        replay: &Arc<ReplayBudget>,
    ) -> Arc<Self> {
        Arc::new(Self {
            process: Arc::clone(process),
            link: Arc::clone(link),
            key: key.to_owned(),
            replica: uuid::Uuid::new_v4().simple().to_string(),
            begun: AtomicU64::new(0),
            open: Gauge::default(),
            share: Arc::clone(replay.share()),
            replay: Arc::clone(replay),
        })
    }

    /// This process as a writer, to be told to the store; empty if it writes none.
    pub(super) fn writes(&self) -> &str {
        if self.open.count() > 0 { &self.replica } else { "" }
    }

    fn shelf(&self) -> Shelf {
        let writer = format!("{}:{}", self.replica, self.begun.fetch_add(1, Ordering::Relaxed));
        // As long as a script may take.
        Shelf::new(writer, self.link.patience() * 2, &self.share)
    }

    /// A log that is kept in the store, until `closed` is cancelled: with the session, or when the process stops.
    pub(in crate::session) fn begin(
        self: &Arc<Self>,
        stream: Stream,
        closed: CancellationToken,
    ) -> Arc<EventLog> {
        self.carry(stream, 0, self.shelf(), closed)
    }

    /// A log whose next event has that number.
    fn carry(
        self: &Arc<Self>,
        stream: Stream,
        next: u64,
        shelf: Shelf,
        closed: CancellationToken,
    ) -> Arc<EventLog> {
        let shelf = Arc::new(shelf);
        let log = EventLog::shelved(stream.number, &self.replay, next, Arc::clone(&shelf));
        let carrier =
            Carrier { logs: Arc::clone(self), stream, log: Arc::downgrade(&log), shelf, closed };
        let open = self.open.open();
        self.process.lifecycle.spawn(async move {
            carrier.carry().await;
            drop(open);
        });
        log
    }

    async fn append(
        &self,
        stream: Stream,
        shelf: &Shelf,
        batch: &Batch,
    ) -> Result<Option<u64>, Lost> {
        let digits = stream.session.digits();
        let end = match batch.end {
            None => "",
            Some(End::Finished) => "1",
            Some(End::CutOff) => "2",
        };
        let mut call = Call::new(&APPEND, &self.key)
            .text(digits.as_str())
            .number(stream.number.into())
            .text(&shelf.writer)
            .flag(stream.standalone)
            .text(end);
        for (number, frame) in &batch.frames {
            call = call.number(*number).bytes(&frame[..]);
        }
        let mut reply = self.link.run(&call).await?;
        Ok((reply.text().as_deref() == Some("ok")).then(|| reply.count().unwrap_or(0)))
    }
}

/// Brings the events of one log to the store, in their order.
struct Carrier {
    logs: Arc<Logs>,
    stream: Stream,
    log: Weak<EventLog>,
    shelf: Arc<Shelf>,
    closed: CancellationToken,
}

impl Carrier {
    async fn carry(self) {
        tokio::select! {
            () = self.carry_all() => {}
            () = self.stopped() => {
                // What is left goes, if the store answers now.
                loop {
                    let batch = self.shelf.at_hand();
                    if batch.frames.is_empty() || !self.append(&batch).await.unwrap_or(false) {
                        break;
                    }
                }
            }
        }
        self.shelf.close();
    }

    async fn carry_all(&self) {
        loop {
            let batch = self.shelf.next().await;
            match self.append(&batch).await {
                Ok(true) if batch.end.is_none() => {}
                Ok(true) => return,
                Ok(false) => {
                    if let Some(log) = self.log.upgrade() {
                        log.finish();
                    }
                    return;
                }
                Err(Lost) => sleep(TRY_AGAIN).await,
            }
        }
    }

    /// False if the log is written elsewhere, or its session has ended.
    async fn append(&self, batch: &Batch) -> Result<bool, Lost> {
        let Some(readers) = self.logs.append(self.stream, &self.shelf, batch).await? else {
            return Ok(false);
        };
        self.shelf.written(batch.frames.len());
        if self.shelf.has_new_reader(readers)
            && let Some(log) = self.log.upgrade()
        {
            log.hang_up();
        }
        Ok(true)
    }

    /// The session has ended; or the process stops, and nothing more will be written. Calls that are under way have their
    /// time to end.
    async fn stopped(&self) {
        self.closed.cancelled().await;
        let lifecycle = &self.logs.process.lifecycle;
        if lifecycle.is_draining() && !self.stream.standalone {
            lifecycle.cutting().cancelled().await;
        }
    }
}

impl Logs {
    /// The stream of a session that is to be read on after an event; `None` if that event was not sent on it. While the store
    /// cannot be asked, what is here is all there is.
    pub(super) async fn find(
        self: &Arc<Self>,
        session: SessionDigest,
        conversation: &Conversation,
        number: u32,
        after: u64,
    ) -> Result<Option<Arc<EventLog>>, Lost> {
        if after > MAX_NUMBER {
            return Ok(None);
        }
        let here = conversation.stream(number);
        let stream = Stream { session, number, standalone: false };
        let closed = conversation.closed();
        let attached = self.attach(stream, after, here.as_deref(), closed).await;
        let here = here.filter(|log| log.has_sent(after));
        match attached {
            Ok(Attached::Here | Attached::None) => Ok(here),
            Ok(Attached::Followed(log)) => Ok(Some(log)),
            Ok(Attached::Taken(log)) => {
                conversation.take_over(&log);
                Ok(Some(log))
            }
            Err(Lost) => here.map(Some).ok_or(Lost),
        }
    }

    /// Another reader comes for a stream, which has read the event `after`. `here` is its log in this process, if there is one.
    async fn attach(
        self: &Arc<Self>,
        stream: Stream,
        after: u64,
        here: Option<&EventLog>,
        closed: &CancellationToken,
    ) -> Result<Attached, Lost> {
        let until = Instant::now() + ON_ITS_WAY;
        let here = here.and_then(EventLog::shelf);
        let (digits, shelf) = (stream.session.digits(), self.shelf());
        let (mut reply, what) = loop {
            let call = Call::new(&ATTACH, &self.key)
                .text(digits.as_str())
                .number(stream.number.into())
                .number(after)
                .text(here.map_or("", |shelf| &shelf.writer))
                .text(&shelf.writer);
            let mut reply = self.link.run(&call).await?;
            let what = reply.text().ok_or(Lost)?;
            if what != "none" {
                break (reply, what);
            }
            if here.is_some() || Instant::now() >= until {
                return Ok(Attached::None);
            }
            sleep(LOOK_AGAIN).await;
        };
        let mut count = || reply.count().ok_or(Lost);
        let (readers, first, next) = (count()?, count()?, count()?);
        match what.as_str() {
            "here" => {
                if let Some(shelf) = here {
                    shelf.has_new_reader(readers);
                }
                Ok(Attached::Here)
            }
            "taken" => {
                shelf.has_new_reader(readers);
                let stream = Stream { standalone: true, ..stream };
                let frames = self.kept(stream, first).await?;
                let log = self.carry(stream, next - frames.len() as u64, shelf, closed.clone());
                frames.into_iter().for_each(|frame| log.repeat(frame));
                Ok(Attached::Taken(log))
            }
            _ => {
                let from = first.max(after + 1);
                let log = EventLog::following(stream.number, &self.replay, from);
                let follower = Follower {
                    logs: Arc::clone(self),
                    stream,
                    log: Arc::downgrade(&log),
                    readers,
                    left: None,
                };
                self.process.lifecycle.spawn(follower.follow(from, closed.clone()));
                Ok(Attached::Followed(log))
            }
        }
    }

    /// All that is kept from an event on.
    async fn kept(&self, stream: Stream, mut from: u64) -> Result<Vec<Bytes>, Lost> {
        let mut all = Vec::new();
        loop {
            let Some(page) = self.read(stream, from).await? else { return Ok(all) };
            from += page.frames.len() as u64;
            let is_last = page.frames.is_empty() || from >= page.next;
            all.extend(page.frames);
            if is_last {
                return Ok(all);
            }
        }
    }

    async fn read(&self, stream: Stream, from: u64) -> Result<Option<Page>, Lost> {
        let digits = stream.session.digits();
        let call = Call::new(&REPLAY, &self.key)
            .text(digits.as_str())
            .number(stream.number.into())
            .number(from);
        let mut reply = self.link.run(&call).await?;
        if reply.text().as_deref() != Some("ok") {
            return Ok(None);
        }
        let readers = reply.count().ok_or(Lost)?;
        let standing = match reply.text().as_deref() {
            Some("done") => Standing::Done,
            Some("written") => Standing::Written,
            _ => Standing::Left,
        };
        let (first, next) = (reply.count().ok_or(Lost)?, reply.count().ok_or(Lost)?);
        let mut list = reply.list().ok_or(Lost)?;
        let mut frames = Vec::with_capacity(list.len());
        while let Some(frame) = list.bytes() {
            frames.push(frame.into());
        }
        Ok(Some(Page { readers, standing, first, next, frames }))
    }
}

/// Reads what another replica writes, as long as someone here reads it.
struct Follower {
    logs: Arc<Logs>,
    stream: Stream,
    log: Weak<EventLog>,
    /// That of this reader, by the store's count.
    readers: u64,
    /// Since when the writer seems to be gone.
    left: Option<Instant>,
}

impl Follower {
    async fn follow(mut self, mut from: u64, closed: CancellationToken) {
        while self.log.strong_count() > 0 {
            let more = match self.logs.read(self.stream, from).await {
                Ok(page) => match self.take(page, &mut from).await {
                    Some(more) => more,
                    None => return,
                },
                Err(Lost) => {
                    self.left = None;
                    false
                }
            };
            if !more {
                tokio::select! {
                    () = wait_for_more() => {}
                    () = closed.cancelled() => return,
                }
            }
        }
    }

    /// Passes events on. Whether there are more now; `None` at the end.
    async fn take(&mut self, page: Option<Page>, from: &mut u64) -> Option<bool> {
        let log = self.log.upgrade()?;
        let Some(page) = page else {
            log.finish();
            return None;
        };
        // Another reader has come, or this one was so slow that events are lost to it.
        if page.readers != self.readers || page.first > *from {
            log.hang_up();
            return None;
        }
        for frame in page.frames {
            log.room_for(frame.len()).await;
            log.repeat(frame);
            *from += 1;
        }
        let more = *from < page.next;
        match page.standing {
            Standing::Written => self.left = None,
            Standing::Done | Standing::Left if more => {}
            Standing::Done => {
                log.finish();
                return None;
            }
            Standing::Left => {
                if self.left.get_or_insert_with(Instant::now).elapsed() >= SURELY_GONE {
                    log.finish();
                    return None;
                }
            }
        }
        Some(more)
    }
}

/// Until there may be more to read.
async fn wait_for_more() {
    sleep(LOOK_AGAIN).await;
}
