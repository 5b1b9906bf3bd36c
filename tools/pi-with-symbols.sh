#!/usr/bin/env bash
# pi-with-symbols.sh: builds the aarch64 program as `make pi` does, but with symbols, and prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-musl
toolchain=$(tools/cross-toolchain.sh | tail -n 1)
# Its own folder, so that the other flags do not make the next ordinary build start from nothing.
cargo $toolchain build -q --release -p trill-runtime-std --no-default-features --target "$target" --target-dir target/with-symbols \
  --config profile.release.strip=false --config 'profile.release.opt-level="s"' --config profile.release.package.trill.opt-level=2 \
  --config 'profile.release.package."*".opt-level="z"' \
  --config "target.$target.rustflags=[\"-Csymbol-mangling-version=v0\"]" >&2
echo "target/with-symbols/$target/release/trill"
