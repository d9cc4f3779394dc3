//! The bearer check as a layer around `/mcp`.
//!
//! Owns the 401, and who the caller is: the endpoint takes a [`Called`], which only this layer makes. The caller is known
//! by the `Authorization` header or, behind a trusted proxy, by `X-User-Id`.
//! Trap: `X-User-Id` counts only from a trusted proxy, since anyone can send it.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::response::Response;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, ready},
};
use http::{HeaderMap, Request, header};
use tower::Service;

use super::{Recorded, external_base, metadata};
use crate::{
    id::Caller,
    observe::RequestOutcome,
    tenant::{AuthMode, Instance, Unauthorized},
};

/// A request to MCP with its caller.
#[derive(Debug)]
pub struct Called {
    pub(crate) caller: Caller,
    /// Whether the forwarding headers of its peer count.
    pub(crate) trusted_peer: bool,
    pub(crate) request: Request<Recorded>,
}

/// Passes a request on with its caller, or answers 401.
#[derive(Clone, Debug)]
pub struct BearerChecked<S> {
    inner: S,
    instance: Arc<Instance>,
}

impl<S> BearerChecked<S> {
    pub(crate) fn new(inner: S, instance: Arc<Instance>) -> Self {
        Self { inner, instance }
    }

    fn caller(&self, trusted_peer: bool, headers: &HeaderMap) -> Result<Caller, Unauthorized> {
        let auth = &self.instance.policy.auth;
        let header = match auth {
            AuthMode::Off => None,
            AuthMode::Passthrough | AuthMode::Tokens(_) => {
                headers.get(header::AUTHORIZATION).map(|value| value.as_bytes())
            }
        };
        Ok(match auth.check(header)? {
            Caller::Anonymous if trusted_peer => forwarded_user(headers),
            Caller::Anonymous => Caller::Anonymous,
            known @ Caller::Known(_) => known,
        })
    }
}

impl<S> Service<Request<Recorded>> for BearerChecked<S>
where
    S: Service<Called, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Recorded>) -> Self::Future {
        let trusted_peer = self.instance.trusts(request.body().record.peer);
        match self.caller(trusted_peer, request.headers()) {
            Ok(caller) => Either::Left(self.inner.call(Called { caller, trusted_peer, request })),
            Err(problem) => {
                let record = &request.body().record;
                record.set_outcome(RequestOutcome::Unauthorized);
                let (uri, headers) = (request.uri(), request.headers());
                let base = external_base(&self.instance, record.peer, uri, headers);
                Either::Right(ready(Ok(metadata::challenge(problem, &base))).boxed())
            }
        }
    }
}

/// The user that a trusted proxy has authenticated.
fn forwarded_user(headers: &HeaderMap) -> Caller {
    match headers.get("x-user-id").and_then(|user| user.to_str().ok()) {
        Some(user) if !user.is_empty() => Caller::known("user", user),
        Some(_) | None => Caller::Anonymous,
    }
}
