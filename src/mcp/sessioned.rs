//! Revisions 2024-11-05 to 2025-11-25 on Streamable HTTP.
//!
//! Owns what a POST means in a session: messages, batches and requests here, the session itself in `session`, tool calls
//! in `call`, GET streams in `listen`. A client that disconnects has not cancelled: a call that takes time belongs to the
//! session and goes on (2025-11-25, basic/transports).
//! Traps: a request without a session id begins a session, once it is known to be valid. A request with an unknown id
//! never does.

mod call;
mod listen;
mod session;

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderValue, StatusCode};
use serde_json::json;

pub(super) use self::{listen::listen, session::terminate};
use super::{
    call::answer_on_stream,
    catalogue::List,
    dispatch::{self, invalid, read, require},
    exchange::{Exchange, Reply, refuse, refuse_in_band},
};
use crate::{
    failure::Failure,
    http::answer::Answer,
    observe::{RequestOutcome, RpcMethod, shown},
    session::{Change, EventLog, Followed, MAX_SUBSCRIPTIONS, Record},
    tools::{Outcome, resources},
    wire::{
        CancelledParams, EnvelopeError, Era, Feature, Id, Inputs, LevelParams, ListParams, Message,
        Method, Notification, Params, ProtocolVersion, Raw, jsonrpc,
    },
};

const ERA: Era = Era::Sessioned;
/// As much of a reason for a cancellation goes into the log. Characters.
const MAX_REASON: usize = 100;

/// A POST and the session it belongs to, once there is one.
pub(super) struct Sessioned<'a> {
    exchange: Exchange<'a>,
    /// Whether a request is the whole POST: the requests of a batch cannot each have a stream.
    alone: bool,
    session: Option<Record>,
    /// The header that the session was found by, if one named it.
    named: Option<&'a HeaderValue>,
    version: ProtocolVersion,
}

/// What has come of a request so far.
enum Started {
    Done(Bytes),
    Later(BoxFuture<'static, Bytes>),
    Streaming(Arc<EventLog>),
}

impl<'a> Sessioned<'a> {
    pub(super) fn new(exchange: Exchange<'a>) -> Self {
        exchange.record().set_era(ERA);
        let version = ProtocolVersion::UNNAMED;
        Self { exchange, alone: true, session: None, named: None, version }
    }

    /// Answers a POST of one message.
    pub(super) async fn one(&mut self, message: &Message<'_>) -> Answer {
        let id = message.id();
        let result = self.message(message).await;
        self.respond(result, id)
    }

    /// Answers a POST of an array of messages, which only 2025-03-26 has.
    pub(super) async fn batch(
        &mut self,
        messages: &[Result<Message<'_>, EnvelopeError<'_>>],
    ) -> Answer {
        let result = self.messages(messages).await;
        self.respond(result, None)
    }

    fn respond(&self, result: Result<Reply, Failure>, id: Option<Id<'_>>) -> Answer {
        match result {
            Ok(reply) => {
                // What came needs neither to be written again nor an allocation.
                let id = self.session.as_ref().map(|session| match self.named {
                    Some(sent) => sent.clone(),
                    None => session.head.id.to_header(),
                });
                reply.into_response(&self.exchange, id)
            }
            Err(failure) => refuse(self.exchange.record(), failure, id, ERA),
        }
    }

