//! The methods that both eras answer in the same way.
//!
//! Owns the reading of `params`, and reading resources, getting prompts and completing arguments. How a request names
//! its session and how the answer is sent is left to the era.
//! Trap: `params` are parsed again for members that few requests have, so only if the first pass has seen one of them.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{catalogue::Catalogue, exchange::Exchange};
use crate::{
    failure::{Failure, NoSession},
    id::{Caller, MintedBy, SessionId},
    observe::RequestRecord,
    session::Gone,
    tenant::Instance,
    tools::{Outcome, resources},
    wire::{
        Common, CompleteParams, Contents, Id, Inputs, MAX_ID, Meta, NamedParams, Nested, Object,
        OwnedId, Params, PromptResult, Raw, Reference, UriParams, fault,
    },
};

/// -32602, invalid params.
pub(super) fn invalid<T>(problem: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::InvalidParams(problem.into()))
}

/// Reads `params` in the shape of a method.
pub(super) fn read<'a, T: Deserialize<'a>>(params: Option<Raw<'a>>) -> Result<Option<T>, Failure> {
    let Some(raw) = params else { return Ok(None) };
    let read = serde_json::from_str(raw.get()).map(Some);
    read.or_else(|error| invalid(fault::explain("\"params\"", raw.get(), &error)))
}

/// Reads `params` that a method requires; `needs` names the members.
pub(super) fn require<'a, T: Deserialize<'a>>(
    params: Option<Raw<'a>>,
    needs: &str,
) -> Result<T, Failure> {
    read(params)?.ok_or_else(|| Failure::InvalidParams(format!("{needs} is required")))
}

/// `inputResponses` and `requestState`. `params` without either are not parsed again.
pub(super) fn common(params: &Params<'_>) -> Result<Common, Failure> {
    Ok(read(params.raw.filter(|_| params.has_common()))?.unwrap_or_default())
}

/// `progressToken`: requests progress notifications, and is repeated in each (schema `ProgressToken`).
pub(super) fn progress_token(meta: Option<&Meta<'_>>) -> Result<Option<OwnedId>, Failure> {
    let Some(raw) = meta.and_then(|meta| meta.progress_token) else { return Ok(None) };
    if raw.get().len() > MAX_ID {
        return invalid(format!("\"progressToken\" must not be longer than {MAX_ID} bytes"));
    }
    match (Id::token(raw), raw.fault()) {
        (Some(token), _) => Ok(Some(token.to_owned())),
        (None, Some(fault)) => invalid(format!("\"progressToken\" {fault}")),
        (None, None) => invalid("\"progressToken\" must be a string or an integer"),
    }
}

/// What is known of a session that does not exist here, from its id and the store.
pub(super) fn no_session(
    instance: &Instance,
    record: &RequestRecord,
    id: &str,
    gone: Gone,
) -> NoSession {
    let minted_by = minted_by(instance, record, id);
    NoSession { gone, minted_by, served_by: instance.here() }
}

/// The URI that `params` must name.
pub(super) fn uri(params: Option<Raw<'_>>) -> Result<Cow<'_, str>, Failure> {
    let UriParams { uri } = require(params, "\"uri\"")?;
    check_uri(&uri)?;
    Ok(uri)
}

/// A URI has a length that can be kept and repeated.
pub(super) fn check_uri(uri: &str) -> Result<(), Failure> {
    match uri.len() > MAX_URI {
        true => invalid(format!("a URI must not be longer than {MAX_URI} bytes")),
        false => Ok(()),
    }
}

/// The longest URI. Bytes.
const MAX_URI: usize = 4096;

/// Who minted an id that is not found here. If that was elsewhere, the request's log line says where.
pub(super) fn minted_by(instance: &Instance, record: &RequestRecord, id: &str) -> Option<MintedBy> {
    let minted_by = SessionId::parse(id).and_then(SessionId::minted_by);
    if let Some(other) = minted_by.filter(|by| by.elsewhere(instance.here()).is_some()) {
        record.set_minted_by(other);
    }
    minted_by
}

/// `resources/read`
pub(super) async fn read_resource(
    instance: &Instance,
    params: Option<Raw<'_>>,
    caller: Caller,
) -> Result<Contents, Failure> {
    let uri = uri(params)?;
    let contents = resources::read(instance, &uri, caller).await?;
    contents.ok_or_else(|| Failure::ResourceNotFound(uri.into_owned()))
}

/// The `params` of `prompts/get`.
pub(super) fn prompt_params(params: Option<Raw<'_>>) -> Result<NamedParams<'_>, Failure> {
    require(params, "\"name\" of a prompt")
}

/// `prompts/get`
pub(super) fn get_prompt(
    catalogue: &Catalogue,
    NamedParams { name, arguments }: &NamedParams<'_>,
    inputs: &Inputs,
) -> Result<Outcome<PromptResult>, Failure> {
    let Some(prompt) = catalogue.prompt(name) else {
        return invalid(format!("unknown prompt: {name}"));
    };
    let arguments = arguments.as_ref().map(|Object(raw)| *raw);
    match read::<BTreeMap<String, String>>(arguments) {
        Ok(arguments) => Ok(prompt.get(&arguments.unwrap_or_default(), inputs)),
        Err(_) => match arguments.and_then(Raw::fault) {
            Some(fault) => invalid(format!("\"arguments\" {fault}")),
            None => invalid("\"arguments\" of a prompt must be an object of strings"),
        },
    }
}

/// `completion/complete`. `session` stands for a template's `{session}` if the context does not name one.
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
            let (instance, caller) = (exchange.instance(), exchange.inbound.caller);
            resources::complete(instance, &uri, &argument.name, session, caller).await?
        }
    };
    let Some(mut values) = values else {
        let name = argument.name;
        return invalid(format!("there is no such prompt or template with an argument {name:?}"));
    };
    values.retain(|value| value.starts_with(&*argument.value));
    let total = values.len();
    // The most that the schema allows.
    values.truncate(100);
    Ok(json!({ "completion": { "values": values, "total": total, "hasMore": total > 100 } }))
}
