//! The tools that show that the server is stateful: a session's data, its facts, its beginning and its end.
//!
//! Owns the rows of the set `session`, of which the echo tools are part.
//! Trap: a value is returned as it was stored. So what some client could not parse must not be stored.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    CREATE_SESSION, SET_SESSION_DATA, TOOL, Tool,
    arguments::{Arguments, BadArguments},
    call::{CallContext, Operation, Outcome, Prepared, needs_session},
    echo, input, minted_by_schema, nullable, object, resources, with_optional,
};
use crate::{
    id::EndReason,
    session::{Change, Client, Handshake, Head, Record, Tally, Want},
    tenant::Update,
    wire::{ProtocolVersion, ToolResult, jsonrpc::compact},
};

pub(super) const TOOLS: &[Tool] = &[
    echo::ECHO,
    Tool {
        name: SET_SESSION_DATA,
        title: "Store session data",
        description: "Stores any JSON value under a key of this session, until the session ends. A value that was there is replaced. A call without a session, in a protocol revision that has none, begins one, as create_session does, and returns its handle to be passed as \"session\" from then on.",
        input_schema: |_| {
            let properties = json!({
                "key": { "type": "string", "description": "Name of the value", "minLength": 1 },
                "value": { "description": "Any JSON value" },
            });
            input(properties, &["key", "value"])
        },
        output_schema: Some(|| {
            let always = object(json!({
                "key": { "type": "string" },
                "stored": { "type": "boolean" },
                "replaced": { "type": "boolean", "description": "Whether the key was there before" },
                "data_keys": { "type": "array", "items": { "type": "string" } },
                "data_bytes": { "type": "integer", "minimum": 0 },
            }));
            let sometimes = json!({
                "session": { "type": "string", "description": "The handle, if this call began the session" },
                "expires_at": { "type": "string", "format": "date-time", "description": "If it is not used before" },
                "note": { "type": "string" },
            });
            with_optional(always, sometimes)
        }),
        read_only: false,
        // Without a session each call begins another.
        idempotent: false,
        prepare: set_session_data,
        stateful: true,
        ..TOOL
    },
    Tool {
        name: "get_session_data",
        title: "Read session data",
        description: "Reads what set_session_data stored in this session: one key, or everything if no key is given.",
        input_schema: |_| {
            let key = json!({ "type": "string", "description": "Name of the value; omit it to read all" });
            input(json!({ "key": key }), &[])
        },
        output_schema: Some(|| {
            json!({
                "type": "object",
                "properties": {
                    "key": { "type": "string" },
                    "found": { "type": "boolean", "description": "Whether the key is there" },
                    "value": { "description": "The value, null if it is not there" },
                    "data": { "type": "object", "description": "Every key with its value" },
                    "data_keys": { "type": "array", "items": { "type": "string" } },
                    "note": { "type": "string", "description": "If this is the first call of a new session" },
                },
            })
        }),
        prepare: get_session_data,
        stateful: true,
        ..TOOL
    },
    Tool {
        name: "get_session_info",
        title: "Describe the session",
        description: "Tells the session's id, age, count of completed calls, time until it expires, the keys of its data, and which instance, replica and boot minted and served it. Is not counted itself.",
        output_schema: Some(info_schema),
        counted: false,
        prepare: |arguments| {
            arguments.finish()?;
            Ok(Prepared::reading(Want::Data, |context, session| match session {
                Some(session) => ToolResult::json(&SessionInfo::of(session, context, false)),
                None => needs_session(),
            }))
        },
        stateful: true,
        ..TOOL
    },
    echo::REPLAY,
    Tool {
        name: "sessionInfo",
        title: "Session and server statistics",
        description: "Tells about the current session, as get_session_info does, and how many sessions this instance has begun and ended.",
        output_schema: Some(|| {
            object(json!({
                "session": nullable(info_schema()),
                "instance": {
                    "type": "object",
                    "properties": {
                        "live_sessions": { "type": "integer", "minimum": 0 },
                        "created_sessions": { "type": "integer", "minimum": 0 },
                        "session_capacity": { "type": "integer", "minimum": 1 },
                        "idle_timeout_seconds": { "type": "number" },
                        "uptime_seconds": { "type": "number" },
                    },
                },
            }))
        }),
        prepare: |arguments| {
            arguments.finish()?;
            Ok(Prepared::reading(Want::Data, session_statistics))
        },
        stateful: true,
        ..TOOL
    },
    Tool {
        name: CREATE_SESSION,
        title: "Create a session",
        description: "Creates a session and returns its handle. Pass the handle as \"session\" to the other tools, from any connection and in any revision. It expires when it has not been used for timeout_seconds, or for the server's own timeout.",
        input_schema: |_| {
            let properties = json!({
                "label": { "type": "string", "description": "A name for people", "maxLength": MAX_LABEL },
                "timeout_seconds": {
                    "type": "number",
                    "description": "Idle seconds until it expires; never more than the server's own timeout",
                    "minimum": 1,
                },
            });
            input(properties, &[])
        },
        output_schema: Some(|| {
            object(json!({
                "session": { "type": "string", "description": "The handle" },
                "label": nullable(json!({ "type": "string" })),
                "idle_timeout_seconds": { "type": "number" },
                "expires_at": { "type": "string", "format": "date-time", "description": "If it is not used before" },
                "minted_by": minted_by_schema("Where it lives"),
            }))
        }),
        read_only: false,
        idempotent: false,
        prepare: create_session,
        ..TOOL
    },
    Tool {
        name: "end_session",
        title: "End a session",
        description: "Ends the session of a handle and forgets its data; without a handle, the session of the connection.",
        output_schema: Some(|| {
            object(json!({
                "session": { "type": "string" },
                "ended": { "type": "boolean", "description": "False if it had ended already" },
            }))
        }),
        read_only: false,
        prepare: end_session,
        stateful: true,
        ..TOOL
    },
];

