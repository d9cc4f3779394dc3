//! `subscriptions/listen`: a stream of the changes that a client asked for (2026-07-28,
//! basic/patterns/subscriptions).
//!
//! Owns the acknowledgement, which is sent first and says which changes will be sent, and the graceful end. Refuses more
//! than `stream.max_subscriptions` subscriptions.
//! Trap: every message on the stream carries the id of the request that opened it, as the string or number that it was.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    failure::Failure,
    mcp::{
        catalogue::Catalogue,
        dispatch::{check_uri, invalid, require},
        exchange::Exchange,
    },
    observe::StreamKind,
    session::{EventLog, EventStream},
    tenant::{Subscription, TooMany},
    tools::resources,
    wire::{Filter, Id, Nested, Raw, Tagged, jsonrpc, sse},
};

#[derive(Deserialize)]
struct ListenParams {
    notifications: Nested<Filter>,
}

/// Most resources in one subscription.
const MAX_RESOURCES: usize = 1000;

pub(super) async fn open(
    exchange: &Exchange<'_>,
    id: Id<'_>,
    params: Option<Raw<'_>>,
    knows_tasks: bool,
) -> Result<EventStream, Failure> {
    let (instance, caller) = (exchange.instance(), exchange.inbound.caller);
    let ListenParams { notifications: Nested(wanted) } = require(params, "\"notifications\"")?;
    if !knows_tasks && !wanted.task_ids.is_empty() {
        return Err(Failure::needs_tasks());
    }
    if wanted.resource_subscriptions.len() > MAX_RESOURCES {
        return invalid(format!(
            "\"resourceSubscriptions\" must not hold more than {MAX_RESOURCES}"
        ));
    }
    let (mut resource_subscriptions, mut asked) = (Vec::new(), BTreeMap::new());
    for uri in wanted.resource_subscriptions {
        check_uri(&uri)?;
        if resources::may_watch(instance, &uri, caller).await? {
            let canonical = resources::canonical(&uri).into_owned();
            asked.entry(canonical).or_insert_with(|| uri.clone());
            resource_subscriptions.push(uri);
        }
    }
    let task_ids = instance.state.tasks.own(wanted.task_ids, caller).await?;
    let filter = Filter {
        resource_subscriptions,
        // The list of resources never changes here.
        resources_list_changed: false,
        task_ids,
        tools_list_changed: wanted.tools_list_changed,
        prompts_list_changed: wanted.prompts_list_changed,
    };
    let acknowledged = json!({ "notifications": filter });
    let log = EventLog::passing(&instance.state.replay);
    let subscription = Arc::new(Subscription {
        id: id.to_owned(),
        filter,
        resources: asked,
        log: Arc::clone(&log),
    });
    subscription.deliver("notifications/subscriptions/acknowledged", &acknowledged);
    let limit = exchange.policy().stream.max_subscriptions;
    let subscribed = instance.state.subscriptions.subscribe(&subscription, limit);
    let places =
        subscribed.map_err(|TooMany { limit, of }| Failure::TooManySubscriptions { limit, of })?;
    let farewell = |reason: &str| farewell(exchange.catalogue(), id, reason);
    let (stopping, cut_off) = (
        farewell("the server is shutting down"),
        farewell("the reader is too far behind; what has changed meanwhile is not told"),
    );
    let keep_alive = exchange.policy().stream.keep_alive_seconds.get();
    let closing = instance.process.lifecycle.closing().clone();
    let open = instance.open_stream(StreamKind::Subscription, None);
    let guard = (subscription, places, open);
    Ok(EventStream::new(log, None, keep_alive, closing, guard).with_farewells(stopping, cut_off))
}

/// The `params` of the last notification.
#[derive(Serialize)]
struct Cancelled<'a> {
    #[serde(rename = "requestId")]
    request_id: Id<'a>,
    #[serde(flatten)]
    params: Tagged<'a>,
}

/// Ends a subscription from the server's side: the response to its request ("Graceful Closure"), then
/// `notifications/cancelled` (basic/patterns/cancellation).
fn farewell(catalogue: &Catalogue, id: Id<'_>, reason: &str) -> Bytes {
    let params = json!({ "reason": reason });
    let params = Cancelled { request_id: id, params: Tagged::new(id, &params) };
    let cancelled = jsonrpc::notification("notifications/cancelled", &params);
    let (result, server) = (json!({ "resultType": "complete" }), catalogue.server_meta());
    let result = serde_json::to_vec(&Tagged::new(id, &result).beside(&server));
    let response = jsonrpc::success(id, &result.unwrap_or_default());
    // The response comes first, since clients stop reading at the cancellation.
    [sse::frame(&response, None), sse::frame(&cancelled, None)].concat().into()
}
