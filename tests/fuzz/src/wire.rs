//! Any bytes on a connection, through the HTTP parser that the server uses.
//!
//! Owns the connection and the little that can be demanded of answers to bytes that may be no request.
//! Trap: without what was asked, only the first answer can be told from the bytes after it.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use mcp_echo_stateful::server::stack::Stack;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::timeout,
};

/// Longer than a client is quiet here, who may yet hold a stream open.
const QUIET: Duration = Duration::from_secs(100);

/// Sends all of it, says no more, and reads what comes.
pub async fn connect(stack: Stack, bytes: &[u8]) {
    let (mut ours, theirs) = duplex(1024 * 1024);
    let connection = serve(stack, theirs);
    let client = async {
        ours.write_all(bytes).await.expect("room");
        let mut answers = Vec::new();
        // A stream may stay open as long as its reader does.
        while let Ok(Ok(1..)) = timeout(QUIET, ours.read_buf(&mut answers)).await {
            if answers.ends_with(b": keep-alive\n\n\r\n") {
                break;
            }
        }
        drop(ours);
        answers
    };
    let ((), answers) = tokio::join!(connection, client);
    check(&answers);
}

/// As `server::Connection` does.
async fn serve(stack: Stack, stream: DuplexStream) {
    let stack = stack.of_connection([192, 0, 2, 1].into(), None);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = tower::ServiceExt::oneshot(stack.clone(), request.map(Body::new));
        async { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
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
    assert!(!text.contains("HTTP/1.1 5") || text.contains("HTTP/1.1 503"), "{text}");
}
