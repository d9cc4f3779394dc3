//! A tool call, in the order that both eras share: find the tool, read the arguments, find the session, run, count.
//!
//! Owns that order ([`begin`], [`run`]) and how a call that streams ends ([`answer_on_stream`]). What differs between the
//! eras is in their [`Front`].
//! Traps: arguments are read before any session is created, so that a bad call leaves nothing behind. A call is counted
//! once, in the same change as its effect on the session.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    dispatch::{no_session, require},
    exchange::{Exchange, refuse_in_band},
};
use crate::{
    budget::NoRoom,
    failure::Failure,
    id::EndReason,
    lifecycle::outcome_of,
    observe::{RequestOutcome, RequestRecord},
    session::{
        Change, EventLog, Gone, Handshake, NotCommitted, NotLoaded, Record, Unavailable, Want,
    },
    tenant::{Inbound, Instance},
    tools::{
        Arguments, BadArguments, CallContext, ClientFacts, HANDLE, Operation, Outcome, Prepared,
        Step, Tool,
    },
    wire::{
        Inputs, NamedParams, Object, OwnedId, Params, Raw, RawObject, Text, ToolResult, inputs,
    },
};

/// A call whose tool exists, with its arguments still unread.
#[derive(Clone, Copy)]
pub(super) struct ToolCall<'a> {
    pub(super) tool: &'static Tool,
    pub(super) arguments: Option<RawObject<'a>>,
}

/// A [`ToolCall`] that outlives its request, to be prepared again with the client's answers.
pub(super) struct OwnedCall {
    tool: &'static Tool,
    /// A part of the body.
    arguments: Option<Text>,
}

impl OwnedCall {
    pub(super) fn get(&self) -> ToolCall<'_> {
        let arguments = self.arguments.as_ref().map(Text::as_str);
        let arguments = arguments.map(|text| RawObject::new(Raw::again(text), None));
        ToolCall { tool: self.tool, arguments }
    }
}

impl<'a> ToolCall<'a> {
    fn find(exchange: &Exchange<'_>, params: &'a Params<'_>) -> Result<Self, Failure> {
        let (name, arguments) = match params.call() {
            Some(call) => call,
            None => {
                let NamedParams { name, arguments } = require(params.raw, "\"name\" of a tool")?;
                (name, arguments.map(|Object(raw)| RawObject::new(raw, None)))
            }
        };
        match exchange.catalogue().tool(&name) {
            Some(tool) => Ok(Self { tool, arguments }),
            None => Err(Failure::UnknownTool(name.into_owned())),
        }
    }

    pub(super) fn to_owned(self, inbound: &Inbound) -> OwnedCall {
        let arguments = self.arguments.map(|sent| Text::of(&inbound.body, sent.raw.get().into()));
        OwnedCall { tool: self.tool, arguments }
    }

    /// Reads the arguments. The second value is the session handle among them.
    pub(super) fn prepare(
        &self,
        exchange: &Exchange<'_>,
        inputs: &Inputs,
    ) -> Result<(Prepared, Option<String>), BadArguments> {
        let limits = &exchange.policy().tools;
        let body = &exchange.inbound.body;
        let mut arguments = Arguments::read(self.tool.name, self.arguments, body, limits, inputs)?;
        let handle = match self.tool.stateful {
            true => arguments.optional_string(HANDLE.0)?.map(Cow::into_owned),
            false => None,
        };
        Ok(((self.tool.prepare)(&mut arguments)?, handle))
    }
}

/// What an era adds to a call.
pub(super) trait Front {
    fn exchange(&self) -> Exchange<'_>;

    /// Checks that come before the arguments are read.
    fn admit(&self, call: &ToolCall<'_>) -> Result<(), Failure>;

    /// The client's answers to the questions of an earlier attempt at this call.
    fn inputs(&self, call: &ToolCall<'_>, params: &Params<'_>) -> Result<Inputs, Failure>;

    /// Whether bad arguments are a result of the tool or a failure of the request.
    fn misfit(&self, bad: BadArguments) -> Result<ToolResult, Failure>;

    /// The connection's session, in the era that has one. What it knows of the client is written to `client`. If `asked` is
    /// not needed, the commit that follows may be the first to ask the store.
    async fn own_session(
        &mut self,
        client: &mut ClientFacts,
        asked: bool,
    ) -> Result<Option<Record>, Failure>;

    /// The stream for what is sent before the answer; `None` if the answer is one document.
    fn stream(&self, tool: &Tool, prepared: &Prepared) -> Result<Option<Arc<EventLog>>, Failure>;
}

/// A call that is ready to run.
pub(super) struct Call<'a> {
    pub(super) call: ToolCall<'a>,
    pub(super) prepared: Prepared,
    pub(super) context: CallContext,
}

