//! Tasks: calls that outlive their request (extension `io.modelcontextprotocol/tasks`, SEP-2663).
//!
//! Owns [`Tasks`], the door to one instance's tasks, wherever they are kept: in this process (`local`), or in the
//! store that replicas share (`shared`), where any of them finds a task, updates and cancels it, while its work
//! runs at one.
//! Traps: a terminal state never changes again, whatever the work still does. A task must be found from the moment
//! its id is sent. Its id says where it was minted, as a session id does.

mod kept;
mod local;
mod run;
mod shared;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use self::{
    local::{LocalTask, LocalTasks},
    run::Run,
    shared::SharedTasks,
};
use super::subscriptions::Subscriptions;
use crate::{
    budget::{NoRoom, Share},
    config::TasksConfig,
    failure::Failure,
    id::{Caller, InstanceId, SessionDigest},
    process::Process,
    session::Unavailable,
    wire::{Ask, Capabilities, InputRequest, Questions},
};

/// How often a client should poll, in milliseconds.
const POLL_INTERVAL_MS: u64 = 500;

/// How much larger a value may be than its text: in a list of digits each takes two bytes, and as a value 32.
const VALUE_TIMES: usize = 16;

/// One instance's tasks.
#[derive(Debug)]
pub struct Tasks(Place);

#[derive(Debug)]
enum Place {
    Local(LocalTasks),
    Shared(Arc<SharedTasks>),
}

/// Why no task was created.
pub(crate) enum NotCreated {
    /// `tasks.capacity` is reached.
    Full,
    /// The operating system gave no random bytes.
    NoEntropy,
    /// The store cannot be reached.
    Unavailable,
}

/// A task whose work runs in this process.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    Local(Arc<LocalTask>),
    Shared(Arc<Run>),
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

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text)
    }

    const fn is_terminal(self) -> bool {
        match self {
            Self::Working | Self::InputRequired => false,
            Self::Completed | Self::Failed | Self::Cancelled => true,
        }
    }
}

impl Tasks {
    /// None yet. Those that are shared are kept where the sessions are.
    pub(crate) fn new(
        id: InstanceId,
        config: &TasksConfig,
        process: &Arc<Process>,
        share: &Arc<Share>,
        subscriptions: &Arc<Subscriptions>,
        shared: bool,
    ) -> Self {
        Self(match process.link.as_ref().filter(|_| shared) {
            None => Place::Local(LocalTasks::new(id, config, process, share, subscriptions)),
            Some(link) => {
                let tasks = SharedTasks::new(id, config, process, link, share, subscriptions);
                Place::Shared(Arc::new(tasks))
            }
        })
    }

