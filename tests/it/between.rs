//! A proxy that does to requests and answers what a test tells it to.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::Mutex,
    task::{AbortHandle, JoinSet},
};

/// It stops when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Passing {
    /// How many there were before.
    pub number: usize,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: String,
}

/// An answer on its way.
#[derive(Clone, Debug)]
pub struct Passed {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    /// What comes after the body, as it comes.
    pub live: Option<Live>,
}

/// Pieces of a body.
#[derive(Clone)]
pub struct Live(Arc<Mutex<BoxStream<'static, Bytes>>>);

impl Live {
    pub fn of(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(pieces.boxed())))
    }

    pub async fn next(&self) -> Option<Bytes> {
        self.0.lock().await.next().await
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl Proxy {
    /// A proxy that answers with what `deal` makes of a request.
    pub async fn start<F, A>(deal: F) -> Self
    where
        F: Fn(Passing) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Passed> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("is bound");
        let count = Arc::new(AtomicUsize::new(0));
        let answer = move |request: http::Request<Incoming>| {
            let (deal, number) = (deal.clone(), count.fetch_add(1, Ordering::Relaxed));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let body = String::from_utf8(body.to_vec()).expect("is text");
                let (method, uri, headers) = (head.method, head.uri, head.headers);
                let passed = deal(Passing { number, method, uri, headers, body }).await;
                let body = Full::new(Bytes::from(passed.body)).map_err(|never| match never {});
                let mut response = Response::new(match passed.live {
                    Some(live) => {
                        let pieces = stream::unfold(live, |live| async {
                            let piece = live.next().await?;
                            Some((Ok::<_, hyper::Error>(Frame::data(piece)), live))
                        });
                        UnsyncBoxBody::new(StreamBody::new(pieces))
                    }
                    None => UnsyncBoxBody::new(body),
                });
                *response.status_mut() = passed.status;
                *response.headers_mut() = passed.headers;
                Ok::<_, hyper::Error>(response)
            }
        };
        #[expect(clippy::disallowed_methods, reason = "it is aborted when the proxy is dropped")]
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                let service = service_fn(answer.clone());
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connections.spawn(connection);
            }
        });
        Self { address, task: task.abort_handle() }
    }
}

impl Passing {
    /// Passes it on as it is. What is streamed is passed on piece by piece.
    pub async fn on(self, to: SocketAddr) -> Passed {
        let streamed = self.calls("stream_ticks") || self.method == Method::GET;
        let (mut passed, answer) = self.send(to).await;
        match streamed {
            true => {
                passed.live = Some(Live::of(stream::unfold(answer, |mut answer| async {
                    // Whoever hangs up ends it.
                    let piece = answer.chunk().await.ok().flatten()?;
                    Some((piece, answer))
                })));
            }
            false => passed.body = answer.text().await.expect("text"),
        }
        passed
    }

    /// Passes it on, and its answer when it is whole.
    pub async fn on_whole(self, to: SocketAddr) -> Passed {
        let (passed, answer) = self.send(to).await;
        Passed { body: answer.text().await.expect("text"), ..passed }
    }

    async fn send(self, to: SocketAddr) -> (Passed, reqwest::Response) {
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let client = client.build().expect("a client");
        let url = format!("http://{to}{}", self.uri);
        let mut headers = self.headers;
        headers.remove(header::CONTENT_LENGTH);
        let request = client.request(self.method, url).headers(headers).body(self.body);
        let answer = request.send().await.expect("an answer");
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        for name in [header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::CONNECTION] {
            headers.remove(name);
        }
        (Passed { status, headers, body: String::new(), live: None }, answer)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("is text"))
    }

    pub fn set(&mut self, name: &'static str, value: &str) {
        let value = value.parse().expect("a value");
        self.headers.insert(HeaderName::from_static(name), value);
    }

    /// The session id, or the handle.
    pub fn session(&self) -> Option<&str> {
        self.header("mcp-session-id").or_else(|| self.header("mcp-param-session"))
    }

    /// Names another session, wherever this one names its own.
    pub fn rename(&mut self, other: &str) {
        let own = self.session().expect("a session").to_owned();
        for name in ["mcp-session-id", "mcp-param-session"] {
            if self.headers.contains_key(name) {
                self.set(name, other);
            }
        }
        self.body = self.body.replace(&own, other);
    }

    /// A request that begins another session.
    pub fn beginning(&self) -> Self {
        let params = serde_json::json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "gateway", "version": "1" },
        });
        let body = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
        let mut other = Self { method: Method::POST, body: body.to_string(), ..self.clone() };
        other.headers.remove("mcp-session-id");
        other
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Whether it calls this tool.
    pub fn calls(&self, tool: &str) -> bool {
        self.json()["params"]["name"] == tool
    }

    /// Whether it begins a session.
    pub fn begins(&self) -> bool {
        self.json()["method"] == "initialize" || self.calls("create_session")
    }

    /// Whether it ends one.
    pub fn ends(&self) -> bool {
        self.method == Method::DELETE || self.calls("end_session")
    }
}

impl Passed {
    /// An answer that no server gave.
    pub fn of(status: u16, body: &str) -> Self {
        let status = StatusCode::from_u16(status).expect("a status");
        Self { status, headers: HeaderMap::new(), body: body.to_owned(), live: None }
    }

    /// Without what tells who gave it.
    pub fn unsigned(mut self) -> Self {
        for name in ["mcp-echo-instance", "mcp-echo-replica", "mcp-echo-boot"] {
            self.headers.remove(name);
        }
        self
    }

    /// The same answer, to another request.
    pub fn answering(mut self, request: &Passing) -> Self {
        let mut body: Value = serde_json::from_str(&self.body).expect("JSON");
        body["id"] = request.json()["id"].clone();
        self.body = body.to_string();
        self
    }
}
