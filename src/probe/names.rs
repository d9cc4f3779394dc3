//! The names by which a gateway offers the tools.
//!
//! Owns finding the tools of the server in a list in which a gateway has renamed them: `i0_echo`, `echo0-echo`,
//! `e0__get-session-info`. They are found if all of them are there after the same prefix, which ends in a sign that is no
//! letter and no digit; upper and lower case, and which such sign stands between words, make no difference.
//! Trap: `request_echo` is no renamed `echo`. So the prefix is taken from a name that ends no other, and must fit all.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::Era;

/// What the probe calls in every era.
const NEEDED: [&str; 4] = ["get_session_info", "set_session_data", "get_session_data", "echo"];
/// What it calls as well where handles name sessions.
const FOR_HANDLES: [&str; 2] = ["create_session", "end_session"];
/// What it calls if it is there.
pub(super) const TICKS: &str = "stream_ticks";

/// What each tool is called there.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<&'static str, String>);

/// Why the tools are not found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfound {
    /// Under no prefix, or not under the wanted one, are they all there. Names what lacks, and where they are.
    Missing { lacks: Vec<&'static str>, instead: Vec<String> },
    /// They are there under each of these prefixes.
    Ambiguous(Vec<String>),
}

impl Names {
    /// Finds the tools in what `tools/list` told.
    pub(super) fn find(
        listed: &[String],
        era: Era,
        wanted_prefix: Option<&str>,
    ) -> Result<Self, Unfound> {
        let needed = || {
            let handles = match era {
                Era::Sessioned => &[][..],
                Era::Stateless => &FOR_HANDLES[..],
            };
            NEEDED.iter().chain(handles).copied()
        };
        let all_there =
            |prefix: &String| needed().all(|tool| named(listed, prefix, tool).is_some());
        let prefixes: BTreeSet<String> = listed.iter().filter_map(|name| prefix_of(name)).collect();
        let fitting: Vec<_> = prefixes.iter().filter(|prefix| all_there(prefix)).collect();
        let wanted = wanted_prefix.map(plain);
        let prefix = match (&wanted, &fitting[..]) {
            (Some(wanted), _) if all_there(wanted) => wanted,
            (None, [prefix]) => prefix,
            // Those that bear their own names are meant.
            (None, [prefix, ..]) if prefix.is_empty() => prefix,
            (None, [_, _, ..]) => return Err(Unfound::Ambiguous(written(listed, &fitting))),
            (Some(_), _) | (None, []) => {
                let closest = wanted.as_ref().or(prefixes.first()).map_or("", String::as_str);
                let lacks = needed().filter(|tool| named(listed, closest, tool).is_none());
                let (lacks, instead) = (lacks.collect(), written(listed, &fitting));
                return Err(Unfound::Missing { lacks, instead });
            }
        };
        let known = needed().chain([TICKS]);
        let found = known.filter_map(|tool| Some((tool, named(listed, prefix, tool)?.clone())));
        Ok(Self(found.collect()))
    }

    /// What that tool is called there; `None` if it is not there.
    pub(super) fn get(&self, tool: &str) -> Option<&str> {
        self.0.get(tool).map(String::as_str)
    }

    /// A tool that bears another name than its own, and that name.
    pub(super) fn renamed(&self) -> Option<(&'static str, &str)> {
        self.0.iter().find(|(tool, name)| *tool != name).map(|(tool, name)| (*tool, name.as_str()))
    }
}

/// A name without what gateways change in it.
fn plain(name: &str) -> String {
    let change = |sign: char| match sign.is_alphanumeric() {
        true => sign.to_ascii_lowercase(),
        false => '_',
    };
    name.chars().map(change).collect()
}

/// What stands before a tool that ends like no other of ours.
fn prefix_of(name: &str) -> Option<String> {
    let name = plain(name);
    let prefix = name.strip_suffix(NEEDED[0])?;
    (prefix.is_empty() || prefix.ends_with('_')).then(|| prefix.to_owned())
}

