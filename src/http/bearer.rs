//! The bearer check as a layer around `/mcp`.
//!
//! Owns the 401 and the [`Caller`] that later code finds in the request; a request without one is
//! anonymous. Refuses to look at anything but the `Authorization` header and, from a trusted proxy,
//! `X-User-Id`.
//! Trap: a name that a stranger writes into `X-User-Id` must not become an identity.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{extract::Request, response::Response};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, ready},
};
use http::header;
use tower::Service;

use super::{external_base, record_of};
use crate::{
    auth::{AuthMode, Caller, Unauthorized, metadata},
    instance::Instance,
    telemetry::outcome::RequestOutcome,
};

/// Lets a request through with its caller, or answers 401.
#[derive(Clone, Debug)]
pub struct BearerChecked<S> {
    inner: S,
    instance: Arc<Instance>,
}

impl<S> BearerChecked<S> {
    /// Checks as that instance wants it.
    pub fn new(inner: S, instance: Arc<Instance>) -> Self {
        Self { inner, instance }
    }

    fn caller(&self, request: &Request) -> Result<Caller, Unauthorized> {
        let header = match &self.instance.auth {
            AuthMode::Off => None,
            AuthMode::Passthrough | AuthMode::Tokens(_) => {
                request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes())
            }
        };
        Ok(match self.instance.auth.check(header)? {
            Caller::Anonymous => forwarded_user(&self.instance, request),
            known @ Caller::Known(_) => known,
        })
    }
}

impl<S> Service<Request> for BearerChecked<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        match self.caller(&request) {
            Ok(caller) => {
                if caller != Caller::Anonymous {
                    request.extensions_mut().insert(caller);
                }
                Either::Left(self.inner.call(request))
            }
            Err(problem) => {
                record_of(request.extensions()).set_outcome(RequestOutcome::Unauthorized);
                let base = external_base(&self.instance, &request);
                Either::Right(ready(Ok(metadata::challenge(problem, &base))).boxed())
            }
        }
    }
}

/// The user that a trusted, authenticating proxy names.
fn forwarded_user(instance: &Instance, request: &Request) -> Caller {
    if instance.trusted_proxies.is_empty() || !instance.trusts(record_of(request.extensions()).peer)
    {
        return Caller::Anonymous;
    }
    match request.headers().get("x-user-id").and_then(|user| user.to_str().ok()) {
        Some(user) if !user.is_empty() => Caller::known("user", user),
        Some(_) | None => Caller::Anonymous,
    }
}
