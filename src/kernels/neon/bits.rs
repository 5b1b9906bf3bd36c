//! Q1_0 and Q2_0: codes of neighbouring columns share a byte; layouts in `src/quant/q1_0.rs` and `q2_0.rs`.
//!
//! Here the activations are sorted instead of the weights: with columns `i`, `i + 4`, `i + 8`... (or every eighth)
//! in one vector, one mask takes the codes of sixteen columns out of sixteen bytes as they lie, and a lane of
//! `SDOT` holds the columns of one activation scale.

use core::arch::aarch64::*;

use super::dot::{Dot, sdot, transpose, zero};
use super::weight::{Scaled32, Weight, block4};

pub(super) struct Q1_0;
pub(super) struct Q2_0;
pub(super) struct Q2_0G128;

impl Weight for Q1_0 {
    type Style = Scaled32;
    const BLOCK: usize = 128;
    const BYTES: usize = 18;
    #[inline(always)]
    unsafe fn codes(p: *const u8, g: usize) -> [int8x16_t; 2] {
        const SPREAD: [[u8; 16]; 2] =
            [[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3]];
        const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
        // SAFETY: a block is readable. A clear bit gives -1, a set one -1 * -1 = 1: the mask, or 1, negated.
        unsafe {
            let bits = vreinterpretq_u8_u32(vdupq_n_u32(p.add(2 + 4 * g).cast::<u32>().read_unaligned()));
            core::array::from_fn(|h| {
                let set = vtstq_u8(vqtbl1q_u8(bits, vld1q_u8(SPREAD[h].as_ptr())), vld1q_u8(BITS.as_ptr()));
                vnegq_s8(vreinterpretq_s8_u8(vorrq_u8(set, vdupq_n_u8(1))))
            })
        }
    }
    #[inline(always)]
    unsafe fn block4<D: Dot>(p: [*const u8; 4], x: *const i8, bsums: *const i16) -> [int32x4_t; 4] {
        // SAFETY: the caller's: a block, 128 values, 4 sums.
        unsafe {
            if !D::FAST {
                return block4::<Self, D>(p, x, bsums);
            }
            let (a, b) = (vld4q_s8(x), vld4q_s8(x.add(64)));
            let (a, b) = ([a.0, a.1, a.2, a.3], [b.0, b.1, b.2, b.3]);
            let mut acc = [zero(); 4];
            for k in 0..8 {
                let x = if k < 4 { vuzp1q_s8(a[k], b[k]) } else { vuzp2q_s8(a[k - 4], b[k - 4]) };
                let mask = vdupq_n_u8(1 << k);
                for r in 0..4 {
                    acc[r] = sdot(acc[r], vreinterpretq_s8_u8(vtstq_u8(vld1q_u8(p[r].add(2)), mask)), x);
                }
            }
            // A lane is minus the sum over set bits of 32 columns; the whole is twice that less all of them.
            let all = vmovl_s16(vld1_s16(bsums));
            transpose(acc.map(|v| vnegq_s32(vaddq_s32(vaddq_s32(v, v), all))))
        }
    }
}

impl Weight for Q2_0 {
    type Style = Scaled32;
    const BLOCK: usize = 64;
    const BYTES: usize = 18;
    const BIAS: i8 = 1;
    #[inline(always)]
    unsafe fn codes(p: *const u8, g: usize) -> [int8x16_t; 2] {
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
    unsafe fn codes(p: *const u8, g: usize) -> [int8x16_t; 2] {
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
