//! I2_S (microsoft/BitNet): 128 weights in 32 bytes, `w = scale * (code - 1)`; after the last block of the tensor
//! a 32-byte tail that begins with the f32 `scale` and is otherwise undefined.
//!
//! Byte `j` holds the codes `j`, `j + 32`, `j + 64`, `j + 96`, the first in the top two bits. Code 3 does not
//! occur; it is read as +2 and counted by `check`.
//!
//! `dot` (Row): `((isum - sum) as f32) / d`, `isum = sum(code * q)`, `sum = sum(q)`; the caller multiplies by
//! the scale. The integers are exact: at `limits::FFN_MAX` columns `|isum| <= 131072 * 3 * 128 < 2^26`.
//!
//! Source: microsoft/BitNet, `docs/bitnet-embeddings-i2s-guide.md` and the published 2B-4T file.

use super::block::{decode_blocks, encode_blocks, idot};
use super::{ActKind, ActRow, BlockHealth, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "I2_S",
    ggml_id: Some(36),
    block: 128,
    bytes: 32,
    row_tail: 0,
    more_lanes: &[],
    tail: 32,
    act: ActKind::Row,
    decode: |data, out| decode_blocks(data, out, |b| unpack::<32, 128>(b).map(|c| f32::from(c) - 1.0)),
    encode: Some(|values, out| encode_blocks(values, out, pack::<32, 128>)),
    dot: dot::<32, 128>,
    check: check::<32>,
};

#[inline(always)]
pub(super) fn unpack<const WIDTH: usize, const BLOCK: usize>(b: &[u8; WIDTH]) -> [u8; BLOCK] {
    core::array::from_fn(|i| b[i % WIDTH] >> (6 - i / WIDTH * 2) & 3)
}

/// The sign of each weight; 0 below 1e-6.
pub(super) fn pack<const WIDTH: usize, const BLOCK: usize>(v: &[f32; BLOCK]) -> [u8; WIDTH] {
    let mut b = [0; WIDTH];
    for (i, v) in v.iter().enumerate() {
        let code = if f64::from(v.abs()) < 1e-6 { 1 } else { 2 * u8::from(*v > 0.0) };
        b[i % WIDTH] |= code << (6 - i / WIDTH * 2);
    }
    b
}

pub(super) fn dot<const WIDTH: usize, const BLOCK: usize>(row: &[u8], act: ActRow<'_>) -> f32 {
    let blocks = row.as_chunks::<WIDTH>().0.iter().zip(act.q.as_chunks::<BLOCK>().0);
    let isum: i32 = blocks.map(|(b, q)| idot(&unpack::<WIDTH, BLOCK>(b), q)).sum();
    (isum - act.sum) as f32 / act.d[0]
}

/// For both layouts, since a code is two bits in both. The tensor scale is not in the blocks.
pub(super) fn check<const WIDTH: usize>(data: &[u8]) -> BlockHealth {
    let invalid = |b: &u8| (b & b >> 1 & 0x55).count_ones() as usize;
    BlockHealth { blocks: data.len() / WIDTH, invalid_codes: data.iter().map(invalid).sum(), ..BlockHealth::default() }
}
