//! The way of a tool call, the same in both eras: find the tool, read the arguments, find the session, run, count.
//!
//! Owns that order ([`begin`], [`run`]). What differs is an era's [`Front`]: what must fit beforehand, whose session it is,
//! and whether there is a stream. Knows nothing of how an answer travels.
//! Traps: arguments are read before any session is touched, so that a bad call leaves nothing behind; and a call is
//! counted once, in one change with its whole effect.

use std::{borrow::Cow, sync::Arc};

use tokio::time::sleep;

use super::{
    dispatch::{no_session, require},
    exchange::Exchange,
};
use crate::{
    failure::Failure,
    session::{
        record::{Change, Record},
        store::{NotCommitted, NotLoaded, Unavailable},
        stream::EventLog,
    },
    tools::{
        HANDLE, Tool,
        arguments::{Arguments, BadArguments},
        call::{CallContext, ClientFacts, Operation, Outcome, Prepared, Step},
    },
    wire::{
        inputs::{self, Inputs},
        json::Raw,
        model::{NamedParams, Object, ToolResult},
        params::Params,
    },
};

/// A call whose tool is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToolCall<'a> {
    pub(super) tool: &'static Tool,
    /// Still unread.
    pub(super) arguments: Option<Raw<'a>>,
}

/// A [`ToolCall`] that outlives the request body, to be prepared again once the client has answered.
#[derive(Clone, Debug)]
pub(super) struct OwnedCall {
    tool: &'static Tool,
    arguments: Option<Box<str>>,
}

impl OwnedCall {
    /// Borrowed again.
    pub(super) fn get(&self) -> ToolCall<'_> {
        ToolCall { tool: self.tool, arguments: self.arguments.as_deref().map(Raw::again) }
    }
}

impl<'a> ToolCall<'a> {
    fn find(exchange: &Exchange<'_>, params: &Params<'a>) -> Result<Self, Failure> {
        let (name, arguments) = match params.call() {
            Some(call) => call,
            None => {
                let NamedParams { name, arguments } = require(params.raw, "\"name\" of a tool")?;
                (name, arguments.map(|Object(raw)| raw))
            }
        };
        match exchange.catalogue().tool(&name) {
            Some(tool) => Ok(Self { tool, arguments }),
            None => Err(Failure::UnknownTool(name.into_owned())),
        }
    }

    /// The call that outlives the request body.
    pub(super) fn to_owned(self) -> OwnedCall {
        OwnedCall { tool: self.tool, arguments: self.arguments.map(|raw| raw.get().into()) }
    }

    /// Reads the arguments. The second value is the handle among them.
    pub(super) fn prepare(
        &self,
        exchange: &Exchange<'_>,
        inputs: &Inputs,
    ) -> Result<(Prepared, Option<String>), BadArguments> {
        let limits = &exchange.policy().tools;
        let mut arguments = Arguments::read(self.tool.name, self.arguments, limits, inputs)?;
        let handle = match self.tool.stateful {
            true => arguments.optional_string(HANDLE.0)?.map(Cow::into_owned),
            false => None,
        };
        Ok(((self.tool.prepare)(&mut arguments)?, handle))
    }
}

/// What an era makes of a call.
pub(super) trait Front {
    /// The request.
    fn exchange(&self) -> Exchange<'_>;

    /// What must fit before the arguments are read.
    fn admit(&self, call: &ToolCall<'_>) -> Result<(), Failure>;

    /// What the client has answered so far.
    fn inputs(&self, call: &ToolCall<'_>, params: &Params<'_>) -> Result<Inputs, Failure>;

    /// What is said of arguments that do not fit: a result, or a failure of the request.
    fn misfit(&self, bad: BadArguments) -> Result<ToolResult, Failure>;

    /// The session of the connection, in an era that has one; what it knows of the client goes into `client`.
    async fn own_session(&mut self, client: &mut ClientFacts) -> Result<Option<Record>, Failure>;

    /// Where the call can say something before its answer, if it can.
    fn stream(&self, tool: &Tool, prepared: &Prepared) -> Option<Arc<EventLog>>;
}

/// A call that can run.
pub(super) struct Call<'a> {
    pub(super) call: ToolCall<'a>,
    pub(super) prepared: Prepared,
    pub(super) context: CallContext,
}

