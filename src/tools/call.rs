//! One tool call, whatever the protocol revision.
//!
//! Owns what a tool gets ([`CallContext`]) and what it gives ([`Prepared`], [`Outcome`]). A tool reads the record of its
//! session. What it changes there it says in an [`Operation`], which the store applies as a whole. A tool that needs the
//! HTTP request looks at [`Inbound`].
//! Trap: a tool does not count its call; whoever runs it does, once, when it completes. So a tool whose answer contains
//! the count is an operation: its answer is made from the record after the change.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    clock::Moment,
    config::{PROFILE_VARIABLE, Profile},
    failure::Failure,
    session::{Change, Conversation, EventLog, Handshake, Lease, NotCreated, Record, Want},
    tenant::{Inbound, Instance},
    wire::{Ask, Capabilities, LogLevel, OwnedId, Questions, ToolResult, jsonrpc},
};

/// What a request, or the handshake before it, says about the client.
#[derive(Debug, Default)]
pub(crate) struct ClientFacts {
    /// Whether it has finished the handshake, so that it may be asked.
    pub(crate) ready: bool,
    pub(crate) capabilities: Capabilities,
    /// `None` if the client wants no progress notifications.
    pub(crate) progress_token: Option<OwnedId>,
    /// The least severe log message that the client wants; `None` if it wants none.
    pub(crate) log_level: Option<LogLevel>,
    /// Where another level is set while the call is under way.
    pub(crate) conversation: Option<Arc<Conversation>>,
    /// `_meta` as it came.
    pub(crate) meta: Option<Box<str>>,
    /// Whether progress notifications may carry a message.
    pub(crate) progress_messages: bool,
}

/// What a tool or a prompt returns. To ask the client something, it returns the questions and is called again with the
/// answers, so nothing is kept here while the client thinks.
pub(crate) enum Outcome<T> {
    Done(T),
    NeedInput {
        requests: Questions,
        /// What the next call is to be given beside the answers.
        state: Option<Value>,
    },
    Failed(Failure),
}

impl From<ToolResult> for Outcome<ToolResult> {
    fn from(result: ToolResult) -> Self {
        Self::Done(result)
    }
}

/// What a tool gets beside its arguments.
#[derive(Debug)]
pub(crate) struct CallContext {
    pub(crate) instance: Arc<Instance>,
    /// The session that the tool works on, as it was when the call began.
    pub(crate) session: Option<Record>,
    /// Whether it is the connection's own, not one that a handle names.
    pub(crate) by_connection: bool,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) client: ClientFacts,
    /// Where notifications of this call go; `None` if the answer is one JSON document.
    pub(crate) stream: Option<Arc<EventLog>>,
}

/// The result of a tool that needs a session, for a call without one. Whoever reads it must be able to go on by it alone.
pub(super) fn needs_session() -> ToolResult {
    let profile = Profile::SESSIONED;
    ToolResult::error(format!(
        "this protocol revision has no sessions: pass the handle that set_session_data or create_session returns as \"session\", or have the server started with --profile {profile} ({PROFILE_VARIABLE}={profile}), which serves the older revisions that have them"
    ))
}

/// Said to whoever looks into a session that nobody has used before: mostly a client that begins one for each call.
const FIRST_CALL: &str = "This session is new and this is its first call, so it holds nothing yet. A client that begins a session for each call keeps none: let it use one session for all calls, or pass the handle that create_session returns as \"session\".";

