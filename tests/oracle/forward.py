#!/usr/bin/env python3
"""The oracle: a decoder-only language model from a GGUF file, in float64, written to be read.

  forward.py MODEL --tokens 1,2,3 [--act auto] [--kv f16] [--generate 16] [--npy FILE] [--json]

`--act` is what is done to an activation before it meets a weight matrix:
  none   nothing: what the weights define
  auto   what trill does for that weight type (the `act` column of weights.KINDS)
  f16    rounded to f16                     (llama.cpp with F16 weights)
  sign   -1 or 1, 0 being 1               (BitNet b1.0)
  i8     one int8 scale for each token      (I2_S, and BitNet's training)
  q8_0   one int8 scale for 32 values       (q8_0h: the scale rounded to f16, as ggml does)
  q8k    one int8 scale for 256 values      (ggml's Q8_K)
`--kv f16` rounds keys and values as they enter the cache.
"""

import argparse
import json

import numpy as np

import gguf_file
import ties
import vocab
import weights
from arch import ARCHS

F32, F64 = np.float32, np.float64


# ---------------------------------------------------------------- activations

def quant_i8(x, rint=np.rint):
    """I2_S: s = 127 / max(|x|, 1e-5), rounded half to even in f32."""
    x = x.astype(F32)
    amax = np.maximum(np.abs(x).max(axis=-1, keepdims=True).astype(F64), 1e-5)
    s = (127.0 / amax).astype(F32)
    return np.clip(rint(x * s), -128, 127).astype(F64) / s.astype(F64)


def quant_q8_0(x, rint=np.rint, half=False):
    """Blocks of 32: d = max|x| / 127. ggml keeps d as f16 but divides by the f32 one."""
    b = x.astype(F32).reshape(*x.shape[:-1], -1, 32)
    amax = np.abs(b).max(axis=-1, keepdims=True)
    d = amax / F32(127)
    inv = np.where(amax > 0, F32(127) / np.where(amax > 0, amax, 1), 0).astype(F32)
    q = rint(b * inv).astype(F64)
    return (q * (d.astype(np.float16) if half else d).astype(F64)).reshape(x.shape)


def quant_q8k(x, rint=np.rint):
    """Blocks of 256: the value of largest magnitude (the first of equals) becomes -127."""
    b = x.astype(F32).reshape(*x.shape[:-1], -1, 256)
    m = np.take_along_axis(b, np.abs(b).argmax(axis=-1)[..., None], axis=-1)
    inv = np.where(m != 0, F32(-127) / np.where(m != 0, m, 1), 0).astype(F32)
    d = np.where(inv != 0, F32(1) / np.where(inv != 0, inv, 1), 0).astype(F32)
    return (np.minimum(rint(b * inv), 127).astype(F64) * d.astype(F64)).reshape(x.shape)


def half(x):
    return x.astype(np.float16).astype(F64)


QUANTIZE = {
    "none": lambda x, rint: x,
    "f16": lambda x, rint: half(x),
    "i8": quant_i8,
    "sign": lambda x, rint: np.where(x >= 0, 1.0, -1.0),
    "q8_0": quant_q8_0,
    "q8_0h": lambda x, rint: quant_q8_0(x, rint, half=True),
    "q8k": quant_q8k,
}


# ---------------------------------------------------------------- parts

class Linear:
    """out = W x, W kept in the narrowest numpy type and widened some rows at a time."""

    ROWS = 4096

    def __init__(self, tensor, scale=1.0, arm64=False):
        rows, cols = tensor.shape
        kind = "I2_S_ARM64" if arm64 and tensor.kind == "I2_S" else tensor.kind
        self.kind = weights.KINDS[kind]
        q, d = self.kind.unpack(tensor.data, rows, cols)
        if d.size and d.min() == d.max():
            self.q, self.scale = q, F64(d.flat[0]) * scale
        else:
            self.q, self.scale = q * d, F64(scale)

    def rows(self, ids):
        return self.q[ids].astype(F64) * self.scale

    def __call__(self, x, act, rint=np.rint):
        x = QUANTIZE[self.kind.act if act == "auto" else act](x, rint)
        out = np.empty((len(x), len(self.q)))
        for r in range(0, len(self.q), self.ROWS):
            out[:, r:r + self.ROWS] = x @ self.q[r:r + self.ROWS].astype(F64).T
        return out * self.scale


