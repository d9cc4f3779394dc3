# What the suites in bash share: counted checks, packages, waiting. Sourced, under set -euo pipefail, once `work` names a
# directory of the suite's own. A suite may define `explain`, which adds to what a failed check has shown.

passed=0 failed=0 skipped=0

heading() { printf '\n-- %s\n' "$*"; }
skip() { skipped=$((skipped + 1)); printf 'SKIP  %s\n' "$*"; }

# Runs a command or function under set -e, and ends the run with its output if it fails.
check() {
  local name=$1 status
  shift
  set +e
  (set -ex; "$@") >"$work/output" 2>&1
  status=$?
  set -e
  if ((status)); then
    failed=1
    printf 'FAIL  %s (exit %d)\n' "$name" "$status"
    sed 's/^/      /' "$work/output"
    ! declare -F explain >/dev/null || explain
    exit 1
  fi
  passed=$((passed + 1))
  printf 'ok    %s\n' "$name"
}

apt_updated=
install_packages() {
  local apt=(apt-get -o DPkg::Lock::Timeout=120 -qq)
  [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null || return 1
  [[ $apt_updated ]] || "${apt[@]}" update || return 1
  apt_updated=yes
  # Nothing that is installed here is to be started by it.
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends "$@" >"$work/apt" 2>&1 ||
    { cat "$work/apt"; return 1; }
}

# install_venv DIRECTORY REQUIREMENTS
install_venv() {
  [[ -x $1/bin/pip ]] || python3 -m venv "$1" ||
    { install_packages python3 python3-venv && python3 -m venv --clear "$1"; } || return 1
  "$1/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r "$2"
}

# Tries a command until it succeeds, for at most 15 seconds.
wait_for() {
  for _ in {1..75}; do
    "$@" >/dev/null 2>&1 && return
    sleep 0.2
  done
  echo "no success within 15 seconds:" "$@"
  return 1
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
