//! What goes back to the client: nothing, one JSON document, or a stream of events.
//!
//! Owns [`Reply`] and the headers of each form; which form it is, the request and the configuration say.
//! Trap: without `X-Accel-Buffering: no` a proxy may hold events back until the stream ends.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::{
    id::SessionId,
    session::stream::EventStream,
    wire::{
        headers::{ACCEL_BUFFERING_HEADER, SESSION_HEADER},
        sse,
    },
};

/// The form of an answer.
#[derive(Debug)]
pub(super) enum Reply {
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
    /// An answer that is all there, as an event.
    pub(super) fn events(message: &[u8]) -> Self {
        Self::Events(sse::frame(message, None))
    }

    /// The response, with the id of the session it belongs to.
    pub(super) fn into_response(self, session: Option<SessionId>) -> Response {
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
                headers.insert(ACCEL_BUFFERING_HEADER, HeaderValue::from_static("no"));
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
