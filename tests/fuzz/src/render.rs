//! From what a fuzzer says to what goes over the wire.
//!
//! Owns the rendering and the memory of what earlier answers gave, which later requests refer to. Knows
//! how a right request looks, so that it can be made wrong in one place. Trap: a session's id may stand
//! only where the server must not log it; the log is searched for every id (`drive`).

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri as Target};
use mcp_echo_stateful::{
    config::{ToolSet, ToolsConfig},
    tools,
    wire::version::ProtocolVersion,
};
use serde_json::Value;

use crate::{
    input::{
        Answer, Ask, Event, Extra, Header, HeaderValue as Said, Host, HostForm, Json, Kind,
        Message, Meta, Number, Path, Ref, RpcId, Spoil, Step, Text, Uri, Version, Word,
    },
    words,
};

/// One request, ready to be sent.
#[derive(Debug)]
pub struct Sent {
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.method, self.target)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", value.as_bytes().escape_ascii())?;
        }
        match std::str::from_utf8(&self.body) {
            Ok(text) => f.write_str(text),
            Err(_) => write!(f, "{}", self.body.escape_ascii()),
        }
    }
}

/// What answers have given so far.
#[derive(Debug, Default)]
pub struct Memory {
    /// Ids and handles, with the revision that was negotiated, where one was.
    pub sessions: Vec<(String, Option<String>)>,
    pub tasks: Vec<String>,
    pub states: Vec<String>,
    pub questions: Vec<String>,
    pub events: Vec<String>,
    pub cursors: Vec<String>,
    /// Under which keys answers were asked for last.
    pub keys: Vec<String>,
    /// By which method each key, or the id of a question, asks.
    pub asked: BTreeMap<String, Value>,
    /// Whether something has been asked that may end another stream before its answer.
    pub unsettled: bool,
}

/// What a request does to streams.
#[derive(Clone, Copy, Debug)]
pub struct Loose {
    /// It may end before its answer.
    pub hangs_up: bool,
    /// It does not end by itself.
    pub listens: bool,
}

impl Memory {
    /// A session that an answer gave.
    pub fn add_session(&mut self, id: &str, version: Option<String>) {
        if self.sessions.len() < 16 && !self.sessions.iter().any(|(known, _)| known == id) {
            self.sessions.push((id.to_owned(), version));
        }
    }

    /// Notes a request that is about to be sent.
    pub fn note(&mut self, sent: &Sent) -> Loose {
        let body = String::from_utf8_lossy(&sent.body);
        let says = |word: &str| body.contains(word);
        self.unsettled |= sent.headers.contains_key("last-event-id")
            || says("notifications/cancelled")
            || says("\\");
        Loose { hangs_up: says("test_reconnection"), listens: says("subscriptions/listen") }
    }

    fn session(&self, session: &Ref) -> String {
        let ids: Vec<_> = self.sessions.iter().map(|(id, _)| id.clone()).collect();
        match (session, ids.as_slice()) {
            (Ref::Strange(how), [.., last]) => {
                let turned = |at: usize, digit: &str| {
                    let mut id = last.clone();
                    id.replace_range(at..=at, digit);
                    id
                };
                match how % 8 {
                    0 => turned(35, if last.ends_with('0') { "1" } else { "0" }),
                    1 => turned(0, "9"),
                    2 => turned(0, "f"),
                    3 => turned(1, "0"),
                    4 => turned(4, "0"),
                    5 => turned(14, "4"),
                    6 => last.to_uppercase(),
                    _ => last.replace('-', ""),
                }
            }
            (Ref::Strange(_), []) => "02aa3d4c-c821-8388-9fde-d39b06f54f35".to_owned(),
            _ => known(session, &ids),
        }
    }
}

