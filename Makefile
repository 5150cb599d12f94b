# Targets for developers and users. `make` without arguments lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash

CARGO ?= cargo
# Settings of `make soak`: a fault or all; the number of rounds or of minutes for each fault, whichever ends first; the seed;
# and the file with the verdicts, from which an interrupted run continues.
FAULT ?= all
ROUNDS ?= 100
MINUTES ?= 5
SEED ?= 1
RESULTS ?= soak-results.jsonl
# The tests for the faults on SQLite; `all` runs both.
TESTS_OF_embedded-kill = kills
TESTS_OF_embedded-full-disk = full_disk
export CARGO
export FAULT ROUNDS MINUTES SEED RESULTS
# Seconds for which each fuzz target runs.
FUZZ_SECONDS ?= 300
# The data directory of `make services`, and its ports. Unset: those of the previous run, or free ones.
SERVICES_DIR ?= .services
POSTGRES_PORT ?=
KAFKA_PORT ?=
REDIS_PORT ?=
export SERVICES_DIR POSTGRES_PORT KAFKA_PORT REDIS_PORT
# Where `make install` installs the command: cargo's bin directory, which rustup adds to the PATH.
PREFIX ?= $(or $(CARGO_HOME),$(HOME)/.cargo)

# Cargo's target directory.
TARGET_DIRECTORY = $(shell $(CARGO) metadata --no-deps --format-version 1 | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')

.PHONY: help setup setup-test build demo install run test lint fmt bench fuzz soak sabotage services services-stop clean

help: ## List all targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-13s %s\n", $$1, $$2 }'

setup: ## Install the build dependencies other than Rust, or print the command that does
	@tests/setup.sh build

setup-test: ## Install the dependencies of the tests, too
	@tests/setup.sh test

build: setup ## Build everything
	$(CARGO) build --workspace

demo: setup ## See it work: events, notifications, and a rule that changes without a restart
	@$(CARGO) run --package belfry-cli --bin belfry -- demo

install: setup ## Install an optimised `belfry` in PREFIX/bin
	$(CARGO) build --release --package belfry-cli --bin belfry
	@mkdir -p "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 "$(TARGET_DIRECTORY)/release/belfry" "$(DESTDIR)$(PREFIX)/bin/belfry"
	@case ":$$PATH:" in *":$(PREFIX)/bin:"*) ;; *) echo 'add it to the PATH: export PATH="$(PREFIX)/bin:$$PATH"' ;; esac

run: setup ## Serve on 127.0.0.1:7341 with a database in ./belfry.db
	$(CARGO) run --package belfry-cli -- serve

test: setup-test ## Run every test: unit, rules, end to end
	$(CARGO) test --workspace

lint: setup ## Check formatting, lints and documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps

fmt: ## Format the code
	$(CARGO) fmt --all

bench: setup ## Measure speed and memory, as ratios to the raw limits (release build)
	$(CARGO) build --release --workspace
	@"$(TARGET_DIRECTORY)/release/belfry-bench"

fuzz: setup ## Fuzz the parsers of external input (needs a nightly toolchain)
	tests/fuzz/run.sh $(FUZZ_SECONDS)

soak: setup-test ## Inject faults under load with three replicas: FAULT=name|all ROUNDS= MINUTES= SEED=; on SQLite: embedded-kill, embedded-full-disk
ifneq ($(filter embedded-% all,$(FAULT)),)
	BELFRY_CRASH_ROUNDS=$(ROUNDS) BELFRY_DISK_ROUNDS=$(ROUNDS) BELFRY_CRASH_SEED=$(SEED) \
		$(CARGO) test --workspace --test embedded -- --nocapture $(TESTS_OF_$(FAULT))
endif
ifeq ($(filter embedded-%,$(FAULT)),)
	$(CARGO) build --workspace --bin belfry --bin belfry-soak --test faults
	@"$(TARGET_DIRECTORY)/debug/belfry-soak"
endif

sabotage: setup-test ## Disable each safeguard in turn, and show the test that fails
	tests/sabotage.sh

services: ## Start PostgreSQL, Redis and Kafka, and print the environment variables: eval "$(make -s services)"
	@tests/setup.sh servers
	@$(CARGO) build --workspace
	@"$(TARGET_DIRECTORY)/debug/belfry-services" start

services-stop: ## Stop the servers that `make services` started, and keep their data
	@$(CARGO) build --workspace
	@"$(TARGET_DIRECTORY)/debug/belfry-services" stop

clean: ## Remove all build output
	$(CARGO) clean
