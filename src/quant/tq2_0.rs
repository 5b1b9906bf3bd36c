//! TQ2_0: 256 ternary weights in 66 bytes, `w = d * (code - 1)`.
//!
//! Two halves of 128 weights in 32 bytes: byte `j` of a half holds its codes `j`, `j + 32`, `j + 64`, `j + 96`, the
//! first in the lowest two bits; bytes 64..66 `d` (binary16). Code 3 is read as +2; no writer makes it.
//!
//! `dot` (Block256): `acc = acc + (isum as f32) * (d * da)`, `isum = sum((code - 1) * q)`, `|isum| <= 2^16`.

use super::block::{
    check_scales, decode_scaled, dot256, encode_blocks, half, half_bytes, idot, inverse, ternary_code, widest,
};
use super::{ActKind, BlockHealth, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "TQ2_0",
    ggml_id: Some(35),
    block: 256,
    bytes: 66,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block256,
    decode: |data, out| decode_scaled(data, out, unpack),
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot: |row, act| {
        dot256(row, act, |b, q| {
            let (codes, d) = unpack(b);
            (idot(&codes, q), d)
        })
    },
    check,
};

pub(super) fn unpack(b: &[u8; 66]) -> ([i8; 256], f32) {
    let codes = core::array::from_fn(|i| (b[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) as i8 - 1);
    (codes, half::<64, 66>(b))
}

fn pack(v: &[f32; 256]) -> [u8; 66] {
    let d = widest(v).abs();
    let id = inverse(d);
    let mut b = [0; 66];
    for (i, v) in v.iter().enumerate() {
        b[i / 128 * 32 + i % 32] |= ternary_code(*v, id) << (i % 128 / 32 * 2);
    }
    b[64..].copy_from_slice(&half_bytes(d));
    b
}

fn check(data: &[u8]) -> BlockHealth {
    let mut health = check_scales::<66, 1>(data, |b| [half::<64, 66>(b)]);
    for b in data.as_chunks::<66>().0 {
        health.invalid_codes += b[..64].iter().map(|b| (b & b >> 1 & 0x55).count_ones() as usize).sum::<usize>();
    }
    health
}
