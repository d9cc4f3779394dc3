//! Revisions 2024-11-05 to 2025-11-25 on Streamable HTTP.
//!
//! Owns what a POST, a GET and a DELETE are in a session: messages and batches here, the session itself in `session`,
//! requests in `request`, calls in `call` and `run`, streams in `listen`. A client that goes away has not cancelled: work
//! that takes time belongs to the session and goes on (2025-11-25, basic/transports).
//! Trap: an unknown id is never answered by making a session; only the absence of an id is.

mod call;
mod listen;
mod request;
mod run;
mod session;

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http::StatusCode;

pub(super) use self::{listen::listen, session::terminate};
use super::{
    dispatch::read,
    exchange::{Exchange, refuse},
    reply::Reply,
};
use crate::{
    failure::Failure,
    observe::record::RpcMethod,
    session::{record::Record, stream::EventLog},
    wire::{
        json::Raw,
        jsonrpc::{self, EnvelopeError, Id, Message},
        model::CancelledParams,
        version::{Era, Feature, Method, Notification, ProtocolVersion},
    },
};

const ERA: Era = Era::Sessioned;

/// A request and the session it belongs to, once there is one.
pub(super) struct Sessioned<'a> {
    exchange: Exchange<'a>,
    /// Whether the request is the whole POST: the parts of a batch cannot each be a stream.
    alone: bool,
    session: Option<Record>,
    version: ProtocolVersion,
}

/// A request that has been let through.
enum Started {
    Done(Bytes),
    Later(BoxFuture<'static, Bytes>),
    Streaming(Arc<EventLog>),
}

impl<'a> Sessioned<'a> {
    pub(super) fn new(exchange: Exchange<'a>) -> Self {
        exchange.record().set_era(ERA);
        Self { exchange, alone: true, session: None, version: ProtocolVersion::UNNAMED }
    }

    /// Answers a POST of one message.
    pub(super) async fn one(mut self, message: Message<'_>) -> Response {
        let id = message.id();
        let result = self.message(message).await;
        self.respond(result, id)
    }

    /// Answers a POST of an array of messages, which only 2025-03-26 has.
    pub(super) async fn batch(
        mut self,
        messages: Vec<Result<Message<'_>, EnvelopeError<'_>>>,
    ) -> Response {
        let result = self.messages(messages).await;
        self.respond(result, None)
    }

    fn respond(&self, result: Result<Reply, Failure>, id: Option<Id<'_>>) -> Response {
        match result {
            Ok(reply) => reply.into_response(self.session.as_ref().map(|session| session.head.id)),
            Err(failure) => refuse(self.exchange.record(), failure, id, ERA),
        }
    }

    async fn message(&mut self, message: Message<'_>) -> Result<Reply, Failure> {
        match message {
            Message::Request { id, method, params } => {
                let started = match self.request(id, &method, &params).await {
                    // In-band: the exchange itself went well.
                    Err(failure) if failure.status(ERA) == StatusCode::OK => {
                        self.exchange.record().set_outcome(failure.outcome());
                        Started::Done(failure.to_message(Some(id), ERA))
                    }
                    other => other?,
                };
                Ok(match started {
                    Started::Done(message) => self.exchange.whole(message),
                    Started::Later(work) => Reply::Json(self.detach(work).await?),
                    Started::Streaming(log) => self.exchange.follow(log, ()),
                })
            }
            Message::Notification { method, params } => {
                self.open().await?;
                self.require_session_or_implicit()?;
                self.notice(&method, params.raw).await?;
                Ok(Reply::Accepted)
            }
            Message::Response { id, result } => {
                self.open().await?;
                self.require_session_or_implicit()?;
                self.answer(id, result);
                Ok(Reply::Accepted)
            }
        }
    }

