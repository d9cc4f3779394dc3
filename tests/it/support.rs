//! A server on a free port, and a client that says exactly what it is told to.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use mcp_echo_stateful::{
    config::{Flags, Layers, Listen},
    id::SessionId,
    observe::access::AccessLog,
    reload::Source,
    server::{Listeners, Server, Stopped},
    session::conversation::Conversation,
    tenant::Instance,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use crate::schema::{self, Asked};

/// Longer than anything here takes, so that a hang fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server of this process; it stops when it is dropped.
pub struct TestServer {
    pub address: SocketAddr,
    /// Where the operator's own port is, if there is one.
    pub admin: Option<SocketAddr>,
    pub instances: Vec<Arc<Instance>>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    stopped: Mutex<Option<JoinHandle<Stopped>>>,
}

impl TestServer {
    /// Starts a server with these environment variables and the defaults.
    pub async fn start(variables: &[(&str, &str)]) -> Self {
        Self::configured(Flags::default(), variables, AccessLog::silent()).await
    }

    /// The same with a configuration file.
    pub async fn start_from(file: &Path, variables: &[(&str, &str)]) -> Self {
        let flags = Flags { file: Some(file.to_owned()), ..Flags::default() };
        Self::configured(flags, variables, AccessLog::silent()).await
    }

    /// The same, with a log.
    pub async fn start_logging(variables: &[(&str, &str)], log: AccessLog) -> Self {
        Self::configured(Flags::default(), variables, log).await
    }

    async fn configured(flags: Flags, variables: &[(&str, &str)], log: AccessLog) -> Self {
        let mut all: Vec<(String, String)> = vec![
            ("ADMIN_TOKEN".into(), "admin-secret".into()),
            ("HOST".into(), "127.0.0.1".into()),
        ];
        if let Ok(url) = std::env::var("STORE_UNDER_TEST") {
            let namespace = format!("test-{:x}", getrandom::u64().expect("random bits"));
            all.push(("MCP_STORE_URL".into(), url));
            all.push(("MCP_ECHO_STORE__NAMESPACE".into(), namespace));
            all.push(("MCP_ECHO_STORE__TIMEOUT_SECONDS".into(), "5".into()));
        }
        all.retain(|(name, _)| !variables.iter().any(|(other, _)| other == name));
        all.extend(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let read = move || Layers::merge(&flags, &all);
        let layers = read().expect("the configuration can be read");
        let config = layers.check().expect("the configuration fits");
        let source = Source { layers, read: Box::new(read), log: None };
        let server = Server::build(&config, log).expect("builds").reloading_from(source);
        let bind = || TcpListener::bind("127.0.0.1:0");
        let main = bind().await.expect("binds");
        let address = main.local_addr().expect("is bound");
        let admin = match config.admin.listen {
            Listen(Some(_)) => Some(bind().await.expect("binds")),
            Listen(None) => None,
        };
        let admin_address = admin.as_ref().map(|admin| admin.local_addr().expect("is bound"));
        let listener = Listeners { main, admin };
        let (stop, stopping) = oneshot::channel::<()>();
        let instances = server.instances().cloned().collect();
        #[expect(clippy::disallowed_methods, reason = "the test joins it")]
        let task = tokio::spawn(server.run(listener, async move {
            let _ = stopping.await;
        }));
        Self {
            address,
            admin: admin_address,
            instances,
            stop: Mutex::new(Some(stop)),
            stopped: Mutex::new(Some(task)),
        }
    }

    /// Asks the server to stop, as SIGTERM does.
    pub fn stop(&self) {
        self.stop.lock().expect("lock").take();
    }

    /// Waits until it has.
    pub async fn stopped(&self) -> Stopped {
        let task = self.stopped.lock().expect("lock").take().expect("once");
        timeout(PATIENCE, task).await.expect("stops").expect("does not panic")
    }

    /// Sessions begun so far, all instances together.
    pub fn created(&self) -> u64 {
        self.instances.iter().map(|instance| instance.state.sessions.counts().created).sum()
    }

    /// A request of that method to the front door, to be completed.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request {
            address: self.address,
            head: format!("{method} {path} HTTP/1.1\r\n"),
            host: Some("localhost".into()),
            body: Vec::new(),
            revision: None,
        }
    }

    /// A request of the operator, token and all.
    pub fn operate(&self, method: &str, path: &str) -> Request {
        self.request(method, path).header("Authorization", "Bearer admin-secret")
    }

    /// A POST to `/mcp` as the simplest client sends it.
    pub fn post(&self, body: impl Into<Vec<u8>>) -> Request {
        let mut request = self.request("POST", "/mcp").header("Content-Type", "application/json");
        request.body = body.into();
        request
    }

    /// A JSON-RPC request to `/mcp`.
    pub fn rpc(&self, method: &str, params: Value) -> Request {
        self.post(
            json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string(),
        )
    }

    /// A call of a tool.
    pub fn call(&self, tool: &str, arguments: Value) -> Request {
        self.rpc("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// `initialize` for that revision; the answer's session id is what follows needs.
    pub fn initialize(&self, version: &str) -> Request {
        let client = json!({"name": "test", "version": "1"});
        let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": client});
        self.rpc("initialize", params)
    }

    /// A session on the instance of that number.
    pub async fn session(&self, instance: u8) -> Talk<'_> {
        self.session_of(instance, "2025-06-18").await
    }

    /// A session on the instance of that number, in that revision.
    pub async fn session_of(&self, instance: u8, version: &str) -> Talk<'_> {
        let host = instance_host(instance);
        let answer = self.initialize(version).host(&host).send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let id = answer.header("mcp-session-id").expect("a session id").to_owned();
        Talk { server: self, host, id, revision: version.to_owned() }
    }
}

