//! trill's own types whose rows share their bytes; layouts in `src/quant/t2.rs`, `t3.rs`, `s2.rs`.
//!
//! Up to four tokens (one, or a draft to verify): no code is taken out of a byte. More tokens: a panel is made
//! of single rows, so there the codes are.

use core::arch::aarch64::*;

use super::dot::{Dot, load32, prefetch, reduce4, triple, zero};
use super::weight::{RowScaled, Weight, WholeRow};
use crate::mem::TileMut;
use crate::quant::{Acts, RowSpan};

pub(super) struct T2;
pub(super) struct T3;
pub(super) struct S2;

/// A type with [`Weight::LANES`] rows, at most 5, in the same bytes.
trait Group: Weight {
    /// `G` groups times `T` tokens: sums of each row, spread over four lanes. Reads ahead `ahead` bytes further.
    ///
    /// # Safety
    /// `k` bytes must be readable at each pointer and `k` values at each token; `k` is a multiple of 64.
    unsafe fn sums<D: Dot, const G: usize, const T: usize>(
        p: [*const u8; G],
        k: usize,
        x: [*const i8; T],
        ahead: usize,
    ) -> [[[int32x4_t; 5]; T]; G];

    /// The exact sum of row `lane` from what `sums` adds up to and the sum of all activations.
    fn isum(sum: i32, lane: usize, all: i32) -> i32;
}

/// [`Weight::few`] for groups: as many groups and tokens together as there are registers for their sums.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn few<W: Group, D: Dot>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) -> bool {
    // SAFETY: the caller's.
    unsafe {
        match acts.n {
            1 => batch::<W, D, 2, 1>(w, acts, out, 0),
            2..=4 if !D::FAST => return false,
            2 if W::LANES == 4 => batch::<W, D, 2, 2>(w, acts, out, 0),
            2 => batch::<W, D, 1, 2>(w, acts, out, 0),
            3 => batch::<W, D, 1, 3>(w, acts, out, 0),
            4 if W::LANES == 4 => batch::<W, D, 1, 4>(w, acts, out, 0),
            4 => {
                batch::<W, D, 1, 2>(w, acts, out, 0);
                batch::<W, D, 1, 2>(w, acts, out, 2);
            }
            _ => return false,
        }
    }
    true
}

/// All rows times tokens `from..from + T`, `G` groups at a time.
///
/// # Safety
/// Shapes agree as [`crate::kernels::RowsFn`] says, and the tokens exist.
#[inline(always)]
unsafe fn batch<W: Group, D: Dot, const G: usize, const T: usize>(
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    from: usize,
) {
    let tokens: [_; T] = core::array::from_fn(|t| acts.row(from + t));
    let x = tokens.map(|a| a.q.as_ptr());
    let groups = w.rows.div_ceil(W::LANES);
    for first in (0..groups).step_by(G) {
        // A group that does not exist repeats the last.
        let p: [_; G] = core::array::from_fn(|g| w.data[(first + g).min(groups - 1) * w.row_bytes..].as_ptr());
        // SAFETY: a group holds at least `cols` bytes, and each token `cols` values.
        let sums = unsafe { W::sums::<D, G, T>(p, w.cols, x, G * w.row_bytes) };
        for (g, (p, sums)) in p.into_iter().zip(sums).enumerate() {
            for (t, (act, s)) in tokens.iter().zip(sums).enumerate() {
                let mut all = [0i32; 5];
                // SAFETY: five values.
                unsafe {
                    vst1q_s32(all.as_mut_ptr(), reduce4([s[0], s[1], s[2], s[3]]));
                    all[4] = vaddvq_s32(s[4]);
                }
                let rows = (first + g) * W::LANES..w.rows.min((first + g + 1) * W::LANES);
                for (lane, row) in rows.enumerate() {
                    // SAFETY: the group is readable.
                    let row_scale = unsafe { W::row_scale(p, w.row_bytes, lane) };
                    let isum = W::isum(all[lane], lane, act.sum);
                    out.row_mut(from + t)[row] = isum as f32 / act.d[0] * row_scale * w.scale;
                }
            }
        }
    }
}