fn known(what: &Ref, all: &[String]) -> String {
    match what {
        // Counted from the last one.
        Ref::Known(number) if !all.is_empty() => {
            all[all.len() - 1 - usize::from(*number) % all.len()].clone()
        }
        Ref::Known(_) => "none".to_owned(),
        Ref::Strange(how) => match all.last() {
            Some(last) if how % 2 == 0 => format!("{last}0"),
            Some(last) => last.chars().skip(1).collect(),
            None => format!("strange-{how}"),
        },
        Ref::Free(words) => text(words),
    }
}

fn pick<T: Copy>(all: &[T], number: u8) -> T {
    all[usize::from(number) % all.len()]
}

/// Every tool of every set, in an order that inputs rely on.
pub fn all_tools() -> impl Iterator<Item = &'static tools::Tool> {
    let sets = [ToolSet::Session, ToolSet::Diagnostics, ToolSet::Streaming, ToolSet::Conformance];
    sets.into_iter().flat_map(|set| tools::of_set(set).iter())
}

/// By which number inputs call a tool.
pub fn tool(name: &str) -> u8 {
    let place = all_tools().position(|tool| tool.name == name).expect("a tool");
    u8::try_from(place).expect("few tools")
}

/// One tool as a client knows it.
struct Form {
    name: &'static str,
    /// Names, types, allowed values.
    required: Vec<(String, Value)>,
    optional: Vec<(String, Value)>,
    mirrored: Vec<(&'static str, &'static str)>,
}

/// All that is known of the server beforehand.
pub struct Knowledge {
    tools: Vec<Form>,
}

impl Knowledge {
    pub fn of(config: &ToolsConfig) -> Self {
        let forms = all_tools().map(|tool| {
            let schema = tool.describe(ProtocolVersion::V2025_11_25, config)["inputSchema"].take();
            let mut needed = schema["required"].as_array().cloned().unwrap_or_default();
            // One way of several to be complete.
            let ways = schema["allOf"][0]["anyOf"].as_array().and_then(|ways| ways.last());
            let way = ways.and_then(|way| way["required"].as_array());
            needed.extend(way.cloned().unwrap_or_default());
            let members = schema["properties"].as_object().cloned().unwrap_or_default();
            let own = members.into_iter().filter(|(name, _)| *name != tools::HANDLE.0);
            let (required, optional) =
                own.partition(|(name, _)| needed.contains(&Value::from(name.as_str())));
            Form { name: tool.name, required, optional, mirrored: tool.mirrored().collect() }
        });
        Self { tools: forms.collect() }
    }
}

/// The members of an object, each value as JSON text.
type Members = Vec<(String, String)>;

/// One message with what its headers must repeat.
#[derive(Default)]
struct Rendered {
    text: String,
    method: String,
    name: Option<String>,
    mirrored: Vec<(String, String)>,
}

pub struct Renderer<'a> {
    pub knowledge: &'a Knowledge,
    pub memory: &'a Memory,
}

