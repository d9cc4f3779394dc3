//! Revisions 2024-11-05 to 2025-11-25 on Streamable HTTP.
//!
//! Owns what a session id means for a request, the handshake, batches, the standalone stream and the end
//! of a session. Refuses requests of the stateless era. A client that goes away has not cancelled: work
//! that takes time belongs to the session and goes on (2025-11-25, basic/transports).
//! Trap: an unknown id is never answered by making a session; only the absence of an id is.

use std::{borrow::Cow, sync::Arc};

use axum::response::Response;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http::HeaderName;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    failure::{Failure, Misrouted},
    jsonrpc::{self, Body, EnvelopeError, Id, Message, OwnedId},
    model::{CallToolParams, CancelledParams, InitializeParams, ListParams, ToolResult},
    reply::{EventStream, Reply, SESSION_HEADER},
    sse,
    version::{Era, Feature, Method, Notification, ProtocolVersion},
};
use crate::{
    call::{Arguments, Arrival, CallContext, Prepared},
    config::ResponseForm,
    http::body::Accepted,
    instance::Instance,
    session::{
        Client, EndReason, Handshake, Session, SessionId, SessionRef,
        store::{Gone, Hold},
    },
};

/// The header that names a revision.
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// The `_meta` member by which a request of the stateless era names its revision.
const VERSION_CLAIM: &str = "io.modelcontextprotocol/protocolVersion";

/// `clientInfo` texts are kept as long as the session, so they are bounded. Bytes.
const MAX_CLIENT_TEXT: usize = 256;

/// Answers a POST.
pub async fn post(
    instance: &Arc<Instance>,
    arrival: &Arc<Arrival>,
    accepted: Accepted,
    bytes: Bytes,
) -> Response {
    let mut binding =
        Binding { instance, arrival, session: None, version: ProtocolVersion::UNNAMED };
    let (result, id) = match Body::parse(&bytes) {
        Ok(Body::One(message)) => {
            let id = match &message {
                Message::Request { id, .. } => Some(*id),
                Message::Notification { .. } | Message::Response { .. } => None,
            };
            (binding.one(message, accepted).await, id)
        }
        Ok(Body::Batch(messages)) => (binding.batch(messages, accepted).await, None),
        Err(error) => {
            let id = match &error {
                EnvelopeError::NotAMessage { id, .. } => *id,
                EnvelopeError::NotJson(_) => None,
            };
            (Err(error.into()), id)
        }
    };
    match result {
        Ok(reply) => reply.into_response(binding.session.as_ref().map(|session| session.id)),
        Err(failure) => {
            arrival.record.set_outcome(failure.as_str());
            failure.into_response(id)
        }
    }
}

/// Answers a GET: the standalone stream on which the server speaks first.
pub async fn listen(instance: &Arc<Instance>, arrival: &Arc<Arrival>) -> Result<Response, Failure> {
    if !Accepted::of(arrival.headers()).events {
        return Err(Failure::NotAcceptable { needed: "text/event-stream" });
    }
    let session = existing(instance, arrival).await?;
    let limit = instance.policy.session.max_streams;
    let lifecycle = &instance.process.lifecycle;
    let closed =
        session.open_stream(limit, lifecycle.closing()).ok_or(Failure::TooManyStreams { limit })?;
    let hold = instance.sessions.hold(&session);
    let (sender, frames) = mpsc::channel(1);
    let id = session.id;
    let guard = OpenStream { session, _hold: hold, _sender: sender };
    let keep_alive = instance.policy.stream.keep_alive_seconds.get();
    Ok(Reply::Stream(EventStream::new(frames, keep_alive, closed, guard)).into_response(Some(id)))
}

/// What an open standalone stream keeps: the session, awake; and the channel, open.
struct OpenStream {
    session: Arc<Session>,
    _hold: Hold,
    _sender: mpsc::Sender<Bytes>,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.session.close_stream();
    }
}

/// What a call that takes time keeps: the session, awake; and its name there, to be cancelled by.
struct UnderWay {
    session: Arc<Session>,
    id: OwnedId,
    _hold: Hold,
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
    let session = existing(instance, arrival).await?;
    // Gone between the two look-ups is gone as well.
    instance.sessions.end(session.id, EndReason::Client).await;
    Ok(Reply::NoContent.into_response(None))
}

/// The session that GET and DELETE must name.
async fn existing(
    instance: &Arc<Instance>,
    arrival: &Arc<Arrival>,
) -> Result<Arc<Session>, Failure> {
    let mut binding =
        Binding { instance, arrival, session: None, version: ProtocolVersion::UNNAMED };
    binding.open().await?;
    binding.session.ok_or(Failure::SessionRequired)
}

