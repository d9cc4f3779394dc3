//! What goes back to the client: nothing, one JSON document, or a stream of events.
//!
//! Owns [`Reply`], the choice of its form and the headers of each form. Refuses to produce anything by itself.
//! Trap: without `X-Accel-Buffering: no` a proxy may hold events back until the stream ends.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{sse, stream::EventStream};
use crate::{config::ResponseForm, http::body::Accepted, session::SessionId};

/// The header that carries a session id.
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");

/// Tells nginx and others not to hold events back.
pub const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Whether answers are events rather than one JSON document.
pub fn wants_events(form: ResponseForm, accepted: Accepted) -> bool {
    match form {
        ResponseForm::Auto => !accepted.json,
        ResponseForm::Json => false,
        ResponseForm::Sse => true,
    }
}

/// Whether something can be said before the answer.
pub fn can_stream(form: ResponseForm, accepted: Accepted) -> bool {
    match form {
        ResponseForm::Auto => accepted.events,
        ResponseForm::Json => false,
        ResponseForm::Sse => true,
    }
}

/// The form of an answer.
#[derive(Debug)]
pub enum Reply {
    /// A notification or response was taken: 202.
    Accepted,
    /// Done, nothing to say: 204.
    NoContent,
    /// One JSON document.
    Json(Bytes),
    /// Events that are all known already.
    Events(Bytes),
    /// Events as they come.
    Stream(EventStream),
}

impl Reply {
    /// An answer that is all there, in the form that the client takes.
    pub fn whole(message: Bytes, form: ResponseForm, accepted: Accepted) -> Self {
        if wants_events(form, accepted) {
            Self::Events(sse::frame(&message, None))
        } else {
            Self::Json(message)
        }
    }

    /// The response, with the id of the session it belongs to.
    pub fn into_response(self, session: Option<SessionId>) -> Response {
        let (status, body, content_type) = match self {
            Self::Accepted => (StatusCode::ACCEPTED, Body::empty(), None),
            Self::NoContent => (StatusCode::NO_CONTENT, Body::empty(), None),
            Self::Json(bytes) => (StatusCode::OK, Body::from(bytes), Some("application/json")),
            Self::Events(bytes) => (StatusCode::OK, Body::from(bytes), Some("text/event-stream")),
            Self::Stream(events) => (StatusCode::OK, Body::new(events), Some("text/event-stream")),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        // Room for these and for those that the layers add.
        headers.reserve(6);
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            if content_type == "text/event-stream" {
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
            }
        }
        if let Some(id) = session
            && let Ok(value) = HeaderValue::from_str(id.encode(&mut [0; 36]))
        {
            headers.insert(SESSION_HEADER, value);
        }
        response
    }
}
