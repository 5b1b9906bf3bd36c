#!/usr/bin/env python3
"""Layer by layer: each layer of a deep model alone, from the same input, compared to 1e-4.

  layers.py --trill target/release/trill [--seeds 5] [--only qwen3] [-v]

End to end, two engines that round activations to int8 differ by a percent, because a value that sits at a tie goes
one way in f32 and the other in f64, and the layers behind amplify it. Here nothing is behind. Each layer of a
three-layer model becomes a model of its own: its embedding, which is its head too, holds in F32 the hidden states that
enter this layer (one token for each position) and below them the identity, so both sides start from the same bits
and some of the logits are the layer's normed output. Where trill and the oracle differ, ties of rounding are agreed on,
position by position (ties.py); then the error of the layer's output, as a share of what the layer adds to its input (rms
over all positions and channels), has to be under 1e-4. The last line is `N passed, N failed`.
"""

import argparse
import itertools
import os
import shlex
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices

import numpy as np

import compare
import forward
import gguf_file as g
import make_model
import ties
from arch import ARCHS

LIMIT = 1e-4
LAYERS, TOKENS, CTX = 3, 12, 256
SHAPES = list(compare.SHAPES.values())


def cases(seeds):
    """Every type with every architecture; the shapes take turns."""
    kinds = list(enumerate(itertools.product(compare.TYPES, compare.ARCHS)))
    for seed in range(seeds):
        for i, (kind, arch) in kinds:
            yield dict(SHAPES[(i + seed) % len(SHAPES)], arch=arch, type=kind, seed=seed, layers=LAYERS)
        for i, arch in enumerate(a for a in ARCHS if a not in compare.ARCHS):
            for kind in ("I2_S", "TQ2_0", "Q1_0", "Q2_0", "Q8_0", "F16"):
                yield dict(SHAPES[(i + seed) % len(SHAPES)], arch=arch, type=kind, seed=seed, layers=LAYERS)


class Alone:
    """Layer `index` of a model as a model of its own, which starts from hidden states `x` (tokens, hidden)."""

    def __init__(self, maker, index, x):
        o, scale = maker.o, forward.F32(1)
        if maker.arch.embedding_sqrt:
            scale = np.sqrt(forward.F32(o.hidden))
        if maker.arch.minicpm_scales:
            scale = forward.F32(12)
        self.vocab = max(len(x) + o.hidden, 512)
        rows = np.eye(self.vocab, o.hidden, k=-len(x), dtype="<f4")
        rows[:len(x)] = x / scale
        own = f"blk.{index}."
        self.tensors = [g.Tensor("token_embd.weight", "F32", rows.shape, rows.tobytes())]
        for t in maker.tensors:
            if t.name.startswith(own) or t.name.startswith("rope"):
                self.tensors.append(g.Tensor(t.name.replace(own, "blk.0."), t.kind, t.shape, t.data))
        ones = np.ones(o.hidden, "<f4")
        self.tensors.append(g.Tensor("output_norm.weight", "F32", ones.shape, ones.tobytes()))

    def write(self, path, options):
        g.write(path, make_model.Maker(make_model.Options(**{**options, "layers": 1, "vocab": self.vocab})).metadata(),
                self.tensors)


def agree(model, got):
    """(error over what the layer adds, before and after the ties are agreed on; how many went the other way)."""
    norm = lambda a: np.sqrt((a ** 2).sum(axis=1))

    def errors(rounding, rows):
        model.rint, trace, tokens = rounding, {}, list(range(rows))
        logits = model.forward(tokens, act="auto", kv="f16", trace=trace)[:, TOKENS:TOKENS + model.hidden]
        out = trace["blk.0.out"]
        added = out - model.memo["embedding"].rows(tokens) * model.embedding_scale
        return norm(logits - got[:rows]) / (norm(logits) * norm(added) / norm(out))

    before, after, kept = ties.Agreement(errors, TOKENS, LIMIT / 10).find()
    rms = lambda e: float(np.sqrt((e ** 2).mean()))
    return rms(before), rms(after), kept


def run(trill, folder, index, flags):
    maker = make_model.Maker(make_model.Options(**flags))
    whole, results = os.path.join(folder, f"{index}.gguf"), []
    g.write(whole, maker.metadata(), maker.model())
    trace = {}
    model = forward.Model(whole, CTX)
    tokens = np.random.default_rng(flags["seed"]).integers(0, flags.get("vocab", 512), TOKENS).tolist()
    model.forward(tokens, act="auto", kv="f16", trace=trace)
    embedding = model.memo["embedding"].rows(tokens) * model.embedding_scale
    for layer in range(LAYERS):
        x = trace[f"blk.{layer - 1}.out"] if layer else embedding
        path = os.path.join(folder, f"{index}-{layer}.gguf")
        Alone(maker, layer, x).write(path, flags)
        got = compare.trill_logits(trill, path, list(range(TOKENS)), CTX, False)[:, TOKENS:TOKENS + model.hidden]
        results.append(agree(forward.Model(path, CTX), got))
        os.remove(path)
    os.remove(whole)
    return results


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--trill", required=True, help="the binary, with a runner before it if need be")
    ap.add_argument("--seeds", type=int, default=1)
    ap.add_argument("--only", default="", help="only cases whose flags contain this text")
    ap.add_argument("--every", type=int, default=1, help="only every n-th case")
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("-v", action="store_true", help="a line for each model")
    a = ap.parse_args()
    trill = shlex.split(a.trill)
    describe = lambda f: " ".join(f"{k}={v}" for k, v in sorted(f.items()) if v != "")
    todo = [f for f in cases(a.seeds) if a.only in describe(f)][::a.every]
    table, failed = {}, 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(a.jobs) as pool:
        for flags, results in zip(todo, pool.map(lambda item: run(trill, folder, *item), enumerate(todo))):
            first, best, kept = (max(r[i] for r in results) for i in range(3))
            row = table.setdefault((flags["arch"], flags["type"]), [0, 0.0, 0.0, 0])
            table[flags["arch"], flags["type"]] = [row[0] + len(results), max(row[1], first), max(row[2], best),
                                                   row[3] + sum(r[2] for r in results)]
            failed += best > LIMIT
            if best > LIMIT or a.v:
                print("FAIL" if best > LIMIT else "pass", describe(flags),
                      " ".join(f"{f:.1e}->{b:.1e}({k})" for f, b, k in results), flush=True)
    for (arch, kind), (n, first, best, kept) in sorted(table.items()):
        print(f"{arch:14} {kind:11} {n:3} layers: error at most {best:.1e} of what a layer adds"
              f" ({first:.1e} before {kept} ties were agreed on)")
    print(f"{len(todo) - failed} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
