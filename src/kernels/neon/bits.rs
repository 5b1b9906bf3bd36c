//! Q1_0 and Q2_0: codes of neighbouring columns share a byte; layouts in `src/quant/q1_0.rs` and `q2_0.rs`.
//!
//! Here the activations are sorted instead of the weights: with columns `i`, `i + 4`, `i + 8`... (or every eighth)
//! in one vector, one mask takes the codes of sixteen columns out of sixteen bytes as they lie, and a lane of
//! `SDOT` holds the columns of one activation scale.

use core::arch::aarch64::*;
use core::mem::MaybeUninit;

use super::dot::{Dot, prefetch, sdot, test_bits, transpose, zero};
use super::gemv::gemv;
use super::weight::{Scaled32, Weight, block4, each_group, halves};
use crate::mem::TileMut;
use crate::quant::{ActRow, Acts, RowSpan};

pub(super) struct Q1_0;
pub(super) struct Q2_0;
pub(super) struct Q2_0G128;

impl Weight for Q1_0 {
    type Style = Scaled32;
    const BLOCK: usize = 128;
    const BYTES: usize = 18;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        const SPREAD: [[u8; 16]; 2] =
            [[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3]];
        const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
        // SAFETY: a block is readable. A clear bit gives -1, a set one -1 * -1 = 1: the mask, or 1, negated.
        unsafe {
            let bits = vreinterpretq_u8_u32(vdupq_n_u32(p.add(2 + 4 * g).cast::<u32>().read_unaligned()));
            core::array::from_fn(|h| {
                let set = test_bits(vqtbl1q_u8(bits, vld1q_u8(SPREAD[h].as_ptr())), vld1q_u8(BITS.as_ptr()));
                vnegq_s8(vreinterpretq_s8_u8(vorrq_u8(set, vdupq_n_u8(1))))
            })
        }
    }
    #[inline(always)]
    unsafe fn few<D: Dot>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) -> bool {
        if acts.n != 1 {
            return false;
        }
        let (act, out) = (acts.row(0), out.row_mut(0));
        // SAFETY: the caller's.
        unsafe { if D::FAST { signs_gemv(w, act, out) } else { gemv::<Self, D>(w, act, out) } }
    }
}

/// Columns of Q1_0 whose activations are sorted at once: 8 KiB of stack.
const SORTED: usize = 8192;

/// One token and Q1_0: the activation is sorted once for all rows, so that bit `k` of the 16 bytes of a block
/// meets the 16 values it belongs to. Lane `i` of a row's sum is then its `i`-th 32 columns.
///
/// # Safety
/// Shapes agree as [`crate::kernels::RowsFn`] says; for a level with `SDOT`.
#[inline(always)]
unsafe fn signs_gemv(w: &RowSpan<'_>, act: ActRow<'_>, out: &mut [f32]) -> bool {
    let mut sorted = MaybeUninit::<[int8x16_t; SORTED / 16]>::uninit();
    let x = sorted.as_mut_ptr().cast::<i8>();
    for start in (0..w.cols).step_by(SORTED) {
        let columns = SORTED.min(w.cols - start);
        // SAFETY: `columns` values exist and have room; each pointer has the blocks of these columns behind it.
        unsafe {
            for i in (0..columns).step_by(128) {
                sort8(act.q[start + i..].as_ptr(), x.add(i));
            }
            let last = out.len().saturating_sub(1);
            for (i, out) in out.chunks_mut(4).enumerate() {
                let row = |r: usize| w.data[(4 * i + r).min(last) * w.row_bytes + start / 128 * 18..].as_ptr();
                let p = [row(0), row(1), row(2), row(3)];
                let mut values = [0f32; 4];
                if start > 0 {
                    values[..out.len()].copy_from_slice(out);
                }
                let mut acc = vld1q_f32(values.as_ptr());
                for b in 0..columns / 128 {
                    let at = 4 * (start / 128 + b);
                    let (da, bsums) = (act.d[at..].as_ptr(), act.bsums[at..].as_ptr());
                    let p = p.map(|p| p.add(18 * b));
                    // A line of one of the next four rows at a time: a line is three and a half blocks.
                    prefetch(p[0].wrapping_add((4 + b % 4) * w.row_bytes));
                    let sums = signs4(p, x.add(128 * b), bsums);
                    let d = halves(p, 0);
                    for u in 0..4 {
                        acc = vaddq_f32(acc, vmulq_f32(sums[u], vmulq_n_f32(d, *da.add(u))));
                    }
                }
                let scale = if start + columns == w.cols { w.scale } else { 1.0 };
                vst1q_f32(values.as_mut_ptr(), vmulq_n_f32(acc, scale));
                let rows = out.len();
                out.copy_from_slice(&values[..rows]);
            }
        }
    }
    true
}

/// Values `i`, `i + 8`, `i + 16`... of 128 to vector `i` of eight.
///
/// # Safety
/// 128 values must be readable at `from` and writable at `to`.
#[inline(always)]
unsafe fn sort8(from: *const i8, to: *mut i8) {
    // SAFETY: the caller's.
    unsafe {
        let (a, b) = (vld4q_s8(from), vld4q_s8(from.add(64)));
        for (k, (a, b)) in [(a.0, b.0), (a.1, b.1), (a.2, b.2), (a.3, b.3)].into_iter().enumerate() {
            vst1q_s8(to.add(16 * k), vuzp1q_s8(a, b));
            vst1q_s8(to.add(16 * (k + 4)), vuzp2q_s8(a, b));
        }
    }
}

