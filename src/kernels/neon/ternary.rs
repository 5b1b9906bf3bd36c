//! Two-bit and base-3 types; layouts in `src/quant/i2_s.rs`, `tq2_0.rs`, `tq1_0.rs`, `ptq1_0.rs`, `stq1_0.rs`.

use core::arch::aarch64::*;

use super::dot::{Dot, prefetch, sdot, test_bits, triple, zero};
use super::weight::{Scaled32, Scaled256, Weight, WholeRow};

pub(super) struct I2S;
pub(super) struct I2SArm;
pub(super) struct Tq1_0;
pub(super) struct Tq2_0;
pub(super) struct Ptq1_0;
pub(super) struct Stq1_0;

impl Weight for I2S {
    type Style = WholeRow;
    const BLOCK: usize = 128;
    const BYTES: usize = 32;
    const BIAS: i8 = 1;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { [crumb(p, 3 - g), crumb(p.add(16), 3 - g)] }
    }
    #[inline(always)]
    unsafe fn dot4<D: Dot>(
        p: [*const u8; 4],
        _: usize,
        groups: usize,
        x: *const i8,
        init: int32x4_t,
    ) -> [int32x4_t; 4] {
        // SAFETY: the caller's.
        unsafe { crumbs4::<D, 32, true>(p, groups / 4, x, init, 4 * 32 * (groups / 4)) }
    }
}

impl Weight for I2SArm {
    type Style = WholeRow;
    const BLOCK: usize = 64;
    const BYTES: usize = 16;
    const BIAS: i8 = 1;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe { [crumb(p, 3 - 2 * g), crumb(p, 2 - 2 * g)] }
    }
    #[inline(always)]
    unsafe fn dot4<D: Dot>(
        p: [*const u8; 4],
        _: usize,
        groups: usize,
        x: *const i8,
        init: int32x4_t,
    ) -> [int32x4_t; 4] {
        // SAFETY: the caller's.
        unsafe { crumbs4::<D, 16, true>(p, groups / 2, x, init, 4 * 16 * (groups / 2)) }
    }
}

impl Weight for Tq2_0 {
    type Style = Scaled256;
    const BLOCK: usize = 256;
    const BYTES: usize = 66;
    const BIAS: i8 = 1;
    const SCALE_AT: usize = 64;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe {
            let p = p.add(g / 4 * 32);
            [crumb(p, g % 4), crumb(p.add(16), g % 4)]
        }
    }
    #[inline(always)]
    unsafe fn dot4<D: Dot>(p: [*const u8; 4], _: usize, _: usize, x: *const i8, init: int32x4_t) -> [int32x4_t; 4] {
        // SAFETY: the caller's.
        unsafe { crumbs4::<D, 32, false>(p, 2, x, init, 66 * 4) }
    }
}

/// Two bits of each of 16 bytes: field 0 is the lowest.
///
/// # Safety
/// 16 bytes must be readable at `p`.
#[inline(always)]
unsafe fn crumb(p: *const u8, field: usize) -> int8x16_t {
    // SAFETY: the caller's.
    unsafe {
        let bytes = vld1q_u8(p);
        let three = vdupq_n_u8(3);
        vreinterpretq_s8_u8(match field {
            0 => vandq_u8(bytes, three),
            1 => vandq_u8(vshrq_n_u8::<2>(bytes), three),
            2 => vandq_u8(vshrq_n_u8::<4>(bytes), three),
            _ => vshrq_n_u8::<6>(bytes),
        })
    }
}

