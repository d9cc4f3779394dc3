//! A session as a value: what the store owns, and what a call may change of it.
//!
//! Owns [`Record`], its unchanging [`Head`], [`Data`] with its quota, and [`Change`], the whole effect of one call.
//! What this process has open for a session is its [`Conversation`](super::conversation::Conversation).
//! Trap: a record tells of one moment. What it says is not locked, so a change is made by the store and never by
//! writing back what was read.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    clock::Moment,
    config::SessionConfig,
    id::{Caller, SessionId, SessionRef},
    wire::{
        model::{Capabilities, LogLevel},
        version::ProtocolVersion,
    },
};

/// What never changes once a session has begun.
#[derive(Debug)]
pub struct Head {
    /// The id that its client holds.
    pub id: SessionId,
    /// What stands for it in logs.
    pub reference: SessionRef,
    /// Who made it; for anyone else it does not exist.
    pub owner: Caller,
    /// What was agreed at the start.
    pub handshake: Handshake,
    /// When it began.
    pub created: Moment,
    /// Idle time until it expires.
    pub timeout: Duration,
}

impl Head {
    /// When a session that was last used then has been idle for too long.
    pub fn due(&self, touched: Moment) -> Moment {
        touched.plus(self.timeout)
    }
}

/// One live session, as it was when the store was asked.
#[derive(Clone, Debug)]
pub struct Record {
    /// What never changes.
    pub head: Arc<Head>,
    /// When its idle clock was last set back.
    pub touched: Moment,
    /// What has been counted.
    pub tally: Tally,
    /// Whether the client completed the handshake.
    pub initialized: bool,
    /// The least severe log message that the client wants.
    pub log_level: LogLevel,
    /// Keys of its data.
    pub data_keys: usize,
    /// Bytes of keys and values together.
    pub data_bytes: usize,
    /// Whether the change that this is the outcome of took the place of a value.
    pub replaced: bool,
    /// What was asked for beside these.
    pub more: More,
}

impl Record {
    /// When it expires, if nobody uses it until then.
    pub fn expires(&self) -> Moment {
        self.head.due(self.touched)
    }

    /// What its client stored; empty unless it was asked for.
    pub fn data(&self) -> &Data {
        match &self.more {
            More::Data(data) => data,
            More::Nothing | More::Echo(_) => &NO_DATA,
        }
    }

    /// What was echoed last; nothing unless it was asked for.
    pub fn last_echo(&self) -> Option<&str> {
        match &self.more {
            More::Echo(last) => last.as_deref(),
            More::Nothing | More::Data(_) => None,
        }
    }
}

/// What a record holds only if it is wanted, since it may be large.
#[derive(Clone, Debug)]
pub enum More {
    /// Nothing.
    Nothing,
    /// What the client stored.
    Data(Arc<Data>),
    /// What was echoed last.
    Echo(Option<Box<str>>),
}

/// What is wanted of a session beside what every record holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// Nothing.
    #[default]
    Nothing,
    /// What the client stored.
    Data,
    /// What was echoed last.
    Echo,
}

/// The whole effect of one call on its session. All of it happens, or none.
#[derive(Clone, Debug, Default)]
pub struct Change<'a> {
    /// Whether a completed call is counted.
    pub count: bool,
    /// What was echoed.
    pub echo: Option<&'a str>,
    /// A value to be stored under a key.
    pub set: Option<(&'a str, &'a Arc<RawValue>)>,
    /// Whether the client has completed the handshake.
    pub initialized: bool,
    /// The least severe log message that the client wants from now on.
    pub log_level: Option<LogLevel>,
    /// What the record that comes back is to hold.
    pub want: Want,
}

impl Change<'_> {
    /// A call was completed, and did nothing else.
    pub const COUNT: Self = Self {
        count: true,
        echo: None,
        set: None,
        initialized: false,
        log_level: None,
        want: Want::Nothing,
    };
}

/// What client and server agreed on when the session began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The negotiated revision; `None` for a handle, which any revision may use.
    pub version: Option<ProtocolVersion>,
    /// Who said `initialize`; `None` for a session that began otherwise.
    pub client: Option<Client>,
    /// What that client can do.
    pub capabilities: Capabilities,
    /// What `create_session` was told to call it.
    pub label: Option<Box<str>>,
    /// Idle time until expiry that was asked for; the instance's own is the longest there is.
    pub timeout: Option<Duration>,
}

impl Handshake {
    /// A session that begins without `initialize`.
    pub fn implicit(version: Option<ProtocolVersion>) -> Self {
        Self {
            version,
            client: None,
            capabilities: Capabilities::default(),
            label: None,
            timeout: None,
        }
    }
}

/// `clientInfo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Client {
    /// Its name.
    pub name: Box<str>,
    /// Its version.
    pub version: Box<str>,
}

/// How many calls a session has completed, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Completed `tools/call` requests, `get_session_info` not counted.
    pub requests: u64,
    /// When the first completed.
    pub first: Option<Moment>,
    /// When the last completed.
    pub last: Option<Moment>,
}

impl Tally {
    /// Counts a call that has completed.
    pub(super) fn add(&mut self, now: Moment) {
        self.requests += 1;
        self.first.get_or_insert(now);
        self.last = Some(now);
    }
}

/// What a client stored, in the order of its keys, each value as compact JSON text.
#[derive(Clone, Debug, Default)]
pub struct Data {
    values: BTreeMap<Box<str>, Arc<RawValue>>,
    bytes: usize,
}

/// Why a value was not stored; the texts say what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaExceeded {
    /// One key more than allowed.
    #[error(
        "the session already holds {limit} keys, the most it may (session.max_data_keys); overwrite one of them or use a new session"
    )]
    Keys {
        /// Keys at the most.
        limit: usize,
    },
    /// More bytes than allowed.
    #[error(
        "the session's data would take {needed} bytes of at most {limit} (session.max_data_bytes); store less or use a new session"
    )]
    Bytes {
        /// What it would take, keys and values together.
        needed: usize,
        /// Bytes at the most.
        limit: usize,
    },
}

/// What a session holds whose client has stored nothing.
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

    /// Bytes of keys and values together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a value may be stored under a key, and how many bytes there are then.
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

    /// Stores what has been admitted; whether the key was there before.
    pub(super) fn set(&mut self, key: &str, value: Arc<RawValue>, needed: usize) -> bool {
        self.bytes = needed;
        self.values.insert(key.into(), value).is_some()
    }
}
