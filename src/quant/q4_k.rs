//! Q4_K: 256 weights in 144 bytes, 8 sub-blocks of 32: `w = (d * scale_j) * code - dmin * min_j`.
//!
//! Bytes 0..2 `d`, 2..4 `dmin` (binary16); 4..16 scales and minima, see `unpack_scales` in `k_block.rs`; 16..144 codes:
//! weight `i` is the low (even `i / 32`) or high nibble of byte `16 + i / 64 * 32 + i % 32`.
//!
//! `dot` (Block256): `acc = acc + ((isum as f32) * (d * da) - (msum as f32) * (dmin * da))`,
//! `isum = sum_j(scale_j * sum(code * q))`, at most 63 * 15 * 128 * 256 < 2^25;
//! `msum = sum_j(min_j * sum(q))`, at most 63 * 128 * 256 < 2^21.

use super::block::{check_scales, decode_blocks, encode_blocks, half, half_bytes};
use super::k_block::{Affine, pack_scales, unpack_scales};
use super::k_fit::{Search, affine, rms_weights};
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q4_K",
    ggml_id: Some(12),
    block: 256,
    bytes: 144,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block256,
    decode: |data, out| decode_blocks(data, out, |b| unpack(b).values()),
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot: |row, act| Affine::dot(row, act, unpack),
    check: |data| check_scales::<144, 2>(data, |b| [half::<0, 144>(b), half::<2, 144>(b)]),
};

/// Byte and shift of weight `i`.
fn place(i: usize) -> (usize, usize) {
    (16 + i / 64 * 32 + i % 32, i % 64 / 32 * 4)
}

fn unpack(b: &[u8; 144]) -> Affine<8> {
    let (scales, mins) = unpack_scales(&core::array::from_fn(|i| b[4 + i]));
    Affine {
        d: half::<0, 144>(b),
        dmin: half::<2, 144>(b),
        scales,
        mins,
        codes: core::array::from_fn(|i| b[place(i).0] >> place(i).1 & 15),
    }
}

fn pack(v: &[f32; 256]) -> [u8; 144] {
    const SEARCH: Search = Search { max_code: 15, start: -1.0, steps: 20, absolute: false };
    let k = Affine::<8>::encode(v, 63, 15, |x, codes| affine(x, &rms_weights(x), &SEARCH, codes));
    let mut b = [0; 144];
    b[..2].copy_from_slice(&half_bytes(k.d));
    b[2..4].copy_from_slice(&half_bytes(k.dmin));
    b[4..16].copy_from_slice(&pack_scales(&k.scales, &k.mins));
    for (i, c) in k.codes.iter().enumerate() {
        b[place(i).0] |= c << place(i).1;
    }
    b
}
