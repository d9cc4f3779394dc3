//! The `/mcp` endpoint: POST, GET, DELETE.
//!
//! Owns the way from an HTTP request to the era that answers it. Refuses, in this order: other HTTP methods (405), a
//! Content-Type other than JSON or an encoded body (415), an Accept header that allows neither JSON nor events (406), a
//! body that is in an unknown transfer coding (501), too large, too slow or cut off (413, 408, 400), and a body that is no
//! JSON-RPC message (400).
//! Traps: no session may be created before these checks have passed. An instance that serves only one era must refuse
//! all of the other, or a client that speaks both concludes that both are served.

mod call;
mod catalogue;
mod dispatch;
mod exchange;
mod sessioned;
mod stateless;

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, request::Parts};

use self::{
    catalogue::{Catalogue, List},
    exchange::{BODY_TIMES, Exchange, REQUEST_BYTES, refuse},
    sessioned::Sessioned,
    stateless::Stateless,
};
use crate::{
    failure::Failure,
    http::{
        Recorded,
        answer::Answer,
        bearer::Called,
        body::{self, AnswerForms},
        head_bytes,
        incoming::Incoming,
        options,
        signature::Heads,
    },
    observe::RequestRecord,
    tenant::{Inbound, Instance, Update},
    wire::{Body, EnvelopeError, Era, Head, Id, Message, version},
};

/// The MCP endpoint of one instance, with its prepared answers.
#[derive(Debug)]
pub struct Endpoint {
    pub(crate) instance: Arc<Instance>,
    catalogue: Arc<Catalogue>,
    heads: Heads,
}

