//! The tools that show what arrived: headers, identity, timing, CORS, environment, health.
//!
//! Owns their rows and what they report. They show no secrets: see [`redaction`](super::redaction). Of the environment there
//! are only the variables that this program reads.
//! Trap: a decoded token is not a verified one, and every answer about tokens says so.

use http::header;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    TOOL, Tool,
    arguments::{Arguments, BadArguments},
    call::{CallContext, Prepared},
    input, nullable, object, redaction,
};
use crate::{
    config::PLAIN_NAMES,
    id::Caller,
    tenant::{Claims, EXPOSED, Inbound, METHODS, Unauthorized, Verdict, auth},
    wire::ToolResult,
};

/// Headers that proxies add.
const FORWARDED: [&str; 7] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
];

/// Headers by which an authenticating proxy names the user.
const IDENTITY: [&str; 4] = ["x-user-id", "x-user-name", "x-client-id", "x-oauth-client"];

pub(super) const TOOLS: &[Tool] = &[
    Tool {
        name: "printHeader",
        title: "Print request headers",
        description: "Shows every HTTP header of this request, repeated ones side by side in their order, its path and query, and which headers were added by proxies. What looks like a credential is redacted.",
        output_schema: Some(|| {
            object(json!({
                "http_version": { "type": "string" },
                "method": { "type": "string" },
                "path": { "type": "string" },
                "query": nullable(json!({ "type": "string" })),
                "peer": { "type": "string" },
                "peer_is_trusted_proxy": { "type": "boolean" },
                "headers": { "type": "array", "items": { "type": "object", "properties": {
                    "name": { "type": "string" }, "value": { "type": "string" } } } },
                "forwarded": { "type": "object", "additionalProperties": { "type": "string" } },
            }))
        }),
        prepare: |arguments| without_arguments(arguments, print_header),
        ..TOOL
    },
    Tool {
        name: "bearerDecode",
        title: "Decode the bearer token",
        description: "Decodes the JWT in this request's Authorization header: header, claims, times. Decoded, not verified: the signature is not checked.",
        input_schema: |_| {
            flag(
                "includeRaw",
                "Also return the token's header and payload as they were encoded; the signature never",
            )
        },
        output_schema: Some(|| {
            json!({
                "type": "object",
                "properties": {
                    "present": { "type": "boolean" },
                    "is_jwt": { "type": "boolean" },
                    "verified": { "const": false },
                    "note": { "type": "string" },
                    "header": { "type": "object" },
                    "payload": { "type": "object" },
                    "signature_present": { "type": "boolean" },
                    "issued_at": nullable(json!({ "type": "string" })),
                    "expires_at": nullable(json!({ "type": "string" })),
                    "expired": nullable(json!({ "type": "boolean" })),
                    "raw": { "type": "object" },
                },
                "required": ["present", "is_jwt", "verified", "note"],
            })
        }),
        prepare: |arguments| {
            let include_raw = arguments.flag("includeRaw")?;
            arguments.finish()?;
            Ok(Prepared::now(move |context| {
                ToolResult::readable(&bearer_decode(&context.inbound, include_raw))
            }))
        },
        ..TOOL
    },
    Tool {
        name: "authContext",
        title: "Show who is calling",
        description: "Shows everything in this request that speaks of identity: the bearer token (decoded, not verified), the headers of an authenticating proxy and whether they count, and the check that this instance makes.",
        output_schema: Some(|| {
            object(json!({
                "mode": { "type": "string", "enum": ["off", "passthrough", "tokens"] },
                "identity_known": { "type": "boolean", "description": "Whether this session is bound to an identity" },
                "bearer": { "type": "object" },
                "proxy_identity": { "type": "object" },
            }))
        }),
        prepare: |arguments| without_arguments(arguments, auth_context),
        ..TOOL
    },
    Tool {
        name: "requestTiming",
        title: "Show request timing",
        description: "Shows when this request arrived, how long it took to reach the tool, and the age of the session.",
        output_schema: Some(|| {
            object(json!({
                "request_id": { "type": "string" },
                "received_at": { "type": "string", "format": "date-time" },
                "now": { "type": "string", "format": "date-time" },
                "elapsed_ms": { "type": "number", "minimum": 0 },
                "session_age_seconds": nullable(json!({ "type": "number", "minimum": 0 })),
                "rating": { "type": "string", "enum": ["excellent", "good", "acceptable", "slow"] },
            }))
        }),
        prepare: |arguments| without_arguments(arguments, request_timing),
        ..TOOL
    },
    Tool {
        name: "corsAnalysis",
        title: "Analyse CORS",
        description: "Shows the Origin of this request, whether this instance allows it and why, and the CORS headers that every answer carries.",
        output_schema: Some(|| {
            object(json!({
                "origin": nullable(json!({ "type": "string" })),
                "verdict": { "type": "string" },
                "allowed_methods": { "type": "array", "items": { "type": "string" } },
                "exposed_headers": { "type": "array", "items": { "type": "string" } },
                "allowed_origins": { "type": "array", "items": { "type": "string" } },
                "request_headers": { "type": "object", "additionalProperties": { "type": "string" } },
            }))
        }),
        prepare: |arguments| without_arguments(arguments, cors_analysis),
        ..TOOL
    },
    Tool {
        name: "environmentDump",
        title: "Show the environment",
        description: "Shows the environment variables that this server reads, and no others. Secrets are always redacted.",
        input_schema: |_| flag("showSecrets", "Has no effect: secrets are never shown"),
        output_schema: Some(|| {
            object(json!({
                "variables": { "type": "object", "additionalProperties": nullable(json!({ "type": "string" })) },
            }))
        }),
        prepare: |arguments| {
            arguments.flag("showSecrets")?;
            without_arguments(arguments, |_| environment())
        },
        ..TOOL
    },
    Tool {
        name: "healthProbe",
        title: "Probe health",
        description: "Shows the server's name, version and protocol versions, its uptime, and this instance's sessions against their capacity.",
        output_schema: Some(|| {
            object(json!({
                "status": { "type": "string", "enum": ["healthy", "full", "draining"] },
                "server": { "type": "object" },
                "protocol_versions": { "type": "array", "items": { "type": "string" } },
                "uptime_seconds": { "type": "number", "minimum": 0 },
                "sessions": { "type": "object" },
            }))
        }),
        prepare: |arguments| without_arguments(arguments, health_probe),
        ..TOOL
    },
    Tool {
        name: "whoIStheGOAT",
        title: "Who is the G.O.A.T.?",
        description: "Employs cutting-edge artificial intelligence to find the greatest programmer of all time among everyone who is calling right now.",
        output_schema: Some(|| {
            object(json!({
                "identified": { "type": "boolean" },
                "subject": nullable(json!({ "type": "string" })),
                "confidence": { "type": "number" },
                "conclusion": { "type": "string" },
            }))
        }),
        prepare: |arguments| without_arguments(arguments, who_is_the_goat),
        ..TOOL
    },
];

