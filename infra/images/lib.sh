# Shared by the image scripts; sourced after ../setup/lib.sh, never run.
# shellcheck shell=bash

# BuildKit where the client has it, else the classic builder; the Dockerfiles are valid for both.
if ! docker buildx version >/dev/null 2>&1; then
    export DOCKER_BUILDKIT=0
fi

has_image() { docker image inspect "$1" >/dev/null 2>&1; }
