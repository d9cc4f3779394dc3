//! One request of a session and its answer: how each era names the session, and what any answer must be.
//!
//! Owns the headers of a request and the order in which its answer is judged: whether there is one, whether
//! it is MCP, whether it answers this request, who gave it, what it says. Refuses to take a 404 for a
//! failure of the transport: it is what the probe is there to explain.
//! Trap: an answer to another request is worse than one from another place, so the id is looked at first.

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
    message::{self, Response, RpcError},
    tally::Tally,
    verdict::{Cause, Defect, Place, Said, WrittenPlace},
    wire::{Answer, Line},
};
use crate::wire::jsonrpc::{INVALID_PARAMS, METHOD_NOT_FOUND};
use crate::wire::{
    headers::{HANDLE_HEADER, METHOD_HEADER, NAME_HEADER, SESSION_HEADER, VERSION_HEADER},
    version::Era,
};

/// Longest piece of an answer that is shown. Characters.
const MAX_SHOWN: usize = 200;

/// What all sessions of a probe share.
pub struct Shared<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// What has been seen.
    pub tally: &'a Mutex<Tally>,
    /// Tells this run's messages from those of another.
    pub run: &'a str,
    /// JSON-RPC ids given out: no two requests have the same.
    pub ids: AtomicU64,
}

impl Shared<'_> {
    /// What has been seen; not to be held while waiting.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of a request, and who gave it.
pub struct Answered {
    /// As its headers say.
    pub served_by: Place,
    /// All of its headers.
    pub headers: HeaderMap,
    /// `result`.
    pub result: Value,
}

/// A session's way to a host.
pub struct Channel<'a> {
    /// What it shares with the others.
    pub shared: &'a Shared<'a>,
    /// How the session is named.
    pub era: Era,
    /// The session id or the handle, once there is one.
    pub id: Option<HeaderValue>,
    /// Who minted it, as far as is known; before that, who is asked to.
    pub minted_by: Place,
    target: &'a Target,
    line: Line<'a>,
}

impl<'a> Channel<'a> {
    /// A way to that host, for a session that is yet to begin.
    pub fn new(shared: &'a Shared<'a>, era: Era, target: &'a Target) -> Self {
        let keep = match shared.plan.asked.connections {
            Connections::New => false,
            Connections::Kept => true,
        };
        let line = Line::new(&target.peer, shared.plan.patience, keep);
        let minted_by = Place { instance: target.instance, ..Place::default() };
        Self { shared, era, id: None, minted_by, target, line }
    }

    /// A way to another host, for the same session; whoever answers there is not judged by its place.
    pub fn elsewhere(&self, target: &'a Target) -> Self {
        let (id, minted_by) = (self.id.clone(), Place::default());
        Self { id, minted_by, ..Self::new(self.shared, self.era, target) }
    }

