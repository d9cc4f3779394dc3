//! Where `session.capacity` cannot be reached, the operator is told which key to raise.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{process::Program, support::eventually};

const TOLD: &str = "session.capacity cannot be reached: the memory is full before";

/// The warnings so far, once `line` has been logged.
async fn warnings(program: &Program, line: &str) -> Vec<Value> {
    let log = || program.log.lock().expect("lock").clone();
    eventually(|| log().contains(line)).await;
    let lines = log();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("is JSON"));
    lines.filter(|line| line["message"] == TOLD).collect()
}

async fn at_the_start(variables: &[(&str, &str)]) -> Vec<Value> {
    let program = Program::start(&[variables, &[("LOG_FORMAT", "json")]].concat());
    warnings(&program, "listening").await
}

#[tokio::test]
async fn a_capacity_that_memory_does_not_allow_is_told_at_the_start() {
    assert_eq!(at_the_start(&[]).await.len(), 0, "not with the defaults");
    let capacity = ("MCP_ECHO_SESSION__CAPACITY", "1000000");
    let told = at_the_start(&[capacity]).await;
    assert_eq!(told.len(), 1, "once for all ten: {told:?}");
    let told = &told[0];
    assert_eq!(told["mcp_echo.instances"], "0 1 2 3 4 5 6 7 8 9");
    assert_eq!(told["mcp_echo.capacity"], 1_000_000);
    assert_eq!(told["mcp_echo.fits"], 349_525, "what 3/4 of 256 MiB holds");
    assert_eq!(told["mcp_echo.raise"], "memory.max_instance_bytes");
    // To do as it says is enough, and one byte less is not.
    let enough = told["mcp_echo.to"].as_u64().expect("a number");
    for (bytes, warned) in [(enough, 0), (enough - 1, 1)] {
        let raised = ("MCP_ECHO_MEMORY__MAX_INSTANCE_BYTES", &*bytes.to_string());
        assert_eq!(at_the_start(&[capacity, raised]).await.len(), warned, "{bytes}");
    }
    // Where both stand in the way, both are told.
    let told = at_the_start(&[("MCP_ECHO_SESSION__CAPACITY", "10000000")]).await;
    assert_eq!(told[0]["mcp_echo.raise"], "memory.max_instance_bytes memory.max_bytes");
}

#[tokio::test]
async fn and_at_a_reload() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("config.toml");
    fs::write(&path, "").expect("is written");
    let program = Program::start(&[
        ("MCP_ECHO_CONFIG", &*path.display().to_string()),
        ("LOG_FORMAT", "json"),
    ]);
    assert_eq!(warnings(&program, "listening").await.len(), 0);
    fs::write(&path, "[instances.3.session]\ncapacity = 400000\n").expect("is written");
    program.signal("HUP");
    let told = warnings(&program, "configuration reloaded").await;
    let told: Vec<_> =
        told.iter().map(|line| (&line["mcp_echo.instances"], &line["mcp_echo.capacity"])).collect();
    assert_eq!(told, [(&json!("3"), &json!(400_000))]);
}
