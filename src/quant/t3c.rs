//! T3C, trill's own: ternary, 1.6 bits a weight, column after column so that single columns can be left unread;
//! `w = scale * c`. After the last panel a 32-byte tail that begins with the f32 `scale`.
//!
//! A panel holds [`ROWS`] rows, 64 bytes for each column. Byte `b` of a column holds rows `b`, `64 + b`, `128 + b`,
//! `192 + b` and `256 + b` of the panel in the balanced base 3 of T3; rows past the matrix's last are 0. Bytes of four
//! columns side by side are four terms of the same sums, so the telescoped form of T3 holds with one sum for each
//! byte of the panel in place of one for each row.
//!
//! `dot` (Row): `(R as f32) / d`; the caller multiplies by the scale.

use super::t3::{digit, encode_t3};
use super::{ActKind, ActRow, BlockHealth, Panel, TypeInfo};

/// Rows of a panel.
pub(super) const ROWS: usize = 320;
/// Bytes of a column in a panel.
const BYTES: usize = 64;
/// Columns of a block: kernels take several at a time.
const BLOCK: usize = 64;

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "T3C",
    ggml_id: Some(211),
    block: BLOCK,
    bytes: BLOCK * BYTES,
    row_tail: 0,
    more_lanes: &[],
    tail: 32,
    act: ActKind::Row,
    decode: |panel, out| decode(panel, 0, out),
    encode: Some(encode),
    dot: |panel, act| dot(panel, 0, act),
    check,
};

pub(super) static PANEL: Panel = Panel { rows: ROWS, decode, dot };

/// The weight of row `row` at column `column` of its panel, without the scale.
///
/// # Panics
/// If the panel has no such column: a bug of the caller.
pub fn t3c_weight(panel: &[u8], row: usize, column: usize) -> i32 {
    let row = row % ROWS;
    digit(panel[column * BYTES + row % BYTES], row / BYTES)
}

/// The weights of row `row` of a panel.
fn weights(panel: &[u8], row: usize) -> impl Iterator<Item = i32> {
    (0..panel.len() / BYTES).map(move |column| t3c_weight(panel, row, column))
}

fn decode(panel: &[u8], row: usize, out: &mut [f32]) {
    out.iter_mut().zip(weights(panel, row)).for_each(|(o, w)| *o = w as f32);
}

fn encode(values: &[f32], panel: &mut [u8]) {
    let (columns, _) = panel.as_chunks_mut::<BYTES>();
    let cols = columns.len();
    let sign = |v: &f32| i8::from(*v > 0.0) - i8::from(*v < 0.0);
    for (c, column) in columns.iter_mut().enumerate() {
        for (b, byte) in column.iter_mut().enumerate() {
            let row = |j: usize| (j * BYTES + b) * cols + c;
            *byte = encode_t3(core::array::from_fn(|j| values.get(row(j)).map_or(0, sign)));
        }
    }
}

fn dot(panel: &[u8], row: usize, act: ActRow<'_>) -> f32 {
    let isum: i32 = weights(panel, row).zip(act.q).map(|(w, q)| w * i32::from(*q)).sum();
    isum as f32 / act.d[0]
}

/// Every byte is sound.
fn check(data: &[u8]) -> BlockHealth {
    BlockHealth { blocks: data.len() / (BLOCK * BYTES), ..BlockHealth::default() }
}
