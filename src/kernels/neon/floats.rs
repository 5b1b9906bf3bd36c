//! F32, F16 and BF16 rows: the canonical float dot product ([`crate::numeric`]) over 4 rows, or over 4 tokens.

use core::arch::aarch64::*;
use core::arch::asm;

use crate::kernels::RowsFn;
use crate::mem::TileMut;
use crate::numeric::{bf16_to_f32, f16_to_f32, tree16};
use crate::quant::{Acts, RowSpan};

/// How a float type lies in memory.
trait Format {
    /// Bytes of a value.
    const BYTES: usize;
    /// Sixteen values from `p` on.
    ///
    /// # Safety
    /// `16 * BYTES` bytes must be readable at `p`.
    unsafe fn load16(p: *const u8) -> [float32x4_t; 4];
    /// One value.
    ///
    /// # Safety
    /// `BYTES` bytes must be readable at `p`.
    unsafe fn load(p: *const u8) -> f32;
}

struct F32;
struct F16;
struct Bf16;

impl Format for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load16(p: *const u8) -> [float32x4_t; 4] {
        // SAFETY: 64 readable bytes, by the caller.
        core::array::from_fn(|i| unsafe { vreinterpretq_f32_u8(vld1q_u8(p.add(16 * i))) })
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> f32 {
        // SAFETY: 4 readable bytes, by the caller.
        unsafe { p.cast::<f32>().read_unaligned() }
    }
}

impl Format for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load16(p: *const u8) -> [float32x4_t; 4] {
        // SAFETY: 32 readable bytes, by the caller; the conversions read and write registers only.
        unsafe {
            let (a, b) = (vld1q_u8(p), vld1q_u8(p.add(16)));
            [widen_low(a), widen_high(a), widen_low(b), widen_high(b)]
        }
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> f32 {
        // SAFETY: 2 readable bytes, by the caller.
        f16_to_f32(unsafe { p.cast::<u16>().read_unaligned() })
    }
}

impl Format for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load16(p: *const u8) -> [float32x4_t; 4] {
        // SAFETY: 32 readable bytes, by the caller.
        unsafe {
            let a = vreinterpretq_u16_u8(vld1q_u8(p));
            let b = vreinterpretq_u16_u8(vld1q_u8(p.add(16)));
            [
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(a))),
                vreinterpretq_f32_u32(vshll_high_n_u16::<16>(a)),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(b))),
                vreinterpretq_f32_u32(vshll_high_n_u16::<16>(b)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> f32 {
        // SAFETY: 2 readable bytes, by the caller.
        bf16_to_f32(unsafe { p.cast::<u16>().read_unaligned() })
    }
}

/// The low four halves of `h`, exact. (The intrinsic is not stable in Rust 1.95.)
#[inline(always)]
pub(super) fn widen_low(h: uint8x16_t) -> float32x4_t {
    let out;
    // SAFETY: FCVTL is in Armv8.0; registers only.
    unsafe {
        asm!("fcvtl {o:v}.4s, {i:v}.4h", o = lateout(vreg) out, i = in(vreg) h, options(pure, nomem, nostack, preserves_flags))
    };
    out
}

/// The high four halves of `h`.
#[inline(always)]
pub(super) fn widen_high(h: uint8x16_t) -> float32x4_t {
    let out;
    // SAFETY: FCVTL2 is in Armv8.0; registers only.
    unsafe {
        asm!("fcvtl2 {o:v}.4s, {i:v}.8h", o = lateout(vreg) out, i = in(vreg) h, options(pure, nomem, nostack, preserves_flags))
    };
    out
}

/// `R` rows times `T` tokens. Sixteen accumulators each, so `R * T` is at most 4 to stay in registers.
///
/// # Safety
/// Rows `r..r + R` and tokens `t..t + T` must exist, and shapes agree as [`RowsFn`] says.
#[inline(always)]
unsafe fn tile<F: Format, const R: usize, const T: usize>(
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    r: usize,
    t: usize,
) {
    let k = w.cols;
    let rows: [*const u8; R] = core::array::from_fn(|i| w.data[(r + i) * w.row_bytes..].as_ptr());
    let tokens: [*const f32; T] = core::array::from_fn(|i| acts.x[(t + i) * k..].as_ptr());
    // SAFETY: a row holds k * BYTES bytes and a token k values; every offset stays below.
    unsafe {
        let mut acc = [[[vdupq_n_f32(0.0); 4]; T]; R];
        let whole = k & !15;
        let mut i = 0;
        while i < whole {
            let x: [[float32x4_t; 4]; T] =
                core::array::from_fn(|t| core::array::from_fn(|j| vld1q_f32(tokens[t].add(i + 4 * j))));
            for r in 0..R {
                let v = F::load16(rows[r].add(i * F::BYTES));
                for t in 0..T {
                    for j in 0..4 {
                        acc[r][t][j] = vaddq_f32(acc[r][t][j], vmulq_f32(v[j], x[t][j]));
                    }
                }
            }
            i += 16;
        }
        for r0 in 0..R {
            for t0 in 0..T {
                let mut sums = [0f32; 16];
                for j in 0..4 {
                    vst1q_f32(sums[4 * j..].as_mut_ptr(), acc[r0][t0][j]);
                }
                for i in whole..k {
                    sums[i - whole] += F::load(rows[r0].add(i * F::BYTES)) * *tokens[t0].add(i);
                }
                out.row_mut(t + t0)[r + r0] = tree16(&sums) * w.scale;
            }
        }
    }
}

#[inline(always)]
unsafe fn rows<F: Format>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
    let mut t = 0;
    // SAFETY: every tile lies inside the rows and tokens that exist.
    unsafe {
        while t + 4 <= acts.n {
            (0..w.rows).for_each(|r| tile::<F, 1, 4>(w, acts, out, r, t));
            t += 4;
        }
        while t < acts.n {
            let fours = w.rows & !3;
            (0..fours).step_by(4).for_each(|r| tile::<F, 4, 1>(w, acts, out, r, t));
            (fours..w.rows).for_each(|r| tile::<F, 1, 1>(w, acts, out, r, t));
            t += 1;
        }
    }
}

macro_rules! level {
    ($($name:ident = $format:ident),*) => {$(
        #[target_feature(enable = "neon")]
        #[inline(never)]
        unsafe fn $name(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
            // SAFETY: the caller keeps the contract of `RowsFn`.
            unsafe { rows::<$format>(w, acts, out) }
        }
    )*};
}
level!(neon_f32xf32 = F32, neon_f16xf32 = F16, neon_bf16xf32 = Bf16);

pub(super) const F32_ROWS: RowsFn = neon_f32xf32;
pub(super) const F16_ROWS: RowsFn = neon_f16xf32;
pub(super) const BF16_ROWS: RowsFn = neon_bf16xf32;
