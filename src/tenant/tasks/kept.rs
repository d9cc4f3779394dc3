//! What the shared store keeps of a task, as text.
//!
//! Owns [`Kept`], a task as it was read, and the form of a question.
//! Trap: replicas of another version read the same texts, so a member that is not known is ignored.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Stage, open_questions, summary};
use crate::{
    link::Reply,
    wire::{InputKind, InputRequest},
};

/// A task as the store has it.
#[derive(Debug)]
pub(super) struct Kept {
    /// Another one after each change.
    pub(super) version: String,
    pub(super) open: Vec<(String, InputRequest)>,
    stage: Stage,
    created: Timestamp,
    updated: Timestamp,
    ttl: u64,
    result: Option<Value>,
    error: Option<Value>,
}

#[derive(Serialize, Deserialize)]
struct Question<T> {
    kind: String,
    params: T,
}

const KINDS: [(InputKind, &str); 4] = [
    (InputKind::Form, "form"),
    (InputKind::Url, "url"),
    (InputKind::Sampling, "sampling"),
    (InputKind::Roots, "roots"),
];

pub(super) fn question_text(InputRequest { kind, params }: &InputRequest) -> String {
    let name = KINDS.iter().find(|(known, _)| known == kind).map_or("", |(_, name)| name);
    serde_json::to_string(&Question { kind: name.to_owned(), params }).unwrap_or_default()
}

fn read_question(text: &str) -> Option<InputRequest> {
    let Question { kind, params } = serde_json::from_str(text).ok()?;
    let (kind, _) = KINDS.into_iter().find(|(_, name)| *name == kind)?;
    Some(InputRequest { kind, params })
}

impl Kept {
    /// Reads names and values, by turns.
    pub(super) fn read(mut members: Reply) -> Option<Self> {
        let (mut stage, mut created, mut updated, mut ttl) = (None, None, None, None);
        let (mut version, mut open, mut result, mut error) = (String::new(), vec![], None, None);
        while members.len() > 0 {
            let (name, value) = (members.text()?, members.text()?);
            let time = || Timestamp::from_millisecond(value.parse().ok()?).ok();
            let json = || serde_json::from_str(&value).ok();
            match &*name {
                "status" => stage = Stage::parse(&value),
                "created" => created = time(),
                "updated" => updated = time(),
                "ttl" => ttl = value.parse().ok(),
                "version" => version = value,
                "result" => result = json(),
                "error" => error = json(),
                name => {
                    if let Some(key) = name.strip_prefix("o:") {
                        open.push((key.to_owned(), read_question(&value)?));
                    }
                }
            }
        }
        let (stage, created, updated, ttl) = (stage?, created?, updated?, ttl?);
        Some(Self { version, open, stage, created, updated, ttl, result, error })
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// The task as `tasks/get` shows it.
    pub(super) fn describe(self, id: &str) -> Value {
        let Self { stage, created, updated, ttl, open, result, error, .. } = self;
        let mut task = summary(id, stage, created, updated, ttl);
        match stage {
            Stage::Working | Stage::Cancelled => {}
            Stage::InputRequired => task["inputRequests"] = open_questions(open.into_iter()),
            Stage::Completed => task["result"] = result.unwrap_or_default(),
            Stage::Failed => {
                let error = error.unwrap_or_default();
                task["statusMessage"] = error["message"].clone();
                task["error"] = error;
            }
        }
        task
    }
}
