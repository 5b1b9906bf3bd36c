//! trill's own types with interleaved rows; layouts in `src/quant/interleaved.rs` and `q1_0_r32.rs`.
//!
//! A vector of 16 bytes holds four columns, and a lane of its sums is a row: nothing is added up across lanes, and the
//! float step takes four rows at once. Two bits a weight go by nested masks, as in `packed.rs`; signs go by table.

use core::arch::aarch64::*;
use core::mem::MaybeUninit;

use super::dot::{Dot, add_products, prefetch, sdot_lane, settle, test_bits, zero};
use super::packed::crumb;
use super::quad::{widen_high, widen_low};
use super::weight::{Scaled32, Scaled256, Style, Weight, each_group};
use crate::mem::TileMut;
use crate::quant::{ActRow, Acts, RowSpan};

pub(super) struct Q1_0R32;
pub(super) struct Q2_0R16;
pub(super) struct Q2_0G128R16;
pub(super) struct Tq2_0R16;

/// Rows of the types of two bits.
const ROWS: usize = 16;

macro_rules! two_bits {
    ($ty:ident, $style:ident, $block:literal) => {
        impl Weight for $ty {
            type Style = $style;
            const BLOCK: usize = $block;
            const BYTES: usize = 2 * ROWS + 4 * $block;
            const LANES: usize = ROWS;
            const BIAS: i8 = 1;
            #[inline(always)]
            unsafe fn quad(
                _: &RowSpan<'_>,
                rows: [usize; 4],
                _: usize,
                p: [*const u8; 4],
                g: usize,
            ) -> [[int8x16_t; 2]; 4] {
                // SAFETY: a block is readable.
                unsafe {
                    let p = p[0].add(2 * ROWS + 128 * g);
                    four_rows(fields(p, rows[0] % ROWS), fields(p.add(64), rows[0] % ROWS))
                }
            }
            #[inline(always)]
            unsafe fn quad_scales(p: [*const u8; 4], lane: usize) -> float32x4_t {
                // SAFETY: a block is readable, and begins with the rows' scales.
                unsafe { scales4(p[0], lane) }
            }
            #[inline(always)]
            unsafe fn few<D: Dot>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) -> bool {
                // SAFETY: the caller's.
                unsafe {
                    match acts.n {
                        1 => batch::<Self, D, 1>(w, acts, out, 0),
                        2 => batch::<Self, D, 2>(w, acts, out, 0),
                        3 => {
                            batch::<Self, D, 2>(w, acts, out, 0);
                            batch::<Self, D, 1>(w, acts, out, 2);
                        }
                        4 => {
                            batch::<Self, D, 2>(w, acts, out, 0);
                            batch::<Self, D, 2>(w, acts, out, 2);
                        }
                        _ => return false,
                    }
                }
                true
            }
        }
    };
}

two_bits!(Q2_0R16, Scaled32, 64);
two_bits!(Q2_0G128R16, Scaled32, 128);
two_bits!(Tq2_0R16, Scaled256, 256);

/// The first 16 columns and the last of four rows.
#[inline(always)]
fn four_rows(low: [int8x16_t; 4], high: [int8x16_t; 4]) -> [[int8x16_t; 2]; 4] {
    [[low[0], high[0]], [low[1], high[1]], [low[2], high[2]], [low[3], high[3]]]
}

/// Scales of rows `lane..lane + 4` of a block, `lane` rounded down to a multiple of four.
///
/// # Safety
/// The block must be readable.
#[inline(always)]
unsafe fn scales4(p: *const u8, lane: usize) -> float32x4_t {
    // SAFETY: the caller's.
    unsafe { widen_low(vcombine_u8(vld1_u8(p.add(2 * (lane & !3))), vdup_n_u8(0))) }
}

