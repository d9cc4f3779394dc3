//! Questions to the client by results, and its answers (2026-07-28, basic/patterns/mrtr).
//!
//! Owns `input_required` results and the sealed state that goes with them. Refuses a state that was sealed for another
//! request, caller or instance.
//! Trap: a client may answer at any replica's instance that has the seal; nothing is kept here while it thinks.

use serde_json::{Map, Value, json};

use super::Stateless;
use crate::{
    failure::Failure,
    id::Caller,
    mcp::{
        call::ToolCall,
        dispatch::{self, require},
        reply::Reply,
    },
    observe::outcome::RequestOutcome,
    tools::call::{ClientFacts, Outcome},
    wire::{
        inputs::{self, Inputs, Questions},
        json::Raw,
        jsonrpc::{self, Id},
        model::{Capabilities, NamedParams, Object},
        params::Params,
        seal::Binding,
        version::Method,
    },
};

impl Stateless<'_> {
    /// What a carried state belongs to: the request but for its answers, the caller and the instance.
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
        self.binding(Method::ToolsCall, call.tool.name, call.arguments)
    }

    /// What the client has answered so far; what it carried for us must be what we gave it.
    pub(super) fn inputs(
        &self,
        params: &Params<'_>,
        binding: impl FnOnce() -> Binding,
    ) -> Result<Inputs, Failure> {
        let common = dispatch::common(params)?;
        let responses = match common.input_responses {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(responses)) => responses,
            Some(_) => {
                return Err(Failure::InvalidParams(
                    "\"inputResponses\" must be an object".to_owned(),
                ));
            }
        };
        let state = match &common.request_state {
            None => None,
            Some(Value::String(sealed)) => {
                let opened = self.exchange.instance().process.sealer.open(sealed, &binding());
                Some(opened.map_err(|refused| Failure::InvalidParams(refused.to_string()))?)
            }
            Some(_) => {
                return Err(Failure::InvalidParams("\"requestState\" must be a string".to_owned()));
            }
        };
        Ok(Inputs { responses: responses.into_iter().collect(), state })
    }

    /// An `input_required` result, or why it cannot be asked for.
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
            result["requestState"] =
                self.exchange.instance().process.sealer.seal(state, binding).into();
        }
        Ok(result)
    }

    pub(super) fn prompt(
        &self,
        id: Id<'_>,
        params: &Params<'_>,
        client: &ClientFacts,
    ) -> Result<Reply, Failure> {
        let named: NamedParams<'_> = require(params.raw, "\"name\" of a prompt")?;
        let arguments = named.arguments.map(|Object(raw)| raw);
        let binding = || self.binding(Method::PromptsGet, &named.name, arguments);
        let inputs = self.inputs(params, binding)?;
        match dispatch::get_prompt(self.exchange.catalogue(), params.raw, &inputs)? {
            Outcome::Done(prompt) => {
                let result = serde_json::to_vec(&prompt).map_err(|_| Failure::Internal)?;
                Ok(self.complete(id, &result))
            }
            Outcome::NeedInput { requests, state } => {
                let result = self.ask(requests, state, client.capabilities, &binding())?;
                Ok(self.exchange.whole(jsonrpc::success(id, result.to_string().as_bytes())))
            }
            Outcome::Failed(failure) => Err(failure),
        }
    }
}
