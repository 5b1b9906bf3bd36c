#!/usr/bin/env python3
"""Writes microsoft/bitnet-b1.58-2B-4T-gguf as it was published, with random weights.

  make_2b4t.py OUT            the whole shape, 1.2 GB
  make_2b4t.py OUT --small    the same 24 keys and vocabulary over two layers of width 128

All 24 keys in the file's order, faults included: no tokenizer.ggml.pre, a chat template the model was not
trained with, one of two stop tokens. The shape keys of `--small` say what the file holds. The vocabulary
has the published size (128256 tokens, 280147 merges, Llama 3's special tokens at their ids) and made-up
entries, so that loading costs what it costs with the real one.
"""

import argparse
import functools

import numpy as np

import gguf_file as g
import vocab

FULL = dict(layers=30, hidden=2560, heads=20, kv_heads=5, ffn=6912)
SMALL = dict(layers=2, hidden=128, heads=2, kv_heads=1, ffn=256)
N_VOCAB, N_MERGES, FIRST_SPECIAL = 128256, 280147, 128000
PIECE = 1 << 24

# What the converter wrote; the model was trained with another one.
PUBLISHED_TEMPLATE = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}{% if message['role'] == 'user' %}"
    "{{ 'Human: ' + message['content'] + '\\n\\nBITNETAssistant: ' + eos_token }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}")

# Two bits drawn evenly -> codes 0, 1, 1, 2: a quarter of each sign, half zeros. One table for a whole byte.
EVEN_TO_CODES = np.array([sum((0, 1, 1, 2)[b >> s & 3] << s for s in (0, 2, 4, 6)) for b in range(256)], np.uint8)


def special_tokens():
    """Llama 3's 256, ids 128000 to 128255."""
    named = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 6: "<|start_header_id|>", 7: "<|end_header_id|>",
             9: "<|eot_id|>"}
    spare = iter(range(256))
    return [named.get(i) or f"<|reserved_special_token_{next(spare)}|>" for i in range(256)]


def vocabulary():
    """Bytes, the merges learned from vocab.TEXT, then all pairs of 50 letters, triples, and quadruples, with
    every way to join each from shorter ones, until both counts are met."""
    merges = [f"{a} {b}" for a, b in vocab.learn_merges(300)]
    tokens = dict.fromkeys([vocab.LETTER[b] for b in range(256)] + [m.replace(" ", "") for m in merges])
    letters = [vocab.LETTER[b] for b in b"etaoinshrdlucmfwypvbgkjqxzETAOINSHRDLUCMFWYPVBGKJQ"]
    known = set(merges)

    def add(word):
        if word not in tokens:
            tokens[word] = None
        for i in range(1, len(word)):
            m = f"{word[:i]} {word[i:]}"
            if m not in known:
                known.add(m)
                merges.append(m)

    for a in letters:
        for b in letters:
            add(a + b)
    triples = (a + b + c for a in letters for b in letters for c in letters)
    # A triple is two merges, a quadruple three: what is left over decides how many there are of each.
    quadruples = N_MERGES - len(merges) - 2 * (FIRST_SPECIAL - len(tokens)) - 60
    while len(tokens) < FIRST_SPECIAL - quadruples:
        add(next(triples))
    for word in (a + b + c + d for a in letters[:30] for b in letters[:30] for c in letters[:30] for d in letters[:30]):
        if len(tokens) == FIRST_SPECIAL or len(merges) > N_MERGES - 3:
            break
        add(word)
    tokens = list(tokens)
    tokens += [f"[unused{i}]" for i in range(FIRST_SPECIAL - len(tokens))]
    words = iter(t for t in tokens[256:] if len(t) > 1 and not t.startswith("[unused"))
    present = set(tokens)
    while len(merges) < N_MERGES:  # the last few: more ways to join the learned tokens
        t = next(words)
        for i in range(1, len(t)):
            m = f"{t[:i]} {t[i:]}"
            if len(merges) < N_MERGES and m not in known and t[:i] in present and t[i:] in present:
                known.add(m)
                merges.append(m)
    return tokens + special_tokens(), merges[:N_MERGES]


