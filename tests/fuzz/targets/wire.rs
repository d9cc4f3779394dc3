//! libFuzzer's way to a connection.
#![no_main]

use mcp_echo_stateful_fuzz::drive;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drive::connect(bytes));
