//! The rules of the module tree that a search can hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A source file: its path below `src`, its text, and its code without tests and comments.
#[derive(Clone)]
struct Source {
    name: String,
    whole: String,
    code: String,
}

impl Source {
    fn new(name: &str, whole: String) -> Self {
        let code = whole.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        Self { name: name.to_owned(), code: code.collect::<Vec<_>>().join("\n"), whole }
    }

    /// The top-level room that it is in.
    fn room(&self) -> &str {
        let first = self.name.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

/// Every source file.
fn sources() -> Vec<Source> {
    fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { collect(&path, files) } else { files.push(path) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).expect("below src").display().to_string();
        Source::new(&name, fs::read_to_string(&path).expect("text"))
    };
    let sources: Vec<_> = files.into_iter().map(read).collect();
    assert!(sources.len() > 50, "the sources were found");
    sources
}

/// The first names of what a file takes from the root of the crate: `crate::a::b`, `crate::{a, b::c}`.
fn rooms_used(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut rooms = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            rooms.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut entry = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => entry = true,
                c if entry && depth == 0 && c.is_alphabetic() => {
                    rooms.insert(word(&group[at..]));
                    entry = false;
                }
                _ => {}
            }
        }
    }
    rooms
}

/// Which room imports which, and by which files.
type Imports = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn imports(sources: &[Source]) -> Imports {
    let mut imports = Imports::new();
    let rooms: BTreeSet<_> = sources.iter().map(Source::room).collect();
    for source in sources.iter().filter(|source| !["lib", "main"].contains(&source.room())) {
        for used in rooms_used(&source.code) {
            // A macro or a re-export of the root is no room.
            if rooms.contains(used.as_str()) && used != source.room() {
                let by = imports.entry(source.room().to_owned()).or_default();
                by.entry(used).or_default().insert(source.name.clone());
            }
        }
    }
    imports
}

/// A way from a room back to itself, each step with the files that take it.
fn circle(imports: &Imports) -> Option<Vec<String>> {
    fn search<'a>(
        imports: &'a Imports,
        room: &'a str,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> bool {
        if way.contains(&room) {
            way.push(room);
            return true;
        }
        if !done.insert(room) {
            return false;
        }
        way.push(room);
        let next = imports.get(room).into_iter().flat_map(BTreeMap::keys);
        for room in next {
            if search(imports, room, way, done) {
                return true;
            }
        }
        way.pop();
        false
    }
    let mut done = BTreeSet::new();
    for room in imports.keys() {
        let mut way = Vec::new();
        if search(imports, room, &mut way, &mut done) {
            let start = way.iter().position(|room| Some(room) == way.last()).unwrap_or(0);
            let steps = way[start..].windows(2).map(|step| {
                format!("{} -> {} in {:?}", step[0], step[1], imports[step[0]][step[1]])
            });
            return Some(steps.collect());
        }
    }
    None
}

#[test]
fn there_is_no_circle_among_the_rooms() {
    let mut all = sources();
    let found = imports(&all);
    assert!(found.len() > 10, "the imports were found: {:?}", found.keys());
    assert_eq!(circle(&found), None);

    // One import more that closes a circle is found, in each of the forms in which it can be written.
    for import in
        ["use crate::mcp::Endpoint;", "use crate::{\n    clock::Clock,\n    mcp::{Endpoint},\n};"]
    {
        let place = all.iter().position(|source| source.name == "wire/json.rs").expect("is there");
        let before = all[place].clone();
        all[place] = Source::new("wire/json.rs", format!("{import}\n{}", before.whole));
        let closed = circle(&imports(&all)).expect("a circle");
        assert!(
            closed.iter().any(|step| step.contains("wire -> mcp in {\"wire/json.rs\"}")),
            "{closed:?}"
        );
        all[place] = before;
    }
    // In a test it does no harm.
    let place = all.iter().position(|source| source.name == "wire/json.rs").expect("is there");
    let whole =
        format!("{}\n#[cfg(test)]\nmod more {{ use crate::mcp::Endpoint; }}", all[place].whole);
    all[place] = Source::new("wire/json.rs", whole);
    assert_eq!(circle(&imports(&all)), None);
}

#[test]
fn every_room_stands_on_those_below_it_on_the_map() {
    let map = include_str!("../../src/lib.rs");
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    let rooms: Vec<_> = rows.filter_map(|row| Some(row.split_once('`')?.0)).collect();
    let modules: BTreeSet<_> =
        map.lines().filter_map(|line| line.strip_prefix("pub mod ")).collect();
    let named: BTreeSet<_> = rooms.iter().map(|room| format!("{room};")).collect();
    assert_eq!(named, modules.iter().map(|module| (*module).to_owned()).collect());
    let floor = |room: &str| rooms.iter().position(|known| *known == room).expect("on the map");
    for (room, used) in imports(&sources()) {
        for (below, files) in used {
            assert!(floor(&room) < floor(&below), "{room} imports {below} in {files:?}");
        }
    }
}

/// The word may stand in these rooms or files alone, and does stand in one.
#[track_caller]
fn only_in(word: &str, allowed: &[&str]) {
    let found: Vec<_> = sources().into_iter().filter(|s| s.code.contains(word)).collect();
    assert!(!found.is_empty(), "{word} stands nowhere: the rule checks nothing");
    let strays = found.iter().filter(|source| {
        !allowed.iter().any(|place| *place == source.name || *place == source.room())
    });
    let strays: Vec<_> = strays.map(|source| &source.name).collect();
    assert!(strays.is_empty(), "{word} stands in {strays:?}");
}