fn named<'a>(listed: &'a [String], prefix: &str, tool: &str) -> Option<&'a String> {
    listed.iter().find(|name| plain(name).strip_prefix(prefix) == Some(tool))
}

/// The prefixes as they stand in the list.
fn written(listed: &[String], prefixes: &[&String]) -> Vec<String> {
    let write = |prefix: &&String| {
        let name = named(listed, prefix, NEEDED[0])?;
        Some(name.chars().take(prefix.chars().count()).collect())
    };
    prefixes.iter().filter_map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(prefixes: &[&str], tools: &[&str]) -> Vec<String> {
        let of = |prefix: &&str| tools.iter().map(move |tool| format!("{prefix}{tool}")).collect();
        prefixes.iter().flat_map(|prefix| -> Vec<String> { of(prefix) }).collect()
    }

    const ALL: [&str; 8] = [
        "request_echo",
        "echo",
        "get_session_info",
        "set_session_data",
        "get_session_data",
        "create_session",
        "end_session",
        "stream_ticks",
    ];

    #[test]
    fn renamed_tools_are_found() {
        for prefix in ["", "i0_", "echo0-", "e0__", "Server.", "a/b:", "é_"] {
            for era in [Era::Sessioned, Era::Stateless] {
                let names = Names::find(&list(&[prefix], &ALL), era, None).expect("are found");
                let named = |tool: &str| Some(format!("{prefix}{tool}"));
                assert_eq!(names.get("echo").map(str::to_owned), named("echo"));
                assert_eq!(names.get(TICKS).map(str::to_owned), named(TICKS));
                assert_eq!(names.renamed().is_some(), !prefix.is_empty());
            }
        }
        let slugs = ALL.map(|tool| format!("echo0-{}", tool.replace('_', "-")));
        let names = Names::find(&slugs, Era::Sessioned, None).expect("are found");
        assert_eq!(names.get("get_session_info"), Some("echo0-get-session-info"));
        let no_ticks = Names::find(&list(&["x_"], &ALL[..7]), Era::Stateless, None);
        assert_eq!(no_ticks.expect("are found").get(TICKS), None);
    }

    #[test]
    fn what_is_ambiguous_is_listed() {
        let two = list(&["i0_", "i1-"], &ALL);
        let found = |prefix| Names::find(&two, Era::Sessioned, prefix);
        let both = Unfound::Ambiguous(vec!["i0_".to_owned(), "i1-".to_owned()]);
        assert_eq!(found(None).expect_err("are two"), both);
        assert_eq!(found(Some("i1-")).expect("is one").get("echo"), Some("i1-echo"));
        let lacks = NEEDED.to_vec();
        let instead = vec!["i0_".to_owned(), "i1-".to_owned()];
        assert_eq!(found(Some("i2_")).expect_err("is none"), Unfound::Missing { lacks, instead });
        let own_too = list(&["i0_", ""], &ALL);
        let own = Names::find(&own_too, Era::Sessioned, None).expect("is plain");
        assert_eq!(own.get("echo"), Some("echo"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let few = list(&["x_"], &["request_echo", "get_session_info", "set_session_data"]);
        let found = |listed: &[String], era| Names::find(listed, era, None);
        let missing =
            |lacks: &[&'static str]| Unfound::Missing { lacks: lacks.to_vec(), instead: vec![] };
        let lacks = missing(&["get_session_data", "echo"]);
        assert_eq!(found(&few, Era::Sessioned).expect_err("lacks some"), lacks);
        let sessioned = list(&[""], &ALL[..5]);
        assert!(found(&sessioned, Era::Sessioned).is_ok());
        let lacks = missing(&FOR_HANDLES);
        assert_eq!(found(&sessioned, Era::Stateless).expect_err("lacks some"), lacks);
        assert_eq!(found(&[], Era::Sessioned).expect_err("is empty"), missing(&NEEDED));
        // A word that merely ends so is none of ours.
        let other =
            list(&["forget_"], &ALL).iter().map(|name| name.replace('_', "")).collect::<Vec<_>>();
        assert!(Names::find(&other, Era::Sessioned, None).is_err());
    }
}
