//! Q1_0: 128 signs in 18 bytes, `w = d` where the bit is 1, else `-d`.
//!
//! Bytes 0..2 `d` (binary16); bit `i % 8` of byte `2 + i / 8` is weight `i`.
//!
//! `dot` (Block32; W1A8): for each 32 of the block `acc = acc + (isum as f32) * (d * da)`, `isum = sum(+-q)`.

use super::block::{check_scales, decode_scaled, dot32, encode_blocks, half, half_bytes};
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q1_0",
    ggml_id: Some(41),
    block: 128,
    bytes: 18,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block32,
    decode: |data, out| decode_scaled(data, out, unpack),
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot: |row, act| dot32(row, act, unpack),
    check: |data| check_scales::<18, 1>(data, |b| [half::<0, 18>(b)]),
};

pub(super) fn unpack(b: &[u8; 18]) -> ([i8; 128], f32) {
    let codes = core::array::from_fn(|i| (b[2 + i / 8] >> (i % 8) & 1) as i8 * 2 - 1);
    (codes, half::<0, 18>(b))
}

/// `d` is the mean magnitude.
fn pack(v: &[f32; 128]) -> [u8; 18] {
    let d = v.iter().fold(0.0, |sum, v| sum + v.abs()) / 128.0;
    let mut b = [0; 18];
    b[..2].copy_from_slice(&half_bytes(d));
    for (i, v) in v.iter().enumerate() {
        b[2 + i / 8] |= u8::from(*v >= 0.0) << (i % 8);
    }
    b
}
