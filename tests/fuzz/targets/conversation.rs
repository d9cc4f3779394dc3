//! libFuzzer's way to the same conversations that `tests/replay.rs` holds.
#![no_main]

use mcp_echo_stateful_fuzz::{conversation, drive};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| -> libfuzzer_sys::Corpus {
    match conversation(bytes) {
        Some(conversation) if !conversation.steps.is_empty() => {
            drive::converse(&conversation);
            libfuzzer_sys::Corpus::Keep
        }
        _ => libfuzzer_sys::Corpus::Reject,
    }
});
