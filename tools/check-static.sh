#!/usr/bin/env bash
# check-static.sh FILE: the promises of the aarch64 file: static, stripped, under 2.5 MB.
set -euo pipefail

budget=2500000
what=$(file -b "$1")
size=$(stat -c %s "$1")
for word in "ARM aarch64" "statically linked" ", stripped"; do
  case "$what" in
  *"$word"*) ;;
  *) echo "check-static: $1 is not \"$word\": $what" >&2; exit 1 ;;
  esac
done
[ "$size" -lt "$budget" ] || { echo "check-static: $1 has $size bytes, the budget is $budget" >&2; exit 1; }
echo "$1: $size bytes, static, stripped"
