//! trill's own types whose rows share their bytes; layouts in `src/quant/t2.rs`, `t3.rs`, `s2.rs`.
//!
//! One token: two groups at a time share the activation, and no code is taken out of a byte. Several tokens: a
//! panel is made of single rows, so there the codes are.

use core::arch::aarch64::*;

use super::dot::{Dot, load32, reduce4, sdot, triple, zero};
use super::weight::{RowScaled, Weight, WholeRow};
use crate::quant::{ActRow, RowSpan};

pub(super) struct T2;
pub(super) struct T3;
pub(super) struct S2;

/// A type with [`Weight::LANES`] rows, at most 5, in the same bytes.
trait Group: Weight {
    /// `G` groups times one token: sums of each row, spread over four lanes.
    ///
    /// # Safety
    /// `k` bytes must be readable at each pointer and `k` values at `x`; `k` is a multiple of 64.
    unsafe fn sums<D: Dot, const G: usize>(p: [*const u8; G], k: usize, x: *const i8) -> [[int32x4_t; 5]; G];

    /// The exact sum of row `lane` from what `sums` adds up to and the sum of all activations.
    fn isum(sum: i32, lane: usize, all: i32) -> i32;
}

/// [`Weight::gemv`] for groups.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn gemv<W: Group, D: Dot>(w: &RowSpan<'_>, act: ActRow<'_>, out: &mut [f32]) {
    let last = w.rows.div_ceil(W::LANES).saturating_sub(1);
    for (pair, out) in out.chunks_mut(2 * W::LANES).enumerate() {
        // An odd group at the end is done twice.
        let p = [2 * pair, (2 * pair + 1).min(last)].map(|g| w.data[g * w.row_bytes..].as_ptr());
        // SAFETY: a group holds at least `cols` bytes, and the token `cols` values.
        let sums = unsafe { W::sums::<D, 2>(p, w.cols, act.q.as_ptr()) };
        for ((out, p), s) in out.chunks_mut(W::LANES).zip(p).zip(sums) {
            let mut all = [0i32; 5];
            // SAFETY: five values.
            unsafe {
                vst1q_s32(all.as_mut_ptr(), reduce4([s[0], s[1], s[2], s[3]]));
                all[4] = vaddvq_s32(s[4]);
            }
            for (lane, (out, sum)) in out.iter_mut().zip(all).enumerate() {
                // SAFETY: the group is readable.
                let row_scale = unsafe { W::row_scale(p, w.row_bytes, lane) };
                *out = W::isum(sum, lane, act.sum) as f32 / act.d[0] * row_scale * w.scale;
            }
        }
    }
}

/// Sums of the two-bit fields of bytes, the top one read as a signed number. `S_j` sums the bytes with all
/// but the fields up to `j` masked off, so `S_j - S_{j-1}` is `4^j` times the sum of field `j`.
#[inline(always)]
unsafe fn crumb_sums<D: Dot, const G: usize>(p: [*const u8; G], k: usize, x: *const i8) -> [[int32x4_t; 5]; G] {
    let mut s = [[zero(); 5]; G];
    // SAFETY: the caller's.
    unsafe {
        let masks = [3, 15, 63].map(|m| vdupq_n_s8(m));
        for i in (0..k).step_by(16) {
            let v = vld1q_s8(x.add(i));
            for g in 0..G {
                let b = vld1q_s8(p[g].add(i).cast());
                if D::FAST {
                    for j in 0..3 {
                        s[g][j] = sdot(s[g][j], vandq_s8(b, masks[j]), v);
                    }
                    s[g][3] = sdot(s[g][3], b, v);
                } else {
                    for j in 0..4 {
                        s[g][j] = D::dot16(s[g][j], crumb(b, j), v);
                    }
                }
            }
        }
        if D::FAST {
            // A lane's difference is exact: each S_j of a lane is below 2^31 for 2^17 columns.
            for s in &mut s {
                *s = [
                    s[0],
                    vshrq_n_s32::<2>(vsubq_s32(s[1], s[0])),
                    vshrq_n_s32::<4>(vsubq_s32(s[2], s[1])),
                    vshrq_n_s32::<6>(vsubq_s32(s[3], s[2])),
                    zero(),
                ];
            }
        }
    }
    s
}

/// Two bits of each byte: fields 0 to 2 unsigned, field 3 signed.
#[inline(always)]
fn crumb(b: int8x16_t, field: usize) -> int8x16_t {
    // SAFETY: registers only.
    unsafe {
        if field == 3 {
            return vshrq_n_s8::<6>(b);
        }
        let low = vshlq_u8(vreinterpretq_u8_s8(b), vdupq_n_s8(-2 * field as i8));
        vreinterpretq_s8_u8(vandq_u8(low, vdupq_n_u8(3)))
    }
}

/// What the wrap of `3 * s` takes away, in units of 256: 1 from 43 on, -1 up to -43.
#[inline(always)]
fn trit(s: int8x16_t) -> int8x16_t {
    // SAFETY: registers only. Comparisons give 0 or -1.
    unsafe {
        let (minus, plus) = (vcleq_s8(s, vdupq_n_s8(-43)), vcgeq_s8(s, vdupq_n_s8(43)));
        vreinterpretq_s8_u8(vsubq_u8(minus, plus))
    }
}

