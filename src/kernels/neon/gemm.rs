//! Several tokens: a panel of eight rows is unpacked once, to int8 in the order of the level's dot product, and
//! multiplied with tile after tile of tokens.
//!
//! Columns are taken `COLUMNS` at a time so that the panel stays in the first-level cache; between two such
//! blocks the sums rest in `out` itself, as f32 (or as the bits of int32, for whole-row types), which loses
//! nothing.

use core::arch::aarch64::*;
use core::mem::MaybeUninit;

use super::dot::{Dot, zero};
use super::weight::{Style, Unit, Weight, each_group, finish_row, fold, halves, sub_sums};
use crate::mem::TileMut;
use crate::quant::{Acts, RowSpan};

/// Columns of a panel: a multiple of every block.
const COLUMNS: usize = 512;

/// Eight rows by up to `COLUMNS` columns.
#[repr(C, align(64))]
pub(super) struct Panel {
    /// Chunks of 16 columns, two quads of rows each, 64 bytes in the order of [`Dot::store`].
    codes: [i8; 8 * COLUMNS],
    /// Per unit, eight scales; for whole-row types, of the rows.
    d: [f32; 8 * COLUMNS / 32],
    /// Per unit, eight minima.
    m: [f32; 8 * COLUMNS / 32],
    /// Per sub-block, eight integer scales.
    scales: [i32; 8 * COLUMNS / 16],
    /// Per sub-block, eight integer minima.
    mins: [i16; 8 * COLUMNS / 16],
}

/// A tile's tokens and where their results go.
#[derive(Clone, Copy)]
pub(super) struct Job<const T: usize> {
    /// int8 values of each token, at the panel's first column.
    x: [*const i8; T],
    /// Scales of each token, at the panel's first unit; for whole-row types the row's.
    d: [*const f32; T],
    /// Group sums of each token, likewise.
    bsums: [*const i16; T],
    /// First result of each token.
    out: [*mut f32; T],
    /// Rows of the panel that exist, 1 to 8.
    rows: usize,
    /// Tokens that exist, 1 to `T`; the others repeat the last.
    tokens: usize,
    /// Columns of the panel in use.
    columns: usize,
    /// The panel holds the first columns: nothing is in `out` yet.
    first: bool,
    /// The panel holds the last columns: `Some` tensor scale.
    last: Option<f32>,
}

/// [`tile`] compiled for a level.
pub(super) type TileFn<const T: usize> = unsafe fn(&Panel, &Job<T>);

/// All rows of `w` times all tokens, by the level's tiles.
///
/// # Safety
/// Shapes agree as [`crate::kernels::RowsFn`] says, for the type `W`.
#[inline(always)]
pub(super) unsafe fn gemm<W: Weight, D: Dot>(
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    tiles: (TileFn<4>, TileFn<2>),
) {
    let mut panel = MaybeUninit::<Panel>::uninit();
    for row in (0..w.rows).step_by(8) {
        for column in (0..w.cols).step_by(COLUMNS) {
            let all = Jobs::of::<W>(w, acts, out, row, column);
            // SAFETY: rows and columns exist; `pack` writes all of the panel that `columns` columns need.
            let panel = unsafe {
                pack::<W, D>(w, row, column, all.columns, panel.as_mut_ptr());
                &*panel.as_ptr()
            };
            let mut t = 0;
            while t < acts.n {
                // SAFETY: the level runs here, and the job is inside `acts` and `out`.
                unsafe {
                    if acts.n - t > 2 {
                        tiles.0(panel, &all.job(t));
                        t += 4;
                    } else {
                        tiles.1(panel, &all.job(t));
                        t += 2;
                    }
                }
            }
        }
    }
}

/// What the tiles of a panel share: the first token's addresses, and how far those of the next lie.
struct Jobs {
    n: usize,
    x: *const i8,
    codes: usize,
    d: *const f32,
    scales: usize,
    bsums: *const i16,
    sums: usize,
    out: *mut f32,
    stride: usize,
    rows: usize,
    columns: usize,
    first: bool,
    last: Option<f32>,
}

