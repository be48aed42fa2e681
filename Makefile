# SPDX-License-Identifier: MIT OR Apache-2.0
# `make run` and `make test` are all that a newcomer needs; both set the machine up first.

CARGO ?= cargo
NSTRAIL := target/release/nstrail
# Anything for `nstrail run`: make run ARGS="smoke --vcpus 1"
ARGS ?=

.PHONY: run matrix matrix-debug each-patch releases splats test fuzz bench lint deny setup setup-dev setup-fuzz setup-deny release clean

run: setup release
	$(NSTRAIL) run $(ARGS)

# Anything for `nstrail matrix`: make matrix ARGS="--kernel 6.1,6.12 smoke"
matrix: setup release
	$(NSTRAIL) matrix --config plain $(ARGS)

# The debug options: ten more kernels, each of them slower than a plain one
matrix-debug: setup release
	$(NSTRAIL) matrix --config lockdep,kasan,kcsan,kmemleak,faults $(ARGS)

# Every patch of the series by itself; most of an hour from an empty cache, so it is no part of `make test`
each-patch: setup-dev
	$(CARGO) test --package nstrail --features each-patch --test each_patch

# The series of every line on every point release that the archive has; downloads gigabytes
releases: setup-dev
	$(CARGO) test --package nstrail --features releases --test releases -- --nocapture

# Every kind of splat, provoked on three kernels that are broken on purpose; NSTRAIL_RECORD=1 records the traces anew
splats: setup-dev
	$(CARGO) test --package nstrail --features splats --test splats -- --nocapture

release:
	$(CARGO) build --quiet --release --package nstrail

test: setup-dev
	.ci/test

# Each target for so long: make fuzz FUZZ_SECONDS=60 FUZZ_TARGETS="frames mbox"
FUZZ_SECONDS ?= 900
FUZZ_TARGETS ?= frames ledger mbox patch records scenario snapshot summary

fuzz: setup-fuzz
	.ci/fuzz $(FUZZ_SECONDS) $(FUZZ_TARGETS)

bench: setup-dev release
	$(CARGO) bench --package nstrail-audit --package nstrail

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings

# Licences, sources, bans and advisories of every crate, of the fuzz targets too; advisories need their database
deny: setup-deny
	.ci/deny

setup:
	@.ci/setup

setup-dev:
	@.ci/setup --dev

setup-fuzz:
	@.ci/setup --fuzz

setup-deny:
	@.ci/setup --deny

clean:
	$(CARGO) clean
