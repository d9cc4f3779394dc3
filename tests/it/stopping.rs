//! The process ends when it is told to, whatever the log, a peer or a call does; and who is cut off is told.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::fs::FileTypeExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    http2::{Frame, Http2},
    process::{Program, command, rpc, under_way},
    support::{Connection, PATIENCE, eventually},
};

/// A program whose standard output is a pipe that is full and that nobody reads.
struct Deaf {
    child: Child,
    address: SocketAddr,
}

impl Drop for Deaf {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Deaf {
    fn start(variables: &[(&str, &str)]) -> Self {
        let mut child = command(variables, &["--host", "127.0.0.1", "--port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut first = String::new();
        let mut err = BufReader::new(child.stderr.take().expect("is piped"));
        err.read_line(&mut first).expect("is text");
        let address = first.trim().rsplit(' ').next().and_then(|address| address.parse().ok());
        Self { child, address: address.unwrap_or_else(|| panic!("no address in {first:?}")) }
    }

    /// Asks until the log cannot have been written.
    async fn fill(&self) {
        let mut connection = Connection::open(self.address).await;
        let id = "x".repeat(100);
        for _ in 0..1500 {
            let get =
                format!("GET /nowhere HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {id}\r\n\r\n");
            connection.write(get.as_bytes()).await;
            connection.answer().await.expect_status(404);
        }
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    async fn ends(&mut self) -> Duration {
        let start = Instant::now();
        while self.child.try_wait().expect("is a child").is_none() {
            assert!(start.elapsed() < PATIENCE, "does not end");
            sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status();
    assert!(sent.expect("sh runs").success());
}

#[tokio::test]
async fn a_log_that_nobody_reads_keeps_no_process() {
    let mut program = Deaf::start(&[("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "1")]);
    program.fill().await;
    program.signal("TERM");
    let took = program.ends().await;
    assert!(took < Duration::from_secs(8), "{took:?}");

    let mut program =
        Deaf::start(&[("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "60"), ("ADMIN_TOKEN", "t0ken")]);
    program.fill().await;
    let mut call = Connection::open(program.address).await;
    let body =
        rpc("tools/call", json!({"name": "echo", "arguments": {"message": "x", "delay": 50}}));
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    call.write(head.as_bytes()).await;
    under_way(program.address, "t0ken", 1).await;
    program.signal("TERM");
    sleep(Duration::from_millis(300)).await;
    assert!(program.child.try_wait().expect("is a child").is_none(), "the call may finish");
    program.signal("INT");
    let took = program.ends().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// A pipe whose reader is gone.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[tokio::test]
async fn it_runs_where_nobody_reads_what_it_says() {
    let directory = TempDir::new().expect("a directory");
    let log = directory.path().join("log");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = free.local_addr().expect("is bound");
    drop(free);
    let port = address.port().to_string();
    let variables = [("LOG_FILE", log.to_str().expect("is text"))];
    let mut command = command(&variables, &["--host", "127.0.0.1", "--port", &port]);
    let mut program = command.stdout(closed()).stderr(closed()).spawn().expect("starts");
    eventually(|| std::net::TcpStream::connect(address).is_ok()).await;
    let mut connection = Connection::open(address).await;
    connection.write(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    connection.answer().await.expect_status(404);
    drop(connection);
    eventually(|| fs::read_to_string(&log).is_ok_and(|text| text.contains("/nowhere"))).await;
    signal(program.id(), "TERM");
    assert_eq!(program.wait().expect("ends").code(), Some(0));
}

/// The pipe of a log whose reader stands still is full after some hundred lines; the process ends all the same.
#[tokio::test]
async fn a_log_that_nobody_takes_keeps_nothing_alive() {
    let directory = TempDir::new().expect("a directory");
    let fifo = directory.path().join("log");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
    // Open at both ends, and read by nobody.
    let _reader = fs::OpenOptions::new().read(true).write(true).open(&fifo).expect("opens");
    let log = fifo.display().to_string();
    let mut program =
        Program::start(&[("LOG_FILE", &log), ("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "1")]);
    let mut connection = Connection::open(program.address).await;
    for _ in 0..600 {
        connection.write(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        connection.answer().await.expect_status(404);
    }
    program.signal("TERM");
    let (status, took) = program.exited().await;
    assert!(status.code().is_some(), "{status:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// What is no regular file, and what it is called.
fn strange_files(directory: &Path) -> Vec<(String, &'static str)> {
    let fifo = directory.join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
    assert!(made.success() && fs::metadata(&fifo).expect("is there").file_type().is_fifo());
    vec![
        (fifo.display().to_string(), "FIFO"),
        (directory.display().to_string(), "directory"),
        ("/dev/zero".to_owned(), "device"),
    ]
}

#[tokio::test]
async fn a_file_that_is_none_is_refused_at_the_start() {
    let directory = TempDir::new().expect("a directory");
    for (path, kind) in strange_files(directory.path()) {
        for (name, key) in [
            ("MCP_ECHO_CONFIG", ""),
            ("ADMIN_TOKEN_FILE", "admin.token_file"),
            ("MCP_ECHO_AUTH__TOKENS_FILE", "auth.tokens_file"),
        ] {
            let start = Instant::now();
            let mode = if key == "auth.tokens_file" { "tokens" } else { "off" };
            let variables = [(name, &*path), ("MCP_ECHO_AUTH__MODE", mode), ("PORT", "0")];
            let mut child = command(&variables, &[])
                .stderr(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .expect("starts");
            while child.try_wait().expect("is a child").is_none() {
                if start.elapsed() > PATIENCE {
                    let _ = child.kill();
                    panic!("{name}={path} hangs");
                }
                sleep(Duration::from_millis(10)).await;
            }
            let output = child.wait_with_output().expect("has ended");
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{name}={path}: {text}");
            for part in [key, &*path, kind] {
                assert!(text.contains(part), "{part} is not in {text}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_is_none_any_more_is_refused_at_a_reload() {
    let directory = TempDir::new().expect("a directory");
    let (config, log) = (directory.path().join("config.toml"), directory.path().join("log"));
    fs::write(&config, "").expect("is written");
    let program = Program::start(&[
        ("MCP_ECHO_CONFIG", &config.display().to_string()),
        ("LOG_FILE", &log.display().to_string()),
    ]);
    for (path, make) in [(&config, "mkfifo"), (&log, "mkdir")] {
        let kept = fs::read(path).expect("is there");
        fs::remove_file(path).expect("is removed");
        assert!(Command::new(make).arg(path).status().expect("runs").success());
        program.signal("HUP");
        let told = || program.log.lock().expect("lock").contains(&*path.to_string_lossy());
        eventually(told).await;
        let mut alive = program.begin("GET", "/readyz", "", "").await;
        alive.answer().await.expect_status(200);
        fs::remove_file(path).or_else(|_| fs::remove_dir(path)).expect("is removed");
        fs::write(path, kept).expect("is written");
    }
    program.signal("HUP");
    eventually(|| program.log.lock().expect("lock").contains("configuration reloaded")).await;
}

/// A file that whoever opens it waits for: by a lease of Linux, whose holder does not give way for 45 seconds.
#[cfg(target_os = "linux")]
struct Leased(Child);

#[cfg(target_os = "linux")]
impl Drop for Leased {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(target_os = "linux")]
impl Leased {
    fn hold(path: &Path) -> Self {
        // F_SETLEASE, F_WRLCK.
        let script = r#"$SIG{IO} = "IGNORE"; open(F, "<", $ARGV[0]) or die; fcntl(F, 1024, 1) or die; $| = 1; print "held\n"; sleep 60;"#;
        let mut child = Command::new("perl")
            .args(["-e", script])
            .arg(path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("perl runs");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("is piped"));
        out.read_line(&mut line).expect("is text");
        assert_eq!(line, "held\n");
        Self(child)
    }
}

/// A thread that waits for a file holds up neither clients nor the end, whichever file it is.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_cannot_be_opened_holds_up_nobody() {
    for name in ["config", "log", "token", "tokens"] {
        for drain in ["1", "60"] {
            let directory = TempDir::new().expect("a directory");
            let path = |name: &str| directory.path().join(name);
            fs::write(path("config"), "").expect("is written");
            fs::write(path("token"), "t0ken").expect("is written");
            fs::write(path("tokens"), "alice=t0ken").expect("is written");
            let text = |name: &str| path(name).display().to_string();
            let mut program = Program::start(&[
                ("MCP_ECHO_CONFIG", &text("config")),
                ("LOG_FILE", &text("log")),
                ("ADMIN_TOKEN_FILE", &text("token")),
                ("MCP_ECHO_INSTANCES__3__AUTH__MODE", "tokens"),
                ("MCP_ECHO_INSTANCES__3__AUTH__TOKENS_FILE", &text("tokens")),
                ("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", drain),
            ]);
            if name == "log" {
                fs::rename(path(name), path("moved")).expect("is moved");
                fs::write(path(name), "").expect("is written");
            }
            let _leased = Leased::hold(&path(name));
            program.signal("HUP");
            sleep(Duration::from_millis(300)).await;
            let mut probe = program.begin("GET", "/readyz", "", "").await;
            let answer = probe.answer_within(Duration::from_secs(5)).await;
            answer.unwrap_or_else(|| panic!("{name}: nobody answers")).expect_status(200);
            assert!(!program.log.lock().expect("lock").contains("reloaded"), "{name} was read");
            if drain == "60" {
                let slow = json!({"message": "slow", "delay": 50});
                let _call = program.call("echo", slow).await;
                under_way(program.address, "t0ken", 1).await;
                program.signal("TERM");
                sleep(Duration::from_millis(300)).await;
                program.signal("INT");
            } else {
                program.signal("TERM");
            }
            let (_, took) = program.exited().await;
            assert!(took < Duration::from_secs(6), "{name} {drain}: {took:?}");
        }
    }
}

/// Work that goes on without a client is not waited for beyond the time to drain, and not beyond a second signal.
#[tokio::test]
async fn a_task_that_never_ends_keeps_no_process() {
    for (drain, second) in [("1", false), ("60", true)] {
        let mut program = Program::start(&[
            ("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", drain),
            ("MCP_ECHO_TOOLS__SETS", "session,conformance"),
        ]);
        let params = json!({"name": "slow_compute", "arguments": {"seconds": 50}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities":
                {"extensions": {"io.modelcontextprotocol/tasks": {}}},
        }});
        let headers = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: slow_compute\r\n";
        let mut begun = program.begin("POST", "/mcp", headers, &rpc("tools/call", params)).await;
        let answer = begun.answer().await;
        assert_eq!(answer.expect_status(200).json()["result"]["resultType"], "task", "{answer:?}");
        drop(begun);
        program.signal("TERM");
        if second {
            sleep(Duration::from_millis(500)).await;
            program.signal("INT");
        }
        let (_, took) = program.exited().await;
        assert!(took < Duration::from_secs(6), "{drain}: {took:?}");
    }
}

#[tokio::test]
async fn connections_are_accepted_while_the_configuration_is_read() {
    use mcp_echo_stateful::{
        config::{Flags, Layers},
        observe::access::AccessLog,
        reload::Source,
        server::Server,
    };
    let read = || Layers::merge(&Flags::default(), &[("ADMIN_TOKEN".into(), "t".into())]);
    let layers = read().expect("can be read");
    let config = layers.check().expect("fits");
    let (begun, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (answered, answer) = mpsc::channel::<()>();
    let answer = Mutex::new(answer);
    let (has_begun, is_over) = (Arc::clone(&begun), Arc::clone(&over));
    // Reads on when a client has been answered meanwhile, or gives that up.
    let slow = move || {
        begun.store(true, Ordering::Relaxed);
        let _ = answer.lock().expect("lock").recv_timeout(PATIENCE / 2);
        over.store(true, Ordering::Relaxed);
        read()
    };
    let source = Source { layers, read: Box::new(slow), log: None };
    let server = Server::build(&config, AccessLog::silent()).expect("builds");
    let server = server.reloading_from(source);
    let reloads = server.reloads();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("is bound");
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let serving = server.run(listener, async move {
        let _ = stopping.await;
    });
    let asking = async move {
        let (reloaded, ()) = tokio::join!(reloads.ask(), async {
            eventually(|| has_begun.load(Ordering::Relaxed)).await;
            let mut connection = Connection::open(address).await;
            connection.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            connection.answer().await.expect_status(200);
            assert!(!is_over.load(Ordering::Relaxed), "answered while it is read");
            answered.send(()).expect("it waits");
        });
        reloaded.expect("is reloaded");
        drop(stop);
    };
    tokio::join!(serving, asking);
}

const CUT: [(&str, &str); 3] =
    [("LOG_FORMAT", "json"), ("LOG_LEVEL", "debug"), ("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "1")];

fn lines(program: &Program) -> Vec<Value> {
    let log = program.log.lock().expect("lock").clone();
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test]
async fn who_is_cut_off_is_told_and_counted() {
    let mut program = Program::start(&CUT);
    let slow = || json!({"message": "slow", "delay": 30});
    let mut waits = program.call("echo", slow()).await;
    let params = json!({"name": "echo", "arguments": slow()});
    let events = "Accept: text/event-stream\r\n";
    let mut reads = program.begin("POST", "/mcp", events, &rpc("tools/call", params)).await;
    reads.head().await.expect_status(200);
    let mut http2 = Http2::opened(program.address).await;
    http2.echo(1, 30.0).await;
    let mut sends = Connection::open(program.address).await;
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    sends.write(format!("{head}Content-Length: 50\r\n\r\n{{").as_bytes()).await;
    let created = || lines(&program).iter().filter(|l| l["message"] == "session created").count();
    eventually(|| created() == 3).await;
    program.signal("TERM");
    let start = Instant::now();
    let answer = waits.answer().await;
    let error = answer.expect_error(503, -32000);
    assert_eq!(error["data"]["reason"], "draining");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(sends.answer().await.expect_error(503, -32000)["data"]["reason"], "draining");
    let last = reads.chunk().await.expect("a last event");
    let text = String::from_utf8_lossy(&last).into_owned();
    assert!(text.contains("draining"), "{text}");
    assert_eq!(reads.chunk().await, None);
    assert_eq!(http2.status(1).await, 503);
    assert!(http2.reads(&Frame::EndOfData(1)).await);
    let (status, _) = program.exited().await;
    assert_eq!(status.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    let lines = lines(&program);
    let outcomes: Vec<_> = lines.iter().filter(|line| line["gen_ai.tool.name"] == "echo").collect();
    assert_eq!(outcomes.len(), 3);
    assert!(outcomes.iter().all(|line| line["mcp_echo.outcome"] == "cut_off"), "{outcomes:#?}");
    let last = lines.last().expect("lines");
    assert_eq!(
        (&last["message"], &last["mcp_echo.cut_off"]),
        (&json!("stopped"), &json!(4)),
        "{last}"
    );
}

#[tokio::test]
async fn who_takes_nothing_is_cut_off_in_both_protocols() {
    let mut program = Program::start(&CUT);
    let big = json!({"bytes": 12_000_000});
    let mut http1 = program.call("big_response", big.clone()).await;
    http1.head().await.expect_status(200);
    let mut http2 = Http2::with_window(program.address, 0).await;
    http2.call(1, None, "big_response", big).await;
    assert_eq!(http2.status(1).await, 200);
    program.signal("TERM");
    let (status, took) = program.exited().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(6), "{took:?}");
    let lines = lines(&program);
    let cut = lines.iter().filter(|line| line["mcp_echo.outcome"] == "cut_off").count();
    assert_eq!(cut, 2, "{lines:#?}");
    assert_eq!(lines.last().expect("lines")["mcp_echo.cut_off"], 2);
}
