//! Half floats, rounding, `exp`, and the canonical order of float sums.
//!
//! Every kernel level and every thread count must give the same bits, so the order of float operations
//! is part of the definition of each operation, and no level may use a fused multiply-add:
//!
//! - **Block sums** (quantized weights): one f32 accumulator per output, starting at 0, blocks in
//!   ascending order. Inside a block everything is integer and exact. Per block the type's file in
//!   [`crate::quant`] says which f32 operations are done, in which order.
//! - **Float dots** (f32, f16, bf16 weights, attention scores, sums of squares): 16 accumulators, element
//!   `i` goes to accumulator `i % 16`, each `acc = acc + a*b` (product rounded, then sum rounded), and the
//!   16 are added as a tree: 16 -> 8 (`j` and `j+8`) -> 4 -> 2 -> 1. See [`tree16`].
//! - **Weighted sums of rows** (attention output): one accumulator per element, rows in ascending order.

/// Sixteen accumulators to one, in the canonical order.
#[inline(always)]
pub fn tree16(a: &[f32; 16]) -> f32 {
    let b: [f32; 8] = core::array::from_fn(|j| a[j] + a[j + 8]);
    let c: [f32; 4] = core::array::from_fn(|j| b[j] + b[j + 4]);
    (c[0] + c[2]) + (c[1] + c[3])
}

/// The canonical float dot product.
#[inline(always)]
pub fn dot16(a: &[f32], b: &[f32]) -> f32 {
    let (ca, ra) = a.as_chunks::<16>();
    let (cb, rb) = b.as_chunks::<16>();
    let mut acc = [0f32; 16];
    for (a, b) in ca.iter().zip(cb) {
        for j in 0..16 {
            acc[j] += a[j] * b[j];
        }
    }
    for (j, (a, b)) in ra.iter().zip(rb).enumerate() {
        acc[j] += a * b;
    }
    tree16(&acc)
}

/// IEEE binary16 to f32, exact, NaN and infinities included.
#[inline]
pub const fn f16_to_f32(h: u16) -> f32 {
    let sign = ((h & 0x8000) as u32) << 16;
    let exponent = (h >> 10) & 0x1f;
    let mantissa = (h & 0x3ff) as u32;
    let magnitude = match exponent {
        0 => return signed(sign, mantissa as f32 * f32::from_bits(0x3380_0000)), // mantissa * 2^-24
        31 => 0x7f80_0000 | mantissa << 13,
        e => (e as u32 + 112) << 23 | mantissa << 13,
    };
    f32::from_bits(sign | magnitude)
}

const fn signed(sign: u32, v: f32) -> f32 {
    f32::from_bits(v.to_bits() | sign)
}

/// [`f16_to_f32`] for finite values without branches, so that a loop over it vectorises.
/// Infinities and NaN come out as numbers beyond 65504.
#[inline(always)]
pub fn f16_to_f32_finite(h: u16) -> f32 {
    let magnitude = f32::from_bits(((h & 0x7fff) as u32) << 13) * f32::from_bits(0x7780_0000); // * 2^112
    f32::from_bits(magnitude.to_bits() | ((h & 0x8000) as u32) << 16)
}

/// f32 to IEEE binary16, round half to even, overflow to infinity, NaN kept quiet.
#[inline]
pub fn f32_to_f16(v: f32) -> u16 {
    let bits = v.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let half = if magnitude >= 0x7f80_0000 {
        0x7c00 | if magnitude > 0x7f80_0000 { 0x200 | (magnitude >> 13 & 0x3ff) as u16 } else { 0 }
    } else if magnitude >= 0x477f_f000 {
        0x7c00
    } else if magnitude < 0x3880_0000 {
        // Below 2^-14: adding 0.5 lets the float unit round to a multiple of 2^-24.
        let rounded = f32::from_bits(magnitude) + 0.5;
        (rounded.to_bits() - 0x3f00_0000) as u16
    } else {
        let odd = magnitude >> 13 & 1;
        ((magnitude - 0x3800_0000 + 0xfff + odd) >> 13) as u16
    };
    sign | half
}

