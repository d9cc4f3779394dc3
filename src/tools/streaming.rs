//! The tools for testing proxies: timed events, large answers, the request as it arrived.
//!
//! Owns their rows and what they do. How long they take and how much they send is limited by configuration.
//! Trap: whether a proxy buffers shows only if every event says when it was sent.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    TOOL, Tool,
    arguments::{Arguments, BadArguments},
    call::{CallContext, Prepared},
    diagnostics, input, nullable, object,
};
use crate::{
    clock::millis,
    ruler,
    wire::{Json, LogLevel, Raw, ToolResult},
};

/// The most events of one call.
const MAX_TICKS: u64 = 10_000;

pub(super) const TOOLS: &[Tool] = &[
    Tool {
        name: "stream_ticks",
        title: "Stream ticks",
        description: "Sends timed events before its result: a progress notification each, if the request has a progressToken, and a log message each at level debug. Every event says its number and when it was sent, so that buffering on the way can be measured.",
        input_schema: |config| {
            let properties = json!({
                "count": { "type": "integer", "description": "How many events", "minimum": 1, "maximum": MAX_TICKS, "default": 5 },
                "interval_ms": {
                    "type": "integer",
                    "description": "Milliseconds between them",
                    "minimum": 0,
                    "maximum": config.max_delay_seconds.get().as_millis() as u64,
                    "default": 200,
                },
            });
            input(properties, &[])
        },
        output_schema: Some(|| {
            object(json!({
                "count": { "type": "integer" },
                "interval_ms": { "type": "integer" },
                "started_at": { "type": "string", "format": "date-time" },
                "finished_at": { "type": "string", "format": "date-time" },
                "streamed": { "type": "boolean", "description": "Whether the answer was an event stream" },
            }))
        }),
        streams: true,
        prepare: stream_ticks,
        ..TOOL
    },
    Tool {
        name: "big_response",
        title: "Large response",
        description: "Answers with a text of exactly so many bytes, and with its SHA-256.",
        input_schema: |config| {
            let bytes = json!({ "type": "integer", "description": "Length of the text", "minimum": 1, "maximum": config.max_response_bytes });
            input(json!({ "bytes": bytes }), &["bytes"])
        },
        output_schema: Some(|| {
            object(json!({ "bytes": { "type": "integer" }, "sha256": { "type": "string" } }))
        }),
        large: true,
        prepare: big_response,
        ..TOOL
    },
    Tool {
        name: "request_echo",
        title: "Echo the request",
        description: "Shows this request as it arrived: HTTP method, path, query, version, every header with its repetitions side by side in their order, peer, _meta character for character, trace context, and a digest of the body. What looks like a credential in a header or the query is redacted.",
        output_schema: Some(|| {
            object(json!({
                "http": { "type": "object" },
                "body": { "type": "object", "description": "Length and SHA-256 of the body" },
                "meta": nullable(json!({ "type": "object" })),
                "trace": { "type": "object" },
                "received_at": { "type": "string", "format": "date-time" },
            }))
        }),
        prepare: |arguments| {
            arguments.finish()?;
            Ok(Prepared::now(request_echo))
        },
        ..TOOL
    },
];

fn stream_ticks(arguments: &mut Arguments<'_>) -> Result<Prepared, BadArguments> {
    let longest = arguments.limits.max_delay_seconds.get();
    let most = millis(longest);
    let count = arguments.optional_integer("count", 1..=MAX_TICKS)?.unwrap_or(5);
    let interval_ms = arguments.optional_integer("interval_ms", 0..=most)?.unwrap_or(200);
    arguments.finish()?;
    if count * interval_ms > most {
        let problem = format!(
            "\"count\" times \"interval_ms\" must not be more than {most} ms (tools.max_delay_seconds)"
        );
        return Err(arguments.bad(problem));
    }
    Ok(Prepared::later(move |context| async move {
        let clock = context.instance.process.clock;
        let started = clock.now();
        for number in 1..=count {
            tokio::time::sleep(Duration::from_millis(interval_ms)).await;
            let sent_at = clock.time_of_day().time(clock.now());
            let text = format!("tick {number} of {count}, sent at {sent_at}");
            context.progress(number as f64, count as f64, &text).await;
            context.log(LogLevel::Debug, json!({ "tick": number, "sent_at": sent_at })).await;
        }
        let day = clock.time_of_day();
        ToolResult::json(&json!({
            "count": count,
            "interval_ms": interval_ms,
            "started_at": day.time(started),
            "finished_at": day.time(clock.now()),
            "streamed": context.stream.is_some(),
        }))
    }))
}

fn big_response(arguments: &mut Arguments<'_>) -> Result<Prepared, BadArguments> {
    let most = arguments.limits.max_response_bytes;
    let bytes = arguments.optional_integer("bytes", 1..=most)?;
    arguments.finish()?;
    let Some(bytes) = bytes else {
        return Err(arguments.bad("the argument \"bytes\" is required".to_owned()));
    };
    Ok(Prepared::later(move |context| async move {
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        let (mut text, mut digest) = (Vec::with_capacity(length), Sha256::new());
        for (number, start) in (0..length).step_by(ruler::STRETCH).enumerate() {
            ruler::write(&mut text, start, length.min(start.saturating_add(ruler::STRETCH)));
            digest = context.instance.process.ruler.digest(number, digest, &text[start..]);
            // Let other requests run, however large the answer is.
            tokio::task::yield_now().await;
        }
        let structured = json!({ "bytes": bytes, "sha256": hex(&digest.finalize()) });
        // Digits and spaces.
        let text = String::from_utf8(text).unwrap_or_default();
        ToolResult::new(text, Json::composed(structured.to_string()))
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What [`request_echo`] shows. `_meta` and its members are the text that came: numbers digit for digit, members in their
/// order and as often as they stand there.
#[derive(Serialize)]
struct Arrived<'a> {
    http: Value,
    body: Value,
    meta: Option<Raw<'a>>,
    trace: BTreeMap<&'static str, Trace<'a>>,
    received_at: Timestamp,
}

#[derive(Serialize)]
struct Trace<'a> {
    header: Option<String>,
    meta: Option<Raw<'a>>,
}

fn request_echo(context: &CallContext) -> ToolResult {
    let inbound = &context.inbound;
    let meta = context.client.meta.as_deref().map(Raw::again);
    let members = meta.and_then(|meta| serde_json::from_str(meta.get()).ok());
    let members: BTreeMap<String, Raw<'_>> = members.unwrap_or_default();
    let trace = |name| {
        let header = diagnostics::header_shown(inbound, name);
        (name, Trace { header, meta: members.get(name).copied() })
    };
    ToolResult::readable(&Arrived {
        http: diagnostics::print_header(context),
        body: json!({ "bytes": inbound.body.len(), "sha256": hex(&Sha256::digest(&inbound.body)) }),
        meta,
        trace: ["traceparent", "tracestate", "baggage"].map(trace).into(),
        received_at: context.instance.process.clock.time_of_day().time(context.received()),
    })
}
