#!/usr/bin/env bash
# Runs an aarch64 program on this machine: cargo's runner for aarch64-unknown-linux-musl (.cargo/config.toml).
# On an aarch64 machine the program runs directly; elsewhere under qemu's user mode.
#
#   TRILL_QEMU_CPU    the CPU to pretend (default: max); cortex-a53 has no dot product, cortex-a76 no i8mm
#   TRILL_QEMU_FLAGS  more flags for qemu, for example "-p 16384" for 16 KiB pages
set -euo pipefail

if [ "$(uname -m)" = aarch64 ]; then
  exec "$@"
fi
command -v qemu-aarch64 >/dev/null || { echo "qemu-run: install qemu-user (qemu-aarch64)" >&2; exit 127; }
read -r -a flags <<< "${TRILL_QEMU_FLAGS:-}"
exec qemu-aarch64 -cpu "${TRILL_QEMU_CPU:-max}" ${flags[@]+"${flags[@]}"} "$@"