/// The longest key, in bytes. A resource's URI holds it, three times as long where it must be encoded.
const MAX_KEY: usize = 1024;

fn set_session_data(arguments: &mut Arguments<'_>) -> Result<Prepared, BadArguments> {
    let key = arguments.string("key")?.into_owned();
    let value = arguments.any("value")?;
    arguments.finish()?;
    if !(1..=MAX_KEY).contains(&key.len()) {
        let problem = format!("the argument \"key\" must have 1 to {MAX_KEY} bytes");
        return Err(arguments.bad(problem));
    }
    // Some client could not read it back.
    if let Some(fault) = value.fault() {
        return Err(arguments.bad(format!("the argument \"value\" {fault}")));
    }
    // Compact, because a line break would end the `data` line of an event.
    let value =
        RawValue::from_string(compact(value)).map_err(|error| arguments.bad(error.to_string()))?;
    Ok(Prepared::operation(SetData { key, value: value.into() }))
}

struct SetData {
    key: String,
    value: Arc<RawValue>,
}

impl Operation for SetData {
    fn change(&self) -> Change<'_> {
        let set = Some((&*self.key, &self.value));
        Change { set, want: Want::Data, ..Change::default() }
    }

    fn begins_session(&self) -> bool {
        true
    }

    fn answer(self: Box<Self>, context: &CallContext, session: Option<&Record>) -> ToolResult {
        let Some(session) = session else { return needs_session() };
        let uri = resources::data_uri(&session.head.id.to_string(), &self.key);
        context.instance.state.subscriptions.publish(&Update::Resource { uri });
        let mut stored = json!({
            "key": self.key,
            "stored": true,
            "replaced": session.replaced,
            "data_keys": session.data().keys(),
            "data_bytes": session.data_bytes,
        });
        if context.session.is_none() {
            let clock = context.instance.process.clock;
            stored["session"] = session.head.id.to_string().into();
            stored["expires_at"] = json!(clock.time_of_day().time(session.expires()));
            stored["note"] = BEGUN.into();
        }
        ToolResult::json(&stored)
    }
}

