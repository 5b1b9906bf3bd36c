#!/usr/bin/env python3
"""Makes tests/golden/smollm2.json: what llama.cpp computes for SmolLM2-135M-Instruct (Q4_1).

    python tests/golden/make_smollm2_golden.py MODEL.gguf OUT.json      (make golden)

Needs llama-cpp-python. Numbers only go into the file: greedy ids with the gap between the two best logits at
each step, a sample of the logits of 64 positions, and the perplexity of tests/data/english.txt as
llama-perplexity counts it.

Greedy ids and logits are made twice. `f32` is the same model with its weights decoded to F32, where two engines
differ by the rounding of sums only. `file` is the file as it is, where activations are rounded to int8: a value
at a rounding tie goes the other way after any other rounding before it, and thirty layers make that large. How
large is in the file too: `self_rms` is the difference between llama.cpp reading 64 tokens in one batch and
llama.cpp reading them one by one.
"""

import ctypes
import hashlib
import json
import os
import sys
import tempfile

import llama_cpp as ll
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea, there lived",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "The planets of the solar system, from the sun outwards:\n1. Mercury\n2.",
    "Water boils at 100 degrees Celsius. In Fahrenheit, this is",
]
GREEDY = 48
POSITIONS = 64
CHUNK = 512
SAMPLED_IDS = 192


class Engine:
    """One llama.cpp context with room for `n_ctx` tokens, computing all logits in one batch."""

    def __init__(self, path, n_ctx):
        params = ll.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = ll.llama_model_load_from_file(path.encode(), params)
        self.vocab = ll.llama_model_get_vocab(self.model)
        self.n_vocab = ll.llama_vocab_n_tokens(self.vocab)
        context = ll.llama_context_default_params()
        context.n_ctx = context.n_batch = context.n_ubatch = n_ctx
        # One thread: llama.cpp's sums do not depend on it, and waiting threads would take a busy machine.
        context.n_threads = context.n_threads_batch = 1
        # The plain attention path; the fused one rounds V to f16 sums.
        context.flash_attn_type = ll.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = ll.llama_init_from_model(self.model, context)
        self.batch = ll.llama_batch_init(n_ctx, 0, 1)

    def tokenize(self, text):
        raw = text.encode()
        ids = (ll.llama_token * (len(raw) + 8))()
        n = ll.llama_tokenize(self.vocab, raw, len(raw), ids, len(ids), True, False)
        assert n > 0
        return list(ids[:n])

    def clear(self):
        ll.llama_memory_clear(ll.llama_get_memory(self.context), True)

    def logits(self, ids, start=0):
        """Logits after every token of `ids`, which stand at positions start, start + 1, ..."""
        self.batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            self.batch.token[i] = token
            self.batch.pos[i] = start + i
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = 0
            self.batch.logits[i] = 1
        assert ll.llama_decode(self.context, self.batch) == 0
        pointer = ll.llama_get_logits(self.context)
        return np.ctypeslib.as_array(pointer, shape=(len(ids), self.n_vocab)).astype(np.float64)


def gap(row):
    second, first = np.partition(row, -2)[-2:]
    return round(float(first - second), 4)


def greedy(engine, prompt):
    """The text up to its end, at most GREEDY tokens."""
    engine.clear()
    ids = engine.tokenize(prompt)
    row = engine.logits(ids)[-1]
    position, out, seconds, gaps = len(ids), [], [], []
    for _ in range(GREEDY):
        second, first = np.argsort(row)[-2:]
        if ll.llama_vocab_is_eog(engine.vocab, int(first)):
            break
        out.append(int(first))
        seconds.append(int(second))
        gaps.append(gap(row))
        row = engine.logits([out[-1]], position)[-1]
        position += 1
    return {"prompt": prompt, "prompt_ids": ids, "ids": out, "seconds": seconds, "gaps": gaps, "ended": len(out) < GREEDY}


def sampled_logits(engine, ids):
    engine.clear()
    logits = engine.logits(ids)
    engine.clear()
    single = np.array([engine.logits([token], i)[0] for i, token in enumerate(ids)])
    self_rms = float(np.sqrt((((logits - single) / logits.std(-1, keepdims=True)) ** 2).mean()))
    # Spread over the vocabulary, none of it by chance: the multiples of a prime.
    columns = sorted((k * 7919) % engine.n_vocab for k in range(SAMPLED_IDS))
    rows = [
        {
            "argmax": int(row.argmax()),
            "gap": gap(row),
            "mean": round(float(row.mean()), 5),
            "std": round(float(row.std()), 5),
            "logits": [round(float(v), 3) for v in row[columns]],
        }
        for row in logits
    ]
    return {"tokens": ids, "self_rms": round(self_rms, 5), "columns": columns, "rows": rows}


def decoded_to_f32(path, out):
    params = ll.llama_model_quantize_default_params()
    params.ftype = ll.LLAMA_FTYPE_ALL_F32
    params.allow_requantize = True
    assert ll.llama_model_quantize(path.encode(), out.encode(), ctypes.byref(params)) == 0


def perplexity(engine, ids):
    """llama-perplexity's count: whole chunks of CHUNK tokens, positions CHUNK/2 to CHUNK-2 predict the next."""
    assert not ll.llama_vocab_get_add_bos(engine.vocab)
    nll, scored = 0.0, 0
    chunks = len(ids) // CHUNK
    for c in range(chunks):
        engine.clear()
        chunk = ids[c * CHUNK : (c + 1) * CHUNK]
        logits = engine.logits(chunk)
        for i in range(CHUNK // 2, CHUNK - 1):
            row = logits[i]
            nll += row.max() + np.log(np.exp(row - row.max()).sum()) - row[chunk[i + 1]]
            scored += 1
    mean = nll / scored
    return {"ctx": CHUNK, "chunks": chunks, "tokens_scored": scored, "nll_mean": mean, "perplexity": float(np.exp(mean))}


def of(engine, ids):
    return {
        "greedy": [greedy(engine, prompt) for prompt in PROMPTS],
        "logits": sampled_logits(engine, ids[:POSITIONS]),
    }


def main():
    model, out = sys.argv[1:3]
    quiet = ll.llama_log_callback(lambda level, text, data: None)
    ll.llama_log_set(quiet, ctypes.c_void_p(0))
    ll.llama_backend_init()
    with open(os.path.join(HERE, "..", "data", "english.txt"), encoding="utf-8") as f:
        text = f.read()
    engine = Engine(model, 1024)
    ids = engine.tokenize(text)
    golden = {
        "made_with": f"llama-cpp-python {ll.__version__}, CPU, f16 cache, flash attention off",
        "model_sha256": hashlib.sha256(open(model, "rb").read()).hexdigest(),
        "file": of(engine, ids),
        "perplexity": {"text": "tests/data/english.txt", **perplexity(engine, ids)},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "f32.gguf")
        decoded_to_f32(model, path)
        golden["f32"] = of(Engine(path, 1024), ids)
    with open(out, "w", encoding="utf-8") as f:
        json.dump(golden, f, separators=(",", ":"))
        f.write("\n")
    print(f"{out}: {os.path.getsize(out)} bytes, perplexity {golden['perplexity']['perplexity']:.4f}")


main()
