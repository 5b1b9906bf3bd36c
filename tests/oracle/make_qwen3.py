#!/usr/bin/env python3
"""Writes a model of the shape of Qwen3-1.7B with random weights in one weight type, to measure speed with.

  make_qwen3.py OUT --type Q1_0|Q2_0|TQ2_0 [--layers 28]

28 layers, 2048 hidden, 6144 in the feed-forward layer, 16 heads and 8 of keys and values of 128, 151936 tokens, head
tied to the embedding. Every matrix, the embedding too, is of the type; each block has a scale of its own, so nothing can
be packed as if there were one. Pieces are drawn once and rolled: a file takes seconds, and never lies in memory whole.
"""

import argparse
import functools

import numpy as np

import gguf_file as g
import vocab
import weights

LAYERS, HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, N_VOCAB = 28, 2048, 6144, 16, 8, 128, 151936
PIECE = 1 << 22

# Two bits drawn evenly -> codes 0, 1, 1, 2: a quarter of each sign, half zeros. One table for a whole byte.
EVEN_TO_CODES = np.array([sum((0, 1, 1, 2)[b >> s & 3] << s for s in (0, 2, 4, 6)) for b in range(256)], np.uint8)
SCALE_AT = {"Q1_0": 0, "Q2_0": 0, "TQ2_0": 64}


def metadata(layers):
    p, t = "qwen3.", "tokenizer.ggml."
    tokens, merges, types, ids = small_vocabulary()
    return [
        ("general.architecture", g.STRING, "qwen3"),
        ("general.name", g.STRING, "Qwen3-1.7B shape, random weights"),
        (p + "block_count", g.U32, layers),
        (p + "context_length", g.U32, 40960),
        (p + "embedding_length", g.U32, HIDDEN),
        (p + "feed_forward_length", g.U32, FFN),
        (p + "attention.head_count", g.U32, HEADS),
        (p + "attention.head_count_kv", g.U32, KV_HEADS),
        (p + "attention.key_length", g.U32, HEAD_DIM),
        (p + "attention.value_length", g.U32, HEAD_DIM),
        (p + "attention.layer_norm_rms_epsilon", g.F32, 1e-6),
        (p + "rope.freq_base", g.F32, 1e6),
        (t + "model", g.STRING, "gpt2"),
        (t + "pre", g.STRING, "qwen2"),
        (t + "tokens", g.ARRAY, (g.STRING, tokens)),
        (t + "token_type", g.ARRAY, (g.I32, types)),
        (t + "merges", g.ARRAY, (g.STRING, merges)),
        (t + "bos_token_id", g.U32, ids),
        (t + "eos_token_id", g.U32, ids),
        (t + "add_bos_token", g.BOOL, False),
        ("general.quantization_version", g.U32, 2),
    ]


def small_vocabulary():
    """Bytes, a few learned merges, and names for the rest."""
    pairs = vocab.learn_merges(300)
    tokens = [vocab.LETTER[b] for b in range(256)] + [a + b for a, b in pairs]
    tokens = list(dict.fromkeys(tokens))
    end = len(tokens)
    tokens += ["<|endoftext|>"] + [f"[unused{i}]" for i in range(N_VOCAB - end - 1)]
    types = [vocab.NORMAL] * end + [vocab.CONTROL] + [vocab.UNUSED] * (N_VOCAB - end - 1)
    return tokens, [f"{a} {b}" for a, b in pairs], types, end


def blocks(rng, kind, cols):
    """One piece of whole rows: random codes, and scales that differ from block to block."""
    k = weights.KINDS[kind]
    n = max(PIECE // cols, 1) * cols // k.block
    data = np.frombuffer(rng.bytes(n * k.bytes), np.uint8).reshape(n, k.bytes).copy()
    if kind != "Q1_0":
        data = EVEN_TO_CODES[data]
    scales = rng.uniform(0.9, 1.1, n) * (2 / cols) ** 0.5
    data[:, SCALE_AT[kind]:SCALE_AT[kind] + 2] = scales.astype("<f2").view(np.uint8).reshape(n, 2)
    return data


def matrix(pieces, shift, kind, rows, cols):
    piece = pieces[cols]
    left = rows * cols // weights.KINDS[kind].block
    rolled = np.roll(piece, shift, axis=0)
    while left > 0:
        yield rolled[:left].tobytes()
        left -= len(rolled)


def tensors(kind, layers, seed):
    rng, out = np.random.default_rng(seed), []
    pieces = {cols: blocks(rng, kind, cols) for cols in (HIDDEN, FFN)}

    def norm(name, n):
        out.append(g.Tensor(name + ".weight", "F32", (n,), (1 + 0.1 * rng.standard_normal(n)).astype("<f4").tobytes()))

    def linear(name, rows, cols):
        data = functools.partial(matrix, pieces, int(rng.integers(1 << 20)), kind, rows, cols)
        out.append(g.Tensor(name + ".weight", kind, (rows, cols), data))

    linear("token_embd", N_VOCAB, HIDDEN)
    norm("output_norm", HIDDEN)
    for i in range(layers):
        b = f"blk.{i}."
        norm(b + "attn_norm", HIDDEN)
        linear(b + "attn_q", HEADS * HEAD_DIM, HIDDEN)
        linear(b + "attn_k", KV_HEADS * HEAD_DIM, HIDDEN)
        linear(b + "attn_v", KV_HEADS * HEAD_DIM, HIDDEN)
        norm(b + "attn_q_norm", HEAD_DIM)
        norm(b + "attn_k_norm", HEAD_DIM)
        linear(b + "attn_output", HIDDEN, HEADS * HEAD_DIM)
        norm(b + "ffn_norm", HIDDEN)
        linear(b + "ffn_gate", FFN, HIDDEN)
        linear(b + "ffn_up", FFN, HIDDEN)
        linear(b + "ffn_down", HIDDEN, FFN)
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("--type", choices=SCALE_AT, required=True)
    ap.add_argument("--layers", type=int, default=LAYERS)
    ap.add_argument("--seed", type=int, default=0)
    a = ap.parse_args()
    g.write(a.out, metadata(a.layers), tensors(a.type, a.layers, a.seed))


if __name__ == "__main__":
    main()
