#!/usr/bin/env python3
"""Speed beside llama.cpp on the same machine, file and thread count (`make bench-peers`).

    bench-peers.py TRILL MODEL.gguf [--threads N] [--rounds N] [--json]

The two take turns, round by round, so that a machine that slows down slows both; medians are compared.
llama.cpp is what the Python package llama-cpp-python compiled for this CPU. pp128: 128 tokens in one batch;
tg64: 64 tokens one by one after one token, as llama-bench does it. Neither counts loading.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time

import llama_cpp as ll

PREFILL, DECODE = 128, 64


class LlamaCpp:
    def __init__(self, path, threads):
        self.quiet = ll.llama_log_callback(lambda level, text, data: None)
        ll.llama_log_set(self.quiet, ctypes.c_void_p(0))
        ll.llama_backend_init()
        params = ll.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = ll.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            sys.exit(f"llama.cpp cannot load {path}")
        self.n_vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))
        context = ll.llama_context_default_params()
        context.n_ctx = context.n_batch = context.n_ubatch = 512
        context.n_threads = context.n_threads_batch = threads
        self.context = ll.llama_init_from_model(self.model, context)

    def decode(self, ids):
        tokens = (ll.llama_token * len(ids))(*ids)
        if ll.llama_decode(self.context, ll.llama_batch_get_one(tokens, len(ids))):
            sys.exit("llama.cpp failed to decode")
        ll.llama_synchronize(self.context)

    def clear(self):
        ll.llama_memory_clear(ll.llama_get_memory(self.context), True)

    def measure(self):
        ids = [(7 + 31 * i) % self.n_vocab for i in range(PREFILL)]
        self.clear()
        start = time.perf_counter()
        self.decode(ids)
        prefill = PREFILL / (time.perf_counter() - start)
        self.clear()
        self.decode(ids[:1])
        start = time.perf_counter()
        for i in range(DECODE):
            self.decode([ids[i]])
        return {f"pp{PREFILL}": prefill, f"tg{DECODE}": DECODE / (time.perf_counter() - start)}


def trill(program, model, threads):
    command = [program, "bench", "-m", model, "-p", str(PREFILL), "-n", str(DECODE), "-t", str(threads), "-r", "1", "--json"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {row["test"]: (row["tokens_per_second"]["mean"], row["kernels"]) for row in json.loads(out)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()

    peer = LlamaCpp(a.model, a.threads)
    peer.measure()
    samples, kernels = {}, ""
    for _ in range(max(a.rounds, 1)):
        for test, speed in peer.measure().items():
            samples.setdefault(test, ([], []))[1].append(speed)
        for test, (speed, kernels) in trill(a.program, a.model, a.threads).items():
            samples[test][0].append(speed)
    rows = [
        {
            "test": test,
            "threads": a.threads,
            "kernels": kernels,
            "trill": statistics.median(ours),
            "llama.cpp": statistics.median(theirs),
            "ratio": statistics.median(ours) / statistics.median(theirs),
            "spread": max((max(s) - min(s)) / statistics.median(s) for s in (ours, theirs)),
        }
        for test, (ours, theirs) in samples.items()
    ]
    if a.json:
        print(json.dumps(rows))
        return
    print(f"{os.path.basename(a.model)}, {a.threads} threads, medians of {a.rounds} rounds, tokens per second")
    print(f"trill kernels: {kernels}; llama.cpp: llama-cpp-python {ll.__version__}")
    print(f"{'test':8}{'trill':>10}{'llama.cpp':>12}{'ratio':>8}{'spread':>9}")
    for r in rows:
        print(f"{r['test']:8}{r['trill']:10.1f}{r['llama.cpp']:12.1f}{r['ratio']:8.2f}{100 * r['spread']:8.0f}%")


main()