    /// The structured content of a tool's answer, and the answer around it.
    pub async fn call(&self, tool: &str, arguments: Value) -> Result<(Answered, Value), Defect> {
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

    /// The result of a request.
    pub async fn ask(
        &self,
        method: &str,
        mut params: Value,
        name: Option<&str>,
    ) -> Result<Answered, Defect> {
        if self.era == Era::Stateless {
            params["_meta"] = message::meta(revision(self.era));
        }
        let id = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        let answer = self.post(method, message::request(id, method, &params), name).await?;
        let served_by = Place::of_headers(&answer.headers);
        let response = response(&answer);
        // An error may leave the id out, where it could not be read.
        if let Ok(Response { id: other, outcome }) = &response
            && *other != id
            && !(other.is_null() && outcome.is_err())
        {
            let other = shortened(&other.to_string());
            let detail = format!("asked with the id {id}, answered with the id {other}");
            return Err(Defect::Crossed(detail));
        }
        match response {
            Ok(Response { outcome: Err(error), .. }) => {
                Err(self.refused(answer.status, served_by, error))
            }
            Ok(Response { outcome: Ok(result), .. }) if answer.status.is_success() => {
                // A tool that fails may be about to say why it is not the right one to ask.
                if result["isError"] != true {
                    self.check_place(&served_by)?;
                }
                Ok(Answered { served_by, headers: answer.headers, result })
            }
            Err(problem) if answer.status.is_success() => {
                Err(Defect::Failed(Cause::Protocol, format!("{method}: {problem}")))
            }
            Ok(_) | Err(_) => Err(self.dismissed(&answer, served_by)),
        }
    }

    /// Sends a notification.
    pub async fn notify(&self, method: &str) -> Result<(), Defect> {
        let answer = self.post(method, message::notification(method), None).await?;
        self.expect_success(&answer)
    }

    /// Ends the session by its id.
    pub async fn delete(&self) -> Result<(), Defect> {
        let answer = self.send(self.request(Method::DELETE, String::new())).await?;
        self.expect_success(&answer)
    }

    fn expect_success(&self, answer: &Answer) -> Result<(), Defect> {
        let served_by = Place::of_headers(&answer.headers);
        if answer.status.is_success() {
            return self.check_place(&served_by);
        }
        Err(match response(answer) {
            Ok(Response { outcome: Err(error), .. }) => {
                self.refused(answer.status, served_by, error)
            }
            Ok(_) | Err(_) => self.dismissed(answer, served_by),
        })
    }

    /// Whoever answers must be who minted the session.
    pub fn check_place(&self, served_by: &Place) -> Result<(), Defect> {
        if self.minted_by.may_be(served_by) {
            return Ok(());
        }
        let (minted_by, served_by) = (self.minted_by.clone(), served_by.clone());
        Err(Defect::NoSession { minted_by, served_by })
    }

    /// What a JSON-RPC error means for the session.
    fn refused(&self, status: StatusCode, served_by: Place, error: RpcError) -> Defect {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Gone {
            reason: String,
            minted_by: WrittenPlace,
            served_by: WrittenPlace,
        }
        let RpcError { code, message, data } = error;
        let message = shortened(&message);
        if self.id.is_some()
            && status == StatusCode::NOT_FOUND
            && code != i64::from(METHOD_NOT_FOUND)
        {
            let gone: Gone = serde_json::from_value(data).unwrap_or_default();
            let (mut minted, mut served) = (self.minted_by.clone(), served_by);
            minted.learn(&gone.minted_by.into());
            served.learn(&gone.served_by.into());
            return Said::of_reason(&gone.reason).judge(minted, served);
        }
        let cause = match i32::try_from(code) {
            Ok(INVALID_PARAMS) if message.starts_with("Unknown tool") => Cause::NoTool,
            _ if status.is_success() => Cause::Rpc(code),
            _ => Cause::Status(status.as_u16()),
        };
        Defect::Failed(cause, message)
    }

    /// What a status without MCP in the body means for the session.
    fn dismissed(&self, answer: &Answer, served_by: Place) -> Defect {
        if self.id.is_some() && answer.status == StatusCode::NOT_FOUND {
            return Said::of_reason("").judge(self.minted_by.clone(), served_by);
        }
        let text = String::from_utf8_lossy(&answer.body);
        let cause = Cause::Status(answer.status.as_u16());
        Defect::Failed(cause, shortened(text.lines().next().unwrap_or_default()))
    }

    async fn post(&self, method: &str, body: String, name: Option<&str>) -> Result<Answer, Defect> {
        let mut request = self.request(Method::POST, body);
        if self.era == Era::Stateless {
            for (header, value) in [(METHOD_HEADER, Some(method)), (NAME_HEADER, name)] {
                let value = value.and_then(|value| HeaderValue::from_str(value).ok());
                request.headers_mut().extend(value.map(|value| (header, value)));
            }
        }
        self.send(request).await
    }

    fn request(&self, method: Method, body: String) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
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
            // What is spoken is settled by `initialize`.
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
                tally.unanswered();
                Err(Defect::Failed(fault.cause, shortened(&fault.detail)))
            }
        }
    }
}

fn response(answer: &Answer) -> Result<Response, String> {
    let content_type = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    message::read(content_type, &answer.body)
}

/// As much of a text as fits a report, on one line and without control characters.
pub fn shortened(text: &str) -> String {
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
