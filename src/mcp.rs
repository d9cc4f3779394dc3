//! The `/mcp` endpoint: POST, GET, DELETE.
//!
//! Owns the way from an HTTP request to the era that answers it. Refuses, in this order: another HTTP
//! method (405), a body that is not declared as JSON (415), a client that takes neither form of answer
//! (406), a body that is too large, too slow or broken (413, 408, 400), one that is no message (400).
//! Traps: nothing of a session may be allocated before all of this has passed; and an instance that
//! serves one era alone must not half serve the other, or a client that knows both takes it for both.

mod call;
mod catalogue;
mod dispatch;
mod exchange;
mod reply;
mod sessioned;
mod stateless;

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::{Method, Request, request::Parts};

use self::{
    catalogue::Catalogue,
    exchange::{Exchange, refuse},
    sessioned::Sessioned,
    stateless::Stateless,
};
use crate::{
    failure::Failure,
    http::{
        Recorded,
        body::{self, AnswerForms},
    },
    id::Caller,
    observe::record::RequestRecord,
    tenant::{Instance, inbound::Inbound, subscriptions::Update},
    wire::{
        headers::VERSION_HEADER,
        jsonrpc::{Body, EnvelopeError, Id, Message},
        version::Era,
    },
};

/// The MCP endpoint of one instance: the instance, and the answers that are prepared for it.
#[derive(Debug)]
pub struct Endpoint {
    /// Whose it is.
    pub instance: Arc<Instance>,
    catalogue: Arc<Catalogue>,
}

impl Endpoint {
    /// The endpoints of these instances. Those whose lists are the same share what is prepared of them. `before` are
    /// the same ten by another configuration; none at the start.
    pub fn build_all(instances: &[Arc<Instance>], before: &[Arc<Self>]) -> Vec<Arc<Self>> {
        let mut endpoints: Vec<Arc<Self>> = Vec::with_capacity(instances.len());
        for instance in instances {
            let policy = &instance.policy.config;
            let alike =
                before.get(instance.id.index()).into_iter().chain(&endpoints).find(|other| {
                    let other = &other.instance.policy.config;
                    other.tools == policy.tools && other.protocol == policy.protocol
                });
            let catalogue = match alike {
                Some(other) => Arc::clone(&other.catalogue),
                None => Arc::new(Catalogue::build(policy, &instance.process)),
            };
            endpoints.push(Arc::new(Self { instance: Arc::clone(instance), catalogue }));
        }
        endpoints
    }

    /// Takes the place of the same endpoint by another configuration: its state keeps to these limits from now on, and
    /// clients whose lists are others are told.
    pub fn supersede(&self, before: &Self) {
        let state = &self.instance.state;
        state.keep_to(&self.instance.policy.config);
        if !Arc::ptr_eq(&self.catalogue, &before.catalogue) {
            state.subscriptions.publish(&Update::Tools);
            state.subscriptions.publish(&Update::Prompts);
        }
    }

    /// Answers a request to `/mcp` of this caller.
    pub async fn answer(self: Arc<Self>, caller: Caller, request: Request<Recorded>) -> Response {
        let (parts, Recorded { record, body }) = request.into_parts();
        match parts.method {
            Method::POST => self.post(caller, parts, record, body).await,
            _ => Box::pin(self.other_method(caller, parts, record)).await,
        }
    }

    fn inbound(
        &self,
        caller: Caller,
        parts: Parts,
        record: Arc<RequestRecord>,
        body: Bytes,
    ) -> Arc<Inbound> {
        let trusted_peer = self.instance.trusts(record.peer);
        Arc::new(Inbound { parts, trusted_peer, caller, body, record })
    }

    /// GET and DELETE.
    async fn other_method(
        self: &Arc<Self>,
        caller: Caller,
        parts: Parts,
        record: Arc<RequestRecord>,
    ) -> Response {
        let (era, method) = (self.era_of_headers(&parts), parts.method.clone());
        let inbound = self.inbound(caller, parts, record, Bytes::new());
        let exchange = Exchange::new(self, &inbound, AnswerForms::of(inbound.headers()), era);
        let result = match (method, era) {
            (Method::GET, Era::Sessioned) => sessioned::listen(exchange).await,
            (Method::DELETE, Era::Sessioned) => sessioned::terminate(exchange).await,
            (_, Era::Sessioned) => Err(Failure::MethodNotAllowed("GET, POST, DELETE, OPTIONS")),
            (_, Era::Stateless) => Err(Failure::MethodNotAllowed("POST, OPTIONS")),
        };
        result.unwrap_or_else(|failure| refuse(&inbound.record, failure, None, era))
    }

