#!/usr/bin/env bash
# step.sh LABEL COMMAND…: runs COMMAND and tells how long it took. Output of the command is its own.
set -uo pipefail
label=$1 started=$(date +%s%N)
shift
"$@"
status=$?
spent=$((($(date +%s%N) - started) / 100000000))
verdict=$([ $status = 0 ] && echo ok || echo FAILED)
printf '== %-10s %-6s %s.%s s\n' "$label" "$verdict" $((spent / 10)) $((spent % 10)) >&2
exit $status
