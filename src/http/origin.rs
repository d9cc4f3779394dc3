//! The `Origin` check as a layer: which browser pages may call, and read what they get.
//!
//! Owns the 403 for a foreign page, which is decided before the request is looked at any further, and the response to a
//! preflight.
//! Trap: most callers are no browser pages. A request without `Origin` must cost no allocation here.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::response::Response;
use futures_util::future::{BoxFuture, Either, ready};
use http::{Request, StatusCode, header};
use tower::Service;

use super::{Recorded, cors, problem};
use crate::{
    observe::outcome::RequestOutcome,
    tenant::{Instance, origins::Verdict},
    wire::headers::{Single, single},
};

/// Refuses foreign pages, answers preflights, and lets other pages read the response.
#[derive(Clone, Debug)]
pub struct OriginChecked<S> {
    inner: S,
    instance: Arc<Instance>,
}

impl<S> OriginChecked<S> {
    pub(crate) fn new(inner: S, instance: Arc<Instance>) -> Self {
        Self { inner, instance }
    }
}

impl<S> Service<Request<Recorded>> for OriginChecked<S>
where
    S: Service<Request<Recorded>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    /// Boxed only for requests of pages.
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Recorded>) -> Self::Future {
        // No browser sends several Origin headers, so they are refused as well.
        let origins = &self.instance.policy.origins;
        let known = match single(request.headers(), header::ORIGIN) {
            Single::Missing => return Either::Left(self.inner.call(request)),
            Single::Value(origin) => {
                Some(origin).filter(|origin| origins.judge(origin.as_bytes()) != Verdict::Foreign)
            }
            Single::Several => None,
        };
        let Some(origin) = known.cloned() else {
            request.body().record.set_outcome(RequestOutcome::ForeignOrigin);
            let text = "this Origin may not call; list it in origin.allowed";
            let refusal = problem(StatusCode::FORBIDDEN, text);
            return Either::Right(Box::pin(ready(Ok(refusal))));
        };
        let answer = match cors::is_preflight(request.method(), request.headers()) {
            true => Either::Left(ready(Ok(cors::preflight(request.headers())))),
            false => Either::Right(self.inner.call(request)),
        };
        Either::Right(Box::pin(async move {
            let mut response = answer.await?;
            cors::open(&mut response, origin);
            Ok(response)
        }))
    }
}
