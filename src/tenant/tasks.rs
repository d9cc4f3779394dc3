//! Tasks: calls that outlive their request (extension `io.modelcontextprotocol/tasks`, SEP-2663).
//!
//! Owns one instance's tasks: their states, their questions, their time to live, their bound. Refuses a
//! task to anyone but the caller who made it, and one more than `tasks.capacity`.
//! Traps: a terminal state never changes again, whatever the work does afterwards; a task must be found
//! by the time its id goes out; the id explains itself as a session's does.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::subscriptions::{Subscriptions, Update};
use crate::{
    clock::{Clock, Moment},
    config::TasksConfig,
    failure::Failure,
    id::{Caller, InstanceId, SessionId},
    process::Process,
    wire::{
        inputs::{self, Ask, Questions},
        model::Capabilities,
        version::Era,
    },
};

/// How often a client should look, in milliseconds.
const POLL_INTERVAL_MS: u64 = 500;

/// One instance's tasks.
#[derive(Debug)]
pub struct Tasks {
    instance: InstanceId,
    process: Arc<Process>,
    subscriptions: Arc<Subscriptions>,
    limits: Mutex<TasksConfig>,
    tasks: Mutex<HashMap<String, Arc<Task>>>,
}

/// Why no task was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCreated {
    /// There are as many as may be.
    #[error("there are as many tasks as may be")]
    Full,
    /// The operating system gave no random bytes.
    #[error("no random bytes for a task id")]
    NoEntropy,
}

/// One call that outlives its request.
#[derive(Debug)]
pub struct Task {
    /// What its client holds.
    pub id: String,
    /// Cancelled when the client asks the task to stop.
    pub cancelled: CancellationToken,
    owner: Caller,
    client: Capabilities,
    clock: Clock,
    created: Moment,
    ttl: Duration,
    subscriptions: Weak<Subscriptions>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    status: Status,
    updated: Moment,
    /// Makes the keys of questions unique over the task's life.
    rounds: usize,
    waiter: Option<oneshot::Sender<BTreeMap<String, Value>>>,
    answers: BTreeMap<String, Value>,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its work goes on.
    Working,
    /// Its client is asked for something.
    InputRequired,
    /// It has a result.
    Completed,
    /// It has an error.
    Failed,
    /// Its client no longer wants it.
    Cancelled,
}

impl Stage {
    /// Every stage, in the order of [`Stage::index`].
    pub const ALL: [Self; 5] =
        [Self::Working, Self::InputRequired, Self::Completed, Self::Failed, Self::Cancelled];

    /// Position in [`Stage::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// As `status` on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::InputRequired => "input_required",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    const fn is_terminal(self) -> bool {
        match self {
            Self::Working | Self::InputRequired => false,
            Self::Completed | Self::Failed | Self::Cancelled => true,
        }
    }
}

