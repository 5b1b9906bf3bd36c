//! What a weight type tells the generic loops of `gemv.rs` and `gemm.rs`.

use core::arch::aarch64::*;

use super::dot::{Dot, load32};
use super::floats::widen_low;

/// Where integers become floats, the same for many types.
pub(super) trait Style {
    /// Columns summed as integers before a float operation. Unused if `ROW`.
    const UNIT: usize;
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
    const UNIT: usize = 64;
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

    /// Codes of columns `32 * g..32 * g + 32` of a block; if `ROW`, of a row (its blocks follow each other).
    ///
    /// # Safety
    /// The block that holds them must be readable.
    unsafe fn codes(p: *const u8, g: usize) -> [int8x16_t; 2];

    /// Four rows times one token over columns `32 * first..32 * (first + groups)`, starting from `init`;
    /// the lanes of a result add up to a row's sum. A type overrides this where it knows a shorter way.
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
        let mut acc = [init; 4];
        for g in 0..groups {
            // SAFETY: the caller's.
            unsafe {
                let x = load32(x.add(32 * g));
                for r in 0..4 {
                    let w = Self::codes(p[r], first + g);
                    acc[r] = if Self::Style::WIDE {
                        D::dot32::<true>(acc[r], w, x)
                    } else {
                        D::dot32::<false>(acc[r], w, x)
                    };
                }
            }
        }
        acc
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
