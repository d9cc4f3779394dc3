//! The tools that the official conformance suite calls, for people who run the suite through their gateway.
//!
//! Owns their rows and what they do. Names and texts are the suite's. They are listed only if configuration turns the set
//! on.
//! Trap: the order of the rows matters. The suite calls the first tool without arguments, and mirrors headers for the
//! first tool that has any to mirror.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    TOOL, Tool,
    arguments::{Arguments, BadArguments, MOST_EXACT},
    call::{CallContext, Outcome, Prepared},
    resources::PNG,
};
use crate::{
    config::ToolsConfig,
    failure::Failure,
    tenant::Update,
    wire::{
        Content, Contents, INTERNAL_ERROR, INVALID_PARAMS, InputKind, InputRequest, Inputs,
        LogLevel, Questions, ToolResult,
    },
};

/// A sound of no length, in base64.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";

/// Between two messages of a tool.
const PAUSE: Duration = Duration::from_millis(50);

macro_rules! rows {
    ($($name:literal, $title:literal, $description:literal $(, $field:ident: $value:expr)+;)+) => {
        &[$(Tool {
            name: $name,
            title: $title,
            description: $description,
            $($field: $value,)+
            ..TOOL
        }),+]
    };
}

pub(super) const TOOLS: &[Tool] = rows![
    "test_simple_text", "Text", "Returns a simple text.", prepare: |arguments| {
        fixed(arguments, |_| ToolResult::text("This is a simple text response for testing."))
    };
    "test_image_content", "Picture", "Returns a picture.", prepare: |arguments| {
        fixed(arguments, |_| ToolResult::of([image()]))
    };
    "test_audio_content", "Sound", "Returns a sound.", prepare: |arguments| {
        fixed(arguments, |_| ToolResult::of([Content::Audio { data: WAV, mime_type: "audio/wav" }]))
    };
    "test_embedded_resource", "Embedded resource", "Returns an embedded resource.", prepare: |arguments| {
        fixed(arguments, |_| {
            let text = "This is an embedded resource content.".to_owned();
            ToolResult::of([resource("test://embedded-resource", "text/plain", text)])
        })
    };
    "test_multiple_content_types", "Mixed content", "Returns a text, a picture and a resource.",
    prepare: |arguments| {
        fixed(arguments, |_| {
            let text = json!({ "test": "data", "value": 123 }).to_string();
            ToolResult::of([
                Content::text("Multiple content types test:"),
                image(),
                resource("test://mixed-content-resource", "application/json", text),
            ])
        })
    };
    "test_error_handling", "Error", "Always fails.", prepare: |arguments| {
        fixed(arguments, |_| ToolResult::error("This tool intentionally returns an error for testing"))
    };
    "test_tool_with_progress", "Progress", "Reports its progress three times.",
    streams: true, prepare: with_progress;
    "test_tool_with_logging", "Logging", "Sends three log messages.",
    streams: true, prepare: with_logging;
    "test_sampling", "Sampling", "Asks the client's model to answer a prompt.",
    streams: true, input_schema: |_| text_argument("prompt"), prepare: |arguments| {
        let prompt = arguments.string("prompt")?.into_owned();
        asks(arguments, "sample", sample(&prompt), |answer| format!("LLM response: {}", model_text(answer)))
    };
    "test_elicitation", "Elicitation", "Asks the user for a name and an address.",
    streams: true, input_schema: |_| text_argument("message"), prepare: |arguments| {
        let message = arguments.string("message")?.into_owned();
        asks(arguments, "answer", form(&message, PERSON), user_response)
    };
    "test_elicitation_sep1034_defaults", "Elicitation with defaults", "Asks the user with a form that has defaults.",
    streams: true, prepare: |arguments| {
        let question = form("Please review and update the form fields with defaults", DEFAULTS);
        asks(arguments, "answer", question, user_response)
    };
    "test_elicitation_sep1330_enums", "Elicitation with choices", "Asks the user with a form that has choices.",
    streams: true, prepare: |arguments| {
        let question = form("Please select options from the enum fields", CHOICES);
        asks(arguments, "answer", question, user_response)
    };
    "test_elicitation_url", "Elicitation by URL", "Asks the user to open a page.",
    streams: true, prepare: |arguments| asks(arguments, "page", page(), user_response);
    "test_list_roots", "Roots", "Asks the client for its roots.",
    streams: true, prepare: |arguments| asks(arguments, "roots", roots(), root_names);
    "test_reconnection", "Reconnection", "Hangs up before it is done; its answer waits on the resumed stream.",
    streams: true, prepare: reconnection;
    "json_schema_2020_12_tool", "JSON Schema 2020-12", "Has an input schema that uses what JSON Schema 2020-12 has.",
    input_schema: schema_2020_12, prepare: contact;
    "test_missing_capability", "Missing capability", "Needs a client that can sample.", prepare: |arguments| {
        arguments.finish()?;
        Ok(Prepared::now(|context: &CallContext| match context.client.capabilities.sampling {
            true => Outcome::Done(ToolResult::text("The client can sample.")),
            false => Outcome::Failed(Failure::MissingCapability(InputKind::Sampling.required())),
        }))
    };
    "test_streaming_elicitation", "Elicitation by result", "Asks by its result, never by a request.",
    streams: true, prepare: |arguments| asks(arguments, "answer", form("Please confirm", CONFIRM), user_response);
    "test_logging_tool", "Logging on request", "Sends one log message if the request asks for them.",
    streams: true, prepare: |arguments| {
        arguments.finish()?;
        Ok(Prepared::later(|context| async move {
            context.log(LogLevel::Error, json!("One log message")).await;
            ToolResult::text("Logged, if that was wanted.")
        }))
    };
    "test_trigger_tool_change", "Tools changed", "Says that the list of tools has changed.",
    read_only: false, prepare: |arguments| publishes(arguments, Update::Tools);
    "test_trigger_prompt_change", "Prompts changed", "Says that the list of prompts has changed.",
    read_only: false, prepare: |arguments| publishes(arguments, Update::Prompts);
    "test_trigger_resource_update", "Resource updated", "Says that test://watched-resource has changed.",
    read_only: false, prepare: |arguments| {
        publishes(arguments, Update::Resource { uri: "test://watched-resource".to_owned() })
    };
    "test_custom_header", "Mirrored arguments", "Has arguments that are mirrored into headers.",
    mirrored: &[("value", "Value"), ("count", "Count"), ("flag", "Flag")],
    input_schema: |_| json!({
        "type": "object",
        "properties": {
            "value": { "type": "string", "x-mcp-header": "Value" },
            "count": { "type": "integer", "minimum": -MOST_EXACT, "maximum": MOST_EXACT, "x-mcp-header": "Count" },
            "flag": { "type": "boolean", "x-mcp-header": "Flag" },
        },
        "required": ["value"],
    }),
    prepare: |arguments| {
        let value = arguments.string("value")?.into_owned();
        arguments.optional_exact("count")?;
        arguments.flag("flag")?;
        fixed(arguments, move |_| ToolResult::text(value.clone()))
    };
    "test_input_required_result_elicitation", "Asks for a name", "Asks the user for a name.",
    streams: true, prepare: |arguments| asks(arguments, "user_name", form("What is your name?", NAME), greeting);
    "test_input_required_result_sampling", "Asks for a completion", "Asks the client's model.",
    streams: true, prepare: |arguments| {
        asks(arguments, "capital_question", sample("What is the capital of France?"), model_text)
    };
    "test_input_required_result_list_roots", "Asks for roots", "Asks the client for its roots.",
    streams: true, prepare: |arguments| asks(arguments, "client_roots", roots(), root_names);
    "test_input_required_result_request_state", "Keeps state", "Has the client carry a state.",
    streams: true, prepare: |arguments| staged(arguments, confirmed);
    "test_input_required_result_multiple_inputs", "Asks three things", "Asks the user, the model and for roots at once.",
    streams: true, prepare: |arguments| staged(arguments, |inputs, _| {
        let answers = (inputs.get("user_name"), inputs.get("greeting"), inputs.get("client_roots"));
        match (answers, &inputs.state) {
            ((Some(_), Some(greeting), Some(roots)), Some(_)) => {
                let name = inputs.filled("user_name", "name").unwrap_or("nobody");
                let text = format!("{name}: {}; {}", model_text(greeting), root_names(roots));
                Outcome::Done(ToolResult::text(text))
            }
            _ => ask(questions_of(&["user_name", "greeting", "client_roots"]), Some(json!("multiple"))),
        }
    });
    "test_input_required_result_multi_round", "Asks twice", "Asks for a name, then for a colour.",
    streams: true, prepare: |arguments| staged(arguments, multi_round);
    "test_input_required_result_tampered_state", "Seals state", "Has the client carry a state that it cannot change.",
    streams: true, prepare: |arguments| staged(arguments, confirmed);
    "test_input_required_result_capabilities", "Asks what can be asked", "Asks only what the client can answer.",
    streams: true, prepare: |arguments| staged(arguments, |inputs, context| {
        if !inputs.responses.is_empty() {
            return Outcome::Done(ToolResult::text("Thank you."));
        }
        let all = questions_of(&["user_name", "greeting", "client_roots"]);
        let capabilities = context.client.capabilities;
        let can: Vec<_> = all.into_iter().filter(|(_, r)| r.kind.supported_by(capabilities)).collect();
        match can.is_empty() {
            true => Outcome::Done(ToolResult::text("The client can answer nothing.")),
            false => ask(can, None),
        }
    });
    "greet", "Greet", "Greets, at once.", input_schema: |_| text_argument("name"), prepare: |arguments| {
        let name = arguments.string("name")?.into_owned();
        fixed(arguments, move |_| ToolResult::text(format!("Hello, {name}!")))
    };
    "slow_compute", "Slow computation", "Takes its time; a task for a client that knows tasks.",
    input_schema: |_| json!({
        "type": "object",
        "properties": { "seconds": { "type": "number", "minimum": 0 }, "label": { "type": "string" } },
    }),
    prepare: slow_compute;
    "failing_job", "Failing job", "A task that ends with a tool error.", prepare: |arguments| {
        arguments.finish()?;
        Ok(Prepared::task(true, |_, _| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ToolResult::error("The job failed, as it was meant to.")
        }))
    };
    "protocol_error_job", "Job with a protocol error", "A task that ends with a JSON-RPC error.",
    prepare: |arguments| {
        arguments.finish()?;
        Ok(Prepared::task(true, |_, _| async {
            tokio::time::sleep(PAUSE).await;
            let message = "The job ended with a protocol error, as it was meant to.".to_owned();
            Outcome::<ToolResult>::Failed(Failure::Refused { code: INTERNAL_ERROR, message })
        }))
    };
    "confirm_delete", "Confirm a deletion", "A task that asks before it goes on.",
    read_only: false, input_schema: |_| text_argument("filename"), prepare: |arguments| {
        let filename = arguments.string("filename")?.into_owned();
        arguments.finish()?;
        Ok(Prepared::task(true, move |_, ask| async move {
            let question = format!("Delete {filename}?");
            let answers = ask(vec![("confirm", form(&question, CONFIRM))]).await;
            let form = answers.get("confirm").and_then(accepted);
            let done = if form.is_some_and(|form| form["confirm"] == true) { "was deleted" } else { "was kept" };
            ToolResult::text(format!("{filename} {done}."))
        }))
    };
    "multi_input", "Two questions", "A task that asks two things at once.", prepare: |arguments| {
        arguments.finish()?;
        Ok(Prepared::task(true, |_, ask| async move {
            let questions = vec![
                ("first", form("The first question", NAME)),
                ("second", form("The second question", NAME)),
            ];
            let answers = ask(questions).await;
            ToolResult::text(format!("Got {} answers.", answers.len()))
        }))
    };
    "test_tool_with_task", "Question, then task", "Asks for a name first, and becomes a task then.",
    streams: true, prepare: |arguments| {
        arguments.finish()?;
        let Some(name) = arguments.inputs.filled("user_name", "name").map(str::to_owned) else {
            return asks(arguments, "user_name", form("What is your name?", NAME), greeting);
        };
        Ok(Prepared::task(false, move |_, _| async move {
            tokio::time::sleep(PAUSE).await;
            ToolResult::text(format!("Hello, {name}!"))
        }))
    };
];

