//! Event logs in the shared store, so that a stream that began at one replica is resumed at another.
//!
//! Owns [`Logs`], and what brings a log of this process there; `resume` reads one that another writes. Each log has one writer.
//! The log of a call stays with the replica that runs the call, and is followed from elsewhere; the log of a stream that a GET
//! opened is written on by the replica that resumes it. There is one reader: one that comes is counted in the store, and the
//! replica whose log has another reader hears of it with its next event.
//! What is sent may be sent before it is in the store, so that no event waits for a round trip; what a call comes to is in the
//! store before its stream ends, unless the store cannot be reached in time. So what a replica that is killed had sent within
//! the last round trip may be missing.
//! Trap: when the log of a GET's stream is taken over, what is on its way here is refused. Whoever takes over hears of the
//! same changes by news.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::shelf::{Batch, End, Shelf};
use crate::{
    budget::Share,
    id::SessionDigest,
    link::{Call, Link, Lost, scripts},
    observe::Gauge,
    process::Process,
    session::stream::{EventLog, ReplayBudget},
};

scripts! { "prelude.lua":
    APPEND: repeated, "append.lua";
}

/// After a store that did not answer.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// How long the last message of a call that is cut off is waited for.
const LAST_WORD: Duration = Duration::from_millis(100);

/// What an instance has of event logs in the store.
#[derive(Debug)]
pub(in crate::session) struct Logs {
    pub(super) process: Arc<Process>,
    pub(super) link: Arc<Link>,
    pub(super) key: String,
    /// This process, as the writer of logs.
    replica: String,
    /// Logs that have been begun here.
    begun: AtomicU64,
    open: Gauge,
    share: Arc<Share>,
    pub(super) replay: Arc<ReplayBudget>,
}

/// A stream of a session.
#[derive(Clone, Copy, Debug)]
pub(in crate::session) struct Stream {
    pub(in crate::session) session: SessionDigest,
    pub(in crate::session) number: u32,
    /// Whether a GET opened it.
    pub(in crate::session) standalone: bool,
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

    pub(super) fn shelf(&self) -> Shelf {
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
    pub(super) fn carry(
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
                // What is left goes, if the store answers now; of a call that is cut off, also what it is told.
                let time = if self.is_cut_off() { LAST_WORD } else { Duration::ZERO };
                while let Ok(batch) = timeout(time, self.shelf.next()).await {
                    let written = self.append(&batch).await.unwrap_or(false);
                    if !written || batch.end.is_some() {
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

    fn is_cut_off(&self) -> bool {
        !self.stream.standalone && self.logs.process.lifecycle.cutting().is_cancelled()
    }
}
