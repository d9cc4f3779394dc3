//! Who is notified when something changes.
//!
//! Owns one instance's listeners by topic: open `subscriptions/listen` requests, and conversations of sessions. The
//! references are weak: a listener ends with its request or its session, and gives up its places then.
//! Locks: a conversation takes a place while it is locked; the listeners are not locked while one is notified.
//! Trap: publishing must not wait for a slow reader. A stream that is too far behind is disconnected.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, Weak},
};

use serde_json::{Value, json};

use crate::{
    budget::NoRoom,
    id::SessionDigest,
    observe::{Gauge, Open},
    session::{Changed, Conversation, EventLog, Followed, Outbox, lock},
    wire::{Filter, OwnedId, Tagged, jsonrpc},
};

/// Listeners to one resource or task, in each era: a change must not cost more than that.
const MAX_LISTENERS: usize = 1000;

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

    fn changed(&self) -> Changed {
        match self {
            Self::Tools => Changed::Tools,
            Self::Prompts => Changed::Prompts,
            Self::Resource { uri } => Changed::Resource(SessionDigest::of(uri)),
            Self::Task { id, .. } => Changed::Task(SessionDigest::of(id)),
        }
    }

    fn topic(&self) -> Topic {
        match self {
            Self::Tools => Topic::Tools,
            Self::Prompts => Topic::Prompts,
            Self::Resource { uri } => Topic::Resource(uri.as_str().into()),
            Self::Task { id, .. } => Topic::Task(id.as_str().into()),
        }
    }
}

impl Subscription {
    fn topics(&self) -> impl Iterator<Item = Topic> {
        let Filter { tools_list_changed, prompts_list_changed, task_ids, .. } = &self.filter;
        // Of one that is named twice there is one place.
        let tasks: BTreeSet<_> = task_ids.iter().collect();
        let tools = tools_list_changed.then_some(Topic::Tools);
        let prompts = prompts_list_changed.then_some(Topic::Prompts);
        let resources = self.resources.keys().map(|uri| Topic::Resource(uri.as_str().into()));
        let tasks = tasks.into_iter().map(|id| Topic::Task(id.as_str().into()));
        tools.into_iter().chain(prompts).chain(resources).chain(tasks)
    }
}

/// An open `subscriptions/listen`.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// The id of the request, which every notification carries.
    pub(crate) id: OwnedId,
    /// As it was asked for.
    pub(crate) filter: Filter,
    /// The URIs of its resources, each as it was first asked for.
    pub(crate) resources: BTreeMap<String, String>,
    pub(crate) log: Arc<EventLog>,
}

impl Subscription {
    pub(crate) fn deliver(&self, method: &str, params: &Value) {
        self.log.push(&jsonrpc::notification(method, &Tagged::new(self.id.get(), params)));
    }

    fn tell(&self, update: &Update) {
        let params = match update {
            Update::Resource { uri } => json!({ "uri": self.resources.get(uri).unwrap_or(uri) }),
            Update::Tools | Update::Prompts | Update::Task { .. } => update.params(),
        };
        self.deliver(update.method(), &params);
    }
}

/// Who is notified.
#[derive(Debug, Default)]
pub struct Subscriptions {
    subscriptions: Arc<Topics<Subscription>>,
    conversations: Arc<Topics<Conversation>>,
    open: Gauge,
    /// Where other replicas are told, if there are any.
    outbox: Option<Outbox>,
}

/// What someone can listen to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Topic {
    Tools,
    Prompts,
    Resource(Box<str>),
    Task(Box<str>),
}

impl Topic {
    /// What the store knows by its digest alone.
    fn name(&self) -> Option<&str> {
        match self {
            Self::Resource(name) | Self::Task(name) => Some(name),
            Self::Tools | Self::Prompts => None,
        }
    }

    fn uri(self) -> Option<String> {
        match self {
            Self::Resource(uri) => Some(uri.into()),
            Self::Task(_) | Self::Tools | Self::Prompts => None,
        }
    }

    fn task(self) -> Option<String> {
        match self {
            Self::Task(id) => Some(id.into()),
            Self::Resource(_) | Self::Tools | Self::Prompts => None,
        }
    }
}

