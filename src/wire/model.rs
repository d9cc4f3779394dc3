//! The wire structs that are read or written, and no others.
//!
//! Owns the `params` this server looks into and the results it composes. Refuses to mirror the whole
//! schema: what nobody reads is skipped by serde, what never changes is prepared by `mcp::catalogue`.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::json::{self, Raw};

/// The `_meta` member by which a request names its revision.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The `_meta` member that tags what a subscription delivers.
pub const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
/// The `_meta` member by which a result names the server.
pub const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";
/// The identifier of the tasks extension.
pub const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// The part of `params` that every method that asks its client may have.
#[derive(Debug, Default, Deserialize)]
pub struct Common {
    /// What the client answers to an `input_required` result.
    #[serde(default, rename = "inputResponses")]
    pub input_responses: Option<Value>,
    /// What came with that result.
    #[serde(default, rename = "requestState")]
    pub request_state: Option<Value>,
}

/// What a client can do, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `sampling`
    pub sampling: bool,
    /// `elicitation`, by form
    pub elicitation: bool,
    /// `elicitation.url`
    pub elicitation_url: bool,
    /// `roots`
    pub roots: bool,
    /// `extensions["io.modelcontextprotocol/tasks"]`
    pub tasks: bool,
}

impl Capabilities {
    /// Reads a `ClientCapabilities` object; `None` if it is no object.
    pub fn read(value: &Value) -> Option<Self> {
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
pub struct InitializeParams<'a> {
    /// The newest version the client speaks.
    #[serde(borrow, rename = "protocolVersion")]
    pub protocol_version: Cow<'a, str>,
    /// What the client can do.
    #[serde(default)]
    pub capabilities: Option<Value>,
    /// Who the client is.
    #[serde(borrow, default, rename = "clientInfo")]
    pub client_info: Option<Nested<Implementation<'a>>>,
}

/// A JSON object, still unread. (serde would read a struct from an array as well.)
#[derive(Clone, Copy, Debug)]
pub struct Object<'a>(pub Raw<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Raw::deserialize(deserializer)?;
        match raw.is_object() {
            true => Ok(Self(raw)),
            false => Err(serde::de::Error::custom("expected an object")),
        }
    }
}

/// A part that must be an object, read as `T`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nested<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Nested<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(raw) = Object::deserialize(deserializer)?;
        serde_json::from_str(raw.get()).map(Self).map_err(serde::de::Error::custom)
    }
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

/// `params` of `tools/call` and `prompts/get`.
#[derive(Debug, Deserialize)]
pub struct NamedParams<'a> {
    /// Which tool or prompt.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Its arguments.
    #[serde(borrow, default)]
    pub arguments: Option<Object<'a>>,
}

/// `params` of `resources/read`, `resources/subscribe` and `resources/unsubscribe`.
#[derive(Debug, Deserialize)]
pub struct UriParams<'a> {
    /// Which resource.
    #[serde(borrow)]
    pub uri: Cow<'a, str>,
}

/// `params` of `logging/setLevel`.
#[derive(Debug, Deserialize)]
pub struct LevelParams {
    /// The least severe message wanted.
    pub level: LogLevel,
}

/// `params` of `tasks/*`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskParams<'a> {
    /// Which task.
    #[serde(borrow)]
    pub task_id: Cow<'a, str>,
}

/// `params` of a list request.
#[derive(Debug, Default, Deserialize)]
pub struct ListParams<'a> {
    /// Where the last page ended.
    #[serde(borrow, default)]
    pub cursor: Option<Cow<'a, str>>,
}

/// `params` of `completion/complete`.
#[derive(Debug, Deserialize)]
pub struct CompleteParams<'a> {
    /// What is being filled in.
    #[serde(borrow, rename = "ref")]
    pub reference: Nested<Reference<'a>>,
    /// The argument that is being typed.
    #[serde(borrow)]
    pub argument: Nested<CompleteArgument<'a>>,
    /// Arguments that are filled in already (2025-06-18).
    #[serde(default)]
    pub context: Option<Nested<CompleteContext>>,
}

/// A prompt or a resource template.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub enum Reference<'a> {
    /// A prompt by name.
    #[serde(rename = "ref/prompt")]
    Prompt {
        /// Its name.
        #[serde(borrow)]
        name: Cow<'a, str>,
    },
    /// A resource template by URI.
    #[serde(rename = "ref/resource")]
    Resource {
        /// Its URI template.
        #[serde(borrow)]
        uri: Cow<'a, str>,
    },
}

/// The argument that is being typed.
#[derive(Debug, Deserialize)]
pub struct CompleteArgument<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// What has been typed.
    #[serde(borrow)]
    pub value: Cow<'a, str>,
}

/// Arguments that are filled in already.
#[derive(Debug, Default, Deserialize)]
pub struct CompleteContext {
    /// By name.
    #[serde(default)]
    pub arguments: BTreeMap<String, String>,
}

/// `params` of `notifications/cancelled`.
#[derive(Debug, Deserialize)]
pub struct CancelledParams<'a> {
    /// The request that is no longer wanted.
    #[serde(borrow, rename = "requestId")]
    pub request_id: Raw<'a>,
}

