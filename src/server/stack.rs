//! Everything between the connection and MCP: both layer stacks on one page.
//!
//! Owns the order of the layers. A request passes, from the outside in:
//!
//! | layer | why it stands there |
//! |---|---|
//! | [`access_log`](crate::http::access_log) | outermost: logs every answer, and adds the identity headers |
//! | [`panics`](crate::http::panics) | a panic costs one request; inside the log, so that it is logged as one |
//! | [`hosts`](super::hosts) | selects the instance before any routing: no router can see another tenant's |
//! | *then, per instance:* | |
//! | [`origin`](crate::http::origin) | a foreign page gets nothing but 403; other pages can read a 401 |
//! | [`bearer`](crate::http::bearer) | on `/mcp` alone: unknown paths stay 404, metadata stays public |
//! | [`body`](crate::http::body) | called by the endpoint itself: only it knows whether a body is wanted |
//!
//! The layers of an instance are services by reference: all requests share them, and a clone of each is a reference
//! count more for every request.
//! Trap: the way to `/mcp` boxes one future; a router in it would cost more than the rest.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::future::{BoxFuture, Either};
use http::{Method, Request, StatusCode, Uri};
use tower::Service;

use super::hosts::{Hosts, VirtualHosts};
use crate::{
    admin::{self, Admin},
    config::{Config, Listen},
    home,
    http::{
        Recorded,
        access_log::{AccessLogged, Identity},
        answer::Answer,
        ask,
        bearer::{BearerChecked, Called},
        metadata, options,
        origin::OriginChecked,
        panics::PanicCaught,
        problem,
    },
    mcp::Endpoint,
    paths::{self, Path},
    reload::Reloads,
    tenant::HostTable,
};

/// The outer stack around a service.
pub type Outer<S> = AccessLogged<PanicCaught<S>>;

/// The whole application: the outer stack around host selection.
pub type Stack = Outer<VirtualHosts>;

/// One instance and the layers around it.
pub type Tenant = OriginChecked<Paths>;

/// The layers around host selection.
pub fn outer<S>(inner: S, identity: &Arc<Identity>) -> Outer<S> {
    AccessLogged::new(PanicCaught::new(inner), Arc::clone(identity))
}

/// What a configuration makes of the hosts: every instance behind its layers, and what the operator's paths
/// lead to, on the main port or on their own.
pub fn hosts(
    config: &Config,
    endpoints: &[Arc<Endpoint>],
    admin: &Admin,
    reloads: &Reloads,
) -> Hosts {
    // What has a port of its own is nowhere else.
    let on_main_port = match config.admin.listen {
        Listen(None) => admin,
        Listen(Some(_)) => &Admin::Absent,
    };
    let instances: Vec<_> =
        endpoints.iter().map(|endpoint| Arc::clone(&endpoint.instance)).collect();
    let own_names = instances.first().map_or(&[][..], |first| &first.process.own_names);
    let table = Arc::new(HostTable::build(&config.hosts, own_names));
    Hosts {
        table: Arc::clone(&table),
        front_door: config.hosts.front_door,
        tenants: endpoints.iter().map(|endpoint| tenant(endpoint, on_main_port)).collect(),
        tenants_by_path: endpoints.iter().map(tenant_by_path).collect(),
        overview: with_fallbacks(
            admin::of_process(on_main_port, &instances, reloads).merge(home::of_process(
                config,
                table,
                &instances,
                on_main_port,
            )),
        ),
        operators: with_fallbacks(admin::of_own_port(admin, &instances, reloads)),
    }
}

/// One instance's own paths and the layers around them.
fn tenant(endpoint: &Arc<Endpoint>, admin: &Admin) -> Tenant {
    let instance = &endpoint.instance;
    let with_suffix = format!("{}{}", paths::METADATA, paths::MCP);
    let others = Router::new()
        .route(paths::METADATA, get(metadata::document))
        .route(&with_suffix, get(metadata::document))
        .with_state(Arc::clone(instance))
        .merge(admin::of_instance(admin, instance))
        .merge(home::of_instance(instance, admin));
    layers(endpoint, Path::Mcp, others)
}

