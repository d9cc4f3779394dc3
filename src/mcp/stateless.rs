//! Revision 2026-07-28: every request stands for itself.
//!
//! Owns what `_meta` must say (`headers`: what headers must), `server/discover`, `input_required` results and the
//! tasks extension. Refuses anything that would need an earlier request to be understood; a session is
//! reached only by a handle among the arguments. A client that goes away has cancelled: the work is
//! dropped with the answer (2026-07-28, basic/patterns/cancellation).
//! Trap: the order of the checks is what a client that speaks both eras falls back on.

mod headers;

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    VERSION_HEADER, catalogue,
    dispatch::{self, OwnedCall, Ready, ToolCall, read, require},
    failure::Failure,
    json::Raw,
    jsonrpc::{self, Id, Message, OwnedId},
    listen,
    model::{Capabilities, Common, InitializeParams, ListParams, Object, TaskParams, ToolResult},
    params::{BadMeta, Meta, Params},
    refuse,
    reply::{self, Reply},
    seal::Binding,
    stream::{EventLog, EventStream},
    version::{Era, Method, ProtocolVersion},
};
use crate::{
    auth::Caller,
    call::{
        self, Arrival, CallContext, ClientFacts, Inputs, Outcome, Prepared, Questions, TaskRun,
    },
    config::ResponseForm,
    http::body::Accepted,
    instance::Instance,
    lifecycle::outcome_of,
    metrics::StreamKind,
    session::store::Hold,
    tasks::{self, Task},
    telemetry::{outcome::RequestOutcome, record::RpcMethod},
    tools::Tool,
};

const ERA: Era = Era::Stateless;
const VERSION: ProtocolVersion = ProtocolVersion::V2026_07_28;

/// How long a read resource may be considered fresh: whatever a session stored may change at once.
const RESOURCE_TTL_MS: u64 = 0;

/// Answers a POST of one message.
pub async fn one(
    instance: &Arc<Instance>,
    arrival: &Arc<Arrival>,
    accepted: Accepted,
    message: Message<'_>,
) -> Response {
    arrival.record.set_era(ERA);
    let exchange = Exchange { instance, arrival, accepted };
    let (result, id) = match message {
        Message::Request { id, method, params } => {
            (exchange.request(id, &method, &params).await, Some(id))
        }
        // This revision defines none from client to server; accepted all the same.
        Message::Notification { .. } => {
            arrival.record.set_method(RpcMethod::Notification);
            (Ok(Reply::Accepted), None)
        }
        Message::Response { .. } => {
            let problem = "this revision asks by results, so there is nothing to respond to";
            (Err(Failure::NotAMessage(problem.into())), None)
        }
    };
    match result {
        Ok(reply) => reply.into_response(None),
        Err(failure) => refuse(&arrival.record, failure, id, ERA),
    }
}

/// One HTTP exchange.
struct Exchange<'a> {
    instance: &'a Arc<Instance>,
    arrival: &'a Arc<Arrival>,
    accepted: Accepted,
}

