//! An HTTP/2 client that says exactly what it is told to: it answers settings and pings, and nothing else by itself.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::PATIENCE;

/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client's settings: none.
pub const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// The windows that both sides begin with.
pub const FIRST_WINDOW: usize = 65_535;

const ACKNOWLEDGED: u8 = 0x1;

/// A frame of HTTP/2, as far as these tests look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// With the status.
    Headers(u32, u16),
    /// With its length.
    Data(u32, usize),
    /// The last data of a stream.
    EndOfData(u32),
    /// With the error code.
    Reset(u32, u8),
    Window(u32, usize),
    GoAway,
    Other,
}

pub struct Http2 {
    stream: TcpStream,
    /// Whether it has been told that the other side goes away.
    pub dismissed: bool,
    /// Whether it answers pings.
    pub answers_pings: bool,
    /// The last head that came, as it was encoded (RFC 7541).
    pub head: Vec<u8>,
}

impl Http2 {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connects");
        stream.set_nodelay(true).expect("has the option");
        Self { stream, dismissed: false, answers_pings: true, head: Vec::new() }
    }

    /// A connection that has opened and asked nothing.
    pub async fn opened(address: SocketAddr) -> Self {
        let mut client = Self::open(address).await;
        client.write(PREFACE).await;
        client.write(&SETTINGS).await;
        client
    }

    /// The same with windows of that size for the streams.
    pub async fn with_window(address: SocketAddr, size: u32) -> Self {
        let mut client = Self::open(address).await;
        client.write(PREFACE).await;
        let [a, b, c, d] = size.to_be_bytes();
        client.write_frame(4, 0, 0, &[0, 4, a, b, c, d]).await;
        client
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        // A side that is about to close may have closed.
        let _ = self.stream.write_all(bytes).await;
    }

    pub async fn write_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("is short").to_be_bytes();
        let [a, b, c, d] = stream.to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags, a, b, c, d];
        self.write(&[&head, payload].concat()).await;
    }

    /// Begins a request whose body is still to come.
    pub async fn begin(
        &mut self,
        stream: u32,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        ended: bool,
    ) {
        let own = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", path),
        ];
        let mut block = Vec::new();
        for (name, value) in own.iter().chain(headers) {
            // A literal that is not indexed, with a name of its own.
            block.push(0);
            for text in [name, value] {
                // A number with a prefix of 7 bits (RFC 7541 §5.1).
                match text.len() {
                    short @ 0..127 => block.push(u8::try_from(short).expect("fits")),
                    long => {
                        block.push(127);
                        let mut rest = long - 127;
                        while rest >= 128 {
                            block.push(u8::try_from(rest % 128 + 128).expect("fits"));
                            rest /= 128;
                        }
                        block.push(u8::try_from(rest).expect("fits"));
                    }
                }
                block.extend(text.as_bytes());
            }
        }
        let end_of_stream = u8::from(ended);
        let mut pieces = block.chunks(16_384).peekable();
        let mut kind = 1;
        while let Some(piece) = pieces.next() {
            let end_of_headers = if pieces.peek().is_none() { 0x4 } else { 0 };
            let flags = end_of_headers | if kind == 1 { end_of_stream } else { 0 };
            self.write_frame(kind, flags, stream, piece).await;
            kind = 9;
        }
    }

    /// A request; its body is all there is.
    pub async fn request(
        &mut self,
        stream: u32,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        self.begin(stream, method, path, headers, body.is_empty()).await;
        if !body.is_empty() {
            let mut pieces = body.chunks(16_384).peekable();
            while let Some(piece) = pieces.next() {
                let ended = u8::from(pieces.peek().is_none());
                self.write_frame(0, ended, stream, piece).await;
            }
        }
    }

    pub async fn get(&mut self, stream: u32, path: &str) {
        self.request(stream, "GET", path, &[], b"").await;
    }

    /// A call of a tool, in a session or in a new one.
    pub async fn call(&mut self, stream: u32, session: Option<&str>, tool: &str, with: Value) {
        let params = json!({"name": tool, "arguments": with});
        self.rpc(stream, session, "tools/call", params).await;
    }

    pub async fn rpc(&mut self, stream: u32, session: Option<&str>, method: &str, params: Value) {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(session.map(|id| ("mcp-session-id", id)));
        self.request(stream, "POST", "/mcp", &headers, call.to_string().as_bytes()).await;
    }

    /// A call of `echo` that takes so many seconds.
    pub async fn echo(&mut self, stream: u32, delay: f64) {
        self.call(stream, None, "echo", json!({"message": "x", "delay": delay})).await;
    }

    /// Lets the other side send so many bytes more, on a stream or (0) on the connection.
    pub async fn open_window(&mut self, stream: u32, more: u32) {
        self.write_frame(8, 0, stream, &more.to_be_bytes()).await;
    }

    /// The next frame; `None` at the end.
    pub async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("fits")];
        self.stream.read_exact(&mut payload).await.ok()?;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(match (kind, flags) {
            (0, 0x1) => Frame::EndOfData(stream),
            (0, _) => Frame::Data(stream, payload.len()),
            (1, _) => {
                let status = status(&payload);
                self.head = payload;
                Frame::Headers(stream, status)
            }
            (3, _) => Frame::Reset(stream, payload[3]),
            (4, 0) => {
                self.write_frame(4, ACKNOWLEDGED, 0, b"").await;
                Frame::Other
            }
            (6, 0) => {
                if self.answers_pings {
                    self.write_frame(6, ACKNOWLEDGED, 0, &payload).await;
                }
                Frame::Other
            }
            (7, _) => {
                self.dismissed = true;
                Frame::GoAway
            }
            (8, _) => {
                let [a, b, c, d] = payload[..] else { panic!("a window has four bytes") };
                let more = u32::from_be_bytes([a, b, c, d]);
                Frame::Window(stream, usize::try_from(more).expect("fits"))
            }
            _ => Frame::Other,
        })
    }

    /// The next frame that is any of these; `None` at the end.
    pub async fn next(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let reading = async {
            loop {
                match self.frame().await {
                    Some(frame) if !wanted(&frame) => {}
                    found => return found,
                }
            }
        };
        timeout(PATIENCE, reading).await.expect("a frame in time")
    }

    /// Reads until such a frame comes; `false` if the connection ends before.
    pub async fn reads(&mut self, expected: &Frame) -> bool {
        self.next(|frame| frame == expected).await.is_some()
    }

    /// Reads until the head of the answer comes, and returns its status.
    pub async fn status(&mut self, on: u32) -> u16 {
        let head = |frame: &Frame| matches!(frame, Frame::Headers(stream, _) if *stream == on);
        match self.next(head).await {
            Some(Frame::Headers(_, status)) => status,
            other => panic!("no head on {on}: {other:?}"),
        }
    }

    /// Whether the other side says that it goes away, and then does.
    pub async fn is_dismissed(&mut self) -> bool {
        assert_eq!(self.next(|_| false).await, None);
        self.dismissed
    }
}

