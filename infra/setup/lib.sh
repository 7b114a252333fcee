# Shared by the set-up scripts: paths, one-line messages, and a progress line for what takes long.
# Sourced, never run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034  # used by the scripts that source this file
CACHE=$ROOT/.cache

say() { printf 'reef: %s\n' "$*" >&2; }

# die MESSAGE [WHAT TO TYPE]: one line on what is wrong, one on what to type.
die() {
    printf 'reef: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '      type: %s\n' "$2" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# run_quietly LABEL LOG COMMAND…: runs COMMAND with its output in LOG, tells every ten seconds that
# it is alive, and shows the end of LOG when it fails.
run_quietly() {
    local label=$1 log=$2 started=$SECONDS next=10 child
    shift 2
    mkdir -p "$(dirname "$log")"
    say "$label …"
    "$@" >"$log" 2>&1 </dev/null &
    child=$!
    while kill -0 "$child" 2>/dev/null; do
        sleep 0.2
        if [ $((SECONDS - started)) -ge $next ]; then
            say "$label … $((SECONDS - started)) s"
            next=$((next + 10))
        fi
    done
    if ! wait "$child"; then
        tail -n 20 "$log" >&2
        die "$label failed; the whole log is $log"
    fi
    say "$label: done in $((SECONDS - started)) s"
}
