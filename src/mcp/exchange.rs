//! A request in hand: what both eras know of it.
//!
//! Owns [`Exchange`], and the one way in which a failure leaves.
//! Trap: a failure is noted for the log line before it becomes an answer, and a fault of ours is told by itself too.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use super::{Endpoint, catalogue::Catalogue, reply::Reply};
use crate::{
    config::{PolicyConfig, ResponseForm},
    failure::Failure,
    http::body::AnswerForms,
    observe::{metrics::StreamKind, record::RequestRecord},
    session::stream::{EventLog, EventStream},
    tenant::{Instance, inbound::Inbound},
    wire::{jsonrpc::Id, version::Era},
};

/// A request, the endpoint that answers it, and the forms of answer that its client takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange<'a> {
    pub(super) endpoint: &'a Arc<Endpoint>,
    pub(super) inbound: &'a Arc<Inbound>,
    pub(super) forms: AnswerForms,
    pub(super) era: Era,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        endpoint: &'a Arc<Endpoint>,
        inbound: &'a Arc<Inbound>,
        forms: AnswerForms,
        era: Era,
    ) -> Self {
        Self { endpoint, inbound, forms, era }
    }

    pub(super) fn instance(&self) -> &'a Arc<Instance> {
        &self.endpoint.instance
    }

    pub(super) fn catalogue(&self) -> &'a Catalogue {
        &self.endpoint.catalogue
    }

    pub(super) fn policy(&self) -> &'a PolicyConfig {
        &self.endpoint.instance.policy.config
    }

    pub(super) fn record(&self) -> &'a RequestRecord {
        &self.inbound.record
    }

    /// Whether answers are events rather than one JSON document.
    pub(super) fn wants_events(&self) -> bool {
        match self.policy().protocol.response {
            ResponseForm::Auto => !self.forms.json,
            ResponseForm::Json => false,
            ResponseForm::Sse => true,
        }
    }

    /// Whether something can be said before the answer.
    pub(super) fn can_stream(&self) -> bool {
        match self.policy().protocol.response {
            ResponseForm::Auto => self.forms.events,
            ResponseForm::Json => false,
            ResponseForm::Sse => true,
        }
    }

    /// An answer that is all there, in the form that the client takes.
    pub(super) fn whole(&self, message: Bytes) -> Reply {
        match self.wants_events() {
            true => Reply::events(&message),
            false => Reply::Json(message),
        }
    }

    /// The stream of a call, from its beginning. It does not close with the others when the server stops: a call is let
    /// finish. `guard` is dropped with the body.
    pub(super) fn follow(&self, log: Arc<EventLog>, guard: impl Send + 'static) -> Reply {
        let keep_alive = self.policy().stream.keep_alive_seconds.get();
        let open = self.instance().state.counters.open_stream(StreamKind::Call);
        let never = CancellationToken::new();
        Reply::Stream(EventStream::new(log, None, keep_alive, never, (guard, open)))
    }
}

/// The answer to a request that failed, noted for its log line; a fault of ours is told by itself too.
pub(super) fn refuse(
    record: &RequestRecord,
    failure: Failure,
    id: Option<Id<'_>>,
    era: Era,
) -> Response {
    record.set_era(era);
    record.set_outcome(failure.outcome());
    if failure.status(era) == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(request_id = %record.id, ?failure, "request failed");
    }
    failure.into_response(id, era).map(Body::from)
}
