//! T3R, trill's own: ternary, 1.6 bits a weight, rows that stand alone so that single ones can be left unread;
//! `w = scale * c`. After the last row a 32-byte tail that begins with the f32 `scale`.
//!
//! A row of `n` columns takes `B` bytes, a fifth of `n` rounded up to a multiple of 16. Byte `m` holds five columns in
//! the balanced base 3 of T3: digit `j` is column `j * B + m`, 0 where there is no such column. So a run of bytes gives
//! five runs of columns, and no digit need be taken out: with `s_j` the chain of T3 and `x_j` the activations of
//! digit `j`, the row is `sum over j of (3 * s_j . x_j - s_{j+1} . x_j) / 256`, ten dot products in two sums.
//!
//! `dot` (Row): `(isum as f32) / d`; the caller multiplies by the scale.

use super::block::encode_signs;
use super::t3::{digit, encode_t3};
use super::{ActKind, ActRow, BlockHealth, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "T3R",
    ggml_id: Some(210),
    block: 64,
    bytes: 16,
    row_tail: 0,
    more_lanes: &[],
    tail: 32,
    act: ActKind::Row,
    decode,
    encode: Some(encode),
    dot,
    check,
};

/// Bytes of a row of `cols` weights.
pub(super) const fn row_bytes(cols: usize) -> usize {
    cols.div_ceil(5).next_multiple_of(16)
}

fn decode(row: &[u8], out: &mut [f32]) {
    for (j, out) in out.chunks_mut(row.len().max(1)).enumerate() {
        out.iter_mut().zip(row).for_each(|(o, b)| *o = digit(*b, j) as f32);
    }
}

fn encode(values: &[f32], row: &mut [u8]) {
    // Columns past the last one are 0, as rows past the last one are in a group.
    encode_signs(values, row, encode_t3);
}

fn dot(row: &[u8], act: ActRow<'_>) -> f32 {
    let run = |(j, q): (usize, &[i8])| -> i32 { row.iter().zip(q).map(|(b, q)| digit(*b, j) * i32::from(*q)).sum() };
    let isum: i32 = act.q.chunks(row.len().max(1)).enumerate().map(run).sum();
    isum as f32 / act.d[0]
}

/// Every byte is sound.
fn check(data: &[u8]) -> BlockHealth {
    BlockHealth { blocks: data.len() / 16, ..BlockHealth::default() }
}
