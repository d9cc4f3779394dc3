//! From a method to a capability, whatever the era.
//!
//! Owns the reading of `params` and the look-ups that both eras share: tools, resources, prompts,
//! completion. Refuses to know where a session id comes from or how an answer travels.
//! Trap: arguments are read before any session is touched, so that a bad call leaves nothing behind.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json, value::RawValue};

use super::{
    catalogue::List,
    failure::{Failure, Misrouted},
    model::{
        Common, CompleteParams, Contents, META_VERSION, Meta, NamedParams, Nested, Object,
        PromptResult, Reference, ToolResult, UriParams,
    },
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
pub fn read<'a, T: Deserialize<'a>>(params: Option<&'a RawValue>) -> Result<Option<T>, Failure> {
    match params {
        None => Ok(None),
        Some(raw) => match serde_json::from_str(raw.get()) {
            Ok(params) => Ok(Some(params)),
            Err(error) => Err(Failure::InvalidParams(error.to_string())),
        },
    }
}

/// `params` that a method cannot do without.
pub fn require<'a, T: Deserialize<'a>>(
    params: Option<&'a RawValue>,
    needs: &str,
) -> Result<T, Failure> {
    read(params)?.ok_or_else(|| Failure::InvalidParams(format!("{needs} is required")))
}

/// Whether `params._meta` names a revision itself.
pub fn claims_version(params: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct WithMeta<'a> {
        #[serde(borrow, rename = "_meta")]
        meta: HashMap<Cow<'a, str>, IgnoredAny>,
    }
    // Most requests do not so much as mention it, and need no second reading.
    params.get().contains(META_VERSION)
        && serde_json::from_str::<WithMeta<'_>>(params.get())
            .is_ok_and(|WithMeta { meta }| meta.contains_key(META_VERSION))
}

/// What every request may carry. Most carry nothing of it, and are not read a second time.
pub fn common(params: Option<&RawValue>) -> Result<Common, Failure> {
    let carries = |raw: &&RawValue| {
        let text = raw.get();
        ["\"_meta\"", "\"inputResponses\"", "\"requestState\""]
            .iter()
            .any(|name| text.contains(name))
    };
    Ok(read(params.filter(carries))?.unwrap_or_default())
}

/// What opts into progress notifications, and is repeated in each (schema `ProgressToken`).
pub fn progress_token(meta: Option<&Meta>) -> Result<Option<Value>, Failure> {
    let token = meta.and_then(|meta| meta.progress_token.as_ref());
    let whole = |token: &Value| token.as_f64().is_some_and(|number| number.fract() == 0.0);
    match token.is_none_or(|token| token.is_string() || whole(token)) {
        true => Ok(token.cloned()),
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

/// A call whose tool is known. It can be prepared again, once the client has answered.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// Which tool.
    pub tool: &'static Tool,
    /// Its arguments, still unread.
    pub arguments: Option<Box<RawValue>>,
}

/// A call that can run, and the handle it was given.
pub struct Ready {
    /// Runs it.
    pub prepared: Prepared,
    /// The argument `session`.
    pub handle: Option<String>,
}

impl ToolCall {
    /// Finds the tool.
    pub fn find(instance: &Instance, params: Option<&RawValue>) -> Result<Self, Failure> {
        let NamedParams { name, arguments } = require(params, "\"name\" of a tool")?;
        match instance.catalogue.tool(&name) {
            Some(tool) => {
                let arguments = arguments.map(|Object(raw)| raw.to_owned());
                Ok(Self { tool, arguments })
            }
            None => Err(Failure::UnknownTool(name.into_owned())),
        }
    }

    /// Reads the arguments.
    pub fn prepare(
        &self,
        instance: &Instance,
        inputs: &Inputs,
    ) -> Result<Ready, crate::call::BadArguments> {
        let limits = &instance.policy.tools;
        let mut arguments =
            Arguments::read(self.tool.name, self.arguments.as_deref(), limits, inputs)?;
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
    params: Option<&RawValue>,
    caller: Caller,
) -> Result<Contents, Failure> {
    let UriParams { uri } = require(params, "\"uri\"")?;
    let contents = resources::read(instance, &uri, caller).await;
    contents.ok_or_else(|| Failure::ResourceNotFound(uri.into_owned()))
}

/// `prompts/get`
pub fn get_prompt(
    instance: &Instance,
    params: Option<&RawValue>,
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
    params: Option<&RawValue>,
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
