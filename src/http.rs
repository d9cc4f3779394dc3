//! Everything between the connection and MCP: both layer stacks on one page.
//!
//! Owns the order of the layers. A request passes, from the outside in:
//!
//! | layer | why it stands there |
//! |---|---|
//! | [`access_log`] | outermost, so that every answer is logged and carries the identity headers, whoever made it |
//! | catch-panic | a panic costs one request; inside the log, so that it is logged as one |
//! | [`vhost`] | selects the instance before any routing: no router can see another tenant's |
//! | *then, per instance:* | |
//! | [`origin`] | 403 before anything is done for a foreign page (DNS rebinding); [`cors`] for any other, outside the bearer check, so that a page can read a 401 and a preflight needs no token |
//! | [`bearer`] | on `/mcp` alone: unknown paths stay 404, metadata stays public |
//! | [`body`] | called by the endpoint itself: only it knows whether a body is wanted |
//!
//! The way to `/mcp` is made of plain services whose futures lie inside one another: what every request
//! passes boxes one future, and clones reference counts. Trap: `Router::layer` boxes a future and clones a
//! service for each layer, so it is for paths where that does not matter.

pub mod access_log;
pub mod bearer;
pub mod body;
pub mod cors;
pub mod once;
pub mod origin;
pub mod pulse;
pub mod vhost;

use std::{
    any::Any,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Json, Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::{BoxFuture, Either};
use http::{Extensions, StatusCode, header};
use serde_json::json;
use tower::{Layer, Service};
use tower_http::catch_panic::{CatchPanic, CatchPanicLayer, ResponseForPanic};

use self::{
    access_log::{AccessLogged, Identity},
    bearer::BearerChecked,
    origin::OriginChecked,
    vhost::{HostTable, Hosts, VirtualHosts},
};
use crate::{
    admin::{self, Admin},
    auth::metadata,
    config::{Config, Listen},
    instance::Instance,
    mcp,
    reload::Reloads,
    telemetry::record::RequestRecord,
};

/// The outer stack around a service.
pub type Outer<S> = AccessLogged<CatchPanic<S, Apology>>;

/// The whole application: the outer stack around host selection.
pub type Stack = Outer<VirtualHosts>;

/// One instance and the layers around it.
pub type Tenant = OriginChecked<Paths>;

/// The layers around host selection.
pub fn outer<S>(inner: S, identity: &Arc<Identity>) -> Outer<S> {
    AccessLogged::new(CatchPanicLayer::custom(Apology).layer(inner), Arc::clone(identity))
}

/// What a configuration makes of the hosts: every instance behind its layers, and what the operator's paths
/// lead to, on the main port or on their own.
pub fn hosts(
    config: &Config,
    instances: &[Arc<Instance>],
    admin: &Admin,
    reloads: &Reloads,
) -> Hosts {
    // What has a port of its own is nowhere else.
    let on_main_port = match config.admin.listen {
        Listen(None) => admin,
        Listen(Some(_)) => &Admin::Absent,
    };
    Hosts {
        table: HostTable::build(&config.hosts),
        front_door: config.hosts.front_door,
        tenants: instances.iter().map(|instance| tenant(instance, on_main_port)).collect(),
        overview: with_fallbacks(admin::of_process(on_main_port, instances, reloads)),
        operators: with_fallbacks(admin::of_own_port(admin, instances, reloads)),
    }
}

/// One instance's own paths and the layers around them.
fn tenant(instance: &Arc<Instance>, admin: &Admin) -> Tenant {
    let with_suffix = format!("{}/mcp", metadata::PATH);
    let others = Router::new()
        .route(metadata::PATH, get(metadata::document))
        .route(&with_suffix, get(metadata::document))
        .with_state(Arc::clone(instance))
        .merge(admin::of_instance(admin, instance));
    let others = with_fallbacks(others);
    let mcp = BearerChecked::new(Endpoint(Arc::clone(instance)), Arc::clone(instance));
    OriginChecked::new(Paths { mcp, others }, Arc::clone(instance))
}

/// The paths of one instance: `/mcp`, which nearly every request asks for, and a router for the others.
#[derive(Clone, Debug)]
pub struct Paths {
    mcp: BearerChecked<Endpoint>,
    others: Router,
}

impl Service<Request> for Paths {
    type Response = Response;
    type Error = Infallible;
    /// Every connection has room for one; so the rare ones, which are large, wait in a box.
    type Future = Either<
        <BearerChecked<Endpoint> as Service<Request>>::Future,
        BoxFuture<'static, Result<Response, Infallible>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match request.uri().path() {
            "/mcp" | "/mcp/" => Either::Left(self.mcp.call(request)),
            _ => Either::Right(Box::pin(self.others.call(request))),
        }
    }
}

/// [`mcp::endpoint`] of one instance as a service.
#[derive(Clone, Debug)]
pub struct Endpoint(Arc<Instance>);

impl Service<Request> for Endpoint {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Box::pin(mcp::endpoint(Arc::clone(&self.0), request))
    }
}

fn with_fallbacks(paths: Router) -> Router {
    paths.fallback(not_found).method_not_allowed_fallback(method_not_allowed)
}

async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "there is nothing at this path; the MCP endpoint is /mcp")
}

async fn method_not_allowed() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this HTTP method")
}

/// An answer outside MCP: what is wrong and what to do, as JSON.
pub fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

/// What answers a panic: the panic hook has told the operator, the client learns only that it was us.
#[derive(Clone, Copy, Debug)]
pub struct Apology;

impl ResponseForPanic for Apology {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, _: Box<dyn Any + Send>) -> Response {
        mcp::failure::Failure::Internal.into_response(None, mcp::version::Era::Sessioned)
    }
}

/// The record of a request: put there by the outermost layer.
pub fn record_of(extensions: &Extensions) -> Arc<RequestRecord> {
    let record = extensions.get::<Arc<RequestRecord>>().cloned();
    record.unwrap_or_else(|| Arc::new(RequestRecord::unnamed()))
}

/// `scheme://host[:port]` as the client wrote it, for URLs that we hand out. The host has been checked
/// against the host table; the scheme is a trusted proxy's word, else http.
pub fn external_base(instance: &Instance, request: &Request) -> String {
    let peer = record_of(request.extensions()).peer;
    let forwarded = request
        .headers()
        .get("x-forwarded-proto")
        .filter(|_| instance.trusts(peer))
        .is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"));
    let scheme = if forwarded { "https" } else { "http" };
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => {
            request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("")
        }
    };
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tower::{service_fn, util::ServiceExt};

    use super::*;
    use crate::{
        config::{Flags, Layers},
        instance::Process,
        telemetry::outcome::RequestOutcome,
    };

    #[tokio::test]
    async fn a_panic_costs_one_request() {
        let config = Layers::merge(&Flags::default(), &[]).expect("merges").check().expect("fits");
        let process = Arc::new(Process::build(&config).expect("builds"));
        let inner = service_fn(|request: Request| async move {
            assert!(request.uri().path() != "/panic", "on purpose");
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let identity = Arc::new(Identity::of(&process, &[]));
        let stack = outer(inner, &identity);
        let call = |path: &str| {
            let request = Request::get(path).body(Body::empty()).expect("is a request");
            stack.clone().oneshot(request)
        };
        let Ok(response) = call("/panic").await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.headers().contains_key("x-request-id"));
        let _ = response.into_body().collect().await;
        let outcomes = || process.counters.nowhere.outcomes().filter(|(_, count)| *count > 0);
        assert_eq!(outcomes().collect::<Vec<_>>(), [(RequestOutcome::Internal, 1)]);
        let Ok(response) = call("/fine").await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}
