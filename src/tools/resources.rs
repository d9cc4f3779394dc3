//! Resources: what can be read by URI.
//!
//! Owns the tables of resources and templates, reading, and the completion of template variables. A session's data can be
//! read by its owner only.
//! Traps: lists must not vary by session or caller (2026-07-28), so a session's data are a template. A key can be
//! percent-encoded in several ways; answers and notifications always use the [`canonical`] one.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::{
    config::ToolSet,
    id::Caller,
    session::{NotLoaded, Record, Unavailable, Want},
    tenant::Instance,
    wire::{Contents, Feature, ProtocolVersion, percent},
};

/// A resource that is always there.
pub(crate) struct Resource {
    uri: &'static str,
    name: &'static str,
    title: &'static str,
    description: &'static str,
    mime_type: &'static str,
    read: fn(&Instance, &str) -> Contents,
}

/// A template for the URIs of several resources.
pub(crate) struct Template {
    uri: &'static str,
    name: &'static str,
    title: &'static str,
    description: &'static str,
    mime_type: &'static str,
}

/// An image of one red pixel, in base64.
pub(super) const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";

const SESSION_DATA: &str = "session://{session}/data/{key}";
const TEST_TEMPLATE: &str = "test://template/{id}/data";

const RESOURCES: &[Resource] = &[
    Resource {
        uri: "echo://server",
        name: "server",
        title: "Server facts",
        description: "Which instance of which replica this is, since when it runs, and how long sessions live.",
        mime_type: "application/json",
        read: |instance, uri| {
            let process = &instance.process;
            let facts = json!({
                "name": process.server_name,
                "version": process.server_version,
                "instance": instance.id,
                "replica": process.replica,
                "replica_tag": process.tag.to_string(),
                "boot": process.boot.to_string(),
                "idle_timeout_seconds": instance.policy.config.session.timeout_seconds.get().as_secs_f64(),
            });
            Contents::text(uri, "application/json", facts.to_string())
        },
    },
    Resource {
        uri: "echo://pixel.png",
        name: "pixel",
        title: "One red pixel",
        description: "A binary resource, for clients that need one to test with.",
        mime_type: "image/png",
        read: |_, uri| Contents::blob(uri, "image/png", PNG),
    },
];

const TEMPLATES: &[Template] = &[Template {
    uri: SESSION_DATA,
    name: "session_data",
    title: "A value of a session",
    description: "What set_session_data stored under a key; {session} is a session id or handle of yours. Subscribe to it to be told when it changes.",
    mime_type: "application/json",
}];

const TEST_RESOURCES: &[Resource] = &[
    Resource {
        uri: "test://static-text",
        name: "static-text",
        title: "Static text",
        description: "A static text resource for testing.",
        mime_type: "text/plain",
        read: |_, uri| {
            let text = "This is the content of the static text resource.";
            Contents::text(uri, "text/plain", text.to_owned())
        },
    },
    Resource {
        uri: "test://static-binary",
        name: "static-binary",
        title: "Static bytes",
        description: "A static binary resource for testing.",
        mime_type: "image/png",
        read: |_, uri| Contents::blob(uri, "image/png", PNG),
    },
    Resource {
        uri: "test://watched-resource",
        name: "watched-resource",
        title: "Watched resource",
        description: "A resource to subscribe to; test_trigger_resource_update says that it changed.",
        mime_type: "text/plain",
        read: |_, uri| Contents::text(uri, "text/plain", "This resource is watched.".to_owned()),
    },
];

const TEST_TEMPLATES: &[Template] = &[Template {
    uri: TEST_TEMPLATE,
    name: "template",
    title: "Template",
    description: "A resource template for testing.",
    mime_type: "application/json",
}];

pub(crate) const fn of_set(set: ToolSet) -> &'static [Resource] {
    match set {
        ToolSet::Session => RESOURCES,
        ToolSet::Conformance => TEST_RESOURCES,
        ToolSet::Diagnostics | ToolSet::Streaming => &[],
    }
}

pub(crate) const fn templates_of_set(set: ToolSet) -> &'static [Template] {
    match set {
        ToolSet::Session => TEMPLATES,
        ToolSet::Conformance => TEST_TEMPLATES,
        ToolSet::Diagnostics | ToolSet::Streaming => &[],
    }
}

impl Resource {
    /// As `resources/list` shows it.
    pub(crate) fn describe(&self, version: ProtocolVersion) -> Value {
        let Self { uri, name, title, description, mime_type, read: _ } = *self;
        let about =
            json!({ "uri": uri, "name": name, "description": description, "mimeType": mime_type });
        titled(about, title, version)
    }
}

impl Template {
    /// As `resources/templates/list` shows it.
    pub(crate) fn describe(&self, version: ProtocolVersion) -> Value {
        let Self { uri, name, title, description, mime_type } = *self;
        let about = json!({ "uriTemplate": uri, "name": name, "description": description, "mimeType": mime_type });
        titled(about, title, version)
    }
}

