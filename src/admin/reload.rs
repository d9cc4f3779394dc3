//! Reading the configuration again: `POST /debug/reload`.
//!
//! Owns the answer to the operator: which keys are in force now, which wait for the next start and why, or
//! why nothing has changed. Refuses to show values, some of which are secrets.
//! Trap: it is a matter of the whole process, so no single instance's host has this path.

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

/// The path of this file.
pub(super) fn router(reloads: &Reloads) -> Router {
    Router::new().route("/debug/reload", post(reload)).with_state(reloads.clone())
}

/// `POST /debug/reload`: 200 and the keys, 422 and what is wrong with the configuration.
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
