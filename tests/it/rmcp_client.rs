//! The official Rust SDK as a client, in both eras: whole conversations, and everything a client can be asked.

#![expect(
    deprecated,
    reason = "sampling, roots and logging are served as long as a revision has them"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient,
    model::{
        CallToolRequestParams, CallToolResponse, CancelTaskParams, ClientConfig,
        CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult,
        ElicitationAction, ErrorData, GetPromptRequestParams, GetTaskParams, Implementation,
        ListRootsResult, LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam,
        ProtocolVersion, ReadResourceRequestParams, RequestMetaObject,
        ResourceUpdatedNotificationParam, Role, Root, SamplingMessage, SamplingMessageContentBlock,
        ServerNotification, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter,
        TaskPayload, UnsubscribeRequestParams, UpdateTaskParams,
    },
    service::{NotificationContext, RequestContext, RunningService, ServiceError, SubscriptionEnd},
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::{sleep, timeout},
};

use crate::support::{PATIENCE, TestServer, eventually};

const SESSIONED: &str = "2025-11-25,2025-06-18,2025-03-26,2024-11-05";
const STATELESS: &str = "2026-07-28";

/// A server that can ask for everything; instances 5 and 6 serve one era alone.
async fn full_server() -> TestServer {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config/conformance.toml");
    TestServer::start(&[
        ("MCP_ECHO_CONFIG", config),
        // In a list that comes as an event stream, the SDK may miss which arguments to mirror.
        ("MCP_ECHO_PROTOCOL__RESPONSE", "auto"),
        ("MCP_ECHO_INSTANCES__5__PROTOCOL__VERSIONS", SESSIONED),
        ("MCP_ECHO_INSTANCES__6__PROTOCOL__VERSIONS", STATELESS),
    ])
    .await
}

fn discover() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

fn auto() -> ClientLifecycleMode {
    ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: None,
    }
}

fn with_sessions(mode: &ClientLifecycleMode) -> bool {
    *mode == ClientLifecycleMode::Initialize
}

fn either_era() -> [ClientLifecycleMode; 2] {
    [ClientLifecycleMode::Initialize, discover()]
}

/// Answers what the server asks, and notes what it is told.
#[derive(Clone, Default)]
struct User {
    action: Option<ElicitationAction>,
    /// Declares nothing that it could be asked.
    mute: bool,
    tasks: bool,
    version: Option<ProtocolVersion>,
    /// The way to the server, cut at the second step of progress and while the user thinks.
    wire: Option<Arc<Notify>>,
    asked: Arc<Mutex<Vec<String>>>,
    progress: Arc<Mutex<Vec<f64>>>,
    logged: Arc<Mutex<Vec<LoggingLevel>>>,
    updated: Arc<Mutex<Vec<String>>>,
}

fn note<T>(notes: &Mutex<Vec<T>>, what: T) {
    notes.lock().expect("lock").push(what);
}

fn noted<T: Clone>(notes: &Mutex<Vec<T>>) -> Vec<T> {
    notes.lock().expect("lock").clone()
}

impl ClientHandler for User {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities =
            json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {}, "roots": {} });
        if self.mute {
            capabilities = json!({});
        }
        if self.tasks {
            capabilities["extensions"] = json!({ "io.modelcontextprotocol/tasks": {} });
        }
        let capabilities = serde_json::from_value(capabilities).expect("are capabilities");
        let version = self.version.clone().unwrap_or(ProtocolVersion::LATEST_WITH_INITIALIZE);
        ClientConfig::new(capabilities, Implementation::new("rmcp-test", "1"))
            .with_protocol_version(version)
    }

    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        if let Some(wire) = &self.wire {
            wire.notify_waiters();
            sleep(Duration::from_millis(100)).await;
        }
        let action = self.action.clone().unwrap_or(ElicitationAction::Accept);
        let answer = ElicitResult::new(action.clone());
        match params {
            ElicitRequestParams::FormElicitationParams { message, requested_schema, .. } => {
                note(&self.asked, message);
                let schema = serde_json::to_value(requested_schema).expect("is JSON");
                let fields = schema["properties"].as_object().expect("has fields");
                let filled = fields.iter().map(|(name, field)| (name.clone(), fill(field)));
                Ok(match action {
                    ElicitationAction::Accept => answer.with_content(filled.collect()),
                    _ => answer,
                })
            }
            ElicitRequestParams::UrlElicitationParams { url, .. } => {
                note(&self.asked, url);
                Ok(answer)
            }
            other => panic!("asked for {other:?}"),
        }
    }

    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let messages = serde_json::to_value(&params.messages).expect("is JSON");
        let content = &messages[0]["content"];
        let question = content["text"].as_str().or_else(|| content[0]["text"].as_str());
        let text = format!("an answer to: {}", question.expect("a question"));
        let block = SamplingMessageContentBlock::text(text);
        Ok(CreateMessageResult::new(SamplingMessage::new(Role::Assistant, block), "a".to_owned()))
    }

    async fn list_roots(
        &self,
        _: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///home/ada").with_name("home")]))
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        note(&self.progress, params.progress);
        if let (Some(wire), 2.0) = (&self.wire, params.progress) {
            wire.notify_waiters();
        }
    }

    async fn on_logging_message(
        &self,
        params: LoggingMessageNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        note(&self.logged, params.level);
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        note(&self.updated, params.uri);
    }
}

