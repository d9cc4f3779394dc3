//! One tool call, without the era it came in.
//!
//! Owns what a tool gets ([`CallContext`]) and what it gives ([`Prepared`], [`Outcome`]). A tool looks at its session's
//! record; what it changes it says in an [`Operation`], which the store applies as a whole. Knows nothing of session
//! ids, headers of the protocol or revisions: a tool that needs the wire looks at [`Inbound`].
//! Trap: who counts a call is not the tool but whoever runs it, once, when it completes. A tool that tells the count is
//! an operation, whose answer is made of the record afterwards.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    session::{
        record::{Change, Record, Want},
        stream::EventLog,
    },
    tenant::{Instance, inbound::Inbound},
    wire::{
        inputs::{Ask, Questions},
        jsonrpc,
        model::{Capabilities, LogLevel, ToolResult},
    },
};

/// What a request says about the client, whatever era it came in.
#[derive(Clone, Debug, Default)]
pub struct ClientFacts {
    /// What the client can do.
    pub capabilities: Capabilities,
    /// To be repeated in progress notifications; `None` if the client wants none.
    pub progress_token: Option<Value>,
    /// The least severe log message the client wants; `None` if it wants none.
    pub log_level: Option<LogLevel>,
    /// `_meta` as it came.
    pub meta: Option<Box<str>>,
    /// Whether progress notifications may carry a message.
    pub progress_messages: bool,
}

/// What a capability comes to. Asking the client is a return value: the call is made again with the
/// answers, so that neither era needs to keep anything while the client thinks.
#[derive(Clone, Debug)]
pub enum Outcome<T> {
    /// Done.
    Done(T),
    /// Not without these answers.
    NeedInput {
        /// The questions.
        requests: Questions,
        /// To be remembered until the answers come.
        state: Option<Value>,
    },
    /// The request cannot be served.
    Failed(Failure),
}

impl From<ToolResult> for Outcome<ToolResult> {
    fn from(result: ToolResult) -> Self {
        Self::Done(result)
    }
}

/// What a tool gets beside its arguments.
#[derive(Debug)]
pub struct CallContext {
    /// The instance it runs on.
    pub instance: Arc<Instance>,
    /// The session it runs in, as it was when the call began; `None` for a request without one.
    pub session: Option<Record>,
    /// The HTTP request it came in.
    pub inbound: Arc<Inbound>,
    /// What the request says about the client.
    pub client: ClientFacts,
    /// Where notifications go that belong to this call; `None` if the answer is one document.
    pub stream: Option<Arc<EventLog>>,
}

/// What to tell a caller that has no session, where a tool needs one.
pub fn needs_session() -> ToolResult {
    ToolResult::error(
        "this tool needs a session: pass the handle that create_session returns as \"session\"",
    )
}

impl CallContext {
    /// When the head of its request had been read, as the time of day.
    pub fn received_at(&self) -> Timestamp {
        let clock = self.instance.process.clock;
        clock.time(clock.moment(self.inbound.record.received))
    }

    /// Ends the connection of the call's stream; the client is to come back for the rest. Does nothing
    /// where it could not.
    pub fn hang_up(&self) {
        if let Some(stream) = self.stream.as_ref().filter(|stream| stream.is_primed()) {
            stream.hang_up();
        }
    }

    /// Tells the client how far the call is, if it wants to know.
    pub async fn progress(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
        let (Some(token), Some(stream)) = (&self.client.progress_token, &self.stream) else {
            return;
        };
        let mut params = json!({ "progressToken": token, "progress": progress });
        if let Some(total) = total {
            params["total"] = total.into();
        }
        if let Some(message) = message.filter(|_| self.client.progress_messages) {
            params["message"] = message.into();
        }
        stream.send(&jsonrpc::notification("notifications/progress", &params)).await;
    }

