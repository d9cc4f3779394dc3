//! Prompts: message templates with arguments.
//!
//! Owns the table of prompts, and the completion of their arguments.
//! Trap: a prompt may ask the client for input before it is complete, as a tool may. `prompts/list` never asks.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    call::Outcome,
    resources::{PNG, is_plain_uri, titled},
};
use crate::{
    config::ToolSet,
    failure::Failure,
    wire::{
        Content, Contents, INVALID_PARAMS, InputRequest, Inputs, PromptMessage, PromptResult,
        ProtocolVersion, Text,
    },
};

/// The arguments of `prompts/get`.
pub(crate) type Values = BTreeMap<String, String>;

#[derive(Debug)]
pub(crate) struct Prompt {
    pub(crate) name: &'static str,
    title: &'static str,
    description: &'static str,
    arguments: &'static [Argument],
    fill: fn(&Values, &Inputs) -> Outcome<Vec<PromptMessage>>,
}

#[derive(Debug)]
struct Argument {
    name: &'static str,
    description: &'static str,
    required: bool,
    /// What `completion/complete` proposes.
    values: &'static [&'static str],
    /// Whether it takes nothing else.
    closed: bool,
}

const fn required(
    name: &'static str,
    description: &'static str,
    values: &'static [&'static str],
) -> Argument {
    Argument { name, description, required: true, values, closed: false }
}

const PROMPTS: &[Prompt] = &[Prompt {
    name: "echo",
    title: "Echo",
    description: "Asks a model to call the echo tool with a message.",
    arguments: &[
        required("message", "What to echo", &["hello"]),
        Argument {
            name: "format",
            description: "Form of the echo",
            required: false,
            values: &["plain", "json", "markdown"],
            closed: true,
        },
    ],
    fill: |values, _| {
        let message = values.get("message").map_or("", String::as_str);
        let format = values.get("format").map_or("plain", String::as_str);
        text(format!(
            "Call the tool echo with the message {message:?} and the format {format}, and show me its answer."
        ))
    },
}];

const TEST_PROMPTS: &[Prompt] = &[
    Prompt {
        name: "test_simple_prompt",
        title: "Simple prompt",
        description: "A simple prompt for testing.",
        arguments: &[],
        fill: |_, _| text("This is a simple prompt for testing."),
    },
    Prompt {
        name: "test_prompt_with_arguments",
        title: "Prompt with arguments",
        description: "A prompt with two required arguments for testing.",
        arguments: &[
            required("arg1", "First", &["test", "testing"]),
            required("arg2", "Second", &["value"]),
        ],
        fill: |values, _| {
            let value = |name| values.get(name).map_or("", String::as_str);
            let (first, second) = (value("arg1"), value("arg2"));
            text(format!("Prompt with arguments: arg1='{first}', arg2='{second}'"))
        },
    },
    Prompt {
        name: "test_prompt_with_embedded_resource",
        title: "Prompt with a resource",
        description: "A prompt that embeds a resource for testing.",
        arguments: &[required("resourceUri", "URI of the resource", &["test://example-resource"])],
        fill: |values, _| {
            let uri = values.get("resourceUri").map_or("", String::as_str);
            if !is_plain_uri(uri) {
                let message = "the argument \"resourceUri\" must be a URI, such as test://example";
                return refused(message.to_owned());
            }
            let text = "Embedded resource content for testing.".to_owned();
            Outcome::Done(vec![
                PromptMessage::user(Content::Resource {
                    resource: Contents::text(uri, "text/plain", text),
                }),
                PromptMessage::user(Content::text("Please process the embedded resource above.")),
            ])
        },
    },
    Prompt {
        name: "test_prompt_with_image",
        title: "Prompt with a picture",
        description: "A prompt with a picture for testing.",
        arguments: &[],
        fill: |_, _| {
            Outcome::Done(vec![
                PromptMessage::user(Content::Image { data: PNG, mime_type: "image/png" }),
                PromptMessage::user(Content::text("Please analyze the image above.")),
            ])
        },
    },
    Prompt {
        name: "test_input_required_result_prompt",
        title: "Prompt that asks",
        description: "A prompt that asks its user for context before it is complete.",
        arguments: &[],
        fill: |_, inputs| {
            let question = user_context();
            match inputs.answer("user_context", &question) {
                Err(problem) => Outcome::Failed(Failure::unfit("user_context", &problem)),
                Ok(_) => match inputs.filled("user_context", "context") {
                    Some(context) => text(format!("Use this context: {context}")),
                    None => Outcome::NeedInput {
                        requests: vec![("user_context", question)],
                        state: None,
                    },
                },
            }
        },
    },
];

pub(crate) const fn of_set(set: ToolSet) -> &'static [Prompt] {
    match set {
        ToolSet::Session => PROMPTS,
        ToolSet::Conformance => TEST_PROMPTS,
        ToolSet::Diagnostics | ToolSet::Streaming => &[],
    }
}

fn user_context() -> InputRequest {
    let schema = json!({
        "type": "object",
        "properties": { "context": { "type": "string" } },
        "required": ["context"],
    });
    InputRequest::form("What context should the prompt use?", schema)
}

/// A prompt of one message.
fn text(text: impl Into<Text>) -> Outcome<Vec<PromptMessage>> {
    Outcome::Done(vec![PromptMessage::user(Content::text(text))])
}

fn refused<T>(message: String) -> Outcome<T> {
    Outcome::Failed(Failure::Refused { code: INVALID_PARAMS, message })
}

impl Prompt {
    /// As `prompts/list` shows it.
    pub(crate) fn describe(&self, version: ProtocolVersion) -> Value {
        let arguments: Vec<_> = self
            .arguments
            .iter()
            .map(|Argument { name, description, required, values: _, closed: _ }| {
                json!({ "name": name, "description": description, "required": required })
            })
            .collect();
        let about =
            json!({ "name": self.name, "description": self.description, "arguments": arguments });
        titled(about, self.title, version)
    }

    pub(crate) fn get(&self, values: &Values, inputs: &Inputs) -> Outcome<PromptResult> {
        let missing =
            self.arguments.iter().find(|known| known.required && !values.contains_key(known.name));
        if let Some(missing) = missing {
            return refused(format!("{}: the argument {:?} is required", self.name, missing.name));
        }
        let known = |name: &String| self.arguments.iter().any(|known| known.name == name);
        if let Some(unknown) = values.keys().find(|name| !known(name)) {
            return refused(format!("{}: there is no argument {unknown:?}", self.name));
        }
        let misfit = |known: &&Argument| {
            let value = values.get(known.name).filter(|_| known.closed);
            value.is_some_and(|value| !known.values.contains(&value.as_str()))
        };
        if let Some(Argument { name, values, .. }) = self.arguments.iter().find(misfit) {
            let all = values.join(", ");
            return refused(format!("{}: the argument {name:?} must be one of {all}", self.name));
        }
        match (self.fill)(values, inputs) {
            Outcome::Done(messages) => {
                Outcome::Done(PromptResult { description: self.description, messages })
            }
            Outcome::NeedInput { requests, state } => Outcome::NeedInput { requests, state },
            Outcome::Failed(failure) => Outcome::Failed(failure),
        }
    }

    /// Proposes values for an argument; `None` if there is no such argument.
    pub(crate) fn complete(&self, argument: &str) -> Option<Vec<String>> {
        let argument = self.arguments.iter().find(|known| known.name == argument)?;
        Some(argument.values.iter().map(|value| (*value).to_owned()).collect())
    }
}