#[test]
fn http_stays_at_the_edge() {
    only_in("axum::", &["http", "mcp", "admin", "home", "server"]);
}

#[test]
fn the_cache_stays_behind_the_door() {
    only_in("moka::", &["session/memory.rs", "session/shared/known.rs"]);
    // What it keeps of a session is seen nowhere else.
    only_in("Arc<Entry>", &["session/memory.rs", "session/entry.rs"]);
}

#[test]
fn the_environment_is_read_in_two_places() {
    only_in("env::var", &["config", "tools/diagnostics.rs"]);
}

#[test]
fn tasks_are_spawned_through_the_tracker() {
    only_in("tokio::spawn", &["lifecycle.rs", "main.rs"]);
}

#[test]
fn each_is_answered_in_one_place() {
    // Where an id was minted.
    only_in("Elsewhere::Instance", &["id.rs", "session/memory.rs", "mcp/stateless/task.rs"]);
    // When a session is over.
    only_in(".plus(self.timeout())", &["session/record.rs"]);
    // Which paths there are.
    only_in("\"/mcp\"", &["paths.rs", "probe"]);
    only_in("\"/metrics\"", &["paths.rs"]);
    only_in("\"/readyz\"", &["paths.rs"]);
}

#[test]
fn nobody_becomes_anonymous_by_default() {
    for word in
        ["unwrap_or(Caller::Anonymous)", "impl Default for Caller", "RequestRecord::unnamed"]
    {
        let strays: Vec<_> = sources().into_iter().filter(|s| s.code.contains(word)).collect();
        assert!(strays.is_empty(), "{word} stands in {:?}", strays[0].name);
    }
    // A caller is found in one place, and handed on.
    let elsewhere = ["http/bearer.rs", "mcp/stateless/input.rs", "session/shared/codec.rs"];
    only_in("Caller::Anonymous =>", &elsewhere);
}

#[test]
fn a_header_that_decides_is_read_by_the_one_rule() {
    // What is read otherwise: a length, of which the HTTP library takes one alone; what the layers have looked at already,
    // to be shown or repeated; and the answers that the probe gets.
    let others = ["http/body.rs", "http/origin.rs", "tools/diagnostics.rs", "probe"];
    for word in ["headers.get(", "headers().get(", "asked.get("] {
        only_in(word, &[&["wire/headers.rs"], &others[..]].concat());
    }
    // A value that is no text must not pass for a missing one.
    only_in(
        ".to_str().ok()",
        &["http/body.rs", "mcp/stateless/metadata.rs", "server/hosts.rs", "probe"],
    );
}

#[test]
fn capabilities_know_no_era() {
    let tools: Vec<_> = sources().into_iter().filter(|source| source.room() == "tools").collect();
    assert!(tools.len() > 8);
    for Source { name, code, .. } in tools {
        for word in ["Era::", "sessioned", "stateless", "SESSION_HEADER", "VERSION_HEADER"] {
            assert!(!code.contains(word), "{name} says {word}");
        }
    }
}

#[test]
fn every_file_opens_with_what_it_owns() {
    for Source { name, whole, .. } in sources().into_iter().filter(|s| s.name.ends_with(".rs")) {
        let header: Vec<_> = whole.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(header.len() >= 4 || name == "lib.rs", "{name} opens with a purpose");
        assert!(name == "lib.rs" || whole.contains("//! Owns"), "{name} says what it owns");
    }
}

/// Files of one idea that is long: a table, mostly.
const LONG: [&str; 3] = ["admin/page/page.js", "tools/conformance.rs", "wire/model.rs"];

#[test]
fn no_file_grows_beyond_reading() {
    for Source { name, whole, .. } in sources() {
        let most = if LONG.contains(&name.as_str()) { 800 } else { 500 };
        let lines = whole.lines().count();
        assert!(lines <= most, "{name} has {lines} lines: more than one idea?");
    }
}

/// Each function of a file with its lines, by the indentation that rustfmt gives it.
fn functions(code: &str) -> Vec<(String, usize)> {
    let lines: Vec<_> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let mut words = line.split_whitespace();
        let prefix = |word: &&str| {
            ["const", "async", "pub", "crate"].contains(word)
                || word.starts_with("pub(")
                || word.ends_with(')') && !word.contains("fn")
        };
        let mut rest = words.by_ref().skip_while(prefix);
        if rest.next() != Some("fn") {
            continue;
        }
        let name = rest.next().unwrap_or_default().to_owned();
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines[at..].iter().position(|line| **line == *end);
        found.extend(length.map(|length| (name, length + 1)));
    }
    found
}

#[test]
fn no_function_grows_beyond_reading() {
    let mut seen = 0;
    let mut long = Vec::new();
    for Source { name, code, .. } in sources().into_iter().filter(|s| s.name.ends_with(".rs")) {
        for (function, lines) in functions(&code) {
            seen += 1;
            if lines > 60 {
                long.push(format!("{name}: {function} has {lines} lines"));
            }
        }
    }
    assert!(seen > 800, "the functions were found: {seen}");
    assert!(long.is_empty(), "{long:#?}");
    let sample = format!(
        "impl X {{\n    pub(super) async fn y(\n    ) {{\n{}    }}\n}}",
        "        1;\n".repeat(70)
    );
    assert_eq!(functions(&sample), [("y(".to_owned(), 73)]);
}

#[test]
fn the_client_of_the_store_is_known_in_one_room() {
    only_in("redis::", &["link"]);
}
