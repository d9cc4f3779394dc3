//! Taking connections: a port, and how many may be open.
//!
//! Owns [`Listener`], which accepts a connection and finds a place for it, and [`Limit`], the places, which a reload may
//! change while connections are open. What is said on a connection is not its matter. The rule: where no place is left, a
//! few reserved ones are, for one answer each: health is told, and everyone else is told to come again.
//! Trap: an accept that fails must not end the server: without file descriptors it waits and tries again.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use super::{socket::Socket, stack::Stack};
use crate::{
    budget::{Budget, Held, NoRoom},
    lifecycle::Lifecycle,
};

/// Connections beyond the cap that a port has at the most. Others wait to be accepted.
const RESERVED: usize = 64;

/// A port, what is served there, and how many connections it may have.
pub(super) struct Listener {
    /// `None` for a port that is not configured.
    tcp: Option<TcpListener>,
    stack: Stack,
    /// What is served where no place is left.
    when_full: Stack,
    /// One for each connection that may be open.
    permits: Arc<Semaphore>,
    /// One for each beyond.
    reserved: Arc<Semaphore>,
    budget: Arc<Budget>,
}

/// A connection that has been accepted, and the stack that answers its requests.
pub(super) struct Accepted {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    pub permit: OwnedSemaphorePermit,
    /// What it has been given room for.
    pub held: Held,
    pub stack: Stack,
    /// Whether its place is a reserved one.
    pub reserved: bool,
}

impl Listener {
    pub(super) fn new(
        tcp: Option<TcpListener>,
        limit: &Limit,
        stack: Stack,
        when_full: Stack,
        budget: &Arc<Budget>,
    ) -> Self {
        let (permits, reserved) = (limit.permits(), Arc::new(Semaphore::new(RESERVED)));
        Self { tcp, stack, when_full, permits, reserved, budget: Arc::clone(budget) }
    }

    /// The next connection; waits while as many are open as may be, reserved places and all.
    pub(super) async fn accept(&self) -> Accepted {
        let Some(tcp) = &self.tcp else { return pending().await };
        loop {
            let Ok(reserved) = Arc::clone(&self.reserved).acquire_owned().await else {
                // The semaphore is never closed.
                return pending().await;
            };
            match tcp.accept().await {
                Ok((stream, peer)) => {
                    let permit = Arc::clone(&self.permits).try_acquire_owned();
                    return match (permit, Socket::place(&self.budget)) {
                        (Ok(permit), Ok(held)) => {
                            let stack = self.stack.clone();
                            Accepted { stream, peer, permit, held, stack, reserved: false }
                        }
                        (Err(_), _) | (_, Err(NoRoom)) => {
                            let (stack, held) = (self.when_full.clone(), self.budget.held());
                            let permit = reserved;
                            Accepted { stream, peer, permit, held, stack, reserved: true }
                        }
                    };
                }
                Err(error) => {
                    // Out of file descriptors, most likely: others must close before this helps.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// How many connections may be open at once.
#[derive(Debug)]
pub(super) struct Limit {
    permits: Arc<Semaphore>,
    /// As many as `permits` has in all.
    most: usize,
}

impl Limit {
    /// That many.
    pub(super) fn new(most: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(most)), most }
    }

    /// What a listener takes its permits from.
    fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.permits)
    }

    /// From now on that many. If more are open they stay, and the next to close make no room.
    pub(super) fn change(&mut self, most: usize, lifecycle: &Lifecycle) {
        let most = most.min(Semaphore::MAX_PERMITS);
        let before = std::mem::replace(&mut self.most, most);
        self.permits.add_permits(most.saturating_sub(before));
        let fewer = before.saturating_sub(most);
        let in_use = fewer - self.permits.forget_permits(fewer);
        let Some(in_use) = u32::try_from(in_use).ok().filter(|count| *count > 0) else { return };
        // Queue ahead of new connections, so that a closing one frees no slot.
        let mut closed = Box::pin(Arc::clone(&self.permits).acquire_many_owned(in_use));
        if let Some(Ok(permits)) = closed.as_mut().now_or_never() {
            return permits.forget();
        }
        let closing = lifecycle.closing().clone();
        lifecycle.spawn(async move {
            tokio::select! {
                Ok(permits) = closed => permits.forget(),
                () = closing.cancelled() => {}
            }
        });
    }
}