fn fixed(
    arguments: &mut Arguments<'_>,
    run: impl Fn(&CallContext) -> ToolResult + Send + 'static,
) -> Result<Prepared, BadArguments> {
    arguments.finish()?;
    Ok(Prepared::now(move |context: &CallContext| run(context)))
}

/// A tool that asks one question, and shows what was answered.
fn asks(
    arguments: &mut Arguments<'_>,
    key: &'static str,
    question: InputRequest,
    show: fn(&Value) -> String,
) -> Result<Prepared, BadArguments> {
    arguments.finish()?;
    let inputs = arguments.inputs.clone();
    Ok(Prepared::now(move |_: &CallContext| match inputs.answer(key, &question) {
        Ok(Some(answer)) => Outcome::Done(ToolResult::text(show(answer))),
        Ok(None) => ask(vec![(key, question)], None),
        Err(problem) => Outcome::Failed(Failure::unfit(key, &problem)),
    }))
}

/// A tool that looks at all answers so far.
fn staged(
    arguments: &mut Arguments<'_>,
    run: fn(&Inputs, &CallContext) -> Outcome<ToolResult>,
) -> Result<Prepared, BadArguments> {
    arguments.finish()?;
    let inputs = arguments.inputs.clone();
    Ok(Prepared::now(move |context: &CallContext| {
        for (key, question) in questions() {
            if let Err(problem) = inputs.answer(key, &question) {
                return Outcome::Failed(Failure::unfit(key, &problem));
            }
        }
        run(&inputs, context)
    }))
}

