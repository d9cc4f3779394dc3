//! The program as its operator meets it: what it prints, how it exits, and how it stops when told to.
//!
//! Every test runs the real binary with no environment but what it is given, and on a port of its own.

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mcp_echo_stateful::config::{DEFAULTS, Profile};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::time::sleep;

use crate::support::{Connection, PATIENCE, eventually};

/// The binary, with nothing in its environment but these variables.
pub fn command(variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-echo-stateful"));
    command.env_clear().envs(variables.iter().copied()).args(arguments).stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
fn run(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    command(variables, arguments).output().expect("runs")
}

/// What it wrote on standard error, which must be one line, and its exit code.
#[track_caller]
fn one_line(output: &Output) -> (String, i32) {
    let text = String::from_utf8(output.stderr.clone()).expect("is text");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nothing on standard output");
    (text, output.status.code().expect("was not killed"))
}

/// A server in a process of its own; killed when it is dropped.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    /// What it has written so far: on standard error, and the log on standard output.
    pub greeting: Arc<Mutex<String>>,
    pub log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Starts it on a free port of the loopback interface and waits until it says where.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        Self::start_on("0", variables)
    }

    /// The same on a port that is known beforehand.
    pub fn start_on(port: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_with(variables, &["--host", "127.0.0.1", "--port", port])
    }

    fn start_with(variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut command = command(variables, arguments);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let (log, out) = collect(BufReader::new(child.stdout.take().expect("is piped")));
        let mut err = BufReader::new(child.stderr.take().expect("is piped"));
        let mut first = String::new();
        err.read_line(&mut first).expect("is text");
        let greeting: Option<Value> = serde_json::from_str(&first).ok();
        let address = match &greeting {
            Some(json) => json["mcp_echo.address"].as_str(),
            None => first.trim().rsplit(' ').next(),
        };
        let address = address.and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {first:?}"));
        let (greeting, err) = collect(err);
        Self { child, address, greeting, log, readers: vec![out, err] }
    }

    /// A request on a connection of its own, its answer unread.
    pub async fn begin(&self, method: &str, path: &str, headers: &str, body: &str) -> Connection {
        let mut connection = Connection::open(self.address).await;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        connection.write(head.as_bytes()).await;
        connection.write(body.as_bytes()).await;
        connection
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Connection {
        let params = json!({"name": tool, "arguments": arguments});
        self.begin("POST", "/mcp", "", &rpc("tools/call", params)).await
    }

    /// The id of a new session.
    pub async fn session(&self) -> String {
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
        let mut connection = self.begin("POST", "/mcp", "", &rpc("initialize", params)).await;
        let answer = connection.answer().await;
        answer.expect_status(200).header("mcp-session-id").expect("an id").to_owned()
    }

    /// The status of a readiness probe on a new connection.
    async fn ready(&self) -> u16 {
        self.begin("GET", "/readyz", "", "").await.answer().await.status
    }

    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &command]).status().expect("sh runs");
        assert!(sent.success());
    }

    /// Processor time that it has taken, in ticks of 10 ms.
    #[cfg(target_os = "linux")]
    pub fn ticks(&self) -> u64 {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).expect("runs");
        // After the name, which is in brackets: utime and stime are the 14th and 15th field of all.
        let fields = stat.rsplit(')').next().expect("has fields").split_whitespace();
        fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("is a number")).sum()
    }

    /// Its memory in use, in bytes.
    #[cfg(target_os = "linux")]
    pub fn resident(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        let kib = line.trim().strip_suffix(" kB").expect("in kB");
        kib.parse::<usize>().expect("a number") * 1024
    }

    /// Sends a signal and waits until the server says that it is stopping.
    async fn begin_stopping(&self, signal: &str) {
        self.signal(signal);
        eventually(|| self.log.lock().expect("lock").contains("stopping")).await;
    }

    /// Sends a signal: how it ended, and how long after that.
    pub async fn ends_by(&mut self, signal: &str) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal(signal);
        let (status, _) = self.exited().await;
        (status, start.elapsed())
    }

    /// How it ended, and how long that took. All that it wrote has been read by then.
    pub async fn exited(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("is a child") {
                let took = start.elapsed();
                for reader in self.readers.drain(..) {
                    reader.join().expect("reads");
                }
                return (status, took);
            }
            assert!(start.elapsed() < PATIENCE, "does not end");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

pub fn rpc(method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
}

/// Reads to the end in a thread of its own, so that the other side never waits for a full pipe.
fn collect(mut from: impl Read + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let text = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&text);
    let reader = thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            shared.lock().expect("lock").push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    });
    (text, reader)
}

