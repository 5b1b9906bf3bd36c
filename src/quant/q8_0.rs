//! Q8_0: 32 weights in 34 bytes, `w = d * code`.
//!
//! Bytes 0..2 `d` (binary16), then 32 int8 codes.
//!
//! `dot` (Block32): `acc = acc + (isum as f32) * (d * da)`, `isum = sum(code * q)`.

use super::block::{check_scales, decode_scaled, dot32, encode_blocks, half, half_bytes, inverse, widest};
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q8_0",
    ggml_id: Some(8),
    block: 32,
    bytes: 34,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block32,
    decode: |data, out| decode_scaled(data, out, unpack),
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot: |row, act| dot32(row, act, unpack),
    check: |data| check_scales::<34, 1>(data, |b| [half::<0, 34>(b)]),
};

fn unpack(b: &[u8; 34]) -> ([i8; 32], f32) {
    (core::array::from_fn(|j| b[2 + j] as i8), half::<0, 34>(b))
}

fn pack(v: &[f32; 32]) -> [u8; 34] {
    let d = widest(v).abs() / 127.0;
    let id = inverse(d);
    let mut b = [0; 34];
    b[..2].copy_from_slice(&half_bytes(d));
    for (b, v) in b[2..].iter_mut().zip(v) {
        *b = libm::roundf(v * id) as i8 as u8; // halves away from zero
    }
    b
}
