//! Revision 2026-07-28: every request stands for itself.
//!
//! Owns the order in which a request is checked and answered: `_meta` and headers in `metadata`, tool calls in `call`,
//! questions to the client in `input`, tasks in `task`, subscriptions in `listen`. A session is reached only by a handle
//! among a tool's arguments. A client that disconnects has cancelled: its call is dropped with the response (2026-07-28,
//! basic/patterns/cancellation).
//! Trap: a client that speaks both eras learns from the first failed check which era to use, so the order matters.

mod call;
mod input;
mod listen;
mod metadata;
mod task;

use serde_json::json;

use super::{
    catalogue::List,
    dispatch::{self, read},
    exchange::{Exchange, Reply, refuse},
};
use crate::{
    failure::Failure,
    http::answer::Answer,
    observe::RpcMethod,
    tools::ClientFacts,
    wire::{
        BadMeta, Era, Id, ListParams, Message, Meta, Method, Params, ProtocolVersion, Raw, jsonrpc,
    },
};

const ERA: Era = Era::Stateless;
const VERSION: ProtocolVersion = ProtocolVersion::V2026_07_28;

/// `ttlMs` of a resource: what a session has stored may change at any time.
const RESOURCE_TTL_MS: u64 = 0;

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
    pub(super) async fn one(self, message: &Message<'_>) -> Answer {
        let (result, id) = match message {
            Message::Request { id, method, params } => {
                (self.request(*id, method, params).await, Some(*id))
            }
            // This revision defines none for clients to send. They are accepted, as unknown notifications are.
            Message::Notification { params, .. } => {
                self.exchange.record().set_method(RpcMethod::Notification);
                // One whose `_meta` cannot be read names no revision.
                let named = self.check_version(params.meta().unwrap_or_default());
                (named.map(|()| Reply::Accepted), None)
            }
            Message::Response { .. } => {
                let problem = "this revision asks by results, so there is nothing to respond to";
                (Err(Failure::NotAMessage(problem.into())), None)
            }
        };
        match result {
            Ok(reply) => reply.into_response(&self.exchange, None),
            Err(failure) => refuse(self.exchange.record(), failure, id, ERA),
        }
    }

    async fn request(&self, id: Id<'_>, name: &str, params: &Params<'_>) -> Result<Reply, Failure> {
        let meta = params.meta().map_err(|BadMeta(problem)| Failure::BadMeta(problem))?;
        let record = self.exchange.record();
        if let Some(trace) = meta.and_then(Meta::trace) {
            record.set_trace(&trace);
        }
        params.check()?;
        let client = self.check_meta(name, params, meta)?;
        let head = self.exchange.inbound.head();
        let method = metadata::check_method(head, name)?;
        metadata::check_name(head, method, params)?;
        let Some(method) = method else {
            record.set_method(RpcMethod::Other);
            return Err(Failure::MethodNotFound(name.to_owned()));
        };
        record.set_method(RpcMethod::Known(method));
        match method {
            Method::ToolsCall => self.call(id, params, client).await,
            // Boxed, so that these do not make the future of a call larger.
            _ => Box::pin(self.other_request(id, name, method, params, client)).await,
        }
    }

    async fn other_request(
        &self,
        id: Id<'_>,
        name: &str,
        method: Method,
        params: &Params<'_>,
        client: ClientFacts,
    ) -> Result<Reply, Failure> {
        match method {
            Method::Discover => {
                let discover = self.exchange.catalogue().discover();
                self.exchange.whole(jsonrpc::success(id, discover))
            }
            Method::ToolsList => self.list(id, List::Tools, params.raw),
            Method::PromptsList => self.list(id, List::Prompts, params.raw),
            Method::ResourcesList => self.list(id, List::Resources, params.raw),
            Method::ResourceTemplatesList => self.list(id, List::Templates, params.raw),
            Method::ResourcesRead => {
                let (instance, caller) = (self.exchange.instance(), self.exchange.inbound.caller);
                let contents = dispatch::read_resource(instance, params.raw, caller).await?;
                let result = json!({
                    "contents": [contents],
                    "ttlMs": RESOURCE_TTL_MS,
                    "cacheScope": "private",
                });
                self.complete(id, result.to_string().as_bytes())
            }
            Method::PromptsGet => self.prompt(id, params, &client),
            Method::Complete => {
                let result = dispatch::complete(&self.exchange, params.raw, None).await?;
                self.complete(id, result.to_string().as_bytes())
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
                self.task(method, id, params, &client).await
            }
            // Calls are answered before this; the others are of the sessioned era.
            Method::ToolsCall
            | Method::Initialize
            | Method::Ping
            | Method::ResourcesSubscribe
            | Method::ResourcesUnsubscribe
            | Method::SetLevel => Err(Failure::MethodNotFound(name.to_owned())),
        }
    }

    fn list(&self, id: Id<'_>, list: List, params: Option<Raw<'_>>) -> Result<Reply, Failure> {
        let ListParams { cursor } = read(params)?.unwrap_or_default();
        let page = self.exchange.catalogue().page(list, VERSION, cursor.as_deref())?;
        self.exchange.whole(jsonrpc::success(id, page))
    }

    fn complete(&self, id: Id<'_>, result: &[u8]) -> Result<Reply, Failure> {
        let result = self.exchange.catalogue().complete(result);
        self.exchange.whole(jsonrpc::success(id, &result))
    }
}