/// A request and the session it belongs to, once there is one.
struct Binding<'a> {
    instance: &'a Arc<Instance>,
    arrival: &'a Arc<Arrival>,
    session: Option<Arc<Session>>,
    version: ProtocolVersion,
}

/// A request that has been let through.
enum Started {
    Done(Bytes),
    Later(BoxFuture<'static, Bytes>),
}

impl Binding<'_> {
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
                self.version = session.handshake.version;
                self.arrival.record.set_session(session.reference);
                self.session = Some(session);
                Ok(())
            }
            Err(gone) => {
                self.arrival.record.set_session(SessionRef::of(id));
                Err(Failure::SessionGone(self.misrouted(id, gone)))
            }
        }
    }

    fn misrouted(&self, id: &str, gone: Gone) -> Misrouted {
        let timeout = self.instance.policy.session.timeout_seconds.get();
        Misrouted {
            gone,
            minted_by: SessionId::parse(id).and_then(|id| Some((id.instance()?, id.origin()))),
            served_by: (self.instance.id, self.instance.process.origin),
            timeout_seconds: timeout.as_secs(),
        }
    }

    /// A header that may stand once, as visible ASCII.
    fn header(&self, name: &HeaderName, shown: &'static str) -> Result<Option<&str>, Failure> {
        let mut values = self.arrival.headers().get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        match (value.to_str(), values.next()) {
            (Ok(text), None) => Ok(Some(text)),
            _ => Err(Failure::BadHeader(shown)),
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
        let version = match self.instance.policy.protocol.versions.contains(&self.version) {
            true => self.version,
            false => self.instance.policy.protocol.version,
        };
        self.begin(Handshake { version, client: None }).await
    }

    async fn begin(&mut self, handshake: Handshake) -> Result<Arc<Session>, Failure> {
        let session = self.instance.sessions.create(handshake, self.arrival.caller).await?;
        self.arrival.record.set_session(session.reference);
        Ok(Arc::clone(self.session.insert(session)))
    }

    /// One message by itself.
    async fn one(&mut self, message: Message<'_>, accepted: Accepted) -> Result<Reply, Failure> {
        self.check_era(&message)?;
        let form = Form::choose(self.instance.policy.protocol.response, accepted);
        match message {
            Message::Request { id, method, params } => {
                let started = match self.request(id, &method, params).await {
                    // In-band: the exchange itself went well.
                    Err(failure) if failure.status() == http::StatusCode::OK => {
                        self.arrival.record.set_outcome(failure.as_str());
                        Started::Done(failure.to_message(Some(id)))
                    }
                    other => other?,
                };
                Ok(match (started, form) {
                    (Started::Done(message), Form::Json) => Reply::Json(message),
                    (Started::Done(message), Form::Events) => Reply::Events(sse::frame(&message)),
                    (Started::Later(work), Form::Json) => Reply::Json(self.detach(work).await?),
                    (Started::Later(work), Form::Events) => self.stream(work),
                })
            }
            Message::Notification { method, params } => {
                self.open().await?;
                self.require_session_or_implicit()?;
                self.notice(&method, params);
                Ok(Reply::Accepted)
            }
            Message::Response { .. } => {
                self.open().await?;
                self.require_session_or_implicit()?;
                Ok(Reply::Accepted)
            }
        }
    }

    /// An array of messages, which only 2025-03-26 has.
    async fn batch(
        &mut self,
        messages: Vec<Result<Message<'_>, EnvelopeError<'_>>>,
        accepted: Accepted,
    ) -> Result<Reply, Failure> {
        self.arrival.record.set_method("batch");
        for message in messages.iter().flatten() {
            self.check_era(message)?;
        }
        self.open().await?;
        if !self.version.has(Feature::Batches) {
            let problem = format!(
                "revision {} has no JSON-RPC batches; send one message a POST",
                self.version
            );
            return Err(Failure::NotAMessage(problem.into()));
        }
        let mut answers: Vec<BoxFuture<'static, Bytes>> = Vec::new();
        for message in messages {
            match message {
                Ok(Message::Request { id, method, params }) => {
                    let started = match Method::parse(&method) {
                        Some(Method::Initialize) => Err(Failure::NotAMessage(
                            "initialize must not be part of a batch".into(),
                        )),
                        _ => self.opened_request(id, &method, params).await,
                    };
                    answers.push(match started {
                        Ok(Started::Later(work)) => work,
                        Ok(Started::Done(message)) => ready(message),
                        Err(failure) => ready(failure.to_message(Some(id))),
                    });
                }
                Ok(Message::Notification { method, params }) => self.notice(&method, params),
                Ok(Message::Response { .. }) => {}
                Err(error) => {
                    let id = match &error {
                        EnvelopeError::NotAMessage { id, .. } => *id,
                        EnvelopeError::NotJson(_) => None,
                    };
                    answers.push(ready(Failure::from(error.clone()).to_message(id)));
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
        Ok(match Form::choose(self.instance.policy.protocol.response, accepted) {
            Form::Json => Reply::Json(array),
            Form::Events => Reply::Events(sse::frame(&array)),
        })
    }

    /// Refuses what belongs to the stateless era: an instance that served it half would be taken for one
    /// that serves it whole.
    fn check_era(&self, message: &Message<'_>) -> Result<(), Failure> {
        let (method, params) = match message {
            Message::Request { method, params, .. } => (&**method, *params),
            Message::Notification { method, params } => (&**method, *params),
            Message::Response { .. } => return Ok(()),
        };
        let header = self.arrival.header(VERSION_HEADER.as_str());
        // The body's version decides what an initialize is answered with, whatever its header says.
        let header = header.filter(|_| method != Method::Initialize.as_str());
        match Era::of(params.is_some_and(claims_version), header) {
            Era::Sessioned => Ok(()),
            Era::Stateless => Err(Failure::UnsupportedVersion {
                served: self.instance.policy.protocol.versions.clone(),
            }),
        }
    }

    async fn request(
        &mut self,
        id: Id<'_>,
        name: &str,
        params: Option<&RawValue>,
    ) -> Result<Started, Failure> {
        if Method::parse(name) == Some(Method::Initialize) {
            self.arrival.record.set_method(Method::Initialize.as_str());
            return self.initialize(id, params).await;
        }
        self.open().await?;
        self.opened_request(id, name, params).await
    }

    /// A request whose session, if it names one, has been found.
    async fn opened_request(
        &mut self,
        id: Id<'_>,
        name: &str,
        params: Option<&RawValue>,
    ) -> Result<Started, Failure> {
        self.require_session_or_implicit()?;
        let Some(method) = Method::parse(name) else {
            self.arrival.record.set_method("other");
            return Err(Failure::MethodNotFound(name.to_owned()));
        };
        self.arrival.record.set_method(method.as_str());
        match method {
            // In a batch; by itself it has been answered.
            Method::Initialize => Err(Failure::Internal),
            Method::Ping => Ok(Started::Done(jsonrpc::success(id, b"{}"))),
            Method::ToolsList => {
                let ListParams { cursor } = read(params)?.unwrap_or_default();
                if let Some(cursor) = cursor {
                    let problem =
                        format!("there is no page at cursor {cursor:?}; the list is one page");
                    return Err(Failure::InvalidParams(problem));
                }
                let version = self.session().await?.handshake.version;
                Ok(Started::Done(jsonrpc::success(id, self.instance.catalogue.tools_list(version))))
            }
            Method::ToolsCall => self.call(id, params).await,
        }
    }

    /// Always a new session, whatever id the request carries.
    async fn initialize(
        &mut self,
        id: Id<'_>,
        params: Option<&RawValue>,
    ) -> Result<Started, Failure> {
        let Some(InitializeParams { protocol_version, client_info }) = read(params)? else {
            return Err(Failure::InvalidParams("initialize needs \"protocolVersion\"".to_owned()));
        };
        let client_info = client_info.filter(|raw| raw.get() != "null");
        if client_info.is_some_and(|raw| !raw.get().starts_with('{')) {
            return Err(Failure::InvalidParams("clientInfo must be an object".to_owned()));
        }
        let client = match read::<super::model::Implementation<'_>>(client_info)? {
            None => None,
            Some(info) if info.name.len().max(info.version.len()) > MAX_CLIENT_TEXT => {
                let problem =
                    format!("clientInfo texts must not be longer than {MAX_CLIENT_TEXT} bytes");
                return Err(Failure::InvalidParams(problem));
            }
            Some(info) => Some(Client { name: info.name.into(), version: info.version.into() }),
        };
        let protocol = &self.instance.policy.protocol;
        let wanted = protocol_version.parse().ok().filter(|v| protocol.versions.contains(v));
        let version = wanted.unwrap_or(protocol.version);
        self.begin(Handshake { version, client }).await?;
        Ok(Started::Done(jsonrpc::success(id, self.instance.catalogue.initialize(version))))
    }

    async fn call(&mut self, id: Id<'_>, params: Option<&RawValue>) -> Result<Started, Failure> {
        let Some(CallToolParams { name, arguments }) = read(params)? else {
            return Err(Failure::InvalidParams("tools/call needs \"name\"".to_owned()));
        };
        let Some(tool) = self.instance.catalogue.tool(&name) else {
            return Err(Failure::UnknownTool(name.into_owned()));
        };
        self.arrival.record.set_tool(tool.name);
        let arguments = arguments.filter(|raw| raw.get() != "null");
        if arguments.is_some_and(|raw| !raw.get().starts_with('{')) {
            return Err(Failure::InvalidParams("\"arguments\" must be an object".to_owned()));
        }
        let prepared = Arguments::read(tool.name, arguments, &self.instance.policy.tools)
            .and_then(|mut arguments| (tool.prepare)(&mut arguments));
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(bad) if self.version.has(Feature::ArgumentErrorsAreResults) => {
                let result = ToolResult::error(bad.to_string());
                Prepared::now(move |_| result)
            }
            Err(bad) => return Err(Failure::InvalidParams(bad.to_string())),
        };

        let session = self.session().await?;
        let context = CallContext::new(
            Arc::clone(self.instance),
            Arc::clone(&session),
            Arc::clone(self.arrival),
        );
        let finish = move |context: &CallContext, id: Id<'_>, result: &ToolResult| {
            if tool.counted {
                context.count();
            }
            let outcome = if result.is_error { "tool_error" } else { "ok" };
            context.arrival.record.set_outcome(outcome);
            let message = jsonrpc::success_of(id, result);
            message.unwrap_or_else(|_| Failure::Internal.to_message(Some(id)))
        };
        match prepared {
            Prepared::Now(run) => {
                let result = run(&context);
                Ok(Started::Done(finish(&context, id, &result)))
            }
            Prepared::Later(run) => {
                let cancelled = session.begin_call(id, self.instance.process.lifecycle.closing());
                let hold = self.instance.sessions.hold(&session);
                let under_way = UnderWay { session, id: id.to_owned(), _hold: hold };
                Ok(Started::Later(Box::pin(async move {
                    let context = Arc::new(context);
                    let work = run(Arc::clone(&context));
                    let id = under_way.id.get();
                    tokio::select! {
                        result = work => finish(&context, id, &result),
                        () = cancelled.cancelled() => Failure::Cancelled.to_message(Some(id)),
                    }
                })))
            }
        }
    }

    fn notice(&self, method: &str, params: Option<&RawValue>) {
        self.arrival.record.set_method("notification");
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

    /// Runs work to its end although its client may go away, and waits for it.
    async fn detach(&self, work: BoxFuture<'static, Bytes>) -> Result<Bytes, Failure> {
        let task = self.instance.process.lifecycle.spawn(work);
        task.await.map_err(|_| Failure::Internal)
    }

    /// Runs work to its end and sends its outcome as the last event of a stream that is open meanwhile.
    fn stream(&self, work: BoxFuture<'static, Bytes>) -> Reply {
        let (sender, frames) = mpsc::channel(1);
        self.instance.process.lifecycle.spawn(async move {
            let message = work.await;
            // Fails if the client is gone, which is its right.
            let _ = sender.send(sse::frame(&message)).await;
        });
        let keep_alive = self.instance.policy.stream.keep_alive_seconds.get();
        // A call is let finish when the server stops, so its stream does not close with the others.
        Reply::Stream(EventStream::new(frames, keep_alive, CancellationToken::new(), ()))
    }
}

/// The form that one answer takes.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Events,
}

