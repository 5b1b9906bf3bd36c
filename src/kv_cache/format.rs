//! How one head's row of keys or values is stored: a scale and codes, a value being the one times the other. These
//! loops are the definition; the kernels do the same for each CPU level.
//!
//! - `F16`: as it is, scale 1.
//! - `Q8`: an f16 scale `d = amax / 127`, then int8 codes.
//! - `Q4`, `Q3`, `Q2`: an f16 scale, then the numbers of levels. Rows are rotated first ([`super::KvType::rotates`]), which makes
//!   their values nearly Gaussian, so the levels that are best for a Gaussian (Lloyd and Max), as whole numbers, fit
//!   every row. The scale is the one that makes the squared error least for the levels chosen.

use crate::limits::HEAD_DIM_MAX;
use crate::numeric::{dot16, f16_to_f32, f16_to_f32_finite, f32_to_f16_clamped, round_even};

/// How the codes of a row lie.
pub(crate) enum Codes {
    /// IEEE binary16.
    Half,
    /// int8.
    Int8,
    /// Numbers of levels, `per_byte` in a byte: that of value `i` in byte `i % bytes`, in the `i / bytes`-th group of
    /// bits from the lowest up, so that runs of bytes become runs of values. With `apart` the highest bit of each number
    /// is not among these: that of value `i` is bit `i % 8` of byte `i / 8` after them.
    Levels { per_byte: usize, apart: bool, table: [i8; 16] },
}

/// Storage of one row of `values.len()` values.
pub(crate) trait RowFormat {
    /// How codes lie. All but [`Codes::Half`] have an f16 scale before them.
    const CODES: Codes;
    /// Bytes of a row of `n` values.
    fn bytes(n: usize) -> usize;
    /// Values to a row of [`RowFormat::bytes`].
    fn store(values: &[f32], row: &mut [u8]);
    /// The codes of a row, and their scale.
    fn load(row: &[u8], codes: &mut [f32]) -> f32;
}

/// IEEE binary16.
pub(crate) struct F16;
/// int8.
pub(crate) struct Q8;
/// 16 levels.
pub(crate) struct Q4;
/// 8 levels.
pub(crate) struct Q3;
/// 4 levels.
pub(crate) struct Q2;

impl RowFormat for F16 {
    const CODES: Codes = Codes::Half;

    fn bytes(n: usize) -> usize {
        2 * n
    }

    #[inline(always)]
    fn store(values: &[f32], row: &mut [u8]) {
        for (v, r) in values.iter().zip(row.as_chunks_mut::<2>().0) {
            *r = f32_to_f16_clamped(*v).to_le_bytes();
        }
    }

    #[inline(always)]
    fn load(row: &[u8], codes: &mut [f32]) -> f32 {
        for (o, b) in codes.iter_mut().zip(row.as_chunks::<2>().0) {
            *o = f16_to_f32_finite(u16::from_le_bytes(*b));
        }
        1.0
    }
}

/// The f16 scale at the start of a row, and the codes.
#[inline(always)]
pub(crate) fn scale_and_codes(row: &[u8]) -> (f32, &[u8]) {
    match row.split_first_chunk::<2>() {
        Some((d, codes)) => (f16_to_f32_finite(u16::from_le_bytes(*d)), codes),
        None => (0.0, &[]),
    }
}

/// Writes the scale; returns it as it will be read, and the room for codes.
#[inline(always)]
fn put_scale(row: &mut [u8], d: f32) -> (f32, &mut [u8]) {
    let half = f32_to_f16_clamped(d);
    match row.split_first_chunk_mut::<2>() {
        Some((at, codes)) => {
            *at = half.to_le_bytes();
            (f16_to_f32(half), codes)
        }
        None => (0.0, &mut []),
    }
}

impl RowFormat for Q8 {
    const CODES: Codes = Codes::Int8;

    fn bytes(n: usize) -> usize {
        2 + n
    }

