//! A session as a value: what the store keeps of it, and what a call may change.
//!
//! Owns [`Record`] with its unchanging [`Head`], [`Data`] with its quota, and [`Change`], the whole effect of one call.
//! What this process has open for a session is in its [`Conversation`](super::conversation::Conversation).
//! Trap: a record is a copy as of one moment, and the session goes on changing. So never write back what was read: say
//! what is to change, and let the store change it.

use std::{
    any::Any,
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    clock::Moment,
    config::SessionConfig,
    id::{Caller, SessionDigest, SessionId, SessionRef},
    wire::{Capabilities, LogLevel, ProtocolVersion},
};

/// What never changes once a session has begun.
#[derive(Debug)]
pub struct Head {
    /// The value of `Mcp-Session-Id`, or the handle.
    pub id: SessionId,
    /// Stands for the id in logs.
    pub(crate) reference: SessionRef,
    /// Who created it. For any other caller it does not exist.
    pub owner: Caller,
    pub(crate) handshake: Handshake,
    pub(crate) created: Moment,
}

impl Head {
    /// After how long without a request it expires.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.handshake.timeout_millis)
    }

    /// When the session expires, if it was last used at `touched`.
    pub(crate) fn due(&self, touched: Moment) -> Moment {
        touched.plus(self.timeout())
    }
}

/// A live session as of the moment when the store was asked.
#[derive(Clone, Debug)]
pub struct Record {
    /// What does not change.
    pub head: Arc<Head>,
    /// When its idle clock was last restarted.
    pub(crate) touched: Moment,
    /// Its completed calls.
    pub tally: Tally,
    /// Whether `notifications/initialized` has come.
    pub initialized: bool,
    /// As `logging/setLevel` set it.
    pub log_level: LogLevel,
    pub(crate) data_keys: usize,
    /// Keys and values together.
    pub data_bytes: usize,
    /// After a commit: whether the value that it set replaced another.
    pub replaced: bool,
    /// Whether the store has said that the session lives. One that has not been asked yet is asked with the commit; until
    /// then nothing is known but the head.
    pub(crate) asked: bool,
    /// What [`Want`] asked for.
    pub(super) more: More,
    /// Where its store finds it again without a look-up. It keeps nothing alive, and only the store can read it.
    pub(super) hint: Weak<dyn Any + Send + Sync>,
}

impl Record {
    /// When it expires if nobody uses it until then.
    pub(crate) fn expires(&self) -> Moment {
        self.head.due(self.touched)
    }

    /// What its client stored; empty unless [`Want::Data`] asked for it.
    pub fn data(&self) -> &Data {
        match &self.more {
            More::Data(data) => data,
            More::Nothing | More::Echo(_) => &NO_DATA,
        }
    }

    /// The last message that was echoed, if [`Want::Echo`] asked for it.
    pub fn last_echo(&self) -> LastEcho<&str> {
        match &self.more {
            More::Echo(LastEcho::Kept(last)) => LastEcho::Kept(last),
            More::Echo(LastEcho::TooLarge) => LastEcho::TooLarge,
            More::Echo(LastEcho::None) | More::Nothing | More::Data(_) => LastEcho::None,
        }
    }
}

/// What a record holds only if it was asked for, because it may be large.
#[derive(Clone, Debug)]
pub(super) enum More {
    Nothing,
    Data(Arc<Data>),
    Echo(LastEcho<Box<str>>),
}

/// The last message that was echoed in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastEcho<T> {
    /// Nothing has been echoed.
    #[default]
    None,
    /// This.
    Kept(T),
    /// It was larger than `session.max_data_bytes`, and is not kept.
    TooLarge,
}

/// A live session as operators see it. The store need not know its id.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Stands for the id.
    pub reference: SessionRef,
    /// The id, where this process has seen it.
    pub id: Option<SessionId>,
    /// What a shared store knows it by.
    pub(super) digest: Option<SessionDigest>,
    pub(crate) handshake: Handshake,
    pub(crate) created: Moment,
    pub(crate) touched: Moment,
    pub(crate) tally: Tally,
    pub(crate) initialized: bool,
    pub(crate) data_keys: usize,
    pub(crate) data_bytes: usize,
    /// The keys of its data and the sizes of their values, if it was looked for alone.
    pub(crate) sizes: Vec<(Box<str>, usize)>,
}

/// Used last first; those used in the same millisecond by reference, so that a list that is asked for again stands as it
/// stood.
pub(crate) type ByUse = (Reverse<Moment>, SessionRef);

impl Listed {
    pub(crate) fn by_use(&self) -> ByUse {
        (Reverse(self.touched), self.reference)
    }

    /// When it expires if nobody uses it until then.
    pub(crate) fn expires(&self) -> Moment {
        self.touched.plus(Duration::from_millis(self.handshake.timeout_millis))
    }
}

impl From<Record> for Listed {
    fn from(record: Record) -> Self {
        let values = record.data().values().iter();
        Self {
            reference: record.head.reference,
            id: Some(record.head.id),
            digest: None,
            handshake: record.head.handshake.clone(),
            created: record.head.created,
            touched: record.touched,
            tally: record.tally,
            initialized: record.initialized,
            data_keys: record.data_keys,
            data_bytes: record.data_bytes,
            sizes: values.map(|(key, value)| (key.clone(), value.get().len())).collect(),
        }
    }
}