/// How a header was encoded (RFC 7541, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As one that both sides remember.
    Indexed,
    /// To be remembered from now on.
    Remembered,
    /// Not to be remembered.
    Literal,
    /// Not to be remembered, here or further on.
    NeverIndexed,
}

/// How each header of a block was encoded.
pub fn encodings(mut block: &[u8]) -> Vec<Encoding> {
    let mut found = Vec::new();
    while let Some(&first) = block.first() {
        let (encoding, prefix) = match first {
            0x80.. => (Encoding::Indexed, 7),
            0x40.. => (Encoding::Remembered, 6),
            0x20.. => panic!("a change of the table's size is not expected"),
            0x10.. => (Encoding::NeverIndexed, 4),
            _ => (Encoding::Literal, 4),
        };
        let name = integer(&mut block, prefix);
        let strings = match encoding {
            Encoding::Indexed => 0,
            _ if name == 0 => 2,
            _ => 1,
        };
        for _ in 0..strings {
            let length = integer(&mut block, 7);
            block = &block[length..];
        }
        found.push(encoding);
    }
    found
}

/// An integer that begins in so many bits (RFC 7541, section 5.1).
fn integer(block: &mut &[u8], prefix: u32) -> usize {
    let most = (1 << prefix) - 1;
    let mut next = || {
        let (first, rest) = block.split_first().expect("goes on");
        *block = rest;
        usize::from(*first)
    };
    let (mut number, mut shift) = (next() & most, 0);
    if number == most {
        loop {
            let byte = next();
            number += (byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
    }
    number
}

/// The status at the beginning of a header block (RFC 7541, appendices A and B); 0 if it is a reference to an earlier one.
fn status(block: &[u8]) -> u16 {
    match block {
        [common @ 0x88..=0x8e, ..] => {
            [200, 204, 206, 304, 400, 404, 500][usize::from(common - 0x88)]
        }
        [0x08 | 0x48, length, text @ ..] if length & 0x80 != 0 => {
            let text = &text[..usize::from(length & 0x7f)];
            let mut bits = text.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
            (0..3).fold(0, |number, _| {
                let mut take = |count| (0..count).fold(0, |n, _| n << 1 | bits.next().unwrap_or(1));
                let first: u8 = take(5);
                // 0, 1 and 2 have five bits, the others six.
                let digit = if first < 3 { first } else { (first << 1 | take(1)) - 0x16 };
                number * 10 + u16::from(digit)
            })
        }
        [0x08 | 0x48, 3, text @ ..] => {
            text[..3].iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'))
        }
        _ => 0,
    }
}
