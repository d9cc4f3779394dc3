//! Answers that are the same for every request: prepared once per version.
//!
//! Owns the results of `initialize` and `tools/list` as bytes, and the look-up of a tool by name. Refuses
//! to build any of it while serving.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};

use super::version::{Feature, ProtocolVersion};
use crate::{
    config::PolicyConfig,
    instance::Process,
    tools::{self, Tool},
};

/// What `initialize` tells a model about this server.
const INSTRUCTIONS: &str = "A stateful test server. echo sends a message back; set_session_data, get_session_data and get_session_info show that the session is kept; the other tools show what arrived.";

/// One instance's prepared answers and its tools.
#[derive(Debug)]
pub struct Catalogue {
    initialize: [Bytes; ProtocolVersion::ALL.len()],
    tools_list: [Bytes; ProtocolVersion::ALL.len()],
    tools: HashMap<&'static str, &'static Tool>,
}

impl Catalogue {
    /// Prepares everything for an instance of that policy.
    pub fn build(policy: &PolicyConfig, process: &Arc<Process>) -> Self {
        let enabled = tools::enabled(&policy.tools);
        let bytes = |value: Value| Bytes::from(value.to_string());
        Self {
            initialize: ProtocolVersion::ALL.map(|version| {
                let mut server = json!({
                    "name": process.server_name,
                    "version": process.server_version,
                });
                if version.has(Feature::Titles) {
                    server["title"] = "MCP echo, stateful".into();
                }
                bytes(json!({
                    "protocolVersion": version.as_str(),
                    "capabilities": { "tools": {} },
                    "serverInfo": server,
                    "instructions": INSTRUCTIONS,
                }))
            }),
            tools_list: ProtocolVersion::ALL.map(|version| {
                let tools: Vec<_> =
                    enabled.iter().map(|tool| tool.describe(version, &policy.tools)).collect();
                bytes(json!({ "tools": tools }))
            }),
            tools: enabled.into_iter().map(|tool| (tool.name, tool)).collect(),
        }
    }

    /// The result of `initialize`.
    pub fn initialize(&self, version: ProtocolVersion) -> &Bytes {
        &self.initialize[version.index()]
    }

    /// The result of `tools/list`: one page, in a fixed order.
    pub fn tools_list(&self, version: ProtocolVersion) -> &Bytes {
        &self.tools_list[version.index()]
    }

    /// The tool of that name.
    pub fn tool(&self, name: &str) -> Option<&'static Tool> {
        self.tools.get(name).copied()
    }
}
