//! A panic costs one request.
//!
//! Owns the answer to a request that panicked: an internal error. The panic hook has logged the details.
//! Trap: a service may panic before there is a future, as well as in it.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt as _, future::CatchUnwind};
use http::Request;
use pin_project_lite::pin_project;
use tower::Service;

use super::{
    Recorded,
    answer::{Answer, AnswerBody},
};
use crate::{failure::Failure, wire::Era};

/// Answers for the service within where that panics.
#[derive(Clone, Debug)]
pub struct PanicCaught<S>(S);

impl<S> PanicCaught<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S> Service<Request<Recorded>> for PanicCaught<S>
where
    S: Service<Request<Recorded>, Response = Answer, Error = Infallible>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Catching<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Recorded>) -> Self::Future {
        let called = catch_unwind(AssertUnwindSafe(|| self.0.call(request)));
        Catching { inner: called.ok().map(|inner| AssertUnwindSafe(inner).catch_unwind()) }
    }
}

pin_project! {
    /// The future of an answer that may be lost to a panic.
    pub struct Catching<F> {
        // `None` if there was a panic already.
        #[pin]
        inner: Option<CatchUnwind<AssertUnwindSafe<F>>>,
    }
}

impl<F> Future for Catching<F>
where
    F: Future<Output = Result<Answer, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let caught = self.project().inner.as_pin_mut().map(|inner| inner.poll(cx));
        if let Some(answer) = caught
            && let Ok(answer) = ready!(answer)
        {
            return Poll::Ready(answer);
        }
        let answer = Failure::Internal.into_response(None, Era::Sessioned);
        Poll::Ready(Ok(answer.map(AnswerBody::Whole)))
    }
}
