//! One tool call of a sessioned revision.
//!
//! Owns the way from a prepared call to its answer: questions to the client go out as requests on the
//! call's stream, and the call is made again with the answers, so that tools need not know how they came.
//! Refuses to wait longer than `session.answer_timeout_seconds`, and to ask what the client cannot answer.
//! Trap: the session that is asked is the connection's, the one that is worked on may be a handle's.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::sleep;

use super::ERA;
use crate::{
    call::{self, CallContext, InputRequest, Inputs, Outcome, Prepared, Questions},
    mcp::{
        dispatch::OwnedCall,
        failure::Failure,
        jsonrpc::{self, Id, OwnedId},
        model::ToolResult,
    },
    session::Session,
    telemetry::outcome::RequestOutcome,
    tools::Tool,
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
    /// The session of the connection, which is asked.
    pub(super) own: Arc<Session>,
    pub(super) context: Arc<CallContext>,
    pub(super) call: OwnedCall,
    pub(super) id: OwnedId,
    pub(super) answer: Answer,
}

impl Answer {
    /// The message that answers a call.
    pub(super) fn of(
        self,
        id: Id<'_>,
        context: &CallContext,
        outcome: Outcome<ToolResult>,
    ) -> Bytes {
        let record = &context.arrival.record;
        let result = match outcome {
            Outcome::Done(result) => result,
            Outcome::NeedInput { .. } => ToolResult::error(
                "this tool asks its client, and the client takes no event stream: see its Accept header",
            ),
            Outcome::Missing(required) => ToolResult::error(format!(
                "the client has not declared a capability that this tool needs: {required}"
            )),
            Outcome::Refused { code, message } => {
                let failure = Failure::Refused { code, message };
                record.set_outcome(failure.outcome());
                return failure.to_message(Some(id), ERA);
            }
        };
        let result = match self.audio {
            true => result,
            false => result.without_audio(),
        };
        if self.tool.counted {
            context.count();
        }
        record.set_outcome(RequestOutcome::of_tool(result.is_error));
        jsonrpc::success_with(id, |message| {
            message.push(b'{');
            result.write_members(message);
            message.push(b'}');
        })
    }
}

impl Run {
    /// Makes the call, asking its client on the way where it must.
    pub(super) async fn complete(self, mut prepared: Prepared) -> Bytes {
        loop {
            // Each time anew: what was counted belongs to one making of the call.
            let context = Arc::new(self.context.again());
            let answer = |outcome| self.answer.of(self.id.get(), &context, outcome);
            let outcome = match prepared {
                Prepared::Now(run) => run(&context),
                Prepared::Later(run) => run(Arc::clone(&context)).await,
                Prepared::Task { required: true, .. } => Outcome::Done(ToolResult::error(
                    "this tool runs as a task, which only revision 2026-07-28 and later have",
                )),
                Prepared::Task { required: false, run } => {
                    run(Arc::clone(&context), call::nobody()).await
                }
            };
            let (requests, state) = match outcome {
                Outcome::NeedInput { requests, state } if context.stream.is_some() => {
                    (requests, state)
                }
                outcome => return answer(outcome),
            };
            if let Some(required) = call::missing(&requests, context.client.capabilities) {
                return answer(Outcome::Missing(required));
            }
            let inputs = match self.ask(requests).await {
                Ok(responses) => Inputs { responses, state },
                Err(result) => return answer(Outcome::Done(result)),
            };
            prepared = match self.call.get().prepare(&context.instance, &inputs) {
                Ok(ready) => ready.prepared,
                Err(bad) => return answer(Outcome::Done(ToolResult::error(bad.to_string()))),
            };
        }
    }

    /// Puts questions to the client on the call's stream and waits for all answers.
    async fn ask(&self, requests: Questions) -> Result<BTreeMap<String, Value>, ToolResult> {
        let instance = &self.context.instance;
        let Some(stream) = &self.context.stream else {
            return Err(ToolResult::error(
                "the client takes no event stream, so it cannot be asked",
            ));
        };
        let closing = instance.process.lifecycle.closing();
        let mut waiting = Vec::with_capacity(requests.len());
        for (key, InputRequest { kind, params }) in requests {
            let (id, answer) = self.own.ask(closing);
            stream.send(&jsonrpc::request(id, kind.method(), &params)).await;
            waiting.push(async move { (key, kind, answer.await) });
        }
        let patience = instance.policy.session.answer_timeout_seconds.get();
        let closed = self.own.closed(closing);
        let answers = tokio::select! {
            answers = join_all(waiting) => answers,
            () = sleep(patience) => {
                let seconds = patience.as_secs_f64();
                return Err(ToolResult::error(format!(
                    "the client did not answer within {seconds} seconds (session.answer_timeout_seconds)"
                )));
            }
            // No answer can come any more.
            () = closed.cancelled() => {
                return Err(ToolResult::error("the session ended before the client answered"));
            }
        };
        let mut responses = BTreeMap::new();
        for (key, kind, answer) in answers {
            match answer {
                Ok(Some(answer)) if answer.is_object() => responses.insert(key.to_owned(), answer),
                _ => {
                    let text = format!("the client answered {} with an error", kind.method());
                    return Err(ToolResult::error(text));
                }
            };
        }
        Ok(responses)
    }
}
