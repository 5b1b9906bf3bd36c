#!/usr/bin/env python3
"""Speed beside llama.cpp on the same machine, file and thread count (`make bench-peers`).

    bench-peers.py TRILL MODEL.gguf [--peer-model FILE] [--prefill N,N] [--decode N] [--threads N] [--rounds N] [--json]

The two take turns, round by round, so that a machine that slows down slows both; medians are compared.
llama.cpp is what the Python package llama-cpp-python compiled for this CPU; `--peer-model` gives it another file of
the same shape, where it does not read ours. pp128: 128 tokens in one batch; pp512: 512 tokens, likewise in one; tg64: 64
tokens one by one after one token, as llama-bench does it. Neither counts loading.
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


class LlamaCpp:
    def __init__(self, path, threads, longest):
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
        context.n_ctx = context.n_batch = context.n_ubatch = longest
        context.n_threads = context.n_threads_batch = threads
        self.context = ll.llama_init_from_model(self.model, context)

    def decode(self, ids):
        tokens = (ll.llama_token * len(ids))(*ids)
        if ll.llama_decode(self.context, ll.llama_batch_get_one(tokens, len(ids))):
            sys.exit("llama.cpp failed to decode")
        ll.llama_synchronize(self.context)

    def clear(self):
        ll.llama_memory_clear(ll.llama_get_memory(self.context), True)

    def measure(self, prefill, generate):
        speeds = {}
        for n in prefill:
            self.clear()
            ids = self.ids(n)
            start = time.perf_counter()
            self.decode(ids)
            speeds[f"pp{n}"] = n / (time.perf_counter() - start)
        if not generate:
            return speeds
        self.clear()
        self.decode(self.ids(1))
        start = time.perf_counter()
        for token in self.ids(generate):
            self.decode([token])
        return speeds | {f"tg{generate}": generate / (time.perf_counter() - start)}

    def ids(self, n):
        return [(7 + 31 * i) % self.n_vocab for i in range(n)]


def trill(program, model, threads, prefill, generate):
    """Prefill lengths one process each, decode with the first."""
    speeds, kernels = {}, ""
    for n, g in zip(prefill, [generate] + [0] * len(prefill)):
        command = [program, "bench", "-m", model, "-p", str(n), "-n", str(g), "-t", str(threads), "-r", "1", "--json"]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for row in json.loads(out):
            speeds[row["test"]], kernels = row["tokens_per_second"]["mean"], row["kernels"]
    return speeds, kernels


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--peer-model", metavar="FILE", help="what llama.cpp runs (default: the same file)")
    parser.add_argument("--prefill", metavar="N,N", default="128,512", help="prompt lengths (default: 128,512)")
    parser.add_argument("--decode", type=int, metavar="N", default=64, help="tokens to generate (default: 64)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()

    prefill = [int(n) for n in a.prefill.split(",")]
    peer_model = a.peer_model or a.model
    peer = LlamaCpp(peer_model, a.threads, max(*prefill, a.decode + 1))
    peer.measure(prefill, a.decode)
    samples, kernels = {}, ""
    for _ in range(max(a.rounds, 1)):
        for test, speed in peer.measure(prefill, a.decode).items():
            samples.setdefault(test, ([], []))[1].append(speed)
        speeds, kernels = trill(a.program, a.model, a.threads, prefill, a.decode)
        for test, speed in speeds.items():
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
    files = " beside ".join(dict.fromkeys(os.path.basename(f) for f in (a.model, peer_model)))
    print(f"{files}, {a.threads} threads, medians of {a.rounds} rounds, tokens per second")
    print(f"trill kernels: {kernels}; llama.cpp: llama-cpp-python {ll.__version__}")
    print(f"{'test':8}{'trill':>10}{'llama.cpp':>12}{'ratio':>8}{'spread':>9}")
    for r in rows:
        print(f"{r['test']:8}{r['trill']:10.1f}{r['llama.cpp']:12.1f}{r['ratio']:8.2f}{100 * r['spread']:8.0f}%")


main()
