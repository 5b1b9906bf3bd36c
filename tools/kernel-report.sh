#!/usr/bin/env bash
# make kernel-report: builds the aarch64 program with symbols and prints the cycles of its kernels at each level
# (see kernel-report.py). Arguments go to kernel-report.py, for example --check.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-musl
toolchain=$(tools/cross-toolchain.sh | tail -n 1)
# Optimised as by `make pi`. Its own folder, so that the other flags do not make the next ordinary build start from nothing.
cargo $toolchain build -q --release -p trill-runtime-std --target "$target" --target-dir target/kernel-report \
  --config profile.release.strip=false --config 'profile.release.opt-level="s"' --config profile.release.package.trill.opt-level=2 \
  --config 'profile.release.package."*".opt-level="z"' \
  --config "target.$target.rustflags=[\"-Csymbol-mangling-version=v0\"]"
program=$(find "target/kernel-report/$target/release" -maxdepth 1 -type f -executable ! -name '*.so' | head -n 1)
status=0
for level in dotprod i8mm base; do
  python3 tools/kernel-report.py "$program" --level "$level" "$@" || status=1
  echo
done
exit $status
