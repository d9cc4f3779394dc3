//! Serde structs for the `params` that this server reads and the results that it writes.
//!
//! Owns no more than these: serde skips members that nobody reads, and results that never change are prepared by
//! `mcp::catalogue`.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use smallvec::{SmallVec, smallvec};

use super::{
    json::{self, Raw},
    jsonrpc::Id,
    text::Text,
};

/// The `_meta` member by which a request names its revision.
pub(crate) const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub(crate) const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";
pub(crate) const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// The members of `params` that answer an `input_required` result.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Common {
    #[serde(default, rename = "inputResponses")]
    pub(crate) input_responses: Option<Value>,
    #[serde(default, rename = "requestState")]
    pub(crate) request_state: Option<Value>,
}

/// The client capabilities that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `sampling`
    pub(crate) sampling: bool,
    /// `elicitation`, by form
    pub(crate) elicitation: bool,
    /// `elicitation.url`
    pub(crate) elicitation_url: bool,
    /// `roots`
    pub(crate) roots: bool,
    /// `extensions["io.modelcontextprotocol/tasks"]`
    pub(crate) tasks: bool,
}

impl Capabilities {
    /// Reads a `ClientCapabilities` object; `None` if it is no object.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        let object = value.as_object()?;
        let elicitation = object.get("elicitation").and_then(Value::as_object);
        Some(Self {
            sampling: object.get("sampling").is_some_and(Value::is_object),
            // An empty object means form mode (2025-11-25, client/elicitation, "Capabilities").
            elicitation: elicitation
                .is_some_and(|modes| modes.is_empty() || modes.contains_key("form")),
            elicitation_url: elicitation.is_some_and(|modes| modes.contains_key("url")),
            roots: object.get("roots").is_some_and(Value::is_object),
            tasks: object
                .get("extensions")
                .and_then(|extensions| extensions.get(TASKS_EXTENSION))
                .is_some_and(Value::is_object),
        })
    }
}

/// `params` of `initialize` (schema `InitializeRequestParams`).
#[derive(Debug, Deserialize)]
pub(crate) struct InitializeParams<'a> {
    #[serde(borrow, rename = "protocolVersion")]
    pub(crate) protocol_version: Cow<'a, str>,
    #[serde(default)]
    pub(crate) capabilities: Option<Value>,
    #[serde(borrow, default, rename = "clientInfo")]
    pub(crate) client_info: Option<Nested<Implementation<'a>>>,
}

/// A JSON object, not parsed yet. (serde would read a struct from an array as well.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a>(pub(crate) Raw<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Raw::deserialize(deserializer)?;
        match raw.is_object() {
            true => Ok(Self(raw)),
            false => Err(serde::de::Error::custom("expected an object")),
        }
    }
}

/// A `T` that must be a JSON object.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Nested<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Nested<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(raw) = Object::deserialize(deserializer)?;
        serde_json::from_str(raw.get()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// `clientInfo`, as far as it is read.
#[derive(Debug, Deserialize)]
pub(crate) struct Implementation<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) version: Cow<'a, str>,
}

/// `params` of `tools/call` and `prompts/get`.
#[derive(Debug, Deserialize)]
pub(crate) struct NamedParams<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) arguments: Option<Object<'a>>,
}

/// `params` of `resources/read`, `resources/subscribe` and `resources/unsubscribe`.
#[derive(Debug, Deserialize)]
pub(crate) struct UriParams<'a> {
    #[serde(borrow)]
    pub(crate) uri: Cow<'a, str>,
}

/// `params` of `logging/setLevel`.
#[derive(Debug, Deserialize)]
pub(crate) struct LevelParams {
    pub(crate) level: LogLevel,
}

/// `params` of `tasks/*`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskParams<'a> {
    #[serde(borrow)]
    pub(crate) task_id: Cow<'a, str>,
}

/// `params` of a list request.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ListParams<'a> {
    #[serde(borrow, default)]
    pub(crate) cursor: Option<Cow<'a, str>>,
}

/// `params` of `completion/complete`.
#[derive(Debug, Deserialize)]
pub(crate) struct CompleteParams<'a> {
    #[serde(borrow, rename = "ref")]
    pub(crate) reference: Nested<Reference<'a>>,
    #[serde(borrow)]
    pub(crate) argument: Nested<CompleteArgument<'a>>,
    #[serde(default)]
    pub(crate) context: Option<Nested<CompleteContext>>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Reference<'a> {
    #[serde(rename = "ref/prompt")]
    Prompt {
        #[serde(borrow)]
        name: Cow<'a, str>,
    },
    #[serde(rename = "ref/resource")]
    Resource {
        #[serde(borrow)]
        uri: Cow<'a, str>,
    },
}

