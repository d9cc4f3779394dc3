//! Connections: what they open with, how long they may be idle, and what they cost while nothing comes.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    process::Program,
    support::{Connection, PATIENCE, TestServer},
};

/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client's settings: none.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

const ACKNOWLEDGED: u8 = 0x1;

/// A frame of HTTP/2, as far as these tests look at it.
#[derive(Debug, PartialEq, Eq)]
enum Frame {
    /// The first byte of the header block, which is the status if it is a common one.
    Headers(u32, u8),
    EndOfData(u32),
    GoAway,
    Other,
}

/// The status 200 in a header block (RFC 7541, appendix A).
const STATUS_200: u8 = 0x88;

/// An HTTP/2 client that says exactly what it is told to, and answers settings and pings.
struct Http2 {
    stream: TcpStream,
    /// Whether it has been told that the other side goes away.
    dismissed: bool,
}

impl Http2 {
    async fn open(server: &TestServer) -> Self {
        let stream = TcpStream::connect(server.address).await.expect("connects");
        stream.set_nodelay(true).expect("has the option");
        Self { stream, dismissed: false }
    }

    /// A connection that has opened and asked nothing.
    async fn opened(server: &TestServer) -> Self {
        let mut client = Self::open(server).await;
        client.write(PREFACE).await;
        client.write(&SETTINGS).await;
        client
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("writes");
    }

    async fn write_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("is short").to_be_bytes();
        let [a, b, c, d] = stream.to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags, a, b, c, d];
        self.write(&[&head, payload].concat()).await;
    }

    /// Begins a request; its body is all there is.
    async fn ask(&mut self, stream: u32, method: &str, path: &str, body: &[u8]) {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", method),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", path),
            ("content-type", "application/json"),
        ] {
            // A literal that is not indexed, with a name of its own.
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("is short"));
                block.extend(text.as_bytes());
            }
        }
        self.write_frame(1, if body.is_empty() { 0x5 } else { 0x4 }, stream, &block).await;
        if !body.is_empty() {
            self.write_frame(0, 0x1, stream, body).await;
        }
    }

    async fn get(&mut self, stream: u32, path: &str) {
        self.ask(stream, "GET", path, b"").await;
    }

    /// A call of `echo` that takes so many seconds.
    async fn echo(&mut self, stream: u32, delay: f64) {
        let arguments = json!({"message": "x", "delay": delay});
        let params = json!({"name": "echo", "arguments": arguments});
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        self.ask(stream, "POST", "/mcp", call.to_string().as_bytes()).await;
    }

    /// The next frame; `None` at the end.
    async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("fits")];
        self.stream.read_exact(&mut payload).await.ok()?;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(match (kind, flags) {
            (0, 0x1) => Frame::EndOfData(stream),
            (1, _) => Frame::Headers(stream, payload[0]),
            (4, 0) => {
                self.write_frame(4, ACKNOWLEDGED, 0, b"").await;
                Frame::Other
            }
            (6, 0) => {
                // The other side may have closed after its question.
                let _ = self.stream.write_all(&[0, 0, 8, 6, ACKNOWLEDGED, 0, 0, 0, 0]).await;
                let _ = self.stream.write_all(&payload).await;
                Frame::Other
            }
            (7, _) => {
                self.dismissed = true;
                Frame::GoAway
            }
            _ => Frame::Other,
        })
    }

    /// Reads until such a frame comes; `false` if the connection ends before.
    async fn reads(&mut self, expected: &Frame) -> bool {
        let reading = async {
            while let Some(frame) = self.frame().await {
                if frame == *expected {
                    return true;
                }
            }
            false
        };
        timeout(PATIENCE, reading).await.expect("a frame in time")
    }

    /// Whether the other side says that it goes away, and then does.
    async fn is_dismissed(&mut self) -> bool {
        let reading = async { while self.frame().await.is_some() {} };
        timeout(PATIENCE, reading).await.expect("ends in time");
        self.dismissed
    }
}

async fn with_deadline(seconds: &str) -> TestServer {
    TestServer::start(&[("MCP_ECHO_HTTP__HEADER_TIMEOUT_SECONDS", seconds)]).await
}

