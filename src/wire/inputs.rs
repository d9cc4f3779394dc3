//! Requests for client input (elicitation, sampling, roots) and the client's responses, for both eras.
//!
//! Owns [`InputRequest`], the capability that each kind needs, and [`Inputs`], the responses so far. How a request
//! reaches the client is up to the era.
//! Trap: a response that is not an object counts as missing.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::model::Capabilities;

/// What the client has answered so far.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// By the key of the question.
    pub(crate) responses: BTreeMap<String, Value>,
    /// What the tool asked to remember in the previous round.
    pub(crate) state: Option<Value>,
}

impl Inputs {
    /// The answer under that key, if it is an object.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.responses.get(key).filter(|answer| answer.is_object())
    }

    /// The same, if it fits the question.
    pub(crate) fn answer(
        &self,
        key: &str,
        question: &InputRequest,
    ) -> Result<Option<&Value>, String> {
        let answer = self.get(key);
        answer.map_or(Ok(()), |answer| question.check(answer)).map(|()| answer)
    }

    /// A text that the user filled into a form, if the form was accepted.
    pub(crate) fn filled(&self, key: &str, field: &str) -> Option<&str> {
        let answer = self.get(key)?;
        let accepted = answer.get("action").and_then(Value::as_str) == Some("accept");
        answer.get("content")?.get(field)?.as_str().filter(|_| accepted)
    }
}

/// A question to the client.
#[derive(Clone, Debug)]
pub struct InputRequest {
    pub(crate) kind: InputKind,
    pub(crate) params: Value,
}

impl InputRequest {
    /// Asks the user by a form.
    pub(crate) fn form(message: &str, schema: Value) -> Self {
        let params = json!({ "mode": "form", "message": message, "requestedSchema": schema });
        Self { kind: InputKind::Form, params }
    }

    /// The form that it has within an `input_required` result.
    pub(crate) fn embedded(self) -> Value {
        let Self { kind, params } = self;
        json!({ "method": kind.method(), "params": params })
    }
}

/// A form as 2025-06-18 knows it (schema, `PrimitiveSchemaDefinition`): without modes, of no lists, titles of choices as
/// `enumNames`, defaults of booleans alone.
pub(crate) fn plain_form(mut params: Value) -> Value {
    if let Some(params) = params.as_object_mut() {
        params.remove("mode");
    }
    let fields = params.pointer_mut("/requestedSchema/properties").and_then(Value::as_object_mut);
    let Some(fields) = fields else { return params };
    fields.retain(|_, field| field["type"] != "array");
    for field in fields.values_mut().filter_map(Value::as_object_mut) {
        if field.get("type").is_none_or(|of| of != "boolean") {
            field.remove("default");
        }
        if let Some(Value::Array(choices)) = field.remove("oneOf") {
            let all = |member: &str| choices.iter().map(|choice| choice[member].clone()).collect();
            field.insert("enum".to_owned(), all("const"));
            field.insert("enumNames".to_owned(), all("title"));
        }
    }
    params
}

/// An id for a page that a user is to open, which no client can guess (2025-11-25, client/elicitation).
pub(crate) fn elicitation_id() -> Result<String, getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(random)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputKind {
    /// `elicitation/create` with a form
    Form,
    /// `elicitation/create` with a URL
    Url,
    /// `sampling/createMessage`
    Sampling,
    /// `roots/list`
    Roots,
}

impl InputKind {
    pub(crate) const fn method(self) -> &'static str {
        match self {
            Self::Form | Self::Url => "elicitation/create",
            Self::Sampling => "sampling/createMessage",
            Self::Roots => "roots/list",
        }
    }

    pub(crate) const fn supported_by(self, capabilities: Capabilities) -> bool {
        match self {
            Self::Form => capabilities.elicitation,
            Self::Url => capabilities.elicitation_url,
            Self::Sampling => capabilities.sampling,
            Self::Roots => capabilities.roots,
        }
    }

    /// The capability that it needs, in the form of `requiredCapabilities`.
    pub(crate) fn required(self) -> Value {
        match self {
            Self::Form => json!({ "elicitation": { "form": {} } }),
            Self::Url => json!({ "elicitation": { "url": {} } }),
            Self::Sampling => json!({ "sampling": {} }),
            Self::Roots => json!({ "roots": {} }),
        }
    }
}

/// Questions, each under its key.
pub(crate) type Questions = Vec<(&'static str, InputRequest)>;

/// All capabilities that the client lacks for these questions, as one object (2026-07-28, basic, "_meta").
pub(crate) fn missing(questions: &Questions, capabilities: Capabilities) -> Option<Value> {
    let kinds = questions.iter().map(|(_, question)| question.kind);
    let mut lacking =
        kinds.filter(|kind| !kind.supported_by(capabilities)).map(InputKind::required);
    let first = lacking.next()?;
    Some(lacking.fold(first, |mut all, required| {
        merge(&mut all, required);
        all
    }))
}

/// Adds the members of an object to those of another, at every depth.
fn merge(all: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    for (name, value) in more {
        match all.get_mut(&name) {
            Some(known) => merge(known, value),
            None => all[name] = value,
        }
    }
}

/// Sends the questions of a background task to the client and returns the answers by key.
pub(crate) type Ask =
    Box<dyn Fn(Questions) -> BoxFuture<'static, BTreeMap<String, Value>> + Send + Sync>;

/// For calls that do not run as a task: returns no answers.
pub(crate) fn nobody() -> Ask {
    Box::new(|_| Box::pin(std::future::ready(BTreeMap::new())))
}
