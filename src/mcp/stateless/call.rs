//! A tool call without a connection's session.
//!
//! Owns the choice between an answer at once, one that is waited for, a stream and a task.
//! Trap: a call that takes time belongs to its response, and is dropped with it when the client disconnects.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{ERA, Stateless, metadata};
use crate::{
    failure::Failure,
    mcp::{
        call::{self, Call, Front, ToolCall},
        exchange::{Exchange, Reply, refuse_in_band},
    },
    observe::RequestOutcome,
    session::{EventLog, Record},
    tools::{BadArguments, CallContext, ClientFacts, Outcome, Prepared, Tool},
    wire::{Id, Inputs, Params, ToolResult, jsonrpc},
};

impl Front for Stateless<'_> {
    fn exchange(&self) -> Exchange<'_> {
        self.exchange
    }

    fn admit(&self, call: &ToolCall<'_>) -> Result<(), Failure> {
        metadata::check_mirrored(self.exchange.inbound.head(), call)
    }

    fn inputs(&self, call: &ToolCall<'_>, params: &Params<'_>) -> Result<Inputs, Failure> {
        self.inputs(params, || self.binding_of(call))
    }

    fn misfit(&self, bad: BadArguments) -> Result<ToolResult, Failure> {
        Ok(ToolResult::error(bad.to_string()))
    }

    async fn own_session(
        &mut self,
        _: &mut ClientFacts,
        _: bool,
    ) -> Result<Option<Record>, Failure> {
        Ok(None)
    }

    fn stream(&self, tool: &Tool, _: &Prepared) -> Result<Option<Arc<EventLog>>, Failure> {
        let replay = &self.exchange.instance().state.replay;
        let streams = tool.streams && self.exchange.can_stream();
        Ok(streams.then(|| EventLog::passing(replay)))
    }
}

/// Changes nothing: in this era, questions are results and failures are errors.
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
                self.exchange.whole(self.finish(id, &call, &context, outcome)?)
            }
            Prepared::Task { run, .. } if context.client.capabilities.tasks => {
                Box::pin(self.create_task(id, call.tool, Arc::new(context), run)).await
            }
            Prepared::Task { required: true, .. } => Err(Failure::needs_tasks()),
            prepared => self.take_time(id, Call { call, prepared, context }).await,
        }
    }

    /// Runs a call that takes time or sends something before its answer.
    async fn take_time(&self, id: Id<'_>, call: Call<'_>) -> Result<Reply, Failure> {
        let Call { call, prepared, context } = call;
        let context = Arc::new(context);
        let guard = (context.hold(), self.exchange.begin_call()?);
        let Some(log) = context.stream.clone() else {
            // Dropped with the request if the client disconnects.
            let outcome = call::run(call.tool, &context, prepared, settle).await;
            drop(guard);
            return self.exchange.whole(self.finish(id, &call, &context, outcome)?);
        };
        let gone = CancellationToken::new();
        let cancelled = gone.clone();
        let (endpoint, inbound) =
            (Arc::clone(self.exchange.endpoint), Arc::clone(self.exchange.inbound));
        let (owned, call, forms) =
            (id.to_owned(), call.to_owned(self.exchange.inbound), self.exchange.forms);
        let work = async move {
            let _guard = guard;
            let (endpoint, inbound) = (&endpoint, &inbound);
            let exchange = Exchange { endpoint, inbound, forms, era: ERA };
            let request = Stateless { exchange };
            let complete = async {
                let (id, call) = (owned.get(), call.get());
                let outcome = call::run(call.tool, &context, prepared, settle).await;
                let finished = request.finish(id, &call, &context, outcome);
                finished
                    .unwrap_or_else(|failure| refuse_in_band(&inbound.record, &failure, id, ERA))
            };
            call::unless_cancelled(complete, cancelled, &inbound.record).await
        };
        call::answer_on_stream(&self.exchange, Arc::clone(&log), id.to_owned(), work);
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
                let result = result.within(self.exchange.policy().tools.max_response_bytes);
                let record = self.exchange.record();
                record.set_outcome(RequestOutcome::of_tool(result.is_error));
                let start = self.exchange.catalogue().result_start();
                let length = start.len() + result.written() + ",}".len();
                Ok(jsonrpc::success_with(id, length, |message| {
                    message.extend_from_slice(start);
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
