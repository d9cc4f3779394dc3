//! What every answer must be, whatever was asked.
//!
//! Owns the reading of answers and all that is demanded of them; panics with a sentence where a demand is
//! not met. Reads what was asked by itself, from the bytes that were sent, and knows nothing of the intent
//! behind them. Trap: a demand that is too wide finds nothing, one that is too narrow finds itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, response::Parts};
use serde_json::{Value, de::from_str, value::RawValue};

use crate::{
    input::Delivery,
    render::{Memory, Sent},
    schema::{self, Asked},
};

/// The members of an object, each value as it was written; later ones replace earlier ones.
type Object<'a> = BTreeMap<String, &'a RawValue>;

/// What was asked, as far as an answer must fit it.
#[derive(Debug)]
pub struct Question {
    method: Method,
    path: String,
    /// Whether the head is longer than the server takes.
    long_head: bool,
    /// Whether it names a transfer coding.
    coded: bool,
    /// Whether the body came whole.
    whole: bool,
    asked: Asked,
    kind: Kind,
    /// What was asked says so much of the answer; `None` where it cannot be told.
    requests: Option<Vec<String>>,
    /// Responses that have come so far, by id.
    answered: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    One,
    Batch,
    /// No JSON, or nothing at all.
    Nothing,
}

fn id_of(message: &str) -> Option<String> {
    from_str::<Object<'_>>(message).ok()?.get("id").map(|id| id.get().to_owned())
}

/// The id of a message, if that is a request without doubt; an error if it is doubtful.
fn request_id(message: &str) -> Result<Option<String>, ()> {
    let members: Object<'_> = from_str(message).map_err(|_| ())?;
    let Some(id) = members.get("id") else { return Ok(None) };
    let id = id.get();
    let digits = id.strip_prefix('-').unwrap_or(id);
    let is_id = id.starts_with('"') || digits.bytes().all(|byte| byte.is_ascii_digit());
    let version = members.get("jsonrpc").is_some_and(|text| text.get() == "\"2.0\"");
    let method = members.get("method").is_some_and(|name| from_str::<String>(name.get()).is_ok());
    let params = members.get("params").map_or("{}", |params| params.get());
    let params = params.starts_with('{') || params == "null";
    let other = members.contains_key("result") || members.contains_key("error");
    // A member twice: whichever counts.
    let written = message.matches("\":").count();
    let parsed: Value = from_str(message).map_err(|_| ())?;
    if members_of(&parsed) != written || message.contains("\\") {
        return Err(());
    }
    Ok((is_id && version && method && params && !other).then(|| in_one_line(id)))
}

