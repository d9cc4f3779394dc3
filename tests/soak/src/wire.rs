//! A client that says exactly what it is told to, on a connection of its own.
//!
//! Owns raw HTTP/1.1 over TCP: pipelining, half a request, a connection that is never read. Refuses to
//! be clever: whoever wants an answer reads it.
//! Trap: all of this is loopback, so one source address runs out of ports; connections take turns.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// A connection and what has been read from it.
pub struct Wire {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    /// Where in the buffer the next answer begins.
    start: usize,
}

/// An answer; borrowed from the connection until the next is read.
pub struct Answer<'a> {
    pub status: u16,
    head: &'a str,
    pub body: &'a [u8],
}

impl Answer<'_> {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }

    /// The session that the answer belongs to.
    pub fn session(&self) -> Result<String> {
        self.header("mcp-session-id").map(str::to_owned).context("an answer without a session")
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.body).into_owned()
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// The next source address: ports are counted per pair of addresses.
fn source() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let host = 2 + (NEXT.fetch_add(1, Ordering::Relaxed) % 8) as u8;
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0)
}

impl Wire {
    /// A connection, ready to be written on.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        Self::with_window(address, None).await
    }

    /// A connection whose receive buffer is as small as it may be: a reader that does not read is felt soon.
    pub async fn narrow(address: SocketAddr) -> Result<Self> {
        Self::with_window(address, Some(4096)).await
    }

    async fn with_window(address: SocketAddr, window: Option<u32>) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = window {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(source()).context("no local port is left")?;
        let stream = socket.connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new(), start: 0 })
    }

    /// Writes as it stands.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// More bytes; fails at the end.
    async fn fill(&mut self) -> Result<()> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.reserve(16 * 1024);
        ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "closed before an answer");
        Ok(())
    }

    /// Where the head of the next answer ends.
    async fn head_end(&mut self) -> Result<usize> {
        loop {
            let unread = &self.buffer[self.start..];
            if let Some(length) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
                return Ok(self.start + length + 4);
            }
            self.fill().await?;
        }
    }

    /// The status of the next answer, its body left to whoever wants it: for streams.
    pub async fn status(&mut self) -> Result<u16> {
        let end = self.head_end().await?;
        let status = status_of(std::str::from_utf8(&self.buffer[self.start..end])?)?;
        self.start = end;
        Ok(status)
    }

    /// The next answer, which has a length.
    pub async fn answer(&mut self) -> Result<Answer<'_>> {
        let mut end = self.head_end().await?;
        let head = std::str::from_utf8(&self.buffer[self.start..end])?;
        let length: usize = match header(head, "content-length") {
            Some(length) => length.parse()?,
            None if head.starts_with("HTTP/1.1 204") => 0,
            None => bail!("an answer without a length: {head}"),
        };
        let head_length = end - self.start;
        while self.buffer.len() < end + length {
            self.fill().await?;
            end = self.start + head_length;
        }
        let (start, whole) = (self.start, end + length);
        self.start = whole;
        let head = std::str::from_utf8(&self.buffer[start..end])?;
        Ok(Answer { status: status_of(head)?, head, body: &self.buffer[end..whole] })
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.send(request).await?;
        self.answer().await
    }
}

fn status_of(head: &str) -> Result<u16> {
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    status.and_then(|digits| digits.parse().ok()).with_context(|| format!("no HTTP: {head}"))
}

/// The host of an instance.
pub fn host(instance: u8) -> String {
    format!("echo-stateful{instance}.test")
}

/// A request to `/mcp` of an instance, in a session or in none.
pub fn request(method: &str, instance: u8, session: Option<&str>, body: &str) -> Vec<u8> {
    let mut text = format!("{method} /mcp HTTP/1.1\r\nHost: {}\r\n", host(instance));
    text.push_str("Accept: application/json, text/event-stream\r\n");
    if let Some(session) = session {
        text.push_str(&format!("Mcp-Session-Id: {session}\r\n"));
    }
    if method == "POST" {
        let length = body.len();
        text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// The body of `initialize`.
pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"soak","version":"0"}}}"#;

/// The body of a tool call.
pub fn call(tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments},"_meta":{{"progressToken":1}}}}}}"#
    )
}

/// A request that begins a session.
pub fn initialize(instance: u8) -> Vec<u8> {
    request("POST", instance, None, INITIALIZE)
}

/// A request that calls `echo` in a session.
pub fn echo(instance: u8, session: &str) -> Vec<u8> {
    request(
        "POST",
        instance,
        Some(session),
        &call("echo", r#"{"message":"thirty bytes of message, 30 b."}"#),
    )
}
