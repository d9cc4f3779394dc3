//! GET: opens a standalone stream, or resumes an earlier one.
//!
//! Owns both, and what an open stream holds. Refuses a `Last-Event-ID` that was never sent, and more than
//! `session.max_streams` streams. Where events after that one are no longer kept, the stream begins with how many are
//! missing; to refuse it would lose those that are left, the response among them.
//! Trap: an open stream keeps its session from expiring, so its lease must end when the response body is dropped.

use std::sync::Arc;

use super::Sessioned;
use crate::{
    failure::Failure,
    http::answer::Answer,
    id::SessionId,
    mcp::exchange::{Exchange, Reply},
    observe::StreamKind,
    session::{Conversation, EventLog, EventStream, Lease},
    tenant::{Instance, OpenStream},
    wire::{Feature, Known, sse},
};

/// Counts a stream as open, and keeps its session from expiring, until dropped.
struct Following {
    conversation: Arc<Conversation>,
    instance: Arc<Instance>,
    session: SessionId,
    _lease: Lease,
    _open: OpenStream,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.conversation.close_stream();
        self.instance.state.sessions.fall_silent(self.session);
    }
}

pub(in crate::mcp) async fn listen(exchange: Exchange<'_>) -> Result<Answer, Failure> {
    if !exchange.forms.events {
        return Err(Failure::NotAcceptable { needed: "text/event-stream" });
    }
    let mut request = Sessioned::new(exchange);
    let head = Arc::clone(&request.existing().await?.head);
    let (instance, policy) = (exchange.instance(), exchange.policy());
    let limit = policy.session.max_streams;
    let resumed = request.resumed(limit).await?;
    let conversation = request.conversation().await?;
    let after = resumed.as_ref().map(|(_, number)| *number);
    if resumed.as_ref().is_none_or(|(log, _)| conversation.is_standalone(log)) {
        for uri in exchange.sessions().speak(head.id).await? {
            // Without room it is not told of that one.
            let _ = instance.state.subscriptions.follow(&conversation, &uri);
        }
    }
    let log = conversation
        .open_stream(resumed.map(|(log, _)| log), limit)
        .ok_or(Failure::TooManyStreams { limit })?;
    if after.is_none() {
        request.prime(&log);
    }
    // What another replica has told of lists is told here from now on.
    if after.is_none() || exchange.sessions().is_shared() {
        instance.state.subscriptions.follow_lists(&conversation);
    }
    let closed = conversation.closed().clone();
    let following = Following {
        conversation,
        instance: Arc::clone(instance),
        session: head.id,
        _lease: exchange.sessions().hold(head.id),
        _open: instance.open_stream(StreamKind::Standalone, Some(head.reference)),
    };
    let keep_alive = policy.stream.keep_alive_seconds.get();
    let mut stream = EventStream::new(log, after, keep_alive, closed, following);
    if exchange.sessions().is_shared() && request.version.has(Feature::PrimingEvent) {
        stream = stream.closing_with(sse::closing(policy.stream.retry_seconds.get()));
    }
    Ok(Reply::Stream(stream).into_response(&exchange, Some(head.id.to_header())))
}

impl Sessioned<'_> {
    /// The stream that `Last-Event-ID` names, and the number of that event.
    async fn resumed(&self, limit: usize) -> Result<Option<(Arc<EventLog>, u64)>, Failure> {
        let Some(text) = self.header(Known::LastEventId)? else {
            return Ok(None);
        };
        let session = self.session.as_ref().ok_or(Failure::SessionRequired)?.head.id;
        let known = match sse::parse_id(text) {
            Some((stream, number)) => {
                // Before another replica is told to let the stream go.
                if self.conversation_if_any().is_some_and(|it| it.open_streams() >= limit) {
                    return Err(Failure::TooManyStreams { limit });
                }
                let log = self.exchange.sessions().stream(session, stream, number).await?;
                log.map(|log| (log, number))
            }
            None => None,
        };
        match known {
            Some(known) => Ok(Some(known)),
            None => {
                let problem = format!("there is no stream to resume at event {text:?}");
                Err(Failure::NotAMessage(problem.into()))
            }
        }
    }
}
