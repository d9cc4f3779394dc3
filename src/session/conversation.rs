//! What this process has open for a session: event streams, running calls, requests to its client.
//!
//! Owns [`Conversation`], created when a session first needs one, and [`Conversations`], those of one instance. What the
//! session itself is stands in its [`Record`](super::record::Record).
//! Locks: a conversation locks its event logs while it is locked itself, never the other way round.
//! Trap: a session may end while its conversation is created. So it is taken from
//! [`SessionStore::conversation`](super::store::SessionStore::conversation), which looks afterwards whether the session
//! is still live.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    lock,
    shared::{Logs, Stream},
    stream::{EventLog, ReplayBudget},
};
use crate::{
    budget::{Booking, NoRoom, Share},
    id::{SessionDigest, SessionId},
    observe::{Gauge, Open},
    wire::{Id, LogLevel, OwnedId},
};

/// Streams that one session can resume, beside those of calls that are under way and those that a GET reads.
const MAX_ENDED_LOGS: usize = 16;
/// Resources that one session can subscribe to.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 1000;
/// What a conversation takes by itself, and a subscription beside its URI; rounded up.
const CONVERSATION_BYTES: usize = 512;
const SUBSCRIPTION_BYTES: usize = 320;

#[derive(Debug)]
pub(super) struct Conversations {
    /// Cancelled when the process closes its event streams.
    closing: CancellationToken,
    share: Arc<Share>,
    replay: Arc<ReplayBudget>,
    /// Where event logs are kept, if other processes read them too.
    logs: Option<Arc<Logs>>,
    questions: Gauge,
    open: Mutex<HashMap<SessionId, Arc<Conversation>>>,
    /// Ids by digest, where other replicas speak of sessions by their digests.
    ids: Option<Mutex<HashMap<SessionDigest, SessionId>>>,
}

impl Conversations {
    pub(super) fn new(
        closing: &CancellationToken,
        share: &Arc<Share>,
        replay: &Arc<ReplayBudget>,
    ) -> Self {
        let (share, replay) = (Arc::clone(share), Arc::clone(replay));
        let (questions, open) = (Gauge::default(), Mutex::default());
        Self { closing: closing.clone(), share, replay, logs: None, questions, open, ids: None }
    }

    /// The same for sessions that other replicas know by their digests, with event logs that are kept there as well.
    pub(super) fn shared(self, logs: &Arc<Logs>) -> Self {
        Self { ids: Some(Mutex::default()), logs: Some(Arc::clone(logs)), ..self }
    }

    pub(super) fn get(&self, id: SessionId) -> Option<Arc<Conversation>> {
        lock(&self.open).get(&id).cloned()
    }

    pub(super) fn get_or_begin(&self, id: SessionId) -> Arc<Conversation> {
        let begin = || {
            let booking = Booking::of(&self.share);
            booking.add_anyway(CONVERSATION_BYTES);
            // Where a response may come to another replica, whose request it answers must not be in doubt.
            let next_request = if self.ids.is_some() { some_multiple() } else { 0 };
            Arc::new(Conversation {
                booking,
                questions: self.questions.clone(),
                closed: self.closing.child_token(),
                replay: Arc::clone(&self.replay),
                shelves: self.logs.clone().map(|logs| Box::new((id.digest(), logs))),
                state: Mutex::new(State {
                    next_request,
                    next_stream: self.logs.as_ref().map_or(0, |_| some_number()),
                    ..State::default()
                }),
            })
        };
        let mut open = lock(&self.open);
        if let Some(known) = open.get(&id) {
            return Arc::clone(known);
        }
        if let Some(ids) = &self.ids {
            lock(ids).insert(id.digest(), id);
        }
        Arc::clone(open.entry(id).or_insert_with(begin))
    }

    /// The session of that digest, if it has a conversation.
    pub(super) fn named(&self, digest: SessionDigest) -> Option<(SessionId, Arc<Conversation>)> {
        let id = self.ids.as_ref().and_then(|ids| lock(ids).get(&digest).copied())?;
        Some((id, self.get(id)?))
    }

