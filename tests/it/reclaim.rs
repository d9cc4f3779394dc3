//! What clients no longer make the process hold goes back to the system, though nobody asks for anything.

#![cfg(target_os = "linux")]

use std::time::Duration;

use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    process::{Program, rpc},
    support::{Connection, eventually},
};

/// How many sessions, and how many bytes each holds.
const SESSIONS: usize = 100;
const BYTES: usize = 200_000;

/// Begins a session with so many bytes of data on that connection.
async fn begin(connection: &mut Connection) {
    let arguments = json!({"key": "k", "value": "x".repeat(BYTES)});
    let call = rpc("tools/call", json!({"name": "set_session_data", "arguments": arguments}));
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let length = call.len();
    connection.write(format!("{head}Content-Length: {length}\r\n\r\n{call}").as_bytes()).await;
    let answer = connection.answer().await;
    assert_eq!(answer.expect_status(200).json()["result"]["isError"], json!(null), "{answer:?}");
}

async fn fill(program: &Program) {
    let mut filling = JoinSet::new();
    for _ in 0..4 {
        let address = program.address;
        filling.spawn(async move {
            let mut connection = Connection::open(address).await;
            for _ in 0..SESSIONS / 4 {
                begin(&mut connection).await;
            }
        });
    }
    filling.join_all().await;
}

/// Fills a server whose sessions end that way, and waits for its memory without asking for anything.
async fn comes_back(timeout: &str, end: &str) {
    let program =
        Program::start(&[("MCP_SESSION_TIMEOUT", timeout), ("ADMIN_TOKEN", "admin-secret")]);
    // Whatever is made once is made.
    begin(&mut Connection::open(program.address).await).await;
    let before = program.resident();
    fill(&program).await;
    let full = program.resident();
    assert!(full > before + (10 << 20), "{before} -> {full}: little is held, and proves little");
    if !end.is_empty() {
        let operator = "Authorization: Bearer admin-secret\r\n";
        program.begin("DELETE", end, operator, "").await.answer().await.expect_status(200);
    }
    let most = before + (full - before) / 4;
    eventually(|| program.resident() <= most).await;
    // And stays there.
    sleep(Duration::from_millis(500)).await;
    assert!(program.resident() <= most, "{before} -> {full} -> {}", program.resident());
}

#[tokio::test]
async fn the_memory_of_expired_sessions_comes_back_though_nobody_asks() {
    comes_back("6", "").await;
}

#[tokio::test]
async fn the_memory_of_ended_sessions_comes_back_though_nobody_asks() {
    comes_back("300", "/debug/sessions?instance=0").await;
}
