//! The `Origin` check as a layer: which browser pages may call, and read what they get.
//!
//! Owns the 403 for a foreign page, which is decided before the request is looked at any further, and the CORS headers
//! (Fetch standard) by which a page may read any other response. A request without `Origin` gets none of them, which also
//! keeps `curl -D - | grep mcp-session-id` to one line, and costs no allocation here. As the outermost layer of an
//! instance it also refuses a request in which a header that decides stands twice (400).
//! Trap: a page cannot read a header that is not exposed, `Mcp-Session-Id` above all; error responses need them as well.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, ready};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use tower::Service;

use super::{
    Recorded,
    answer::{Answer, AnswerBody},
    head, problem, refuse_header,
};
use crate::{
    observe::RequestOutcome,
    tenant::{EXPOSED, Instance, METHODS, Verdict},
    wire::{Known, Single},
};

/// Refuses foreign pages, answers preflights, and lets other pages read the response.
#[derive(Debug)]
pub struct OriginChecked<S> {
    inner: S,
    instance: Arc<Instance>,
}

impl<S> OriginChecked<S> {
    pub(crate) fn new(inner: S, instance: Arc<Instance>) -> Self {
        Self { inner, instance }
    }
}

impl<'a, S, F> Service<Request<Recorded>> for &'a OriginChecked<S>
where
    &'a S: Service<Request<Recorded>, Response = Answer, Error = Infallible, Future = F>,
    F: Future<Output = Result<Answer, Infallible>> + Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    /// Boxed only for requests of pages.
    type Future = Either<F, BoxFuture<'static, Result<Answer, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        (&self.inner).poll_ready(cx)
    }

    fn call(&mut self, request: Request<Recorded>) -> Self::Future {
        let mut inner = &self.inner;
        let refused = head(&request).check().map_err(|bad| refuse_header(&request, bad));
        // Several Origin headers, which no browser sends, are not a valid one: 403 as well (basic/transports).
        let origins = &self.instance.policy.origins;
        let known = match head(&request).single(Known::Origin) {
            Single::Missing => {
                return match refused {
                    Ok(()) => Either::Left(inner.call(request)),
                    Err(refusal) => Either::Right(Box::pin(ready(Ok(refusal)))),
                };
            }
            Single::Value(origin) => {
                Some(origin).filter(|origin| origins.judge(origin.as_bytes()) != Verdict::Foreign)
            }
            Single::Several => None,
        };
        let Some(origin) = known.cloned() else {
            request.body().record.set_outcome(RequestOutcome::ForeignOrigin);
            let text = "this Origin may not call, alone or with another; list it in origin.allowed";
            let refusal = problem(StatusCode::FORBIDDEN, text);
            return Either::Right(Box::pin(ready(Ok(refusal.map(Into::into)))));
        };
        let answer = match refused {
            Err(refusal) => Either::Left(ready(Ok(refusal))),
            Ok(()) if is_preflight(request.method(), request.headers()) => {
                Either::Left(ready(Ok(preflight(request.headers()))))
            }
            Ok(()) => Either::Right(inner.call(request)),
        };
        Either::Right(Box::pin(async move {
            let mut response = answer.await?;
            open(&mut response, origin);
            Ok(response)
        }))
    }
}

/// Whether a request with an `Origin` is a preflight.
fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Allows all of our methods, and any header that the page asks for.
fn preflight(asked: &HeaderMap) -> Answer {
    let mut response = Answer::new(AnswerBody::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    response
}

/// Lets the page at `origin` read a response.
fn open(response: &mut Answer, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers
        .append(header::VARY, HeaderValue::from_static("origin, access-control-request-headers"));
}
