//! What a weight type tells the generic loops of `gemv.rs` and `gemm.rs`.

use core::arch::aarch64::*;

use super::dot::{Dot, load32, reduce4, zero};
use super::floats::widen_low;

/// Where integers become floats, the same for many types.
pub(super) trait Style {
    /// Columns summed as integers before a float operation. Unused if `ROW`.
    const UNIT: usize;
    /// Group sums of a unit: one for 32 columns of `Block32`, one for each 16 of `Block256`.
    const SUMS: usize = if Self::UNIT == 32 { 1 } else { Self::UNIT / 16 };
    /// All columns of a row are summed as integers, [`crate::quant::ActKind::Row`].
    const ROW: bool = false;
    /// A block has a minimum `m` beside its scale: `w = d * code + m`.
    const MIN: bool = false;
    /// Codes may be any int8.
    const WIDE: bool = false;
}

/// `acc + isum * (d * da)` per 32 columns.
pub(super) struct Scaled32;
/// The same with codes beyond 63.
pub(super) struct Wide32;
/// `acc + (isum * (d * da) + m * (da * bsum))` per 32 columns.
pub(super) struct ScaledMin32;
/// `acc + isum * (d * da)` per 256 columns.
pub(super) struct Scaled256;
/// `(isum - sum) / da` per row.
pub(super) struct WholeRow;

impl Style for Scaled32 {
    const UNIT: usize = 32;
}
impl Style for Wide32 {
    const UNIT: usize = 32;
    const WIDE: bool = true;
}
impl Style for ScaledMin32 {
    const UNIT: usize = 32;
    const MIN: bool = true;
}
impl Style for Scaled256 {
    const UNIT: usize = 256;
}
impl Style for WholeRow {
    const UNIT: usize = 32;
    const ROW: bool = true;
}

/// A weight type: how its blocks lie in memory. Pointers are to the first byte of a block.
pub(super) trait Weight {
    /// Where its integers become floats.
    type Style: Style;
    /// Weights in a block, a multiple of 32 and, unless `ROW`, of the style's unit.
    const BLOCK: usize;
    /// Bytes in a block.
    const BYTES: usize;
    /// What [`Weight::codes`] gives is the value plus this. Always 0 if `ROW`.
    const BIAS: i8 = 0;
    /// Byte of the binary16 scale.
    const SCALE_AT: usize = 0;
    /// Byte of the binary16 minimum.
    const MIN_AT: usize = 0;

    /// Codes of columns `32 * g..32 * g + 32` of a block. `g` is a constant wherever this is called.
    ///
    /// # Safety
    /// The block must be readable.
    unsafe fn codes(p: *const u8, g: usize) -> [int8x16_t; 2];

    /// Four rows times one token over columns `32 * first..32 * (first + groups)`, starting from `init`;
    /// the lanes of a result add up to a row's sum. `groups` is 1 or 8 or, if `ROW`, all of a row.
    ///
    /// # Safety
    /// The blocks must be readable, and `32 * groups` values at `x`.
    #[inline(always)]
    unsafe fn dot4<D: Dot>(
        p: [*const u8; 4],
        first: usize,
        groups: usize,
        x: *const i8,
        init: int32x4_t,
    ) -> [int32x4_t; 4] {
        // SAFETY: the caller's.
        unsafe { dot4::<Self, D>(p, first, groups, x, init) }
    }

    /// A block of four rows times one token: the sums of each unit (the first `BLOCK / UNIT`), lane = row.
    ///
    /// # Safety
    /// The blocks must be readable, `BLOCK` values at `x` and their group sums at `bsums`.
    #[inline(always)]
    unsafe fn block4<D: Dot>(p: [*const u8; 4], x: *const i8, bsums: *const i16) -> [int32x4_t; 4] {
        // SAFETY: the caller's.
        unsafe { block4::<Self, D>(p, x, bsums) }
    }
}

