//! Activations in the forms that dot products want.
//!
//! All forms come from the same f32 row. The f32 operations below are part of the definition; they
//! are done by [`crate::kernels::Kernels::quantize`] and the scalar level is the reference.

use crate::numeric::exp;

/// A form of the activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ActKind {
    /// f32 as it is.
    F32,
    /// int8 with one scale for the whole row (BitNet b1.58, I2_S): `amax = max(1e-5, max|x|)` in f64,
    /// `d = (127 / amax) as f32`, `q = clamp(round_even(x * d), -128, 127)`. A result is *divided* by `d`.
    Row,
    /// int8 with one scale per 32 values (ggml's Q8_0 without its rounding of the scale to f16):
    /// `amax = max|x|`, `d = amax / 127`, `id = 127 / amax` (0 if `amax` is 0), `q = round_even(x * id)`.
    Block32,
    /// int8 with one scale per 256 values (ggml's Q8_K): `m` the value of largest magnitude (the first of
    /// equals), `id = -127 / m` (0 if `m` is 0), `q = min(127, round_even(x * id))`, `d = 1 / id` (0 if 0).
    Block256,
    /// Sign bits (BitNet b1.0): bit `i % 8` of byte `i / 8` is 1, read as +1, where `x >= 0` (so for -0 too),
    /// else 0, read as -1. No scale. [`sign_stochastic`] is the other way to fill it.
    Sign,
}

impl ActKind {
    /// Every kind.
    pub const ALL: [ActKind; 5] = [ActKind::F32, ActKind::Row, ActKind::Block32, ActKind::Block256, ActKind::Sign];
    /// Number of kinds.
    pub const COUNT: usize = Self::ALL.len();

    /// Bytes of codes (`q`) of a row of `k` values.
    pub fn codes(self, k: usize) -> usize {
        match self {
            ActKind::F32 => 0,
            ActKind::Row | ActKind::Block32 | ActKind::Block256 => k,
            ActKind::Sign => k.div_ceil(8),
        }
    }

    /// Scales of a row of `k` values.
    pub const fn scales(self, k: usize) -> usize {
        match self {
            ActKind::F32 | ActKind::Sign => 0,
            ActKind::Row => 1,
            ActKind::Block32 => k.div_ceil(32),
            ActKind::Block256 => k.div_ceil(256),
        }
    }

    /// Group sums (`bsums`) of a row of `k` values: per 32 for [`ActKind::Block32`], per 16 for
    /// [`ActKind::Block256`].
    pub const fn bsums(self, k: usize) -> usize {
        match self {
            ActKind::F32 | ActKind::Row | ActKind::Sign => 0,
            ActKind::Block32 => k.div_ceil(32),
            ActKind::Block256 => k.div_ceil(16),
        }
    }
}

/// One token's activation. Slices that the kind does not use are empty.
#[derive(Clone, Copy, Debug)]
pub struct ActRow<'a> {
    /// f32 values (`k`), for [`ActKind::F32`].
    pub x: &'a [f32],
    /// Codes, see [`ActKind::codes`].
    pub q: &'a [i8],
    /// Scales, see [`ActKind::scales`].
    pub d: &'a [f32],
    /// Sums of `q` over groups, see [`ActKind::bsums`].
    pub bsums: &'a [i16],
    /// Sum of all int8 values or signs.
    pub sum: i32,
}

/// The activations of `n` tokens, one form, row after row.
#[derive(Clone, Copy, Debug)]
pub struct Acts<'a> {
    /// The form.
    pub kind: ActKind,
    /// Tokens.
    pub n: usize,
    /// Values of a token.
    pub k: usize,
    /// `n * k` values for [`ActKind::F32`], else empty.
    pub x: &'a [f32],
    /// `n * kind.codes(k)`.
    pub q: &'a [i8],
    /// `n * kind.scales(k)`.
    pub d: &'a [f32],
    /// `n * kind.bsums(k)`.
    pub bsums: &'a [i16],
    /// `n`: sum of all int8 values or signs of a token; empty for [`ActKind::F32`].
    pub sums: &'a [i32],
}

impl<'a> Acts<'a> {
    /// True when every slice has the length the kind asks for.
    pub fn is_sound(&self) -> bool {
        let (n, k) = (self.n, self.k);
        let int = self.kind != ActKind::F32;
        let holds = |len: usize, of_a_token: usize| n.checked_mul(of_a_token) == Some(len);
        holds(self.x.len(), if int { 0 } else { k })
            && holds(self.q.len(), self.kind.codes(k))
            && holds(self.d.len(), self.kind.scales(k))
            && holds(self.bsums.len(), self.kind.bsums(k))
            && holds(self.sums.len(), usize::from(int))
    }

