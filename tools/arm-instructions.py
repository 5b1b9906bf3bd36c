#!/usr/bin/env python3
"""Counts the instructions of the aarch64 program, function by function, under qemu.

  tools/arm-instructions.py [--cpu cortex-a76] [--program FILE] bench -m MODEL.gguf -p 128 -n 0 -t 1 -r 1

Where there is no ARM machine to measure on, this shows what the file for a Pi does that it need not do: a loop that the
compiler left in single values, a check repeated for every tile. Instructions are not cycles, but a function that is no kernel
and has many of them is a fault. Needs a C compiler and qemu-user of 7.0 or newer. With threads other than one the counts may lose
some: they are added without locks.
"""

import argparse
import bisect
import collections
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def symbols(program):
    """Addresses and names of the functions, ascending."""
    out = subprocess.run(["nm", "-C", program], check=True, capture_output=True, text=True).stdout
    parts = (line.split(" ", 2) for line in out.splitlines())
    found = sorted((int(p[0], 16), p[2]) for p in parts if len(p) == 3 and p[0] and p[1] in "tTwW" and p[2] != "$x")
    return [a for a, _ in found], [n for _, n in found]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--cpu", default="cortex-a76")
    ap.add_argument("--program", help="an aarch64 trill with symbols (default: built as `make pi` does)")
    ap.add_argument("--top", type=int, default=20)
    ap.add_argument("command", nargs=argparse.REMAINDER)
    a = ap.parse_args()
    program = a.program or subprocess.run([HERE / "pi-with-symbols.sh"], check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        plugin, counts = f"{folder}/plugin.so", f"{folder}/counts"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", plugin, HERE / "arm-instructions.c"], check=True)
        run = ["qemu-aarch64", "-cpu", a.cpu, "-plugin", f"{plugin},to={counts}", program, *a.command]
        done = subprocess.run(run)
        if done.returncode != 0:
            sys.exit(done.returncode)
        addresses, names = symbols(program)
        by_function, total = collections.Counter(), 0
        for line in pathlib.Path(counts).read_text().splitlines():
            address, n = line.split()
            at = bisect.bisect(addresses, int(address, 16)) - 1
            by_function[names[at] if at >= 0 else "?"] += int(n)
            total += int(n)
    print(f"{total / 1e6:.1f} million instructions")
    for name, n in by_function.most_common(a.top):
        print(f"{100 * n / total:6.2f} %{n / 1e6:12.1f}  {name[:140]}")


if __name__ == "__main__":
    main()