    /// All that other replicas may have news of.
    pub(super) fn digests(&self) -> Vec<SessionDigest> {
        self.ids.as_ref().map(|ids| lock(ids).keys().copied().collect()).unwrap_or_default()
    }

    /// Requests to clients that await a response.
    pub(super) fn open_questions(&self) -> u64 {
        self.questions.count()
    }

    /// All sessions have ended.
    pub(super) fn end_all(&self) {
        let ids: Vec<_> = lock(&self.open).keys().copied().collect();
        ids.into_iter().for_each(|id| self.end(id));
    }

    /// The session has ended.
    pub(super) fn end(&self, id: SessionId) {
        let ended = {
            let mut open = lock(&self.open);
            if let Some(ids) = &self.ids {
                lock(ids).remove(&id.digest());
            }
            open.remove(&id)
        };
        if let Some(conversation) = ended {
            let mut state = lock(&conversation.state);
            state.ended = true;
            state.lists = None;
            state.subscriptions.clear();
            drop(state);
            conversation.closed.cancel();
        }
    }
}

/// What is open for one session, shared by all requests that use it.
#[derive(Debug)]
pub struct Conversation {
    booking: Booking,
    questions: Gauge,
    closed: CancellationToken,
    replay: Arc<ReplayBudget>,
    /// Where its event logs are kept, and by what name.
    shelves: Option<Box<(SessionDigest, Arc<Logs>)>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    open_streams: usize,
    next_stream: u32,
    /// Streams that can be resumed, oldest first.
    logs: VecDeque<Arc<EventLog>>,
    /// Streams that a GET opened, oldest first.
    standalone: Vec<Arc<EventLog>>,
    calls: Vec<(OwnedId, CancellationToken)>,
    /// The level of log messages, if it was set since the conversation began.
    log_level: Option<LogLevel>,
    next_request: u64,
    /// Requests to the client that await a response.
    asked: HashMap<u64, (oneshot::Sender<Option<Value>>, Open)>,
    /// Resources that it is told of, each with its place among their listeners.
    subscriptions: BTreeMap<Box<str>, Place>,
    lists: Option<Place>,
    /// Another replica has opened a standalone stream since, and sends what belongs to no call.
    elsewhere: bool,
}

/// A place among listeners, given up when it is dropped.
type Place = Box<dyn Any + Send>;

/// What came of a wish to be told of a resource's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    Yes,
    /// The session has [`MAX_SUBSCRIPTIONS`].
    TooMany,
    /// The resource has as many listeners as it may.
    Crowded,
}

impl Conversation {
    /// Cancelled when the session or the process ends.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Opens a standalone stream, or `known` again; `None` if `limit` are open.
    pub(crate) fn open_stream(
        &self,
        known: Option<Arc<EventLog>>,
        limit: usize,
    ) -> Option<Arc<EventLog>> {
        let mut state = lock(&self.state);
        if state.ended || state.open_streams >= limit {
            return None;
        }
        state.open_streams += 1;
        Some(known.unwrap_or_else(|| {
            let log = self.new_log(&mut state, true);
            state.standalone.push(Arc::clone(&log));
            log
        }))
    }

    pub(crate) fn close_stream(&self) {
        let mut state = lock(&self.state);
        state.open_streams = state.open_streams.saturating_sub(1);
    }

    /// How many standalone and resumed streams are open.
    pub fn open_streams(&self) -> usize {
        lock(&self.state).open_streams
    }

    /// A stream to resume.
    pub(crate) fn stream(&self, number: u32) -> Option<Arc<EventLog>> {
        lock(&self.state).logs.iter().find(|log| log.stream == Some(number)).cloned()
    }

    /// A new stream for one call; `None` if `limit` calls are under way.
    pub(crate) fn call_stream(&self, limit: usize) -> Option<Arc<EventLog>> {
        let mut state = lock(&self.state);
        (state.calls.len() < limit).then(|| self.new_log(&mut state, false))
    }

