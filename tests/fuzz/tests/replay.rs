//! Every conversation that fuzzing kept, and some that nobody has seen before, without libFuzzer.
//! `CONVERSATION` names a single file to be tried instead of the corpus.

use std::{
    env, fs, panic,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use mcp_echo_stateful_fuzz::{conversation, drive};

/// Conversations that are made up anew.
const RANDOM: u64 = 500;

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// A panic that something has caught is one all the same.
fn hold(name: &str, bytes: &[u8]) {
    let Some(conversation) = conversation(bytes) else { return };
    let result = panic::catch_unwind(|| drive::converse(&conversation));
    let caught = PANICS.swap(0, Ordering::Relaxed);
    assert!(result.is_ok() && caught == 0, "{name}:\n{}", drive::transcript());
}

fn count_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        usual(info);
    }));
}

#[test]
fn every_conversation_goes_well() {
    count_panics();
    let mut files = Vec::new();
    match env::var_os("CONVERSATION") {
        Some(file) => files.push(file.into()),
        None => {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/conversation");
            for entry in fs::read_dir(corpus).expect("a directory") {
                files.push(entry.expect("an entry").path());
            }
            assert!(files.len() > 100, "the corpus holds {} files", files.len());
        }
    }
    files.sort();
    for file in &files {
        hold(&file.display().to_string(), &fs::read(file).expect("a file"));
    }
    for seed in 0..RANDOM {
        hold(&format!("seed {seed}"), &random(seed));
    }
    let reached = drive::reached();
    println!("{} kept conversations and {RANDOM} new ones came to {} endings", files.len(), reached.len());
    println!("{reached:#?}");
    // Conversations that no longer get anywhere would all go well.
    assert!(env::var_os("CONVERSATION").is_some() || reached.len() > 100, "{reached:?}");
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