#[derive(Debug, Deserialize)]
pub(crate) struct CompleteArgument<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) value: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct CompleteContext {
    #[serde(default)]
    pub(crate) arguments: BTreeMap<String, String>,
}

/// `params` of `notifications/cancelled`.
#[derive(Debug, Deserialize)]
pub(crate) struct CancelledParams<'a> {
    #[serde(borrow, rename = "requestId")]
    pub(crate) request_id: Raw<'a>,
    #[serde(borrow, default)]
    pub(crate) reason: Option<Raw<'a>>,
}

/// `params.notifications` of `subscriptions/listen`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// `notifications/tools/list_changed`
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) tools_list_changed: bool,
    /// `notifications/prompts/list_changed`
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) prompts_list_changed: bool,
    /// `notifications/resources/list_changed`
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) resources_list_changed: bool,
    /// `notifications/resources/updated` for these
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_subscriptions: Vec<String>,
    /// `notifications/tasks` for these (tasks extension)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) task_ids: Vec<String>,
}

/// Members of a message of a subscription, whose `_meta` names it, digit for digit.
#[derive(Serialize)]
pub(crate) struct Tagged<'a> {
    #[serde(rename = "_meta")]
    meta: TaggedMeta<'a>,
    #[serde(flatten)]
    members: &'a Value,
}

#[derive(Serialize)]
struct TaggedMeta<'a> {
    #[serde(rename = "io.modelcontextprotocol/subscriptionId")]
    id: Id<'a>,
    #[serde(flatten)]
    beside: Option<&'a Value>,
}

impl<'a> Tagged<'a> {
    /// `members` must be an object.
    pub(crate) fn new(id: Id<'a>, members: &'a Value) -> Self {
        Self { meta: TaggedMeta { id, beside: None }, members }
    }

    /// The same with more in `_meta`.
    pub(crate) fn beside(mut self, meta: &'a Value) -> Self {
        self.meta.beside = Some(meta);
        self
    }
}

/// Severity of a log message (RFC 5424), least severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Detail.
    Debug,
    /// Progress of an operation.
    Info,
    /// Normal but significant.
    Notice,
    /// A warning.
    Warning,
    /// A failed operation.
    Error,
    /// A failed component.
    Critical,
    /// Act at once.
    Alert,
    /// Nothing works.
    Emergency,
}

/// The result of a tool (schema `CallToolResult`).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolResult {
    pub(crate) content: SmallVec<[Content; 1]>,
    /// For programs; fits the tool's output schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) structured_content: Option<Json>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_error: bool,
}

/// A value that is JSON text already.
#[derive(Clone, Debug)]
pub(crate) struct Json(Vec<u8>);

impl Json {
    pub(crate) fn of(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(Self)
    }

    /// `text` must be valid JSON.
    pub(crate) fn composed(text: impl Into<Vec<u8>>) -> Self {
        Self(text.into())
    }

    /// Its length. Bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Appends a text as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    if json::is_plain(text) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // A string always serialises, and a vector always takes it.
        let _ = serde_json::to_writer(out, text);
    }
}

/// The longest structure that is shown indented as well. Bytes.
const MAX_INDENTED: usize = 16 * 1024;

/// One item of a result or a prompt. `data` is base64.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Content {
    Text {
        text: Text,
    },
    Image {
        data: &'static str,
        #[serde(rename = "mimeType")]
        mime_type: &'static str,
    },
    Audio {
        data: &'static str,
        #[serde(rename = "mimeType")]
        mime_type: &'static str,
    },
    Resource {
        resource: Contents,
    },
}

/// The contents of a resource (schema `TextResourceContents`, `BlobResourceContents`).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    pub(crate) uri: String,
    pub(crate) mime_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blob: Option<&'static str>,
}

impl Contents {
    pub(crate) fn text(uri: &str, mime_type: &'static str, text: String) -> Self {
        Self { uri: uri.to_owned(), mime_type, text: Some(text), blob: None }
    }

    pub(crate) fn blob(uri: &str, mime_type: &'static str, blob: &'static str) -> Self {
        Self { uri: uri.to_owned(), mime_type, text: None, blob: Some(blob) }
    }
}