    /// Whether other replicas find them.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.0, Place::Shared(_))
    }

    /// Limits for new tasks. Those that exist keep their time to live.
    pub(crate) fn set_limits(&self, limits: &TasksConfig) {
        match &self.0 {
            Place::Local(tasks) => tasks.set_limits(limits),
            Place::Shared(tasks) => tasks.set_limits(limits),
        }
    }

    pub(crate) async fn create(
        &self,
        owner: Caller,
        client: Capabilities,
    ) -> Result<Task, NotCreated> {
        match &self.0 {
            Place::Local(tasks) => tasks.create(owner, client).map(Task::Local),
            Place::Shared(tasks) => Box::pin(tasks.create(owner, client)).await.map(Task::Shared),
        }
    }

    /// The task as `tasks/get` shows it, if this caller created it and its time to live is not over.
    pub(crate) async fn get(&self, id: &str, caller: Caller) -> Result<Option<Value>, Unavailable> {
        match &self.0 {
            Place::Local(tasks) => Ok(tasks.find(id, caller).map(|task| task.describe())),
            Place::Shared(tasks) => {
                let kept = Box::pin(tasks.get(id, caller)).await?;
                Ok(kept.map(|kept| kept.describe(id)))
            }
        }
    }

    /// Those of the ids that are of this caller's tasks, to be listened to.
    pub(crate) async fn own(
        &self,
        ids: Vec<String>,
        caller: Caller,
    ) -> Result<Vec<String>, Unavailable> {
        match &self.0 {
            Place::Local(tasks) => {
                let own = |id: &String| tasks.find(id, caller).is_some();
                Ok(ids.into_iter().filter(own).collect())
            }
            Place::Shared(tasks) => Box::pin(tasks.own(ids, caller)).await,
        }
    }

    /// Takes answers, which came in a body of so many bytes, and ignores those to no question; none, if one does not
    /// fit its question. The work goes on when the last question is answered. False if there is no such task.
    pub(crate) async fn update(
        &self,
        id: &str,
        caller: Caller,
        answers: &Map<String, Value>,
        bytes: usize,
    ) -> Result<bool, Failure> {
        match &self.0 {
            Place::Local(tasks) => match tasks.find(id, caller) {
                Some(task) => task.update(answers, bytes).map(|()| true),
                None => Ok(false),
            },
            Place::Shared(tasks) => Box::pin(tasks.update(id, caller, answers)).await,
        }
    }

    /// Ends the task because its client no longer wants it. False if there is no such task.
    pub(crate) async fn cancel(&self, id: &str, caller: Caller) -> Result<bool, Unavailable> {
        match &self.0 {
            Place::Local(tasks) => {
                let found = tasks.find(id, caller);
                Ok(found.inspect(|task| task.cancel()).is_some())
            }
            Place::Shared(tasks) => Box::pin(tasks.cancel(id, caller)).await,
        }
    }

    /// How many tasks there are; of shared ones, as of the last sweep.
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Local(tasks) => tasks.len(),
            Place::Shared(tasks) => tasks.len(),
        }
    }

    /// Whether there is no task.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tasks there are at each stage, by [`Stage::index`]; of shared ones, as of the last sweep.
    pub(crate) fn census(&self) -> [u64; Stage::ALL.len()] {
        match &self.0 {
            Place::Local(tasks) => tasks.census(),
            Place::Shared(tasks) => tasks.census(),
        }
    }

    /// Forgets tasks whose time to live is over, and stops their work. For shared ones [`keep`](Self::keep) does it.
    pub fn sweep(&self) {
        match &self.0 {
            Place::Local(tasks) => tasks.sweep(),
            Place::Shared(_) => {}
        }
    }

    /// Hears what is done to shared tasks elsewhere, and says that their work goes on. To be run as long as they are
    /// used; never ends.
    pub async fn keep(&self) {
        match &self.0 {
            Place::Local(_) => std::future::pending().await,
            Place::Shared(tasks) => tasks.keep().await,
        }
    }

    /// A task was changed, perhaps at another replica: it is looked at soon.
    pub(crate) fn hear_task(&self, digest: SessionDigest) {
        match &self.0 {
            Place::Local(_) => {}
            Place::Shared(tasks) => tasks.look_soon(digest),
        }
    }

    /// Any may have been changed.
    pub(crate) fn missed(&self) {
        match &self.0 {
            Place::Local(_) => {}
            Place::Shared(tasks) => tasks.look_at_all_soon(),
        }
    }
}

impl Task {
    /// Cancelled when the client cancels the task, and when its time to live is over.
    pub(crate) fn cancelled(&self) -> &CancellationToken {
        match self {
            Self::Local(task) => &task.cancelled,
            Self::Shared(run) => &run.cancelled,
        }
    }

    /// The task as a `CreateTaskResult` shows it: without questions, result or error.
    pub(crate) fn summary(&self) -> Value {
        match self {
            Self::Local(task) => task.summary(),
            Self::Shared(run) => run.summary(),
        }
    }

    /// Ends the task with what the request would have returned, a result of so many bytes.
    pub(crate) async fn complete(&self, result: Value, bytes: usize) -> Result<(), NoRoom> {
        match self {
            Self::Local(task) => task.complete(result, bytes),
            Self::Shared(run) => Box::pin(run.complete(&result, bytes)).await,
        }
    }

    /// Ends the task with a JSON-RPC error.
    pub(crate) async fn fail(&self, error: Value) {
        match self {
            Self::Local(task) => task.fail(error),
            Self::Shared(run) => Box::pin(run.fail(&error)).await,
        }
    }

    /// How this task's work asks the client.
    pub(crate) fn asker(&self) -> Ask {
        let task = self.clone();
        Box::new(move |questions| {
            let task = task.clone();
            Box::pin(async move { task.ask(questions).await })
        })
    }

    async fn ask(&self, questions: Questions) -> BTreeMap<String, Value> {
        match self {
            Self::Local(task) => task.ask(questions).await,
            Self::Shared(run) => run.ask(questions).await,
        }
    }
}

/// What every form of a task begins with.
fn summary(id: &str, stage: Stage, created: Timestamp, updated: Timestamp, ttl: u64) -> Value {
    json!({
        "taskId": id,
        "status": stage.as_str(),
        "createdAt": created,
        "lastUpdatedAt": updated,
        "ttlMs": ttl,
        "pollIntervalMs": POLL_INTERVAL_MS,
    })
}

/// Questions that are open, as `tasks/get` shows them.
fn open_questions(open: impl Iterator<Item = (String, InputRequest)>) -> Value {
    Value::Object(open.map(|(key, question)| (key, question.embedded())).collect())
}

/// The key of a question that is unique over the task's life.
fn unique(key: &str, round: usize) -> String {
    match round {
        1 => key.to_owned(),
        round => format!("{key}-{round}"),
    }
}
