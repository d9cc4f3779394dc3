//! Answers that are the same for every request, serialised once for each revision.
//!
//! Owns the results of `initialize`, `server/discover` and the lists as bytes, page by page, and the look-up of tools and
//! prompts by name. All of it is built when the instance is built.
//! Trap: a page must not change between two requests, or a cursor would skip or repeat entries.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::dispatch::invalid;
use crate::{
    config::PolicyConfig,
    failure::Failure,
    process::Process,
    tools::{self, Prompt, Tool, prompts, resources},
    wire::{Era, Feature, META_SERVER, ProtocolVersion, TASKS_EXTENSION, version},
};

const INSTRUCTIONS: &str = "A stateful test server. echo sends a message back; set_session_data, get_session_data and get_session_info show that the session is kept; where the protocol revision has no sessions, set_session_data and create_session return a handle to pass as \"session\"; the other tools show what arrived.";

/// `ttlMs` of a list, which changes only when an operator changes the configuration.
const LIST_TTL_MS: u64 = 300_000;

/// What can be listed.
#[derive(Clone, Copy)]
pub(super) enum List {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl List {
    const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }
}

/// One instance's prepared answers, its tools and its prompts.
#[derive(Debug)]
pub(super) struct Catalogue {
    initialize: Vec<Bytes>,
    discover: Bytes,
    /// Pages, by version and list.
    lists: Vec<[Vec<Bytes>; List::ALL.len()]>,
    /// `{"resultType":"complete","_meta":{…}`, without the closing brace.
    result_start: String,
    /// `name` and `version` of the server.
    server: Value,
    tools: Vec<&'static Tool>,
    prompts: Vec<&'static Prompt>,
}

impl Catalogue {
    pub(super) fn build(policy: &PolicyConfig, process: &Arc<Process>) -> Self {
        let sets = &policy.tools.sets;
        let tools = tools::enabled(&policy.tools);
        let prompts: Vec<_> = sets.iter().flat_map(|set| prompts::of_set(*set)).collect();
        let entries = |list: List, version: ProtocolVersion| -> Vec<Value> {
            match list {
                List::Tools => {
                    tools.iter().map(|tool| tool.describe(version, &policy.tools)).collect()
                }
                List::Prompts => prompts.iter().map(|prompt| prompt.describe(version)).collect(),
                List::Resources => {
                    let all = sets.iter().flat_map(|set| resources::of_set(*set));
                    all.map(|resource| resource.describe(version)).collect()
                }
                List::Templates => {
                    let all = sets.iter().flat_map(|set| resources::templates_of_set(*set));
                    all.map(|template| template.describe(version)).collect()
                }
            }
        };
        let server = json!({ "name": process.server_name, "version": process.server_version });
        let mut result_start =
            json!({ "resultType": "complete", "_meta": { META_SERVER: server } }).to_string();
        result_start.pop();
        let discover = json!({
            "supportedVersions": version::texts(&version::newest_first(&policy.protocol.versions)),
            "capabilities": capabilities(ProtocolVersion::V2026_07_28),
            "instructions": INSTRUCTIONS,
            "ttlMs": LIST_TTL_MS,
            "cacheScope": "public",
        });
        let lists = ProtocolVersion::ALL.map(|version| {
            List::ALL.map(|list| {
                let pages = pages(list, entries(list, version), policy.protocol.page_size, version);
                let finish = |page: Value| match version.era() {
                    Era::Sessioned => Bytes::from(page.to_string()),
                    Era::Stateless => complete(&result_start, page.to_string().as_bytes()),
                };
                pages.into_iter().map(finish).collect()
            })
        });
        Self {
            initialize: ProtocolVersion::ALL
                .map(|version| initialize(version, &server).to_string().into())
                .into(),
            discover: complete(&result_start, discover.to_string().as_bytes()),
            lists: lists.into(),
            result_start,
            server,
            tools,
            prompts,
        }
    }

