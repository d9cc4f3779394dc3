//! What the documents say is so: their tables, the first sessions of both eras, the links, the comments of
//! config/default.toml. Their commands run in `snippets`.
//! Trap: a table is found by its heading alone, so no two documents may have one that is looked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use mcp_echo_stateful::{
    config::{
        CONFIG_VARIABLE, DEFAULTS, Flags, Key, Layers, PLAIN_NAMES, POLICY_SECTIONS,
        PROFILE_VARIABLE, Reload, ToolSet,
    },
    failure::Failure,
    id::{Boot, EndReason, InstanceId, MintedBy, ReplicaTag},
    observe::{fields::FIELDS, outcome::RequestOutcome},
    probe::findings,
    session::store::Gone,
    tenant::origins::EXPOSED,
    wire::version::{Era, Feature, Method, ProtocolVersion, Window},
};
use serde_json::{Value, json};

use crate::{
    probe::probe,
    stores::{Engine, StoreServer},
    support::TestServer,
};

/// What users read.
pub(crate) const DOCUMENTS: [(&str, &str); 9] = [
    ("README.md", include_str!("../../README.md")),
    ("docs/clients.md", include_str!("../../docs/clients.md")),
    ("docs/migrating.md", include_str!("../../docs/migrating.md")),
    ("docs/operating.md", include_str!("../../docs/operating.md")),
    ("docs/probe.md", include_str!("../../docs/probe.md")),
    ("docs/reference.md", include_str!("../../docs/reference.md")),
    ("docs/sessions-and-streams.md", include_str!("../../docs/sessions-and-streams.md")),
    ("docs/store.md", include_str!("../../docs/store.md")),
    ("docs/troubleshooting.md", include_str!("../../docs/troubleshooting.md")),
];
const CHANGELOG: &str = include_str!("../../CHANGELOG.md");
pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[tokio::test]
async fn the_dialect_of_schemas_is_named() {
    assert!(section("## Tools").contains("JSON Schema 2020-12"));
    let sets = ("MCP_ECHO_TOOLS__SETS", "conformance,session,diagnostics,streaming");
    let server = TestServer::start(&[sets]).await;
    let list = server.session_of(0, "2025-11-25").await.rpc("tools/list", json!({}));
    let text = list.send().await.text();
    let named = text.matches("\"$schema\":").count();
    let dialect = "\"$schema\":\"https://json-schema.org/draft/2020-12/schema\"";
    assert_eq!(
        (named, text.matches(dialect).count()),
        (1, 1),
        "the others mean the same by default"
    );
}

/// What stands below a heading in the one document that has it, down to the next one.
fn section(heading: &str) -> &'static str {
    let start = format!("\n{heading}\n");
    let mut parts = DOCUMENTS.iter().flat_map(|(_, text)| text.split(start.as_str()).skip(1));
    let rest = parts.next().unwrap_or_else(|| panic!("no heading {heading:?}"));
    assert!(parts.next().is_none(), "{heading:?} is there twice");
    // Level 2 or 3: a shell comment begins with one `#` only.
    rest.find("\n##").map_or(rest, |end| &rest[..end])
}

/// The cells of a line of a table.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// The rows of the table that begins with these columns, its head left out.
pub(crate) fn table(heading: &str, columns: &[&str]) -> Vec<Vec<&'static str>> {
    let mut lines = section(heading).lines().skip_while(|line| cells(line) != columns);
    assert!(lines.next().is_some(), "{heading}: no table of {columns:?}");
    let rows: Vec<_> = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(!rows.is_empty(), "{heading}: the table of {columns:?} is empty");
    for row in &rows {
        assert_eq!(row.len(), columns.len(), "{heading}: {row:?}");
    }
    rows
}

