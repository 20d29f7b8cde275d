# A short front for Meson: `make run` and `make test` are all one needs to know.
#
#   make run          a Debian 12 of your own: strata run debian:12 (to its login prompt and off again without a terminal)
#   make demo         Debian's stock cloud kernel with a busybox shell: up in a second (a short demonstration without a terminal)
#   make test         build and run the tests; the last line is "N passed, N failed, N skipped"
#   make build        build/strata
#   make test-long    every test, longer fuzzing, with the sanitizers for memory and for threads too
#   make bench        speed and boot times, beside QEMU's where it is installed; bench-quick: in five minutes
#   make check        the rules only: layers, headers, formatting, documents, Clang
#   make fmt          format the sources;  make clean: remove build/
#   make deps         install the Debian packages needed by all of the above
#
# MODE=debug|release|asan|tsan|coverage chooses the build folder build/<mode>. WERROR=1 makes warnings errors.
# ENGINES=interpret,kvm chooses what is measured. SUITES="unit rules" limits the tests. MODES="release asan" makes `make test` run in several modes.

MODE   ?= release
MODES  ?= $(MODE)
WERROR ?= 0
SUITES ?=
ENGINES ?= interpret,translate

override WERROR_OPTION := -Dwerror=$(if $(filter-out 0,$(WERROR)),true,false)

.DEFAULT_GOAL := build
.PHONY: deps build run demo test test-long bench bench-quick check fmt clean

deps:
	@tools/deps build run test bench

build:
	@tools/deps build
	@tools/configure $(MODE) $(WERROR_OPTION)
	@ninja -C build/$(MODE) src/bin/strata
	@ln -sfn $(MODE)/src/bin/strata build/strata

run: build
	@tools/deps build run
	@tools/run

demo: build
	@tools/deps build run
	@tools/demo

test:
	@tools/deps build run test
	@for mode in $(MODES); do tools/configure $$mode $(WERROR_OPTION) -Dtests=enabled && ninja -C build/$$mode || exit 1; done
	@[ ! -d build/release ] || ln -sfn release/src/bin/strata build/strata
	@$(if $(filter boot,$(or $(SUITES),boot)),for flavour in cloud generic; do tools/kernel $$flavour >/dev/null || true; done)
	@tools/run-tests $(MODES:%=build/%) $(SUITES:%=--suite %)

test-long:
	@STRATA_TEST_LONG=1 $(MAKE) --no-print-directory test MODES="release asan tsan"

bench: build
	@tools/deps build run bench
	@bench/boot --engines $(ENGINES) --json build/bench-boot.json
	@bench/workloads --engines $(ENGINES) --json build/bench-workloads.json
	@bench/workloads --gains
	@bench/debian --rounds 1
	@bench/io --json build/bench-io.json
	@bench/scaling --engines $(subst interpret,tcg,$(ENGINES)) --json build/bench-scaling.json
	@bench/fair --json build/bench-fair.json
	@bench/crowd --json build/bench-crowd.json
	@bench/restore --rounds 3
	@bench/exits --json build/bench-exits.json || test $$? -eq 77

bench-quick: build
	@tools/deps build run
	@bench/boot --quick --engines $(ENGINES)
	@bench/workloads --quick --engines $(ENGINES)

check:
	@tools/deps build test
	@tools/configure $(MODE) $(WERROR_OPTION)
	@tools/run-tests build/$(MODE) --suite rules

fmt:
	@git ls-files '*.c' '*.h' | xargs $$(command -v clang-format-14 || echo clang-format) -i

clean:
	rm -rf build
