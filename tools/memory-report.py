#!/usr/bin/env python3
"""Whether a run takes what `trill plan` says: a table over models, contexts and cache types.

    tools/memory-report.py TRILL MODEL.gguf... [--contexts 512,2048,4096] [--types f16,q8,q4,q2] [--threads 2]
                           [--no-mmap] [--short] [--group]

Each run fills its context to the last token (with --short it reads and writes a few tokens only), under an address
space limit (`ulimit -v`) of exactly the plan. Its peak is what the kernel counted (`VmHWM` less the pages of files at the
end, as `trill run -v` says it). With 1 MiB less the same run must be refused with exit code 75, before it reserves
anything. Exit code 1 if a row does not hold.

With --group the limit is that of a real memory control group made below this process's own (root, version 1 or
2): the plan's own memory and page tables. What the kernel has charged to the group when trill looks at it, the pages
of the started program, counts twice then: 768 KiB are added for them.
"""
import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import time

MIB = 1 << 20
SENTENCE = "The sea is wide and deep and blue, and the ships that cross it carry grain and salt. "


STARTED = 768 << 10


@contextlib.contextmanager
def group(limit):
    """A memory control group of `limit` bytes below our own; the folder."""
    own = dict(line.split(":", 2)[1:] for line in open("/proc/self/cgroup").read().splitlines())
    old = next((path for names, path in own.items() if "memory" in names.split(",")), None)
    parent = f"/sys/fs/cgroup/memory{old}" if old is not None else f"/sys/fs/cgroup{own['']}"
    folder = os.path.join(parent, f"trill-memory-report-{os.getpid()}")
    os.mkdir(folder)
    try:
        with open(os.path.join(folder, "memory.max" if old is None else "memory.limit_in_bytes"), "w") as f:
            f.write(str(limit))
        yield folder
    finally:
        for _ in range(100):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
                return
            time.sleep(0.02)


def in_group(command, limit):
    """As `limited`, in a control group of `limit` bytes."""
    with group(limit) as folder:
        def enter():
            with open(os.path.join(folder, "cgroup.procs"), "w") as f:
                f.write(str(os.getpid()))
        start = time.monotonic()
        done = subprocess.run(command, preexec_fn=enter, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        return done.returncode, done.stderr, time.monotonic() - start


def limited(command, limit):
    """Runs `command` with `limit` bytes of address space; exit code, standard error, seconds."""
    set_limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    start = time.monotonic()
    done = subprocess.run(command, preexec_fn=set_limit, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return done.returncode, done.stderr, time.monotonic() - start


def number(text, what):
    line = next((l for l in text.splitlines() if what in l), None)
    if line is None:
        sys.exit(f"no {what!r} in:\n{text}")
    return int(line.rsplit("(", 1)[1].split()[0])


def row(trill, model, sentence, context, kind, threads, extra, short, grouped):
    size = ["-c", str(context), "-t", str(threads), "--cache-type", kind] + extra
    plan = json.loads(subprocess.run([trill, "plan", model, "--json"] + size, check=True, capture_output=True).stdout)
    # Most of the context is read, the rest is written, to its last token.
    prompt = SENTENCE * (1 if short else max(1, (context - 16) // sentence))
    run = [trill, "run", "-m", model, "-p", prompt, "--temp", "0", "--ignore-eos", "-v"] + size + (["-n", "4"] if short else [])
    wanted = plan["own_bytes"] + plan["page_table_bytes"] + STARTED if grouped else plan["address_space_bytes"]
    under, limit = in_group if grouped else limited, (wanted + 4095) // 4096 * 4096
    code, text, seconds = under(run, limit)
    full = short or "tokens is full" in text
    if code != 0:
        return plan, None, full, None, seconds, text
    refused, _, quick = under(run, limit - MIB)
    return plan, number(text, "peak memory beyond files"), full, (refused, quick), seconds, text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trill")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--contexts", default="512,2048,4096")
    parser.add_argument("--types", default="f16,q8,q4,q2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-mmap", action="store_true")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--group", action="store_true")
    args = parser.parse_args()
    extra = ["--no-mmap"] if args.no_mmap else []
    print("| model | context | cache | plan, own MiB | peak MiB | off by KiB | full | 1 MiB less | seconds |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    bad = 0
    for model in args.models:
        # Twice as long a text, so that what comes only once (the beginning of text) does not count.
        count = lambda text: len(subprocess.run([args.trill, "tokenize", "-m", model, "-p", text], check=True, capture_output=True).stdout.split())
        sentence = count(SENTENCE * 2) - count(SENTENCE)
        for context in map(int, args.contexts.split(",")):
            for kind in args.types.split(","):
                plan, peak, full, refused, seconds, text = row(args.trill, model, sentence, context, kind, args.threads, extra, args.short, args.group)
                name, own = model.rsplit("/", 1)[-1], plan["own_bytes"]
                if peak is None:
                    bad += 1
                    print(f"| {name} | {context} | {kind} | {own / MIB:.2f} | failed: {text.strip().splitlines()[-1]} |", flush=True)
                    continue
                ok = full and abs(peak - own) <= MIB and refused[0] == 75
                bad += not ok
                print(
                    f"| {name} | {context} | {kind} | {own / MIB:.2f} | {peak / MIB:.2f} | {(peak - own) / 1024:+.0f} | "
                    f"{'not tried' if args.short else 'yes' if full else 'NO'} | exit {refused[0]} in {refused[1]:.2f} s | {seconds:.0f} |",
                    flush=True,
                )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