/// Makes a call ready to run.
pub(super) async fn begin<'a>(
    front: &mut impl Front,
    params: &Params<'a>,
    mut client: ClientFacts,
) -> Result<Call<'a>, Failure> {
    let call = ToolCall::find(&front.exchange(), params)?;
    front.exchange().record().set_tool(call.tool.name);
    front.admit(&call)?;
    let inputs = front.inputs(&call, params)?;
    let (mut prepared, handle) = match call.prepare(&front.exchange(), &inputs) {
        Ok(ready) => ready,
        Err(bad) => (answered(front.misfit(bad)?), None),
    };
    let mut session = front.own_session(&mut client).await?;
    if let Some(handle) = handle {
        match by_handle(&front.exchange(), &handle).await? {
            Ok(other) => {
                front.exchange().record().set_session(other.head.reference);
                session = Some(other);
            }
            Err(result) => prepared = answered(result),
        }
    }
    let stream = front.stream(call.tool, &prepared);
    let exchange = front.exchange();
    let (instance, inbound) = (Arc::clone(exchange.instance()), Arc::clone(exchange.inbound));
    Ok(Call { call, prepared, context: CallContext { instance, session, inbound, client, stream } })
}

/// A call whose result is known.
fn answered(result: ToolResult) -> Prepared {
    Prepared::now(move |_| result)
}

/// The session of a handle, or a result that says what became of it.
async fn by_handle(
    exchange: &Exchange<'_>,
    handle: &str,
) -> Result<Result<Record, ToolResult>, Failure> {
    let instance = exchange.instance();
    let loaded = instance.state.sessions.load(handle, exchange.inbound.caller, Default::default());
    match loaded.await {
        Ok(session) => Ok(Ok(session)),
        Err(NotLoaded::Gone(gone)) => {
            let advice = "create_session returns a new handle";
            let text = format!("{}; {advice}", no_session(instance, handle, gone).what_happened());
            Ok(Err(ToolResult::error(text)))
        }
        Err(NotLoaded::Unavailable) => Err(Unavailable.into()),
    }
}

/// What an era makes of an outcome before the call is counted.
pub(super) type Settle = fn(Outcome<ToolResult>, &CallContext) -> Outcome<ToolResult>;

/// Runs a tool to its outcome, and counts the call.
pub(super) async fn run(
    tool: &Tool,
    context: &Arc<CallContext>,
    prepared: Prepared,
    settle: Settle,
) -> Outcome<ToolResult> {
    let outcome = match prepared {
        Prepared::Now(next) => return step(tool, context, next, settle).await,
        Prepared::After(delay, next) => {
            sleep(delay).await;
            return step(tool, context, next, settle).await;
        }
        Prepared::Later(run) => run(Arc::clone(context)).await,
        Prepared::Task { run, .. } => run(Arc::clone(context), inputs::nobody()).await,
    };
    count(tool, context, settle(outcome, context)).await
}

/// The same for a tool that does not wait.
pub(super) async fn step(
    tool: &Tool,
    context: &CallContext,
    step: Step,
    settle: Settle,
) -> Outcome<ToolResult> {
    match step {
        Step::Look(look) => count(tool, context, settle(look(context), context)).await,
        Step::Operate(operation) => operate(tool, context, operation).await,
    }
}

/// Counts a call that is done.
pub(super) async fn count(
    tool: &Tool,
    context: &CallContext,
    outcome: Outcome<ToolResult>,
) -> Outcome<ToolResult> {
    if let (Outcome::Done(_), true, Some(session)) = (&outcome, tool.counted, &context.session) {
        match commit(context, session, Change::COUNT).await {
            // A session that is gone has nothing to be counted in; what was done is done.
            Ok(_) | Err(NotCommitted::Gone(_) | NotCommitted::Quota(_)) => {}
            Err(NotCommitted::Unavailable) => return Outcome::Failed(Unavailable.into()),
        }
    }
    outcome
}

/// Makes a change, counts the call with it, and answers by the session as it is then.
async fn operate(
    tool: &Tool,
    context: &CallContext,
    operation: Box<dyn Operation>,
) -> Outcome<ToolResult> {
    let Some(session) = &context.session else {
        return operation.answer(context, None).into();
    };
    let change = Change { count: tool.counted, ..operation.change() };
    match commit(context, session, change).await {
        Ok(after) => operation.answer(context, Some(&after)).into(),
        Err(NotCommitted::Quota(exceeded)) => {
            let result = ToolResult::error(exceeded.to_string());
            count(tool, context, result.into()).await
        }
        Err(NotCommitted::Gone(gone)) => {
            let id = session.head.id.to_string();
            let happened = no_session(&context.instance, &id, gone).what_happened();
            ToolResult::error(format!("{happened}, while the call was under way")).into()
        }
        Err(NotCommitted::Unavailable) => Outcome::Failed(Unavailable.into()),
    }
}

async fn commit(
    context: &CallContext,
    session: &Record,
    change: Change<'_>,
) -> Result<Record, NotCommitted> {
    let instance = &context.instance;
    let quota = &instance.policy.config.session;
    instance.state.sessions.commit(&session.head, change, quota).await
}