/// Something that fits a field of a form.
fn fill(field: &Value) -> Value {
    let choices = if field["items"].is_null() { field } else { &field["items"] };
    let first = [&choices["enum"][0], &choices["oneOf"][0]["const"], &choices["anyOf"][0]["const"]]
        .into_iter()
        .find(|choice| !choice.is_null());
    match first {
        _ if !field["default"].is_null() => field["default"].clone(),
        Some(first) if field["type"] == "array" => json!([first]),
        Some(first) => first.clone(),
        None if field["type"] == "boolean" => json!(true),
        None if field["format"] == "email" => json!("ada@example.com"),
        None => json!("Ada"),
    }
}

/// A client and its user.
struct Peer {
    client: RunningService<RoleClient, User>,
    user: User,
}

impl Peer {
    async fn connect(
        server: &TestServer,
        instance: u8,
        mode: ClientLifecycleMode,
        user: User,
    ) -> Result<Self, rmcp::service::ClientInitializeError> {
        Self::at(server.address, instance, mode, user).await
    }

    async fn at(
        address: std::net::SocketAddr,
        instance: u8,
        mode: ClientLifecycleMode,
        user: User,
    ) -> Result<Self, rmcp::service::ClientInitializeError> {
        let host = format!("echo-stateful{instance}.localhost");
        let http = reqwest::Client::builder().resolve(&host, address).build().expect("builds");
        let url = format!("http://{host}:{}/mcp", address.port());
        let config = StreamableHttpClientTransportConfig::with_uri(url);
        let transport = StreamableHttpClientTransport::with_client(http, config);
        let client = user.clone().serve_with_lifecycle(transport, mode).await?;
        Ok(Self { client, user })
    }

    async fn call(&self, name: &'static str, arguments: Value) -> Value {
        let result = self.client.call_tool(params(name, arguments)).await.expect("is called");
        assert_ne!(result.is_error, Some(true), "{result:?}");
        result.structured_content.expect("is structured")
    }

    /// The text of a call that must succeed.
    async fn say(&self, name: &'static str, arguments: Value) -> String {
        let result = self.client.call_tool(params(name, arguments)).await.expect("is called");
        assert_ne!(result.is_error, Some(true), "{result:?}");
        result.content[0].as_text().expect("is text").text.clone()
    }

    fn version(&self) -> String {
        self.client.peer_info().expect("is known").protocol_version.to_string()
    }
}

fn params(name: &'static str, arguments: Value) -> CallToolRequestParams {
    let mut params = CallToolRequestParams::new(name);
    params.arguments = arguments.as_object().cloned();
    params
}

fn refusal(result: Result<impl std::fmt::Debug, ServiceError>) -> ErrorData {
    match result {
        Err(ServiceError::McpError(error)) => error,
        other => panic!("must be refused: {other:?}"),
    }
}

#[tokio::test]
async fn whole_conversations_on_several_instances() {
    let server = TestServer::start(&[]).await;
    for instance in [0, 3, 9] {
        let mode = ClientLifecycleMode::Initialize;
        let peer = Peer::connect(&server, instance, mode, User::default()).await.expect("connects");
        let tools = peer.client.list_all_tools().await.expect("lists");
        assert!(tools.iter().any(|tool| tool.name == "echo"));
        assert_eq!(peer.call("echo", json!({"message": "hi"})).await["message"], "hi");
        peer.call("set_session_data", json!({"key": "k", "value": instance})).await;
        assert_eq!(peer.call("get_session_data", json!({"key": "k"})).await["value"], instance);
        let info = peer.call("get_session_info", json!({})).await;
        assert_eq!(
            (&info["request_count"], &info["minted_by"]["instance"]),
            (&json!(3), &json!(instance))
        );
        peer.client.cancel().await.expect("terminates");
        let sessions = &server.instances[usize::from(instance)].state.sessions;
        eventually(|| sessions.counts().live == 0).await;
    }
}