/// The pieces of a text that stand in backticks.
fn codes(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The one piece of a cell that stands in backticks, the first of several.
fn code(cell: &'static str) -> &'static str {
    codes(cell).first().copied().unwrap_or_else(|| panic!("{cell:?} holds no `code`"))
}

/// Fenced blocks: language and text.
pub(crate) fn blocks(text: &'static str) -> Vec<(&'static str, &'static str)> {
    text.split("\n```")
        .skip(1)
        .step_by(2)
        .map(|block| block.split_once('\n').expect("a fence"))
        .collect()
}

/// A set that must not be empty and holds nothing twice.
#[track_caller]
fn set<T: Ord + std::fmt::Debug>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let items: Vec<_> = items.into_iter().collect();
    let (count, set) = (items.len(), items.into_iter().collect::<BTreeSet<_>>());
    assert!(!set.is_empty(), "nothing was found");
    assert_eq!(set.len(), count, "something stands there twice: {set:?}");
    set
}

/// Every reason why there is no session.
const GONE: [Gone; 6] = {
    let by =
        MintedBy { instance: InstanceId::wrapping(3), tag: ReplicaTag(0xa1), boot: Boot(0x0b2) };
    let all = [
        Gone::Expired(std::time::Duration::from_secs(300)),
        Gone::Terminated(EndReason::Client),
        Gone::OtherInstance(by.instance),
        Gone::OtherReplica(by),
        Gone::EarlierBoot(by),
        Gone::Unknown,
    ];
    let mut place = 0;
    while place < all.len() {
        // One more variant does not compile until it has a line here, and with the line a place above.
        let expected = match all[place] {
            Gone::Expired(_) => 0,
            Gone::Terminated(_) => 1,
            Gone::OtherInstance(_) => 2,
            Gone::OtherReplica(_) => 3,
            Gone::EarlierBoot(_) => 4,
            Gone::Unknown => 5,
        };
        assert!(expected == place);
        place += 1;
    }
    all
};

/// Every file of the sources: its path below src and its text.
fn sources() -> BTreeMap<String, String> {
    fn add(directory: &Path, base: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(directory).expect("is a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                add(&path, base, found);
            } else {
                let name = path.strip_prefix(base).expect("is below").display().to_string();
                found.insert(name, fs::read_to_string(&path).expect("is text"));
            }
        }
    }
    let base = Path::new(ROOT).join("src");
    let mut found = BTreeMap::new();
    add(&base, &base, &mut found);
    assert!(found.contains_key("lib.rs"), "{:?}", found.keys());
    found
}

/// The texts that stand between `before` and a quotation mark anywhere in the sources.
fn literals(before: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for text in sources().values() {
        found.extend(text.split(before).skip(1).filter_map(|rest| {
            let (literal, _) = rest.split_once('"')?;
            Some(literal.to_owned())
        }));
    }
    assert!(!found.is_empty(), "no {before:?}");
    found
}

#[tokio::test]
async fn the_tool_table_is_tools_list() {
    let server = TestServer::start(&[]).await;
    let answer = server.rpc("tools/list", json!({})).send().await;
    let list = answer.json()["result"]["tools"].as_array().expect("tools").clone();

    let rows = table("## Tools", &["tool", "arguments", "what it does"]);
    let written: Vec<_> = rows.iter().map(|row| code(row[0])).collect();
    let served: Vec<_> = list.iter().map(|tool| tool["name"].as_str().expect("a name")).collect();
    assert_eq!(written, served);

    for (row, tool) in rows.iter().zip(&list) {
        let schema = &tool["inputSchema"];
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let properties = schema["properties"].as_object().expect("properties");
        let served = properties.keys().map(|name| (name.as_str(), required.contains(&json!(name))));
        assert_eq!(written_arguments(row[1]), marked(served), "{}", row[0]);
    }
}

/// Arguments as the tables write them: a `?` marks what may be left out.
fn marked<'a>(arguments: impl IntoIterator<Item = (&'a str, bool)>) -> BTreeSet<String> {
    let mark = |required| if required { "" } else { "?" };
    arguments.into_iter().map(|(name, required)| format!("{name}{}", mark(required))).collect()
}

