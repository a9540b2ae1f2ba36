# The interface for people and CI alike. `make help` lists the verbs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# "minor executable" of the Python that the worker in target/release is built for.
PYTHON = $(lastword $(shell scripts/python default))

.PHONY: help demo bench bench-quick test install-c wheel loom storm fuzz sanitize check clean bench-python

help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: release ## build everything and run the seed's job against multiprocessing.Pool
	mkdir -p target/nearcall
	target/release/nearcall demo --python "$(PYTHON)" --json target/nearcall/demo.json

.PHONY: release
release:
	cargo build --locked --release -p nearcall-cli
	PYO3_PYTHON="$(PYTHON)" cargo build --locked --release -p nearcall-worker

bench: release yardstick ## measure everything, beside the limits and the rivals: ten minutes, idle
	cargo build --locked --release -p nearcall-rivals
	rivals=$$(scripts/rivals) && numpy=$$(scripts/python venv "$(PYTHON)" || echo "$(PYTHON)") && \
	target/release/nearcall bench --python "$(PYTHON)" --rivals-python "$$rivals" --numpy-python "$$numpy"

bench-quick: release yardstick ## measure one call after another, limits, throughput, arrays: a minute, idle
	numpy=$$(scripts/python venv "$(PYTHON)" || echo "$(PYTHON)") && \
	target/release/nearcall bench --quick --python "$(PYTHON)" --numpy-python "$$numpy"

# Apart from the others: each of them has the features of its own dependencies only.
.PHONY: yardstick
yardstick:
	PYO3_PYTHON="$(PYTHON)" cargo build --locked --release -p nearcall-yardstick

test: ## run all tests, with every kind of Python that is here
	scripts/test

install-c: ## install the C and C++ interface; PREFIX=folder says where
	scripts/install-c "$(PREFIX)"

bench-python: ## measure Python hosts beside ProcessPoolExecutor and the seed's driver: a minute, idle
	scripts/bench-python

wheel: ## build the Python package for every CPython that is here, into target/wheels
	scripts/wheel

loom: ## check the models of the ring: every interleaving of a few threads, many of more
	scripts/loom

sanitize: ## run the engine's tests under the address and the thread sanitizer: two minutes
	scripts/sanitize

SECONDS = 60

fuzz: ## fuzz decoders, segment and engine; SECONDS=n for all together, 60 unless said
	scripts/fuzz $(SECONDS)

SEED = 1

storm: ## everything dies, stops and lies under many callers; SECONDS=n, 60 unless said, SEED=n
	cargo build --locked --release -p nearcall --features faults --bin nearcall-test-worker
	cargo build --locked --release -p nearcall-storm
	target/release/nearcall-storm --seconds $(SECONDS) --seed $(SEED) --json target/nearcall/storm.json

check: ## format, lints, documentation, licences and sources
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	PYO3_PYTHON="$(PYTHON)" cargo clippy --locked --workspace --all-targets -- -D warnings
	PYO3_PYTHON="$(PYTHON)" cargo clippy --locked --workspace --all-targets --features nearcall/arrow,nearcall/faults,nearcall/fuzzing,nearcall/ndarray,nearcall-c/bench -- -D warnings
	cargo clippy --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz -- -D warnings
	PYO3_PYTHON="$(PYTHON)" RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --features nearcall/arrow,nearcall/ndarray
	@if command -v cargo-deny >/dev/null; then cargo deny --workspace check bans licenses sources && \
	cargo deny --manifest-path fuzz/Cargo.toml --config fuzz/deny.toml check bans licenses sources; \
	else echo "SKIPPED: cargo deny is not installed (cargo install --locked cargo-deny)"; fi

clean: ## remove what was built
	cargo clean
