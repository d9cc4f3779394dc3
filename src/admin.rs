//! What operators ask: is it alive, who is in it, end that one.
//!
//! Owns health (`/livez`, `/readyz`, `/health`, on any host, without a session and without a token) and
//! `/debug/sessions` behind the admin token. Refuses to show whole session ids or stored values.
//! Traps: a probe must not create a session; listing must not extend a session's life, so it iterates
//! and never looks one up.

use std::{cmp::Reverse, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    auth,
    config::{Config, Secret},
    http::problem,
    instance::{Instance, Process},
    mcp::version::ProtocolVersion,
    session::{EndReason, Session, SessionRef, store::Counts},
};

/// Below this path everything is the operator's.
const PATH: &str = "/debug";

/// Whether a path is the operator's.
pub fn is_path(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a health request; `None` if it is none.
///
/// `/livez` says that the process runs, `/readyz` and `/health` that it takes new sessions.
pub fn health(process: &Process, method: &Method, path: &str) -> Option<Response> {
    let ready = match path {
        "/livez" => true,
        "/readyz" | "/health" => !process.lifecycle.is_draining(),
        _ => return None,
    };
    if *method != Method::GET && *method != Method::HEAD {
        let allow = [(header::ALLOW, "GET, HEAD")];
        return Some((StatusCode::METHOD_NOT_ALLOWED, allow, "use GET\n").into_response());
    }
    Some(match ready {
        true => (StatusCode::OK, "ok\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response(),
    })
}

/// Who may see `/debug`.
#[derive(Clone, Debug)]
pub enum Admin {
    /// No one: the path does not exist.
    Absent,
    /// Whoever holds this token.
    Token(Secret),
}

impl Admin {
    /// The configured token; without one, a generated token in debug mode. The second value is that
    /// token, to be shown to the operator once.
    pub fn build(config: &Config) -> Result<(Self, Option<Secret>), getrandom::Error> {
        if !config.admin.token.expose().is_empty() {
            return Ok((Self::Token(config.admin.token.clone()), None));
        }
        if !config.debug {
            return Ok((Self::Absent, None));
        }
        let mut random = [0u8; 16];
        getrandom::fill(&mut random)?;
        let generated = Secret::new(u128::from_be_bytes(random).to_string());
        Ok((Self::Token(generated.clone()), Some(generated)))
    }
}

/// The instances that one admin router shows: one, or all ten.
type Scope = Arc<[Arc<Instance>]>;

/// `/debug` for these instances; empty if no one may see it.
pub fn router(admin: &Admin, instances: &[Arc<Instance>]) -> Router {
    let Admin::Token(token) = admin else { return Router::new() };
    let digest: [u8; 32] = Sha256::digest(token.expose().as_bytes()).into();
    Router::new()
        .route("/debug/sessions", get(list))
        .route("/debug/sessions/{reference}", get(show).delete(end))
        .layer(middleware::from_fn_with_state(digest, check_token))
        .with_state(Scope::from(instances))
}

async fn check_token(State(expected): State<[u8; 32]>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let given =
        auth::bearer(header).map(|token| <[u8; 32]>::from(Sha256::digest(token.as_bytes())));
    match given {
        Ok(given) if bool::from(given.ct_eq(&expected)) => next.run(request).await,
        _ => {
            let text = "send \"Authorization: Bearer <admin token>\" (ADMIN_TOKEN)";
            let mut response = problem(StatusCode::UNAUTHORIZED, text);
            let challenge = header::HeaderValue::from_static("Bearer realm=\"debug\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            response
        }
    }
}

/// How much of a list is shown.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default = "Page::usual")]
    limit: usize,
}

impl Page {
    const MOST: usize = 10_000;

    fn usual() -> usize {
        1000
    }
}

/// `GET /debug/sessions?limit=N`: counts per instance and the sessions used last.
async fn list(
    State(scope): State<Scope>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let limit = match page {
        Ok(Query(Page { limit })) => limit.min(Page::MOST),
        Err(_) => return problem(StatusCode::BAD_REQUEST, "the only parameter is limit, a number"),
    };
    let mut all: Vec<(&Arc<Instance>, Arc<Session>)> = Vec::new();
    for instance in scope.iter() {
        let recent = instance.sessions.recent(limit).await;
        all.extend(recent.into_iter().map(|session| (instance, session)));
    }
    all.sort_by_key(|(_, session)| Reverse(session.touched()));
    all.truncate(limit);
    Json(json!({
        "instances": scope.iter().map(|instance| counts(instance)).collect::<Vec<_>>(),
        "total": scope.iter().map(|instance| instance.sessions.counts().live).sum::<u64>(),
        "shown": all.len(),
        "sessions": all.iter().map(|(instance, session)| summary(instance, session)).collect::<Vec<_>>(),
    }))
    .into_response()
}

/// `GET /debug/sessions/{ref}`: the summary and the keys of its data.
async fn show(State(scope): State<Scope>, Path(reference): Path<String>) -> Response {
    let Some((instance, session)) = find(&scope, &reference).await else { return unknown() };
    let mut detail = summary(&instance, &session);
    let keys: Vec<_> = session.with_data(|data| {
        data.values()
            .iter()
            .map(|(key, value)| json!({ "key": key, "bytes": value.get().len() }))
            .collect()
    });
    detail["data"] = keys.into();
    detail["initialized"] = session.is_initialized().into();
    Json(detail).into_response()
}

/// `DELETE /debug/sessions/{ref}`: 204, and the client's next request gets 404.
async fn end(State(scope): State<Scope>, Path(reference): Path<String>) -> Response {
    let Some((instance, session)) = find(&scope, &reference).await else { return unknown() };
    match instance.sessions.end(session.id, EndReason::Admin).await {
        true => StatusCode::NO_CONTENT.into_response(),
        false => unknown(),
    }
}

fn unknown() -> Response {
    problem(StatusCode::NOT_FOUND, "no live session has this reference")
}

/// By reference, as it stands in the log and the list, or by whole id.
async fn find(scope: &Scope, text: &str) -> Option<(Arc<Instance>, Arc<Session>)> {
    let wanted = [SessionRef::parse(text), Some(SessionRef::of(text))];
    for instance in scope.iter() {
        if let Some(session) = instance.sessions.find_reference(wanted).await {
            return Some((Arc::clone(instance), session));
        }
    }
    None
}

fn counts(instance: &Instance) -> Value {
    let Counts { created, live, ended, refused } = instance.sessions.counts();
    let ended =
        EndReason::ALL.map(|reason| (reason.as_str().to_owned(), ended[reason.index()].into()));
    json!({
        "instance": instance.id,
        "live": live,
        "created": created,
        "ended": Value::Object(ended.into_iter().collect()),
        "refused": refused,
        "capacity": instance.policy.session.capacity,
    })
}

fn summary(instance: &Instance, session: &Session) -> Value {
    let clock = instance.process.clock;
    let (now, tally) = (clock.now(), session.tally());
    let timeout = session.timeout(instance.policy.session.timeout_seconds.get());
    let idle = now.since(session.touched());
    let (keys, bytes) = session.with_data(|data| (data.values().len(), data.bytes()));
    json!({
        "ref": session.reference.to_string(),
        "instance": instance.id,
        "client": session.handshake.client,
        "label": session.handshake.label,
        "protocol_version": session.handshake.version.map(ProtocolVersion::as_str),
        "request_count": tally.requests,
        "created_at": clock.time(session.created),
        "age_seconds": now.since(session.created).as_secs_f64(),
        "idle_seconds": idle.as_secs_f64(),
        "expires_in_seconds": timeout.saturating_sub(idle).as_secs_f64(),
        "data_keys": keys,
        "data_bytes": bytes,
        "open_streams": session.open_streams(),
    })
}
