//! What is said, and what is a right answer: whole sessions, single calls, and ends of sessions.
//!
//! Each session has a message of its own, 30 bytes with the session's number in it, so an answer that belongs to another
//! session is seen. A thorough check reads the whole JSON; the quick one, for the measured part, looks at the status and
//! searches the answer for the message.

use anyhow::{Context, bail, ensure};
use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;

use crate::{dialect::Dialect, http::Answer};

/// What the engine drives: it asks each connection in turn what to say next.
pub trait Work {
    /// Writes the connection's next request; `false` if it has none.
    fn next(&mut self, connection: usize, out: &mut Vec<u8>) -> bool;
    /// Judges the answer to the connection's last request.
    fn judge(&mut self, connection: usize, answer: &Answer<'_>) -> anyhow::Result<()>;
}

/// One kind of call.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// `tools/call` of the echo in a session, with what the server is said to be asked to accept.
    Echo,
    /// The same, taking nothing but `application/json`.
    EchoJson,
    /// The same, taking nothing but `text/event-stream`.
    EchoSse,
    /// The same in revision 2026-07-28, which has no sessions.
    EchoStateless,
    /// The same with a handle, so that it counts in a session as [`Call::Echo`] does.
    EchoHandle,
    /// `initialize`: a session more.
    Initialize,
}

/// A session that is open.
pub struct Session {
    id: Box<str>,
    number: u64,
}

impl Session {
    fn host<'a>(&self, dialect: &'a Dialect) -> &'a str {
        host(dialect, self.number)
    }
}

fn host(dialect: &Dialect, number: u64) -> &str {
    &dialect.hosts[number as usize % dialect.hosts.len()]
}

