//! The wire structs that are read or written, and no others.
//!
//! Owns the `params` this server looks into and the results it composes. Refuses to mirror the whole
//! schema: what nobody reads is skipped by serde, what never changes is prepared by `mcp::catalogue`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `params` of `initialize` (schema `InitializeRequestParams`).
#[derive(Debug, Deserialize)]
pub struct InitializeParams<'a> {
    /// The newest version the client speaks.
    #[serde(borrow, rename = "protocolVersion")]
    pub protocol_version: Cow<'a, str>,
    /// Who the client is.
    #[serde(borrow, default, rename = "clientInfo")]
    pub client_info: Option<&'a RawValue>,
}

/// `clientInfo`, as far as it is read.
#[derive(Debug, Deserialize)]
pub struct Implementation<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Its version.
    #[serde(borrow, default)]
    pub version: Cow<'a, str>,
}

/// `params` of `tools/call` (schema `CallToolRequestParams`).
#[derive(Debug, Deserialize)]
pub struct CallToolParams<'a> {
    /// Which tool.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Its arguments, an object, still unread.
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
}

/// `params` of a list request.
#[derive(Debug, Default, Deserialize)]
pub struct ListParams<'a> {
    /// Where the last page ended.
    #[serde(borrow, default)]
    pub cursor: Option<Cow<'a, str>>,
}

/// `params` of `notifications/cancelled`.
#[derive(Debug, Deserialize)]
pub struct CancelledParams<'a> {
    /// The request that is no longer wanted.
    #[serde(borrow, rename = "requestId")]
    pub request_id: &'a RawValue,
}

/// The result of a tool (schema `CallToolResult`).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolResult {
    /// For people and models.
    pub content: Vec<Content>,
    /// For programs; fits the tool's output schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Box<RawValue>>,
    /// Whether the tool failed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

/// One item of a result.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Content {
    /// Plain text.
    Text {
        /// The text.
        text: String,
    },
}

impl ToolResult {
    /// A result of text and structure.
    pub fn new(text: String, structured: Box<RawValue>) -> Self {
        Self {
            content: vec![Content::Text { text }],
            structured_content: Some(structured),
            is_error: false,
        }
    }

    /// A result whose text is its structure as JSON.
    pub fn json(structured: &impl Serialize) -> Self {
        match serde_json::value::to_raw_value(structured) {
            Ok(raw) => Self::new(raw.get().to_owned(), raw),
            Err(error) => Self::error(error.to_string()),
        }
    }

    /// A result for people first: the structure as indented JSON.
    pub fn readable(structured: &impl Serialize) -> Self {
        match serde_json::to_string_pretty(structured) {
            Ok(text) => Self { content: vec![Content::Text { text }], ..Self::json(structured) },
            Err(error) => Self::error(error.to_string()),
        }
    }

    /// A failure that the caller can do something about.
    pub fn error(text: String) -> Self {
        Self { content: vec![Content::Text { text }], structured_content: None, is_error: true }
    }
}