/// Codes of 16 columns of rows `lane..lane + 4`, `lane` rounded down to a multiple of four.
///
/// # Safety
/// 64 bytes must be readable at `p`.
#[inline(always)]
unsafe fn fields(p: *const u8, lane: usize) -> [int8x16_t; 4] {
    // SAFETY: the caller's. Vector `r` is lane `r` of four vectors.
    unsafe {
        let v = vld4q_u32(p.cast());
        let shift = vdupq_n_s8(-2 * (lane / 4) as i8);
        [v.0, v.1, v.2, v.3].map(|v| {
            let codes = veorq_u8(vreinterpretq_u8_u32(v), vdupq_n_u8(0x80));
            vreinterpretq_s8_u8(vandq_u8(vshlq_u8(codes, shift), vdupq_n_u8(3)))
        })
    }
}

/// All rows times tokens `from..from + T`, a group at a time.
///
/// # Safety
/// Shapes agree as [`crate::kernels::RowsFn`] says, and the tokens exist.
#[inline(always)]
unsafe fn batch<W: Weight, D: Dot, const T: usize>(
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    from: usize,
) {
    let mut tokens = [acts.row(from); T];
    for t in 1..T {
        tokens[t] = acts.row(from + t);
    }
    for first in (0..w.rows).step_by(ROWS) {
        let group = w.data[first / ROWS * w.row_bytes..].as_ptr();
        // SAFETY: a group has `cols / BLOCK` blocks.
        let sums = unsafe { group16::<W, D, T>(group, w.cols / W::BLOCK, w.row_bytes, &tokens) };
        for (t, sums) in sums.into_iter().enumerate() {
            let mut values = [0f32; ROWS];
            for (sums, values) in sums.into_iter().zip(values.as_chunks_mut::<4>().0) {
                // SAFETY: four values.
                unsafe { vst1q_f32(values.as_mut_ptr(), vmulq_n_f32(sums, w.scale)) };
            }
            out.row_mut(from + t)[first..].iter_mut().zip(values).for_each(|(o, v)| *o = v);
        }
    }
}