/// What the tools that look at all answers ask.
fn questions() -> [(&'static str, InputRequest); 6] {
    [
        ("user_name", form("What is your name?", NAME)),
        ("greeting", sample("Write a short greeting.")),
        ("client_roots", roots()),
        ("confirm", form("Please confirm", OK)),
        ("step1", form("What is your name?", NAME)),
        ("step2", form("What is your favourite colour?", COLOR)),
    ]
}

/// Those of them that have these keys.
fn questions_of(keys: &[&str]) -> Questions {
    questions().into_iter().filter(|(key, _)| keys.contains(key)).collect()
}

fn publishes(arguments: &mut Arguments<'_>, update: Update) -> Result<Prepared, BadArguments> {
    fixed(arguments, move |context| {
        context.instance.state.subscriptions.publish(&update);
        ToolResult::text("Those who asked to be told have been told.")
    })
}

fn ask(requests: Questions, state: Option<Value>) -> Outcome<ToolResult> {
    Outcome::NeedInput { requests, state }
}

fn image() -> Content {
    Content::Image { data: PNG, mime_type: "image/png" }
}

fn resource(uri: &str, mime_type: &'static str, text: String) -> Content {
    Content::Resource { resource: Contents::text(uri, mime_type, text) }
}

fn text_argument(name: &str) -> Value {
    json!({ "type": "object", "properties": { name: { "type": "string" } }, "required": [name] })
}

/// The schema of a form, as JSON text.
type Form = &'static str;

const NAME: Form =
    r#"{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}"#;
const COLOR: Form =
    r#"{"type":"object","properties":{"color":{"type":"string"}},"required":["color"]}"#;
const OK: Form = r#"{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}"#;
const CONFIRM: Form =
    r#"{"type":"object","properties":{"confirm":{"type":"boolean"}},"required":["confirm"]}"#;
const PERSON: Form = r#"{"type":"object","properties":{"username":{"type":"string"},"email":{"type":"string","format":"email"}},"required":["username","email"]}"#;
const DEFAULTS: Form = r#"{"type":"object","properties":{
    "name":{"type":"string","default":"John Doe"},
    "age":{"type":"integer","default":30},
    "score":{"type":"number","default":95.5},
    "status":{"type":"string","enum":["active","inactive","pending"],"default":"active"},
    "verified":{"type":"boolean","default":true}}}"#;
