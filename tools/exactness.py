#!/usr/bin/env python3
"""Shows that nothing that makes trill fast changes a text.

  tools/exactness.py MODEL.gguf                        2,000 tokens, every combination, 1 to 8 threads
  tools/exactness.py MODEL.gguf --aarch64 FILE         the same with an aarch64 trill, under qemu elsewhere
  tools/exactness.py MODEL.gguf --short                what CI runs
  tools/exactness.py --packed MODEL.gguf --tokens 200  a model that is packed already

The model is packed (its head kept, so that the text is the original's), and greedy texts are compared: the original
file at the scalar level on one thread, then the packed one with screening of the head, skipping in the feed-forward
layers and drafting on and off, at every kernel level and thread count. Then for every type of the cache, mixed ones too,
a text by chance (its seed fixed) in a context that holds it and in one that slides over it several times: token by token
without guesses, and with -b 1, 2, 3, 7, 16, 32, 256, guesses, threads and levels. Prints a line for each, and fails if
any differs from the first of its text.
"""

import argparse
import hashlib
import itertools
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
SWITCHES = ["--head-screen", "--ffn-skip", "--draft"]
X86_LEVELS = ["scalar", "avx2", "avx-vnni", "avx512-vnni"]
# Levels of an aarch64 program and the CPU that qemu pretends.
ARM_LEVELS = [("neon", "cortex-a53"), ("neon-dotprod", "cortex-a76"), ("neon-i8mm", "max")]
ALL_ON, ALL_OFF = (True, True, True), (False, False, False)
# Types of keys and of values.
CACHES = ["f16", "q8", "q4", "q3", "q2", "q4/f16", "q8/q2"]
BATCHES = [1, 2, 3, 7, 16, 32, 256]
SLIDING_CONTEXT = 136