    async fn messages(
        &mut self,
        messages: Vec<Result<Message<'_>, EnvelopeError<'_>>>,
    ) -> Result<Reply, Failure> {
        self.exchange.record().set_method(RpcMethod::Batch);
        self.alone = false;
        self.open().await?;
        if !self.version.has(Feature::Batches) {
            let problem = format!(
                "revision {} has no JSON-RPC batches; send one message a POST",
                self.version
            );
            return Err(Failure::NotAMessage(problem.into()));
        }
        let mut answers: Vec<BoxFuture<'static, Bytes>> = Vec::new();
        let mut bytes = 0;
        for message in messages {
            match message {
                Ok(Message::Request { id, method, params }) => {
                    let started = match self.admit_part(&method, bytes) {
                        Ok(()) => self.opened_request(id, &method, &params).await,
                        Err(failure) => Err(failure),
                    };
                    answers.push(match started {
                        Ok(Started::Later(work)) => work,
                        Ok(Started::Done(message)) => {
                            bytes += message.len() as u64;
                            ready(message)
                        }
                        Ok(Started::Streaming(_)) => {
                            ready(Failure::Internal.to_message(Some(id), ERA))
                        }
                        Err(failure) => ready(failure.to_message(Some(id), ERA)),
                    });
                }
                Ok(Message::Notification { method, params }) => {
                    self.notice(&method, params.raw).await?;
                }
                Ok(Message::Response { id, result }) => self.answer(id, result),
                Err(error) => {
                    let id = error.id();
                    answers.push(ready(Failure::from(error.clone()).to_message(id, ERA)));
                }
            }
        }
        if answers.is_empty() {
            self.require_session_or_implicit()?;
            return Ok(Reply::Accepted);
        }
        let array = self.detach(Box::pin(array_of(answers))).await?;
        Ok(self.exchange.whole(array))
    }

    /// What may be part of a batch whose answers have so many bytes already: a hundred small requests must not make one
    /// answer of any size.
    fn admit_part(&self, method: &str, bytes: u64) -> Result<(), Failure> {
        if method == Method::Initialize.as_str() {
            return Err(Failure::NotAMessage("initialize must not be part of a batch".into()));
        }
        let most = self.exchange.policy().tools.max_response_bytes;
        match bytes > most {
            false => Ok(()),
            true => Err(Failure::InvalidParams(format!(
                "the answers of this batch have more than {most} bytes already (tools.max_response_bytes); send this by itself"
            ))),
        }
    }

    async fn notice(&mut self, method: &str, params: Option<Raw<'_>>) -> Result<(), Failure> {
        self.exchange.record().set_method(RpcMethod::Notification);
        match Notification::parse(method) {
            Some(Notification::Initialized) => self.set_initialized().await,
            Some(Notification::Cancelled) => {
                // Malformed or late: the specification asks to ignore it.
                if let Ok(Some(CancelledParams { request_id })) = read(params)
                    && let Some(id) = Id::parse(request_id.get())
                    && let Some(conversation) = self.conversation_if_any()
                {
                    conversation.cancel_call(id);
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A client's answer to a question of ours; to nothing, it is ignored.
    fn answer(&self, id: Id<'_>, result: Option<Raw<'_>>) {
        self.exchange.record().set_method(RpcMethod::Response);
        if let (Some(conversation), Some(id)) = (self.conversation_if_any(), id.as_number()) {
            conversation.answer(id, result.and_then(|raw| serde_json::from_str(raw.get()).ok()));
        }
    }

    /// Runs work to its end although its client may go away, and waits for it.
    async fn detach(&self, work: BoxFuture<'static, Bytes>) -> Result<Bytes, Failure> {
        let task = self.exchange.instance().process.lifecycle.spawn(work);
        task.await.map_err(|_| Failure::Internal)
    }
}

async fn array_of(answers: Vec<BoxFuture<'static, Bytes>>) -> Bytes {
    let messages = join_all(answers).await;
    let mut array = Vec::with_capacity(messages.iter().map(|m| m.len() + 1).sum::<usize>() + 1);
    for message in &messages {
        array.push(if array.is_empty() { b'[' } else { b',' });
        array.extend_from_slice(message);
    }
    array.push(b']');
    array.into()
}

fn done(id: Id<'_>, result: &[u8]) -> Started {
    Started::Done(jsonrpc::success(id, result))
}

fn ready(message: Bytes) -> BoxFuture<'static, Bytes> {
    Box::pin(std::future::ready(message))
}
