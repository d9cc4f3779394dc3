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
//! | instance header | on every answer of an instance, rejections included |
//! | [`origin`] | 403 before anything is done for a foreign page (DNS rebinding); [`cors`] for any other, outside the bearer check, so that a page can read a 401 and a preflight needs no token |
//! | [`bearer`] | on `/mcp` alone: unknown paths stay 404, metadata stays public |
//! | [`body`] | called by the endpoint itself: only it knows whether a body is wanted |
//!
//! Trap: `Router::layer` wraps what is there already, so the last call is the outermost layer.

pub mod access_log;
pub mod bearer;
pub mod body;
pub mod cors;
pub mod origin;
pub mod vhost;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use http::{Extensions, HeaderName, StatusCode, header};
use serde_json::json;
use tower::{Service, ServiceBuilder, util::BoxCloneSyncService};
use tower_http::catch_panic::CatchPanicLayer;

use self::{access_log::Identity, vhost::VirtualHosts};
use crate::{
    admin::{self, Admin},
    auth::metadata,
    instance::{Instance, Process},
    mcp,
    telemetry::RequestRecord,
};

/// Says which instance answered.
pub const INSTANCE_HEADER: HeaderName = HeaderName::from_static("mcp-echo-instance");

/// The other end of the connection; put into every request by the server.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A service that answers every request.
pub type Stack = BoxCloneSyncService<Request, Response, std::convert::Infallible>;

/// The whole application: the outer stack around host selection.
pub fn application(hosts: VirtualHosts, process: &Arc<Process>) -> Stack {
    outer(hosts, Identity::of(process))
}

/// The layers around host selection.
pub fn outer<S>(inner: S, identity: Identity) -> Stack
where
    S: Service<Request, Response = Response, Error = std::convert::Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    let service = ServiceBuilder::new()
        .layer(middleware::from_fn_with_state(Arc::new(identity), access_log::layer))
        .map_response(|response: http::Response<_>| response.map(Body::new))
        .layer(CatchPanicLayer::custom(panicked))
        .service(inner);
    BoxCloneSyncService::new(service)
}

/// One instance's own router and the layers around it.
pub fn instance(instance: &Arc<Instance>, admin: &Admin) -> Router {
    let mcp = any(mcp::endpoint)
        .layer(middleware::from_fn_with_state(Arc::clone(instance), bearer::layer));
    let with_suffix = format!("{}/mcp", metadata::PATH);
    Router::new()
        .route("/mcp", mcp.clone())
        .route("/mcp/", mcp)
        .route(metadata::PATH, get(metadata::document))
        .route(&with_suffix, get(metadata::document))
        .with_state(Arc::clone(instance))
        .merge(admin::router(admin, std::slice::from_ref(instance)))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(instance), origin::layer))
        .layer(middleware::from_fn_with_state(Arc::clone(instance), instance_header))
}

/// What the front door answers itself: `/debug` over all instances.
pub fn overview(debug: Router) -> Router {
    debug.fallback(not_found).method_not_allowed_fallback(method_not_allowed)
}

async fn instance_header(
    State(instance): State<Arc<Instance>>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(record) = request.extensions().get::<Arc<RequestRecord>>() {
        record.set_instance(instance.id);
    }
    let mut response = next.run(request).await;
    response.headers_mut().insert(INSTANCE_HEADER, instance.header.clone());
    response
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

/// A panic was caught: the panic hook has told the operator, the client learns only that it was us.
fn panicked(_: Box<dyn std::any::Any + Send>) -> http::Response<Body> {
    mcp::failure::Failure::Internal.into_response(None, mcp::version::Era::Sessioned)
}

/// Who is at the other end, and the record of the request.
pub fn server_facts(extensions: &Extensions) -> (IpAddr, Arc<RequestRecord>) {
    let peer = extensions.get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |Peer(peer)| peer.ip());
    let record = extensions.get::<Arc<RequestRecord>>().cloned();
    (peer, record.unwrap_or_else(|| Arc::new(RequestRecord::begin("-".into()))))
}

/// `scheme://host[:port]` as the client wrote it, for URLs that we hand out. The host has been checked
/// against the host table; the scheme is a trusted proxy's word, else http.
pub fn external_base(process: &Process, request: &Request) -> String {
    let (peer, _) = server_facts(request.extensions());
    let forwarded = request
        .headers()
        .get("x-forwarded-proto")
        .filter(|_| process.trusts(peer))
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
    use std::convert::Infallible;

    use tower::{service_fn, util::ServiceExt};

    use super::*;
    use crate::config::{Flags, Layers};

    #[tokio::test]
    async fn a_panic_costs_one_request() {
        let config = Layers::merge(&Flags::default(), &[]).expect("merges").check().expect("fits");
        let process = Arc::new(Process::build(&config).expect("builds"));
        let inner = service_fn(|request: Request| async move {
            assert!(request.uri().path() != "/panic", "on purpose");
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let stack = outer(inner, Identity::of(&process));
        let call = |path: &str| {
            let request = Request::get(path).body(Body::empty()).expect("is a request");
            stack.clone().oneshot(request)
        };
        let Ok(response) = call("/panic").await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.headers().contains_key("x-request-id"));
        let Ok(response) = call("/fine").await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}
