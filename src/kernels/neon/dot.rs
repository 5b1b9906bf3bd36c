//! The three ways of multiplying int8 by int8 on Arm: widening multiplies (Armv8.0), `SDOT` (Armv8.2) and
//! `SMMLA` (Armv8.6). A weight type never names one of them; it is generic over [`Dot`].
//!
//! SDOT and SMMLA intrinsics are not stable in Rust 1.95, so each is a one-instruction `asm!`. Everything here
//! is `inline(always)` and becomes part of a function compiled for its level (`mod.rs`).

use core::arch::aarch64::*;
use core::arch::asm;

/// A dot-product step, and the order in which it wants a panel of weights (see `gemm.rs`).
pub(super) trait Dot {
    /// True if a product of int8 vectors costs one instruction, whatever the size of the codes.
    const FAST: bool;

    /// `acc` plus the products of 32 weights and 32 activations, spread over four lanes. `|w| <= 63` unless
    /// `WIDE`; `|x| <= 128`, or `|x| <= 127` if `WIDE`.
    fn dot32<const WIDE: bool>(acc: int32x4_t, w: [int8x16_t; 2], x: [int8x16_t; 2]) -> int32x4_t;

    /// The same for 16 weights of any size, if `|x| <= 127` or `|w| <= 127`.
    fn dot16(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t;

    /// Stores 16 columns of four rows to a panel: 64 bytes.
    ///
    /// # Safety
    /// 64 bytes must be writable at `to`.
    unsafe fn store(to: *mut i8, rows: [int8x16_t; 4]);

    /// Rows 0..8 of a panel times `T` tokens over `16 * chunks` columns; lane = row. Limits as in `dot32`;
    /// `chunks` is even, or 1.
    ///
    /// # Safety
    /// `128 * chunks` bytes must be readable at `panel`, `16 * chunks` at each token.
    unsafe fn panel<const WIDE: bool, const T: usize>(
        panel: *const i8,
        x: [*const i8; T],
        chunks: usize,
    ) -> [[int32x4_t; T]; 2];
}

/// Four zeros.
#[inline(always)]
pub(super) fn zero() -> int32x4_t {
    // SAFETY: registers only; NEON is part of every aarch64 target here.
    unsafe { vdupq_n_s32(0) }
}

/// Four vectors to one: lane `i` is the sum of the lanes of `v[i]`.
#[inline(always)]
pub(super) fn reduce4(v: [int32x4_t; 4]) -> int32x4_t {
    // SAFETY: registers only; NEON is part of every aarch64 target here.
    unsafe { vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3])) }
}

/// Lane `i` of vector `j` becomes lane `j` of vector `i`.
#[inline(always)]
pub(super) fn transpose([a, b, c, d]: [int32x4_t; 4]) -> [int32x4_t; 4] {
    // SAFETY: registers only.
    unsafe {
        let wide = |v| vreinterpretq_s64_s32(v);
        let narrow = |v| vreinterpretq_s32_s64(v);
        let (even_ab, odd_ab) = (wide(vtrn1q_s32(a, b)), wide(vtrn2q_s32(a, b)));
        let (even_cd, odd_cd) = (wide(vtrn1q_s32(c, d)), wide(vtrn2q_s32(c, d)));
        [
            narrow(vzip1q_s64(even_ab, even_cd)),
            narrow(vzip1q_s64(odd_ab, odd_cd)),
            narrow(vzip2q_s64(even_ab, even_cd)),
            narrow(vzip2q_s64(odd_ab, odd_cd)),
        ]
    }
}

/// `3 * v`, wrapped. By two additions, which both vector pipes can do; the compiler would make it a
/// multiplication, which costs one pipe twice the time.
#[inline(always)]
pub(super) fn triple(v: int8x16_t) -> int8x16_t {
    let twice: int8x16_t;
    // SAFETY: registers only.
    unsafe {
        asm!("add {o:v}.16b, {v:v}.16b, {v:v}.16b", o = lateout(vreg) twice, v = in(vreg) v,
            options(pure, nomem, nostack, preserves_flags));
        vaddq_s8(twice, v)
    }
}