/// A block of four rows times 128 sorted values: the sums of each 32 columns, lane = row.
///
/// # Safety
/// The blocks and values must be readable, and 4 group sums.
#[inline(always)]
unsafe fn signs4(p: [*const u8; 4], x: *const i8, bsums: *const i16) -> [float32x4_t; 4] {
    // An integer added to the bits of this float is added to its value: no conversion, which takes twice the time.
    const ZERO: f32 = 12_582_912.0;
    let mut acc = [zero(); 4];
    // SAFETY: the caller's.
    unsafe {
        let bits = p.map(|p| vld1q_u8(p.add(2)));
        each_group!(8, k => {
            let v = vld1q_s8(x.add(16 * k));
            let mask = vdupq_n_u8(1 << k);
            for r in 0..4 {
                acc[r] = sdot(acc[r], vreinterpretq_s8_u8(test_bits(bits[r], mask)), v);
            }
        });
        // A lane is minus the sum over set bits; the whole is twice that sum less all values.
        let less = vsubw_s16(vdupq_n_s32(ZERO.to_bits() as i32), vld1_s16(bsums));
        let sums = transpose(acc.map(|v| vsubq_s32(vsubq_s32(less, v), v)));
        sums.map(|v| vsubq_f32(vreinterpretq_f32_s32(v), vdupq_n_f32(ZERO)))
    }
}

impl Weight for Q2_0 {
    type Style = Scaled32;
    const BLOCK: usize = 64;
    const BYTES: usize = 18;
    const BIAS: i8 = 1;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { quarters(p.add(2 + 8 * g)) }
    }
    #[inline(always)]
    unsafe fn block4<D: Dot>(p: [*const u8; 4], x: *const i8, bsums: *const i16) -> [int32x4_t; 4] {
        // SAFETY: the caller's: a block, 64 values, 2 sums.
        unsafe {
            if !D::FAST {
                return block4::<Self, D>(p, x, bsums);
            }
            let [a, b] = quarters4::<2>(p, x, bsums);
            [a, b, a, b]
        }
    }
}

impl Weight for Q2_0G128 {
    type Style = Scaled32;
    const BLOCK: usize = 128;
    const BYTES: usize = 34;
    const BIAS: i8 = 1;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { quarters(p.add(2 + 8 * g)) }
    }
    #[inline(always)]
    unsafe fn block4<D: Dot>(p: [*const u8; 4], x: *const i8, bsums: *const i16) -> [int32x4_t; 4] {
        // SAFETY: the caller's: a block, 128 values, 4 sums.
        unsafe {
            if !D::FAST {
                return block4::<Self, D>(p, x, bsums);
            }
            let [a, b] = quarters4::<2>(p, x, bsums);
            let [c, d] = quarters4::<18>(p, x.add(64), bsums.add(2));
            [a, b, c, d]
        }
    }
}

/// 32 codes of 8 bytes, four in each, the first lowest.
///
/// # Safety
/// 8 bytes must be readable at `p`.
#[inline(always)]
unsafe fn quarters(p: *const u8) -> [int8x16_t; 2] {
    const SPREAD: [[u8; 16]; 2] =
        [[0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3], [4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7]];
    const SHIFT: [i8; 16] = [0, -2, -4, -6, 0, -2, -4, -6, 0, -2, -4, -6, 0, -2, -4, -6];
    // SAFETY: the caller's.
    unsafe {
        let bytes = vcombine_u8(vld1_u8(p), vdup_n_u8(0));
        core::array::from_fn(|h| {
            let spread = vqtbl1q_u8(bytes, vld1q_u8(SPREAD[h].as_ptr()));
            vreinterpretq_s8_u8(vandq_u8(vshlq_u8(spread, vld1q_s8(SHIFT.as_ptr())), vdupq_n_u8(3)))
        })
    }
}

/// 64 columns of codes at byte `AT` of four blocks: the sums of the first and of the last 32, lane = row.
///
/// # Safety
/// 16 bytes must be readable there, 64 values at `x`, 2 at `bsums`.
#[inline(always)]
unsafe fn quarters4<const AT: usize>(p: [*const u8; 4], x: *const i8, bsums: *const i16) -> [int32x4_t; 2] {
    // SAFETY: the caller's.
    unsafe {
        let x = vld4q_s8(x);
        let three = vdupq_n_u8(3);
        let mut acc = [zero(); 4];
        for r in 0..4 {
            let bytes = vld1q_u8(p[r].add(AT));
            let fields = [bytes, vshrq_n_u8::<2>(bytes), vshrq_n_u8::<4>(bytes)];
            let [a, b, c] = fields.map(|v| vreinterpretq_s8_u8(vandq_u8(v, three)));
            acc[r] = sdot(sdot(acc[r], a, x.0), b, x.1);
            acc[r] = sdot(sdot(acc[r], c, x.2), vreinterpretq_s8_u8(vshrq_n_u8::<6>(bytes)), x.3);
        }
        let (low, high) = (vpaddq_s32(acc[0], acc[1]), vpaddq_s32(acc[2], acc[3]));
        let less = |v, at: usize| vsubq_s32(v, vdupq_n_s32(i32::from(*bsums.add(at))));
        [less(vuzp1q_s32(low, high), 0), less(vuzp2q_s32(low, high), 1)]
    }
}
