//! The rules of the module tree that a search can hold.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every source file, its path below `src` and its text without tests and comments.
fn sources() -> Vec<(String, String, String)> {
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
    let sources: Vec<_> = files
        .into_iter()
        .map(|path| {
            let whole = fs::read_to_string(&path).expect("text");
            let name = path.strip_prefix(&root).expect("below src").display().to_string();
            let code = whole.split("#[cfg(test)]").next().unwrap_or_default();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            let code = code.collect::<Vec<_>>().join("\n");
            (name, whole, code)
        })
        .collect();
    assert!(sources.len() > 25, "the sources were found");
    sources
}

/// The word may stand in these files alone, and does stand in one.
#[track_caller]
fn only_in(word: &str, allowed: &[&str]) {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|(_, _, code)| code.contains(word))
        .map(|(name, ..)| name)
        .collect();
    assert!(!found.is_empty(), "{word} stands nowhere: the rule checks nothing");
    let strays: Vec<_> = found.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    assert!(strays.is_empty(), "{word} stands in {strays:?}");
}

#[test]
fn http_stays_at_the_edge() {
    only_in(
        "axum::",
        &[
            "http.rs",
            "http/access_log.rs",
            "http/bearer.rs",
            "http/body.rs",
            "http/cors.rs",
            "http/origin.rs",
            "http/vhost.rs",
            "mcp.rs",
            "mcp/failure.rs",
            "mcp/reply.rs",
            "mcp/sessioned.rs",
            "mcp/stateless.rs",
            "auth/metadata.rs",
            "admin.rs",
            "admin/events.rs",
            "admin/health.rs",
            "admin/metrics.rs",
            "admin/overview.rs",
            "admin/page.rs",
            "admin/reload.rs",
            "admin/sessions.rs",
            "server.rs",
            "healthcheck.rs",
        ],
    );
}

#[test]
fn the_cache_stays_behind_the_door() {
    only_in("moka::", &["session/memory.rs"]);
}

#[test]
fn the_environment_is_read_in_two_places() {
    only_in("env::var", &["config/layers.rs", "tools/diagnostics.rs"]);
}

#[test]
fn tasks_are_spawned_through_the_tracker() {
    only_in("tokio::spawn", &["lifecycle.rs", "main.rs"]);
}

#[test]
fn capabilities_know_no_era() {
    let mut checked = 0;
    for (name, _, code) in sources() {
        let era_free = ["call.rs", "prompts.rs", "resources.rs"].contains(&name.as_str());
        if name.starts_with("tools/") || era_free {
            checked += 1;
            for word in ["Era::", "sessioned::", "stateless::", "SESSION_HEADER", "VERSION_HEADER"]
            {
                assert!(!code.contains(word), "{name} says {word}");
            }
        }
    }
    assert_eq!(checked, 7);
}

#[test]
fn every_file_opens_with_what_it_owns() {
    let is_rust = |(name, ..): &(String, String, String)| name.ends_with(".rs");
    for (name, whole, _) in sources().into_iter().filter(is_rust) {
        let header: Vec<_> = whole.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(header.len() >= 4 || name == "lib.rs", "{name} opens with a purpose");
        assert!(name == "lib.rs" || whole.contains("//! Owns"), "{name} says what it owns");
    }
}

#[test]
fn no_file_grows_beyond_reading() {
    for (name, whole, _) in sources() {
        assert!(whole.lines().count() < 800, "{name} holds more than one idea");
    }
}

#[test]
fn leaves_use_nothing_of_ours() {
    let leaves = [
        "clock.rs",
        "lifecycle.rs",
        "place.rs",
        "mcp/json.rs",
        "mcp/jsonrpc.rs",
        "mcp/model.rs",
        "mcp/params.rs",
        "mcp/sse.rs",
        "mcp/version.rs",
    ];
    let mut checked = 0;
    for (name, _, code) in sources() {
        if leaves.contains(&name.as_str()) {
            checked += 1;
            // JSON text is what the wire types are made of, and params are what messages hold.
            let code = code.replace("super::json::", "").replace("super::params::", "");
            assert!(!code.contains("crate::") && !code.contains("super::"), "{name} is a leaf");
        }
        if name.starts_with("config") {
            checked += 1;
            for inner in ["crate::http", "crate::auth", "crate::instance", "crate::session"] {
                assert!(!code.contains(inner), "{name} uses {inner}, which is built from it");
            }
        }
    }
    assert_eq!(checked, leaves.len() + 8);
}
