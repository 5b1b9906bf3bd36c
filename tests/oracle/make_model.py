#!/usr/bin/env python3
"""Writes a test model: random weights, a real little tokenizer, every key a published file has.

  make_model.py OUT --arch qwen3 --type Q2_0 --hidden 256 --heads 4 --kv-heads 2 --head-dim 64 --seed 3

One seed gives the same codes and scales in every type that can hold them: the numbers of a tensor are
drawn from its name and the seed alone. Scales are f16-exact unless `--f32-scales` says otherwise, so
that I2_S, TQ1_0, TQ2_0, Q2_0, F16 and F32 files of one seed hold the same weights.
"""

import argparse
import zlib
from dataclasses import dataclass

import numpy as np

import gguf_file as g
import vocab
import weights
from arch import ARCHS

SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>"]

BITNET_TEMPLATE = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}")
CHATML_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")

PRE = {"qwen2": "qwen2", "qwen3": "qwen2", "hunyuan-dense": "hunyuan-dense"}  # others: llama-bpe
FILE_TYPE = {"F32": 0, "F16": 1, "BF16": 32, "Q4_0": 2, "Q8_0": 7, "TQ1_0": 36, "TQ2_0": 37, "I2_S": 40,
             "I2_S_ARM64": 40, "Q1_0": 40, "Q2_0": 41, "Q2_0_G128": 41}


@dataclass
class Options:
    """The flags of the command line, for callers in Python."""
    arch: str = "bitnet-b1.58"
    type: str = "I2_S"
    layers: int = 2
    hidden: int = 256
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 0        # 0: hidden / heads
    ffn: int = 512
    vocab: int = 512
    ctx: int = 256
    seed: int = 0
    weights: str = ""        # ternary, binary, sparse, two-bit, dense; "": what the type holds
    scales: str = "tensor"   # or block: a scale for each block of the type, as TriLM files may have
    f32_scales: bool = False
    p_zero: float = 0.5
    embd: str = "F16"        # type of token_embd
    head: str = ""           # type of output.weight; "": tied where the architecture is, else as embd
    down: str = ""           # type of ffn_down, so that ffn may be no multiple of the block
    scale_tensors: bool = False   # bitnet: a `.scale` tensor beside each matrix
    rope_base: float = 10000.0
    rope_scaling: str = ""   # linear, yarn, longrope, llama3
    window: int = 0
    eps: float = 1e-5
    no_pre: bool = False