/// The result of `prompts/get`.
#[derive(Clone, Debug, Serialize)]
pub struct PromptResult {
    pub(crate) description: &'static str,
    pub(crate) messages: Vec<PromptMessage>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct PromptMessage {
    /// Whose message: `user` or `assistant`.
    pub(crate) role: &'static str,
    pub(crate) content: Content,
}

impl PromptMessage {
    pub(crate) fn user(content: Content) -> Self {
        Self { role: "user", content }
    }
}

impl Content {
    pub(crate) fn text(text: impl Into<Text>) -> Self {
        Self::Text { text: text.into() }
    }
}

impl ToolResult {
    /// Appends what serde would write between the braces. Every call writes a result, so text and structured
    /// content do not go through serde.
    pub(crate) fn write_members(&self, out: &mut Vec<u8>) {
        let Self { content, structured_content, is_error } = self;
        out.extend_from_slice(b"\"content\":[");
        for (position, item) in content.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            match item {
                Content::Text { text } => {
                    out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
                    write_string(out, text.as_str());
                    out.push(b'}');
                }
                Content::Image { .. } | Content::Audio { .. } | Content::Resource { .. } => {
                    // Strings always serialise.
                    let _ = serde_json::to_writer(&mut *out, item);
                }
            }
        }
        out.push(b']');
        if let Some(Json(text)) = structured_content {
            out.extend_from_slice(b",\"structuredContent\":");
            out.extend_from_slice(text);
        }
        if *is_error {
            out.extend_from_slice(b",\"isError\":true");
        }
    }

    pub(crate) fn new(text: impl Into<Text>, structured: Json) -> Self {
        Self { structured_content: Some(structured), ..Self::text(text) }
    }

    pub(crate) fn text(text: impl Into<Text>) -> Self {
        let content = smallvec![Content::text(text)];
        Self { content, structured_content: None, is_error: false }
    }

    pub(crate) fn of(content: impl IntoIterator<Item = Content>) -> Self {
        let content = content.into_iter().collect();
        Self { content, structured_content: None, is_error: false }
    }

    /// A result whose text is its structure as JSON.
    pub(crate) fn json(structured: &impl Serialize) -> Self {
        match Json::of(structured) {
            Ok(json) => Self::new(json.get().to_owned(), json),
            Err(error) => Self::error(error.to_string()),
        }
    }

    /// The same with indented JSON as its text, if there is little of it.
    pub(crate) fn readable(structured: &impl Serialize) -> Self {
        let result = Self::json(structured);
        // Indenting what is deep would make it many times as long.
        if result.structured_content.as_ref().is_none_or(|json| json.len() > MAX_INDENTED) {
            return result;
        }
        match serde_json::to_string_pretty(structured) {
            Ok(text) => Self { content: smallvec![Content::text(text)], ..result },
            Err(error) => Self::error(error.to_string()),
        }
    }

    /// How much [`write_members`](Self::write_members) appends: exactly, if the result is an answer of a single text that
    /// needs no escapes.
    pub(crate) fn written(&self) -> usize {
        let single = r#""content":[{"type":"text","text":""}],"structuredContent":"#.len();
        single + self.bytes() + if self.is_error { r#","isError":true"#.len() } else { 0 }
    }

    /// The length of all texts.
    fn text_bytes(&self) -> usize {
        let text = |item: &Content| match item {
            Content::Text { text } => text.as_str().len(),
            Content::Image { .. } | Content::Audio { .. } | Content::Resource { .. } => 0,
        };
        self.content.iter().map(text).sum()
    }

    fn structure_bytes(&self) -> usize {
        self.structured_content.as_ref().map_or(0, Json::len)
    }

    /// What its texts and its structure take.
    pub(crate) fn bytes(&self) -> usize {
        self.text_bytes() + self.structure_bytes()
    }

    /// This result, or an error if its text or its structure has more than so many bytes.
    pub(crate) fn within(self, most: u64) -> Self {
        let bytes = self.text_bytes().max(self.structure_bytes()) as u64;
        match bytes > most {
            false => self,
            true => Self::error(format!(
                "the answer would have {bytes} bytes, more than {most} (tools.max_response_bytes)"
            )),
        }
    }

    /// Replaces audio by text, for revisions that have no audio content.
    pub(crate) fn without_audio(mut self) -> Self {
        for item in &mut self.content {
            if let Content::Audio { mime_type, .. } = item {
                *item = Content::text(format!("[{mime_type}: this revision has no audio content]"));
            }
        }
        self
    }

    /// A failure that the caller can correct (`isError`).
    pub(crate) fn error(text: impl Into<Text>) -> Self {
        Self { is_error: true, ..Self::text(text) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn members_are_what_serde_writes(
            texts in proptest::collection::vec("(?s).{0,20}", 0..3), structured: bool, is_error: bool,
        ) {
            let mut content: SmallVec<_> = texts.iter().map(|text| Content::text(&**text)).collect();
            content.push(Content::Image { data: "AA==", mime_type: "image/png" });
            let json = Json::of(&texts).expect("serialises");
            let structured_content = structured.then_some(json);
            let result = ToolResult { content, structured_content, is_error };
            let mut written = vec![b'{'];
            result.write_members(&mut written);
            written.push(b'}');
            let expected = serde_json::to_string(&result).expect("serialises");
            prop_assert_eq!(String::from_utf8_lossy(&written), expected);
        }
    }
}