/// Adds the title, if the revision has titles.
pub(super) fn titled(mut about: Value, title: &str, version: ProtocolVersion) -> Value {
    if version.has(Feature::Titles) {
        about["title"] = title.into();
    }
    about
}

/// The URI of a value that a session holds.
pub(super) fn data_uri(session: &str, key: &str) -> String {
    format!("session://{session}/data/{}", percent::encoded(key))
}

/// The session id and the key in such a URI.
fn session_data(uri: &str) -> Option<(&str, String)> {
    let (session, key) = uri.strip_prefix("session://")?.split_once("/data/")?;
    Some((session, percent::strictly_decoded(key)?))
}

/// The one spelling of a URI that answers and notifications use.
pub(crate) fn canonical(uri: &str) -> Cow<'_, str> {
    match session_data(uri) {
        Some((session, key)) => data_uri(session, &key).into(),
        None => uri.into(),
    }
}

/// Whether a text is a path segment of a URI (RFC 3986 §3.3, `segment-nz`).
fn is_segment(text: &str) -> bool {
    let whole = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%".contains(&byte);
    let escape = |rest: &str| {
        rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    !text.is_empty() && text.bytes().all(whole) && text.split('%').skip(1).all(escape)
}

/// Whether a text is a URI of the form `scheme://host/path`.
pub(super) fn is_plain_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let host = rest.split('/').next().unwrap_or_default();
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && !host.contains([':', '@'])
        && rest.split('/').all(|part| part.is_empty() || is_segment(part))
}

/// A session of this caller, with its data.
async fn load(
    instance: &Instance,
    session: &str,
    caller: Caller,
) -> Result<Option<Record>, Unavailable> {
    match instance.state.sessions.load(session, caller, Want::Data).await {
        Ok(session) => Ok(Some(session)),
        Err(NotLoaded::Gone(_)) => Ok(None),
        Err(NotLoaded::Unavailable) => Err(Unavailable),
    }
}

/// Reads a resource; `None` if there is none of that URI for this caller.
pub(crate) async fn read(
    instance: &Instance,
    uri: &str,
    caller: Caller,
) -> Result<Option<Contents>, Unavailable> {
    let sets = &instance.policy.config.tools.sets;
    if let Some(found) = sets.iter().flat_map(|set| of_set(*set)).find(|known| known.uri == uri) {
        return Ok(Some((found.read)(instance, uri)));
    }
    if sets.contains(&ToolSet::Session)
        && let Some((session, key)) = session_data(uri)
    {
        let Some(session) = load(instance, session, caller).await? else { return Ok(None) };
        let value = session.data().get(&key);
        return Ok(value.map(|value| {
            Contents::text(&canonical(uri), "application/json", value.get().to_owned())
        }));
    }
    let test = sets.contains(&ToolSet::Conformance).then(|| test_template(uri));
    Ok(test.flatten())
}

/// A resource of the conformance suite's template.
fn test_template(uri: &str) -> Option<Contents> {
    let rest = uri.strip_prefix("test://template/")?;
    let id = rest.strip_suffix("/data").filter(|id| is_segment(id))?;
    let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
    Some(Contents::text(uri, "application/json", data.to_string()))
}

/// Whether this caller may subscribe to a resource: it exists, or it may come to exist as a value in a session of the
/// caller's.
pub(crate) async fn may_watch(
    instance: &Instance,
    uri: &str,
    caller: Caller,
) -> Result<bool, Unavailable> {
    if let Some((session, _)) = session_data(uri) {
        let served = instance.policy.config.tools.sets.contains(&ToolSet::Session);
        return Ok(served && load(instance, session, caller).await?.is_some());
    }
    Ok(read(instance, uri, caller).await?.is_some())
}

/// Proposes values for a variable of a template; `None` if there is no such template or variable.
pub(crate) async fn complete(
    instance: &Instance,
    template: &str,
    variable: &str,
    session: Option<&str>,
    caller: Caller,
) -> Result<Option<Vec<String>>, Unavailable> {
    let sets = &instance.policy.config.tools.sets;
    if !sets.iter().flat_map(|set| templates_of_set(*set)).any(|known| known.uri == template) {
        return Ok(None);
    }
    Ok(match (template, variable, session) {
        (SESSION_DATA, "key", Some(session)) => {
            let session = load(instance, session, caller).await?;
            let keys = session.map(|session| session.data().keys()).unwrap_or_default();
            Some(keys.into_iter().map(String::from).collect())
        }
        (SESSION_DATA, "key", None) => Some(Vec::new()),
        (SESSION_DATA, "session", _) => Some(session.map(str::to_owned).into_iter().collect()),
        (TEST_TEMPLATE, "id", _) => Some(vec!["1".to_owned(), "123".to_owned()]),
        _ => None,
    })
}
