//! Who is in it, and ending that one: `/debug/sessions`.
//!
//! Owns the list of sessions, one session in detail, and its end by an operator. Refuses to show whole
//! session ids or stored values.
//! Trap: looking must not extend a session's life, so it iterates and never looks one up.

use std::{cmp::Reverse, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Scope;
use crate::{
    http::problem,
    instance::Instance,
    mcp::version::ProtocolVersion,
    session::{EndReason, Session, SessionRef, store::Counts},
};

/// The paths of this file.
pub(super) fn router() -> Router<Scope> {
    Router::new()
        .route("/debug/sessions", get(list))
        .route("/debug/sessions/{reference}", get(show).delete(end))
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
    let Counts { created, live, ended, refused, data_bytes } = instance.sessions.counts();
    let ended =
        EndReason::ALL.map(|reason| (reason.as_str().to_owned(), ended[reason.index()].into()));
    json!({
        "instance": instance.id,
        "live": live,
        "created": created,
        "ended": Value::Object(ended.into_iter().collect()),
        "refused": refused,
        "data_bytes": data_bytes,
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
