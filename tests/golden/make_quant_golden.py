"""Writes quant.txt: hashes of what other implementations decode and encode, for tests/quant_golden.rs.

    pip install numpy gguf llama-cpp-python && python make_quant_golden.py > quant.txt

One line per type: name, bytes and weights of a block, offsets of its binary16 fields, FNV-1a of the decoded
f32 values, FNV-1a of the encoded bytes ("-" where nobody else encodes), and who said so. Inputs come from a
counter (splitmix64), so the test makes the same ones and no data is stored.

Sources: the gguf package (`gguf`), ggml's reference quantizers and dequantizers through llama-cpp-python's
libggml-base (`ggml`), and for types that neither knows the numpy statement of the layout below (`here`).
"""

import ctypes
import os

import gguf
import llama_cpp
import numpy as np

BLOCKS = 64  # random blocks decoded
GROUPS = 40  # groups of 256 values encoded
MASK = (1 << 64) - 1


def draw(seed, n):
    """n 64-bit draws: the splitmix64 sequence that starts at seed."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def blocks(size, halves):
    """Random blocks whose binary16 fields are below 2, so finite; denormals and zeros of the field stay."""
    b = (draw(1, BLOCKS * size) >> np.uint64(56)).astype(np.uint8).reshape(BLOCKS, size)
    for at in halves:
        b[:, at + 1] &= 0xBF
        b[::8, at + 1] &= 0x83  # every eighth: denormal
    return b


def values():
    """Groups of 256 values of every character: see the cases."""
    z = draw(2, GROUPS * 256)
    sums = sum(((z >> np.uint64(16 * i)) & np.uint64(0xFFFF)).astype(np.int64) for i in range(4)) - 131070
    v = sums.astype(np.float32).reshape(GROUPS, 256) / np.float32(1 << 17)
    for g in range(GROUPS):
        row, case = v[g], g % 10
        if case == 4:
            row *= np.float32(2.0**-22)  # scales below the normal range of binary16
        elif case == 5:
            row[: 256 if g % 20 == 5 else 112] = 0
        elif case == 6:
            row[:] = -0.75
        elif case == 7:
            row[:] = np.sign(np.trunc(row * 4)) * np.float32(0.3125)
        elif case == 8:
            row[37] = 40.0  # one outlier
        elif case == 9:
            row += np.float32(2)  # one sign
    return v.reshape(-1)


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in bytes(data):
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return f"{h:016x}"


LIB = ctypes.CDLL(os.path.join(llama_cpp.__path__[0], "lib", "libggml-base.so"))
LIB.ggml_quantize_chunk.restype = ctypes.c_size_t
LIB.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]


def ggml_encode(type_id, size, block, v):
    out = np.zeros(v.size // block * size, np.uint8)
    LIB.ggml_quantize_chunk(type_id, v.ctypes.data, out.ctypes.data, 0, v.size // 256, 256, None)
    return out


def ggml_decode(name, b, block):
    out = np.zeros(b.shape[0] * block, np.float32)
    f = getattr(LIB, f"dequantize_row_{name}")
    f.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    f.restype = None
    f(np.ascontiguousarray(b).ctypes.data, out.ctypes.data, out.size)
    return out


# Layouts that only forks of ggml know, stated again: codes [blocks, weights] and scale [blocks, 1].


def half(b, at):
    return b[:, at : at + 2].copy().view(np.float16).astype(np.float32)


def crumbs(b, block):
    return (b[:, np.arange(block) // 4] >> (np.arange(block) % 4 * 2).astype(np.uint8) & 3).astype(np.int32) - 1


def i2_s(width):
    """width bytes hold 4 * width weights; byte j: weights j, j + width, ... from the top bits down."""
    return lambda b: np.concatenate([(b >> s & 3) for s in (6, 4, 2, 0)], axis=1).astype(np.int32) - 1


def ptq1_0(b):
    def digits(part, n):
        return [(((part.astype(np.uint16) * 3**i) & 255) * 3 >> 8).astype(np.int32) - 1 for i in range(n)]

    return np.concatenate(digits(b[:, :16], 5) + digits(b[:, 16:24], 5) + digits(b[:, 24:26], 4), axis=1)


def stq1_0(b):
    out = np.zeros((b.shape[0], 256), np.int32)
    for g in range(64):
        slot = b[:, g // 2] >> (4 * (g & 1)) & 15
        sign = b[:, 32 + g // 8] >> (g % 8) & 1
        for r in range(b.shape[0]):
            lanes = [1, -1 if slot[r] & 1 else 1, -1 if slot[r] & 2 else 1]
            lanes.insert(slot[r] >> 2, 0)
            for p in range(4):
                out[r, g // 16 * 64 + g % 16 + 16 * p] = lanes[p] * (-1 if sign[r] else 1)
    return out


HERE = {
    "I2_S": lambda b: i2_s(32)(b).astype(np.float32),
    "I2_S_ARM": lambda b: i2_s(16)(b).astype(np.float32),
    "Q2_0_G128": lambda b: half(b, 0) * crumbs(b[:, 2:], 128).astype(np.float32),
    "PTQ1_0": lambda b: half(b, 26) * ptq1_0(b).astype(np.float32),
    "STQ1_0": lambda b: half(b, 40) * stq1_0(b).astype(np.float32),
}

# name, ggml id, bytes, weights, offsets of binary16 fields (for F32 the upper half)
TYPES = [
    ("F32", 0, 4, 1, [2]), ("F16", 1, 2, 1, [0]), ("BF16", 30, 2, 1, [0]),
    ("Q4_0", 2, 18, 32, [0]), ("Q4_1", 3, 20, 32, [0, 2]), ("Q5_0", 6, 22, 32, [0]), ("Q5_1", 7, 24, 32, [0, 2]),
    ("Q8_0", 8, 34, 32, [0]),
    ("I2_S", None, 32, 128, []), ("I2_S_ARM", None, 16, 64, []), ("TQ1_0", 34, 54, 256, [52]), ("TQ2_0", 35, 66, 256, [64]),
    ("Q1_0", 41, 18, 128, [0]), ("Q2_0", 42, 18, 64, [0]), ("Q2_0_G128", None, 34, 128, [0]), ("PTQ1_0", None, 28, 128, [26]),
    ("STQ1_0", None, 42, 256, [40]),
    ("Q2_K", 10, 84, 256, [80, 82]), ("Q3_K", 11, 110, 256, [108]), ("Q4_K", 12, 144, 256, [0, 2]),
    ("Q5_K", 13, 176, 256, [0, 2]), ("Q6_K", 14, 210, 256, [208]),
]  # fmt: skip


def golden(name, type_id, size, block, halves):
    b, v = blocks(size, halves), values()
    said = []
    if name in HERE:
        decoded, by = HERE[name](b), "here"
    elif name in ("Q1_0", "Q2_0"):
        decoded, by = ggml_decode(name.lower(), b, block), "ggml"
    else:
        decoded, by = gguf.quants.dequantize(b, gguf.GGMLQuantizationType(type_id)), "gguf"
    said.append(by)
    encoded = None
    if type_id is not None:
        try:
            encoded = gguf.quants.quantize(v.reshape(-1, 256), gguf.GGMLQuantizationType(type_id))
            said.append("gguf")
        except (NotImplementedError, ValueError):
            encoded = ggml_encode(type_id, size, block, v)
            said.append("ggml")
    decoded = np.ascontiguousarray(decoded, np.float32)
    code = "-" if encoded is None else fnv(np.ascontiguousarray(encoded).tobytes())
    at = ",".join(map(str, halves)) or "-"
    return f"{name} {size} {block} {at} {fnv(decoded.tobytes())} {code} {'+'.join(said)}"


if __name__ == "__main__":
    for t in TYPES:
        print(golden(*t))
