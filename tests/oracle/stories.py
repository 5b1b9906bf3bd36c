#!/usr/bin/env python3
"""The trained story model tests/data/stories-bitnet-I2_S.gguf: what the oracle makes of it, and whether trill agrees.

  stories.py golden                        writes tests/golden/stories.json (some minutes; needs `regex`)
  stories.py convert KIND OUT              the same model as TQ1_0, TQ2_0 or F16
  stories.py check --trill target/release/trill

Two stories told greedily, and the perplexity of tests/data/english.txt as llama-perplexity defines it: chunks
of CHUNK tokens, each with the first token replaced by BOS, predictions in the second half scored. The four
files hold the same weights (their scales are exact in f16), but each type rounds activations in its own way,
so there are golden values for each. A greedy text may leave the golden one where the oracle's two best
tokens were nearly equal, and only there. The last line of `check` is `N passed, N failed`.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile

import numpy as np

import forward
import gguf_file
import vocab
import weights

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
MODEL = os.path.join(TESTS, "data", "stories-bitnet-I2_S.gguf")
TEXT = os.path.join(TESTS, "data", "english.txt")
GOLDEN = os.path.join(TESTS, "golden", "stories.json")
KINDS = ["I2_S", "TQ1_0", "TQ2_0", "F16"]
PROMPTS = ["Once upon a time", "One day, a little dog"]
LENGTH, CHUNK, CHUNKS = 96, 256, 12
NEAR_TIE = 0.05  # logits; two engines differ by 0.01 to 0.02 on this model


def meta_types(value):
    """The GGUF type that a metadata value of the story model has."""
    if isinstance(value, list):
        return gguf_file.ARRAY, (meta_types(value[0])[0], value)
    kinds = {bool: gguf_file.BOOL, int: gguf_file.U32, float: gguf_file.F32, str: gguf_file.STRING}
    return kinds[type(value)], value


def convert(kind, out):
    meta, tensors = gguf_file.read(MODEL)
    file_type = {"TQ1_0": 36, "TQ2_0": 37, "F16": 1, "I2_S": 40}[kind]
    typed = []
    for key, value in meta.items():
        if key == "tokenizer.ggml.token_type":
            typed.append((key, gguf_file.ARRAY, (gguf_file.I32, value)))
        else:
            typed.append((key, *meta_types(file_type if key == "general.file_type" else value)))
    changed = []
    for t in tensors.values():
        if t.kind == "I2_S" and kind != "I2_S":
            q, d = weights.KINDS["I2_S"].unpack(t.data, *t.shape)
            assert np.float16(d[0, 0]) == d[0, 0], "the scale is not exact in f16"
            t = gguf_file.Tensor(t.name, kind, t.shape, weights.to_bytes(kind, q, d[0, 0]))
        changed.append(gguf_file.Tensor(t.name, t.kind, t.shape, bytes(t.data)))
    gguf_file.write(out, typed, changed)


def greedy(model, ids):
    """Tokens chosen, and how far ahead of the second best each was."""
    chosen, margins = [], []
    for _ in range(LENGTH):
        row = model.forward(ids + chosen, act="auto", kv="f16")[-1]
        second, best = np.argsort(row)[-2:]
        chosen.append(int(best))
        margins.append(round(float(row[best] - row[second]), 4))
        if best == model.meta["tokenizer.ggml.eos_token_id"]:
            break
    return chosen, margins


def nll(model, ids):
    """Mean negative log-likelihood of the scored predictions, and how many there are."""
    losses = []
    for at in range(0, CHUNK * CHUNKS, CHUNK):
        chunk = [model.meta["tokenizer.ggml.bos_token_id"]] + ids[at + 1:at + CHUNK]
        logits = model.forward(chunk, act="auto", kv="f16")
        for p in range(CHUNK // 2, CHUNK - 1):
            row = logits[p] - logits[p].max()
            losses.append(np.log(np.exp(row).sum()) - row[chunk[p + 1]])
    return float(np.mean(losses)), len(losses)


def excerpt(tok):
    """The longest beginning of TEXT, in whole lines, that fills CHUNKS chunks and starts no further one."""
    paragraphs, text = open(TEXT, encoding="utf-8").read().split("\n"), ""
    for p in paragraphs:
        if len(tok.encode(text + p)) >= CHUNK * (CHUNKS + 1):
            break
        text += p + "\n"
    ids = tok.encode(text)
    assert CHUNK * CHUNKS <= len(ids) < CHUNK * (CHUNKS + 1), len(ids)
    return text, ids


def golden():
    tok = vocab.Tokenizer(gguf_file.read(MODEL)[0])
    text, ids = excerpt(tok)
    out = {"text_bytes": len(text.encode()), "chunk": CHUNK, "chunks": CHUNKS, "kinds": {}}
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            path = os.path.join(folder, kind)
            convert(kind, path)
            model = forward.Model(path)
            mean, scored = nll(model, ids)
            stories = []
            for prompt in PROMPTS:
                chosen, margins = greedy(model, tok.encode(prompt))
                stories.append({"prompt": prompt, "ids": chosen, "margins": margins, "text": tok.decode(chosen)})
            out["kinds"][kind] = {"nll_mean": mean, "tokens_scored": scored, "perplexity": float(np.exp(mean)),
                                  "stories": stories}
            print(kind, np.exp(mean), scored, stories[0]["text"][:80])
    with open(GOLDEN, "w", encoding="utf-8") as f:
        json.dump(out, f, separators=(",", ":"))
        f.write("\n")


def trill_json(trill, *arguments):
    done = subprocess.run([*trill, *arguments, "--json"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def check_story(trill, path, story):
    """None, or what is wrong."""
    got = trill_json(trill, "run", "-m", path, "-p", story["prompt"], "-n", str(LENGTH), "--temp", "0")["token_ids"]
    want = story["ids"]
    got = got + want[len(got):len(got) + 1]  # the end-of-text token itself need not be reported
    for i, (a, b) in enumerate(zip(got, want)):
        if a != b:
            near = story["margins"][i] < NEAR_TIE
            return None if near else f"token {i} is {a}, not {b}, which led by {story['margins'][i]}"
    return None if len(got) >= len(want) else f"stopped after {len(got)} of {len(want)} tokens"


def check(trill):
    want = json.load(open(GOLDEN, encoding="utf-8"))
    results = []

    def report(name, problem):
        results.append(problem is None)
        print("pass" if problem is None else "FAIL", name, problem or "")

    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text.txt")
        with open(TEXT, "rb") as source, open(text, "wb") as f:
            f.write(source.read()[:want["text_bytes"]])
        for kind, values in want["kinds"].items():
            path = os.path.join(folder, kind)
            convert(kind, path)
            for story in values["stories"]:
                report(f"{kind}: {story['prompt']}...", check_story(trill, path, story))
            got = trill_json(trill, "perplexity", "-m", path, "-f", text, "-c", str(want["chunk"]))
            off = abs(got["perplexity"] / values["perplexity"] - 1)
            problem = f"{got} for {values['perplexity']}" if off > 0.002 or got["chunks"] != want["chunks"] else None
            report(f"{kind}: perplexity {got['perplexity']:.4f}, the oracle's {values['perplexity']:.4f}", problem)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(not all(results))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="command", required=True)
    sub.add_parser("golden")
    c = sub.add_parser("convert")
    c.add_argument("kind", choices=KINDS)
    c.add_argument("out")
    sub.add_parser("check").add_argument("--trill", required=True)
    a = ap.parse_args()
    if a.command == "golden":
        golden()
    elif a.command == "convert":
        convert(a.kind, a.out)
    else:
        check(shlex.split(a.trill))


if __name__ == "__main__":
    main()