impl CallContext {
    /// [`FIRST_CALL`], if that is so of the connection's session, as it is after this call, which `counts` or does not. A handle
    /// is expected to be new.
    pub(super) fn first_call(session: &Record, counts: bool) -> Option<&'static str> {
        let by_connection = session.head.handshake.version.is_some();
        (by_connection && session.tally.requests == u64::from(counts)).then_some(FIRST_CALL)
    }

    /// Begins a session that is reached by its handle, for this caller.
    pub(crate) async fn begin_session(
        &self,
        handshake: Handshake,
    ) -> Result<Record, Outcome<ToolResult>> {
        let sessions = &self.instance.state.sessions;
        let created = sessions.create(handshake, self.inbound.caller).await;
        created.map_err(|refused| match refused {
            NotCreated::Unavailable(error) => Outcome::Failed(error.into()),
            NotCreated::NoRoom(full) => Outcome::Failed(full.into()),
            refused @ (NotCreated::Full { .. } | NotCreated::Draining | NotCreated::NoEntropy) => {
                ToolResult::error(format!("no session was created: {refused}")).into()
            }
        })
    }

    /// Keeps the session from expiring while the call is under way.
    pub(crate) fn hold(&self) -> Option<Lease> {
        let session = self.session.as_ref()?;
        Some(self.instance.state.sessions.hold(session.head.id))
    }

    /// When the request's head had been read.
    pub(super) fn received(&self) -> Moment {
        self.instance.process.clock.moment(self.inbound.record.received)
    }

    /// Closes the connection of the call's stream, if the client has an event id from which it can resume it.
    pub(super) fn hang_up(&self) {
        if let Some(stream) = self.stream.as_ref().filter(|stream| stream.is_primed()) {
            stream.hang_up();
        }
    }

    /// Sends a progress notification, if the client wants them.
    pub(super) async fn progress(&self, progress: f64, total: f64, message: &str) {
        let (Some(token), Some(stream)) = (&self.client.progress_token, &self.stream) else {
            return;
        };
        let message = self.client.progress_messages.then_some(message);
        let params = Progress { token, progress, total, message };
        stream.send(&jsonrpc::notification("notifications/progress", &params)).await;
    }

    /// Sends a log message, if the client wants messages of that level.
    pub(super) async fn log(&self, level: LogLevel, data: Value) {
        let set = self.client.conversation.as_ref().and_then(|it| it.log_level());
        let wanted = set.or(self.client.log_level).is_some_and(|least| level >= least);
        let Some(stream) = self.stream.as_ref().filter(|_| wanted) else { return };
        let params = json!({ "level": level, "logger": "mcp-echo-stateful", "data": data });
        stream.send(&jsonrpc::notification("notifications/message", &params)).await;
    }
}

/// The `params` of `notifications/progress`.
#[derive(Serialize)]
struct Progress<'a> {
    #[serde(rename = "progressToken")]
    token: &'a OwnedId,
    progress: f64,
    total: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

/// A change of the session, and an answer that is made from the session as it is afterwards.
pub(crate) trait Operation: Send {
    /// What to change, and what the answer needs to know of the session. Whoever runs the tool adds that the call counts.
    fn change(&self) -> Change<'_>;

    /// Whether a call without a session begins one, whose handle the answer tells.
    fn begins_session(&self) -> bool {
        false
    }

    /// `session` is `None` for a call without one.
    fn answer(self: Box<Self>, context: &CallContext, session: Option<&Record>) -> ToolResult;
}

/// An operation that changes nothing.
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
pub(crate) type Work = BoxFuture<'static, Outcome<ToolResult>>;

/// Starts a tool that can ask the client while it works.
pub(crate) type TaskRun = Box<dyn FnOnce(Arc<CallContext>, Ask) -> Work + Send>;

/// Answers at once.
pub(crate) type Look = Box<dyn FnOnce(&CallContext) -> Outcome<ToolResult> + Send>;

/// What a tool does without waiting for anything.
pub(crate) enum Step {
    Look(Look),
    Operate(Box<dyn Operation>),
}

/// A tool whose arguments have been read, before any session is touched.
pub(crate) enum Prepared {
    Now(Step),
    After(Duration, Step),
    /// Work that takes time.
    Later(Box<dyn FnOnce(Arc<CallContext>) -> Work + Send>),
    /// Work that takes time and can ask the client. It becomes a task, if the client supports tasks.
    Task {
        /// Whether clients without tasks cannot use it.
        required: bool,
        run: TaskRun,
    },
}

impl Prepared {
    pub(crate) fn now<O: Into<Outcome<ToolResult>>>(
        run: impl FnOnce(&CallContext) -> O + Send + 'static,
    ) -> Self {
        Self::Now(Step::Look(Box::new(move |context| run(context).into())))
    }

    pub(super) fn operation(operation: impl Operation + 'static) -> Self {
        Self::Now(Step::Operate(Box::new(operation)))
    }

    /// A tool that reads its session.
    pub(super) fn reading(
        want: Want,
        answer: impl FnOnce(&CallContext, Option<&Record>) -> ToolResult + Send + 'static,
    ) -> Self {
        Self::operation(Reading { want, answer })
    }

    pub(super) fn later<F, O>(run: impl FnOnce(Arc<CallContext>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = O> + Send + 'static,
        O: Into<Outcome<ToolResult>>,
    {
        Self::Later(Box::new(move |context| {
            let work = run(context);
            Box::pin(async move { work.await.into() })
        }))
    }

    pub(super) fn task<F, O>(
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