impl Group for T2 {
    #[inline(always)]
    unsafe fn sums<D: Dot, const G: usize>(p: [*const u8; G], k: usize, x: *const i8) -> [[int32x4_t; 5]; G] {
        // SAFETY: the caller's.
        unsafe { crumb_sums::<D, G>(p, k, x) }
    }
    #[inline(always)]
    fn isum(sum: i32, lane: usize, all: i32) -> i32 {
        if lane == 3 { sum } else { sum - all }
    }
}

impl Weight for T2 {
    type Style = WholeRow;
    const BLOCK: usize = 64;
    const BYTES: usize = 64;
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn codes(p: *const u8, lane: usize, g: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe {
            let less = vdupq_n_s8(if lane == 3 { 0 } else { 1 });
            load32(p.add(32 * g).cast()).map(|b| vsubq_s8(crumb(b, lane), less))
        }
    }
    #[inline(always)]
    unsafe fn gemv<D: Dot>(w: &RowSpan<'_>, act: ActRow<'_>, out: &mut [f32]) {
        // SAFETY: the caller's.
        unsafe { gemv::<Self, D>(w, act, out) }
    }
}

impl Group for S2 {
    #[inline(always)]
    unsafe fn sums<D: Dot, const G: usize>(p: [*const u8; G], k: usize, x: *const i8) -> [[int32x4_t; 5]; G] {
        // SAFETY: the caller's.
        unsafe { crumb_sums::<D, G>(p, k, x) }
    }
    #[inline(always)]
    fn isum(sum: i32, lane: usize, all: i32) -> i32 {
        2 * sum + if lane == 3 { all } else { -3 * all }
    }
}

impl Weight for S2 {
    type Style = RowScaled;
    const BLOCK: usize = 64;
    const BYTES: usize = 64;
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn codes(p: *const u8, lane: usize, g: usize) -> [int8x16_t; 2] {
        // SAFETY: a block is readable.
        unsafe {
            let odd = vdupq_n_s8(if lane == 3 { 1 } else { -3 });
            load32(p.add(32 * g).cast()).map(|b| vaddq_s8(vshlq_n_s8::<1>(crumb(b, lane)), odd))
        }
    }
    #[inline(always)]
    unsafe fn row_scale(row: *const u8, row_bytes: usize, lane: usize) -> f32 {
        // SAFETY: the caller's; four steps begin the last 64 bytes.
        0.5 * unsafe { row.add(row_bytes - 64 + 4 * lane).cast::<f32>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn gemv<D: Dot>(w: &RowSpan<'_>, act: ActRow<'_>, out: &mut [f32]) {
        // SAFETY: the caller's.
        unsafe { gemv::<Self, D>(w, act, out) }
    }
}

impl Group for T3 {
    #[inline(always)]
    unsafe fn sums<D: Dot, const G: usize>(p: [*const u8; G], k: usize, x: *const i8) -> [[int32x4_t; 5]; G] {
        let (mut s, mut last) = ([[zero(); 5]; G], [zero(); G]);
        // SAFETY: the caller's.
        unsafe {
            for i in (0..k).step_by(16) {
                let v = vld1q_s8(x.add(i));
                for g in 0..G {
                    let mut b = vld1q_s8(p[g].add(i).cast());
                    for j in 0..5 {
                        s[g][j] = if D::FAST { sdot(s[g][j], b, v) } else { D::dot16(s[g][j], trit(b), v) };
                        b = triple(b);
                    }
                    if D::FAST {
                        last[g] = sdot(last[g], b, v);
                    }
                }
            }
            if D::FAST {
                // 3 S_j - S_{j+1} is 256 times the sum of row j; a lane's fits in 32 bits even where a product wraps.
                for g in 0..G {
                    for j in 0..5 {
                        let next = if j == 4 { last[g] } else { s[g][j + 1] };
                        s[g][j] = vshrq_n_s32::<8>(vsubq_s32(vmulq_n_s32(s[g][j], 3), next));
                    }
                }
            }
        }
        s
    }
    #[inline(always)]
    fn isum(sum: i32, _: usize, _: i32) -> i32 {
        sum
    }
}

impl Weight for T3 {
    type Style = WholeRow;
    const BLOCK: usize = 64;
    const BYTES: usize = 64;
    const LANES: usize = 5;
    #[inline(always)]
    unsafe fn codes(p: *const u8, lane: usize, g: usize) -> [int8x16_t; 2] {
        const POWERS: [i8; 5] = [1, 3, 9, 27, 81];
        // SAFETY: a block is readable.
        unsafe { load32(p.add(32 * g).cast()).map(|b| trit(vmulq_s8(b, vdupq_n_s8(POWERS[lane])))) }
    }
    #[inline(always)]
    unsafe fn gemv<D: Dot>(w: &RowSpan<'_>, act: ActRow<'_>, out: &mut [f32]) {
        // SAFETY: the caller's.
        unsafe { gemv::<Self, D>(w, act, out) }
    }
}
