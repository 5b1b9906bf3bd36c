#!/usr/bin/env bash
# Runs the core's tests that need no vector instructions in miri, an interpreter that finds undefined behaviour, reads of
# memory nobody wrote, and data races. Arguments go to cargo in place of the tests named below.
set -euo pipefail
cd "$(dirname "$0")/.."
rustup toolchain list | grep -q '^nightly' || { echo "installing the nightly toolchain"; rustup toolchain install nightly --profile minimal; }
for part in miri rust-src; do
  rustup component list --toolchain nightly --installed | grep -q "^$part" ||
    { echo "installing $part for the nightly toolchain"; rustup component add --toolchain nightly "$part"; }
done
# Pointers are never made from numbers. Files and the environment are the host's: tests read tests/data.
export MIRIFLAGS="-Zmiri-strict-provenance -Zmiri-disable-isolation"
# A backtrace takes the interpreter seconds, and tests panic on purpose.
export RUST_BACKTRACE=0 CARGO_TARGET_DIR=target/miri
run() { cargo +nightly miri test -q -p trill "$@"; }
if [ $# -gt 0 ]; then run "$@"; exit; fi
# Left out: tests of pure arithmetic on very many values, which have no unsafe code below them.
skip=(halves_ exp_is_close draws_follow top_k_and_top_p units_fill stochastic_signs_follow every_group_of what_is_left_reads
  equals_lossy noise_is_near interleaved_rows heap_sorts ascii_table joined_words)
run --lib -- $(printf -- '--skip %s ' "${skip[@]}")
# A whole run on several threads: file, vocabulary, model, session, sampler. The lengths that kernels refuse.
run --test gguf_hostile -- a_whole_run_on_many_threads
run --test kernels -- lengths_that nothing_is_computed
