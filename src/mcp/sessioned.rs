//! Revisions 2024-11-05 to 2025-11-25 on Streamable HTTP.
//!
//! Owns what a session id means for a request, the handshake, batches, streams and their resumption,
//! and the end of a session; `run` owns one call. A client that goes away has not cancelled: work
//! that takes time belongs to the session and goes on (2025-11-25, basic/transports).
//! Trap: an unknown id is never answered by making a session; only the absence of an id is.

mod run;

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderName, StatusCode};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::run::{Answer, Run};
use super::{
    VERSION_HEADER,
    dispatch::{self, Ready, ToolCall, read, require},
    failure::Failure,
    json::Raw,
    jsonrpc::{self, EnvelopeError, Id, Message, OwnedId},
    model::{
        CancelledParams, Capabilities, InitializeParams, LevelParams, ListParams, Nested,
        ToolResult, UriParams,
    },
    params::Params,
    refuse,
    reply::{self, Reply, SESSION_HEADER},
    sse,
    stream::{EventLog, EventStream},
    version::{Era, Feature, Method, Notification, ProtocolVersion},
};
use crate::{
    call::{Arrival, CallContext, ClientFacts, Inputs, Outcome, Prepared},
    config::ResponseForm,
    http::{
        body::Accepted,
        once::{Once, once},
    },
    instance::Instance,
    lifecycle::outcome_of,
    metrics::StreamKind,
    resources,
    session::{Client, EndReason, Handshake, Session, SessionRef, store::Hold},
    telemetry::{outcome::RequestOutcome, record::RpcMethod},
    traffic,
};

/// `clientInfo` texts are kept as long as the session, so they are bounded. Bytes.
const MAX_CLIENT_TEXT: usize = 256;

/// Where a client says up to which event it has read a stream.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

const ERA: Era = Era::Sessioned;

/// Answers a POST of one message.
pub async fn one(
    instance: &Arc<Instance>,
    arrival: &Arc<Arrival>,
    accepted: Accepted,
    message: Message<'_>,
) -> Response {
    let id = message.id();
    let mut binding = Binding::new(instance, arrival, accepted);
    let result = binding.one(message).await;
    binding.respond(result, id)
}

/// Answers a POST of an array of messages, which only 2025-03-26 has.
pub async fn batch(
    instance: &Arc<Instance>,
    arrival: &Arc<Arrival>,
    accepted: Accepted,
    messages: Vec<Result<Message<'_>, EnvelopeError<'_>>>,
) -> Response {
    let mut binding = Binding::new(instance, arrival, accepted);
    let result = binding.batch(messages).await;
    binding.respond(result, None)
}

/// Answers a GET: a standalone stream on which the server speaks first, or one that is picked up again.
pub async fn listen(instance: &Arc<Instance>, arrival: &Arc<Arrival>) -> Result<Response, Failure> {
    let accepted = Accepted::of(arrival.headers());
    if !accepted.events {
        return Err(Failure::NotAcceptable { needed: "text/event-stream" });
    }
    let mut binding = Binding::new(instance, arrival, accepted);
    let session = binding.existing().await?;
    let limit = instance.policy.session.max_streams;
    let closing = instance.process.lifecycle.closing();
    let resumed = match binding.header(&LAST_EVENT_ID, "Last-Event-ID")? {
        None => None,
        Some(text) => {
            let known = sse::parse_id(text)
                .and_then(|(stream, number)| Some((session.stream(stream)?, number)))
                .filter(|(log, number)| log.has_sent(*number));
            let Some(known) = known else {
                let problem = format!("there is no stream to resume at event {text:?}");
                return Err(Failure::NotAMessage(problem.into()));
            };
            Some(known)
        }
    };
    let after = resumed.as_ref().map(|(_, number)| *number);
    let (log, closed) = session
        .open_stream(resumed.map(|(log, _)| log), limit, closing, &instance.replay)
        .ok_or(Failure::TooManyStreams { limit })?;
    if after.is_none() {
        if binding.version.has(Feature::PrimingEvent) {
            log.prime(instance.policy.stream.retry_seconds.get());
        }
        instance.hub.add(&session);
    }
    let hold = instance.sessions.hold(&session);
    let id = session.id;
    let keep_alive = instance.policy.stream.keep_alive_seconds.get();
    let reference = Some(session.reference);
    let open = traffic::OpenStream::begin(instance, StreamKind::Standalone, reference);
    let guard = OpenStream { session, _hold: hold, _open: open };
    let stream = EventStream::new(log, after, keep_alive, closed, guard);
    Ok(Reply::Stream(stream).into_response(Some(id)))
}

