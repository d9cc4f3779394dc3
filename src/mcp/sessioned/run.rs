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
    call::{
        self, Arrival, AtOnce, CallContext, ClientFacts, InputRequest, Inputs, Outcome, Prepared,
        Questions,
    },
    instance::Instance,
    mcp::{
        dispatch::ToolCall,
        failure::Failure,
        jsonrpc::{self, OwnedId},
        model::ToolResult,
        stream::EventLog,
    },
    session::Session,
};

/// A call and all that it needs, so that it can be made again when the client has answered.
pub(super) struct Run {
    pub(super) instance: Arc<Instance>,
    pub(super) arrival: Arc<Arrival>,
    /// The session of the connection, which is asked.
    pub(super) own: Arc<Session>,
    /// The session that is worked on.
    pub(super) session: Arc<Session>,
    pub(super) client: ClientFacts,
    pub(super) stream: Option<Arc<EventLog>>,
    pub(super) call: ToolCall,
    pub(super) id: OwnedId,
    /// Whether the revision has audio content.
    pub(super) audio: bool,
}

impl Run {
    fn context(&self) -> CallContext {
        CallContext::new(
            Arc::clone(&self.instance),
            Some(Arc::clone(&self.session)),
            Arc::clone(&self.arrival),
            self.client.clone(),
            self.stream.clone(),
        )
    }

    /// A call that needs neither time nor a stream.
    pub(super) fn at_once(&self, run: AtOnce) -> Bytes {
        let context = self.context();
        let outcome = run(&context);
        self.finish(&context, outcome)
    }

    /// A call that may take time, and ask its client on the way.
    pub(super) async fn complete(self, mut prepared: Prepared) -> Bytes {
        loop {
            let context = Arc::new(self.context());
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
                Outcome::NeedInput { requests, state } if self.stream.is_some() => {
                    (requests, state)
                }
                outcome => return self.finish(&context, outcome),
            };
            if let Some(required) = call::missing(&requests, self.client.capabilities) {
                return self.finish(&context, Outcome::Missing(required));
            }
            let inputs = match self.ask(requests).await {
                Ok(responses) => Inputs { responses, state },
                Err(result) => return self.finish(&context, Outcome::Done(result)),
            };
            prepared = match self.call.prepare(&self.instance, &inputs) {
                Ok(ready) => ready.prepared,
                Err(bad) => {
                    return self
                        .finish(&context, Outcome::Done(ToolResult::error(bad.to_string())));
                }
            };
        }
    }

    /// Puts questions to the client on the call's stream and waits for all answers.
    async fn ask(&self, requests: Questions) -> Result<BTreeMap<String, Value>, ToolResult> {
        let Some(stream) = &self.stream else {
            return Err(ToolResult::error(
                "the client takes no event stream, so it cannot be asked",
            ));
        };
        let closing = self.instance.process.lifecycle.closing();
        let mut waiting = Vec::with_capacity(requests.len());
        for (key, InputRequest { kind, params }) in requests {
            let (id, answer) = self.own.ask(closing);
            stream.send(&jsonrpc::request(id, kind.method(), &params)).await;
            waiting.push(async move { (key, kind, answer.await) });
        }
        let patience = self.instance.policy.session.answer_timeout_seconds.get();
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

    fn finish(&self, context: &CallContext, outcome: Outcome<ToolResult>) -> Bytes {
        let id = self.id.get();
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
                self.arrival.record.set_outcome(failure.as_str());
                return failure.to_message(Some(id), ERA);
            }
        };
        let result = match self.audio {
            true => result,
            false => result.without_audio(),
        };
        if self.call.tool.counted {
            context.count();
        }
        self.arrival.record.set_outcome(if result.is_error { "tool_error" } else { "ok" });
        let message = jsonrpc::success_of(id, &result);
        message.unwrap_or_else(|_| Failure::Internal.to_message(Some(id), ERA))
    }
}
