//! `probe` against servers without fault and through what finds them: all that is whole must be found so.

use std::{
    future::pending,
    io::Read,
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use mcp_echo_stateful::{
    id::EndReason,
    probe::{
        self,
        arguments::{Arguments, BEARER_VARIABLE, BadPlan, Plan},
        progress::Teller,
        report::Report,
    },
};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::{
    between::{Passed, Passing, Proxy},
    process::{Program, command},
    support::{PATIENCE, TestServer},
};

/// Both eras, each in sessions of its own.
pub const ERAS: [&str; 2] = ["sessioned", "stateless"];

fn plan(arguments: &[&str]) -> Result<Plan, BadPlan> {
    #[derive(Parser)]
    #[command(args_override_self = true)]
    struct Line {
        #[command(flatten)]
        asked: Arguments,
    }
    let line = [&["probe"], arguments].concat();
    Plan::read(Line::try_parse_from(line).expect("arguments").asked)
}

/// What a probe with these arguments finds.
pub async fn probe(arguments: &[&str]) -> Found {
    let plan = plan(arguments).expect("a plan");
    let run = probe::run(&plan, Teller::of_process(), pending());
    let report = timeout(PATIENCE, run).await.expect("ends").expect("runs");
    let json = serde_json::from_str(&report.to_json().expect("is JSON")).expect("is JSON");
    Found { report, json }
}

/// A report, to be looked into.
pub struct Found {
    pub report: Report,
    pub json: Value,
}

impl Found {
    /// All of them are whole, and there is nothing else to say.
    #[track_caller]
    pub fn whole(self) -> Self {
        self.tells_only(&[]);
        self.sound()
    }

    /// All of them are whole, and nothing is at fault.
    #[track_caller]
    pub fn sound(self) -> Self {
        let text = self.report.to_string();
        assert!(self.report.is_whole(), "{text}");
        let sessions = &self.json["sessions"];
        assert_eq!((&sessions["whole"], &sessions["unfinished"]), (&sessions["asked"], &json!(0)));
        for list in ["errors", "misroutes", "broken"] {
            assert_eq!(self.json[list], json!([]), "{text}");
        }
        assert_eq!(self.json["lost"], json!({}));
        self
    }

    /// None of them is whole; every one has this verdict. Gives what is shown of the first.
    #[track_caller]
    pub fn all(self, verdict: &str) -> Value {
        let text = self.report.to_string();
        assert!(!self.report.is_whole());
        let sessions = &self.json["sessions"];
        assert_eq!(sessions[verdict], sessions["asked"], "{text}");
        let broken = self.json["broken"].as_array().expect("a list");
        assert!(!broken.is_empty() && broken.iter().all(|one| one["verdict"] == verdict), "{text}");
        broken[0].clone()
    }

    pub fn broken(&self) -> &Vec<Value> {
        self.json["broken"].as_array().expect("a list")
    }

    /// Whether that was found, and in which words.
    pub fn finding(&self, name: &str) -> Option<&Value> {
        let findings = self.json["findings"].as_array().expect("a list");
        findings.iter().find(|finding| finding["name"] == name)
    }

    /// It was found, and the report says so with this part.
    #[track_caller]
    pub fn tells(&self, name: &str, part: &str) {
        let text = self.report.to_string();
        let finding = self.finding(name).unwrap_or_else(|| panic!("no {name}: {text}"));
        let says = ["says", "detail", "advice"].map(|key| finding[key].as_str().expect("a text"));
        assert!(says.iter().any(|it| it.contains(part)), "{part} is not in {finding}");
        assert!(text.contains(part), "{text}");
        let fault = finding["fault"].as_bool().expect("is told");
        assert!(!(fault && self.report.is_whole()), "a fault is a failure");
        assert_eq!(self.report.summary().contains(says[0]), fault, "{}", self.report.summary());
    }

    /// Nothing was found but this.
    #[track_caller]
    pub fn tells_only(&self, names: &[&str]) {
        let findings = self.json["findings"].as_array().expect("a list");
        let found: Vec<_> =
            findings.iter().map(|it| it["name"].as_str().expect("a name")).collect();
        assert_eq!(found, names, "{}", self.report);
    }
}

/// The ten hosts of a server, and how to get there.
fn ten(server: &TestServer) -> [String; 3] {
    let url = "http://echo-stateful{0-9}.example.com/mcp".to_owned();
    [url, "--connect".to_owned(), server.address.to_string()]
}

#[tokio::test]
async fn ten_hosts_are_whole_in_both_eras() {
    let server = TestServer::start(&[]).await;
    let [url, connect, address] = ten(&server);
    for connections in ["new", "kept"] {
        for in_flight in ["1", "3"] {
            let found = probe(&[
                &url,
                &connect,
                &address,
                "--era",
                "both",
                "--connections",
                connections,
                "--in-flight",
                in_flight,
                "--sessions",
                "40",
                "--requests",
                "5",
            ])
            .await
            .whole();
            let report = &found.json;
            assert_eq!(report["eras"]["sessioned"]["whole"], 20);
            assert_eq!(report["eras"]["stateless"]["whole"], 20);
            let latencies = report["latencies"].as_array().expect("a list");
            let instances: Vec<_> = latencies.iter().map(|row| row["instance"].clone()).collect();
            assert_eq!(instances, (0..10).map(Value::from).collect::<Vec<_>>());
            for row in latencies {
                let at = |key: &str| row[key].as_f64().expect("a number");
                assert!(at("requests") > 0.0 && at("p50_ms") > 0.0, "{row}");
                assert!(at("p50_ms") <= at("p90_ms") && at("p99_ms") <= at("max_ms"), "{row}");
            }
            let replicas = report["replicas"].as_array().expect("a list");
            assert_eq!(replicas.len(), 1, "{replicas:?}");
            let process = &server.instances[0].process;
            assert_eq!(replicas[0]["sessions"], 40);
            assert_eq!(replicas[0]["replica_tag"], process.tag.to_string());
            assert_eq!(replicas[0]["boot"], process.boot.to_string());
            // Each session: begin, twice its info, 5 echoes, set, twice get, one host more, end, after.
            // And `initialized`; and the first of each host and era: the list of tools, and the ticks.
            let ticks = report["progress"].as_array().expect("a list");
            assert_eq!(ticks.len(), 20, "{ticks:?}");
            assert!(ticks.iter().all(|it| it["arrived"] == 5 && it["arrival"] == "as sent"));
            assert_eq!(report["requests"], 40 * 14 + 20 + 20 * 2);
            assert_eq!(report["revisions"], json!({"2025-11-25": 20, "2026-07-28": 20}));
            let answers: u64 = report["statuses"]
                .as_object()
                .expect("a table")
                .values()
                .map(|count| count.as_u64().expect("a number"))
                .sum();
            assert_eq!(answers, report["requests"]);
        }
    }
    for instance in &server.instances {
        let counts = instance.state.sessions.counts();
        assert_eq!((counts.created, counts.live), (16, 0), "instance {}", instance.id);
        assert_eq!(counts.ended[EndReason::Client.index()], 16, "each was ended by its client");
    }
}

#[tokio::test]
async fn one_host_is_whole_whatever_form_answers_have() {
    for form in ["json", "sse"] {
        let server = TestServer::start(&[("MCP_ECHO_PROTOCOL__RESPONSE", form)]).await;
        // The path may be left out.
        let url = format!("http://{}", server.address);
        for requests in ["1", "2", "7"] {
            let arguments = [&url, "--era", "both", "--sessions", "6", "--requests", requests];
            let found = probe(&arguments).await.sound();
            found.tells_only(if form == "json" { &["progress_unseen"] } else { &[] });
            assert_eq!(found.json["latencies"].as_array().expect("a list").len(), 1);
        }
        assert_eq!(server.created(), 18);
    }
}

#[tokio::test]
async fn a_token_is_sent_and_never_shown() {
    let server = TestServer::start(&[
        ("MCP_ECHO_AUTH__MODE", "tokens"),
        ("MCP_ECHO_AUTH__TOKENS", "alice=s3cret-token"),
    ])
    .await;
    let url = format!("http://{}/mcp", server.address);
    let with = ["--era", "both", "--sessions", "4", "--bearer", "s3cret-token"];
    let found = probe(&[&[url.as_str()], &with[..]].concat()).await.whole();
    assert!(
        !found.json.to_string().contains("s3cret") && !found.report.to_string().contains("s3cret")
    );

    let found = probe(&[&url, "--sessions", "4"]).await;
    found.tells("unauthorized", "--bearer");
    assert_eq!(found.json["statuses"], json!({"401": 4}));
    assert_eq!(found.json["errors"][0]["cause"], "status 401");
    assert_eq!(found.all("failed")["at"], "initialize");
}

#[tokio::test]
async fn a_connection_that_is_closed_in_between_is_no_failure() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    let proxy = Proxy::start(move |request| async move {
        let close = request.number % 3 == 0;
        let mut answer = request.on(to).await;
        if close {
            answer.headers.insert("connection", http::HeaderValue::from_static("close"));
        }
        answer
    })
    .await;
    let url = format!("http://{}/mcp", proxy.address);
    probe(&[&url, "--era", "both", "--sessions", "6"]).await.whole();
}

