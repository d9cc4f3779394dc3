//! Streams that began at another replica, read on here.
//!
//! Owns how a reader is told to the store, how a log is taken over or followed, and when it is given up.
//! A call dies with its replica, and nobody knows what it would have come to: once the replica has not been heard of for some
//! seconds its stream ends, without an answer, wherever it is followed; whoever comes back for it gets the same.
//! Trap: a replica may be silent because the store was, so it counts as gone only after it has been for a while since.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::logs::{Logs, Stream};
use crate::{
    id::SessionDigest,
    link::{Call, Lost, scripts},
    session::{conversation::Conversation, stream::EventLog},
};

scripts! { "prelude.lua":
    ATTACH: repeated, "attach.lua";
    REPLAY: repeated, "replay.lua";
}

/// After which time a log that another writes is looked at though no bell was heard.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long an event is waited for whose id was sent already, while it may be on its way to the store.
const ON_ITS_WAY: Duration = Duration::from_millis(250);
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// How long a writer must seem to be gone.
const SURELY_GONE: Duration = Duration::from_secs(1);
/// The largest number of an event that a script can reckon with.
const MAX_NUMBER: u64 = 1 << 52;

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
    /// The stream of a session that is to be read on after an event; `None` if that event was not sent on it. While the store
    /// cannot be asked, what is here is all there is.
    pub(super) async fn find(
        self: &Arc<Self>,
        session: SessionDigest,
        conversation: &Conversation,
        number: u32,
        after: u64,
        bell: watch::Receiver<()>,
    ) -> Result<Option<Arc<EventLog>>, Lost> {
        if after > MAX_NUMBER {
            return Ok(None);
        }
        let here = conversation.stream(number);
        let stream = Stream { session, number, standalone: false };
        let closed = conversation.closed();
        let attached = self.attach(stream, after, here.as_deref(), closed, bell).await;
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
        bell: watch::Receiver<()>,
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
            sleep(ASK_AGAIN).await;
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
                let follower = Follower {
                    logs: Arc::clone(self),
                    stream,
                    log: Weak::new(),
                    readers,
                    left: None,
                    bell,
                };
                Ok(Attached::Followed(follower.begin(first.max(after + 1), closed)))
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
    /// Rings when some log of the session has grown.
    bell: watch::Receiver<()>,
}

impl Follower {
    /// The log to read, which begins with the event of that number.
    fn begin(mut self, from: u64, closed: &CancellationToken) -> Arc<EventLog> {
        let logs = Arc::clone(&self.logs);
        let log = EventLog::following(self.stream.number, &logs.replay, from);
        self.log = Arc::downgrade(&log);
        logs.process.lifecycle.spawn(self.follow(from, closed.clone()));
        log
    }

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
                    () = self.wait_for_more() => {}
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
            while timeout(LOOK_AGAIN, log.room_for(frame.len())).await.is_err() {
                // Nobody has come to read it.
                if Arc::strong_count(&log) == 1 {
                    return None;
                }
            }
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

    /// Until there may be more to read.
    async fn wait_for_more(&mut self) {
        if let Ok(Err(_)) = timeout(LOOK_AGAIN, self.bell.changed()).await {
            // Nobody rings it any more.
            sleep(LOOK_AGAIN).await;
        }
    }
}