/// 30 bytes that only this session says.
fn message(number: u64) -> [u8; 30] {
    let mut text = *b"session 00000000 says hello to";
    let mut rest = number;
    for digit in text[8..16].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    text
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const STATELESS_VERSION: &str = "2026-07-28";
/// The id of every request that is answered.
const ID: u64 = 7;

/// Writes POST with these headers and body; `%` in the body stands for the message.
fn post(
    dialect: &Dialect,
    host: &str,
    accept: &str,
    headers: &[(&str, &str)],
    body: (&str, &[u8], &str),
    out: &mut Vec<u8>,
) {
    let (before, message, after) = body;
    let mut put =
        |pieces: &[&str]| pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
    put(&[
        "POST ",
        &dialect.path,
        " HTTP/1.1\r\nHost: ",
        host,
        "\r\nContent-Type: application/json\r\nAccept: ",
        accept,
        "\r\n",
    ]);
    for (name, value) in headers {
        put(&[name, ": ", value, "\r\n"]);
    }
    let mut digits = [0_u8; 8];
    let length = decimal(before.len() + message.len() + after.len(), &mut digits);
    put(&["Content-Length: ", length, "\r\n\r\n", before]);
    out.extend_from_slice(message);
    out.extend_from_slice(after.as_bytes());
}

fn decimal(mut number: usize, digits: &mut [u8; 8]) -> &str {
    let mut at = digits.len();
    while at == digits.len() || number > 0 {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    str::from_utf8(&digits[at..]).unwrap_or_default()
}

/// The texts around the message, made once.
struct Texts {
    initialize: String,
    echo: (String, &'static str),
    stateless: (String, &'static str),
}

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

impl Texts {
    fn of(dialect: &Dialect) -> Self {
        let Dialect { version, tool, argument, .. } = dialect;
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":{ID},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"{argument}":""#
        );
        Self {
            initialize: format!(
                r#"{{"jsonrpc":"2.0","id":{ID},"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"bench-load","version":"0.1.0"}}}}}}"#
            ),
            echo: (call.clone(), r#""}}}"#),
            stateless: (
                call,
                r#""},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#,
            ),
        }
    }

    fn initialize(&self, dialect: &Dialect, number: u64, out: &mut Vec<u8>) {
        let body = (self.initialize.as_str(), &b""[..], "");
        post(dialect, host(dialect, number), &dialect.accept, &[], body, out);
    }

    fn initialized(&self, dialect: &Dialect, session: &Session, out: &mut Vec<u8>) {
        let headers =
            [("Mcp-Session-Id", &*session.id), ("MCP-Protocol-Version", &dialect.version)];
        post(
            dialect,
            session.host(dialect),
            &dialect.accept,
            &headers,
            (INITIALIZED, b"", ""),
            out,
        );
    }

    fn echo(&self, dialect: &Dialect, session: &Session, accept: &str, out: &mut Vec<u8>) {
        let headers =
            [("Mcp-Session-Id", &*session.id), ("MCP-Protocol-Version", &dialect.version)];
        let message = message(session.number);
        let body = (self.echo.0.as_str(), &message[..], self.echo.1);
        post(dialect, session.host(dialect), accept, &headers, body, out);
    }

    fn stateless(&self, dialect: &Dialect, number: u64, handle: Option<&str>, out: &mut Vec<u8>) {
        let headers = [
            ("MCP-Protocol-Version", STATELESS_VERSION),
            ("Mcp-Method", "tools/call"),
            ("Mcp-Name", &dialect.tool),
            ("Mcp-Param-Session", handle.unwrap_or_default()),
        ];
        let headers = &headers[..if handle.is_some() { 4 } else { 3 }];
        let mut words = message(number).to_vec();
        if let Some(handle) = handle {
            words.extend_from_slice(br#"","session":""#);
            words.extend_from_slice(handle.as_bytes());
        }
        let body = (self.stateless.0.as_str(), &words[..], self.stateless.1);
        post(dialect, host(dialect, number), &dialect.accept, headers, body, out);
    }
}

fn shown(answer: &Answer<'_>) -> String {
    format!("{}{}", String::from_utf8_lossy(answer.head), String::from_utf8_lossy(&answer.body))
}

/// The JSON-RPC result in an answer, plain or as the last event of a stream.
fn result(answer: &Answer<'_>) -> anyhow::Result<Value> {
    ensure!(answer.status == 200, "status {}", answer.status);
    let text = str::from_utf8(&answer.body)?;
    let json = match answer.events {
        true => text
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .rfind(|data| !data.trim().is_empty())
            .context("an event stream without data")?,
        false => text,
    };
    let mut whole: Value = serde_json::from_str(json).context("not JSON")?;
    ensure!(whole["jsonrpc"] == "2.0" && whole["id"] == ID, "not the answer to the request");
    ensure!(whole.get("error").is_none(), "an error");
    ensure!(whole["result"].is_object(), "no result");
    Ok(whole["result"].take())
}

fn prove_echo(answer: &Answer<'_>, message: &[u8]) -> anyhow::Result<()> {
    let result = result(answer)?;
    let text = result["content"][0]["text"].as_str().context("no text in the content")?;
    ensure!(result["isError"] != true, "the tool failed");
    ensure!(memmem::find(text.as_bytes(), message).is_some(), "another message came back");
    Ok(())
}

fn prove_initialize(answer: &Answer<'_>, dialect: &Dialect) -> anyhow::Result<Box<str>> {
    let result = result(answer)?;
    ensure!(result["protocolVersion"] == dialect.version.as_str(), "another protocol version");
    ensure!(result["serverInfo"]["name"].is_string(), "no server info");
    Ok(answer.session.context("no session id")?.into())
}

/// Where a connection is in opening a session.
enum Step {
    Idle,
    Initialize(u64),
    Initialized(Session),
    Echo(Session),
}

/// Opens whole sessions: initialize, notifications/initialized, one echo.
pub struct Opening<'a> {
    dialect: &'a Dialect,
    texts: Texts,
    steps: Vec<Step>,
    numbers: std::ops::Range<u64>,
    pub sessions: Vec<Session>,
}

impl<'a> Opening<'a> {
    pub fn new(dialect: &'a Dialect, first: u64, count: usize, connections: usize) -> Self {
        Self {
            dialect,
            texts: Texts::of(dialect),
            steps: (0..connections).map(|_| Step::Idle).collect(),
            numbers: first..first + count as u64,
            sessions: Vec::with_capacity(count),
        }
    }
}

impl Work for Opening<'_> {
    fn next(&mut self, connection: usize, out: &mut Vec<u8>) -> bool {
        let step = &mut self.steps[connection];
        if matches!(step, Step::Idle) {
            let Some(number) = self.numbers.next() else { return false };
            *step = Step::Initialize(number);
        }
        match step {
            Step::Idle => return false,
            Step::Initialize(number) => self.texts.initialize(self.dialect, *number, out),
            Step::Initialized(session) => self.texts.initialized(self.dialect, session, out),
            Step::Echo(session) => {
                self.texts.echo(self.dialect, session, &self.dialect.accept, out)
            }
        }
        true
    }

    fn judge(&mut self, connection: usize, answer: &Answer<'_>) -> anyhow::Result<()> {
        let next = match std::mem::replace(&mut self.steps[connection], Step::Idle) {
            Step::Idle => bail!("an answer to nothing"),
            Step::Initialize(number) => prove_initialize(answer, self.dialect)
                .map(|id| Step::Initialized(Session { id, number }))
                .with_context(|| format!("initialize: {}", shown(answer)))?,
            Step::Initialized(session) => {
                ensure!((200..300).contains(&answer.status), "initialized: {}", shown(answer));
                Step::Echo(session)
            }
            Step::Echo(session) => {
                prove_echo(answer, &message(session.number))
                    .with_context(|| format!("echo: {}", shown(answer)))?;
                self.sessions.push(session);
                Step::Idle
            }
        };
        self.steps[connection] = next;
        Ok(())
    }
}

/// One kind of call, again and again, around the sessions.
pub struct Calls<'a> {
    dialect: &'a Dialect,
    texts: Texts,
    call: Call,
    sessions: &'a [Session],
    at: u64,
    /// The session number that each connection's call is about.
    asked: Vec<u64>,
    /// Whether answers are read whole.
    pub thorough: bool,
    /// The sessions that `initialize` made.
    pub made: Vec<(u64, Box<str>)>,
    /// The last answer that was read whole.
    pub last_head: String,
    pub last_body: String,
}

impl<'a> Calls<'a> {
    pub fn new(dialect: &'a Dialect, call: Call, sessions: &'a [Session]) -> anyhow::Result<Self> {
        let needed = matches!(call, Call::Echo | Call::EchoJson | Call::EchoSse) && !dialect.fixed;
        ensure!(!needed || !sessions.is_empty(), "an echo needs sessions");
        Ok(Self {
            dialect,
            texts: Texts::of(dialect),
            call,
            sessions,
            at: 0,
            asked: Vec::new(),
            thorough: true,
            made: Vec::new(),
            last_head: String::new(),
            last_body: String::new(),
        })
    }
}

impl Work for Calls<'_> {
    fn next(&mut self, connection: usize, out: &mut Vec<u8>) -> bool {
        let Self { dialect, texts, sessions, .. } = self;
        self.at += 1;
        if self.asked.len() <= connection {
            self.asked.resize(connection + 1, 0);
        }
        self.asked[connection] = match self.call {
            _ if dialect.fixed => {
                // The same bytes as an echo, so that reading them costs the same.
                let id = "00000000-0000-8000-8000-000000000000".into();
                texts.echo(dialect, &Session { id, number: 0 }, &dialect.accept, out);
                0
            }
            Call::Echo | Call::EchoJson | Call::EchoSse | Call::EchoHandle => {
                // A stride, so that a million sessions are not met in the order of their memory.
                let session =
                    &sessions[(self.at.wrapping_mul(7_368_787) % sessions.len() as u64) as usize];
                let accept = match self.call {
                    Call::EchoJson => JSON,
                    Call::EchoSse => EVENTS,
                    _ => &dialect.accept,
                };
                match self.call {
                    Call::EchoHandle => {
                        texts.stateless(dialect, session.number, Some(&session.id), out)
                    }
                    _ => texts.echo(dialect, session, accept, out),
                }
                session.number
            }
            Call::EchoStateless => {
                texts.stateless(dialect, self.at % 100, None, out);
                self.at % 100
            }
            Call::Initialize => {
                texts.initialize(dialect, self.at, out);
                self.at
            }
        };
        true
    }

    fn judge(&mut self, connection: usize, answer: &Answer<'_>) -> anyhow::Result<()> {
        let asked = self.asked[connection];
        if let Call::Initialize = self.call {
            let id = match self.thorough {
                true => prove_initialize(answer, self.dialect),
                false if answer.status != 200 => Err(anyhow::anyhow!("status {}", answer.status)),
                false => answer.session.map(Box::from).context("no session id"),
            };
            self.made.push((asked, id.with_context(|| format!("initialize: {}", shown(answer)))?));
            return Ok(());
        }
        let message = message(asked);
        if self.thorough {
            prove_echo(answer, &message).with_context(|| format!("echo: {}", shown(answer)))?;
            let framed = match self.call {
                _ if self.dialect.fixed => true,
                Call::EchoSse => answer.events,
                Call::EchoJson => !answer.events,
                _ => true,
            };
            ensure!(framed, "not in the form that was asked for: {}", shown(answer));
            self.last_head = String::from_utf8_lossy(answer.head).into_owned();
            self.last_body = String::from_utf8_lossy(&answer.body).into_owned();
            return Ok(());
        }
        ensure!(answer.status == 200, "echo: {}", shown(answer));
        ensure!(
            memmem::find(&answer.body, &message).is_some(),
            "another message came back: {}",
            shown(answer)
        );
        Ok(())
    }
}

/// Ends sessions by DELETE.
pub struct Ending<'a> {
    dialect: &'a Dialect,
    left: std::slice::Iter<'a, (u64, Box<str>)>,
}

