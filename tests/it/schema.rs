//! Every message that the server sends in these tests fits the official schema of its revision.
//!
//! The schemas are not part of this repository; `tests/conformance/schemas` fetches them into
//! `target/mcp-schemas`, which `tests/run` does before these tests. Without them nothing is checked here,
//! unless `MCP_SCHEMAS` names their folder: then they must be there.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use jsonschema::Validator;
use serde_json::{Value, json};

/// What was asked, in which revision: decides what an answer must look like.
#[derive(Clone, Debug)]
pub struct Asked {
    pub revision: String,
    /// Methods by request id.
    methods: HashMap<String, String>,
}

impl Asked {
    /// Reads the body of a POST; a body that is no JSON asks nothing.
    pub fn read(revision: &str, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let messages = body.as_array().cloned().unwrap_or_else(|| vec![body]);
        let methods = messages.iter().filter_map(|message| {
            Some((message.get("id")?.to_string(), message.get("method")?.as_str()?.to_owned()))
        });
        Self { revision: revision.to_owned(), methods: methods.collect() }
    }
}

static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let named = std::env::var_os("MCP_SCHEMAS").map(PathBuf::from);
    let usual = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/mcp-schemas");
    named.or_else(|| usual.is_dir().then_some(usual))
});
/// By revision and definition.
type Validators = HashMap<(String, String), Arc<Validator>>;
static VALIDATORS: LazyLock<Mutex<Validators>> = LazyLock::new(Mutex::default);
static CHECKED: AtomicUsize = AtomicUsize::new(0);

/// The validator of one definition; `None` where there are no schemas.
fn validator(revision: &str, definition: &str) -> Option<Arc<Validator>> {
    let folder = FOLDER.as_ref()?;
    let key = (revision.to_owned(), definition.to_owned());
    if let Some(known) = VALIDATORS.lock().expect("lock").get(&key) {
        return Some(Arc::clone(known));
    }
    let file = folder.join(format!("{revision}.json"));
    let text =
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut schema: Value = serde_json::from_str(&text).expect("is JSON");
    let member = if schema.get("$defs").is_some() { "$defs" } else { "definitions" };
    assert!(schema[member].get(definition).is_some(), "{revision} defines no {definition}");
    schema["$ref"] = json!(format!("#/{member}/{definition}"));
    let built = Arc::new(jsonschema::validator_for(&schema).expect("is a schema"));
    VALIDATORS.lock().expect("lock").insert(key, Arc::clone(&built));
    Some(built)
}

#[track_caller]
fn fits(revision: &str, definition: &str, part: &Value, whole: &Value) {
    let Some(validator) = validator(revision, definition) else { return };
    let errors: Vec<_> = validator.iter_errors(part).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{revision} {definition}: {errors:?} in {whole}");
    CHECKED.fetch_add(1, Ordering::Relaxed);
}

/// Checks one message, or an array of them.
#[track_caller]
pub fn check(asked: &Asked, message: &Value) {
    if let Some(batch) = message.as_array() {
        batch.iter().for_each(|message| check(asked, message));
        return;
    }
    if message.get("jsonrpc").is_none() {
        return;
    }
    let revision = asked.revision.as_str();
    let newer = revision >= "2025-11-25";
    if let Some(method) = message.get("method").and_then(Value::as_str) {
        // basic, "Notifications": they have no id, and no schema says so.
        let has_id = message.get("id").is_some();
        assert_ne!(has_id, method.starts_with("notifications/"), "{message}");
        if let Some(definition) = of_server(method) {
            fits(revision, definition, message, message);
        }
        return;
    }
    if message.get("error").is_some() {
        // Before 2025-11-25 no schema has an error without an id, and none allows null.
        match (message.get("id").is_some(), newer) {
            (true, false) => fits(revision, "JSONRPCError", message, message),
            (true, true) => fits(revision, "JSONRPCErrorResponse", message, message),
            (false, _) => fits("2025-11-25", "JSONRPCErrorResponse", message, message),
        }
        return;
    }
    let envelope = if newer { "JSONRPCResultResponse" } else { "JSONRPCResponse" };
    fits(revision, envelope, message, message);
    let method = asked.methods.get(&message["id"].to_string()).map(String::as_str);
    let result = &message["result"];
    let definition = match (result["resultType"].as_str(), method.and_then(of_result)) {
        // The tasks extension has a schema of its own.
        (Some("task"), _) => return,
        (Some("input_required"), _) => "InputRequiredResult",
        (_, Some(definition)) => definition,
        (_, None) => return,
    };
    fits(revision, definition, result, message);
}

/// Notifications and requests that a server sends.
fn of_server(method: &str) -> Option<&'static str> {
    Some(match method {
        "notifications/progress" => "ProgressNotification",
        "notifications/message" => "LoggingMessageNotification",
        "notifications/cancelled" => "CancelledNotification",
        "notifications/tools/list_changed" => "ToolListChangedNotification",
        "notifications/prompts/list_changed" => "PromptListChangedNotification",
        "notifications/resources/updated" => "ResourceUpdatedNotification",
        "notifications/subscriptions/acknowledged" => "SubscriptionsAcknowledgedNotification",
        "elicitation/create" => "ElicitRequest",
        "sampling/createMessage" => "CreateMessageRequest",
        "roots/list" => "ListRootsRequest",
        // Of the tasks extension.
        "notifications/tasks" => return None,
        other => panic!("the server sent {other}, which has no schema here"),
    })
}

fn of_result(method: &str) -> Option<&'static str> {
    Some(match method {
        "initialize" => "InitializeResult",
        "server/discover" => "DiscoverResult",
        "tools/list" => "ListToolsResult",
        "tools/call" => "CallToolResult",
        "resources/list" => "ListResourcesResult",
        "resources/templates/list" => "ListResourceTemplatesResult",
        "resources/read" => "ReadResourceResult",
        "prompts/list" => "ListPromptsResult",
        "prompts/get" => "GetPromptResult",
        "completion/complete" => "CompleteResult",
        "subscriptions/listen" => "SubscriptionsListenResult",
        "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => {
            "EmptyResult"
        }
        _ => return None,
    })
}

#[test]
fn a_wrong_message_is_noticed() {
    if FOLDER.is_none() {
        return;
    }
    let asked = Asked::read("2025-11-25", br#"{"id":1,"method":"tools/call"}"#);
    check(&asked, &json!({"jsonrpc": "2.0", "id": 1, "result": {"content": []}}));
    assert!(CHECKED.load(Ordering::Relaxed) >= 2);
    for wrong in [
        json!({"jsonrpc": "2.0", "id": 1, "result": {"content": "text"}}),
        json!({"jsonrpc": "2.0", "id": null, "result": {}}),
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}),
        json!({"jsonrpc": "2.0", "id": 1, "error": {"code": "x", "message": "y"}}),
    ] {
        let asked = asked.clone();
        let checked = std::panic::catch_unwind(move || check(&asked, &wrong));
        assert!(checked.is_err());
    }
}

#[test]
fn a_notification_with_an_id_is_noticed() {
    let asked = Asked::read("2025-11-25", b"");
    let mut change = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    check(&asked, &change);
    change["id"] = json!(1);
    assert!(std::panic::catch_unwind(move || check(&asked, &change)).is_err());
}

#[test]
fn every_revision_has_its_schema() {
    if FOLDER.is_some() {
        for version in mcp_echo_stateful::wire::version::ProtocolVersion::ALL {
            assert!(validator(version.as_str(), "CallToolResult").is_some());
        }
    }
}
