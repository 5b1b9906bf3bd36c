#!/usr/bin/env python3
"""Hugging Face folders with random weights, and transformers' arithmetic on them: what `trill convert` is held against.

  hf.py make FOLDER --form packed [--large]      writes one
  hf.py check --trill target/release/trill       makes all forms, converts them, compares logits

Tokenizers are byte-level, but for `llama` (SentencePiece's vocabulary in tokenizer.json, as Llama 2 has it) and
`bitnet-silu` (in tokenizer.model, as 1bitLLM has it); what the converted file makes of some lines has to be what
vocab.py makes of them.

The forms: `packed` (BitNet, uint8 codes, weight_scale multiplies), `masters` (BitNet, bf16 masters rounded
at run time), `llama-packed` (Falcon-E, Falcon3, Llama3 1.58: weight_scale divides), `bitnet-silu` (1bitLLM's
names and SiLU), `llama`, `llama3` (rope as in Llama 3.1, two shards), `qwen2`, `qwen3` (plain bf16).
`--large` gives `packed` and `masters` the shape of BitNet 2B-4T.

The reference below follows transformers' modeling files (BitLinear and AutoBitLinear of
integrations/bitnet.py, the Llama, Qwen2, Qwen3 and BitNet decoders) in float64, on the folder's own tensors
in the folder's own order, and shares nothing with the GGUF side but numpy. One thing is trill's: keys and
values are rounded to f16, as its cache does; in these two-layer models of random weights that alone moves
logits by 2 % of their deviation, since it makes int8 activations step over. A form passes if the logits are within 2 % in
the root mean square over its seeds, and within 1e-4 in each of them once ties of rounding are agreed on (ties.py); the
plain ones within 1e-3 as they are.
The last line of `check` is `N passed, N failed`.
"""

import argparse
import json
import os
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices

import numpy as np

import compare
import ties
import vocab
from make_2b4t import EVEN_TO_CODES

SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2_SPLIT = LLAMA3_SPLIT.replace("{1,3}", "")
SEEDS = 4
AGREED = 1e-4   # of the deviation of the logits: what may be left once ties of rounding are agreed on
FORMS = {  # architecture, activation, how the seven matrices of a layer are held
    "packed": ("BitNetForCausalLM", "relu2", "multiply"),
    "masters": ("BitNetForCausalLM", "relu2", "masters"),
    "bitnet-silu": ("BitnetForCausalLM", "silu", "masters"),
    "llama-packed": ("LlamaForCausalLM", "silu", "divide"),
    "llama": ("LlamaForCausalLM", "silu", "plain"),
    "llama3": ("LlamaForCausalLM", "silu", "plain"),
    "qwen2": ("Qwen2ForCausalLM", "silu", "plain"),
    "qwen3": ("Qwen3ForCausalLM", "silu", "plain"),
}
SMALL = dict(hidden=256, layers=2, heads=4, kv_heads=2, ffn=512, vocab=515)
LARGE = dict(hidden=2560, layers=30, heads=20, kv_heads=5, ffn=6912, vocab=128256)
SCALING = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
               original_max_position_embeddings=64)


# ---------------------------------------------------------------- numbers as torch keeps them

def to_bf16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bf16(u):
    return (u.astype(np.uint32) << 16).view(np.float32)


