//! JSON-RPC messages as a client needs them.
//!
//! Owns what the probe says of itself, and finding the response in an answer, which is one JSON document or a stream of
//! events.
//! Trap: a stream may hold notifications before the response, and events without data.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::wire::{META_VERSION, ProtocolVersion};

/// A response, whose id need not be the one that was sent.
#[derive(Debug, PartialEq)]
pub(super) struct Response {
    pub(super) id: Value,
    pub(super) outcome: Result<Value, RpcError>,
}

/// A JSON-RPC error.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct RpcError {
    pub(super) code: i64,
    pub(super) message: String,
    pub(super) data: Value,
}

/// The params of `initialize`.
pub(super) fn initialize(version: ProtocolVersion) -> Value {
    json!({ "protocolVersion": version.as_str(), "capabilities": {}, "clientInfo": client() })
}

/// `_meta` of every request in the stateless era.
pub(super) fn meta(version: ProtocolVersion) -> Value {
    json!({
        META_VERSION: version.as_str(),
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": client(),
    })
}

fn client() -> Value {
    json!({ "name": "mcp-echo-stateful-probe", "version": env!("CARGO_PKG_VERSION") })
}

/// Finds the response in an answer, or says what is wrong with it.
pub(super) fn read(content_type: Option<&str>, body: &[u8]) -> Result<Response, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())?;
    let kind = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    match kind {
        Some("application/json") => {
            response(text)?.ok_or_else(|| "the answer is no JSON-RPC response".to_owned())
        }
        Some("text/event-stream") => {
            for event in text.replace("\r\n", "\n").split("\n\n") {
                let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
                let data: Vec<_> =
                    lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
                let data = data.join("\n");
                if data.is_empty() {
                    continue;
                }
                if let Some(response) = response(&data)? {
                    return Ok(response);
                }
            }
            Err("the stream ended without a response".to_owned())
        }
        Some(other) => Err(format!("the answer is {other:?}, neither JSON nor events")),
        None => Err("the answer has no Content-Type".to_owned()),
    }
}

/// Parses a message; `None` if it is no response.
fn response(text: &str) -> Result<Option<Response>, String> {
    #[derive(Deserialize)]
    struct Written {
        #[serde(default)]
        id: Value,
        result: Option<Value>,
        error: Option<RpcError>,
    }
    let written: Written = serde_json::from_str(text)
        .map_err(|error| format!("the answer is not JSON-RPC: {error}"))?;
    Ok(match written {
        Written { id, error: Some(error), .. } => Some(Response { id, outcome: Err(error) }),
        Written { id, result: Some(result), .. } => Some(Response { id, outcome: Ok(result) }),
        Written { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_an_answer_are_read() {
        let body = r#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#;
        let expected = Response { id: 7.into(), outcome: Ok(json!({"a": 1})) };
        let json = Some("application/json; charset=utf-8");
        assert_eq!(read(json, body.as_bytes()).as_ref(), Ok(&expected));
        let notification = r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#;
        for line in ["\n", "\r\n"] {
            let events = format!(
                ": hello{line}{line}id: 1-0{line}data: {line}{line}data: {notification}{line}{line}event: message{line}data: {body}{line}{line}"
            );
            assert_eq!(read(Some("text/event-stream"), events.as_bytes()).as_ref(), Ok(&expected));
        }
        let events = format!("data: {notification}\n\n");
        assert!(read(Some("text/event-stream"), events.as_bytes()).is_err());
        assert!(read(json, notification.as_bytes()).is_err());
        assert!(read(json, b"<html>").is_err());
        assert!(read(Some("text/html"), body.as_bytes()).is_err());
        assert!(read(None, body.as_bytes()).is_err());
        let error = read(json, br#"{"id":null,"error":{"code":-1,"message":"x"}}"#);
        let outcome = Err(RpcError { code: -1, message: "x".into(), data: Value::Null });
        assert_eq!(error, Ok(Response { id: Value::Null, outcome }));
    }
}
