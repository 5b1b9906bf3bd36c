//! ggml's K types: 256 weights in sub-blocks of 16 or 32 with small integer scales; layouts in
//! `src/quant/q2_k.rs` to `q6_k.rs`.

use core::arch::aarch64::*;

use super::weight::{Affine16, Affine32, SubScaled16, Weight};

pub(super) struct Q2K;
pub(super) struct Q3K;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

impl Weight for Q2K {
    type Style = Affine16;
    const BLOCK: usize = 256;
    const BYTES: usize = 84;
    const SCALE_AT: usize = 80;
    const MIN_AT: usize = 82;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { field(p.add(16 + g / 4 * 32), g % 4 * 2, 0, 3).map(|v| vreinterpretq_s8_u8(v)) }
    }
    #[inline(always)]
    unsafe fn scales(p: *const u8) -> [int16x8_t; 2] {
        // SAFETY: a block is readable.
        unsafe { widen(vreinterpretq_s8_u8(vandq_u8(vld1q_u8(p), vdupq_n_u8(15)))) }
    }
    #[inline(always)]
    unsafe fn mins(p: *const u8) -> [int16x8_t; 2] {
        // SAFETY: a block is readable.
        unsafe { widen(vreinterpretq_s8_u8(vshrq_n_u8::<4>(vld1q_u8(p)))) }
    }
}

impl Weight for Q3K {
    type Style = SubScaled16;
    const BLOCK: usize = 256;
    const BYTES: usize = 110;
    const SCALE_AT: usize = 108;
    const BIAS: i8 = 4;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { join(field(p.add(32 + g / 4 * 32), g % 4 * 2, 0, 3), field(p, g, 2, 4)) }
    }
    #[inline(always)]
    unsafe fn scales(p: *const u8) -> [int16x8_t; 2] {
        // SAFETY: a block is readable.
        unsafe {
            let word = |at: usize| p.add(at).cast::<u32>().read_unaligned();
            let (a, b, top) = (word(96), word(100), word(104));
            let low = [a, b, a >> 4, b >> 4];
            let scale = |i: usize| low[i] & 0x0f0f_0f0f | (top >> (2 * i) & 0x0303_0303) << 4;
            let scales = bytes([scale(0), scale(1), scale(2), scale(3)]);
            widen(vsubq_s8(scales, vdupq_n_s8(32)))
        }
    }
}

impl Weight for Q4K {
    type Style = Affine32;
    const BLOCK: usize = 256;
    const BYTES: usize = 144;
    const MIN_AT: usize = 2;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { field(p.add(16 + g / 2 * 32), g % 2 * 4, 0, 15).map(|v| vreinterpretq_s8_u8(v)) }
    }
    #[inline(always)]
    unsafe fn scales(p: *const u8) -> [int16x8_t; 2] {
        // SAFETY: a block is readable.
        unsafe { scales_of_8(p.add(4)) }
    }
    #[inline(always)]
    unsafe fn mins(p: *const u8) -> [int16x8_t; 2] {
        // SAFETY: a block is readable.
        unsafe { mins_of_8(p.add(4)) }
    }
}

impl Weight for Q5K {
    type Style = Affine32;
    const BLOCK: usize = 256;
    const BYTES: usize = 176;
    const MIN_AT: usize = 2;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { join(field(p.add(48 + g / 2 * 32), g % 2 * 4, 0, 15), field(p.add(16), g, 4, 16)) }
    }
    #[inline(always)]
    unsafe fn scales(p: *const u8) -> [int16x8_t; 2] {
        // SAFETY: a block is readable.
        unsafe { scales_of_8(p.add(4)) }
    }
    #[inline(always)]
    unsafe fn mins(p: *const u8) -> [int16x8_t; 2] {
        // SAFETY: a block is readable.
        unsafe { mins_of_8(p.add(4)) }
    }
}

impl Weight for Q6K {
    type Style = SubScaled16;
    const BLOCK: usize = 256;
    const BYTES: usize = 210;
    const SCALE_AT: usize = 208;
    const BIAS: i8 = 32;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe {
            let low = field(p.add(g / 4 * 64 + g % 2 * 32), g % 4 / 2 * 4, 0, 15);
            join(low, field(p.add(128 + g / 4 * 32), g % 4 * 2, 4, 48))
        }
    }
    #[inline(always)]
    unsafe fn scales(p: *const u8) -> [int16x8_t; 2] {
        // SAFETY: a block is readable.
        unsafe { widen(vld1q_s8(p.add(192).cast())) }
    }
}

/// 32 bytes moved right by `from` and left by `to` bits, then masked. All three are constants at the caller's.
///
/// # Safety
/// 32 bytes must be readable at `p`.
#[inline(always)]
unsafe fn field(p: *const u8, from: usize, to: usize, mask: u8) -> [uint8x16_t; 2] {
    // SAFETY: the caller's.
    unsafe {
        let shift = vdupq_n_s8(to as i8 - from as i8);
        [vld1q_u8(p), vld1q_u8(p.add(16))].map(|v| vandq_u8(vshlq_u8(v, shift), vdupq_n_u8(mask)))
    }
}

/// Low and high bits of codes together.
#[inline(always)]
fn join(low: [uint8x16_t; 2], high: [uint8x16_t; 2]) -> [int8x16_t; 2] {
    // SAFETY: registers only.
    core::array::from_fn(|h| unsafe { vreinterpretq_s8_u8(vorrq_u8(low[h], high[h])) })
}

#[inline(always)]
fn widen(v: int8x16_t) -> [int16x8_t; 2] {
    // SAFETY: registers only.
    unsafe { [vmovl_s8(vget_low_s8(v)), vmovl_high_s8(v)] }
}

#[inline(always)]
fn bytes(words: [u32; 4]) -> int8x16_t {
    // SAFETY: four words.
    unsafe { vreinterpretq_s8_u32(vld1q_u32(words.as_ptr())) }
}

/// The eight 6-bit scales of 12 bytes (`src/quant/k_block.rs`), then zeros.
///
/// # Safety
/// 12 bytes must be readable at `p`.
#[inline(always)]
unsafe fn scales_of_8(p: *const u8) -> [int16x8_t; 2] {
    // SAFETY: the caller's.
    let [a, _, c] = unsafe { p.cast::<[u32; 3]>().read_unaligned() };
    widen(bytes([a & 0x3f3f_3f3f, c & 0x0f0f_0f0f | (a >> 6 & 0x0303_0303) << 4, 0, 0]))
}

/// The eight 6-bit minima of 12 bytes, then zeros.
///
/// # Safety
/// 12 bytes must be readable at `p`.
#[inline(always)]
unsafe fn mins_of_8(p: *const u8) -> [int16x8_t; 2] {
    // SAFETY: the caller's.
    let [_, b, c] = unsafe { p.cast::<[u32; 3]>().read_unaligned() };
    widen(bytes([b & 0x3f3f_3f3f, c >> 4 & 0x0f0f_0f0f | (b >> 6 & 0x0303_0303) << 4, 0, 0]))
}