impl<'a> Ending<'a> {
    pub fn new(dialect: &'a Dialect, sessions: &'a [(u64, Box<str>)]) -> Self {
        Self { dialect, left: sessions.iter() }
    }
}

impl Work for Ending<'_> {
    fn next(&mut self, _: usize, out: &mut Vec<u8>) -> bool {
        let Some((number, id)) = self.left.next() else { return false };
        let Dialect { path, version, .. } = self.dialect;
        let host = host(self.dialect, *number);
        out.extend_from_slice(
            format!("DELETE {path} HTTP/1.1\r\nHost: {host}\r\nMcp-Session-Id: {id}\r\nMCP-Protocol-Version: {version}\r\n\r\n").as_bytes(),
        );
        true
    }

    fn judge(&mut self, _: usize, answer: &Answer<'_>) -> anyhow::Result<()> {
        ensure!((200..300).contains(&answer.status), "DELETE: {}", shown(answer));
        Ok(())
    }
}

/// The request that opens a session's GET stream.
pub fn stream_request(dialect: &Dialect, session: &Session) -> Vec<u8> {
    let Dialect { path, version, .. } = dialect;
    let (host, id) = (session.host(dialect), &session.id);
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {EVENTS}\r\nMcp-Session-Id: {id}\r\nMCP-Protocol-Version: {version}\r\n\r\n")
        .into_bytes()
}