    /// Whether a list is another one than there, in any revision or its pages.
    pub(super) fn differs(&self, other: &Self, list: List) -> bool {
        let mut lists = self.lists.iter().zip(&other.lists);
        lists.any(|(mine, theirs)| mine[list as usize] != theirs[list as usize])
    }

    /// The result of `initialize`.
    pub(super) fn initialize(&self, version: ProtocolVersion) -> &Bytes {
        &self.initialize[version.index()]
    }

    /// The result of `server/discover`.
    pub(super) fn discover(&self) -> &Bytes {
        &self.discover
    }

    /// A page of a list, in the form of that revision.
    pub(super) fn page(
        &self,
        list: List,
        version: ProtocolVersion,
        cursor: Option<&str>,
    ) -> Result<&Bytes, Failure> {
        let pages = &self.lists[version.index()][list as usize];
        let number = match cursor {
            None => Some(0),
            Some(cursor) => cursor.strip_prefix("page-").and_then(|number| number.parse().ok()),
        };
        match number.and_then(|number: usize| pages.get(number)) {
            Some(page) => Ok(page),
            None => invalid(format!(
                "there is no page at cursor {:?}; a cursor is the nextCursor of the page before",
                cursor.unwrap_or_default()
            )),
        }
    }

    /// How every complete result of the stateless era begins: `{"resultType":"complete","_meta":{…}`.
    pub(super) fn result_start(&self) -> &[u8] {
        self.result_start.as_bytes()
    }

    /// Adds `resultType` and `_meta` to a result, as the stateless era requires.
    pub(super) fn complete(&self, result: &[u8]) -> Bytes {
        complete(&self.result_start, result)
    }

    /// `_meta` of a result, with the server's name.
    pub(super) fn server_meta(&self) -> Value {
        json!({ META_SERVER: self.server })
    }

    pub(super) fn tool(&self, name: &str) -> Option<&'static Tool> {
        // There are a few dozen, and to hash the name takes longer than to go through them.
        self.tools.iter().find(|tool| tool.name == name).copied()
    }

    pub(super) fn prompt(&self, name: &str) -> Option<&'static Prompt> {
        self.prompts.iter().find(|prompt| prompt.name == name).copied()
    }
}

/// See [`Catalogue::complete`].
fn complete(start: &str, result: &[u8]) -> Bytes {
    let rest = result.strip_prefix(b"{").unwrap_or(result);
    let comma: &[u8] = if rest == b"}" { b"" } else { b"," };
    [start.as_bytes(), comma, rest].concat().into()
}

fn capabilities(version: ProtocolVersion) -> Value {
    let mut capabilities = json!({
        "tools": { "listChanged": true },
        "prompts": { "listChanged": true },
        "resources": { "subscribe": true },
        "logging": {},
    });
    if version.has(Feature::CompletionsCapability) {
        capabilities["completions"] = json!({});
    }
    if version.has(Feature::TasksExtension) {
        capabilities["extensions"] = json!({ TASKS_EXTENSION: {} });
    }
    capabilities
}

fn initialize(version: ProtocolVersion, server: &Value) -> Value {
    let mut server = server.clone();
    if version.has(Feature::Titles) {
        server["title"] = "MCP echo, stateful".into();
    }
    json!({
        "protocolVersion": version.as_str(),
        "capabilities": capabilities(version),
        "serverInfo": server,
        "instructions": INSTRUCTIONS,
    })
}

fn pages(list: List, entries: Vec<Value>, size: usize, version: ProtocolVersion) -> Vec<Value> {
    let count = entries.len().div_ceil(size).max(1);
    let mut entries = entries.into_iter();
    (1..=count)
        .map(|number| {
            let page: Vec<_> = entries.by_ref().take(size).collect();
            let mut result = json!({ list.member(): page });
            if number < count {
                result["nextCursor"] = format!("page-{number}").into();
            }
            if version.has(Feature::CacheHints) {
                result["ttlMs"] = LIST_TTL_MS.into();
                result["cacheScope"] = "public".into();
            }
            result
        })
        .collect()
}
