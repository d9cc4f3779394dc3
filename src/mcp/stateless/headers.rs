//! Headers must say what the body says (2026-07-28, basic/transports/streamable-http, "Request Metadata").
//!
//! Owns the comparison of `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` with the body, and the decoding of
//! their values. Refuses any difference, with both values in the message: what lies between may have
//! acted on the header already.
//! Trap: only a value inside the Base64 mark is decoded; one that merely looks like Base64 is literal.

use std::{borrow::Cow, fmt::Display};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::AsHeaderName};
use serde_json::{Map, Value};

use super::VERSION;
use crate::{
    failure::Failure,
    mcp::{call::ToolCall, dispatch::read},
    tools::{HANDLE, arguments::Fields},
    wire::{
        headers::{HANDLE_HEADER, METHOD_HEADER, NAME_HEADER, Single, single},
        json::Raw,
        params::Params,
        version::Method,
    },
};

/// A header that may stand single, as visible ASCII.
pub(super) fn header(
    headers: &HeaderMap,
    name: impl AsHeaderName + Display + Copy,
) -> Result<Option<&str>, Failure> {
    let text = match single(headers, name) {
        Single::Missing => return Ok(None),
        Single::Value(value) => value.to_str().ok(),
        Single::Several => None,
    };
    let problem = || format!("the header {name} must stand once and be visible ASCII");
    text.map(|text| Some(text.trim())).ok_or_else(|| Failure::HeaderMismatch(problem()))
}

/// `Mcp-Method` must say what the body says, and the method must exist.
pub(super) fn check_method(headers: &HeaderMap, name: &str) -> Result<Option<Method>, Failure> {
    match header(headers, &METHOD_HEADER)? {
        Some(value) if value == name => Ok(Method::parse(name, VERSION)),
        Some(value) => Err(Failure::HeaderMismatch(format!(
            "Mcp-Method header value {value:?} does not match body value {name:?}"
        ))),
        None => Err(Failure::HeaderMismatch(format!(
            "Mcp-Method header is missing, the body says {name:?}"
        ))),
    }
}

/// `Mcp-Name` must say what the body says, where a method has a name.
pub(super) fn check_name(
    headers: &HeaderMap,
    method: Option<Method>,
    params: &Params<'_>,
) -> Result<(), Failure> {
    let member = match method {
        Some(Method::ToolsCall | Method::PromptsGet) => "name",
        Some(Method::ResourcesRead) => "uri",
        Some(Method::TasksGet | Method::TasksUpdate | Method::TasksCancel) => "taskId",
        _ => return Ok(()),
    };
    let body = match params.name().filter(|_| member == "name") {
        Some(name) => Some(name),
        None => {
            let mut all: Map<String, Value> = read(params.raw)?.unwrap_or_default();
            match all.remove(member) {
                Some(Value::String(text)) => Some(text.into()),
                Some(_) | None => None,
            }
        }
    };
    let Some(body) = body else {
        return Err(Failure::InvalidParams(format!("{member:?} is required, a string")));
    };
    match header(headers, &NAME_HEADER)? {
        None => Err(Failure::HeaderMismatch(format!(
            "Mcp-Name header is missing, the body says {body:?}"
        ))),
        Some(text) => match decode(text) {
            Some(value) if value == body => Ok(()),
            Some(value) => Err(Failure::HeaderMismatch(format!(
                "Mcp-Name header value {value:?} does not match body value {body:?}"
            ))),
            None => Err(Failure::HeaderMismatch(format!(
                "Mcp-Name header value {text:?} is not valid Base64"
            ))),
        },
    }
}

/// `Mcp-Param-*` must say what the arguments say (streamable-http, "Server Behavior for Custom
/// Headers").
pub(super) fn check_mirrored(headers: &HeaderMap, call: &ToolCall<'_>) -> Result<(), Failure> {
    let read = call.arguments.map(Fields::read).transpose();
    let Fields(arguments) =
        read.map_err(|error| Failure::InvalidParams(error.to_string()))?.unwrap_or_default();
    for (argument, end) in call.tool.mirrored() {
        let body = arguments.iter().find(|(name, _)| name == argument);
        let body = body.map(|(_, raw)| *raw).filter(|raw| !raw.is_null());
        let sent = match (argument, end) == HANDLE {
            true => header(headers, &HANDLE_HEADER)?,
            false => header(headers, &*format!("mcp-param-{}", end.to_ascii_lowercase()))?,
        };
        let value = match sent {
            None => None,
            Some(text) => Some(decode(text).ok_or_else(|| {
                let problem = format!("header value {text:?} is not valid Base64");
                Failure::HeaderMismatch(format!("Mcp-Param-{end} {problem}"))
            })?),
        };
        let problem = match (value, body) {
            (None, None) => continue,
            (Some(value), Some(body)) if same(&value, body) => continue,
            (Some(value), Some(body)) => {
                let body = body.value();
                format!("header value {value:?} does not match body value {body}")
            }
            (None, Some(body)) => {
                format!("header is missing, the body says {}", body.value())
            }
            (Some(value), None) => format!("header value {value:?} has no value in the body"),
        };
        return Err(Failure::HeaderMismatch(format!("Mcp-Param-{end} {problem}")));
    }
    Ok(())
}

/// The value of a mirrored header; `None` if it is marked as Base64 and is not
/// (streamable-http, "Value Encoding").
fn decode(header: &str) -> Option<Cow<'_, str>> {
    match header.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        None => Some(Cow::Borrowed(header)),
        Some(encoded) => {
            let bytes = STANDARD.decode(encoded).ok()?;
            String::from_utf8(bytes).ok().map(Cow::Owned)
        }
    }
}

/// Whether a header says what a value of the body says; numbers are compared as numbers.
fn same(header: &str, body: Raw<'_>) -> bool {
    if let Some(text) = body.text() {
        return header == text;
    }
    match body.value() {
        Value::String(text) => header == text,
        Value::Bool(flag) => header == if flag { "true" } else { "false" },
        Value::Number(number) => header.parse::<f64>().ok() == number.as_f64(),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn header_values_are_decoded_by_their_mark() {
        assert_eq!(decode("=?base64?SGVsbG8=?=").as_deref(), Some("Hello"));
        assert_eq!(decode("SGVsbG8=").as_deref(), Some("SGVsbG8="));
        assert_eq!(decode("=?base64?SGVsbG8=").as_deref(), Some("=?base64?SGVsbG8="));
        for wrong in ["=?base64?SGVsbG8?=", "=?base64?SGVs!!!bG8=?=", "=?base64?/w==?="] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
        assert!(
            same("42.0", Raw::again("42"))
                && same("true", Raw::again("true"))
                && !same("True", Raw::again("true"))
                && same("a\"b", Raw::again(r#""a\"b""#))
        );
    }

    proptest! {
        #[test]
        fn any_value_survives_its_header(value in "\\PC{0,30}") {
            let header = format!("=?base64?{}?=", STANDARD.encode(&value));
            let decoded = decode(&header).map(Cow::into_owned);
            prop_assert_eq!(decoded, Some(value));
        }
    }
}
