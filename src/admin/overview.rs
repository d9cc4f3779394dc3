//! `/debug/overview`: the state of the process and its instances.
//!
//! Owns one document that is cheap enough to be fetched every second. It looks at no single session: a million of them
//! may be live.
//! Trap: whoever makes rates of it must divide by the time that passed here, so it says its own.

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Scope, store};
use crate::{
    id::{EndReason, InstanceId},
    observe::Totals,
    session::Counts,
    tenant::Instance,
    wire::version,
};

pub(super) fn router() -> Router<Scope> {
    Router::new().route("/debug/overview", get(show))
}

/// `GET /debug/overview`
async fn show(State(scope): State<Scope>) -> Response {
    let Some(first) = scope.first() else { return StatusCode::NOT_FOUND.into_response() };
    refresh(&scope).await;
    let process = &first.process;
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "profile": process.profile,
        "replica": process.replica,
        "tag": process.tag.to_string(),
        "boot": process.boot.to_string(),
        "uptime_seconds": process.clock.uptime().as_secs_f64(),
        "draining": process.lifecycle.is_draining(),
        "port": process.clients_port,
        "store": process.link.as_deref().map(store::shown),
        "errors_of_no_instance": (scope.len() == InstanceId::COUNT).then(|| process.refused.total()),
        "instances": scope.iter().map(|instance| counts(instance)).collect::<Vec<_>>(),
    }))
    .into_response()
}

/// Has shared stores count.
pub(super) async fn refresh(scope: &Scope) {
    join_all(scope.iter().map(|instance| instance.state.sessions.refresh())).await;
}

/// The numbers of one instance.
pub(super) fn counts(instance: &Instance) -> Value {
    let Counts { created, live, ended, refused, data_bytes } = instance.state.sessions.counts();
    let Totals { requests, errors } = instance.state.requests.totals();
    let open_streams: u64 = instance.state.counters.streams().map(|(_, open)| open).sum();
    let ended =
        EndReason::ALL.map(|reason| (reason.as_str().to_owned(), ended[reason.index()].into()));
    let policy = &instance.policy;
    let versions = version::newest_first(&policy.config.protocol.versions);
    json!({
        "instance": instance.id,
        "host": policy.host,
        "policy": {
            "auth": policy.auth.as_str(),
            "protocol_versions": version::texts(&versions),
            "idle_timeout_seconds": policy.config.session.timeout_seconds.get().as_secs_f64(),
        },
        "sessions": store::home(instance),
        "live": live,
        "created": created,
        "ended": Value::Object(ended.into_iter().collect()),
        "refused": refused,
        "capacity": policy.config.session.capacity,
        "requests": requests,
        "errors": errors,
        "open_streams": open_streams,
        "data_bytes": data_bytes,
        "open_calls": instance.state.calls.count(),
        "booked_bytes": instance.state.share.booked(),
        "limit_bytes": instance.state.share.limit(),
    })
}