/// A group times the tokens: vector `j` of a token's results are rows `4 * j..4 * j + 4`.
///
/// # Safety
/// `blocks` blocks must be readable at `p`, and each token has as many columns.
#[inline(always)]
unsafe fn group16<W: Weight, D: Dot, const T: usize>(
    mut p: *const u8,
    blocks: usize,
    ahead: usize,
    tokens: &[ActRow<'_>; T],
) -> [[float32x4_t; 4]; T] {
    let (unit, sums) = (W::Style::UNIT, W::Style::SUMS);
    let (mut x, mut da, mut bsums) = ([core::ptr::null(); T], [core::ptr::null(); T], [core::ptr::null(); T]);
    for (t, token) in tokens.iter().enumerate() {
        (x[t], da[t], bsums[t]) = (token.q.as_ptr(), token.d.as_ptr(), token.bsums.as_ptr());
    }
    // SAFETY: the caller's: blocks, and units of the tokens.
    unsafe {
        let mut acc = [[vdupq_n_f32(0.0); 4]; T];
        for _ in 0..blocks {
            let (a, b) = (vld1q_u8(p), vld1q_u8(p.add(16)));
            let d = [widen_low(a), widen_high(a), widen_low(b), widen_high(b)];
            p = p.add(2 * ROWS);
            for _ in 0..W::BLOCK / unit {
                let mut init = [[zero(); 4]; T];
                for t in 0..T {
                    init[t] = less::<D>(group_sum(bsums[t], sums));
                }
                let isum = units::<D, T>(p, unit, x, init, ahead);
                for t in 0..T {
                    for j in 0..4 {
                        acc[t][j] = vaddq_f32(acc[t][j], vmulq_f32(isum[t][j], vmulq_n_f32(d[j], *da[t])));
                    }
                    (x[t], da[t], bsums[t]) = (x[t].add(unit), da[t].add(1), bsums[t].add(sums));
                }
                p = p.add(4 * unit);
            }
        }
        acc
    }
}

/// The sum of a unit's activations.
///
/// # Safety
/// `sums` group sums, 1 or 16, must be readable.
#[inline(always)]
unsafe fn group_sum(bsums: *const i16, sums: usize) -> i32 {
    // SAFETY: the caller's.
    unsafe {
        if sums == 1 { i32::from(*bsums) } else { vaddlvq_s16(vld1q_s16(bsums)) + vaddlvq_s16(vld1q_s16(bsums.add(8))) }
    }
}

/// Where sums start so that codes count as weights: the fields hold the weight plus 1, the last the weight less 1.
#[inline(always)]
fn less<D: Dot>(sum: i32) -> [int32x4_t; 4] {
    // Nested sums S_j count field i <= j 4^i times.
    let times = if D::FAST { [-1, -5, -21, 43] } else { [-1, -1, -1, 1] };
    let mut all = [zero(); 4];
    for j in 0..4 {
        // SAFETY: registers only.
        all[j] = unsafe { vdupq_n_s32(times[j] * sum) };
    }
    all
}

/// The sums of `columns` columns, a multiple of 32, of each field.
///
/// # Safety
/// `4 * columns` bytes must be readable at `p`, and the columns of each token.
#[inline(always)]
unsafe fn units<D: Dot, const T: usize>(
    p: *const u8,
    columns: usize,
    x: [*const i8; T],
    init: [[int32x4_t; 4]; T],
    ahead: usize,
) -> [[float32x4_t; 4]; T] {
    // SAFETY: the caller's.
    unsafe {
        let s = if D::FAST { nested::<T>(p, columns, x, init, ahead) } else { apart::<T>(p, columns, x, init, ahead) };
        let mut sums = [[vdupq_n_f32(0.0); 4]; T];
        for t in 0..T {
            sums[t][0] = vcvtq_f32_s32(s[t][0]);
            if D::FAST {
                // Differences are whole multiples, at most 2^24: the conversion divides exactly.
                sums[t][1] = vcvtq_n_f32_s32::<2>(vsubq_s32(s[t][1], s[t][0]));
                sums[t][2] = vcvtq_n_f32_s32::<4>(vsubq_s32(s[t][2], s[t][1]));
                sums[t][3] = vcvtq_n_f32_s32::<6>(vsubq_s32(s[t][3], s[t][2]));
            } else {
                for j in 1..4 {
                    sums[t][j] = vcvtq_f32_s32(s[t][j]);
                }
            }
        }
        sums
    }
}

/// Sums of bytes with all fields above the `j`-th masked off.
///
/// # Safety
/// As [`units`]; for a level with `SDOT`.
#[inline(always)]
unsafe fn nested<const T: usize>(
    p: *const u8,
    columns: usize,
    x: [*const i8; T],
    mut s: [[int32x4_t; 4]; T],
    ahead: usize,
) -> [[int32x4_t; 4]; T] {
    // SAFETY: the caller's.
    unsafe {
        let masks = [vdupq_n_s8(3), vdupq_n_s8(15), vdupq_n_s8(63)];
        for c in (0..columns).step_by(32) {
            macro_rules! four_columns {
                ($half:literal; $($i:literal)*) => {
                    let mut v = [vdupq_n_s8(0); T];
                    for t in 0..T {
                        v[t] = vld1q_s8(x[t].add(c + 16 * $half));
                    }
                    prefetch(p.wrapping_add(4 * c + 64 * $half + ahead));
                    $(
                        let b = vld1q_s8(p.add(4 * c + 64 * $half + 16 * $i).cast());
                        for j in 0..4 {
                            let part = if j == 3 { b } else { vandq_s8(b, masks[j]) };
                            for t in 0..T {
                                s[t][j] = sdot_lane::<$i>(s[t][j], part, v[t]);
                            }
                        }
                    )*
                };
            }
            four_columns!(0; 0 1 2 3);
            four_columns!(1; 0 1 2 3);
        }
    }
    s
}

/// Sums of single fields, without `SDOT`: products of two columns meet in 16 bits, four columns in 32.
///
/// # Safety
/// As [`units`].
#[inline(always)]
unsafe fn apart<const T: usize>(
    p: *const u8,
    columns: usize,
    x: [*const i8; T],
    mut s: [[int32x4_t; 4]; T],
    ahead: usize,
) -> [[int32x4_t; 4]; T] {
    // SAFETY: the caller's.
    unsafe {
        for c in (0..columns).step_by(32) {
            // A lane of 16 bits takes eight products of at most 3 * 128.
            let mut low = [[vdupq_n_s16(0); 4]; T];
            let mut high = low;
            for i in 0..8 {
                if i % 4 == 0 {
                    prefetch(p.wrapping_add(4 * c + 16 * i + ahead));
                }
                let b = vld1q_s8(p.add(4 * c + 16 * i).cast());
                let parts = [crumb(b, 0), crumb(b, 1), crumb(b, 2), crumb(b, 3)];
                for t in 0..T {
                    let four = x[t].add(c + 4 * i).cast::<i32>().read_unaligned();
                    let v = vreinterpretq_s8_s32(vdupq_n_s32(four));
                    for j in 0..4 {
                        low[t][j] = add_products(low[t][j], parts[j], v, false);
                        high[t][j] = add_products(high[t][j], parts[j], v, true);
                    }
                }
            }
            for t in 0..T {
                for j in 0..4 {
                    let sums = vpaddq_s32(vpaddlq_s16(low[t][j]), vpaddlq_s16(high[t][j]));
                    s[t][j] = vaddq_s32(s[t][j], sums);
                }
            }
        }
    }
    s
}

impl Weight for Q1_0R32 {
    type Style = Scaled32;
    const BLOCK: usize = 128;
    const BYTES: usize = 576;
    const LANES: usize = 32;
    #[inline(always)]
    unsafe fn quad(_: &RowSpan<'_>, rows: [usize; 4], _: usize, p: [*const u8; 4], g: usize) -> [[int8x16_t; 2]; 4] {
        // SAFETY: a block is readable.
        unsafe {
            let p = p[0].add(64 + 128 * g);
            four_rows(signs(p, rows[0] % 32), signs(p.add(64), rows[0] % 32))
        }
    }
    #[inline(always)]
    unsafe fn quad_scales(p: [*const u8; 4], lane: usize) -> float32x4_t {
        // SAFETY: a block is readable, and begins with the rows' scales.
        unsafe { scales4(p[0], lane) }
    }
    #[inline(always)]
    unsafe fn few<D: Dot>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) -> bool {
        if acts.n > 4 {
            return false;
        }
        for t in 0..acts.n {
            // SAFETY: the caller's.
            unsafe { by_table(w, acts.row(t), out.row_mut(t)) };
        }
        true
    }
}