impl Jobs {
    #[inline(always)]
    fn of<W: Weight>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>, row: usize, column: usize) -> Jobs {
        let columns = COLUMNS.min(w.cols - column);
        let unit = if W::Style::ROW { 0 } else { column / W::Style::UNIT };
        Jobs {
            n: acts.n,
            x: acts.q[column..].as_ptr(),
            codes: acts.kind.codes(acts.k),
            d: acts.d[unit..].as_ptr(),
            scales: acts.kind.scales(acts.k),
            bsums: acts.bsums[unit * W::Style::SUMS..].as_ptr(),
            sums: acts.kind.bsums(acts.k),
            stride: out.stride(),
            out: out.as_mut_ptr().wrapping_add(row),
            rows: 8.min(w.rows - row),
            columns,
            first: column == 0,
            last: (column + columns == w.cols).then_some(w.scale),
        }
    }

    /// Tokens from `t` on, of which there is at least one.
    #[inline(always)]
    fn job<const T: usize>(&self, t: usize) -> Job<T> {
        let tokens = T.min(self.n - t);
        let token: [usize; T] = core::array::from_fn(|i| t + i.min(tokens - 1));
        Job {
            x: token.map(|t| self.x.wrapping_add(t * self.codes)),
            d: token.map(|t| self.d.wrapping_add(t * self.scales)),
            bsums: token.map(|t| self.bsums.wrapping_add(t * self.sums)),
            out: token.map(|t| self.out.wrapping_add(t * self.stride)),
            rows: self.rows,
            tokens,
            columns: self.columns,
            first: self.first,
            last: self.last,
        }
    }
}

/// Unpacks `columns` columns of up to eight rows; rows that do not exist repeat the last one.
///
/// # Safety
/// Row `row` and the columns must exist, `column` must be a multiple of the block.
#[inline(always)]
unsafe fn pack<W: Weight, D: Dot>(w: &RowSpan<'_>, row: usize, column: usize, columns: usize, panel: *mut Panel) {
    let unit = W::Style::UNIT;
    // SAFETY: registers only.
    let bias = unsafe { vdupq_n_s8(W::BIAS) };
    for q in 0..2 {
        let at = column / W::BLOCK * W::BYTES;
        let rows: [usize; 4] = core::array::from_fn(|r| (row + 4 * q + r).min(w.rows - 1));
        let groups = rows.map(|r| w.data[r / W::LANES * w.row_bytes..].as_ptr());
        // SAFETY: the block is in the row.
        let mut p = groups.map(|p| unsafe { p.add(at) });
        for r in 0..4 {
            if W::Style::ROW {
                // SAFETY: eight row scales have room, and the row is readable.
                unsafe { (*panel).d[4 * q + r] = W::row_scale(groups[r], w.row_bytes, rows[r] % W::LANES) };
            }
        }
        for block in 0..columns / W::BLOCK {
            // SAFETY: the blocks exist; the panel has room for `COLUMNS` columns of codes and units.
            unsafe {
                let codes = (&raw mut (*panel).codes).cast::<i8>().add(8 * block * W::BLOCK + 64 * q);
                each_group!(W::BLOCK / 32, g => {
                    let (mut low, mut high) = ([bias; 4], [bias; 4]);
                    let four = W::quad(w, rows, column + block * W::BLOCK, p, g);
                    for r in 0..4 {
                        let [a, b] = four[r];
                        (low[r], high[r]) = (vsubq_s8(a, bias), vsubq_s8(b, bias));
                    }
                    D::store(codes.add(256 * g), low);
                    D::store(codes.add(256 * g + 128), high);
                });
                if !W::Style::ROW {
                    let d = W::quad_scales(p, rows[0] % W::LANES);
                    let m = if W::Style::MIN { halves(p, W::MIN_AT) } else { d };
                    for u in 0..W::BLOCK / unit {
                        let at = 8 * (block * (W::BLOCK / unit) + u) + 4 * q;
                        vst1q_f32((&raw mut (*panel).d).cast::<f32>().add(at), d);
                        if W::Style::MIN {
                            vst1q_f32((&raw mut (*panel).m).cast::<f32>().add(at), m);
                        }
                    }
                }
                if W::Style::SUB != 0 {
                    pack_subs::<W>(p, panel, block, q);
                }
                p = p.map(|p| p.add(W::BYTES));
            }
        }
    }
}

