//! `/debug` and `/metrics`.
//!
//! Owns access to them: the admin token, which instances are shown, and whether they are on the main port or on one of
//! their own (`admin.listen`). Refuses requests without the token, except for the page, which is empty until it has
//! one, and for metrics on their own port.
//! Trap: the token is compared by digest and in constant time, or the time would tell how much of it fits.

mod events;
mod failures;
pub mod health;
mod metrics;
mod overview;
mod page;
mod reload;
mod sessions;
mod store;

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
use tower_http::set_header::SetResponseHeaderLayer;

use crate::{
    config::{AdminConfig, Config, Secret, file, is_token},
    http::problem,
    reload::Reloads,
    tenant::{Instance, auth},
    wire::{Known, Lines},
};

/// Access to `/debug` and `/metrics`.
#[derive(Clone, Debug)]
pub enum Admin {
    /// The paths do not exist.
    Absent,
    /// For requests with this token.
    Token(Secret),
}

impl Admin {
    /// The configured token, or in debug mode a generated one, which is also the second value, to be shown to the
    /// operator once.
    pub(crate) fn build(config: &Config) -> anyhow::Result<(Self, Option<Secret>)> {
        if let Some(token) = configured(&config.admin)? {
            return Ok((Self::Token(token), None));
        }
        if !config.debug {
            return Ok((Self::Absent, None));
        }
        let mut random = [0u8; 16];
        getrandom::fill(&mut random)?;
        let generated = Secret::new(u128::from_be_bytes(random).to_string());
        Ok((Self::Token(generated.clone()), Some(generated)))
    }

    /// After a reload: the configured token; without one, access stays as it is.
    pub(crate) fn supersede(&self, config: &Config) -> anyhow::Result<Self> {
        Ok(configured(&config.admin)?.map_or_else(|| self.clone(), Self::Token))
    }
}

/// The token in `admin.token` or in the file `admin.token_file`.
fn configured(config: &AdminConfig) -> anyhow::Result<Option<Secret>> {
    if config.token_file.as_os_str().is_empty() {
        let token = &config.token;
        return Ok((!token.expose().is_empty()).then(|| token.clone()));
    }
    let path = config.token_file.display();
    let text = file::read(&config.token_file)
        .map_err(|error| anyhow::anyhow!("admin.token_file: {path}: {error}"))?;
    let token = text.trim();
    anyhow::ensure!(
        is_token(token),
        "admin.token_file: {path}: must hold a token alone: letters, digits and -._~+/"
    );
    Ok(Some(Secret::new(token)))
}

/// The instances that one admin router shows: one, or all ten.
type Scope = Arc<[Arc<Instance>]>;

/// What one instance's host shows of it; nothing if there is no token.
pub(crate) fn of_instance(admin: &Admin, instance: &Arc<Instance>) -> Router {
    let scope = Scope::from([Arc::clone(instance)]);
    guarded(admin, debug(&scope).merge(numbers(&scope)))
}

/// What the front door shows of the process and all instances; nothing if there is no token.
pub(crate) fn of_process(admin: &Admin, instances: &[Arc<Instance>], reloads: &Reloads) -> Router {
    let scope = Scope::from(instances);
    guarded(admin, debug(&scope).merge(reload::router(reloads)).merge(numbers(&scope)))
}

/// The same on a port that only operators reach, where metrics need no token.
pub(crate) fn of_own_port(admin: &Admin, instances: &[Arc<Instance>], reloads: &Reloads) -> Router {
    let scope = Scope::from(instances);
    guarded(admin, debug(&scope).merge(reload::router(reloads))).merge(numbers(&scope))
}

fn debug(scope: &Scope) -> Router {
    let paths = overview::router().merge(sessions::router()).merge(failures::router());
    let paths = paths.merge(events::router());
    paths.with_state(Arc::clone(scope))
}

fn numbers(scope: &Scope) -> Router {
    metrics::router().with_state(Arc::clone(scope))
}

fn guarded(admin: &Admin, paths: Router) -> Router {
    let Admin::Token(token) = admin else { return Router::new() };
    let digest: [u8; 32] = Sha256::digest(token.expose().as_bytes()).into();
    // What an operator reads is nothing for a cache, be it the browser's or a proxy's.
    let unstored = SetResponseHeaderLayer::overriding(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    let check = middleware::from_fn_with_state(digest, check_token);
    let guarded = paths.layer(check).layer(unstored);
    // A browser sends no token when it opens a page, and this one holds no data.
    guarded.merge(page::router())
}

async fn check_token(State(expected): State<[u8; 32]>, request: Request, next: Next) -> Response {
    let lines = Lines::of(request.headers());
    let header = match lines.head(request.headers()).value(Known::Authorization) {
        Ok(header) => header.map(|value| value.as_bytes()),
        Err(bad) => return problem(StatusCode::BAD_REQUEST, &bad.to_string()),
    };
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