fn written_arguments(cell: &str) -> BTreeSet<String> {
    codes(cell).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_table_of_resources_and_prompts_is_what_is_listed() {
    let server = TestServer::start(&[]).await;
    let mut served = Vec::new();
    for (method, kind) in [
        ("resources/list", "resource"),
        ("resources/templates/list", "template"),
        ("prompts/list", "prompt"),
    ] {
        let answer = server.rpc(method, json!({})).send().await.json();
        let lists = answer["result"].as_object().expect("a result").values();
        for item in lists.filter_map(Value::as_array).flatten() {
            let name =
                ["uri", "uriTemplate", "name"].into_iter().find_map(|key| item[key].as_str());
            let name = name.expect("a name").to_owned();
            let arguments: Vec<_> = item["arguments"].as_array().into_iter().flatten().collect();
            let of_prompt = arguments.into_iter().map(|argument| {
                (argument["name"].as_str().expect("a name"), argument["required"] == true)
            });
            let of_template = name.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
            let of_template = of_template.map(|(variable, _)| (variable, true));
            let arguments = marked(of_prompt.chain(of_template));
            served.push((kind.to_owned(), name, arguments));
        }
    }
    let rows = table("## Resources and prompts", &["kind", "name", "arguments", "what it is"]);
    let written: Vec<_> = rows
        .iter()
        .map(|row| (row[0].to_owned(), code(row[1]).to_owned(), written_arguments(row[2])))
        .collect();
    assert_eq!(written, served);
}

#[tokio::test]
async fn the_ready_made_configuration_serves_the_fixtures_that_the_documents_name() {
    let flags =
        Flags { file: Some(Path::new(ROOT).join("config/conformance.toml")), ..Flags::default() };
    let config = Layers::merge(&flags, &[]).and_then(|layers| layers.check()).expect("is fine");
    for policy in &config.instances {
        assert!(policy.tools.sets.contains(&ToolSet::Conformance), "{:?}", policy.tools.sets);
    }

    let sets = "conformance,session,diagnostics,streaming";
    let server = TestServer::start(&[("MCP_ECHO_TOOLS__SETS", sets)]).await;
    let answer = server.rpc("tools/list", json!({})).send().await.json();
    let listed: Vec<_> = answer["result"]["tools"]
        .as_array()
        .expect("tools")
        .iter()
        .map(|tool| tool["name"].as_str().expect("a name"))
        .collect();
    // In the text a tool is all that has an underscore and no dot.
    let named = codes(section("## Testing a gateway"));
    let tools = set(named.into_iter().filter(|name| name.contains('_') && !name.contains('.')));
    assert!(tools.iter().any(|name| name.starts_with("test_")), "{tools:?}");
    let unknown: Vec<_> = tools.iter().filter(|name| !listed.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_variable_table_is_that_of_the_program() {
    let printed = Layers::merge(&Flags::default(), &[]).and_then(|layers| layers.print());
    let printed = printed.expect("the defaults are fine");
    let defaults: BTreeMap<_, _> = printed
        .lines()
        .map(|line| {
            let (key, value) = line.split_once(" = ").expect("a key");
            let (value, _) = value.split_once("  # ").expect("an origin");
            // As it would be written in the environment.
            let value = value.trim_matches(['[', ']']).replace("\", \"", ",").replace('"', "");
            (key.to_owned(), value)
        })
        .collect();
    assert!(!defaults.is_empty());

    let rows = table("## Environment variables", &["variable", "key", "default", ""]);
    let written = set(rows.iter().map(|row| {
        let default = if row[2] == "none" { "" } else { code(row[2]) };
        (code(row[0]), code(row[1]), default.to_owned())
    }));
    let known = set(PLAIN_NAMES.iter().map(|(name, key)| (*name, *key, defaults[*key].clone())));
    assert_eq!(written, known);
    for variable in [CONFIG_VARIABLE, PROFILE_VARIABLE] {
        assert!(section("## Environment variables").contains(variable));
    }
}

#[test]
fn the_settings_of_the_store_are_those_of_the_program() {
    let rows = table("## Its settings", &["setting", "default", ""]);
    let written: Vec<_> = rows.iter().map(|row| (code(row[0]), row[1])).collect();
    let mut known = Vec::new();
    let mut lines = DEFAULTS.lines().skip_while(|line| *line != "[store]").skip(1);
    for line in lines.by_ref().take_while(|line| !line.starts_with('[')) {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let value = value.trim_matches('"');
        let value = if value.is_empty() { "none".to_owned() } else { format!("`{value}`") };
        known.push((format!("store.{key}"), value));
    }
    let written: Vec<_> =
        written.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert!(known.len() > 5, "{known:?}");
    assert_eq!(written, known);
}

/// Every kind of key that a script makes has a row, and its type is there.
#[test]
fn the_table_of_keys_holds_what_scripts_make() {
    let rows = table("## What is in it", &["key", "type", "what", "how long"]);
    let written: BTreeSet<_> = rows.iter().flat_map(|row| codes(row[0])).collect();
    let written: BTreeSet<_> =
        written.iter().map(|key| key.split_inclusive(':').next().expect("a key")).collect();
    let mut made = BTreeSet::new();
    scripts(&Path::new(ROOT).join("src"), &mut made);
    assert!(made.len() > 5, "{made:?}");
    let unnamed: Vec<_> = made.iter().filter(|key| !written.contains(key.as_str())).collect();
    assert!(unnamed.is_empty(), "{unnamed:?} are not in docs/store.md");
}

/// The beginnings of the keys in all scripts below a directory.
fn scripts(directory: &Path, made: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            scripts(&path, made);
        } else if path.extension().is_some_and(|extension| extension == "lua") {
            let text = fs::read_to_string(&path).expect("is text");
            let keys = text.split("P .. '").skip(1).filter_map(|rest| rest.split_once('\''));
            made.extend(keys.map(|(key, _)| key.to_owned()));
        }
    }
}

#[test]
fn the_section_table_and_the_examples_fit_the_configuration() {
    let rows = table("## Configuration", &["section", "what", "per instance", "on a reload"]);
    let written = set(rows.iter().map(|row| code(row[0])));
    let known = set(DEFAULTS.lines().filter_map(|line| line.strip_prefix('[')?.strip_suffix(']')));
    assert_eq!(written, known);
    let per_instance = set(rows.iter().filter(|row| row[2] == "yes").map(|row| code(row[0])));
    assert_eq!(per_instance, set(POLICY_SECTIONS.iter().copied()));
    for row in &rows {
        let section = format!("{}.", code(row[0]));
        let keys =
            Key::all().filter_map(|key| Some((key.path.strip_prefix(&section)?, key.reload)));
        let (held, applied): (Vec<_>, Vec<_>) =
            keys.partition(|(_, reload)| matches!(reload, Reload::Restart(_)));
        let names: Vec<_> = held.iter().map(|(name, _)| format!("`{name}`")).collect();
        let expected = match (applied.is_empty(), held.is_empty()) {
            (true, _) => "restart".to_owned(),
            (false, true) => "at once".to_owned(),
            (false, false) => format!("at once; restart: {}", names.join(", ")),
        };
        assert_eq!(row[3], expected, "{section}");
    }

    let examples = DOCUMENTS.iter().flat_map(|(_, text)| blocks(text));
    let examples: Vec<_> = examples.filter(|(kind, _)| *kind == "toml").collect();
    assert!(!examples.is_empty());
    for (_, example) in examples {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("example.toml");
        fs::write(&file, example).expect("writes");
        let flags = Flags { file: Some(file), ..Flags::default() };
        let checked = Layers::merge(&flags, &[]).and_then(|layers| layers.check());
        checked.unwrap_or_else(|error| panic!("{error}: {example}"));
    }

    // Variables of the form MCP_ECHO_SECTION__KEY=value, wherever a document gives one.
    let examples: Vec<_> = DOCUMENTS
        .iter()
        .flat_map(|(_, text)| text.split(|c: char| c.is_whitespace() || "`()".contains(c)))
        .filter_map(|word| word.trim_end_matches(['.', ',', ';', ':']).split_once('='))
        .filter(|(name, value)| {
            name.starts_with("MCP_ECHO_") && name.contains("__") && !value.starts_with('$')
        })
        .collect();
    assert!(examples.len() > 8, "{examples:?}");
    // Each by itself: two documents may set one key to two values.
    for (name, value) in examples {
        let mut variables = vec![(name.to_owned(), value.to_owned())];
        if value == "tokens" {
            variables.push(("MCP_ECHO_AUTH__TOKENS".to_owned(), "a=b".to_owned()));
        }
        if name.starts_with("MCP_ECHO_STORE__") && !name.contains("__URL") {
            variables.push(("MCP_STORE_URL".to_owned(), "redis://store".to_owned()));
        }
        let merged = Layers::merge(&Flags::default(), &variables);
        let checked = merged.and_then(|layers| layers.check());
        checked.unwrap_or_else(|error| panic!("{error}: {name}={value}"));
    }
}

#[test]
fn the_table_of_what_waits_for_a_start_is_that_of_the_program() {
    let rows = table("## Another configuration without a restart", &["key", "since"]);
    let written: Vec<_> = rows.iter().map(|row| (code(row[0]), row[1])).collect();
    let known = Key::all().filter_map(|key| match key.reload {
        Reload::Live | Reload::Pushed => None,
        Reload::Restart(why) => Some((key.path, why)),
    });
    assert_eq!(written, known.collect::<Vec<_>>());
}

#[tokio::test]
async fn the_table_of_metrics_is_what_is_told() {
    let store = StoreServer::start(Engine::Redis);
    let server = TestServer::start(&[("MCP_STORE_URL", &store.url())]).await;
    let page = server.operate("GET", "/metrics").send().await.text();
    let families =
        set(page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()));
    let rows = table("## Metrics", &["family", "labels", ""]);
    assert_eq!(set(rows.iter().map(|row| code(row[0]))), families);
}