/// The schema of a single argument that is true or false.
fn flag(name: &str, description: &str) -> Value {
    let flag = json!({ "type": "boolean", "description": description, "default": false });
    input(json!({ name: flag }), &[])
}

fn without_arguments(
    arguments: &mut Arguments<'_>,
    report: fn(&CallContext) -> Value,
) -> Result<Prepared, BadArguments> {
    arguments.finish()?;
    Ok(Prepared::now(move |context| ToolResult::readable(&report(context))))
}

/// A header as it may be shown; of several, the list that they are together (RFC 9110 §5.2).
pub(super) fn header_shown(inbound: &Inbound, name: &str) -> Option<String> {
    let values = inbound.headers().get_all(name).iter();
    let shown: Vec<_> = values.map(|value| redaction::header(name, value.as_bytes())).collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

/// Those of the named headers that the request has.
fn present(inbound: &Inbound, names: &[&str]) -> Value {
    let found = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), header_shown(inbound, name)?.into())));
    Value::Object(found.collect())
}

pub(super) fn print_header(context: &CallContext) -> Value {
    let inbound = &context.inbound;
    let headers: Vec<_> = inbound
        .headers()
        .iter()
        .map(|(name, value)| {
            let value = redaction::header(name.as_str(), value.as_bytes());
            json!({ "name": name.as_str(), "value": value })
        })
        .collect();
    json!({
        "http_version": format!("{:?}", inbound.parts.version),
        "method": inbound.parts.method.as_str(),
        "path": inbound.uri().path(),
        "query": inbound.uri().query().map(redaction::query),
        "peer": inbound.record.peer.to_string(),
        "peer_is_trusted_proxy": inbound.trusted_peer,
        "headers": headers,
        "forwarded": present(inbound, &FORWARDED),
    })
}

