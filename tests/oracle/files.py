#!/usr/bin/env python3
"""Published files, files of one seed, and files that must be refused, through the real binary.

  files.py --trill target/release/trill [--full]

- The 2B-4T file's metadata as published (make_2b4t.py, small): `inspect` shows what was put right. (chat.py
  holds the conversations.)
- I2_S, TQ1_0, TQ2_0 and Q2_0 files of one seed tell the same greedy text, up to near-ties.
- What trill cannot compute is refused with exit code 65 and one line that names what and why.
- `--full`: the file of 2B-4T's whole shape has the 24 keys and 332 tensors of the published one, loads in under a
  second and takes the memory that `inspect` says.

The last line is `N passed, N failed`. Needs numpy and regex.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

import numpy as np

import forward
import gguf_file as g
import make_2b4t
import make_model
import vocab


def call(trill, *arguments):
    return subprocess.run([*trill, *arguments], capture_output=True, text=True)


def answer(trill, *arguments):
    done = call(trill, *arguments, "--json")
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr.strip()[-300:]}"
    return json.loads(done.stdout)


# ---------------------------------------------------------------- the published file

def repairs_are_shown(trill, folder):
    path = os.path.join(folder, "2b4t.gguf")
    make_2b4t.make(path, small=True)
    said = {r["what"]: r for r in answer(trill, "inspect", path)["repairs"]}
    assert set(said) == {"tokenizer.ggml.pre", "tokenizer.chat_template", "stop tokens"}, set(said)
    assert said["tokenizer.ggml.pre"]["to"] == "llama-bpe" and said["tokenizer.ggml.pre"]["from"] == ""
    assert "BITNETAssistant" in said["tokenizer.chat_template"]["from"]
    assert "BITNETAssistant" not in said["tokenizer.chat_template"]["to"]
    assert said["stop tokens"]["to"] == "<|eot_id|>" and all(r["why"] for r in said.values())
    tokenizer = answer(trill, "inspect", path)["tokenizer"]
    assert tokenizer["pre"] == "llama-bpe" and {128001, 128009} <= set(tokenizer["ends"]), tokenizer


# ggml-model-i2_s.gguf at revision a1f2f1c7 of microsoft/bitnet-b1.58-2B-4T-gguf: its keys in their order. [n] is an array
# of n entries, a tuple what a text contains.
A = "bitnet-b1.58."
PUBLISHED_KEYS = [
    ("general.architecture", "bitnet-b1.58"), ("general.name", "bitnet2b"), (A + "vocab_size", 128256),
    (A + "context_length", 4096), (A + "embedding_length", 2560), (A + "block_count", 30),
    (A + "feed_forward_length", 6912), (A + "rope.dimension_count", 128), (A + "attention.head_count", 20),
    (A + "attention.head_count_kv", 5), ("tokenizer.ggml.add_bos_token", True),
    (A + "attention.layer_norm_rms_epsilon", 1e-5), (A + "rope.freq_base", 5e5), ("general.file_type", 40),
    ("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.tokens", [128256]), ("tokenizer.ggml.scores", [128256]),
    ("tokenizer.ggml.token_type", [128256]), ("tokenizer.ggml.merges", [280147]),
    ("tokenizer.ggml.bos_token_id", 128000), ("tokenizer.ggml.eos_token_id", 128001),
    ("tokenizer.ggml.padding_token_id", 128001), ("tokenizer.chat_template", ("Human: ", "\\n\\nBITNETAssistant: ")),
    ("general.quantization_version", 2),
]


def the_published_file_has_its_keys(path):
    """That the whole file of make_2b4t.py is the published one but for its weights and most of its vocabulary."""
    meta, tensors = g.read(path)
    assert list(meta) == [k for k, _ in PUBLISHED_KEYS] and len(meta) == 24, list(meta)
    for key, want in PUBLISHED_KEYS:
        got = meta[key]
        if key == "tokenizer.chat_template":
            assert all(part in got for part in want) and "eot_id" not in got, got
        elif isinstance(want, list):
            assert [len(got)] == want, (key, len(got))
        else:
            assert got == (np.float32(want) if isinstance(want, float) else want), (key, got)
    assert not any(meta["tokenizer.ggml.scores"])
    special = {128000: "<|begin_of_text|>", 128001: "<|end_of_text|>", 128009: "<|eot_id|>"}
    assert all(meta["tokenizer.ggml.tokens"][i] == t for i, t in special.items())
    kinds = [t.kind for t in tensors.values()]
    assert [kinds.count(k) for k in ("F32", "F16", "I2_S")] == [121, 1, 210] and len(kinds) == 332
    size = lambda kind: sum(len(t.data) for t in tensors.values() if t.kind == kind)
    assert (size("I2_S") - 210 * 32, size("F16"), size("F32")) == (521_011_200, 656_670_720, 1_761_280)
    assert sum(int(np.prod(t.shape)) for t in tensors.values()) == 2_412_820_480


# ---------------------------------------------------------------- one seed, several types

def files_of_one_seed_tell_one_text(trill, folder):
    for seed in range(5):
        texts = {}
        for kind in ("I2_S", "TQ1_0", "TQ2_0", "Q2_0"):
            path = os.path.join(folder, kind)
            make_model.make(path, type=kind, seed=seed)
            got = answer(trill, "run", "-m", path, "-p", "The small machine", "-n", "16", "--temp", "0", "--ignore-eos")
            texts[kind] = got["token_ids"]
        model = forward.Model(path)
        ids = vocab.Tokenizer(model.meta).encode("The small machine")
        for kind, text in texts.items():
            for i, (a, b) in enumerate(zip(texts["I2_S"], text)):
                if a != b:
                    row = model.forward(ids + text[:i])[-1]
                    gap = abs(row[a] - row[b]) / row.std()
                    assert gap < 0.1, f"seed {seed}, {kind}: token {i} is {b}, not {a}, {gap:.2f} deviations away"
                    break


# ---------------------------------------------------------------- refusals

def refused(trill, path, *says):
    done = call(trill, "run", "-m", path, "-p", "x", "-n", "1")
    line = done.stderr.strip()
    assert done.returncode == 65, f"exit {done.returncode} for a file that should say {says}: {line[-300:]}"
    assert line.count("\n") == 0 and all(s.lower() in line.lower() for s in says), f"{says}: {line}"


def broken(folder, change, **flags):
    """A test model with `change(metadata, tensors)` done to it."""
    m = make_model.Maker(make_model.Options(**{"type": "TQ2_0", **flags}))
    meta, tensors = m.metadata(), m.model()
    path = os.path.join(folder, "broken.gguf")
    g.write(path, *change(meta, tensors))
    return path


def with_type(path, was, number):
    """The file with every tensor record of type `was` saying `number`."""
    raw = bytearray(open(path, "rb").read())
    for name in re.finditer(rb"blk\.\d+\.[a-z_]+\.weight", bytes(raw)):
        n_dims = int.from_bytes(raw[name.end():name.end() + 4], "little")
        at = name.end() + 4 + 8 * n_dims
        if raw[at:at + 4] == was.to_bytes(4, "little"):
            raw[at:at + 4] = number.to_bytes(4, "little")
    open(path, "wb").write(raw)
    return path


def types_without_a_meaning_are_refused(trill, folder):
    for number, says in ((38, ("TL1", "I2_S")), (39, ("TL2", "MXFP4")), (40, ("NVFP4",)), (4711, ("4711",))):
        path = with_type(broken(folder, lambda m, t: (m, t)), 35, number)
        refused(trill, path, *says)


def other_faults_are_refused(trill, folder):
    def key(name, value):
        return lambda m, t: ([(k, ty, value if k == name else v) for k, ty, v in m], t)

    def tensor(name, shape=None):
        def change(m, t):
            out = []
            for x in t:
                if x.name != name:
                    out.append(x)
                elif shape:
                    out.append(g.Tensor(name, "F32", shape, bytes(4 * int(np.prod(shape)))))
            return m, out
        return change

    refused(trill, broken(folder, key("general.architecture", "mamba")), "mamba", "supported")
    refused(trill, broken(folder, key("tokenizer.ggml.pre", "klingon")), "klingon")
    refused(trill, broken(folder, tensor("blk.1.ffn_up.weight")), "blk.1.ffn_up.weight", "missing")
    refused(trill, broken(folder, tensor("blk.0.attn_norm.weight", (128,))), "blk.0.attn_norm.weight", "128", "256")
    refused(trill, broken(folder, lambda m, t: (m, t + [g.Tensor("blk.0.odd.weight", "F32", (4,), bytes(16))])),
            "blk.0.odd.weight")
    refused(trill, broken(folder, lambda m, t: (m + [("prism.hadamard.version", g.U32, 1)], t)), "prism.hadamard")


# ---------------------------------------------------------------- the whole shape

def the_whole_shape_loads(trill, folder):
    path = os.path.join(folder, "full.gguf")
    make_2b4t.make(path)
    the_published_file_has_its_keys(path)
    says = answer(trill, "inspect", path, "-c", "4096")["memory"]["peak_bytes"]
    loaded, peak = [], 0
    for _ in range(3):
        done = call(trill, "run", "-m", path, "-p", "x", "-n", "1", "-c", "4096", "-v")
        assert done.returncode == 0, done.stderr
        loaded.append(float(re.search(r"loaded in ([\d.]+) s", done.stderr)[1]))
        peak = max(peak, int(re.search(r"peak memory beyond files: .*\((\d+) bytes\)", done.stderr)[1]))
    print(f"     loaded in {min(loaded)} s; {peak >> 20} MiB beyond the file, inspect says {says >> 20}")
    assert min(loaded) < 1.0, loaded
    assert 0.9 * says < peak <= says, (peak, says)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--trill", required=True)
    ap.add_argument("--full", action="store_true", help="also the 1.2 GB file")
    a = ap.parse_args()
    tests = [repairs_are_shown, files_of_one_seed_tell_one_text,
             types_without_a_meaning_are_refused, other_faults_are_refused]
    tests += [the_whole_shape_loads] if a.full else []
    failed = 0
    for t in tests:
        with tempfile.TemporaryDirectory() as folder:
            try:
                t(shlex.split(a.trill), folder)
                print("pass", t.__name__, flush=True)
            except AssertionError as e:
                failed += 1
                print("FAIL", t.__name__, e, flush=True)
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