/// 16 columns of rows `lane..lane + 4`, `lane` rounded down to a multiple of four, as 1 and -1.
///
/// # Safety
/// 64 bytes must be readable at `p`.
#[inline(always)]
unsafe fn signs(p: *const u8, lane: usize) -> [int8x16_t; 4] {
    const SPREAD: [u8; 16] = [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12];
    const BITS: [u8; 16] = [1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8];
    let word = |i: usize| {
        // SAFETY: the caller's.
        unsafe { p.add(16 * i + lane % 16 / 4 * 4).cast::<u32>().read_unaligned() }
    };
    let words = [word(0), word(1), word(2), word(3)];
    // SAFETY: four words, and tables of 16 bytes.
    unsafe {
        let shift = vdupq_n_s8(if lane < 16 { 0 } else { -4 });
        let nibbles = vshlq_u8(vreinterpretq_u8_u32(vld1q_u32(words.as_ptr())), shift);
        let (spread, bits) = (vld1q_u8(SPREAD.as_ptr()), vld1q_u8(BITS.as_ptr()));
        [0, 1, 2, 3].map(|r| {
            let set = test_bits(vqtbl1q_u8(nibbles, vaddq_u8(spread, vdupq_n_u8(r))), bits);
            vnegq_s8(vreinterpretq_s8_u8(vorrq_u8(set, vdupq_n_u8(1))))
        })
    }
}

