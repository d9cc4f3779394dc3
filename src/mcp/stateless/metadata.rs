//! Request metadata: `_meta`, and the headers that repeat parts of the body (2026-07-28, basic/index, "_meta";
//! basic/transports/streamable-http, "Protocol Version Header" and "Request Metadata").
//!
//! Owns the check of revision and capabilities, and the comparison of `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` with the
//! body. A header that differs from the body is refused, since a proxy in front may have acted on it; the error shows
//! both values.
//! Traps: only a value in the Base64 mark is decoded, not everything that looks like Base64. A client of an older
//! revision cannot negotiate a newer one, so the error that it gets must tell its user enough.

use std::fmt::Display;

use serde_json::{Map, Value};

use super::{ERA, Stateless, VERSION};
use crate::{
    failure::Failure,
    mcp::{
        call::ToolCall,
        dispatch::{self, invalid, read},
    },
    tools::{ClientFacts, HANDLE},
    wire::{
        Capabilities, Era, Head, InitializeParams, Known, LogLevel, META_CAPABILITIES,
        META_VERSION, Meta, Method, Params, ProtocolVersion, Raw, RawObject, Single,
        headers::{decode, single},
        version,
    },
};

impl Stateless<'_> {
    /// Checks the revision and what `_meta` must hold beside it.
    pub(super) fn check_meta(
        &self,
        method: &str,
        params: &Params<'_>,
        meta: Option<&Meta<'_>>,
    ) -> Result<ClientFacts, Failure> {
        let claim = meta.and_then(|meta| meta.version);
        let header = header(self.exchange.inbound.head(), Known::Version)?;
        self.refuse_handshake(claim, method, params)?;
        let Some(header) = header else {
            return missing("MCP-Protocol-Version", claim.map_or("nothing", Raw::get));
        };
        let meta = meta.ok_or_else(|| Failure::BadMeta("\"_meta\" is required".to_owned()))?;
        let version = claim.and_then(Raw::text);
        let claim = version.ok_or_else(|| lacks(META_VERSION, "a string", claim))?;
        let sent = meta.capabilities;
        let capabilities = sent.map(Raw::value).as_ref().and_then(Capabilities::read);
        let capabilities =
            capabilities.ok_or_else(|| lacks(META_CAPABILITIES, "an object", sent))?;
        if header != claim {
            return differs("MCP-Protocol-Version", header, format_args!("{claim:?}"));
        }
        self.check_served(&claim)?;
        Ok(ClientFacts {
            ready: true,
            capabilities,
            progress_token: dispatch::progress_token(Some(meta))?,
            log_level: log_level(meta)?,
            conversation: None,
            meta: params.raw_meta().map(|raw| raw.get().into()),
            progress_messages: true,
        })
    }

    /// Checks the revision that something else than a request names. What else it must carry is not defined
    /// (streamable-http, "Sending Messages").
    pub(in crate::mcp) fn check_version(&self, meta: Option<&Meta<'_>>) -> Result<(), Failure> {
        let header = header(self.exchange.inbound.head(), Known::Version)?;
        let sent = meta.and_then(|meta| meta.version);
        let claim = match sent {
            Some(sent) => {
                Some(sent.text().ok_or_else(|| lacks(META_VERSION, "a string", Some(sent)))?)
            }
            None => None,
        };
        match (header, claim) {
            (Some(header), Some(claim)) if header != claim => {
                differs("MCP-Protocol-Version", header, format_args!("{claim:?}"))
            }
            (Some(named), _) => self.check_served(named),
            (None, Some(claim)) => self.check_served(&claim),
            (None, None) => Ok(()),
        }
    }

    fn check_served(&self, named: &str) -> Result<(), Failure> {
        let serves = |version: &ProtocolVersion| version.era() == ERA && version.as_str() == named;
        match self.exchange.policy().protocol.versions.iter().any(serves) {
            true => Ok(()),
            false => Err(self.unsupported(named.to_owned())),
        }
    }

    fn unsupported(&self, requested: String) -> Failure {
        let served = version::newest_first(&self.exchange.policy().protocol.versions);
        Failure::UnsupportedRevision { requested, served }
    }

    /// Tells a client of an older revision which revisions are served, if none of them has `initialize`.
    fn refuse_handshake(
        &self,
        claim: Option<Raw<'_>>,
        method: &str,
        params: &Params<'_>,
    ) -> Result<(), Failure> {
        match (claim, method) {
            (None, "initialize") if !self.exchange.instance().serves(Era::Sessioned) => {
                let requested = match read::<InitializeParams<'_>>(params.raw) {
                    Ok(Some(params)) => params.protocol_version.into_owned(),
                    _ => String::new(),
                };
                Err(self.unsupported(requested))
            }
            _ => Ok(()),
        }
    }
}

