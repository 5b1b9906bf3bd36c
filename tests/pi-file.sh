#!/usr/bin/env bash
# pi-file.sh SMOLLM2.gguf: the one aarch64 file gives the host's words, letter for letter, on every kind of CPU
# and with every page size that Linux has there. Slow under qemu, so the texts are short.
set -euo pipefail

cd "$(dirname "$0")/.."
smollm2=$1
stories=tests/data/stories-bitnet-I2_S.gguf
host=target/release/trill
pi=dist/trill-aarch64-linux-musl
passed=0

# on CPU PAGE ARGUMENTS...
on() {
  local cpu=$1 page=$2
  shift 2
  TRILL_QEMU_CPU=$cpu TRILL_QEMU_FLAGS="-p $page" tools/qemu-run.sh "$pi" "$@"
}
# same CPU PAGE ARGUMENTS...: the host's standard output and the file's are equal and not empty.
same() {
  local want got
  want=$("$host" "${@:3}")
  got=$(on "$@")
  if [ -z "$want" ] || [ "$want" != "$got" ]; then
    printf 'pi-file: %s\n  host: %s\n  pi:   %s\n' "$*" "$want" "$got"
    echo "test result: FAILED. $passed passed; 1 failed;"
    exit 1
  fi
  passed=$((passed + 1))
}

# moved CPU PAGE CACHE-TYPE: a session saved here is restored there, and the logits after it have the same bits.
moved() {
  local ids want got file=$folder/$1-$3 told=$folder/told
  ids=$(seq -s, 5 204)
  local logits=(logits -m "$stories" --cache-type "$3" -c 300 --tokens)
  "$host" "${logits[@]}" "$ids" --session "$file" >/dev/null
  want=$("$host" "${logits[@]}" "$ids,300,301")
  got=$(on "$1" "$2" "${logits[@]}" "$ids,300,301" --session "$file" 2>"$told")
  if [ -z "$want" ] || [ "$want" != "$got" ] || ! grep -q "restored 200 tokens" "$told"; then
    echo "pi-file: a session moved to $* gives other logits: $(cat "$told")"
    echo "test result: FAILED. $passed passed; 1 failed;"
    exit 1
  fi
  passed=$((passed + 1))
}

folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
while read -r cpu kernels page; do
  version=$(on "$cpu" "$page" --version)
  case "$version" in
  *"kernels=$kernels") passed=$((passed + 1)) ;;
  *) echo "pi-file: $cpu should choose $kernels: $version"; echo "test result: FAILED. $passed passed; 1 failed;"; exit 1 ;;
  esac
  for any in 4096 16384 65536; do
    same "$cpu" "$any" run -m "$stories" -p "Once upon a time" -n 24 --temp 0 --ignore-eos
  done
  same "$cpu" "$page" run -m "$smollm2" -p "The capital of France is" -n 12 --temp 0 --ignore-eos
  for kv in f16 q8 q4 q2; do moved "$cpu" "$page" "$kv"; done
done <<'TABLE'
cortex-a53 neon 4096
cortex-a76 neon-dotprod 16384
max neon-i8mm 65536
TABLE
echo "test result: ok. $passed passed; 0 failed;"