    async fn message(&mut self, message: &Message<'_>) -> Result<Reply, Failure> {
        match message {
            Message::Request { id, method, params } => {
                let started = match self.request(*id, method, params).await {
                    Err(failure) if failure.status(ERA) == StatusCode::OK => {
                        Started::Done(refuse_in_band(self.exchange.record(), &failure, *id, ERA))
                    }
                    other => other?,
                };
                Ok(match started {
                    Started::Done(message) => match self.resumable() {
                        Some(log) => {
                            let work = std::future::ready(Some(message));
                            answer_on_stream(
                                &self.exchange,
                                Arc::clone(&log),
                                (*id).to_owned(),
                                work,
                            );
                            self.exchange.follow(log, ())
                        }
                        None => self.exchange.whole(message)?,
                    },
                    Started::Later(work) => {
                        let message = self.detach(work).await?;
                        // Its answer has not begun, so it can have a status of its own.
                        if self.exchange.record().facts().outcome == Some(RequestOutcome::CutOff) {
                            return Err(Failure::CutOff);
                        }
                        self.exchange.room_for(&message)?;
                        Reply::Json(message)
                    }
                    Started::Streaming(log) => self.exchange.follow(log, ()),
                })
            }
            // In a box, so that the future of a request is no larger for it.
            Message::Notification { .. } | Message::Response { .. } => {
                Box::pin(self.no_request(message)).await
            }
        }
    }

    /// A stream for an answer that is there already, if its revision wants such a one to be resumable too. Without room
    /// for one more stream the answer is given all the same.
    fn resumable(&self) -> Option<Arc<EventLog>> {
        let wanted = self.exchange.wants_events() && self.version.has(Feature::PrimingEvent);
        let session = self.session.as_ref().filter(|_| wanted)?;
        let conversation = self.exchange.sessions().conversation(session.head.id);
        let log = conversation.call_stream(self.exchange.policy().session.max_calls)?;
        self.prime(&log);
        Some(log)
    }

    /// Begins a stream as its revision wants it.
    fn prime(&self, log: &EventLog) {
        if self.version.has(Feature::PrimingEvent) {
            log.prime(self.exchange.policy().stream.retry_seconds.get());
        }
    }

    async fn no_request(&mut self, message: &Message<'_>) -> Result<Reply, Failure> {
        self.open().await?;
        self.prove().await?;
        self.require_session_or_implicit()?;
        match message {
            Message::Request { .. } => {}
            Message::Notification { method, params } => self.notice(method, params.raw).await?,
            Message::Response { id, result } => self.answer(*id, *result).await?,
        }
        Ok(Reply::Accepted)
    }

    async fn messages(
        &mut self,
        messages: &[Result<Message<'_>, EnvelopeError<'_>>],
    ) -> Result<Reply, Failure> {
        self.exchange.record().set_method(RpcMethod::Batch);
        self.alone = false;
        self.open().await?;
        self.prove().await?;
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
                    let known = Method::named(method);
                    let started = match self.admit_part(known, bytes) {
                        Ok(()) => self.opened_request(*id, method, known, params).await,
                        Err(failure) => Err(failure),
                    };
                    answers.push(match started {
                        Ok(Started::Later(work)) => work,
                        Ok(Started::Done(message)) => {
                            bytes += message.len() as u64;
                            ready(message)
                        }
                        Ok(Started::Streaming(_)) => {
                            ready(Failure::Internal.to_message(Some(*id), ERA))
                        }
                        Err(failure) => ready(failure.to_message(Some(*id), ERA)),
                    });
                }
                Ok(Message::Notification { method, params }) => {
                    self.notice(method, params.raw).await?;
                }
                Ok(Message::Response { id, result }) => {
                    Box::pin(self.answer(*id, *result)).await?;
                }
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
        self.exchange.whole(array)
    }

    /// Whether a request may be part of a batch whose answers have this many bytes so far. Without a limit, a hundred
    /// small requests could ask for an answer of any size.
    fn admit_part(&self, method: Option<Method>, bytes: u64) -> Result<(), Failure> {
        if method == Some(Method::Initialize) {
            return Err(Failure::NotAMessage("initialize must not be part of a batch".into()));
        }
        let most = self.exchange.policy().tools.max_response_bytes;
        match bytes > most {
            false => Ok(()),
            true => invalid(format!(
                "the answers of this batch have more than {most} bytes already (tools.max_response_bytes); send this by itself"
            )),
        }
    }