/// Rows of `blocks` blocks of `4 * SPAN` two-bit codes in `SPAN` bytes (16 or 32): column `SPAN * i + j` is in byte
/// `j`, first columns in the top bits if `HIGH_FIRST`, else in the lowest.
///
/// With `SDOT` three of the four fields are only masked, not shifted: their products are 1, 4 and 16 times as
/// large and go to an accumulator each. The three meet at the end, where shifts are few. Bytes `ahead` of a row are
/// asked for.
///
/// # Safety
/// The blocks must be readable, and `4 * SPAN * blocks` values at `x`.
#[inline(always)]
unsafe fn crumbs4<D: Dot, const SPAN: usize, const HIGH_FIRST: bool>(
    p: [*const u8; 4],
    blocks: usize,
    x: *const i8,
    init: int32x4_t,
    ahead: usize,
) -> [int32x4_t; 4] {
    let at = |field: usize| SPAN * if HIGH_FIRST { 3 - field } else { field };
    let (mut ones, mut fours, mut sixteens) = ([init; 4], [zero(); 4], [zero(); 4]);
    // SAFETY: the caller's.
    unsafe {
        let masks = [3, 12, 48].map(|m| vdupq_n_u8(m));
        for b in 0..blocks {
            p.iter().for_each(|p| prefetch(p.wrapping_add(SPAN * b + ahead)));
            for half in 0..SPAN / 16 {
                let x = x.add(4 * SPAN * b + 16 * half);
                let x = [0, 1, 2, 3].map(|field| vld1q_s8(x.add(at(field))));
                for r in 0..4 {
                    let bytes = vld1q_u8(p[r].add(SPAN * b + 16 * half));
                    let top = vreinterpretq_s8_u8(vshrq_n_u8::<6>(bytes));
                    if D::FAST {
                        let [a, b, c] = masks.map(|m| vreinterpretq_s8_u8(vandq_u8(bytes, m)));
                        ones[r] = sdot(ones[r], a, x[0]);
                        fours[r] = sdot(fours[r], b, x[1]);
                        sixteens[r] = sdot(sixteens[r], c, x[2]);
                        ones[r] = sdot(ones[r], top, x[3]);
                    } else {
                        let low = vreinterpretq_s8_u8(vandq_u8(bytes, masks[0]));
                        let second = vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8::<2>(bytes), masks[0]));
                        let third = vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8::<4>(bytes), masks[0]));
                        ones[r] = D::dot32::<false>(ones[r], [low, second], [x[0], x[1]]);
                        ones[r] = D::dot32::<false>(ones[r], [third, top], [x[2], x[3]]);
                    }
                }
            }
        }
        if D::FAST {
            for r in 0..4 {
                ones[r] = vsraq_n_s32::<4>(vsraq_n_s32::<2>(ones[r], fours[r]), sixteens[r]);
            }
        }
    }
    ones
}

/// Digit minus 1 of bytes already multiplied by the digit's power of 3: the digit is `3 * b >> 8`.
#[inline(always)]
fn digit(b: uint8x16_t) -> int8x16_t {
    // SAFETY: registers only. Comparisons give 0 or -1: 3b < 256 up to 85, 3b >= 512 from 171 on.
    unsafe {
        let (low, high) = (vcleq_u8(b, vdupq_n_u8(85)), vcgeq_u8(b, vdupq_n_u8(171)));
        vsubq_s8(vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(high))
    }
}

/// Digit `n` of 16 bytes, minus 1.
///
/// # Safety
/// 16 bytes must be readable at `p`.
#[inline(always)]
unsafe fn digit_of(p: *const u8, n: usize) -> int8x16_t {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    // SAFETY: the caller's.
    unsafe { digit(vmulq_u8(vld1q_u8(p), vdupq_n_u8(POWERS[n]))) }
}

impl Weight for Tq1_0 {
    type Style = Scaled256;
    const BLOCK: usize = 256;
    const BYTES: usize = 54;
    const SCALE_AT: usize = 52;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe {
            match g {
                0..5 => [digit_of(p, g), digit_of(p.add(16), g)],
                5 => [digit_of(p.add(32), 0), digit_of(p.add(32), 1)],
                6 => [digit_of(p.add(32), 2), digit_of(p.add(32), 3)],
                _ => [digit_of(p.add(32), 4), digit(last_columns(p))],
            }
        }
    }

    /// With b the byte xor 128 as int8, b(0) = b and b(n + 1) = 3 b(n) wrapped, digit n minus 1 is
    /// (3 b(n) - b(n + 1)) / 256: the wrap takes away just the digit. So no digit is ever extracted; the sums of
    /// b(n) and of b(n + 1) against the same activations are enough.
    #[inline(always)]
    unsafe fn dot4<D: Dot>(
        p: [*const u8; 4],
        first: usize,
        groups: usize,
        x: *const i8,
        init: int32x4_t,
    ) -> [int32x4_t; 4] {
        // SAFETY: the caller's: a block, 256 values.
        unsafe {
            if !D::FAST {
                return super::weight::dot4::<Self, D>(p, first, groups, x, init);
            }
            let sign = vdupq_n_u8(128);
            let mut sums = [init; 4];
            for r in 0..4 {
                let (mut these, mut next) = (zero(), zero());
                for (bytes, columns, step) in [(0, 0, 32), (16, 16, 32), (32, 160, 16)] {
                    let mut b = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p[r].add(bytes)), sign));
                    for n in 0..5 {
                        let x = vld1q_s8(x.add(columns + step * n));
                        these = sdot(these, b, x);
                        b = triple(b);
                        next = sdot(next, b, x);
                    }
                }
                let x = vld1q_s8(x.add(240));
                let b = vreinterpretq_s8_u8(veorq_u8(last_columns(p[r]), sign));
                these = sdot(these, b, x);
                next = sdot(next, triple(b), x);
                // Exact in every lane, since a lane's weights are whole.
                sums[r] = vsraq_n_s32::<8>(init, vsubq_s32(vmulq_n_s32(these, 3), next));
            }
            sums
        }
    }
}