/// -1 where a bit of the mask is set, else 0: one `CMTST`, which the compiler would take apart again.
#[inline(always)]
pub(super) fn test_bits(v: uint8x16_t, mask: uint8x16_t) -> uint8x16_t {
    let set;
    // SAFETY: registers only.
    unsafe {
        asm!("cmtst {o:v}.16b, {v:v}.16b, {m:v}.16b", o = lateout(vreg) set, v = in(vreg) v, m = in(vreg) mask,
            options(pure, nomem, nostack, preserves_flags))
    };
    set
}

/// Asks for the cache line at `p`, which need not exist, to be read once.
#[inline(always)]
pub(in crate::kernels) fn prefetch(p: *const u8) {
    // SAFETY: a hint; it never faults.
    unsafe { asm!("prfm pldl1strm, [{p}]", p = in(reg) p, options(readonly, nostack, preserves_flags)) };
}

/// What comes before is computed and what comes after not yet begun: the compiler would mix two pieces of work whose
/// values together do not fit the registers.
#[inline(always)]
pub(super) fn settle(acc: &mut [float32x4_t; 8]) {
    let [a, b, c, d, e, f, g, h] = acc;
    // SAFETY: no instruction; only the accumulators change, and they do not.
    unsafe {
        asm!(
            "/* {:v} {:v} {:v} {:v} {:v} {:v} {:v} {:v} */",
            inout(vreg) * a,
            inout(vreg) * b,
            inout(vreg) * c,
            inout(vreg) * d,
            inout(vreg) * e,
            inout(vreg) * f,
            inout(vreg) * g,
            inout(vreg) * h,
            options(nostack, preserves_flags)
        );
    }
}

/// Two vectors of int8.
///
/// # Safety
/// 32 bytes must be readable at `p`.
#[inline(always)]
pub(super) unsafe fn load32(p: *const i8) -> [int8x16_t; 2] {
    // SAFETY: the caller's.
    unsafe { [vld1q_s8(p), vld1q_s8(p.add(16))] }
}

/// Armv8.0: `SMULL`, `SMLAL`, `SADALP`.
pub(super) struct Mlal;

/// Products of the low halves. Where the compiler knows that codes are not negative it would widen and multiply
/// in two steps, so these are instructions of their own.
#[inline(always)]
fn low_products(w: int8x16_t, x: int8x16_t) -> int16x8_t {
    let out;
    // SAFETY: registers only.
    unsafe {
        asm!("smull {o:v}.8h, {w:v}.8b, {x:v}.8b", o = lateout(vreg) out, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags))
    };
    out
}

/// `sums` plus the products of the high or low halves.
#[inline(always)]
pub(super) fn add_products(mut sums: int16x8_t, w: int8x16_t, x: int8x16_t, high: bool) -> int16x8_t {
    // SAFETY: registers only.
    unsafe {
        if high {
            asm!("smlal2 {s:v}.8h, {w:v}.16b, {x:v}.16b", s = inout(vreg) sums, w = in(vreg) w, x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags))
        } else {
            asm!("smlal {s:v}.8h, {w:v}.8b, {x:v}.8b", s = inout(vreg) sums, w = in(vreg) w, x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags))
        }
    };
    sums
}

impl Dot for Mlal {
    const FAST: bool = false;

    #[inline(always)]
    fn dot32<const WIDE: bool>(acc: int32x4_t, w: [int8x16_t; 2], x: [int8x16_t; 2]) -> int32x4_t {
        if WIDE {
            return Self::dot16(Self::dot16(acc, w[0], x[0]), w[1], x[1]);
        }
        // Four products in each int16 lane: 4 * 63 * 128 = 32256.
        let sums = add_products(add_products(low_products(w[0], x[0]), w[0], x[0], true), w[1], x[1], false);
        // SAFETY: registers only.
        unsafe { vpadalq_s16(acc, add_products(sums, w[1], x[1], true)) }
    }