def write_safetensors(path, tensors):
    """{name: (dtype name, array)}; arrays hold the raw numbers (bf16 as uint16)."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, a) in tensors.items():
        header[name] = dict(dtype=dtype, shape=list(a.shape), data_offsets=[at, at + a.nbytes])
        at += a.nbytes
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        for _, a in tensors.values():
            f.write(np.ascontiguousarray(a).tobytes())


# ---------------------------------------------------------------- a folder

class Folder:
    """`kept` holds what was written, for the reference: {name: array}, bf16 as uint16."""

    def __init__(self, path, form, shape, seed):
        self.path, self.form, self.s = path, form, dict(shape)
        self.arch, self.activation, self.held = FORMS[form]
        self.rng = np.random.default_rng([seed, len(form), self.s["hidden"]])
        self.head_dim = 128 if form == "qwen3" else self.s["hidden"] // self.s["heads"]
        self.kept, self.dtype = {}, {}
        self.bitnet = self.arch.lower().startswith("bitnet")

    def put(self, name, array, dtype="BF16"):
        self.kept[name] = to_bf16(array) if dtype == "BF16" else array
        self.dtype[name] = dtype.split(" ")[0]

    def linear(self, name, rows, cols, bias=False):
        rng = self.rng
        if self.held in ("multiply", "divide"):
            packed = EVEN_TO_CODES[np.frombuffer(rng.bytes(rows // 4 * cols), np.uint8)]
            self.put(name + ".weight", packed.reshape(rows // 4, cols), "U8")
            scale = rng.uniform(0.9, 1.1) * (2 / cols) ** 0.5
            self.put(name + ".weight_scale", np.array([1 / scale if self.held == "divide" else scale], np.float32))
        else:
            self.dense(name, rows, cols, 1 / cols ** 0.5)
        if bias:
            self.put(name + ".bias", rng.standard_normal(rows) * 0.3)

    def dense(self, name, rows, cols, spread):
        out = np.empty((rows, cols), np.uint16)
        for at in range(0, rows, 1024):  # a large matrix takes memory once
            out[at:at + 1024] = to_bf16(self.rng.standard_normal(out[at:at + 1024].shape, np.float32) * np.float32(spread))
        self.put(name + ".weight", out, "BF16 as it is")

    def norm(self, name, n):
        self.put(name + ".weight", 1 + 0.1 * self.rng.standard_normal(n))

    def layer(self, i):
        s, d, p = self.s, self.head_dim, f"model.layers.{i}."
        old = self.form == "bitnet-silu"
        bias = self.arch == "Qwen2ForCausalLM"
        self.norm(p + "input_layernorm", s["hidden"])
        self.linear(p + "self_attn.q_proj", s["heads"] * d, s["hidden"], bias)
        self.linear(p + "self_attn.k_proj", s["kv_heads"] * d, s["hidden"], bias)
        self.linear(p + "self_attn.v_proj", s["kv_heads"] * d, s["hidden"], bias)
        self.linear(p + "self_attn.o_proj", s["hidden"], s["heads"] * d)
        if self.bitnet:
            self.norm(p + ("self_attn.inner_attn_ln" if old else "self_attn.attn_sub_norm"), s["hidden"])
            self.norm(p + ("mlp.ffn_layernorm" if old else "mlp.ffn_sub_norm"), s["ffn"])
        if self.arch == "Qwen3ForCausalLM":
            self.norm(p + "self_attn.q_norm", d)
            self.norm(p + "self_attn.k_norm", d)
        self.norm(p + "post_attention_layernorm", s["hidden"])
        self.linear(p + "mlp.gate_proj", s["ffn"], s["hidden"])
        self.linear(p + "mlp.up_proj", s["ffn"], s["hidden"])
        self.linear(p + "mlp.down_proj", s["hidden"], s["ffn"])

    def config(self):
        s, tied = self.s, self.bitnet or self.form == "qwen2"
        kind = self.arch.removesuffix("ForCausalLM").lower()
        c = dict(architectures=[self.arch], model_type=kind, hidden_act=self.activation, hidden_size=s["hidden"],
                 intermediate_size=s["ffn"], num_hidden_layers=s["layers"], num_attention_heads=s["heads"],
                 num_key_value_heads=s["kv_heads"], vocab_size=s["vocab"], rms_norm_eps=1e-5, rope_theta=10000.0,
                 max_position_embeddings=512, tie_word_embeddings=tied, torch_dtype="bfloat16", bos_token_id=0,
                 eos_token_id=1)
        if self.head_dim != s["hidden"] // s["heads"]:
            c["head_dim"] = self.head_dim
        if self.held == "multiply" or self.form == "masters":
            mode = "offline" if self.held == "multiply" else "online"
            c["quantization_config"] = dict(quant_method="bitnet", linear_class="autobitlinear", quantization_mode=mode)
        if self.held == "divide":
            c["quantization_config"] = dict(quant_method="bitnet", modules_to_not_convert=None)
        if self.form == "llama3":
            c["rope_scaling"] = SCALING
        return c

    def byte_level(self):
        tokens, types, merges = vocab.build(self.s["vocab"], SPECIALS)
        plain = {t: i for i, (t, k) in enumerate(zip(tokens, types)) if k == vocab.NORMAL}
        added = [dict(id=i, content=t, special=True) for i, (t, k) in enumerate(zip(tokens, types))
                 if k == vocab.CONTROL]
        split = QWEN2_SPLIT if self.form.startswith("qwen") else LLAMA3_SPLIT
        bos = dict(type="TemplateProcessing", single=[{"SpecialToken": {"id": SPECIALS[0], "type_id": 0}}])
        return dict(
            added_tokens=added, model=dict(type="BPE", vocab=plain, merges=[m.split(" ") for m in merges]),
            pre_tokenizer=dict(type="Sequence", pretokenizers=[
                dict(type="Split", pattern=dict(Regex=split), behavior="Isolated", invert=False),
                dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)]),
            post_processor=None if self.form.startswith("qwen") else bos, decoder=dict(type="ByteLevel"))

    def pieces(self):
        tokens, types, merges = vocab.build_pieces(self.s["vocab"])
        return pieces_json({t: i for i, (t, k) in enumerate(zip(tokens, types)) if k != vocab.UNUSED}, merges)

    def write_tokenizer(self):
        """Its files; what a text becomes is in `self.encode`."""
        settings = dict(bos_token=SPECIALS[0], eos_token=dict(content=SPECIALS[1]),
                        chat_template="{{ messages[0]['content'] }}")
        self.encode = None
        if self.form in ("llama", "bitnet-silu"):
            tokens, types, merges = vocab.build_pieces(self.s["vocab"])
            encode = vocab.Pieces(tokens, merges).encode
            self.encode = lambda text: [1, *encode(text)]
            settings |= dict(bos_token="<s>", eos_token="</s>")
            if self.form == "llama":
                self.json("tokenizer.json", self.pieces())
            else:
                with open(os.path.join(self.path, "tokenizer.model"), "wb") as f:
                    f.write(pieces_model(tokens, types))
        else:
            self.json("tokenizer.json", self.byte_level())
            if not self.form.startswith("qwen"):
                tokens, types, merges = vocab.build(self.s["vocab"], SPECIALS)
                meta = {"tokens": tokens, "token_type": types, "merges": merges}
                meta = {"tokenizer.ggml." + k: v for k, v in meta.items()}
                tok = vocab.Tokenizer(meta)
                self.encode = lambda text: [tokens.index(SPECIALS[0]), *tok.encode(text, bos=False)]
        self.json("tokenizer_config.json", settings)

    def shard(self, name):
        write_safetensors(os.path.join(self.path, name), {n: (self.dtype[n], a) for n, a in self.kept.items()})

    def write(self, keep=True):
        """`keep` false: a shard for each layer, forgotten once written, so that a large folder takes little
        memory."""
        s, files, index = self.s, [], {}

        def flush(always=False):
            if always or not keep or (self.form == "llama3" and len(files) == 0):
                files.append(f"model-{len(files):05}.safetensors")
                fresh = {n: (self.dtype[n], a) for n, a in self.kept.items() if n not in index}
                write_safetensors(os.path.join(self.path, files[-1]), fresh)
                index.update({n: files[-1] for n in fresh})
                if not keep:
                    self.kept.clear()

        os.makedirs(self.path, exist_ok=True)
        self.dense("model.embed_tokens", s["vocab"], s["hidden"], 1.6 / s["hidden"] ** 0.5)
        flush()
        for i in range(s["layers"]):
            self.layer(i)
            flush()
        self.norm("model.norm", s["hidden"])
        config = self.config()
        if not config["tie_word_embeddings"]:
            self.dense("lm_head", s["vocab"], s["hidden"], 1.6 / s["hidden"] ** 0.5)
        flush(always=True)
        if len(files) == 1:
            os.rename(os.path.join(self.path, files[0]), os.path.join(self.path, "model.safetensors"))
        else:
            self.json("model.safetensors.index.json", dict(metadata={}, weight_map=index))
        self.json("config.json", config)
        self.write_tokenizer()

    def json(self, name, value):
        with open(os.path.join(self.path, name), "w", encoding="utf-8") as f:
            json.dump(value, f, ensure_ascii=False)


# ---------------------------------------------------------------- SentencePiece's files

def pieces_json(ids, merges):
    """A Llama 2 style tokenizer.json of a vocabulary in SentencePiece's form."""
    space = vocab.SPACE
    bos = dict(type="TemplateProcessing", single=[{"SpecialToken": dict(id="<s>", type_id=0)},
                                                  {"Sequence": dict(id="A", type_id=0)}],
               pair=[], special_tokens={"<s>": dict(id="<s>", ids=[1], tokens=["<s>"])})
    strip = [dict(type="Replace", pattern=dict(String=space), content=" "), dict(type="ByteFallback"),
             dict(type="Fuse"), dict(type="Strip", content=" ", start=1, stop=0)]
    return dict(
        version="1.0", truncation=None, padding=None,
        added_tokens=[dict(id=ids[t], content=t, special=True, single_word=False, lstrip=False, rstrip=False,
                           normalized=False) for t in vocab.PIECE_MARKS],
        normalizer=dict(type="Sequence", normalizers=[
            dict(type="Prepend", prepend=space), dict(type="Replace", pattern=dict(String=" "), content=space)]),
        pre_tokenizer=None, post_processor=bos, decoder=dict(type="Sequence", decoders=strip),
        model=dict(type="BPE", dropout=None, unk_token="<unk>", continuing_subword_prefix=None,
                   end_of_word_suffix=None, fuse_unk=True, byte_fallback=True, ignore_merges=False, vocab=ids,
                   merges=[f"{a} {b}" for a, b in merges]))


