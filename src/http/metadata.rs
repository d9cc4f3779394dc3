//! OAuth 2.0 Protected Resource Metadata (RFC 9728) and the challenge that points to it.
//!
//! Owns `/.well-known/oauth-protected-resource`, which names the configured authorization servers, and the
//! `WWW-Authenticate` header.
//! Trap: the URLs must contain the host and the path that the client used, or it may be unable to reach them, and must
//! refuse metadata of a resource that it has not asked for (RFC 9728 §3.3).

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::{external_base, problem};
use crate::{
    failure,
    observe::RequestRecord,
    paths::{METADATA, Path},
    tenant::{AuthMode, Instance, Unauthorized},
    wire::Era,
};

/// `GET /.well-known/oauth-protected-resource[/mcp]`, or with the path that names an instance.
pub(crate) async fn document(
    State(instance): State<Arc<Instance>>,
    Extension(record): Extension<Arc<RequestRecord>>,
    request: Request,
) -> Response {
    let head = record.lines.head(request.headers());
    let base = match external_base(&instance, record.peer, request.uri(), head) {
        Ok(base) => base,
        Err(bad) => return problem(StatusCode::BAD_REQUEST, &bad.to_string()),
    };
    let auth = &instance.policy.config.auth;
    let mut document = json!({
        "resource": base + &Path::of(request.uri().path()).endpoint(),
        "resource_name": format!("{} {}", instance.process.server_name, instance.id),
    });
    if !matches!(instance.policy.auth, AuthMode::Off) {
        document["bearer_methods_supported"] = json!(["header"]);
    }
    // RFC 9728 §2: a parameter with no elements is left out.
    if !auth.authorization_servers.is_empty() {
        document["authorization_servers"] = json!(auth.authorization_servers);
    }
    if !auth.scopes.is_empty() {
        document["scopes_supported"] = json!(auth.scopes);
    }
    Json(document).into_response()
}

/// 401 or 400 with the challenge of RFC 6750 §3 and RFC 9728 §5.1.
pub(super) fn challenge(
    why: Unauthorized,
    base: &str,
    endpoint: &str,
    scopes: &[String],
    era: Era,
) -> Response {
    let mut metadata = format!("resource_metadata=\"{base}{METADATA}{endpoint}\"");
    if !scopes.is_empty() {
        // The configuration lets no quote into a scope.
        metadata += &format!(", scope=\"{}\"", scopes.join(" "));
    }
    let (status, error) = match why {
        // RFC 6750 §3.1: a request without a bearer token gets no error code.
        Unauthorized::Missing | Unauthorized::OtherScheme => (StatusCode::UNAUTHORIZED, ""),
        Unauthorized::Malformed => (StatusCode::BAD_REQUEST, "error=\"invalid_request\", "),
        Unauthorized::Rejected => (StatusCode::UNAUTHORIZED, "error=\"invalid_token\", "),
    };
    let challenge = format!("Bearer {error}{metadata}");
    let body = json!({
        "jsonrpc": "2.0",
        "error": { "code": failure::exchange_code(era), "message": why.to_string() },
    });
    let mut response = (status, Json(body)).into_response();
    if let Ok(value) = HeaderValue::try_from(challenge) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}
