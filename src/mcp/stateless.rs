//! Revision 2026-07-28: every request stands for itself.
//!
//! Owns the order in which a request is checked and answered: what `_meta` must say in `meta`, what headers must in
//! `headers`, calls in `call`, questions in `input`, tasks in `task`, subscriptions in `listen`. Refuses anything that would
//! need an earlier request to be understood; a session is reached only by a handle among the arguments. A client that
//! goes away has cancelled: the work is dropped with the answer (2026-07-28, basic/patterns/cancellation).
//! Trap: the order of the checks is what a client that speaks both eras falls back on.

mod call;
mod headers;
mod input;
mod listen;
mod meta;
mod task;

use axum::response::Response;
use serde_json::json;

use super::{
    dispatch::{self, read},
    exchange::{Exchange, refuse},
    reply::Reply,
};
use crate::{
    failure::Failure,
    observe::record::RpcMethod,
    tools::call::ClientFacts,
    wire::{
        jsonrpc::{self, Id, Message},
        model::ListParams,
        params::{BadMeta, Meta, Params},
        version::{Era, Method, ProtocolVersion},
    },
};

const ERA: Era = Era::Stateless;
const VERSION: ProtocolVersion = ProtocolVersion::V2026_07_28;

/// How long a read resource may be considered fresh: whatever a session stored may change at once.
const RESOURCE_TTL_MS: u64 = 0;

/// A request of this era.
#[derive(Clone, Copy)]
pub(super) struct Stateless<'a> {
    exchange: Exchange<'a>,
}

impl<'a> Stateless<'a> {
    pub(super) fn new(exchange: Exchange<'a>) -> Self {
        exchange.record().set_era(ERA);
        Self { exchange }
    }

    /// Answers a POST of one message.
    pub(super) async fn one(self, message: Message<'_>) -> Response {
        let (result, id) = match message {
            Message::Request { id, method, params } => {
                (self.request(id, &method, &params).await, Some(id))
            }
            // This revision defines none from client to server; accepted all the same.
            Message::Notification { .. } => {
                self.exchange.record().set_method(RpcMethod::Notification);
                (Ok(Reply::Accepted), None)
            }
            Message::Response { .. } => {
                let problem = "this revision asks by results, so there is nothing to respond to";
                (Err(Failure::NotAMessage(problem.into())), None)
            }
        };
        match result {
            Ok(reply) => reply.into_response(None),
            Err(failure) => refuse(self.exchange.record(), failure, id, ERA),
        }
    }

    async fn request(&self, id: Id<'_>, name: &str, params: &Params<'_>) -> Result<Reply, Failure> {
        let meta =
            params.meta().map_err(|BadMeta| Failure::BadMeta("\"_meta\" must be an object"))?;
        let record = self.exchange.record();
        if let Some(trace) = meta.and_then(Meta::trace) {
            record.set_trace(&trace);
        }
        let client = self.check_meta(name, params, meta)?;
        let headers = self.exchange.inbound.headers();
        let method = headers::check_method(headers, name)?;
        headers::check_name(headers, method, params)?;
        let Some(method) = method else {
            record.set_method(RpcMethod::Other);
            return Err(Failure::MethodNotFound(name.to_owned()));
        };
        record.set_method(RpcMethod::Known(method));
        match method {
            Method::ToolsCall => self.call(id, params, client).await,
            // In a box of its own, so that the future of a call is no larger for them.
            _ => Box::pin(self.other_request(id, name, method, params, client)).await,
        }
    }

    /// Any request but a call.
    async fn other_request(
        &self,
        id: Id<'_>,
        name: &str,
        method: Method,
        params: &Params<'_>,
        client: ClientFacts,
    ) -> Result<Reply, Failure> {
        let catalogue = self.exchange.catalogue();
        if let Some(list) = dispatch::list_of(method) {
            let ListParams { cursor } = read(params.raw)?.unwrap_or_default();
            let page = catalogue.page(list, VERSION, cursor.as_deref())?;
            return Ok(self.exchange.whole(jsonrpc::success(id, page)));
        }
        match method {
            Method::Discover => Ok(self.exchange.whole(jsonrpc::success(id, catalogue.discover()))),
            Method::ResourcesRead => {
                let (instance, caller) = (self.exchange.instance(), self.exchange.inbound.caller);
                let contents = dispatch::read_resource(instance, params.raw, caller).await?;
                let result = json!({
                    "contents": [contents],
                    "ttlMs": RESOURCE_TTL_MS,
                    "cacheScope": "private",
                });
                Ok(self.complete(id, result.to_string().as_bytes()))
            }
            Method::PromptsGet => self.prompt(id, params, &client),
            Method::Complete => {
                let result = dispatch::complete(&self.exchange, params.raw, None).await?;
                Ok(self.complete(id, result.to_string().as_bytes()))
            }
            Method::Listen => {
                if !self.exchange.forms.events {
                    return Err(Failure::NotAcceptable { needed: "text/event-stream" });
                }
                let tasks = client.capabilities.tasks;
                let stream = listen::open(&self.exchange, id, params.raw, tasks).await?;
                Ok(Reply::Stream(stream))
            }
            Method::TasksGet | Method::TasksUpdate | Method::TasksCancel => {
                self.task(method, id, params, &client)
            }
            // A call and the lists have been answered; the others are not of this era.
            Method::Initialize
            | Method::ToolsCall
            | Method::Ping
            | Method::ToolsList
            | Method::ResourcesList
            | Method::ResourceTemplatesList
            | Method::ResourcesSubscribe
            | Method::ResourcesUnsubscribe
            | Method::PromptsList
            | Method::SetLevel => Err(Failure::MethodNotFound(name.to_owned())),
        }
    }

    fn complete(&self, id: Id<'_>, result: &[u8]) -> Reply {
        let result = self.exchange.catalogue().complete(result);
        self.exchange.whole(jsonrpc::success(id, &result))
    }
}