/// An id as an event stream writes it, which escapes what some reader takes for a line break.
fn in_one_line(id: &str) -> String {
    let breaks = [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    breaks.iter().fold(id.to_owned(), |id, (line_break, escaped)| id.replace(*line_break, escaped))
}

/// How many members a value has, with all that is in it; fewer than were written if one stood twice.
fn members_of(value: &Value) -> usize {
    match value {
        Value::Object(members) => members.len() + members.values().map(members_of).sum::<usize>(),
        Value::Array(all) => all.iter().map(members_of).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        // Quotes and a colon in a text count above as well.
        Value::String(text) => text.matches("\":").count(),
    }
}

impl Question {
    pub fn new(sent: &Sent, delivery: Delivery, memory: &Memory) -> Self {
        let text = std::str::from_utf8(&sent.body).unwrap_or_default();
        let messages: Vec<&RawValue> = from_str(text).unwrap_or_default();
        let kind = match (messages.is_empty(), from_str::<&RawValue>(text)) {
            (false, _) => Kind::Batch,
            (true, Ok(_)) => Kind::One,
            (true, Err(_)) => Kind::Nothing,
        };
        let texts: Vec<&str> = match kind {
            Kind::Batch => messages.iter().map(|message| message.get()).collect(),
            Kind::One => vec![text],
            Kind::Nothing => vec![],
        };
        // Of two requests with one id nobody knows which an answer belongs to.
        let ids: Vec<_> = texts.iter().filter_map(|message| id_of(message)).collect();
        let unique = ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
        let told: &[u8] = if unique { &sent.body } else { &[] };
        let requests: Result<Vec<_>, ()> = texts.into_iter().map(request_id).collect();
        Self {
            method: sent.method.clone(),
            path: sent.target.path().to_owned(),
            long_head: is_long(sent),
            coded: sent.headers.contains_key(header::TRANSFER_ENCODING),
            whole: matches!(delivery, Delivery::Whole | Delivery::Chunks(_)),
            asked: Asked::read(&revision(sent, memory), told),
            kind,
            requests: requests.ok().map(|ids| ids.into_iter().flatten().collect()),
            answered: Vec::new(),
        }
    }

    pub fn revision(&self) -> &str {
        &self.asked.revision
    }

    fn is_mcp(&self) -> bool {
        self.path == "/mcp" || self.path == "/mcp/"
    }

    /// Whether exactly this was asked, and nothing else.
    pub fn is_call(&self) -> bool {
        self.kind == Kind::One && self.requests.as_ref().is_some_and(|ids| ids.len() == 1)
    }

    /// The head of an answer.
    pub fn check_head(&self, head: &Parts) {
        let status = head.status.as_u16();
        let known =
            [200, 202, 204, 400, 401, 403, 404, 405, 406, 408, 409, 413, 415, 421, 431, 501, 503];
        assert!(known.contains(&status), "status {status}");
        assert_eq!(status == 431, self.long_head, "only a long head gets 431, and each does");
        assert!(status != 501 || self.coded, "501 without a transfer coding");
        let single = |name: &str| single(&head.headers, name);
        for name in ["x-request-id", "mcp-echo-replica", "mcp-echo-boot"] {
            assert!(single(name).is_some_and(|value| !value.is_empty()), "{status} without {name}");
        }
        let instance = single("mcp-echo-instance");
        let health = ["/livez", "/readyz", "/health"].contains(&self.path.as_str());
        assert!(!health || instance.is_none(), "health is of no instance");
        assert!(
            !self.is_mcp() || instance.is_some() || [400, 421, 431].contains(&status),
            "no instance"
        );
        assert!(instance.is_none() || ![421, 431].contains(&status), "{status} from an instance");
        if let Some(id) = single("mcp-session-id") {
            assert!([200, 202].contains(&status), "{status} gives a session");
            assert_eq!(id.len(), 36, "a session id");
            assert_eq!(Some(&id[..1]), instance.as_deref(), "minted elsewhere");
        }
        match head.status {
            StatusCode::METHOD_NOT_ALLOWED => {
                assert!(single("allow").is_some(), "405 without Allow");
            }
            StatusCode::UNAUTHORIZED => {
                assert!(single("www-authenticate").is_some(), "401 without WWW-Authenticate");
            }
            StatusCode::SERVICE_UNAVAILABLE if self.is_mcp() => {
                assert!(single("retry-after").is_some(), "503 without Retry-After");
            }
            StatusCode::REQUEST_TIMEOUT => assert!(!self.whole, "408 for a body that came"),
            _ => {}
        }
        if is_events(&head.headers) {
            assert_eq!(status, 200, "events");
            assert_eq!(single("cache-control").as_deref(), Some("no-cache"));
            assert_eq!(single("x-accel-buffering").as_deref(), Some("no"));
            assert!(self.is_mcp(), "events at {}", self.path);
        }
    }

    /// A body that is no event stream.
    pub fn check_body(&mut self, head: &Parts, body: &[u8], memory: &mut Memory) {
        let status = head.status.as_u16();
        if body.is_empty() {
            let silent = [202, 204].contains(&status) || self.method == Method::HEAD;
            assert!(silent, "{status} without a body");
            let asked = self.requests.as_ref().is_some_and(|ids| !ids.is_empty());
            assert!(status != 202 || !asked, "a request was taken for a notification");
            return;
        }
        assert!(![202, 204].contains(&status), "{status} with a body");
        let text = std::str::from_utf8(body).expect("text");
        let content_type = single(&head.headers, header::CONTENT_TYPE.as_str());
        if content_type.as_deref() == Some("text/plain; charset=utf-8") {
            assert!(["ok\n", "draining\n", "use GET\n"].contains(&text), "{text}");
            return;
        }
        assert_eq!(content_type.as_deref(), Some("application/json"), "{status} {text}");
        let Some(value) = read(text) else { return };
        let rpc = value.is_array() || value.get("jsonrpc").is_some();
        if !rpc {
            let problem = value["error"].as_str().is_some_and(|problem| problem.len() > 10);
            let elsewhere = status == 200 && !self.is_mcp();
            assert!(elsewhere || (problem && status >= 400), "{status} {text}");
            return;
        }
        assert!(self.is_mcp(), "MCP at {}: {text}", self.path);
        self.check_document(text, &value, memory);
        if status == 200 {
            self.check_complete();
            return;
        }
        let [error] = [&value];
        assert!(error.get("error").is_some(), "{status} {text}");
        // What is refused before the body is read names no id.
        let by_header =
            value["error"]["message"].as_str().is_some_and(|it| it.starts_with("the header "));
        let challenge = head.headers.contains_key(header::WWW_AUTHENTICATE);
        let unread = (by_header || challenge) && value.get("id").is_none();
        let read = self.whole && !unread && [400, 404, 409, 503].contains(&status);
        if self.is_call() && read {
            self.check_complete();
        }
        if status == 404 && value["error"]["code"] == -32001 {
            assert!(value["error"]["data"]["reason"].is_string(), "{text}");
        }
    }

    /// One document of an answer: a message, or the array of those that answer a batch.
    fn check_document(&mut self, text: &str, value: &Value, memory: &mut Memory) {
        match value {
            Value::Array(all) => {
                assert_eq!(self.kind, Kind::Batch, "an array: {text}");
                assert!(!all.is_empty(), "an empty array");
                let raw: Vec<&RawValue> = from_str(text).expect("an array");
                for (raw, value) in raw.iter().zip(all) {
                    assert!(value.get("method").is_none(), "no response: {raw}");
                    self.check_message(raw.get(), value, memory);
                }
            }
            one => self.check_message(text, one, memory),
        }
    }

    /// A JSON-RPC message.
    fn check_message(&mut self, text: &str, value: &Value, memory: &mut Memory) {
        let members: Object<'_> = from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(value["jsonrpc"], "2.0", "{text}");
        let has = |name: &str| members.contains_key(name);
        for name in members.keys() {
            let known = ["jsonrpc", "id", "method", "params", "result", "error"];
            assert!(known.contains(&name.as_str()), "{name} in {text}");
        }
        let forms = [has("method"), has("result"), has("error")];
        assert_eq!(forms.iter().filter(|has| **has).count(), 1, "{text}");
        if has("error") {
            let code = value["error"]["code"].as_i64().expect("a code");
            let message = value["error"]["message"].as_str().expect("a message");
            assert!(message.len() > 5, "{text}");
            let busy = message.contains("as many tasks") || message.contains("subscriptions");
            assert!(code != -32603 || busy, "our fault: {text}");
        }
        if !has("method") {
            let id = members.get("id").map(|id| in_one_line(id.get()));
            assert!(id.is_some() || has("error"), "a result of nothing: {text}");
            if let (Some(id), Some(sent)) = (&id, &self.requests) {
                let resumed = self.method == Method::GET;
                let echoed = sent.contains(id) || self.kind != Kind::Nothing && has("error");
                assert!(echoed || resumed, "an answer to nothing: {text} to {sent:?}");
            }
            self.answered.extend(id);
        }
        schema::check(&self.asked, value);
        learn(value, &members, memory);
    }

    /// Every request has been answered, and once.
    fn check_complete(&self) {
        let Some(requests) = &self.requests else { return };
        for id in requests {
            let count = |all: &[String]| all.iter().filter(|known| *known == id).count();
            let (answers, due) = (count(&self.answered), count(requests));
            // In a batch, something that is no request may have the same id.
            let fits = answers == due || self.kind == Kind::Batch && answers > due;
            assert!(fits, "answers to {id}: {self}");
        }
    }

    /// An event stream that has come to its end by itself.
    pub fn check_end(&self, cut_off: bool) {
        match &self.requests {
            Some(_) if self.method != Method::POST => {}
            Some(requests) if cut_off => {
                assert!(self.answered.len() <= requests.len().max(1), "{self}");
            }
            Some(_) => self.check_complete(),
            None => {}
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} asked, {:?} answered", self.requests, self.answered)
    }
}

/// The one value of a header that may stand once.
/// Whether a head has more than 64 KiB, as HTTP/1 writes it, or 100 lines.
fn is_long(sent: &Sent) -> bool {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        name.as_str().len() + value.len() + ": \r\n".len()
    };
    let bytes = sent.target.to_string().len() + sent.headers.iter().map(line).sum::<usize>();
    bytes > 64 * 1024 || sent.headers.len() > 100
}

