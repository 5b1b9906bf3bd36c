//! Q2_K: 256 weights in 84 bytes, 16 sub-blocks of 16: `w = (d * scale_j) * code - dmin * min_j`.
//!
//! Bytes 0..16: low nibble `scale_j`, high nibble `min_j`; 16..80 codes: weight `i` is in bits
//! `i % 128 / 32 * 2` and up of byte `16 + i / 128 * 32 + i % 32`; 80..82 `d`, 82..84 `dmin` (binary16).
//!
//! `dot` (Block256): `acc = acc + ((isum as f32) * (d * da) - (msum as f32) * (dmin * da))`,
//! `isum = sum_j(scale_j * sum(code * q))`, at most 15 * 3 * 128 * 256 < 2^21;
//! `msum = sum_j(min_j * sum(q))`, at most 15 * 128 * 256 < 2^19.

use super::block::{check_scales, decode_blocks, encode_blocks, half, half_bytes};
use super::k_block::Affine;
use super::k_fit::{Search, affine};
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q2_K",
    ggml_id: Some(10),
    block: 256,
    bytes: 84,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block256,
    decode: |data, out| decode_blocks(data, out, |b| unpack(b).values()),
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot: |row, act| Affine::dot(row, act, unpack),
    check: |data| check_scales::<84, 2>(data, |b| [half::<80, 84>(b), half::<82, 84>(b)]),
};

/// Byte and shift of weight `i`.
fn place(i: usize) -> (usize, usize) {
    (16 + i / 128 * 32 + i % 32, i % 128 / 32 * 2)
}

fn unpack(b: &[u8; 84]) -> Affine<16> {
    Affine {
        d: half::<80, 84>(b),
        dmin: half::<82, 84>(b),
        scales: core::array::from_fn(|j| b[j] & 15),
        mins: core::array::from_fn(|j| b[j] >> 4),
        codes: core::array::from_fn(|i| b[place(i).0] >> place(i).1 & 3),
    }
}

fn pack(v: &[f32; 256]) -> [u8; 84] {
    const SEARCH: Search = Search { max_code: 3, start: -0.5, steps: 15, absolute: true };
    let fit = |x: &[f32], codes: &mut [u8]| {
        let mut weights = [0.0; 16];
        weights.iter_mut().zip(x).for_each(|(w, x)| *w = x.abs());
        affine(x, &weights, &SEARCH, codes)
    };
    let k = Affine::<16>::encode(v, 15, 3, fit);
    let mut b = [0; 84];
    for (b, (s, m)) in b.iter_mut().zip(k.scales.iter().zip(k.mins)) {
        *b = s | m << 4;
    }
    for (i, c) in k.codes.iter().enumerate() {
        b[place(i).0] |= c << place(i).1;
    }
    b[80..82].copy_from_slice(&half_bytes(k.d));
    b[82..].copy_from_slice(&half_bytes(k.dmin));
    b
}
