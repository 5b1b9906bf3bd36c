//! F16: IEEE binary16, little endian.
//!
//! `dot`: weights go to f32 exactly, then the float order of [`crate::numeric`] (16 accumulators).

use super::block::{check_scales, decode_blocks, encode_blocks, half, half_bytes};
use super::{ActKind, TypeInfo, f32::dot16};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "F16",
    ggml_id: Some(1),
    block: 1,
    bytes: 2,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::F32,
    decode: |data, out| decode_blocks::<2, 1>(data, out, |b| [half::<0, 2>(b)]),
    encode: Some(|values, out| encode_blocks::<2, 1>(values, out, |v| half_bytes(v[0]))),
    dot: |row, act| dot16(row.as_chunks::<2>().0.iter().map(half::<0, 2>), act.x),
    check: |data| check_scales::<2, 1>(data, |b| [half::<0, 2>(b)]),
};
