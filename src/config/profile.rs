//! Ready-made configurations that come with the program.
//!
//! Owns the table of them. A profile is the layer above the defaults, so whatever an operator says wins over it.
//! Trap: the texts are the files in `config/`, which people also start from; there must be no second copy.

use super::{ConfigError, nearest::nearest};

/// A ready-made configuration.
#[derive(Debug)]
pub struct Profile {
    /// What operators call it.
    pub name: &'static str,
    pub(super) text: &'static str,
}

impl Profile {
    /// The name of the one that serves the revisions with sessions alone.
    pub(crate) const SESSIONED: &str = "sessioned";

    /// All there are.
    pub const ALL: &[Self] = &[
        Self { name: Self::SESSIONED, text: include_str!("../../config/sessioned.toml") },
        Self { name: "conformance", text: include_str!("../../config/conformance.toml") },
    ];

    /// The profile of that name, which stands in `origin`.
    pub(super) fn named(name: &str, origin: &str) -> Result<&'static Self, ConfigError> {
        if let Some(found) = Self::ALL.iter().find(|profile| profile.name == name) {
            return Ok(found);
        }
        let names = || Self::ALL.iter().map(|profile| profile.name);
        let there_are = names().collect::<Vec<_>>().join(", ");
        let meant = nearest(name, names().map(str::to_owned));
        let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
        let problem = format!("there is no profile {name:?}; there are: {there_are}{meant}");
        Err(ConfigError::new("", origin, problem))
    }
}
