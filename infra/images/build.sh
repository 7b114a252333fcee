#!/usr/bin/env bash
# build.sh dev|dist: builds the images.
#   dev    reef-instance:dev and reef:dev from target/debug on reef-base:dev; what the tests run
#   dist   reef-instance:VERSION and reef:VERSION from target/dist, on $BASE when it is given
# The binaries must have been built; a second run with nothing changed takes a second.
set -euo pipefail
. "$(dirname "$0")/../setup/lib.sh"
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

# image DOCKERFILE NAME TAG DIRECTORY BUILD_BASE BASE
image() {
    local before after
    before=$(docker image inspect -f '{{.Id}}' "$2:$3" 2>/dev/null || true)
    run_quietly "image $2:$3" "$CACHE/images/$2-$3.log" docker build --force-rm -f "infra/$1.Dockerfile" \
        --build-arg "BUILD_BASE=$5" --build-arg "BASE=$6" --build-arg "BINARY=target/$4/$2" -t "$2:$3" .
    after=$(docker image inspect -f '{{.Id}}' "$2:$3")
    # The one that it replaces would stay behind nameless; refused, rightly, while an instance runs it.
    [ -z "$before" ] || [ "$before" = "$after" ] || docker image rm "$before" >/dev/null 2>&1 || true
}

case ${1:-} in
dev)
    [ -x target/debug/reef ] && [ -x target/debug/reef-instance ] ||
        die "the binaries are not built" "cargo build -p reef -p reef-instance"
    infra/images/mkbase.sh
    image instance reef-instance dev debug reef-base:dev reef-base:dev
    image server reef dev debug reef-base:dev reef-base:dev
    ;;
dist)
    [ -x target/dist/reef ] || die "the binaries are not built" "make images"
    if [ -n "${BASE:-}" ]; then
        build_base=$BASE base=$BASE
    else
        infra/images/mkbase.sh
        # What is shipped does not trust the CA bundle of the machine that built it.
        build_base=reef-base:dev base=reef-base:bookworm
    fi
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    image instance reef-instance "$version" dist "$build_base" "$base"
    image server reef "$version" dist "$build_base" "$base"
    # A binary made for a newer libc than the image's fails here, not in production.
    docker run --rm --entrypoint reef-instance "reef-instance:$version" --version >/dev/null
    docker run --rm "reef:$version" --version >/dev/null
    say "built reef:$version and reef-instance:$version"
    ;;
*) die "which images?" "build.sh dev|dist" ;;
esac