/// Runs the body for `$g` from 0 on while it is below `$n` (at most 8), a constant each time.
macro_rules! each_group {
    ($n:expr, $g:ident => $body:block) => {
        each_group!(@ $n, $g, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $n:expr, $g:ident, $body:block, $($i:literal)*) => {{
        debug_assert!($n <= 8);
        $(if $i < $n {
            let $g: usize = $i;
            $body
        })*
    }};
}
pub(super) use each_group;

/// [`Weight::dot4`] for types that know no shorter way.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn dot4<W: Weight + ?Sized, D: Dot>(
    p: [*const u8; 4],
    first: usize,
    groups: usize,
    x: *const i8,
    init: int32x4_t,
) -> [int32x4_t; 4] {
    let mut acc = [init; 4];
    each_group!(groups, g => {
        // SAFETY: the caller's.
        unsafe {
            let x = load32(x.add(32 * g));
            for r in 0..4 {
                let w = W::codes(p[r], first + g);
                acc[r] = if W::Style::WIDE { D::dot32::<true>(acc[r], w, x) } else { D::dot32::<false>(acc[r], w, x) };
            }
        }
    });
    acc
}

/// [`Weight::block4`] for types that know no shorter way.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn block4<W: Weight + ?Sized, D: Dot>(
    p: [*const u8; 4],
    x: *const i8,
    bsums: *const i16,
) -> [int32x4_t; 4] {
    let unit = W::Style::UNIT;
    let mut isum = [zero(); 4];
    each_group!(W::BLOCK / unit, u => {
        // SAFETY: unit u of the block and of the token.
        unsafe {
            let init = bias::<W>(bsums.add(W::Style::SUMS * u));
            isum[u % 4] = reduce4(W::dot4::<D>(p, u * unit / 32, unit / 32, x.add(unit * u), init));
        }
    });
    isum
}

/// `-BIAS` times the sum of a unit's activations, spread over four lanes: what biased codes count too much.
///
/// # Safety
/// The unit's group sums must be readable.
#[inline(always)]
unsafe fn bias<W: Weight + ?Sized>(bsums: *const i16) -> int32x4_t {
    // SAFETY: the caller's.
    unsafe {
        match W::BIAS {
            0 => zero(),
            b if W::Style::UNIT == 32 => vsetq_lane_s32::<0>(-i32::from(b) * i32::from(*bsums), zero()),
            b => {
                let pairs = vpaddlq_s16(vld1q_s16(bsums));
                vmulq_n_s32(vpadalq_s16(pairs, vld1q_s16(bsums.add(8))), -i32::from(b))
            }
        }
    }
}

/// The binary16 at byte `at` of four blocks, as f32.
///
/// # Safety
/// The bytes must be readable.
#[inline(always)]
pub(super) unsafe fn halves(p: [*const u8; 4], at: usize) -> float32x4_t {
    // The integer unit gathers, so that the vector unit is left to the products.
    let mut bits = 0u64;
    for (i, p) in p.into_iter().enumerate() {
        // SAFETY: the caller's.
        bits |= u64::from(unsafe { p.add(at).cast::<u16>().read_unaligned() }) << (16 * i);
    }
    // SAFETY: registers only.
    widen_low(unsafe { vcombine_u8(vcreate_u8(bits), vcreate_u8(0)) })
}

/// One unit's step of the canonical sum.
#[inline(always)]
pub(super) fn fold<S: Style>(
    acc: float32x4_t,
    isum: int32x4_t,
    d: float32x4_t,
    m: float32x4_t,
    da: f32,
    bsum: f32,
) -> float32x4_t {
    // SAFETY: registers only.
    unsafe {
        let v = vmulq_f32(vcvtq_f32_s32(isum), vmulq_n_f32(d, da));
        if S::MIN { vaddq_f32(acc, vaddq_f32(v, vmulq_n_f32(m, da * bsum))) } else { vaddq_f32(acc, v) }
    }
}

/// The last step of a `ROW` style.
#[inline(always)]
pub(super) fn finish_row(isum: int32x4_t, sum: i32, da: f32) -> float32x4_t {
    // SAFETY: registers only.
    unsafe { vdivq_f32(vcvtq_f32_s32(vsubq_s32(isum, vdupq_n_s32(sum))), vdupq_n_f32(da)) }
}
