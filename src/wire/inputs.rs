//! Questions to the client and its answers, whatever the era.
//!
//! Owns [`InputRequest`], the kinds of question that MCP has with the capability each needs, and [`Inputs`], what has
//! been answered. Knows nothing of how a question travels.
//! Trap: an answer that is no object is no answer.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::model::Capabilities;

/// What the client has answered so far.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Its answers, by the key that was asked under.
    pub responses: BTreeMap<String, Value>,
    /// What was to be remembered from the last round.
    pub state: Option<Value>,
}

impl Inputs {
    /// The answer under that key, if it is an object as every answer must be.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.responses.get(key).filter(|answer| answer.is_object())
    }

    /// A text that the user filled into a form, if the form was accepted.
    pub fn filled(&self, key: &str, field: &str) -> Option<&str> {
        let answer = self.get(key)?;
        let accepted = answer.get("action").and_then(Value::as_str) == Some("accept");
        answer.get("content")?.get(field)?.as_str().filter(|_| accepted)
    }
}

/// A question to the client.
#[derive(Clone, Debug)]
pub struct InputRequest {
    /// What kind of question.
    pub kind: InputKind,
    /// Its `params`.
    pub params: Value,
}

impl InputRequest {
    /// The question as a result carries it.
    pub fn embedded(self) -> Value {
        let Self { kind, mut params } = self;
        if let Some(params) = params.as_object_mut() {
            // Only a request of its own needs it; here the outcome is learned by trying again.
            params.remove("elicitationId");
        }
        json!({ "method": kind.method(), "params": params })
    }
}

/// The kinds of question that MCP has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
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
    /// As it stands on the wire.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Form | Self::Url => "elicitation/create",
            Self::Sampling => "sampling/createMessage",
            Self::Roots => "roots/list",
        }
    }

    /// Whether a client can answer it.
    pub const fn supported_by(self, capabilities: Capabilities) -> bool {
        match self {
            Self::Form => capabilities.elicitation,
            Self::Url => capabilities.elicitation_url,
            Self::Sampling => capabilities.sampling,
            Self::Roots => capabilities.roots,
        }
    }

    /// The capability that it needs, as `requiredCapabilities` says it.
    pub fn required(self) -> Value {
        match self {
            Self::Form => json!({ "elicitation": {} }),
            Self::Url => json!({ "elicitation": { "url": {} } }),
            Self::Sampling => json!({ "sampling": {} }),
            Self::Roots => json!({ "roots": {} }),
        }
    }
}

/// Questions, each under its key.
pub type Questions = Vec<(&'static str, InputRequest)>;

/// The capability that the client lacks for one of these questions, if it lacks any.
pub fn missing(questions: &Questions, capabilities: Capabilities) -> Option<Value> {
    let unable = questions.iter().find(|(_, question)| !question.kind.supported_by(capabilities));
    unable.map(|(_, question)| question.kind.required())
}

/// A question that a background task puts to the client; its answers come by the keys asked under.
pub type Ask = Box<dyn Fn(Questions) -> BoxFuture<'static, BTreeMap<String, Value>> + Send + Sync>;

/// Asks nobody: for work that has no task to ask through.
pub fn nobody() -> Ask {
    Box::new(|_| Box::pin(std::future::ready(BTreeMap::new())))
}