def pieces_model(tokens, types):
    """The same vocabulary as SentencePiece's own file: protobuf, the fields of sentencepiece_model.proto."""
    def number(n):
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + number(n >> 7)

    def field(n, body):
        if isinstance(body, int):
            return number(n << 3) + number(body)
        if isinstance(body, float):
            return number(n << 3 | 5) + struct.pack("<f", body)
        return number(n << 3 | 2) + number(len(body)) + body

    used = [(t, k) for t, k in zip(tokens, types) if k != vocab.UNUSED]
    first = next(i for i, (_, k) in enumerate(used) if k == vocab.NORMAL)
    pieces = [field(1, field(1, t.encode()) + field(2, float(min(first - i, 0))) + field(3, k))
              for i, (t, k) in enumerate(used)]
    trainer = field(3, 2) + field(35, 1)
    return b"".join(pieces) + field(2, trainer) + field(3, field(1, b"identity") + field(2, b"") + field(4, 0))


# ---------------------------------------------------------------- transformers' arithmetic

class Reference:
    def __init__(self, folder):
        self.f, self.rint = folder, np.rint
        self.w = {n: (from_bf16(a) if folder.dtype[n] == "BF16" else a) for n, a in folder.kept.items()}

    def linear(self, name, x):
        w = self.w[name + ".weight"]
        if self.f.held == "plain":
            y = x @ w.astype(np.float64).T
            return y + self.w[name + ".bias"] if name + ".bias" in self.w else y
        # Activations: one int8 scale a token, round half to even (ActQuant).
        scale = 127 / np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-5)
        q = np.clip(self.rint(x * scale), -128, 127)
        if self.f.held == "masters":  # WeightQuant
            s = np.float32(1) / np.maximum(np.abs(w).mean(dtype=np.float64).astype(np.float32), np.float32(1e-5))
            return q @ (np.clip(np.rint(w * s), -1, 1) / s).astype(np.float64).T / scale
        codes = np.concatenate([w >> s & 3 for s in (0, 2, 4, 6)]).astype(np.float64) - 1  # unpack_weights
        y = q @ codes.T
        ws = np.float64(self.w[name + ".weight_scale"][0])
        return y / (scale * ws) if self.f.held == "divide" else y / scale * ws

    def norm(self, name, x):
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5) * self.w[name + ".weight"]

    def frequencies(self):
        d = self.f.head_dim
        freq = 10000.0 ** (-np.arange(0, d, 2) / d)
        if self.f.form != "llama3":
            return freq
        c = SCALING
        wavelen, old = 2 * np.pi / freq, c["original_max_position_embeddings"]
        scaled = np.where(wavelen > old / c["low_freq_factor"], freq / c["factor"], freq)
        smooth = (old / wavelen - c["low_freq_factor"]) / (c["high_freq_factor"] - c["low_freq_factor"])
        smoothed = (1 - smooth) * scaled / c["factor"] + smooth * scaled
        medium = ~(wavelen < old / c["high_freq_factor"]) & ~(wavelen > old / c["low_freq_factor"])
        return np.where(medium, smoothed, scaled)

    def rotate(self, x):
        angle = np.arange(len(x))[:, None] * self.frequencies()
        cos, sin = (np.concatenate([f(angle)] * 2, axis=1)[:, None] for f in (np.cos, np.sin))
        a, b = np.split(x, 2, axis=-1)
        return x * cos + np.concatenate([-b, a], axis=-1) * sin  # rotate_half

    def logits(self, tokens):
        s, d, n = self.f.s, self.f.head_dim, len(tokens)
        x = self.w["model.embed_tokens.weight"][tokens].astype(np.float64)
        for i in range(s["layers"]):
            p = f"model.layers.{i}."
            name = lambda new, old: p + (old if p + old + ".weight" in self.w else new)
            h = self.norm(p + "input_layernorm", x)
            q, k, v = (self.linear(f"{p}self_attn.{c}_proj", h).reshape(n, -1, d) for c in "qkv")
            if p + "self_attn.q_norm.weight" in self.w:
                q, k = self.norm(p + "self_attn.q_norm", q), self.norm(p + "self_attn.k_norm", k)
            q, k = self.rotate(q), self.rotate(k)
            half = getattr(self.rint, "half", lambda t: t.astype(np.float16).astype(np.float64))
            k, v = half(k), half(v)
            k, v = (np.repeat(t, s["heads"] // s["kv_heads"], axis=1) for t in (k, v))
            score = np.einsum("thd,shd->hts", q, k) / np.sqrt(d) + np.triu(np.full((n, n), -np.inf), 1)
            e = np.exp(score - score.max(axis=-1, keepdims=True))
            o = np.einsum("hts,shd->thd", e / e.sum(axis=-1, keepdims=True), v).reshape(n, -1)
            if self.f.bitnet:
                o = self.norm(name("self_attn.attn_sub_norm", "self_attn.inner_attn_ln"), o)
            x = x + self.linear(p + "self_attn.o_proj", o)
            h = self.norm(p + "post_attention_layernorm", x)
            g, u = self.linear(p + "mlp.gate_proj", h), self.linear(p + "mlp.up_proj", h)
            m = (np.maximum(g, 0) ** 2 if self.f.activation == "relu2" else g / (1 + np.exp(-g))) * u
            if self.f.bitnet:
                m = self.norm(name("mlp.ffn_sub_norm", "mlp.ffn_layernorm"), m)
            x = x + self.linear(p + "mlp.down_proj", m)
        head = self.w.get("lm_head.weight", self.w["model.embed_tokens.weight"])
        return self.norm("model.norm", x) @ head.astype(np.float64).T


# ---------------------------------------------------------------- commands

def convert(trill, folder, out):
    """Peak memory of the conversion in bytes."""
    done = subprocess.Popen([*trill, "convert", folder, out, "--force"], stderr=subprocess.PIPE, text=True)
    said = done.stderr.read()
    _, status, usage = os.wait4(done.pid, 0)
    done.returncode = os.waitstatus_to_exitcode(status)
    if done.returncode:
        raise RuntimeError(f"convert: exit {done.returncode}: {said.strip()[-300:]}")
    return usage.ru_maxrss * 1024


def same_tokens(trill, path, folder):
    if folder.encode is None:
        return
    lines = [*vocab.TEXT.splitlines(), "", " ", "  two  spaces ", "tab\tand\u00e9 \U0001f30a", "x" * 50]
    said = subprocess.run([*trill, "tokenize", "-m", path, "--jsonl"], input="".join(json.dumps(t) + "\n" for t in lines),
                          capture_output=True, text=True)
    for line, got in zip(lines, said.stdout.splitlines(), strict=True):
        if json.loads(got) != folder.encode(line):
            raise RuntimeError(f"{line!r} becomes {got}, not {folder.encode(line)}")


def one(trill, tmp, form, seed):
    """Error of the logits over their deviation, as it is and with the ties of rounding agreed on; how many ties went
    the other way; positions with the same choice."""
    folder = Folder(os.path.join(tmp, f"{form}-{seed}"), form, SMALL, seed)
    folder.write()
    tokens = np.random.default_rng(seed).integers(0, SMALL["vocab"], 16).tolist()
    path = folder.path + ".gguf"
    convert(trill, folder.path, path)
    same_tokens(trill, path, folder)
    reference = Reference(folder)
    got = compare.trill_logits(trill, path, tokens, 64, False)
    want = reference.logits(tokens)
    same = int((got.argmax(1) == want.argmax(1)).sum())

    def errors(rounding, rows):
        reference.rint = rounding
        return np.sqrt(((got[:rows] - reference.logits(tokens[:rows])) ** 2).mean(axis=1)) / want.std()

    if folder.held == "plain":  # no activation is rounded to int8, and a step of f16 is small
        before = after = errors(np.rint, len(tokens))
        kept = 0
    else:
        before, after, kept = ties.Agreement(errors, len(tokens), AGREED / 10).find()
    rms = lambda e: float(np.sqrt((e ** 2).mean()))
    return rms(before), rms(after), kept, same


def check(trill, large):
    results = []
    with tempfile.TemporaryDirectory() as tmp:
        for form in FORMS:
            try:
                before, after, kept, same = zip(*(one(trill, tmp, form, seed) for seed in range(SEEDS)))
                rms = np.sqrt(np.mean(np.square(before)))
                good = rms < 0.02 and max(after) < (1e-3 if FORMS[form][2] == "plain" else AGREED)
                print("pass" if good else "FAIL", form, f"rms {rms:.1e} of the deviation, {min(before):.1e} to"
                      f" {max(before):.1e}; {max(after):.1e} once {sum(kept)} ties are agreed on; same choice"
                      f" {sum(same)}/{16 * SEEDS}", flush=True)
            except RuntimeError as e:
                good = False
                print("FAIL", form, e)
            results.append(good)
        for form in large:
            # In a process of its own: a child's peak memory counts its parent's.
            folder = os.path.join(tmp, f"large-{form}")
            subprocess.run([sys.executable, __file__, "make", folder, "--form", form, "--large"], check=True)
            peak = convert(trill, folder, os.path.join(tmp, "large.gguf"))
            results.append(peak < 512 << 20)
            print("pass" if results[-1] else "FAIL", form, f"shape of 2B-4T, peak memory {peak >> 20} MiB of 512")
            shutil.rmtree(folder)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(not all(results))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="command", required=True)
    m = sub.add_parser("make")
    m.add_argument("folder")
    m.add_argument("--form", choices=FORMS, default="packed")
    m.add_argument("--large", action="store_true")
    m.add_argument("--seed", type=int, default=0)
    c = sub.add_parser("check")
    c.add_argument("--trill", required=True)
    c.add_argument("--large", nargs="*", default=[], choices=["packed", "masters"],
                   help="also the memory taken by such a folder of BitNet 2B-4T's shape")
    a = ap.parse_args()
    if a.command == "make":
        Folder(a.folder, a.form, LARGE if a.large else SMALL, a.seed).write(keep=not a.large)
    else:
        check(shlex.split(a.trill), a.large)


if __name__ == "__main__":
    main()
