"""Weight types: how a matrix of codes and scales becomes bytes, and back.

`pack(codes, scale)` takes small integers (rows, cols) and one scale for each block (or one for all);
`unpack(data, rows, cols)` gives (codes, scales) with scales broadcastable to the codes. The weights are
codes * scales. The float types and Q8_0, Q4_0 take float matrices in `encode` and give floats.

Sources: the tables of llama.cpp's ggml-common.h for Q4_0, Q8_0, TQ1_0, TQ2_0, Q1_0, Q2_0; bitnet.cpp's
quantize_to_i2_s for I2_S; src/quant/b1.rs for B1 (trill's own); PrismML's fork for PQ2_0 and PTQ1_0; llama.cpp pull request 22836 for STQ1_0.
The TQ packers and Q4_0, Q8_0 are compared with the PyPI package `gguf` in `check.py`.
"""

from dataclasses import dataclass
from typing import Callable

import numpy as np


# ---------------------------------------------------------------- two-bit codes

def _i2s(width):
    """Blocks of 4 * width weights in width bytes; byte j holds weights j, j + width, ... from the top
    two bits down; code = q + 1. One f32 scale in a 32-byte tail. width 32: published files; width 16:
    what bitnet.cpp's quantizer writes on ARM since November 2025."""
    def pack(q, scale):
        c = (q.reshape(-1, 4, width) + 1).astype(np.uint8)
        codes = c[:, 0] << 6 | c[:, 1] << 4 | c[:, 2] << 2 | c[:, 3]
        tail = np.zeros(8, "<f4")
        tail[0] = np.max(scale)
        return codes.tobytes() + tail.tobytes()

    def unpack(data, rows, cols):
        n = rows * cols // 4
        b = np.asarray(data[:n]).reshape(-1, 1, width)
        q = (b >> np.array([6, 4, 2, 0], np.uint8).reshape(1, 4, 1) & 3).astype(np.int8) - 1
        scale = np.frombuffer(bytes(data[n:n + 4]), "<f4")[0]
        return q.reshape(rows, cols), np.full((1, 1), scale, np.float32)

    return pack, unpack


def _with_scale(blocks, scale, last):
    """Puts an f16 scale in front of or behind each block's codes."""
    d = np.broadcast_to(np.asarray(scale, np.float16).reshape(-1, 1), (len(blocks), 1))
    d = np.ascontiguousarray(d).view(np.uint8)
    return np.concatenate([blocks, d] if last else [d, blocks], axis=1).tobytes()


def _split_scale(data, size, last):
    b = np.asarray(data).reshape(-1, size)
    codes, d = (b[:, :-2], b[:, -2:]) if last else (b[:, 2:], b[:, :2])
    return codes, np.ascontiguousarray(d).view(np.float16).astype(np.float32)