/// A server that was started again: of another boot, which is drawn of 4096 and so may be the same.
pub async fn other_boot(than: &TestServer, start: impl AsyncFn() -> TestServer) -> TestServer {
    let boot = |server: &TestServer| server.instances[0].process.boot;
    loop {
        let server = start().await;
        if boot(&server) != boot(than) {
            return server;
        }
    }
}

/// The host name of an instance.
pub fn instance_host(instance: u8) -> String {
    format!("echo-stateful{instance}.example.com")
}

/// A conversation.
pub struct Talk<'a> {
    pub server: &'a TestServer,
    pub host: String,
    pub id: String,
    pub revision: String,
}

impl Talk<'_> {
    /// Streams of this session on which the server may speak first, as it counts them.
    pub fn open_streams(&self) -> usize {
        self.opened(Conversation::open_streams)
    }

    /// Questions that this session's client has not answered, as the server counts them.
    pub fn open_questions(&self) -> usize {
        self.opened(Conversation::open_questions)
    }

    fn opened(&self, count: impl Fn(&Conversation) -> usize) -> usize {
        let id = SessionId::parse(&self.id).expect("an id");
        let all = self.server.instances.iter();
        all.filter_map(|instance| instance.state.sessions.conversation_of(id))
            .map(|conversation| count(&conversation))
            .sum()
    }

    fn here(&self, mut request: Request) -> Request {
        request.revision = Some(self.revision.clone());
        request.host(&self.host).header("Mcp-Session-Id", &self.id)
    }

    pub fn request(&self, method: &str) -> Request {
        self.here(self.server.request(method, "/mcp"))
    }

    pub fn post(&self, body: impl Into<Vec<u8>>) -> Request {
        self.here(self.server.post(body))
    }

    pub fn rpc(&self, method: &str, params: Value) -> Request {
        self.here(self.server.rpc(method, params))
    }

    pub fn call(&self, tool: &str, arguments: Value) -> Request {
        self.here(self.server.call(tool, arguments))
    }

    /// The structured content of a call that must succeed.
    #[track_caller]
    pub fn ask(&self, tool: &str, arguments: Value) -> impl Future<Output = Value> {
        let request = self.call(tool, arguments);
        async move {
            let answer = request.send().await;
            answer.expect_status(200);
            let result = answer.json()["result"].clone();
            assert!(result["isError"].is_null(), "{answer:?}");
            result["structuredContent"].clone()
        }
    }

    pub async fn info(&self) -> Value {
        self.ask("get_session_info", json!({})).await
    }
}

/// A request in the making.
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    address: SocketAddr,
    head: String,
    host: Option<String>,
    body: Vec<u8>,
    /// What was negotiated, where that is known.
    revision: Option<String>,
}

impl Request {
    /// Sends it elsewhere.
    pub fn to(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// To another path than `/mcp`.
    pub fn at(mut self, path: &str) -> Self {
        self.head = self.head.replacen(" /mcp ", &format!(" {path} "), 1);
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.into());
        self
    }

    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn without_host(mut self) -> Self {
        self.host = None;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        write!(self.head, "{name}: {value}\r\n").expect("writes");
        self
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.clone();
        if let Some(host) = &self.host {
            write!(bytes, "Host: {host}\r\n").expect("writes");
        }
        if !self.body.is_empty() || self.head.starts_with("POST") {
            write!(bytes, "Content-Length: {}\r\n", self.body.len()).expect("writes");
        }
        bytes.push_str("\r\n");
        [bytes.as_bytes(), &self.body].concat()
    }

    /// Sends it on a connection of its own and reads the answer to its end.
    pub async fn send(self) -> Answer {
        self.begin().await.answer().await
    }

    /// Sends it and gives the connection, its answer unread.
    pub async fn begin(self) -> Connection {
        let mut connection = Connection::open(self.address).await;
        connection.asked = Asked::read(&self.revision(), &self.body);
        connection.write(&self.bytes()).await;
        connection
    }

