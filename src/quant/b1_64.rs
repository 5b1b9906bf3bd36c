//! B1_64 (trill's own): [`super::b1`] with a scale for each 64 x 64 tile of the matrix, 64 weights in 10 bytes.
//!
//! Bytes 0..8 sign bits as in B1, 8..10 `alpha` (binary16). Every row of a tile repeats the tile's `alpha`, so that a
//! row stands alone: a row is encoded with its own mean magnitudes, and [`share_tile_scales`] makes those of a tile one.
//!
//! `dot` (Sign): blocks in ascending order, `acc = acc + ((2 * popcount(xnor(w, x)) - 64) as f32) * alpha`.

use super::b1::{mean_magnitude, sign_bits};
use super::block::{check_scales, decode_scaled, encode_blocks, half, half_bytes, idot_signs};
use super::{ActKind, ActRow, TypeInfo};
use crate::numeric::f16_to_f32;

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

/// Gives the blocks of each 64 x 64 tile of `rows`, B1_64 rows of `row_bytes` bytes, the mean of their scales. Rows after
/// the last whole tile make a lower one.
pub fn share_tile_scales(rows: &mut [u8], row_bytes: usize) {
    for tile in rows.chunks_mut(64 * row_bytes.max(1)) {
        let count = tile.len() / row_bytes;
        for block in 0..row_bytes / 10 {
            let at = |row: usize| row * row_bytes + 10 * block + 8;
            let scale = |row: usize| f16_to_f32(u16::from_le_bytes([tile[at(row)], tile[at(row) + 1]]));
            let mean = (0..count).map(scale).sum::<f32>() / count.max(1) as f32;
            for row in 0..count {
                tile[at(row)..at(row) + 2].copy_from_slice(&half_bytes(mean));
            }
        }
    }
}

fn dot(row: &[u8], act: ActRow<'_>) -> f32 {
    let mut acc = 0f32;
    for (b, x) in row.as_chunks::<10>().0.iter().zip(act.q.as_chunks::<8>().0) {
        acc += idot_signs(&b[..8], x) as f32 * half::<8, 10>(b);
    }
    acc
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn a_tile_has_one_scale() {
        // 65 rows of two blocks, whose magnitudes are the row's number plus 0 or 100.
        let mut rows = vec![];
        for row in 0..65 {
            for block in 0..2 {
                rows.extend(pack(&[-(row as f32 + 100.0 * block as f32); 64]));
            }
        }
        share_tile_scales(&mut rows, 20);
        let scale = |row: usize, block: usize| unpack(rows[20 * row + 10 * block..][..10].try_into().unwrap()).1;
        assert!((0..64).all(|row| scale(row, 0) == 31.5 && scale(row, 1) == 131.5));
        assert_eq!((scale(64, 0), scale(64, 1)), (64.0, 164.0));
        assert_eq!(unpack(rows[20..30].try_into().unwrap()).0, [-1; 64], "signs stay");
    }
}