def _by_block(q, d, rows, cols):
    """Scales of blocks, spread over the weights."""
    return q.reshape(rows, cols), np.repeat(d.reshape(rows, -1), cols // d.reshape(rows, -1).shape[1], axis=1)


def pack_tq2_0(q, scale):
    """Two halves of 128 weights in 32 bytes; byte j holds j, j + 32, ... from the low bits up."""
    c = (q.reshape(-1, 2, 4, 32) + 1).astype(np.uint8)
    codes = c[:, :, 0] | c[:, :, 1] << 2 | c[:, :, 2] << 4 | c[:, :, 3] << 6
    return _with_scale(codes.reshape(-1, 64), scale, last=True)


def unpack_tq2_0(data, rows, cols):
    b, d = _split_scale(data, 66, last=True)
    shifts = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    return _by_block((b.reshape(-1, 2, 1, 32) >> shifts & 3).astype(np.int8) - 1, d, rows, cols)


def _q2_0(block):
    """Four consecutive weights a byte, low bits first; code = q + 1, and 3 means +2."""
    def pack(q, scale):
        c = (q.reshape(-1, block // 4, 4) + 1).astype(np.uint8)
        return _with_scale(c[..., 0] | c[..., 1] << 2 | c[..., 2] << 4 | c[..., 3] << 6, scale, last=False)

    def unpack(data, rows, cols):
        b, d = _split_scale(data, block // 4 + 2, last=False)
        q = (b[..., None] >> np.array([0, 2, 4, 6], np.uint8) & 3).astype(np.int8) - 1
        return _by_block(q, d, rows, cols)

    return pack, unpack


# ---------------------------------------------------------------- base three

def _to_byte(t):
    """(..., k) trits 0..2, the first the most significant of five -> ceil(value * 256 / 243)."""
    v = np.zeros(t.shape[:-1], np.uint16)
    for i in range(5):
        v = v * 3 + (t[..., i] if i < t.shape[-1] else 0)
    return ((v * 256 + 242) // 243).astype(np.uint8)


def _digits(b, k):
    """k trits of each byte, digit by digit, in the order of the weights."""
    b = b.astype(np.uint16)
    return [((b * 3 ** i & 255) * 3 >> 8).astype(np.int8) for i in range(k)]


def _base3(stages, block):
    """`stages`: (bytes, digits) in order; in a stage of n bytes, byte m holds weights m, m + n, m + 2n..."""
    n_bytes = sum(n for n, _ in stages) + 2

    def pack(q, scale):
        c = (q.reshape(-1, block) + 1).astype(np.uint8)
        parts, at = [], 0
        for n, k in stages:
            parts.append(_to_byte(c[:, at:at + n * k].reshape(-1, k, n).transpose(0, 2, 1)))
            at += n * k
        return _with_scale(np.concatenate(parts, axis=1), scale, last=True)

    def unpack(data, rows, cols):
        b, d = _split_scale(data, n_bytes, last=True)
        parts, at = [], 0
        for n, k in stages:
            parts += _digits(b[:, at:at + n], k)
            at += n
        return _by_block(np.concatenate(parts, axis=1) - 1, d, rows, cols)

    return pack, unpack


# ---------------------------------------------------------------- one bit, and three of four

def pack_q1_0(q, scale):
    bits = np.packbits((q.reshape(-1, 16, 8) > 0).astype(np.uint8), axis=2, bitorder="little")
    return _with_scale(bits.reshape(-1, 16), scale, last=False)


def unpack_q1_0(data, rows, cols):
    b, d = _split_scale(data, 18, last=False)
    q = np.unpackbits(b, axis=1, bitorder="little").astype(np.int8) * 2 - 1
    return _by_block(q, d, rows, cols)


def _stq_codebook():
    """32 groups of four lanes with exactly one zero. Index = sign << 4 | zero lane << 2 | relative signs:
    bit 0 set, the second non-zero lane differs from the first; bit 1, the third. sign: the first is -1."""
    book = np.zeros((32, 4), np.int8)
    for i in range(32):
        first = -1 if i >> 4 else 1
        signs = [first, first * (-1 if i & 1 else 1), first * (-1 if i & 2 else 1)]
        lanes = [p for p in range(4) if p != i >> 2 & 3]
        book[i, lanes] = signs
    return book


STQ_CODEBOOK = _stq_codebook()


def _stq_groups(q):
    """Lane p of group g of a block is weight g // 16 * 64 + g % 16 + 16 * p."""
    return q.reshape(-1, 4, 4, 16).transpose(0, 1, 3, 2).reshape(-1, 64, 4)


def pack_stq1_0(q, scale):
    g = _stq_groups(q)
    key = ((g + 1) * np.array([1, 3, 9, 27])).sum(axis=-1)
    index = np.full(81, 255, np.uint8)
    index[((STQ_CODEBOOK + 1) * np.array([1, 3, 9, 27])).sum(axis=-1)] = np.arange(32)
    code = index[key]
    if (code == 255).any():
        raise ValueError("STQ1_0 needs exactly one zero in every group of four")
    slots = (code & 15).reshape(-1, 32, 2)
    qs = slots[..., 0] | slots[..., 1] << 4
    sign = np.packbits(code >> 4, axis=1, bitorder="little")
    return _with_scale(np.concatenate([qs, sign], axis=1), scale, last=True)


def unpack_stq1_0(data, rows, cols):
    b, d = _split_scale(data, 42, last=True)
    slots = np.stack([b[:, :32] & 15, b[:, :32] >> 4], axis=2).reshape(-1, 64)
    sign = np.unpackbits(b[:, 32:], axis=1, bitorder="little")
    g = STQ_CODEBOOK[sign << 4 | slots].reshape(-1, 4, 16, 4)
    return _by_block(g.transpose(0, 1, 3, 2), d, rows, cols)


# ---------------------------------------------------------------- trill's own: signs on both sides

def pack_b1(q, scale):
    """A row: a bit for each sign, low bits first, then one f32 scale."""
    bits = np.packbits(q > 0, axis=1, bitorder="little")
    d = np.ascontiguousarray(np.broadcast_to(np.asarray(scale, "<f4").reshape(-1, 1), (len(q), 1)))
    return np.concatenate([bits, d.view(np.uint8)], axis=1).tobytes()


def unpack_b1(data, rows, cols):
    b = np.asarray(data).reshape(rows, cols // 8 + 4)
    q = np.unpackbits(b[:, :-4], axis=1, bitorder="little").astype(np.int8) * 2 - 1
    return q, np.ascontiguousarray(b[:, -4:]).view("<f4")


def pack_b1_64(q, scale):
    bits = np.packbits((q.reshape(-1, 8, 8) > 0), axis=2, bitorder="little")
    return _with_scale(bits.reshape(-1, 8), scale, last=True)


def unpack_b1_64(data, rows, cols):
    b, d = _split_scale(data, 10, last=True)
    return _by_block(np.unpackbits(b, axis=1, bitorder="little").astype(np.int8) * 2 - 1, d, rows, cols)


# ---------------------------------------------------------------- float matrices

def encode_q8_0(w):
    b = w.astype(np.float32).reshape(-1, 32)
    d = np.abs(b).max(axis=1, keepdims=True) / np.float32(127)
    inv = np.where(d > 0, np.float32(1) / np.where(d > 0, d, 1), 0).astype(np.float32)
    x = b * inv
    q = (np.sign(x) * np.floor(np.abs(x) + np.float32(0.5))).astype(np.int8)  # ggml rounds half away from zero
    return _with_scale(q.view(np.uint8), d.astype(np.float16), last=False)


def unpack_q8_0(data, rows, cols):
    b, d = _split_scale(data, 34, last=False)
    return _by_block(np.ascontiguousarray(b).view(np.int8), d, rows, cols)


def encode_q4_0(w):
    b = w.astype(np.float32).reshape(-1, 32)
    m = np.take_along_axis(b, np.abs(b).argmax(axis=1)[:, None], axis=1)
    d = m / np.float32(-8)
    inv = np.where(d != 0, np.float32(1) / np.where(d != 0, d, 1), 0).astype(np.float32)
    q = np.clip(np.trunc(b * inv + np.float32(8.5)), 0, 15).astype(np.uint8)
    return _with_scale(q[:, :16] | q[:, 16:] << 4, d.astype(np.float16), last=False)


def unpack_q4_0(data, rows, cols):
    b, d = _split_scale(data, 18, last=False)
    q = np.concatenate([b & 15, b >> 4], axis=1).astype(np.int8) - 8
    return _by_block(q, d, rows, cols)


def _float(dtype):
    def unpack(data, rows, cols):
        return np.frombuffer(bytes(data), dtype).reshape(rows, cols), np.ones((1, 1), np.float32)
    return lambda w: w.astype(dtype).tobytes(), unpack


def encode_bf16(w):
    bits = w.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16).tobytes()


def unpack_bf16(data, rows, cols):
    bits = np.frombuffer(bytes(data), np.uint16).astype(np.uint32) << 16
    return bits.view(np.float32).reshape(rows, cols), np.ones((1, 1), np.float32)


# ---------------------------------------------------------------- the table

@dataclass
class Kind:
    number: int          # in a GGUF tensor record
    block: int           # weights
    bytes: int           # of a block
    tail: int            # bytes after the last block
    act: str             # the activation its dot product takes: see forward.QUANTIZE
    codes: str           # what it can hold: ternary, binary, sparse, two-bit, float
    pack: Callable = None
    unpack: Callable = None
    encode: Callable = None
    row_tail: int = 0    # bytes after the last block of a row


_pair = lambda p: dict(pack=p[0], unpack=p[1])
_floats = lambda p: dict(encode=p[0], unpack=p[1])

KINDS = {
    "F32": Kind(0, 1, 4, 0, "none", "float", **_floats(_float("<f4"))),
    "F16": Kind(1, 1, 2, 0, "none", "float", **_floats(_float("<f2"))),
    "BF16": Kind(30, 1, 2, 0, "none", "float", encode=encode_bf16, unpack=unpack_bf16),
    "Q4_0": Kind(2, 32, 18, 0, "q8_0", "float", encode=encode_q4_0, unpack=unpack_q4_0),
    "Q8_0": Kind(8, 32, 34, 0, "q8_0", "float", encode=encode_q8_0, unpack=unpack_q8_0),
    "TQ1_0": Kind(34, 256, 54, 0, "q8k", "ternary", **_pair(_base3([(32, 5), (16, 5), (4, 4)], 256))),
    "TQ2_0": Kind(35, 256, 66, 0, "q8k", "ternary", pack=pack_tq2_0, unpack=unpack_tq2_0),
    "I2_S": Kind(36, 128, 32, 32, "i8", "ternary", **_pair(_i2s(32))),
    "I2_S_ARM64": Kind(36, 64, 16, 32, "i8", "ternary", **_pair(_i2s(16))),
    "Q1_0": Kind(41, 128, 18, 0, "q8_0", "binary", pack=pack_q1_0, unpack=unpack_q1_0),
    "Q2_0": Kind(42, 64, 18, 0, "q8_0", "two-bit", **_pair(_q2_0(64))),
    "Q2_0_G128": Kind(42, 128, 34, 0, "q8_0", "two-bit", **_pair(_q2_0(128))),
    "STQ1_0_42": Kind(42, 256, 42, 0, "q8k", "sparse", pack=pack_stq1_0, unpack=unpack_stq1_0),
    "STQ1_0": Kind(43, 256, 42, 0, "q8k", "sparse", pack=pack_stq1_0, unpack=unpack_stq1_0),
    "PQ2_0": Kind(142, 128, 34, 0, "q8_0", "two-bit", **_pair(_q2_0(128))),
    "B1": Kind(202, 64, 8, 0, "sign", "binary", pack=pack_b1, unpack=unpack_b1, row_tail=4),
    "B1_64": Kind(203, 64, 10, 0, "sign", "binary", pack=pack_b1_64, unpack=unpack_b1_64),
    "PTQ1_0": Kind(143, 128, 28, 0, "q8_0", "ternary", **_pair(_base3([(16, 5), (8, 5), (2, 4)], 128))),
}


def kinds_with_number(number):
    """The meanings of a tensor type number. The ARM form of I2_S cannot be told from the other by its
    size; a reader has to be told."""
    return [k for k, v in KINDS.items() if v.number == number and k != "I2_S_ARM64"]


def nbytes(kind, shape):
    """Bytes of a tensor, or None where its rows are not whole blocks."""
    k = KINDS[kind]
    if shape[-1] % k.block:
        return None
    rows = int(np.prod(shape[:-1], dtype=np.int64))
    return rows * (shape[-1] // k.block * k.bytes + k.row_tail) + k.tail


def to_bytes(kind, codes, scale):
    """codes * scale as a tensor of `kind`. `scale`: one number, or one for each block of `kind`."""
    k = KINDS[kind]
    if k.pack:
        return k.pack(codes, scale)
    scale = np.asarray(scale, np.float32)
    if scale.size > 1:
        scale = np.repeat(scale.reshape(codes.shape[0], -1), codes.shape[1] // (scale.size // codes.shape[0]), axis=1)
    return k.encode((codes * scale).astype(np.float32))
