//! From a method to a capability, whatever the era.
//!
//! Owns the reading of `params` and the look-ups that both eras share: tools, resources, prompts,
//! completion. Refuses to know where a session id comes from or how an answer travels.
//! Trap: arguments are read before any session is touched, so that a bad call leaves nothing behind.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    catalogue::List,
    failure::{Failure, Misrouted},
    json::Raw,
    model::{
        Common, CompleteParams, Contents, NamedParams, Nested, Object, PromptResult, Reference,
        ToolResult, UriParams,
    },
    params::{Meta, Params},
    version::Method,
};
use crate::{
    auth::Caller,
    call::{Arguments, Inputs, Outcome, Prepared},
    instance::Instance,
    resources,
    session::{Session, SessionId, store::Gone},
    tools::{HANDLE, Tool},
};

/// `params` as a method wants them.
pub fn read<'a, T: Deserialize<'a>>(params: Option<Raw<'a>>) -> Result<Option<T>, Failure> {
    match params {
        None => Ok(None),
        Some(raw) => match serde_json::from_str(raw.get()) {
            Ok(params) => Ok(Some(params)),
            Err(error) => Err(Failure::InvalidParams(error.to_string())),
        },
    }
}

/// `params` that a method cannot do without.
pub fn require<'a, T: Deserialize<'a>>(params: Option<Raw<'a>>, needs: &str) -> Result<T, Failure> {
    read(params)?.ok_or_else(|| Failure::InvalidParams(format!("{needs} is required")))
}

/// What a request may carry that answers questions of ours. Most carry nothing of it, and are not read again.
pub fn common(params: &Params<'_>) -> Result<Common, Failure> {
    Ok(read(params.raw.filter(|_| params.has_common()))?.unwrap_or_default())
}

/// What opts into progress notifications, and is repeated in each (schema `ProgressToken`).
pub fn progress_token(meta: Option<&Meta<'_>>) -> Result<Option<Value>, Failure> {
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
pub const fn list_of(method: Method) -> Option<List> {
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

/// A call whose tool is known.
#[derive(Clone, Copy, Debug)]
pub struct ToolCall<'a> {
    /// Which tool.
    pub tool: &'static Tool,
    /// Its arguments, still unread.
    pub arguments: Option<Raw<'a>>,
}

/// A [`ToolCall`] that outlives the request body, to be prepared again once the client has answered.
#[derive(Clone, Debug)]
pub struct OwnedCall {
    tool: &'static Tool,
    arguments: Option<Box<str>>,
}

impl OwnedCall {
    /// Borrowed again.
    pub fn get(&self) -> ToolCall<'_> {
        ToolCall { tool: self.tool, arguments: self.arguments.as_deref().map(Raw::again) }
    }
}

/// A call that can run, and the handle it was given.
pub struct Ready {
    /// Runs it.
    pub prepared: Prepared,
    /// The argument `session`.
    pub handle: Option<String>,
}

impl<'a> ToolCall<'a> {
    /// Finds the tool.
    pub fn find(instance: &Instance, params: &Params<'a>) -> Result<Self, Failure> {
        let (name, arguments) = match params.call() {
            Some(call) => call,
            None => {
                let NamedParams { name, arguments } = require(params.raw, "\"name\" of a tool")?;
                (name, arguments.map(|Object(raw)| raw))
            }
        };
        match instance.catalogue.tool(&name) {
            Some(tool) => Ok(Self { tool, arguments }),
            None => Err(Failure::UnknownTool(name.into_owned())),
        }
    }

    /// The call that outlives the request body.
    pub fn to_owned(self) -> OwnedCall {
        OwnedCall { tool: self.tool, arguments: self.arguments.map(|raw| raw.get().into()) }
    }

    /// Reads the arguments.
    pub fn prepare(
        &self,
        instance: &Instance,
        inputs: &Inputs,
    ) -> Result<Ready, crate::call::BadArguments> {
        let limits = &instance.policy.tools;
        let mut arguments = Arguments::read(self.tool.name, self.arguments, limits, inputs)?;
        let handle = match self.tool.stateful {
            true => arguments.optional_string(HANDLE.0)?.map(Cow::into_owned),
            false => None,
        };
        Ok(Ready { prepared: (self.tool.prepare)(&mut arguments)?, handle })
    }
}

/// The session of a handle, or a result that says what became of it.
pub async fn by_handle(
    instance: &Arc<Instance>,
    handle: &str,
    caller: Caller,
) -> Result<Arc<Session>, ToolResult> {
    match instance.sessions.find(handle, caller).await {
        Ok(session) => Ok(session),
        Err(gone) => {
            let advice = "create_session returns a new handle";
            let text = format!("{}; {advice}", misrouted(instance, handle, gone).what_happened());
            Err(ToolResult::error(text))
        }
    }
}

/// What an id that leads nowhere tells.
pub fn misrouted(instance: &Instance, id: &str, gone: Gone) -> Misrouted {
    Misrouted {
        gone,
        minted_by: SessionId::parse(id).and_then(|id| Some((id.instance()?, id.origin()))),
        served_by: (instance.id, instance.process.origin),
    }
}

/// `resources/read`
pub async fn read_resource(
    instance: &Arc<Instance>,
    params: Option<Raw<'_>>,
    caller: Caller,
) -> Result<Contents, Failure> {
    let UriParams { uri } = require(params, "\"uri\"")?;
    let contents = resources::read(instance, &uri, caller).await;
    contents.ok_or_else(|| Failure::ResourceNotFound(uri.into_owned()))
}

/// `prompts/get`
pub fn get_prompt(
    instance: &Instance,
    params: Option<Raw<'_>>,
    inputs: &Inputs,
) -> Result<Outcome<PromptResult>, Failure> {
    let NamedParams { name, arguments } = require(params, "\"name\" of a prompt")?;
    let Some(prompt) = instance.catalogue.prompt(&name) else {
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
pub async fn complete(
    instance: &Arc<Instance>,
    params: Option<Raw<'_>>,
    session: Option<&str>,
    caller: Caller,
) -> Result<Value, Failure> {
    let CompleteParams { reference: Nested(reference), argument: Nested(argument), context } =
        require(params, "\"ref\" and \"argument\"")?;
    let Nested(context) = context.unwrap_or_default();
    let values = match reference {
        Reference::Prompt { name } => {
            let prompt = instance.catalogue.prompt(&name);
            prompt.and_then(|prompt| prompt.complete(&argument.name))
        }
        Reference::Resource { uri } => {
            let session = context.arguments.get("session").map(String::as_str).or(session);
            resources::complete(instance, &uri, &argument.name, session, caller).await
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
