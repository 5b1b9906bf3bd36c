#!/usr/bin/env python3
"""Time of a written token against the length of the context, for the four cache types.

    tools/decode-context.py TRILL MODEL [--depths 64,512,1024,1536,2048] [--types f16,q8,q4,q2] [--threads 2]
                            [--tokens 8] [--samples 5] [--rounds 3] [--png docs/img/decode-context.png]

The types take turns within a round at each depth (`trill bench -p 0 -n TOKENS -d DEPTH -r SAMPLES`), so that a machine
that slows down slows all of them. Prints the median and the fastest milliseconds a token of all rounds, and beside them
the median over that of the first type in the same round. Exit code 1 if at the greatest depth q8 or q4 is
slower than f16 by more than the spread of f16's own samples.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys


def token_ms(trill, model, depth, kind, args):
    command = [trill, "bench", "-m", model, "-p", "0", "-n", str(args.tokens), "-d", str(depth), "-r", str(args.samples)]
    command += ["-t", str(args.threads), "--cache-type", kind, "-c", str(max(args.depths) + args.tokens), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr.strip()}")
    return [1e3 / speed for speed in json.loads(done.stdout)[0]["tokens_per_second"]["samples"]]


def draw(path, depths, curves, title):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), dpi=110)
    for kind, times in curves.items():
        middle = [statistics.median(t) for t in times]
        axes.plot(depths, middle, marker="o", label=kind)
        axes.fill_between(depths, [min(t) for t in times], middle, alpha=0.12)
    axes.set(xlabel="tokens in the context", ylabel="ms per token (median; shaded down to the fastest)", title=title)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(title="cache")
    figure.tight_layout()
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    figure.savefig(path)


def main():
    numbers = lambda text: [int(n) for n in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trill")
    parser.add_argument("model")
    parser.add_argument("--depths", type=numbers, default=[64, 512, 1024, 1536, 2048])
    parser.add_argument("--types", type=lambda text: text.split(","), default=["f16", "q8", "q4", "q2"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--png")
    parser.add_argument("--title", default="")
    args = parser.parse_args()
    depths, kinds = args.depths, args.types
    samples = {(kind, depth): [] for kind in kinds for depth in depths}
    ratios = {key: [] for key in samples}
    for turn in range(args.rounds):
        for depth in depths:
            base = None
            for kind in kinds:
                times = token_ms(args.trill, args.model, depth, kind, args)
                base = base or statistics.median(times)
                samples[kind, depth] += times
                ratios[kind, depth].append(statistics.median(times) / base)
                print(f"round {turn + 1}, {depth} tokens, {kind}: {statistics.median(times):.2f} ms", file=sys.stderr)
    print("| tokens in the context | " + " | ".join(f"{kind}: median, fastest, over {kinds[0]}" for kind in kinds) + " |")
    print("|---|" + "---|" * len(kinds))
    for depth in depths:
        cells = []
        for kind in kinds:
            times = samples[kind, depth]
            cells.append(f"{statistics.median(times):.2f}, {min(times):.2f} ms, {statistics.median(ratios[kind, depth]):.2f}")
        print(f"| {depth} | " + " | ".join(cells) + " |")
    if args.png:
        curves = {kind: [samples[kind, depth] for depth in depths] for kind in kinds}
        draw(args.png, depths, curves, args.title or f"{os.path.basename(args.model)}, {args.threads} threads")
    slow = []
    if "f16" in kinds:
        f16 = samples["f16", depths[-1]]
        quarter = statistics.quantiles(f16, n=4) if len(f16) > 1 else [f16[0]] * 3
        limit = statistics.median(f16) + (quarter[2] - quarter[0])
        slow = [kind for kind in ("q8", "q4") if kind in kinds and statistics.median(samples[kind, depths[-1]]) > limit]
    if slow:
        print(f"slower than f16 at {depths[-1]} tokens: {', '.join(slow)}")
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