#[test]
fn the_table_of_options_is_what_the_probe_takes() {
    let help =
        Command::new(env!("CARGO_BIN_EXE_mcp-echo-stateful")).args(["probe", "--help"]).output();
    let help = String::from_utf8(help.expect("runs").stdout).expect("is text");
    let (own, _) = help.split_once("Options of the server").expect("has two parts");
    let (_, own) = own.split_once("Options:").expect("has options");
    let option = |word: &'static str| word.split(' ').next().expect("a word");
    let rows = table("## Probing a proxy", &["option", "default", ""]);
    let written = rows.iter().map(|row| option(code(row[0])));
    let known = own.split_whitespace().filter(|word| word.starts_with("--"));
    assert_eq!(set(written.chain(["--help"])), set(known));
}

#[tokio::test]
async fn the_verdict_table_is_what_a_probe_reports() {
    let server = TestServer::start(&[]).await;
    let url = format!("http://{}/mcp", server.address);
    let found = probe(&[&url, "--sessions", "1"]).await;
    let counts = found.json["eras"]["sessioned"].as_object().expect("counts by verdict");
    let rows = table("## Probing a proxy", &["verdict", "the session"]);
    assert_eq!(set(rows.iter().map(|row| code(row[0]))), set(counts.keys().map(String::as_str)));
}

