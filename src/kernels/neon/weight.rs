//! What a weight type tells the generic loops of `gemv.rs` and `gemm.rs`.

use core::arch::aarch64::*;

use super::dot::{Dot, load32, reduce4, zero};
use super::gemv::gemv;
use super::quad::widen_low;
use crate::mem::TileMut;
use crate::quant::{Acts, RowSpan};

/// Where integers become floats, the same for many types.
pub(super) trait Style {
    /// Columns summed as integers before a float operation. Unused if `ROW`.
    const UNIT: usize;
    /// Group sums of a unit: one for 32 columns of `Block32`, one for each 16 of `Block256`.
    const SUMS: usize = if Self::UNIT == 32 { 1 } else { Self::UNIT / 16 };
    /// All columns of a row are summed as integers, [`crate::quant::ActKind::Row`].
    const ROW: bool = false;
    /// Each row has a scale of its own, if `ROW`.
    const ROW_SCALE: bool = false;
    /// A block has a second binary16 beside its scale: a minimum `m`, `w = d * code + m`, or if `SUB` is not 0 the step
    /// `dmin` of the sub-blocks' minima, `w = d * scale_j * code - dmin * min_j`.
    const MIN: bool = false;
    /// Columns of a sub-block with an integer scale, 16 or 32; 0 if there are none.
    const SUB: usize = 0;
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
/// The same, `isum` being a sum of sub-blocks' sums times their scales.
pub(super) struct SubScaled16;
/// `acc + (isum * (d * da) - msum * (dmin * da))` per 256 columns, sub-blocks of 16.
pub(super) struct Affine16;
/// The same, sub-blocks of 32.
pub(super) struct Affine32;
/// `isum / da` per row.
pub(super) struct WholeRow;
/// The same, times the row's own scale.
pub(super) struct RowScaled;
/// The same with codes beyond 63.
pub(super) struct RowScaledWide;

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
impl Style for SubScaled16 {
    const UNIT: usize = 256;
    const SUB: usize = 16;
}
impl Style for Affine16 {
    const UNIT: usize = 256;
    const SUB: usize = 16;
    const MIN: bool = true;
}
impl Style for Affine32 {
    const UNIT: usize = 256;
    const SUB: usize = 32;
    const MIN: bool = true;
}
impl Style for WholeRow {
    const UNIT: usize = 32;
    const ROW: bool = true;
}
impl Style for RowScaled {
    const UNIT: usize = 32;
    const ROW: bool = true;
    const ROW_SCALE: bool = true;
}
impl Style for RowScaledWide {
    const UNIT: usize = 32;
    const ROW: bool = true;
    const ROW_SCALE: bool = true;
    const WIDE: bool = true;
}

/// A weight type: how its blocks lie in memory. Pointers are to the first byte of a block.
pub(super) trait Weight: Sized {
    /// Where its integers become floats.
    type Style: Style;
    /// Weights in a block, a multiple of 32 and, unless `ROW`, of the style's unit.
    const BLOCK: usize;
    /// Bytes in a block.
    const BYTES: usize;
    /// Rows that share a block's bytes.
    const LANES: usize = 1;
    /// What [`Weight::codes`] gives is the value plus this.
    const BIAS: i8 = 0;
    /// Byte of the binary16 scale.
    const SCALE_AT: usize = 0;
    /// Byte of the binary16 minimum.
    const MIN_AT: usize = 0;

    /// Codes of columns `32 * g..32 * g + 32` of a block, of its row `lane`. `g` is a constant wherever this is called.
    /// Not for types without blocks of their own, which have [`Weight::quad`] and [`Weight::few`].
    ///
    /// # Safety
    /// The block must be readable.
    #[inline(always)]
    unsafe fn codes(_p: *const u8, _lane: usize, _g: usize) -> [int8x16_t; 2] {
        // SAFETY: registers only.
        unsafe { [vdupq_n_s8(0); 2] }
    }

