//! Tasks on the wire (extension `io.modelcontextprotocol/tasks`).
//!
//! Owns calls that are answered with a task, `tasks/get`, `tasks/update` and `tasks/cancel`, and the error for a task id
//! that is not found.
//! Trap: `tasks/get` must find a task as soon as its id has been sent.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{ERA, Stateless};
use crate::{
    failure::Failure,
    id::{Elsewhere, MintedBy, SessionId},
    lifecycle::outcome_of,
    mcp::{
        Endpoint, call,
        dispatch::{self, invalid, require},
        exchange::Reply,
    },
    observe::Open,
    session::Lease,
    tenant::{NotCreated, Task},
    tools::{CallContext, ClientFacts, Outcome, TaskRun, Tool, Work},
    wire::{Common, Id, Method, Params, TaskParams, jsonrpc},
};

impl Stateless<'_> {
    /// Answers a call with a task.
    pub(super) async fn create_task(
        &self,
        id: Id<'_>,
        tool: &'static Tool,
        context: Arc<CallContext>,
        run: TaskRun,
    ) -> Result<Reply, Failure> {
        let instance = self.exchange.instance();
        let caller = self.exchange.inbound.caller;
        let task = match instance.state.tasks.create(caller, context.client.capabilities).await {
            Ok(task) => task,
            Err(NotCreated::Full) => return Err(Failure::TooManyTasks),
            Err(NotCreated::NoEntropy) => return Err(Failure::Internal),
            Err(NotCreated::Unavailable) => return Err(Failure::StoreUnavailable),
        };
        let mut result = task.summary();
        result["resultType"] = "task".into();
        result["_meta"] = self.exchange.catalogue().server_meta();
        let guard = (context.hold(), self.exchange.begin_call()?);
        let work = run(Arc::clone(&context), task.asker());
        let endpoint = Arc::clone(self.exchange.endpoint);
        instance.process.lifecycle.spawn(run_task(endpoint, task, context, tool, work, guard));
        self.exchange.whole(jsonrpc::success(id, result.to_string().as_bytes()))
    }

    /// `tasks/get`, `tasks/update`, `tasks/cancel`.
    pub(super) async fn task(
        &self,
        method: Method,
        id: Id<'_>,
        params: &Params<'_>,
        client: &ClientFacts,
    ) -> Result<Reply, Failure> {
        if !client.capabilities.tasks {
            return Err(Failure::needs_tasks());
        }
        let TaskParams { task_id } = require(params.raw, "\"taskId\"")?;
        let instance = self.exchange.instance();
        let (tasks, caller) = (&instance.state.tasks, self.exchange.inbound.caller);
        let empty = |found: bool| found.then(|| json!({}));
        let found = match method {
            Method::TasksUpdate => {
                let Common { input_responses, .. } = dispatch::common(params)?;
                match input_responses {
                    Some(Value::Object(answers)) => {
                        let bytes = self.exchange.inbound.body.len();
                        empty(tasks.update(&task_id, caller, &answers, bytes).await?)
                    }
                    _ => return invalid("\"inputResponses\" is required, an object"),
                }
            }
            Method::TasksCancel => empty(tasks.cancel(&task_id, caller).await?),
            _ => tasks.get(&task_id, caller).await?,
        };
        let Some(result) = found else {
            dispatch::minted_by(instance, self.exchange.record(), &task_id);
            return invalid(unknown_task(&task_id, instance.here(), tasks.is_shared()));
        };
        self.complete(id, result.to_string().as_bytes())
    }
}

/// Why a task id is not found, as far as the id tells.
fn unknown_task(task_id: &str, here: MintedBy, shared: bool) -> String {
    let over = || "there is no such task; its time may be over (tasks.ttl_seconds)".to_owned();
    let Some(id) = SessionId::parse(task_id) else { return "there is no such task".to_owned() };
    let Some(made_by) = id.minted_by() else { return over() };
    match made_by.elsewhere(here) {
        Some(Elsewhere::Instance) => format!(
            "there is no such task here: instance {} made it, and instance {} answers",
            made_by.instance, here.instance
        ),
        // Any replica would have found it.
        Some(Elsewhere::Replica | Elsewhere::Boot) if shared => over(),
        Some(Elsewhere::Replica) => format!(
            "there is no such task here: replica {} made it, and replica {} answers",
            made_by.tag, here.tag
        ),
        Some(Elsewhere::Boot) => {
            "there is no such task: it was made before this server was last started".to_owned()
        }
        None => over(),
    }
}

async fn fail(task: &Task, failure: &Failure) {
    task.fail(serde_json::to_value(failure.to_object(ERA)).unwrap_or_default()).await;
}

/// Runs a task to its end, or until it is cancelled.
async fn run_task(
    endpoint: Arc<Endpoint>,
    task: Task,
    context: Arc<CallContext>,
    tool: &'static Tool,
    work: Work,
    _guard: (Option<Lease>, Open),
) {
    let outcome = tokio::select! {
        outcome = outcome_of(work) => outcome,
        () = task.cancelled().cancelled() => return,
    };
    let most = context.instance.policy.config.tools.max_response_bytes;
    let Some(outcome) = outcome else { return fail(&task, &Failure::Internal).await };
    match call::count(tool, &context, outcome).await {
        Outcome::Done(result) => {
            let result = result.within(most);
            match serde_json::to_value(&result) {
                Ok(mut value) => {
                    // What the call would have returned (tasks extension, "Task Execution Errors").
                    value["resultType"] = "complete".into();
                    value["_meta"] = endpoint.catalogue.server_meta();
                    if let Err(full) = task.complete(value, result.bytes()).await {
                        fail(&task, &full.into()).await;
                    }
                }
                Err(_) => fail(&task, &Failure::Internal).await,
            }
        }
        // A task's questions go through `tasks/get`, so this is an internal error.
        Outcome::NeedInput { .. } => fail(&task, &Failure::Internal).await,
        Outcome::Failed(failure) => fail(&task, &failure).await,
    }
}
