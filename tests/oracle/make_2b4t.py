#!/usr/bin/env python3
"""Writes microsoft/bitnet-b1.58-2B-4T-gguf as it was published, with random weights.

  make_2b4t.py OUT            the whole shape, 1.2 GB
  make_2b4t.py OUT --small    the same 24 keys and vocabulary over two layers of width 128
  make_2b4t.py OUT --active 20   weights with which some 20 % of the feed-forward gates are positive

Random weights leave half of the gates positive. `--active` gives all tokens one value in 16 columns of the residual
stream, which every gate row weighs with one sign, and chooses that weight (in the norm before it) for the share
that is wanted. Halves of layers add little to the stream, so that it lasts through all layers.

All 24 keys in the file's order, faults included: no tokenizer.ggml.pre, a chat template the model was not
trained with, one of two stop tokens. The shape keys of `--small` say what the file holds. The vocabulary
has the published size (128256 tokens, 280147 merges, Llama 3's special tokens at their ids) and made-up
entries, so that loading costs what it costs with the real one.
"""

import argparse
import functools
import statistics

import numpy as np

import gguf_file as g
import vocab

FULL = dict(layers=30, hidden=2560, heads=20, kv_heads=5, ffn=6912)
SMALL = dict(layers=2, hidden=128, heads=2, kv_heads=1, ffn=256)
N_VOCAB, N_MERGES, FIRST_SPECIAL = 128256, 280147, 128000
PIECE = 1 << 24
# For --active: columns that all tokens share, their value, the spread of the other columns, and what a half-layer adds.
SHARED, SHARED_VALUE, EMBD_SPREAD, ADDED_SPREAD = 16, 0.06, 0.03, 0.006

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


def shared_embedding(rng, rows, cols):
    """The same with SHARED columns of one value."""
    piece = (rng.standard_normal((min(rows, 3000), cols), dtype=np.float32) * np.float32(EMBD_SPREAD)).astype("<f2")
    for at in range(0, rows, len(piece)):
        part = np.roll(piece, int(rng.integers(piece.size)))
        part[:, :SHARED] = SHARED_VALUE
        yield part[:rows - at].tobytes()


def ternary(rng, n, cols, spread=1.0, shared=None):
    """`spread`: of the results, for inputs of spread 1. `shared`: code of the first SHARED columns of every row."""
    rows = PIECE // (cols // 4) * (cols // 4)
    for at in range(0, n // 4, rows):
        codes = EVEN_TO_CODES[np.frombuffer(rng.bytes(min(rows, n // 4 - at)), np.uint8)]
        if shared is not None:
            # Bytes 0 to 31 of a row hold columns 0 to 31 in their top bits.
            first = codes.reshape(-1, cols // 4)[:, :SHARED]
            first[:] = first & 0x3f | shared << 6
        yield codes.tobytes()
    tail = np.zeros(8, "<f4")
    tail[0] = np.float16(rng.uniform(0.9, 1.1) * (2 / cols) ** 0.5 * spread)
    yield tail.tobytes()


def shared_norm(s, layer, active):
    """The norm's weight of the SHARED columns for which `active` percent of the gates are positive."""
    others = s["hidden"] - SHARED
    spread = (EMBD_SPREAD ** 2 + (2 * layer + 1) * ADDED_SPREAD ** 2) ** 0.5
    quantile = statistics.NormalDist().inv_cdf(active / 100)
    return abs(quantile) * (others / 2) ** 0.5 * spread / (SHARED * SHARED_VALUE), 2 if quantile > 0 else 0


def tensors(s, seed, active=None):
    rng, out = np.random.default_rng(seed), []
    d = s["hidden"] // s["heads"] * s["kv_heads"]

    def norm(name, n, shared=None):
        w = (1 + 0.1 * rng.standard_normal(n)).astype("<f4")
        w[:SHARED] = w[:SHARED] if shared is None else shared
        out.append(g.Tensor(name + ".weight", "F32", (n,), w.tobytes()))

    def linear(name, rows, cols, **more):
        data = functools.partial(ternary, rng, rows * cols, cols, **more)
        out.append(g.Tensor(name + ".weight", "I2_S", (rows, cols), data))

    data = functools.partial(embedding, rng, N_VOCAB * s["hidden"])
    adds, gate = {}, {}
    if active is not None:
        data = functools.partial(shared_embedding, rng, N_VOCAB, s["hidden"])
        adds = dict(spread=ADDED_SPREAD)
    out.append(g.Tensor("token_embd.weight", "F16", (N_VOCAB, s["hidden"]), data))
    for i in range(s["layers"]):
        b, shared = f"blk.{i}.", None
        if active is not None:
            shared, code = shared_norm(s, i, active)
            gate = dict(shared=code)
        norm(b + "attn_norm", s["hidden"])
        linear(b + "ffn_down", s["hidden"], s["ffn"], **adds)
        norm(b + "ffn_sub_norm", s["ffn"])
        linear(b + "ffn_gate", s["ffn"], s["hidden"], **gate)
        linear(b + "ffn_up", s["ffn"], s["hidden"])
        norm(b + "ffn_norm", s["hidden"], shared)
        norm(b + "attn_sub_norm", s["hidden"])
        linear(b + "attn_k", d, s["hidden"])
        linear(b + "attn_output", s["hidden"], s["hidden"], **adds)
        linear(b + "attn_q", s["hidden"], s["hidden"])
        linear(b + "attn_v", d, s["hidden"])
    norm("output_norm", s["hidden"])
    return out


def make(path, small=False, seed=0, active=None):
    shape = SMALL if small else FULL
    g.write(path, metadata(shape), tensors(shape, seed, active))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("--small", action="store_true")
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--active", type=float, metavar="PERCENT")
    a = ap.parse_args()
    make(a.out, a.small, a.seed, a.active)


if __name__ == "__main__":
    main()