def rms_norm(x, w, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * w


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


ACTIVATION = {
    "silu": lambda g: g / (1 + np.exp(-g)),
    "relu2": lambda g: np.maximum(g, 0) ** 2,
    "gelu": lambda g: 0.5 * g * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g ** 3))),
}


def rotate(x, angle, neox, magnitude):
    """Rotary position embedding of x (tokens, heads, head_dim) by angle (tokens, pairs). neox pairs
    dimension j with j + pairs, the other form 2j with 2j + 1. Dimensions beyond the pairs stay."""
    pairs = angle.shape[1]
    c, s = np.cos(angle)[:, None] * magnitude, np.sin(angle)[:, None] * magnitude
    i = slice(0, pairs) if neox else slice(0, 2 * pairs, 2)
    j = slice(pairs, 2 * pairs) if neox else slice(1, 2 * pairs, 2)
    out = x.copy()
    out[..., i] = x[..., i] * c - x[..., j] * s
    out[..., j] = x[..., i] * s + x[..., j] * c
    return out


class Rope:
    """Frequencies of each pair, and the factor on cos and sin."""

    def __init__(self, model, base, scaled):
        k = model.key
        n = model.n_rot
        freq = base ** (-np.arange(0, n, 2, dtype=F64) / n)
        self.magnitude = k("rope.scaling.attn_factor", 1.0)
        kind = k("rope.scaling.type", "linear")
        factor = k("rope.scaling.factor", 0.0) or 1.0
        if model.factors is not None:
            freq = freq / model.factors
        if scaled and kind == "yarn":
            freq = self._yarn(model, base, freq, factor)
            self.magnitude *= 1 + 0.1 * np.log(factor)
        elif scaled and kind != "none":
            freq = freq / factor
        self.freq = freq

    @staticmethod
    def _yarn(model, base, freq, factor, fast=32.0, slow=1.0):
        """YaRN (arXiv 2309.00071) as ggml does it: low dimensions as trained, high ones interpolated."""
        n, ctx = model.n_rot, model.original_ctx
        at = lambda turns: n * np.log(ctx / (turns * 2 * np.pi)) / (2 * np.log(base))
        lo, hi = max(0.0, np.floor(at(fast))), min(n - 1.0, np.ceil(at(slow)))
        ramp = 1 - np.clip((np.arange(len(freq)) - lo) / max(0.001, hi - lo), 0, 1)
        return freq / factor * (1 - ramp) + freq * ramp

    def angles(self, n_tokens):
        return np.arange(n_tokens)[:, None] * self.freq


# ---------------------------------------------------------------- the model

