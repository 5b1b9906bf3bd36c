#!/usr/bin/env python3
"""What the packed key-value caches cost in quality, on a real model.

  kv_quality.py perplexity --trill T --model SMOLLM2 [--ctx 2048] [--types q8,q4,q2] [--text FILE]
  kv_quality.py needle --trill T --model SMOLLM2 [--tokens 2000] [--types f16,q4,q2] [--seeds 1,2,3] [--text FILE]...

`perplexity`: tests/data/alice-3-8.txt (87 KB of English) in chunks of --ctx tokens, the second half of each scored,
against the f16 cache; limits 0.1 % for q8, 1 % for q4, 5 % for q2. With it the bytes of a position of one head, keys
and values together halved, at that context: a row, and its share of the first and newest positions that are kept as Q8
beside it.

`needle`: a sentence that tells a secret word lies at one of ten depths in --tokens tokens of a text; at the end the
model is asked for it. Found, if the word is the likeliest of 20 candidates. Each seed is another sentence, with other words,
in another place of one of the texts. The last line is `N passed, N failed`.

A type is one of --cache-type, or KEYS/VALUES, for instance q2/q2.
"""

import argparse
import json
import os
import random
import shlex
import subprocess
import sys
import tempfile

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
TEXT, SHORT = os.path.join(DATA, "alice-3-8.txt"), os.path.join(DATA, "english.txt")
LIMITS = {"q8": 0.001, "q4": 0.01, "q2": 0.05}
WORDS = ["apple", "river", "silver", "garden", "winter", "music", "copper", "dragon", "castle", "orange", "mountain",
         "pepper", "candle", "forest", "diamond", "ocean", "tiger", "violet", "bread", "thunder", "island", "bridge",
         "lemon", "butter", "window", "planet", "yellow", "rabbit", "summer", "pencil", "hammer", "coffee", "banana",
         "elephant", "guitar", "desert", "marble", "ladder", "rocket", "saddle"]
FORMS = ["Remember: the secret word of the {} is", "Note that the password of the {} is", "The code name of the {} is",
         "In the letter it said that the favourite word of the {} is"]
SUBJECTS = ["captain", "teacher", "doctor", "farmer", "library", "museum", "engineer", "baker", "school", "painter"]
FIRST, SLACK, WINDOW = 64, 16, {"q4": 32, "q3": 64, "q2": 64}  # as src/kv_cache/mod.rs has them


def trill_json(trill, *arguments):
    done = subprocess.run([*trill, *map(str, arguments), "--json"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"exit {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def row_bytes(kind, ctx, head_dim=64):
    if kind == "f16":
        return 2.0 * head_dim
    row = 2 + head_dim * int(kind[1:]) // 8
    return row + (FIRST + 2 * (WINDOW[kind] + SLACK)) * (2 + head_dim) / ctx if kind in WINDOW else row


def both(kind):
    """Types of keys and of values: as --cache-type has them, or KEYS/VALUES."""
    k, _, v = kind.partition("/")
    return ("q3" if kind == "q2" else k), v or k


def perplexity(a, report):
    base = None
    for kind in ["f16", *a.types.split(",")]:
        k, v = both(kind)
        got = trill_json(a.trill, "perplexity", "-m", a.model, "-f", (a.text or [TEXT])[0], "-c", a.ctx,
                         "--cache-type-k", k, "--cache-type-v", v)
        base = base or got["perplexity"]
        worse = got["perplexity"] / base - 1
        size = (row_bytes(k, a.ctx) + row_bytes(v, a.ctx)) / 2
        report(worse <= LIMITS.get(kind, 1), f"{kind}: perplexity {got['perplexity']:.4f} ({100 * worse:+.2f} %) of"
               f" {got['tokens_scored']} tokens, {size:.1f} bytes a row, {128 / size:.2f} times smaller than f16")


def tokens(trill, model, text):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
        f.write(text)
        f.flush()
        return trill_json(trill, "tokenize", "-m", model, "-f", f.name)


def needle(a, report):
    """A seed draws the sentence, what it is about, the 20 words, the text around it and where that begins."""
    one = lambda text: tokens(a.trill, a.model, text)
    texts = [one(open(path, encoding="utf-8", errors="replace").read()) for path in (a.text or [TEXT, SHORT])]
    single = {w: one(" " + w) for w in WORDS}
    words = [w for w in WORDS if len(single[w]) == 1]
    assert len({single[w][0] for w in words}) == len(words) >= 30
    kinds = a.types.split(",")
    totals = dict.fromkeys(kinds, 0)
    for seed in map(int, a.seeds.split(",")):
        draw = random.Random(seed)
        form, subject, hay = draw.choice(FORMS), draw.choice(SUBJECTS), draw.choice(texts)
        candidates = draw.sample(words, 20)
        begin = draw.randrange(len(hay) - a.tokens)
        hay = hay[begin:begin + a.tokens]
        question = one("\n" + form.format(subject))
        print(f"seed {seed}: '{form.format(subject)} ...', text from token {begin} on", flush=True)
        ranks = {kind: [] for kind in kinds}
        for depth in range(10):
            word = draw.choice(candidates)
            sentence = one(f"\n{form.format(subject)} {word}.\n")
            room = a.tokens - len(sentence) - len(question)
            at = room * depth // 10
            ids = hay[:at] + sentence + hay[at:room] + question
            for kind in kinds:
                k, v = both(kind)
                logits = trill_json(a.trill, "logits", "-m", a.model, "--tokens", ",".join(map(str, ids)),
                                    "--cache-type-k", k, "--cache-type-v", v)["logits"][0]
                logit = {w: logits[single[w][0]] for w in candidates}
                ranks[kind].append(1 + sum(other > logit[word] for other in logit.values()))
        for kind in kinds:
            found = ranks[kind].count(1)
            totals[kind] += found
            report(found == 10, f"{kind} seed {seed}: {found} of 10 needles found in {a.tokens} tokens; ranks of 20 by"
                   f" depth {' '.join(map(str, ranks[kind]))}")
    print("; ".join(f"{kind}: {found} of {10 * len(a.seeds.split(','))}" for kind, found in totals.items()))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", choices=["perplexity", "needle"])
    ap.add_argument("--trill", required=True, type=shlex.split)
    ap.add_argument("--model", required=True)
    ap.add_argument("--ctx", type=int, default=2048)
    ap.add_argument("--tokens", type=int, default=2000)
    ap.add_argument("--types", help="cache types; with different ones for keys and values: q4/q2")
    ap.add_argument("--text", action="append", help="another text than those of tests/data; for needles several")
    ap.add_argument("--seeds", default="1,2,3")
    a = ap.parse_args()
    a.types = a.types or {"perplexity": "q8,q4,q2", "needle": "f16,q4,q2"}[a.what]
    results = []

    def report(good, text):
        results.append(good)
        print("pass" if good else "FAIL", text, flush=True)

    (perplexity if a.what == "perplexity" else needle)(a, report)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