    fn new_log(&self, state: &mut State, standalone: bool) -> Arc<EventLog> {
        state.next_stream = state.next_stream.wrapping_add(1);
        let number = state.next_stream;
        let log = match self.shelves.as_deref() {
            None => EventLog::resumable(number, &self.replay),
            Some((session, logs)) => {
                let stream = Stream { session: *session, number, standalone };
                logs.begin(stream, self.closed.clone())
            }
        };
        state.keep(&log);
        log
    }

    /// A standalone stream that began elsewhere goes on here.
    pub(super) fn take_over(&self, log: &Arc<EventLog>) {
        let mut state = lock(&self.state);
        let others = |known: &Arc<EventLog>| known.stream != log.stream;
        state.logs.retain(others);
        state.standalone.retain(others);
        state.keep(log);
        state.standalone.push(Arc::clone(log));
    }

    /// Sends a message that belongs to no call on one standalone stream, because the same message must not go out on
    /// several (2025-11-25, basic/transports); on one with a reader, if there is any. False if there is no stream, or
    /// another replica sends it.
    pub(crate) fn notify(&self, message: &[u8]) -> bool {
        let state = lock(&self.state);
        if state.elsewhere {
            return false;
        }
        // One that has gone on elsewhere is over here.
        let mut streams = state.standalone.iter().rev().filter(|log| log.is_open());
        let log = streams.clone().find(|log| log.has_reader()).or_else(|| streams.next());
        log.inspect(|log| log.push(message)).is_some()
    }

    /// Whether this replica sends the client what belongs to no call.
    pub(super) fn set_speaking(&self, speaking: bool) {
        lock(&self.state).elsewhere = !speaking;
    }

    /// Whether a standalone stream has a reader.
    pub(super) fn has_listener(&self) -> bool {
        lock(&self.state).standalone.iter().any(|log| log.has_reader())
    }

    pub(super) fn has_standalone(&self) -> bool {
        !lock(&self.state).standalone.is_empty()
    }

    /// Whether that stream is a standalone one.
    pub(crate) fn is_standalone(&self, log: &Arc<EventLog>) -> bool {
        lock(&self.state).standalone.iter().any(|known| Arc::ptr_eq(known, log))
    }

    /// Takes the places among those who listen to lists, unless it has them.
    pub(crate) fn follow_lists(&self, places: impl FnOnce() -> Place) {
        let mut state = lock(&self.state);
        if !state.ended {
            state.lists.get_or_insert_with(places);
        }
    }

