#!/usr/bin/env python3
"""`trill convert` of SentencePiece vocabularies against the libraries they come from (PyPI `sentencepiece`, `tokenizers`;
development only).

  hf_tokenizers.py --trill target/release/trill [--vocab 4000] [--lines 10000]

SentencePiece learns a BPE model with byte fallback from the texts of tests/data and some of the lines of
tests/golden/token_lines.jsonl (ten languages, emoji, code, control characters, very long words). Its `tokenizer.model`, and
the same as a `tokenizer.json` with every way to put a token together as a merge, become two folders, and trill's token
ids on all lines have to be those of the library that reads the folder's file: the merges of tokenizer.json in
tokenizers, the model in SentencePiece. The last line is `N passed, N failed`.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile

import sentencepiece
import tokenizers

import hf

ROOT = os.path.join(os.path.dirname(__file__), "..")


def train(folder, size, lines):
    text = os.path.join(folder, "text")
    with open(text, "w", encoding="utf-8") as f:
        for name in ("english.txt", "alice-3-8.txt"):
            f.write(open(os.path.join(ROOT, "data", name), encoding="utf-8").read() + "\n")
        f.write("\n".join(t.replace("\n", " ").replace("\0", "") for t in lines[::5]))
    # As Llama was trained: nothing normalized, digits apart, bytes for rare characters.
    sentencepiece.SentencePieceTrainer.train(
        input=text, model_prefix=os.path.join(folder, "tokenizer"), vocab_size=size, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, character_coverage=0.995,
        allow_whitespace_only_pieces=True, max_sentence_length=1 << 20, minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))


def merges_of(model):
    """Every pair of tokens that makes a token, in the order of what they make."""
    ids = {model.id_to_piece(i): i for i in range(model.vocab_size())}
    pairs = [(-model.get_score(i), t[:k], t[k:]) for t, i in ids.items() if not (model.is_byte(i) or model.is_control(i))
             for k in range(1, len(t)) if t[:k] in ids and t[k:] in ids]
    return ids, [pair for _, *pair in sorted(pairs, key=lambda p: (p[0], ids[p[1]], ids[p[2]]))]


def convert(trill, folder, size):
    """The GGUF of a folder with this tokenizer and a small model."""
    maker = hf.Folder(folder, "llama", {**hf.SMALL, "vocab": size}, 0)
    maker.write_tokenizer = lambda: maker.json("tokenizer_config.json", dict(bos_token="<s>", eos_token="</s>"))
    maker.write()
    out = folder + ".gguf"
    hf.convert(trill, folder, out)
    return out


def differences(trill, path, lines, want):
    said = subprocess.run([*trill, "tokenize", "-m", path, "--jsonl"], capture_output=True, text=True,
                          input="".join(json.dumps(t) + "\n" for t in lines)).stdout.splitlines()
    odd = [(t, json.loads(got), want(t)) for t, got in zip(lines, said, strict=True) if json.loads(got) != want(t)]
    for text, got, right in odd[:3]:
        at = next((i for i, (a, b) in enumerate(zip(got, right)) if a != b), min(len(got), len(right)))
        print(f"  {text[:60]!r}: from token {at} on {got[at:at + 6]} where {right[at:at + 6]} is right")
    return len(odd)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--trill", required=True)
    ap.add_argument("--vocab", type=int, default=4000)
    ap.add_argument("--lines", type=int, default=10000)
    a = ap.parse_args()
    trill = shlex.split(a.trill)
    golden = open(os.path.join(ROOT, "golden", "token_lines.jsonl"), encoding="utf-8")
    lines = [json.loads(line)[0] for line in golden][:a.lines]
    failed = 0
    with tempfile.TemporaryDirectory() as tmp:
        model = train(tmp, a.vocab, lines)
        ids, merges = merges_of(model)
        for name in ("tokenizer.json", "tokenizer.model"):
            folder = os.path.join(tmp, "with-" + name)
            os.makedirs(folder)
            if name == "tokenizer.json":
                with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                    json.dump(hf.pieces_json(ids, merges), f, ensure_ascii=False)
                fast = tokenizers.Tokenizer.from_file(os.path.join(folder, name))
                want = lambda text: fast.encode(text).ids
            else:
                shutil.copy(os.path.join(tmp, name), folder)
                want = lambda text: [model.bos_id(), *model.encode(text)]
            odd = differences(trill, convert(trill, folder, a.vocab), lines, want)
            failed += odd > 0
            print("FAIL" if odd else "pass", f"{name}: {odd} of {len(lines)} lines differ", flush=True)
    print(f"{2 - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
