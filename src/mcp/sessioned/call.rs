//! A tool call in a session.
//!
//! Owns the choice between an answer at once, one that is waited for, and a stream; and the questions to the client,
//! which are sent as requests on the call's stream. The tool is then run again with the answers, so it never waits itself.
//! Traps: a call that takes time belongs to the session and goes on when its client disconnects. Questions go to the
//! connection's session, while the call may work on the session of a handle.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{sync::oneshot::error::RecvError, time::sleep};

use super::{ERA, Sessioned, Started};
use crate::{
    failure::Failure,
    http::body::AnswerForms,
    id::SessionId,
    mcp::{
        Endpoint,
        call::{self, Call, Front, OwnedCall, ToolCall},
        dispatch::{self, invalid},
        exchange::{Exchange, refuse_in_band},
    },
    observe::{Open, RequestOutcome, RequestRecord},
    session::{Conversation, EventLog, Lease, Record, SessionStore},
    tools::{BadArguments, CallContext, ClientFacts, Outcome, Prepared, Tool},
    wire::{
        Feature, Id, InputKind, InputRequest, Inputs, OwnedId, Params, Questions, ToolResult,
        inputs, jsonrpc,
    },
};

impl Front for Sessioned<'_> {
    fn exchange(&self) -> Exchange<'_> {
        self.exchange
    }

    fn admit(&self, call: &ToolCall<'_>) -> Result<(), Failure> {
        match call.tool.large && !self.alone {
            false => Ok(()),
            true => invalid(format!(
                "{} must not be part of a batch; send it by itself",
                call.tool.name
            )),
        }
    }

    fn inputs(&self, _: &ToolCall<'_>, _: &Params<'_>) -> Result<Inputs, Failure> {
        Ok(Inputs::default())
    }

    fn misfit(&self, bad: BadArguments) -> Result<ToolResult, Failure> {
        match self.version.has(Feature::ArgumentErrorsAreResults) {
            true => Ok(ToolResult::error(bad.to_string())),
            false => invalid(bad.to_string()),
        }
    }

    async fn own_session(
        &mut self,
        client: &mut ClientFacts,
        asked: bool,
    ) -> Result<Option<Record>, Failure> {
        if asked {
            self.prove().await?;
        }
        let session = self.session().await?;
        client.capabilities = session.head.handshake.capabilities;
        client.log_level = Some(session.log_level);
        client.ready = session.initialized;
        Ok(Some(session.clone()))
    }

    /// A stream is needed to send anything before the answer, and for an answer that takes time and must be an event, so
    /// that the client can resume if it is disconnected.
    fn stream(&self, tool: &Tool, prepared: &Prepared) -> Result<Option<Arc<EventLog>>, Failure> {
        let waits = !matches!(prepared, Prepared::Now(_)) && self.exchange.wants_events();
        let speaks = tool.streams && self.exchange.can_stream();
        let Some(session) = self.session.as_ref().filter(|_| self.alone && (speaks || waits))
        else {
            return Ok(None);
        };
        let limit = self.exchange.policy().session.max_calls;
        let conversation = self.exchange.sessions().conversation(session.head.id);
        let log = conversation.call_stream(limit).ok_or_else(|| too_many_calls(limit))?;
        self.prime(&log);
        Ok(Some(log))
    }
}

fn too_many_calls(limit: usize) -> Failure {
    Failure::TooManyCalls { limit: limit as u64, key: "session.max_calls" }
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
        let answer = Answer {
            tool: call.call.tool,
            audio: self.version.has(Feature::Audio),
            most: self.exchange.policy().tools.max_response_bytes,
        };
        match (call.prepared, &call.context.stream) {
            (Prepared::Now(step), None) => {
                let outcome = call::step(answer.tool, &call.context, step, settle).await;
                let record = self.exchange.record();
                answer.of(id, record, outcome).map(Started::Done)
            }
            (prepared, _) => self.take_time(id, Call { prepared, ..call }, answer),
        }
    }

    /// Starts a call that takes time or sends something before its answer.
    fn take_time(&self, id: Id<'_>, call: Call<'_>, answer: Answer) -> Result<Started, Failure> {
        let Call { call, prepared, mut context } = call;
        let own = &self.session.as_ref().ok_or(Failure::Internal)?.head;
        let sessions = self.exchange.sessions();
        let conversation = sessions.conversation(own.id);
        context.client.conversation = Some(Arc::clone(&conversation));
        let stream = context.stream.clone();
        let limit = self.exchange.policy().session.max_calls;
        let begun = self.exchange.begin_call().and_then(|open| {
            let cancelled = conversation.begin_call(id, limit);
            Ok((open, cancelled.ok_or_else(|| too_many_calls(limit))?))
        });
        // A stream without a call would keep its place for nothing.
        let (open, cancelled) =
            begun.inspect_err(|_| stream.iter().for_each(|log| log.finish()))?;
        let worked_on = context.session.as_ref().map_or(own.id, |session| session.head.id);
        let id = id.to_owned();
        let run = Run {
            endpoint: Arc::clone(self.exchange.endpoint),
            forms: self.exchange.forms,
            conversation,
            context: Arc::new(context),
            call: call.to_owned(self.exchange.inbound),
            id: id.clone(),
            answer,
            rich_forms: self.version.has(Feature::RichForms),
            own: own.id,
            _leases: [own.id, worked_on].map(|id| sessions.hold(id)),
            _open: open,
        };
        let inbound = Arc::clone(self.exchange.inbound);
        let work = async move {
            call::unless_cancelled(run.complete(prepared), cancelled, &inbound.record).await
        };
        let Some(log) = stream else {
            // The body of a JSON response must not be empty, even if the call is cancelled.
            return Ok(Started::Later(Box::pin(async move {
                let message = work.await;
                message.unwrap_or_else(|| Failure::Cancelled.to_message(Some(id.get()), ERA))
            })));
        };
        call::answer_on_stream(&self.exchange, Arc::clone(&log), id, work);
        Ok(Started::Streaming(log))
    }
}

