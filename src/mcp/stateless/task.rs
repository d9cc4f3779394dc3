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
    pub(super) fn create_task(
        &self,
        id: Id<'_>,
        tool: &'static Tool,
        context: Arc<CallContext>,
        run: TaskRun,
    ) -> Result<Reply, Failure> {
        let instance = self.exchange.instance();
        let caller = self.exchange.inbound.caller;
        let task = match instance.state.tasks.create(caller, context.client.capabilities) {
            Ok(task) => task,
            Err(NotCreated::Full) => return Err(Failure::TooManyTasks),
            Err(NotCreated::NoEntropy) => return Err(Failure::Internal),
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
    pub(super) fn task(
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
        let Some(task) = instance.state.tasks.find(&task_id, self.exchange.inbound.caller) else {
            dispatch::minted_by(instance, self.exchange.record(), &task_id);
            return invalid(unknown_task(&task_id, instance.here()));
        };
        let result = match method {
            Method::TasksUpdate => {
                let Common { input_responses, .. } = dispatch::common(params)?;
                match input_responses {
                    Some(Value::Object(answers)) => {
                        task.update(&answers, self.exchange.inbound.body.len())?;
                    }
                    _ => return invalid("\"inputResponses\" is required, an object"),
                }
                json!({})
            }
            Method::TasksCancel => {
                task.cancel();
                json!({})
            }
            _ => task.describe(),
        };
        self.complete(id, result.to_string().as_bytes())
    }
}

/// Why a task id is not found, as far as the id tells.
fn unknown_task(task_id: &str, here: MintedBy) -> String {
    let over = || "there is no such task; its time may be over (tasks.ttl_seconds)".to_owned();
    let Some(id) = SessionId::parse(task_id) else { return "there is no such task".to_owned() };
    let Some(made_by) = id.minted_by() else { return over() };
    match made_by.elsewhere(here) {
        Some(Elsewhere::Instance) => format!(
            "there is no such task here: instance {} made it, and instance {} answers",
            made_by.instance, here.instance
        ),
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

/// Runs a task to its end, or until it is cancelled.
async fn run_task(
    endpoint: Arc<Endpoint>,
    task: Arc<Task>,
    context: Arc<CallContext>,
    tool: &'static Tool,
    work: Work,
    _guard: (Option<Lease>, Open),
) {
    let fail = |failure: &Failure| {
        task.fail(serde_json::to_value(failure.to_object(ERA)).unwrap_or_default());
    };
    let outcome = tokio::select! {
        outcome = outcome_of(work) => outcome,
        () = task.cancelled.cancelled() => return,
    };
    let most = context.instance.policy.config.tools.max_response_bytes;
    let Some(outcome) = outcome else { return fail(&Failure::Internal) };
    match call::count(tool, &context, outcome).await {
        Outcome::Done(result) => {
            let result = result.within(most);
            match serde_json::to_value(&result) {
                Ok(mut value) => {
                    // What the call would have returned (tasks extension, "Task Execution Errors").
                    value["resultType"] = "complete".into();
                    value["_meta"] = endpoint.catalogue.server_meta();
                    let completed = task.complete(value, result.bytes());
                    completed.unwrap_or_else(|full| fail(&full.into()));
                }
                Err(_) => fail(&Failure::Internal),
            }
        }
        // A task's questions go through `tasks/get`, so this is an internal error.
        Outcome::NeedInput { .. } => fail(&Failure::Internal),
        Outcome::Failed(failure) => fail(&failure),
    }
}
