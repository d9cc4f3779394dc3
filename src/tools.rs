//! The tool table.
//!
//! Owns [`Tool`] (one row: what `tools/list` says and what a call does) and the sets that configuration
//! turns on. Refuses tools that are not in a table. Rows keep their order, since clients cache lists.
//! Trap: a name in the documentation that has no row here, or the other way round; a test compares.

pub mod arguments;
pub mod call;
mod conformance;
mod diagnostics;
pub mod prompts;
pub mod resources;
mod session;
mod streaming;

use serde_json::{Value, json};

use self::{
    arguments::{Arguments, BadArguments},
    call::Prepared,
};
use crate::{
    config::{ToolSet, ToolsConfig},
    wire::version::{Feature, ProtocolVersion},
};

/// One tool.
#[derive(Debug)]
pub struct Tool {
    /// What a client calls it.
    pub name: &'static str,
    /// What a person reads.
    pub title: &'static str,
    /// What it does, in a sentence or two.
    pub description: &'static str,
    /// JSON Schema of the arguments.
    pub input_schema: fn(&ToolsConfig) -> Value,
    /// JSON Schema of `structuredContent`, if there is any.
    pub output_schema: Option<fn() -> Value>,
    /// Whether it leaves the session as it was.
    pub read_only: bool,
    /// Whether a second equal call changes nothing more.
    pub idempotent: bool,
    /// Whether a completed call adds to the session's `request_count`.
    pub counted: bool,
    /// Whether it works on a session: then it takes a handle as `session`.
    pub stateful: bool,
    /// Whether it says something before its result: progress, log messages, questions.
    pub streams: bool,
    /// Whether its answers may be so large that several at once are too much.
    pub large: bool,
    /// Arguments that are mirrored into `Mcp-Param-*` headers, beside `session`.
    pub mirrored: &'static [(&'static str, &'static str)],
    /// Reads the arguments; what it returns runs the tool.
    pub prepare: fn(&mut Arguments<'_>) -> Result<Prepared, BadArguments>,
}

/// The argument by which a stateful tool is given a handle, and the header that mirrors it.
pub const HANDLE: (&str, &str) = ("session", "Session");

/// What most tools are; a row says what is different, and always what it does.
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
pub fn enabled(config: &ToolsConfig) -> Vec<&'static Tool> {
    config.sets.iter().flat_map(|set| of_set(*set)).collect()
}

impl Tool {
    /// The arguments that are mirrored into headers, with the ends of the headers' names.
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
                "description": "Handle of the session to work on, as create_session returned it; without it, the session of the connection",
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

/// The schema of a tool without arguments.
fn no_arguments(_: &ToolsConfig) -> Value {
    json!({ "type": "object", "properties": {}, "additionalProperties": false })
}

/// The schema of an object whose members are all there.
fn object(properties: Value) -> Value {
    let required: Vec<_> =
        properties.as_object().into_iter().flat_map(|all| all.keys().cloned()).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// Where an id was minted, or where an answer comes from.
fn place_schema(description: &str) -> Value {
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
