//! What another reading of the configuration changes, and what of it a running server takes over.
//!
//! Owns the comparison of two [`Layers`], key by key, and the table of keys that only a start can change.
//! Refuses to repeat values: some are secrets, so a [`Change`] holds keys alone.
//! Trap: an instance's own section and the common one are compared by what they come to for each instance,
//! or a value that is only written elsewhere would pass for a change, and one that is overridden for one.

use std::collections::BTreeMap;

use figment::value::{Dict, Num, Value};
use serde::Serialize;

use super::{ConfigError, Layers, POLICY_SECTIONS, describe::collect_leaves, source::Setting};
use crate::id::InstanceId;

/// Keys and whole sections that a running server keeps as they were, and why.
pub const NEEDS_RESTART: &[(&str, &str)] = &[
    ("debug", "it settles at the start whether /debug exists"),
    ("server", "the port is bound, and clients have been told the name"),
    ("replica", "every id and every answer carries it"),
    ("log.format", "the log has begun"),
    ("log.file", "the log has begun; the same file is opened anew"),
    ("admin.listen", "the port is bound"),
    ("admin.recent_requests", "the memory for it is laid out"),
    ("protocol.version", "sessions have agreed on a revision"),
    ("protocol.versions", "sessions have agreed on a revision"),
    ("session.timeout_seconds", "sessions have been promised theirs"),
    ("auth.mode", "it says to whom sessions belong"),
];

/// What of the operator's token there is.
const TOKEN: [&str; 2] = ["admin.token", "admin.token_file"];

/// What another reading of the configuration changes, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What is in force now.
    pub applied: Vec<String>,
    /// What stays as it was until the next start.
    pub needs_restart: Vec<Held>,
}

/// A key that stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Which one.
    pub key: String,
    /// Why.
    pub why: &'static str,
}

impl Layers {
    /// These layers as a running server takes them over that was configured by `before`: what only a start
    /// can change is held at its value there.
    pub fn taking_over(self, before: &Self) -> Result<(Self, Change), ConfigError> {
        let (old, new) = (before.in_force()?, self.in_force()?);
        let has_token = |values: &InForce| {
            TOKEN.iter().any(|key| {
                values
                    .process
                    .get(*key)
                    .and_then(Value::as_str)
                    .is_some_and(|text| !text.is_empty())
            })
        };
        let token_taken_away = has_token(&old) && !has_token(&new);
        let held = |key: &str| match NEEDS_RESTART.iter().find(|(held, _)| is_below(key, held)) {
            Some((_, why)) => Some(*why),
            None if token_taken_away && TOKEN.contains(&key) => Some("/debug would be without one"),
            None => None,
        };

        let (mut figment, mut change) = (self.0, Change::default());
        let mut note = |key: &str, name: String| match held(key) {
            Some(why) => change.needs_restart.push(Held { key: name, why }),
            None => change.applied.push(name),
        };
        for (key, value) in &old.process {
            if new.process.get(key).is_none_or(|other| same(value, other)) {
                continue;
            }
            note(key, key.clone());
            if held(key).is_some() {
                figment = figment.merge(Setting::held(key, value.clone()));
            }
        }
        for (key, values) in &old.policies {
            let Some(others) = new.policies.get(key) else { continue };
            let pairs = InstanceId::all().zip(values.iter().zip(others));
            let differing: Vec<_> =
                pairs.filter(|(_, (value, other))| !same(value, other)).collect();
            match differing.len() {
                InstanceId::COUNT => note(key, key.clone()),
                _ => {
                    differing.iter().for_each(|(id, _)| note(key, format!("instances.{id}.{key}")))
                }
            }
            for (id, (value, _)) in differing.iter().filter(|_| held(key).is_some()) {
                let path = format!("instances.{id}.{key}");
                figment = figment.merge(Setting::held(&path, (*value).clone()));
            }
        }
        Ok((Self(figment), change))
    }

    /// What every key comes to.
    fn in_force(&self) -> Result<InForce, ConfigError> {
        let leaves = |tree: &Dict| {
            let mut leaves = Vec::new();
            collect_leaves("", tree, &mut leaves);
            leaves
        };
        let whole = self.tree(&self.0)?;
        let policy = |section: &str| section == "instances" || POLICY_SECTIONS.contains(&section);
        let (_, process): (Dict, Dict) = whole.into_iter().partition(|(name, _)| policy(name));
        let mut policies = BTreeMap::<String, Vec<Value>>::new();
        for id in InstanceId::all() {
            let mut tree = self.tree(&self.of_instance(id))?;
            tree.retain(|section, _| POLICY_SECTIONS.contains(&section.as_str()));
            for (key, value) in leaves(&tree) {
                policies.entry(key).or_default().push(value);
            }
        }
        Ok(InForce { process: leaves(&process).into_iter().collect(), policies })
    }
}

/// Whether a key is that one, or of that section.
fn is_below(key: &str, other: &str) -> bool {
    key.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Each key with its value, or with those that it has for the ten instances.
struct InForce {
    process: BTreeMap<String, Value>,
    policies: BTreeMap<String, Vec<Value>>,
}

/// Whether two values mean the same: 300 is 300.0.
fn same(one: &Value, other: &Value) -> bool {
    let float = |number: &Num| {
        let integer = || number.to_i128().map(|integer| integer as f64);
        number.to_f64().or_else(integer).or_else(|| number.to_u128().map(|integer| integer as f64))
    };
    match (one, other) {
        (Value::Num(_, one), Value::Num(_, other)) => float(one) == float(other),
        (Value::Array(_, one), Value::Array(_, other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (one, other) => one == other,
    }
}
