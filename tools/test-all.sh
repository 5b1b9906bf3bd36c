#!/usr/bin/env bash
# test-all.sh SMOLLM2.gguf: every check of CI, one step after the other (`make test`).
#
# A step that runs a test runner counts its tests; any other step counts as one. The first step that fails
# ends the run and shows its output. The last line is `N passed, N failed`.
#
#   STEPS="host aarch64"   only the steps whose names contain one of these words
set -uo pipefail

cd "$(dirname "$0")/.."
model=$(realpath "$1")
export TRILL_TEST_MODEL=$model
export CARGO_TERM_COLOR=never
target=aarch64-unknown-linux-musl
cross=$(tools/cross-toolchain.sh --print | tail -n 1) || { echo "run \`make test\`: it installs the cross toolchain"; exit 1; }
logs=target/test-all
mkdir -p "$logs"
passed=0
failed=0
notes=()
began=$SECONDS

finish() {
  for note in "${notes[@]+"${notes[@]}"}"; do echo "note: $note"; done
  echo "$((SECONDS - began)) s in all"
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
  exit
}

# step NAME COMMAND...: runs it, counts it, says how long it took.
step() {
  local name=$1 log from=$SECONDS status counts
  shift
  if [ -n "${STEPS:-}" ]; then
    local word wanted=
    for word in $STEPS; do case "$name" in *"$word"*) wanted=1 ;; esac; done
    [ -n "$wanted" ] || return 0
  fi
  log=$logs/${name//[^a-z0-9]/-}.log
  "$@" >"$log" 2>&1 </dev/null
  status=$?
  counts=$(awk '/^test result: /{ p += $4; f += $6; n = 1 } END { if (n) print p + 0, f + 0 }' "$log")
  read -r p f <<<"${counts:-1 0}"
  if [ "$status" != 0 ]; then
    [ -n "$counts" ] || p=0
    [ "$f" != 0 ] || f=1
    passed=$((passed + p))
    failed=$((failed + f))
    echo "--- $name FAILED (exit $status): $*"
    tail -n 80 "$log"
    echo "--- the whole output: $log"
    finish
  fi
  passed=$((passed + p))
  printf '%5d s  %-32s %4d passed in %d s\n' "$((SECONDS - began))" "$name" "$p" "$((SECONDS - from))"
}

# The levels that this CPU has, as TRILL_KERNELS takes them.
host_levels() {
  if [ "$(uname -m)" != x86_64 ]; then echo scalar neon; return; fi
  local flags
  flags=" $(sed -n 's/^flags[^:]*: //p' /proc/cpuinfo | head -n 1) "
  has() { local f; for f in "$@"; do case "$flags" in *" $f "*) ;; *) return 1 ;; esac; done; }
  echo scalar
  has avx2 f16c && echo avx2
  has avx2 f16c avx_vnni && echo avx-vnni
  has avx512f avx512bw avx512vl avx512vbmi avx512_vnni && echo avx512-vnni
  return 0
}

documents() { RUSTDOCFLAGS="-D warnings" cargo doc -q --workspace --no-deps; }
format() {
  cargo fmt --all --check && cargo fmt --check --manifest-path tests/bare/Cargo.toml &&
    cargo fmt --check --manifest-path fuzz/Cargo.toml
}
# The fuzz targets from their seeds, some seconds each: a finding is shown with its input.
fuzz() { env -u TARGET -u JOBS -u INPUT tools/fuzz.sh short; }
# The core without std, allocator or C library computes real tokens, here and on aarch64.
bare() { (cd tests/bare && cargo run -q --release); }
bare_aarch64() {
  local program=tests/bare/target/$target/release/trill-bare
  (cd tests/bare && cargo $cross build -q --release --target $target) && TRILL_QEMU_CPU=cortex-a53 tools/qemu-run.sh "$program"
}
# Every test there is, at the best level; `tests/kernels.rs` compares all levels in this one run.
host_tests() { REQUIRE_KERNELS=${levels// /,} cargo test -q --workspace; }
# What another level changes: whole models through the binary.
level_tests() { TRILL_KERNELS=$1 cargo test -q -p trill-runtime-std --test binary -- smollm2::greedy stories::; }
aarch64_tests() {
  env -u TRILL_TEST_MODEL TRILL_QEMU_CPU="$1" TRILL_KERNELS="$2" REQUIRE_KERNELS="$2" \
    cargo $cross test -q -p trill --target $target --lib --test kernels --test quant_golden --test quant_types
}

step "format" format
step "clippy" cargo clippy -q --workspace --all-targets -- -D warnings
step "documents" documents
step "bare core" bare
step "bare core aarch64" bare_aarch64
levels=$(host_levels | paste -sd ' ')
step "host tests" host_tests
for level in scalar avx2 avx-vnni avx512-vnni; do
  case " $levels " in
  *" $level "*) step "host $level" level_tests "$level" ;;
  *) [ "$(uname -m)" != x86_64 ] || notes+=("host $level skipped: this CPU does not have it") ;;
  esac
done
step "aarch64 cortex-a53 neon" aarch64_tests cortex-a53 neon
step "aarch64 cortex-a76 neon-dotprod" aarch64_tests cortex-a76 neon-dotprod
step "aarch64 max neon-i8mm" aarch64_tests max neon-i8mm
step "fuzz" fuzz
step "release" cargo build -q --release -p trill-runtime-std
step "oracle" tools/oracle.sh target/release/trill
step "static aarch64 file" make --no-print-directory pi
step "aarch64 file same text" tests/pi-file.sh "$model"
stories=tests/data/stories-bitnet-I2_S.gguf
step "one text every way" tools/exactness.py $stories --short
step "one text every way aarch64" tools/exactness.py $stories --short --tokens 40 --aarch64 dist/trill-aarch64-linux-musl
finish