/// Scales and minima of a block of four rows, to the panel's quad `q`.
///
/// # Safety
/// The blocks must be readable, and the panel must have room.
#[inline(always)]
unsafe fn pack_subs<W: Weight>(p: [*const u8; 4], panel: *mut Panel, block: usize, q: usize) {
    let subs = W::BLOCK / W::Style::SUB;
    let at = 8 * block * subs + 4 * q;
    for (r, p) in p.into_iter().enumerate() {
        let (mut scales, mut mins) = ([0i16; 16], [0i16; 16]);
        // SAFETY: the caller's; the arrays take two vectors.
        unsafe {
            let ([a, b], [c, d]) = (W::scales(p), W::mins(p));
            vst1q_s16(scales.as_mut_ptr(), a);
            vst1q_s16(scales[8..].as_mut_ptr(), b);
            vst1q_s16(mins.as_mut_ptr(), c);
            vst1q_s16(mins[8..].as_mut_ptr(), d);
            for j in 0..subs {
                *(&raw mut (*panel).scales).cast::<i32>().add(at + 8 * j + r) = i32::from(scales[j]);
                if W::Style::MIN {
                    *(&raw mut (*panel).mins).cast::<i16>().add(at + 8 * j + r) = mins[j];
                }
            }
        }
    }
}

/// Eight rows times `T` tokens over the panel's columns.
///
/// # Safety
/// The panel is packed for `S` and `D`, the job's pointers are good for its columns, rows and tokens.
#[inline(always)]
pub(super) unsafe fn tile<S: Style, D: Dot, const T: usize>(panel: &Panel, job: &Job<T>) {
    // SAFETY: the caller's.
    unsafe { if S::ROW { tile_row::<S, D, T>(panel, job) } else { tile_units::<S, D, T>(panel, job) } }
}

#[inline(always)]
unsafe fn sums<S: Style, D: Dot, const T: usize>(
    panel: *const i8,
    x: [*const i8; T],
    chunks: usize,
) -> [[int32x4_t; T]; 2] {
    // SAFETY: the caller's.
    unsafe { if S::WIDE { D::panel::<true, T>(panel, x, chunks) } else { D::panel::<false, T>(panel, x, chunks) } }
}

#[inline(always)]
unsafe fn tile_row<S: Style, D: Dot, const T: usize>(panel: &Panel, job: &Job<T>) {
    // SAFETY: the panel and the tokens have `columns` columns.
    unsafe {
        let sums = sums::<S, D, T>(panel.codes.as_ptr(), job.x, job.columns / 16);
        for t in 0..job.tokens {
            for q in 0..2 {
                let before = if job.first { vdupq_n_f32(0.0) } else { load(job, t, q) };
                let isum = vaddq_s32(vreinterpretq_s32_f32(before), sums[q][t]);
                let value = match job.last {
                    Some(scale) => {
                        let row_scales = vld1q_f32(panel.d.as_ptr().add(4 * q));
                        vmulq_n_f32(finish_row::<S>(isum, *job.d[t], row_scales), scale)
                    }
                    None => vreinterpretq_f32_s32(isum),
                };
                store(job, t, q, value);
            }
        }
    }
}

#[inline(always)]
unsafe fn tile_units<S: Style, D: Dot, const T: usize>(panel: &Panel, job: &Job<T>) {
    // SAFETY: the panel and the tokens have `columns` columns, so `columns / UNIT` units.
    unsafe {
        let mut acc = [[vdupq_n_f32(0.0); T]; 2];
        if !job.first {
            for t in 0..T {
                acc[0][t] = load(job, t, 0);
                acc[1][t] = load(job, t, 1);
            }
        }
        for u in 0..job.columns / S::UNIT {
            let mut x = job.x;
            for x in &mut x {
                *x = x.add(u * S::UNIT);
            }
            let codes = panel.codes.as_ptr().add(8 * u * S::UNIT);
            let mut msum = [[zero(); T]; 2];
            let isum = if S::SUB == 0 {
                sums::<S, D, T>(codes, x, S::UNIT / 16)
            } else {
                if S::MIN {
                    msum = minima::<S, T>(panel, job, u);
                }
                sub_blocks::<S, D, T>(panel, u, x)
            };
            for q in 0..2 {
                let d = vld1q_f32(panel.d.as_ptr().add(8 * u + 4 * q));
                let m = if S::MIN { vld1q_f32(panel.m.as_ptr().add(8 * u + 4 * q)) } else { d };
                for t in 0..T {
                    let bsum = if S::MIN { f32::from(*job.bsums[t].add(u)) } else { 0.0 };
                    let (isum, msum) = (isum[q][t], msum[q][t]);
                    acc[q][t] = fold::<S>(acc[q][t], Unit { isum, msum, d, m, da: *job.d[t].add(u), bsum });
                }
            }
        }
        let scale = job.last.unwrap_or(1.0);
        for t in 0..job.tokens {
            store(job, t, 0, vmulq_n_f32(acc[0][t], scale));
            store(job, t, 1, vmulq_n_f32(acc[1][t], scale));
        }
    }
}

