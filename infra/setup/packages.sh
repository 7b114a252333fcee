#!/usr/bin/env bash
# packages.sh run|test|bench: makes sure that the system packages of a set are there. Offline and
# instant when they are; installs the missing ones when it runs as root on Debian or Ubuntu, else
# prints the one command that does.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin

missing=()
# need PACKAGE COMMAND: PACKAGE is missing when COMMAND is not found.
need() { have "$2" || missing+=("$1"); }

set_run() {
    need bubblewrap bwrap
    need ca-certificates update-ca-certificates
    need curl curl
    need gcc cc
    need git git
    [ -e /usr/include/stdlib.h ] || missing+=(libc6-dev) # only recommended by gcc
    need npm npm
}

# The desktop of an instance without a container.
set_desktop() {
    need openbox openbox
    need tigervnc-standalone-server Xvnc
    need xterm xterm
    [ -e /usr/share/fonts/truetype/dejavu ] || missing+=(fonts-dejavu-core)
}

set_test() {
    set_run
    need chromium chromium
    need debootstrap debootstrap
    need docker.io dockerd
    need docker.io docker
    docker compose version >/dev/null 2>&1 || need docker-compose docker-compose
    need iptables iptables
    need procps pgrep
    need python3 python3
    # Programs and a client for terminals.
    need htop htop
    need vim-tiny vi
    [ -e /usr/lib/python3/dist-packages/websockets ] || missing+=(python3-websockets)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    set_desktop
    need python3-aiosmtpd aiosmtpd
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
}

set_bench() {
    set_test
    need nginx-light nginx
    [ -e /usr/lib/python3/dist-packages/terminado ] || missing+=(python3-terminado)
    need websockify websockify
    need wrk wrk
}

# A package's service must not start because a test needs its binary.
no_services() {
    local policy=/usr/sbin/policy-rc.d
    [ ! -e $policy ] || return 0
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
}

install() {
    export DEBIAN_FRONTEND=noninteractive
    # Lists may be absent or old; they are fetched only when something has to be installed.
    apt-get -qq update && apt-get -qq install -y --no-install-recommends "$@"
}

case ${1:-} in
run | test | bench) "set_$1" ;;
*) die "which set of packages?" "packages.sh run|test|bench" ;;
esac

[ ${#missing[@]} -gt 0 ] || exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
have apt-get || die "missing: ${missing[*]} (names of Debian packages); install what provides them"
[ "$(id -u)" = 0 ] || die "missing: ${missing[*]}" "sudo apt-get install --no-install-recommends ${missing[*]}"
no_services
run_quietly "installing ${missing[*]}" "$CACHE/apt.log" install "${missing[@]}"
