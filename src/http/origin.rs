//! The `Origin` check: which browser pages may call, and read what they get.
//!
//! Owns the verdict on an `Origin` header and the 403 for a foreign one, without which a page anywhere
//! could reach a server that only its user's machine can (DNS rebinding; 2025-11-25, basic/transports,
//! "Security Warning"). Refuses before anything else is done for the request.
//! Trap: `null` is what sandboxed pages send; it is foreign unless it is listed.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{extract::Request, response::Response};
use futures_util::future::{BoxFuture, Either, ready};
use http::{StatusCode, header};
use tower::Service;

use super::{
    cors::Cors,
    once::{Once, once},
    vhost::HostTable,
};
use crate::{
    config::{HostsConfig, OriginConfig},
    instance::Instance,
    telemetry::outcome::RequestOutcome,
};

/// Which origins may call one instance.
#[derive(Debug)]
pub struct Origins {
    any: bool,
    listed: Vec<String>,
    hosts: HostTable,
    cors: Cors,
}

/// Why an origin may call, or that it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `origin.allowed` names it, or `*`.
    Listed,
    /// A page served by this machine.
    Loopback,
    /// A page of one of our own hosts.
    OwnHost,
    /// Anything else.
    Foreign,
}

impl Origins {
    /// The origins of one instance.
    pub fn build(config: &OriginConfig, hosts: &HostsConfig) -> Self {
        Self {
            any: config.allowed.iter().any(|origin| origin == "*"),
            listed: config
                .allowed
                .iter()
                .map(|origin| origin.trim_end_matches('/').to_owned())
                .collect(),
            hosts: HostTable::build(hosts),
            cors: Cors::build(),
        }
    }

    /// Judges the value of an `Origin` header.
    pub fn judge(&self, origin: &[u8]) -> Verdict {
        let Ok(origin) = std::str::from_utf8(origin) else { return Verdict::Foreign };
        if self.any || self.listed.iter().any(|listed| listed.eq_ignore_ascii_case(origin)) {
            return Verdict::Listed;
        }
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let Some(host) = host.and_then(super::vhost::without_port) else { return Verdict::Foreign };
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let dotted = name.len().checked_sub(10).and_then(|start| name.get(start..));
        let local = name.eq_ignore_ascii_case("localhost")
            || dotted.is_some_and(|end| end.eq_ignore_ascii_case(".localhost"))
            || name.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        match () {
            () if local => Verdict::Loopback,
            () if self.hosts.select(host).is_some() => Verdict::OwnHost,
            () => Verdict::Foreign,
        }
    }
}

/// Turns a foreign page away, answers preflights, and lets any other page read its answer.
#[derive(Clone, Debug)]
pub struct OriginChecked<S> {
    inner: S,
    instance: Arc<Instance>,
}

impl<S> OriginChecked<S> {
    /// Checks as that instance wants it.
    pub fn new(inner: S, instance: Arc<Instance>) -> Self {
        Self { inner, instance }
    }
}

impl<S> Service<Request> for OriginChecked<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    /// Most callers are no pages; only those that are wait in a box.
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // Several Origin headers are as foreign as a wrong one: no browser sends them.
        let origins = &self.instance.origins;
        let known = match once(request.headers(), header::ORIGIN) {
            Once::Missing => return Either::Left(self.inner.call(request)),
            Once::Value(origin) => {
                Some(origin).filter(|origin| origins.judge(origin.as_bytes()) != Verdict::Foreign)
            }
            Once::Several => None,
        };
        let Some(origin) = known.cloned() else {
            super::record_of(request.extensions()).set_outcome(RequestOutcome::ForeignOrigin);
            let text = "this Origin may not call; list it in origin.allowed";
            let refusal = super::problem(StatusCode::FORBIDDEN, text);
            return Either::Right(Box::pin(ready(Ok(refusal))));
        };
        let instance = Arc::clone(&self.instance);
        let answer = match Cors::is_preflight(request.method(), request.headers()) {
            true => Either::Left(ready(Ok(origins.cors.preflight(request.headers())))),
            false => Either::Right(self.inner.call(request)),
        };
        Either::Right(Box::pin(async move {
            let mut response = answer.await?;
            instance.origins.cors.open(&mut response, origin);
            Ok(response)
        }))
    }
}
