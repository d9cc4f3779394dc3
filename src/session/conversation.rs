//! What this process has open for a session: event streams, running calls, requests to its client.
//!
//! Owns [`Conversation`], created when a session first needs one, and [`Conversations`], those of one instance. What the
//! session itself is stands in its [`Record`](super::record::Record).
//! Locks: a conversation locks its event logs while it is locked itself, never the other way round.
//! Trap: a session may end while its conversation is created. So it is taken from
//! [`SessionStore::conversation`](super::store::SessionStore::conversation), which looks afterwards whether the session
//! is still live.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    lock,
    stream::{EventLog, ReplayBudget},
};
use crate::{
    id::SessionId,
    wire::{Id, OwnedId},
};

/// Streams that one session can resume.
const MAX_LOGS: usize = 16;
/// Resources that one session can subscribe to.
const MAX_SUBSCRIPTIONS: usize = 1000;

#[derive(Debug)]
pub(super) struct Conversations {
    /// Cancelled when the process closes its event streams.
    closing: CancellationToken,
    replay: Arc<ReplayBudget>,
    open: Mutex<HashMap<SessionId, Arc<Conversation>>>,
}

impl Conversations {
    pub(super) fn new(closing: &CancellationToken, replay: &Arc<ReplayBudget>) -> Self {
        Self { closing: closing.clone(), replay: Arc::clone(replay), open: Mutex::default() }
    }

    pub(super) fn get(&self, id: SessionId) -> Option<Arc<Conversation>> {
        lock(&self.open).get(&id).cloned()
    }

    pub(super) fn get_or_begin(&self, id: SessionId) -> Arc<Conversation> {
        let begin = || {
            Arc::new(Conversation {
                closed: self.closing.child_token(),
                replay: Arc::clone(&self.replay),
                state: Mutex::default(),
            })
        };
        Arc::clone(lock(&self.open).entry(id).or_insert_with(begin))
    }

    /// The session has ended.
    pub(super) fn end(&self, id: SessionId) {
        let ended = lock(&self.open).remove(&id);
        if let Some(conversation) = ended {
            lock(&conversation.state).ended = true;
            conversation.closed.cancel();
        }
    }
}

/// What is open for one session, shared by all requests that use it.
#[derive(Debug)]
pub struct Conversation {
    closed: CancellationToken,
    replay: Arc<ReplayBudget>,
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
    next_request: u64,
    /// Requests to the client that await a response.
    asked: HashMap<u64, oneshot::Sender<Option<Value>>>,
    subscriptions: BTreeSet<Box<str>>,
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
            let log = state.new_log(&self.replay);
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

    /// A new stream for one call.
    pub(crate) fn call_stream(&self) -> Arc<EventLog> {
        lock(&self.state).new_log(&self.replay)
    }

    /// Sends a message that belongs to no call on one standalone stream, because the same message must not go out on
    /// several (2025-11-25, basic/transports); on one with a reader, if there is any. False if there is no stream.
    pub(crate) fn notify(&self, message: &[u8]) -> bool {
        let state = lock(&self.state);
        let streams = &state.standalone;
        let log = streams.iter().rev().find(|log| log.has_reader()).or(streams.last());
        log.inspect(|log| log.push(message)).is_some()
    }

    /// False if the session has too many subscriptions.
    pub(crate) fn subscribe(&self, uri: &str) -> bool {
        let subscriptions = &mut lock(&self.state).subscriptions;
        let room = subscriptions.len() < MAX_SUBSCRIPTIONS || subscriptions.contains(uri);
        if room {
            subscriptions.insert(uri.into());
        }
        room
    }

    pub(crate) fn unsubscribe(&self, uri: &str) {
        lock(&self.state).subscriptions.remove(uri);
    }

    pub(crate) fn is_subscribed(&self, uri: &str) -> bool {
        lock(&self.state).subscriptions.contains(uri)
    }

    /// An id for a request to the client, and the receiver of the result; of `None`, if the response is an error.
    pub(crate) fn ask(&self) -> (u64, oneshot::Receiver<Option<Value>>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = lock(&self.state);
        state.next_request += 1;
        let id = state.next_request;
        // Forget requests whose sender has given up waiting.
        state.asked.retain(|_, sender| !sender.is_closed());
        state.asked.insert(id, sender);
        (id, receiver)
    }

    /// Hands the client's response to whoever asked; one to no open request is ignored.
    pub(crate) fn answer(&self, id: u64, answer: Option<Value>) {
        let asked = lock(&self.state).asked.remove(&id);
        if let Some(asker) = asked {
            // Fails if the asker has given up waiting.
            let _ = asker.send(answer);
        }
    }

    /// Requests to the client that await a response.
    pub fn open_questions(&self) -> usize {
        lock(&self.state).asked.values().filter(|sender| !sender.is_closed()).count()
    }

    /// Registers a running call, so that its client can cancel it.
    pub(crate) fn begin_call(&self, id: Id<'_>) -> CancellationToken {
        let cancelled = CancellationToken::new();
        lock(&self.state).calls.push((id.to_owned(), cancelled.clone()));
        cancelled
    }

    pub(crate) fn end_call(&self, id: Id<'_>) {
        lock(&self.state).calls.retain(|(call, _)| call.get() != id);
    }

    /// Cancels a running call, if there is one of that id.
    pub(crate) fn cancel_call(&self, id: Id<'_>) {
        let state = lock(&self.state);
        state.calls.iter().filter(|(call, _)| call.get() == id).for_each(|(_, c)| c.cancel());
    }
}

impl State {
    /// A new stream. With too many of them, the oldest without a reader is forgotten.
    fn new_log(&mut self, replay: &Arc<ReplayBudget>) -> Arc<EventLog> {
        self.next_stream += 1;
        let log = EventLog::resumable(self.next_stream, replay);
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
