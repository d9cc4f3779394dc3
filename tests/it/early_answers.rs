//! Answers that are given before the request has come to its end: they arrive, whatever the client is doing.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::spawn_blocking;

use crate::{
    http2::{FIRST_WINDOW, Frame, Http2},
    support::{Connection, TestServer},
};

/// What a client sends of a body that nobody will read.
const BODY: usize = 20_000_000;

/// Sends all of it, as far as that is possible, before it reads a byte, and returns what it reads until the end.
async fn sends_before_it_reads(address: SocketAddr, head: String, chunked: bool) -> String {
    let sent = spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("has the option");
        stream.write_all(head.as_bytes()).expect("the head is sent");
        let piece = match chunked {
            true => format!("10000\r\n{}\r\n", " ".repeat(0x10000)),
            false => " ".repeat(0x10000),
        };
        for _ in 0..BODY / 0x10000 {
            if stream.write_all(piece.as_bytes()).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        read.map(|_| answer).unwrap_or_else(|error| error.to_string())
    });
    sent.await.expect("sends")
}

async fn server() -> TestServer {
    TestServer::start(&[
        ("MCP_ECHO_INSTANCES__1__AUTH__MODE", "tokens"),
        ("MCP_ECHO_INSTANCES__1__AUTH__TOKENS", "alice=s3cret"),
    ])
    .await
}

const JSON: &str = "Content-Type: application/json\r\n";

/// Ways to be refused before the body is read, as request line and headers.
fn refusals() -> Vec<(u16, String)> {
    let host = |instance: u8| format!("Host: echo-stateful{instance}.localhost\r\n{JSON}");
    vec![
        (401, format!("POST /mcp HTTP/1.1\r\n{}", host(1))),
        (403, format!("POST /mcp HTTP/1.1\r\n{}Origin: http://evil.test\r\n", host(0))),
        (404, format!("POST /nowhere HTTP/1.1\r\n{}", host(0))),
        (405, format!("PUT /mcp HTTP/1.1\r\n{}", host(0))),
        (406, format!("POST /mcp HTTP/1.1\r\n{}Accept: text/html\r\n", host(0))),
        (413, format!("POST /mcp HTTP/1.1\r\n{}", host(0))),
        (415, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n".to_owned()),
        (421, "POST /mcp HTTP/1.1\r\nHost: evil.test\r\n".to_owned()),
        // The parser's own.
        (400, "POST /mcp HTTP/1.1\r\nHost : localhost\r\n".to_owned()),
    ]
}

#[tokio::test]
async fn every_early_answer_reaches_a_client_that_sends_all_first() {
    let server = server().await;
    for (status, head) in refusals() {
        for chunked in [false, true] {
            let framing = match chunked {
                true => "Transfer-Encoding: chunked".to_owned(),
                false => format!("Content-Length: {BODY}"),
            };
            let head = format!("{head}{framing}\r\n\r\n");
            let answer = sends_before_it_reads(server.address, head, chunked).await;
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&expected), "{status} {chunked}: {answer:?}");
            assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        }
    }
}

#[tokio::test]
async fn an_early_answer_arrives_every_time() {
    let server = server().await;
    for round in 0..20 {
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: {BODY}\r\n\r\n"
        );
        let answer = sends_before_it_reads(server.address, head, false).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{round}: {answer:?}");
    }
}

#[tokio::test]
async fn beyond_the_cap_a_client_that_sends_all_first_is_told_too() {
    let server = TestServer::start(&[("MCP_ECHO_HTTP__MAX_CONNECTIONS", "1")]).await;
    let mut first = server.rpc("ping", json!({})).begin().await;
    first.answer().await.expect_status(200);
    let head =
        format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: {BODY}\r\n\r\n");
    let answer = sends_before_it_reads(server.address, head, false).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer:?}");
}

#[tokio::test]
async fn who_asks_before_it_sends_is_told_not_to() {
    let server = server().await;
    for (status, head) in refusals() {
        let mut connection = Connection::open(server.address).await;
        let expecting = format!("{head}Expect: 100-continue\r\nContent-Length: {BODY}\r\n\r\n");
        connection.write(expecting.as_bytes()).await;
        let answer = connection.head().await;
        answer.expect_status(status);
        assert_eq!(answer.header("connection"), Some("close"), "{status}");
    }
}

#[tokio::test]
async fn a_refused_body_that_has_come_costs_no_connection() {
    let server = server().await;
    let mut connection = Connection::open(server.address).await;
    for _ in 0..3 {
        let request = server.rpc("ping", json!({})).host("echo-stateful1.localhost");
        connection.write(&request.bytes()).await;
        let answer = connection.answer().await;
        answer.expect_status(401);
        assert_eq!(answer.header("connection"), None);
    }
}

#[tokio::test]
async fn a_client_that_never_stops_sending_is_closed_in_the_end() {
    let server = TestServer::start(&[("MCP_ECHO_HTTP__BODY_TIMEOUT_SECONDS", "0.5")]).await;
    let address = server.address;
    let start = Instant::now();
    let sending = spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("connects");
        let head = format!(
            "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            u64::MAX / 4
        );
        stream.write_all(head.as_bytes()).expect("the head is sent");
        while stream.write_all(b"x").is_ok() {
            assert!(start.elapsed() < Duration::from_secs(15), "is still read");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    sending.await.expect("is closed");
    assert!(start.elapsed() > Duration::from_millis(450), "{:?}", start.elapsed());
}

#[tokio::test]
async fn in_http2_an_early_answer_costs_neither_connection_nor_window() {
    const PART: usize = 500_000;
    let server = TestServer::start(&[]).await;
    let mut client = Http2::opened(server.address).await;
    let mut window = FIRST_WINDOW;
    // Ten times the connection's window.
    for stream in (1..40).step_by(2) {
        let length = BODY.to_string();
        let headers = [("content-type", "text/plain"), ("content-length", &*length)];
        client.begin(stream, "POST", "/mcp", &headers, false).await;
        let mut sent = 0;
        let (mut answered, mut reset) = (false, false);
        while sent < PART || !answered || !reset {
            if sent < PART && window >= 16_000 {
                client.write_frame(0, 0, stream, &[b' '; 16_000]).await;
                (sent, window) = (sent + 16_000, window - 16_000);
                continue;
            }
            match client.next(|frame| *frame != Frame::Other).await {
                Some(Frame::Headers(on, _)) if on == stream => answered = true,
                Some(Frame::Reset(on, code)) if on == stream => {
                    assert!(answered && code == 0, "after the answer, and as no error");
                    reset = true;
                }
                Some(Frame::Window(0, more)) => window += more,
                Some(_) => {}
                None => panic!("the connection has ended"),
            }
        }
    }
    client.echo(101, 0.0).await;
    assert!(client.reads(&Frame::EndOfData(101)).await, "the connection goes on");
}
