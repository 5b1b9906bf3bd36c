//! Several tokens by the types of which parts can be left unread. In a batch all of it is wanted: their bytes are
//! unpacked into the panels of [`gemm`](super::gemm), column by column of one digit (T3R) or five digits side by side (T3C).

use super::gemm::{self, Panel, Tiles};
use super::packed::digits;
use super::{Lanes, Rows};
use crate::mem::TileMut;
use crate::quant::{Acts, RowSpan};

/// Columns of a block of a panel.
const BLOCK: usize = 64;
/// Bytes of a column of T3C.
const COLUMN: usize = 64;
/// Digits of a byte.
const DIGITS: usize = 5;

/// T3R, all tokens at once; false if nothing was done because the rows are too few or of an odd length.
///
/// # Safety
/// Shapes as [`crate::kernels::Kernels::rows`] checks them; the tiles are of whole rows.
#[inline(always)]
pub(super) unsafe fn single_rows<S: Lanes>(
    s: S,
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    tiles: Tiles<S>,
) -> bool {
    let (wide, bytes) = (S::N * tiles.vectors, w.row_bytes);
    if w.rows < wide || !bytes.is_multiple_of(BLOCK) {
        return false;
    }
    let most = gemm::SLOTS / tiles.vectors * 4 / BLOCK * BLOCK;
    let mut panel = Panel::<S>::empty();
    let mut first = 0;
    loop {
        let rows = Rows::new(w.data, first * bytes, bytes, false);
        let to = gemm::Out { first: out.as_mut_ptr().wrapping_add(first), stride: out.stride(), gap: S::N };
        for digit in 0..DIGITS {
            // Digit `j` of byte `m` is column `j * bytes + m`; the last digits may have none.
            let runs = bytes.min(w.cols.saturating_sub(digit * bytes));
            for from in (0..runs).step_by(most) {
                let columns = most.min(runs - from);
                // SAFETY: the rows have these bytes, the activations these columns; whole blocks of both.
                unsafe {
                    for g in 0..tiles.vectors {
                        for m in (0..columns).step_by(16) {
                            let four = rows.down::<S>(g).at(from + m).load4(s);
                            unroll!(i in 0 1 2 3 => {
                                panel.put((m / 4 + i) * tiles.vectors + g, digits(s, four[i])[digit]);
                            });
                        }
                    }
                    gemm::multiply(&mut panel, columns, acts, digit * bytes + from, to, tiles);
                }
            }
        }
        // SAFETY: these rows' sums lie there.
        unsafe { close(s, w, acts, to, tiles.vectors) }
        first += wide;
        if first == w.rows {
            return true;
        }
        // The last group overlaps the one before it rather than being short.
        first = first.min(w.rows - wide);
    }
}

/// Panel `p` of T3C, all tokens at once. It has all its rows.
///
/// # Safety
/// As for [`single_rows`]; the panel exists and is whole.
#[inline(always)]
pub(super) unsafe fn columns<S: Lanes>(
    s: S,
    w: &RowSpan<'_>,
    p: usize,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    tiles: Tiles<S>,
) {
    let bytes = w.data[p * w.row_bytes..].as_ptr();
    let most = gemm::SLOTS / DIGITS * 4 / BLOCK * BLOCK;
    let mut panel = Panel::<S>::empty();
    for first in (0..COLUMN).step_by(S::N) {
        let to = out.as_mut_ptr().wrapping_add(p * DIGITS * COLUMN + first);
        let to = gemm::Out { first: to, stride: out.stride(), gap: COLUMN };
        for from in (0..w.cols).step_by(most) {
            let count = most.min(w.cols - from);
            for c in (0..count).step_by(4) {
                let column = |n: usize| bytes.wrapping_add((from + c + n) * COLUMN + first);
                // SAFETY: the columns have the bytes, the panel room for five vectors.
                unsafe {
                    let five = digits(s, s.column_group([column(0), column(1), column(2), column(3)]));
                    unroll!(j in 0 1 2 3 4 => panel.put(c / 4 * DIGITS + j, five[j]));
                }
            }
            // SAFETY: the panel is filled; the activations have these columns.
            unsafe { gemm::multiply(&mut panel, count, acts, from, to, tiles) }
        }
        // SAFETY: these rows' sums lie there.
        unsafe { close(s, w, acts, to, DIGITS) }
    }
}

/// Results in place of sums of codes, which are the weights plus 1.
///
/// # Safety
/// The sums lie in the output.
#[inline(always)]
unsafe fn close<S: Lanes>(s: S, w: &RowSpan<'_>, acts: &Acts<'_>, out: gemm::Out, vectors: usize) {
    let scale = s.splat(w.scale.to_bits());
    for t in 0..acts.n {
        let (sum, d) = (s.splat(acts.sums[t] as u32), s.splat(acts.d[t].to_bits()));
        for v in 0..vectors {
            let at = out.first.wrapping_add(t * out.stride + v * out.gap);
            // SAFETY: by contract.
            unsafe { s.put(at, s.fmul(s.fdiv(s.float(s.sub(s.get(at), sum)), d), scale)) }
        }
    }
}
