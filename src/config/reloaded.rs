//! What changes when a running server reads its configuration again.
//!
//! Owns the comparison of two [`Layers`], key by key. Refuses to repeat values: some are secrets, so [`Reloaded`] holds
//! keys alone.
//! Trap: compare effective values per instance. Moving a key to another source is no change, and an overridden key did
//! not change either.

use std::collections::BTreeMap;

use figment::value::{Num, Value};
use serde::Serialize;

use super::{ConfigError, Key, Layers, POLICY_SECTIONS, Reload, describe::leaves, source::Setting};
use crate::id::InstanceId;

/// Where the operator's token may stand.
const TOKEN: [&str; 2] = ["admin.token", "admin.token_file"];

/// What a reload has changed, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// In force now.
    pub applied: Vec<String>,
    /// As before until the next start.
    pub needs_restart: Vec<Held>,
}

/// A key that waits for the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// `instances.3.<key>` where it has changed for one instance and not for all.
    pub key: String,
    /// The reason, for the operator.
    pub why: &'static str,
}

impl Layers {
    /// These layers for a server that runs by `before`: keys that wait for the next start get their value from there.
    pub fn taking_over(self, before: &Self) -> Result<(Self, Reloaded), ConfigError> {
        let (old, new) = (before.in_force()?, self.in_force()?);
        let token_taken_away = old.has_token() && !new.has_token();
        let (mut figment, mut reloaded) = (self.figment, Reloaded::default());
        for Difference { key, name, before } in old.differences(&new) {
            let why = match Key::all().find(|known| known.path == key).map(|known| known.reload) {
                Some(Reload::Restart(why)) => why,
                _ if token_taken_away && TOKEN.contains(&key) => "/debug would be without one",
                _ => {
                    reloaded.applied.push(name);
                    continue;
                }
            };
            reloaded.needs_restart.push(Held { key: name, why });
            for (path, value) in before {
                figment = figment.merge(Setting::held(&path, value.clone()));
            }
        }
        Ok((Self { figment, ..self }, reloaded))
    }

    /// The effective value of every key.
    fn in_force(&self) -> Result<InForce, ConfigError> {
        let is_policy = |section: &String| POLICY_SECTIONS.contains(&section.as_str());
        let mut process = self.tree(&self.figment)?;
        process.retain(|section, _| section != "instances" && !is_policy(section));
        let mut policies = BTreeMap::<String, Vec<Value>>::new();
        for id in InstanceId::all() {
            let mut policy = self.tree(&self.of_instance(id))?;
            policy.retain(|section, _| is_policy(section));
            for (key, value) in leaves(&policy) {
                policies.entry(key).or_default().push(value);
            }
        }
        Ok(InForce { process: leaves(&process).into_iter().collect(), policies })
    }
}

/// Each key with its value, those of the policy with one for each of the ten instances.
struct InForce {
    process: BTreeMap<String, Value>,
    policies: BTreeMap<String, Vec<Value>>,
}

/// A key with another value than before: for the process, for all instances or for one of them.
struct Difference<'a> {
    key: &'a str,
    /// As the operator is told.
    name: String,
    /// What to set where for the old value to stay.
    before: Vec<(String, &'a Value)>,
}

impl InForce {
    fn has_token(&self) -> bool {
        let is_set = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        TOKEN.iter().any(|key| self.process.get(*key).is_some_and(is_set))
    }

    fn differences<'a>(&'a self, new: &Self) -> Vec<Difference<'a>> {
        let mut found = Vec::new();
        for (key, value) in &self.process {
            if new.process.get(key).is_some_and(|other| !same(value, other)) {
                let before = vec![(key.clone(), value)];
                found.push(Difference { key, name: key.clone(), before });
            }
        }
        for (key, values) in &self.policies {
            let Some(others) = new.policies.get(key) else { continue };
            let mut before = Vec::new();
            for (id, (value, other)) in InstanceId::all().zip(values.iter().zip(others)) {
                if !same(value, other) {
                    before.push((format!("instances.{id}.{key}"), value));
                }
            }
            if before.len() == InstanceId::COUNT {
                found.push(Difference { key, name: key.clone(), before });
                continue;
            }
            for (path, value) in before {
                let name = path.clone();
                found.push(Difference { key, name, before: vec![(path, value)] });
            }
        }
        found
    }
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
