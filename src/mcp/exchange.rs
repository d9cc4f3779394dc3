//! One request and its answer, as both eras see them.
//!
//! Owns [`Exchange`], the forms of an answer with their headers ([`Reply`]), and [`refuse`], through which every failed
//! request leaves.
//! Trap: a failure is recorded for the log line before it becomes an answer.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tokio_util::sync::CancellationToken;

use super::{Endpoint, catalogue::Catalogue};
use crate::{
    config::{PolicyConfig, ResponseForm},
    failure::Failure,
    http::{
        answer::{
            Answer,
            AnswerBody::{Other, Whole},
        },
        body::AnswerForms,
        signature::Form,
    },
    observe::{Open, RequestRecord, StreamKind},
    session::{EventLog, EventStream, SessionStore},
    tenant::{Inbound, Instance},
    wire::{Era, Id, sse},
};

/// What a request takes while it is under way, beside its head and body. Bytes.
pub(super) const REQUEST_BYTES: usize = 8 * 1024;
/// How often a body is there at the most: itself, what a tool keeps of it, and twice in the answer.
pub(super) const BODY_TIMES: usize = 4;

/// A request, the endpoint that answers it, and the forms of answer that its client accepts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange<'a> {
    pub(super) endpoint: &'a Arc<Endpoint>,
    pub(super) inbound: &'a Arc<Inbound>,
    pub(super) forms: AnswerForms,
    pub(super) era: Era,
}

impl<'a> Exchange<'a> {
    pub(super) fn instance(&self) -> &'a Arc<Instance> {
        &self.endpoint.instance
    }

    pub(super) fn sessions(&self) -> &'a SessionStore {
        &self.endpoint.instance.state.sessions
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

    /// Whether the answer must be an event rather than a JSON document.
    pub(super) fn wants_events(&self) -> bool {
        self.events_or(!self.forms.json)
    }

    /// Whether notifications and requests can be sent to the client before the answer.
    pub(super) fn can_stream(&self) -> bool {
        self.events_or(self.forms.events)
    }

    /// Whether the configuration asks for events; `auto` if it leaves that to the client.
    fn events_or(&self, auto: bool) -> bool {
        match self.policy().protocol.response {
            ResponseForm::Auto => auto,
            ResponseForm::Json => false,
            ResponseForm::Sse => true,
        }
    }

    /// A complete answer, in the form that the client accepts.
    pub(super) fn whole(&self, message: Bytes) -> Result<Reply, Failure> {
        self.room_for(&message)?;
        Ok(match self.wants_events() {
            true => Reply::Events(sse::frame(&message, None)),
            false => Reply::Json(message),
        })
    }

    /// Books an answer that is larger than what its request has been given room for.
    pub(super) fn room_for(&self, answer: &Bytes) -> Result<(), Failure> {
        let given = REQUEST_BYTES + self.inbound.body.len() * (BODY_TIMES - 1);
        match answer.len() > given {
            true => Ok(self.inbound.record.book(&self.instance().state.share, answer.len())?),
            false => Ok(()),
        }
    }

    /// Counts a call that takes time as under way until the guard is dropped.
    pub(super) fn begin_call(&self) -> Result<Open, Failure> {
        let limit = self.policy().tools.max_calls;
        let open = self.instance().begin_call();
        open.ok_or(Failure::TooManyCalls { limit, key: "tools.max_calls" })
    }

    /// The stream of a call, from its first event. A draining server closes other streams at once, but lets calls finish.
    /// `guard` is dropped with the response body.
    pub(super) fn follow(&self, log: Arc<EventLog>, guard: impl Send + 'static) -> Reply {
        let keep_alive = self.policy().stream.keep_alive_seconds.get();
        let open = self.instance().state.counters.open_stream(StreamKind::Call);
        let never = CancellationToken::new();
        Reply::Stream(EventStream::new(log, None, keep_alive, never, (guard, open)))
    }
}

/// An answer, in one of its forms.
#[derive(Debug)]
pub(super) enum Reply {
    /// 202: a notification or a response was accepted.
    Accepted,
    /// 204: done, and there is nothing to say.
    NoContent,
    Json(Bytes),
    /// A complete answer as an event.
    Events(Bytes),
    /// Events as they come.
    Stream(EventStream),
}

impl Reply {
    /// The response, with the id of the session that it belongs to.
    pub(super) fn into_response(
        self,
        exchange: &Exchange<'_>,
        session: Option<HeaderValue>,
    ) -> Answer {
        let (status, body, form) = match self {
            Self::Accepted => (StatusCode::ACCEPTED, Whole(Bytes::new()), Form::Empty),
            Self::NoContent => (StatusCode::NO_CONTENT, Whole(Bytes::new()), Form::Empty),
            Self::Json(bytes) => (StatusCode::OK, Whole(bytes), Form::Json),
            Self::Events(bytes) => (StatusCode::OK, Whole(bytes), Form::Events),
            Self::Stream(events) => (StatusCode::OK, Other(Body::new(events)), Form::Events),
        };
        let mut response = Answer::new(body);
        *response.status_mut() = status;
        let id = &exchange.record().id;
        *response.headers_mut() = exchange.endpoint.heads.head(form, id, session);
        response
    }
}

/// The HTTP response to a request that failed. The failure is recorded for the request's log line; an internal error gets
/// a line of its own as well.
pub(super) fn refuse(
    record: &RequestRecord,
    failure: Failure,
    id: Option<Id<'_>>,
    era: Era,
) -> Answer {
    record.set_era(era);
    note(record, &failure);
    if failure.status(era) == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(request_id = %record.id, ?failure, "request failed");
    }
    failure.into_response(id, era).map(Whole)
}

/// Records a failure for the log line, with the name that was asked for where it does not exist.
fn note(record: &RequestRecord, failure: &Failure) {
    record.set_outcome(failure.outcome());
    if let Some(missing) = failure.missing() {
        record.set_missing(missing);
    }
}

/// A failure as a JSON-RPC message within a response whose HTTP status is 200, recorded for the log line.
pub(super) fn refuse_in_band(
    record: &RequestRecord,
    failure: &Failure,
    id: Id<'_>,
    era: Era,
) -> Bytes {
    note(record, failure);
    failure.to_message(Some(id), era)
}
