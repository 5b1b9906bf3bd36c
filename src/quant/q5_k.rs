//! Q5_K: 256 weights in 176 bytes, 8 sub-blocks of 32: `w = (d * scale_j) * code - dmin * min_j`.
//!
//! Bytes 0..2 `d`, 2..4 `dmin` (binary16); 4..16 scales and minima, see `unpack_scales` in `k_block.rs`; 16..48 the codes'
//! fifth bits (weight `i`: bit `i / 32` of byte `16 + i % 32`); 48..176 their low four: the low (even `i / 32`) or
//! high nibble of byte `48 + i / 64 * 32 + i % 32`.
//!
//! `dot` (Block256): `acc = acc + ((isum as f32) * (d * da) - (msum as f32) * (dmin * da))`,
//! `isum = sum_j(scale_j * sum(code * q))`, at most 63 * 31 * 128 * 256 < 2^26;
//! `msum = sum_j(min_j * sum(q))`, at most 63 * 128 * 256 < 2^21.

use super::block::{check_scales, decode_blocks, encode_blocks, half, half_bytes};
use super::k_block::{Affine, pack_scales, unpack_scales};
use super::k_fit::{Search, affine, rms_weights};
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q5_K",
    ggml_id: Some(13),
    block: 256,
    bytes: 176,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block256,
    decode: |data, out| decode_blocks(data, out, |b| unpack(b).values()),
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot: |row, act| Affine::dot(row, act, unpack),
    check: |data| check_scales::<176, 2>(data, |b| [half::<0, 176>(b), half::<2, 176>(b)]),
};

/// Byte and shift of the low four bits of weight `i`.
fn place(i: usize) -> (usize, usize) {
    (48 + i / 64 * 32 + i % 32, i % 64 / 32 * 4)
}

fn unpack(b: &[u8; 176]) -> Affine<8> {
    let (scales, mins) = unpack_scales(&core::array::from_fn(|i| b[4 + i]));
    let code = |i: usize| (b[place(i).0] >> place(i).1 & 15) | (b[16 + i % 32] >> (i / 32) & 1) << 4;
    Affine { d: half::<0, 176>(b), dmin: half::<2, 176>(b), scales, mins, codes: core::array::from_fn(code) }
}

fn pack(v: &[f32; 256]) -> [u8; 176] {
    const SEARCH: Search = Search { max_code: 31, start: -0.5, steps: 15, absolute: false };
    let k = Affine::<8>::encode(v, 63, 31, |x, codes| affine(x, &rms_weights(x), &SEARCH, codes));
    let mut b = [0; 176];
    b[..2].copy_from_slice(&half_bytes(k.d));
    b[2..4].copy_from_slice(&half_bytes(k.dmin));
    b[4..16].copy_from_slice(&pack_scales(&k.scales, &k.mins));
    for (i, c) in k.codes.iter().enumerate() {
        b[place(i).0] |= (c & 15) << place(i).1;
        b[16 + i % 32] |= (c >> 4) << (i / 32);
    }
    b
}
