# shellcheck shell=bash disable=SC2034
# What the suites in bash share. Sourced first, under set -euo pipefail; goes to the root of the repository.
#
#   root         the repository
#   called_from  where the caller was
#   target       where builds and whatever is installed are kept
#   work         a directory of the suite's own, gone at the end
#   children     processes that are told to stop at the end
#
# A suite may define `explain`, which adds to what a failed check has shown, and `clean_up`, which runs first at the end.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
suite=$(basename "$(dirname "$(realpath "$0")")")
target=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$target"
target=$(realpath "$target")
called_from=$PWD
cd "$root"
work=$(mktemp -d)
children=()
passed=0 failed=0 skipped=0

finish() {
  ! declare -F clean_up >/dev/null || clean_up
  while ((${#children[@]})); do
    stop "${children[0]}" || true
  done
  rm -rf "$work"
  ((passed + failed + skipped == 0)) || echo "$suite: $passed passed, $failed failed, $skipped skipped"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- checks ---------------------------------------------------------------------------------------------------------

heading() { printf '\n-- %s\n' "$*"; }
skip() { skipped=$((skipped + 1)); printf 'SKIP  %s\n' "$*"; }

# Ends the suite when its arguments or the machine do not do.
refuse() { printf '%s\n' "$*" >&2; exit 2; }

# Runs a command or function under set -e, and ends the suite with its output if it fails.
check() {
  local name=$1 status
  shift
  set +e
  (set -ex; "$@") >"$work/output" 2>&1
  status=$?
  set -e
  if ((status)); then
    failed=$((failed + 1))
    printf 'FAIL  %s (exit %d)\n' "$name" "$status"
    sed 's/^/      /' "$work/output"
    ! declare -F explain >/dev/null || explain
    exit 1
  fi
  passed=$((passed + 1))
  printf 'ok    %s\n' "$name"
}

# Succeeds if the command fails; `!` alone would not end a function under set -e.
fails() { if "$@"; then return 1; fi; }

# Tries a command until it succeeds, for at most 15 seconds.
wait_for() {
  for _ in {1..75}; do
    "$@" >/dev/null 2>&1 && return
    sleep 0.2
  done
  echo "no success within 15 seconds:" "$@"
  return 1
}

# --- what must be there ---------------------------------------------------------------------------------------------

# A path among the arguments, as the caller meant it.
absolute() { (cd "$called_from" && realpath -m "$1"); }

# find_server [PATH]: leaves the server to be tested in $binary; without a path the release build, else the debug build.
find_server() {
  binary=${1:-$target/release/mcp-echo-stateful}
  [[ $# -gt 0 || -x $binary ]] || binary=$target/debug/mcp-echo-stateful
  binary=$(absolute "$binary")
  [[ -x $binary ]] || refuse "no server at $binary: cargo build --release, or name one"
}

# Suites run side by side, and apt waits for one of its locks only.
install_packages() {
  [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null || return 1
  {
    flock 9
    # Nothing that is installed here is to be started by it.
    { apt-get -qq update &&
      RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -qq install -y \
        --no-install-recommends "$@"; } >"$work/apt" 2>&1 || { cat "$work/apt"; return 1; }
  } 9>"$target/apt.lock"
}

# need TOOL…: installs those that are missing from the packages of their names.
need() {
  local tool missing=()
  for tool in "$@"; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  ((${#missing[@]} == 0)) || install_packages "${missing[@]}" || refuse "these tests need ${missing[*]}"
}

# Debian's own may be too old, so it is not installed.
need_node() {
  command -v npm >/dev/null &&
    node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 11) ? 0 : 1)' ||
    refuse "these tests need Node 20.11 or newer, with npm"
}

# once FILE STAMP COMMAND…: runs the command unless it has succeeded before for the same content of the file. Suites that share
# what they install wait for each other.
once() {
  local sum file=$1 stamp=$2
  sum=$(sha256sum <"$file")
  shift 2
  {
    flock 8
    [[ -f $stamp && $(<"$stamp") == "$sum" ]] ||
      { echo "installing what ${file#"$root/"} pins" && "$@" && echo "$sum" >"$stamp"; }
  } 8>"$target/$(basename "$(dirname "$stamp")").lock"
}

# install_venv DIRECTORY REQUIREMENTS: a virtual environment. Pip demands hashes of all where one has any.
install_venv() {
  once "$2" "$1/requirements.sha256" make_venv "$1" "$2"
}

make_venv() {
  python3 -m venv --clear "$1" ||
    { install_packages python3 python3-venv && python3 -m venv --clear "$1"; } || return 1
  "$1/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r "$2"
}

# install_modules DIRECTORY: what its package-lock.json pins.
install_modules() {
  once "$1/package-lock.json" "$1/node_modules/.package-lock.sha256" \
    npm --prefix "$1" ci --ignore-scripts --no-audit --no-fund --loglevel=error
}

# Everything from here on talks to this machine only.
stay_here() { export NO_PROXY='*' no_proxy='*'; }

# --- servers --------------------------------------------------------------------------------------------------------

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start LOG COMMAND…: a child with nothing of the caller's environment, whose process id is left in $child.
start() {
  local log=$1
  shift
  env -i PATH="$PATH" HOME="$work" "$@" >>"$log" 2>&1 &
  child=$!
  children+=("$child")
}

# ready LOG PORT: waits until the child that was started last answers there, and shows its log if it does not.
ready() {
  for _ in {1..150}; do
    ! curl -sf -o /dev/null "http://127.0.0.1:$2/readyz" || return 0
    kill -0 "$child" 2>/dev/null || break
    sleep 0.1
  done
  echo "not ready:" && cat "$1"
  return 1
}

# serve LOG PORT VARIABLE=VALUE…: the server, with these variables and none of the caller's.
serve() {
  local log=$1 port=$2
  shift 2
  start "$log" HOST=127.0.0.1 PORT="$port" "$@" "$binary"
  ready "$log" "$port"
}

# stop PID: ends a child, and says how it ended.
stop() {
  local child rest=()
  for child in "${children[@]}"; do
    [[ $child == "$1" ]] || rest+=("$child")
  done
  children=("${rest[@]}")
  kill "$1" 2>/dev/null || true
  wait "$1"
}
