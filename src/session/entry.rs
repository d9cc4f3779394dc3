//! One session in the memory store: what it holds, and how a change is made.
//!
//! Owns [`Entry`] and its [`State`]. A change is made as a whole or not at all, so whatever can be refused is asked before
//! anything is touched.
//! Trap: a session ends once, however many try: the mark in the state decides who did.

use std::{
    cmp::Reverse,
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    ledger::Ledger,
    lock,
    record::{
        ByUse, Change, Data, Head, LastEcho, More, NO_DATA, QuotaExceeded, Record, Tally, Want,
    },
};
use crate::{budget::NoRoom, clock::Moment, config::SessionConfig, id::EndReason, wire::LogLevel};

/// A live session.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) head: Arc<Head>,
    touched: AtomicU64,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) ended: bool,
    initialized: bool,
    log_level: Option<LogLevel>,
    tally: Tally,
    data: Option<Arc<Data>>,
    /// The last echo, which is UTF-8, as bytes so that it can be overwritten in place.
    kept_echo: Option<Box<[u8]>>,
    /// There was one, and it was too large to keep. (A [`LastEcho`] would take 16 bytes more of every session.)
    echo_too_large: bool,
}

/// Why a change was not made.
pub(super) enum NotApplied {
    Quota(QuotaExceeded),
    NoRoom,
}

impl Entry {
    pub(super) fn new(head: Arc<Head>, now: Moment) -> Self {
        Self { head, touched: AtomicU64::new(now.as_millis()), state: Mutex::default() }
    }

    pub(super) fn touched(&self) -> Moment {
        Moment::from_millis(self.touched.load(Ordering::Relaxed))
    }

    /// As [`Listed::by_use`](super::record::Listed::by_use).
    pub(super) fn by_use(&self) -> ByUse {
        (Reverse(self.touched()), self.head.reference)
    }

    pub(super) fn touch(&self, now: Moment) {
        self.touched.store(now.as_millis(), Ordering::Relaxed);
    }

    pub(super) fn due(&self) -> Moment {
        self.head.due(self.touched())
    }

    pub(super) fn record(self: &Arc<Self>, want: Want) -> Record {
        lock(&self.state).record(self, want)
    }

    /// The record, unless the session has ended, and with it what it held.
    pub(super) fn live_record(self: &Arc<Self>, want: Want) -> Option<Record> {
        let state = lock(&self.state);
        (!state.ended).then(|| state.record(self, want))
    }

    /// Ends the session, however many try at the same time; true for the one who did. What it holds is dropped at once: the
    /// cache may keep the entry itself until it is used again.
    pub(super) fn end(&self, ledger: &Ledger, reason: EndReason) -> bool {
        let (data_bytes, _held) = {
            let mut state = lock(&self.state);
            if mem::replace(&mut state.ended, true) {
                return false;
            }
            (signed(state.held()), (state.data.take(), state.kept_echo.take()))
        };
        ledger.note_end(&self.head, data_bytes, reason);
        true
    }
}

impl State {
    pub(super) fn record(&self, entry: &Arc<Entry>, want: Want) -> Record {
        let (data_keys, data_bytes) =
            self.data.as_ref().map_or((0, 0), |data| (data.values().len(), data.bytes()));
        Record {
            head: Arc::clone(&entry.head),
            touched: entry.touched(),
            tally: self.tally,
            initialized: self.initialized,
            log_level: self.log_level.unwrap_or(LogLevel::Info),
            data_keys,
            data_bytes,
            replaced: false,
            asked: true,
            more: match want {
                Want::Nothing => More::Nothing,
                Want::Data => More::Data(self.data.clone().unwrap_or_default()),
                Want::Echo => More::Echo(self.last_echo()),
            },
            hint: Arc::<Entry>::downgrade(entry),
        }
    }

    fn last_echo(&self) -> LastEcho<Box<str>> {
        match &self.kept_echo {
            Some(last) => LastEcho::Kept(String::from_utf8_lossy(last).into()),
            None if self.echo_too_large => LastEcho::TooLarge,
            None => LastEcho::None,
        }
    }

    fn echo_bytes(&self) -> usize {
        self.kept_echo.as_ref().map_or(0, |last| last.len())
    }

    /// Data and the last echo.
    fn held(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.bytes()) + self.echo_bytes()
    }

    /// Makes all of the change or none of it. Returns by how many bytes what it holds has grown, and whether a value was
    /// replaced. `keep` is asked for room if it grows.
    pub(super) fn apply(
        &mut self,
        change: &Change<'_>,
        quota: &SessionConfig,
        keep: impl FnOnce(usize) -> Result<(), NoRoom>,
        now: impl FnOnce() -> Moment,
    ) -> Result<(i64, bool), NotApplied> {
        let (mut grown, mut replaced) = (0, false);
        // What can be refused comes first.
        let mut needed = 0;
        if let Some((key, value)) = change.set {
            let data = self.data.as_deref().unwrap_or(&NO_DATA);
            needed = data.admit(key, value, quota).map_err(NotApplied::Quota)?;
            grown = signed(needed) - signed(data.bytes());
        }
        let echo = change.echo.filter(|message| message.len() <= quota.max_data_bytes);
        if change.echo.is_some() {
            grown += signed(echo.map_or(0, str::len)) - signed(self.echo_bytes());
        }
        if let Ok(more) = usize::try_from(grown)
            && more > 0
        {
            keep(more).map_err(|NoRoom| NotApplied::NoRoom)?;
        }
        if let Some((key, value)) = change.set {
            // Copies the data if a record still holds them.
            let data = Arc::make_mut(self.data.get_or_insert_default());
            replaced = data.set(key, Arc::clone(value), needed);
        }
        if change.echo.is_some() {
            self.echo_too_large = echo.is_none();
            match (echo, &mut self.kept_echo) {
                // Reuse the buffer: with a million sessions, free and allocate are two more cache misses.
                (Some(message), Some(last)) if last.len() == message.len() => {
                    last.copy_from_slice(message.as_bytes());
                }
                (echo, last) => *last = echo.map(|message| message.as_bytes().into()),
            }
        }
        self.initialized |= change.initialized;
        self.log_level = change.log_level.or(self.log_level);
        if change.count {
            self.tally.add(now());
        }
        Ok((grown, replaced))
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