def metadata(s):
    p, t = "bitnet-b1.58.", "tokenizer.ggml."
    tokens, merges = vocabulary()
    types = [vocab.NORMAL] * FIRST_SPECIAL + [vocab.CONTROL] * 256
    return [
        ("general.architecture", g.STRING, "bitnet-b1.58"),
        ("general.name", g.STRING, "bitnet2b"),
        (p + "vocab_size", g.U32, N_VOCAB),
        (p + "context_length", g.U32, 4096),
        (p + "embedding_length", g.U32, s["hidden"]),
        (p + "block_count", g.U32, s["layers"]),
        (p + "feed_forward_length", g.U32, s["ffn"]),
        (p + "rope.dimension_count", g.U32, s["hidden"] // s["heads"]),
        (p + "attention.head_count", g.U32, s["heads"]),
        (p + "attention.head_count_kv", g.U32, s["kv_heads"]),
        (t + "add_bos_token", g.BOOL, True),
        (p + "attention.layer_norm_rms_epsilon", g.F32, 1e-5),
        (p + "rope.freq_base", g.F32, 500000.0),
        ("general.file_type", g.U32, 40),
        (t + "model", g.STRING, "gpt2"),
        (t + "tokens", g.ARRAY, (g.STRING, tokens)),
        (t + "scores", g.ARRAY, (g.F32, [0.0] * N_VOCAB)),
        (t + "token_type", g.ARRAY, (g.I32, types)),
        (t + "merges", g.ARRAY, (g.STRING, merges)),
        (t + "bos_token_id", g.U32, 128000),
        (t + "eos_token_id", g.U32, 128001),
        (t + "padding_token_id", g.U32, 128001),
        ("tokenizer.chat_template", g.STRING, PUBLISHED_TEMPLATE),
        ("general.quantization_version", g.U32, 2),
    ]


def embedding(rng, n):
    """One random piece, rolled by another amount each time: numbers by the million in no time."""
    piece = (rng.standard_normal(min(n, PIECE // 2), dtype=np.float32) * np.float32(0.03)).astype("<f2")
    for at in range(0, n, len(piece)):
        yield np.roll(piece, int(rng.integers(len(piece))))[:n - at].tobytes()


def ternary(rng, n, cols):
    for at in range(0, n // 4, PIECE):
        yield EVEN_TO_CODES[np.frombuffer(rng.bytes(min(PIECE, n // 4 - at)), np.uint8)].tobytes()
    tail = np.zeros(8, "<f4")
    tail[0] = np.float16(rng.uniform(0.9, 1.1) * (2 / cols) ** 0.5)
    yield tail.tobytes()


def tensors(s, seed):
    rng, out = np.random.default_rng(seed), []
    d = s["hidden"] // s["heads"] * s["kv_heads"]

    def norm(name, n):
        w = (1 + 0.1 * rng.standard_normal(n)).astype("<f4")
        out.append(g.Tensor(name + ".weight", "F32", (n,), w.tobytes()))

    def linear(name, rows, cols):
        out.append(g.Tensor(name + ".weight", "I2_S", (rows, cols), functools.partial(ternary, rng, rows * cols, cols)))

    data = functools.partial(embedding, rng, N_VOCAB * s["hidden"])
    out.append(g.Tensor("token_embd.weight", "F16", (N_VOCAB, s["hidden"]), data))
    for i in range(s["layers"]):
        b = f"blk.{i}."
        norm(b + "attn_norm", s["hidden"])
        linear(b + "ffn_down", s["hidden"], s["ffn"])
        norm(b + "ffn_sub_norm", s["ffn"])
        linear(b + "ffn_gate", s["ffn"], s["hidden"])
        linear(b + "ffn_up", s["ffn"], s["hidden"])
        norm(b + "ffn_norm", s["hidden"])
        norm(b + "attn_sub_norm", s["hidden"])
        linear(b + "attn_k", d, s["hidden"])
        linear(b + "attn_output", s["hidden"], s["hidden"])
        linear(b + "attn_q", s["hidden"], s["hidden"])
        linear(b + "attn_v", d, s["hidden"])
    norm("output_norm", s["hidden"])
    return out


def make(path, small=False, seed=0):
    shape = SMALL if small else FULL
    g.write(path, metadata(shape), tensors(shape, seed))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("--small", action="store_true")
    ap.add_argument("--seed", type=int, default=0)
    a = ap.parse_args()
    make(a.out, a.small, a.seed)


if __name__ == "__main__":
    main()
