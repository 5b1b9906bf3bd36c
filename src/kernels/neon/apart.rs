//! The types of which parts can be left unread: T3R by the row, T3C by the column; layouts in `src/quant/t3r.rs`,
//! `t3c.rs`. Both hold five weights a byte in T3's chain: `s_{j+1} = 3 * s_j` and `3 * s_j - s_{j+1} = 256 * w_j`.
//!
//! Up to [`FEW`] tokens are taken one by one, with no digit taken out of a byte where products are cheap; for more a
//! panel is made like any other type's.

use core::arch::aarch64::*;

use super::dot::{Dot, prefetch, reduce4, triple, zero};
use super::packed::trit;
use super::weight::{Weight, WholeRow};
use crate::mem::TileMut;
use crate::quant::{ActRow, Acts, RowSpan};

pub(super) struct T3R;
pub(super) struct T3C;

/// Tokens up to which no panel is made.
const FEW: usize = 4;
/// Bytes of a column of T3C.
const COLUMN: usize = 64;
/// Columns whose sums are taken together: `256 * 128` times that stays within 32 bits.
const CHUNK: usize = 8192;
/// The same for sums of 16 bits, of products up to 128.
const NARROW_CHUNK: usize = 248;
/// How many columns before its turn one is asked for.
const AHEAD: usize = 32;
const POWERS: [i8; 5] = [1, 3, 9, 27, 81];

/// A type of which parts can be left unread.
pub(super) trait Apart {
    /// See [`crate::kernels::ListedFn`].
    ///
    /// # Safety
    /// Shapes as the methods of [`crate::kernels::Kernels`] check them.
    unsafe fn listed<D: Dot>(w: &RowSpan<'_>, list: &[u32], acts: &Acts<'_>, out: &mut TileMut<'_, f32>);
}

impl Apart for T3R {
    #[inline(always)]
    unsafe fn listed<D: Dot>(w: &RowSpan<'_>, list: &[u32], acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
        // SAFETY: the caller's.
        unsafe { rows::<D>(w, |i| list[i] as usize, acts, out) }
    }
}

impl Apart for T3C {
    #[inline(always)]
    unsafe fn listed<D: Dot>(w: &RowSpan<'_>, list: &[u32], acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
        // SAFETY: the caller's.
        unsafe { columns::<D>(w, |i| list[i] as usize, acts, out) }
    }
}

impl Weight for T3R {
    type Style = WholeRow;
    const BLOCK: usize = 64;
    const BYTES: usize = 0;

    /// A run of 16 columns is one digit of 16 bytes.
    #[inline(always)]
    unsafe fn quad(
        w: &RowSpan<'_>,
        rows: [usize; 4],
        column: usize,
        _: [*const u8; 4],
        g: usize,
    ) -> [[int8x16_t; 2]; 4] {
        rows.map(|row| {
            let row = w.data[row * w.row_bytes..].as_ptr();
            let run = |column: usize| {
                // SAFETY: the row has the column, so the byte; runs of 16 do not cross from digit to digit.
                unsafe {
                    let bytes = vld1q_s8(row.add(column % w.row_bytes).cast());
                    trit(vmulq_s8(bytes, vdupq_n_s8(POWERS[column / w.row_bytes])))
                }
            };
            [run(column + 32 * g), run(column + 32 * g + 16)]
        })
    }

    #[inline(always)]
    unsafe fn few<D: Dot>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) -> bool {
        if acts.n <= FEW {
            // SAFETY: the caller's.
            unsafe { rows::<D>(w, |i| i, acts, out) }
        }
        acts.n <= FEW
    }
}

impl Weight for T3C {
    type Style = WholeRow;
    const BLOCK: usize = 64;
    const BYTES: usize = 0;
    const LANES: usize = 5 * COLUMN;

    /// Four neighbouring rows are four neighbouring bytes of each column, the same digit of each.
    #[inline(always)]
    unsafe fn quad(
        w: &RowSpan<'_>,
        rows: [usize; 4],
        column: usize,
        _: [*const u8; 4],
        g: usize,
    ) -> [[int8x16_t; 2]; 4] {
        // Rows that repeat the last one are not looked at.
        let row = rows[0] % Self::LANES / 4 * 4;
        let panel = w.data[rows[0] / Self::LANES * w.row_bytes..].as_ptr();
        // SAFETY: registers only.
        let mut all = [[unsafe { vdupq_n_s8(0) }; 2]; 4];
        for half in 0..2 {
            // SAFETY: the panel has these columns, and four bytes from any multiple of 4 below 64.
            unsafe {
                let first = panel.add((column + 32 * g + 16 * half) * COLUMN + row % COLUMN);
                let four = |c: usize| first.add(c * COLUMN).cast::<u32>().read_unaligned();
                let load = |c: usize| {
                    let v = [four(c), four(c + 1), four(c + 2), four(c + 3)];
                    vreinterpretq_s8_u32(vld1q_u32(v.as_ptr()))
                };
                let (a, b, c, d) = (load(0), load(4), load(8), load(12));
                // Bytes 0 and 2 of each column, 1 and 3; then each alone.
                let (even, odd) = ([vuzp1q_s8(a, b), vuzp1q_s8(c, d)], [vuzp2q_s8(a, b), vuzp2q_s8(c, d)]);
                let rows = [
                    vuzp1q_s8(even[0], even[1]),
                    vuzp1q_s8(odd[0], odd[1]),
                    vuzp2q_s8(even[0], even[1]),
                    vuzp2q_s8(odd[0], odd[1]),
                ];
                let power = vdupq_n_s8(POWERS[row / COLUMN]);
                for r in 0..4 {
                    all[r][half] = trit(vmulq_s8(rows[r], power));
                }
            }
        }
        all
    }