    #[inline(always)]
    fn store(values: &[f32], row: &mut [u8]) {
        let amax = values.iter().fold(0f32, |m, v| if v.abs() > m { v.abs() } else { m });
        let (d, codes) = put_scale(row, amax / 127.0);
        let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
        for (v, c) in values.iter().zip(codes) {
            *c = round_even((v * inverse).clamp(-127.0, 127.0)) as i8 as u8;
        }
    }

    #[inline(always)]
    fn load(row: &[u8], out: &mut [f32]) -> f32 {
        let (d, codes) = scale_and_codes(row);
        for (o, c) in out.iter_mut().zip(codes) {
            *o = f32::from(*c as i8);
        }
        d
    }
}

/// Levels of a Gaussian quantizer.
trait Levels {
    /// How many, a power of two up to 16.
    const COUNT: usize;
    /// The levels, ascending, over and over.
    const TABLE: [i8; 16];
    /// What one standard deviation is on their scale.
    const SIGMA: f32;
    /// Whether the highest bit of a number lies apart: three bits do not divide a byte.
    const APART: bool = Self::COUNT == 8;
    /// Bits of a number that lie together.
    const BITS: usize = Self::COUNT.ilog2() as usize - Self::APART as usize;
    /// Numbers in a byte.
    const PER_BYTE: usize = 8 / Self::BITS;
}

impl Levels for Q4 {
    const COUNT: usize = 16;
    // 0.1284, 0.3881, 0.6568, 0.9424, 1.2562, 1.6181, 2.0691, 2.7326 deviations.
    const TABLE: [i8; 16] = [-127, -96, -75, -58, -44, -31, -18, -6, 6, 18, 31, 44, 58, 75, 96, 127];
    const SIGMA: f32 = 46.47;
}

impl Levels for Q3 {
    const COUNT: usize = 8;
    // 0.2451, 0.7560, 1.3439 and 2.1520 deviations.
    const TABLE: [i8; 16] = [-123, -77, -43, -14, 14, 43, 77, 123, -123, -77, -43, -14, 14, 43, 77, 123];
    const SIGMA: f32 = 57.2;
}

impl Levels for Q2 {
    const COUNT: usize = 4;
    // 0.4528 and 1.5104 deviations.
    const TABLE: [i8; 16] = [-10, -3, 3, 10, -10, -3, 3, 10, -10, -3, 3, 10, -10, -3, 3, 10];
    const SIGMA: f32 = 6.622;
}

/// The number of the level nearest to `v`.
#[inline(always)]
fn nearest<T: Levels>(v: f32) -> usize {
    let mut code = 0;
    for pair in T::TABLE[..T::COUNT].windows(2) {
        let border = 0.5 * (f32::from(pair[0]) + f32::from(pair[1]));
        code += usize::from(v > border);
    }
    code
}

#[inline(always)]
fn level<T: Levels>(code: usize) -> f32 {
    f32::from(T::TABLE[code % 16])
}

impl<T: Levels> RowFormat for T {
    const CODES: Codes = Codes::Levels { per_byte: T::PER_BYTE, apart: T::APART, table: T::TABLE };

    fn bytes(n: usize) -> usize {
        2 + n.div_ceil(T::PER_BYTE) + if T::APART { n.div_ceil(8) } else { 0 }
    }

