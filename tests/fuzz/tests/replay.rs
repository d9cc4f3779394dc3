//! Every input that fuzzing kept, and some that nobody has seen before, without libFuzzer.
//! `INPUT` names a single file to be tried instead, whose conversation is shown.

use std::{
    env,
    ffi::OsStr,
    fs, panic,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use mcp_echo_stateful::wire::version::Method;
use mcp_echo_stateful_fuzz::{conversation, drive, render};

/// Conversations that are made up anew.
const RANDOM: u64 = 500;

/// How a request can end, all but what takes the real clock, a shutdown or a fault of ours.
const OUTCOMES: [&str; 37] = [
    "ok",
    "tool_error",
    "input_required",
    "client_gone",
    "method_not_found",
    "invalid_params",
    "unknown_tool",
    "refused",
    "resource_not_found",
    "cancelled",
    "not_json",
    "not_a_message",
    "session_required",
    "bad_header",
    "unsupported_version",
    "unsupported_revision",
    "bad_meta",
    "header_mismatch",
    "missing_capability",
    "body_broken",
    "terminated",
    "other_instance",
    "other_replica",
    "earlier_boot",
    "unknown",
    "method_not_allowed",
    "not_acceptable",
    "body_timeout",
    "too_many_streams",
    "body_too_large",
    "unsupported_media_type",
    "unknown_transfer_coding",
    "full",
    "too_many_subscriptions",
    "too_many_tasks",
    "unauthorized",
    "foreign_origin",
];

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// A panic that something has caught is one all the same.
fn count_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        usual(info);
    }));
}

fn hold(name: &str, play: impl FnOnce() + panic::UnwindSafe) {
    let result = panic::catch_unwind(play);
    let caught = PANICS.swap(0, Ordering::Relaxed);
    assert!(result.is_ok() && caught == 0, "{name}:\n{}", drive::transcript());
}

fn converse(name: &str, bytes: &[u8]) {
    if let Some(conversation) = conversation(bytes) {
        hold(name, || drive::converse(&conversation));
    }
}

fn play(file: &Path) {
    let (name, bytes) = (file.display().to_string(), fs::read(file).expect("a file"));
    match file.components().any(|part| part.as_os_str() == OsStr::new("wire")) {
        true => hold(&name, || drive::connect(&bytes)),
        false => converse(&name, &bytes),
    }
}

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() > 20, "{} inputs for {target}", files.len());
    files
}

#[test]
fn every_input_goes_well() {
    count_panics();
    if let Some(file) = env::var_os("INPUT") {
        play(Path::new(&file));
        print!("{}", drive::transcript());
        return;
    }
    corpus("wire").iter().for_each(|file| play(file));
    corpus("conversation").iter().for_each(|file| play(file));
    // Each beginning by itself: what fuzzing adds may never end it well.
    for story in 0..=u8::MAX {
        converse(&format!("story {story}"), &[story]);
    }
    check_reach();
    for seed in 0..RANDOM {
        converse(&format!("seed {seed}"), &random(seed));
    }
}

/// What an input's first byte says of the rest.
#[test]
fn frames_and_long_heads_come_to_be_requests() {
    drive::connect(&[0, 10, 0, 1, 0, 13, 0, 1, 0]);
    assert!(drive::reached().contains("echo ok"), "{:?}", drive::reached());
    let ping = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    drive::connect(&[&[1, 2, 0, 9][..], ping].concat());
    assert!(drive::reached().contains("ping ok"), "{:?}", drive::reached());
}

/// A corpus that no longer reaches what it did has lost its meaning.
fn check_reach() {
    let reached = drive::reached();
    let mut due: Vec<String> = OUTCOMES.map(str::to_owned).into();
    due.extend(Method::ALL.iter().map(|method| match method {
        // It ends when its client has gone.
        Method::Listen => "subscriptions/listen client_gone".to_owned(),
        other => format!("{} ok", other.as_str()),
    }));
    due.extend(render::all_tools().map(|tool| match tool.name {
        "test_error_handling" => format!("{} tool_error", tool.name),
        name => format!("{name} ok"),
    }));
    let missed: Vec<_> = due.iter().filter(|what| !reached.contains(*what)).collect();
    assert!(missed.is_empty(), "the corpus does not reach {missed:?}");
}

/// Up to 1,500 bytes that only the seed decides (SplitMix64).
fn random(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    let length = 20 + next() % 1480;
    (0..length).map(|_| next() as u8).collect()
}