    #[inline(always)]
    unsafe fn few<D: Dot>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) -> bool {
        if acts.n <= FEW {
            // SAFETY: the caller's.
            unsafe { columns::<D>(w, |i| i, acts, out) }
        }
        acts.n <= FEW
    }
}

/// Rows `row(i)` of T3R, for each column `i` of `out`.
///
/// # Safety
/// The rows exist; shapes as [`crate::kernels::RowsFn`] says.
#[inline(always)]
unsafe fn rows<D: Dot>(w: &RowSpan<'_>, row: impl Fn(usize) -> usize, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
    let (count, bytes) = (out.cols(), w.row_bytes);
    for t in 0..acts.n {
        let (act, out) = (acts.row(t), out.row_mut(t));
        for first in (0..count).step_by(4) {
            // A last group of fewer rows repeats its last row.
            let four = |from: usize| {
                core::array::from_fn(|r| w.data[row((from + r).min(count - 1)) * bytes..][..bytes].as_ptr())
            };
            // SAFETY: each pointer has a row behind it, and the token `cols` values.
            let sums = unsafe { four_rows::<D>(four(first), four(first + 4), bytes, act.q) };
            for (out, isum) in out[first..].iter_mut().zip(sums) {
                *out = isum as f32 / act.d[0] * w.scale;
            }
        }
    }
}

/// Four rows times one token. Reads ahead in the rows `next`.
///
/// # Safety
/// `bytes` bytes, a multiple of 16, must be readable at each of `now`.
#[inline(always)]
unsafe fn four_rows<D: Dot>(now: [*const u8; 4], next: [*const u8; 4], bytes: usize, q: &[i8]) -> [i32; 4] {
    let (mut a, mut b) = ([zero(); 4], [zero(); 4]);
    for m in (0..bytes).step_by(16) {
        // SAFETY: registers only.
        let mut x = [unsafe { vdupq_n_s8(0) }; 5];
        for (k, x) in x.iter_mut().enumerate() {
            // Columns end with a run of 16.
            if let Some(run) = q.get(k * bytes + m..k * bytes + m + 16) {
                // SAFETY: 16 values.
                *x = unsafe { vld1q_s8(run.as_ptr()) };
            }
        }
        for r in 0..4 {
            prefetch(next[r].wrapping_add(m));
            // SAFETY: the row has 16 more bytes.
            let mut s = unsafe { vld1q_s8(now[r].add(m).cast()) };
            for x in x {
                if D::FAST {
                    a[r] = D::dot16(a[r], s, x);
                    s = triple(s);
                    b[r] = D::dot16(b[r], s, x);
                } else {
                    a[r] = D::dot16(a[r], trit(s), x);
                    s = triple(s);
                }
            }
        }
    }
    let mut sums = [0i32; 4];
    // SAFETY: four values.
    unsafe {
        if D::FAST {
            for r in 0..4 {
                // 3 S_j - S_{j+1}, over all j, is 256 times the sum of the row.
                a[r] = vshrq_n_s32::<8>(vsubq_s32(vmulq_n_s32(a[r], 3), b[r]));
            }
        }
        vst1q_s32(sums.as_mut_ptr(), reduce4(a));
    }
    sums
}

/// Sums of 16 bytes' five digits, lane = byte.
type Digits = [[int32x4_t; 5]; 4];

