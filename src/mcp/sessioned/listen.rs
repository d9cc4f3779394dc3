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
    wire::{Known, sse},
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
    let resumed = request.resumed()?;
    let (instance, policy) = (exchange.instance(), exchange.policy());
    let conversation = request.conversation().await?;
    let after = resumed.as_ref().map(|(_, number)| *number);
    if resumed.as_ref().is_none_or(|(log, _)| conversation.is_standalone(log)) {
        for uri in exchange.sessions().speak(head.id).await? {
            // Without room it is not told of that one.
            let _ = instance.state.subscriptions.follow(&conversation, &uri);
        }
    }
    let limit = policy.session.max_streams;
    let log = conversation
        .open_stream(resumed.map(|(log, _)| log), limit)
        .ok_or(Failure::TooManyStreams { limit })?;
    if after.is_none() {
        request.prime(&log);
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
    let stream = EventStream::new(log, after, keep_alive, closed, following);
    Ok(Reply::Stream(stream).into_response(&exchange, Some(head.id.to_header())))
}

impl Sessioned<'_> {
    /// The stream that `Last-Event-ID` names, and the number of that event.
    fn resumed(&self) -> Result<Option<(Arc<EventLog>, u64)>, Failure> {
        let Some(text) = self.header(Known::LastEventId)? else {
            return Ok(None);
        };
        let known = sse::parse_id(text)
            .and_then(|(stream, number)| {
                Some((self.conversation_if_any()?.stream(stream)?, number))
            })
            .filter(|(log, number)| log.has_sent(*number));
        match known {
            Some(known) => Ok(Some(known)),
            None => {
                let problem = format!("there is no stream to resume at event {text:?}");
                Err(Failure::NotAMessage(problem.into()))
            }
        }
    }
}
