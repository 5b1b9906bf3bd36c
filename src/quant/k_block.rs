//! The two shapes of the K types: 256 weights in sub-blocks with small integer scales under one or two binary16.

use super::ActRow;
use super::block::{dot256, half_bytes, idot, widest};
use super::k_fit::EPSILON;
use crate::numeric::{f16_to_f32, round_even};

/// `w = (d * scale_j) * code`, 16 sub-blocks of 16 (Q3_K, Q6_K).
pub(super) struct Scaled {
    pub(super) d: f32,
    pub(super) scales: [i8; 16],
    pub(super) codes: [i8; 256],
}

/// `w = (d * scale_j) * code - dmin * min_j`, `N` sub-blocks of `256 / N` (Q2_K: 16; Q4_K and Q5_K: 8).
pub(super) struct Affine<const N: usize> {
    pub(super) d: f32,
    pub(super) dmin: f32,
    pub(super) scales: [u8; N],
    pub(super) mins: [u8; N],
    pub(super) codes: [u8; 256],
}

/// `v` as binary16 holds it.
fn halved(v: f32) -> f32 {
    f16_to_f32(u16::from_le_bytes(half_bytes(v)))
}

impl Scaled {
    pub(super) fn values(&self) -> [f32; 256] {
        core::array::from_fn(|i| (self.d * f32::from(self.scales[i / 16])) * f32::from(self.codes[i]))
    }

    /// `acc = acc + (isum as f32) * (d * da)`, `isum = sum_j(scale_j * sum(code * q))`.
    pub(super) fn dot<const BYTES: usize>(row: &[u8], act: ActRow<'_>, unpack: impl Fn(&[u8; BYTES]) -> Self) -> f32 {
        dot256(row, act, |block, q| {
            let b = unpack(block);
            (scaled_sum(&b.scales, &b.codes, q), b.d)
        })
    }

    /// Rounds the sub-blocks' scales to integers (the one of largest magnitude becomes `-top`) and then the values
    /// to codes. A sub-block whose scale rounds to 0 keeps the codes of its own fit. `None` if all are 0.
    pub(super) fn encode(
        v: &[f32; 256],
        top: i32,
        max_code: i32,
        fit: impl Fn(&[f32], &mut [i8]) -> f32,
    ) -> Option<Self> {
        let mut b = Scaled { d: 0.0, scales: [0; 16], codes: [0; 256] };
        let mut fitted = [0f32; 16];
        for ((x, codes), s) in v.chunks_exact(16).zip(b.codes.chunks_exact_mut(16)).zip(&mut fitted) {
            *s = fit(x, codes);
        }
        let max = widest(&fitted);
        if max.abs() < EPSILON {
            return None;
        }
        let inverse = -top as f32 / max;
        b.d = halved(1.0 / inverse);
        b.scales = fitted.map(|s| round_even(inverse * s).clamp(-top, top - 1) as i8);
        for ((x, codes), s) in v.chunks_exact(16).zip(b.codes.chunks_exact_mut(16)).zip(b.scales) {
            let d = b.d * f32::from(s);
            if d != 0.0 {
                for (c, x) in codes.iter_mut().zip(x) {
                    *c = round_even(x / d).clamp(-max_code, max_code - 1) as i8;
                }
            }
        }
        Some(b)
    }
}

impl<const N: usize> Affine<N> {
    pub(super) fn values(&self) -> [f32; 256] {
        core::array::from_fn(|i| {
            let j = i * N / 256;
            let (d, min) = (self.d * f32::from(self.scales[j]), self.dmin * f32::from(self.mins[j]));
            d * f32::from(self.codes[i]) - min
        })
    }

