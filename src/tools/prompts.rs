//! Prompts: messages with blanks to fill in.
//!
//! Owns the table of prompts, their arguments and the completion of these. Refuses a prompt whose
//! required arguments are missing.
//! Trap: a prompt may ask the client before it is complete, as a tool may; a list of prompts never.

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
        inputs::{InputKind, InputRequest, Inputs},
        jsonrpc::INVALID_PARAMS,
        model::{Content, Contents, PromptMessage, PromptResult},
        version::ProtocolVersion,
    },
};

/// The texts that fill a prompt's blanks.
pub type Blanks = BTreeMap<String, String>;

/// One prompt.
#[derive(Debug)]
pub struct Prompt {
    /// What a client calls it.
    pub name: &'static str,
    title: &'static str,
    description: &'static str,
    arguments: &'static [Argument],
    fill: fn(&Blanks, &Inputs) -> Outcome<Vec<PromptMessage>>,
}

/// A blank.
#[derive(Debug)]
pub struct Argument {
    name: &'static str,
    description: &'static str,
    required: bool,
    /// Values to propose.
    values: &'static [&'static str],
}

const PROMPTS: &[Prompt] = &[Prompt {
    name: "echo",
    title: "Echo",
    description: "Asks a model to call the echo tool with a message.",
    arguments: &[
        Argument {
            name: "message",
            description: "What to echo",
            required: true,
            values: &["hello"],
        },
        Argument {
            name: "format",
            description: "Form of the echo",
            required: false,
            values: &["plain", "json", "markdown"],
        },
    ],
    fill: |blanks, _| {
        let message = blanks.get("message").map_or("", String::as_str);
        let format = blanks.get("format").map_or("plain", String::as_str);
        let text = format!(
            "Call the tool echo with the message {message:?} and the format {format}, and show me its answer."
        );
        Outcome::Done(vec![PromptMessage::user(Content::text(text))])
    },
}];

const TEST_PROMPTS: &[Prompt] = &[
    Prompt {
        name: "test_simple_prompt",
        title: "Simple prompt",
        description: "A simple prompt for testing.",
        arguments: &[],
        fill: |_, _| {
            let text = "This is a simple prompt for testing.";
            Outcome::Done(vec![PromptMessage::user(Content::text(text))])
        },
    },
    Prompt {
        name: "test_prompt_with_arguments",
        title: "Prompt with arguments",
        description: "A prompt with two required arguments for testing.",
        arguments: &[
            Argument {
                name: "arg1",
                description: "First",
                required: true,
                values: &["test", "testing"],
            },
            Argument { name: "arg2", description: "Second", required: true, values: &["value"] },
        ],
        fill: |blanks, _| {
            let value = |name| blanks.get(name).map_or("", String::as_str);
            let text = format!(
                "Prompt with arguments: arg1='{}', arg2='{}'",
                value("arg1"),
                value("arg2")
            );
            Outcome::Done(vec![PromptMessage::user(Content::text(text))])
        },
    },
    Prompt {
        name: "test_prompt_with_embedded_resource",
        title: "Prompt with a resource",
        description: "A prompt that embeds a resource for testing.",
        arguments: &[Argument {
            name: "resourceUri",
            description: "URI of the resource",
            required: true,
            values: &["test://example-resource"],
        }],
        fill: |blanks, _| {
            let uri = blanks.get("resourceUri").map_or("", String::as_str);
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
        fill: |_, inputs| match inputs.filled("user_context", "context") {
            Some(context) => {
                let text = format!("Use this context: {context}");
                Outcome::Done(vec![PromptMessage::user(Content::text(text))])
            }
            None => Outcome::NeedInput {
                requests: vec![(
                    "user_context",
                    InputRequest {
                        kind: InputKind::Form,
                        params: json!({
                            "mode": "form",
                            "message": "What context should the prompt use?",
                            "requestedSchema": {
                                "type": "object",
                                "properties": { "context": { "type": "string" } },
                                "required": ["context"],
                            },
                        }),
                    },
                )],
                state: None,
            },
        },
    },
];

/// The prompts of a set.
pub const fn of_set(set: ToolSet) -> &'static [Prompt] {
    match set {
        ToolSet::Session => PROMPTS,
        ToolSet::Conformance => TEST_PROMPTS,
        ToolSet::Diagnostics | ToolSet::Streaming => &[],
    }
}

fn refused<T>(message: String) -> Outcome<T> {
    Outcome::Failed(Failure::Refused { code: INVALID_PARAMS, message })
}

impl Prompt {
    /// As `prompts/list` shows it.
    pub fn describe(&self, version: ProtocolVersion) -> Value {
        let arguments: Vec<_> = self
            .arguments
            .iter()
            .map(|Argument { name, description, required, values: _ }| {
                json!({ "name": name, "description": description, "required": required })
            })
            .collect();
        let about =
            json!({ "name": self.name, "description": self.description, "arguments": arguments });
        titled(about, self.title, version)
    }

    /// Fills the prompt in.
    pub fn get(&self, blanks: &Blanks, inputs: &Inputs) -> Outcome<PromptResult> {
        let missing =
            self.arguments.iter().find(|known| known.required && !blanks.contains_key(known.name));
        if let Some(missing) = missing {
            return refused(format!("{}: the argument {:?} is required", self.name, missing.name));
        }
        let known = |name: &String| self.arguments.iter().any(|known| known.name == name);
        if let Some(unknown) = blanks.keys().find(|name| !known(name)) {
            return refused(format!("{}: there is no argument {unknown:?}", self.name));
        }
        match (self.fill)(blanks, inputs) {
            Outcome::Done(messages) => {
                Outcome::Done(PromptResult { description: self.description, messages })
            }
            Outcome::NeedInput { requests, state } => Outcome::NeedInput { requests, state },
            Outcome::Failed(failure) => Outcome::Failed(failure),
        }
    }

    /// Proposes values for an argument; `None` if there is no such argument.
    pub fn complete(&self, argument: &str) -> Option<Vec<String>> {
        let argument = self.arguments.iter().find(|known| known.name == argument)?;
        Some(argument.values.iter().map(|value| (*value).to_owned()).collect())
    }
}
