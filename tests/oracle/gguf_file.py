"""GGUF version 3: read a file, write a file. Knows the weight types of `weights.py` and nothing else.

Read returns every tensor as a view of the mapped file. Tensor type 42 has three meanings in published
files; which one a file uses is found from the distance between tensor offsets (`read`).
"""

import struct
from dataclasses import dataclass

import numpy as np

import weights

MAGIC, VERSION, ALIGNMENT = 0x46554747, 3, 32

# Metadata value types and how struct packs the scalar ones.
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
SCALAR = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?",
          U64: "Q", I64: "q", F64: "d"}


@dataclass
class Tensor:
    """`shape` is (rows, cols) or (n,); `kind` is a name in `weights.KINDS`; `data` is bytes-like."""
    name: str
    kind: str
    shape: tuple
    data: object


def padded(n):
    return -(-n // ALIGNMENT) * ALIGNMENT


class Reader:
    def __init__(self, buf):
        self.buf, self.at = buf, 0

    def scalar(self, code):
        (v,) = struct.unpack_from("<" + code, self.buf, self.at)
        self.at += struct.calcsize("<" + code)
        return v

    def string(self):
        n = self.scalar("Q")
        s = bytes(self.buf[self.at:self.at + n]).decode("utf-8")
        self.at += n
        return s

    def value(self, vtype):
        if vtype == STRING:
            return self.string()
        if vtype == ARRAY:
            etype, n = self.scalar("I"), self.scalar("Q")
            return [self.value(etype) for _ in range(n)]
        return self.scalar(SCALAR[vtype])


def read(path):
    """Returns (metadata dict in file order, {name: Tensor})."""
    buf = np.memmap(path, dtype=np.uint8, mode="r")
    r = Reader(buf)
    if r.scalar("I") != MAGIC or r.scalar("I") != VERSION:
        raise SystemExit(f"{path}: not a GGUF version 3 file")
    n_tensors, n_meta = r.scalar("Q"), r.scalar("Q")
    meta = {}
    for _ in range(n_meta):
        key = r.string()
        meta[key] = r.value(r.scalar("I"))
    infos = []
    for _ in range(n_tensors):
        name = r.string()
        dims = [r.scalar("Q") for _ in range(r.scalar("I"))]
        infos.append((name, r.scalar("I"), tuple(reversed(dims)), r.scalar("Q")))
    base = padded(r.at)
    ends = [o for _, _, _, o in infos[1:]] + [padded(len(buf) - base)]
    tensors = {}
    for (name, number, shape, offset), end in zip(infos, ends):
        fits = [k for k in weights.kinds_with_number(number)
                if weights.nbytes(k, shape) is not None and padded(weights.nbytes(k, shape)) == end - offset]
        if len(fits) != 1:
            raise SystemExit(f"{path}: {name}: type {number} of shape {shape} in {end - offset} bytes fits {fits}")
        data = buf[base + offset:base + offset + weights.nbytes(fits[0], shape)]
        tensors[name] = Tensor(name, fits[0], shape, data)
    return meta, tensors


def _string(s):
    raw = s.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _value(vtype, v):
    if vtype == STRING:
        return _string(v)
    if vtype == ARRAY:
        etype, items = v
        if etype in SCALAR:
            body = struct.pack(f"<{len(items)}{SCALAR[etype]}", *items)
        else:
            body = b"".join(_value(etype, x) for x in items)
        return struct.pack("<IQ", etype, len(items)) + body
    return struct.pack("<" + SCALAR[vtype], v)


def write(path, meta, tensors):
    """`meta`: list of (key, value type, value), an array as (element type, items). `tensors`: list of
    Tensor; `data` may be a function that gives the bytes piece by piece, so that a large model never lies
    in memory whole."""
    head = [struct.pack("<IIQQ", MAGIC, VERSION, len(tensors), len(meta))]
    for key, vtype, v in meta:
        head.append(_string(key) + struct.pack("<I", vtype) + _value(vtype, v))
    offset = 0
    for t in tensors:
        head.append(_string(t.name) + struct.pack("<I", len(t.shape)))
        head.append(b"".join(struct.pack("<Q", d) for d in reversed(t.shape)))
        head.append(struct.pack("<IQ", weights.KINDS[t.kind].number, offset))
        offset += padded(weights.nbytes(t.kind, t.shape))
    head = b"".join(head)
    with open(path, "wb") as f:
        f.write(head + bytes(padded(len(head)) - len(head)))
        for t in tensors:
            size = sum(f.write(piece) for piece in (t.data() if callable(t.data) else [t.data]))
            if size != weights.nbytes(t.kind, t.shape):
                raise ValueError(f"{t.name}: {size} bytes, not {weights.nbytes(t.kind, t.shape)}")
            f.write(bytes(padded(size) - size))