impl Step {
    /// The step with all that it takes over from the last one.
    pub fn after(&self, last: Option<&Self>) -> Self {
        let mut step = self.clone();
        if let (Host::Same, Some(last)) = (&step.host, last) {
            step.host = last.host.clone();
        }
        if let (Ask::Again { answer, state }, Some(last)) = (&self.ask, last) {
            step.ask = last.ask.clone();
            let message = match &mut step.ask {
                Ask::Sessioned { message, .. } | Ask::Stateless { message, .. } => message,
                _ => return step,
            };
            message.extra.answer = Some(answer.clone());
            message.extra.state = state.then_some(Ref::Known(0));
        }
        step
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");

impl Renderer<'_> {
    /// The request of a step (see [`Step::after`]); `None` if it is none, or one that no HTTP library could have read.
    pub fn request(&self, step: &Step) -> Option<Sent> {
        let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
        let mut head = |name: &str, value: &str| headers.push((name.to_owned(), value.into()));
        let session = |session: &Option<Ref>| session.as_ref().map(|id| self.memory.session(id));
        let (mut verb, mut path, mut body) = ("POST", "/mcp".to_owned(), Vec::new());
        match &step.ask {
            Ask::Pass(_) | Ask::Again { .. } => return None,
            Ask::Sessioned { session: id, version, message } => {
                head(JSON.0, JSON.1);
                head("accept", "application/json, text/event-stream");
                session(id).inspect(|id| head("mcp-session-id", id));
                version.inspect(|version| head("mcp-protocol-version", version_name(*version)));
                body = self.message(message, None).text.into_bytes();
            }
            Ask::Stateless { message, meta } => {
                let message = self.message(message, Some(meta));
                head(JSON.0, JSON.1);
                head("accept", "application/json, text/event-stream");
                head("mcp-protocol-version", version_name(Version::V2026_07_28));
                head("mcp-method", &message.method);
                message.name.inspect(|name| head("mcp-name", &header_text(name)));
                for (name, value) in &message.mirrored {
                    head(&format!("mcp-param-{name}"), &header_text(value));
                }
                body = message.text.into_bytes();
            }
            Ask::Initialize { version, unable, client } => {
                head(JSON.0, JSON.1);
                let mut params: Members = vec![
                    ("protocolVersion".to_owned(), quoted(version_name(*version))),
                    ("capabilities".to_owned(), capabilities(*unable)),
                ];
                if let Some((name, version)) = client {
                    let info = [("name", name), ("version", version)];
                    let info = info.map(|(key, value)| (key.to_owned(), json_text(value)));
                    params.push(("clientInfo".to_owned(), object(&info)));
                }
                body = envelope(Some("1"), "\"initialize\"", Some(&object(&params))).into_bytes();
            }
            Ask::Get { session: id, after } => {
                verb = "GET";
                head("accept", "text/event-stream");
                session(id).inspect(|id| head("mcp-session-id", id));
                after.as_ref().inspect(|after| head("last-event-id", &self.event(after)));
            }
            Ask::Delete { session: id } => {
                verb = "DELETE";
                session(id).inspect(|id| head("mcp-session-id", id));
            }
            Ask::Batch { session: id, messages } => {
                head(JSON.0, JSON.1);
                head("mcp-protocol-version", version_name(Version::V2025_03_26));
                session(id).inspect(|id| head("mcp-session-id", id));
                let messages = messages.iter().map(|message| self.message(message, None).text);
                body = format!("[{}]", messages.collect::<Vec<_>>().join(",")).into_bytes();
            }
            Ask::Other { verb: other, path: to } => {
                verb = pick(words::VERBS, *other);
                let mut token = |wanted: bool| {
                    if wanted {
                        head("authorization", "Bearer admin-s3cret");
                    }
                };
                path = match to {
                    Path::Mcp => "/mcp".to_owned(),
                    Path::McpSlash => "/mcp/".to_owned(),
                    Path::Sessions { token: wanted, query } => {
                        token(*wanted);
                        let query = query.as_ref().map(|query| format!("?limit={}", text(query)));
                        format!("/debug/sessions{}", query.unwrap_or_default())
                    }
                    Path::Session { token: wanted, session } => {
                        token(*wanted);
                        format!("/debug/sessions/{}", self.memory.session(session))
                    }
                    Path::Metadata => "/.well-known/oauth-protected-resource".to_owned(),
                    Path::MetadataOfMcp => "/.well-known/oauth-protected-resource/mcp".to_owned(),
                    Path::Health(which) => {
                        pick(&["/livez", "/readyz", "/health"], *which).to_owned()
                    }
                    Path::Free(words) => format!("/{}", text(words)),
                };
            }
            Ask::Json(json) => {
                head(JSON.0, JSON.1);
                body = self.json(json).into_bytes();
            }
            Ask::Bytes(bytes) => {
                head(JSON.0, JSON.1);
                body.clone_from(bytes);
            }
            Ask::Large(size) => {
                head(JSON.0, JSON.1);
                body = vec![b' '; usize::from(*size) * 512];
                body.extend(envelope(Some("1"), "\"ping\"", None).bytes());
            }
        }
        let authority = self.host(&step.host, &mut headers);
        for said in &step.headers {
            self.header(said, &mut headers);
        }
        for spoil in &step.spoils {
            self::spoil(&mut body, spoil);
        }
        let target = match authority {
            Some(authority) => format!("http://{authority}{path}"),
            None => path,
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            // What these refuse, hyper refuses before the server sees it.
            let name = HeaderName::try_from(name).ok()?;
            // Leading and trailing white space is not part of a value (RFC 9110 §5.5).
            map.append(name, HeaderValue::from_bytes(value.trim_ascii()).ok()?);
        }
        let (method, target) = (Method::try_from(verb).ok()?, Target::try_from(target).ok()?);
        Some(Sent { method, target, headers: map, body })
    }

    /// Adds the `Host` header; gives what stands in the target instead.
    fn host(&self, host: &Host, headers: &mut Vec<(String, Vec<u8>)>) -> Option<String> {
        let instance = |number: u8| format!("echo-stateful{}.example.com", number % 10);
        let mut head = |value: &[u8]| headers.push(("host".to_owned(), value.to_owned()));
        match host {
            Host::Same => head(instance(0).as_bytes()),
            Host::Instance(number) => head(instance(*number).as_bytes()),
            Host::FrontDoor => head(b"localhost:3000"),
            Host::Other(form, number) => {
                let name = instance(*number);
                match form {
                    HostForm::Upper => head(name.to_uppercase().as_bytes()),
                    HostForm::Dot => head(format!("{name}.").as_bytes()),
                    HostForm::Port => head(format!("{name}:8080").as_bytes()),
                    HostForm::LongPort => head(format!("{name}:808080").as_bytes()),
                    HostForm::V6 => head(b"[::1]:3000"),
                    HostForm::Foreign => head(format!("{name}.evil").as_bytes()),
                    HostForm::Missing => {}
                    HostForm::Twice => {
                        head(name.as_bytes());
                        head(name.as_bytes());
                    }
                    HostForm::InTarget => {
                        head(name.as_bytes());
                        return Some(name);
                    }
                    HostForm::InTargetOnly => return Some(name),
                    HostForm::Bytes => head(&[b'[', *number, 0xc3, b']', b':']),
                }
            }
        }
        None
    }

    fn header(&self, said: &Header, headers: &mut Vec<(String, Vec<u8>)>) {
        let (name, likely) = pick(words::HEADERS, said.name);
        let value = match &said.value {
            Said::Likely(number) => Some(pick(likely, *number).as_bytes().to_vec()),
            Said::Text(words) => Some(text(words).into_bytes()),
            Said::Base64(words) => {
                Some(format!("=?base64?{}?=", STANDARD.encode(text(words))).into_bytes())
            }
            Said::Bytes(bytes) => Some(bytes.clone()),
            // Elsewhere it might be logged, as what the client itself made public.
            Said::Session(session) if words::OF_SESSIONS.contains(&name) => {
                Some(self.memory.session(session).into_bytes())
            }
            Said::Session(_) => Some(b"0".to_vec()),
            Said::Gone => None,
        };
        if !said.again {
            headers.retain(|(known, _)| known != name);
        }
        if let Some(value) = value {
            headers.push((name.to_owned(), value));
        }
    }

    fn event(&self, event: &Event) -> String {
        let events = &self.memory.events;
        match event {
            Event::Known(number) if !events.is_empty() => {
                events[usize::from(*number) % events.len()].clone()
            }
            Event::Known(number) => format!("1-{number}"),
            Event::Free(stream, number) => format!("{stream}-{number}"),
            Event::Text(words) => text(words),
        }
    }

    /// A message; with `meta`, one that stands for itself.
    fn message(&self, message: &Message, meta: Option<&Meta>) -> Rendered {
        let id = rpc_id(&message.id, self);
        let mut rendered = Rendered::default();
        let mut params: Members = Vec::new();
        let mut member = |name: &str, value: String| params.push((name.to_owned(), value));
        let mut notification = false;
        let method: String = match &message.kind {
            Kind::Tool { tool, text: words, number, optional, handle, overlay } => {
                let form = &self.knowledge.tools[usize::from(*tool) % self.knowledge.tools.len()];
                let wanted = (0..8).map(|bit| optional >> bit & 1 == 1);
                let optional = form.optional.iter().zip(wanted).filter(|(_, wanted)| *wanted);
                let chosen = form.required.iter().chain(optional.map(|(member, _)| member));
                let mut arguments: Members = chosen
                    .map(|(name, schema)| (name.clone(), fitting(schema, words, *number)))
                    .collect();
                let stateful = form.mirrored.contains(&tools::HANDLE);
                if let (Some(handle), true) = (handle, stateful) {
                    let handle = quoted(&self.memory.session(handle));
                    arguments.push((tools::HANDLE.0.to_owned(), handle));
                }
                for (name, value) in overlay {
                    let (name, value) = (word(name), self.json(value));
                    match arguments.iter_mut().find(|(known, _)| *known == name) {
                        Some(known) => known.1 = value,
                        None => arguments.push((name, value)),
                    }
                }
                for (argument, header) in &form.mirrored {
                    let value = arguments.iter().find(|(name, _)| name == argument);
                    let value = value.and_then(|(_, text)| serde_json::from_str(text).ok());
                    let shown = match value {
                        Some(Value::String(text)) => text,
                        Some(Value::Null) | None => continue,
                        Some(other) => other.to_string(),
                    };
                    rendered.mirrored.push(((*header).to_lowercase(), shown));
                }
                rendered.name = Some(form.name.to_owned());
                member("name", quoted(form.name));
                member("arguments", object(&arguments));
                "tools/call".to_owned()
            }
            Kind::List(which, cursor) => {
                if let Some(cursor) = cursor {
                    member("cursor", quoted(&known(cursor, &self.memory.cursors)));
                }
                let lists =
                    ["tools/list", "prompts/list", "resources/list", "resources/templates/list"];
                pick(&lists, *which).to_owned()
            }
            Kind::Read(uri) | Kind::Subscribe(uri) | Kind::Unsubscribe(uri) => {
                let uri = self.uri(uri);
                member("uri", quoted(&uri));
                rendered.name = Some(uri);
                match message.kind {
                    Kind::Read(_) => "resources/read".to_owned(),
                    Kind::Subscribe(_) => "resources/subscribe".to_owned(),
                    _ => "resources/unsubscribe".to_owned(),
                }
            }
            Kind::Prompt { prompt, blanks } => {
                let name = pick(words::PROMPTS, *prompt);
                let blanks: Members =
                    blanks.iter().map(|(name, value)| (word(name), json_text(value))).collect();
                member("name", quoted(name));
                member("arguments", object(&blanks));
                rendered.name = Some(name.to_owned());
                "prompts/get".to_owned()
            }
            Kind::Complete { prompt, of, argument, value, session } => {
                let reference = match prompt {
                    true => [("type", "ref/prompt"), ("name", pick(words::PROMPTS, *of))],
                    false => {
                        let templates =
                            ["session://{session}/data/{key}", "test://template/{id}/data", "x"];
                        [("type", "ref/resource"), ("uri", pick(&templates, *of))]
                    }
                };
                let reference = reference.map(|(name, value)| (name.to_owned(), quoted(value)));
                member("ref", object(&reference));
                let argument = [("name", quoted(&word(argument))), ("value", json_text(value))];
                let argument = argument.map(|(name, value)| (name.to_owned(), value));
                member("argument", object(&argument));
                if let Some(session) = session {
                    let session = quoted(&self.memory.session(session));
                    let arguments = object(&[("session".to_owned(), session)]);
                    member("context", object(&[("arguments".to_owned(), arguments)]));
                }
                "completion/complete".to_owned()
            }
            Kind::Level(level) => {
                member("level", quoted(pick(words::LEVELS, *level)));
                "logging/setLevel".to_owned()
            }
            Kind::Listen { lists, uris, tasks } => {
                let flag = |bit: u8| (lists >> bit & 1 == 0).to_string();
                let list = |all: Vec<String>| format!("[{}]", all.join(","));
                let uris = uris.iter().map(|uri| quoted(&self.uri(uri))).collect();
                let tasks =
                    tasks.iter().map(|task| quoted(&known(task, &self.memory.tasks))).collect();
                let wanted = [
                    ("toolsListChanged", flag(0)),
                    ("promptsListChanged", flag(1)),
                    ("resourcesListChanged", flag(2)),
                    ("resourceSubscriptions", list(uris)),
                    ("taskIds", list(tasks)),
                ];
                member("notifications", object(&wanted.map(|(name, v)| (name.to_owned(), v))));
                "subscriptions/listen".to_owned()
            }
            Kind::Task { verb, task } => {
                let task = known(task, &self.memory.tasks);
                member("taskId", quoted(&task));
                rendered.name = Some(task);
                pick(&["tasks/get", "tasks/update", "tasks/cancel"], *verb).to_owned()
            }
            Kind::Ping => "ping".to_owned(),
            Kind::Discover => "server/discover".to_owned(),
            Kind::Answer { question, answer } => {
                let id = known(question, &self.memory.questions);
                let result = match answer {
                    Answer::Error => "\"error\":{\"code\":-1,\"message\":\"no\"}".to_owned(),
                    answer => format!("\"result\":{}", self.answer_to(&id, answer)),
                };
                rendered.text = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},{result}}}");
                return rendered;
            }
            Kind::Notice(which, about) => {
                notification = true;
                member("requestId", rpc_id(about, self));
                let notices = [
                    "notifications/cancelled",
                    "notifications/initialized",
                    "notifications/roots/list_changed",
                ];
                pick(&notices, *which).to_owned()
            }
            Kind::Method { method, params, notification } => {
                let (method, params) = (word(method), self.json(params));
                let id = (!notification).then_some(&*id);
                rendered.text = envelope(id, &quoted(&method), Some(&params));
                rendered.method = header_text(&method);
                return rendered;
            }
            Kind::Odd(json) => {
                rendered.text = self.json(json);
                return rendered;
            }
        };
        self.extra(&message.extra, meta, &mut params);
        let id = (!notification).then_some(&*id);
        rendered.text = envelope(id, &quoted(&method), Some(&object(&params)));
        rendered.method = method;
        rendered
    }

    fn extra(&self, extra: &Extra, meta: Option<&Meta>, params: &mut Members) {
        let mut all: Members = Vec::new();
        if let Some(Meta { unable, level, version, trace }) = meta {
            let version = version_name(version.unwrap_or(Version::V2026_07_28));
            all.push(("io.modelcontextprotocol/protocolVersion".to_owned(), quoted(version)));
            let able = capabilities(*unable);
            all.push(("io.modelcontextprotocol/clientCapabilities".to_owned(), able));
            if let Some(level) = level {
                let level = quoted(pick(words::LEVELS, *level));
                all.push(("io.modelcontextprotocol/logLevel".to_owned(), level));
            }
            if *trace {
                let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
                all.push(("traceparent".to_owned(), quoted(trace)));
            }
        }
        if let Some(token) = &extra.progress {
            all.push(("progressToken".to_owned(), self.json(token)));
        }
        all.extend(extra.meta.iter().map(|(name, value)| (word(name), self.json(value))));
        if !all.is_empty() {
            params.push(("_meta".to_owned(), object(&all)));
        }
        let answers = extra.answers.iter();
        let mut answers: Members =
            answers.map(|(name, answer)| (word(name), self.answer(answer))).collect();
        if let Some(answer) = &extra.answer {
            let keys = self.memory.keys.iter();
            answers.extend(keys.map(|key| (key.clone(), self.answer_to(key, answer))));
        }
        if !answers.is_empty() {
            params.push(("inputResponses".to_owned(), object(&answers)));
        }
        let none = self.memory.states.is_empty();
        if let Some(state) =
            extra.state.as_ref().filter(|state| !none || !matches!(state, Ref::Known(_)))
        {
            let state = quoted(&known(state, &self.memory.states));
            params.push(("requestState".to_owned(), state));
        }
    }

    /// An answer of the kind that was asked for, if it is to fit at all.
    fn answer_to(&self, key: &str, answer: &Answer) -> String {
        let method = self.memory.asked.get(key).and_then(Value::as_str);
        match (method, answer) {
            (Some("sampling/createMessage"), Answer::Accept(_, value)) => {
                self.answer(&Answer::Model(value.clone()))
            }
            (Some("roots/list"), Answer::Accept(_, value)) => {
                self.answer(&Answer::Roots(value.clone()))
            }
            (_, answer) => self.answer(answer),
        }
    }

    fn answer(&self, answer: &Answer) -> String {
        match answer {
            Answer::Accept(field, value) => {
                let value = json_text(value);
                let member = |name: &str| (name.to_owned(), value.clone());
                let known = |name: &str, value: &str| (name.to_owned(), value.to_owned());
                let mut content = vec![
                    member("name"),
                    member("color"),
                    member("context"),
                    member("username"),
                    known("email", "\"a@b.example\""),
                    known("ok", "true"),
                    known("confirm", "true"),
                ];
                let field = word(field);
                if content.iter().all(|(name, _)| *name != field) {
                    content.push((field, "true".to_owned()));
                }
                let content = object(&content);
                format!("{{\"action\":\"accept\",\"content\":{content}}}")
            }
            Answer::Decline => "{\"action\":\"decline\"}".to_owned(),
            Answer::Model(said) => {
                let said = json_text(said);
                format!(
                    "{{\"role\":\"assistant\",\"model\":\"m\",\"content\":{{\"type\":\"text\",\"text\":{said}}}}}"
                )
            }
            Answer::Roots(path) => {
                let uri = quoted(&format!("file:///{}", text(path)));
                format!("{{\"roots\":[{{\"uri\":{uri}}}]}}")
            }
            Answer::Error => "null".to_owned(),
            Answer::Json(json) => self.json(json),
        }
    }

    fn uri(&self, uri: &Uri) -> String {
        match uri {
            Uri::Data(session, key) => {
                format!("session://{}/data/{}", self.memory.session(session), word(key))
            }
            Uri::Fixed(which) => pick(words::URIS, *which).to_owned(),
            Uri::Template(id) => format!("test://template/{}/data", text(id)),
            Uri::Free(words) => text(words),
        }
    }

    fn json(&self, json: &Json) -> String {
        match json {
            Json::Null => "null".to_owned(),
            Json::Bool(flag) => flag.to_string(),
            Json::Number(number) => self::number(*number),
            Json::Text(words) => json_text(words),
            Json::List(all) => {
                let all: Vec<_> = all.iter().map(|json| self.json(json)).collect();
                format!("[{}]", all.join(","))
            }
            Json::Map(all) => {
                let all = all.iter().map(|(name, value)| (word(name), self.json(value)));
                object(&all.collect::<Members>())
            }
            Json::Known(what) => quoted(&self.memory.session(what)),
            Json::Deep(depth) => {
                let depth = usize::from(*depth);
                format!("{}{}", "[".repeat(depth), "]".repeat(depth))
            }
            Json::Uri(uri) => quoted(&self.uri(uri)),
        }
    }
}

