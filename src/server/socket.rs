//! A connection whose other side must take what it is sent, and may finish what it is sending.
//!
//! Owns [`Socket`]: a TCP stream that fails once a write has waited for too long, and the options by which the kernel sees
//! to the same where no write waits: what was sent to a peer that is gone. How slowly someone reads is not judged: any
//! progress sets the clock back.
//! It closes in stages where the peer may still be sending (RFC 9112 §9.6): it stops sending, reads on for a bounded
//! time and amount, and then closes. So whatever was answered before a request had come to its end arrives.
//! Traps: the kernel takes megabytes on behalf of a peer that reads nothing, unless it is told how few may wait; and it
//! goes on offering them after a close, unless it is told not to. A close with bytes unread is a reset, which takes the
//! answer away from a peer that has not read it yet.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use crate::{
    budget::{Budget, Held, NoRoom},
    http::idle_watch::IdleWatch,
};

/// Bytes that may wait in the kernel before a write does; what is under way to the peer is not counted.
const MAX_UNSENT: u32 = 128 * 1024;

/// What a connection takes by itself, what it takes more in HTTP/2 with the head that is being read there, and what a
/// head of HTTP/1 takes that is longer than most. Bytes.
const CONNECTION_BYTES: usize = 12 * 1024;
const HTTP2_BYTES: usize = 96 * 1024;
const LONG_HEAD_BYTES: usize = 64 * 1024;
const USUAL_HEAD_BYTES: usize = 8 * 1024;

/// What is read of a request that has been answered already. Bytes.
const MAX_DISCARDED: usize = 64 * 1024 * 1024;

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// To take something of what it is sent.
    pub(super) write: Duration,
    /// To send the rest of a request that has been answered already.
    pub(super) discard: Duration,
}

/// A TCP connection that does not wait for ever.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    patience: Patience,
    held: Held,
    /// Whether a head that is longer than most is booked.
    long_head: bool,
    /// What was read to find out which protocol it speaks, and is to be read again.
    opening: Vec<u8>,
    /// Told of what comes, in HTTP/1.
    watch: Option<Arc<IdleWatch>>,
    /// Whether it says that it cannot gather: see [`Socket::widen`].
    plain: bool,
    /// Runs while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
    discarding: Option<Box<Discarding>>,
}

/// The last stage of a close. A connection in it is not idle.
#[derive(Debug)]
struct Discarding {
    watch: Arc<IdleWatch>,
    deadline: Pin<Box<Sleep>>,
    left: usize,
}

impl Drop for Discarding {
    fn drop(&mut self) {
        self.watch.end_now();
    }
}

impl Socket {
    pub(super) fn new(stream: TcpStream, patience: Patience, held: Held) -> Self {
        // An answer is one small write; without this it would wait for the next one.
        let _ = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        {
            // Where the kernel has no such option there is the deadline alone.
            let options = SockRef::from(&stream);
            let _ = options.set_tcp_notsent_lowat(MAX_UNSENT);
            // Later than the deadline: the kernel gives up without telling the peer.
            let _ = options.set_tcp_user_timeout(Some(patience.write.saturating_mul(2)));
        }
        let (opening, watch, plain) = (Vec::new(), None, false);
        let (long_head, deadline, discarding) = (false, None, None);
        Self { stream, patience, held, long_head, opening, watch, plain, deadline, discarding }
    }

