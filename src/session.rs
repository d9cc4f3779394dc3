//! One conversation: what a session remembers.
//!
//! Owns [`SessionId`] (an id that explains itself), [`Session`] and its data with their quota. Refuses
//! to know where sessions are kept (`session::store`) or how they are reached (`mcp::sessioned`).
//! Trap: the id is a secret that lets its holder act as the session; logs show a [`SessionRef`].

mod calendar;
pub mod memory;
pub mod store;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, Serializer};
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    auth::Caller,
    clock::Moment,
    config::SessionConfig,
    mcp::{
        jsonrpc::{Id, OwnedId},
        model::{Capabilities, LogLevel},
        stream::{EventLog, ReplayBudget},
        version::ProtocolVersion,
    },
    place::{Boot, InstanceId, Origin, Tag},
};

/// A UUID (version 8): hex digit 0 is the instance that minted it, digits 1-2 the replica tag, digits
/// 3-5 the boot; the other 98 bits are random.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(Uuid);

impl SessionId {
    /// A new id that no one can guess.
    pub fn mint(instance: InstanceId, origin: Origin) -> Result<Self, getrandom::Error> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes)?;
        let Origin { tag: Tag(tag), boot: Boot(boot) } = origin;
        bytes[0] = instance.digit() << 4 | tag >> 4;
        bytes[1] = tag << 4 | (boot >> 8) as u8;
        bytes[2] = boot as u8;
        Ok(Self(uuid::Builder::from_custom_bytes(bytes).into_uuid()))
    }

    /// Reads an id as this server writes it: 36 characters, lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let uuid = Uuid::try_parse(text).ok()?;
        // Of the forms that can be read, one has this length.
        let canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let ours = canonical && uuid.get_version_num() == 8;
        ours.then_some(Self(uuid))
    }

    /// Which instance minted it; `None` for an id that is not ours.
    pub fn instance(self) -> Option<InstanceId> {
        InstanceId::new(self.0.as_bytes()[0] >> 4)
    }

    /// Which replica minted it, and in which start.
    pub fn origin(self) -> Origin {
        let [a, b, c, ..] = *self.0.as_bytes();
        Origin { tag: Tag(a << 4 | b >> 4), boot: Boot(u16::from(b & 0xf) << 8 | u16::from(c)) }
    }

    /// What stands for it in logs and listings.
    pub fn reference(self) -> SessionRef {
        SessionRef::of(self.encode(&mut [0; 36]))
    }
}

impl SessionId {
    /// Writes it as text.
    pub fn encode(self, buffer: &mut [u8; 36]) -> &str {
        self.0.as_hyphenated().encode_lower(buffer)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encode(&mut [0; 36]))
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.encode(&mut [0; 36]))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.reference())
    }
}

/// The first 12 hex digits of the SHA-256 of an id's text: enough to find a session, too little to be one.
/// `printf %s "$SESSION_ID" | sha256sum | cut -c1-12` gives the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRef([u8; 6]);

impl SessionRef {
    /// The reference of any text that was given as an id.
    pub fn of(id: &str) -> Self {
        let digest = Sha256::digest(id.as_bytes());
        let mut first = [0; 6];
        first.copy_from_slice(&digest[..6]);
        Self(first)
    }

    /// Reads a reference as it is shown.
    pub fn parse(text: &str) -> Option<Self> {
        let number = u64::from_str_radix(text, 16).ok()?;
        let [_, _, bytes @ ..] = number.to_be_bytes();
        let reference = Self(bytes);
        (reference.to_string() == text).then_some(reference)
    }
}

impl SessionRef {
    /// Its digits.
    pub fn digits(self) -> [u8; 12] {
        let mut digits = [0; 12];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
        }
        digits
    }
}

impl fmt::Display for SessionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
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
    /// Idle time until expiry, if it is shorter than the instance's.
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

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Idle for too long.
    Expired,
    /// The client sent DELETE.
    Client,
    /// An operator ended it.
    Admin,
    /// The process stopped.
    Shutdown,
}

impl EndReason {
    /// Every reason, in the order of [`EndReason::index`].
    pub const ALL: [Self; 4] = [Self::Expired, Self::Client, Self::Admin, Self::Shutdown];

    /// Position in [`EndReason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// As it stands in logs and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Client => "client",
            Self::Admin => "admin",
            Self::Shutdown => "shutdown",
        }
    }
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

