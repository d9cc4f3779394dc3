//! One connection from its first byte to its end.
//!
//! Owns [`Settings`], which every new connection is served by, and how a connection ends: by its peer, by the deadline
//! for request heads, or by a shutdown, which lets what is being answered finish. How its protocol is found out and
//! served is [`protocols`](super::protocols)' matter. The rule: a connection that has nothing under way for
//! `http.header_timeout_seconds` is told to leave, and gives its place back soon after, whatever its peer does.
//! Traps: hyper puts no time on the first bytes of a connection; a graceful shutdown waits for ever on an open event
//! stream unless the stream is told, and in HTTP/2 on a peer that does not answer its PING.

use std::{
    mem::replace,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    accept::Accepted,
    protocols::{Parts, Protocols, Served},
    socket::{Patience, Socket},
};
use crate::{
    config::HttpConfig,
    http::idle_watch::{Idle, IdleWatch},
    observe::Open,
    process::Process,
};

/// What a connection in a reserved place has to send a head: others wait for the place.
const HURRY: Duration = Duration::from_secs(1);

/// What a connection that has nothing under way has to take its leave.
const GOODBYE: Duration = Duration::from_secs(1);

/// What all connections that are accepted from now on have in common.
#[derive(Debug)]
pub(super) struct Settings {
    process: Arc<Process>,
    header_timeout: Duration,
    patience: Patience,
    /// Whether a connection ends after its first answer.
    single: bool,
    protocols: Arc<Protocols>,
}

impl Settings {
    /// As configured.
    pub(super) fn new(process: &Arc<Process>, config: &HttpConfig) -> Self {
        let patience = Patience {
            write: config.write_timeout_seconds.get(),
            discard: config.body_timeout_seconds.get(),
        };
        Self::with(Arc::clone(process), config.header_timeout_seconds.get(), patience, false)
    }

    /// The same for those that get one answer each, because the server drains.
    pub(super) fn single(&self) -> Self {
        Self::with(Arc::clone(&self.process), self.header_timeout, self.patience, true)
    }

    /// The same for those in a reserved place, which get one answer each and less time to ask for it.
    pub(super) fn reserved(&self) -> Self {
        let header_timeout = self.header_timeout.min(HURRY);
        Self::with(Arc::clone(&self.process), header_timeout, self.patience, true)
    }

    fn with(
        process: Arc<Process>,
        header_timeout: Duration,
        patience: Patience,
        single: bool,
    ) -> Self {
        let protocols = Protocols::new(&process, !single, header_timeout, patience.write);
        Self { process, header_timeout, patience, single, protocols: Arc::new(protocols) }
    }
}

pin_project! {
    /// A connection that is served; completes when it has ended. Written out, since an `async fn` would keep its
    /// arguments beside what becomes of them, and there may be thousands.
    #[must_use = "futures do nothing unless polled"]
    pub(super) struct Connection {
        #[pin]
        served: Served,
        #[pin]
        idle: Idle,
        #[pin]
        closing: WaitForCancellationFutureOwned,
        settings: Arc<Settings>,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
        open: Open,
        // Whether `closing` has been asked once. What it waits for later is the end of all connections.
        asked: bool,
        // Whether it has been told to end.
        leaving: bool,
    }
}

impl Connection {
    pub(super) fn new(settings: Arc<Settings>, accepted: Accepted) -> Self {
        let Accepted { stream, peer, permit, held, stack, reserved: _ } = accepted;
        let process = &settings.process;
        let watch = Arc::new(IdleWatch::new(process.clock));
        let stack = stack.of_connection(peer.ip(), Some(Arc::clone(&watch)));
        let parts = Parts {
            protocols: Arc::clone(&settings.protocols),
            socket: Socket::new(stream, settings.patience, held),
            stack,
            watch: Arc::clone(&watch),
        };
        Self {
            served: Served::new(parts),
            idle: watch.idle_for(settings.header_timeout),
            closing: process.lifecycle.closing().clone().cancelled_owned(),
            peer,
            permit,
            open: process.counters.connections.open(),
            asked: false,
            leaving: false,
            settings,
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let lifecycle = &this.settings.process.lifecycle;
        loop {
            if let Poll::Ready(result) = this.served.as_mut().poll(cx) {
                // One that is told to end before it has said which protocol it speaks ends with an error.
                if let Err(error) = result
                    && !*this.leaving
                {
                    // A broken connection is the peer's business; its requests have been logged.
                    tracing::debug!(peer = %this.peer, %error, "connection ended early");
                }
                return Poll::Ready(());
            }
            let too_long = this.idle.as_mut().poll(cx).is_ready();
            let used = this.idle.watch().was_used();
            if *this.leaving {
                // What has been asked is answered first, and what is on its way leaves, unless the server's time is over.
                let over = this.closing.as_mut().poll(cx).is_ready();
                return if too_long || over { Poll::Ready(()) } else { Poll::Pending };
            }
            // All connections share one `closing`, behind a lock, and this is polled at every request: so it is
            // asked once, to wake this task, and again when the answer is known. A connection with a single answer is
            // told when it has asked for it.
            let single = this.settings.single;
            let ask = !single && (!replace(this.asked, true) || lifecycle.is_draining());
            let should_end =
                too_long || (single && used) || (ask && this.closing.as_mut().poll(cx).is_ready());
            if !should_end {
                return Poll::Pending;
            }
            *this.leaving = true;
            let watch = Arc::clone(this.idle.watch());
            watch.rest();
            // Where nothing has been asked yet, a head may have begun.
            let head = if used || too_long { Duration::ZERO } else { this.settings.header_timeout };
            this.idle.set(watch.idle_for(head.saturating_add(GOODBYE)));
            this.closing.set(lifecycle.over().clone().cancelled_owned());
            this.served.as_mut().graceful_shutdown();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        // With what tokio adds to a task it takes 1,280 bytes of the allocator.
        let task = size_of::<Connection>() + 104;
        assert!(task <= 1280, "there may be thousands of them, of {task} bytes each");
    }
}
