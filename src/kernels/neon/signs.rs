//! B1 and B1_64: signs times signs, the same at every level. A product of signs is -1 where the bits differ, so a
//! sum of `n` products is `n` less twice the number of ones in the exclusive or.

use core::arch::aarch64::*;

use super::weight::halves;
use crate::kernels::RowsFn;
use crate::mem::TileMut;
use crate::quant::{Acts, RowSpan};

trait Signs {
    /// Four rows of `k` weights times the signs at `x`, scales applied.
    ///
    /// # Safety
    /// The rows must be readable, `row_bytes` each, and `k / 8` bytes at `x`; `k` is a multiple of 64.
    unsafe fn dot4(p: [*const u8; 4], row_bytes: usize, k: usize, x: *const u8) -> float32x4_t;
}

struct B1;
struct B1Tiles;

impl Signs for B1 {
    #[inline(always)]
    unsafe fn dot4(p: [*const u8; 4], row_bytes: usize, k: usize, x: *const u8) -> float32x4_t {
        // A byte lane takes 31 counts of at most 8 before it must be emptied.
        const RUN: usize = 31 * 16;
        let bytes = k / 8;
        // SAFETY: the caller's.
        unsafe {
            let mut ones = [vdupq_n_u32(0); 4];
            for start in (0..bytes).step_by(RUN) {
                let end = bytes.min(start + RUN);
                let mut counts = [vdupq_n_u8(0); 4];
                let mut i = start;
                while i + 16 <= end {
                    let v = vld1q_u8(x.add(i));
                    for r in 0..4 {
                        counts[r] = vaddq_u8(counts[r], vcntq_u8(veorq_u8(vld1q_u8(p[r].add(i)), v)));
                    }
                    i += 16;
                }
                if i < end {
                    let v = vld1_u8(x.add(i));
                    for r in 0..4 {
                        let differ = vcnt_u8(veor_u8(vld1_u8(p[r].add(i)), v));
                        counts[r] = vaddq_u8(counts[r], vcombine_u8(differ, vdup_n_u8(0)));
                    }
                }
                for r in 0..4 {
                    ones[r] = vpadalq_u16(ones[r], vpaddlq_u8(counts[r]));
                }
            }
            let ones = vpaddq_u32(vpaddq_u32(ones[0], ones[1]), vpaddq_u32(ones[2], ones[3]));
            let isum = vsubq_s32(vdupq_n_s32(k as i32), vreinterpretq_s32_u32(vaddq_u32(ones, ones)));
            let alpha = p.map(|p| p.add(row_bytes - 4).cast::<f32>().read_unaligned());
            vmulq_f32(vcvtq_f32_s32(isum), vld1q_f32(alpha.as_ptr()))
        }
    }
}

impl Signs for B1Tiles {
    #[inline(always)]
    unsafe fn dot4(mut p: [*const u8; 4], _: usize, k: usize, x: *const u8) -> float32x4_t {
        // SAFETY: the caller's: k / 64 blocks of 10 bytes.
        unsafe {
            let mut acc = vdupq_n_f32(0.0);
            for b in 0..k / 64 {
                let v = vld1_u8(x.add(8 * b));
                let v = vcombine_u8(v, v);
                let two =
                    |a: *const u8, b: *const u8| vpaddlq_u8(vcntq_u8(veorq_u8(vcombine_u8(vld1_u8(a), vld1_u8(b)), v)));
                let ones = vpaddlq_u16(vpaddq_u16(two(p[0], p[1]), two(p[2], p[3])));
                let isum = vsubq_s32(vdupq_n_s32(64), vreinterpretq_s32_u32(vaddq_u32(ones, ones)));
                acc = vaddq_f32(acc, vmulq_f32(vcvtq_f32_s32(isum), halves(p, 8)));
                p = p.map(|p| p.add(10));
            }
            acc
        }
    }
}

/// # Safety
/// Shapes agree as [`RowsFn`] says.
#[inline(always)]
unsafe fn rows<S: Signs>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
    let last = w.rows.saturating_sub(1);
    for first in (0..w.rows).step_by(4) {
        let p = [0, 1, 2, 3].map(|r| w.data[(first + r).min(last) * w.row_bytes..].as_ptr());
        for t in 0..acts.n {
            let mut values = [0f32; 4];
            // SAFETY: whole rows, the signs of a token, four values.
            unsafe {
                let sums = S::dot4(p, w.row_bytes, w.cols, acts.row(t).q.as_ptr().cast());
                vst1q_f32(values.as_mut_ptr(), vmulq_n_f32(sums, w.scale));
            }
            for (out, v) in out.row_mut(t)[first..].iter_mut().zip(values) {
                *out = v;
            }
        }
    }
}

#[target_feature(enable = "neon")]
#[inline(never)]
unsafe fn neon_b1xsign(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
    // SAFETY: the caller keeps the contract of `RowsFn`.
    unsafe { rows::<B1>(w, acts, out) }
}

#[target_feature(enable = "neon")]
#[inline(never)]
unsafe fn neon_b1_64xsign(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
    // SAFETY: the caller keeps the contract of `RowsFn`.
    unsafe { rows::<B1Tiles>(w, acts, out) }
}

pub(super) const B1_ROWS: RowsFn = neon_b1xsign;
pub(super) const B1_64_ROWS: RowsFn = neon_b1_64xsign;
