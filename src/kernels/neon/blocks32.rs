//! ggml's types with one scale per 32 weights, and Q8R; layouts in `src/quant/q4_0.rs` and its neighbours.

use core::arch::aarch64::*;

use super::dot::{Dot, load32, prefetch, test_bits};
use super::weight::{RowScaledWide, Scaled32, ScaledMin32, Weight, Wide32};

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;
pub(super) struct Q8R;

impl Weight for Q4_0 {
    type Style = Scaled32;
    const BLOCK: usize = 32;
    const BYTES: usize = 18;
    const BIAS: i8 = 8;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, _: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { nibbles(p.add(2)) }
    }
}

impl Weight for Q4_1 {
    type Style = ScaledMin32;
    const BLOCK: usize = 32;
    const BYTES: usize = 20;
    const MIN_AT: usize = 2;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, _: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { nibbles(p.add(4)) }
    }
}

impl Weight for Q5_0 {
    type Style = Scaled32;
    const BLOCK: usize = 32;
    const BYTES: usize = 22;
    const BIAS: i8 = 16;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, _: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { with_fifth_bits(nibbles(p.add(6)), p.add(2)) }
    }
}

impl Weight for Q5_1 {
    type Style = ScaledMin32;
    const BLOCK: usize = 32;
    const BYTES: usize = 24;
    const MIN_AT: usize = 2;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, _: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { with_fifth_bits(nibbles(p.add(8)), p.add(4)) }
    }
}

impl Weight for Q8_0 {
    type Style = Wide32;
    const BLOCK: usize = 32;
    const BYTES: usize = 34;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, _: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { [vreinterpretq_s8_u8(vld1q_u8(p.add(2))), vreinterpretq_s8_u8(vld1q_u8(p.add(18)))] }
    }
}

impl Weight for Q8R {
    type Style = RowScaledWide;
    const BLOCK: usize = 32;
    const BYTES: usize = 32;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, _: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { load32(p.cast()) }
    }
    #[inline(always)]
    unsafe fn row_scale(row: *const u8, row_bytes: usize, _: usize) -> f32 {
        // SAFETY: the caller's; the scale is the row's end.
        unsafe { row.add(row_bytes - 4).cast::<f32>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn dot4<D: Dot>(
        p: [*const u8; 4],
        _: usize,
        groups: usize,
        x: *const i8,
        init: int32x4_t,
    ) -> [int32x4_t; 4] {
        let mut acc = [init; 4];
        for g in 0..groups {
            // SAFETY: the caller's.
            unsafe {
                let x = load32(x.add(32 * g));
                for r in 0..4 {
                    prefetch(p[r].wrapping_add(32 * g + 4 * 32 * groups));
                    acc[r] = D::dot32::<true>(acc[r], load32(p[r].add(32 * g).cast()), x);
                }
            }
        }
        acc
    }
}

/// Low nibbles, then high nibbles, of 16 bytes.
///
/// # Safety
/// 16 bytes must be readable at `p`.
#[inline(always)]
pub(super) unsafe fn nibbles(p: *const u8) -> [int8x16_t; 2] {
    // SAFETY: the caller's.
    unsafe {
        let bytes = vld1q_u8(p);
        [vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes))]
    }
}

/// Bits 0..32 of the 4 bytes at `p` as bit 4 of 32 codes.
///
/// # Safety
/// 4 bytes must be readable at `p`.
#[inline(always)]
unsafe fn with_fifth_bits(codes: [int8x16_t; 2], p: *const u8) -> [int8x16_t; 2] {
    const SPREAD: [[u8; 16]; 2] =
        [[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3]];
    const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: the caller's; the tables are 16 bytes.
    unsafe {
        let bits = vreinterpretq_u8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned()));
        let (mask, sixteen) = (vld1q_u8(BITS.as_ptr()), vdupq_n_u8(16));
        core::array::from_fn(|h| {
            let set = test_bits(vqtbl1q_u8(bits, vld1q_u8(SPREAD[h].as_ptr())), mask);
            vbslq_s8(sixteen, vreinterpretq_s8_u8(set), codes[h])
        })
    }
}