/// Listeners by topic, so that a change costs as much as it has listeners, however many listen to something else.
#[derive(Debug)]
struct Topics<T>(Mutex<Listeners<T>>);

#[derive(Debug)]
struct Listeners<T> {
    next: u64,
    by_topic: HashMap<Topic, BTreeMap<u64, Weak<T>>>,
    /// The resources and tasks by digest, where other replicas speak of those.
    named: Option<HashMap<SessionDigest, Topic>>,
}

impl<T> Default for Topics<T> {
    fn default() -> Self {
        Self(Mutex::new(Listeners { next: 0, by_topic: HashMap::new(), named: None }))
    }
}

impl<T> Topics<T> {
    /// The same for listeners of whom other replicas know digests.
    fn shared() -> Arc<Self> {
        let topics = Self::default();
        lock(&topics.0).named = Some(HashMap::new());
        Arc::new(topics)
    }

    /// The resource or task of that digest, if it has listeners.
    fn named(&self, digest: SessionDigest) -> Option<Topic> {
        lock(&self.0).named.as_ref()?.get(&digest).cloned()
    }

    /// The resources and tasks that have listeners.
    fn all_named(&self) -> Vec<(SessionDigest, Topic)> {
        let listeners = lock(&self.0);
        let all = listeners.named.iter().flatten();
        all.map(|(digest, topic)| (*digest, topic.clone())).collect()
    }

    /// The URIs that have listeners.
    fn uris(&self) -> Vec<String> {
        self.all_named().into_iter().filter_map(|(_, topic)| topic.uri()).collect()
    }
}

impl<T> Topics<T> {
    /// Adds a listener until the registration is dropped; `None` if the topic has [`MAX_LISTENERS`].
    fn add(self: &Arc<Self>, topic: Topic, listener: &Arc<T>) -> Option<Registration<T>> {
        let mut listeners = lock(&self.0);
        let number = listeners.next;
        let known = listeners.by_topic.entry(topic.clone()).or_default();
        let is_list = matches!(topic, Topic::Tools | Topic::Prompts);
        if known.len() >= MAX_LISTENERS && !is_list {
            return None;
        }
        known.insert(number, Arc::downgrade(listener));
        listeners.next += 1;
        if let (Some(named), Some(name)) = (&mut listeners.named, topic.name()) {
            named.entry(SessionDigest::of(name)).or_insert_with(|| topic.clone());
        }
        Some(Registration { topics: Arc::clone(self), topic, number })
    }

    /// Those of a topic. The lock is released before they are notified.
    fn of(&self, topic: &Topic) -> Vec<Arc<T>> {
        let listeners = lock(&self.0);
        let known = listeners.by_topic.get(topic);
        known.into_iter().flat_map(BTreeMap::values).filter_map(Weak::upgrade).collect()
    }
}

/// A listener's place, given up when it is dropped.
#[derive(Debug)]
struct Registration<T> {
    topics: Arc<Topics<T>>,
    topic: Topic,
    number: u64,
}

impl<T> Drop for Registration<T> {
    fn drop(&mut self) {
        let mut listeners = lock(&self.topics.0);
        if let Some(known) = listeners.by_topic.get_mut(&self.topic) {
            known.remove(&self.number);
            if known.is_empty() {
                listeners.by_topic.remove(&self.topic);
                if let (Some(named), Some(name)) = (&mut listeners.named, self.topic.name()) {
                    named.remove(&SessionDigest::of(name));
                }
            }
        }
    }
}

/// An open subscription's places.
#[derive(Debug)]
pub(crate) struct Subscribed {
    _registrations: Vec<Registration<Subscription>>,
    _open: Open,
}

/// Why there is no subscription: so many are open, of all or of one resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooMany {
    pub(crate) limit: usize,
    pub(crate) of: &'static str,
}