    #[inline(always)]
    fn store(values: &[f32], row: &mut [u8]) {
        let sigma = libm::sqrtf(dot16(values, values) / values.len().max(1) as f32);
        let inverse = if sigma > 0.0 { T::SIGMA / sigma } else { 0.0 };
        let (mut numbers, mut levels) = ([0u8; HEAD_DIM_MAX], [0f32; HEAD_DIM_MAX]);
        let (numbers, levels) = (&mut numbers[..values.len()], &mut levels[..values.len()]);
        for ((v, number), l) in values.iter().zip(&mut *numbers).zip(&mut *levels) {
            let nearest = nearest::<T>(v * inverse);
            (*number, *l) = (nearest as u8, level::<T>(nearest));
        }
        // With the levels chosen, the scale of least squared error is <values, levels> / <levels, levels>.
        let (with_values, with_itself) = (dot16(values, levels), dot16(levels, levels));
        let (_, codes) = put_scale(row, if with_itself > 0.0 { with_values / with_itself } else { 0.0 });
        codes.fill(0);
        let (low, high) = codes.split_at_mut(values.len().div_ceil(T::PER_BYTE).min(codes.len()));
        for (group, numbers) in numbers.chunks(low.len().max(1)).enumerate() {
            for (number, c) in numbers.iter().zip(low.iter_mut()) {
                *c |= (number % (1 << T::BITS)) << (T::BITS * group);
            }
        }
        for (numbers, c) in numbers.chunks(8).zip(high) {
            for (i, number) in numbers.iter().enumerate() {
                *c |= (number >> T::BITS) << i;
            }
        }
    }

    #[inline(always)]
    fn load(row: &[u8], out: &mut [f32]) -> f32 {
        let (d, codes) = scale_and_codes(row);
        let (low, high) = codes.split_at(out.len().div_ceil(T::PER_BYTE).min(codes.len()));
        for (group, out) in out.chunks_mut(low.len().max(1)).enumerate() {
            for (i, (o, c)) in out.iter_mut().zip(low).enumerate() {
                let i = group * low.len() + i;
                let high = if T::APART { usize::from(high[i / 8] >> (i % 8) & 1) << T::BITS } else { 0 };
                *o = level::<T>(usize::from(*c >> (T::BITS * group)) % (1 << T::BITS) | high);
            }
        }
        d
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Sums of uniform numbers: close enough to a Gaussian.
    fn gaussian(n: usize, scale: f32) -> Vec<f32> {
        let mut state = 1u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() * scale).collect()
    }

    fn noise<F: RowFormat>(n: usize, scale: f32) -> f32 {
        let values = gaussian(64 * n, scale);
        let (mut error, mut power) = (0f32, 0f32);
        for row in values.chunks(n) {
            let mut bytes = std::vec![0u8; F::bytes(n)];
            let mut back = std::vec![0f32; n];
            F::store(row, &mut bytes);
            let d = F::load(&bytes, &mut back);
            for (a, b) in row.iter().zip(&back) {
                error += (a - d * b) * (a - d * b);
                power += a * a;
            }
        }
        error / power
    }

    #[test]
    fn noise_is_near_the_theory() {
        for n in [64, 80, 96, 128, 256] {
            for scale in [1e-3, 1.0, 300.0] {
                assert!(noise::<F16>(n, scale) < 1e-6);
                assert!(noise::<Q8>(n, scale) < 1e-4);
                // Lloyd-Max: 0.00950, 0.0345 and 0.1175 of the power.
                assert!(noise::<Q4>(n, scale) < 0.0105, "{n} {}", noise::<Q4>(n, scale));
                assert!(noise::<Q3>(n, scale) < 0.037, "{n} {}", noise::<Q3>(n, scale));
                assert!(noise::<Q2>(n, scale) < 0.122, "{n} {}", noise::<Q2>(n, scale));
            }
        }
    }

    #[test]
    fn zeros_and_extremes_stay_finite() {
        fn check<F: RowFormat>() {
            for fill in [0.0f32, 1e-30, 1e30, -65504.0] {
                let mut bytes = std::vec![0u8; F::bytes(64)];
                let mut back = [1f32; 64];
                F::store(&[fill; 64], &mut bytes);
                let d = F::load(&bytes, &mut back);
                assert!(back.iter().all(|v| (d * v).is_finite() && (fill != 0.0 || d * v == 0.0)));
            }
        }
        check::<F16>();
        check::<Q8>();
        check::<Q4>();
        check::<Q3>();
        check::<Q2>();
    }
}