/// What an open standalone stream keeps: the session, awake; and its place in the count.
struct OpenStream {
    session: Arc<Session>,
    _hold: Hold,
    _open: traffic::OpenStream,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.session.close_stream();
    }
}

/// What a call that takes time keeps: the connection's session and the one that is worked on, awake; and
/// its name in the first, to be cancelled by.
struct UnderWay {
    session: Arc<Session>,
    id: OwnedId,
    _holds: [Hold; 2],
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.session.end_call(self.id.get());
    }
}

/// Answers a DELETE: the client no longer needs the session.
pub async fn terminate(
    instance: &Arc<Instance>,
    arrival: &Arc<Arrival>,
) -> Result<Response, Failure> {
    let mut binding = Binding::new(instance, arrival, Accepted { json: true, events: true });
    let session = binding.existing().await?;
    // Gone between the two look-ups is gone as well.
    instance.sessions.end(session.id, EndReason::Client).await;
    Ok(Reply::NoContent.into_response(None))
}

/// A request and the session it belongs to, once there is one.
struct Binding<'a> {
    instance: &'a Arc<Instance>,
    arrival: &'a Arc<Arrival>,
    accepted: Accepted,
    /// Whether the request is the whole POST: the parts of a batch cannot each be a stream.
    alone: bool,
    session: Option<Arc<Session>>,
    version: ProtocolVersion,
}

/// A request that has been let through.
enum Started {
    Done(Bytes),
    Later(BoxFuture<'static, Bytes>),
    Streaming(Arc<EventLog>),
}

impl<'a> Binding<'a> {
    fn new(instance: &'a Arc<Instance>, arrival: &'a Arc<Arrival>, accepted: Accepted) -> Self {
        arrival.record.set_era(ERA);
        Self {
            instance,
            arrival,
            accepted,
            alone: true,
            session: None,
            version: ProtocolVersion::UNNAMED,
        }
    }

    fn respond(&self, result: Result<Reply, Failure>, id: Option<Id<'_>>) -> Response {
        match result {
            Ok(reply) => reply.into_response(self.session.as_ref().map(|session| session.id)),
            Err(failure) => refuse(&self.arrival.record, failure, id, ERA),
        }
    }

    /// Finds the session that the headers name, if they name one, and the revision that is spoken.
    async fn open(&mut self) -> Result<(), Failure> {
        let served = &self.instance.policy.protocol.versions;
        let named = match self.header(&VERSION_HEADER, "MCP-Protocol-Version")? {
            None => None,
            Some(text) => match text.parse().ok().filter(|version| served.contains(version)) {
                Some(version) => Some(version),
                None => return Err(Failure::UnsupportedVersion { served: served.clone() }),
            },
        };
        self.version = named.unwrap_or(ProtocolVersion::UNNAMED);
        let Some(id) = self.header(&SESSION_HEADER, "Mcp-Session-Id")? else { return Ok(()) };
        match self.instance.sessions.find(id, self.arrival.caller).await {
            Ok(session) => {
                self.version = session.handshake.version.unwrap_or(self.version);
                self.arrival.record.set_session(session.reference);
                self.session = Some(session);
                Ok(())
            }
            Err(gone) => {
                self.arrival.record.set_session(SessionRef::of(id));
                Err(Failure::SessionGone(dispatch::misrouted(self.instance, id, gone)))
            }
        }
    }

    /// The session that GET and DELETE must name.
    async fn existing(&mut self) -> Result<Arc<Session>, Failure> {
        self.open().await?;
        self.session.clone().ok_or(Failure::SessionRequired)
    }

