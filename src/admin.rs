//! What operators ask.
//!
//! Owns the door to everything below `/debug` and to `/metrics`: the admin token, and which instances are shown. Refuses to
//! say anything to a caller without the token.
//! Trap: the token is compared by digest and in constant time, or the time would tell how much of it fits.

pub mod health;
mod metrics;
mod sessions;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use http::{StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    auth,
    config::{Config, Secret},
    http::problem,
    instance::Instance,
};

/// Below this path everything is the operator's.
const PATH: &str = "/debug";

/// Whether a path is the operator's.
pub fn is_path(path: &str) -> bool {
    path == metrics::PATH
        || path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Who may see `/debug` and `/metrics`.
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

/// `/debug` and `/metrics` for these instances; empty if no one may see it.
pub fn router(admin: &Admin, instances: &[Arc<Instance>]) -> Router {
    let Admin::Token(token) = admin else { return Router::new() };
    let digest: [u8; 32] = Sha256::digest(token.expose().as_bytes()).into();
    Router::new()
        .merge(sessions::router())
        .merge(metrics::router())
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
