//! Tasks that this process alone keeps.
//!
//! Owns their states, questions to the client, time to live, and limit. A task exists only for the caller who created
//! it.
//! Trap: what the work does after a task has ended is ignored, so a state is entered under one lock with the look at
//! the present one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{NotCreated, Stage, VALUE_TIMES, open_questions, summary, unique};
use crate::{
    budget::{Booking, NoRoom, Share},
    clock::{Clock, Moment, millis},
    config::TasksConfig,
    failure::Failure,
    id::{Caller, InstanceId, SessionId},
    process::Process,
    session::lock,
    tenant::subscriptions::{Subscriptions, Update},
    wire::{Capabilities, Era, InputRequest, Questions, inputs},
};

/// One instance's tasks.
#[derive(Debug)]
pub(super) struct LocalTasks {
    instance: InstanceId,
    process: Arc<Process>,
    share: Arc<Share>,
    subscriptions: Arc<Subscriptions>,
    limits: Mutex<TasksConfig>,
    tasks: Mutex<HashMap<String, Arc<LocalTask>>>,
}

/// One call that outlives its request.
#[derive(Debug)]
pub(crate) struct LocalTask {
    id: String,
    pub(super) cancelled: CancellationToken,
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

impl LocalTasks {
    pub(super) fn new(
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

    pub(super) fn set_limits(&self, limits: &TasksConfig) {
        *lock(&self.limits) = limits.clone();
    }

    pub(super) fn create(
        &self,
        owner: Caller,
        client: Capabilities,
    ) -> Result<Arc<LocalTask>, NotCreated> {
        self.sweep();
        let id = SessionId::mint(self.process.minted_by(self.instance));
        let id = id.map_err(|_| NotCreated::NoEntropy)?.to_string();
        let now = self.process.clock.now();
        let TasksConfig { ttl_seconds, capacity } = lock(&self.limits).clone();
        let task = Arc::new(LocalTask {
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
    pub(super) fn find(&self, id: &str, caller: Caller) -> Option<Arc<LocalTask>> {
        lock(&self.tasks).get(id).filter(|task| task.owner == caller && !task.is_over()).cloned()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.tasks).len()
    }

    pub(super) fn census(&self) -> [u64; Stage::ALL.len()] {
        let tasks: Vec<_> = lock(&self.tasks).values().cloned().collect();
        let mut census = [0; Stage::ALL.len()];
        for task in tasks.iter().filter(|task| !task.is_over()) {
            census[lock(&task.state).status.stage().index()] += 1;
        }
        census
    }

    /// Forgets tasks whose time to live is over, and stops their work.
    pub(super) fn sweep(&self) {
        lock(&self.tasks).retain(|_, task| {
            let over = task.is_over();
            if over {
                task.cancelled.cancel();
            }
            !over
        });
    }
}

impl LocalTask {
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
    pub(super) fn complete(&self, result: Value, bytes: usize) -> Result<(), NoRoom> {
        self.booking.keep(bytes)?;
        self.enter(Status::Completed(result));
        Ok(())
    }

    /// Ends the task with a JSON-RPC error.
    pub(super) fn fail(&self, error: Value) {
        self.enter(Status::Failed(error));
    }

    /// Ends the task because its client no longer wants it.
    pub(super) fn cancel(&self) {
        self.cancelled.cancel();
        self.enter(Status::Cancelled);
    }

    /// The task as a `CreateTaskResult` shows it: without questions, result or error.
    pub(super) fn summary(&self) -> Value {
        self.summary_of(&lock(&self.state))
    }

    fn summary_of(&self, state: &State) -> Value {
        let day = self.clock.time_of_day();
        let (created, updated) = (day.time(self.created), day.time(state.updated));
        let ttl = millis(self.ttl);
        let mut task = summary(&self.id, state.status.stage(), created, updated, ttl);
        if let Status::Failed(error) = &state.status {
            task["statusMessage"] = error["message"].clone();
        }
        task
    }

    /// The task as `tasks/get` shows it.
    pub(super) fn describe(&self) -> Value {
        let state = lock(&self.state);
        let mut task = self.summary_of(&state);
        match &state.status {
            Status::Working | Status::Cancelled => {}
            Status::InputRequired(questions) => {
                let open = questions.iter().cloned();
                task["inputRequests"] = open_questions(open.map(|(key, _, it)| (key, it)));
            }
            Status::Completed(result) => task["result"] = result.clone(),
            Status::Failed(error) => task["error"] = error.clone(),
        }
        task
    }

    pub(super) async fn ask(&self, questions: Questions) -> BTreeMap<String, Value> {
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
        let questions =
            questions.into_iter().map(|(key, question)| (unique(key, round), key, question));
        self.enter(Status::InputRequired(questions.collect()));
        // Fails if the task has been forgotten, and then nobody waits for the work.
        answers.await.unwrap_or_default()
    }

    /// Takes answers, which came in a body of so many bytes, and ignores those to no question; none, if one does not
    /// fit its question. The work goes on when the last question is answered.
    pub(super) fn update(
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