impl Endpoint {
    /// The endpoints of these instances. Endpoints with the same tools and protocol settings share their prepared
    /// answers, also with those of the previous configuration, `before`, which is empty at the start.
    pub(crate) fn build_all(instances: &[Arc<Instance>], before: &[Arc<Self>]) -> Vec<Arc<Self>> {
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
            let heads = Heads::of(&instance.process, instance.id);
            endpoints.push(Arc::new(Self { instance: Arc::clone(instance), catalogue, heads }));
        }
        endpoints
    }

    /// Replaces the endpoint of the previous configuration: applies the new limits to the state, and notifies clients
    /// whose lists have changed.
    pub(crate) fn supersede(&self, before: &Self) {
        let state = &self.instance.state;
        state.keep_to(&self.instance.policy);
        for (list, update) in [(List::Tools, Update::Tools), (List::Prompts, Update::Prompts)] {
            if self.catalogue.differs(&before.catalogue, list) {
                state.subscriptions.publish(&update);
            }
        }
    }

    /// Answers a request to `/mcp`. Every request in flight has room for the future, which is moved into a box: so what has
    /// arrived is in a place of its own before it begins, and whatever is large and rare is in a further box.
    pub(crate) fn answer(
        self: Arc<Self>,
        called: Called,
    ) -> BoxFuture<'static, Result<Answer, Infallible>> {
        let Called { caller, trusted_peer, request } = called;
        let (parts, Recorded { record, body }) = request.into_parts();
        let inbound = Inbound { parts, trusted_peer, caller, body: Bytes::new(), record };
        let inbound = Arc::new(inbound);
        // `Box::pin` would compose the future on the stack and then move all of it, 2 kB.
        let future = Box::write(Box::new_uninit(), self.answer_to(inbound, body));
        Box::into_pin(future)
    }

    async fn answer_to(
        self: Arc<Self>,
        mut inbound: Arc<Inbound>,
        body: Incoming,
    ) -> Result<Answer, Infallible> {
        let Inbound { parts, record, .. } = &*inbound;
        let refused = |failure| refuse(record, failure, None, self.instance.era_of(inbound.head()));
        let room = REQUEST_BYTES + room_of_head(parts, record);
        if let Err(full) = record.book(&self.instance.state.share, room) {
            return Ok(refused(full.into()));
        }
        if parts.method != Method::POST {
            return Ok(Box::pin(self.other_method(&inbound)).await);
        }
        let (bytes, forms) = match self.read(inbound.head(), body, record).await {
            Ok(read) => read,
            Err(failure) => return Ok(refused(failure)),
        };
        // Nobody else has seen it yet.
        match Arc::get_mut(&mut inbound) {
            Some(inbound) => inbound.body = bytes,
            None => return Ok(refuse(&inbound.record, Failure::Internal, None, Era::Sessioned)),
        }
        Ok(self.post(&inbound, forms).await)
    }

    /// GET, DELETE, and methods that are refused.
    async fn other_method(self: &Arc<Self>, inbound: &Arc<Inbound>) -> Answer {
        let era = self.instance.era_of(inbound.head());
        let forms = AnswerForms::of(inbound.head());
        let exchange = Exchange { endpoint: self, inbound, forms, era };
        let result = match (&inbound.parts.method, era) {
            (&Method::GET, Era::Sessioned) => sessioned::listen(exchange).await,
            (&Method::DELETE, Era::Sessioned) => sessioned::terminate(exchange).await,
            (&Method::OPTIONS, _) => Ok(options(allowed(era)).map(Into::into)),
            (&Method::GET | &Method::DELETE, Era::Stateless) => Err(self.no_such_method(exchange)),
            (_, _) => Err(Failure::MethodNotAllowed(allowed(era))),
        };
        result.unwrap_or_else(|failure| refuse(&inbound.record, failure, None, era))
    }

    /// GET and DELETE in a revision that has neither, or that is not served. Those of a client of an older revision get
    /// 405 where none of these is served (2026-07-28, streamable-http, "Earlier Streamable HTTP Revisions").
    fn no_such_method(&self, exchange: Exchange<'_>) -> Failure {
        let named = match Era::of(false, exchange.inbound.head().revision()) {
            Era::Stateless => Stateless::new(exchange).check_version(None),
            Era::Sessioned => Ok(()),
        };
        named.err().unwrap_or(Failure::MethodNotAllowed(allowed(Era::Stateless)))
    }

    /// Checks the headers and reads the body.
    async fn read(
        &self,
        head: Head<'_>,
        body: Incoming,
        record: &RequestRecord,
    ) -> Result<(Bytes, AnswerForms), Failure> {
        body::check_content_type(head)?;
        body::check_content_encoding(head)?;
        let forms = AnswerForms::of(head);
        if !forms.json && !forms.events {
            return Err(Failure::NotAcceptable { needed: "application/json or text/event-stream" });
        }
        let (limit, deadline) =
            (self.instance.policy.max_body_bytes, self.instance.policy.body_timeout);
        let share = &self.instance.state.share;
        let book = |bytes| record.book(share, bytes * BODY_TIMES);
        let cutting = self.instance.process.lifecycle.cutting();
        let bytes = body::read(head.headers, body, limit, deadline, book, cutting).await?;
        Ok((bytes, forms))
    }

    /// Answers a POST whose body has been read.
    async fn post(self: &Arc<Self>, inbound: &Arc<Inbound>, forms: AnswerForms) -> Answer {
        let header = inbound.head().revision();
        match &Body::parse(&inbound.body) {
            Ok(Body::One(message)) => {
                let era = Era::of(message.claims_version(), header);
                self.one(Exchange { endpoint: self, inbound, forms, era }, message).await
            }
            Ok(Body::Batch(messages)) => {
                let claimed = messages.iter().flatten().any(Message::claims_version);
                let era = Era::of(claimed, header);
                if era == Era::Sessioned && self.instance.serves(era) {
                    let exchange = Exchange { endpoint: self, inbound, forms, era };
                    return Box::pin(Sessioned::new(exchange).batch(messages)).await;
                }
                let failure = Failure::NotAMessage("this revision has no JSON-RPC batches".into());
                refuse(&inbound.record, failure, None, self.instance.era_of(inbound.head()))
            }
            Err(error) => {
                let id = error.id();
                let failure = Failure::from(error.clone());
                refuse(&inbound.record, failure, id, Era::of(false, header))
            }
        }
    }

    /// Answers a single message, whose era this instance may not serve.
    async fn one(&self, exchange: Exchange<'_>, message: &Message<'_>) -> Answer {
        match (exchange.era, self.instance.serves(exchange.era)) {
            (Era::Sessioned, true) => Sessioned::new(exchange).one(message).await,
            (Era::Stateless, true) | (Era::Sessioned, false) => {
                Box::pin(Stateless::new(exchange).one(message)).await
            }
            (Era::Stateless, false) => {
                let served = version::newest_first(&self.instance.policy.config.protocol.versions);
                let failure = Failure::UnsupportedVersion { served };
                refuse(&exchange.inbound.record, failure, message.id(), Era::Sessioned)
            }
        }
    }
}

/// What a head takes, roughly. In HTTP/1 no more than what has come on its connection.
fn room_of_head(parts: &Parts, record: &RequestRecord) -> usize {
    match record.come {
        0 => head_bytes(&parts.headers, &parts.uri) + parts.headers.len() * 32,
        come => come,
    }
}

/// The HTTP methods that the endpoint takes.
const fn allowed(era: Era) -> &'static str {
    match era {
        Era::Sessioned => "GET, POST, DELETE, OPTIONS",
        Era::Stateless => "POST, OPTIONS",
    }
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
    fn id(&self) -> Option<Id<'a>> {
        match self {
            Self::NotAMessage { id, .. } => *id,
            Self::NotJson(_) => None,
        }
    }
}