/// Plain connections to `to`, TLS before it, with a certificate for that name that nobody knows.
async fn tls_before(
    server: &TestServer,
    name: &str,
) -> (std::net::SocketAddr, tempfile::NamedTempFile) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), made.cert.pem()).expect("is written");
    let key =
        PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let (address, to) = (listener.local_addr().expect("is bound"), server.address);
    #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepts");
            let acceptor = acceptor.clone();
            #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut onward = TcpStream::connect(to).await.expect("connects");
                    let _ = copy_bidirectional(&mut stream, &mut onward).await;
                }
            });
        }
    });
    (address, file)
}

#[tokio::test]
async fn tls_is_spoken_with_those_that_are_trusted() {
    let server = TestServer::start(&[]).await;
    let name = "echo-stateful4.example.com";
    let (address, file) = tls_before(&server, name).await;
    let (url, address) = (format!("https://{name}/mcp"), address.to_string());
    let file = file.path().to_str().expect("is text");
    let to = |url| [url, "--connect", &address, "--sessions", "4"];
    for connections in ["new", "kept"] {
        let trusting = ["--cacert", file, "--connections", connections];
        let found = probe(&[&to(&url)[..], &trusting].concat()).await.whole();
        assert_eq!(found.json["latencies"][0]["instance"], 4);
    }
    probe(&[&to(&url)[..], &["--insecure"]].concat()).await.whole();

    let other = "https://echo-stateful5.example.com";
    let found = probe(&[&to(other)[..], &["--cacert", file]].concat()).await;
    found.tells("untrusted", "--cacert");
    assert_eq!(found.json["errors"][0]["cause"], "tls", "another name: {}", found.report);
    assert_eq!(found.json["statuses"], json!({}), "nothing was sent");
    assert_eq!(found.all("failed")["at"], "initialize");

    // With no --cacert, only the system's roots count, or there are none.
    match plan(&to(&url)) {
        Ok(_) => _ = probe(&to(&url)).await.all("failed"),
        Err(error) => assert!(error.to_string().contains("--cacert"), "{error}"),
    }
}