    #[inline(always)]
    fn dot16(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: registers only. Two products in each int16 lane: 2 * 128 * 127.
        unsafe { vpadalq_s16(acc, add_products(low_products(w, x), w, x, true)) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut i8, rows: [int8x16_t; 4]) {
        for (i, row) in rows.into_iter().enumerate() {
            // SAFETY: 64 writable bytes, by the caller.
            unsafe { vst1q_s8(to.add(16 * i), row) }
        }
    }

    #[inline(always)]
    unsafe fn panel<const WIDE: bool, const T: usize>(
        panel: *const i8,
        x: [*const i8; T],
        chunks: usize,
    ) -> [[int32x4_t; T]; 2] {
        let mut sums = [[zero(); T]; 2];
        for q in 0..2 {
            for t in 0..T {
                let mut acc = [zero(); 4];
                let mut c = 0;
                // SAFETY: chunk c of quad q lies at 128 * c + 64 * q, row r of it 16 * r further.
                unsafe {
                    while c + 2 <= chunks {
                        let x = load32(x[t].add(16 * c));
                        for r in 0..4 {
                            let w = panel.add(128 * c + 64 * q + 16 * r);
                            acc[r] = Self::dot32::<WIDE>(acc[r], [vld1q_s8(w), vld1q_s8(w.add(128))], x);
                        }
                        c += 2;
                    }
                    if c < chunks {
                        let x = vld1q_s8(x[t].add(16 * c));
                        for r in 0..4 {
                            acc[r] = Self::dot16(acc[r], vld1q_s8(panel.add(128 * c + 64 * q + 16 * r)), x);
                        }
                    }
                }
                sums[q][t] = reduce4(acc);
            }
        }
        sums
    }
}

/// Armv8.2 `SDOT`.
pub(super) struct Sdot;

/// Lane `i` of `acc` plus the four products of bytes `4 * i..4 * i + 4`.
#[inline(always)]
pub(super) fn sdot(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; part of functions compiled for `dotprod`.
    unsafe {
        asm!("sdot {a:v}.4s, {w:v}.16b, {x:v}.16b", a = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags))
    };
    acc
}

/// [`sdot`] with bytes `4 * LANE..4 * LANE + 4` of `x` for every lane.
#[inline(always)]
pub(super) fn sdot_lane<const LANE: u32>(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; part of functions compiled for `dotprod`.
    unsafe {
        asm!("sdot {a:v}.4s, {w:v}.16b, {x:v}.4b[{l}]", a = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            l = const LANE, options(pure, nomem, nostack, preserves_flags))
    };
    acc
}

impl Dot for Sdot {
    const FAST: bool = true;

    #[inline(always)]
    fn dot32<const WIDE: bool>(acc: int32x4_t, w: [int8x16_t; 2], x: [int8x16_t; 2]) -> int32x4_t {
        sdot(sdot(acc, w[0], x[0]), w[1], x[1])
    }

    #[inline(always)]
    fn dot16(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        sdot(acc, w, x)
    }

    #[inline(always)]
    unsafe fn store(to: *mut i8, rows: [int8x16_t; 4]) {
        // SAFETY: 64 writable bytes, by the caller. Vector `j` in memory is columns 4j..4j + 4 of the rows.
        unsafe {
            let [a, b, c, d] = rows.map(|r| vreinterpretq_s32_s8(r));
            vst4q_s32(to.cast(), int32x4x4_t(a, b, c, d))
        }
    }