/// Columns whose tables lie on the stack at once: 8 KiB.
const TABLED: usize = 1024;

/// For four activations the 16 sums that signs can give, as `low + 32 * high - 512` with both from 0 to 31.
#[repr(C, align(16))]
struct Table {
    low: [u8; 16],
    high: [u8; 16],
}

/// One token and signs. The sums of four activations times every pattern of four signs are in a table, where the bits
/// of four columns and 16 rows look them up at once. `low` and `high` of eight lookups fit a byte each, and only then,
/// at the end of 32 columns, do they meet.
///
/// # Safety
/// Shapes agree as [`crate::kernels::RowsFn`] says.
#[inline(always)]
unsafe fn by_table(w: &RowSpan<'_>, act: ActRow<'_>, out: &mut [f32]) {
    let mut tables = MaybeUninit::<[Table; TABLED / 4]>::uninit();
    let table = tables.as_mut_ptr().cast::<Table>();
    for start in (0..w.cols).step_by(TABLED) {
        let columns = TABLED.min(w.cols - start);
        for c in (0..columns).step_by(16) {
            // SAFETY: 16 values exist, and four tables have room.
            unsafe { make_tables(act.q[start + c..].as_ptr(), table.add(c / 4)) };
        }
        let scale = if start + columns == w.cols { w.scale } else { 1.0 };
        for (group, out) in w.data.chunks_exact(w.row_bytes).zip(out.chunks_mut(32)) {
            let mut values = [0f32; 32];
            if start > 0 {
                values[..out.len()].copy_from_slice(out);
            }
            let blocks = group[start / 128 * 576..].as_ptr();
            // SAFETY: the group and the token have the blocks of these columns, and their tables were made.
            unsafe { group32(blocks, columns / 128, w.row_bytes, table, act.d[start / 32..].as_ptr(), &mut values) };
            out.iter_mut().zip(values).for_each(|(o, v)| *o = v * scale);
        }
    }
}

/// Tables of 16 activations.
///
/// # Safety
/// 16 values must be readable at `x`, none of them -128, and four tables writable.
#[inline(always)]
unsafe fn make_tables(x: *const i8, table: *mut Table) {
    /// Entry `n` takes value `k` where bit `k` of `n` is set, else its negative, which lies 16 further.
    const TAKE: [[u8; 16]; 4] = {
        let mut take = [[0; 16]; 4];
        let mut i = 0;
        while i < 64 {
            let (k, n) = (i / 16, i % 16);
            take[k][n] = k as u8 + if n >> k & 1 == 1 { 0 } else { 16 };
            i += 1;
        }
        take
    };
    // SAFETY: the caller's.
    unsafe {
        let x = vld1q_s8(x);
        let both = int8x16x2_t(x, vnegq_s8(x));
        for i in 0..4 {
            let mut v = [vdupq_n_s8(0); 4];
            for k in 0..4 {
                let take = vaddq_u8(vld1q_u8(TAKE[k].as_ptr()), vdupq_n_u8(4 * i as u8));
                v[k] = vqtbl2q_s8(both, take);
            }
            let first = vaddl_s8(vget_low_s8(v[0]), vget_low_s8(v[1]));
            let first = vaddq_s16(first, vaddl_s8(vget_low_s8(v[2]), vget_low_s8(v[3])));
            let second = vaddq_s16(vaddl_high_s8(v[0], v[1]), vaddl_high_s8(v[2], v[3]));
            let positive = |sum| vreinterpretq_u16_s16(vaddq_s16(sum, vdupq_n_s16(512)));
            let (first, second) = (positive(first), positive(second));
            let bytes = vuzp1q_u8(vreinterpretq_u8_u16(first), vreinterpretq_u8_u16(second));
            let table = &mut *table.add(i);
            vst1q_u8(table.low.as_mut_ptr(), vandq_u8(bytes, vdupq_n_u8(31)));
            vst1q_u8(table.high.as_mut_ptr(), vshrn_high_n_u16::<5>(vshrn_n_u16::<5>(first), second));
        }
    }
}