/// A port on which nobody listens.
fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("is bound").port().to_string()
}

#[tokio::test]
async fn it_says_where_it_is_and_its_curl_works() {
    let program = Program::start(&[]);
    eventually(|| program.greeting.lock().expect("lock").ends_with("}'\n")).await;
    let greeting = program.greeting.lock().expect("lock").clone();
    let port = program.address.port();
    let found: Vec<_> =
        greeting.lines().filter_map(|line| line.strip_prefix("  instance ")).collect();
    assert_eq!(found.len(), 10, "{greeting}");
    for (instance, line) in found.into_iter().enumerate() {
        let (number, url) = line.split_once("  ").expect("a number and a URL");
        assert_eq!(number, instance.to_string());
        // As a program that can be given nothing but a URL calls it: by its host and its path.
        let answer = reqwest::Client::new().post(url).header("content-type", "application/json");
        let answer = answer.body(rpc("ping", json!({}))).send().await.expect("answers");
        assert_eq!(answer.status(), 200, "{url}");
        assert_eq!(answer.headers()["mcp-echo-instance"], number, "{url}");
    }
    assert!(greeting.contains(&format!("http://echo-stateful{{0-9}}.localhost:{port}/mcp\n")));
    assert!(greeting.contains(&format!("http://127.0.0.1:{port}/mcp (instance 0 answers)")));

    let start = greeting.find("curl ").expect("a curl to paste");
    let output = Command::new("sh")
        .args(["-c", &greeting[start..]])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .expect("sh runs");
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?} for {}", &greeting[start..]));
    assert_eq!(answer["result"]["content"][0]["text"], "hello");
}

/// On another port of the same host it is another replica.
#[tokio::test]
async fn a_restart_on_the_same_port_is_told_as_an_earlier_boot() {
    let reason_at = async |program: Program, id: &str| {
        let header = format!("Mcp-Session-Id: {id}\r\n");
        let body = rpc("ping", json!({}));
        program.begin("POST", "/mcp", &header, &body).await.answer().await.expect_gone()
    };
    let port = free_port();
    let id = Program::start_on(&port, &[]).session().await;
    let again = loop {
        let program = Program::start_on(&port, &[]);
        // One start in 4096 draws the boot of the last.
        if program.session().await[3..6] != id[3..6] {
            break program;
        }
    };
    assert_eq!(reason_at(again, &id).await, "earlier_boot");
    // Tags repeat with every 256th port.
    let other = loop {
        let number = |port: &str| port.parse::<u16>().expect("a port") % 256;
        match free_port() {
            other if number(&other) != number(&port) => break other,
            _ => {}
        }
    };
    assert_eq!(reason_at(Program::start_on(&other, &[]), &id).await, "other_replica");
}