#[tokio::test]
async fn tls_where_there_is_none_and_none_where_there_is_are_told() {
    let server = TestServer::start(&[]).await;
    let plain = format!("https://127.0.0.1:{}/mcp", server.address.port());
    let found = probe(&[&plain, "--insecure", "--sessions", "2"]).await;
    found.tells_only(&["no_tls"]);
    found.tells("no_tls", "http://");
    found.all("failed");

    let (address, _) = tls_before(&server, "localhost").await;
    for era in ERAS {
        let url = format!("http://{address}/mcp");
        let found = probe(&[&url, "--sessions", "2", "--era", era]).await;
        found.tells_only(&["only_tls"]);
        found.tells("only_tls", "https://");
        found.all("failed");
    }
    // So does one that answers plain HTTP with a refusal, as nginx does.
    let proxy = Proxy::start(|_| async { Passed::of(400, "Bad Request") }).await;
    let url = format!("http://{}/mcp", proxy.address);
    let found = probe(&[&url, "--sessions", "1"]).await;
    found.tells_only(&[]);
    assert_eq!(found.json["errors"][0]["cause"], "status 400");
}

#[tokio::test]
async fn what_is_below_localhost_needs_no_resolver() {
    let server = TestServer::start(&[]).await;
    let port = server.address.port();
    for (host, instances) in [("localhost", 1), ("echo-stateful{0-9}.localhost", 10)] {
        let url = format!("http://{host}:{port}/mcp");
        let found = probe(&[&url, "--sessions", "20", "--era", "both"]).await.whole();
        let latencies = found.json["latencies"].as_array().expect("a list");
        assert_eq!(latencies.len(), instances, "{}", found.report);
    }
    // Whoever listens on ::1 alone is found as well.
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let port = listener.local_addr().expect("is bound").port();
    let to = server.address;
    #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
            tokio::spawn(async move {
                let mut onward = TcpStream::connect(to).await.expect("connects");
                let _ = copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    let url = format!("http://echo-stateful3.localhost:{port}/mcp");
    let found = probe(&[&url, "--sessions", "2"]).await.whole();
    assert_eq!(found.json["latencies"][0]["instance"], 3);
}

#[tokio::test]
async fn instances_may_be_told_by_the_path() {
    let server = TestServer::start(&[]).await;
    let to = server.address;
    let proxy = Proxy::start(move |mut request: Passing| async move {
        let path = request.uri.path().to_owned();
        let (_, name) = path.split_once('/').expect("a path");
        let (name, rest) = name.split_once('/').expect("two parts");
        request.set("host", &format!("{name}.localhost"));
        request.uri = format!("/{rest}").parse().expect("a path");
        request.on(to).await
    })
    .await;
    let url = format!("http://{}/echo-stateful{{0-9}}/mcp", proxy.address);
    let found = probe(&[&url, "--sessions", "20", "--era", "both"]).await.whole();
    assert_eq!(found.json["latencies"].as_array().expect("a list").len(), 10);
    let hosts = found.json["progress"].as_array().expect("a list");
    let named = |it: &Value| it["host"].as_str().is_some_and(|it| it.ends_with("stateful3/mcp"));
    assert_eq!(hosts.iter().filter(|it| named(it)).count(), 2, "{hosts:?}");
}

#[test]
fn what_cannot_be_done_is_told_before_anything_is_sent() {
    let empty = tempfile::NamedTempFile::new().expect("a file");
    let empty = empty.path().to_str().expect("is text");
    for (arguments, part) in [
        (&["localhost:3000/mcp"][..], "http://"),
        (&["ftp://e.x"], "http://"),
        (&["http://"], "http://"),
        (&["http://:80/"], "http://:80/"),
        (&["http://a:b@e.x/mcp"], "--bearer"),
        (&["http://e x/"], "http://e x/"),
        (&["http://e{0-9.x"], "}"),
        (&["http://e{}.x"], "{0-9}"),
        (&["http://e{9-0}.x"], "{0-9}"),
        (&["http://e{0-10}.x"], "{0-9}"),
        (&["http://e{0-99}.x"], "{0-9}"),
        (&["http://e{0,9}.x"], "{0-9}"),
        (&["http://e{0-9}.x/{0-9}"], "once"),
        (&["http://e{0-9}{0-9}.x"], "once"),
        (&["http://x", "--connect", ""], "--connect"),
        (&["http://x", "--connect", "nowhere"], "--connect"),
        (&["http://x", "--connect", "127.0.0.1"], "--connect"),
        (&["http://x", "--connect", "127.0.0.1:"], "--connect"),
        (&["http://x", "--connect", "x:99999"], "--connect"),
        (&["http://x", "--connect", "a@b:1"], "--connect"),
        (&["http://x", "--connect", ":80"], "--connect"),
        (&["http://x", "--timeout", "0"], "--timeout"),
        (&["http://x", "--timeout", "NaN"], "--timeout"),
        (&["http://x", "--bearer", ""], "--bearer"),
        (&["http://x", "--bearer", "two words"], "--bearer"),
        (&["http://x", "--bearer", "line\nbreak"], "--bearer"),
        (&["http://x", "--bearer", "ü"], "--bearer"),
        (&["http://x", "--era", "stateless", "--revision", "2025-06-18"], "--revision"),
        (&["http://x", "--junit", "/no/such/file"], "/no/such/file"),
        (&["http://x", "--markdown", "/no/such/file"], "/no/such/file"),
        (&["https://x", "--cacert", "/no/such.pem"], "/no/such.pem"),
        (&["https://x", "--cacert", empty], "certificate"),
    ] {
        let error = plan(arguments).err().expect("is refused").to_string();
        assert!(error.contains(part), "{part} is not in {error}");
    }
}

/// Runs the program's `probe` to its end.
async fn run(variables: &[(&str, &str)], arguments: &[&str]) -> (Output, String, String) {
    let mut command = command(variables, &[&["probe"], arguments].concat());
    let output = tokio::task::spawn_blocking(move || command.output().expect("runs"));
    let output = timeout(PATIENCE, output).await.expect("ends").expect("runs");
    let [out, err] = [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8(bytes.clone()).expect("text"));
    (output, out, err)
}

#[tokio::test]
async fn the_program_reports_and_exits_as_it_says() {
    let token =
        [("MCP_ECHO_AUTH__MODE", "tokens"), ("MCP_ECHO_AUTH__TOKENS", "a=from-the-environment")];
    // The probe's variable is none of the server's.
    let program = Program::start(&[&token[..], &[(BEARER_VARIABLE, "x")]].concat());
    let url = format!("http://{}/mcp", program.address);
    let variable = [(BEARER_VARIABLE, "from-the-environment")];

    let (output, out, err) = run(&variable, &[&url, "--sessions", "3"]).await;
    assert_eq!((output.status.code(), &*err), (Some(0), ""), "{out}");
    for part in [&url, "3 sessions", "whole               3", "instance"] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
    let (output, out, _) = run(&variable, &[&url, "--sessions", "3", "--json"]).await;
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_str(&out).expect("one document");
    assert_eq!(report["sessions"]["whole"], 3);

    let (output, out, err) = run(&[], &[&url, "--sessions", "3", "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_str(&out).expect("one document");
    assert_eq!(report["sessions"]["failed"], 3);
    assert_eq!(err, "mcp-echo-stateful: 0 of 3 sessions are whole; 401: a token is wanted\n");

    for wrong in [
        &["--sessions", "3"][..],
        &["nonsense"],
        &[&url, "--config", "x.toml"],
        &[&url, "--port", "1"],
        &[&url, "--host", "::1"],
        &[&url, "--sessions", "0"],
        &[&url, "--era", "modern"],
        &[&url, "--revision", "2024-01-01"],
        &[&url, "--insecure", "--cacert", "x.pem"],
    ] {
        let (output, out, err) = run(&variable, wrong).await;
        assert_eq!((output.status.code(), &*out), (Some(2), ""), "{wrong:?}: {err}");
        assert!(!err.contains("from-the-environment"), "{err}");
    }
    let (_, help, _) = run(&variable, &["--help"]).await;
    assert!(help.contains(BEARER_VARIABLE) && !help.contains("from-the-environment"), "{help}");
}

#[tokio::test]
async fn where_nobody_is_one_line_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let url = format!("http://{}/mcp", listener.local_addr().expect("is bound"));
    drop(listener);
    let (output, out, err) = run(&[], &[&url]).await;
    assert_eq!((output.status.code(), &*out), (Some(1), ""), "{err}");
    let line = err.strip_prefix(&format!("mcp-echo-stateful: {url} cannot be reached: "));
    assert!(line.is_some_and(|it| it.lines().count() == 1 && it.contains("refused")), "{err}");
    let (output, out, _) = run(&[], &[&url, "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_str(&out).expect("one document");
    assert!(report["sessions"]["failed"].as_u64() < Some(100), "it gives up: {report}");
}

#[tokio::test]
async fn ci_gets_files_it_can_read() {
    let program = Program::start(&[]);
    let url = format!("http://{}/mcp", program.address);
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("is text").to_owned();
    let (junit, markdown) = (path("junit.xml"), path("summary.md"));
    let read = |path: &str| std::fs::read_to_string(path).expect("is there");
    let files = ["--junit", &junit, "--markdown", &markdown];

    let good = [&[url.as_str(), "--sessions", "4", "--era", "both"], &files[..]].concat();
    let (output, out, _) = run(&[], &good).await;
    assert_eq!(output.status.code(), Some(0), "{out}");
    let xml = read(&junit);
    for part in [
        "tests=\"4\" failures=\"0\" errors=\"0\" skipped=\"1\"",
        "name=\"sessions stay whole\"/>",
        "name=\"handles stay whole\"/>",
        "name=\"progress arrives as it is sent\"/>",
        "name=\"no upstream session is left behind\"><skipped/>",
    ] {
        assert!(xml.contains(part), "{part} is not in {xml}");
    }
    let good = read(&markdown);
    for part in ["### ✅ ` 4 of 4 sessions are whole `", "| whole | 4 |", "```text"] {
        assert!(good.contains(part), "{part} is not in {good}");
    }

    // What another says is data in both.
    let proxy =
        Proxy::start(|_| async { Passed::of(502, "<b>]]>&\"```\u{1}\u{fffe}</b> ````") }).await;
    let other = format!("http://{}/mcp", proxy.address);
    let bad = [&[other.as_str(), "--sessions", "2"], &files[..]].concat();
    let (output, out, _) = run(&[], &bad).await;
    assert_eq!(output.status.code(), Some(1), "{out}");
    let xml = read(&junit);
    assert!(
        xml.contains("failures=\"1\"") && xml.contains("message=\"0 of 2 are whole\""),
        "{xml}"
    );
    assert!(xml.contains("&lt;b&gt;]]&gt;&amp;&quot;```") && !xml.contains("<b>"), "{xml}");
    assert!(!xml.contains(['\u{1}', '\u{fffe}']), "{xml}");
    let both = read(&markdown);
    let bad = both.strip_prefix(&good).expect("it is added at the end");
    assert!(
        bad.contains("### ❌") && bad.contains("| failed | 2 |") && bad.contains("`````text"),
        "{bad}"
    );

    // Where nobody is, there is a result as well.
    drop(proxy);
    let (output, ..) = run(&[], &[&[other.as_str()], &files[..]].concat()).await;
    assert_eq!(output.status.code(), Some(1));
    let xml = read(&junit);
    assert!(xml.contains("failures=\"1\"") && xml.contains("cannot be reached"), "{xml}");
    assert!(read(&markdown).contains("cannot be reached"));
}

#[tokio::test]
async fn a_signal_ends_the_run_with_what_was_found() {
    let program = Program::start(&[]);
    let url = format!("http://{}/mcp", program.address);
    for signal in ["INT", "TERM"] {
        let arguments = ["probe", &url, "--sessions", "4000000", "--json"];
        let mut command = command(&[], &arguments);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let pid = child.id();
        let mut err = child.stderr.take().expect("a pipe");
        let run = tokio::task::spawn_blocking(move || {
            // It tells how far it is: once that is there, it is stopped.
            let mut first = [0; 1];
            err.read_exact(&mut first).expect("tells");
            let kill = format!("kill -{signal} {pid}");
            assert!(
                std::process::Command::new("sh")
                    .args(["-c", &kill])
                    .status()
                    .expect("sh")
                    .success()
            );
            let mut told = String::from_utf8_lossy(&first).into_owned();
            err.read_to_string(&mut told).expect("text");
            let output = child.wait_with_output().expect("ends");
            (output, told)
        });
        let (output, told) =
            timeout(Duration::from_secs(20), run).await.expect("ends").expect("runs");
        assert_eq!(output.status.code(), Some(1), "not all that was asked for is whole: {told}");
        assert!(told.contains("of 4000000 sessions, ") && !told.contains('\x1b'), "{told}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
        let of = |key: &str| report["sessions"][key].as_u64().expect("a number");
        assert!(of("whole") > 0 && of("unfinished") > 0, "{report}");
        assert_eq!(of("whole") + of("unfinished"), 4_000_000, "{report}");
    }
}