    /// Sends the client a log message, if it wants messages of that severity.
    pub async fn log(&self, level: LogLevel, data: Value) {
        let wanted = self.client.log_level.is_some_and(|least| level >= least);
        let Some(stream) = self.stream.as_ref().filter(|_| wanted) else { return };
        let params = json!({ "level": level, "logger": "mcp-echo-stateful", "data": data });
        stream.send(&jsonrpc::notification("notifications/message", &params)).await;
    }
}

/// What a tool does to its session, and the answer made of the session as it is afterwards.
pub trait Operation: Send {
    /// Its effect, and what the answer needs of the session. That the call is counted goes without saying.
    fn change(&self) -> Change<'_>;

    /// The answer; `session` is `None` for a call without one.
    fn answer(self: Box<Self>, context: &CallContext, session: Option<&Record>) -> ToolResult;
}

/// An operation that changes nothing: it reads what it wants of the session.
struct Reading<F> {
    want: Want,
    answer: F,
}

impl<F> Operation for Reading<F>
where
    F: FnOnce(&CallContext, Option<&Record>) -> ToolResult + Send,
{
    fn change(&self) -> Change<'_> {
        Change { want: self.want, ..Change::default() }
    }

    fn answer(self: Box<Self>, context: &CallContext, session: Option<&Record>) -> ToolResult {
        (self.answer)(context, session)
    }
}

/// A tool at work.
pub type Work = BoxFuture<'static, Outcome<ToolResult>>;

/// Runs a tool that takes its time and may ask on the way.
pub type TaskRun = Box<dyn FnOnce(Arc<CallContext>, Ask) -> Work + Send>;

/// Runs a tool that answers at once.
pub type Immediate = Box<dyn FnOnce(&CallContext) -> Outcome<ToolResult> + Send>;

/// What a tool does without waiting for anything.
pub enum Step {
    /// Looks at what there is and answers.
    Look(Immediate),
    /// Works on its session.
    Operate(Box<dyn Operation>),
}

/// A tool whose arguments have been read and found fit, before any session is touched.
pub enum Prepared {
    /// Answers at once.
    Now(Step),
    /// Answers after a while.
    After(Duration, Step),
    /// Answers when it is done. Who owns the work meanwhile, the session or the response, is the era's choice.
    Later(Box<dyn FnOnce(Arc<CallContext>) -> Work + Send>),
    /// Takes its time, and may ask on the way. Becomes a task for a client that knows tasks.
    Task {
        /// Whether it is refused to a client that does not.
        required: bool,
        /// Runs it.
        run: TaskRun,
    },
}

impl Prepared {
    /// A tool that answers at once.
    pub fn now<O: Into<Outcome<ToolResult>>>(
        run: impl FnOnce(&CallContext) -> O + Send + 'static,
    ) -> Self {
        Self::Now(Step::Look(Box::new(move |context| run(context).into())))
    }

    /// A tool that works on its session.
    pub fn operation(operation: impl Operation + 'static) -> Self {
        Self::Now(Step::Operate(Box::new(operation)))
    }

    /// A tool that reads its session.
    pub fn reading(
        want: Want,
        answer: impl FnOnce(&CallContext, Option<&Record>) -> ToolResult + Send + 'static,
    ) -> Self {
        Self::operation(Reading { want, answer })
    }

    /// A tool that takes its time.
    pub fn later<F, O>(run: impl FnOnce(Arc<CallContext>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = O> + Send + 'static,
        O: Into<Outcome<ToolResult>>,
    {
        Self::Later(Box::new(move |context| {
            let work = run(context);
            Box::pin(async move { work.await.into() })
        }))
    }

    /// A tool that becomes a task.
    pub fn task<F, O>(
        required: bool,
        run: impl FnOnce(Arc<CallContext>, Ask) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = O> + Send + 'static,
        O: Into<Outcome<ToolResult>>,
    {
        let run = move |context, ask| -> Work {
            let work = run(context, ask);
            Box::pin(async move { work.await.into() })
        };
        Self::Task { required, run: Box::new(run) }
    }
}