impl Subscriptions {
    /// Nobody yet. Tells other replicas of what is published here.
    pub(crate) fn telling(outbox: Option<Outbox>) -> Self {
        match outbox {
            None => Self::default(),
            Some(outbox) => Self {
                subscriptions: Topics::shared(),
                conversations: Topics::shared(),
                open: Gauge::default(),
                outbox: Some(outbox),
            },
        }
    }

    /// Adds a subscription until what is returned is dropped. At the most `limit` are open.
    pub(crate) fn subscribe(
        &self,
        subscription: &Arc<Subscription>,
        limit: usize,
    ) -> Result<Subscribed, TooMany> {
        let _open = self.open.open();
        if self.open.count() > limit as u64 {
            return Err(TooMany { limit, of: "stream.max_subscriptions" });
        }
        let full = TooMany { limit: MAX_LISTENERS, of: "of one resource or task" };
        let topics = subscription.topics();
        let registered =
            topics.map(|topic| self.subscriptions.add(topic, subscription).ok_or(full));
        Ok(Subscribed { _registrations: registered.collect::<Result<_, _>>()?, _open })
    }

    /// Tells a conversation of changes in the lists, as long as it lasts.
    pub(crate) fn follow_lists(&self, conversation: &Arc<Conversation>) {
        let lists = [Topic::Tools, Topic::Prompts];
        conversation.follow_lists(|| {
            Box::new(lists.map(|topic| self.conversations.add(topic, conversation)))
        });
    }

    /// Tells a conversation of changes of a resource, until it ends or unsubscribes.
    pub(crate) fn follow(
        &self,
        conversation: &Arc<Conversation>,
        uri: &str,
    ) -> Result<Followed, NoRoom> {
        conversation.subscribe(uri, || {
            let place = self.conversations.add(Topic::Resource(uri.into()), conversation)?;
            Some(Box::new(place))
        })
    }

    /// Resources that sessions have subscribed to, each counted for each session.
    pub fn followed(&self) -> usize {
        let listeners = lock(&self.conversations.0);
        let resources = listeners.by_topic.iter();
        let resources = resources.filter(|(topic, _)| matches!(topic, Topic::Resource(_)));
        resources.map(|(_, known)| known.len()).sum()
    }

    /// How many subscriptions are open.
    pub fn open(&self) -> u64 {
        self.open.count()
    }

    /// Notifies everyone who asked for it, at every replica.
    pub(crate) fn publish(&self, update: &Update) {
        self.notify(update);
        if let Some(outbox) = &self.outbox {
            outbox.tell(update.changed());
        }
    }

    /// A resource was changed at another replica.
    pub(crate) fn resource_changed(&self, digest: SessionDigest) {
        let topic = self.conversations.named(digest).or_else(|| self.subscriptions.named(digest));
        if let Some(uri) = topic.and_then(Topic::uri) {
            self.notify(&Update::Resource { uri });
        }
    }

    /// The id of the task of that digest, if someone listens to it here.
    pub(super) fn task(&self, digest: SessionDigest) -> Option<String> {
        self.subscriptions.named(digest).and_then(Topic::task)
    }

    /// The tasks that someone listens to here.
    pub(super) fn tasks(&self) -> Vec<(SessionDigest, String)> {
        let all = self.subscriptions.all_named().into_iter();
        all.filter_map(|(digest, topic)| Some((digest, topic.task()?))).collect()
    }

    /// Anything may have been changed at other replicas.
    pub(crate) fn notify_all(&self) {
        let uris: BTreeSet<_> =
            self.conversations.uris().into_iter().chain(self.subscriptions.uris()).collect();
        let resources = uris.into_iter().map(|uri| Update::Resource { uri });
        [Update::Tools, Update::Prompts].into_iter().chain(resources).for_each(|update| {
            self.notify(&update);
        });
    }

    /// Notifies everyone here who asked for it.
    pub(crate) fn notify(&self, update: &Update) {
        let topic = update.topic();
        for subscription in self.subscriptions.of(&topic) {
            subscription.tell(update);
        }
        let conversations = self.conversations.of(&topic);
        if conversations.is_empty() {
            return;
        }
        let message = jsonrpc::notification(update.method(), &update.params());
        for conversation in conversations {
            conversation.notify(&message);
        }
    }
}
