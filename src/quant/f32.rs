//! F32: 4 bytes, little endian.
//!
//! `dot`: the float order of [`crate::numeric`] (16 accumulators).

use super::block::{check_scales, decode_blocks, encode_blocks};
use super::{ActKind, TypeInfo};
use crate::numeric::tree16;

fn value(b: &[u8; 4]) -> f32 {
    f32::from_le_bytes(*b)
}

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "F32",
    ggml_id: Some(0),
    block: 1,
    bytes: 4,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::F32,
    decode: |data, out| decode_blocks::<4, 1>(data, out, |b| [value(b)]),
    encode: Some(|values, out| encode_blocks::<4, 1>(values, out, |v| v[0].to_le_bytes())),
    dot: |row, act| dot16(row.as_chunks::<4>().0.iter().map(value), act.x),
    check: |data| check_scales::<4, 1>(data, |b| [value(b)]),
};

/// The canonical float dot product: element `i` goes to accumulator `i % 16`.
#[inline(always)]
pub(super) fn dot16(weights: impl Iterator<Item = f32>, x: &[f32]) -> f32 {
    let mut acc = [0f32; 16];
    for (i, (w, x)) in weights.zip(x).enumerate() {
        acc[i % 16] += w * x;
    }
    tree16(&acc)
}