/// Unit `u` of a style with sub-blocks: their sums times their scales.
#[inline(always)]
unsafe fn sub_blocks<S: Style, D: Dot, const T: usize>(
    panel: &Panel,
    u: usize,
    x: [*const i8; T],
) -> [[int32x4_t; T]; 2] {
    let mut isum = [[zero(); T]; 2];
    for s in 0..S::UNIT / S::SUB {
        // SAFETY: the panel and the tokens have the sub-block.
        unsafe {
            let mut part = x;
            for x in &mut part {
                *x = x.add(s * S::SUB);
            }
            let at = u * S::UNIT + s * S::SUB;
            let dots = sums::<S, D, T>(panel.codes.as_ptr().add(8 * at), part, S::SUB / 16);
            for q in 0..2 {
                let scale = vld1q_s32(panel.scales.as_ptr().add(8 * (at / S::SUB) + 4 * q));
                for t in 0..T {
                    isum[q][t] = vmlaq_s32(isum[q][t], dots[q][t], scale);
                }
            }
        }
    }
    isum
}

/// Unit `u` of a style with sub-blocks and minima: minima times the sums of the tokens' values.
#[inline(always)]
unsafe fn minima<S: Style, const T: usize>(panel: &Panel, job: &Job<T>, u: usize) -> [[int32x4_t; T]; 2] {
    let mut msum = [[zero(); T]; 2];
    for t in 0..T {
        // SAFETY: the panel and the tokens have the unit; eight minima to a sub-block.
        unsafe {
            let sums = sub_sums::<S>(job.bsums[t].add(16 * u));
            let mins = panel.mins.as_ptr().add(8 * u * (S::UNIT / S::SUB));
            for h in 0..32 / S::SUB {
                macro_rules! step {
                    ($($lane:literal)*) => {$(
                        let m = vld1q_s16(mins.add(8 * (8 * h + $lane)));
                        msum[0][t] = vmlal_laneq_s16::<$lane>(msum[0][t], vget_low_s16(m), sums[h]);
                        msum[1][t] = vmlal_high_laneq_s16::<$lane>(msum[1][t], m, sums[h]);
                    )*};
                }
                step!(0 1 2 3 4 5 6 7);
            }
        }
    }
    msum
}

/// What `out` holds of token `t`, rows `4 * q..4 * q + 4`; 0 for rows that do not exist.
#[inline(always)]
unsafe fn load<const T: usize>(job: &Job<T>, t: usize, q: usize) -> float32x4_t {
    // SAFETY: `out` has `rows` values.
    unsafe {
        if job.rows >= 4 * q + 4 {
            return vld1q_f32(job.out[t].add(4 * q));
        }
        let mut values = [0f32; 4];
        for r in 4 * q..job.rows {
            values[r - 4 * q] = *job.out[t].add(r);
        }
        vld1q_f32(values.as_ptr())
    }
}

/// The inverse of [`load`].
#[inline(always)]
unsafe fn store<const T: usize>(job: &Job<T>, t: usize, q: usize, value: float32x4_t) {
    // SAFETY: `out` has `rows` values.
    unsafe {
        if job.rows >= 4 * q + 4 {
            return vst1q_f32(job.out[t].add(4 * q), value);
        }
        let mut values = [0f32; 4];
        vst1q_f32(values.as_mut_ptr(), value);
        for r in 4 * q..job.rows {
            *job.out[t].add(r) = values[r - 4 * q];
        }
    }
}