    /// The same of four rows of `w`: `p` are their blocks that begin with column `column`.
    ///
    /// # Safety
    /// The rows and the columns exist.
    #[inline(always)]
    unsafe fn quad(
        _w: &RowSpan<'_>,
        rows: [usize; 4],
        _column: usize,
        p: [*const u8; 4],
        g: usize,
    ) -> [[int8x16_t; 2]; 4] {
        // SAFETY: the caller's.
        core::array::from_fn(|r| unsafe { Self::codes(p[r], rows[r] % Self::LANES, g) })
    }

    /// The scales of four rows' blocks `p`; the first is row `lane` of its group.
    ///
    /// # Safety
    /// The blocks must be readable.
    #[inline(always)]
    unsafe fn quad_scales(p: [*const u8; 4], _lane: usize) -> float32x4_t {
        // SAFETY: the caller's.
        unsafe { halves(p, Self::SCALE_AT) }
    }

    /// The scale of row `lane` of the group at `row`, if the style has one for each row.
    ///
    /// # Safety
    /// `row_bytes` bytes must be readable at `row`.
    #[inline(always)]
    unsafe fn row_scale(_row: *const u8, _row_bytes: usize, _lane: usize) -> f32 {
        1.0
    }

    /// Scales of the sub-blocks, if the style has any.
    ///
    /// # Safety
    /// The block must be readable.
    #[inline(always)]
    unsafe fn scales(_: *const u8) -> [int16x8_t; 2] {
        // SAFETY: registers only.
        unsafe { [vdupq_n_s16(0); 2] }
    }

    /// Minima of the sub-blocks, if the style has any.
    ///
    /// # Safety
    /// The block must be readable.
    #[inline(always)]
    unsafe fn mins(_: *const u8) -> [int16x8_t; 2] {
        // SAFETY: registers only.
        unsafe { [vdupq_n_s16(0); 2] }
    }

    /// All rows of `w` times the tokens, if that is better done without a panel: true if it was done. One token
    /// always is.
    ///
    /// # Safety
    /// Shapes agree as [`crate::kernels::RowsFn`] says.
    #[inline(always)]
    unsafe fn few<D: Dot>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) -> bool {
        // SAFETY: the caller's.
        unsafe { acts.n == 1 && gemv::<Self, D>(w, acts.row(0), out.row_mut(0)) }
    }

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

