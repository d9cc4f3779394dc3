//! What this process has open for a session: streams, running calls, questions.
//!
//! Owns [`Conversation`], made for the sessions that need one, and [`Conversations`], all of one instance. What a
//! session *is* stands in its [`Record`](super::record::Record), which the store owns.
//! Trap: a session may end while its conversation is being made, so one is opened through
//! [`SessionStore::conversation`](super::store::SessionStore::conversation), which looks again afterwards.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::stream::{EventLog, ReplayBudget};
use crate::{
    id::SessionId,
    wire::jsonrpc::{Id, OwnedId},
};

/// Streams of one session that can be resumed at the most; the oldest is forgotten first.
const MAX_LOGS: usize = 16;
/// Resources that one session may be told of.
const MAX_SUBSCRIPTIONS: usize = 1000;

/// The conversations of one instance's sessions.
#[derive(Debug)]
pub struct Conversations {
    /// Cancelled when the process closes event streams.
    closing: CancellationToken,
    replay: Arc<ReplayBudget>,
    open: Mutex<HashMap<SessionId, Arc<Conversation>>>,
}

impl Conversations {
    /// None yet. Their streams share `replay`, and end when `closing` is cancelled.
    pub fn new(closing: &CancellationToken, replay: &Arc<ReplayBudget>) -> Self {
        Self { closing: closing.clone(), replay: Arc::clone(replay), open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Conversation>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The conversation of a session, if it has one.
    pub fn get(&self, id: SessionId) -> Option<Arc<Conversation>> {
        self.open().get(&id).cloned()
    }

    /// The conversation of a session, made if there was none.
    pub(super) fn begin(&self, id: SessionId) -> Arc<Conversation> {
        let begin = || {
            Arc::new(Conversation {
                closed: self.closing.child_token(),
                replay: Arc::clone(&self.replay),
                state: Mutex::default(),
            })
        };
        Arc::clone(self.open().entry(id).or_insert_with(begin))
    }

    /// Ends the conversation of a session that has ended.
    pub(super) fn end(&self, id: SessionId) {
        let ended = self.open().remove(&id);
        if let Some(conversation) = ended {
            conversation.state().ended = true;
            conversation.closed.cancel();
        }
    }
}

/// What is open for one session. Shared by the requests that use it; every call locks for a few instructions only.
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
    /// What can be resumed, oldest first.
    logs: VecDeque<Arc<EventLog>>,
    /// The streams on which the server speaks first, oldest first.
    standalone: Vec<Arc<EventLog>>,
    calls: Vec<(OwnedId, CancellationToken)>,
    next_request: u64,
    /// Questions that the client has not answered yet.
    asked: HashMap<u64, oneshot::Sender<Option<Value>>>,
    subscriptions: BTreeSet<Box<str>>,
}

impl Conversation {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves plain values behind, each of them whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancelled when the session or the process ends.
    pub fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Opens a new standalone stream or a known one again, unless `limit` are open.
    pub fn open_stream(&self, known: Option<Arc<EventLog>>, limit: usize) -> Option<Arc<EventLog>> {
        let mut state = self.state();
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

    /// The counterpart of [`Conversation::open_stream`].
    pub fn close_stream(&self) {
        let mut state = self.state();
        state.open_streams = state.open_streams.saturating_sub(1);
    }

    /// How many standalone and resumed streams are open.
    pub fn open_streams(&self) -> usize {
        self.state().open_streams
    }

    /// A stream that this session had, to be resumed.
    pub fn stream(&self, number: u32) -> Option<Arc<EventLog>> {
        self.state().logs.iter().find(|log| log.stream == Some(number)).cloned()
    }

    /// The stream of one call, which can be resumed.
    pub fn call_stream(&self) -> Arc<EventLog> {
        self.state().new_log(&self.replay)
    }

    /// Sends a message that belongs to no call: on one standalone stream, since no message may go out
    /// twice; on one that is being read if there is such. False if there is no stream at all.
    pub fn notify(&self, message: &[u8]) -> bool {
        let state = self.state();
        let streams = &state.standalone;
        let log = streams.iter().rev().find(|log| log.has_reader()).or(streams.last());
        log.inspect(|log| log.push(message)).is_some()
    }

    /// Subscribes to a resource; false if that would be too many.
    pub fn subscribe(&self, uri: &str) -> bool {
        let subscriptions = &mut self.state().subscriptions;
        let room = subscriptions.len() < MAX_SUBSCRIPTIONS || subscriptions.contains(uri);
        if room {
            subscriptions.insert(uri.into());
        }
        room
    }

    /// The counterpart of [`Conversation::subscribe`].
    pub fn unsubscribe(&self, uri: &str) {
        self.state().subscriptions.remove(uri);
    }

    /// Whether the client wants to be told of this resource.
    pub fn is_subscribed(&self, uri: &str) -> bool {
        self.state().subscriptions.contains(uri)
    }

    /// Notes a question to the client. What comes through the receiver is its answer, `None` if it
    /// refused.
    pub fn ask(&self) -> (u64, oneshot::Receiver<Option<Value>>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        state.next_request += 1;
        let id = state.next_request;
        // Those whose asker has given up.
        state.asked.retain(|_, sender| !sender.is_closed());
        state.asked.insert(id, sender);
        (id, receiver)
    }

    /// Hands a client's answer to whoever asked; an answer to nothing is ignored.
    pub fn answer(&self, id: u64, answer: Option<Value>) {
        let asked = self.state().asked.remove(&id);
        if let Some(asker) = asked {
            // Fails if the asker has given up.
            let _ = asker.send(answer);
        }
    }

    /// Questions that await an answer.
    pub fn open_questions(&self) -> usize {
        self.state().asked.values().filter(|sender| !sender.is_closed()).count()
    }

    /// Notes a call that takes time, so that its client can cancel it.
    pub fn begin_call(&self, id: Id<'_>) -> CancellationToken {
        let cancelled = CancellationToken::new();
        self.state().calls.push((id.to_owned(), cancelled.clone()));
        cancelled
    }

    /// The counterpart of [`Conversation::begin_call`].
    pub fn end_call(&self, id: Id<'_>) {
        self.state().calls.retain(|(call, _)| call.get() != id);
    }

    /// Cancels a call that is under way; nothing happens if there is none of that id.
    pub fn cancel_call(&self, id: Id<'_>) {
        let state = self.state();
        state.calls.iter().filter(|(call, _)| call.get() == id).for_each(|(_, c)| c.cancel());
    }
}

impl State {
    /// A stream that can be resumed; makes room by forgetting the oldest that nobody reads.
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