#[derive(Debug)]
enum Status {
    Working,
    /// Keys as the client sees them, with the tool's own keys and the questions.
    InputRequired(Vec<(String, &'static str, Value)>),
    Completed(Value),
    Failed(Value),
    Cancelled,
}

impl Status {
    const fn stage(&self) -> Stage {
        match self {
            Self::Working => Stage::Working,
            Self::InputRequired(_) => Stage::InputRequired,
            Self::Completed(_) => Stage::Completed,
            Self::Failed(_) => Stage::Failed,
            Self::Cancelled => Stage::Cancelled,
        }
    }
}

impl Tasks {
    /// No tasks yet.
    pub fn new(
        id: InstanceId,
        config: &TasksConfig,
        process: &Arc<Process>,
        subscriptions: &Arc<Subscriptions>,
    ) -> Self {
        Self {
            instance: id,
            process: Arc::clone(process),
            subscriptions: Arc::clone(subscriptions),
            limits: Mutex::new(config.clone()),
            tasks: Mutex::default(),
        }
    }

    /// From now on new tasks keep to these. Those that there are keep what they were told.
    pub fn set_limits(&self, limits: &TasksConfig) {
        *self.limits() = limits.clone();
    }

    fn limits(&self) -> MutexGuard<'_, TasksConfig> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<String, Arc<Task>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task that works.
    pub fn create(&self, owner: Caller, client: Capabilities) -> Result<Arc<Task>, NotCreated> {
        self.sweep();
        let id = SessionId::mint(self.process.minted_by(self.instance));
        let id = id.map_err(|_| NotCreated::NoEntropy)?.to_string();
        let now = self.process.clock.now();
        let TasksConfig { ttl_seconds, capacity } = self.limits().clone();
        let task = Arc::new(Task {
            id: id.clone(),
            cancelled: CancellationToken::new(),
            owner,
            client,
            clock: self.process.clock,
            created: now,
            ttl: ttl_seconds.get(),
            subscriptions: Arc::downgrade(&self.subscriptions),
            state: Mutex::new(State {
                status: Status::Working,
                updated: now,
                rounds: 0,
                waiter: None,
                answers: BTreeMap::new(),
            }),
        });
        let mut tasks = self.tasks();
        if tasks.len() >= capacity {
            return Err(NotCreated::Full);
        }
        tasks.insert(id, Arc::clone(&task));
        Ok(task)
    }

    /// The task of that id, if this caller made it.
    pub fn find(&self, id: &str, caller: Caller) -> Option<Arc<Task>> {
        self.tasks().get(id).filter(|task| task.owner == caller && !task.is_over()).cloned()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tasks().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are at each stage, by [`Stage::index`].
    pub fn census(&self) -> [u64; Stage::ALL.len()] {
        let tasks: Vec<_> = self.tasks().values().cloned().collect();
        let mut census = [0; Stage::ALL.len()];
        for task in tasks.iter().filter(|task| !task.is_over()) {
            census[task.state().status.stage().index()] += 1;
        }
        census
    }

    /// Forgets tasks whose time is over, and stops their work.
    pub fn sweep(&self) {
        self.tasks().retain(|_, task| {
            let over = task.is_over();
            if over {
                task.cancelled.cancel();
            }
            !over
        });
    }
}

impl Task {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.clock.now().since(self.created) > self.ttl
    }

    /// Moves on to another state, unless the last has been reached.
    fn become_(&self, status: Status) {
        {
            let mut state = self.state();
            if state.status.stage().is_terminal() {
                return;
            }
            state.status = status;
            state.updated = self.clock.now();
        }
        if let Some(subscriptions) = self.subscriptions.upgrade() {
            subscriptions.publish(&Update::Task { id: self.id.clone(), state: self.describe() });
        }
    }

    /// The work is done: what the request would have returned.
    pub fn complete(&self, result: Value) {
        self.become_(Status::Completed(result));
    }

    /// The request could not be served: a JSON-RPC error.
    pub fn fail(&self, error: Value) {
        self.become_(Status::Failed(error));
    }

    /// The client no longer wants it.
    pub fn cancel(&self) {
        self.cancelled.cancel();
        self.become_(Status::Cancelled);
    }

    /// The task without what its state carries: what a `CreateTaskResult` says.
    pub fn summary(&self) -> Value {
        self.summary_of(&self.state())
    }

    fn summary_of(&self, state: &State) -> Value {
        let mut task = json!({
            "taskId": self.id,
            "status": state.status.stage().as_str(),
            "createdAt": self.clock.time(self.created),
            "lastUpdatedAt": self.clock.time(state.updated),
            "ttlMs": u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            "pollIntervalMs": POLL_INTERVAL_MS,
        });
        if let Status::Failed(error) = &state.status {
            task["statusMessage"] = error["message"].clone();
        }
        task
    }

    /// The task as `tasks/get` shows it.
    pub fn describe(&self) -> Value {
        let state = self.state();
        let mut task = self.summary_of(&state);
        match &state.status {
            Status::Working | Status::Cancelled => {}
            Status::InputRequired(questions) => {
                let open =
                    questions.iter().map(|(key, _, question)| (key.clone(), question.clone()));
                task["inputRequests"] = Value::Object(open.collect());
            }
            Status::Completed(result) => task["result"] = result.clone(),
            Status::Failed(error) => task["error"] = error.clone(),
        }
        task
    }

    /// How this task's work asks its client.
    pub fn asker(self: &Arc<Self>) -> Ask {
        let task = Arc::clone(self);
        Box::new(move |questions| {
            let task = Arc::clone(&task);
            Box::pin(async move { task.ask(questions).await })
        })
    }

    async fn ask(&self, questions: Questions) -> BTreeMap<String, Value> {
        if let Some(required) = inputs::missing(&questions, self.client) {
            let failure = Failure::MissingCapability(required);
            self.fail(serde_json::to_value(failure.to_object(Era::Stateless)).unwrap_or_default());
            self.cancelled.cancel();
            return BTreeMap::new();
        }
        let (sender, answers) = oneshot::channel();
        let round = {
            let mut state = self.state();
            state.rounds += 1;
            state.waiter = Some(sender);
            state.rounds
        };
        let questions = questions.into_iter().map(|(key, question)| {
            let unique = match round {
                1 => key.to_owned(),
                round => format!("{key}-{round}"),
            };
            (unique, key, question.embedded())
        });
        self.become_(Status::InputRequired(questions.collect()));
        // Fails if the task is forgotten, and then nobody waits for the work.
        answers.await.unwrap_or_default()
    }

    /// Takes answers; what nobody asked is ignored. Goes on when the last question is answered.
    pub fn update(&self, answers: &serde_json::Map<String, Value>) {
        let done = {
            let mut guard = self.state();
            let state = &mut *guard;
            let Status::InputRequired(questions) = &mut state.status else { return };
            questions.retain(|(key, own, _)| match answers.get(key).filter(|a| a.is_object()) {
                Some(answer) => {
                    state.answers.insert((*own).to_owned(), answer.clone());
                    false
                }
                None => true,
            });
            state.updated = self.clock.now();
            questions.is_empty().then(|| (state.waiter.take(), std::mem::take(&mut state.answers)))
        };
        if let Some((waiter, answers)) = done {
            self.become_(Status::Working);
            if let Some(waiter) = waiter {
                let _ = waiter.send(answers);
            }
        }
    }
}