impl Exchange<'_> {
    async fn request(&self, id: Id<'_>, name: &str, params: &Params<'_>) -> Result<Reply, Failure> {
        let meta =
            params.meta().map_err(|BadMeta| Failure::BadMeta("\"_meta\" must be an object"))?;
        if let Some(trace) = meta.and_then(Meta::trace) {
            self.arrival.record.set_trace(&trace);
        }
        let client = self.check_meta(name, params, meta)?;
        let method = headers::check_method(self.arrival.headers(), name)?;
        headers::check_name(self.arrival.headers(), method, params)?;
        let Some(method) = method else {
            self.arrival.record.set_method(RpcMethod::Other);
            return Err(Failure::MethodNotFound(name.to_owned()));
        };
        self.arrival.record.set_method(RpcMethod::Known(method));
        match method {
            Method::ToolsCall => self.call(id, params, client).await,
            // In a box of its own, so that the future of a call is no larger for them.
            _ => Box::pin(self.other_request(id, name, method, params, client)).await,
        }
    }

    /// Any request but a call.
    async fn other_request(
        &self,
        id: Id<'_>,
        name: &str,
        method: Method,
        params: &Params<'_>,
        client: ClientFacts,
    ) -> Result<Reply, Failure> {
        if let Some(list) = dispatch::list_of(method) {
            let ListParams { cursor } = read(params.raw)?.unwrap_or_default();
            let page = self.instance.catalogue.page(list, VERSION, cursor.as_deref())?;
            return Ok(self.whole(jsonrpc::success(id, page)));
        }
        let caller = self.arrival.caller;
        match method {
            Method::Discover => {
                Ok(self.whole(jsonrpc::success(id, self.instance.catalogue.discover())))
            }
            Method::ResourcesRead => {
                let contents = dispatch::read_resource(self.instance, params.raw, caller).await?;
                let result = json!({
                    "contents": [contents],
                    "ttlMs": RESOURCE_TTL_MS,
                    "cacheScope": "private",
                });
                Ok(self.complete(id, result.to_string().as_bytes()))
            }
            Method::PromptsGet => self.prompt(id, params, &client),
            Method::Complete => {
                let result = dispatch::complete(self.instance, params.raw, None, caller).await?;
                Ok(self.complete(id, result.to_string().as_bytes()))
            }
            Method::Listen => {
                if !self.accepted.events {
                    return Err(Failure::NotAcceptable { needed: "text/event-stream" });
                }
                let tasks = client.capabilities.tasks;
                let stream =
                    listen::open(self.instance, self.arrival, id, params.raw, tasks).await?;
                Ok(Reply::Stream(stream))
            }
            Method::TasksGet | Method::TasksUpdate | Method::TasksCancel => {
                self.task(method, id, params, &client)
            }
            // A call and the lists have been answered; the others are not of this era.
            Method::Initialize
            | Method::ToolsCall
            | Method::Ping
            | Method::ToolsList
            | Method::ResourcesList
            | Method::ResourceTemplatesList
            | Method::ResourcesSubscribe
            | Method::ResourcesUnsubscribe
            | Method::PromptsList
            | Method::SetLevel => Err(Failure::MethodNotFound(name.to_owned())),
        }
    }

    /// The revision and what must come with it (basic/index, "_meta"; streamable-http, "Protocol Version
    /// Header").
    fn check_meta(
        &self,
        method: &str,
        params: &Params<'_>,
        meta: Option<&Meta<'_>>,
    ) -> Result<ClientFacts, Failure> {
        let header = headers::header(self.arrival.headers(), &VERSION_HEADER)?;
        let claim = meta.and_then(|meta| meta.version);
        let versions = &self.instance.policy.protocol.versions;
        let served = || catalogue::stateless(versions);
        if let (None, "initialize") = (claim, method)
            && !self.instance.serves(Era::Sessioned)
        {
            // Legacy clients cannot fall forward; this may be all that their user sees.
            let requested = match read::<InitializeParams<'_>>(params.raw) {
                Ok(Some(params)) => params.protocol_version.into_owned(),
                _ => String::new(),
            };
            return Err(Failure::UnsupportedRevision { requested, served: served() });
        }
        let Some(header) = header else {
            let body = claim.map_or("nothing", Raw::get);
            return Err(Failure::HeaderMismatch(format!(
                "MCP-Protocol-Version header is missing, the body says {body}"
            )));
        };
        let meta = meta.ok_or(Failure::BadMeta("\"_meta\" is required"))?;
        let claim = claim.and_then(Raw::text).ok_or(Failure::BadMeta(
            "\"_meta\" must have \"io.modelcontextprotocol/protocolVersion\", a string",
        ))?;
        let capabilities = meta.capabilities.map(Raw::value);
        let capabilities = capabilities.as_ref().and_then(Capabilities::read);
        let capabilities = capabilities.ok_or(Failure::BadMeta(
            "\"_meta\" must have \"io.modelcontextprotocol/clientCapabilities\", an object",
        ))?;
        if header != claim {
            return Err(Failure::HeaderMismatch(format!(
                "MCP-Protocol-Version header value {header:?} does not match body value {claim:?}"
            )));
        }
        let serves = |version: &ProtocolVersion| version.era() == ERA && version.as_str() == claim;
        if !versions.iter().any(serves) {
            return Err(Failure::UnsupportedRevision {
                requested: claim.into_owned(),
                served: served(),
            });
        }
        let log_level = match meta.log_level {
            None => None,
            Some(level) => match serde_json::from_str(level.get()) {
                Ok(level) => Some(level),
                Err(_) => {
                    return Err(Failure::InvalidParams(format!("{} is no log level", level.get())));
                }
            },
        };
        Ok(ClientFacts {
            capabilities,
            progress_token: dispatch::progress_token(Some(meta))?,
            log_level,
            meta: params.raw_meta().map(|raw| raw.get().into()),
            progress_messages: true,
        })
    }

    /// What a carried state belongs to: the request but for its answers, the caller and the instance.
    fn binding(&self, method: Method, name: &str, arguments: Option<Raw<'_>>) -> Binding {
        // No arguments, an empty object and null are the same call.
        let arguments =
            arguments.map(jsonrpc::compact).filter(|text| text != "{}" && text != "null");
        let caller = match &self.arrival.caller {
            Caller::Anonymous => &[][..],
            Caller::Known(identity) => identity,
        };
        Binding::of(&[
            method.as_str().as_bytes(),
            name.as_bytes(),
            arguments.as_deref().unwrap_or_default().as_bytes(),
            caller,
            &[self.instance.id.digit()],
        ])
    }

    fn binding_of(&self, call: &ToolCall<'_>) -> Binding {
        self.binding(Method::ToolsCall, call.tool.name, call.arguments)
    }

    /// What the client has answered so far; what it carried for us must be what we gave it.
    fn inputs(
        &self,
        params: &Params<'_>,
        binding: impl FnOnce() -> Binding,
    ) -> Result<Inputs, Failure> {
        let common = dispatch::common(params)?;
        let responses = match common.input_responses {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(responses)) => responses,
            Some(_) => {
                return Err(Failure::InvalidParams(
                    "\"inputResponses\" must be an object".to_owned(),
                ));
            }
        };
        let state = match &common.request_state {
            None => None,
            Some(Value::String(sealed)) => {
                let opened = self.instance.process.sealer.open(sealed, &binding());
                Some(opened.map_err(|refused| Failure::InvalidParams(refused.to_string()))?)
            }
            Some(_) => {
                return Err(Failure::InvalidParams("\"requestState\" must be a string".to_owned()));
            }
        };
        Ok(Inputs { responses: responses.into_iter().collect(), state })
    }

    /// An `input_required` result, or why it cannot be asked for.
    fn ask(
        &self,
        requests: Questions,
        state: Option<Value>,
        capabilities: Capabilities,
        binding: &Binding,
    ) -> Result<Value, Failure> {
        if let Some(required) = call::missing(&requests, capabilities) {
            return Err(Failure::MissingCapability(required));
        }
        self.arrival.record.set_outcome(RequestOutcome::InputRequired);
        let questions =
            requests.into_iter().map(|(key, request)| (key.to_owned(), request.embedded()));
        let mut result = json!({
            "resultType": "input_required",
            "inputRequests": Value::Object(questions.collect()),
            "_meta": self.instance.catalogue.server_meta(),
        });
        if let Some(state) = state {
            result["requestState"] = self.instance.process.sealer.seal(state, binding).into();
        }
        Ok(result)
    }

    fn prompt(
        &self,
        id: Id<'_>,
        params: &Params<'_>,
        client: &ClientFacts,
    ) -> Result<Reply, Failure> {
        let named: super::model::NamedParams<'_> = require(params.raw, "\"name\" of a prompt")?;
        let arguments = named.arguments.map(|Object(raw)| raw);
        let binding = || self.binding(Method::PromptsGet, &named.name, arguments);
        let inputs = self.inputs(params, binding)?;
        match dispatch::get_prompt(self.instance, params.raw, &inputs)? {
            Outcome::Done(prompt) => {
                let result = serde_json::to_vec(&prompt).map_err(|_| Failure::Internal)?;
                Ok(self.complete(id, &result))
            }
            Outcome::NeedInput { requests, state } => {
                let result = self.ask(requests, state, client.capabilities, &binding())?;
                Ok(self.whole(jsonrpc::success(id, result.to_string().as_bytes())))
            }
            Outcome::Missing(required) => Err(Failure::MissingCapability(required)),
            Outcome::Refused { code, message } => Err(Failure::Refused { code, message }),
        }
    }

    async fn call(
        &self,
        id: Id<'_>,
        params: &Params<'_>,
        client: ClientFacts,
    ) -> Result<Reply, Failure> {
        let call = ToolCall::find(self.instance, params)?;
        self.arrival.record.set_tool(call.tool.name);
        headers::check_mirrored(self.arrival.headers(), &call)?;
        let inputs = self.inputs(params, || self.binding_of(&call))?;
        let (prepared, session) = match call.prepare(self.instance, &inputs) {
            Err(bad) => {
                let result = ToolResult::error(bad.to_string());
                (Prepared::now(move |_| result), None)
            }
            Ok(Ready { prepared, handle: None }) => (prepared, None),
            Ok(Ready { prepared, handle: Some(handle) }) => {
                match dispatch::by_handle(self.instance, &handle, self.arrival.caller).await {
                    Ok(session) => (prepared, Some(session)),
                    Err(result) => (Prepared::now(move |_| result), None),
                }
            }
        };
        if let Some(session) = &session {
            self.arrival.record.set_session(session.reference);
        }
        let stream = (call.tool.streams && reply::can_stream(self.form(), self.accepted))
            .then(EventLog::passing);
        let capabilities = client.capabilities;
        let context = Arc::new(CallContext::new(
            Arc::clone(self.instance),
            session,
            Arc::clone(self.arrival),
            client,
            stream.clone(),
        ));
        let work = match prepared {
            Prepared::Now(run) => {
                let outcome = run(&context);
                let message = self.finish(id, &call, &context, outcome)?;
                return Ok(self.whole(message));
            }
            Prepared::Later(run) => run(Arc::clone(&context)),
            Prepared::Task { run, .. } if capabilities.tasks => {
                return self.create_task(id, call.tool, context, run);
            }
            Prepared::Task { required: true, .. } => {
                return Err(Failure::needs_tasks());
            }
            Prepared::Task { required: false, run } => run(Arc::clone(&context), call::nobody()),
        };
        // The session, if there is one, stays awake while the call runs.
        let hold = context.session.as_ref().map(|session| self.instance.sessions.hold(session));
        let Some(log) = stream else {
            // Dropped with the request if the client goes away.
            let outcome = work.await;
            drop(hold);
            let message = self.finish(id, &call, &context, outcome)?;
            return Ok(self.whole(message));
        };
        let gone = CancellationToken::new();
        let (writer, cancelled) = (Arc::clone(&log), gone.clone());
        let (instance, arrival, accepted) =
            (Arc::clone(self.instance), Arc::clone(self.arrival), self.accepted);
        let (id, call): (OwnedId, OwnedCall) = (id.to_owned(), call.to_owned());
        self.instance.process.lifecycle.spawn(async move {
            let exchange = Exchange { instance: &instance, arrival: &arrival, accepted };
            let _hold = hold;
            let outcome = tokio::select! {
                outcome = outcome_of(work) => outcome,
                () = cancelled.cancelled() => {
                    return arrival.record.set_outcome(RequestOutcome::Cancelled);
                }
            };
            let finished = match outcome {
                Some(outcome) => exchange.finish(id.get(), &call.get(), &context, outcome),
                None => Err(Failure::Internal),
            };
            let message = finished.unwrap_or_else(|failure| {
                arrival.record.set_outcome(failure.outcome());
                failure.to_message(Some(id.get()), ERA)
            });
            writer.send(&message).await;
            writer.finish();
        });
        let keep_alive = self.instance.policy.stream.keep_alive_seconds.get();
        // A call is let finish when the server stops; it ends with its reader.
        let never = CancellationToken::new();
        let open = self.instance.counters.open_stream(StreamKind::Call);
        let guard = (gone.drop_guard(), open);
        Ok(Reply::Stream(EventStream::new(log, None, keep_alive, never, guard)))
    }

    /// Answers a call with a task, which is to be found by the time its id goes out.
    fn create_task(
        &self,
        id: Id<'_>,
        tool: &'static Tool,
        context: Arc<CallContext>,
        run: TaskRun,
    ) -> Result<Reply, Failure> {
        let capabilities = context.client.capabilities;
        let task = match self.instance.tasks.create(self.arrival.caller, capabilities) {
            Ok(task) => task,
            Err(tasks::Refused::Full) => return Err(Failure::TooManyTasks),
            Err(tasks::Refused::NoEntropy) => return Err(Failure::Internal),
        };
        let mut result = task.summary();
        result["resultType"] = "task".into();
        result["_meta"] = self.instance.catalogue.server_meta();
        // The session, if there is one, stays awake while the task works.
        let hold = context.session.as_ref().map(|own| self.instance.sessions.hold(own));
        let work = run(Arc::clone(&context), task.asker());
        let work = run_task(task, context, tool, work, hold);
        self.instance.process.lifecycle.spawn(work);
        Ok(self.whole(jsonrpc::success(id, result.to_string().as_bytes())))
    }

    fn finish(
        &self,
        id: Id<'_>,
        call: &ToolCall<'_>,
        context: &CallContext,
        outcome: Outcome<ToolResult>,
    ) -> Result<Bytes, Failure> {
        match outcome {
            Outcome::Done(result) => {
                if call.tool.counted {
                    context.count();
                }
                self.arrival.record.set_outcome(RequestOutcome::of_tool(result.is_error));
                Ok(jsonrpc::success_with(id, |message| {
                    message.extend_from_slice(self.instance.catalogue.result_start());
                    message.push(b',');
                    result.write_members(message);
                    message.push(b'}');
                }))
            }
            Outcome::NeedInput { requests, state } => {
                let capabilities = context.client.capabilities;
                let result = self.ask(requests, state, capabilities, &self.binding_of(call))?;
                Ok(jsonrpc::success(id, result.to_string().as_bytes()))
            }
            Outcome::Missing(required) => Err(Failure::MissingCapability(required)),
            Outcome::Refused { code, message } => Err(Failure::Refused { code, message }),
        }
    }

    /// `tasks/get`, `tasks/update`, `tasks/cancel`.
    fn task(
        &self,
        method: Method,
        id: Id<'_>,
        params: &Params<'_>,
        client: &ClientFacts,
    ) -> Result<Reply, Failure> {
        if !client.capabilities.tasks {
            return Err(Failure::needs_tasks());
        }
        let TaskParams { task_id } = require(params.raw, "\"taskId\"")?;
        let Some(task) = self.instance.tasks.find(&task_id, self.arrival.caller) else {
            return Err(Failure::InvalidParams(self.unknown_task(&task_id)));
        };
        let result = match method {
            Method::TasksUpdate => {
                let Common { input_responses, .. } = dispatch::common(params)?;
                match input_responses {
                    Some(Value::Object(answers)) => task.update(&answers),
                    _ => {
                        let problem = "\"inputResponses\" is required, an object".to_owned();
                        return Err(Failure::InvalidParams(problem));
                    }
                }
                json!({})
            }
            Method::TasksCancel => {
                task.cancel();
                json!({})
            }
            _ => task.describe(),
        };
        Ok(self.complete(id, result.to_string().as_bytes()))
    }

    /// What a task id that leads nowhere tells.
    fn unknown_task(&self, task_id: &str) -> String {
        use crate::session::SessionId;
        let ours = self.instance.process.origin;
        let Some(id) = SessionId::parse(task_id) else { return "there is no such task".to_owned() };
        match id.instance() {
            Some(other) if other != self.instance.id => {
                format!(
                    "there is no such task here: instance {other} made it, and instance {} answers",
                    self.instance.id
                )
            }
            _ if id.origin().tag != ours.tag => {
                format!(
                    "there is no such task here: replica {} made it, and replica {} answers",
                    id.origin().tag,
                    ours.tag
                )
            }
            _ if id.origin().boot != ours.boot => {
                "there is no such task: it was made before this server was last started".to_owned()
            }
            _ => "there is no such task; its time may be over (tasks.ttl_seconds)".to_owned(),
        }
    }

    fn complete(&self, id: Id<'_>, result: &[u8]) -> Reply {
        self.whole(jsonrpc::success(id, &self.instance.catalogue.complete(result)))
    }

    fn form(&self) -> ResponseForm {
        self.instance.policy.protocol.response
    }

    fn whole(&self, message: Bytes) -> Reply {
        Reply::whole(message, self.form(), self.accepted)
    }
}

/// Runs a task to its end, or until it is cancelled.
async fn run_task(
    task: Arc<Task>,
    context: Arc<CallContext>,
    tool: &'static Tool,
    work: BoxFuture<'static, Outcome<ToolResult>>,
    _hold: Option<Hold>,
) {
    let failed =
        |failure: &Failure| serde_json::to_value(failure.to_object(ERA)).unwrap_or_default();
    let outcome = tokio::select! {
        outcome = outcome_of(work) => outcome,
        () = task.cancelled.cancelled() => return,
    };
    let Some(outcome) = outcome else { return task.fail(failed(&Failure::Internal)) };
    match outcome {
        Outcome::Done(result) => {
            if tool.counted {
                context.count();
            }
            match serde_json::to_value(&result) {
                Ok(result) => task.complete(result),
                Err(_) => task.fail(failed(&Failure::Internal)),
            }
        }
        // A task asks through itself, so this is a fault of ours.
        Outcome::NeedInput { .. } => task.fail(failed(&Failure::Internal)),
        Outcome::Missing(required) => task.fail(failed(&Failure::MissingCapability(required))),
        Outcome::Refused { code, message } => {
            task.fail(failed(&Failure::Refused { code, message }))
        }
    }
}