/// Bytes 48..52 of a TQ1_0 block, four times, times 1, 3, 9 and 27.
///
/// # Safety
/// The block must be readable.
#[inline(always)]
unsafe fn last_columns(p: *const u8) -> uint8x16_t {
    const POWER: [u8; 16] = [1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27];
    // SAFETY: the caller's.
    unsafe {
        let bytes = vreinterpretq_u8_u32(vdupq_n_u32(p.add(48).cast::<u32>().read_unaligned()));
        vmulq_u8(bytes, vld1q_u8(POWER.as_ptr()))
    }
}

impl Weight for Ptq1_0 {
    type Style = Scaled32;
    const BLOCK: usize = 128;
    const BYTES: usize = 28;
    const SCALE_AT: usize = 26;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        const ONE_THREE: [u8; 16] = [1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3];
        const NINE_27: [u8; 16] = [9, 9, 9, 9, 9, 9, 9, 9, 27, 27, 27, 27, 27, 27, 27, 27];
        const TAIL: [u8; 16] = [81, 81, 81, 81, 81, 81, 81, 81, 1, 1, 3, 3, 9, 9, 27, 27];
        // SAFETY: a block is readable, so are 8 bytes at 16 and 2 at 24.
        unsafe {
            let middle = || vld1_u8(p.add(16));
            let times = |b, powers: &[u8; 16]| digit(vmulq_u8(b, vld1q_u8(powers.as_ptr())));
            match g {
                0 | 1 => [digit_of(p, 2 * g), digit_of(p, 2 * g + 1)],
                2 => [digit_of(p, 4), times(vcombine_u8(middle(), middle()), &ONE_THREE)],
                _ => {
                    let last = vreinterpret_u8_u16(vdup_n_u16(p.add(24).cast::<u16>().read_unaligned()));
                    [times(vcombine_u8(middle(), middle()), &NINE_27), times(vcombine_u8(middle(), last), &TAIL)]
                }
            }
        }
    }
}

impl Weight for Stq1_0 {
    type Style = Scaled256;
    const BLOCK: usize = 256;
    const BYTES: usize = 42;
    const SCALE_AT: usize = 40;
    #[inline(always)]
    unsafe fn codes(p: *const u8, _: usize, g: usize) -> [int8x16_t; 2] {
        const SPREAD: [[u8; 16]; 2] =
            [[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3]];
        const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
        // SAFETY: a block is readable; two chunks of 64 columns have 16 bytes of slots and 4 of signs.
        unsafe {
            let (pair, second) = (g / 4, g / 2 % 2);
            let slots = vld1q_u8(p.add(16 * pair));
            let (low, high) = (vandq_u8(slots, vdupq_n_u8(15)), vshrq_n_u8::<4>(slots));
            let slots = if second == 0 { vzip1q_u8(low, high) } else { vzip2q_u8(low, high) };
            let signs = vreinterpretq_u8_u32(vdupq_n_u32(p.add(32 + 4 * pair).cast::<u32>().read_unaligned()));
            let signs = vqtbl1q_u8(signs, vld1q_u8(SPREAD[second].as_ptr()));
            let index = vbslq_u8(vdupq_n_u8(16), test_bits(signs, vld1q_u8(BITS.as_ptr())), slots);
            core::array::from_fn(|h| {
                let lane = &STQ1_0_LANES[2 * (g % 2) + h];
                vqtbl2q_s8(int8x16x2_t(vld1q_s8(lane.as_ptr()), vld1q_s8(lane[16..].as_ptr())), index)
            })
        }
    }
}

/// STQ1_0's weight of each lane of a group of four, for `sign << 4 | slot`.
const STQ1_0_LANES: [[i8; 32]; 4] = {
    let mut table = [[0; 32]; 4];
    let mut i = 0;
    while i < 32 {
        let first = if i & 16 == 0 { 1 } else { -1 };
        let others = [first, if i & 1 == 0 { first } else { -first }, if i & 2 == 0 { first } else { -first }];
        let zero = i >> 2 & 3;
        let (mut lane, mut n) = (0, 0);
        while lane < 4 {
            if lane != zero {
                table[lane][i] = others[n];
                n += 1;
            }
            lane += 1;
        }
        i += 1;
    }
    table
};
