//! One tool call of a sessioned revision, from prepared to answered.
//!
//! Owns the questions to the client, which go out as requests on the call's stream: the call is made again with the
//! answers, so that tools need not know how they came. Refuses to wait longer than `session.answer_timeout_seconds`, and
//! to ask what the client cannot answer.
//! Trap: the session that is asked is the connection's, the one that is worked on may be a handle's.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::sleep;

use super::ERA;
use crate::{
    failure::Failure,
    http::body::AnswerForms,
    mcp::{
        Endpoint,
        call::{self, OwnedCall},
        exchange::Exchange,
    },
    observe::{outcome::RequestOutcome, record::RequestRecord},
    session::conversation::Conversation,
    tools::{
        Tool,
        call::{CallContext, Outcome, Prepared},
    },
    wire::{
        inputs::{self, InputRequest, Inputs, Questions},
        jsonrpc::{self, Id, OwnedId},
        model::ToolResult,
    },
};

/// How the outcome of a call is told.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    pub(super) tool: &'static Tool,
    /// Whether the revision has audio content.
    pub(super) audio: bool,
}

/// A call that takes time, and all that it needs to be made again when the client has answered.
pub(super) struct Run {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) forms: AnswerForms,
    /// Of the connection's session, which is asked.
    pub(super) conversation: Arc<Conversation>,
    pub(super) context: Arc<CallContext>,
    pub(super) call: OwnedCall,
    pub(super) id: OwnedId,
    pub(super) answer: Answer,
}

/// What cannot be asked for is a result that says so; what can is left for [`Run`] to ask.
pub(super) fn settle(outcome: Outcome<ToolResult>, context: &CallContext) -> Outcome<ToolResult> {
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
                None => Outcome::NeedInput { requests, state },
            }
        }
        Outcome::Failed(Failure::MissingCapability(required)) => lacks(required).into(),
        other => other,
    }
}

impl Answer {
    /// The message that answers a call.
    pub(super) fn of(
        self,
        id: Id<'_>,
        record: &RequestRecord,
        outcome: Outcome<ToolResult>,
    ) -> Result<Bytes, Failure> {
        let result = match outcome {
            Outcome::Done(result) if self.audio => result,
            Outcome::Done(result) => result.without_audio(),
            Outcome::Failed(failure) => return Err(failure),
            // Whoever ran the call has asked, or has settled it.
            Outcome::NeedInput { .. } => return Err(Failure::Internal),
        };
        record.set_outcome(RequestOutcome::of_tool(result.is_error));
        Ok(jsonrpc::success_with(id, |message| {
            message.push(b'{');
            result.write_members(message);
            message.push(b'}');
        }))
    }
}

impl Run {
    /// Makes the call, asking its client on the way where it must; the message that answers it.
    pub(super) async fn complete(self, prepared: Prepared) -> Bytes {
        let outcome = self.outcome(prepared).await;
        let (id, record) = (self.id.get(), &self.context.inbound.record);
        self.answer.of(id, record, outcome).unwrap_or_else(|failure| {
            record.set_outcome(failure.outcome());
            failure.to_message(Some(id), ERA)
        })
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
            let exchange = Exchange::new(&self.endpoint, &self.context.inbound, self.forms, ERA);
            prepared = match self.call.get().prepare(&exchange, &inputs) {
                Ok((prepared, _)) => prepared,
                Err(bad) => return failed(bad.to_string()).await,
            };
        }
    }

    /// Puts questions to the client on the call's stream and waits for all answers.
    async fn ask(&self, requests: Questions) -> Result<BTreeMap<String, Value>, String> {
        let Some(stream) = &self.context.stream else {
            return Err("the client takes no event stream, so it cannot be asked".to_owned());
        };
        let mut waiting = Vec::with_capacity(requests.len());
        for (key, InputRequest { kind, params }) in requests {
            let (id, answer) = self.conversation.ask();
            stream.send(&jsonrpc::request(id, kind.method(), &params)).await;
            waiting.push(async move { (key, kind, answer.await) });
        }
        let session = &self.context.instance.policy.config.session;
        let patience = session.answer_timeout_seconds.get();
        let answers = tokio::select! {
            answers = join_all(waiting) => answers,
            () = sleep(patience) => {
                let seconds = patience.as_secs_f64();
                return Err(format!(
                    "the client did not answer within {seconds} seconds (session.answer_timeout_seconds)"
                ));
            }
            // No answer can come any more.
            () = self.conversation.closed().cancelled() => {
                return Err("the session ended before the client answered".to_owned());
            }
        };
        let mut responses = BTreeMap::new();
        for (key, kind, answer) in answers {
            match answer {
                Ok(Some(answer)) if answer.is_object() => responses.insert(key.to_owned(), answer),
                _ => return Err(format!("the client answered {} with an error", kind.method())),
            };
        }
        Ok(responses)
    }
}