const CHOICES: Form = r#"{"type":"object","properties":{
    "untitledSingle":{"type":"string","enum":["option1","option2","option3"]},
    "titledSingle":{"type":"string","oneOf":[{"const":"value1","title":"First"},{"const":"value2","title":"Second"},{"const":"value3","title":"Third"}]},
    "legacyEnum":{"type":"string","enum":["opt1","opt2","opt3"],"enumNames":["Option One","Option Two","Option Three"]},
    "untitledMulti":{"type":"array","items":{"type":"string","enum":["option1","option2","option3"]}},
    "titledMulti":{"type":"array","items":{"anyOf":[{"const":"value1","title":"First"},{"const":"value2","title":"Second"},{"const":"value3","title":"Third"}]}}}}"#;

fn form(message: &str, schema: Form) -> InputRequest {
    // The schemas above are JSON; a test reads them all.
    InputRequest::form(message, serde_json::from_str(schema).unwrap_or_default())
}

fn sample(prompt: &str) -> InputRequest {
    let message = json!({ "role": "user", "content": { "type": "text", "text": prompt } });
    let params = json!({ "messages": [message], "maxTokens": 100 });
    InputRequest { kind: InputKind::Sampling, params }
}

fn roots() -> InputRequest {
    InputRequest { kind: InputKind::Roots, params: json!({}) }
}