impl Form {
    fn choose(policy: ResponseForm, accepted: Accepted) -> Self {
        match policy {
            ResponseForm::Auto if accepted.json => Self::Json,
            ResponseForm::Auto => Self::Events,
            ResponseForm::Json => Self::Json,
            ResponseForm::Sse => Self::Events,
        }
    }
}

fn ready(message: Bytes) -> BoxFuture<'static, Bytes> {
    Box::pin(std::future::ready(message))
}

/// Whether `params._meta` names a revision itself.
fn claims_version(params: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct WithMeta<'a> {
        #[serde(borrow, rename = "_meta")]
        meta: std::collections::HashMap<Cow<'a, str>, serde::de::IgnoredAny>,
    }
    // Most requests do not so much as mention it, and need no second reading.
    params.get().contains(VERSION_CLAIM)
        && serde_json::from_str::<WithMeta<'_>>(params.get())
            .is_ok_and(|WithMeta { meta }| meta.contains_key(VERSION_CLAIM))
}

/// `params` as a method wants them.
fn read<'a, T: Deserialize<'a>>(params: Option<&'a RawValue>) -> Result<Option<T>, Failure> {
    match params {
        None => Ok(None),
        Some(raw) => match serde_json::from_str(raw.get()) {
            Ok(params) => Ok(Some(params)),
            Err(error) => Err(Failure::InvalidParams(error.to_string())),
        },
    }
}
