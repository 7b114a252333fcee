#!/usr/bin/env bash
# web.sh build|lint|test: the browser app in apps/web.
#   build  apps/web/dist, anew only when its sources or openapi.yaml changed; instant and offline else
#   lint   eslint, tsc and the budget of the first load
#   test   unit tests, then the journeys in Chromium against $REEF_BIN
# npm, of whatever age, only fetches; everything runs on the pinned Node (openclaw.sh).
set -euo pipefail
. "$(dirname "$0")/lib.sh"

web=$ROOT/apps/web
state=$CACHE/web
node=$(readlink -f "$CACHE/openclaw/current/node" 2>/dev/null)/node
[ -x "$node" ] || die "the pinned Node is not there" "infra/setup/openclaw.sh"
PATH=$(dirname "$node"):$PATH
mkdir -p "$state"
exec 9>"$state/lock"
flock 9
cd "$web"

bin() { "$node" "node_modules/$1" "${@:2}"; }
stamped() { [ "$(cat "$state/$1" 2>/dev/null)" = "$2" ]; }

# No install scripts: nothing of npm runs on this machine but what is named here.
modules() {
    local key
    key=$(cat package.json package-lock.json | sha256sum | cut -c1-16)
    if stamped modules "$key" && [ -d node_modules ]; then return; fi
    run_quietly "fetching what the browser app is built with" "$state/npm.log" \
        npm ci --ignore-scripts --no-audit --no-fund --prefer-offline
    echo "$key" >"$state/modules"
}

# The types of the API's client, from the document that the server is tested against.
schema() { bin openapi-typescript/bin/cli.js ../../openapi.yaml --output src/api/schema.d.ts >/dev/null 2>&1; }

build() {
    local key
    key=$({
        cat ../../openapi.yaml
        find src public index.html package.json package-lock.json vite.config.ts tsconfig.json \
            -type f ! -name schema.d.ts ! -name '*.test.*' | LC_ALL=C sort | xargs sha256sum
    } | sha256sum | cut -c1-16)
    if stamped build "$key" && [ -f dist/index.html ]; then return; fi
    modules
    schema
    run_quietly "building the browser app" "$state/build.log" bin vite/bin/vite.js build --logLevel warn
    echo "$key" >"$state/build"
}

# Everything that the first page is made of, as it is sent, in bytes.
FIRST_LOAD_MAX=256000
budget() {
    local file bytes total=0 list=
    for file in index.html $(grep -oE 'assets/[^"]+' dist/index.html); do
        bytes=$(gzip -9 <"dist/$file" | wc -c)
        total=$((total + bytes))
        list+=$(printf '\n%9d  %s' "$bytes" "$file")
    done
    [ "$total" -le "$FIRST_LOAD_MAX" ] || die "the first load is $total bytes, more than $FIRST_LOAD_MAX:$list"
}

lint() {
    build
    budget
    modules
    schema
    bin typescript/bin/tsc
    bin eslint/bin/eslint.js --max-warnings 0 --cache --cache-location "$state/eslint" .
}

run_tests() {
    modules
    schema
    # What the tests start must not hold the lock.
    exec 9>&-
    bin vitest/vitest.mjs run --reporter dot
    REEF_OPENCLAW_DIR=${REEF_OPENCLAW_DIR:-$CACHE/openclaw/current} \
        REEF_BIN=${REEF_BIN:-$ROOT/target/debug/reef} \
        REEF_INSTANCE_BIN=${REEF_INSTANCE_BIN:-$ROOT/target/debug/reef-instance} \
        "$node" --test --test-concurrency=1 'e2e/*.test.ts'
}

case ${1:-} in
build | lint) "$1" ;;
test) run_tests ;;
*) die "web.sh build|lint|test" ;;
esac