    async fn notice(&mut self, method: &str, params: Option<Raw<'_>>) -> Result<(), Failure> {
        self.exchange.record().set_method(RpcMethod::Notification);
        match Notification::parse(method) {
            Some(Notification::Initialized) => {
                self.commit(Change { initialized: true, ..Change::default() }).await
            }
            Some(Notification::Cancelled) => {
                // The specification asks to ignore a cancellation that is malformed or late.
                let (Ok(Some(CancelledParams { request_id, reason })), Some(session)) =
                    (read(params), &self.session)
                else {
                    return Ok(());
                };
                let Some(id) = Id::parse(request_id.get()) else { return Ok(()) };
                match self.conversation_if_any() {
                    Some(conversation) if conversation.cancel_call(id) => {
                        self.tell_cancelled(reason.and_then(Raw::text));
                    }
                    Some(_) | None => {
                        self.exchange.sessions().cancel_elsewhere(session.head.id, id).await?;
                    }
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The log tells why a call was cancelled (basic/utilities/cancellation, "Implementation Notes").
    fn tell_cancelled(&self, reason: Option<Cow<'_, str>>) {
        tracing::debug!(
            instance = self.exchange.instance().id.digit(),
            session = self.session.as_ref().map(|it| it.head.reference.to_string()),
            request_id = %self.exchange.record().id,
            reason = reason.map(|reason| shown::shown(&reason, MAX_REASON)),
            "call cancelled"
        );
    }

    /// Takes the client's response to a request of ours. A response to anything else is ignored.
    async fn answer(&self, id: Id<'_>, result: Option<Raw<'_>>) -> Result<(), Failure> {
        self.exchange.record().set_method(RpcMethod::Response);
        let (Some(session), Some(id)) = (&self.session, id.as_number()) else { return Ok(()) };
        let read = || result.and_then(|raw| serde_json::from_str(raw.get()).ok());
        match self.conversation_if_any() {
            Some(conversation) if conversation.answer(id, read()) => Ok(()),
            Some(_) | None => {
                let (sessions, result) = (self.exchange.sessions(), result.map(Raw::get));
                Ok(sessions.answer_elsewhere(session.head.id, id, result).await?)
            }
        }
    }

    /// Waits for work that is not cancelled when the client disconnects.
    async fn detach(&self, work: BoxFuture<'static, Bytes>) -> Result<Bytes, Failure> {
        let task = self.exchange.instance().process.lifecycle.spawn(work);
        task.await.map_err(|_| Failure::Internal)
    }

    async fn request(
        &mut self,
        id: Id<'_>,
        name: &str,
        params: &Params<'_>,
    ) -> Result<Started, Failure> {
        let method = Method::named(name);
        self.exchange.record().set_method(method.map_or(RpcMethod::Other, RpcMethod::Known));
        if method == Some(Method::Initialize) {
            params.check()?;
            return self.initialize(id, params.raw).await;
        }
        self.open().await?;
        self.opened_request(id, name, method, params).await
    }

    /// A request after [`open`](Self::open).
    async fn opened_request(
        &mut self,
        id: Id<'_>,
        name: &str,
        method: Option<Method>,
        params: &Params<'_>,
    ) -> Result<Started, Failure> {
        self.require_session_or_implicit()?;
        params.check()?;
        let Some(method) = method.filter(|method| method.is_in(self.version)) else {
            return Err(Failure::MethodNotFound(name.to_owned()));
        };
        match method {
            Method::ToolsCall => self.call(id, params).await,
            // Boxed, so that these do not make the future of a call larger.
            _ => Box::pin(self.other_request(id, name, method, params.raw)).await,
        }
    }

    async fn other_request(
        &mut self,
        id: Id<'_>,
        name: &str,
        method: Method,
        params: Option<Raw<'_>>,
    ) -> Result<Started, Failure> {
        self.prove().await?;
        match method {
            Method::Ping => Ok(done(id, b"{}")),
            Method::ToolsList => self.list(id, List::Tools, params).await,
            Method::PromptsList => self.list(id, List::Prompts, params).await,
            Method::ResourcesList => self.list(id, List::Resources, params).await,
            Method::ResourceTemplatesList => self.list(id, List::Templates, params).await,
            Method::ResourcesRead => {
                let (instance, caller) = (self.exchange.instance(), self.exchange.inbound.caller);
                let contents = dispatch::read_resource(instance, params, caller).await?;
                self.session().await?;
                Ok(done(id, json!({ "contents": [contents] }).to_string().as_bytes()))
            }
            Method::ResourcesSubscribe => self.subscribe(id, params).await,
            Method::ResourcesUnsubscribe => {
                let uri = dispatch::uri(params)?;
                let (session, uri) = (self.session().await?.head.id, resources::canonical(&uri));
                if let Some(conversation) = self.conversation_if_any() {
                    conversation.unsubscribe(&uri);
                }
                self.exchange.sessions().unsubscribe(session, &uri).await?;
                Ok(done(id, b"{}"))
            }
            Method::PromptsGet => self.prompt(id, params).await,
            Method::Complete => {
                let own = self.session.as_ref().map(|session| session.head.id.to_string());
                let result = dispatch::complete(&self.exchange, params, own.as_deref()).await?;
                self.session().await?;
                Ok(done(id, result.to_string().as_bytes()))
            }
            Method::SetLevel => {
                let LevelParams { level } = require(params, "\"level\"")?;
                self.session().await?;
                self.commit(Change { log_level: Some(level), ..Change::default() }).await?;
                if let Some(conversation) = self.conversation_if_any() {
                    conversation.set_log_level(level);
                }
                Ok(done(id, b"{}"))
            }
            // The first two are answered before this; the others are of the stateless era.
            Method::Initialize
            | Method::ToolsCall
            | Method::Discover
            | Method::Listen
            | Method::TasksGet
            | Method::TasksUpdate
            | Method::TasksCancel => Err(Failure::MethodNotFound(name.to_owned())),
        }
    }

    async fn list(
        &mut self,
        id: Id<'_>,
        list: List,
        params: Option<Raw<'_>>,
    ) -> Result<Started, Failure> {
        let ListParams { cursor } = read(params)?.unwrap_or_default();
        let page = self.exchange.catalogue().page(list, self.version, cursor.as_deref())?;
        self.session().await?;
        Ok(done(id, page))
    }

    async fn subscribe(&mut self, id: Id<'_>, params: Option<Raw<'_>>) -> Result<Started, Failure> {
        let uri = dispatch::uri(params)?;
        let instance = self.exchange.instance();
        if !resources::may_watch(instance, &uri, self.exchange.inbound.caller).await? {
            return Err(Failure::ResourceNotFound(uri.into_owned()));
        }
        let conversation = self.conversation().await?;
        let (session, uri) = (self.session().await?.head.id, resources::canonical(&uri));
        let subscriptions = &instance.state.subscriptions;
        subscriptions.follow_lists(&conversation);
        let mut followed = subscriptions.follow(&conversation, &uri)?;
        if followed == Followed::Yes {
            followed = self.exchange.sessions().subscribe(session, &uri).await?;
            if followed != Followed::Yes {
                conversation.unsubscribe(&uri);
            }
        }
        match followed {
            Followed::Yes => Ok(done(id, b"{}")),
            Followed::TooMany => invalid(format!(
                "the session has {MAX_SUBSCRIPTIONS} subscriptions, the most it may"
            )),
            Followed::Crowded => {
                invalid("the resource has as many subscribers as it may; try again later")
            }
        }
    }

    async fn prompt(&mut self, id: Id<'_>, params: Option<Raw<'_>>) -> Result<Started, Failure> {
        let named = dispatch::prompt_params(params)?;
        match dispatch::get_prompt(self.exchange.catalogue(), &named, &Inputs::default())? {
            Outcome::Done(prompt) => {
                self.session().await?;
                let prompt = serde_json::to_vec(&prompt).map_err(|_| Failure::Internal)?;
                Ok(done(id, &prompt))
            }
            Outcome::NeedInput { .. } => invalid(
                "this prompt asks its user, which a prompt can only from revision 2026-07-28 on",
            ),
            Outcome::Failed(failure) => Err(failure),
        }
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
