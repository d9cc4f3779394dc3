//! Changes of one instance, and who wants to be told of them.
//!
//! Owns the list of listeners: open subscriptions of stateless clients and sessions with something to
//! be told. Refuses to keep a listener alive: it holds weak references, and forgets what is gone.
//! Trap: telling must never wait for a slow reader, so a stream that is too far behind is cut off.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::{Value, json};

use crate::{
    session::{conversation::Conversation, stream::EventLog},
    wire::{
        jsonrpc,
        model::{Filter, META_SUBSCRIPTION},
    },
};

/// Something that clients may have asked to be told of.
#[derive(Clone, Debug)]
pub enum Update {
    /// The list of tools is another.
    Tools,
    /// The list of prompts is another.
    Prompts,
    /// The contents of a resource are others.
    Resource {
        /// Which one.
        uri: String,
    },
    /// A task is in another state.
    Task {
        /// Which one.
        id: String,
        /// The task as `tasks/get` shows it.
        state: Value,
    },
}

impl Update {
    fn method(&self) -> &'static str {
        match self {
            Self::Tools => "notifications/tools/list_changed",
            Self::Prompts => "notifications/prompts/list_changed",
            Self::Resource { .. } => "notifications/resources/updated",
            Self::Task { .. } => "notifications/tasks",
        }
    }

    fn params(&self) -> Value {
        match self {
            Self::Tools | Self::Prompts => json!({}),
            Self::Resource { uri } => json!({ "uri": uri }),
            Self::Task { state, .. } => state.clone(),
        }
    }

    fn passes(&self, filter: &Filter) -> bool {
        match self {
            Self::Tools => filter.tools_list_changed,
            Self::Prompts => filter.prompts_list_changed,
            Self::Resource { uri } => filter.resource_subscriptions.contains(uri),
            Self::Task { id, .. } => filter.task_ids.contains(id),
        }
    }
}

/// An open `subscriptions/listen`.
#[derive(Debug)]
pub struct Subscription {
    /// The id of the request that opened it, which tags everything it delivers.
    pub id: Value,
    /// What it wants.
    pub filter: Filter,
    /// Where it is delivered.
    pub log: Arc<EventLog>,
}

impl Subscription {
    /// A notification as this subscription gets it.
    pub fn deliver(&self, method: &str, mut params: Value) {
        params["_meta"] = json!({ META_SUBSCRIPTION: self.id });
        self.log.push(&jsonrpc::notification(method, &params));
    }
}

/// Who is told.
#[derive(Debug, Default)]
pub struct Subscriptions {
    subscriptions: Mutex<Vec<Weak<Subscription>>>,
    conversations: Mutex<Vec<Weak<Conversation>>>,
}

fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subscriptions {
    /// Adds a subscription, unless `limit` are open. It ends when its last reference is dropped.
    pub fn subscribe(&self, subscription: &Arc<Subscription>, limit: usize) -> bool {
        let mut subscriptions = lock(&self.subscriptions);
        subscriptions.retain(|known| known.strong_count() > 0);
        if subscriptions.len() >= limit {
            return false;
        }
        subscriptions.push(Arc::downgrade(subscription));
        true
    }

    /// Adds the conversation of a session that has a stream or a subscription.
    pub fn add(&self, conversation: &Arc<Conversation>) {
        let mut conversations = lock(&self.conversations);
        conversations.retain(|known| known.strong_count() > 0);
        if !conversations.iter().any(|known| known.as_ptr() == Arc::as_ptr(conversation)) {
            conversations.push(Arc::downgrade(conversation));
        }
    }

    /// Open subscriptions.
    pub fn open(&self) -> usize {
        lock(&self.subscriptions).iter().filter(|known| known.strong_count() > 0).count()
    }

    /// Tells everyone who asked for it.
    pub fn publish(&self, change: &Update) {
        let subscriptions: Vec<_> =
            lock(&self.subscriptions).iter().filter_map(Weak::upgrade).collect();
        for subscription in subscriptions {
            if change.passes(&subscription.filter) {
                subscription.deliver(change.method(), change.params());
            }
        }
        let conversations: Vec<_> =
            lock(&self.conversations).iter().filter_map(Weak::upgrade).collect();
        if conversations.is_empty() {
            return;
        }
        let message = jsonrpc::notification(change.method(), &change.params());
        for conversation in conversations {
            let wanted = match change {
                Update::Tools | Update::Prompts => true,
                Update::Resource { uri } => conversation.is_subscribed(uri),
                // Tasks came after sessions.
                Update::Task { .. } => false,
            };
            if wanted {
                conversation.notify(&message);
            }
        }
    }
}