/// Adds a group of 32 rows times one token to `values`.
///
/// # Safety
/// `blocks` blocks must be readable at `p`; their columns have tables and scales.
#[inline(always)]
unsafe fn group32(
    mut p: *const u8,
    blocks: usize,
    ahead: usize,
    mut table: *const Table,
    mut da: *const f32,
    values: &mut [f32; 32],
) {
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [vdupq_n_f32(0.0); 8];
        for q in 0..8 {
            acc[q] = vld1q_f32(values.as_ptr().add(4 * q));
        }
        for _ in 0..blocks {
            let mut d = [vdupq_n_f32(0.0); 8];
            for h in 0..4 {
                let halves = vld1q_u8(p.add(16 * h));
                (d[2 * h], d[2 * h + 1]) = (widen_low(halves), widen_high(halves));
            }
            prefetch(p.wrapping_add(ahead));
            p = p.add(64);
            for _ in 0..4 {
                prefetch(p.wrapping_add(ahead));
                prefetch(p.wrapping_add(64 + ahead));
                add_scaled(&mut acc[..4], lookup::<false>(p, table), &d[..4], *da);
                settle(&mut acc);
                add_scaled(&mut acc[4..], lookup::<true>(p, table), &d[4..], *da);
                settle(&mut acc);
                (p, table, da) = (p.add(128), table.add(8), da.add(1));
            }
        }
        for q in 0..8 {
            vst1q_f32(values.as_mut_ptr().add(4 * q), acc[q]);
        }
    }
}

/// One unit's step of the canonical sum, for 16 rows: accumulators, the unit's sums, and the rows' scales.
#[inline(always)]
fn add_scaled(acc: &mut [float32x4_t], sums: [float32x4_t; 4], d: &[float32x4_t], da: f32) {
    for j in 0..4 {
        // SAFETY: registers only.
        acc[j] = unsafe { vaddq_f32(acc[j], vmulq_f32(sums[j], vmulq_n_f32(d[j], da))) };
    }
}

/// Sums of 32 columns for 16 rows in order: the rows of the lower bits, or of the upper.
///
/// # Safety
/// 128 bytes must be readable at `p`, and eight tables.
#[inline(always)]
unsafe fn lookup<const UPPER: bool>(p: *const u8, table: *const Table) -> [float32x4_t; 4] {
    // SAFETY: the caller's.
    unsafe {
        let (mut low, mut high) = (vdupq_n_u8(0), vdupq_n_u8(0));
        each_group!(8, c => {
            let b = vld1q_u8(p.add(16 * c));
            let index = if UPPER { vshrq_n_u8::<4>(b) } else { vandq_u8(b, vdupq_n_u8(15)) };
            let table = &*table.add(c);
            let (l, h) = (vqtbl1q_u8(vld1q_u8(table.low.as_ptr()), index), vqtbl1q_u8(vld1q_u8(table.high.as_ptr()), index));
            (low, high) = if c == 0 { (l, h) } else { (vaddq_u8(low, l), vaddq_u8(high, h)) };
        });
        let first = vaddw_u8(vshll_n_u8::<5>(vget_low_u8(high)), vget_low_u8(low));
        let second = vaddw_high_u8(vshll_high_n_u8::<5>(high), low);
        // With the upper half of the bits of 2^23 above it, an integer of 16 bits is the float that is larger by 2^23: no
        // conversion, which takes twice the time. Tables count each of the eight sums too much by 512.
        const ZERO: f32 = 8_388_608.0;
        let bits = vdupq_n_u16((ZERO.to_bits() >> 16) as u16);
        [vzip1q_u16(first, bits), vzip2q_u16(first, bits), vzip1q_u16(second, bits), vzip2q_u16(second, bits)]
            .map(|v| vsubq_f32(vreinterpretq_f32_u16(v), vdupq_n_f32(ZERO + 8.0 * 512.0)))
    }
}