/// `params.notifications` of `subscriptions/listen`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// `notifications/tools/list_changed`
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tools_list_changed: bool,
    /// `notifications/prompts/list_changed`
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prompts_list_changed: bool,
    /// `notifications/resources/list_changed`
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resources_list_changed: bool,
    /// `notifications/resources/updated` for these
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_subscriptions: Vec<String>,
    /// `notifications/tasks` for these (tasks extension)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_ids: Vec<String>,
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
    /// For people and models.
    pub content: Vec<Content>,
    /// For programs; fits the tool's output schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Json>,
    /// Whether the tool failed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

/// A value that is JSON text already.
#[derive(Clone, Debug)]
pub struct Json(Vec<u8>);

impl Json {
    /// Any value as JSON text.
    pub fn of(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(Self)
    }

    /// Text that is known to be JSON.
    pub fn composed(text: impl Into<Vec<u8>>) -> Self {
        Self(text.into())
    }

    /// Its length. Bytes.
    #[expect(clippy::len_without_is_empty, reason = "no JSON text is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The text.
    pub fn get(&self) -> &str {
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
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    if json::is_plain(text) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // A string always serialises, and a vector always takes it.
        let _ = serde_json::to_writer(out, text);
    }
}

/// One item of a result or a prompt.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Content {
    /// Plain text.
    Text {
        /// The text.
        text: String,
    },
    /// A picture.
    Image {
        /// Base64.
        data: &'static str,
        /// Its media type.
        #[serde(rename = "mimeType")]
        mime_type: &'static str,
    },
    /// A sound.
    Audio {
        /// Base64.
        data: &'static str,
        /// Its media type.
        #[serde(rename = "mimeType")]
        mime_type: &'static str,
    },
    /// A resource with its contents.
    Resource {
        /// The contents.
        resource: Contents,
    },
}

/// The contents of a resource (schema `TextResourceContents`, `BlobResourceContents`).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// Which resource.
    pub uri: String,
    /// Its media type.
    pub mime_type: &'static str,
    /// If it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// If it is not: base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob: Option<&'static str>,
}

impl Contents {
    /// Text.
    pub fn text(uri: &str, mime_type: &'static str, text: String) -> Self {
        Self { uri: uri.to_owned(), mime_type, text: Some(text), blob: None }
    }

    /// Bytes, in base64.
    pub fn blob(uri: &str, mime_type: &'static str, blob: &'static str) -> Self {
        Self { uri: uri.to_owned(), mime_type, text: None, blob: Some(blob) }
    }
}

/// The result of `prompts/get`.
#[derive(Clone, Debug, Serialize)]
pub struct PromptResult {
    /// What the prompt is for.
    pub description: &'static str,
    /// The messages, filled in.
    pub messages: Vec<PromptMessage>,
}

/// One message of a prompt.
#[derive(Clone, Debug, Serialize)]
pub struct PromptMessage {
    /// Whose message: `user` or `assistant`.
    pub role: &'static str,
    /// What it says.
    pub content: Content,
}

impl PromptMessage {
    /// A message of the user.
    pub fn user(content: Content) -> Self {
        Self { role: "user", content }
    }
}

impl Content {
    /// Plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }
}

impl ToolResult {
    /// Appends what serde would write between the braces. Every call writes one, so the usual parts are
    /// put there as they are.
    pub fn write_members(&self, out: &mut Vec<u8>) {
        let Self { content, structured_content, is_error } = self;
        let texts = content.iter().map(|item| match item {
            Content::Text { text } => text.len(),
            Content::Image { .. } | Content::Audio { .. } | Content::Resource { .. } => 0,
        });
        // A large answer is not to be moved as it grows.
        out.reserve(texts.sum::<usize>() + structured_content.as_ref().map_or(0, Json::len) + 128);
        out.extend_from_slice(b"\"content\":[");
        for (position, item) in content.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            match item {
                Content::Text { text } => {
                    out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
                    write_string(out, text);
                    out.push(b'}');
                }
                Content::Image { .. } | Content::Audio { .. } | Content::Resource { .. } => {
                    // They are made of strings.
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

    /// A result of text and structure.
    pub fn new(text: String, structured: Json) -> Self {
        Self { structured_content: Some(structured), ..Self::text(text) }
    }

    /// A result of text alone.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of(vec![Content::text(text)])
    }

    /// A result of these items.
    pub fn of(content: Vec<Content>) -> Self {
        Self { content, structured_content: None, is_error: false }
    }

    /// A result whose text is its structure as JSON.
    pub fn json(structured: &impl Serialize) -> Self {
        match Json::of(structured) {
            Ok(json) => Self::new(json.get().to_owned(), json),
            Err(error) => Self::error(error.to_string()),
        }
    }

    /// A result for people first: the structure as indented JSON.
    pub fn readable(structured: &impl Serialize) -> Self {
        match serde_json::to_string_pretty(structured) {
            Ok(text) => Self { content: vec![Content::text(text)], ..Self::json(structured) },
            Err(error) => Self::error(error.to_string()),
        }
    }

    /// The result for a revision without audio: a text stands for each sound.
    pub fn without_audio(mut self) -> Self {
        for item in &mut self.content {
            if let Content::Audio { mime_type, .. } = item {
                *item = Content::text(format!("[{mime_type}: this revision has no audio content]"));
            }
        }
        self
    }

    /// A failure that the caller can do something about.
    pub fn error(text: impl Into<String>) -> Self {
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
            let mut content: Vec<_> = texts.iter().map(Content::text).collect();
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
