#!/usr/bin/env python3
"""Share of the decode time that is spent inside kernels, and what the rest is, by function.

    cargo build --profile bench-dev -p trill-runtime-std
    tools/kernel-share.py target/bench-dev/trill MODEL.gguf [--tokens 64] [--level NAME] [--rounds 3] [--goal 95]

Runs `trill bench` on one thread under `perf record` with the sampling of the CPU's clock in user mode, once for few
tokens and once for many, and takes the difference: what a start costs (reading the file, building tables, touching pages for
the first time) is in both. A sample counts as kernels if it lies in a function of src/kernels/ other than the safe
methods that check shapes, or in a vector instruction's function that was not inlined. Needs a program with symbols.
"""
import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile

KERNELS = re.compile(r"\btrill::kernels::(?!Kernels::|select)|\bcore_arch::")


def samples(options, tokens):
    """Samples by function."""
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "perf.data")
        env = dict(os.environ, **({"TRILL_KERNELS": options.level} if options.level else {}))
        bench = [options.trill, "bench", "-q", "-m", options.model, "-t", "1", "-p", "0", "-n", str(tokens), "-r", "1"]
        record = ["perf", "record", "-q", "-e", "cpu-clock:u", "-F", "1999", "-o", data, "--", *bench]
        done = subprocess.run(record, env=env, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"kernel-share: {' '.join(record)} ended with {done.returncode}: {done.stderr.strip()}")
        script = ["perf", "script", "--no-inline", "-i", data, "-F", "ip,sym,dso"]
        text = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    lines = (re.match(r"\s*[0-9a-f]+ (.*) \(([^)]*)\)$", line) for line in text.splitlines())
    return collections.Counter(m[1] if m[1] != "[unknown]" else m[2] for m in lines if m)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trill")
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=64, help="more tokens in the longer run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--level", help="what TRILL_KERNELS names")
    parser.add_argument("--goal", type=float, help="exit with 1 below this share, in %%")
    options = parser.parse_args()
    counts = collections.Counter()
    for _ in range(options.rounds):
        counts.update(samples(options, options.tokens + 8))
        counts.subtract(samples(options, 8))
    total = sum(counts.values())
    if total < 500:
        sys.exit(f"kernel-share: only {total} samples; more --tokens")
    inside = sum(n for name, n in counts.items() if KERNELS.search(name))
    for name, n in counts.most_common(40):
        if n > total / 2000:
            print(f"{n / total:7.2%}  {'kernels' if KERNELS.search(name) else 'outside'}  {name}")
    print(f"{inside / total:7.2%}  of {total} samples in kernels")
    sys.exit(1 if options.goal and 100 * inside / total < options.goal else 0)


main()
