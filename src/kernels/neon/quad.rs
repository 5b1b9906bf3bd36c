//! Sixteen floats in four registers, for [`crate::kernels::sixteen`].

use core::arch::aarch64::*;
use core::arch::asm;

use crate::kernels::sixteen::{Arithmetic, MAGIC, Sixteen};

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

/// Sixteen values.
type F = [float32x4_t; 4];
/// Sixteen i32.
type I = [int32x4_t; 4];

/// Proof that the CPU has NEON.
#[derive(Clone, Copy)]
pub(super) struct Quad(());

impl Quad {
    /// # Safety
    /// The CPU has NEON.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Quad(())
    }
}

/// Sixteen signed bytes.
#[inline(always)]
fn widen(v: int8x16_t) -> F {
    // SAFETY: registers only.
    unsafe {
        let (low, high) = (vmovl_s8(vget_low_s8(v)), vmovl_high_s8(v));
        each(
            [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)],
            |v| vcvtq_f32_s32(v),
        )
    }
}

/// The results for each register.
#[inline(always)]
fn each<A: Copy, B>(a: [A; 4], f: impl Fn(A) -> B) -> [B; 4] {
    [f(a[0]), f(a[1]), f(a[2]), f(a[3])]
}

/// The same of two.
#[inline(always)]
fn both<A: Copy, B: Copy, C>(a: [A; 4], b: [B; 4], f: impl Fn(A, B) -> C) -> [C; 4] {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

impl Sixteen for Quad {
    type V = F;
    const ROWS: usize = 2;
    const WIDENS: bool = false;

    #[inline(always)]
    fn zero(self) -> F {
        self.splat(0.0)
    }

    #[inline(always)]
    fn splat(self, v: f32) -> F {
        // SAFETY: registers only.
        unsafe { [vdupq_n_f32(v); 4] }
    }

    #[inline(always)]
    fn trees(self, v: [F; 4]) -> [f32; 4] {
        let mut out = [0f32; 4];
        // SAFETY: registers; the array has room.
        unsafe {
            // 16 -> 8 -> 4, then c0 + c2 and c1 + c3 of two vectors at once, then their sums of all four.
            let [a, b, c, d] = each(v, |v| vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3])));
            let halves = |a, b| {
                let (a, b) = (vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b));
                vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(a, b)), vreinterpretq_f32_f64(vzip2q_f64(a, b)))
            };
            vst1q_f32(out.as_mut_ptr(), vpaddq_f32(halves(a, b), halves(c, d)));
        }
        out
    }

    #[inline(always)]
    fn mul_add(self, acc: F, a: F, b: F) -> F {
        self.add(acc, self.mul(a, b))
    }

    #[inline(always)]
    unsafe fn load_f32(self, p: *const f32) -> F {
        // SAFETY: the caller's.
        each([0, 4, 8, 12], |i| unsafe { vld1q_f32(p.add(i)) })
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u8) -> F {
        // SAFETY: the caller's.
        let (a, b) = unsafe { (vld1q_u8(p), vld1q_u8(p.add(16))) };
        [widen_low(a), widen_high(a), widen_low(b), widen_high(b)]
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u8) -> F {
        // SAFETY: the caller's.
        unsafe {
            let (a, b) = (vreinterpretq_u16_u8(vld1q_u8(p)), vreinterpretq_u16_u8(vld1q_u8(p.add(16))));
            let wide = [
                vshll_n_u16::<16>(vget_low_u16(a)),
                vshll_high_n_u16::<16>(a),
                vshll_n_u16::<16>(vget_low_u16(b)),
                vshll_high_n_u16::<16>(b),
            ];
            each(wide, |v| vreinterpretq_f32_u32(v))
        }
    }

    #[inline(always)]
    unsafe fn load_i8(self, p: *const u8) -> F {
        // SAFETY: the caller's.
        widen(unsafe { vld1q_s8(p.cast()) })
    }

    #[inline(always)]
    unsafe fn load_levels(self, p: *const u8, shift: usize, mask: i8, high: Option<[u8; 2]>, table: &[i8; 16]) -> F {
        // SAFETY: the caller's address; the table has 16 entries.
        unsafe {
            let v = vshlq_u8(vld1q_u8(p), vdupq_n_s8(-(shift as i8)));
            let mut index = vandq_u8(v, vdupq_n_u8(mask as u8));
            if let Some(high) = high {
                let eights = vcombine_u8(vdup_n_u8(high[0]), vdup_n_u8(high[1]));
                let bit = vdupq_n_u64(u64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
                let set = vtstq_u8(eights, vreinterpretq_u8_u64(bit));
                index = vorrq_u8(index, vandq_u8(set, vdupq_n_u8(mask as u8 + 1)));
            }
            widen(vqtbl1q_s8(vld1q_s8(table.as_ptr()), index))
        }
    }

    #[inline(always)]
    fn array(self, v: F) -> [f32; 16] {
        let mut a = [0f32; 16];
        // SAFETY: the array has room.
        unsafe { self.put_f32(a.as_mut_ptr(), v) };
        a
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        super::prefetch(p);
    }
}

