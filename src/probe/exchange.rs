//! One request of a session and its answer.
//!
//! Owns the headers of a request, by which each era names the session, and the order in which an answer is checked:
//! whether there is one, whether it is MCP, whether it answers this request, who sent it, what it says. A 404 is not a
//! failure of the transport but says that a session was not found, which the probe is to explain.
//! Trap: an answer to another request is worse than one from another place, so the JSON-RPC id is checked first.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    arguments::{Connections, Plan},
    connection::{Answer, Line},
    message::{self, Response, RpcError},
    names::Names,
    tally::Tally,
    target::Target,
    verdict::{Cause, Defect, Place, Said},
};
use crate::wire::{
    Era, HANDLE_HEADER, INVALID_PARAMS, METHOD_HEADER, METHOD_NOT_FOUND, NAME_HEADER,
    ProtocolVersion, SESSION_HEADER, VERSION_HEADER, jsonrpc,
};

/// Longest piece of an answer in a report. Characters.
const MAX_SHOWN: usize = 200;

/// What all sessions of a probe share.
pub(super) struct Shared<'a> {
    pub(super) plan: &'a Plan,
    pub(super) tally: &'a Mutex<Tally>,
    /// Distinguishes this run's messages from those of other runs.
    pub(super) run: &'a str,
    /// The next JSON-RPC id. No two requests of a run have the same.
    pub(super) ids: AtomicU64,
    /// What the tools are called, at each target and in each era. Whoever needs it first finds it out.
    pub(super) names: Vec<[OnceCell<Names>; 2]>,
    /// Whether somebody watches progress there.
    pub(super) watched: Vec<[AtomicBool; 2]>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(plan: &'a Plan, tally: &'a Mutex<Tally>, run: &'a str) -> Self {
        let names = plan.targets.iter().map(|_| Default::default()).collect();
        let watched = plan.targets.iter().map(|_| Default::default()).collect();
        Self { plan, tally, run, ids: AtomicU64::new(1), names, watched }
    }

    /// Must not be held across an await.
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of a request, with the answer in which it came and who sent it.
pub(super) struct Answered {
    pub(super) served_by: Place,
    pub(super) answer: Answer,
    pub(super) result: Value,
}

/// What came of a DELETE.
pub(super) enum Deleted {
    Ended,
    /// The server lets no client end a session, as it may.
    NotAllowed,
}

/// The requests of one session to one host.
pub(super) struct Channel<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) era: Era,
    /// The session id or the handle, once there is one.
    pub(super) id: Option<HeaderValue>,
    /// Who created the session, as far as is known; before that, who is asked to.
    pub(super) minted_by: Place,
    /// Once it is known.
    pub(super) revision: Option<ProtocolVersion>,
    /// Whether another process served it than the one that created it.
    pub(super) roamed: AtomicBool,
    pub(super) names: &'a OnceCell<Names>,
    pub(super) target: &'a Target,
    line: Line<'a>,
}

