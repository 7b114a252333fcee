# Few targets; `make help` lists them. Everything that a fresh machine needs is set up on the way, and
# kept in .cache/ and target/; a second run is quick and needs no network.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# rustup installs there and changes the PATH of later shells only.
export PATH := $(PATH):$(HOME)/.cargo/bin
export REEF_OPENCLAW_DIR ?= $(CURDIR)/.cache/openclaw/current

step := infra/setup/step.sh

.PHONY: help run test lint images bench clean setup-run setup-test setup-web

help: ## what can be done
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

run: setup-run ## start Reef here: one machine, no containers, demo model
	@cargo build -p reef -p reef-instance
	@exec target/debug/reef serve

test: setup-test ## all checks and tests, against the real OpenClaw and a real Docker Engine
	@$(MAKE) lint
	@$(step) build cargo build --workspace --bins
	@$(step) image infra/images/build.sh dev
	@$(step) doctests cargo test --quiet --workspace --doc
	@REEF_BIN=$(CURDIR)/target/debug/reef \
		REEF_INSTANCE_BIN=$(CURDIR)/target/debug/reef-instance \
		REEF_INSTANCE_IMAGE=reef-instance:dev \
		$(step) tests cargo nextest run --workspace
	@REEF_BIN=$(CURDIR)/target/debug/reef \
		REEF_INSTANCE_BIN=$(CURDIR)/target/debug/reef-instance \
		$(step) web-tests infra/setup/web.sh test

lint: setup-cargo setup-web ## format, clippy, documentation, licences and sources of dependencies; eslint and tsc
	@$(step) format cargo fmt --all --check
	@$(step) clippy cargo clippy --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(step) docs cargo doc --workspace --no-deps --quiet
	@$(step) deny cargo xtask deny
	@$(step) web-lint infra/setup/web.sh lint

images: setup-cargo ## the release images, reef and reef-instance (BASE=debian:bookworm-slim to choose a base)
	@infra/setup/packages.sh test
	@infra/setup/docker.sh
	@$(MAKE) setup-web
	@cargo build --profile dist -p reef -p reef-instance
	@infra/images/build.sh dist

bench: setup-cargo ## side by side with nginx; numbers for docs/performance.md
	@infra/setup/packages.sh bench
	@infra/setup/openclaw.sh >/dev/null
	@cargo build --release -p reef -p reef-instance
	@cargo run --quiet --release -p reef-bench

clean: ## remove what was built; .cache (OpenClaw, base image) and data stay
	@cargo clean

.PHONY: setup-cargo
setup-cargo:
	@command -v cargo >/dev/null || { \
		echo "reef: Rust is missing" >&2; \
		echo "      type: curl -sSf https://sh.rustup.rs | sh -s -- -y" >&2; exit 1; }

setup-run: setup-cargo
	@infra/setup/packages.sh run
	@$(MAKE) setup-web

# The browser app is embedded in reef: it is built first.
setup-web:
	@infra/setup/openclaw.sh >/dev/null
	@infra/setup/web.sh build

setup-test: setup-cargo
	@$(step) packages infra/setup/packages.sh test
	@$(step) openclaw infra/setup/openclaw.sh >/dev/null
	@$(step) clients infra/setup/clients.sh >/dev/null
	@$(step) docker infra/setup/docker.sh
	@cargo nextest --version >/dev/null 2>&1 || \
		$(step) nextest cargo install --locked --quiet cargo-nextest
