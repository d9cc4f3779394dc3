//! The echo tools: echo, and the replay of the last one.
//!
//! Owns their rows and what they do.
//! Trap: `echo` reports a count that includes itself, so it is an operation: its answer is made after the change.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    TOOL, Tool,
    arguments::{Arguments, BadArguments},
    call::{CallContext, Operation, Prepared, Step, needs_session},
    input, nullable, object,
};
use crate::{
    clock::{Moment, Rfc3339},
    config::ToolsConfig,
    session::{Change, LastEcho, Record, Want},
    wire::{Json, Text, ToolResult, model::write_string},
};

pub(super) const ECHO: Tool = Tool {
    name: "echo",
    title: "Echo",
    description: "Echoes the message back. The answer's structured content tracks the session: how many calls it has completed and when. Can wait before it answers.",
    input_schema: echo_arguments,
    output_schema: Some(|| {
        object(json!({
            "message": { "type": "string" },
            "format": { "type": "string", "enum": ["plain", "json", "markdown"] },
            "session_id": nullable(json!({ "type": "string", "description": "null without a session" })),
            "request_count": nullable(json!({ "type": "integer", "minimum": 1 })),
            "first_request_at": nullable(json!({ "type": "string", "format": "date-time" })),
            "last_request_at": nullable(json!({ "type": "string", "format": "date-time" })),
        }))
    }),
    read_only: false,
    idempotent: false,
    prepare: echo,
    stateful: true,
    ..TOOL
};

pub(super) const REPLAY: Tool = Tool {
    name: "replayLastEcho",
    title: "Replay the last echo",
    description: "Repeats the message that echo was last called with in this session.",
    output_schema: Some(|| {
        object(json!({
            "found": { "type": "boolean", "description": "Whether echo was called before" },
            "message": nullable(json!({ "type": "string" })),
            "session_id": { "type": "string" },
        }))
    }),
    prepare: replay_last_echo,
    stateful: true,
    ..TOOL
};

fn echo_arguments(config: &ToolsConfig) -> Value {
    let properties = json!({
        "message": { "type": "string", "description": "The message to echo" },
        "delay": {
            "type": "number",
            "description": "Seconds to wait before the answer",
            "minimum": 0,
            "maximum": config.max_delay_seconds.get().as_secs_f64(),
        },
        "format": {
            "type": "string",
            "description": "Form of the text: the message itself, JSON with the session's tracking, or Markdown with it",
            "enum": ["plain", "json", "markdown"],
            "default": "plain",
        },
    });
    input(properties, &["message"])
}

#[derive(Clone, Copy)]
enum Format {
    Plain,
    Json,
    Markdown,
}

impl Format {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Json => "json",
            Self::Markdown => "markdown",
        }
    }
}

fn echo(arguments: &mut Arguments<'_>) -> Result<Prepared, BadArguments> {
    let message = arguments.text("message")?;
    let delay = arguments.optional_number("delay")?.unwrap_or(0.0);
    let format = match arguments.optional_string("format")?.as_deref() {
        None | Some("plain") => Format::Plain,
        Some("json") => Format::Json,
        Some("markdown") => Format::Markdown,
        Some(other) => {
            let problem =
                format!("the argument \"format\" must be plain, json or markdown, not {other:?}");
            return Err(arguments.bad(problem));
        }
    };
    arguments.finish()?;
    let longest = arguments.limits.max_delay_seconds.get();
    if !(0.0..=longest.as_secs_f64()).contains(&delay) {
        let problem = format!(
            "the argument \"delay\" must be 0 to {} seconds (tools.max_delay_seconds)",
            longest.as_secs_f64()
        );
        return Err(arguments.bad(problem));
    }
    let echo = Step::Operate(Box::new(Echo { message, format }));
    Ok(match Duration::from_secs_f64(delay) {
        Duration::ZERO => Prepared::Now(echo),
        delay => Prepared::After(delay, echo),
    })
}

struct Echo {
    message: Text,
    format: Format,
}

impl Operation for Echo {
    fn change(&self) -> Change<'_> {
        Change { echo: Some(self.message.as_str()), ..Change::default() }
    }

    fn answer(self: Box<Self>, context: &CallContext, session: Option<&Record>) -> ToolResult {
        let Self { message, format } = *self;
        let structured = tracking(context, message.as_str(), format, session);
        let text = match format {
            Format::Json => structured.get().into(),
            Format::Markdown => Text::from(match session {
                Some(session) => format!(
                    "## Echo\n\n{}\n\n- **Session:** `{}`\n- **Request count:** {}\n",
                    message.as_str(),
                    session.head.id,
                    session.tally.requests
                ),
                None => format!("## Echo\n\n{}\n", message.as_str()),
            }),
            Format::Plain => message,
        };
        ToolResult::new(text, structured)
    }
}

/// The structured content of an echo, as its output schema says. Written by hand, without serde, because an echo is what
/// most people measure a server or a proxy with.
fn tracking(
    context: &CallContext,
    message: &str,
    format: Format,
    session: Option<&Record>,
) -> Json {
    let mut out = Vec::with_capacity(message.len() + 240);
    out.extend_from_slice(b"{\"message\":");
    write_string(&mut out, message);
    // `name` ends with the quotation mark that a text begins with, if the value is one.
    let mut member = |name: &str, value: Option<&[u8]>, after: &str| match value {
        Some(value) => {
            for piece in [name.as_bytes(), value, after.as_bytes()] {
                out.extend_from_slice(piece);
            }
        }
        None => {
            out.extend_from_slice(name.trim_end_matches('"').as_bytes());
            out.extend_from_slice(b"null");
        }
    };
    member(",\"format\":\"", Some(format.as_str().as_bytes()), "\"");
    let mut buffer = [0; 36];
    let id = session.map(|session| session.head.id.encode(&mut buffer).as_bytes());
    member(",\"session_id\":\"", id, "\"");
    let tally = session.map(|session| session.tally);
    let mut digits = itoa::Buffer::new();
    let count = tally.map(|tally| digits.format(tally.requests).as_bytes());
    member(",\"request_count\":", count, "");
    // The call that this answers was the last one, and was counted just now.
    let last = tally.and_then(|tally| tally.last);
    let day = last.map(|now| context.instance.process.clock.time_of_day_at(now));
    let text = |moment: Option<Moment>| Some(day?.text(moment?));
    let first = text(tally.and_then(|tally| tally.first));
    member(",\"first_request_at\":\"", first.as_ref().map(Rfc3339::as_bytes), "\"");
    let last = text(last);
    member(",\"last_request_at\":\"", last.as_ref().map(Rfc3339::as_bytes), "\"");
    out.push(b'}');
    Json::composed(out)
}

fn replay_last_echo(arguments: &mut Arguments<'_>) -> Result<Prepared, BadArguments> {
    arguments.finish()?;
    Ok(Prepared::reading(Want::Echo, |_, session| {
        let Some(session) = session else { return needs_session() };
        let (message, text) = match session.last_echo() {
            LastEcho::Kept(message) => (Some(message), message),
            LastEcho::None => {
                let text = "Nothing has been echoed in this session yet; call echo first.";
                (None, CallContext::first_call(session, true).unwrap_or(text))
            }
            LastEcho::TooLarge => {
                (None, "The last echo was larger than session.max_data_bytes, so it was not kept.")
            }
        };
        let structured = json!({
            "found": message.is_some(),
            "message": message,
            "session_id": session.head.id.to_string(),
        });
        ToolResult::new(text.to_owned(), Json::composed(structured.to_string()))
    }))
}
