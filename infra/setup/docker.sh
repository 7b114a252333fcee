#!/usr/bin/env bash
# Makes sure that a Docker Engine answers. Starts dockerd in the background when none does and we are
# root; `docker.sh stop` ends the one that this script started, and no other.
#
# Never a second dockerd: two in one network namespace delete each other's bridge and NAT rules.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

state=$CACHE/dockerd
socket=/var/run/docker.sock
case ${DOCKER_HOST:-} in
unix://*) socket=${DOCKER_HOST#unix://} ;;
?*) say "using the engine at DOCKER_HOST" && exit 0 ;;
esac

answers() { [ "$(curl -fsS -m 5 --unix-socket "$socket" http://engine/_ping 2>/dev/null)" = OK ]; }

# Ours: the pid in the file is still the dockerd that was started then.
ours() { [ -s "$state/pid" ] && [ "$(cat "/proc/$(cat "$state/pid")/comm" 2>/dev/null)" = dockerd ]; }

wait_for_answer() {
    local deadline=$((SECONDS + 60))
    until answers; do
        [ $SECONDS -lt $deadline ] || return 1
        [ -z "${1:-}" ] || kill -0 "$1" 2>/dev/null || return 1
        sleep 0.2
    done
}

start() {
    ! answers || return 0
    mkdir -p "$state"
    exec 9>"$state/lock"
    flock 9
    ! answers || return 0
    # One runs already: it is coming up, or on its way out.
    local deadline=$((SECONDS + 60))
    while pgrep -x dockerd >/dev/null; do
        ! answers || return 0
        [ $SECONDS -lt $deadline ] || die "a dockerd runs but does not answer on $socket"
        sleep 0.2
    done
    [ "$(id -u)" = 0 ] || die "no Docker Engine answers on $socket" "sudo systemctl start docker, or run as root"
    local dockerd
    dockerd=$(PATH=$PATH:/usr/sbin:/sbin command -v dockerd) || die "dockerd is not installed" "apt-get install docker.io"
    PATH=$PATH:/usr/sbin:/sbin setsid "$dockerd" --host "unix://$socket" --pidfile "$state/dockerd.pid" \
        --log-opt max-size=5m --log-opt max-file=2 >"$state/log" 2>&1 </dev/null 9>&- &
    echo $! >"$state/pid"
    if ! wait_for_answer $!; then
        tail -n 5 "$state/log" >&2
        die "dockerd did not start; the whole log is $state/log"
    fi
    say "started a Docker Engine (pid $(cat "$state/pid"), log $state/log)"
}

stop() {
    ours || return 0
    local pid
    pid=$(cat "$state/pid")
    kill "$pid"
    for _ in $(seq 150); do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
    rm -f "$state/pid"
    say "stopped the Docker Engine that was started here"
}

case ${1:-start} in
start | stop | answers) "${1:-start}" ;;
*) die "docker.sh start | stop | answers" ;;
esac
