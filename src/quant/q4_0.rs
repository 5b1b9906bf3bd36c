//! Q4_0: 32 weights in 18 bytes, `w = d * (code - 8)`.
//!
//! Bytes 0..2 `d` (binary16); byte `2 + j`: low nibble code `j`, high nibble code `j + 16`.
//!
//! `dot` (Block32): `acc = acc + (isum as f32) * (d * da)`, `isum = sum((code - 8) * q)`.

use super::block::{check_scales, decode_scaled, dot32, encode_blocks, half, half_bytes, inverse, widest};
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q4_0",
    ggml_id: Some(2),
    block: 32,
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

fn unpack(b: &[u8; 18]) -> ([i8; 32], f32) {
    let codes = core::array::from_fn(|j| (b[2 + j % 16] >> (j / 16 * 4) & 15) as i8 - 8);
    (codes, half::<0, 18>(b))
}

/// The value of largest magnitude becomes code 0 exactly.
fn pack(v: &[f32; 32]) -> [u8; 18] {
    let d = widest(v) / -8.0;
    let id = inverse(d);
    let code = |v: f32| ((v * id + 8.5) as u8).min(15);
    let mut b = [0; 18];
    b[..2].copy_from_slice(&half_bytes(d));
    for j in 0..16 {
        b[2 + j] = code(v[j]) | code(v[j + 16]) << 4;
    }
    b
}