/// Defines methods that do the same to each register.
macro_rules! by_register {
    ($($name:ident($($arg:ident),*): $from:ty => $to:ty = $map:ident $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $from),*) -> $to {
            // SAFETY: registers only.
            $map($($arg,)* |$($arg),*| unsafe { $body })
        }
    )*};
}

impl Arithmetic for Quad {
    type I = I;

    by_register! {
        add(a, b): F => F = both vaddq_f32(a, b);
        sub(a, b): F => F = both vsubq_f32(a, b);
        mul(a, b): F => F = both vmulq_f32(a, b);
        div(a, b): F => F = both vdivq_f32(a, b);
        max(a, b): F => F = both vbslq_f32(vcgtq_f32(a, b), a, b);
        min(a, b): F => F = both vbslq_f32(vcltq_f32(a, b), a, b);
        abs(a): F => F = each vabsq_f32(a);
        round(a): F => I = each {
            let magic = vdupq_n_f32(MAGIC);
            vsubq_s32(vreinterpretq_s32_f32(vaddq_f32(a, magic)), vreinterpretq_s32_f32(magic))
        };
        float(a): I => F = each vcvtq_f32_s32(a);
        add_int(a, b): I => I = both vaddq_s32(a, b);
    }

    #[inline(always)]
    fn unless_below(self, a: F, x: F, limit: F) -> F {
        // SAFETY: registers only.
        let below = both(x, limit, |x, limit| unsafe { vcltq_f32(x, limit) });
        // SAFETY: likewise.
        both(a, below, |a, below| unsafe { vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), below)) })
    }

    #[inline(always)]
    fn powers(self, a: I) -> [F; 2] {
        // SAFETY: registers only.
        unsafe {
            let power = |n| vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127))));
            let half = each(a, |a| vshrq_n_s32::<1>(a));
            [each(half, power), both(a, half, |a, half| power(vsubq_s32(a, half)))]
        }
    }

    #[inline(always)]
    fn zero_int(self) -> I {
        // SAFETY: registers only.
        unsafe { [vdupq_n_s32(0); 4] }
    }

    #[inline(always)]
    fn clamp_int(self, a: I, least: i32) -> I {
        // SAFETY: registers only.
        each(a, |a| unsafe { vminq_s32(vmaxq_s32(a, vdupq_n_s32(least)), vdupq_n_s32(127)) })
    }

    #[inline(always)]
    fn sum_int(self, a: I) -> i32 {
        // SAFETY: registers only.
        unsafe { vaddvq_s32(vaddq_s32(vaddq_s32(a[0], a[1]), vaddq_s32(a[2], a[3]))) }
    }

    #[inline(always)]
    unsafe fn put_i8(self, p: *mut i8, a: I) {
        // SAFETY: the caller's.
        unsafe {
            let low = vcombine_s16(vmovn_s32(a[0]), vmovn_s32(a[1]));
            let high = vcombine_s16(vmovn_s32(a[2]), vmovn_s32(a[3]));
            vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
        }
    }

    #[inline(always)]
    unsafe fn put_f32(self, p: *mut f32, v: F) {
        for (i, v) in v.into_iter().enumerate() {
            // SAFETY: the caller's.
            unsafe { vst1q_f32(p.add(4 * i), v) }
        }
    }
}
