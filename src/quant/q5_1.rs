//! Q5_1: 32 weights in 24 bytes, `w = d * code + m`.
//!
//! Bytes 0..2 `d`, 2..4 `m` (binary16), 4..8 the codes' fifth bits (bit `j` for code `j`, little endian); byte
//! `8 + j`: low nibble code `j`, high nibble code `j + 16`.
//!
//! `dot` (Block32): `acc = acc + ((isum as f32) * (d * da) + m * (da * (bsum as f32)))`,
//! `isum = sum(code * q)`, `bsum = sum(q)`.

use super::block::{bounds, check_scales, decode_blocks, dot32_min, encode_blocks, half, half_bytes, inverse};
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q5_1",
    ggml_id: Some(7),
    block: 32,
    bytes: 24,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block32,
    decode: |data, out| {
        decode_blocks(data, out, |b| {
            let (codes, d, m) = unpack(b);
            codes.map(|c| d * f32::from(c) + m)
        })
    },
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot: |row, act| dot32_min(row, act, unpack),
    check: |data| check_scales::<24, 2>(data, |b| [half::<0, 24>(b), half::<2, 24>(b)]),
};

fn unpack(b: &[u8; 24]) -> ([u8; 32], f32, f32) {
    let codes = core::array::from_fn(|j| {
        let low = b[8 + j % 16] >> (j / 16 * 4) & 15;
        let high = b[4 + j / 8] >> (j % 8) & 1;
        low | high << 4
    });
    (codes, half::<0, 24>(b), half::<2, 24>(b))
}

fn pack(v: &[f32; 32]) -> [u8; 24] {
    let (lo, hi) = bounds(v);
    let d = (hi - lo) / 31.0;
    let id = inverse(d);
    let mut b = [0; 24];
    b[..2].copy_from_slice(&half_bytes(d));
    b[2..4].copy_from_slice(&half_bytes(lo));
    for (j, v) in v.iter().enumerate() {
        let code = (((v - lo) * id + 0.5) as u8).min(31);
        b[8 + j % 16] |= (code & 15) << (j / 16 * 4);
        b[4 + j / 8] |= (code >> 4) << (j % 8);
    }
    b
}