/// How the outcome of a call becomes its answer.
#[derive(Clone, Copy)]
struct Answer {
    tool: &'static Tool,
    /// Whether the revision has audio content.
    audio: bool,
    /// `tools.max_response_bytes`
    most: u64,
}

impl Answer {
    fn of(
        self,
        id: Id<'_>,
        record: &RequestRecord,
        outcome: Outcome<ToolResult>,
    ) -> Result<Bytes, Failure> {
        let result = match outcome {
            Outcome::Done(result) if self.audio => result,
            Outcome::Done(result) => result.without_audio(),
            Outcome::Failed(failure) => return Err(failure),
            // `settle` or `Run` has dealt with questions.
            Outcome::NeedInput { .. } => return Err(Failure::Internal),
        };
        let written = |result: &ToolResult| {
            jsonrpc::success_with(id, result.written() + "{}".len(), |message| {
                message.push(b'{');
                result.write_members(message);
                message.push(b'}');
            })
        };
        let (mut message, mut is_error) = (written(&result), result.is_error);
        // Few are so large that it must be looked at what makes them so.
        if message.len() as u64 > self.most {
            let result = result.within(self.most);
            (message, is_error) = (written(&result), result.is_error);
        }
        record.set_outcome(RequestOutcome::of_tool(is_error));
        Ok(message)
    }
}

/// Turns questions that this client cannot be asked into an error result. Other questions are left for [`Run`] to ask.
fn settle(outcome: Outcome<ToolResult>, context: &CallContext) -> Outcome<ToolResult> {
    let lacks = |required: Value| {
        ToolResult::error(format!(
            "the client has not declared a capability that this tool needs: {required}"
        ))
    };
    match outcome {
        Outcome::NeedInput { .. } if context.stream.is_none() => ToolResult::error(
            "this tool asks its client, and the client takes no event stream: see its Accept header",
        )
        .into(),
        Outcome::NeedInput { requests, state } => {
            match inputs::missing(&requests, context.client.capabilities) {
                Some(required) => lacks(required).into(),
                // basic/lifecycle, "Initialization".
                None if !context.client.ready => ToolResult::error(
                    "the client has not sent notifications/initialized, so it cannot be asked",
                )
                .into(),
                None => Outcome::NeedInput { requests, state },
            }
        }
        Outcome::Failed(Failure::MissingCapability(required)) => lacks(required).into(),
        other => other,
    }
}

/// A call that takes time, with all that is needed to run its tool again once the client has answered. Until it is dropped
/// the client can cancel the call, and its sessions do not expire.
struct Run {
    endpoint: Arc<Endpoint>,
    forms: AnswerForms,
    /// Of the connection's session.
    conversation: Arc<Conversation>,
    context: Arc<CallContext>,
    call: OwnedCall,
    id: OwnedId,
    answer: Answer,
    rich_forms: bool,
    /// The connection's session.
    own: SessionId,
    _leases: [Lease; 2],
    _open: Open,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.conversation.end_call(self.id.get());
    }
}

/// A question to the client. One that is given up is cancelled, so that no dialog stays open (2025-11-25,
/// basic/lifecycle, "Timeouts"): whatever ends the call drops it, so this holds for every end.
struct Question<'a> {
    id: u64,
    conversation: &'a Conversation,
    stream: &'a EventLog,
    /// Where the response may be taken too, and for which session.
    sessions: (&'a SessionStore, SessionId),
    /// Why it is given up, if it is.
    reason: &'a OnceLock<&'static str>,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let (sessions, session) = self.sessions;
        sessions.withdraw(session, self.id);
        if self.conversation.give_up(self.id) {
            let reason = self.reason.get().copied().unwrap_or("its call has ended");
            let params = json!({ "requestId": self.id, "reason": reason });
            self.stream.push(&jsonrpc::notification("notifications/cancelled", &params));
        }
    }
}