#[test]
fn the_table_of_findings_is_what_a_probe_can_find() {
    let rows = table("## Probing a proxy", &["finding", "", "it says"]);
    let written: Vec<_> = rows.iter().map(|row| (code(row[0]), row[1], row[2])).collect();
    let kind = |fault| if fault { "fault" } else { "note" };
    let known = findings::table().map(|(name, fault, says)| (name, kind(fault), says));
    assert_eq!(written, known.collect::<Vec<_>>());
}

#[test]
fn every_key_of_the_defaults_has_a_comment() {
    let mut keys = 0;
    let mut above = "";
    for line in DEFAULTS.lines() {
        if !line.starts_with(['#', '[']) && !line.is_empty() {
            keys += 1;
            // A `#` after the value, or a comment line above.
            let explained = line.contains(" # ") || above.starts_with('#');
            assert!(explained, "config/default.toml: this key has no comment: {line}");
        }
        above = line;
    }
    assert!(keys > 0);
}

#[test]
fn the_error_table_holds_every_failure() {
    let rows = table("## Errors", &["up to 2025-11-25", "2026-07-28", "in the log", "when"]);
    let written = set(rows.iter().flat_map(|row| {
        let answers = [row[0].to_owned(), row[1].to_owned()];
        codes(row[2]).into_iter().map(move |name| (name, answers.clone()))
    }));
    let known = set(Failure::ROWS.iter().flat_map(|row| {
        let answer = |(place, era)| match row.eras.contains(&era) {
            true => format!("{} {}", row.status[place], row.code[place]),
            false => "–".to_owned(),
        };
        let answers = [(0, Era::Sessioned), (1, Era::Stateless)].map(answer);
        row.outcomes.iter().map(move |outcome| (outcome.as_str(), answers.clone()))
    }));
    assert_eq!(written, known);
}

#[test]
fn the_reason_table_holds_every_reason() {
    let rows = table("## Sessions", &["reason", "the session", "do"]);
    let written = set(rows.iter().map(|row| code(row[0])));
    assert_eq!(written, set(GONE.map(Gone::reason)));
}

#[tokio::test]
async fn refusals_before_mcp_are_those_of_the_table() {
    let tokens = [("MCP_ECHO_AUTH__MODE", "tokens"), ("MCP_ECHO_AUTH__TOKENS", "a=b")];
    let server = TestServer::start(&tokens).await;
    let get = |path| server.request("GET", path);
    let refused = [
        get("/mcp").without_host(),
        get("/mcp").header("Authorization", "Bearer a b"),
        get("/mcp"),
        get("/debug/sessions"),
        get("/mcp").header("Origin", "https://example.org"),
        get("/nowhere"),
        server.request("PUT", "/debug/sessions").header("Authorization", "Bearer admin-secret"),
        get("/mcp").host("example.org"),
    ];
    let mut seen = Vec::new();
    for request in refused {
        let answer = request.send().await;
        seen.push(answer.status);
        let body = answer.json();
        assert!(body["error"].is_string() || body["error"]["code"] == -32000, "{body}");
        assert_eq!(answer.header("allow").is_some(), answer.status == 405, "{answer:?}");
        let challenged = answer.status == 401 || body["error"]["code"].is_i64();
        assert_eq!(answer.header("www-authenticate").is_some(), challenged, "{answer:?}");
    }
    let rows = table("## Errors", &["HTTP", "in the log", "when"]);
    let written: Vec<u16> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(written, seen);
    assert_eq!(server.created(), 0);
}

