//! Q5_0: 32 weights in 22 bytes, `w = d * (code - 16)`.
//!
//! Bytes 0..2 `d` (binary16), 2..6 the codes' fifth bits (bit `j` for code `j`, little endian); byte `6 + j`:
//! low nibble code `j`, high nibble code `j + 16`.
//!
//! `dot` (Block32): `acc = acc + (isum as f32) * (d * da)`, `isum = sum((code - 16) * q)`.

use super::block::{check_scales, decode_scaled, dot32, encode_blocks, half, half_bytes, inverse, widest};
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q5_0",
    ggml_id: Some(6),
    block: 32,
    bytes: 22,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block32,
    decode: |data, out| decode_scaled(data, out, unpack),
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot: |row, act| dot32(row, act, unpack),
    check: |data| check_scales::<22, 1>(data, |b| [half::<0, 22>(b)]),
};

fn unpack(b: &[u8; 22]) -> ([i8; 32], f32) {
    let codes = core::array::from_fn(|j| {
        let low = b[6 + j % 16] >> (j / 16 * 4) & 15;
        let high = b[2 + j / 8] >> (j % 8) & 1;
        (low | high << 4) as i8 - 16
    });
    (codes, half::<0, 22>(b))
}

/// The value of largest magnitude becomes code 0 exactly.
fn pack(v: &[f32; 32]) -> [u8; 22] {
    let d = widest(v) / -16.0;
    let id = inverse(d);
    let mut b = [0; 22];
    b[..2].copy_from_slice(&half_bytes(d));
    for (j, v) in v.iter().enumerate() {
        let code = ((v * id + 16.5) as u8).min(31);
        b[6 + j % 16] |= (code & 15) << (j / 16 * 4);
        b[2 + j / 8] |= (code >> 4) << (j % 8);
    }
    b
}