fn token(inbound: &Inbound) -> Result<&str, Unauthorized> {
    auth::bearer(inbound.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes()))
}

fn claim_time(claims: &Claims, name: &str) -> Option<Timestamp> {
    let seconds = claims.payload.get(name)?.as_f64()?;
    Timestamp::from_second(seconds as i64).ok()
}

fn bearer_decode(inbound: &Inbound, include_raw: bool) -> Value {
    const NOTE: &str = "decoded, not verified: nobody has checked the signature";
    let token = match token(inbound) {
        Ok(token) => token,
        Err(problem) => {
            let present = problem != Unauthorized::Missing;
            let note = problem.to_string();
            return json!({ "present": present, "is_jwt": false, "verified": false, "note": note });
        }
    };
    let Some(claims) = Claims::decode(token) else {
        let note =
            "a bearer token is there, but it is no JWT: an opaque token has nothing to decode";
        return json!({ "present": true, "is_jwt": false, "verified": false, "note": note });
    };
    let expires_at = claim_time(&claims, "exp");
    let mut decoded = json!({
        "present": true,
        "is_jwt": true,
        "verified": false,
        "note": NOTE,
        "header": claims.header,
        "payload": claims.payload,
        "signature_present": claims.signed,
        "issued_at": claim_time(&claims, "iat"),
        "expires_at": expires_at,
        "expired": expires_at.map(|time| time < Timestamp::now()),
    });
    if include_raw {
        let mut parts = token.split('.');
        decoded["raw"] = json!({ "header": parts.next(), "payload": parts.next() });
    }
    decoded
}

fn auth_context(context: &CallContext) -> Value {
    let inbound = &context.inbound;
    let bearer = match token(inbound) {
        Ok(token) => {
            let claims = Claims::decode(token);
            let claim = |name| claims.as_ref().and_then(|claims| claims.text(name));
            json!({
                "present": true,
                "length": token.len(),
                "is_jwt": claims.is_some(),
                "verified": false,
                "subject": claim("sub"),
                "issuer": claim("iss"),
                "client_id": claim("client_id"),
                "scope": claim("scope"),
            })
        }
        Err(problem) => json!({
            "present": problem != Unauthorized::Missing,
            "problem": problem.to_string(),
        }),
    };
    let note = match inbound.trusted_peer {
        true => "these headers count: the peer is one of http.trusted_proxies",
        false => "these headers do not count: the peer is not one of http.trusted_proxies",
    };
    json!({
        "mode": context.instance.policy.auth.as_str(),
        "identity_known": inbound.caller != Caller::Anonymous,
        "bearer": bearer,
        "proxy_identity": {
            "headers": present(inbound, &IDENTITY),
            "auth_token_present": inbound.headers().contains_key("x-auth-token"),
            "trusted": inbound.trusted_peer,
            "note": note,
        },
    })
}

