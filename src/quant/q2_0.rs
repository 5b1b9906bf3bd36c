//! Q2_0: 64 weights in 18 bytes, `w = d * (code - 1)`, so -1, 0, +1 or +2 times `d`.
//!
//! Bytes 0..2 `d` (binary16); code `i` is in bits `2 * (i % 4)` and up of byte `2 + i / 4`.
//!
//! `dot` (Block32): for each 32 of the block `acc = acc + (isum as f32) * (d * da)`, `isum = sum((code - 1) * q)`.

use super::block::{check_scales, decode_scaled, dot32, encode_blocks, half, half_bytes, inverse, ternary_code, widest};
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q2_0",
    ggml_id: Some(42),
    block: 64,
    bytes: 18,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block32,
    decode: |data, out| decode_scaled(data, out, unpack::<18, 64>),
    encode: Some(|values, out| encode_blocks(values, out, pack::<18, 64>)),
    dot: |row, act| dot32(row, act, unpack::<18, 64>),
    check: |data| check_scales::<18, 1>(data, |b| [half::<0, 18>(b)]),
};

#[inline(always)]
pub(super) fn unpack<const BYTES: usize, const BLOCK: usize>(b: &[u8; BYTES]) -> ([i8; BLOCK], f32) {
    let codes = core::array::from_fn(|i| (b[2 + i / 4] >> (i % 4 * 2) & 3) as i8 - 1);
    (codes, half::<0, BYTES>(b))
}

/// `d` is the largest magnitude, so that +2 does not arise.
pub(super) fn pack<const BYTES: usize, const BLOCK: usize>(v: &[f32; BLOCK]) -> [u8; BYTES] {
    let d = widest(v).abs();
    let id = inverse(d);
    let mut b = [0; BYTES];
    b[..2].copy_from_slice(&half_bytes(d));
    for (i, v) in v.iter().enumerate() {
        b[2 + i / 4] |= ternary_code(*v, id) << (i % 4 * 2);
    }
    b
}
