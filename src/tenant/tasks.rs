//! Tasks: calls that outlive their request (extension `io.modelcontextprotocol/tasks`, SEP-2663).
//!
//! Owns one instance's tasks: their states, questions to the client, time to live, and limit. A task exists only for the
//! caller who created it.
//! Traps: a terminal state never changes again, whatever the work still does. A task must be found from the moment its id
//! is sent. Its id says where it was minted, as a session id does.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::subscriptions::{Subscriptions, Update};
use crate::{
    budget::{Booking, NoRoom, Share},
    clock::{Clock, Moment, millis},
    config::TasksConfig,
    failure::Failure,
    id::{Caller, InstanceId, SessionDigest, SessionId},
    process::Process,
    session::lock,
    wire::{Ask, Capabilities, Era, InputRequest, Questions, inputs},
};

/// How often a client should poll, in milliseconds.
const POLL_INTERVAL_MS: u64 = 500;

/// How much larger a value may be than its text: in a list of digits each takes two bytes, and as a value 32.
const VALUE_TIMES: usize = 16;

/// One instance's tasks.
#[derive(Debug)]
pub struct Tasks {
    instance: InstanceId,
    process: Arc<Process>,
    share: Arc<Share>,
    subscriptions: Arc<Subscriptions>,
    limits: Mutex<TasksConfig>,
    tasks: Mutex<HashMap<String, Arc<Task>>>,
}

/// Why no task was created.
pub(crate) enum NotCreated {
    /// `tasks.capacity` is reached.
    Full,
    /// The operating system gave no random bytes.
    NoEntropy,
}

/// One call that outlives its request.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    /// Cancelled when the client cancels the task, and when its time to live is over.
    pub(crate) cancelled: CancellationToken,
    owner: Caller,
    client: Capabilities,
    clock: Clock,
    created: Moment,
    ttl: Duration,
    subscriptions: Weak<Subscriptions>,
    /// The client's answers and the result.
    booking: Booking,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    status: Status,
    updated: Moment,
    /// How often the client was asked. Makes the keys of questions unique over the task's life.
    rounds: usize,
    waiter: Option<oneshot::Sender<BTreeMap<String, Value>>>,
    answers: BTreeMap<String, Value>,
}

/// `status` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "SEP-2663 says what they mean")]
pub enum Stage {
    Working,
    InputRequired,
    Completed,
    Failed,
    Cancelled,
}