#[tokio::test]
async fn a_generated_admin_token_is_shown_once_and_opens_debug() {
    let program = Program::start(&[("HOSTNAME", "pod-7")]);
    eventually(|| program.greeting.lock().expect("lock").contains("Try it")).await;
    let greeting = program.greeting.lock().expect("lock").clone();
    let token = greeting.split_once("/debug#token=").expect("a token").1.lines().next();
    let token = format!("Authorization: Bearer {}\r\n", token.expect("a token"));
    let answer = program.begin("GET", "/debug/sessions", &token, "").await.answer().await;
    answer.expect_status(200);
    assert_eq!(answer.header("mcp-echo-replica"), Some("pod-7"));

    for variables in [&[("DEBUG", "false")], &[("ADMIN_TOKEN", "known")]] {
        let program = Program::start(variables);
        eventually(|| program.greeting.lock().expect("lock").contains("Try it")).await;
        let greeting = program.greeting.lock().expect("lock").clone();
        assert!(!greeting.contains("token"), "{greeting}");
    }
}

#[test]
fn help_and_version_are_there() {
    let help = run(&[], &["--help"]);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).expect("is text");
    for word in ["serve", "healthcheck", "config", "--config", "--host", "--port", "--version"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    let names: Vec<_> = Profile::ALL.iter().map(|profile| profile.name).collect();
    let told = format!("Ready-made configuration, beneath the file: {}", names.join(" or "));
    assert!(text.contains(&told), "{told} is not in {text}");
    let version = run(&[], &["--version"]);
    assert!(version.status.success());
    let expected = concat!("mcp-echo-stateful ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8(version.stdout).expect("is text"), expected);
    for arguments in [&["--port", "http"][..], &["--sirve"], &["sirve"], &["config"]] {
        assert_eq!(run(&[], arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn config_can_be_checked_and_printed() {
    let fine = run(&[], &["config", "check"]);
    assert_eq!(fine.status.code(), Some(0), "{fine:?}");

    let variables = [("PORT", "4711"), ("ADMIN_TOKEN", "hush-hush")];
    let printed = run(&variables, &["config", "print", "--host", "::1"]);
    assert_eq!(printed.status.code(), Some(0));
    let text = String::from_utf8(printed.stdout).expect("is text");
    for line in [
        "server.port = 4711  # environment variable PORT\n",
        "server.host = \"::1\"  # flag --host\n",
        "session.timeout_seconds = 300  # default\n",
        "admin.token = \"***\"  # environment variable ADMIN_TOKEN\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[test]
fn the_defaults_are_printed_as_a_file_to_start_from() {
    let printed = run(&[("PORT", "4711")], &["config", "default"]);
    assert_eq!(printed.status.code(), Some(0));
    assert_eq!(String::from_utf8(printed.stdout).expect("is text"), DEFAULTS);
}

/// Where it cannot be reached by loopback, or not by that name, the greeting says what works.
#[tokio::test]
async fn the_greeting_names_what_is_bound_and_served() {
    let names = ("MCP_ECHO_HOSTS__FRONT_DOOR_NAMES", "gate");
    for (variables, host) in [
        (&[("HOST", "127.0.0.2")][..], "127.0.0.2"),
        (&[("HOST", "127.0.0.2"), names], "127.0.0.2"),
        (&[("HOST", "0.0.0.0")], "127.0.0.1"),
        (&[("HOST", "0.0.0.0"), names], "echo-stateful.localhost"),
    ] {
        let program = Program::start_with(variables, &["--port", "0"]);
        eventually(|| program.greeting.lock().expect("lock").contains("Try it")).await;
        let greeting = program.greeting.lock().expect("lock").clone();
        let url = format!("http://{host}:{}/echo-stateful3/mcp\n", program.address.port());
        assert!(greeting.contains(&url), "{url} is not in {greeting}");
    }
}

#[tokio::test]
async fn a_profile_is_told_wherever_the_configuration_is() {
    let by_flag =
        |arguments: &[&'static str]| (vec![], [arguments, &["--profile", "sessioned"]].concat());
    let by_variable =
        |arguments: &[&'static str]| (vec![("MCP_ECHO_PROFILE", "sessioned")], arguments.to_vec());
    for said in [&by_flag as &dyn Fn(&[&'static str]) -> _, &by_variable] {
        let (variables, arguments) = said(&["config", "check"]);
        let checked = run(&variables, &arguments);
        assert_eq!(
            checked.stdout, b"the configuration is fine (profile sessioned)\n",
            "{checked:?}"
        );
        let (variables, arguments) = said(&["config", "print"]);
        let printed = String::from_utf8(run(&variables, &arguments).stdout).expect("is text");
        assert!(printed.starts_with("# profile sessioned\n"), "{printed}");
        let versions = r#"["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]"#;
        let line = format!("protocol.versions = {versions}  # profile sessioned\n");
        assert!(printed.contains(&line), "{printed}");
    }
    let program = Program::start(&[("MCP_ECHO_PROFILE", "sessioned"), ("ADMIN_TOKEN", "admin")]);
    eventually(|| program.greeting.lock().expect("lock").contains("Try it")).await;
    assert!(program.greeting.lock().expect("lock").contains("  profile     sessioned\n"));
    let token = "Authorization: Bearer admin\r\n";
    let overview = program.begin("GET", "/debug/overview", token, "").await.answer().await;
    assert_eq!(overview.json()["profile"], "sessioned");
}

#[test]
fn a_bad_configuration_is_one_line_and_exit_code_2() {
    let tokens = NamedTempFile::new().expect("a file");
    std::fs::write(tokens.path(), "alice=s3cret\nhush-hush\n").expect("is written");
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "[session]\ncapacity = 0\n").expect("is written");
    let (tokens, file) = (tokens.path().to_str(), file.path().to_str());
    let (tokens, file) = (tokens.expect("is text"), file.expect("is text"));

    for (variables, arguments, parts) in [
        (&[("PORT", "http")][..], &[][..], &["server.port", "http", "PORT"][..]),
        (&[("MCP_ECHO_SESION__X", "1")], &[], &["sesion.x", "MCP_ECHO_SESION__X"]),
        (&[], &["--config", file], &["session.capacity", "0", file]),
        (&[("MCP_ECHO_CONFIG", file)], &[], &["session.capacity", "0", file]),
        (&[], &["--config", "/no/such.toml"], &["/no/such.toml"]),
        (&[], &["--profile", "sesioned"], &["sessioned, conformance", "sessioned?", "--profile"]),
        (&[("MCP_ECHO_PROFILE", "x")], &[], &["\"x\"", "sessioned, conformance", "PROFILE"]),
        (&[], &["--host", "nowhere"], &["server.host", "--host"]),
        (
            &[("MCP_ECHO_AUTH__MODE", "tokens"), ("MCP_ECHO_AUTH__TOKENS_FILE", "/no/tokens")],
            &[],
            &["auth.tokens_file", "/no/tokens"],
        ),
        (
            &[("MCP_ECHO_AUTH__MODE", "tokens"), ("MCP_ECHO_AUTH__TOKENS_FILE", tokens)],
            &[],
            &["auth.tokens_file", tokens, "line 2"],
        ),
    ] {
        for subcommand in [&["serve"][..], &["config", "check"]] {
            let output = run(variables, &[arguments, subcommand].concat());
            let (line, code) = one_line(&output);
            assert_eq!(code, 2, "{line}");
            for part in parts {
                assert!(line.contains(part), "{part} is not in {line}");
            }
            assert!(!line.contains("hush"), "{line}");
        }
    }
}

#[test]
fn an_unwritable_log_file_is_one_line_and_exit_code_2() {
    let no_directory = NamedTempFile::new().expect("a file");
    let below = no_directory.path().join("server.log");
    for path in [below.to_str().expect("is text"), "/"] {
        let (line, code) = one_line(&run(&[("LOG_FILE", path), ("PORT", "0")], &[]));
        assert_eq!(code, 2);
        assert!(line.contains("log.file") && line.contains(path), "{line}");
    }
}

#[test]
fn a_taken_port_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("is bound");
    let port = address.port().to_string();
    let (line, code) = one_line(&run(&[("HOST", "127.0.0.1"), ("PORT", &port)], &[]));
    assert_eq!(code, 1);
    for part in [&address.to_string(), "another program has port", "--port or PORT"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!line.contains("os error"), "{line}");

    let listen = ("MCP_ECHO_ADMIN__LISTEN", address.to_string());
    let variables = [("HOST", "127.0.0.1"), ("PORT", "0"), (listen.0, &*listen.1)];
    let (line, code) = one_line(&run(&variables, &[]));
    assert_eq!(code, 1);
    assert!(line.contains("MCP_ECHO_ADMIN__LISTEN"), "{line}");
}

#[test]
fn an_address_of_another_machine_is_one_line_and_exit_code_1() {
    let (line, code) = one_line(&run(&[("HOST", "192.0.2.1"), ("PORT", "0")], &[]));
    assert_eq!(code, 1);
    assert!(line.contains("no address 192.0.2.1") && line.contains("--host or HOST"), "{line}");
}

/// Nothing that is ours is passed over in silence.
#[test]
fn a_variable_that_is_not_text_is_refused_by_name() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    let broken = OsStr::from_bytes(b"\xff\xfe");
    for name in ["MCP_ECHO_SESSION__CAPACITY", "MCP_ECHO_CONFIG", "LOG_FILE", "HOST", "BASE_DOMAIN"]
    {
        let output = command(&[], &["config", "check"]).env(name, broken).output().expect("runs");
        let (line, code) = one_line(&output);
        assert_eq!(code, 2);
        assert!(line.contains(name) && line.contains("not UTF-8"), "{line}");
    }
    let name = OsStr::from_bytes(b"MCP_ECHO_\xff");
    let output = command(&[], &["config", "check"]).env(name, "1").output().expect("runs");
    assert!(one_line(&output).0.contains("no such key"));

    for (variables, name) in [
        // Another program's, and one that a name of ours is stronger than.
        (&[][..], "LS_COLORS"),
        (&[("MCP_ECHO_HOST", "127.0.0.1")], "HOST"),
    ] {
        let output =
            command(variables, &["config", "check"]).env(name, broken).output().expect("runs");
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
    }
}

/// Each line of what a run has written, on standard output and on standard error.
#[track_caller]
fn json_lines(output: &Output) -> Vec<Value> {
    let text = [&*output.stderr, &*output.stdout].concat();
    let text = String::from_utf8(text).expect("is text");
    let lines = text.lines().map(|line| match serde_json::from_str(line) {
        Ok(line) => line,
        Err(error) => panic!("{error}: {line}"),
    });
    lines.collect()
}

#[test]
fn with_json_the_reason_for_an_end_is_json() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = taken.local_addr().expect("is bound").port().to_string();
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "log.format = \"json\"\n[session]\ncapacity = 0\n")
        .expect("is written");
    let file = file.path().to_str().expect("is text");
    for (variables, arguments, code) in [
        (&[("LOG_FORMAT", "json"), ("HOST", "127.0.0.1"), ("PORT", &*port)][..], &[][..], 1),
        (&[("LOG_FORMAT", "json"), ("PORT", "many")], &["serve"], 2),
        (&[("MCP_ECHO_LOG__FORMAT", "json"), ("MCP_ECHO_SESION__X", "1")], &[], 2),
        (&[("LOG_FORMAT", "json"), ("MCP_ECHO_CONFIG", "/no/such.toml")], &[], 2),
        (&[("LOG_FORMAT", "json")], &["--port", "many"], 2),
        (&[], &["--config", file], 2),
    ] {
        let output = run(variables, arguments);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let lines = json_lines(&output);
        let last = lines.last().expect("a line");
        assert_eq!(last["level"], "ERROR", "{last}");
        assert!(last["message"].as_str().is_some_and(|text| !text.is_empty()), "{last}");
        assert!(last["timestamp"].is_string(), "{last}");
    }
    // Who asks for something else than a server reads it himself.
    let (line, _) =
        one_line(&run(&[("LOG_FORMAT", "json"), ("PORT", "many")], &["config", "check"]));
    assert!(line.starts_with("mcp-echo-stateful: server.port"), "{line}");
}

#[tokio::test]
async fn with_json_every_line_of_a_server_is_json() {
    for debug in ["true", "false"] {
        let mut child = command(
            &[("LOG_FORMAT", "json"), ("LOG_LEVEL", "debug"), ("DEBUG", debug)],
            &["--host", "127.0.0.1", "--port", "0"],
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
        let mut err = BufReader::new(child.stderr.take().expect("is piped"));
        let mut greeting = String::new();
        err.read_line(&mut greeting).expect("is text");
        let line: Value = serde_json::from_str(&greeting).expect("is JSON");
        let address =
            line["mcp_echo.address"].as_str().expect("an address").parse().expect("is one");
        assert_eq!(line["mcp_echo.urls"].as_str().map(|urls| urls.split(' ').count()), Some(10));
        // The token is for the operator's eyes: here, and in no log.
        let admin = line["mcp_echo.admin"].as_str();
        assert_eq!(admin.is_some_and(|admin| admin.contains("#token=")), debug == "true", "{line}");
        let mut connection = Connection::open(address).await;
        connection.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        connection.answer().await.expect_status(200);
        let id = child.id();
        Command::new("kill").arg(id.to_string()).status().expect("is sent");
        let mut rest = String::new();
        err.read_to_string(&mut rest).expect("reads");
        let output = child.wait_with_output().expect("ends");
        assert_eq!(rest, "", "nothing else on standard error");
        let lines = json_lines(&output);
        let has = |message: &str| lines.iter().any(|line| line["message"] == message);
        assert!(has("listening") && has("request") && has("stopped"), "{lines:?}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("#token="));
    }
}

#[tokio::test]
async fn a_host_may_be_a_name_or_stand_in_brackets() {
    for (host, expected) in [("localhost", "127.0.0.1:"), ("[::1]", "[::1]:")] {
        let mut child = command(&[("HOST", host), ("PORT", "0")], &[])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut err = BufReader::new(child.stderr.take().expect("is piped"));
        let mut first = String::new();
        err.read_line(&mut first).expect("is text");
        child.kill().expect("is killed");
        child.wait().expect("ends");
        // A machine without IPv6 says so.
        let without = host == "[::1]" && std::net::TcpListener::bind("[::1]:0").is_err();
        assert!(without || first.contains(expected), "{host}: {first}");
    }
}

#[tokio::test]
async fn healthcheck_tells_a_running_server_from_none() {
    let program = Program::start(&[]);
    let port = program.address.port().to_string();
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let nobody = free_port();
    for (variables, arguments, code) in [
        (&[("PORT", &*port)][..], &["healthcheck"][..], 0),
        (&[("PORT", &port), ("HOST", "127.0.0.1")], &["healthcheck"], 0),
        (&[], &["healthcheck", &url("/livez")], 0),
        (&[], &["healthcheck", "--port", &port], 0),
        (&[], &["healthcheck", &format!("http://localhost:{port}/health")], 0),
        (&[], &["healthcheck", &url("/nothing")], 1),
        (&[("PORT", &nobody)], &["healthcheck"], 1),
        (&[], &["healthcheck", &format!("http://127.0.0.1:{nobody}/readyz")], 1),
    ] {
        let output = run(variables, arguments);
        assert_eq!(output.status.code(), Some(code), "{variables:?} {arguments:?} {output:?}");
        if code != 0 {
            one_line(&output);
        }
    }

    let _call = program.call("echo", json!({"message": "x", "delay": 10})).await;
    program.begin_stopping("TERM").await;
    let output = run(&[("PORT", &port)], &["healthcheck"]);
    assert_eq!(output.status.code(), Some(1), "not ready while stopping: {output:?}");
}

/// Waits until so many calls are under way, as an operator with that token sees it.
pub async fn under_way(address: SocketAddr, token: &str, calls: u32) {
    let get = format!(
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let mut connection = Connection::open(address).await;
    let start = Instant::now();
    loop {
        connection.write(get.as_bytes()).await;
        let answer = connection.answer().await;
        let page = answer.expect_status(200).text();
        let open = page.lines().filter_map(|line| line.strip_prefix("mcp_echo_calls_open"));
        let open = open.filter_map(|line| line.rsplit(' ').next());
        let open = open.map(|count| count.parse::<f64>().expect("a number")).sum::<f64>();
        if open == f64::from(calls) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{calls} calls are never under way: {page}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Starts a call that takes a while, and waits until it has begun.
async fn slow_call(program: &Program, delay: f64) -> Connection {
    let call = program.call("echo", json!({"message": "slow", "delay": delay})).await;
    // The session that it begins is there from then on.
    eventually(|| program.log.lock().expect("lock").contains("session created")).await;
    call
}

const DEBUG_LOG: (&str, &str) = ("LOG_LEVEL", "debug");

/// Much longer than a stop may take that has nothing to wait for.
const LONG_DRAIN: (&str, &str) = ("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "60");
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_signal_lets_calls_finish() {
    for name in ["TERM", "INT"] {
        let mut program = Program::start(&[DEBUG_LOG, LONG_DRAIN]);
        let mut call = slow_call(&program, 3.0).await;
        program.begin_stopping(name).await;
        assert_eq!(program.ready().await, 503, "{name}");
        let mut refused = program.call("echo", json!({"message": "new"})).await;
        refused.answer().await.expect_error(503, -32000);
        let mut alive = program.begin("GET", "/livez", "", "").await;
        alive.answer().await.expect_status(200);

        let answer = call.answer().await;
        assert_eq!(answer.json()["result"]["content"][0]["text"], "slow", "{name}");
        let (status, took) = program.exited().await;
        assert_eq!(status.code(), Some(0), "{name}");
        assert!(took < AT_ONCE, "{name}: nothing left to wait for, {took:?}");
    }
}

#[tokio::test]
async fn a_signal_closes_streams() {
    let mut program = Program::start(&[LONG_DRAIN]);
    let session = format!("Mcp-Session-Id: {}\r\n", program.session().await);
    let mut stream = program.begin("GET", "/mcp", &session, "").await;
    stream.head().await.expect_status(200);
    program.signal("TERM");
    assert_eq!(stream.chunk().await.as_deref(), Some(&b": closing\n\n"[..]));
    assert_eq!(stream.chunk().await, None);
    let (status, took) = program.exited().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn a_signal_closes_connections_that_are_quiet() {
    let mut program = Program::start(&[LONG_DRAIN]);
    let mut used = program.begin("GET", "/livez", "", "").await;
    used.answer().await.expect_status(200);
    let mut unused = Connection::open(program.address).await;
    // The server takes connections in their order, so it has this one after the probe.
    assert_eq!(program.ready().await, 200);
    let (status, took) = program.ends_by("TERM").await;
    assert_eq!(status.code(), Some(0));
    assert!(took < AT_ONCE, "{took:?}");
    assert!(used.closes().await && unused.closes().await);
}

#[tokio::test]
async fn waiting_for_calls_is_bounded() {
    let mut program = Program::start(&[DEBUG_LOG, ("MCP_ECHO_SHUTDOWN__DRAIN_SECONDS", "1")]);
    let mut call = slow_call(&program, 20.0).await;
    let (status, took) = program.ends_by("TERM").await;
    assert_eq!(status.code(), Some(0));
    assert!(took > Duration::from_millis(800) && took < AT_ONCE, "{took:?}");
    call.answer().await.expect_error(503, -32000);
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let mut program = Program::start(&[DEBUG_LOG, LONG_DRAIN]);
        let _call = slow_call(&program, 50.0).await;
        program.begin_stopping(first).await;
        let (status, took) = program.ends_by(second).await;
        assert!(status.code().is_some_and(|code| code != 0), "{first} {second}: {status}");
        assert!(took < AT_ONCE, "{first} {second}: {took:?}");
    }
}

#[tokio::test]
async fn a_hangup_reads_the_configuration_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let (config, log) = (directory.path().join("config.toml"), directory.path().join("server.log"));
    let (first, moved) = (config.display().to_string(), directory.path().join("server.log.1"));
    std::fs::write(&config, "log.level = \"warn\"").expect("is written");
    let mut program = Program::start(&[
        ("MCP_ECHO_CONFIG", &first),
        ("LOG_FILE", &log.display().to_string()),
        ("MCP_ECHO_LOG__FORMAT", "json"),
    ]);
    let id = program.session().await;
    let written = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(written(&log), "", "nothing is logged below warn");

    // As logrotate does it: move, then tell.
    std::fs::rename(&log, &moved).expect("is moved");
    std::fs::write(&config, "log.level = \"debug\"\n[server]\nname = \"other\"")
        .expect("is written");
    program.signal("HUP");
    eventually(|| written(&log).contains("configuration reloaded")).await;
    let header = format!("Mcp-Session-Id: {id}\r\n");
    let ping = rpc("ping", json!({}));
    let answer = program.begin("POST", "/mcp", &header, &ping).await.answer().await;
    answer.expect_status(200);
    program.session().await;
    eventually(|| {
        let text = written(&log);
        ["log.level", "server.name", "\"mcp.method.name\":\"ping\"", "session created"]
            .iter()
            .all(|part| text.contains(part))
    })
    .await;
    assert_eq!(written(&moved), "");

    std::fs::write(&config, "log.level = \"loud\"").expect("is written");
    program.signal("HUP");
    eventually(|| written(&log).contains("the configuration stays as it was")).await;
    assert!(written(&log).contains("log.level"));
    assert_eq!(program.ready().await, 200);
    program.signal("TERM");
    let (status, _) = program.exited().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_terminal_that_is_closed_takes_its_server_with_it() {
    let binary = env!("CARGO_BIN_EXE_mcp-echo-stateful");
    let program = format!("exec {binary} --host 127.0.0.1 --port 0");
    // A terminal of its own, which is gone when `script` is.
    let mut terminal = Command::new("script")
        .args(["-qec", &program, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    let mut shown = BufReader::new(terminal.stdout.take().expect("is piped"));
    let mut first = String::new();
    shown.read_line(&mut first).expect("is text");
    let address: SocketAddr =
        first.trim().rsplit(' ').next().expect("a word").parse().expect(&first);
    let (_rest, _) = collect(shown);
    let answers = || std::net::TcpStream::connect(address).is_ok();
    eventually(answers).await;
    terminal.kill().expect("is killed");
    terminal.wait().expect("ends");
    eventually(|| !answers()).await;
}

/// Answers one request with these bytes and closes, as often as it is asked.
fn answering(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("is bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 1024]);
            let _ = std::io::Write::write_all(&mut stream, answer);
        }
    });
    address
}

#[test]
fn healthcheck_takes_an_answer_that_comes_with_the_end_of_its_connection() {
    for (answer, code) in [
        (&b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nok\n"[..], 0),
        (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", 0),
        (b"HTTP/1.0 200 OK\r\n\r\nok until the end\n", 0),
        (b"HTTP/1.1 200 OK\r\n\r\nok until the end\n", 0),
        (b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n", 1),
        (b"HTTP/1.1 200", 1),
        (b"", 1),
    ] {
        let url = format!("http://{}/readyz", answering(answer));
        for _ in 0..20 {
            let output = run(&[], &["healthcheck", &url]);
            assert_eq!(output.status.code(), Some(code), "{answer:?}: {output:?}");
        }
    }
}