/// What a record is to hold beside what every record holds.
#[derive(Clone, Copy, Debug, Default)]
pub enum Want {
    /// Nothing more.
    #[default]
    Nothing,
    /// What the client stored.
    Data,
    /// The last message that was echoed.
    Echo,
}

/// The whole effect of one call on its session.
#[derive(Clone, Debug, Default)]
pub struct Change<'a> {
    /// Whether to count a completed call.
    pub count: bool,
    /// The message that was echoed.
    pub echo: Option<&'a str>,
    /// A key, and the value to store under it.
    pub set: Option<(&'a str, &'a Arc<RawValue>)>,
    /// Whether `notifications/initialized` has come.
    pub initialized: bool,
    /// The level that `logging/setLevel` asks for.
    pub log_level: Option<LogLevel>,
    /// What the record that is returned is to hold.
    pub want: Want,
}

impl Change<'_> {
    /// Counts a call that changed nothing else. (A constant cannot use `Default`.)
    pub const COUNT: Self = Self {
        count: true,
        echo: None,
        set: None,
        initialized: false,
        log_level: None,
        want: Want::Nothing,
    };
}

/// What was agreed when the session was created.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// The negotiated revision; `None` for a handle, which any revision may use.
    pub version: Option<ProtocolVersion>,
    /// `clientInfo` of `initialize`; `None` for a session that was created otherwise.
    pub client: Option<Client>,
    /// The client's, as `initialize` declared them.
    pub capabilities: Capabilities,
    /// The label that `create_session` was given.
    pub label: Option<Box<str>>,
    /// After how long without a request it expires, in milliseconds (a `Duration` takes twice the room, for every session).
    /// The store lowers it to the instance's own.
    pub timeout_millis: u64,
}

impl Handshake {
    /// For a session that is created without `initialize`.
    pub fn implicit(version: Option<ProtocolVersion>) -> Self {
        Self {
            version,
            client: None,
            capabilities: Capabilities::default(),
            label: None,
            timeout_millis: u64::MAX,
        }
    }
}

impl Handshake {
    /// The texts that the client chose.
    pub(super) fn bytes(&self) -> usize {
        let client =
            self.client.as_ref().map_or(0, |client| client.name.len() + client.version.len());
        client + self.label.as_ref().map_or(0, |label| label.len())
    }
}

/// `clientInfo` of `initialize`.
#[derive(Clone, Debug, Serialize)]
pub struct Client {
    pub(crate) name: Box<str>,
    pub(crate) version: Box<str>,
}

/// How many calls a session has completed, and when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Completed `tools/call` requests, `get_session_info` not counted.
    pub requests: u64,
    pub(crate) first: Option<Moment>,
    pub(crate) last: Option<Moment>,
}

impl Tally {
    pub(super) fn add(&mut self, now: Moment) {
        self.requests += 1;
        self.first.get_or_insert(now);
        self.last = Some(now);
    }
}

/// What a client stored: by key, each value as compact JSON text.
#[derive(Clone, Debug, Default)]
pub struct Data {
    values: BTreeMap<Box<str>, Arc<RawValue>>,
    bytes: usize,
}

/// Why a value was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaExceeded {
    /// One key too many.
    #[error(
        "the session already holds {limit} keys, the most it may (session.max_data_keys); overwrite one of them or use a new session"
    )]
    Keys {
        /// `session.max_data_keys`.
        limit: usize,
    },
    /// Too many bytes, keys and values together.
    #[error(
        "the session's data would take {needed} bytes of at most {limit} (session.max_data_bytes); store less or use a new session"
    )]
    Bytes {
        /// What all data would take.
        needed: usize,
        /// `session.max_data_bytes`.
        limit: usize,
    },
}

pub(super) static NO_DATA: Data = Data { values: BTreeMap::new(), bytes: 0 };

impl Data {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.values.get(key).map(|value| &**value)
    }

    /// Keys and values.
    pub fn values(&self) -> &BTreeMap<Box<str>, Arc<RawValue>> {
        &self.values
    }

    /// The keys, sorted.
    pub fn keys(&self) -> Vec<Box<str>> {
        self.values.keys().cloned().collect()
    }

    /// Adds what a store has kept.
    pub(super) fn add(&mut self, key: Box<str>, value: Arc<RawValue>) {
        self.bytes += key.len() + value.get().len();
        self.values.insert(key, value);
    }

    /// Keys and values together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Checks the quota for a value under a key. Returns how many bytes the data will take with it.
    pub(super) fn admit(
        &self,
        key: &str,
        value: &RawValue,
        quota: &SessionConfig,
    ) -> Result<usize, QuotaExceeded> {
        let old = self.values.get(key).map(|old| key.len() + old.get().len());
        if old.is_none() && self.values.len() >= quota.max_data_keys {
            return Err(QuotaExceeded::Keys { limit: quota.max_data_keys });
        }
        let needed = self.bytes - old.unwrap_or(0) + key.len() + value.get().len();
        if needed > quota.max_data_bytes {
            return Err(QuotaExceeded::Bytes { needed, limit: quota.max_data_bytes });
        }
        Ok(needed)
    }

    /// Stores a value that was admitted. Returns whether it replaced another.
    pub(super) fn set(&mut self, key: &str, value: Arc<RawValue>, needed: usize) -> bool {
        self.bytes = needed;
        self.values.insert(key.into(), value).is_some()
    }
}