/// Makes a call ready to run.
pub(super) async fn begin<'a>(
    front: &mut impl Front,
    params: &'a Params<'_>,
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
    // An operation commits at once, and the commit finds out whether the session lives.
    let asked = !matches!(prepared, Prepared::Now(Step::Operate(_)));
    let mut session = front.own_session(&mut client, asked || handle.is_some()).await?;
    let mut by_connection = true;
    if let Some(handle) = handle {
        match by_handle(&front.exchange(), &handle, asked).await? {
            Ok(other) => {
                front.exchange().record().set_session(other.head.reference);
                (session, by_connection) = (Some(other), false);
            }
            Err(result) => prepared = answered(result),
        }
    }
    let stream = front.stream(call.tool, &prepared)?;
    let exchange = front.exchange();
    let (instance, inbound) = (Arc::clone(exchange.instance()), Arc::clone(exchange.inbound));
    let context = CallContext { instance, session, by_connection, inbound, client, stream };
    Ok(Call { call, prepared, context })
}

/// A call whose result is known before it runs.
fn answered(result: ToolResult) -> Prepared {
    Prepared::now(move |_| result)
}

/// The session of a handle, or a tool result that says why there is none.
async fn by_handle(
    exchange: &Exchange<'_>,
    handle: &str,
    asked: bool,
) -> Result<Result<Record, ToolResult>, Failure> {
    let (sessions, caller) = (exchange.sessions(), exchange.inbound.caller);
    let found = match asked {
        true => sessions.load(handle, caller, Want::Nothing).await,
        false => sessions.find(handle, caller).await,
    };
    match found {
        Ok(session) => Ok(Ok(session)),
        Err(NotLoaded::Gone(gone)) => {
            Ok(Err(no_handle(exchange.instance(), exchange.record(), handle, gone)))
        }
        Err(NotLoaded::Unavailable) => Err(Unavailable.into()),
    }
}

/// What a call is told whose handle stands for no session.
fn no_handle(instance: &Instance, record: &RequestRecord, handle: &str, gone: Gone) -> ToolResult {
    let happened = no_session(instance, record, handle, gone).what_happened();
    ToolResult::error(format!("{happened}; create_session returns a new handle"))
}

/// Lets an era turn an outcome into a result before the call is counted.
pub(super) type Settle = fn(Outcome<ToolResult>, &CallContext) -> Outcome<ToolResult>;

/// Runs a tool and counts the call. A server that stops waits for it only so long.
pub(super) async fn run(
    tool: &Tool,
    context: &Arc<CallContext>,
    prepared: Prepared,
    settle: Settle,
) -> Outcome<ToolResult> {
    tokio::select! {
        outcome = run_to_its_end(tool, context, prepared, settle) => outcome,
        () = context.instance.process.lifecycle.cutting().cancelled() => {
            Outcome::Failed(Failure::CutOff)
        }
    }
}