/// Processor time in ticks of 10 ms that a program takes while 1,000 connections have sent `opening` and wait.
async fn ticks_while_waiting(program: &Program, opening: &[u8]) -> u64 {
    let mut connections = Vec::new();
    for _ in 0..1000 {
        let mut connection = Connection::open(program.address).await;
        connection.write(opening).await;
        connections.push(connection);
    }
    sleep(Duration::from_millis(500)).await;
    let before = program.ticks();
    sleep(Duration::from_secs(2)).await;
    program.ticks() - before
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_that_waits_costs_no_processor_time() {
    let program = Program::start(&[]);
    // A byte that begins no HTTP/2 connection, and one that may.
    let other = ticks_while_waiting(&program, b"G").await;
    let undecided = ticks_while_waiting(&program, b"P").await;
    assert!(undecided <= other + 5, "{undecided} ticks, and {other} where HTTP/1 is certain");
}

#[tokio::test]
async fn http2_may_open_in_pieces() {
    let server = TestServer::start(&[]).await;
    for pieces in [1, 5, 23, 24] {
        let mut client = Http2::open(&server).await;
        for piece in PREFACE.chunks(pieces) {
            client.write(piece).await;
            sleep(Duration::from_millis(3)).await;
        }
        client.write(&SETTINGS).await;
        client.get(1, "/livez").await;
        assert!(client.reads(&Frame::Headers(1, STATUS_200)).await, "pieces of {pieces}");
    }
}

#[tokio::test]
async fn http1_may_begin_like_http2() {
    let server = TestServer::start(&[]).await;
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {}}).to_string();
    for (request, status) in [
        (server.post(ping), 200),
        (server.request("PUT", "/mcp"), 405),
        (server.request("PRI", "/mcp"), 405),
    ] {
        let mut connection = Connection::open(server.address).await;
        for byte in request.bytes().chunks(1) {
            connection.write(byte).await;
            sleep(Duration::from_micros(300)).await;
        }
        connection.answer().await.expect_status(status);
    }
}

#[tokio::test]
async fn a_connection_that_closes_early_frees_its_place_at_once() {
    let server = TestServer::start(&[("MCP_ECHO_HTTP__MAX_CONNECTIONS", "2")]).await;
    for opening in ["", "P", "PRI * HTTP/2", "POST /mcp"] {
        for _ in 0..4 {
            Connection::open(server.address).await.write(opening.as_bytes()).await;
        }
        let alive = timeout(Duration::from_secs(5), server.request("GET", "/livez").send());
        alive.await.expect("has a place").expect_status(200);
    }
}

#[tokio::test]
async fn what_never_becomes_a_request_is_closed_after_the_deadline() {
    let server = with_deadline("0.4").await;
    let openings = ["", "P", "PRI * HTT", "G", "POST /mcp HTTP/1.1\r\nHost: loc"];
    let closing = openings.map(async |opening| {
        let start = Instant::now();
        let mut connection = Connection::open(server.address).await;
        connection.write(opening.as_bytes()).await;
        assert!(connection.closes().await, "after {opening:?}");
        (opening, start.elapsed())
    });
    for (opening, took) in futures_util::future::join_all(closing).await {
        assert!(took > Duration::from_millis(350), "{opening:?} {took:?}");
        assert!(took < Duration::from_secs(3), "{opening:?} {took:?}");
    }
}

#[tokio::test]
async fn an_idle_http2_connection_is_asked_to_leave() {
    let server = with_deadline("0.4").await;
    let (mut silent, mut used) = (Http2::opened(&server).await, Http2::opened(&server).await);
    used.get(1, "/livez").await;
    let start = Instant::now();
    assert!(used.reads(&Frame::Headers(1, STATUS_200)).await);
    assert!(silent.is_dismissed().await && used.is_dismissed().await);
    let took = start.elapsed();
    assert!(took > Duration::from_millis(350) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn an_http2_connection_with_a_request_in_flight_is_not_idle() {
    let server = with_deadline("0.3").await;
    let mut client = Http2::opened(&server).await;
    client.echo(1, 1.5).await;
    // Others begin and end meanwhile.
    client.get(3, "/livez").await;
    assert!(client.reads(&Frame::Headers(3, STATUS_200)).await);
    let start = Instant::now();
    assert!(client.reads(&Frame::Headers(1, STATUS_200)).await);
    assert!(start.elapsed() > Duration::from_secs(1));
    assert!(client.reads(&Frame::EndOfData(1)).await);
    assert!(!client.dismissed);
    let start = Instant::now();
    assert!(client.is_dismissed().await);
    let took = start.elapsed();
    assert!(took > Duration::from_millis(250) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_stop_ends_connections_in_both_protocols() {
    let server = TestServer::start(&[]).await;
    let mut undecided = Connection::open(server.address).await;
    undecided.write(b"PRI * HTT").await;
    let (mut silent, mut busy) = (Http2::opened(&server).await, Http2::opened(&server).await);
    busy.echo(1, 0.8).await;
    busy.get(3, "/livez").await;
    assert!(busy.reads(&Frame::Headers(3, STATUS_200)).await, "so the others have been accepted");
    server.stop();
    let stopping = Instant::now();
    assert!(undecided.closes().await && silent.is_dismissed().await);
    assert!(stopping.elapsed() < Duration::from_millis(700), "{:?}", stopping.elapsed());

    // One that comes now has what it asks answered, and no more.
    let mut late = Http2::opened(&server).await;
    late.get(1, "/livez").await;
    assert!(late.reads(&Frame::Headers(1, STATUS_200)).await);
    assert!(late.is_dismissed().await);

    assert!(busy.reads(&Frame::GoAway).await);
    assert!(busy.reads(&Frame::EndOfData(1)).await, "what was asked is answered");
    server.stopped().await;
    assert!(stopping.elapsed() < Duration::from_secs(3), "{:?}", stopping.elapsed());
}
