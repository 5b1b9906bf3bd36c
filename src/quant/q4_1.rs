//! Q4_1: 32 weights in 20 bytes, `w = d * code + m`.
//!
//! Bytes 0..2 `d`, 2..4 `m` (binary16); byte `4 + j`: low nibble code `j`, high nibble code `j + 16`.
//!
//! `dot` (Block32): `acc = acc + ((isum as f32) * (d * da) + m * (da * (bsum as f32)))`,
//! `isum = sum(code * q)`, `bsum = sum(q)`.

use super::block::{bounds, check_scales, decode_blocks, dot32_min, encode_blocks, half, half_bytes, inverse};
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q4_1",
    ggml_id: Some(3),
    block: 32,
    bytes: 20,
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
    check: |data| check_scales::<20, 2>(data, |b| [half::<0, 20>(b), half::<2, 20>(b)]),
};

fn unpack(b: &[u8; 20]) -> ([u8; 32], f32, f32) {
    let codes = core::array::from_fn(|j| b[4 + j % 16] >> (j / 16 * 4) & 15);
    (codes, half::<0, 20>(b), half::<2, 20>(b))
}

fn pack(v: &[f32; 32]) -> [u8; 20] {
    let (lo, hi) = bounds(v);
    let d = (hi - lo) / 15.0;
    let id = inverse(d);
    let code = |v: f32| (((v - lo) * id + 0.5) as u8).min(15);
    let mut b = [0; 20];
    b[..2].copy_from_slice(&half_bytes(d));
    b[2..4].copy_from_slice(&half_bytes(lo));
    for j in 0..16 {
        b[4 + j] = code(v[j]) | code(v[j + 16]) << 4;
    }
    b
}
