#!/usr/bin/env bash
# Installs the pinned OpenClaw and Node (infra/openclaw) into .cache/openclaw/<hash of the lock>, and
# points .cache/openclaw/current there. Atomic; instant and offline when it is there already.
# Prints the directory.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

pins=$ROOT/infra/openclaw
store=$CACHE/openclaw
arch=$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')
key=$(cat "$pins/package.json" "$pins/package-lock.json" | sha256sum | cut -c1-16)
target=$store/$key-$arch

install() {
    local fresh
    fresh=$(mktemp -d "$store/.new.XXXXXX")
    # shellcheck disable=SC2064  # the name is wanted as it is now
    trap "rm -rf '$fresh'" EXIT
    cp "$pins/package.json" "$pins/package-lock.json" "$pins/.npmrc" "$fresh/"
    # No install scripts: the gateway works without them, and nothing of npm runs on this machine.
    run_quietly "installing the pinned OpenClaw from npm (650 MB, about a minute)" "$store/install.log" \
        npm ci --prefix "$fresh" --ignore-scripts --no-audit --no-fund --prefer-offline
    [ -x "$fresh/node_modules/node-linux-$arch/bin/node" ] || die "npm has no Node for $arch"
    # One path for both architectures.
    ln -s "node_modules/node-linux-$arch/bin" "$fresh/node"
    # Its first start completes the installation, in the tree that is read-only to instances later.
    local version
    version=$("$fresh/node/node" "$fresh/node_modules/openclaw/openclaw.mjs" --version 2>/dev/null) ||
        die "the installed OpenClaw does not start; see $store/install.log"
    say "installed $version"
    chmod 755 "$fresh"
    mv -T "$fresh" "$target"
    trap - EXIT
}

mkdir -p "$store"
if [ ! -d "$target" ]; then
    have npm || die "npm is needed to fetch the pinned Node and OpenClaw" "sudo apt-get install npm"
    exec 9>"$store/.lock"
    flock 9
    [ -d "$target" ] || install
fi
if [ "$(readlink "$store/current" || true)" != "$(basename "$target")" ]; then
    ln -s "$(basename "$target")" "$store/.current.$$"
    mv -T "$store/.current.$$" "$store/current"
fi
echo "$store/current"