/// One live session. Shared by the requests that use it; every call locks for a few instructions only.
#[derive(Debug)]
pub struct Session {
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
    touched: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    initialized: bool,
    tally: Tally,
    data: Data,
    /// Text.
    last_echo: Option<Box<[u8]>>,
    activity: Option<Box<Activity>>,
}

/// What is under way in a session: allocated for the sessions that need it.
#[derive(Debug)]
struct Activity {
    closed: CancellationToken,
    open_streams: usize,
    next_stream: u32,
    /// What can be resumed, oldest first.
    logs: VecDeque<Arc<EventLog>>,
    /// The streams on which the server speaks first, oldest first.
    standalone: Vec<Arc<EventLog>>,
    calls: Vec<(OwnedId, CancellationToken)>,
    next_request: u64,
    /// Questions that the client has not answered yet.
    asked: HashMap<u64, oneshot::Sender<Option<Value>>>,
    subscriptions: BTreeSet<Box<str>>,
    log_level: Option<LogLevel>,
}

/// Streams of one session that can be resumed at the most; the oldest is forgotten first.
const MAX_LOGS: usize = 16;
/// Resources that one session may be told of.
const MAX_SUBSCRIPTIONS: usize = 1000;

impl Session {
    /// A session that begins now.
    pub(in crate::session) fn begin(
        id: SessionId,
        handshake: Handshake,
        owner: Caller,
        now: Moment,
    ) -> Self {
        Self {
            id,
            reference: id.reference(),
            owner,
            handshake,
            created: now,
            touched: AtomicU64::new(now.as_millis()),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves plain values behind, each of them whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the idle clock was last set back.
    pub fn touched(&self) -> Moment {
        Moment::from_millis(self.touched.load(Ordering::Relaxed))
    }

    pub(in crate::session) fn touch(&self, now: Moment) {
        self.touched.store(now.as_millis(), Ordering::Relaxed);
    }

    /// Idle time until it expires, where others have `usual`.
    pub fn timeout(&self, usual: Duration) -> Duration {
        self.handshake.timeout.map_or(usual, |own| own.min(usual))
    }

    /// Says that the session has ended, and closes its streams. The one who says it first learns how many bytes
    /// of data it held.
    pub(in crate::session) fn mark_ended(&self) -> Option<usize> {
        let mut state = self.state();
        if let Some(activity) = &state.activity {
            activity.closed.cancel();
        }
        let first = !std::mem::replace(&mut state.ended, true);
        first.then_some(state.data.bytes)
    }

    /// Notes `notifications/initialized`.
    pub fn set_initialized(&self) {
        self.state().initialized = true;
    }

    /// Whether the client completed the handshake.
    pub fn is_initialized(&self) -> bool {
        self.state().initialized
    }

    /// Counts one completed call.
    pub fn count(&self, now: Moment) -> Tally {
        let tally = &mut self.state().tally;
        tally.requests += 1;
        tally.first.get_or_insert(now);
        tally.last = Some(now);
        *tally
    }

    /// What has been counted.
    pub fn tally(&self) -> Tally {
        self.state().tally
    }

    /// Remembers what was echoed last.
    pub fn set_last_echo(&self, message: &str) {
        let mut state = self.state();
        match &mut state.last_echo {
            // Among a million sessions what was kept is far away; to give it back and ask for more takes longer
            // than to write over it.
            Some(last) if last.len() == message.len() => last.copy_from_slice(message.as_bytes()),
            last => *last = Some(message.as_bytes().into()),
        }
    }

    /// What was echoed last.
    pub fn last_echo(&self) -> Option<String> {
        self.state().last_echo.as_deref().map(|last| String::from_utf8_lossy(last).into_owned())
    }

    /// Runs `read` on the data.
    pub fn with_data<T>(&self, read: impl FnOnce(&Data) -> T) -> T {
        read(&self.state().data)
    }

    /// Stores a value. Tells whether the key was there before, and by how many bytes the data of live sessions
    /// have grown.
    pub(in crate::session) fn set_data(
        &self,
        key: &str,
        value: Box<RawValue>,
        quota: &SessionConfig,
    ) -> Result<(bool, i64), QuotaExceeded> {
        let mut state = self.state();
        let before = state.data.bytes;
        let replaced = state.data.set(key, value, quota)?;
        // What a call still stores in a session that ended under it goes with the call.
        let grown = if state.ended { 0 } else { signed(state.data.bytes) - signed(before) };
        Ok((replaced, grown))
    }

    /// Opens a new standalone stream or a known one again, unless `limit` are open. The token is a child of
    /// `closing`, and ends with the session as well.
    pub fn open_stream(
        &self,
        known: Option<Arc<EventLog>>,
        limit: usize,
        closing: &CancellationToken,
        budget: &Arc<ReplayBudget>,
    ) -> Option<(Arc<EventLog>, CancellationToken)> {
        let mut state = self.state();
        if state.ended {
            return None;
        }
        let activity = state.activity(closing);
        if activity.open_streams >= limit {
            return None;
        }
        activity.open_streams += 1;
        let log = known.unwrap_or_else(|| {
            let log = activity.new_log(budget);
            activity.standalone.push(Arc::clone(&log));
            log
        });
        Some((log, activity.closed.clone()))
    }

    /// A stream that this session had, to be resumed.
    pub fn stream(&self, number: u32) -> Option<Arc<EventLog>> {
        let state = self.state();
        let mut logs = state.activity.as_ref()?.logs.iter();
        logs.find(|log| log.stream == Some(number)).cloned()
    }

    /// The counterpart of [`Session::open_stream`].
    pub fn close_stream(&self) {
        if let Some(activity) = &mut self.state().activity {
            activity.open_streams = activity.open_streams.saturating_sub(1);
        }
    }

    /// The stream of one call, which can be resumed.
    pub fn call_stream(
        &self,
        closing: &CancellationToken,
        budget: &Arc<ReplayBudget>,
    ) -> Arc<EventLog> {
        self.state().activity(closing).new_log(budget)
    }

    /// Cancelled when the session or the process ends.
    pub fn closed(&self, closing: &CancellationToken) -> CancellationToken {
        self.state().activity(closing).closed.clone()
    }

    /// How many standalone and resumed streams are open.
    pub fn open_streams(&self) -> usize {
        self.state().activity.as_ref().map_or(0, |activity| activity.open_streams)
    }

    /// Sends a message that belongs to no call: on one standalone stream, since no message may go out
    /// twice; on one that is being read if there is such. False if there is no stream at all.
    pub fn notify(&self, message: &[u8]) -> bool {
        let state = self.state();
        let Some(activity) = &state.activity else { return false };
        let streams = &activity.standalone;
        let log = streams.iter().rev().find(|log| log.has_reader()).or(streams.last());
        log.inspect(|log| log.push(message)).is_some()
    }

    /// Subscribes to a resource; false if that would be too many.
    pub fn subscribe(&self, uri: &str, closing: &CancellationToken) -> bool {
        let mut state = self.state();
        let subscriptions = &mut state.activity(closing).subscriptions;
        let room = subscriptions.len() < MAX_SUBSCRIPTIONS || subscriptions.contains(uri);
        if room {
            subscriptions.insert(uri.into());
        }
        room
    }

    /// The counterpart of [`Session::subscribe`].
    pub fn unsubscribe(&self, uri: &str) {
        if let Some(activity) = &mut self.state().activity {
            activity.subscriptions.remove(uri);
        }
    }

    /// Whether the client wants to be told of this resource.
    pub fn is_subscribed(&self, uri: &str) -> bool {
        self.state().activity.as_ref().is_some_and(|activity| activity.subscriptions.contains(uri))
    }

    /// Sets the least severe log message that the client wants.
    pub fn set_log_level(&self, level: LogLevel, closing: &CancellationToken) {
        self.state().activity(closing).log_level = Some(level);
    }

    /// The least severe log message that the client wants; `info` if it has not said.
    pub fn log_level(&self) -> LogLevel {
        let set = self.state().activity.as_ref().and_then(|activity| activity.log_level);
        set.unwrap_or(LogLevel::Info)
    }

    /// Notes a question to the client. What comes through the receiver is its answer, `None` if it
    /// refused.
    pub fn ask(&self, closing: &CancellationToken) -> (u64, oneshot::Receiver<Option<Value>>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        let activity = state.activity(closing);
        activity.next_request += 1;
        let id = activity.next_request;
        // Those whose asker has given up.
        activity.asked.retain(|_, sender| !sender.is_closed());
        activity.asked.insert(id, sender);
        (id, receiver)
    }

    /// Hands a client's answer to whoever asked; an answer to nothing is ignored.
    pub fn answer(&self, id: u64, answer: Option<Value>) {
        let asked = self.state().activity.as_mut().and_then(|activity| activity.asked.remove(&id));
        if let Some(asker) = asked {
            // Fails if the asker has given up.
            let _ = asker.send(answer);
        }
    }

    /// Questions that await an answer.
    pub fn open_questions(&self) -> usize {
        let state = self.state();
        let open = |activity: &Activity| activity.asked.values().filter(|s| !s.is_closed()).count();
        state.activity.as_deref().map_or(0, open)
    }

    /// Notes a call that takes time, so that its client can cancel it.
    pub fn begin_call(&self, id: Id<'_>, closing: &CancellationToken) -> CancellationToken {
        let cancelled = CancellationToken::new();
        self.state().activity(closing).calls.push((id.to_owned(), cancelled.clone()));
        cancelled
    }

    /// The counterpart of [`Session::begin_call`].
    pub fn end_call(&self, id: Id<'_>) {
        if let Some(activity) = &mut self.state().activity {
            activity.calls.retain(|(call, _)| call.get() != id);
        }
    }

    /// Cancels a call that is under way; nothing happens if there is none of that id.
    pub fn cancel_call(&self, id: Id<'_>) {
        if let Some(activity) = &self.state().activity {
            activity
                .calls
                .iter()
                .filter(|(call, _)| call.get() == id)
                .for_each(|(_, c)| c.cancel());
        }
    }
}

/// A number of bytes, to be added or taken away.
fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl State {
    fn activity(&mut self, closing: &CancellationToken) -> &mut Activity {
        self.activity.get_or_insert_with(|| {
            Box::new(Activity {
                closed: closing.child_token(),
                open_streams: 0,
                next_stream: 0,
                logs: VecDeque::new(),
                standalone: Vec::new(),
                calls: Vec::new(),
                next_request: 0,
                asked: HashMap::new(),
                subscriptions: BTreeSet::new(),
                log_level: None,
            })
        })
    }
}

impl Activity {
    /// A stream that can be resumed; makes room by forgetting the oldest that nobody reads.
    fn new_log(&mut self, budget: &Arc<ReplayBudget>) -> Arc<EventLog> {
        self.next_stream += 1;
        let log = EventLog::resumable(self.next_stream, budget);
        self.logs.push_back(Arc::clone(&log));
        if self.logs.len() > MAX_LOGS {
            let idle = self.logs.iter().position(|log| !log.has_reader()).unwrap_or(0);
            if let Some(forgotten) = self.logs.remove(idle) {
                self.standalone.retain(|log| !Arc::ptr_eq(log, &forgotten));
            }
        }
        log
    }
}

/// What a client stored, in the order of its keys, each value as compact JSON text.
#[derive(Debug, Default)]
pub struct Data {
    values: BTreeMap<Box<str>, Box<RawValue>>,
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

impl Data {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.values.get(key).map(|value| &**value)
    }

    /// Keys and values.
    pub fn values(&self) -> &BTreeMap<Box<str>, Box<RawValue>> {
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

    fn set(
        &mut self,
        key: &str,
        value: Box<RawValue>,
        quota: &SessionConfig,
    ) -> Result<bool, QuotaExceeded> {
        let old = self.values.get(key).map(|old| key.len() + old.get().len());
        if old.is_none() && self.values.len() >= quota.max_data_keys {
            return Err(QuotaExceeded::Keys { limit: quota.max_data_keys });
        }
        let needed = self.bytes - old.unwrap_or(0) + key.len() + value.get().len();
        if needed > quota.max_data_bytes {
            return Err(QuotaExceeded::Bytes { needed, limit: quota.max_data_bytes });
        }
        self.bytes = needed;
        self.values.insert(key.into(), value);
        Ok(old.is_some())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_says_where_it_came_from(digit in 0u8..10, tag: u8, boot in 0u16..0x1000) {
            let instance = InstanceId::new(digit).expect("0 to 9");
            let origin = Origin { tag: Tag(tag), boot: Boot(boot) };
            let id = SessionId::mint(instance, origin).expect("random bytes");
            let text = id.to_string();
            prop_assert_eq!(&text[..6], format!("{digit}{tag:02x}{boot:03x}"));
            prop_assert_eq!(SessionId::parse(&text), Some(id));
            prop_assert_eq!(id.instance(), Some(instance));
            prop_assert_eq!(id.origin(), origin);
        }

        #[test]
        fn any_text_is_an_id_or_not(text in "\\PC{0,40}") {
            if let Some(id) = SessionId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
