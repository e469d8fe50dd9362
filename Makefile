# SPDX-License-Identifier: Apache-2.0
# The few commands people type; CMake does the work. `make demo` and `make test` need nothing but make and git beforehand.

BUILD := build
NINJA = cmake -S . -B $(1) -G Ninja $(2) >/dev/null && ninja --quiet -C $(1)

.PHONY: all demo test test-long bench format lint clean packages

all:
	@if command -v cmake >/dev/null && command -v ninja >/dev/null; then :; else scripts/install_packages.sh build; fi
	@$(call NINJA,$(BUILD),)

packages:
	@scripts/install_packages.sh build test android

# Installs what it needs, builds, compresses a network, judges it and shows the result.
demo:
	@scripts/install_packages.sh build
	@$(MAKE) --no-print-directory all
	@scripts/demo.sh

# Unit, kernel, command-line, conformance and hostile-input tests; the unit tests again under sanitizers; short fuzzing.
test: packages all
	@scripts/test.sh

# What takes hours: long fuzzing, full sweeps.
test-long: packages all
	@scripts/test.sh long

# Speed beside other engines, into docs/speed.md: MODE=quick (some minutes) or MODE=full (about half an hour).
MODE := quick
bench: packages all
	@bench/run.sh $(MODE)

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

lint:
	@scripts/install_packages.sh build test lint
	@$(call NINJA,build-lint,-DCMAKE_C_COMPILER=clang -DCMAKE_EXPORT_COMPILE_COMMANDS=ON)
	@git ls-files 'src/*.c' 'tools/*.c' | xargs clang-tidy -p build-lint --quiet

clean:
	@rm -rf build build-*
