# The front door. `make` lists what there is; every target works on a fresh Debian or Ubuntu with root and a Rust
# toolchain. What a target needs is installed by `setup`, from the distribution and the crate and Python registries.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

# Everything is compiled through with-zig for this target: what a test links and what a package ships are the same
# objects, and run on glibc 2.31 and later.
TARGET = $(shell packaging/with-zig --target)
CARGO = packaging/with-zig cargo
NEXTEST = $(CARGO) nextest run --locked --workspace --target $(TARGET) --profile ci
# Simulations: one host's many moves or many deaths, one after another, and many at once.
SIMULATIONS = binary(crash) + test(many::) + test(whatever_dies)

.PHONY: help setup demo demo-down test simulate lint e2e shipped crash bench capture deb deb-dev lab-cgroup2

help: ## this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 20

demo: setup deb-dev ## three hosts, a coordinator, the mono example deployed, updated and refused; stays up
	tests/demo/run

demo-down: ## take the demo's hosts and coordinator away
	tests/demo/down

test: setup deb-dev ## unit tests, and the suites on lab hosts with packages of the dev profile (T='name' for some)
	$(NEXTEST) -E 'not ($(SIMULATIONS))' $(T)

simulate: setup deb-dev ## the agent killed at a quarter of all boundaries and at random points; a hundred apps, a thousand hosts (T='name' for some)
	$(NEXTEST) -E '$(SIMULATIONS)' $(T)

lint: setup ## formatting, clippy without warnings, the scripts' syntax
	cargo fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --target $(TARGET) -- -D warnings
	@git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do \
	  if [ -f "$$file" ] && head -n 1 "$$file" | grep -aqE '^#!.*\b(ba)?sh$$'; then \
	    bash -n "$$file"; \
	    ! command -v shellcheck >/dev/null || shellcheck --severity=warning "$$file"; \
	  fi; \
	done

e2e: setup deb-dev ## only the suites of tests/, among them all that boot hosts (T='name' for some)
	$(NEXTEST) -E 'package(drover-tests)' $(T)

shipped: setup deb ## the packages that ship, installed and used on Debian 11 hosts (glibc 2.31, systemd 247)
	tests/lab/mkrootfs --suite bullseye
	DROVER_PACKAGES=$(CURDIR)/target/debian/dist LAB_ROOTFS=$$(tests/lab/mkrootfs --suite bullseye --path) \
	  $(NEXTEST) -E 'test(deploy::a_release_reaches_three_hosts) + test(failures::what_fails_before_the_switch) + test(the_binaries_need_no_glibc)'

crash: setup deb-dev ## the agent killed at every boundary and at hundreds of random points, then a virtual machine whose power is cut (POINTS=, SEED=)
	DROVER_CRASH_STRIDE=2 DROVER_CRASH_POINTS=$(or $(POINTS),300) DROVER_CRASH_SEED=$(or $(SEED),$(shell date +%s)) \
	  $(CARGO) nextest run --locked --package drover-tests --target $(TARGET) --profile crash -E 'binary(crash)' $(T)
	tests/lab/powercut 20

bench: setup deb deb-dev ## drover's figures beside named peers, with the packages that ship: the tables of docs/BENCHMARKS.md (B='idle soak' for some)
	DROVER_PACKAGES=$(CURDIR)/target/debian/dist target/$(TARGET)/debug/figures $(B)

capture: setup deb-dev ## keep what the programs say in this protocol as tests/fixtures/protocol-<n>, which must not be there yet
	target/$(TARGET)/debug/capture

deb: ## the three packages that ship, in target/debian/dist
	packaging/setup --packages-only
	packaging/build-deb --profile dist

deb-dev: # the same, quick to build and large, in target/debian/dev: what the lab's hosts install
	packaging/build-deb --profile dev

lab-cgroup2: setup deb-dev ## the lab, and what units and containers use, with cgroup v2 and systemd as PID 1, inside a full virtual machine
	tests/lab/prove-cgroup2 "$$($(CARGO) nextest list --locked --workspace --target $(TARGET) --list-type binaries-only \
	  --message-format json | grep -o '/[^"]*/deps/e2e-[0-9a-f]*' | head -n 1)" target/debian/dev

setup: ## install what is missing: compiler, lintian, zig, cargo-nextest, the lab's root file system
	@packaging/setup