fn envelope(id: Option<&str>, method: &str, params: Option<&str>) -> String {
    let id = id.map(|id| format!("\"id\":{id},")).unwrap_or_default();
    let params = params.map(|params| format!(",\"params\":{params}")).unwrap_or_default();
    format!("{{\"jsonrpc\":\"2.0\",{id}\"method\":{method}{params}}}")
}

fn rpc_id(id: &RpcId, renderer: &Renderer<'_>) -> String {
    match id {
        RpcId::Small(number) => number.to_string(),
        RpcId::Text(words) => json_text(words),
        RpcId::Number(number) => number.to_string(),
        RpcId::Digits(count) => "9".repeat(usize::from(*count) + 1),
        RpcId::Json(json) => renderer.json(json),
    }
}

/// A value that an argument's schema allows, as far as it says.
fn fitting(schema: &Value, words: &Text, amount: Number) -> String {
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.is_empty()) {
        let index = match amount {
            Number::Small(number) | Number::Odd(number) => usize::from(number),
            Number::Int(_) | Number::Float(_) => 0,
        };
        return allowed[index % allowed.len()].to_string();
    }
    match schema["type"].as_str() {
        Some("number" | "integer") => number(amount),
        Some("boolean") => "true".to_owned(),
        Some("object") => "{}".to_owned(),
        _ => json_text(words),
    }
}

