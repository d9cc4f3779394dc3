//! What clients can use: tools, resources and prompts, each a row in a table.
//!
//! Owns [`Tool`], a row with what `tools/list` says of it and what a call does, and the sets that configuration turns on.
//! The order of the rows is part of the interface, because clients cache lists.
//! Trap: a tool is documented in docs/reference.md as well; a test compares the two.

pub mod arguments;
pub(crate) mod call;
mod conformance;
mod diagnostics;
mod echo;
pub(crate) mod prompts;
mod redaction;
pub(crate) mod resources;
mod session;
mod streaming;

use serde_json::{Value, json};

pub(crate) use self::{
    arguments::{Arguments, BadArguments},
    call::{CallContext, ClientFacts, Operation, Outcome, Prepared, Step, TaskRun, Work},
    prompts::Prompt,
};
use crate::{
    config::{ToolSet, ToolsConfig},
    wire::{Feature, ProtocolVersion},
};

/// One tool.
#[derive(Debug)]
pub struct Tool {
    /// What clients call it.
    pub name: &'static str,
    title: &'static str,
    description: &'static str,
    /// JSON Schema of the arguments, which limits in configuration may be part of.
    input_schema: fn(&ToolsConfig) -> Value,
    /// JSON Schema of `structuredContent`, if there is any.
    output_schema: Option<fn() -> Value>,
    /// `readOnlyHint`: it leaves the session as it was.
    read_only: bool,
    /// `idempotentHint`: calling it again with the same arguments changes nothing more.
    idempotent: bool,
    /// Whether a completed call adds to the session's `request_count`.
    pub(crate) counted: bool,
    /// Whether it works on a session, and so takes a handle as an argument.
    pub(crate) stateful: bool,
    /// Whether it sends progress, log messages or questions before its result.
    pub(crate) streams: bool,
    /// Whether its result may be so large that a batch must not hold several.
    pub(crate) large: bool,
    /// Arguments that are mirrored into `Mcp-Param-*` headers, beside the handle, with the ends of the headers' names.
    mirrored: &'static [(&'static str, &'static str)],
    /// Reads the arguments. What it returns runs the tool.
    pub(crate) prepare: fn(&mut Arguments<'_>) -> Result<Prepared, BadArguments>,
}

const CREATE_SESSION: &str = "create_session";
const SET_SESSION_DATA: &str = "set_session_data";

/// The tools that return a new handle, one of them where it was given none.
pub(crate) const BEGIN_SESSIONS: [&str; 2] = [CREATE_SESSION, SET_SESSION_DATA];

/// The argument in which a stateful tool takes a handle, and the end of the name of the header that mirrors it.
pub const HANDLE: (&str, &str) = ("session", "Session");

/// What most tools have in common. A row says what is different, and always what the tool does.
const TOOL: Tool = Tool {
    name: "",
    title: "",
    description: "",
    input_schema: no_arguments,
    output_schema: None,
    read_only: true,
    idempotent: true,
    counted: true,
    stateful: false,
    streams: false,
    large: false,
    mirrored: &[],
    prepare: |arguments| Err(arguments.bad("the row says nothing".to_owned())),
};

/// The tools of a set, in the order of the list.
pub fn of_set(set: ToolSet) -> &'static [Tool] {
    match set {
        ToolSet::Session => session::TOOLS,
        ToolSet::Diagnostics => diagnostics::TOOLS,
        ToolSet::Streaming => streaming::TOOLS,
        ToolSet::Conformance => conformance::TOOLS,
    }
}

/// The tools that configuration turns on, in its order.
pub(crate) fn enabled(config: &ToolsConfig) -> Vec<&'static Tool> {
    config.sets.iter().flat_map(|set| of_set(*set)).collect()
}

impl Tool {
    /// All arguments that are mirrored into headers, with the ends of the headers' names.
    pub fn mirrored(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let handle = self.stateful.then_some(HANDLE);
        self.mirrored.iter().copied().chain(handle)
    }

    /// The tool as `tools/list` shows it to a client of that revision.
    pub fn describe(&self, version: ProtocolVersion, config: &ToolsConfig) -> Value {
        let mut schema = (self.input_schema)(config);
        if self.stateful {
            schema["properties"][HANDLE.0] = json!({
                "type": "string",
                "description": "Handle of the session to work on, as create_session or set_session_data returned it; without it, the session of the connection",
                "x-mcp-header": HANDLE.1,
            });
        }
        let mut tool =
            json!({ "name": self.name, "description": self.description, "inputSchema": schema });
        if version.has(Feature::Titles) {
            tool["title"] = self.title.into();
        }
        if let Some(output_schema) = self.output_schema
            && version.has(Feature::OutputSchema)
        {
            tool["outputSchema"] = output_schema();
        }
        if version.has(Feature::ToolAnnotations) {
            tool["annotations"] = json!({
                "title": self.title,
                "readOnlyHint": self.read_only,
                "destructiveHint": false,
                "idempotentHint": self.idempotent,
                "openWorldHint": false,
            });
        }
        tool
    }
}

fn no_arguments(_: &ToolsConfig) -> Value {
    input(json!({}), &[])
}

/// The schema of arguments, none but these.
fn input(properties: Value, required: &[&str]) -> Value {
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema["additionalProperties"] = false.into();
    schema
}

/// The schema of an object that always has all these members.
fn object(properties: Value) -> Value {
    let required: Vec<_> =
        properties.as_object().into_iter().flat_map(|all| all.keys().cloned()).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// The same schema, or null. Not as a list of types, which readers with one type a schema refuse.
fn nullable(mut schema: Value) -> Value {
    let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
    let mut either = json!({ "anyOf": [schema, { "type": "null" }] });
    if let Some(description) = description {
        either["description"] = description;
    }
    either
}

/// The same schema with members that may be missing.
fn with_optional(mut schema: Value, properties: Value) -> Value {
    if let (Value::Object(all), Value::Object(more)) = (&mut schema["properties"], properties) {
        all.extend(more);
    }
    schema
}

/// The schema of `minted_by` and `served_by`.
fn minted_by_schema(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "properties": {
            "instance": { "type": "integer", "minimum": 0, "maximum": 9 },
            "replica_tag": { "type": "string", "pattern": "^[0-9a-f]{2}$" },
            "boot": { "type": "string", "pattern": "^[0-9a-f]{3}$" },
            "replica": { "type": "string" },
        },
        "required": ["instance", "replica_tag", "boot"],
    })
}
