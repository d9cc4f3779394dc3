//! Any bytes on a connection, through the HTTP parsers that the server uses.
//!
//! Owns the connection and the little that can be demanded of answers to bytes that may be no request. Bytes alone rarely
//! come to be HTTP/2 or a long head, so an input says by its first byte what the rest is made into.
//! Trap: without what was asked, only the first answer can be told from the bytes after it.

use std::{convert::Infallible, time::Duration};

use crate::frames;

use axum::body::Body;
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mcp_echo_stateful::server::stack::Stack;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::timeout,
};

/// Longer than a client is quiet here, who may yet hold a stream open.
const QUIET: Duration = Duration::from_secs(100);

/// Sends what the input stands for, says no more, and reads what comes.
pub async fn connect(stack: Stack, input: &[u8]) {
    let (bytes, by_frames) = match input {
        [0, rest @ ..] => (frames::connection(rest), true),
        [1, rest @ ..] => (long_head(rest), false),
        raw => (raw.to_vec(), raw.starts_with(frames::PREFACE)),
    };
    let (mut ours, theirs) = duplex(1024 * 1024);
    let connection = serve(stack, theirs, by_frames);
    let client = async {
        // The server may close before it has all.
        let _ = ours.write_all(&bytes).await;
        let mut answers = Vec::new();
        // A stream may stay open as long as its reader does.
        while let Ok(Ok(1..)) = timeout(QUIET, ours.read_buf(&mut answers)).await {
            let end = if by_frames { &b": keep-alive\n\n"[..] } else { b": keep-alive\n\n\r\n" };
            if answers.ends_with(end) {
                break;
            }
        }
        drop(ours);
        answers
    };
    let ((), answers) = tokio::join!(connection, client);
    match by_frames {
        true => frames::check(&answers),
        false => check(&answers),
    }
}

/// A request whose head is about as long as a head may be: as many lines as the first byte says, and of that length.
fn long_head(input: &[u8]) -> Vec<u8> {
    let (lines, length, body) = match input {
        [lines, high, low, body @ ..] => (*lines, u16::from_be_bytes([*high, *low]), body),
        short => (100, 1, short),
    };
    let mut bytes =
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".to_vec();
    for line in 0..lines {
        bytes.extend_from_slice(format!("X-User-Id-{line}: ").as_bytes());
        bytes.resize(bytes.len() + usize::from(length), b'x');
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// As `server::Connection` does.
async fn serve(stack: Stack, stream: DuplexStream, by_frames: bool) {
    let stack = stack.of_connection([192, 0, 2, 1].into(), None);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = tower::ServiceExt::oneshot(stack.clone(), request.map(Body::new));
        async { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    if by_frames {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(64 * 1024)
            .serve_connection(TokioIo::new(stream), service);
        let _ = connection.await;
        return;
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(75))
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    // How it ends is the client's business.
    let _ = connection.await;
}

fn check(answers: &[u8]) {
    if answers.is_empty() {
        return;
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(answers).expect("HTTP");
    assert!(parsed.is_complete(), "a cut head: {}", answers.escape_ascii());
    let status = head.code.expect("a status");
    let ours = head.headers.iter().any(|header| header.name.eq_ignore_ascii_case("x-request-id"));
    // What cannot be parsed never reaches the stack.
    assert!(ours || [100, 400, 414, 431].contains(&status), "{status} without an id");
    let text = String::from_utf8_lossy(answers);
    let fault = text.contains("HTTP/1.1 5");
    assert!(
        !fault || ["501", "503"].iter().any(|it| text.contains(&format!("HTTP/1.1 {it}"))),
        "{text}"
    );
}
