//! A tool call that stands for itself: what this era makes of the one way of a call.
//!
//! Owns the choice between an answer at once, one that is waited for, a stream and a task.
//! Trap: work that takes time belongs to the answer: it is dropped with it when the client goes away.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{ERA, Stateless, headers};
use crate::{
    failure::Failure,
    lifecycle::outcome_of,
    mcp::{
        call::{self, Call, Front, ToolCall},
        exchange::Exchange,
        reply::Reply,
    },
    observe::outcome::RequestOutcome,
    session::{record::Record, stream::EventLog},
    tools::{
        Tool,
        arguments::BadArguments,
        call::{CallContext, ClientFacts, Outcome, Prepared},
    },
    wire::{
        inputs::Inputs,
        jsonrpc::{self, Id},
        model::ToolResult,
        params::Params,
    },
};

impl Front for Stateless<'_> {
    fn exchange(&self) -> Exchange<'_> {
        self.exchange
    }

    fn admit(&self, call: &ToolCall<'_>) -> Result<(), Failure> {
        headers::check_mirrored(self.exchange.inbound.headers(), call)
    }

    fn inputs(&self, call: &ToolCall<'_>, params: &Params<'_>) -> Result<Inputs, Failure> {
        self.inputs(params, || self.binding_of(call))
    }

    fn misfit(&self, bad: BadArguments) -> Result<ToolResult, Failure> {
        Ok(ToolResult::error(bad.to_string()))
    }

    async fn own_session(&mut self, _: &mut ClientFacts) -> Result<Option<Record>, Failure> {
        Ok(None)
    }

    fn stream(&self, tool: &Tool, _: &Prepared) -> Option<Arc<EventLog>> {
        (tool.streams && self.exchange.can_stream()).then(EventLog::passing)
    }
}

/// Here nothing is settled before it is counted: questions are results, and failures errors.
pub(super) fn settle(outcome: Outcome<ToolResult>, _: &CallContext) -> Outcome<ToolResult> {
    outcome
}

impl Stateless<'_> {
    pub(super) async fn call(
        &self,
        id: Id<'_>,
        params: &Params<'_>,
        client: ClientFacts,
    ) -> Result<Reply, Failure> {
        let mut front = *self;
        let Call { call, prepared, context } = call::begin(&mut front, params, client).await?;
        match prepared {
            Prepared::Now(step) => {
                let outcome = call::step(call.tool, &context, step, settle).await;
                Ok(self.exchange.whole(self.finish(id, &call, &context, outcome)?))
            }
            Prepared::Task { run, .. } if context.client.capabilities.tasks => {
                self.create_task(id, call.tool, Arc::new(context), run)
            }
            Prepared::Task { required: true, .. } => Err(Failure::needs_tasks()),
            prepared => self.take_time(id, Call { call, prepared, context }).await,
        }
    }

    /// A call that takes time or speaks before it answers.
    async fn take_time(&self, id: Id<'_>, call: Call<'_>) -> Result<Reply, Failure> {
        let Call { call, prepared, context } = call;
        let context = Arc::new(context);
        let instance = self.exchange.instance();
        // The session, if there is one, stays awake while the call runs.
        let session = context.session.as_ref();
        let lease = session.map(|session| instance.state.sessions.hold(session.head.id));
        let Some(log) = context.stream.clone() else {
            // Dropped with the request if the client goes away.
            let outcome = call::run(call.tool, &context, prepared, settle).await;
            drop(lease);
            return Ok(self.exchange.whole(self.finish(id, &call, &context, outcome)?));
        };
        let gone = CancellationToken::new();
        let (writer, cancelled) = (Arc::clone(&log), gone.clone());
        let (endpoint, inbound) =
            (Arc::clone(self.exchange.endpoint), Arc::clone(self.exchange.inbound));
        let (id, call, forms) = (id.to_owned(), call.to_owned(), self.exchange.forms);
        instance.process.lifecycle.spawn(async move {
            let request = Stateless { exchange: Exchange::new(&endpoint, &inbound, forms, ERA) };
            let _lease = lease;
            let call = call.get();
            let work = call::run(call.tool, &context, prepared, settle);
            let outcome = tokio::select! {
                outcome = outcome_of(work) => outcome,
                () = cancelled.cancelled() => {
                    return inbound.record.set_outcome(RequestOutcome::Cancelled);
                }
            };
            let finished = match outcome {
                Some(outcome) => request.finish(id.get(), &call, &context, outcome),
                None => Err(Failure::Internal),
            };
            let message = finished.unwrap_or_else(|failure| {
                inbound.record.set_outcome(failure.outcome());
                failure.to_message(Some(id.get()), ERA)
            });
            writer.send(&message).await;
            writer.finish();
        });
        // A call ends with its reader.
        Ok(self.exchange.follow(log, gone.drop_guard()))
    }

    fn finish(
        &self,
        id: Id<'_>,
        call: &ToolCall<'_>,
        context: &CallContext,
        outcome: Outcome<ToolResult>,
    ) -> Result<Bytes, Failure> {
        match outcome {
            Outcome::Done(result) => {
                let record = self.exchange.record();
                record.set_outcome(RequestOutcome::of_tool(result.is_error));
                Ok(jsonrpc::success_with(id, |message| {
                    message.extend_from_slice(self.exchange.catalogue().result_start());
                    message.push(b',');
                    result.write_members(message);
                    message.push(b'}');
                }))
            }
            Outcome::NeedInput { requests, state } => {
                let capabilities = context.client.capabilities;
                let result = self.ask(requests, state, capabilities, &self.binding_of(call))?;
                Ok(jsonrpc::success(id, result.to_string().as_bytes()))
            }
            Outcome::Failed(failure) => Err(failure),
        }
    }
}