impl<'a> Channel<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, era: Era, target: &'a Target) -> Self {
        let keep = match shared.plan.asked.connections {
            Connections::New => false,
            Connections::Kept => true,
        };
        let line = Line::new(&target.peer, shared.plan.patience, keep);
        let minted_by = Place { instance: target.instance, ..Place::default() };
        let names = &shared.names[target.number][era as usize];
        let (roamed, id) = (AtomicBool::new(false), None);
        let revision = match era {
            Era::Sessioned => None,
            Era::Stateless => Some(shared.plan.revision(era)),
        };
        Self { shared, era, id, minted_by, revision, roamed, names, target, line }
    }

    /// For the same session at another host, where any place may answer.
    pub(super) fn elsewhere(&self, target: &'a Target) -> Self {
        let (id, minted_by) = (self.id.clone(), Place::default());
        let (revision, names) = (self.revision, self.names);
        Self { id, minted_by, revision, names, ..Self::new(self.shared, self.era, target) }
    }

    /// Calls a tool. The second value is the structured content, taken out of the first.
    pub(super) async fn call(
        &self,
        tool: &str,
        arguments: Value,
    ) -> Result<(Answered, Value), Defect> {
        self.call_telling(tool, arguments, None).await
    }

    /// Calls a tool, which may tell its progress with that token.
    pub(super) async fn call_telling(
        &self,
        tool: &str,
        arguments: Value,
        progress_token: Option<&str>,
    ) -> Result<(Answered, Value), Defect> {
        let name = self.names.get().and_then(|names| names.get(tool)).unwrap_or(tool);
        let mut params = json!({ "name": name, "arguments": arguments });
        if let Some(token) = progress_token {
            params["_meta"]["progressToken"] = token.into();
        }
        if let (Era::Stateless, Some(Ok(handle))) =
            (self.era, self.id.as_ref().map(HeaderValue::to_str))
        {
            params["arguments"]["session"] = handle.into();
        }
        let mut answered = self.ask("tools/call", params, Some(name)).await?;
        if answered.result["isError"] == true {
            let text = answered.result["content"][0]["text"].as_str().unwrap_or_default();
            if let Some(said) = Said::of_text(text) {
                return Err(self.not_found(said, answered.served_by));
            }
            self.check_place(&answered.served_by)?;
            let detail = format!("{tool}: {}", shortened(text));
            return Err(Defect::Failed(Cause::Tool, detail));
        }
        match answered.result["structuredContent"].take() {
            Value::Null => {
                let detail = format!("{tool}: the result has no structuredContent");
                Err(Defect::Failed(Cause::Protocol, detail))
            }
            structured => Ok((answered, structured)),
        }
    }

    /// Sends a request. `name` goes into `Mcp-Name`.
    pub(super) async fn ask(
        &self,
        method: &str,
        mut params: Value,
        name: Option<&str>,
    ) -> Result<Answered, Defect> {
        if let (Era::Stateless, Some(revision)) = (self.era, self.revision) {
            for (name, value) in message::meta(revision) {
                params["_meta"][name] = value;
            }
        }
        let id = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        // What tells progress takes its time on purpose.
        let timed = params["_meta"].get("progressToken").is_none();
        let mut request = self.post(method, jsonrpc::request(id, method, &params));
        if let (Era::Stateless, Some(name)) = (self.era, name) {
            let name = HeaderValue::from_str(name).ok();
            request.headers_mut().extend(name.map(|name| (NAME_HEADER, name)));
        }
        let answer = self.send(request, timed).await?;
        let served_by = Place::of_headers(&answer.headers);
        let response = response(&answer);
        // An error need not have the id, if the server could not read it or HTTP alone refuses it.
        let may_lack_it = |other: &Value| other.is_null() || !answer.status.is_success();
        if let Ok(Response { id: other, outcome }) = &response
            && *other != id
            && !(outcome.is_err() && may_lack_it(other))
        {
            let other = shortened(&other.to_string());
            let detail = format!("asked with the id {id}, answered with the id {other}");
            return Err(Defect::Crossed(detail));
        }
        match response {
            Ok(Response { outcome: Ok(result), .. }) if answer.status.is_success() => {
                // For an error result, `call` first reads whether the session was not found.
                if result["isError"] != true {
                    self.check_place(&served_by)?;
                }
                Ok(Answered { served_by, answer, result })
            }
            Err(problem) if answer.status.is_success() => {
                Err(Defect::Failed(Cause::Protocol, format!("{method}: {problem}")))
            }
            other => Err(self.failure(&answer, other, served_by)),
        }
    }

    pub(super) async fn notify(&self, method: &str) -> Result<(), Defect> {
        let body = json!({ "jsonrpc": "2.0", "method": method }).to_string();
        let answer = self.send(self.post(method, body.into()), true).await?;
        self.expect_success(&answer)
    }

    pub(super) async fn delete(&self) -> Result<Deleted, Defect> {
        let answer = self.send(self.request(Method::DELETE, Bytes::new()), true).await?;
        if answer.status == StatusCode::METHOD_NOT_ALLOWED {
            return Ok(Deleted::NotAllowed);
        }
        self.expect_success(&answer)?;
        Ok(Deleted::Ended)
    }

    /// What comes on the session's own stream `until` something else is done; `None` if there is no such stream.
    pub(super) async fn listen(&self, until: impl Future<Output = ()>) -> Option<Answer> {
        let answer = self.line.listen(self.request(Method::GET, Bytes::new()), until).await.ok()?;
        answer.status.is_success().then_some(answer)
    }

    fn expect_success(&self, answer: &Answer) -> Result<(), Defect> {
        let served_by = Place::of_headers(&answer.headers);
        if answer.status.is_success() {
            return self.check_place(&served_by);
        }
        Err(self.failure(answer, response(answer), served_by))
    }

    /// Only the instance that created the session may answer. Where processes share their sessions, any of them may.
    pub(super) fn check_place(&self, served_by: &Place) -> Result<(), Defect> {
        if self.minted_by.may_be_instance(served_by) {
            let roamed = !self.minted_by.may_be(served_by);
            self.roamed.fetch_or(roamed, Ordering::Relaxed);
            return Ok(());
        }
        Err(self.misrouted(served_by))
    }

    pub(super) fn misrouted(&self, served_by: &Place) -> Defect {
        let (minted_by, served_by) = (self.minted_by.clone(), served_by.clone());
        Defect::Misrouted { minted_by, served_by }
    }

    fn not_found(&self, said: Said, served_by: Place) -> Defect {
        said.judge(self.minted_by.clone(), served_by, self.roamed.load(Ordering::Relaxed))
    }

    /// The defect that a JSON-RPC error shows.
    fn refused(&self, status: StatusCode, served_by: Place, error: RpcError) -> Defect {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Gone {
            reason: String,
            minted_by: Place,
            served_by: Place,
        }
        let RpcError { code, message, data } = error;
        let message = shortened(&message);
        if self.id.is_some()
            && status == StatusCode::NOT_FOUND
            && code != i64::from(METHOD_NOT_FOUND)
        {
            let gone: Gone = serde_json::from_value(data).unwrap_or_default();
            let (mut minted, mut served) = (self.minted_by.clone(), served_by);
            minted.learn(&gone.minted_by);
            served.learn(&gone.served_by);
            let roamed = self.roamed.load(Ordering::Relaxed);
            return Said::of_reason(&gone.reason).judge(minted, served, roamed);
        }
        let cause = match i32::try_from(code) {
            Ok(INVALID_PARAMS) if message.starts_with("Unknown tool") => Cause::NoTool,
            _ if status.is_success() => Cause::Rpc(code),
            _ => Cause::Status(status.as_u16()),
        };
        Defect::Failed(cause, message)
    }

    /// The defect that an answer without a result shows: by its JSON-RPC error or else by its HTTP status.
    fn failure(
        &self,
        answer: &Answer,
        response: Result<Response, String>,
        served_by: Place,
    ) -> Defect {
        if let Ok(Response { outcome: Err(error), .. }) = response {
            return self.refused(answer.status, served_by, error);
        }
        if self.id.is_some() && answer.status == StatusCode::NOT_FOUND {
            return self.not_found(Said::of_reason(""), served_by);
        }
        let text = String::from_utf8_lossy(&answer.body);
        let cause = Cause::Status(answer.status.as_u16());
        Defect::Failed(cause, shortened(text.lines().next().unwrap_or_default()))
    }

    fn post(&self, method: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = self.request(Method::POST, body);
        if self.era == Era::Stateless {
            let method = HeaderValue::from_str(method).ok();
            request.headers_mut().extend(method.map(|method| (METHOD_HEADER, method)));
        }
        request
    }

    fn request(&self, method: Method, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.target.path.clone();
        let json = HeaderValue::from_static("application/json");
        let either = HeaderValue::from_static("application/json, text/event-stream");
        let agent = concat!("mcp-echo-stateful-probe/", env!("CARGO_PKG_VERSION"));
        let headers = request.headers_mut();
        headers.insert(HOST, self.target.host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(CONTENT_TYPE, json);
        headers.insert(ACCEPT, either);
        headers.extend(self.shared.plan.bearer.clone().map(|token| (AUTHORIZATION, token)));
        // `initialize` negotiates the revision, so it carries no header for it.
        let version = self.revision.map(|revision| HeaderValue::from_static(revision.as_str()));
        headers.extend(version.map(|version| (VERSION_HEADER, version)));
        let header = match self.era {
            Era::Sessioned => SESSION_HEADER,
            Era::Stateless => HANDLE_HEADER,
        };
        headers.extend(self.id.clone().map(|id| (header, id)));
        request
    }

    async fn send(&self, request: Request<Full<Bytes>>, timed: bool) -> Result<Answer, Defect> {
        let sent = self.line.send(request).await;
        let mut tally = self.shared.tally();
        match sent {
            Ok(answer) => {
                let served_by = Place::of_headers(&answer.headers);
                tally.answered(answer.status.as_u16(), &served_by, timed.then_some(answer.took));
                Ok(answer)
            }
            Err(fault) => {
                tally.requests += 1;
                Err(Defect::Failed(fault.cause, shortened(&fault.detail)))
            }
        }
    }
}

fn response(answer: &Answer) -> Result<Response, String> {
    let content_type = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    message::read(content_type, &answer.body)
}

/// The beginning of a text, on one line and without control characters.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(MAX_SHOWN)
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