    /// The activations of token `i` alone.
    ///
    /// # Panics
    /// If `i` is not below `n` or the value is not sound: a bug of the caller.
    pub fn token(&self, i: usize) -> Acts<'a> {
        let row = self.row(i);
        let sums = if self.kind == ActKind::F32 { &[] } else { &self.sums[i..i + 1] };
        Acts { kind: self.kind, n: 1, k: self.k, x: row.x, q: row.q, d: row.d, bsums: row.bsums, sums }
    }

    /// Token `i`.
    ///
    /// # Panics
    /// If `i` is not below `n` or the value is not sound: a bug of the caller.
    pub fn row(&self, i: usize) -> ActRow<'a> {
        let part = |len: usize| i * len..(i + 1) * len;
        match self.kind {
            ActKind::F32 => ActRow { x: &self.x[part(self.k)], q: &[], d: &[], bsums: &[], sum: 0 },
            kind => ActRow {
                x: &[],
                q: &self.q[part(kind.codes(self.k))],
                d: &self.d[part(kind.scales(self.k))],
                bsums: &self.bsums[part(kind.bsums(self.k))],
                sum: self.sums[i],
            },
        }
    }
}

/// Fills `q` as [`ActKind::Sign`] lays it out, with +1 at probability `1 / (1 + e^-x)` for each value; returns
/// the sum of the signs.
///
/// The draws are those of splitmix64, element by element, from a start that mixes `seed` with the bits of the
/// whole row: the same row and seed give the same signs in any batch, on any thread and at any kernel level.
pub fn sign_stochastic(x: &[f32], seed: u64, q: &mut [i8]) -> i32 {
    let start = x.iter().fold(seed, |state, v| splitmix64(state ^ u64::from(v.to_bits())));
    let mut sum = 0;
    for (byte, (x, q)) in x.chunks(8).zip(q).enumerate() {
        let mut bits = 0u8;
        for (i, v) in x.iter().enumerate() {
            let draw = splitmix64(start.wrapping_add((byte * 8 + i) as u64));
            let uniform = (draw >> 40) as f32 / (1u32 << 24) as f32;
            let plus = uniform < 1.0 / (1.0 + exp(-v));
            bits |= u8::from(plus) << i;
            sum += if plus { 1 } else { -1 };
        }
        *q = bits as i8;
    }
    sum
}

/// One step of splitmix64 (Steele, Lea and Flood 2014).
fn splitmix64(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// No length may be right because a product wraps round.
    #[test]
    fn sound_is_what_fits() {
        let (q, d, bsums, sums) = ([1i8; 128], [1f32; 4], [1i16; 4], [1i32; 2]);
        let sound = Acts { kind: ActKind::Block32, n: 2, k: 64, x: &[], q: &q, d: &d, bsums: &bsums, sums: &sums };
        assert!(sound.is_sound());
        let half = usize::MAX / 2 + 1;
        for acts in [
            Acts { n: 1, ..sound },
            Acts { k: 32, ..sound },
            Acts { k: half + 64, ..sound },
            Acts { n: half + 2, ..sound },
            Acts { q: &q[1..], ..sound },
            Acts { d: &d[1..], ..sound },
            Acts { bsums: &bsums[1..], ..sound },
            Acts { sums: &sums[1..], ..sound },
            Acts { x: &d, ..sound },
            Acts { kind: ActKind::Row, ..sound },
            Acts { kind: ActKind::F32, ..sound },
            Acts { kind: ActKind::F32, n: 4, k: half, x: &[], q: &[], d: &[], bsums: &[], sums: &[] },
            Acts { kind: ActKind::F32, n: 2, k: half, x: &[], q: &[], d: &[], bsums: &[], sums: &[] },
        ] {
            assert!(!acts.is_sound(), "{acts:?}");
        }
    }

    #[test]
    fn stochastic_signs_follow_the_sigmoid() {
        for v in [-3.0f32, -0.5, 0.0, 1.0, 2.5] {
            let x: Vec<f32> = (0..8192).map(|i| v + (i % 7) as f32 * 1e-6).collect();
            let mut q = vec![0i8; 1024];
            let sum = sign_stochastic(&x, 7, &mut q);
            let ones: u32 = q.iter().map(|b| b.count_ones()).sum();
            assert_eq!(sum, 2 * ones as i32 - 8192);
            let want = 1.0 / (1.0 + libm::exp(-f64::from(v)));
            assert!((f64::from(ones) / 8192.0 - want).abs() < 0.02, "{v}: {ones} of 8192");
        }
    }

    #[test]
    fn stochastic_signs_repeat_for_the_seed_only() {
        let x: Vec<f32> = (0..256).map(|i| (i as f32 - 128.0) / 64.0).collect();
        let signs = |x: &[f32], seed| {
            let mut q = vec![0i8; 32];
            sign_stochastic(x, seed, &mut q);
            q
        };
        assert_eq!(signs(&x, 1), signs(&x, 1));
        assert_ne!(signs(&x, 1), signs(&x, 2));
        let mut other = x.clone();
        other[255] += 1e-6;
        assert_ne!(signs(&x, 1)[..16], signs(&other, 1)[..16]);
    }
}
