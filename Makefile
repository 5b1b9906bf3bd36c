# Everything that a person or a machine does with this project; `make` lists the targets.
# What is missing is installed, with a line saying what; a second run finds it and installs nothing.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

SMOLLM2 := models/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL ?= $(SMOLLM2)
PI_TARGET := aarch64-unknown-linux-musl
PI_FILE := dist/trill-aarch64-linux-musl
TRILL := target/release/trill

.PHONY: help chat test fuzz pi bench bench-peers golden kernel-report miri loom clean release tools FORCE

help: ## this list
	@echo "make TARGET [MODEL=FILE.gguf]"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | column -t -s '|'

chat: release $(MODEL) ## build, get a small model, talk to it (without a terminal: one question and its answer)
	@if [ -t 0 ]; then exec $(TRILL) chat -m $(MODEL); else \
	  echo "chat: no terminal, so one question: What is gravity?" >&2; \
	  $(TRILL) chat -m $(MODEL) --temp 0 -n 96 -f <(echo "What is gravity?"); fi

test: tools $(SMOLLM2) ## everything that CI checks; closes with `N passed, N failed`
	@tools/test-all.sh $(SMOLLM2)

fuzz: ## run every fuzz target, TARGET="A B" or all, SECONDS_EACH=60, INPUT=FILE for one input; closes with a table
	@tools/need.sh cargo
	tools/need.sh c++ g++
	TARGET="$(TARGET)" SECONDS_EACH="$(SECONDS_EACH)" JOBS="$(JOBS)" INPUT="$(INPUT)" tools/fuzz.sh long

pi: $(PI_FILE) ## one static aarch64 file for Raspberry Pi, phones and boards: dist/

$(PI_FILE): FORCE
	@tools/need.sh file file
	cross=$$(tools/cross-toolchain.sh | tail -n 1)
	CARGO_PROFILE_RELEASE_OPT_LEVEL=s cargo $$cross build --release -q -p trill-runtime-std --no-default-features \
	  --target $(PI_TARGET) --config profile.release.package.trill.opt-level=2 \
	  --config 'profile.release.package."*".opt-level="z"'
	mkdir -p dist
	cp target/$(PI_TARGET)/release/trill $@
	tools/check-static.sh $@

bench: release $(MODEL) ## prefill and decode speed of this machine
	$(TRILL) bench -m $(MODEL)

bench-peers: release $(MODEL) .venv/python.stamp ## the same beside llama.cpp, run by run; PEER=FILE.gguf: on that file
	.venv/bin/python tools/bench-peers.py $(TRILL) $(MODEL) $(if $(PEER),--peer-model $(PEER))

golden: $(SMOLLM2) .venv/python.stamp ## make the golden values again from llama.cpp and tokenizers
	.venv/bin/python tests/golden/make_smollm2_golden.py $(SMOLLM2) tests/golden/smollm2.json
	.venv/bin/python tests/golden/make_token_lines.py $(SMOLLM2) tests/golden/token_lines.jsonl
	.venv/bin/python tests/golden/make_tokenizer_golden.py tests/golden/tokenizer

kernel-report: ## cycles of the aarch64 inner loops on a Cortex-A76 and others, as llvm-mca models them
	@compgen -c llvm-mca- | grep -qE 'mca-(1[7-9]|[2-9][0-9])$$' || tools/need.sh llvm-mca-19 llvm-19
	tools/kernel-report.sh

miri: ## the core's tests in an interpreter that finds undefined behaviour and data races (nightly; about 15 minutes)
	@tools/need.sh cargo
	tools/miri.sh

loom: ## the team of threads through every order of its steps, in a model checker (a few minutes)
	@tools/need.sh cargo
	cd tests/loom && RUSTFLAGS="--cfg loom" cargo test -q --lib models:: -- --nocapture

clean: ## remove what was built (models/ and .venv/ stay)
	rm -rf target dist tests/bare/target tests/loom/target fuzz/target

release:
	@tools/need.sh cargo
	cargo build --release -q -p trill-runtime-std

# Only the default model is fetched; another one is named by MODEL= and must exist.
$(SMOLLM2):
	@tools/get-model.sh $@

# What `make test` needs beside cargo; each line looks first and installs only what is missing.
tools:
	@tools/need.sh cargo
	tools/need.sh file file
	tools/need.sh qemu-aarch64 qemu-user
	tools/need.sh c++ g++
	cargo fmt --version >/dev/null 2>&1 || { echo "installing rustfmt and clippy"; rustup component add rustfmt clippy; }
	tools/cross-toolchain.sh >/dev/null

# llama.cpp without AMX: where a virtual machine shows these instructions and forbids them, it ends with SIGSEGV.
# For golden values and comparisons with peers; the tests need Python only for tools/oracle.sh, which helps itself.
.venv/python.stamp: tools/requirements.txt
	@tools/need.sh c++ g++
	echo "installing into .venv: $$(grep -v '^#' $< | paste -sd ' ') (llama.cpp is compiled: some minutes)"
	python3 -m venv .venv
	[ "$$(uname -m)" != x86_64 ] || export CMAKE_ARGS="-DCMAKE_C_FLAGS=-mno-amx-int8 -DCMAKE_CXX_FLAGS=-mno-amx-int8"
	.venv/bin/python -m pip install -q --no-cache-dir -r $<
	touch $@

FORCE:
