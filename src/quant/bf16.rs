//! BF16: the upper half of an f32, little endian.
//!
//! `dot`: weights go to f32 exactly, then the float order of [`crate::numeric`] (16 accumulators).

use super::block::{check_scales, decode_blocks, encode_blocks};
use super::{ActKind, TypeInfo, f32::dot16};
use crate::numeric::{bf16_to_f32, f32_to_bf16};

fn value(b: &[u8; 2]) -> f32 {
    bf16_to_f32(u16::from_le_bytes(*b))
}

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "BF16",
    ggml_id: Some(30),
    block: 1,
    bytes: 2,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::F32,
    decode: |data, out| decode_blocks::<2, 1>(data, out, |b| [value(b)]),
    encode: Some(|values, out| encode_blocks::<2, 1>(values, out, |v| f32_to_bf16(v[0]).to_le_bytes())),
    dot: |row, act| dot16(row.as_chunks::<2>().0.iter().map(value), act.x),
    check: |data| check_scales::<2, 1>(data, |b| [value(b)]),
};