/// What is wrong with a member of `_meta` that must be there.
fn lacks(name: &str, expected: &str, sent: Option<Raw<'_>>) -> Failure {
    Failure::BadMeta(match sent.and_then(Raw::fault) {
        Some(fault) => format!("{name:?} in \"_meta\" {fault}"),
        None => format!("\"_meta\" must have {name:?}, {expected}"),
    })
}

fn log_level(meta: &Meta<'_>) -> Result<Option<LogLevel>, Failure> {
    let Some(level) = meta.log_level else { return Ok(None) };
    let known = serde_json::from_str(level.get());
    known.map(Some).or_else(|_| invalid(format!("{} is no log level", level.get())))
}

fn mismatch<T>(problem: String) -> Result<T, Failure> {
    Err(Failure::HeaderMismatch(problem))
}

fn missing<T>(header: &str, body: impl Display) -> Result<T, Failure> {
    mismatch(format!("{header} header is missing, the body says {body}"))
}

fn differs<T>(header: &str, value: &str, body: impl Display) -> Result<T, Failure> {
    mismatch(format!("{header} header value {value:?} does not match body value {body}"))
}

fn not_base64<T>(header: &str, value: &str) -> Result<T, Failure> {
    mismatch(format!("{header} header value {value:?} is not valid Base64"))
}

/// A header that may appear once, in visible ASCII.
fn header(head: Head<'_>, known: Known) -> Result<Option<&str>, Failure> {
    text(head.single(known), known.shown())
}

fn text<'a>(found: Single<'a>, name: &str) -> Result<Option<&'a str>, Failure> {
    let text = match found {
        Single::Missing => return Ok(None),
        Single::Value(value) => value.to_str().ok(),
        Single::Several => None,
    };
    match text {
        Some(text) => Ok(Some(text.trim())),
        None => mismatch(format!("the header {name} must stand once and be visible ASCII")),
    }
}

/// `Mcp-Method` must equal the method of the body. Returns `None` for a method that does not exist.
pub(super) fn check_method(head: Head<'_>, name: &str) -> Result<Option<Method>, Failure> {
    match header(head, Known::Method)? {
        Some(value) if value == name => {
            Ok(Method::named(name).filter(|method| method.is_in(VERSION)))
        }
        Some(value) => differs("Mcp-Method", value, format_args!("{name:?}")),
        None => missing("Mcp-Method", format_args!("{name:?}")),
    }
}

/// `Mcp-Name` must equal the name, URI or task id in the body, for methods that have one.
pub(super) fn check_name(
    head: Head<'_>,
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
    let Some(body) = body else { return invalid(format!("{member:?} is required, a string")) };
    let Some(text) = header(head, Known::Name)? else {
        return missing("Mcp-Name", format_args!("{body:?}"));
    };
    match decode(text) {
        Some(value) if value == body => Ok(()),
        Some(value) => differs("Mcp-Name", &value, format_args!("{body:?}")),
        None => not_base64("Mcp-Name", text),
    }
}

/// `Mcp-Param-*` must equal the arguments that they repeat (streamable-http, "Server Behavior for Custom Headers").
pub(super) fn check_mirrored(head: Head<'_>, call: &ToolCall<'_>) -> Result<(), Failure> {
    let arguments = match call.arguments.map(RawObject::fields).transpose() {
        Ok(fields) => fields.unwrap_or_default(),
        Err(error) => return invalid(error.to_string()),
    };
    for (argument, end) in call.tool.mirrored() {
        let body = arguments.iter().rfind(|(name, _)| name == argument);
        let body = body.map(|(_, raw)| *raw).filter(|raw| !raw.is_null());
        let sent = match (argument, end) == HANDLE {
            true => header(head, Known::Handle)?,
            false => {
                let name = format!("mcp-param-{}", end.to_ascii_lowercase());
                text(single(head.headers, &name), &name)?
            }
        };
        let name = || format!("Mcp-Param-{end}");
        let Some(text) = sent else {
            match body {
                None => continue,
                Some(body) => return missing(&name(), body.get()),
            }
        };
        let Some(value) = decode(text) else { return not_base64(&name(), text) };
        match body {
            Some(body) if same(&value, body) => {}
            Some(body) => return differs(&name(), &value, body.get()),
            None => {
                return mismatch(format!(
                    "{} header value {value:?} has no value in the body",
                    name()
                ));
            }
        }
    }
    Ok(())
}

/// Whether a header equals a value of the body. Whole numbers are compared digit for digit, others as numbers.
fn same(header: &str, body: Raw<'_>) -> bool {
    if let Some(text) = body.text() {
        return header == text;
    }
    match body.value() {
        Value::String(text) => header == text,
        Value::Bool(flag) => header == if flag { "true" } else { "false" },
        Value::Number(_) if is_whole(header) && is_whole(body.get()) => header == body.get(),
        Value::Number(number) => header.parse::<f64>().ok() == number.as_f64(),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

fn is_whole(number: &str) -> bool {
    number.strip_prefix('-').unwrap_or(number).bytes().all(|byte| byte.is_ascii_digit())
}
