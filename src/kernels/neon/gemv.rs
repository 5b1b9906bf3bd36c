//! One token: four rows at a time share the activation, and their sums become the four lanes of one vector, so
//! that the float operations of four rows cost one instruction each, in each row's canonical order.

use core::arch::aarch64::*;

use super::dot::{Dot, prefetch, reduce4, zero};
use super::weight::{Style, Unit, Weight, finish_row, fold, halves};
use crate::quant::{ActRow, RowSpan};

/// All rows of `w` times one token. Returns true, see [`Weight::few`].
///
/// # Safety
/// Shapes agree as [`crate::kernels::RowsFn`] says, for the type `W`; `out` holds `w.rows` values.
#[inline(always)]
pub(super) unsafe fn gemv<W: Weight, D: Dot>(w: &RowSpan<'_>, act: ActRow<'_>, out: &mut [f32]) -> bool {
    for (i, out) in out.chunks_mut(4).enumerate() {
        // A last group of fewer rows repeats its last row.
        let p = core::array::from_fn(|r| w.data[(4 * i + r.min(out.len() - 1)) * w.row_bytes..].as_ptr());
        // SAFETY: each pointer has a whole row of `w.cols` weights behind it.
        let sums = unsafe { if W::Style::ROW { whole_rows::<W, D>(p, w, act) } else { blocks::<W, D>(p, w, act) } };
        let mut values = [0f32; 4];
        // SAFETY: four values.
        unsafe { vst1q_f32(values.as_mut_ptr(), vmulq_n_f32(sums, w.scale)) };
        let rows = out.len();
        out.copy_from_slice(&values[..rows]);
    }
    true
}

#[inline(always)]
unsafe fn whole_rows<W: Weight, D: Dot>(p: [*const u8; 4], w: &RowSpan<'_>, act: ActRow<'_>) -> float32x4_t {
    let scales = p.map(|p| {
        // SAFETY: each pointer has a row behind it.
        unsafe { W::row_scale(p, w.row_bytes, 0) }
    });
    // SAFETY: the rows have `cols` weights, the token `cols` values.
    unsafe {
        let acc = W::dot4::<D>(p, 0, w.cols / 32, act.q.as_ptr(), zero());
        let isum = vsubq_s32(reduce4(acc), vdupq_n_s32(act.sum * i32::from(W::BIAS)));
        finish_row::<W::Style>(isum, act.d[0], vld1q_f32(scales.as_ptr()))
    }
}

#[inline(always)]
unsafe fn blocks<W: Weight, D: Dot>(mut p: [*const u8; 4], w: &RowSpan<'_>, act: ActRow<'_>) -> float32x4_t {
    let ahead = 4 * w.row_bytes;
    let unit = W::Style::UNIT;
    let (mut x, mut da, mut bsums) = (act.q.as_ptr(), act.d.as_ptr(), act.bsums.as_ptr());
    // SAFETY: registers only.
    let mut acc = unsafe { vdupq_n_f32(0.0) };
    for _ in 0..w.cols / W::BLOCK {
        // SAFETY: cols / BLOCK blocks lie behind each pointer; the token has as many units as the row, each with
        // `UNIT` values, one scale and `SUMS` sums.
        unsafe {
            let d = halves(p, W::SCALE_AT);
            let m = if W::Style::MIN { halves(p, W::MIN_AT) } else { d };
            let isum = W::block4::<D>(p, x, bsums);
            for u in 0..W::BLOCK / unit {
                let bsum = if W::Style::MIN { f32::from(*bsums.add(u)) } else { 0.0 };
                let unit = Unit { isum: isum[u], msum: isum[1], d, m, da: *da.add(u), bsum };
                acc = fold::<W::Style>(acc, unit);
            }
            let units = W::BLOCK / unit;
            (x, da, bsums) = (x.add(W::BLOCK), da.add(units), bsums.add(units * W::Style::SUMS));
            for p in &mut p {
                prefetch(p.wrapping_add(ahead));
                *p = p.add(W::BYTES);
            }
        }
    }
    acc
}