/// Columns `column(i)` of T3C, for each value `i` of the activations.
///
/// # Safety
/// The columns exist; shapes as [`crate::kernels::ListedFn`] says.
#[inline(always)]
unsafe fn columns<D: Dot>(
    w: &RowSpan<'_>,
    column: impl Fn(usize) -> usize,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
) {
    for (p, panel) in w.data.chunks_exact(w.row_bytes).enumerate() {
        let rows = 5 * COLUMN * p..w.rows.min(5 * COLUMN * (p + 1));
        for t in 0..acts.n {
            let mut results = [0f32; 5 * COLUMN];
            let act = acts.row(t);
            for first in (0..COLUMN).step_by(16) {
                // SAFETY: the columns are in the panel, and have 16 bytes from `first` on.
                unsafe {
                    let sums = if D::FAST {
                        telescoped::<D>(panel, first, &column, act)
                    } else {
                        by_digits(panel, first, &column, act)
                    };
                    for (i, sums) in sums.into_iter().enumerate() {
                        for (j, isum) in sums.into_iter().enumerate() {
                            let value = vdivq_f32(vcvtq_f32_s32(isum), vdupq_n_f32(act.d[0]));
                            let to = &mut results[COLUMN * j + first + 4 * i..][..4];
                            vst1q_f32(to.as_mut_ptr(), vmulq_n_f32(value, w.scale));
                        }
                    }
                }
            }
            out.row_mut(t)[rows.clone()].copy_from_slice(&results[..rows.len()]);
        }
    }
}

/// Four columns at a time: the four bytes of a place become a lane, and the chain's sums give the digits'.
///
/// # Safety
/// The columns are in the panel and have 16 bytes from `first` on.
#[inline(always)]
unsafe fn telescoped<D: Dot>(panel: &[u8], first: usize, column: &impl Fn(usize) -> usize, act: ActRow<'_>) -> Digits {
    let at = |i: usize| panel.as_ptr().wrapping_add(COLUMN * column(i) + first);
    let mut digits = [[zero(); 5]; 4];
    for (chunk, q) in act.q.chunks(CHUNK).enumerate() {
        let mut s = [[zero(); 6]; 4];
        for (i, q) in q.chunks_exact(4).enumerate() {
            let i = CHUNK * chunk + 4 * i;
            if first == 0 {
                (0..4).for_each(|n| prefetch(at((i + n + AHEAD).min(act.q.len() - 1))));
            }
            // SAFETY: the columns have the bytes, the chunk four values.
            unsafe {
                let load = |n: usize| vld1q_s8(at(i + n).cast());
                let (a, b, c, d) = (load(0), load(1), load(2), load(3));
                let pairs = |v| vreinterpretq_s16_s8(v);
                let (ab, cd) = (
                    [pairs(vzip1q_s8(a, b)), pairs(vzip2q_s8(a, b))],
                    [pairs(vzip1q_s8(c, d)), pairs(vzip2q_s8(c, d))],
                );
                let places = [
                    vzip1q_s16(ab[0], cd[0]),
                    vzip2q_s16(ab[0], cd[0]),
                    vzip1q_s16(ab[1], cd[1]),
                    vzip2q_s16(ab[1], cd[1]),
                ];
                let x = vreinterpretq_s8_s32(vdupq_n_s32(q.as_ptr().cast::<i32>().read_unaligned()));
                for v in 0..4 {
                    let mut chain = vreinterpretq_s8_s16(places[v]);
                    for j in 0..6 {
                        s[v][j] = D::dot16(s[v][j], chain, x);
                        chain = triple(chain);
                    }
                }
            }
        }
        for v in 0..4 {
            for j in 0..5 {
                // SAFETY: registers only.
                unsafe {
                    let digit = vshrq_n_s32::<8>(vsubq_s32(vmulq_n_s32(s[v][j], 3), s[v][j + 1]));
                    digits[v][j] = vaddq_s32(digits[v][j], digit);
                }
            }
        }
    }
    digits
}

/// One column at a time: its digits times one activation, in 16-bit lanes.
///
/// # Safety
/// The columns are in the panel and have 16 bytes from `first` on.
#[inline(always)]
unsafe fn by_digits(panel: &[u8], first: usize, column: &impl Fn(usize) -> usize, act: ActRow<'_>) -> Digits {
    let mut digits = [[zero(); 5]; 4];
    for (chunk, q) in act.q.chunks(NARROW_CHUNK).enumerate() {
        // SAFETY: the columns have the bytes; else registers only.
        unsafe {
            let mut sums = [[vdupq_n_s16(0); 5]; 2];
            for (i, q) in q.iter().enumerate() {
                let at = COLUMN * column(NARROW_CHUNK * chunk + i) + first;
                let (mut s, x) = (vld1q_s8(panel.as_ptr().add(at).cast()), vdup_n_s8(*q));
                for j in 0..5 {
                    let w = trit(s);
                    sums[0][j] = vmlal_s8(sums[0][j], vget_low_s8(w), x);
                    sums[1][j] = vmlal_s8(sums[1][j], vget_high_s8(w), x);
                    s = triple(s);
                }
            }
            for j in 0..5 {
                for half in 0..2 {
                    let low = vaddw_s16(digits[2 * half][j], vget_low_s16(sums[half][j]));
                    let high = vaddw_s16(digits[2 * half + 1][j], vget_high_s16(sums[half][j]));
                    (digits[2 * half][j], digits[2 * half + 1][j]) = (low, high);
                }
            }
        }
    }
    digits
}
