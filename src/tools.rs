//! The tool table.
//!
//! Owns [`Tool`] (one row: what `tools/list` says and what a call does) and the sets that configuration
//! turns on. Refuses tools that are not in a table. Rows keep their order, since clients cache lists.
//! Trap: a name in the documentation that has no row here, or the other way round; a test compares.

mod diagnostics;
mod session;

use serde_json::{Value, json};

use crate::{
    call::{Arguments, BadArguments, Prepared},
    config::{ToolSet, ToolsConfig},
    mcp::version::{Feature, ProtocolVersion},
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
    /// JSON Schema of `structuredContent`.
    pub output_schema: fn() -> Value,
    /// Whether it leaves the session as it was.
    pub read_only: bool,
    /// Whether a second equal call changes nothing more.
    pub idempotent: bool,
    /// Whether a completed call adds to the session's `request_count`.
    pub counted: bool,
    /// Reads the arguments; what it returns runs the tool.
    pub prepare: fn(&mut Arguments<'_>) -> Result<Prepared, BadArguments>,
}

/// The tools of a set, in the order of the list.
pub fn of_set(set: ToolSet) -> &'static [Tool] {
    match set {
        ToolSet::Session => session::TOOLS,
        ToolSet::Diagnostics => diagnostics::TOOLS,
    }
}

/// The tools that configuration turns on.
pub fn enabled(config: &ToolsConfig) -> Vec<&'static Tool> {
    [ToolSet::Session, ToolSet::Diagnostics]
        .into_iter()
        .filter(|set| config.sets.contains(set))
        .flat_map(of_set)
        .collect()
}

impl Tool {
    /// The tool as `tools/list` shows it to a client of that revision.
    pub fn describe(&self, version: ProtocolVersion, config: &ToolsConfig) -> Value {
        let mut tool = json!({
            "name": self.name,
            "description": self.description,
            "inputSchema": (self.input_schema)(config),
        });
        if version.has(Feature::Titles) {
            tool["title"] = self.title.into();
        }
        if version.has(Feature::OutputSchema) {
            tool["outputSchema"] = (self.output_schema)();
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
