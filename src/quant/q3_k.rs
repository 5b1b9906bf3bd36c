//! Q3_K: 256 weights in 110 bytes, 16 sub-blocks of 16: `w = (d * (scale_j - 32)) * (code - 4)`.
//!
//! Bytes 0..32 the codes' third bits (weight `i`: bit `i / 32` of byte `i % 32`), 32..96 their low two (bits
//! `i % 128 / 32 * 2` and up of byte `32 + i / 128 * 32 + i % 32`); 96..108 sixteen 6-bit scales (low four bits: low
//! nibbles of bytes 96..104, then their high nibbles; upper two: bits `j / 4 * 2` and up of byte
//! `104 + j % 4`); 108..110 `d` (binary16).
//!
//! `dot` (Block256): `acc = acc + (isum as f32) * (d * da)`,
//! `isum = sum_j((scale_j - 32) * sum((code - 4) * q))`, at most 32 * 4 * 128 * 256 = 2^22.

use super::block::{check_scales, decode_blocks, encode_blocks, half, half_bytes};
use super::k_block::Scaled;
use super::k_fit::scale_by_descent;
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q3_K",
    ggml_id: Some(11),
    block: 256,
    bytes: 110,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block256,
    decode: |data, out| decode_blocks(data, out, |b| unpack(b).values()),
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot: |row, act| Scaled::dot(row, act, unpack),
    check: |data| check_scales::<110, 1>(data, |b| [half::<108, 110>(b)]),
};

/// Byte and shift of the low two bits of weight `i`.
fn place(i: usize) -> (usize, usize) {
    (32 + i / 128 * 32 + i % 32, i % 128 / 32 * 2)
}

fn unpack(b: &[u8; 110]) -> Scaled {
    let scale = |j: usize| (b[96 + j % 8] >> (j / 8 * 4) & 15) | (b[104 + j % 4] >> (j / 4 * 2) & 3) << 4;
    let code = |i: usize| (b[place(i).0] >> place(i).1 & 3) | (b[i % 32] >> (i / 32) & 1) << 2;
    Scaled {
        d: half::<108, 110>(b),
        scales: core::array::from_fn(|j| scale(j) as i8 - 32),
        codes: core::array::from_fn(|i| code(i) as i8 - 4),
    }
}

fn pack(v: &[f32; 256]) -> [u8; 110] {
    let mut b = [0; 110];
    let Some(k) = Scaled::encode(v, 32, 4, |x, codes| scale_by_descent(x, 4, codes)) else { return b };
    for (i, c) in k.codes.iter().enumerate() {
        let code = (c + 4) as u8;
        b[place(i).0] |= (code & 3) << place(i).1;
        b[i % 32] |= (code >> 2) << (i / 32);
    }
    for (j, s) in k.scales.iter().enumerate() {
        let scale = (s + 32) as u8;
        b[96 + j % 8] |= (scale & 15) << (j / 8 * 4);
        b[104 + j % 4] |= (scale >> 4) << (j / 4 * 2);
    }
    b[108..].copy_from_slice(&half_bytes(k.d));
    b
}