fn page() -> InputRequest {
    let params = json!({
        "mode": "url",
        "message": "Please open this page",
        "url": "https://example.com/consent",
    });
    InputRequest { kind: InputKind::Url, params }
}

fn user_response(answer: &Value) -> String {
    format!("User response: {answer}")
}

fn greeting(answer: &Value) -> String {
    match accepted(answer).and_then(|form| form["name"].as_str()) {
        Some(name) => format!("Hello, {name}!"),
        None => format!("The user answered: {}", answer["action"]),
    }
}

/// What the client's model said.
fn model_text(answer: &Value) -> String {
    let content = &answer["content"];
    let item = content.as_array().and_then(|items| items.first()).unwrap_or(content);
    item["text"].as_str().unwrap_or_default().to_owned()
}

fn root_names(answer: &Value) -> String {
    let roots = answer["roots"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> = roots.iter().filter_map(|root| root["uri"].as_str()).collect();
    format!("{} roots: {}", roots.len(), names.join(", "))
}

/// What was filled into a form, if it was accepted.
fn accepted(answer: &Value) -> Option<&Value> {
    (answer["action"] == "accept").then(|| &answer["content"])
}

fn with_progress(arguments: &mut Arguments<'_>) -> Result<Prepared, BadArguments> {
    arguments.finish()?;
    Ok(Prepared::later(|context| async move {
        for step in [0.0, 50.0, 100.0] {
            context.progress(step, 100.0, "working").await;
            tokio::time::sleep(PAUSE).await;
        }
        ToolResult::text("Done, with progress.")
    }))
}

fn with_logging(arguments: &mut Arguments<'_>) -> Result<Prepared, BadArguments> {
    arguments.finish()?;
    Ok(Prepared::later(|context| async move {
        for text in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
            context.log(LogLevel::Info, json!(text)).await;
            tokio::time::sleep(PAUSE).await;
        }
        ToolResult::text("Done, with log messages.")
    }))
}

