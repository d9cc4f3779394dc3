# shellcheck shell=bash disable=SC2154,SC2086
# Runs steps side by side, stage by stage, and tells all that failed. Sourced by tests/run, under set -euo pipefail.
#
#   stage WIDTH    what follows begins when all before is over, so many at a time
#   step [--needs STEP]… [--holds WHAT] NAME COMMAND…
#                  runs only if these steps have passed, and while no other holds the same thing
#   summary        tells how all went; fails if any failed
#
# What a step says is in $logs/NAME.log, and is shown when the step ends.

names=() commands=() needs=() holds=() waiting=()
# By name: passed, failed or not run; and how long it took.
declare -A result=() seconds=()
# The steps that run, by process, each the leader of a process group; and what is held.
declare -A running=() held=()
width=1

step() {
  local need='' hold=''
  while [[ $1 == --* ]]; do
    case $1 in
      --needs)
        [[ " ${names[*]} " == *" $2 "* ]] || { echo "a step needs $2, which is no step before it" >&2; exit 2; }
        need+=" $2"
        ;;
      --holds) hold=$2 ;;
    esac
    shift 2
  done
  waiting+=("${#names[@]}")
  names+=("$1") needs+=("$need") holds+=("$hold") commands+=("${*:2}")
}

stage() {
  run_stage
  width=$1
}

run_stage() {
  local i ended status
  while start_steps && ((${#running[@]})); do
    status=0
    wait -n -p ended "${!running[@]}" || status=$?
    end_step "$ended" "$status"
  done
  # What these need has not passed.
  for i in "${waiting[@]}"; do
    result[${names[i]}]='not run'
  done
  waiting=()
}

# Starts what can be started, in the order of the list.
start_steps() {
  local i left=()
  for i in "${waiting[@]}"; do
    if ((${#running[@]} < width)) && [[ ! ${held[${holds[i]:-nothing}]-} ]] && have_passed ${needs[i]}; then
      start_step "$i"
    else
      left+=("$i")
    fi
  done
  waiting=("${left[@]}")
}

have_passed() {
  local name
  for name; do
    [[ ${result[$name]-} == passed ]] || return
  done
}

start_step() {
  local i=$1 name=${names[$1]}
  printf -- '---- begun: %s\n' "$name"
  # Job control gives it a process group, so that it can be ended with all that it has started.
  set -m
  bash -c "${commands[i]}" </dev/null >"$logs/$name.log" 2>&1 &
  set +m
  running[$!]=$i
  seconds[$name]=$SECONDS
  [[ ! ${holds[i]} ]] || held[${holds[i]}]=$name
}

end_step() {
  local pid=$1 status=$2 i=${running[$1]} name verdict
  name=${names[i]}
  unset "running[$pid]"
  [[ ! ${holds[i]} ]] || unset "held[${holds[i]}]"
  seconds[$name]=$((SECONDS - seconds[$name]))
  result[$name]=passed verdict=passed
  ((status == 0)) || result[$name]=failed verdict="FAILED with exit status $status"
  printf '\n==== %s\n' "$name"
  cat "$logs/$name.log"
  printf '==== %s after %d s: %s\n\n' "$verdict" "${seconds[$name]}" "$name"
}

summary() {
  local name passed=0 failed=0
  run_stage
  for name in "${names[@]}"; do
    case ${result[$name]} in
      passed) passed=$((passed + 1)) ;;
      failed)
        failed=$((failed + 1))
        printf '\n==== FAILED: %s; all that it said is in %s, the end is\n' "$name" "$logs/$name.log"
        tail -n 40 "$logs/$name.log"
        ;;
    esac
  done
  printf '\n'
  for name in "${names[@]}"; do
    printf '%-7s %6s  %s\n' "${result[$name]}" "${seconds[$name]:+${seconds[$name]} s}" "$name"
  done
  printf 'in %d min %d s\n\n%d passed, %d failed\n' "$((SECONDS / 60))" "$((SECONDS % 60))" "$passed" "$failed"
  ((passed == ${#names[@]}))
}

# Ends what runs with all that it has started: at first kindly, since suites tidy up.
interrupt() {
  local pid
  trap '' INT TERM
  for pid in "${!running[@]}"; do
    printf 'interrupted: %s\n' "${names[${running[$pid]}]}"
    kill -TERM -- "-$pid" 2>/dev/null || true
  done
  for _ in {1..100}; do
    some_run || return 0
    sleep 0.1
  done
  for pid in "${!running[@]}"; do
    kill -KILL -- "-$pid" 2>/dev/null || true
  done
}

some_run() {
  local pid
  for pid in "${!running[@]}"; do
    ! kill -0 -- "-$pid" 2>/dev/null || return 0
  done
  return 1
}

trap 'interrupt; exit 130' INT
trap 'interrupt; exit 143' TERM
