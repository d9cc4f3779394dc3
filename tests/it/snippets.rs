//! The commands of the documents run: those of each document in their order, by one bash, against a server.
//! Trap: what would build, or needs a container engine or the network, has a stand-in here, which looks only that the
//! files that are named exist and that the server takes the options.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::documents::{DOCUMENTS, ROOT, assert_shown, blocks, prose, serve};

const STAND_INS: &str = r##"
curl() {
  local status=0
  command curl --no-progress-meter -w '%{stderr}\nstatus %{http_code}\n' "$@" --max-time 5 || status=$?
  # A stream that has no end, and that was told to be one.
  [[ $status == 28 && " $* " == *" -N "* ]] || return "$status"
}
files() {
  local word
  for word in "$@"; do
    word=${word#"$PWD/"} word=${word%%:*}
    [[ $word != @(deploy|config|tests)/* || -e $word ]] || { echo "there is no $word" >&2; exit 1; }
  done
}
docker() {
  files "$@"
  case $1 in
    build) [[ -e Dockerfile && -d ${*: -1} ]] ;;
    run | network | compose) echo "docker $*" ;;
    *) exit 1 ;;
  esac
}
kubectl() { files "$@"; }
install() { files "$@"; }
systemctl() { [[ " daemon-reload enable reload " == *" $1 "* ]]; }
claude() { [[ "$1 $2" == "mcp add" ]]; }
npx() { [[ $1 == @modelcontextprotocol/* ]]; }
cargo() {
  case "$*" in
    "run --release") "$SERVER" config check ;;
    "run --release -- "*) "$SERVER" "${@:4}" config check ;;
    "install --path ." | "build --profile dist --locked") [[ -e Cargo.toml ]] ;;
    *) echo "cargo $*" >&2; exit 1 ;;
  esac
}
tests/run() { [[ $# == 0 && -x $ROOT/tests/run ]]; }
mcp-echo-stateful() {
  case ${1-} in
    probe | config | healthcheck) "$SERVER" "$@" ;;
    *)
      # A replica of a store is started, and goes with the reader.
      [[ ! ${MCP_STORE_URL-} ]] || exec "$SERVER" --host 127.0.0.1 "$@" >replica.log 2>&1
      "$SERVER" "$@" config check
      ;;
  esac
}
redis-server() { exec redis-server --bind 127.0.0.1 --dir "$PWD" "$@" >store.log 2>&1; }
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
"##;

/// Bash as a reader has it, in a copy of what the commands name.
fn reader(script: &str, directory: &Path, session: &str) -> Command {
    let copied =
        ["deploy", "config", "Dockerfile", "Cargo.toml"].map(|name| format!("{ROOT}/{name}"));
    let copy = Command::new("cp").arg("-r").args(copied).arg(directory).status();
    assert!(copy.expect("cp runs").success());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-O", "extglob", "-c", script]).current_dir(directory);
    bash.stdin(Stdio::null()).env_clear();
    for name in ["PATH", "HOME"] {
        bash.env(name, std::env::var(name).expect("is set"));
    }
    bash.env("SERVER", env!("CARGO_BIN_EXE_mcp-echo-stateful")).env("ROOT", ROOT);
    bash.env("no_proxy", "*").env("ADMIN_TOKEN", "s3cret").env("SESSION_ID", session);
    bash.env("GITHUB_STEP_SUMMARY", directory.join("summary.md"));
    bash
}

/// A text with the ports that the documents name replaced: by that of the server, or by free ones for what they start.
fn at(port: &str, text: &str) -> String {
    let text = text.replace(":3000", &format!(":{port}")).replace(":8080", &format!(":{port}"));
    ["3001", "3002", "6379"].into_iter().fold(text, |text, port| {
        let free = TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("is bound");
        text.replace(port, &free.port().to_string())
    })
}

/// A session of the server, as a reader has one.
fn begin(port: &str) -> String {
    let answer = Command::new("curl")
        .args(["-s", "--noproxy", "*", "-D", "-", &format!("http://localhost:{port}/mcp")])
        .args(["-H", "Content-Type: application/json", "-d"])
        .arg(r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}"#)
        .output();
    let answer = String::from_utf8(answer.expect("curl runs").stdout).expect("is text");
    let mut lines = answer.lines().filter_map(|line| line.strip_prefix("mcp-session-id: "));
    lines.next().expect("an id").to_owned()
}

/// Runs what a document tells to do. Every request succeeds, unless the document says which status it gets.
fn run(document: &str) -> (usize, usize) {
    let (_, text) = DOCUMENTS.iter().find(|(name, _)| *name == document).expect(document);
    let blocks = blocks(text);
    let mut script = STAND_INS.to_owned();
    let commands: Vec<_> = (0..blocks.len()).filter(|place| blocks[*place].0 == "bash").collect();
    for place in &commands {
        let block = blocks[*place].1;
        script.push_str(&format!("printf '\\nblock {place}\\n' >&2\n{block}\nprintf '\\0'\n"));
    }
    let (_server, _log, port) = serve(&[("ADMIN_TOKEN", "s3cret")]);
    let directory = tempfile::tempdir().expect("a directory");
    let done = reader(&at(&port, &script), directory.path(), &begin(&port)).output();
    let done = done.expect("bash runs");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{document}: {told}");

    let mut requests = 0;
    for part in told.split("\nblock ").skip(1) {
        let (place, told) = part.split_once('\n').expect("a line");
        let place: usize = place.parse().expect("a number");
        let block = blocks[place].1;
        // Which other status to expect stands beside the command, or in the answer that follows.
        let shown = blocks.get(place + 1).filter(|(kind, _)| *kind == "text");
        let shown = shown.map_or("", |(_, answer)| *answer);
        let statuses: Vec<_> =
            told.lines().filter_map(|line| line.strip_prefix("status ")).collect();
        requests += statuses.len();
        for status in &statuses {
            let said = [format!("# {status}"), format!("HTTP/1.1 {status}")];
            let said = block.contains(&said[0]) || shown.contains(&said[1]);
            assert!(status.starts_with('2') || said, "{document}: {status} from\n{block}\n{told}");
        }
        for said in block.lines().filter_map(|line| Some(line.rsplit_once("# ")?.1)) {
            let is_status = said.parse::<u16>().is_ok();
            assert!(!is_status || statuses.contains(&said), "{document}: no {said} from\n{block}");
        }
    }

    let printed = String::from_utf8_lossy(&done.stdout);
    let printed: Vec<_> = printed.split_terminator('\0').collect();
    assert_eq!(printed.len(), commands.len(), "{document}: {printed:?}");
    if document == "README.md" {
        let mut compared = 0;
        for (place, printed) in commands.iter().zip(printed) {
            assert!(!printed.contains("\"isError\":true"), "{printed}");
            let Some(("text", answer)) = blocks.get(place + 1) else { continue };
            let real = printed.trim_end().lines().next_back().expect("a line");
            let [answer, real] = [*answer, real].map(serde_json::from_str::<Value>);
            assert_shown(&answer.expect("is JSON"), &real.expect("is JSON"), "the answer");
            compared += 1;
        }
        assert!(compared > 0);
    }
    (commands.len(), requests)
}

#[test]
fn the_commands_of_the_readme_run_in_their_order() {
    let (commands, requests) = run("README.md");
    assert!(commands >= 8 && requests >= 7, "{commands} blocks, {requests} requests");
}

#[test]
fn the_commands_of_the_documents_run() {
    let (mut commands, mut requests) = (0, 0);
    for (document, text) in DOCUMENTS {
        if document == "README.md" || !text.contains("\n```bash\n") {
            continue;
        }
        let (more_commands, more_requests) = run(document);
        commands += more_commands;
        requests += more_requests;
    }
    assert!(commands >= 40 && requests >= 40, "{commands} blocks, {requests} requests");
}

#[test]
fn the_client_in_python_runs() {
    let mut ran = 0;
    for (document, text) in DOCUMENTS {
        for (_, code) in blocks(text).into_iter().filter(|(kind, _)| *kind == "python") {
            let (_server, _log, port) = serve(&[]);
            let mut python = Command::new("python3");
            let done = python.args(["-c", &at(&port, code)]).env("no_proxy", "*").output();
            let done = done.expect("python3 runs");
            assert!(done.status.success(), "{document}: {done:?}");
            let printed = String::from_utf8_lossy(&done.stdout);
            // What the last line is said to print.
            let (_, expected) = code.trim_end().rsplit_once("# ").expect("a comment");
            assert_eq!(printed.lines().next_back(), Some(expected), "{printed}");
            ran += 1;
        }
    }
    assert!(ran > 0);
}

/// Entries to copy are JSON, name the server as it is by default, and no token.
#[test]
fn entries_to_copy_can_be_read() {
    let (mut entries, mut read) = (0, 0);
    for (document, text) in DOCUMENTS {
        for (kind, block) in blocks(text) {
            let known = ["bash", "json", "python", "text", "toml", "yaml"];
            assert!(known.contains(&kind), "{document}: a block of {kind:?} is held by no test");
            read += 1;
            if kind == "json" {
                let entry = serde_json::from_str::<Value>(block).expect(block);
                assert!(
                    entry.is_object() && block.contains("\"http://localhost:3000/mcp\""),
                    "{block}"
                );
                assert!(!block.contains("Authorization"), "{block}");
                entries += 1;
            }
        }
        // Commands are fenced, so that none goes unseen.
        assert!(!prose(text).contains("\n\n    "), "{document} has an indented block");
    }
    assert!(entries >= 4 && read > 60, "{entries} entries, {read} blocks");
    for name in ["deploy/debug.png", "deploy/debug-phone.png"] {
        assert!(fs::metadata(Path::new(ROOT).join(name)).is_ok(), "{name}");
    }
}