fn number(number: Number) -> String {
    match number {
        Number::Small(number) => number.to_string(),
        Number::Int(number) => number.to_string(),
        Number::Float(number) => number.to_string(),
        Number::Odd(which) => pick(words::NUMBERS, which).to_owned(),
    }
}

fn text(text: &Text) -> String {
    match text {
        Text::Word(which) => pick(words::WORDS, *which).to_owned(),
        Text::Free(text) => text.clone(),
        Text::Escaped(which) => pick(words::ESCAPED, *which).to_owned(),
        Text::Long(length) => "long ".repeat(usize::from(*length) % 4096),
    }
}

fn word(word: &Word) -> String {
    match word {
        Word::Known(which) => pick(words::WORDS, *which).to_owned(),
        Word::Free(words) => text(words),
    }
}

/// A JSON string; an escaped text stands in it as it is.
fn json_text(words: &Text) -> String {
    match words {
        Text::Escaped(_) => format!("\"{}\"", text(words)),
        words => quoted(&text(words)),
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn object(members: &[(String, String)]) -> String {
    let members: Vec<_> =
        members.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
    format!("{{{}}}", members.join(","))
}

/// `ClientCapabilities` without what the bits take away.
fn capabilities(unable: u8) -> String {
    let all = [
        ("sampling", "{}"),
        ("elicitation", "{\"form\":{},\"url\":{}}"),
        ("roots", "{}"),
        ("extensions", "{\"io.modelcontextprotocol/tasks\":{}}"),
    ];
    let able = all.into_iter().enumerate().filter(|(bit, _)| unable >> bit & 1 == 0);
    object(&able.map(|(_, (name, v))| (name.to_owned(), v.to_owned())).collect::<Members>())
}

fn version_name(version: Version) -> &'static str {
    match version {
        Version::V2025_11_25 => "2025-11-25",
        Version::V2025_06_18 => "2025-06-18",
        Version::V2025_03_26 => "2025-03-26",
        Version::V2024_11_05 => "2024-11-05",
        Version::V2026_07_28 => "2026-07-28",
        Version::Later => "2027-01-01",
        Version::NoDate => "newest",
    }
}

/// A text as a header says it (2026-07-28, streamable-http, "Value Encoding").
fn header_text(text: &str) -> String {
    let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match plain && text.trim() == text && !text.starts_with("=?base64?") {
        true => text.to_owned(),
        false => format!("=?base64?{}?=", STANDARD.encode(text)),
    }
}

fn spoil(body: &mut Vec<u8>, spoil: &Spoil) {
    let place = |at: u16, length: usize| usize::from(at) % (length + 1);
    let length = body.len();
    match spoil {
        Spoil::Cut(at) => body.truncate(place(*at, length)),
        Spoil::Flip(at, bits) => {
            if let Some(byte) = body.get_mut(place(*at, length)) {
                *byte ^= bits;
            }
        }
        Spoil::Insert(at, bytes) => {
            let at = place(*at, length);
            body.splice(at..at, bytes.iter().copied());
        }
        Spoil::Twice(at, count) => {
            let at = place(*at, length);
            let end = (at + usize::from(*count)).min(length);
            let piece = body[at..end].to_vec();
            body.splice(at..at, piece);
        }
        Spoil::Space(at) => body.insert(place(*at, length), b'\n'),
    }
}
