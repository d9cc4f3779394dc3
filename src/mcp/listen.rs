//! `subscriptions/listen`: a stream of the changes that a client asked for (2026-07-28,
//! basic/patterns/subscriptions).
//!
//! Owns the acknowledgement, which comes first and says what is honoured, and the graceful end. Refuses
//! one subscription more than `stream.max_subscriptions`.
//! Trap: everything on the stream is tagged with the id of the request that opened it, in its own type.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::{
    catalogue::Catalogue,
    dispatch::require,
    failure::Failure,
    json::Raw,
    jsonrpc::{self, Id},
    model::{Filter, META_SUBSCRIPTION, Nested},
    sse,
    stream::{EventLog, EventStream},
};
use crate::{call::Arrival, hub::Subscription, instance::Instance, metrics::StreamKind, resources};

#[derive(Deserialize)]
struct ListenParams {
    notifications: Nested<Filter>,
}

/// Resources of one subscription at the most.
const MAX_RESOURCES: usize = 1000;

/// Opens the stream.
pub async fn open(
    instance: &Arc<Instance>,
    arrival: &Arc<Arrival>,
    id: Id<'_>,
    params: Option<Raw<'_>>,
    knows_tasks: bool,
) -> Result<EventStream, Failure> {
    let ListenParams { notifications: Nested(wanted) } = require(params, "\"notifications\"")?;
    if !knows_tasks && !wanted.task_ids.is_empty() {
        return Err(Failure::needs_tasks());
    }
    if wanted.resource_subscriptions.len() > MAX_RESOURCES {
        let problem = format!("\"resourceSubscriptions\" must not hold more than {MAX_RESOURCES}");
        return Err(Failure::InvalidParams(problem));
    }
    let mut resource_subscriptions = Vec::new();
    for uri in wanted.resource_subscriptions {
        if resources::may_watch(instance, &uri, arrival.caller).await {
            resource_subscriptions.push(resources::canonical(&uri).into_owned());
        }
    }
    let filter = Filter {
        resource_subscriptions,
        // The list of resources never changes here.
        resources_list_changed: false,
        task_ids: {
            let own = |id: &String| instance.tasks.find(id, arrival.caller).is_some();
            wanted.task_ids.into_iter().filter(own).collect()
        },
        tools_list_changed: wanted.tools_list_changed,
        prompts_list_changed: wanted.prompts_list_changed,
    };
    let acknowledged = json!({ "notifications": filter });
    let log = EventLog::passing();
    let subscription = Arc::new(Subscription { id: id.to_value(), filter, log: Arc::clone(&log) });
    subscription.deliver("notifications/subscriptions/acknowledged", acknowledged);
    let limit = instance.policy.stream.max_subscriptions;
    if !instance.hub.subscribe(&subscription, limit) {
        return Err(Failure::TooManySubscriptions { limit });
    }
    let farewell = farewell(&instance.catalogue, id);
    let keep_alive = instance.policy.stream.keep_alive_seconds.get();
    let closing = instance.process.lifecycle.closing().clone();
    let guard = (subscription, instance.counters.open_stream(StreamKind::Subscription));
    Ok(EventStream::new(log, None, keep_alive, closing, guard).with_farewell(farewell))
}

/// What ends a subscription from this side: the response to its request ("Graceful Closure"), and that it
/// is cancelled (basic/patterns/cancellation).
fn farewell(catalogue: &Catalogue, id: Id<'_>) -> bytes::Bytes {
    let cancelled = jsonrpc::notification(
        "notifications/cancelled",
        &json!({
            "requestId": id.to_value(),
            "reason": "the server is shutting down",
            "_meta": { META_SUBSCRIPTION: id.to_value() },
        }),
    );
    let result = json!({ "resultType": "complete", "_meta": catalogue.meta(META_SUBSCRIPTION, id.to_value()) });
    let response = jsonrpc::success(id, result.to_string().as_bytes());
    // The response first: it says that the end is a good one, and clients stop reading at the other.
    [sse::frame(&response, None), sse::frame(&cancelled, None)].concat().into()
}
