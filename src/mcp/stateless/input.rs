//! Multi round-trip requests: questions to the client are results, and it repeats the request with its answers
//! (2026-07-28, basic/patterns/mrtr).
//!
//! Owns `input_required` results and the sealed state that the client sends back. Refuses a state that was sealed for
//! another request, caller or instance.
//! Trap: nothing is kept while the client thinks, since any replica with the same key may get the answers.

use serde_json::{Map, Value, json};

use super::Stateless;
use crate::{
    failure::Failure,
    id::Caller,
    link::Lost,
    mcp::{
        call::ToolCall,
        dispatch::{self, invalid},
        exchange::Reply,
    },
    observe::RequestOutcome,
    process::NotOpened,
    tools::{ClientFacts, Outcome},
    wire::{
        Binding, Capabilities, Id, Inputs, Method, Object, Params, Questions, Raw, inputs, jsonrpc,
    },
};

impl Stateless<'_> {
    /// What a sealed state belongs to: the request without the client's answers, the caller and the instance.
    fn binding(&self, method: Method, name: &str, arguments: Option<Raw<'_>>) -> Binding {
        // No arguments, an empty object and null are the same call.
        let arguments =
            arguments.map(jsonrpc::compact).filter(|text| text != "{}" && text != "null");
        let caller = match &self.exchange.inbound.caller {
            Caller::Anonymous => &[][..],
            Caller::Known(identity) => identity,
        };
        Binding::of(&[
            method.as_str().as_bytes(),
            name.as_bytes(),
            arguments.as_deref().unwrap_or_default().as_bytes(),
            caller,
            &[self.exchange.instance().id.digit()],
        ])
    }

    pub(super) fn binding_of(&self, call: &ToolCall<'_>) -> Binding {
        self.binding(Method::ToolsCall, call.tool.name, call.arguments.map(|sent| sent.raw))
    }

    /// The client's answers, and the state that an earlier `input_required` result gave it.
    pub(super) fn inputs(
        &self,
        params: &Params<'_>,
        binding: impl FnOnce() -> Binding,
    ) -> Result<Inputs, Failure> {
        let common = dispatch::common(params)?;
        let responses = match common.input_responses {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(responses)) => responses,
            Some(_) => return invalid("\"inputResponses\" must be an object"),
        };
        let state = match &common.request_state {
            None => None,
            Some(Value::String(sealed)) => {
                let opened = self.exchange.instance().process.seals.open(sealed, &binding());
                Some(opened.map_err(|not_opened| match not_opened {
                    NotOpened::Refused(bad) => Failure::InvalidParams(bad.to_string()),
                    NotOpened::Unavailable => Failure::StoreUnavailable,
                })?)
            }
            Some(_) => return invalid("\"requestState\" must be a string"),
        };
        Ok(Inputs { responses: responses.into_iter().collect(), state })
    }

    /// An `input_required` result. Fails if the client lacks a capability for one of the questions.
    pub(super) fn ask(
        &self,
        requests: Questions,
        state: Option<Value>,
        capabilities: Capabilities,
        binding: &Binding,
    ) -> Result<Value, Failure> {
        if let Some(required) = inputs::missing(&requests, capabilities) {
            return Err(Failure::MissingCapability(required));
        }
        self.exchange.record().set_outcome(RequestOutcome::InputRequired);
        let questions =
            requests.into_iter().map(|(key, request)| (key.to_owned(), request.embedded()));
        let mut result = json!({
            "resultType": "input_required",
            "inputRequests": Value::Object(questions.collect()),
            "_meta": self.exchange.catalogue().server_meta(),
        });
        if let Some(state) = state {
            let sealed = self.exchange.instance().process.seals.seal(state, binding);
            result["requestState"] = sealed.map_err(|Lost| Failure::StoreUnavailable)?.into();
        }
        Ok(result)
    }

    pub(super) fn prompt(
        &self,
        id: Id<'_>,
        params: &Params<'_>,
        client: &ClientFacts,
    ) -> Result<Reply, Failure> {
        let named = dispatch::prompt_params(params.raw)?;
        let arguments = named.arguments.as_ref().map(|Object(raw)| *raw);
        let binding = || self.binding(Method::PromptsGet, &named.name, arguments);
        let inputs = self.inputs(params, binding)?;
        match dispatch::get_prompt(self.exchange.catalogue(), &named, &inputs)? {
            Outcome::Done(prompt) => {
                let result = serde_json::to_vec(&prompt).map_err(|_| Failure::Internal)?;
                self.complete(id, &result)
            }
            Outcome::NeedInput { requests, state } => {
                let result = self.ask(requests, state, client.capabilities, &binding())?;
                self.exchange.whole(jsonrpc::success(id, result.to_string().as_bytes()))
            }
            Outcome::Failed(failure) => Err(failure),
        }
    }
}
