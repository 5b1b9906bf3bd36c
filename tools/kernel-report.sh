#!/usr/bin/env bash
# make kernel-report: builds the aarch64 program with symbols and prints the cycles of its kernels at each level
# (see kernel-report.py). Arguments go to kernel-report.py, for example --check.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$(tools/pi-with-symbols.sh)
status=0
for level in dotprod i8mm base; do
  python3 tools/kernel-report.py "$program" --level "$level" "$@" || status=1
  echo
done
exit $status