#[tokio::test]
async fn the_user_the_model_and_the_roots_are_asked() {
    let server = full_server().await;
    for mode in either_era() {
        let peer = Peer::connect(&server, 0, mode, User::default()).await.expect("connects");
        let answer = peer.say("test_elicitation", json!({"message": "Who are you?"})).await;
        let answer: Value =
            serde_json::from_str(answer.trim_start_matches("User response: ")).expect("is JSON");
        assert_eq!(answer["content"], json!({"username": "Ada", "email": "ada@example.com"}));
        let defaults = peer.say("test_elicitation_sep1034_defaults", json!({})).await;
        assert!(defaults.contains("John Doe") && defaults.contains("95.5"), "{defaults}");
        let choices = peer.say("test_elicitation_sep1330_enums", json!({})).await;
        assert!(choices.contains(r#""titledMulti":["value1"]"#), "{choices}");
        assert!(peer.say("test_elicitation_url", json!({})).await.contains("accept"));
        assert_eq!(
            peer.say("test_sampling", json!({"prompt": "2 + 2?"})).await,
            "LLM response: an answer to: 2 + 2?"
        );
        assert_eq!(peer.say("test_list_roots", json!({})).await, "1 roots: file:///home/ada");
        assert_eq!(
            peer.say("test_input_required_result_multiple_inputs", json!({})).await,
            "Ada: an answer to: Write a short greeting.; 1 roots: file:///home/ada"
        );
        let twice = peer.say("test_input_required_result_multi_round", json!({})).await;
        assert_eq!(twice, "Ada likes Ada.");
        let state = peer.say("test_input_required_result_request_state", json!({})).await;
        assert_eq!(state, "state-ok");
        let asked = noted(&peer.user.asked);
        assert!(asked.iter().any(|question| question == "Who are you?"), "{asked:?}");
        assert!(asked.iter().any(|page| page == "https://example.com/consent"), "{asked:?}");
    }
}

#[tokio::test]
async fn the_user_may_refuse_and_a_client_that_cannot_answer_is_not_asked() {
    let server = full_server().await;
    for mode in either_era() {
        for (action, word) in
            [(ElicitationAction::Decline, "decline"), (ElicitationAction::Cancel, "cancel")]
        {
            let user = User { action: Some(action), ..User::default() };
            let peer = Peer::connect(&server, 0, mode.clone(), user).await.expect("connects");
            let answer = peer.say("test_elicitation", json!({"message": "Who?"})).await;
            assert!(answer.contains(&format!(r#""action":"{word}""#)), "{answer}");
        }
        let sessions = with_sessions(&mode);
        let mute = User { mute: true, ..User::default() };
        let peer = Peer::connect(&server, 0, mode, mute).await.expect("connects");
        let asking = peer.client.call_tool(params("test_sampling", json!({"prompt": "?"}))).await;
        if sessions {
            assert_eq!(asking.expect("is called").is_error, Some(true));
        } else {
            assert_eq!(refusal(asking).code.0, -32021);
        }
    }
}

#[tokio::test]
async fn progress_and_log_messages_arrive_on_the_way() {
    let server = full_server().await;
    for mode in either_era() {
        let sessions = with_sessions(&mode);
        let peer = Peer::connect(&server, 0, mode, User::default()).await.expect("connects");
        peer.say("test_tool_with_progress", json!({})).await;
        assert_eq!(noted(&peer.user.progress), [0.0, 50.0, 100.0]);

        // (level asked for, messages)
        for (level, messages) in [(LoggingLevel::Warning, 0), (LoggingLevel::Info, 3)] {
            peer.user.logged.lock().expect("lock").clear();
            let mut params = params("test_tool_with_logging", json!({}));
            if sessions {
                let level = SetLevelRequestParams::new(level);
                peer.client.set_level(level).await.expect("is set");
            } else {
                let mut meta = RequestMetaObject::default();
                meta.set_log_level(level);
                params.meta = Some(meta);
            }
            peer.client.call_tool(params).await.expect("is called");
            assert_eq!(noted(&peer.user.logged).len(), messages, "{level:?}");
        }
    }
}

#[tokio::test]
async fn resources_prompts_and_completion() {
    let server = full_server().await;
    for mode in either_era() {
        let sessions = with_sessions(&mode);
        let peer = Peer::connect(&server, 0, mode, User::default()).await.expect("connects");
        let resources = peer.client.list_all_resources().await.expect("lists");
        assert!(!resources.is_empty());
        for resource in resources {
            let params = ReadResourceRequestParams::new(resource.uri.clone());
            let read = peer.client.read_resource(params).await.expect("is read");
            assert_eq!(read.contents.len(), 1, "{}", resource.uri);
        }
        let templates = peer.client.list_all_resource_templates().await.expect("lists");
        assert!(!templates.is_empty());
        let nothing = ReadResourceRequestParams::new("test://nothing-here");
        let refused = refusal(peer.client.read_resource(nothing).await);
        assert_eq!(refused.code.0, if sessions { -32002 } else { -32602 });

        let prompts = peer.client.list_all_prompts().await.expect("lists");
        assert!(prompts.iter().any(|prompt| prompt.name == "test_prompt_with_arguments"));
        let mut prompt = GetPromptRequestParams::new("test_prompt_with_arguments");
        prompt.arguments = json!({"arg1": "one", "arg2": "two"}).as_object().cloned();
        let prompt = peer.client.get_prompt(prompt).await.expect("is filled in");
        let prompt = serde_json::to_string(&prompt.messages).expect("is JSON");
        assert!(prompt.contains("arg1='one', arg2='two'"), "{prompt}");
        if !sessions {
            let asking = GetPromptRequestParams::new("test_input_required_result_prompt");
            let prompt = peer.client.get_prompt(asking).await.expect("asks and is filled in");
            let prompt = serde_json::to_string(&prompt.messages).expect("is JSON");
            assert!(prompt.contains("Use this context: Ada"), "{prompt}");
        }
        let completed =
            peer.client.complete_prompt_simple("test_prompt_with_arguments", "arg1", "testi").await;
        assert_eq!(completed.expect("is completed"), ["testing"]);
    }
}

#[tokio::test]
async fn a_changed_value_is_told_to_a_session_that_subscribed() {
    let server = full_server().await;
    let mode = ClientLifecycleMode::Initialize;
    let peer = Peer::connect(&server, 0, mode, User::default()).await.expect("connects");
    let info = peer.call("get_session_info", json!({})).await;
    let uri = format!("session://{}/data/colour", info["session_id"].as_str().expect("an id"));
    peer.client.subscribe(SubscribeRequestParams::new(uri.clone())).await.expect("subscribes");
    // The client opens its stream in its own time, and what is said before is lost.
    timeout(PATIENCE, async {
        while noted(&peer.user.updated).is_empty() {
            peer.call("set_session_data", json!({"key": "colour", "value": "blue"})).await;
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("is told");
    assert!(noted(&peer.user.updated).iter().all(|told| *told == uri));
    peer.client.unsubscribe(UnsubscribeRequestParams::new(uri)).await.expect("unsubscribes");
}

#[tokio::test]
async fn a_changed_value_is_told_to_who_listens() {
    let server = full_server().await;
    let peer = Peer::connect(&server, 0, discover(), User::default()).await.expect("connects");
    peer.client.list_all_tools().await.expect("lists");
    let handle = peer.call("create_session", json!({})).await["session"].clone();
    let uri = format!("session://{}/data/colour", handle.as_str().expect("a handle"));
    let filter = SubscriptionFilter::builder()
        .tools_list_changed()
        .resource_subscription(uri.clone())
        .build();
    let mut subscription = peer.client.listen(filter.clone()).await.expect("listens");
    assert_eq!(*subscription.acknowledged(), filter);
    let blue = json!({"key": "colour", "value": "blue", "session": handle});
    peer.call("set_session_data", blue).await;
    match subscription.next().await.expect("goes on") {
        Some(ServerNotification::ResourceUpdatedNotification(told)) => {
            assert_eq!(told.params.uri, uri);
        }
        other => panic!("{other:?}"),
    }
    peer.say("test_trigger_tool_change", json!({})).await;
    let told = subscription.next().await.expect("goes on");
    assert!(matches!(told, Some(ServerNotification::ToolListChangedNotification(_))), "{told:?}");
    subscription.cancel().await.expect("is cancelled");

    let mut subscription = peer.client.listen(filter).await.expect("listens");
    server.stop();
    assert!(subscription.next().await.expect("ends").is_none());
    // What comes first counts: that it is cancelled (a MUST) or the response to its request.
    let end = subscription.end().expect("has ended");
    assert!(matches!(end, SubscriptionEnd::Cancelled | SubscriptionEnd::Graceful(_)), "{end:?}");
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_given_up() {
    let server = full_server().await;
    for mode in either_era() {
        let sessions = with_sessions(&mode);
        let peer = Peer::connect(&server, 0, mode, User::default()).await.expect("connects");
        peer.client.list_all_tools().await.expect("lists");
        let mut session = json!({});
        if !sessions {
            session["session"] = peer.call("create_session", json!({})).await["session"].clone();
        }
        let with = |mut arguments: Value| {
            let all = arguments.as_object_mut().expect("an object");
            all.extend(session.as_object().expect("an object").clone());
            arguments
        };
        peer.call("echo", with(json!({"message": "before"}))).await;
        let slow = params("echo", with(json!({"message": "never", "delay": 1})));
        let abandoned = timeout(Duration::from_millis(300), peer.client.call_tool(slow)).await;
        assert!(abandoned.is_err(), "{abandoned:?}");
        sleep(Duration::from_secs(1)).await;
        // What was given up is not counted and left nothing to replay.
        let info = peer.call("get_session_info", with(json!({}))).await;
        assert_eq!(info["request_count"], 1);
        let last = peer.call("replayLastEcho", with(json!({}))).await;
        assert_eq!(last["message"], "before");
    }
}

/// A way to the server on which every connection can be cut, as when a cable is pulled.
async fn breaking_wire(server: &TestServer) -> (std::net::SocketAddr, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("is bound");
    let (cut, target) = (Arc::new(Notify::new()), server.address);
    let cuts = Arc::clone(&cut);
    #[expect(clippy::disallowed_methods, reason = "ends with the test")]
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let cuts = Arc::clone(&cuts);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(target).await.expect("connects");
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = cuts.notified() => {}
                }
            });
        }
    });
    (address, cut)
}

#[tokio::test]
async fn a_stream_that_breaks_is_picked_up_again() {
    let server = full_server().await;
    let (address, wire) = breaking_wire(&server).await;
    let user = User { wire: Some(wire), ..User::default() };
    let mode = ClientLifecycleMode::Initialize;
    let peer = Peer::at(address, 0, mode, user).await.expect("connects");

    let closed = peer.say("test_reconnection", json!({})).await;
    assert_eq!(closed, "The stream was closed and picked up again.");

    let ticks = peer.call("stream_ticks", json!({"count": 6, "interval_ms": 150})).await;
    assert_eq!(ticks["count"], 6);
    // Called again instead, it would count from one again.
    assert_eq!(noted(&peer.user.progress), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

    let answer = peer.say("test_elicitation", json!({"message": "Who are you?"})).await;
    assert!(answer.contains("Ada"), "{answer}");
}

#[tokio::test]
async fn every_revision_is_agreed_on() {
    let server = full_server().await;
    for version in ProtocolVersion::KNOWN_VERSIONS.iter().filter(|v| v.has_initialize()) {
        let user = User { version: Some(version.clone()), ..User::default() };
        let mode = ClientLifecycleMode::Initialize;
        let peer = Peer::connect(&server, 0, mode, user).await.expect("connects");
        assert_eq!(peer.version(), version.to_string());
        let info = peer.call("get_session_info", json!({})).await;
        assert_eq!(info["protocol_version"], version.to_string());
        assert_eq!(
            peer.say("test_sampling", json!({"prompt": "?"})).await,
            "LLM response: an answer to: ?"
        );
    }
}

#[tokio::test]
async fn a_client_that_knows_both_eras_finds_the_one_that_is_served() {
    let server = full_server().await;
    for (instance, version) in [(0, "2026-07-28"), (5, "2025-11-25"), (6, "2026-07-28")] {
        let user = User::default();
        let peer = Peer::connect(&server, instance, auto(), user).await.expect("connects");
        assert_eq!(peer.version(), version);
        assert_eq!(peer.call("echo", json!({"message": "hi"})).await["message"], "hi");
        let created = server.instances[usize::from(instance)].state.sessions.counts().created;
        assert_eq!(created, u64::from(version == "2025-11-25"));
    }
    for (instance, mode) in [(5, discover()), (6, ClientLifecycleMode::Initialize)] {
        let refused = Peer::connect(&server, instance, mode, User::default()).await;
        assert!(refused.is_err(), "instance {instance}");
    }
}

#[tokio::test]
async fn state_is_reached_by_a_handle_in_either_era() {
    let server = full_server().await;
    let peer = Peer::connect(&server, 8, discover(), User::default()).await.expect("connects");
    peer.client.list_all_tools().await.expect("lists");
    let handle = peer.call("create_session", json!({"label": "mine"})).await["session"].clone();
    for count in [1, 2] {
        let echoed = peer.call("echo", json!({"message": "hi", "session": handle})).await;
        assert_eq!((&echoed["session_id"], &echoed["request_count"]), (&handle, &json!(count)));
    }
    let mode = ClientLifecycleMode::Initialize;
    let old = Peer::connect(&server, 8, mode, User::default()).await.expect("connects");
    let echoed = old.call("echo", json!({"message": "hi", "session": handle})).await;
    assert_eq!(echoed["request_count"], 3);

    peer.call("end_session", json!({"session": handle})).await;
    let gone = params("echo", json!({"message": "hi", "session": handle}));
    let gone = peer.client.call_tool(gone).await.expect("is called");
    assert_eq!(gone.is_error, Some(true));
}

#[tokio::test]
async fn arguments_are_mirrored_whatever_they_hold() {
    let server = full_server().await;
    let peer = Peer::connect(&server, 0, discover(), User::default()).await.expect("connects");
    peer.client.list_all_tools().await.expect("lists");
    for value in ["plain", "Zoë: 1 < 2", " blank ", "=?base64?SGk=?="] {
        let arguments = json!({"value": value, "count": 3, "flag": true});
        assert_eq!(peer.say("test_custom_header", arguments).await, value);
    }
}

#[tokio::test]
async fn tasks_run_ask_and_are_cancelled() {
    let server = full_server().await;
    let user = User { tasks: true, ..User::default() };
    let peer = Peer::connect(&server, 0, discover(), user).await.expect("connects");
    let begin = async |name, arguments| {
        let begun = peer.client.call_tool_once(params(name, arguments)).await.expect("is called");
        let CallToolResponse::Task(created) = begun else { panic!("is no task: {begun:?}") };
        created.task.task_id
    };
    let payload = async |id: &str| {
        let described = peer.client.get_task(GetTaskParams::new(id)).await.expect("is described");
        described.task.payload
    };
    let finish = async |id: &str| {
        timeout(PATIENCE, async {
            loop {
                match payload(id).await {
                    TaskPayload::Working => sleep(Duration::from_millis(20)).await,
                    TaskPayload::InputRequired { input_requests } => {
                        let answer = json!({"action": "accept", "content": {"confirm": true}});
                        let answers =
                            input_requests.into_keys().map(|key| (key, answer.clone())).collect();
                        let answers = UpdateTaskParams::new(id, answers);
                        peer.client.update_task(answers).await.expect("is updated");
                    }
                    over => return over,
                }
            }
        })
        .await
        .expect("is over")
    };

    let id = begin("slow_compute", json!({"seconds": 0.2})).await;
    assert_eq!(payload(&id).await, TaskPayload::Working);
    let TaskPayload::Completed { result } = finish(&id).await else { panic!("fails") };
    assert_eq!(result["content"][0]["text"], "job took 0.2 seconds.");

    let id = begin("confirm_delete", json!({"filename": "notes.txt"})).await;
    let TaskPayload::Completed { result } = finish(&id).await else { panic!("fails") };
    assert_eq!(result["content"][0]["text"], "notes.txt was deleted.");

    let id = begin("protocol_error_job", json!({})).await;
    let TaskPayload::Failed { error } = finish(&id).await else { panic!("succeeds") };
    assert_eq!(error["code"], -32603);

    let id = begin("slow_compute", json!({"seconds": 30})).await;
    peer.client.cancel_task(CancelTaskParams::new(id.clone())).await.expect("is cancelled");
    assert_eq!(finish(&id).await, TaskPayload::Cancelled);

    let refused = refusal(peer.client.get_task(GetTaskParams::new("nothing")).await);
    assert_eq!(refused.code.0, -32602);
}
