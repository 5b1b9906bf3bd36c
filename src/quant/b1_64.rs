//! B1_64 (trill's own): [`super::b1`] with a scale for each 64 x 64 tile of the matrix, 64 weights in 10 bytes.
//!
//! Bytes 0..8 sign bits as in B1, 8..10 `alpha` (binary16). Every row of a tile repeats the tile's `alpha`, so that a
//! row stands alone; nothing hinders a writer to give each row of the tile its own.
//!
//! `dot` (Sign): blocks in ascending order, `acc = acc + ((2 * popcount(xnor(w, x)) - 64) as f32) * alpha`.

use super::b1::{mean_magnitude, sign_bits};
use super::block::{check_scales, decode_scaled, encode_blocks, half, half_bytes, idot_signs};
use super::{ActKind, ActRow, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "B1_64",
    ggml_id: Some(203),
    block: 64,
    bytes: 10,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Sign,
    decode: |data, out| decode_scaled(data, out, unpack),
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot,
    check: |data| check_scales::<10, 1>(data, |b| [half::<8, 10>(b)]),
};

fn unpack(b: &[u8; 10]) -> ([i8; 64], f32) {
    (core::array::from_fn(|i| (b[i / 8] >> (i % 8) & 1) as i8 * 2 - 1), half::<8, 10>(b))
}

/// `alpha` is the mean magnitude of the 64.
fn pack(v: &[f32; 64]) -> [u8; 10] {
    let mut b = [0; 10];
    for (b, v) in b.iter_mut().zip(v.chunks(8)) {
        *b = sign_bits(v);
    }
    b[8..].copy_from_slice(&half_bytes(mean_magnitude(v)));
    b
}

fn dot(row: &[u8], act: ActRow<'_>) -> f32 {
    let mut acc = 0f32;
    for (b, x) in row.as_chunks::<10>().0.iter().zip(act.q.as_chunks::<8>().0) {
        acc += idot_signs(&b[..8], x) as f32 * half::<8, 10>(b);
    }
    acc
}