    /// `acc = acc + ((isum as f32) * (d * da) - (msum as f32) * (dmin * da))`,
    /// `isum = sum_j(scale_j * sum(code * q))`, `msum = sum_j(min_j * sum(q))`.
    pub(super) fn dot<const BYTES: usize>(row: &[u8], act: ActRow<'_>, unpack: impl Fn(&[u8; BYTES]) -> Self) -> f32 {
        let acts = act.q.as_chunks::<256>().0.iter().zip(act.d).zip(act.bsums.as_chunks::<16>().0);
        let mut acc = 0f32;
        for (block, ((q, da), bsums)) in row.as_chunks::<BYTES>().0.iter().zip(acts) {
            let b = unpack(block);
            let isum = scaled_sum(&b.scales, &b.codes, q);
            let sums = bsums.chunks_exact(16 / N).map(|s| s.iter().map(|v| i32::from(*v)).sum::<i32>());
            let msum: i32 = sums.zip(b.mins).map(|(sum, min)| sum * i32::from(min)).sum();
            acc += isum as f32 * (b.d * da) - msum as f32 * (b.dmin * da);
        }
        acc
    }

    /// Rounds the sub-blocks' scales and minima to `0..=top` and then the values to `0..=max_code`. `fit` gives a
    /// sub-block's scale and negated minimum. A sub-block whose scale rounds to 0 keeps the codes of its own fit.
    pub(super) fn encode(
        v: &[f32; 256],
        top: i32,
        max_code: i32,
        fit: impl Fn(&[f32], &mut [u8]) -> (f32, f32),
    ) -> Self {
        let mut b = Affine { d: 0.0, dmin: 0.0, scales: [0; N], mins: [0; N], codes: [0; 256] };
        let mut fitted = [(0f32, 0f32); N];
        for ((x, codes), f) in v.chunks_exact(256 / N).zip(b.codes.chunks_exact_mut(256 / N)).zip(&mut fitted) {
            *f = fit(x, codes);
        }
        let (d, scales) = to_integers(fitted.map(|f| f.0), top);
        let (dmin, mins) = to_integers(fitted.map(|f| f.1), top);
        (b.d, b.scales, b.dmin, b.mins) = (d, scales, dmin, mins);
        for (j, (x, codes)) in v.chunks_exact(256 / N).zip(b.codes.chunks_exact_mut(256 / N)).enumerate() {
            let (d, min) = (d * f32::from(scales[j]), dmin * f32::from(mins[j]));
            if d != 0.0 {
                for (c, x) in codes.iter_mut().zip(x) {
                    *c = round_even((x + min) / d).clamp(0, max_code) as u8;
                }
            }
        }
        b
    }
}

/// Non-negative values to `0..=top` and the binary16 step between them.
fn to_integers<const N: usize>(values: [f32; N], top: i32) -> (f32, [u8; N]) {
    let max = values.iter().fold(0.0, |m: f32, v| if *v > m { *v } else { m });
    let inverse = if max > 0.0 { top as f32 / max } else { 0.0 };
    (halved(max / top as f32), values.map(|v| round_even(inverse * v).clamp(0, top) as u8))
}

/// `sum_j(scale_j * sum(code * q))`, exact; each type's file has its bound.
fn scaled_sum<T: Copy + Into<i32>, const N: usize>(scales: &[T; N], codes: &[T; 256], q: &[i8; 256]) -> i32 {
    let parts = codes.chunks_exact(256 / N).zip(q.chunks_exact(256 / N));
    scales.iter().zip(parts).map(|(s, (c, q))| (*s).into() * idot(c, q)).sum()
}

/// The eight 6-bit scales and minima of Q4_K and Q5_K in 12 bytes: bytes 0..4 scales 0..4 and bytes 4..8 minima
/// 0..4 in their low six bits; bytes 8..12 the low four bits of scale (low nibble) and minimum (high nibble)
/// 4..8, whose upper two bits are the top two of bytes 0..4 and 4..8.
pub(super) fn unpack_scales(b: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let first = |at: usize, j: usize| b[at + j] & 63;
    let second = |at: usize, j: usize| (b[8 + j] >> at & 15) | (b[at + j] >> 6) << 4;
    let both = |at: usize| core::array::from_fn(|j| if j < 4 { first(at, j) } else { second(at, j - 4) });
    (both(0), both(4))
}

/// The inverse of [`unpack_scales`].
pub(super) fn pack_scales(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    core::array::from_fn(|i| match i {
        0..4 => scales[i] | (scales[i + 4] >> 4) << 6,
        4..8 => mins[i - 4] | (mins[i] >> 4) << 6,
        _ => scales[i - 4] & 15 | (mins[i - 4] & 15) << 4,
    })
}