class Model:
    def __init__(self, path, ctx=None, arm64=False):
        self.meta, self.tensors = gguf_file.read(path)
        name = self.meta["general.architecture"]
        self.arch = ARCHS[name]
        self.key = lambda k, default=None: self.meta.get(f"{name}.{k}", default)
        k = self.key
        self.layers, self.hidden, self.heads = k("block_count"), k("embedding_length"), k("attention.head_count")
        self.kv_heads = k("attention.head_count_kv", self.heads)
        self.head_dim = k("attention.key_length", self.hidden // self.heads)
        self.n_rot = k("rope.dimension_count", self.head_dim)
        self.ffn = k("feed_forward_length")
        self.eps = k("attention.layer_norm_rms_epsilon")
        self.original_ctx = k("rope.scaling.original_context_length", k("context_length"))
        self.arm64, self.memo, self.rint = arm64, {}, np.rint
        self._rope(ctx or k("context_length"))
        self._scales()

    def _rope(self, ctx):
        """Long-rope factors apply when the context in use is longer than the one trained first."""
        k = self.key
        long = "long" if ctx > self.original_ctx else "short"
        self.factors = self.optional("rope_freqs.weight")
        if self.factors is None:
            self.factors = self.optional(f"rope_factors_{long}.weight")
        base = k("rope.freq_base", 10000.0)
        self.rope = Rope(self, base, scaled=True)
        self.window = k("attention.sliding_window", 0) if self.arch.window else 0
        pattern = k("attention.sliding_window_pattern", self.arch.window_pattern)
        if isinstance(pattern, list):
            self.local = [bool(p) for p in pattern]
        else:
            self.local = [bool(self.window) and (not pattern or i % pattern < pattern - 1) for i in range(self.layers)]
        self.local_rope = self.rope
        if self.arch.local_rope:
            self.local_rope = Rope(self, k("rope.freq_base_swa", 10000.0), scaled=False)

    def _scales(self):
        k, a = self.key, self.arch
        self.embedding_scale = np.sqrt(F32(self.hidden)) if a.embedding_sqrt else 1.0
        self.residual_scale, self.logit_divisor = 1.0, 1.0
        if a.minicpm_scales:
            self.embedding_scale = k("embedding_scale", 12.0)
            self.residual_scale = k("residual_scale", 1.4 / self.layers ** 0.5)
            self.logit_divisor = k("logit_scale", self.hidden / 256.0)
        # Gemma 3 27B (62 layers) divides by the width of a query group instead of the head.
        dim = self.hidden // self.heads if a.embedding_sqrt and self.layers == 62 else self.head_dim
        self.query_scale = 1 / np.sqrt(dim)
        self.softcap = k("final_logit_softcapping", 0.0) if a.embedding_sqrt else 0.0

    def vector(self, name):
        t = self.tensors[name]
        return np.frombuffer(bytes(t.data), {"F32": "<f4", "F16": "<f2"}[t.kind]).astype(F64)

    def optional(self, name):
        return self.vector(name) if name in self.tensors else None

    def linear(self, name, x, act):
        """Matrix `name`, its optional `.scale` and its optional bias."""
        if name not in self.memo:
            scale = self.optional(name + ".scale")
            self.memo[name] = (Linear(self.tensors[name + ".weight"], 1.0 if scale is None else scale[0], self.arm64),
                               self.optional(name + ".bias"))
        matrix, bias = self.memo[name]
        return matrix(x, act, self.rint) + (0 if bias is None else bias)

    def norm(self, name, x):
        return rms_norm(x, self.vector(name + ".weight"), self.eps)

    def attention(self, b, x, act, kv, local):
        n, H, K, D = len(x), self.heads, self.kv_heads, self.head_dim
        if b + "attn_qkv.weight" in self.tensors:
            q, k, v = np.split(self.linear(b + "attn_qkv", x, act), [H * D, (H + K) * D], axis=1)
        else:
            q, k, v = (self.linear(b + "attn_" + c, x, act) for c in "qkv")
        q, k, v = q.reshape(n, H, D), k.reshape(n, K, D), v.reshape(n, K, D)
        rope = self.local_rope if local else self.rope
        turn = lambda t: rotate(t, rope.angles(n), self.arch.neox, rope.magnitude)
        if self.arch.qk_norm == "before rope":
            q, k = self.norm(b + "attn_q_norm", q), self.norm(b + "attn_k_norm", k)
        q, k = turn(q), turn(k)
        if self.arch.qk_norm == "after rope":
            q, k = self.norm(b + "attn_q_norm", q), self.norm(b + "attn_k_norm", k)
        if kv == "f16":
            k, v = (self.rint.half(t) if isinstance(self.rint, ties.Rounding) else half(t) for t in (k, v))
        k, v = np.repeat(k, H // K, axis=1), np.repeat(v, H // K, axis=1)
        back = np.arange(n)[:, None] - np.arange(n)
        hidden = (back < 0) | (back >= self.window if local else False)
        score = np.einsum("thd,shd->hts", q, k) * self.query_scale
        p = softmax(np.where(hidden, -np.inf, score))
        o = np.einsum("hts,shd->thd", p, v).reshape(n, H * D)
        if self.arch.sub_norms:
            o = self.norm(b + "attn_sub_norm", o)
        return self.linear(b + "attn_output", o, act)

    def feed_forward(self, b, x, act):
        up = self.linear(b + "ffn_up", x, act)
        if b + "ffn_gate.weight" in self.tensors:
            gate = self.linear(b + "ffn_gate", x, act)
        else:
            gate, up = np.split(up, 2, axis=1)
        f = ACTIVATION[self.arch.activation](gate) * up
        if self.arch.sub_norms:
            f = self.norm(b + "ffn_sub_norm", f)
        return self.linear(b + "ffn_down", f, act)

    def forward(self, tokens, act="none", head=None, kv="none", trace=None):
        """Logits (tokens, vocab). `head` is the act of the output matrix, by default as `act`."""
        keep = trace.__setitem__ if trace is not None else lambda name, value: None
        if "embedding" not in self.memo:
            self.memo["embedding"] = Linear(self.tensors["token_embd.weight"])
            tied = "output.weight" not in self.tensors
            self.memo["head"] = self.memo["embedding"] if tied else Linear(self.tensors["output.weight"])
        x = self.memo["embedding"].rows(tokens) * self.embedding_scale
        for i in range(self.layers):
            b = f"blk.{i}."
            o = self.attention(b, self.norm(b + "attn_norm", x), act, kv, self.local[i])
            x = x + (self.norm(b + "post_attention_norm", o) if self.arch.post_norms else o) * self.residual_scale
            keep(b + "attention", x)
            o = self.feed_forward(b, self.norm(b + "ffn_norm", x), act)
            x = x + (self.norm(b + "post_ffw_norm", o) if self.arch.post_norms else o) * self.residual_scale
            keep(b + "out", x)
        logits = self.memo["head"](self.norm("output_norm", x), head or act) / self.logit_divisor
        return self.softcap * np.tanh(logits / self.softcap) if self.softcap else logits

    def greedy(self, tokens, n, stop=(), **options):
        """The next n tokens, most likely first choice, the whole sequence computed anew each time."""
        new = []
        while len(new) < n:
            best = int(self.forward(list(tokens) + new, **options)[-1].argmax())
            new.append(best)
            if best in stop:
                break
        return new


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--tokens", help="comma-separated token ids")
    ap.add_argument("--text", help="text to tokenize (needs the package regex)")
    ap.add_argument("--act", default="none", choices=["auto", *QUANTIZE])
    ap.add_argument("--head", choices=["auto", *QUANTIZE])
    ap.add_argument("--kv", default="none", choices=["none", "f16"])
    ap.add_argument("--ctx", type=int, help="context in use, which decides between long and short rope factors")
    ap.add_argument("--i2s-layout", default="x86", choices=["x86", "arm64"])
    ap.add_argument("--generate", type=int, default=0)
    ap.add_argument("--npy", help="save the logits of all positions")
    ap.add_argument("--json", action="store_true")
    a = ap.parse_args()
    m = Model(a.model, a.ctx, a.i2s_layout == "arm64")
    ids = [int(t) for t in a.tokens.split(",")] if a.tokens else vocab.Tokenizer(m.meta).encode(a.text)
    options = dict(act=a.act, head=a.head, kv=a.kv)
    logits = m.forward(ids, **options)
    if a.npy:
        np.save(a.npy, logits)
    if a.json:
        print(json.dumps({"n_vocab": logits.shape[1], "logits": logits.tolist()}))
        return
    for position, row in enumerate(logits):
        print(position, ids[position], " ".join(f"{j}:{row[j]:.5f}" for j in np.argsort(-row)[:5]))
    if a.generate:
        new = m.greedy(ids, a.generate, **options)
        print("then", new)


if __name__ == "__main__":
    main()
