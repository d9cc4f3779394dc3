//! The requests of a session, but for calls.
//!
//! Owns the way from a method's name to its answer: lists, resources, prompts, completion, log level. Refuses a method
//! that the revision does not have.
//! Trap: a request that names no session begins one, but only once it is known to be valid.

use serde_json::json;

use super::{Sessioned, Started, done};
use crate::{
    failure::Failure,
    mcp::dispatch::{self, read, require},
    observe::record::RpcMethod,
    session::record::Change,
    tools::{call::Outcome, resources},
    wire::{
        inputs::Inputs,
        json::Raw,
        jsonrpc::Id,
        model::{LevelParams, ListParams, UriParams},
        params::Params,
        version::Method,
    },
};

impl Sessioned<'_> {
    pub(super) async fn request(
        &mut self,
        id: Id<'_>,
        name: &str,
        params: &Params<'_>,
    ) -> Result<Started, Failure> {
        let named = Method::ALL.iter().copied().find(|method| method.as_str() == name);
        self.exchange.record().set_method(named.map_or(RpcMethod::Other, RpcMethod::Known));
        if named == Some(Method::Initialize) {
            return self.initialize(id, params.raw).await;
        }
        self.open().await?;
        self.opened_request(id, name, params).await
    }

    /// A request whose session, if it names one, has been found.
    pub(super) async fn opened_request(
        &mut self,
        id: Id<'_>,
        name: &str,
        params: &Params<'_>,
    ) -> Result<Started, Failure> {
        self.require_session_or_implicit()?;
        let Some(method) = Method::parse(name, self.version) else {
            return Err(Failure::MethodNotFound(name.to_owned()));
        };
        match method {
            Method::ToolsCall => self.call(id, params).await,
            // In a box of its own, so that the future of a call is no larger for them.
            _ => Box::pin(self.other_request(id, name, method, params.raw)).await,
        }
    }

    /// Any request but a call.
    async fn other_request(
        &mut self,
        id: Id<'_>,
        name: &str,
        method: Method,
        params: Option<Raw<'_>>,
    ) -> Result<Started, Failure> {
        if let Some(list) = dispatch::list_of(method) {
            let ListParams { cursor } = read(params)?.unwrap_or_default();
            let page = self.exchange.catalogue().page(list, self.version, cursor.as_deref())?;
            self.session().await?;
            return Ok(done(id, page));
        }
        match method {
            Method::Ping => Ok(done(id, b"{}")),
            Method::ResourcesRead => {
                let (instance, caller) = (self.exchange.instance(), self.exchange.inbound.caller);
                let contents = dispatch::read_resource(instance, params, caller).await?;
                self.session().await?;
                Ok(done(id, json!({ "contents": [contents] }).to_string().as_bytes()))
            }
            Method::ResourcesSubscribe => self.subscribe(id, params).await,
            Method::ResourcesUnsubscribe => {
                let UriParams { uri } = require(params, "\"uri\"")?;
                self.session().await?;
                if let Some(conversation) = self.conversation_if_any() {
                    conversation.unsubscribe(&resources::canonical(&uri));
                }
                Ok(done(id, b"{}"))
            }
            Method::PromptsGet => self.prompt(id, params).await,
            Method::Complete => {
                let own = self.session.as_ref().map(|session| session.head.id.to_string());
                let result = dispatch::complete(&self.exchange, params, own.as_deref()).await?;
                self.session().await?;
                Ok(done(id, result.to_string().as_bytes()))
            }
            Method::SetLevel => {
                let LevelParams { level } = require(params, "\"level\"")?;
                self.session().await?;
                self.commit(Change { log_level: Some(level), ..Change::default() }).await?;
                Ok(done(id, b"{}"))
            }
            // The first two have been answered, the lists as well; the others are not of this era.
            Method::Initialize
            | Method::ToolsCall
            | Method::Discover
            | Method::ToolsList
            | Method::ResourcesList
            | Method::ResourceTemplatesList
            | Method::PromptsList
            | Method::Listen
            | Method::TasksGet
            | Method::TasksUpdate
            | Method::TasksCancel => Err(Failure::MethodNotFound(name.to_owned())),
        }
    }

    async fn subscribe(&mut self, id: Id<'_>, params: Option<Raw<'_>>) -> Result<Started, Failure> {
        let UriParams { uri } = require(params, "\"uri\"")?;
        let instance = self.exchange.instance();
        if !resources::may_watch(instance, &uri, self.exchange.inbound.caller).await? {
            return Err(Failure::ResourceNotFound(uri.into_owned()));
        }
        let conversation = self.conversation().await?;
        if !conversation.subscribe(&resources::canonical(&uri)) {
            let problem = "the session has as many subscriptions as it may".to_owned();
            return Err(Failure::InvalidParams(problem));
        }
        instance.state.subscriptions.add(&conversation);
        Ok(done(id, b"{}"))
    }

    async fn prompt(&mut self, id: Id<'_>, params: Option<Raw<'_>>) -> Result<Started, Failure> {
        match dispatch::get_prompt(self.exchange.catalogue(), params, &Inputs::default())? {
            Outcome::Done(prompt) => {
                self.session().await?;
                let prompt = serde_json::to_vec(&prompt).map_err(|_| Failure::Internal)?;
                Ok(done(id, &prompt))
            }
            Outcome::NeedInput { .. } => Err(Failure::InvalidParams(
                "this prompt asks its user, which a prompt can only from revision 2026-07-28 on"
                    .to_owned(),
            )),
            Outcome::Failed(failure) => Err(failure),
        }
    }
}