class Run:
    """One way of making the text."""

    def __init__(self, model, switches, threads, level=None, cpu=None, cache=None, batch=None, slides=False):
        self.model, self.switches, self.threads, self.level, self.cpu = model, switches, threads, level, cpu
        self.cache, self.batch, self.slides = cache, batch, slides

    def ids(self, command, a):
        env = dict(os.environ)
        if self.level:
            env["TRILL_KERNELS"] = self.level
        if self.cpu:
            env["TRILL_QEMU_CPU"] = self.cpu
        flags = [w for s, on in zip(SWITCHES, self.switches) for w in (s, "on" if on else "off")]
        run = [*command, "run", "-m", str(self.model), "-n", str(a.tokens), "--ignore-eos", "--json", "-q",
               "-t", str(self.threads), *flags]
        if self.cache:
            keys, _, values = self.cache.partition("/")
            types = ["--cache-type-k", keys, "--cache-type-v", values] if values else ["--cache-type", keys]
            # A prompt of more than a batch, and repetitive, so that there are guesses.
            run += ["-p", " ".join([a.prompt + ", there was a little girl."] * 10), "--temp", "0.6", "--seed", "7", *types]
        else:
            run += ["-p", a.prompt, "--temp", "0"]
        run += ["-b", str(self.batch)] if self.batch else []
        slide = ["-c", str(SLIDING_CONTEXT), "--context-policy", "slide"]
        run += slide if self.slides else ["-c", str(a.tokens + 128)]
        done = subprocess.run(run, env=env, capture_output=True, text=True)
        if done.returncode == 69 or "cannot run those kernels" in done.stderr:
            return None
        if done.returncode != 0:
            sys.exit(f"exactness: {' '.join(run)} ended with {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)["token_ids"]

    def label(self, name):
        on = ["on" if s else "off" for s in self.switches]
        cache = (self.cache or "-") + (" slides" if self.slides else "")
        return [name, self.level or "best", self.cpu or "-", str(self.threads), *on, cache, str(self.batch or "-")]


def host_runs(packed, a):
    """Every combination at every thread count; the short form takes one switch at a time."""
    some = [ALL_ON, ALL_OFF, (True, False, False), (False, True, False), (False, False, True)]
    for threads, switches in itertools.product(a.threads, some if a.short else itertools.product((True, False), repeat=3)):
        yield Run(packed, switches, threads)


def level_runs(packed, a):
    arm = platform.machine() == "aarch64" or a.aarch64
    for level, cpu in ARM_LEVELS if arm else [(level, None) for level in X86_LEVELS]:
        for switches in (ALL_ON, ALL_OFF):
            yield Run(packed, switches, 2, level, cpu if a.aarch64 else None)


def cache_runs(model, cache, slides, a):
    """One text of one type of cache, the plainest way first."""
    def way(draft, batch, threads=1, level=None, cpu="cortex-a76" if a.aarch64 else None):
        return Run(model, (False, False, draft), threads, level, cpu, cache, batch, slides)

    yield way(False, 1)
    batches = [1, 7, 256] if a.short else BATCHES
    for i, batch in enumerate(batches):
        yield way(True, batch, threads=1 + i % 2)
        if not a.short:
            yield way(False, batch, threads=2)
    if not a.aarch64:
        yield way(True, 3, level="scalar")
    elif not a.short:
        for level, cpu in ARM_LEVELS:
            yield way(True, 3, level=level, cpu=cpu)


def emulated_runs(packed, a):
    """An emulated CPU is slow: every thread count with everything on, every switch alone with two threads."""
    for threads in a.threads:
        yield Run(packed, ALL_ON, threads, cpu="cortex-a76")
    for switches in [ALL_OFF] if a.short else itertools.product((True, False), repeat=3):
        yield Run(packed, switches, 2, cpu="cortex-a76")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model", type=pathlib.Path)
    ap.add_argument("--packed", action="store_true", help="the model is packed already")
    ap.add_argument("--trill", type=pathlib.Path, default=HERE.parent / "target/release/trill")
    ap.add_argument("--aarch64", type=pathlib.Path, metavar="FILE", help="an aarch64 trill, run with tools/qemu-run.sh")
    ap.add_argument("--tokens", type=int, default=2000)
    ap.add_argument("--threads", type=lambda v: [int(t) for t in v.split(",")], default=list(range(1, 9)))
    ap.add_argument("--prompt", default="Once upon a time")
    ap.add_argument("--short", action="store_true")
    a = ap.parse_args()
    if a.short:
        a.tokens, a.threads = min(a.tokens, 300), [1, 2, 5]
    command = [str(HERE / "qemu-run.sh"), str(a.aarch64)] if a.aarch64 else [str(a.trill)]
    name = "aarch64" if a.aarch64 else platform.machine()
    with tempfile.TemporaryDirectory() as folder:
        packed = a.model
        if not a.packed:
            packed = pathlib.Path(folder) / "packed.gguf"
            subprocess.run([str(a.trill), "pack", str(a.model), str(packed), "--head", "keep", "--for", "generic", "-q"],
                           check=True, stdout=subprocess.DEVNULL)
        first = Run(a.model, ALL_OFF, 1, None if a.packed else "scalar")
        runs = list(emulated_runs(packed, a) if a.aarch64 else host_runs(packed, a)) + list(level_runs(packed, a))
        texts = [[first, *runs]]
        caches = ["q8", "q4", "q2"] if a.short else CACHES
        texts += [list(cache_runs(a.model, cache, slides, a)) for cache in caches for slides in (False, True)]
        wrong = check(texts, command, name, a)
    print(f"{sum(len(text) - 1 for text in texts)} ways, {wrong} different")
    sys.exit(1 if wrong else 0)


def check(texts, command, name, a):
    """Prints a line for each way of each text; returns how many differ from the first of theirs."""
    widths = dict(program=10, kernels=14, cpu=12, threads=9, screen=8, skip=6, draft=7, cache=14, batch=7, tokens=8,
                  text=14, seconds=8)

    def line(cells):
        print("".join(cell.ljust(width) for cell, width in zip(cells, widths.values())), flush=True)

    line(widths)
    wrong = 0
    for runs in texts:
        want = None
        for run in runs:
            began = time.monotonic()
            ids = run.ids(command, a)
            if ids is None:
                line([*run.label(name), "this CPU does not have it"])
                continue
            want = want or ids
            same = ids == want and len(ids) == a.tokens
            wrong += not same
            digest = hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:10]
            cells = [str(len(ids)), digest if same else digest + " !", f"{time.monotonic() - began:.1f}"]
            line([*run.label(name), *cells])
    return wrong


if __name__ == "__main__":
    main()