/// What the front door has of one instance below its name, and the same layers around it.
fn tenant_by_path(endpoint: &Arc<Endpoint>) -> Tenant {
    let instance = &endpoint.instance;
    let metadata_path = format!("{}{}", paths::METADATA, paths::endpoint_of(instance.id));
    let others = Router::new()
        .route(&metadata_path, get(metadata::document))
        .with_state(Arc::clone(instance));
    layers(endpoint, Path::McpOf(instance.id), others)
}

fn layers(endpoint: &Arc<Endpoint>, at: Path, others: Router) -> Tenant {
    let instance = &endpoint.instance;
    let mcp = BearerChecked::new(Mcp(Arc::clone(endpoint)), Arc::clone(instance));
    let paths = Paths { at, mcp, others: with_fallbacks(others) };
    OriginChecked::new(paths, Arc::clone(instance))
}

/// The paths of one instance: the endpoint, which nearly every request asks for, and a router for the others.
#[derive(Debug)]
pub struct Paths {
    /// Where the endpoint is.
    at: Path,
    mcp: BearerChecked<Mcp>,
    others: Router,
}

impl Service<Request<Recorded>> for &Paths {
    type Response = Answer;
    type Error = Infallible;
    /// Every connection has room for one; so the rare ones, which are large, wait in a box.
    type Future = Either<
        <&'static BearerChecked<Mcp> as Service<Request<Recorded>>>::Future,
        BoxFuture<'static, Result<Answer, Infallible>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Recorded>) -> Self::Future {
        match Path::of(request.uri().path()) == self.at {
            true => Either::Left((&self.mcp).call(request)),
            false => Either::Right(ask(&mut self.others.clone(), request)),
        }
    }
}

/// The MCP endpoint of one instance as a service.
#[derive(Debug)]
pub struct Mcp(Arc<Endpoint>);

impl Service<Called> for &Mcp {
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, called: Called) -> Self::Future {
        Arc::clone(&self.0).answer(called)
    }
}

fn with_fallbacks(paths: Router) -> Router {
    paths.fallback(not_found).method_not_allowed_fallback(method_not_allowed)
}

/// What the server takes anywhere.
const METHODS: &str = "GET, HEAD, POST, DELETE, OPTIONS";

/// `OPTIONS *` is about the server as a whole, and no path of its own (RFC 9110 §9.3.7).
async fn not_found(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS && uri.path() == "*" {
        return options(METHODS);
    }
    nothing_at(uri.path())
}

/// 404, with where something is.
pub(super) fn nothing_at(path: &str) -> Response {
    let text = match Path::of(path) {
        Path::NoInstance => {
            "no instance is at this path; the front door has the ten at /echo-stateful0/mcp to /echo-stateful9/mcp, and the one that it picks at /mcp"
        }
        Path::McpOf(_) | Path::MetadataOf(_) => {
            "a path names an instance at the front door alone; on an instance's own host the MCP endpoint is /mcp"
        }
        Path::Mcp
        | Path::Home
        | Path::Health
        | Path::Session
        | Path::Admin
        | Path::WellKnown
        | Path::Other => {
            "there is nothing at this path; the MCP endpoint is /mcp, by Streamable HTTP alone (HTTP+SSE is not offered), and the front door has those of the ten instances at /echo-stateful0/mcp to /echo-stateful9/mcp as well"
        }
    };
    problem(StatusCode::NOT_FOUND, text)
}

/// OPTIONS is answered everywhere; the router adds what else the path takes.
async fn method_not_allowed(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    problem(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this HTTP method")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tower::{service_fn, util::ServiceExt};

    use super::*;
    use crate::{
        config::{Flags, Layers},
        observe::outcome::RequestOutcome,
        process::Process,
    };

    #[tokio::test]
    async fn a_panic_costs_one_request() {
        let config = Layers::merge(&Flags::default(), &[]).expect("merges").check().expect("fits");
        let process = Arc::new(Process::build(&config).expect("builds"));
        let inner = service_fn(|request: Request<Recorded>| async move {
            assert!(request.uri().path() != "/panic", "on purpose");
            Ok::<_, Infallible>(Answer::new(Body::empty().into()))
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
