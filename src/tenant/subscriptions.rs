//! Who is notified when something changes.
//!
//! Owns one instance's list of listeners: open `subscriptions/listen` requests, and conversations of sessions. The
//! references are weak: a listener ends with its request or its session, and is then forgotten.
//! Trap: publishing must not wait for a slow reader. A stream that is too far behind is disconnected.

use std::sync::{Arc, Mutex, Weak};

use serde_json::{Value, json};

use crate::{
    session::{Conversation, EventLog, lock},
    wire::{Filter, META_SUBSCRIPTION, jsonrpc},
};

/// A change that clients can ask to be notified of.
#[derive(Debug)]
pub(crate) enum Update {
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
    /// The contents of a resource.
    Resource { uri: String },
    /// The state of a task, as `tasks/get` shows it.
    Task { id: String, state: Value },
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

    fn is_wanted_by(&self, filter: &Filter) -> bool {
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
pub(crate) struct Subscription {
    /// The id of the request, which every notification carries.
    pub(crate) id: Value,
    pub(crate) filter: Filter,
    pub(crate) log: Arc<EventLog>,
}

impl Subscription {
    pub(crate) fn deliver(&self, method: &str, mut params: Value) {
        params["_meta"] = json!({ META_SUBSCRIPTION: self.id });
        self.log.push(&jsonrpc::notification(method, &params));
    }
}

/// Who is notified.
#[derive(Debug, Default)]
pub struct Subscriptions {
    subscriptions: Mutex<Vec<Weak<Subscription>>>,
    conversations: Mutex<Vec<Weak<Conversation>>>,
}

/// The listeners that are still there. The lock is released before they are notified.
fn live<T>(listeners: &Mutex<Vec<Weak<T>>>) -> Vec<Arc<T>> {
    lock(listeners).iter().filter_map(Weak::upgrade).collect()
}

impl Subscriptions {
    /// Adds a subscription; false if `limit` are open. It ends when its last reference is dropped.
    pub(crate) fn subscribe(&self, subscription: &Arc<Subscription>, limit: usize) -> bool {
        let mut subscriptions = lock(&self.subscriptions);
        subscriptions.retain(|known| known.strong_count() > 0);
        if subscriptions.len() >= limit {
            return false;
        }
        subscriptions.push(Arc::downgrade(subscription));
        true
    }

    /// Adds the conversation of a session that can be notified.
    pub(crate) fn add(&self, conversation: &Arc<Conversation>) {
        let mut conversations = lock(&self.conversations);
        conversations.retain(|known| known.strong_count() > 0);
        if !conversations.iter().any(|known| known.as_ptr() == Arc::as_ptr(conversation)) {
            conversations.push(Arc::downgrade(conversation));
        }
    }

    /// How many subscriptions are open.
    pub fn open(&self) -> usize {
        live(&self.subscriptions).len()
    }

    /// Notifies everyone who asked for it.
    pub(crate) fn publish(&self, update: &Update) {
        for subscription in live(&self.subscriptions) {
            if update.is_wanted_by(&subscription.filter) {
                subscription.deliver(update.method(), update.params());
            }
        }
        let conversations = live(&self.conversations);
        if conversations.is_empty() {
            return;
        }
        let message = jsonrpc::notification(update.method(), &update.params());
        for conversation in conversations {
            let wanted = match update {
                Update::Tools | Update::Prompts => true,
                Update::Resource { uri } => conversation.is_subscribed(uri),
                // No revision with sessions has tasks.
                Update::Task { .. } => false,
            };
            if wanted {
                conversation.notify(&message);
            }
        }
    }
}