fn request_timing(context: &CallContext) -> Value {
    let clock = context.instance.process.clock;
    let (now, day) = (clock.now(), clock.time_of_day());
    let elapsed_ms = context.inbound.record.elapsed().as_secs_f64() * 1000.0;
    let rating = match elapsed_ms {
        ms if ms < 10.0 => "excellent",
        ms if ms < 50.0 => "good",
        ms if ms < 100.0 => "acceptable",
        _ => "slow",
    };
    json!({
        "request_id": context.inbound.record.id.to_string(),
        "received_at": day.time(context.received()),
        "now": day.time(now),
        "elapsed_ms": elapsed_ms,
        "session_age_seconds": context.session.as_ref().map(|session| {
            now.since(session.head.created).as_secs_f64()
        }),
        "rating": rating,
    })
}

fn cors_analysis(context: &CallContext) -> Value {
    let (inbound, instance) = (&context.inbound, &context.instance);
    let origin = inbound.headers().get(header::ORIGIN);
    let verdict = match origin.map(|origin| instance.policy.origins.judge(origin.as_bytes())) {
        None => "no Origin header: not a cross-origin request of a browser",
        Some(Verdict::Listed) => "allowed: it is listed in origin.allowed",
        Some(Verdict::Loopback) => "allowed: it is a page of this machine",
        Some(Verdict::OwnHost) => "allowed: it is one of this server's own hosts",
        Some(Verdict::Foreign) => "refused with 403: see origin.allowed",
    };
    json!({
        "origin": header_shown(inbound, "origin"),
        "verdict": verdict,
        "allowed_methods": METHODS.split(", ").collect::<Vec<_>>(),
        "exposed_headers": EXPOSED.split(", ").collect::<Vec<_>>(),
        "allowed_origins": instance.policy.config.origin.allowed,
        "request_headers": present(inbound, &[
            "access-control-request-method",
            "access-control-request-headers",
            "sec-fetch-mode",
            "sec-fetch-site",
            "referer",
        ]),
    })
}

fn environment() -> Value {
    let own = PLAIN_NAMES.iter().map(|(name, _)| (*name).to_owned());
    let prefixed =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| {
            name.starts_with("MCP_ECHO_") && !PLAIN_NAMES.iter().any(|(own, _)| own == name)
        });
    let variables = own.chain(prefixed).map(|name| {
        let value = std::env::var_os(&name);
        let value = value.map(|value| redaction::variable(&name, &value.to_string_lossy()));
        (name, value.into())
    });
    json!({ "variables": Value::Object(variables.collect()) })
}

fn health_probe(context: &CallContext) -> Value {
    let instance = &context.instance;
    let process = &instance.process;
    let counts = instance.state.sessions.counts();
    let capacity = instance.policy.config.session.capacity;
    let status = match () {
        () if process.lifecycle.is_draining() => "draining",
        () if counts.live >= capacity => "full",
        () => "healthy",
    };
    json!({
        "status": status,
        "server": { "name": process.server_name, "version": process.server_version },
        "protocol_versions":
            instance.policy.config.protocol.versions.iter().map(|version| version.as_str()).collect::<Vec<_>>(),
        "uptime_seconds": process.clock.uptime().as_secs_f64(),
        "sessions": { "live": counts.live, "capacity": capacity, "refused": counts.refused },
    })
}

fn who_is_the_goat(context: &CallContext) -> Value {
    let inbound = &context.inbound;
    let claims = token(inbound).ok().and_then(Claims::decode);
    let claimed = claims.as_ref().and_then(|claims| {
        ["name", "username", "preferred_username", "sub"].iter().find_map(|name| claims.text(name))
    });
    let forwarded = ["x-user-name", "x-user-id"]
        .iter()
        .find_map(|name| header_shown(inbound, name))
        .filter(|_| inbound.trusted_peer);
    let subject = claimed.or(forwarded.as_deref());
    let conclusion = match subject {
        Some(name) => format!(
            "After an exhaustive analysis of a sample of one, {name} represents the pinnacle of software engineering achievement."
        ),
        None => "Nobody has introduced themselves. Send a bearer token with a name in it, and greatness can be measured.".to_owned(),
    };
    json!({
        "identified": subject.is_some(),
        "subject": subject,
        "confidence": if subject.is_some() { 1.0 } else { 0.0 },
        "conclusion": conclusion,
    })
}