    #[inline(always)]
    unsafe fn panel<const WIDE: bool, const T: usize>(
        panel: *const i8,
        x: [*const i8; T],
        chunks: usize,
    ) -> [[int32x4_t; T]; 2] {
        let mut acc = [[zero(); T]; 2];
        for c in 0..chunks {
            // SAFETY: chunk c of a token lies at 16 * c, of quad q at 128 * c + 64 * q.
            unsafe {
                let mut v = [vdupq_n_s8(0); T];
                for t in 0..T {
                    v[t] = vld1q_s8(x[t].add(16 * c));
                }
                // Both quads side by side, written out: eight sums hide the latency of SDOT, four do not.
                let w: [_; 8] = core::array::from_fn(|i| vld1q_s8(panel.add(128 * c + 16 * i)));
                for t in 0..T {
                    acc[0][t] = sdot_lane::<0>(acc[0][t], w[0], v[t]);
                    acc[1][t] = sdot_lane::<0>(acc[1][t], w[4], v[t]);
                }
                for t in 0..T {
                    acc[0][t] = sdot_lane::<1>(acc[0][t], w[1], v[t]);
                    acc[1][t] = sdot_lane::<1>(acc[1][t], w[5], v[t]);
                }
                for t in 0..T {
                    acc[0][t] = sdot_lane::<2>(acc[0][t], w[2], v[t]);
                    acc[1][t] = sdot_lane::<2>(acc[1][t], w[6], v[t]);
                }
                for t in 0..T {
                    acc[0][t] = sdot_lane::<3>(acc[0][t], w[3], v[t]);
                    acc[1][t] = sdot_lane::<3>(acc[1][t], w[7], v[t]);
                }
            }
        }
        acc
    }
}

/// Armv8.6 `SMMLA` for panels; one token alone goes by `SDOT`.
pub(super) struct Smmla;

/// `acc` (2 x 2) plus rows of `w` (2 x 8) times rows of `x` (2 x 8).
#[inline(always)]
fn smmla(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; part of functions compiled for `i8mm`.
    unsafe {
        asm!("smmla {a:v}.4s, {w:v}.16b, {x:v}.16b", a = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags))
    };
    acc
}

impl Dot for Smmla {
    const FAST: bool = true;

    #[inline(always)]
    fn dot32<const WIDE: bool>(acc: int32x4_t, w: [int8x16_t; 2], x: [int8x16_t; 2]) -> int32x4_t {
        Sdot::dot32::<WIDE>(acc, w, x)
    }

    #[inline(always)]
    fn dot16(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        sdot(acc, w, x)
    }

    #[inline(always)]
    unsafe fn store(to: *mut i8, rows: [int8x16_t; 4]) {
        // SAFETY: 64 writable bytes, by the caller. Vector `2p + h` in memory is columns 8h..8h + 8 of rows
        // 2p and 2p + 1.
        unsafe {
            let [a, b, c, d] = rows.map(|r| vreinterpretq_s64_s8(r));
            vst2q_s64(to.cast(), int64x2x2_t(a, b));
            vst2q_s64(to.add(32).cast(), int64x2x2_t(c, d));
        }
    }

    #[inline(always)]
    unsafe fn panel<const WIDE: bool, const T: usize>(
        panel: *const i8,
        x: [*const i8; T],
        chunks: usize,
    ) -> [[int32x4_t; T]; 2] {
        const { assert!(T.is_multiple_of(2)) };
        // [row pair][token of the first of a pair]; the other half of the array stays unused.
        let mut acc = [[zero(); T]; 4];
        for c in 0..chunks {
            // SAFETY: chunk c of a token lies at 16 * c, of row pair p at 128 * c + 32 * p.
            unsafe {
                let mut v = [vdupq_n_s64(0); T];
                for t in (0..T).step_by(2) {
                    let a = vreinterpretq_s64_s8(vld1q_s8(x[t].add(16 * c)));
                    let b = vreinterpretq_s64_s8(vld1q_s8(x[t + 1].add(16 * c)));
                    (v[t], v[t + 1]) = (vzip1q_s64(a, b), vzip2q_s64(a, b));
                }
                for h in 0..2 {
                    for p in 0..4 {
                        let w = vld1q_s8(panel.add(128 * c + 32 * p + 16 * h));
                        for t in (0..T).step_by(2) {
                            acc[p][t] = smmla(acc[p][t], w, vreinterpretq_s8_s64(v[t + h]));
                        }
                    }
                }
            }
        }
        let mut sums = [[zero(); T]; 2];
        for q in 0..2 {
            for t in (0..T).step_by(2) {
                // SAFETY: registers only.
                unsafe {
                    sums[q][t] = vuzp1q_s32(acc[2 * q][t], acc[2 * q + 1][t]);
                    sums[q][t + 1] = vuzp2q_s32(acc[2 * q][t], acc[2 * q + 1][t]);
                }
            }
        }
        sums
    }
}
