#!/usr/bin/env python3
"""A conversation that fills a small context ten times over with `--context-policy slide`, printed, and checked.

    tools/slide.py TRILL SMOLLM2 [--types f16,q8,q4,q2] [--context 512] [--fillings 10] [--seed 1]

For each cache type: prints the conversation with the tokens of each turn, to be read, then checks that the program ends well,
that every turn is answered, that whoever asks after a slide who is there is told what the system message says ("Bob", in three
answers of four), that hardly any answer repeats a few words over and over, that nothing is allocated and that the peak of
memory does not grow by more than 64 KiB in the second half. Exit code 1 if one does not hold.
"""
import argparse
import re
import subprocess
import sys
import tempfile

SYSTEM = "You are Captain Bob, an old sailor who tells stories about the sea."
ASKS = ["Tell me about a storm you have seen.", "What do sailors eat?", "How do you find your way at night?",
        "What is the biggest fish in the sea?", "Tell me about an island.", "What was your first ship?",
        "Why is the sea salty?", "What do you do when there is no wind?", "Have you seen a whale?",
        "What is a lighthouse for?", "Tell me about your crew."]
WHO = "Who are you?"


def repeats(answer):
    words = re.findall(r"\w+", answer.lower())
    return len(words) >= 30 and len(set(words)) < 0.3 * len(words)


def talk(args, kind):
    # An answer takes about 80 tokens; the conversation is as long as the fillings ask for.
    count = args.fillings * args.context // 80 + 1
    asks = [WHO if i % 6 == 0 else ASKS[i % len(ASKS)] for i in range(count)] + [WHO]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as script:
        script.write("\n".join(asks) + "\n")
        script.flush()
        command = [args.trill, "chat", "-m", args.model, "-f", script.name, "-sys", SYSTEM, "-c", str(args.context), "-n",
                   "100", "--repeat-penalty", "1.1", "-s", str(args.seed), "--context-policy", "slide", "--cache-type", kind, "-v"]
        # Both in one pipe: a line of figures ends each answer.
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done, asks


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trill")
    parser.add_argument("model")
    parser.add_argument("--types", default="f16,q8,q4,q2")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--fillings", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    bad = 0
    for kind in args.types.split(","):
        done, asks = talk(args, kind)
        said, figures, slid = [""], [], 0
        # An answer may end without a newline.
        for line in re.sub(r"(?<!\n)trill: ", "\ntrill: ", done.stdout).splitlines():
            if not line.startswith("trill: "):
                said[-1] += line + "\n"
                continue
            slid += "turns are forgotten" in line or "turn is forgotten" in line
            if found := re.match(r"trill: read (\d+) tokens \((\d+) held\).*wrote (\d+) in", line):
                figures.append((*map(int, found.groups()), slid))
                said.append("")
        said = [answer.strip() for answer in said[:-1]]
        print(f"== {kind}")
        for ask, answer, (read, held, wrote, slid) in zip(asks, said, figures):
            print(f"> {ask}\n{answer}\n  [{held} tokens held, {read} read, {wrote} written; {slid} slides so far]")
        tokens = sum(read + wrote for read, _, wrote, _ in figures)
        peaks = [int(n) for n in re.findall(r"peak memory beyond files: .*\((\d+) bytes\)", done.stdout)]
        late = [answer for ask, answer, f in zip(asks, said, figures) if ask == WHO and f[3] > 0]
        bob = sum("Bob" in answer for answer in late)
        growth = peaks[-1] - peaks[len(peaks) // 2] if peaks else 1 << 40
        checks = {
            f"exit code {done.returncode}": done.returncode == 0,
            f"{tokens} tokens are {tokens / args.context:.1f} fillings, {figures[-1][3] if figures else 0} slides":
                tokens >= args.fillings * args.context,
            f"{len(figures)} of {len(asks)} messages answered, {said.count('')} with nothing":
                len(figures) == len(asks) and "" not in said,
            f"'{WHO}' after a slide: Bob in {bob} of {len(late)} answers": late and bob >= 0.75 * len(late),
            f"{sum(map(repeats, said))} answers repeat themselves": sum(map(repeats, said)) <= 0.05 * len(said),
            f"memory grew by {growth / 1024:.0f} KiB in the second half": growth <= 64 * 1024,
            "no allocation since load": set(re.findall(r"allocs since load: (\d+)", done.stdout)) == {"0"},
        }
        for text, good in checks.items():
            bad += not good
            print("pass" if good else "FAIL", f"{kind}: {text}", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
