//! `/debug/sessions`: listing and ending them.
//!
//! Owns the list of sessions, one session in detail, what is remembered of those that have ended, and the end of one, or
//! of all of one instance, by an operator.
//! Refuses to end the sessions of all ten at once, and shows neither whole session ids nor stored values.
//! Trap: looking must not extend a session's life, so it iterates and never looks one up.

use std::{cmp::Reverse, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Scope, failures, overview};
use crate::{
    clock::Moment,
    http::problem,
    id::{EndReason, InstanceId, SessionRef},
    session::{EndedSession, Listed, Search, Unavailable},
    tenant::Instance,
    wire::ProtocolVersion,
};

/// Requests of a session that its detail shows.
const SHOWN_REQUESTS: usize = 50;

pub(super) fn router() -> Router<Scope> {
    Router::new()
        .route("/debug/sessions", get(list).delete(end_all))
        .route("/debug/sessions/{reference}", get(show).delete(end))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default = "Page::usual")]
    limit: usize,
    #[serde(default)]
    search: String,
    instance: Option<InstanceId>,
}

impl Page {
    const MOST: usize = 10_000;

    fn usual() -> usize {
        1000
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    instance: Option<InstanceId>,
}

/// The named instance, else all of the scope. `None` if the named one is not in it.
pub(super) fn named(scope: &Scope, instance: Option<InstanceId>) -> Option<&[Arc<Instance>]> {
    match instance {
        None => Some(scope),
        Some(id) => {
            let place = scope.iter().position(|instance| instance.id == id)?;
            Some(std::slice::from_ref(&scope[place]))
        }
    }
}

pub(super) fn no_such_instance() -> Response {
    problem(StatusCode::NOT_FOUND, "this host shows another instance: ask at the front door")
}

/// `GET /debug/sessions?limit=N&search=TEXT&instance=N`: counts per instance, the matching sessions that were used last,
/// and those that a search finds among the ended.
async fn list(State(scope): State<Scope>, page: Result<Query<Page>, QueryRejection>) -> Response {
    let Some(first) = scope.first() else { return no_such_instance() };
    let bad = || {
        let text = "the parameters are limit (a number), search (a text of at most 256 bytes) and instance (0 to 9)";
        problem(StatusCode::BAD_REQUEST, text)
    };
    let Ok(Query(Page { limit, search, instance })) = page else { return bad() };
    let (limit, Some(search)) = (limit.min(Page::MOST), Search::parse(&search)) else {
        return bad();
    };
    let Some(named) = named(&scope, instance) else { return no_such_instance() };
    let mut matched = 0;
    let mut all: Vec<(&Arc<Instance>, Listed)> = Vec::new();
    for instance in named {
        let Ok(found) = instance.state.sessions.recent(limit, &search).await else {
            return unavailable();
        };
        matched += found.count;
        all.extend(found.sessions.into_iter().map(|session| (instance, session)));
    }
    all.sort_by_key(|(_, session)| session.by_use());
    all.truncate(limit);
    let Ok(ended) = ended(named, limit, &search).await else { return unavailable() };
    let now = first.process.clock.now();
    Json(json!({
        "instances": scope.iter().map(|instance| overview::counts(instance)).collect::<Vec<_>>(),
        "total": scope.iter().map(|instance| instance.state.sessions.counts().live).sum::<u64>(),
        "matched": matched,
        "shown": all.len(),
        "sessions": all.iter().map(|(instance, session)| summary(instance, session, now)).collect::<Vec<_>>(),
        "ended": ended,
    }))
    .into_response()
}

/// The sessions that have ended and are searched for, the last first; at most `limit`. Only their references are kept.
async fn ended(
    named: &[Arc<Instance>],
    limit: usize,
    search: &Search,
) -> Result<Vec<Value>, Unavailable> {
    let mut all = Vec::new();
    for instance in named {
        let search = search.clone();
        let fits = move |reference| search.matches_reference(reference);
        let found = instance.state.sessions.last_ended(limit, fits).await?;
        all.extend(found.into_iter().map(|ended| (instance, ended)));
    }
    all.sort_by_key(|(_, ended)| Reverse(ended.at));
    all.truncate(limit);
    Ok(all.iter().map(|(instance, ended)| epitaph(instance, ended)).collect())
}

/// `GET /debug/sessions/{ref}`: the summary, the keys of its data and its last requests; of one that has ended, how it did
/// and its last requests.
async fn show(State(scope): State<Scope>, Path(reference): Path<String>) -> Response {
    let (instance, session) = match find(&scope, &reference).await {
        Ok(Some(found)) => found,
        Ok(None) => return show_ended(&scope, &reference).await,
        Err(Unavailable) => return unavailable(),
    };
    let mut detail = summary(&instance, &session, instance.process.clock.now());
    let keys = session.sizes.iter().map(|(key, bytes)| json!({ "key": key, "bytes": bytes }));
    detail["data"] = keys.collect();
    detail["initialized"] = session.initialized.into();
    detail["requests"] = requests(&instance, session.reference);
    Json(detail).into_response()
}

async fn show_ended(scope: &Scope, text: &str) -> Response {
    let wanted = references(text);
    for instance in scope.iter() {
        let fits = move |reference| wanted.contains(&Some(reference));
        let Ok(found) = instance.state.sessions.last_ended(1, fits).await else {
            return unavailable();
        };
        if let [ended] = &*found {
            let mut detail = epitaph(instance, ended);
            detail["requests"] = requests(instance, ended.reference);
            return Json(detail).into_response();
        }
    }
    problem(StatusCode::NOT_FOUND, "no session that lives or is remembered has this reference")
}

/// `DELETE /debug/sessions/{ref}`: 204, and the client's next request gets 404.
async fn end(State(scope): State<Scope>, Path(reference): Path<String>) -> Response {
    let (instance, session) = match find(&scope, &reference).await {
        Ok(Some(found)) => found,
        Ok(None) => return unknown(),
        Err(Unavailable) => return unavailable(),
    };
    match instance.state.sessions.end_listed(&session, EndReason::Admin).await {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => unknown(),
        Err(Unavailable) => unavailable(),
    }
}

/// `DELETE /debug/sessions?instance=N`: how many were ended. An instance's own host needs no parameter.
async fn end_all(
    State(scope): State<Scope>,
    whose: Result<Query<Whose>, QueryRejection>,
) -> Response {
    let text = "say whose sessions are to end: ?instance=N, 0 to 9";
    let Ok(Query(Whose { instance })) = whose else {
        return problem(StatusCode::BAD_REQUEST, text);
    };
    match named(&scope, instance) {
        None => no_such_instance(),
        Some([instance]) => match instance.state.sessions.end_all(EndReason::Admin).await {
            Ok(ended) => Json(json!({ "ended": ended })).into_response(),
            Err(Unavailable) => unavailable(),
        },
        Some(_) => problem(StatusCode::BAD_REQUEST, text),
    }
}

fn unavailable() -> Response {
    let told = problem(StatusCode::SERVICE_UNAVAILABLE, &format!("{Unavailable}; ask again"));
    ([(header::RETRY_AFTER, "1")], told).into_response()
}

fn unknown() -> Response {
    problem(StatusCode::NOT_FOUND, "no live session has this reference")
}

/// A reference, as in the log and the list, or that of a whole id.
fn references(text: &str) -> [Option<SessionRef>; 2] {
    [SessionRef::parse(text), Some(SessionRef::of(text))]
}

async fn find(scope: &Scope, text: &str) -> Result<Option<(Arc<Instance>, Listed)>, Unavailable> {
    let wanted = references(text);
    for instance in scope.iter() {
        if let Some(session) = instance.state.sessions.find_reference(wanted).await? {
            return Ok(Some((Arc::clone(instance), session)));
        }
    }
    Ok(None)
}

/// What is remembered of a session that has ended.
fn epitaph(instance: &Instance, ended: &EndedSession) -> Value {
    let EndedSession { reference, at, reason, timeout } = *ended;
    let why = match reason {
        EndReason::Expired => {
            format!("it expired after {} seconds without a request", timeout.as_secs_f64())
        }
        EndReason::Client => "its client ended it".to_owned(),
        EndReason::Admin => "an operator ended it".to_owned(),
        EndReason::Shutdown => "the server was stopped".to_owned(),
    };
    json!({
        "ref": reference.to_string(),
        "instance": instance.id,
        "ended_at": instance.process.clock.time_of_day().time(at),
        "reason": reason.as_str(),
        "why": why,
    })
}

/// The last requests that named a session.
fn requests(instance: &Instance, session: SessionRef) -> Value {
    let last = instance.state.requests.last_of(session, SHOWN_REQUESTS);
    last.iter().map(|known| failures::request(&instance.process, known)).collect()
}

/// All of one answer have one `now`, or their ages would not stand in the order in which they began.
fn summary(instance: &Instance, session: &Listed, now: Moment) -> Value {
    let times = instance.process.clock.time_of_day_at(now);
    let Listed { id, reference, handshake, created, .. } = session;
    let conversation = id.and_then(|id| instance.state.sessions.conversation_of(id));
    json!({
        "ref": reference.to_string(),
        "instance": instance.id,
        "client": handshake.client,
        "label": handshake.label,
        "protocol_version": handshake.version.map(ProtocolVersion::as_str),
        "request_count": session.tally.requests,
        "created_at": times.time(*created),
        "age_seconds": now.since(*created).as_secs_f64(),
        "idle_seconds": now.since(session.touched).as_secs_f64(),
        "expires_in_seconds": session.expires().since(now).as_secs_f64(),
        "data_keys": session.data_keys,
        "data_bytes": session.data_bytes,
        "open_here": conversation.is_some(),
        "open_streams": conversation.map_or(0, |conversation| conversation.open_streams()),
    })
}