fn reconnection(arguments: &mut Arguments<'_>) -> Result<Prepared, BadArguments> {
    arguments.finish()?;
    Ok(Prepared::later(|context| async move {
        tokio::time::sleep(PAUSE * 2).await;
        context.hang_up();
        tokio::time::sleep(PAUSE * 4).await;
        ToolResult::text("The stream was closed and picked up again.")
    }))
}

/// Asks for a confirmation and checks that the state comes back with it.
fn confirmed(inputs: &Inputs, _: &CallContext) -> Outcome<ToolResult> {
    match (inputs.get("confirm"), &inputs.state) {
        (Some(_), Some(state)) if *state == json!("confirming") => {
            Outcome::Done(ToolResult::text("state-ok"))
        }
        (Some(_), Some(_)) => Outcome::Failed(Failure::Refused {
            code: INVALID_PARAMS,
            message: "requestState belongs to another step".to_owned(),
        }),
        _ => ask(questions_of(&["confirm"]), Some(json!("confirming"))),
    }
}

fn multi_round(inputs: &Inputs, _: &CallContext) -> Outcome<ToolResult> {
    let name = inputs.state.as_ref().and_then(|state| state["name"].as_str());
    match (name, inputs.filled("step2", "color"), inputs.filled("step1", "name")) {
        (Some(name), Some(color), _) => {
            Outcome::Done(ToolResult::text(format!("{name} likes {color}.")))
        }
        (Some(name), None, None) | (None, _, Some(name)) => {
            ask(questions_of(&["step2"]), Some(json!({ "name": name })))
        }
        _ => ask(questions_of(&["step1"]), Some(json!({ "step": 1 }))),
    }
}

fn slow_compute(arguments: &mut Arguments<'_>) -> Result<Prepared, BadArguments> {
    let seconds = arguments.optional_number("seconds")?.unwrap_or(1.0);
    let label = arguments.optional_string("label")?.map_or_else(|| "job".to_owned(), String::from);
    arguments.finish()?;
    let longest = arguments.limits.max_delay_seconds.get().as_secs_f64();
    if !(0.0..=longest).contains(&seconds) {
        return Err(arguments.bad(format!("the argument \"seconds\" must be 0 to {longest}")));
    }
    Ok(Prepared::task(false, move |_, _| async move {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        ToolResult::text(format!("{label} took {seconds} seconds."))
    }))
}

/// Takes what [`schema_2020_12`] allows.
fn contact(arguments: &mut Arguments<'_>) -> Result<Prepared, BadArguments> {
    arguments.optional_string("name")?;
    let address = arguments.optional_object("address")?.unwrap_or_default();
    let method = arguments.optional_string("contactMethod")?;
    let phone = arguments.optional_string("phone")?;
    let email = arguments.optional_string("email")?;
    let wrong = |part: &&str| address.get(*part).is_some_and(|text| !text.is_string());
    if let Some(part) = ["street", "city"].into_iter().find(wrong) {
        return Err(arguments.bad(format!("{part:?} in the argument \"address\" must be a string")));
    }
    let (needed, given) = match method.as_deref() {
        Some("phone") => ("phone", phone),
        None | Some("email") => ("email", email),
        Some(_) => {
            let problem = "the argument \"contactMethod\" must be phone or email";
            return Err(arguments.bad(problem.to_owned()));
        }
    };
    if given.is_none() {
        return Err(arguments.bad(format!("the argument {needed:?} is required")));
    }
    fixed(arguments, |_| ToolResult::text("The schema is what matters here."))
}

fn schema_2020_12(_: &ToolsConfig) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_a_schema() {
        for schema in [NAME, COLOR, OK, CONFIRM, PERSON, DEFAULTS, CHOICES] {
            assert_eq!(form("x", schema).params["requestedSchema"]["type"], "object");
        }
    }
}
