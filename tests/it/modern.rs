//! Requests of revision 2026-07-28: headers and `_meta` as the specification wants them, each of which
//! a test can change or leave out.

use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::support::{Answer, Connection, PATIENCE, Request, TestServer, instance_host};

pub const VERSION: &str = "2026-07-28";
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
pub const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
pub const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Turns the conformance fixtures on, behind the usual tools.
pub const FIXTURES: (&str, &str) =
    ("MCP_ECHO_TOOLS__SETS", "conformance,session,diagnostics,streaming");

/// Takes any bearer token, whose text is then the caller.
pub const PASSTHROUGH: (&str, &str) = ("MCP_ECHO_AUTH__MODE", "passthrough");

/// A request in the making.
#[derive(Clone)]
#[must_use = "a request does nothing until it is sent"]
pub struct Modern<'a> {
    server: &'a TestServer,
    host: String,
    id: Value,
    method: String,
    params: Value,
    headers: Vec<(String, String)>,
}

impl TestServer {
    /// A request without fault.
    pub fn modern(&self, method: &str, params: Value) -> Modern<'_> {
        let client = json!({"name": "test", "version": "1"});
        let meta = json!({
            META_VERSION: VERSION,
            META_CAPABILITIES: {},
            "io.modelcontextprotocol/clientInfo": client,
        });
        let name = ["name", "uri", "taskId"].iter().find_map(|member| params[*member].as_str());
        let mut headers = vec![
            ("Accept".to_owned(), "application/json, text/event-stream".to_owned()),
            ("MCP-Protocol-Version".to_owned(), VERSION.to_owned()),
            ("Mcp-Method".to_owned(), method.to_owned()),
        ];
        headers.extend(name.map(|name| ("Mcp-Name".to_owned(), name.to_owned())));
        let handle = params["arguments"]["session"].as_str();
        headers.extend(handle.map(|it| ("Mcp-Param-Session".to_owned(), it.to_owned())));
        let mut params = params;
        params["_meta"] = meta;
        let (id, host, method) = (json!(1), "localhost".to_owned(), method.to_owned());
        Modern { server: self, host, id, method, params, headers }
    }

    /// A call of a tool.
    pub fn modern_call(&self, tool: &str, arguments: Value) -> Modern<'_> {
        self.modern("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// A new handle on the instance of that number.
    pub async fn handle(&self, instance: u8) -> String {
        let call = self.modern_call("create_session", json!({})).on(instance);
        call.structured().await["session"].as_str().expect("a handle").to_owned()
    }
}

impl Modern<'_> {
    pub fn on(mut self, instance: u8) -> Self {
        self.host = instance_host(instance);
        self
    }

    pub fn id(mut self, id: impl Into<Value>) -> Self {
        self.id = id.into();
        self
    }

    /// Who calls, where the server asks.
    pub fn by(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub fn capabilities(self, capabilities: Value) -> Self {
        self.meta(META_CAPABILITIES, capabilities)
    }

    /// As a client that knows tasks.
    pub fn with_tasks(self) -> Self {
        self.capabilities(json!({"extensions": {TASKS: {}}, "elicitation": {}}))
    }

    pub fn meta(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.params["_meta"][key] = value.into();
        self
    }

    pub fn without_meta(mut self, key: &str) -> Self {
        self.params["_meta"].as_object_mut().expect("an object").remove(key);
        self
    }

    /// Another member of `params`, or the same with another value.
    pub fn param(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params[name] = value.into();
        self
    }

    pub fn without_param(mut self, name: &str) -> Self {
        self.params.as_object_mut().expect("an object").remove(name);
        self
    }

    /// One more header, in place of one of the same name.
    pub fn header(self, name: &str, value: &str) -> Self {
        let mut request = self.without(name);
        request.headers.push((name.to_owned(), value.to_owned()));
        request
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// The message alone.
    pub fn body(&self) -> Value {
        let Self { id, method, params, .. } = self;
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    }

    /// Its headers around another body.
    pub fn around(self, body: impl Into<Vec<u8>>) -> Request {
        let request = self.server.post(body).host(&self.host);
        self.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
    }

    pub fn build(self) -> Request {
        let body = self.body().to_string();
        self.around(body)
    }

    /// Sends it. Nothing in this revision may speak of a session.
    pub async fn send(self) -> Answer {
        let sent = timeout(PATIENCE, self.build().send()).await;
        let answer = sent.expect("an answer that ends");
        assert_eq!(answer.header("mcp-session-id"), None, "{answer:?}");
        answer
    }

    pub async fn begin(self) -> Connection {
        self.build().begin().await
    }

    /// The result that this must have, with what every result says.
    pub async fn result(self) -> Map<String, Value> {
        let id = self.id.clone();
        let answer = self.send().await;
        answer.expect_status(200);
        let message = messages(&answer).pop().expect("an answer");
        assert_eq!(message["id"], id, "{message}");
        let result = message["result"].as_object().unwrap_or_else(|| panic!("{message}"));
        assert!(result["resultType"].is_string(), "{message}");
        assert!(result["_meta"][META_SERVER]["name"].is_string(), "{message}");
        assert!(result["_meta"][META_SERVER]["version"].is_string(), "{message}");
        result.clone()
    }

    /// The structured content of a call that must succeed.
    pub async fn structured(self) -> Value {
        let result = self.result().await;
        assert_eq!(result.get("isError"), None, "{result:?}");
        assert_eq!(result["resultType"], "complete");
        result["structuredContent"].clone()
    }

    /// The text of a call that must succeed.
    pub async fn text(self) -> String {
        let result = self.result().await;
        assert_eq!(result.get("isError"), None, "{result:?}");
        result["content"][0]["text"].as_str().expect("a text").to_owned()
    }

    /// The text of a tool's own error.
    pub async fn tool_error(self) -> String {
        let result = self.result().await;
        assert_eq!(result["isError"], true, "{result:?}");
        result["content"][0]["text"].as_str().expect("a text").to_owned()
    }

    /// The error that this must get, with the id that was sent.
    pub async fn refused(self, status: u16, code: i64) -> Value {
        let id = self.id.clone();
        let answer = self.send().await;
        let error = answer.expect_error(status, code);
        assert_eq!(answer.json()["id"], id, "{answer:?}");
        error
    }
}

/// The messages of an answer, whatever its form.
pub fn messages(answer: &Answer) -> Vec<Value> {
    match answer.header("content-type") {
        Some("text/event-stream") => answer
            .text()
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .filter(|data| !data.is_empty())
            .map(|data| serde_json::from_str(data).expect("a message"))
            .collect(),
        _ => vec![answer.json()],
    }
}
