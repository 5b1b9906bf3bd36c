#!/usr/bin/env bash
# Makes `cargo` able to build for aarch64-unknown-linux-musl, and prints the cargo prefix to use.
#
# First choice: the official std, by `rustup target add`. Where the Rust distribution cannot be reached
# (an offline lab, a Debian-only mirror), Debian ships a compiler together with its library sources:
# std is compiled from them once and a rustup toolchain named `trill-cross` is linked to it.
# Safe to run again: it only does what is missing. Needs root for apt-get in the second case.
#
#   tools/cross-toolchain.sh          install what is missing; the last line printed is `+TOOLCHAIN` or empty
#   tools/cross-toolchain.sh --print  install nothing; print the toolchain in use or fail
set -euo pipefail

target=aarch64-unknown-linux-musl
toolchain=trill-cross
home=${TRILL_CROSS_HOME:-/opt/trill-cross}
say() { echo "cross-toolchain: $*" >&2; }

if command -v rustup >/dev/null && rustup target list --installed 2>/dev/null | grep -qx "$target"; then
  echo; exit 0
fi
if [ -f "$home/complete" ]; then
  rustup toolchain list 2>/dev/null | grep -q "^$toolchain" || rustup toolchain link "$toolchain" "$home/sysroot"
  echo "+$toolchain"; exit 0
fi
[ "${1:-}" = --print ] && exit 1

if command -v rustup >/dev/null && timeout 90 rustup target add "$target" >/dev/null 2>&1; then
  say "official std for $target added by rustup"
  echo; exit 0
fi

say "rustup cannot fetch $target; building std from Debian's sources (about a minute on two cores)"
[ "$(id -u)" = 0 ] || { say "needs root to install Debian packages; or run: rustup target add $target"; exit 1; }
dpkg --print-foreign-architectures | grep -qx arm64 || dpkg --add-architecture arm64
apt-get update -qq
say "installing Debian packages: rustc-web cargo-web rust-web-src lld-22 gcc-aarch64-linux-gnu"
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
  rustc-web cargo-web rust-web-src lld-22 gcc-aarch64-linux-gnu libc6-dev-arm64-cross >/dev/null

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

# The target's C pieces, unpacked but not installed: musl's objects and a static unwinder.
say "unpacking musl-dev and libunwind for arm64"
(cd "$build" && apt-get download -qq musl-dev:arm64 libunwind-14-dev:arm64 2>/dev/null &&
  for package in *.deb; do dpkg -x "$package" root; done)
std_dir=/usr/lib/rustlib/$target/lib
objects=$std_dir/self-contained
mkdir -p "$objects"
cp "$build"/root/usr/lib/aarch64-linux-musl/*.[oa] "$objects/"
cp /usr/lib/gcc-cross/aarch64-linux-gnu/*/crt{begin,end}*.o "$objects/"
cp "$build"/root/usr/lib/llvm-14/lib/libunwind.a "$objects/"
# Debian's unwinder was compiled against glibc's checked stdio, which musl does not have.
cat > "$build/checked.c" <<'C'
#include <stdarg.h>
int vfprintf(void *stream, const char *format, va_list args);
int __fprintf_chk(void *stream, int flag, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int written = vfprintf(stream, format, args);
    va_end(args);
    (void)flag;
    return written;
}
C
aarch64-linux-gnu-gcc -O2 -ffreestanding -c "$build/checked.c" -o "$build/checked.o"
aarch64-linux-gnu-ar r "$objects/libunwind.a" "$build/checked.o" 2>/dev/null

say "compiling std"
mkdir -p "$build/crate/src"
printf '[package]\nname = "std-build"\nversion = "0.0.0"\nedition = "2021"\n' > "$build/crate/Cargo.toml"
printf '#![no_std]\n' > "$build/crate/src/lib.rs"
# The official std carries bitcode for LTO, and its panic_abort is the only part built to abort.
cat > "$build/rustc-for-std" <<'WRAP'
#!/bin/sh
compiler=$1
shift
case " $* " in
*" --crate-name build_script_build "*) exec "$compiler" "$@" ;;
*" --crate-name panic_abort "*) exec "$compiler" "$@" -Cembed-bitcode=yes -Cpanic=abort ;;
*) exec "$compiler" "$@" -Cembed-bitcode=yes ;;
esac
WRAP
chmod +x "$build/rustc-for-std"
(cd "$build/crate" &&
  env -u RUSTFLAGS -u CARGO_TARGET_DIR PATH=/usr/bin:/bin RUSTC_BOOTSTRAP=1 RUSTC_WRAPPER="$build/rustc-for-std" \
    /usr/bin/cargo build -q --release --target "$target" -Z build-std=std,panic_abort,panic_unwind,proc_macro,test >&2)
rm -f "$std_dir"/*.rlib "$build/crate/target/$target/release/deps"/libstd_build-*.rlib
cp "$build/crate/target/$target/release/deps"/*.rlib "$std_dir/"

# Where rustc looks for the linker that .cargo/config.toml names.
host_bin=/usr/lib/rustlib/$(/usr/bin/rustc -vV | sed -n 's/^host: //p')/bin
mkdir -p "$host_bin"
ln -sfn /usr/bin/lld-22 "$host_bin/rust-lld"

# rustc finds its sysroot from where it lies, so a linked toolchain is a folder of links.
mkdir -p "$home/sysroot/bin" "$home/sysroot/lib/rustlib"
for tool in rustc cargo rustdoc; do ln -sfn "/usr/bin/$tool" "$home/sysroot/bin/$tool"; done
rustup toolchain link "$toolchain" "$home/sysroot"
touch "$home/complete"
say "ready: cargo +$toolchain build --target $target"
echo "+$toolchain"
