//! `/debug/failures`: the last requests that failed, and why.
//!
//! Owns that list, and how a request is shown to operators. The front door shows those of all ten instances and those that
//! were refused before they reached one, such as a request for a host that is not served.
//! Trap: a host, a path and a name that does not exist are what a client wrote. They were cut and rid of session ids when
//! they were noted, and are still to be shown as text alone.

use std::{cmp::Reverse, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Scope, sessions};
use crate::{
    http::problem,
    id::{InstanceId, MintedBy},
    observe::{CompletedRequest, FailedRequest, FailureLog, Missing, RequestOutcome, RpcMethod},
    process::Process,
};

pub(super) fn router() -> Router<Scope> {
    Router::new().route("/debug/failures", get(list))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default = "Page::usual")]
    limit: usize,
    instance: Option<Whose>,
}

impl Page {
    fn usual() -> usize {
        1000
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Whose {
    Nobodys(NoInstance),
    Of(InstanceId),
}

/// `none`, as the metrics name it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum NoInstance {
    None,
}

/// `GET /debug/failures?limit=N&instance=N`: the remembered failures, the last first.
async fn list(State(scope): State<Scope>, page: Result<Query<Page>, QueryRejection>) -> Response {
    let Ok(Query(Page { limit, instance })) = page else {
        let text = "the parameters are limit (a number) and instance (0 to 9, or none)";
        return problem(StatusCode::BAD_REQUEST, text);
    };
    let Some(first) = scope.first() else { return StatusCode::NOT_FOUND.into_response() };
    let process = &first.process;
    let whole = scope.len() == InstanceId::COUNT;
    let (named, nobodys) = match instance {
        None => (Some(&scope[..]), whole),
        Some(Whose::Nobodys(NoInstance::None)) => (whole.then_some(&[][..]), true),
        Some(Whose::Of(id)) => (sessions::named(&scope, Some(id)), false),
    };
    let Some(named) = named else { return sessions::no_such_instance() };
    let mut logs: Vec<_> =
        named.iter().map(|own| (Some(own.id), &own.state.requests.failures)).collect();
    if nobodys {
        logs.push((None, &process.refused));
    }
    let total: u64 = logs.iter().map(|(_, log)| log.total()).sum();
    let of = |(instance, log)| {
        let log: &FailureLog = log;
        log.last().into_iter().map(move |failed| (instance, failed))
    };
    let mut all: Vec<(Option<InstanceId>, Arc<FailedRequest>)> =
        logs.into_iter().flat_map(of).collect();
    all.sort_by_key(|(_, failed)| Reverse(failed.request.received));
    all.truncate(limit);
    let failures: Vec<_> =
        all.iter().map(|(instance, failed)| failure(process, *instance, failed)).collect();
    Json(json!({ "total": total, "shown": failures.len(), "failures": failures })).into_response()
}

/// What is known of any request.
pub(super) fn request(process: &Process, completed: &CompletedRequest) -> Value {
    let clock = process.clock;
    let why = completed.outcome.in_words(completed.status);
    json!({
        "at": clock.time_of_day().time(clock.moment(completed.received)),
        "http_method": completed.http_method,
        "rpc_method": completed.method.map(RpcMethod::as_str),
        "tool": completed.tool,
        "status": completed.status,
        "outcome": completed.outcome.as_str(),
        "error": completed.is_error(),
        "why": completed.is_error().then_some(why),
        "duration_us": u64::try_from(completed.duration.as_micros()).unwrap_or(u64::MAX),
        "request_id": completed.id.as_str(),
    })
}

/// The same of one that failed, with where it went wrong.
fn failure(process: &Process, instance: Option<InstanceId>, failed: &FailedRequest) -> Value {
    let FailedRequest { request: completed, path, host, peer, missing, minted_by } = failed;
    let mut shown = request(process, completed);
    match missing {
        Some(Missing::Method(name)) => shown["rpc_method"] = name.as_str().into(),
        Some(Missing::Tool(name)) => shown["tool"] = name.as_str().into(),
        None => {}
    }
    let here = instance.map(|instance| process.minted_by(instance));
    shown["instance"] = json!(instance);
    shown["path"] = path.as_ref().into();
    shown["host"] = json!(host);
    shown["peer"] = peer.to_string().into();
    shown["session"] = json!(completed.session.map(|session| session.to_string()));
    shown["minted_by"] =
        json!(minted_by.or_else(|| here.filter(|_| is_of_here(completed))).map(MintedBy::to_json));
    shown["served_by"] = match here {
        Some(here) => here.to_json(),
        None => json!({
            "instance": null,
            "replica_tag": process.tag.to_string(),
            "boot": process.boot.to_string(),
        }),
    };
    shown
}

/// Whether the id that a request named was minted here, if it was not minted elsewhere. Of an unknown one nobody knows.
fn is_of_here(completed: &CompletedRequest) -> bool {
    let unknown = [RequestOutcome::Unknown, RequestOutcome::StoreUnavailable];
    completed.session.is_some() && !unknown.contains(&completed.outcome)
}
