//! The bearer check as a layer around `/mcp`.
//!
//! Owns the 401, and who the caller is: the endpoint takes a [`Called`], which only this layer makes. The caller is known
//! by the `Authorization` header or, behind a trusted proxy, by the bytes of `X-User-Id`, in whatever encoding.
//! Traps: `X-User-Id` counts only from a trusted proxy, since anyone can send it. From there, one that says nothing is
//! refused: a proxy that has lost its user must not make everyone the same nobody.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, ready},
};
use http::Request;
use tower::Service;

use super::{Recorded, answer::Answer, external_base, head, metadata, refuse_header};
use crate::{
    id::Caller,
    observe::RequestOutcome,
    paths::Path,
    tenant::{AuthMode, Instance, Unauthorized},
    wire::{BadHeader, Head, Known},
};

/// A request to MCP with its caller.
#[derive(Debug)]
pub struct Called {
    pub(crate) caller: Caller,
    /// Whether the forwarding headers of its peer count.
    pub(crate) trusted_peer: bool,
    pub(crate) request: Request<Recorded>,
}

/// Why a request has no caller.
enum NoCaller {
    Unauthorized(Unauthorized),
    BadHeader(BadHeader),
}

impl From<BadHeader> for NoCaller {
    fn from(bad: BadHeader) -> Self {
        Self::BadHeader(bad)
    }
}

/// Passes a request on with its caller, or answers 401 or 400.
#[derive(Debug)]
pub struct BearerChecked<S> {
    inner: S,
    instance: Arc<Instance>,
}

impl<S> BearerChecked<S> {
    pub(crate) fn new(inner: S, instance: Arc<Instance>) -> Self {
        Self { inner, instance }
    }

    fn caller(&self, trusted_peer: bool, head: Head<'_>) -> Result<Caller, NoCaller> {
        let auth = &self.instance.policy.auth;
        let header = match auth {
            AuthMode::Off => None,
            AuthMode::Passthrough | AuthMode::Tokens(_) => head.value(Known::Authorization)?,
        };
        let checked = auth.check(header.map(|value| value.as_bytes()));
        Ok(match checked.map_err(NoCaller::Unauthorized)? {
            Caller::Anonymous if trusted_peer => forwarded_user(head)?,
            Caller::Anonymous => Caller::Anonymous,
            known @ Caller::Known(_) => known,
        })
    }

    /// 401, or 400 if a header that decides cannot be used.
    fn refuse(&self, request: &Request<Recorded>, why: NoCaller) -> Answer {
        let record = &request.body().record;
        let problem = match why {
            NoCaller::Unauthorized(problem) => problem,
            NoCaller::BadHeader(bad) => return refuse_header(request, bad),
        };
        match external_base(&self.instance, record.peer, request.uri(), head(request)) {
            Ok(base) => {
                record.set_outcome(RequestOutcome::Unauthorized);
                let era = self.instance.era_of(head(request));
                let scopes = &self.instance.policy.config.auth.scopes;
                let endpoint = Path::of(request.uri().path()).endpoint();
                metadata::challenge(problem, &base, &endpoint, scopes, era).map(Into::into)
            }
            Err(bad) => refuse_header(request, bad),
        }
    }
}

impl<'a, S, F> Service<Request<Recorded>> for &'a BearerChecked<S>
where
    &'a S: Service<Called, Response = Answer, Error = Infallible, Future = F>,
    F: Future<Output = Result<Answer, Infallible>>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Either<F, BoxFuture<'static, Result<Answer, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        (&self.inner).poll_ready(cx)
    }

    fn call(&mut self, request: Request<Recorded>) -> Self::Future {
        let trusted_peer = self.instance.trusts(request.body().record.peer);
        match self.caller(trusted_peer, head(&request)) {
            Ok(caller) => {
                Either::Left((&self.inner).call(Called { caller, trusted_peer, request }))
            }
            Err(why) => Either::Right(ready(Ok(self.refuse(&request, why))).boxed()),
        }
    }
}

/// The user that a trusted proxy has authenticated; nobody only if it names none.
fn forwarded_user(head: Head<'_>) -> Result<Caller, BadHeader> {
    let Some(user) = head.value(Known::UserId)? else { return Ok(Caller::Anonymous) };
    // Space around a value is no part of it (RFC 9110 §5.5), though HTTP/2 lets it through.
    match user.as_bytes().trim_ascii() {
        b"" => Err(BadHeader::Empty("X-User-Id")),
        user => Ok(Caller::known("user", user)),
    }
}
