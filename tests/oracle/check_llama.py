#!/usr/bin/env python3
"""Holds the oracle against llama.cpp (PyPI `llama-cpp-python`, development only).

One line for each model: rms of the difference of the logits over their standard deviation, and how many
positions choose the same token. Ends with a line `N passed, N failed`.
"""

import os
import sys
import tempfile

import numpy as np
from llama_cpp import Llama

import forward
import make_model

SHAPE = dict(layers=2, hidden=256, heads=4, kv_heads=2, ffn=512, vocab=509)
ARCHS = ["llama", "qwen2", "qwen3", "phi3", "gemma3", "hunyuan-dense", "minicpm", "bitnet"]
# weight type -> (activation form of llama.cpp's kernel, rms allowed)
EXACT = {"F32": ("none", 2e-5)}
QUANTIZED = {"F16": ("f16", 2e-3), "Q8_0": ("q8_0h", 5e-3), "TQ1_0": ("q8k", 1e-2), "TQ2_0": ("q8k", 1e-2),
             "Q1_0": ("q8_0h", 1e-2), "Q2_0": ("q8_0h", 1e-2), "Q4_0": ("q8_0h", 1e-2)}
VARIANTS = [
    dict(arch="llama", rope_scaling="linear"), dict(arch="qwen3", rope_scaling="yarn"),
    dict(arch="phi3", rope_scaling="longrope", ctx=1024), dict(arch="gemma3", window=8, layers=7),
    dict(arch="gemma3", window=8, layers=7, rope_scaling="linear"), dict(arch="qwen3", head_dim=80, heads=8),
    dict(arch="gemma3", head_dim=128, kv_heads=1), dict(arch="bitnet", scale_tensors=True),
    dict(arch="llama", rope_scaling="llama3"), dict(arch="hunyuan-dense", rope_base=11158840.0),
    dict(arch="llama", heads=8, kv_heads=1, hidden=512), dict(arch="minicpm", hidden=1280, heads=16, kv_heads=2),
]


def llama_logits(path, tokens, ctx):
    m = Llama(path, n_ctx=ctx, n_batch=ctx, logits_all=True, type_k=0, type_v=0, flash_attn=False, n_threads=2,
              verbose=False)
    m.eval(tokens)
    out = np.array(m.scores[:len(tokens)], np.float64)
    m.close()
    return out


def compare(path, act, limit, ctx, label):
    tokens = np.random.default_rng(1).integers(0, SHAPE["vocab"] - 8, 24).tolist()
    want = llama_logits(path, tokens, ctx)
    got = forward.Model(path, ctx).forward(tokens, act=act, head="f16" if act != "none" else "none")
    rms = np.sqrt(((got - want) ** 2).mean()) / want.std()
    same = int((got.argmax(1) == want.argmax(1)).sum())
    if "gemma3" in label:  # ggml looks GELU up in a table of f16 values
        limit = max(1e-3, 2 * limit)
    good = rms < limit
    print(f"{'pass' if good else 'FAIL'} {label:60} rms {rms:.1e} of {limit:.0e}, same choice {same}/{len(tokens)}",
          flush=True)
    return good


def main():
    results = []
    cases = [(dict(arch=a, type=t, embd="F32" if t == "F32" else "F16"), *how)
             for t, how in {**EXACT, **QUANTIZED}.items() for a in ARCHS]
    cases += [(dict(type="F32", embd="F32", **v), "none", 2e-5) for v in VARIANTS]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.gguf")
        for flags, act, limit in cases:
            make_model.make(path, **{**SHAPE, **flags})
            contexts = [1024, 256] if flags.get("rope_scaling") == "longrope" else [256]
            for ctx in contexts:
                label = " ".join(f"{k}={v}" for k, v in flags.items() if k != "embd") + f" ctx={ctx}"
                results.append(compare(path, act, limit, ctx, label))
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