/// Sums of the two-bit fields of bytes, the top one read as a signed number. `S_j` sums the bytes with all
/// but the fields up to `j` masked off, so `S_j - S_{j-1}` is `4^j` times the sum of field `j`.
///
/// # Safety
/// As [`Group::sums`].
#[inline(always)]
unsafe fn crumb_sums<D: Dot, const G: usize, const T: usize>(
    p: [*const u8; G],
    k: usize,
    x: [*const i8; T],
    ahead: usize,
) -> [[[int32x4_t; 5]; T]; G] {
    let mut s = [[[zero(); 5]; T]; G];
    // SAFETY: the caller's.
    unsafe {
        let masks = [3, 15, 63].map(|m| vdupq_n_s8(m));
        for i in (0..k).step_by(16) {
            let mut v = [vdupq_n_s8(0); T];
            for t in 0..T {
                v[t] = vld1q_s8(x[t].add(i));
            }
            for g in 0..G {
                prefetch(p[g].wrapping_add(i + ahead));
                let b = vld1q_s8(p[g].add(i).cast());
                for j in 0..4 {
                    let part = match (D::FAST, j) {
                        (false, _) => crumb(b, j),
                        (true, 3) => b,
                        (true, _) => vandq_s8(b, masks[j]),
                    };
                    for t in 0..T {
                        s[g][t][j] = D::dot16(s[g][t][j], part, v[t]);
                    }
                }
            }
        }
        if D::FAST {
            // A lane's difference is exact: each S_j of a lane is below 2^31 for 2^17 columns.
            for s in s.as_flattened_mut() {
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
pub(super) fn crumb(b: int8x16_t, field: usize) -> int8x16_t {
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
pub(super) fn trit(s: int8x16_t) -> int8x16_t {
    // SAFETY: registers only. Comparisons give 0 or -1.
    unsafe {
        let (minus, plus) = (vcleq_s8(s, vdupq_n_s8(-43)), vcgeq_s8(s, vdupq_n_s8(43)));
        vreinterpretq_s8_u8(vsubq_u8(minus, plus))
    }
}

impl Group for T2 {
    #[inline(always)]
    unsafe fn sums<D: Dot, const G: usize, const T: usize>(
        p: [*const u8; G],
        k: usize,
        x: [*const i8; T],
        ahead: usize,
    ) -> [[[int32x4_t; 5]; T]; G] {
        // SAFETY: the caller's.
        unsafe { crumb_sums::<D, G, T>(p, k, x, ahead) }
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
    unsafe fn few<D: Dot>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) -> bool {
        // SAFETY: the caller's.
        unsafe { few::<Self, D>(w, acts, out) }
    }
}

impl Group for S2 {
    #[inline(always)]
    unsafe fn sums<D: Dot, const G: usize, const T: usize>(
        p: [*const u8; G],
        k: usize,
        x: [*const i8; T],
        ahead: usize,
    ) -> [[[int32x4_t; 5]; T]; G] {
        // SAFETY: the caller's.
        unsafe { crumb_sums::<D, G, T>(p, k, x, ahead) }
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
    unsafe fn few<D: Dot>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) -> bool {
        // SAFETY: the caller's.
        unsafe { few::<Self, D>(w, acts, out) }
    }
}

impl Group for T3 {
    #[inline(always)]
    unsafe fn sums<D: Dot, const G: usize, const T: usize>(
        p: [*const u8; G],
        k: usize,
        x: [*const i8; T],
        ahead: usize,
    ) -> [[[int32x4_t; 5]; T]; G] {
        let (mut s, mut last) = ([[[zero(); 5]; T]; G], [[zero(); T]; G]);
        // SAFETY: the caller's.
        unsafe {
            for i in (0..k).step_by(16) {
                let mut v = [vdupq_n_s8(0); T];
                for t in 0..T {
                    v[t] = vld1q_s8(x[t].add(i));
                }
                for g in 0..G {
                    prefetch(p[g].wrapping_add(i + ahead));
                    let mut b = vld1q_s8(p[g].add(i).cast());
                    for j in 0..5 {
                        let part = if D::FAST { b } else { trit(b) };
                        for t in 0..T {
                            s[g][t][j] = D::dot16(s[g][t][j], part, v[t]);
                        }
                        b = triple(b);
                    }
                    if D::FAST {
                        for t in 0..T {
                            last[g][t] = D::dot16(last[g][t], b, v[t]);
                        }
                    }
                }
            }
            if D::FAST {
                // 3 S_j - S_{j+1} is 256 times the sum of row j; a lane's fits in 32 bits even where a product wraps.
                for (s, last) in s.as_flattened_mut().iter_mut().zip(last.as_flattened()) {
                    for j in 0..5 {
                        let next = if j == 4 { *last } else { s[j + 1] };
                        s[j] = vshrq_n_s32::<8>(vsubq_s32(vmulq_n_s32(s[j], 3), next));
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
    unsafe fn few<D: Dot>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) -> bool {
        // SAFETY: the caller's.
        unsafe { few::<Self, D>(w, acts, out) }
    }
}
