#!/usr/bin/env bash
# need.sh COMMAND [PACKAGE]: makes sure that COMMAND exists, by installing Debian's PACKAGE where it does not.
set -euo pipefail

command=$1
package=${2:-}
command -v "$command" >/dev/null && exit 0
if [ "$command" = cargo ]; then
  echo "need: cargo is missing; install Rust with rustup, then run this again" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "need: $command is missing; install it (Debian's package is called $package), then run this again" >&2
  exit 1
fi
echo "installing Debian's package $package (for $command)"
apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 ||
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$package" >/dev/null; }
