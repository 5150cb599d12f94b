# Everything that people do with Belfry. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash

CARGO ?= cargo
# What `make soak` does: a fault or all; so many rounds of each or so many minutes, whatever comes first; the seed; and the
# file with the verdicts, from which it goes on where it was.
FAULT ?= all
ROUNDS ?= 100
MINUTES ?= 5
SEED ?= 1
RESULTS ?= soak-results.jsonl
# The tests of the faults on SQLite; `all` has both.
TESTS_OF_embedded-kill = kills
TESTS_OF_embedded-full-disk = full_disk
export CARGO
export FAULT ROUNDS MINUTES SEED RESULTS
# Seconds that each fuzz target runs.
FUZZ_SECONDS ?= 300
# Where `make services` keeps its data, and on which ports it listens: those of the last time, or free ones.
SERVICES_DIR ?= .services
POSTGRES_PORT ?=
KAFKA_PORT ?=
REDIS_PORT ?=
export SERVICES_DIR POSTGRES_PORT KAFKA_PORT REDIS_PORT
# Where `make install` puts the command: cargo's own directory for commands, which rustup has put on the PATH.
PREFIX ?= $(or $(CARGO_HOME),$(HOME)/.cargo)

# Where cargo puts what it builds.
TARGET_DIRECTORY = $(shell $(CARGO) metadata --no-deps --format-version 1 | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')

.PHONY: help setup setup-test build demo install run test lint fmt bench fuzz soak sabotage services services-stop clean

help: ## List what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-13s %s\n", $$1, $$2 }'

setup: ## Install what building needs beside Rust, or print the command that does
	@tests/setup.sh build

setup-test: ## Install what the tests need too
	@tests/setup.sh test

build: setup ## Build everything
	$(CARGO) build --workspace

demo: setup ## See it work: events, notifications, and a rule that changes without a restart
	@$(CARGO) run --package belfry-cli --bin belfry -- demo

install: setup ## Install the command `belfry`, optimised, in PREFIX/bin
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

fuzz: setup ## Fuzz what parses foreign bytes (needs a nightly toolchain)
	tests/fuzz/run.sh $(FUZZ_SECONDS)

soak: setup-test ## Faults under load with three replicas: FAULT=name|all ROUNDS= MINUTES= SEED=; on SQLite: embedded-kill, embedded-full-disk
ifneq ($(filter embedded-% all,$(FAULT)),)
	BELFRY_CRASH_ROUNDS=$(ROUNDS) BELFRY_DISK_ROUNDS=$(ROUNDS) BELFRY_CRASH_SEED=$(SEED) \
		$(CARGO) test --workspace --test embedded -- --nocapture $(TESTS_OF_$(FAULT))
endif
ifeq ($(filter embedded-%,$(FAULT)),)
	$(CARGO) build --workspace --bin belfry --bin belfry-soak --test faults
	@"$(TARGET_DIRECTORY)/debug/belfry-soak"
endif

sabotage: setup-test ## Switch off each safeguard in turn: which test turns red
	tests/sabotage.sh

services: ## Start PostgreSQL, Redis and Kafka, and print the environment to use: eval "$(make -s services)"
	@tests/setup.sh servers
	@$(CARGO) build --workspace
	@"$(TARGET_DIRECTORY)/debug/belfry-services" start

services-stop: ## Stop what `make services` started; the data stays
	@$(CARGO) build --workspace
	@"$(TARGET_DIRECTORY)/debug/belfry-services" stop

clean: ## Remove what was built
	$(CARGO) clean