    /// A block of four rows times one token: the sums of each unit (the first `BLOCK / UNIT`), lane = row. With
    /// sub-blocks the first is `isum`, the second `msum`.
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
pub(super) unsafe fn dot4<W: Weight, D: Dot>(
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
                let w = W::codes(p[r], 0, first + g);
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
pub(super) unsafe fn block4<W: Weight, D: Dot>(p: [*const u8; 4], x: *const i8, bsums: *const i16) -> [int32x4_t; 4] {
    if W::Style::SUB != 0 {
        // SAFETY: the caller's.
        return unsafe { sub_blocks4::<W, D>(p, x, bsums) };
    }
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

/// [`Weight::block4`] of a block with sub-blocks. Their sums are made the lanes of a vector, four at a time, and
/// multiplied by four scales at once.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn sub_blocks4<W: Weight, D: Dot>(p: [*const u8; 4], x: *const i8, bsums: *const i16) -> [int32x4_t; 4] {
    let (mut isum, mut msum) = ([zero(); 4], [zero(); 4]);
    // SAFETY: the caller's: a block, 256 values, 16 sums.
    unsafe {
        let sums = sub_sums::<W::Style>(bsums);
        let bias = vdupq_n_s16(i16::from(W::BIAS));
        for r in 0..4 {
            let scales = W::scales(p[r]);
            each_group!(64 / W::Style::SUB.max(1), j => {
                let mut dots = [zero(); 4];
                for i in 0..4 {
                    if W::Style::SUB == 32 {
                        let g = 4 * j + i;
                        dots[i] = D::dot32::<false>(zero(), W::codes(p[r], 0, g), load32(x.add(32 * g)));
                    } else {
                        let w = W::codes(p[r], 0, 2 * j + i / 2);
                        dots[i] = D::dot16(zero(), w[i % 2], vld1q_s8(x.add(64 * j + 16 * i)));
                    }
                }
                let mut dots = reduce4(dots);
                if W::BIAS != 0 {
                    dots = if j.is_multiple_of(2) {
                        vmlsl_s16(dots, vget_low_s16(sums[j / 2 % 2]), vget_low_s16(bias))
                    } else {
                        vmlsl_high_s16(dots, sums[j / 2 % 2], bias)
                    };
                }
                let scale = if j.is_multiple_of(2) { vget_low_s16(scales[j / 2 % 2]) } else { vget_high_s16(scales[j / 2 % 2]) };
                isum[r] = vmlaq_s32(isum[r], dots, vmovl_s16(scale));
            });
            if W::Style::MIN {
                let mins = W::mins(p[r]);
                for h in 0..32 / W::Style::SUB {
                    msum[r] = vmlal_s16(msum[r], vget_low_s16(mins[h]), vget_low_s16(sums[h]));
                    msum[r] = vmlal_high_s16(msum[r], mins[h], sums[h]);
                }
            }
        }
    }
    [reduce4(isum), reduce4(msum), zero(), zero()]
}

/// Sums of a token's values per sub-block: 16, or 8 and then zeros.
///
/// # Safety
/// 16 group sums must be readable at `bsums`.
#[inline(always)]
pub(super) unsafe fn sub_sums<S: Style>(bsums: *const i16) -> [int16x8_t; 2] {
    // SAFETY: the caller's. Twice a sum of 16 is at most 2 * 16 * 128.
    unsafe {
        let sums = [vld1q_s16(bsums), vld1q_s16(bsums.add(8))];
        if S::SUB == 16 { sums } else { [vpaddq_s16(sums[0], sums[1]), vdupq_n_s16(0)] }
    }
}

/// `-BIAS` times the sum of a unit's activations, spread over four lanes: what biased codes count too much.
///
/// # Safety
/// The unit's group sums must be readable.
#[inline(always)]
unsafe fn bias<W: Weight>(bsums: *const i16) -> int32x4_t {
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

/// What a unit adds: integers of four rows, their scales, and the token's scale.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    pub(super) isum: int32x4_t,
    /// Sums of minima, if the style has sub-blocks and minima.
    pub(super) msum: int32x4_t,
    pub(super) d: float32x4_t,
    pub(super) m: float32x4_t,
    pub(super) da: f32,
    /// Sum of the token's values, if the style has a minimum per unit.
    pub(super) bsum: f32,
}

/// One unit's step of the canonical sum.
#[inline(always)]
pub(super) fn fold<S: Style>(acc: float32x4_t, u: Unit) -> float32x4_t {
    // SAFETY: registers only.
    unsafe {
        let v = vmulq_f32(vcvtq_f32_s32(u.isum), vmulq_n_f32(u.d, u.da));
        let v = match (S::MIN, S::SUB) {
            (false, _) => v,
            (true, 0) => vaddq_f32(v, vmulq_n_f32(u.m, u.da * u.bsum)),
            _ => vsubq_f32(v, vmulq_f32(vcvtq_f32_s32(u.msum), vmulq_n_f32(u.m, u.da))),
        };
        vaddq_f32(acc, v)
    }
}

/// The last step of a `ROW` style.
#[inline(always)]
pub(super) fn finish_row<S: Style>(isum: int32x4_t, da: f32, row_scales: float32x4_t) -> float32x4_t {
    // SAFETY: registers only.
    unsafe {
        let v = vdivq_f32(vcvtq_f32_s32(isum), vdupq_n_f32(da));
        if S::ROW_SCALE { vmulq_f32(v, row_scales) } else { v }
    }
}
