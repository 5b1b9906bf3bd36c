#!/usr/bin/env python3
"""Holds the oracle against itself, and its packers against the PyPI package `gguf` where that is installed.

Ends with a line `N passed, N failed`.
"""

import importlib.util
import os
import sys
import tempfile

import numpy as np

import forward
import make_model
import vocab
import weights

SAME_WEIGHTS = ["F32", "F16", "I2_S", "I2_S_ARM64", "TQ1_0", "TQ2_0", "Q2_0", "Q2_0_G128", "PQ2_0", "PTQ1_0"]
TOKENS = [504, 84, 300, 277, 45, 12]


def packers_round_trip():
    """Every code a type can hold comes back, with a scale for each block."""
    rng = np.random.default_rng(0)
    for name, k in weights.KINDS.items():
        if not k.pack:
            continue
        maker = make_model.Maker(make_model.Options())
        form = "two-bit" if k.codes == "two-bit" else k.codes
        q = maker.codes(rng, form, 12, 1280)
        blocks = 1 if k.tail else len(q) if k.row_tail else q.size // k.block
        scale = rng.uniform(0.01, 2, blocks).astype(np.float16).astype(np.float32)
        raw = np.frombuffer(k.pack(q, scale), np.uint8)
        assert len(raw) == weights.nbytes(name, q.shape), name
        back, d = k.unpack(raw, *q.shape)
        want = scale if k.tail else np.repeat(scale, q.size // blocks).reshape(q.shape)
        assert (back == q).all() and (d == want).all(), name


def packers_equal_gguf_py():
    from gguf import GGMLQuantizationType as T, quants
    rng = np.random.default_rng(1)
    q = rng.integers(-1, 2, (16, 512)).astype(np.int8)
    scale = np.float32(np.float16(0.0371))
    for name in ("TQ1_0", "TQ2_0"):
        assert weights.to_bytes(name, q, scale) == quants.quantize((q * scale).astype(np.float32), T[name]).tobytes(), name
    w = rng.standard_normal((16, 512)).astype(np.float32)
    w[3] = 0
    for name in ("Q8_0", "Q4_0", "BF16"):
        assert weights.KINDS[name].encode(w) == quants.quantize(w, T[name]).tobytes(), name
    for name in ("Q8_0", "Q4_0", "TQ1_0", "TQ2_0"):
        raw = np.frombuffer(quants.quantize(w, T[name]), np.uint8)
        codes, d = weights.KINDS[name].unpack(raw, *w.shape)
        assert (codes * d == quants.dequantize(raw, T[name]).reshape(w.shape)).all(), name


def files_of_one_seed_are_one_model(folder):
    """The same weights in every type: equal logits; activations as the type wants them: near ones."""
    for arch in forward.ARCHS:
        path, want = os.path.join(folder, "m.gguf"), None
        for kind in SAME_WEIGHTS:
            make_model.make(path, arch=arch, type=kind)
            m = forward.Model(path, arm64=kind == "I2_S_ARM64")
            got = m.forward(TOKENS)
            want = got if want is None else want
            assert np.abs(got - want).max() < 1e-11, (arch, kind)
            near = np.sqrt(((m.forward(TOKENS, act="auto", kv="f16") - want) ** 2).mean()) / want.std()
            assert near < 0.06, (arch, kind, near)


def positions_do_not_see_ahead(folder):
    path = os.path.join(folder, "m.gguf")
    for arch in forward.ARCHS:
        make_model.make(path, arch=arch, type="F32", window=4, layers=3)
        m = forward.Model(path)
        assert np.abs(m.forward(TOKENS)[:4] - m.forward(TOKENS[:4])).max() < 1e-11, arch


def tokenizer_round_trip(folder):
    path = os.path.join(folder, "m.gguf")
    make_model.make(path)
    tok = vocab.Tokenizer(forward.Model(path).meta)
    text = "The small machine, it's 12345 times<|eot_id|>\u5ddd\u306f \U0001f30a\n\n  end"
    assert tok.decode(tok.encode(text, bos=False)) == text
    assert len(tok.encode("the small machine", bos=False)) < 8


def main():
    has = lambda package: importlib.util.find_spec(package) is not None
    tests = [packers_round_trip, files_of_one_seed_are_one_model, positions_do_not_see_ahead]
    tests += [packers_equal_gguf_py] if has("gguf") else []
    tests += [tokenizer_round_trip] if has("regex") else []
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for t in tests:
            try:
                t(folder) if t.__code__.co_argcount else t()
                print("pass", t.__name__)
            except AssertionError as e:
                failed += 1
                print("FAIL", t.__name__, e)
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
