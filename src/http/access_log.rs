//! The outermost layer: request id, identity headers, one log line per request.
//!
//! Owns the line and the moment at which it is written: when the answer's body ends or is dropped, so
//! that a stream is logged with its whole length, and a client that left is told from one that stayed.
//! Trap: the handler's future may be dropped before there is an answer; the line must be written then too.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::{Buf, Bytes};
use http::{HeaderName, HeaderValue, Method};
use http_body::{Frame, SizeHint};

use crate::{instance::Process, telemetry::RequestRecord};

/// Names a request in answers and in the log.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Says which replica answered.
pub const REPLICA_HEADER: HeaderName = HeaderName::from_static("mcp-echo-replica");
/// Says which start of it.
pub const BOOT_HEADER: HeaderName = HeaderName::from_static("mcp-echo-boot");

/// Longest request id and path that are repeated in the log. Characters.
const MAX_LOGGED: usize = 128;

/// What every answer carries, and the numbering of requests.
#[derive(Debug)]
pub struct Identity {
    replica: HeaderValue,
    boot: HeaderValue,
    prefix: String,
    requests: AtomicU64,
}

impl Identity {
    /// The identity of this process.
    pub fn of(process: &Process) -> Self {
        let boot = process.origin.boot.to_string();
        Self {
            // Configuration has been checked for it.
            replica: HeaderValue::from_str(&process.replica)
                .unwrap_or(HeaderValue::from_static("local")),
            prefix: format!("{}{boot}-", process.origin.tag),
            boot: HeaderValue::from_str(&boot).unwrap_or(HeaderValue::from_static("000")),
            requests: AtomicU64::new(1),
        }
    }

    /// The caller's id if it sent a fit one, else the next of ours.
    fn request_id(&self, sent: Option<&HeaderValue>) -> (HeaderValue, Arc<str>) {
        let fit = sent.filter(|value| {
            (1..=MAX_LOGGED).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
        });
        if let Some(value) = fit
            && let Ok(text) = value.to_str()
        {
            return (value.clone(), text.into());
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let text: Arc<str> = format!("{}{number:x}", self.prefix).into();
        (HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("-")), text)
    }
}

/// See the module's description.
pub async fn layer(
    State(identity): State<Arc<Identity>>,
    mut request: Request,
    next: Next,
) -> Response {
    let (header, id) = identity.request_id(request.headers().get(REQUEST_ID_HEADER));
    let record = Arc::new(RequestRecord::begin(id));
    if let Some(trace) = request.headers().get("traceparent").and_then(|t| t.to_str().ok()) {
        record.set_trace(trace);
    }
    request.extensions_mut().insert(Arc::clone(&record));
    let path = request.uri().path();
    let path = path.char_indices().nth(MAX_LOGGED).map_or(path, |(end, _)| &path[..end]).to_owned();
    // The last segment may be a whole session id.
    let path = match path.strip_prefix("/debug/sessions/") {
        Some(_) => "/debug/sessions/{ref}".to_owned(),
        None => path,
    };
    let mut line =
        Line { record, method: request.method().clone(), path, status: 0, complete: false };

    let mut response = next.run(request).await;
    line.status = response.status().as_u16();
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID_HEADER, header);
    headers.insert(REPLICA_HEADER, identity.replica.clone());
    headers.insert(BOOT_HEADER, identity.boot.clone());
    response.map(|inner| Body::new(Logged { inner, line }))
}

/// The line to be written; written when it is dropped.
struct Line {
    record: Arc<RequestRecord>,
    method: Method,
    path: String,
    /// 0 while there is no answer.
    status: u16,
    complete: bool,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.record.log(self.method.as_str(), &self.path, self.status, self.complete);
    }
}

/// An answer's body that counts its bytes and takes the line with it.
struct Logged {
    inner: Body,
    line: Line,
}

impl http_body::Body for Logged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Buf::remaining);
                self.line.record.add_bytes(bytes);
            }
            Poll::Ready(None) => self.line.complete = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        // hyper does not poll a body that says it has ended.
        self.line.complete |= http_body::Body::is_end_stream(&self.inner);
    }
}