impl Stage {
    /// All, in the order of [`Stage::index`].
    pub const ALL: [Self; 5] =
        [Self::Working, Self::InputRequired, Self::Completed, Self::Failed, Self::Cancelled];

    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// `status` on the wire.
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
    /// Each question with the key that the client sees and the tool's own key.
    InputRequired(Vec<(String, &'static str, InputRequest)>),
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
    /// A task was changed at another replica. Tells those who listen to it here, if it is known here.
    pub(crate) fn changed_elsewhere(&self, digest: SessionDigest) {
        let known: Vec<_> = lock(&self.tasks).values().cloned().collect();
        for task in known.iter().filter(|task| SessionDigest::of(&task.id) == digest) {
            let (id, state) = (task.id.clone(), task.describe());
            self.subscriptions.notify(&Update::Task { id, state });
        }
    }

    pub(crate) fn new(
        id: InstanceId,
        config: &TasksConfig,
        process: &Arc<Process>,
        share: &Arc<Share>,
        subscriptions: &Arc<Subscriptions>,
    ) -> Self {
        Self {
            instance: id,
            process: Arc::clone(process),
            share: Arc::clone(share),
            subscriptions: Arc::clone(subscriptions),
            limits: Mutex::new(config.clone()),
            tasks: Mutex::default(),
        }
    }

    /// Limits for new tasks. Those that exist keep their time to live.
    pub(crate) fn set_limits(&self, limits: &TasksConfig) {
        *lock(&self.limits) = limits.clone();
    }

    pub(crate) fn create(
        &self,
        owner: Caller,
        client: Capabilities,
    ) -> Result<Arc<Task>, NotCreated> {
        self.sweep();
        let id = SessionId::mint(self.process.minted_by(self.instance));
        let id = id.map_err(|_| NotCreated::NoEntropy)?.to_string();
        let now = self.process.clock.now();
        let TasksConfig { ttl_seconds, capacity } = lock(&self.limits).clone();
        let task = Arc::new(Task {
            id: id.clone(),
            cancelled: CancellationToken::new(),
            owner,
            client,
            clock: self.process.clock,
            created: now,
            ttl: ttl_seconds.get(),
            subscriptions: Arc::downgrade(&self.subscriptions),
            booking: Booking::of(&self.share),
            state: Mutex::new(State {
                status: Status::Working,
                updated: now,
                rounds: 0,
                waiter: None,
                answers: BTreeMap::new(),
            }),
        });
        let mut tasks = lock(&self.tasks);
        if tasks.len() >= capacity {
            return Err(NotCreated::Full);
        }
        tasks.insert(id, Arc::clone(&task));
        Ok(task)
    }

    /// The task of that id, if this caller created it and its time to live is not over.
    pub(crate) fn find(&self, id: &str, caller: Caller) -> Option<Arc<Task>> {
        lock(&self.tasks).get(id).filter(|task| task.owner == caller && !task.is_over()).cloned()
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        lock(&self.tasks).len()
    }

    /// Whether there is no task.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tasks there are at each stage, by [`Stage::index`].
    pub(crate) fn census(&self) -> [u64; Stage::ALL.len()] {
        let tasks: Vec<_> = lock(&self.tasks).values().cloned().collect();
        let mut census = [0; Stage::ALL.len()];
        for task in tasks.iter().filter(|task| !task.is_over()) {
            census[lock(&task.state).status.stage().index()] += 1;
        }
        census
    }

    /// Forgets tasks whose time to live is over, and stops their work.
    pub fn sweep(&self) {
        lock(&self.tasks).retain(|_, task| {
            let over = task.is_over();
            if over {
                task.cancelled.cancel();
            }
            !over
        });
    }
}

impl Task {
    fn is_over(&self) -> bool {
        self.clock.now().since(self.created) > self.ttl
    }

    /// Enters another state, unless the present one is terminal.
    fn enter(&self, status: Status) {
        {
            let mut state = lock(&self.state);
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

    /// Ends the task with what the request would have returned, a result of so many bytes.
    pub(crate) fn complete(&self, result: Value, bytes: usize) -> Result<(), NoRoom> {
        self.booking.keep(bytes)?;
        self.enter(Status::Completed(result));
        Ok(())
    }

    /// Ends the task with a JSON-RPC error.
    pub(crate) fn fail(&self, error: Value) {
        self.enter(Status::Failed(error));
    }

    /// Ends the task because its client no longer wants it.
    pub(crate) fn cancel(&self) {
        self.cancelled.cancel();
        self.enter(Status::Cancelled);
    }

    /// The task as a `CreateTaskResult` shows it: without questions, result or error.
    pub(crate) fn summary(&self) -> Value {
        self.summary_of(&lock(&self.state))
    }

    fn summary_of(&self, state: &State) -> Value {
        let day = self.clock.time_of_day();
        let mut task = json!({
            "taskId": self.id,
            "status": state.status.stage().as_str(),
            "createdAt": day.time(self.created),
            "lastUpdatedAt": day.time(state.updated),
            "ttlMs": millis(self.ttl),
            "pollIntervalMs": POLL_INTERVAL_MS,
        });
        if let Status::Failed(error) = &state.status {
            task["statusMessage"] = error["message"].clone();
        }
        task
    }

    /// The task as `tasks/get` shows it.
    pub(crate) fn describe(&self) -> Value {
        let state = lock(&self.state);
        let mut task = self.summary_of(&state);
        match &state.status {
            Status::Working | Status::Cancelled => {}
            Status::InputRequired(questions) => {
                let open = questions.iter().cloned();
                let open = open.map(|(key, _, question)| (key, question.embedded()));
                task["inputRequests"] = Value::Object(open.collect());
            }
            Status::Completed(result) => task["result"] = result.clone(),
            Status::Failed(error) => task["error"] = error.clone(),
        }
        task
    }

    /// How this task's work asks the client.
    pub(crate) fn asker(self: &Arc<Self>) -> Ask {
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
            let mut state = lock(&self.state);
            state.rounds += 1;
            state.waiter = Some(sender);
            state.rounds
        };
        let questions = questions.into_iter().map(|(key, question)| {
            let unique = match round {
                1 => key.to_owned(),
                round => format!("{key}-{round}"),
            };
            (unique, key, question)
        });
        self.enter(Status::InputRequired(questions.collect()));
        // Fails if the task has been forgotten, and then nobody waits for the work.
        answers.await.unwrap_or_default()
    }

    /// Takes answers, which came in a body of so many bytes, and ignores those to no question; none, if one does not fit
    /// its question. The work goes on when the last question is answered.
    pub(crate) fn update(
        &self,
        answers: &serde_json::Map<String, Value>,
        bytes: usize,
    ) -> Result<(), Failure> {
        let done = {
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            let Status::InputRequired(questions) = &mut state.status else { return Ok(()) };
            for (key, _, question) in &*questions {
                if let Some(answer) = answers.get(key).filter(|answer| answer.is_object()) {
                    question.check(answer).map_err(|problem| Failure::unfit(key, &problem))?;
                }
            }
            self.booking.keep(bytes * VALUE_TIMES)?;
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
            self.enter(Status::Working);
            if let Some(waiter) = waiter {
                let _ = waiter.send(answers);
            }
        }
        Ok(())
    }
}