    /// Takes the place among those who listen to a resource, unless it has it.
    pub(crate) fn subscribe(
        &self,
        uri: &str,
        place: impl FnOnce() -> Option<Place>,
    ) -> Result<Followed, NoRoom> {
        let mut state = lock(&self.state);
        if state.ended || state.subscriptions.contains_key(uri) {
            return Ok(Followed::Yes);
        }
        if state.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Ok(Followed::TooMany);
        }
        let bytes = uri.len() * 2 + SUBSCRIPTION_BYTES;
        self.booking.keep(bytes)?;
        let Some(place) = place() else {
            self.booking.remove(bytes);
            return Ok(Followed::Crowded);
        };
        state.subscriptions.insert(uri.into(), place);
        Ok(Followed::Yes)
    }

    pub(crate) fn unsubscribe(&self, uri: &str) {
        if lock(&self.state).subscriptions.remove(uri).is_some() {
            self.booking.remove(uri.len() * 2 + SUBSCRIPTION_BYTES);
        }
    }

    /// The same for the URI of that digest.
    pub(super) fn unsubscribe_digest(&self, digest: SessionDigest) {
        let known = {
            let state = lock(&self.state);
            let mut uris = state.subscriptions.keys();
            uris.find(|uri| SessionDigest::of(uri) == digest).cloned()
        };
        if let Some(uri) = known {
            self.unsubscribe(&uri);
        }
    }

    /// An id for a request to the client, and the receiver of the result; of `None`, if the response is an error.
    pub(crate) fn ask(&self) -> (u64, oneshot::Receiver<Option<Value>>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = lock(&self.state);
        state.next_request += 1;
        let id = state.next_request;
        state.asked.insert(id, (sender, self.questions.open()));
        (id, receiver)
    }

    /// Hands the client's response to whoever asked; false if that is nobody here.
    pub(crate) fn answer(&self, id: u64, answer: Option<Value>) -> bool {
        let asked = lock(&self.state).asked.remove(&id);
        let Some((asker, _)) = asked else { return false };
        // Fails if the asker has given up waiting.
        let _ = asker.send(answer);
        true
    }

    /// The requests to the client that await a response here.
    pub(super) fn asked(&self) -> Vec<u64> {
        lock(&self.state).asked.keys().copied().collect()
    }

    /// Whether a response to that request is awaited here.
    pub(super) fn is_asked(&self, id: u64) -> bool {
        lock(&self.state).asked.contains_key(&id)
    }

    /// Whoever asked waits no longer; false if there has been a response.
    pub(crate) fn give_up(&self, id: u64) -> bool {
        lock(&self.state).asked.remove(&id).is_some()
    }

    /// Sets the level of log messages for calls that are under way; the record has it for those to come.
    pub(crate) fn set_log_level(&self, level: LogLevel) {
        lock(&self.state).log_level = Some(level);
    }

    pub(crate) fn log_level(&self) -> Option<LogLevel> {
        lock(&self.state).log_level
    }

    /// Requests to the client that await a response.
    pub fn open_questions(&self) -> usize {
        lock(&self.state).asked.len()
    }

    /// Registers a running call, so that its client can cancel it; `None` if `limit` are under way.
    pub(crate) fn begin_call(&self, id: Id<'_>, limit: usize) -> Option<CancellationToken> {
        let calls = &mut lock(&self.state).calls;
        let cancelled = CancellationToken::new();
        let room = calls.len() < limit;
        room.then(|| {
            calls.push((id.to_owned(), cancelled.clone()));
            cancelled
        })
    }

    /// How many calls are under way.
    pub fn open_calls(&self) -> usize {
        lock(&self.state).calls.len()
    }

    pub(crate) fn end_call(&self, id: Id<'_>) {
        lock(&self.state).calls.retain(|(call, _)| call.get() != id);
    }

    /// Cancels a running call; false if there is none of that id.
    pub(crate) fn cancel_call(&self, id: Id<'_>) -> bool {
        let state = lock(&self.state);
        let calls = state.calls.iter().filter(|(call, _)| call.get() == id);
        calls.inspect(|(_, cancelled)| cancelled.cancel()).count() > 0
    }
}

/// A random multiple of a million or so: two who count from there do not meet. Numbers of JavaScript end at 2^53.
fn some_multiple() -> u64 {
    (u64::from(uuid::Uuid::new_v4().as_fields().0)) << 20
}

impl State {
    /// Keeps a new stream. With too many that could be given up, the oldest of the most dispensable is.
    fn keep(&mut self, log: &Arc<EventLog>) {
        let standalone = |log| self.standalone.iter().any(|known| Arc::ptr_eq(known, log));
        let ranks = self.logs.iter().enumerate();
        let ranks =
            ranks.filter_map(|(place, log)| Some((log.dispensable(standalone(log))?, place)));
        let (count, first) = ranks.fold((0, None), |(count, first), rank| {
            (count + 1, Some(first.map_or(rank, |first| rank.min(first))))
        });
        if count >= MAX_ENDED_LOGS
            && let Some((_, place)) = first
            && let Some(forgotten) = self.logs.remove(place)
        {
            self.standalone.retain(|log| !Arc::ptr_eq(log, &forgotten));
        }
        self.logs.push_back(Arc::clone(log));
    }
}

/// Where the numbers of streams begin, so that two replicas give the streams of one session different ones.
fn some_number() -> u32 {
    let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
    u32::from_be_bytes([a, b, c, d])
}
