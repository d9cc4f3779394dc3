//! One request of a session and its answer.
//!
//! Owns the headers of a request, by which each era names the session, and the order in which an answer is checked:
//! whether there is one, whether it is MCP, whether it answers this request, who sent it, what it says. A 404 is not a
//! failure of the transport but says that a session was not found, which the probe is to explain.
//! Trap: an answer to another request is worse than one from another place, so the JSON-RPC id is checked first.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    arguments::{Connections, Plan, Target, revision},
    connection::{Answer, Line},
    message::{self, Response, RpcError},
    tally::Tally,
    verdict::{Cause, Defect, Place, Said},
};
use crate::wire::{
    Era, HANDLE_HEADER, INVALID_PARAMS, METHOD_HEADER, METHOD_NOT_FOUND, NAME_HEADER,
    SESSION_HEADER, VERSION_HEADER, jsonrpc,
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
}

impl Shared<'_> {
    /// Must not be held across an await.
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of a request, with the headers it came with and who sent it.
pub(super) struct Answered {
    pub(super) served_by: Place,
    pub(super) headers: HeaderMap,
    pub(super) result: Value,
}

/// The requests of one session to one host.
pub(super) struct Channel<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) era: Era,
    /// The session id or the handle, once there is one.
    pub(super) id: Option<HeaderValue>,
    /// Who created the session, as far as is known; before that, who is asked to.
    pub(super) minted_by: Place,
    target: &'a Target,
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
        Self { shared, era, id: None, minted_by, target, line }
    }

    /// For the same session at another host, where any place may answer.
    pub(super) fn elsewhere(&self, target: &'a Target) -> Self {
        let (id, minted_by) = (self.id.clone(), Place::default());
        Self { id, minted_by, ..Self::new(self.shared, self.era, target) }
    }

    /// Calls a tool. The second value is the structured content, taken out of the first.
    pub(super) async fn call(
        &self,
        tool: &str,
        arguments: Value,
    ) -> Result<(Answered, Value), Defect> {
        let mut params = json!({ "name": tool, "arguments": arguments });
        if let (Era::Stateless, Some(Ok(handle))) =
            (self.era, self.id.as_ref().map(HeaderValue::to_str))
        {
            params["arguments"]["session"] = handle.into();
        }
        let mut answered = self.ask("tools/call", params, Some(tool)).await?;
        if answered.result["isError"] == true {
            let text = answered.result["content"][0]["text"].as_str().unwrap_or_default();
            if let Some(said) = Said::of_text(text) {
                return Err(said.judge(self.minted_by.clone(), answered.served_by));
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
        if self.era == Era::Stateless {
            params["_meta"] = message::meta(revision(self.era));
        }
        let id = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        let answer = self.post(method, jsonrpc::request(id, method, &params), name).await?;
        let served_by = Place::of_headers(&answer.headers);
        let response = response(&answer);
        // An error has no id if the server could not read it.
        if let Ok(Response { id: other, outcome }) = &response
            && *other != id
            && !(other.is_null() && outcome.is_err())
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
                Ok(Answered { served_by, headers: answer.headers, result })
            }
            Err(problem) if answer.status.is_success() => {
                Err(Defect::Failed(Cause::Protocol, format!("{method}: {problem}")))
            }
            other => Err(self.failure(&answer, other, served_by)),
        }
    }

    pub(super) async fn notify(&self, method: &str) -> Result<(), Defect> {
        let body = json!({ "jsonrpc": "2.0", "method": method }).to_string();
        let answer = self.post(method, body.into(), None).await?;
        self.expect_success(&answer)
    }

    pub(super) async fn delete(&self) -> Result<(), Defect> {
        let answer = self.send(self.request(Method::DELETE, Bytes::new())).await?;
        self.expect_success(&answer)
    }

    fn expect_success(&self, answer: &Answer) -> Result<(), Defect> {
        let served_by = Place::of_headers(&answer.headers);
        if answer.status.is_success() {
            return self.check_place(&served_by);
        }
        Err(self.failure(answer, response(answer), served_by))
    }

    /// Only the place that created the session may answer.
    pub(super) fn check_place(&self, served_by: &Place) -> Result<(), Defect> {
        if self.minted_by.may_be(served_by) {
            return Ok(());
        }
        let (minted_by, served_by) = (self.minted_by.clone(), served_by.clone());
        Err(Defect::Misrouted { minted_by, served_by })
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
            return Said::of_reason(&gone.reason).judge(minted, served);
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
            return Said::of_reason("").judge(self.minted_by.clone(), served_by);
        }
        let text = String::from_utf8_lossy(&answer.body);
        let cause = Cause::Status(answer.status.as_u16());
        Defect::Failed(cause, shortened(text.lines().next().unwrap_or_default()))
    }

    async fn post(&self, method: &str, body: Bytes, name: Option<&str>) -> Result<Answer, Defect> {
        let mut request = self.request(Method::POST, body);
        if self.era == Era::Stateless {
            for (header, value) in [(METHOD_HEADER, Some(method)), (NAME_HEADER, name)] {
                let value = value.and_then(|value| HeaderValue::from_str(value).ok());
                request.headers_mut().extend(value.map(|value| (header, value)));
            }
        }
        self.send(request).await
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
        let version = HeaderValue::from_static(revision(self.era).as_str());
        match (self.era, &self.id) {
            // `initialize` negotiates the revision, so it carries no header for it.
            (Era::Sessioned, None) => {}
            (Era::Sessioned, Some(id)) => {
                headers.insert(VERSION_HEADER, version);
                headers.insert(SESSION_HEADER, id.clone());
            }
            (Era::Stateless, id) => {
                headers.insert(VERSION_HEADER, version);
                headers.extend(id.clone().map(|id| (HANDLE_HEADER, id)));
            }
        }
        request
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Defect> {
        let sent = self.line.send(request).await;
        let mut tally = self.shared.tally();
        match sent {
            Ok(answer) => {
                let served_by = Place::of_headers(&answer.headers);
                tally.answered(answer.status.as_u16(), &served_by, answer.took);
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