#[test]
fn every_outcome_is_named() {
    let named: BTreeSet<_> = codes(section("## Errors"))
        .into_iter()
        .chain(codes(section("## Log")))
        .map(str::to_owned)
        .collect();
    let outcomes = RequestOutcome::ALL.iter().map(|outcome| outcome.as_str());
    let unnamed: Vec<_> = outcomes.filter(|outcome| !named.contains(*outcome)).collect();
    assert!(unnamed.is_empty(), "{unnamed:?}");

    let sources = sources().into_values().collect::<String>();
    for row in table("## Errors", &["HTTP", "in the log", "when"]) {
        assert!(sources.contains(&format!("\"{}\"", code(row[1]))), "{row:?}");
    }
}

#[test]
fn the_header_table_names_what_the_code_does() {
    let rows = table("## Headers", &["header", "", "meaning"]);
    let written = set(rows.iter().map(|row| code(row[0]).to_ascii_lowercase()));
    let sources = sources().into_values().collect::<String>();
    for name in &written {
        let constant = format!("header::{}", name.to_ascii_uppercase().replace('-', "_"));
        // A name that ends with … is composed, and the sources hold its beginning.
        let known = match name.strip_suffix('…') {
            Some(start) => sources.to_ascii_lowercase().contains(&format!("\"{start}{{")),
            None => sources.contains(&format!("\"{name}\"")) || sources.contains(&constant),
        };
        assert!(known, "{name} is nowhere in the sources");
    }
    for row in rows {
        assert!(["request", "answer", "both"].contains(&row[1]), "{row:?}");
    }
    let own = literals("HeaderName::from_static(\"");
    let exposed = EXPOSED.split(", ").map(str::to_owned);
    let missing: Vec<_> =
        own.into_iter().chain(exposed).filter(|name| !written.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A table of what each revision has, as the reference writes it.
fn matrix(what: &str, rows: impl IntoIterator<Item = (String, Window)>) -> String {
    let names = ProtocolVersion::ALL.map(ProtocolVersion::as_str);
    let mut lines = vec![
        format!("| {what} | {} |", names.join(" | ")),
        format!("| --- |{}", " --- |".repeat(names.len())),
    ];
    for (name, (first, last)) in rows {
        let cells = ProtocolVersion::ALL.map(|version| {
            let served = first <= version && last.is_none_or(|last| version <= last);
            if served { "served" } else { "refused" }
        });
        lines.push(format!("| {name} | {} |", cells.join(" | ")));
    }
    assert!(lines.len() > 2, "no {what}");
    lines.join("\n")
}

#[test]
fn the_version_tables_are_those_of_the_program() {
    let features = Feature::ALL.map(|feature| (feature.title().to_owned(), feature.window()));
    let methods =
        Method::ALL.iter().map(|method| (format!("`{}`", method.as_str()), method.window()));
    for expected in [matrix("feature", features), matrix("method", methods)] {
        let head = expected.lines().next();
        let lines = section("## Versions").lines().skip_while(|line| Some(*line) != head);
        let found: Vec<_> = lines.take_while(|line| line.starts_with('|')).collect();
        assert!(
            found.join("\n") == expected,
            "docs/reference.md, Versions, should have this table:\n{expected}"
        );
    }
}

/// Asserts that an answer has every member that a document shows of it, with the value shown unless it is
/// one that differs each time.
#[track_caller]
pub(crate) fn assert_shown(shown: &Value, real: &Value, name: &str) {
    let varies = ["session_id", "session_ref", "session", "replica_tag", "boot"].contains(&name)
        || name.ends_with("_at")
        || name.ends_with("_seconds");
    match (shown, real) {
        (Value::Object(shown), Value::Object(members)) => {
            for (name, shown) in shown {
                assert!(members.contains_key(name), "{name} is shown and is not in {real}");
                assert_shown(shown, &real[name], name);
            }
        }
        (Value::Array(shown), Value::Array(items)) => {
            assert_eq!(shown.len(), items.len(), "{name}");
            shown.iter().zip(items).for_each(|(shown, real)| assert_shown(shown, real, name));
        }
        _ if varies => assert_eq!(shown.is_string(), real.is_string(), "{name}: {real}"),
        _ => assert_eq!(shown, real, "{name}"),
    }
}

/// Lines of a head, then JSON; either may be missing.
fn head_and_json(text: &str) -> (&str, Option<Value>) {
    let start = text.find('{').unwrap_or(text.len());
    let (head, json) = text.split_at(start);
    let json = (!json.is_empty()).then(|| serde_json::from_str(json).expect("is JSON"));
    (head, json)
}

/// Runs shell text with bash; it stops at the first failure.
fn bash(script: &str) -> Output {
    let mut bash = Command::new("bash");
    // What is asked is this machine, whatever proxy is set.
    bash.args(["-euo", "pipefail", "-c", script]).env("no_proxy", "*").env("NO_PROXY", "*");
    bash.output().expect("bash runs")
}

/// A process that does not outlive its test, failed or not.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program as users start it, its log in JSON past the first line, and its port.
pub(crate) fn serve(variables: &[(&str, &str)]) -> (Running, BufReader<ChildStdout>, String) {
    let server = Command::new(env!("CARGO_BIN_EXE_mcp-echo-stateful"))
        .env_clear()
        .env("LOG_FORMAT", "json")
        .envs(variables.iter().copied())
        .args(["--host", "127.0.0.1", "--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut server = Running(server);
    let mut log = BufReader::new(server.0.stdout.take().expect("a pipe"));
    let mut line = String::new();
    log.read_line(&mut line).expect("a line");
    let listening: Value = serde_json::from_str(&line).expect("a line of JSON");
    let address = listening["mcp_echo.address"].as_str().expect("an address");
    let (_, port) = address.rsplit_once(':').expect("a port");
    (server, log, port.to_owned())
}

#[test]
fn the_first_sessions_run_and_are_logged_as_the_documents_say() {
    // A command and its answer in turn.
    let (mut script, mut answers) = (String::new(), Vec::new());
    let mut ends = Vec::new();
    for heading in ["## A session with curl", "## The same without sessions"] {
        for step in blocks(section(heading)).chunks(2) {
            let [("bash", command), ("text", answer)] = step else { panic!("{step:?}") };
            script.push_str(&format!("{command}\nprintf '\\0'\n"));
            answers.push(*answer);
        }
        ends.push(answers.len());
    }

    // A request of a trace, which the documents' are not, for the log.
    let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    script.push_str(&format!("curl -so /dev/null \"$MCP\" -H '{trace}'\n"));

    let (mut server, mut log, port) = serve(&[]);
    assert!(script.contains("localhost:3000"));
    let done = bash(&script.replace("localhost:3000", &format!("localhost:{port}")));

    // SIGTERM, so that the log is written to its end.
    let _ = bash(&format!("kill {}", server.0.id()));
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("reads");
    assert!(server.0.wait().expect("ends").success());

    assert!(done.status.success(), "{done:?}");
    let printed = String::from_utf8(done.stdout).expect("is text");
    let printed: Vec<_> = printed.split_terminator('\0').collect();
    assert_eq!(printed.len(), answers.len(), "{printed:?}");
    for (shown, real) in answers.iter().zip(&printed) {
        let ((shown_head, shown_json), (real_head, real_json)) =
            (head_and_json(shown), head_and_json(real.trim_end()));
        for line in shown_head.lines() {
            let name = line.split_once(": ").map_or(line, |(name, _)| name);
            assert!(real_head.contains(name), "{line:?} is not in {real}");
        }
        match (shown_json, real_json) {
            (Some(shown), Some(real)) => assert_shown(&shown, &real, "the answer"),
            (shown, real) => assert_eq!(shown, real),
        }
    }
    let [first, second] = [ends[0], ends[1]].map(|end| printed[end - 1]);
    assert!(first.starts_with("HTTP/1.1 404") && first.contains("\"terminated\""), "{first}");
    assert!(second.contains("it was ended") && second.contains("\"isError\":true"), "{second}");

    let known = ["timestamp", "level", "target", "message"].map(str::to_owned);
    let logged: BTreeSet<String> = rest
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"))
        .filter(|line| line["message"] == "request")
        .flat_map(|line| line.as_object().expect("an object").keys().cloned().collect::<Vec<_>>())
        .filter(|field| !known.contains(field))
        .collect();
    let names: BTreeSet<_> = FIELDS.iter().map(|(_, name)| (*name).to_owned()).collect();
    assert!(logged.is_subset(&names) && logged.len() > 10, "{logged:?}");
}

#[test]
fn the_log_table_holds_every_field_with_both_names() {
    let rows = table("## Log", &["field", "in JSON", ""]);
    let written: Vec<_> =
        rows.iter().flat_map(|row| codes(row[0]).into_iter().zip(codes(row[1]))).collect();
    assert_eq!(written, FIELDS);
}

#[test]
fn the_readme_is_for_someone_who_has_a_minute() {
    let (_, readme) = DOCUMENTS[0];
    assert!(readme.lines().count() <= 300, "{} lines", readme.lines().count());
    for command in ["cargo run --release", "tests/run"] {
        let mut lines = blocks(readme).into_iter().flat_map(|(_, block)| block.lines());
        assert!(
            lines.any(|line| line.split('#').next().is_some_and(|run| run.trim() == command)),
            "{command}"
        );
    }
    for (name, _) in &DOCUMENTS[1..] {
        assert!(readme.contains(&format!("]({name})")), "the README does not lead to {name}");
    }
}

/// Every document of the repository: where it is and its text.
fn everything_written() -> Vec<(String, String)> {
    let listed = Command::new("git").args(["-C", ROOT, "ls-files", "*.md"]).output();
    let listed = String::from_utf8(listed.expect("git runs").stdout).expect("is text");
    let mut names: BTreeSet<_> = listed.lines().map(str::to_owned).collect();
    // A copy without git has at least these.
    names.extend(DOCUMENTS.iter().map(|(name, _)| (*name).to_owned()));
    names.extend(["CONTRIBUTING.md", "deploy/README.md", "docs/trace.md"].map(str::to_owned));
    let read = |name: &String| fs::read_to_string(Path::new(ROOT).join(name)).expect(name);
    names.iter().map(|name| (name.clone(), read(name))).collect()
}

/// A document without its fenced blocks, where `#` begins a comment and brackets are code.
pub(crate) fn prose(text: &str) -> String {
    let pieces = format!("\n{text}");
    pieces.split("\n```").step_by(2).collect()
}

/// The anchors that GitHub makes of a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || "-_".contains(*c);
    let anchor = |line: &str| {
        let words = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(kept).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let (mut files, mut places) = (0, 0);
    for (from, text) in everything_written() {
        for target in links(&prose(&text)) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => Path::new(ROOT).join(&from),
                file => Path::new(ROOT).join(&from).with_file_name("").join(file),
            };
            assert!(path.exists(), "{from}: there is no {file}");
            files += 1;
            if anchor.is_empty() {
                continue;
            }
            let text = fs::read_to_string(path).expect("is text");
            assert!(anchors(&text).contains(anchor), "{from}: no heading for {target}");
            places += 1;
        }
    }
    assert!(files > 80 && places > 50, "{files} files, {places} places");
}

/// Where a document's links lead, other sites left out.
fn links(text: &str) -> BTreeSet<&str> {
    let links = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    links.filter(|link| !link.contains("://")).collect()
}

#[test]
fn the_changelog_knows_this_version() {
    let headings: Vec<_> = CHANGELOG.lines().filter(|line| line.starts_with("## [")).collect();
    assert!(!headings.is_empty());
    assert!(CHANGELOG.contains(env!("CARGO_PKG_VERSION")), "{headings:?}");
}

/// The server believes these headers from a proxy that it trusts.
#[test]
fn every_proxy_file_removes_what_a_client_says_of_its_user() {
    fn collect(directory: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            match fs::read_to_string(&path) {
                // What shows how not to do it stands before servers that trust no proxy.
                _ if path.ends_with("affinity/bad") => {}
                _ if path.is_dir() => collect(&path, found),
                Ok(text) => found.push((path.display().to_string(), text)),
                Err(_) => {}
            }
        }
    }
    // What each kind of proxy file has where it leads to the server.
    let ways = [
        "proxy_pass ",
        "\tlb_policy ",
        "default_backend ",
        "route_config:",
        "backendRefs:",
        "middlewares: [clean]",
        "loadbalancer.server.port:",
    ];
    let mut files = Vec::new();
    collect(&Path::new(ROOT).join("deploy"), &mut files);
    let mut seen = 0;
    for (name, text) in files.iter().filter(|(name, _)| !name.ends_with(".md")) {
        let code: String =
            text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        let is_way = ways.iter().any(|way| code.contains(way));
        let code = code.to_ascii_lowercase();
        for header in ["x-user-id", "x-user-name"].into_iter().filter(|_| is_way) {
            assert!(code.contains(header), "{name} lets clients set {header}");
        }
        // Of several routes none may go without.
        let routes = code.matches("backendrefs:").count();
        let removed = code.matches("remove: [x-user-id, x-user-name]").count();
        assert!(
            routes == 0 || routes == removed,
            "{name}: {routes} routes, {removed} without them"
        );
        seen += usize::from(is_way);
    }
    assert!(seen >= 11, "the files were found: {seen}");
}
