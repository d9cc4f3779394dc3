//! A connection whose other side must take what it is sent.
//!
//! Owns [`Socket`]: a TCP stream that fails once a write has waited for too long, and the options by which
//! the kernel sees to the same where no write waits: what was sent to a peer that is gone. Refuses to
//! judge how slowly someone reads: any progress sets the clock back.
//! Traps: the kernel takes megabytes on behalf of a peer that reads nothing, unless it is told how few may
//! wait; and it goes on offering them after a close, unless it is told not to.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// Bytes that may wait in the kernel before a write does; what is under way to the peer is not counted.
const MAX_UNSENT: u32 = 128 * 1024;

/// A TCP connection that does not wait for ever.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    patience: Duration,
    /// Runs while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// A connection that is given up when its peer has taken nothing for so long.
    pub(super) fn new(stream: TcpStream, patience: Duration) -> Self {
        // An answer is one small write; without this it would wait for the next one.
        let _ = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        {
            // Where the kernel has no such option there is the deadline alone.
            let options = SockRef::from(&stream);
            let _ = options.set_tcp_notsent_lowat(MAX_UNSENT);
            // Later than the deadline: the kernel gives up without telling the peer.
            let _ = options.set_tcp_user_timeout(Some(patience.saturating_mul(2)));
        }
        Self { stream, patience, deadline: None }
    }

    /// The stream, to look at before anything is read.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
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
        let patience = self.patience;
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
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
