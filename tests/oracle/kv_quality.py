#!/usr/bin/env python3
"""What the packed key-value caches cost in quality, on a real model.

  kv_quality.py perplexity --trill T --model SMOLLM2 [--ctx 2048] [--types q8,q4,q2]
  kv_quality.py needle --trill T --model SMOLLM2 [--tokens 2000] [--types q4,q2]

`perplexity`: tests/data/alice-3-8.txt (87 KB of English) in chunks of --ctx tokens, the second half of each scored,
against the f16 cache; limits 0.1 % for q8, 1 % for q4, 5 % for q2. With it the bytes of a position of one head of
keys, at that context: a row, and its share of the first and newest positions that are kept as Q8 beside it.

`needle`: a sentence that tells a secret word lies at one of ten depths in --tokens tokens of that text; at the end the
model is asked for it. Found, if the word is the likeliest of 20 candidates. The last line is `N passed, N failed`.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile

TEXT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "alice-3-8.txt")
LIMITS = {"q8": 0.001, "q4": 0.01, "q2": 0.05}
WORDS = ["apple", "river", "silver", "garden", "winter", "music", "copper", "dragon", "castle", "orange", "mountain",
         "pepper", "candle", "forest", "diamond", "ocean", "tiger", "violet", "bread", "thunder"]
FIRST, STEP, WINDOW = 64, 32, {"q4": 64, "q2": 256}  # as src/kv_cache/mod.rs has them


def trill_json(trill, *arguments):
    done = subprocess.run([*trill, *map(str, arguments), "--json"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"exit {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def row_bytes(kind, ctx, head_dim=64):
    if kind == "f16":
        return 2.0 * head_dim
    row = 2 + head_dim * int(kind[1:]) // 8
    return row + (FIRST + WINDOW[kind] + STEP) * (2 + head_dim) / ctx if kind in WINDOW else row


def perplexity(a, report):
    base = None
    for kind in ["f16", *a.types.split(",")]:
        got = trill_json(a.trill, "perplexity", "-m", a.model, "-f", TEXT, "-c", a.ctx, "--cache-type", kind)
        base = base or got["perplexity"]
        worse = got["perplexity"] / base - 1
        size = row_bytes(kind, a.ctx)
        report(worse <= LIMITS.get(kind, 1), f"{kind}: perplexity {got['perplexity']:.4f} ({100 * worse:+.2f} %) of"
               f" {got['tokens_scored']} tokens, {size:.1f} bytes a row, {128 / size:.2f} times smaller than f16")


def tokens(trill, model, text):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
        f.write(text)
        f.flush()
        return trill_json(trill, "tokenize", "-m", model, "-f", f.name)


def needle(a, report):
    one = lambda text: tokens(a.trill, a.model, text)
    hay = one(open(TEXT, encoding="utf-8").read())
    candidates = {w: one(" " + w)[0] for w in WORDS}
    assert len(set(candidates.values())) == len(WORDS)
    question = one("\nRemember: the secret word is")
    for kind in a.types.split(","):
        found = []
        for depth in range(10):
            word = WORDS[(7 * depth + 3) % len(WORDS)]
            sentence = one(f"\nRemember: the secret word is {word}.\n")
            room = a.tokens - len(sentence) - len(question)
            at = room * depth // 10
            ids = hay[:at] + sentence + hay[at:room] + question
            logits = trill_json(a.trill, "logits", "-m", a.model, "--tokens", ",".join(map(str, ids)), "--cache-type",
                                kind)["logits"][0]
            rank = sorted(WORDS, key=lambda w: -logits[candidates[w]]).index(word)
            found.append(rank == 0)
            print(f"{kind} depth {depth}: '{word}' is number {rank + 1} of {len(WORDS)}", flush=True)
        report(all(found), f"{kind}: {sum(found)} of 10 needles found in {a.tokens} tokens")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", choices=["perplexity", "needle"])
    ap.add_argument("--trill", required=True, type=shlex.split)
    ap.add_argument("--model", required=True)
    ap.add_argument("--ctx", type=int, default=2048)
    ap.add_argument("--tokens", type=int, default=2000)
    ap.add_argument("--types")
    a = ap.parse_args()
    a.types = a.types or {"perplexity": "q8,q4,q2", "needle": "q4,q2"}[a.what]
    results = []

    def report(good, text):
        results.append(good)
        print("pass" if good else "FAIL", text, flush=True)

    (perplexity if a.what == "perplexity" else needle)(a, report)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
