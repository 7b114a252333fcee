#!/usr/bin/env bash
# Installs the clients of others that tests speak with (infra/clients) into .cache/clients; instant and offline when
# they are there already. Prints the directory.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

pins=$ROOT/infra/clients/requirements.txt
target=$CACHE/clients
key=$(sha256sum <"$pins" | cut -c1-16)

install() {
    rm -rf "$target"
    python3 -m venv "$target"
    "$target/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$pins"
}

if [ "$(cat "$target/stamp" 2>/dev/null)" != "$key" ]; then
    run_quietly "fetching the clients that tests use" "$CACHE/clients.log" install
    echo "$key" >"$target/stamp"
fi
echo "$target"