fn single(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().expect("text").to_owned();
    assert!(values.next().is_none(), "{name} stands twice");
    Some(first)
}

/// A document of an answer; `None` if it gives back what stood in `_meta` and serde does not read: half of a surrogate
/// pair, or a number beyond all that a float can be.
fn read(text: &str) -> Option<Value> {
    let half = || text.to_ascii_lowercase().contains("\\ud");
    match from_str(text) {
        Ok(value) => Some(value),
        Err(_) if half() => None,
        Err(error) if error.to_string().starts_with("number out of range") => None,
        Err(error) => panic!("{error}: {text}"),
    }
}

pub fn is_events(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value == "text/event-stream")
}

/// In which revision an answer is to be read.
fn revision(sent: &Sent, memory: &Memory) -> String {
    let header = |name: &str| sent.headers.get(name).and_then(|value| value.to_str().ok());
    let named = header("mcp-protocol-version").unwrap_or_default();
    let body: Value = serde_json::from_slice(&sent.body).unwrap_or_default();
    let claims = |message: &Value| {
        !message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].is_null()
    };
    let all = body.as_array().map_or(std::slice::from_ref(&body), Vec::as_slice);
    let claiming = all.iter().filter(|message| claims(message)).count();
    // What says it twice cannot be read, and so says nothing.
    let text = String::from_utf8_lossy(&sent.body);
    let said = text.matches("\"io.modelcontextprotocol/protocolVersion\":").count();
    let modern = claiming > 0 && said == claiming;
    if modern || named == "2026-07-28" {
        return "2026-07-28".to_owned();
    }
    if body["method"] == "initialize" {
        // Whatever is negotiated, the result looks the same.
        return "2025-11-25".to_owned();
    }
    let session = header("mcp-session-id");
    let known = memory.sessions.iter().find(|(id, _)| Some(id.as_str()) == session);
    if let Some((_, Some(negotiated))) = known {
        return negotiated.clone();
    }
    match named {
        "2025-11-25" | "2025-06-18" | "2024-11-05" => named.to_owned(),
        _ => "2025-03-26".to_owned(),
    }
}