    /// Whether `preface` is the first that comes; `false` as soon as it cannot be. What comes is looked at, and read only
    /// where that does not tell, because a task that has only looked would be woken for the same bytes again.
    pub(super) fn poll_opens_with(
        &mut self,
        preface: &[u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        loop {
            let missing = preface.get(self.opening.len()..).unwrap_or_default();
            let mut buffer = vec![0; missing.len()];
            let mut seen = ReadBuf::new(&mut buffer);
            let count = ready!(self.stream.poll_peek(cx, &mut seen))?;
            match seen.filled() {
                seen if seen == missing => return Poll::Ready(Ok(true)),
                seen if count == 0 || !missing.starts_with(seen) => return Poll::Ready(Ok(false)),
                _ => buffer.truncate(count),
            }
            let mut taken = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut taken))?;
            self.opening.extend_from_slice(taken.filled());
        }
    }

    /// Books what a connection takes by itself.
    pub(super) fn place(budget: &Arc<Budget>) -> Result<Held, NoRoom> {
        let mut held = budget.held();
        held.grow(CONNECTION_BYTES)?;
        Ok(held)
    }

    /// Books what it takes more in HTTP/2.
    ///
    /// Until the first write it says that it cannot gather: h2 asks once, and then copies answers of up to a KiB, so that
    /// many leave in one write. Otherwise each of a quarter of that is a write of its own. Large ones are gathered still.
    pub(super) fn widen(&mut self) -> Result<(), NoRoom> {
        self.plain = true;
        self.held.grow(HTTP2_BYTES)
    }

    /// Closes in stages from now on: it speaks HTTP/1.
    pub(super) fn watched(self, watch: Arc<IdleWatch>) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// Notes how a write went; one that waits is given until the deadline.
    fn note<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let patience = self.patience.write;
        ready!(self.deadline.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx));
        // Or the kernel would go on offering the rest.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.opening.is_empty() {
            let count = self.opening.len().min(buffer.remaining());
            buffer.put_slice(&self.opening[..count]);
            self.opening.drain(..count);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        let count = buffer.filled().len() - before;
        let Self { watch, held, long_head, .. } = &mut *self;
        if count > 0
            && let Some(watch) = watch
        {
            watch.heard(count);
            book_head(held, long_head, watch).map_err(io::Error::other)?;
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.plain = false;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        !self.plain && self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let discarding = match &mut this.discarding {
            Some(discarding) => discarding,
            none => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                let Some(watch) = this.watch.as_ref().filter(|watch| watch.unread() > 0) else {
                    return Poll::Ready(Ok(()));
                };
                watch.begin();
                none.insert(Box::new(Discarding {
                    watch: Arc::clone(watch),
                    deadline: Box::pin(sleep(this.patience.discard)),
                    left: MAX_DISCARDED,
                }))
            }
        };
        let over = poll_discard(&mut this.stream, discarding, cx);
        if over.is_ready() {
            this.watch = None;
            this.discarding = None;
        }
        over.map(Ok)
    }
}

/// Books a head that is longer than most, as long as it is one: until its request has begun.
fn book_head(held: &mut Held, booked: &mut bool, watch: &IdleWatch) -> Result<(), NoRoom> {
    let is_long = watch.is_idle() && watch.unread() > USUAL_HEAD_BYTES;
    match (is_long, *booked) {
        (true, false) => held.grow(LONG_HEAD_BYTES)?,
        (false, true) => held.shrink(LONG_HEAD_BYTES),
        (true, true) | (false, false) => {}
    }
    *booked = is_long;
    Ok(())
}

/// Completes when the peer has closed too, or has sent for too long or too much.
fn poll_discard(
    stream: &mut TcpStream,
    discarding: &mut Discarding,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let mut buffer = [0; 8 * 1024];
    while discarding.deadline.as_mut().poll(cx).is_pending() {
        let mut read = ReadBuf::new(&mut buffer);
        if ready!(Pin::new(&mut *stream).poll_read(cx, &mut read)).is_err() {
            break;
        }
        let count = read.filled().len();
        discarding.left = discarding.left.saturating_sub(count);
        if count == 0 || discarding.left == 0 {
            break;
        }
    }
    Poll::Ready(())
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn http2_is_told_to_copy_what_is_small_and_gathers_all_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("is bound");
        let stream = TcpStream::connect(address).await.expect("connects");
        let patience = Patience { write: Duration::from_secs(1), discard: Duration::from_secs(1) };
        let budget = Budget::of(1 << 20);
        let mut socket = Socket::new(stream, patience, budget.held());
        assert!(socket.is_write_vectored(), "HTTP/1 gathers from the first");
        socket.widen().expect("there is room");
        assert!(!socket.is_write_vectored());
        socket.write_all(b"settings").await.expect("writes");
        assert!(socket.is_write_vectored());
    }
}