    /// The revision that the answer must fit.
    fn revision(&self) -> String {
        let header = self.head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("mcp-protocol-version").then_some(value)
        });
        match (header, &self.revision) {
            (Some("2026-07-28"), _) => "2026-07-28".to_owned(),
            (_, Some(negotiated)) => negotiated.clone(),
            // Nothing was negotiated, so the strictest revision of the era is as good as any.
            (_, None) => "2025-11-25".to_owned(),
        }
    }
}

/// A TCP connection and what has been read from it.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    asked: Asked,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connects");
        Self { stream, buffer: Vec::new(), asked: Asked::read("2025-11-25", b"") }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        // A server that has refused already may have closed its side.
        let _ = self.stream.write_all(bytes).await;
    }

    /// More bytes; false at the end.
    async fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        let read =
            timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("an answer in time");
        let count = read.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..count]);
        count > 0
    }

    /// Reads so many bytes and forgets them; fewer at the end.
    pub async fn take(&mut self, count: usize) -> usize {
        while self.buffer.len() < count && self.fill().await {}
        let taken = count.min(self.buffer.len());
        self.buffer.drain(..taken);
        taken
    }

    /// Whether the other side closes without another byte.
    pub async fn closes(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill().await
    }

    /// The head of an answer.
    pub async fn head(&mut self) -> Answer {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(end) = head.parse(&self.buffer).expect("is HTTP") {
                let headers = head
                    .headers
                    .iter()
                    .map(|header| {
                        let value = String::from_utf8(header.value.to_vec()).expect("is text");
                        (header.name.to_ascii_lowercase(), value)
                    })
                    .collect();
                let answer =
                    Answer { status: head.code.expect("a status"), headers, body: Vec::new() };
                self.buffer.drain(..end);
                return answer;
            }
            assert!(self.fill().await, "closed before an answer: {:?}", self.buffer);
        }
    }

    /// A whole answer.
    pub async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        if answer.status == 204 {
            return answer;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                answer.body.extend(chunk);
            }
            return answer;
        }
        let length = answer.header("content-length").expect("a length").parse().expect("a number");
        while self.buffer.len() < length {
            assert!(self.fill().await, "closed within an answer");
        }
        answer.body = self.buffer.drain(..length).collect();
        self.check(&answer.body);
        answer
    }

    /// A whole answer, if it begins in that time.
    pub async fn answer_within(&mut self, time: Duration) -> Option<Answer> {
        if self.buffer.is_empty() {
            timeout(time, self.fill()).await.ok()?;
        }
        Some(self.answer().await)
    }

    /// What was sent must fit the schema of its revision.
    fn check(&self, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        let documents = match text.lines().any(|line| line.starts_with("data: ")) {
            true => text.lines().filter_map(|line| line.strip_prefix("data: ")).collect(),
            false => vec![&*text],
        };
        for document in documents {
            if let Ok(message) = serde_json::from_str(document) {
                schema::check(&self.asked, &message);
            }
        }
    }

    /// The next chunk of a chunked answer; `None` at its end.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let (start, length) = loop {
            if let Ok(httparse::Status::Complete((start, length))) =
                httparse::parse_chunk_size(&self.buffer)
            {
                break (start, usize::try_from(length).expect("fits"));
            }
            if !self.fill().await {
                return None;
            }
        };
        while self.buffer.len() < start + length + 2 {
            if !self.fill().await {
                return None;
            }
        }
        let chunk = self.buffer[start..start + length].to_vec();
        self.buffer.drain(..start + length + 2);
        self.check(&chunk);
        (length > 0).then_some(chunk)
    }
}

/// An HTTP answer.
#[derive(Clone, Debug)]
#[must_use = "an answer is there to be checked"]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The document; of an event stream, the last message.
    #[track_caller]
    pub fn json(&self) -> Value {
        let text = self.text();
        let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back();
        let document = match self.header("content-type") {
            Some("text/event-stream") => last.unwrap_or_default(),
            _ => &text,
        };
        serde_json::from_str(document).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub fn expect_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{} {:?}", self.text(), self.headers);
        self
    }

    /// The JSON-RPC error that this must be.
    #[track_caller]
    pub fn expect_error(&self, status: u16, code: i64) -> Value {
        self.expect_status(status);
        let body = self.json();
        assert_eq!(body["error"]["code"], code, "{body}");
        assert!(body["error"]["message"].as_str().is_some_and(|text| text.len() > 5), "{body}");
        body["error"].clone()
    }

    /// `error.data.reason` of the 404 that this must be.
    #[track_caller]
    pub fn expect_gone(&self) -> String {
        let error = self.expect_error(404, -32001);
        error["data"]["reason"].as_str().expect("a reason").to_owned()
    }
}

/// Waits until something is so.
#[track_caller]
pub fn eventually(what: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let start = std::time::Instant::now();
        while !what() {
            assert!(start.elapsed() < PATIENCE, "never came true at {caller}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