    /// A header that may stand once, as visible ASCII.
    fn header(&self, name: &HeaderName, shown: &'static str) -> Result<Option<&'a str>, Failure> {
        match once(self.arrival.headers(), name) {
            Once::Missing => Ok(None),
            Once::Value(value) => value.to_str().map(Some).map_err(|_| Failure::BadHeader(shown)),
            Once::Several => Err(Failure::BadHeader(shown)),
        }
    }

    /// Fails where a session is required and none was named.
    fn require_session_or_implicit(&self) -> Result<(), Failure> {
        let fine = self.session.is_some() || self.instance.policy.session.implicit;
        fine.then_some(()).ok_or(Failure::SessionRequired)
    }

    /// The session; made now if the request named none. Only for requests that are known to be valid.
    async fn session(&mut self) -> Result<Arc<Session>, Failure> {
        if let Some(session) = &self.session {
            return Ok(Arc::clone(session));
        }
        self.require_session_or_implicit()?;
        if !self.instance.policy.protocol.versions.contains(&self.version) {
            self.version = self.instance.policy.protocol.version;
        }
        self.begin(Handshake::implicit(Some(self.version))).await
    }

    async fn begin(&mut self, handshake: Handshake) -> Result<Arc<Session>, Failure> {
        let session = self.instance.sessions.create(handshake, self.arrival.caller).await?;
        self.arrival.record.set_session(session.reference);
        Ok(Arc::clone(self.session.insert(session)))
    }

    fn form(&self) -> ResponseForm {
        self.instance.policy.protocol.response
    }

    fn whole(&self, message: Bytes) -> Reply {
        Reply::whole(message, self.form(), self.accepted)
    }

    async fn one(&mut self, message: Message<'_>) -> Result<Reply, Failure> {
        match message {
            Message::Request { id, method, params } => {
                let started = match self.request(id, &method, &params).await {
                    // In-band: the exchange itself went well.
                    Err(failure) if failure.status(ERA) == StatusCode::OK => {
                        self.arrival.record.set_outcome(failure.outcome());
                        Started::Done(failure.to_message(Some(id), ERA))
                    }
                    other => other?,
                };
                Ok(match started {
                    Started::Done(message) => self.whole(message),
                    Started::Later(work) => Reply::Json(self.detach(work).await?),
                    Started::Streaming(log) => self.follow(log),
                })
            }
            Message::Notification { method, params } => {
                self.open().await?;
                self.require_session_or_implicit()?;
                self.notice(&method, params.raw);
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

    async fn batch(
        &mut self,
        messages: Vec<Result<Message<'_>, EnvelopeError<'_>>>,
    ) -> Result<Reply, Failure> {
        self.arrival.record.set_method(RpcMethod::Batch);
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
        // A hundred small requests must not make one answer of any size.
        let most = self.instance.policy.tools.max_response_bytes;
        let mut bytes = 0;
        for message in messages {
            match message {
                Ok(Message::Request { id, method, params }) => {
                    let started = match Method::parse(&method, self.version) {
                        Some(Method::Initialize) => Err(Failure::NotAMessage(
                            "initialize must not be part of a batch".into(),
                        )),
                        _ if bytes > most => Err(Failure::InvalidParams(format!(
                            "the answers of this batch have more than {most} bytes already (tools.max_response_bytes); send this by itself"
                        ))),
                        _ => self.opened_request(id, &method, &params).await,
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
                Ok(Message::Notification { method, params }) => self.notice(&method, params.raw),
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
        let work = Box::pin(async move {
            let messages = join_all(answers).await;
            let mut array =
                Vec::with_capacity(messages.iter().map(|m| m.len() + 1).sum::<usize>() + 1);
            for message in &messages {
                array.push(if array.is_empty() { b'[' } else { b',' });
                array.extend_from_slice(message);
            }
            array.push(b']');
            Bytes::from(array)
        });
        let array = self.detach(work).await?;
        Ok(self.whole(array))
    }

    async fn request(
        &mut self,
        id: Id<'_>,
        name: &str,
        params: &Params<'_>,
    ) -> Result<Started, Failure> {
        let named = Method::ALL.iter().copied().find(|method| method.as_str() == name);
        self.arrival.record.set_method(named.map_or(RpcMethod::Other, RpcMethod::Known));
        if named == Some(Method::Initialize) {
            return self.initialize(id, params.raw).await;
        }
        self.open().await?;
        self.opened_request(id, name, params).await
    }

    /// A request whose session, if it names one, has been found.
    async fn opened_request(
        &mut self,
        id: Id<'_>,
        name: &str,
        params: &Params<'_>,
    ) -> Result<Started, Failure> {
        self.require_session_or_implicit()?;
        let Some(method) = Method::parse(name, self.version) else {
            return Err(Failure::MethodNotFound(name.to_owned()));
        };
        match method {
            Method::ToolsCall => self.call(id, params).await,
            // In a box of its own, so that the future of a call is no larger for them.
            _ => Box::pin(self.other_request(id, name, method, params.raw)).await,
        }
    }

    /// Any request but a call.
    async fn other_request(
        &mut self,
        id: Id<'_>,
        name: &str,
        method: Method,
        params: Option<Raw<'_>>,
    ) -> Result<Started, Failure> {
        if let Some(list) = dispatch::list_of(method) {
            let ListParams { cursor } = read(params)?.unwrap_or_default();
            let page = self.instance.catalogue.page(list, self.version, cursor.as_deref())?;
            self.session().await?;
            return Ok(done(id, page));
        }
        let closing = self.instance.process.lifecycle.closing();
        match method {
            Method::Ping => Ok(done(id, b"{}")),
            Method::ResourcesRead => {
                let contents =
                    dispatch::read_resource(self.instance, params, self.arrival.caller).await?;
                self.session().await?;
                Ok(done(id, json!({ "contents": [contents] }).to_string().as_bytes()))
            }
            Method::ResourcesSubscribe => {
                let UriParams { uri } = require(params, "\"uri\"")?;
                if !resources::may_watch(self.instance, &uri, self.arrival.caller).await {
                    return Err(Failure::ResourceNotFound(uri.into_owned()));
                }
                let session = self.session().await?;
                if !session.subscribe(&resources::canonical(&uri), closing) {
                    let problem = "the session has as many subscriptions as it may".to_owned();
                    return Err(Failure::InvalidParams(problem));
                }
                self.instance.hub.add(&session);
                Ok(done(id, b"{}"))
            }
            Method::ResourcesUnsubscribe => {
                let UriParams { uri } = require(params, "\"uri\"")?;
                self.session().await?.unsubscribe(&resources::canonical(&uri));
                Ok(done(id, b"{}"))
            }
            Method::PromptsGet => {
                let outcome = dispatch::get_prompt(self.instance, params, &Inputs::default())?;
                match outcome {
                    Outcome::Done(prompt) => {
                        self.session().await?;
                        let prompt = serde_json::to_vec(&prompt).map_err(|_| Failure::Internal)?;
                        Ok(done(id, &prompt))
                    }
                    Outcome::NeedInput { .. } => Err(Failure::InvalidParams(
                        "this prompt asks its user, which a prompt can only from revision 2026-07-28 on"
                            .to_owned(),
                    )),
                    Outcome::Missing(required) => Err(Failure::MissingCapability(required)),
                    Outcome::Refused { code, message } => Err(Failure::Refused { code, message }),
                }
            }
            Method::Complete => {
                let own = self.session.as_ref().map(|session| session.id.to_string());
                let caller = self.arrival.caller;
                let result =
                    dispatch::complete(self.instance, params, own.as_deref(), caller).await?;
                self.session().await?;
                Ok(done(id, result.to_string().as_bytes()))
            }
            Method::SetLevel => {
                let LevelParams { level } = require(params, "\"level\"")?;
                self.session().await?.set_log_level(level, closing);
                Ok(done(id, b"{}"))
            }
            // The first two have been answered, the lists as well; the others are not of this era.
            Method::Initialize
            | Method::ToolsCall
            | Method::Discover
            | Method::ToolsList
            | Method::ResourcesList
            | Method::ResourceTemplatesList
            | Method::PromptsList
            | Method::Listen
            | Method::TasksGet
            | Method::TasksUpdate
            | Method::TasksCancel => Err(Failure::MethodNotFound(name.to_owned())),
        }
    }

    /// Always a new session, whatever id the request carries.
    async fn initialize(
        &mut self,
        id: Id<'_>,
        params: Option<Raw<'_>>,
    ) -> Result<Started, Failure> {
        let InitializeParams { protocol_version, capabilities, client_info } =
            require(params, "\"protocolVersion\"")?;
        let client = match client_info {
            None => None,
            Some(Nested(info)) if info.name.len().max(info.version.len()) > MAX_CLIENT_TEXT => {
                let problem =
                    format!("clientInfo texts must not be longer than {MAX_CLIENT_TEXT} bytes");
                return Err(Failure::InvalidParams(problem));
            }
            Some(Nested(info)) => {
                Some(Client { name: info.name.into(), version: info.version.into() })
            }
        };
        let Some(capabilities) = Capabilities::read(&capabilities.unwrap_or_else(|| json!({})))
        else {
            return Err(Failure::InvalidParams("\"capabilities\" must be an object".to_owned()));
        };
        let protocol = &self.instance.policy.protocol;
        let served =
            |version: &ProtocolVersion| version.era() == ERA && protocol.versions.contains(version);
        let wanted = protocol_version.parse().ok().filter(served);
        let version = wanted.unwrap_or(protocol.version);
        let capabilities = Capabilities {
            // What the negotiated revision does not have, its client cannot mean.
            elicitation: capabilities.elicitation && version.has(Feature::FormElicitation),
            elicitation_url: capabilities.elicitation_url && version.has(Feature::UrlElicitation),
            tasks: false,
            ..capabilities
        };
        let handshake = Handshake { client, capabilities, ..Handshake::implicit(Some(version)) };
        self.begin(handshake).await?;
        Ok(done(id, self.instance.catalogue.initialize(version)))
    }

    async fn call(&mut self, id: Id<'_>, params: &Params<'_>) -> Result<Started, Failure> {
        let meta = params.meta().map_err(|bad| Failure::InvalidParams(bad.to_string()))?;
        let progress_token = dispatch::progress_token(meta)?;
        let call = ToolCall::find(self.instance, params)?;
        self.arrival.record.set_tool(call.tool.name);
        if call.tool.large && !self.alone {
            let problem =
                format!("{} must not be part of a batch; send it by itself", call.tool.name);
            return Err(Failure::InvalidParams(problem));
        }
        let Ready { prepared, handle } = match call.prepare(self.instance, &Inputs::default()) {
            Ok(ready) => ready,
            Err(bad) if self.version.has(Feature::ArgumentErrorsAreResults) => {
                let result = ToolResult::error(bad.to_string());
                Ready { prepared: Prepared::now(move |_| result), handle: None }
            }
            Err(bad) => return Err(Failure::InvalidParams(bad.to_string())),
        };
        let own = self.session().await?;
        let (session, prepared) = match handle {
            None => (Arc::clone(&own), prepared),
            Some(handle) => {
                match dispatch::by_handle(self.instance, &handle, self.arrival.caller).await {
                    Ok(other) => (other, prepared),
                    Err(result) => (Arc::clone(&own), Prepared::now(move |_| result)),
                }
            }
        };
        let client = ClientFacts {
            capabilities: own.handshake.capabilities,
            progress_token,
            log_level: Some(own.log_level()),
            meta: params.raw_meta().map(|raw| raw.get().into()),
            progress_messages: self.version.has(Feature::ProgressMessages),
        };
        // Whatever is said before the answer needs a stream; and so does an answer that takes its time and
        // must be an event, so that it can be waited for, and resumed.
        let waits = !matches!(prepared, Prepared::Now(_))
            && reply::wants_events(self.form(), self.accepted);
        let speaks = call.tool.streams && reply::can_stream(self.form(), self.accepted);
        let stream = (self.alone && (speaks || waits)).then(|| {
            let closing = self.instance.process.lifecycle.closing();
            let log = own.call_stream(closing, &self.instance.replay);
            if self.version.has(Feature::PrimingEvent) {
                log.prime(self.instance.policy.stream.retry_seconds.get());
            }
            log
        });
        let context = CallContext::new(
            Arc::clone(self.instance),
            Some(session),
            Arc::clone(self.arrival),
            client,
            stream.clone(),
        );
        let answer = Answer { tool: call.tool, audio: self.version.has(Feature::Audio) };
        let prepared = match (prepared, &stream) {
            (Prepared::Now(now), None) => {
                let outcome = now(&context);
                return Ok(Started::Done(answer.of(id, &context, outcome)));
            }
            (prepared, _) => prepared,
        };
        self.take_time(id, call, own, context, answer, prepared)
    }

    /// A call that takes time or speaks before it answers: it belongs to the session, not to the request.
    fn take_time(
        &self,
        id: Id<'_>,
        call: ToolCall<'_>,
        own: Arc<Session>,
        context: CallContext,
        answer: Answer,
        prepared: Prepared,
    ) -> Result<Started, Failure> {
        let stream = context.stream.clone();
        let run = Run {
            own: Arc::clone(&own),
            context: Arc::new(context),
            call: call.to_owned(),
            id: id.to_owned(),
            answer,
        };
        let cancelled = own.begin_call(id, self.instance.process.lifecycle.closing());
        let worked_on = run.context.session.as_ref().unwrap_or(&own);
        let holds = [&own, worked_on].map(|session| self.instance.sessions.hold(session));
        let under_way = UnderWay { session: own, id: id.to_owned(), _holds: holds };
        let [record, noted] = [&self.arrival.record; 2].map(Arc::clone);
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
        match stream {
            None => {
                // A JSON answer must have a body, though.
                let id = id.to_owned();
                Ok(Started::Later(Box::pin(async move {
                    let message = work.await;
                    message.unwrap_or_else(|| Failure::Cancelled.to_message(Some(id.get()), ERA))
                })))
            }
            Some(log) => {
                let writer = Arc::clone(&log);
                let id = id.to_owned();
                self.instance.process.lifecycle.spawn(async move {
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
    }

    fn notice(&self, method: &str, params: Option<Raw<'_>>) {
        self.arrival.record.set_method(RpcMethod::Notification);
        let Some(session) = &self.session else { return };
        match Notification::parse(method) {
            Some(Notification::Initialized) => session.set_initialized(),
            Some(Notification::Cancelled) => {
                // Malformed or late: the specification asks to ignore it.
                if let Ok(Some(CancelledParams { request_id })) = read(params)
                    && let Some(id) = Id::parse(request_id.get())
                {
                    session.cancel_call(id);
                }
            }
            None => {}
        }
    }

    /// A client's answer to a question of ours; to nothing, it is ignored.
    fn answer(&self, id: Id<'_>, result: Option<Raw<'_>>) {
        self.arrival.record.set_method(RpcMethod::Response);
        if let (Some(session), Some(id)) = (&self.session, id.as_number()) {
            session.answer(id, result.and_then(|raw| serde_json::from_str(raw.get()).ok()));
        }
    }

    /// Runs work to its end although its client may go away, and waits for it.
    async fn detach(&self, work: BoxFuture<'static, Bytes>) -> Result<Bytes, Failure> {
        let task = self.instance.process.lifecycle.spawn(work);
        task.await.map_err(|_| Failure::Internal)
    }

    fn follow(&self, log: Arc<EventLog>) -> Reply {
        let keep_alive = self.instance.policy.stream.keep_alive_seconds.get();
        // A call is let finish when the server stops, so its stream does not close with the others.
        let open = self.instance.counters.open_stream(StreamKind::Call);
        Reply::Stream(EventStream::new(log, None, keep_alive, CancellationToken::new(), open))
    }
}

fn done(id: Id<'_>, result: &[u8]) -> Started {
    Started::Done(jsonrpc::success(id, result))
}

fn ready(message: Bytes) -> BoxFuture<'static, Bytes> {
    Box::pin(std::future::ready(message))
}