    /// The era that a request is of, as far as its headers tell.
    fn era_of_headers(&self, parts: &Parts) -> Era {
        match Era::of(false, version_header(parts)) {
            era if self.instance.serves(era) => era,
            // The one that is served says what is wrong.
            Era::Sessioned => Era::Stateless,
            Era::Stateless => Era::Sessioned,
        }
    }

    /// What comes before the body is looked into.
    async fn read(
        &self,
        parts: &Parts,
        body: axum::body::Body,
    ) -> Result<(Bytes, AnswerForms), Failure> {
        body::check_content_type(&parts.headers)?;
        let forms = AnswerForms::of(&parts.headers);
        if !forms.json && !forms.events {
            return Err(Failure::NotAcceptable { needed: "application/json or text/event-stream" });
        }
        let (limit, deadline) =
            (self.instance.policy.max_body_bytes, self.instance.policy.body_timeout);
        Ok((body::read(&parts.headers, body, limit, deadline).await?, forms))
    }

    async fn post(
        self: &Arc<Self>,
        caller: Caller,
        parts: Parts,
        record: Arc<RequestRecord>,
        body: axum::body::Body,
    ) -> Response {
        let (bytes, forms) = match self.read(&parts, body).await {
            Ok(read) => read,
            Err(failure) => return refuse(&record, failure, None, self.era_of_headers(&parts)),
        };
        let inbound = self.inbound(caller, parts, record, bytes.clone());
        let header = version_header(&inbound.parts);
        match Body::parse(&bytes) {
            Ok(Body::One(message)) => {
                let era = Era::of(message.claims_version(), header);
                self.one(Exchange::new(self, &inbound, forms, era), message).await
            }
            Ok(Body::Batch(messages)) => {
                let claimed = messages.iter().flatten().any(Message::claims_version);
                let era = Era::of(claimed, header);
                if era == Era::Sessioned && self.instance.serves(era) {
                    let exchange = Exchange::new(self, &inbound, forms, era);
                    return Box::pin(Sessioned::new(exchange).batch(messages)).await;
                }
                let failure = Failure::NotAMessage("this revision has no JSON-RPC batches".into());
                refuse(&inbound.record, failure, None, self.era_of_headers(&inbound.parts))
            }
            Err(error) => {
                let id = error.id();
                let failure = Failure::from(error.clone());
                refuse(&inbound.record, failure, id, Era::of(false, header))
            }
        }
    }

    /// One message, of an era that may not be served.
    async fn one(&self, exchange: Exchange<'_>, message: Message<'_>) -> Response {
        match (exchange.era, self.instance.serves(exchange.era)) {
            (Era::Sessioned, true) => Sessioned::new(exchange).one(message).await,
            (Era::Stateless, true) | (Era::Sessioned, false) => {
                Box::pin(Stateless::new(exchange).one(message)).await
            }
            (Era::Stateless, false) => {
                let served = self.instance.policy.config.protocol.versions.clone();
                let failure = Failure::UnsupportedVersion { served };
                refuse(&exchange.inbound.record, failure, message.id(), Era::Sessioned)
            }
        }
    }
}

fn version_header(parts: &Parts) -> Option<&str> {
    parts.headers.get(VERSION_HEADER)?.to_str().ok()
}

impl<'a> Message<'a> {
    fn claims_version(&self) -> bool {
        match self {
            Self::Request { params, .. } | Self::Notification { params, .. } => {
                params.claims_version()
            }
            Self::Response { .. } => false,
        }
    }

    fn id(&self) -> Option<Id<'a>> {
        match self {
            Self::Request { id, .. } => Some(*id),
            Self::Notification { .. } | Self::Response { .. } => None,
        }
    }
}

impl<'a> EnvelopeError<'a> {
    /// The id, where one could be read.
    pub(crate) fn id(&self) -> Option<Id<'a>> {
        match self {
            Self::NotAMessage { id, .. } => *id,
            Self::NotJson(_) => None,
        }
    }
}
