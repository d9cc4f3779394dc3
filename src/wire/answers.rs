//! Whether an answer of the client fits the question.
//!
//! Owns the check for each kind of question. Refuses what the schemas of MCP and of the question's form do not allow, by
//! the name of the member that is wrong.
//! Trap: a form forbids no member that it does not name, so such a one is taken.

use serde_json::Value;

use super::inputs::{InputKind, InputRequest};

impl InputRequest {
    /// What is wrong with an answer.
    pub(crate) fn check(&self, answer: &Value) -> Result<(), String> {
        match self.kind {
            InputKind::Form => form(&self.params["requestedSchema"], answer),
            InputKind::Url => action(answer).map(drop),
            InputKind::Sampling => message(answer),
            InputKind::Roots => roots(answer),
        }
    }
}

fn must(fits: bool, member: &str, be: &str) -> Result<(), String> {
    fits.then_some(()).ok_or_else(|| format!("{member:?} must be {be}"))
}

/// The user's decision.
fn action(answer: &Value) -> Result<&str, String> {
    let action = answer["action"].as_str().unwrap_or_default();
    let known = ["accept", "decline", "cancel"].contains(&action);
    must(known, "action", "accept, decline or cancel")?;
    Ok(action)
}

fn form(schema: &Value, answer: &Value) -> Result<(), String> {
    if action(answer)? != "accept" {
        return Ok(());
    }
    let content = &answer["content"];
    must(content.is_object(), "content", "an object")?;
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        must(content.get(name).is_some(), name, "there")?;
    }
    let fields = schema["properties"].as_object().into_iter().flatten();
    let given = fields.filter_map(|(name, field)| Some((name, field, content.get(name)?)));
    for (name, field, value) in given {
        let (fits, be) = filled(field, value);
        must(fits, name, be)?;
    }
    Ok(())
}

/// Whether a value fits a field of a form, and what it has to be.
fn filled(field: &Value, value: &Value) -> (bool, &'static str) {
    match field["type"].as_str() {
        Some("string") if field["format"] == "email" => {
            (value.as_str().is_some_and(|text| text.contains('@')), "an e-mail address")
        }
        Some("string") => {
            (value.is_string() && is_offered(field, value), "one of its choices, a string")
        }
        Some("number") => (value.is_number(), "a number"),
        Some("integer") => {
            (value.as_f64().is_some_and(|number| number.fract() == 0.0), "a whole number")
        }
        Some("boolean") => (value.is_boolean(), "true or false"),
        Some("array") => {
            let fits =
                |values: &Vec<Value>| values.iter().all(|value| is_offered(&field["items"], value));
            (value.as_array().is_some_and(fits), "a list of its choices")
        }
        _ => (true, ""),
    }
}

/// Whether a value is among the choices, if there are any.
fn is_offered(choices: &Value, value: &Value) -> bool {
    let plain = choices["enum"].as_array();
    let titled = choices["oneOf"].as_array().or(choices["anyOf"].as_array());
    plain.is_none_or(|all| all.contains(value))
        && titled.is_none_or(|all| all.iter().any(|choice| choice["const"] == *value))
}

/// What a model has said.
fn message(answer: &Value) -> Result<(), String> {
    let role = answer["role"].as_str();
    must(matches!(role, Some("user" | "assistant")), "role", "user or assistant")?;
    must(answer["model"].is_string(), "model", "a string")?;
    let content = &answer["content"];
    let blocks = match content {
        Value::Array(blocks) => blocks.as_slice(),
        block => std::slice::from_ref(block),
    };
    for block in blocks {
        must(block.is_object(), "content", "an object, or a list of them")?;
        must(block["type"].is_string(), "type", "a string")?;
        must(block["type"] != "text" || block["text"].is_string(), "text", "a string")?;
    }
    Ok(())
}

/// The roots, each of a form that client/roots allows.
fn roots(answer: &Value) -> Result<(), String> {
    let Some(roots) = answer["roots"].as_array() else { return must(false, "roots", "a list") };
    for root in roots {
        let uri = root["uri"].as_str().unwrap_or_default();
        must(uri.starts_with("file://"), "uri", "a URI that begins with file://")?;
    }
    Ok(())
}
