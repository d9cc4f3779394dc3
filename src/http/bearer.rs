//! The bearer check as a layer around `/mcp`.
//!
//! Owns the 401 and the [`Caller`] that later code finds in the request. Refuses to look at anything but
//! the `Authorization` header and, from a trusted proxy, `X-User-Id`.
//! Trap: a name that a stranger writes into `X-User-Id` must not become an identity.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::header;

use super::{external_base, server_facts};
use crate::{
    auth::{Caller, metadata},
    instance::Instance,
};

/// Lets a request through with its caller, or answers 401.
pub async fn layer(
    State(instance): State<Arc<Instance>>,
    mut request: Request,
    next: Next,
) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    match instance.auth.check(header) {
        Ok(caller) => {
            let caller = match caller {
                Caller::Anonymous => forwarded_user(&instance, &request),
                Caller::Known(_) => caller,
            };
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => {
            let (_, record) = server_facts(request.extensions());
            record.set_outcome("unauthorized");
            metadata::challenge(problem, &external_base(&instance.process, &request))
        }
    }
}

/// The user that a trusted, authenticating proxy names.
fn forwarded_user(instance: &Instance, request: &Request) -> Caller {
    let Some(user) = request.headers().get("x-user-id").and_then(|user| user.to_str().ok()) else {
        return Caller::Anonymous;
    };
    let (peer, _) = server_facts(request.extensions());
    match instance.process.trusts(peer) && !user.is_empty() {
        true => Caller::known("user", user),
        false => Caller::Anonymous,
    }
}