/// Remembers what later requests may refer to.
fn learn(value: &Value, members: &Object<'_>, memory: &mut Memory) {
    fn keep(all: &mut Vec<String>, value: &Value) {
        if let Some(text) = value.as_str()
            && !all.iter().any(|known| known == text)
        {
            all.push(text.to_owned());
        }
    }
    let result = &value["result"];
    if let Some(handle) = result["structuredContent"]["session"].as_str() {
        memory.add_session(handle, None);
    }
    keep(&mut memory.tasks, &result["taskId"]);
    if let Some(asked) = result["inputRequests"].as_object() {
        memory.keys = asked.keys().cloned().collect();
        let methods = asked.iter().map(|(key, what)| (key.clone(), what["method"].clone()));
        memory.asked.extend(methods);
    }
    keep(&mut memory.states, &result["requestState"]);
    keep(&mut memory.cursors, &result["nextCursor"]);
    if value.get("method").is_some()
        && let Some(id) = members.get("id")
    {
        keep(&mut memory.questions, &Value::from(id.get()));
        memory.asked.insert(id.get().to_owned(), value["method"].clone());
    }
}

/// An event stream, piece by piece.
#[derive(Debug, Default)]
pub struct Events {
    buffer: Vec<u8>,
    /// Comments since the last event.
    pub quiet: usize,
}

impl Events {
    pub fn read(&mut self, bytes: &[u8], question: &mut Question, memory: &mut Memory) {
        self.buffer.extend_from_slice(bytes);
        while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
            self.event(std::str::from_utf8(&event).expect("text"), question, memory);
        }
    }

    fn event(&mut self, event: &str, question: &mut Question, memory: &mut Memory) {
        if event.starts_with(':') {
            let known = [": keep-alive\n\n", ": closing\n\n"].contains(&event);
            let gap = event.ends_with(" events are no longer kept\n\n");
            assert!(known || gap, "{event:?}");
            self.quiet += 1;
            return;
        }
        self.quiet = 0;
        let mut data = None;
        for line in event.trim_end_matches('\n').split('\n') {
            let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("{event:?}"));
            match field {
                "id" => {
                    if memory.events.len() < 64 {
                        memory.events.push(value.to_owned());
                    }
                }
                "event" => assert_eq!(value, "message", "{event:?}"),
                "retry" => assert!(value.parse::<u64>().is_ok(), "{event:?}"),
                "data" => assert!(data.replace(value).is_none(), "{event:?}"),
                _ => panic!("{event:?}"),
            }
        }
        let data = data.unwrap_or_else(|| panic!("no data: {event:?}"));
        assert!(!data.contains('\r'), "a line break: {event:?}");
        if data.is_empty() {
            return;
        }
        if let Some(value) = read(data) {
            question.check_document(data, &value, memory);
        }
    }

    /// Nothing may be left over at the end.
    pub fn check_end(&self) {
        assert!(self.buffer.is_empty(), "cut in the middle: {:?}", self.buffer);
    }
}