async fn run_to_its_end(
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

/// Runs a tool that has nothing to wait for, and counts the call.
pub(super) async fn step(
    tool: &Tool,
    context: &CallContext,
    step: Step,
    settle: Settle,
) -> Outcome<ToolResult> {
    match step {
        Step::Look(look) => count(tool, context, settle(look(context), context)).await,
        Step::Operate(operation) => match &context.session {
            Some(session) => operate(tool, context, session, operation).await,
            None if operation.begins_session() => {
                Box::pin(operate_anew(tool, context, operation)).await
            }
            None => operation.answer(context, None).into(),
        },
    }
}

/// Operates on a session that the call begins, and that does not outlive its failure: nobody would know the handle.
async fn operate_anew(
    tool: &Tool,
    context: &CallContext,
    operation: Box<dyn Operation>,
) -> Outcome<ToolResult> {
    let session = match context.begin_session(Handshake::implicit(None)).await {
        Ok(session) => session,
        Err(outcome) => return outcome,
    };
    context.inbound.record.set_session(session.head.reference);
    let outcome = operate(tool, context, &session, operation).await;
    let told = matches!(&outcome, Outcome::Done(result) if !result.is_error);
    if !told {
        let ended = context.instance.state.sessions.end(session.head.id, EndReason::Client).await;
        return ended.map_or_else(|error| Outcome::Failed(error.into()), |_| outcome);
    }
    outcome
}

/// Counts a call that is done.
pub(super) async fn count(
    tool: &Tool,
    context: &CallContext,
    outcome: Outcome<ToolResult>,
) -> Outcome<ToolResult> {
    if let (Outcome::Done(_), true, Some(session)) = (&outcome, tool.counted, &context.session)
        && let Err(Unavailable) = commit_if_live(&context.instance, session, Change::COUNT).await
    {
        return Outcome::Failed(Unavailable.into());
    }
    outcome
}

/// Makes a change, counts the call with it, and answers from the session's record afterwards.
async fn operate(
    tool: &Tool,
    context: &CallContext,
    session: &Record,
    operation: Box<dyn Operation>,
) -> Outcome<ToolResult> {
    let change = Change { count: tool.counted, ..operation.change() };
    match commit(&context.instance, session, change).await {
        Ok(after) => operation.answer(context, Some(&after)).into(),
        Err(NotCommitted::Quota(exceeded)) => {
            let result = ToolResult::error(exceeded.to_string());
            count(tool, context, result.into()).await
        }
        Err(NotCommitted::Gone(gone)) => {
            let id = session.head.id.to_string();
            let (instance, record) = (&context.instance, &context.inbound.record);
            match (session.asked, context.by_connection) {
                // It had ended before the call.
                (false, true) => {
                    Outcome::Failed(Failure::NoSession(no_session(instance, record, &id, gone)))
                }
                (false, false) => no_handle(instance, record, &id, gone).into(),
                (true, _) => {
                    let happened = no_session(instance, record, &id, gone).what_happened();
                    ToolResult::error(format!("{happened}, while the call was under way")).into()
                }
            }
        }
        Err(NotCommitted::NoRoom) => Outcome::Failed(NoRoom.into()),
        Err(NotCommitted::Unavailable) => Outcome::Failed(Unavailable.into()),
    }
}

async fn commit(
    instance: &Instance,
    session: &Record,
    change: Change<'_>,
) -> Result<Record, NotCommitted> {
    let quota = &instance.policy.config.session;
    instance.state.sessions.commit(session, change, quota).await
}

/// Makes a change that does not matter any more if the session has ended meanwhile.
pub(super) async fn commit_if_live(
    instance: &Instance,
    session: &Record,
    change: Change<'_>,
) -> Result<(), Unavailable> {
    match commit(instance, session, change).await {
        // Neither the count of a call nor a handshake takes room.
        Ok(_) | Err(NotCommitted::Gone(_) | NotCommitted::Quota(_) | NotCommitted::NoRoom) => {
            Ok(())
        }
        Err(NotCommitted::Unavailable) => Err(Unavailable),
    }
}

/// The message that answers a call; `None` if the call is cancelled first, since a cancelled request gets no response.
pub(super) async fn unless_cancelled(
    work: impl Future<Output = Bytes>,
    cancelled: CancellationToken,
    record: &RequestRecord,
) -> Option<Bytes> {
    tokio::select! {
        message = work => Some(message),
        () = cancelled.cancelled() => {
            record.set_outcome(RequestOutcome::Cancelled);
            None
        }
    }
}

/// Runs a call in a task of its own, and ends its stream with the answer, even if the tool panics.
pub(super) fn answer_on_stream(
    exchange: &Exchange<'_>,
    log: Arc<EventLog>,
    id: OwnedId,
    work: impl Future<Output = Option<Bytes>> + Send + 'static,
) {
    let (endpoint, inbound) = (Arc::clone(exchange.endpoint), Arc::clone(exchange.inbound));
    let (forms, era) = (exchange.forms, exchange.era);
    exchange.instance().process.lifecycle.spawn(async move {
        let message = outcome_of(work).await.unwrap_or_else(|| {
            inbound.record.set_outcome(RequestOutcome::Internal);
            Some(Failure::Internal.to_message(Some(id.get()), era))
        });
        let message = message.map(|message| {
            let exchange = Exchange { endpoint: &endpoint, inbound: &inbound, forms, era };
            exchange.room_for(&message).map_or_else(
                |failure| refuse_in_band(&inbound.record, &failure, id.get(), era),
                |()| message,
            )
        });
        log.conclude(message.as_deref()).await;
    });
}
