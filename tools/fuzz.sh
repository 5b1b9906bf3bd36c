#!/usr/bin/env bash
# fuzz.sh long|short|seeds: runs the fuzz targets of fuzz/ from their seeds (`make fuzz`, and a step of `make test`).
#
#   long   with cargo-fuzz on the nightly toolchain, under AddressSanitizer: finds go on in fuzz/corpus/
#   short  the same targets built by the stable toolchain with libFuzzer's coverage counters, without a sanitizer
#   seeds  writes the seeds that fuzz/examples/seeds.rs makes
#
#   TARGET="gguf model"  only these (all)     SECONDS_EACH=N  (60; short: 15)
#   JOBS=N  targets side by side (1; short: 2)
#   INPUT=FILE  runs TARGET on this input alone
#
# A finding is an input under target/fuzz/findings/TARGET/; the run goes on with the other targets and then fails.
set -uo pipefail

cd "$(dirname "$0")/.."
way=${1:-long}
case $way in
long) seconds=${SECONDS_EACH:-60} jobs=${JOBS:-1} ;;
short) seconds=${SECONDS_EACH:-15} jobs=${JOBS:-2} ;;
seeds) seconds=0 jobs=1 ;;
*) sed -n '2,13p' "$0"; exit 64 ;;
esac
all=$(sed -n '/^\[\[bin\]\]/,/^path/ s/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml)
targets=${TARGET:-$all}
for target in $targets; do
  grep -qx "$target" <<<"$all" || { echo "no target $target; there are: $(tr '\n' ' ' <<<"$all")"; exit 64; }
done
host=$(rustc -vV | sed -n 's/^host: //p')
out=$PWD/target/fuzz
mkdir -p "$out"

build() {
  if [ "$way" = long ]; then
    rustup run nightly rustc --version >/dev/null 2>&1 ||
      { echo "installing the nightly toolchain"; rustup toolchain install nightly --profile minimal || return; }
    cargo fuzz --version >/dev/null 2>&1 || { echo "installing cargo-fuzz"; cargo install -q --locked cargo-fuzz || return; }
    # One after the other, before anything runs beside it.
    for target in $targets; do cargo +nightly fuzz build "$target" || return; done
  else
    # What cargo-fuzz sets, but for the sanitizer, which only nightly has.
    RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares" \
      cargo build -q --release --manifest-path fuzz/Cargo.toml "$@" --target "$host" --target-dir $out/build \
      --config profile.release.opt-level=1
  fi
}

if [ "$way" = seeds ]; then
  build --example seeds && "$out/build/$host/release/examples/seeds"
  exit
fi

# libfuzzer TARGET ARGUMENTS...: the built target.
libfuzzer() {
  local target=$1
  shift
  if [ "$way" = long ]; then
    cargo +nightly fuzz run "$target" "$@"
  else
    # cargo-fuzz takes libFuzzer's own arguments after two dashes.
    local argument arguments=()
    for argument in "$@"; do [ "$argument" = -- ] || arguments+=("$argument"); done
    "$out/build/$host/release/$target" "${arguments[@]}"
  fi
}

# one TARGET: fuzzes it; its log is $out/TARGET.log.
one() {
  local target=$1 corpus=$PWD/fuzz/corpus/$1 findings=$out/findings/$1
  # What a short run collects is thrown away: every run starts from the seeds.
  if [ "$way" = short ]; then corpus=$out/corpus/$target; rm -rf "$corpus"; fi
  rm -rf "$findings"
  mkdir -p "$corpus" "$findings"
  libfuzzer "$target" "$corpus" "$PWD/fuzz/seeds/$target" -- -max_total_time="$seconds" -print_final_stats=1 \
    -rss_limit_mb=3072 -timeout=60 -artifact_prefix="$findings/" >"$out/$target.log" 2>&1 </dev/null
  echo $? >"$out/$target.rc"
}

# Names an input, shows it, and says how to run it again.
show() {
  local target=$1 input
  echo "--- $target:"
  grep -m 3 -E "panicked at|ERROR: |SUMMARY: " -A 2 "$out/$target.log" | cut -c 1-600
  [ -n "$(ls "$out/findings/$target")" ] || tail -n 20 "$out/$target.log"
  for input in "$out/findings/$target"/*; do
    [ -f "$input" ] || continue
    echo "    input: $input ($(wc -c <"$input") bytes), in base64:"
    base64 "$input" | head -n 60
    echo "    again: make fuzz TARGET=$target INPUT=$input"
  done
}

build --bins || { echo "the fuzz targets cannot be built"; exit 70; }
if [ -n "${INPUT:-}" ]; then
  libfuzzer "$targets" "$INPUT" -- -timeout=60 -rss_limit_mb=3072
  exit
fi
for target in $targets; do
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
  [ "$way" = short ] || echo "$(date +%T) $target for $seconds s"
  one "$target" &
done
wait

failed=0
printf '%-14s %12s %8s %8s %9s\n' target executions edges corpus findings
for target in $targets; do
  log=$out/$target.log
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
  status=$(grep -E '^#[0-9]+.* cov: ' "$log" | tail -n 1)
  edges=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' <<<"$status")
  corpus=$(sed -n 's/.* corp: \([0-9]*\).*/\1/p' <<<"$status")
  findings=$(find "$out/findings/$target" -type f | wc -l)
  [ "$(cat "$out/$target.rc")" = 0 ] || { [ "$findings" -gt 0 ] || findings="exit $(cat "$out/$target.rc")"; failed=1; }
  printf '%-14s %12s %8s %8s %9s\n' "$target" "${executions:-0}" "${edges:-0}" "${corpus:-0}" "$findings"
done
for target in $targets; do [ "$(cat "$out/$target.rc")" = 0 ] || show "$target"; done
exit "$failed"