/// [`f32_to_f16`] for values known to be finite, limited to ±65504, without branches.
#[inline(always)]
pub fn f32_to_f16_clamped(v: f32) -> u16 {
    let v = v.clamp(-65504.0, 65504.0);
    let bits = v.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let odd = magnitude >> 13 & 1;
    let normal = (magnitude.wrapping_sub(0x3800_0000).wrapping_add(0xfff + odd)) >> 13;
    let small = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    (if magnitude < 0x3880_0000 { small } else { normal }) as u16 | (bits >> 16) as u16 & 0x8000
}

/// bfloat16 to f32, exact.
#[inline(always)]
pub const fn bf16_to_f32(h: u16) -> f32 {
    f32::from_bits((h as u32) << 16)
}

/// f32 to bfloat16, round half to even, NaN kept quiet (as ggml does it).
#[inline]
pub const fn f32_to_bf16(v: f32) -> u16 {
    let bits = v.to_bits();
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        return (bits >> 16) as u16 | 64;
    }
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Round half to even for |v| < 2^22: adding 1.5 * 2^23 makes the float unit round at the integers.
#[inline(always)]
pub fn round_even(v: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    ((v + MAGIC).to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32)
}

/// e^x with a relative error under 2e-7: the same bits on every machine, and a loop over it vectorises.
/// Below -87.3 the result is 0, above 88.7 it stays at e^88.7.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let clamped = x.clamp(-87.3, 88.7);
    let n = round_even(clamped * core::f32::consts::LOG2_E);
    let nf = n as f32;
    // ln 2 in two parts, the first exact in 12 bits (Cody and Waite's reduction).
    let r = clamped - nf * 0.693_359_4 - nf * -2.121_944_4e-4;
    // Minimax polynomial for e^r - 1 - r on [-ln 2 / 2, ln 2 / 2] (the Cephes single-precision one).
    let mut p = 1.987_569_1e-4f32;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = p * r + c;
    }
    let y = p * (r * r) + r + 1.0;
    // 2^n in two factors, since n reaches 128.
    let half = n >> 1;
    let scaled = y * pow2(half) * pow2(n - half);
    if x < -87.3 { 0.0 } else { scaled }
}

#[inline(always)]
fn pow2(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// tanh by way of [`exp`]; absolute error under 1e-6.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    let t = (1.0 - e) / (1.0 + e);
    if x < 0.0 { -t } else { t }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_trip() {
        for h in 0..=u16::MAX {
            let v = f16_to_f32(h);
            if v.is_nan() {
                assert!(f16_to_f32(f32_to_f16(v)).is_nan());
                continue;
            }
            assert_eq!(f32_to_f16(v), h);
            if v.is_finite() {
                assert_eq!(f16_to_f32_finite(h).to_bits(), v.to_bits());
                assert_eq!(f32_to_f16_clamped(v), h);
            }
        }
        assert_eq!(f32_to_f16_clamped(1e9), f32_to_f16(65504.0));
    }

    #[test]
    fn halves_round_to_even() {
        for i in 0..2_000_000u32 {
            let v = f32::from_bits(i.wrapping_mul(2147).wrapping_add(0x3300_0000) & 0x7fff_ffff);
            let (lo, hi) = (f32_to_f16(v), f32_to_f16_clamped(v));
            if v < 65504.0 {
                assert_eq!(lo, hi, "{v}");
                let (a, got) = (v as f64, f16_to_f32(lo) as f64);
                for neighbour in [lo.wrapping_sub(1), lo + 1] {
                    let other = f16_to_f32(neighbour) as f64;
                    if lo > 0 && other.is_finite() {
                        assert!((got - a).abs() <= (other - a).abs(), "{v}");
                    }
                }
            }
        }
    }

    #[test]
    fn exp_is_close() {
        let mut worst = 0f64;
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let want = libm::exp(x as f64);
            worst = worst.max(((exp(x) as f64 - want) / want).abs());
        }
        assert!(worst < 2e-7, "{worst}");
        assert_eq!(exp(-1000.0), 0.0);
        assert!(exp(1000.0).is_finite());
        for i in -8000..8000 {
            let x = i as f32 / 500.0;
            assert!((tanh(x) as f64 - libm::tanh(x as f64)).abs() < 1e-6);
        }
    }

    #[test]
    fn rounds_half_to_even() {
        for (v, want) in [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (126.5, 126), (-127.5, -128)] {
            assert_eq!(round_even(v), want);
        }
    }
}