/// A question's key, the question, and its answer: `None` for an error.
type Answered = (&'static str, InputRequest, Result<Option<Value>, RecvError>);

impl Run {
    /// Runs the tool, asking the client as often as it has questions, and returns the message that answers the call.
    async fn complete(self, prepared: Prepared) -> Bytes {
        let outcome = self.outcome(prepared).await;
        let (id, record) = (self.id.get(), &self.context.inbound.record);
        self.answer
            .of(id, record, outcome)
            .unwrap_or_else(|failure| refuse_in_band(record, &failure, id, ERA))
    }

    async fn outcome(&self, mut prepared: Prepared) -> Outcome<ToolResult> {
        let tool = self.answer.tool;
        let failed = async |text: String| {
            call::count(tool, &self.context, ToolResult::error(text).into()).await
        };
        loop {
            if let Prepared::Task { required: true, .. } = prepared {
                let text =
                    "this tool runs as a task, which only revision 2026-07-28 and later have";
                return failed(text.to_owned()).await;
            }
            let (requests, state) = match call::run(tool, &self.context, prepared, settle).await {
                Outcome::NeedInput { requests, state } => (requests, state),
                outcome => return outcome,
            };
            let inputs = match self.ask(requests).await {
                Ok(responses) => Inputs { responses, state },
                Err(problem) => return failed(problem).await,
            };
            let (endpoint, inbound) = (&self.endpoint, &self.context.inbound);
            let exchange = Exchange { endpoint, inbound, forms: self.forms, era: ERA };
            prepared = match self.call.get().prepare(&exchange, &inputs) {
                Ok((prepared, _)) => prepared,
                Err(bad) => return failed(bad.to_string()).await,
            };
        }
    }

    /// Sends questions to the client on the call's stream, and waits for all answers.
    async fn ask(&self, requests: Questions) -> Result<BTreeMap<String, Value>, String> {
        let Some(stream) = &self.context.stream else {
            return Err("the client takes no event stream, so it cannot be asked".to_owned());
        };
        let instance = &self.context.instance;
        let sessions = &instance.state.sessions;
        let patience = instance.policy.config.session.answer_timeout_seconds.get();
        let reason = OnceLock::new();
        let mut waiting = Vec::with_capacity(requests.len());
        for (key, InputRequest { kind, mut params }) in requests {
            match kind {
                InputKind::Form if !self.rich_forms => params = inputs::plain_form(params),
                InputKind::Url => {
                    let unique = inputs::elicitation_id();
                    params["elicitationId"] =
                        unique.map_err(|_| "there is no randomness to ask by".to_owned())?.into();
                }
                InputKind::Form | InputKind::Sampling | InputKind::Roots => {}
            }
            let (id, answer) = self.conversation.ask();
            let (conversation, of) = (&*self.conversation, (sessions, self.own));
            let question = Question { id, conversation, stream, sessions: of, reason: &reason };
            let expected = sessions.expect_answer(self.own, id, patience).await;
            expected.map_err(|unavailable| format!("the client was not asked: {unavailable}"))?;
            stream.send(&jsonrpc::request(id, kind.method(), &params)).await;
            let asked = InputRequest { kind, params };
            waiting.push(async move {
                let _given_up_when_dropped = question;
                (key, asked, answer.await)
            });
        }
        let mut waiting = pin!(join_all(waiting));
        let answers = tokio::select! {
            answers = &mut waiting => answers,
            () = sleep(patience) => {
                let _ = reason.set("there was no answer in time");
                let seconds = patience.as_secs_f64();
                return Err(format!(
                    "the client did not answer within {seconds} seconds (session.answer_timeout_seconds)"
                ));
            }
            () = self.conversation.closed().cancelled() => {
                let _ = reason.set("the session has ended");
                return Err("the session ended before the client answered".to_owned());
            }
        };
        responses(answers)
    }
}

/// What the client has answered, if all of it fits what it was asked.
fn responses(answers: Vec<Answered>) -> Result<BTreeMap<String, Value>, String> {
    let mut responses = BTreeMap::new();
    for (key, asked, answer) in answers {
        let method = asked.kind.method();
        match answer {
            Ok(Some(answer)) if answer.is_object() => {
                asked.check(&answer).map_err(|problem| {
                    format!("the client's answer to {method} does not fit: {problem}")
                })?;
                responses.insert(key.to_owned(), answer);
            }
            _ => return Err(format!("the client answered {method} with an error")),
        }
    }
    Ok(responses)
}