/// Said beside a handle that nobody has asked for.
const BEGUN: &str = "this call began the session: pass its handle as \"session\" to the other tools, and to this one";

fn get_session_data(arguments: &mut Arguments<'_>) -> Result<Prepared, BadArguments> {
    #[derive(Serialize)]
    struct One<'a> {
        key: &'a str,
        found: bool,
        value: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<&'static str>,
    }
    #[derive(Serialize)]
    struct All<'a> {
        data: &'a BTreeMap<Box<str>, Arc<RawValue>>,
        data_keys: Vec<Box<str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<&'static str>,
    }

    let key = arguments.optional_string("key")?.map(String::from);
    arguments.finish()?;
    Ok(Prepared::reading(Want::Data, move |_, session| {
        let Some(session) = session else { return needs_session() };
        let (data, note) = (session.data(), CallContext::first_call(session, true));
        match &key {
            Some(key) => {
                let value = data.get(key);
                ToolResult::json(&One { key, found: value.is_some(), value, note })
            }
            None => ToolResult::json(&All { data: data.values(), data_keys: data.keys(), note }),
        }
    }))
}

/// The longest label, in bytes.
const MAX_LABEL: usize = 100;

fn create_session(arguments: &mut Arguments<'_>) -> Result<Prepared, BadArguments> {
    let label = arguments.optional_string("label")?.map(String::from);
    let lifetime = arguments.optional_number("timeout_seconds")?;
    arguments.finish()?;
    if label.as_ref().is_some_and(|label| label.len() > MAX_LABEL) {
        let problem = format!("the argument \"label\" must not be longer than {MAX_LABEL} bytes");
        return Err(arguments.bad(problem));
    }
    if lifetime.is_some_and(|seconds| !(1.0..=31_536_000.0).contains(&seconds)) {
        let problem = "the argument \"timeout_seconds\" must be at least 1".to_owned();
        return Err(arguments.bad(problem));
    }
    Ok(Prepared::later(move |context| async move {
        let handshake = Handshake {
            label: label.map(String::into_boxed_str),
            timeout_millis: lifetime.map_or(u64::MAX, |seconds| (seconds * 1000.0) as u64),
            ..Handshake::implicit(None)
        };
        let session = match context.begin_session(handshake).await {
            Ok(session) => session,
            Err(outcome) => return outcome,
        };
        let instance = &context.instance;
        ToolResult::json(&json!({
            "session": session.head.id.to_string(),
            "label": session.head.handshake.label,
            "idle_timeout_seconds": session.head.timeout().as_secs_f64(),
            "expires_at": instance.process.clock.time_of_day().time(session.expires()),
            "minted_by": instance.here().to_json(),
        }))
        .into()
    }))
}

fn end_session(arguments: &mut Arguments<'_>) -> Result<Prepared, BadArguments> {
    arguments.finish()?;
    Ok(Prepared::later(|context| async move {
        let Some(session) = &context.session else { return needs_session().into() };
        let id = session.head.id;
        match context.instance.state.sessions.end(id, EndReason::Client).await {
            Ok(ended) => {
                ToolResult::json(&json!({ "session": id.to_string(), "ended": ended })).into()
            }
            Err(error) => Outcome::Failed(error.into()),
        }
    }))
}