class Maker:
    def __init__(self, o):
        self.o, self.arch = o, ARCHS[o.arch]
        self.head_dim = o.head_dim or o.hidden // o.heads
        self.tensors = []

    def rng(self, name):
        return np.random.default_rng([self.o.seed, zlib.crc32(name.encode())])

    def add(self, name, kind, shape, data):
        self.tensors.append(g.Tensor(name, kind, shape, data))

    def vector(self, name, n, mean=1.0, spread=0.1):
        w = (mean + spread * self.rng(name).standard_normal(n)).astype("<f4")
        self.add(name, "F32", (n,), w.tobytes())

    def dense(self, name, kind, rows, cols):
        """An embedding: small enough that the layers, not the input token, decide a tied head's output."""
        spread = 0.3 if self.arch.embedding_sqrt else 1.6
        w = self.rng(name).standard_normal((rows, cols), dtype=np.float32) * np.float32(spread / cols ** 0.5)
        k = weights.KINDS[kind]
        data = k.encode(w.astype(np.float16)) if k.encode else self.coded(name, kind, rows, cols)
        self.add(name, kind, (rows, cols), data)

    def codes(self, rng, form, rows, cols):
        if form == "binary":
            return rng.choice(np.array([-1, 1], np.int8), size=(rows, cols))
        if form == "sparse":  # groups as STQ1_0 lays them
            lanes = weights.STQ_CODEBOOK[rng.integers(0, 32, (rows * cols // 4))]
            return lanes.reshape(-1, 4, 16, 4).transpose(0, 1, 3, 2).reshape(rows, cols)
        draw = rng.integers(0, 1 << 16, (rows, cols), dtype=np.uint16)
        side = int((1 - self.o.p_zero) / 2 * (1 << 16))
        q = (draw >= (1 << 16) - side).astype(np.int8) - (draw < side)
        return q if form == "ternary" else q + ((q > 0) & (draw % 64 == 0))

    def coded(self, name, kind, rows, cols):
        o, k, rng = self.o, weights.KINDS[kind], self.rng(name)
        form = o.weights or {"two-bit": "ternary", "float": "ternary"}.get(k.codes, k.codes)
        if form == "dense":
            w = rng.standard_normal((rows, cols), dtype=np.float32) / np.float32(cols ** 0.5)
            return k.encode(w.astype(np.float16))
        q = self.codes(rng, form, rows, cols)
        blocks = rows * cols // k.block if o.scales == "block" and not k.tail else 1
        blocks = rows if k.row_tail else blocks
        scale = rng.uniform(0.8, 1.25, blocks) / np.sqrt(cols * np.mean(q.astype(np.float32) ** 2))
        return weights.to_bytes(kind, q, scale.astype(np.float32 if o.f32_scales else np.float16).astype(np.float32))

    def linear(self, name, rows, cols, kind=None):
        kind = kind or self.o.type
        self.add(name + ".weight", kind, (rows, cols), self.coded(name + ".weight", kind, rows, cols))
        if self.o.scale_tensors and self.arch.optional_scales:
            self.vector(name + ".scale", 1, spread=0.2)

    def layer(self, b):
        o, a, d = self.o, self.arch, self.head_dim
        self.vector(b + "attn_norm.weight", o.hidden)
        if a.fused:
            self.linear(b + "attn_qkv", (o.heads + 2 * o.kv_heads) * d, o.hidden)
        else:
            for c, n in (("q", o.heads), ("k", o.kv_heads), ("v", o.kv_heads)):
                self.linear(b + "attn_" + c, n * d, o.hidden)
                if a.qkv_bias:
                    self.vector(f"{b}attn_{c}.bias", n * d, mean=0, spread=0.3)
        if a.qk_norm:
            self.vector(b + "attn_q_norm.weight", d)
            self.vector(b + "attn_k_norm.weight", d)
        if a.sub_norms:
            self.vector(b + "attn_sub_norm.weight", o.heads * d)
        self.linear(b + "attn_output", o.hidden, o.heads * d)
        if a.post_norms:
            self.vector(b + "post_attention_norm.weight", o.hidden)
        self.vector(b + "ffn_norm.weight", o.hidden)
        if a.fused:
            self.linear(b + "ffn_up", 2 * o.ffn, o.hidden)
        else:
            self.linear(b + "ffn_gate", o.ffn, o.hidden)
            self.linear(b + "ffn_up", o.ffn, o.hidden)
        if a.sub_norms:
            self.vector(b + "ffn_sub_norm.weight", o.ffn)
        self.linear(b + "ffn_down", o.hidden, o.ffn, o.down or None)
        if a.post_norms:
            self.vector(b + "post_ffw_norm.weight", o.hidden)

    def rope_divisors(self):
        """Divisors of the rope frequencies: Phi-3's two sets, Llama 3.1's one."""
        sets = {"longrope": [("rope_factors_long", 6.0), ("rope_factors_short", 1.3)], "llama3": [("rope_freqs", 8.0)]}
        for name, top in sets.get(self.o.rope_scaling, []):
            f = np.linspace(1.0, top, self.head_dim // 2).astype("<f4")
            self.add(name + ".weight", "F32", (len(f),), f.tobytes())

    def model(self):
        o = self.o
        self.rope_divisors()
        self.dense("token_embd.weight", o.embd, o.vocab, o.hidden)
        for i in range(o.layers):
            self.layer(f"blk.{i}.")
        self.vector("output_norm.weight", o.hidden)
        if o.head or not self.arch.tied:
            self.dense("output.weight", o.head or o.embd, o.vocab, o.hidden)
        return self.tensors

    def metadata(self):
        o, p, a = self.o, self.o.arch + ".", self.arch
        meta = [
            ("general.architecture", g.STRING, o.arch),
            ("general.name", g.STRING, f"synthetic {o.type} seed {o.seed}"),  # llama.cpp acts on "phi3" in a name
            (p + "vocab_size", g.U32, o.vocab),
            (p + "context_length", g.U32, o.ctx),
            (p + "embedding_length", g.U32, o.hidden),
            (p + "block_count", g.U32, o.layers),
            (p + "feed_forward_length", g.U32, o.ffn),
            (p + "rope.dimension_count", g.U32, self.head_dim),
            (p + "attention.head_count", g.U32, o.heads),
            (p + "attention.head_count_kv", g.U32, o.kv_heads),
            (p + "attention.layer_norm_rms_epsilon", g.F32, o.eps),
            (p + "rope.freq_base", g.F32, o.rope_base),
            ("general.file_type", g.U32, FILE_TYPE.get(o.type, 1)),
            ("general.quantization_version", g.U32, 2),
        ]
        if o.head_dim:
            meta += [(p + "attention.key_length", g.U32, o.head_dim), (p + "attention.value_length", g.U32, o.head_dim)]
        if a.window:
            meta.append((p + "attention.sliding_window", g.U32, o.window))
        if a.minicpm_scales:
            meta += [(p + "embedding_scale", g.F32, 12.0), (p + "residual_scale", g.F32, 1.4 / o.layers ** 0.5),
                     (p + "logit_scale", g.F32, o.hidden / 64)]
        return meta + self.rope_metadata(p) + self.tokenizer_metadata()

    def rope_metadata(self, p):
        o = self.o
        original = (p + "rope.scaling.original_context_length", g.U32, max(16, o.ctx // 4))
        if o.rope_scaling == "longrope":
            return [original, (p + "rope.scaling.attn_factor", g.F32, 1.19)]
        if o.rope_scaling in ("linear", "yarn"):
            meta = [(p + "rope.scaling.type", g.STRING, o.rope_scaling), (p + "rope.scaling.factor", g.F32, 4.0)]
            return meta + ([original] if o.rope_scaling == "yarn" else [])
        return []

    def tokenizer_metadata(self):
        o, t = self.o, "tokenizer.ggml."
        chatml = o.arch in PRE
        tokens, types, merges = vocab.build(o.vocab, SPECIALS)
        special = {name: o.vocab - len(SPECIALS) + i for i, name in enumerate(SPECIALS)}
        end = special["<|im_end|>"] if chatml else special["<|end_of_text|>"]
        meta = [
            (t + "model", g.STRING, "gpt2"),
            (t + "pre", g.STRING, PRE.get(o.arch, "llama-bpe")),
            (t + "tokens", g.ARRAY, (g.STRING, tokens)),
            (t + "token_type", g.ARRAY, (g.I32, types)),
            (t + "merges", g.ARRAY, (g.STRING, merges)),
            (t + "bos_token_id", g.U32, special["<|begin_of_text|>"]),
            (t + "eos_token_id", g.U32, end),
            (t + "padding_token_id", g.U32, end),
            (t + "add_bos_token", g.BOOL, not chatml),
            ("tokenizer.chat_template", g.STRING, CHATML_TEMPLATE if chatml else BITNET_TEMPLATE),
        ]
        return [m for m in meta if not (o.no_pre and m[0] == t + "pre")]


def make(path, **flags):
    m = Maker(Options(**flags))
    g.write(path, m.metadata(), m.model())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    choices = {"arch": ARCHS, "type": weights.KINDS, "embd": weights.KINDS}
    for name, field in Options.__dataclass_fields__.items():
        flag = "--" + name.replace("_", "-")
        if field.default is False:
            ap.add_argument(flag, action="store_true")
        else:
            ap.add_argument(flag, type=type(field.default), default=field.default, choices=choices.get(name))
    a = vars(ap.parse_args())
    make(a.pop("out"), **a)


if __name__ == "__main__":
    main()
