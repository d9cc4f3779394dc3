//! `POST /debug/reload`: reads the configuration again.
//!
//! Owns the answer to the operator: which keys are in force now, which wait for the next start and why, or why nothing
//! has changed. It shows no values, since some are secrets.
//! Trap: a reload is for the whole process, so no instance's host has this path.

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use http::StatusCode;

use crate::{
    http::problem,
    reload::{NotReloaded, Reloads},
};

pub(super) fn router(reloads: &Reloads) -> Router {
    Router::new().route("/debug/reload", post(reload)).with_state(reloads.clone())
}

/// 200 and the keys, or 422 and what is wrong with the configuration.
async fn reload(State(reloads): State<Reloads>) -> Response {
    match reloads.ask().await {
        Ok(change) => Json(change).into_response(),
        Err(error) => {
            let status = match error {
                NotReloaded::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
                NotReloaded::NoSource => StatusCode::NOT_IMPLEMENTED,
                NotReloaded::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            };
            problem(status, &error.to_string())
        }
    }
}
