//! From a method to a capability, whatever the era.
//!
//! Owns the reading of `params` and the look-ups that both eras share: resources, prompts, completion. Knows nothing of
//! where a session id comes from or how an answer travels.
//! Trap: most requests carry nothing but what their method needs, so what is rare is looked for only where it can be.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    catalogue::{Catalogue, List},
    exchange::Exchange,
};
use crate::{
    failure::{Failure, NoSession},
    id::{Caller, SessionId},
    session::store::Gone,
    tenant::Instance,
    tools::{call::Outcome, resources},
    wire::{
        inputs::Inputs,
        json::Raw,
        model::{
            Common, CompleteParams, Contents, NamedParams, Nested, Object, PromptResult, Reference,
            UriParams,
        },
        params::{Meta, Params},
        version::Method,
    },
};

/// `params` as a method wants them.
pub(super) fn read<'a, T: Deserialize<'a>>(params: Option<Raw<'a>>) -> Result<Option<T>, Failure> {
    match params {
        None => Ok(None),
        Some(raw) => match serde_json::from_str(raw.get()) {
            Ok(params) => Ok(Some(params)),
            Err(error) => Err(Failure::InvalidParams(error.to_string())),
        },
    }
}

/// `params` that a method cannot do without.
pub(super) fn require<'a, T: Deserialize<'a>>(
    params: Option<Raw<'a>>,
    needs: &str,
) -> Result<T, Failure> {
    read(params)?.ok_or_else(|| Failure::InvalidParams(format!("{needs} is required")))
}

/// What a request may carry that answers questions of ours. Most carry nothing of it, and are not read again.
pub(super) fn common(params: &Params<'_>) -> Result<Common, Failure> {
    Ok(read(params.raw.filter(|_| params.has_common()))?.unwrap_or_default())
}

/// What opts into progress notifications, and is repeated in each (schema `ProgressToken`).
pub(super) fn progress_token(meta: Option<&Meta<'_>>) -> Result<Option<Value>, Failure> {
    let token = meta.and_then(|meta| meta.progress_token).map(Raw::value);
    let whole = |token: &Value| token.as_f64().is_some_and(|number| number.fract() == 0.0);
    match token.as_ref().is_none_or(|token| token.is_string() || whole(token)) {
        true => Ok(token),
        false => {
            let problem = "\"progressToken\" must be a string or an integer".to_owned();
            Err(Failure::InvalidParams(problem))
        }
    }
}

/// Which list a method asks for.
pub(super) const fn list_of(method: Method) -> Option<List> {
    match method {
        Method::ToolsList => Some(List::Tools),
        Method::PromptsList => Some(List::Prompts),
        Method::ResourcesList => Some(List::Resources),
        Method::ResourceTemplatesList => Some(List::Templates),
        Method::Initialize
        | Method::Ping
        | Method::Discover
        | Method::ToolsCall
        | Method::ResourcesRead
        | Method::ResourcesSubscribe
        | Method::ResourcesUnsubscribe
        | Method::PromptsGet
        | Method::Complete
        | Method::SetLevel
        | Method::Listen
        | Method::TasksGet
        | Method::TasksUpdate
        | Method::TasksCancel => None,
    }
}

/// What an id that leads nowhere tells.
pub(super) fn no_session(instance: &Instance, id: &str, gone: Gone) -> NoSession {
    let minted_by = SessionId::parse(id).and_then(SessionId::minted_by);
    NoSession { gone, minted_by, served_by: instance.here() }
}

/// `resources/read`
pub(super) async fn read_resource(
    instance: &Instance,
    params: Option<Raw<'_>>,
    caller: Caller,
) -> Result<Contents, Failure> {
    let UriParams { uri } = require(params, "\"uri\"")?;
    let contents = resources::read(instance, &uri, caller).await?;
    contents.ok_or_else(|| Failure::ResourceNotFound(uri.into_owned()))
}

/// `prompts/get`
pub(super) fn get_prompt(
    catalogue: &Catalogue,
    params: Option<Raw<'_>>,
    inputs: &Inputs,
) -> Result<Outcome<PromptResult>, Failure> {
    let NamedParams { name, arguments } = require(params, "\"name\" of a prompt")?;
    let Some(prompt) = catalogue.prompt(&name) else {
        return Err(Failure::InvalidParams(format!("unknown prompt: {name}")));
    };
    let blanks: BTreeMap<String, String> = match read(arguments.map(|Object(raw)| raw)) {
        Ok(blanks) => blanks.unwrap_or_default(),
        Err(_) => {
            let problem = "\"arguments\" of a prompt must be an object of strings".to_owned();
            return Err(Failure::InvalidParams(problem));
        }
    };
    Ok(prompt.get(&blanks, inputs))
}

/// `completion/complete`. `session` is the one that a template's `{session}` would be.
pub(super) async fn complete(
    exchange: &Exchange<'_>,
    params: Option<Raw<'_>>,
    session: Option<&str>,
) -> Result<Value, Failure> {
    let CompleteParams { reference: Nested(reference), argument: Nested(argument), context } =
        require(params, "\"ref\" and \"argument\"")?;
    let Nested(context) = context.unwrap_or_default();
    let values = match reference {
        Reference::Prompt { name } => {
            let prompt = exchange.catalogue().prompt(&name);
            prompt.and_then(|prompt| prompt.complete(&argument.name))
        }
        Reference::Resource { uri } => {
            let session = context.arguments.get("session").map(String::as_str).or(session);
            resources::complete(
                exchange.instance(),
                &uri,
                &argument.name,
                session,
                exchange.inbound.caller,
            )
            .await?
        }
    };
    let Some(mut values) = values else {
        let problem =
            format!("there is no such prompt or template with an argument {:?}", argument.name);
        return Err(Failure::InvalidParams(problem));
    };
    values.retain(|value| value.starts_with(&*argument.value));
    let total = values.len();
    // The schema's bound.
    values.truncate(100);
    Ok(json!({ "completion": { "values": values, "total": total, "hasMore": total > 100 } }))
}
