//! JSON-RPC messages as a client needs them.
//!
//! Owns what the probe says of itself, and finding the response, or progress, in an answer, which is one JSON document or
//! a stream of events.
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
pub(super) fn meta(version: ProtocolVersion) -> [(&'static str, Value); 3] {
    [
        (META_VERSION, version.as_str().into()),
        ("io.modelcontextprotocol/clientCapabilities", json!({})),
        ("io.modelcontextprotocol/clientInfo", client()),
    ]
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
            for (_, data) in events(text) {
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

/// The data of each event that has some, and where in the text the event ends. What is cut off at the end is none.
fn events(text: &str) -> impl Iterator<Item = (usize, String)> {
    let (mut at, mut data) = (0, Vec::new());
    text.split_inclusive('\n').filter_map(move |line| {
        at += line.len();
        let line = line.strip_suffix('\n')?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if let Some(more) = line.strip_prefix("data:") {
            data.push(more.strip_prefix(' ').unwrap_or(more));
        }
        let data =
            if line.is_empty() { std::mem::take(&mut data).join("\n") } else { String::new() };
        (!data.is_empty()).then_some((at, data))
    })
}

/// Where in a stream each progress of that token ends, and the moment that it tells.
pub(super) fn progress(body: &[u8], token: &str) -> Vec<(usize, String)> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Notification {
        method: String,
        params: Progress,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Progress {
        progress_token: Value,
        message: Value,
    }
    let text = String::from_utf8_lossy(body);
    let told = events(&text).filter_map(|(end, data)| {
        let Notification { method, params } = serde_json::from_str(&data).ok()?;
        let fits = method == "notifications/progress" && params.progress_token == token;
        fits.then(|| (end, params.message.as_str().unwrap_or_default().to_owned()))
    });
    told.collect()
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
        let progress = |token: &str| {
            let params = json!({ "progressToken": token, "progress": 1, "message": "a" });
            json!({ "method": "notifications/progress", "params": params }).to_string()
        };
        let events = format!("data: {}\n\ndata: {}\n\ndata: x", progress("t"), progress("u"));
        let end = events.find("\n\n").expect("is there") + 2;
        assert_eq!(super::progress(events.as_bytes(), "t"), [(end, "a".to_owned())]);
        let error = read(json, br#"{"id":null,"error":{"code":-1,"message":"x"}}"#);
        let outcome = Err(RpcError { code: -1, message: "x".into(), data: Value::Null });
        assert_eq!(error, Ok(Response { id: Value::Null, outcome }));
    }
}
