//! A tool call in a session: what this era makes of the one way of a call.
//!
//! Owns the choice between an answer at once, one that is waited for, and a stream; and what a call that takes time keeps.
//! Trap: such a call belongs to the session, not to the request, so it goes on when its client has gone away.

use std::sync::Arc;

use super::{
    ERA, Sessioned, Started,
    run::{Answer, Run, settle},
};
use crate::{
    failure::Failure,
    lifecycle::outcome_of,
    mcp::{
        call::{self, Call, Front, ToolCall},
        dispatch,
        exchange::Exchange,
    },
    observe::outcome::RequestOutcome,
    session::{conversation::Conversation, record::Record, store::Lease, stream::EventLog},
    tools::{
        Tool,
        arguments::BadArguments,
        call::{ClientFacts, Prepared},
    },
    wire::{
        inputs::Inputs,
        jsonrpc::{Id, OwnedId},
        model::ToolResult,
        params::Params,
        version::Feature,
    },
};

/// What a call that takes time keeps: the connection's session and the one that is worked on, awake; and its name in the
/// first, to be cancelled by.
struct UnderWay {
    conversation: Arc<Conversation>,
    id: OwnedId,
    _leases: [Lease; 2],
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.conversation.end_call(self.id.get());
    }
}

impl Front for Sessioned<'_> {
    fn exchange(&self) -> Exchange<'_> {
        self.exchange
    }

    fn admit(&self, call: &ToolCall<'_>) -> Result<(), Failure> {
        match call.tool.large && !self.alone {
            false => Ok(()),
            true => Err(Failure::InvalidParams(format!(
                "{} must not be part of a batch; send it by itself",
                call.tool.name
            ))),
        }
    }

    fn inputs(&self, _: &ToolCall<'_>, _: &Params<'_>) -> Result<Inputs, Failure> {
        Ok(Inputs::default())
    }

    fn misfit(&self, bad: BadArguments) -> Result<ToolResult, Failure> {
        match self.version.has(Feature::ArgumentErrorsAreResults) {
            true => Ok(ToolResult::error(bad.to_string())),
            false => Err(Failure::InvalidParams(bad.to_string())),
        }
    }

    async fn own_session(&mut self, client: &mut ClientFacts) -> Result<Option<Record>, Failure> {
        let session = self.session().await?;
        client.capabilities = session.head.handshake.capabilities;
        client.log_level = Some(session.log_level);
        Ok(Some(session.clone()))
    }

    /// Whatever is said before the answer needs a stream; and so does an answer that takes its time and must be an event,
    /// so that it can be waited for, and resumed.
    fn stream(&self, tool: &Tool, prepared: &Prepared) -> Option<Arc<EventLog>> {
        let waits = !matches!(prepared, Prepared::Now(_)) && self.exchange.wants_events();
        let speaks = tool.streams && self.exchange.can_stream();
        let session = self.session.as_ref().filter(|_| self.alone && (speaks || waits))?;
        let sessions = &self.exchange.instance().state.sessions;
        let log = sessions.conversation(session.head.id).call_stream();
        if self.version.has(Feature::PrimingEvent) {
            log.prime(self.exchange.policy().stream.retry_seconds.get());
        }
        Some(log)
    }
}

impl Sessioned<'_> {
    pub(super) async fn call(
        &mut self,
        id: Id<'_>,
        params: &Params<'_>,
    ) -> Result<Started, Failure> {
        let meta = params.meta().map_err(|bad| Failure::InvalidParams(bad.to_string()))?;
        let client = ClientFacts {
            progress_token: dispatch::progress_token(meta)?,
            meta: params.raw_meta().map(|raw| raw.get().into()),
            progress_messages: self.version.has(Feature::ProgressMessages),
            ..ClientFacts::default()
        };
        let call = call::begin(self, params, client).await?;
        let answer = Answer { tool: call.call.tool, audio: self.version.has(Feature::Audio) };
        match (call.prepared, &call.context.stream) {
            (Prepared::Now(step), None) => {
                let outcome = call::step(answer.tool, &call.context, step, settle).await;
                let record = self.exchange.record();
                answer.of(id, record, outcome).map(Started::Done)
            }
            (prepared, _) => self.take_time(id, Call { prepared, ..call }, answer),
        }
    }

    /// A call that takes time or speaks before it answers.
    fn take_time(&self, id: Id<'_>, call: Call<'_>, answer: Answer) -> Result<Started, Failure> {
        let Call { call, prepared, context } = call;
        let own = &self.session.as_ref().ok_or(Failure::Internal)?.head;
        let instance = self.exchange.instance();
        let sessions = &instance.state.sessions;
        let conversation = sessions.conversation(own.id);
        let cancelled = conversation.begin_call(id);
        let worked_on = context.session.as_ref().map_or(own.id, |session| session.head.id);
        let under_way = UnderWay {
            conversation: Arc::clone(&conversation),
            id: id.to_owned(),
            _leases: [own.id, worked_on].map(|id| sessions.hold(id)),
        };
        let stream = context.stream.clone();
        let run = Run {
            endpoint: Arc::clone(self.exchange.endpoint),
            forms: self.exchange.forms,
            conversation,
            context: Arc::new(context),
            call: call.to_owned(),
            id: id.to_owned(),
            answer,
        };
        let (id, record) = (id.to_owned(), Arc::clone(&self.exchange.inbound.record));
        let noted = Arc::clone(&record);
        // `None` if the client takes its request back: then there is to be no response.
        let work = async move {
            let _under_way = under_way;
            tokio::select! {
                message = run.complete(prepared) => Some(message),
                () = cancelled.cancelled() => {
                    record.set_outcome(RequestOutcome::Cancelled);
                    None
                }
            }
        };
        let Some(log) = stream else {
            // A JSON answer must have a body, though.
            return Ok(Started::Later(Box::pin(async move {
                let message = work.await;
                message.unwrap_or_else(|| Failure::Cancelled.to_message(Some(id.get()), ERA))
            })));
        };
        let writer = Arc::clone(&log);
        instance.process.lifecycle.spawn(async move {
            let message = outcome_of(work).await.unwrap_or_else(|| {
                noted.set_outcome(RequestOutcome::Internal);
                Some(Failure::Internal.to_message(Some(id.get()), ERA))
            });
            if let Some(message) = message {
                writer.send(&message).await;
            }
            writer.finish();
        });
        Ok(Started::Streaming(log))
    }
}