#[derive(Serialize)]
struct SessionInfo {
    session_id: String,
    session_ref: String,
    request_count: u64,
    first_request_at: Option<Timestamp>,
    last_request_at: Option<Timestamp>,
    created_at: Timestamp,
    age_seconds: f64,
    idle_timeout_seconds: f64,
    expires_in_seconds: f64,
    expires_at: Timestamp,
    data_keys: Vec<Box<str>>,
    data_bytes: usize,
    client: Option<Client>,
    label: Option<Box<str>>,
    protocol_version: Option<&'static str>,
    initialized: bool,
    minted_by: Value,
    served_by: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

impl SessionInfo {
    fn of(session: &Record, context: &CallContext, counts: bool) -> Self {
        let instance = &context.instance;
        let clock = instance.process.clock;
        let (now, day) = (clock.now(), clock.time_of_day());
        let Head { id, reference, handshake, created, .. } = &*session.head;
        let Tally { requests, first, last } = session.tally;
        let mut served_by = instance.here().to_json();
        served_by["replica"] = instance.process.replica.as_str().into();
        Self {
            session_id: id.to_string(),
            session_ref: reference.to_string(),
            request_count: requests,
            first_request_at: first.map(|moment| day.time(moment)),
            last_request_at: last.map(|moment| day.time(moment)),
            created_at: day.time(*created),
            age_seconds: now.since(*created).as_secs_f64(),
            idle_timeout_seconds: session.head.timeout().as_secs_f64(),
            expires_in_seconds: session.expires().since(now).as_secs_f64(),
            expires_at: day.time(session.expires()),
            data_keys: session.data().keys(),
            data_bytes: session.data_bytes,
            client: handshake.client.clone(),
            label: handshake.label.clone(),
            protocol_version: handshake.version.map(ProtocolVersion::as_str),
            initialized: session.initialized,
            minted_by: id.minted_by().unwrap_or(instance.here()).to_json(),
            served_by,
            note: CallContext::first_call(session, counts),
        }
    }
}

fn info_schema() -> Value {
    let always = object(json!({
        "session_id": { "type": "string" },
        "session_ref": { "type": "string", "description": "What stands for the id in the server's log" },
        "request_count": { "type": "integer", "minimum": 0, "description": "Completed tools/call requests, get_session_info not counted" },
        "first_request_at": nullable(json!({ "type": "string", "format": "date-time" })),
        "last_request_at": nullable(json!({ "type": "string", "format": "date-time" })),
        "created_at": { "type": "string", "format": "date-time" },
        "age_seconds": { "type": "number", "minimum": 0 },
        "idle_timeout_seconds": { "type": "number", "minimum": 0 },
        "expires_in_seconds": { "type": "number", "minimum": 0 },
        "expires_at": { "type": "string", "format": "date-time" },
        "data_keys": { "type": "array", "items": { "type": "string" } },
        "data_bytes": { "type": "integer", "minimum": 0 },
        "client": nullable(json!({
            "type": "object",
            "description": "clientInfo of initialize; null for a session that began without it",
            "properties": { "name": { "type": "string" }, "version": { "type": "string" } },
        })),
        "label": nullable(json!({ "type": "string", "description": "What create_session was told to call it" })),
        "protocol_version": nullable(json!({ "type": "string", "description": "The negotiated revision; null for a handle" })),
        "initialized": { "type": "boolean", "description": "Whether notifications/initialized has come" },
        "minted_by": minted_by_schema("Where the id was minted, as its digits say"),
        "served_by": minted_by_schema("Where this answer comes from"),
    }));
    let note =
        json!({ "type": "string", "description": "If this is the first call of a new session" });
    with_optional(always, json!({ "note": note }))
}

fn session_statistics(context: &CallContext, session: Option<&Record>) -> ToolResult {
    let instance = &context.instance;
    let counts = instance.state.sessions.counts();
    ToolResult::readable(&json!({
        "session": session.map(|session| SessionInfo::of(session, context, true)),
        "instance": {
            "live_sessions": counts.live,
            "created_sessions": counts.created,
            "session_capacity": instance.policy.config.session.capacity,
            "idle_timeout_seconds": instance.policy.config.session.timeout_seconds.get().as_secs_f64(),
            "uptime_seconds": instance.process.clock.uptime().as_secs_f64(),
        },
    }))
}
