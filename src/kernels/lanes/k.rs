//! The K types: 256 weights in sub-blocks with integer scales.

use super::block32::{scaled, two_halves};
use super::{At, Lanes, Rows, Sums, Unpack};
use crate::quant::QuantType;

/// Scales of sub-blocks (i32), factors for the activation's group sums (pairs of i16, for two groups of 16), and one
/// or two f32 scales.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Scales<V, const SUBS: usize, const D: usize> {
    subs: [V; SUBS],
    pairs: [V; 8],
    d: [V; D],
}

/// Byte `j` of each lane.
#[inline(always)]
fn byte<S: Lanes>(s: S, v: S::V, j: usize) -> S::V {
    s.and(s.shr(v, 8 * j as u32), s.splat(0xff))
}

/// Byte `j` of each lane, signed.
#[inline(always)]
fn signed_byte<S: Lanes>(s: S, v: S::V, j: usize) -> S::V {
    s.sra(s.shl(v, 24 - 8 * j as u32), 24)
}

/// Two i32 that fit i16 as a pair.
#[inline(always)]
fn pair<S: Lanes>(s: S, low: S::V, high: S::V) -> S::V {
    s.or(s.and(low, s.splat(0xffff)), s.shl(high, 16))
}

/// `sum_j(factor_j * bsum_j)`.
///
/// # Safety
/// `act` is a block of 256.
#[inline(always)]
unsafe fn weighted_bsums<S: Lanes>(s: S, pairs: &[S::V; 8], act: At) -> S::V {
    let mut sum = s.splat(0);
    for (i, factors) in pairs.iter().enumerate() {
        // SAFETY: a block of 256 has 16 group sums.
        sum = s.madd(sum, *factors, unsafe { s.broadcast(act.bsums.add(2 * i).cast()) });
    }
    sum
}

/// A type: bytes, largest code, columns of a sub-block; how it unpacks; and how a block ends, from the sum of
/// `scale_j * sum(code * q)` and that of `factor_j * bsum_j`.
macro_rules! k_type {
    ($ty:ident, $bytes:literal, $max:literal, $sub:literal, $d:literal,
     |$s:ident, $at:ident, $put:ident| $unpack:expr,
     |$acc:ident, $isum:ident, $bsum:ident, $w:ident, $da:ident| $finish:expr) => {
        pub(in crate::kernels) struct $ty;

        impl Unpack for $ty {
            const TYPE: QuantType = QuantType::$ty;
            const BLOCK: usize = 256;
            const BYTES: usize = $bytes;
            const SUB: usize = $sub;
            const CODE_MAX: Option<usize> = Some($max);
            type Scales<V: Copy> = Scales<V, { 256 / $sub }, $d>;

            #[inline(always)]
            unsafe fn unpack<S: Lanes>($s: S, $at: Rows, mut $put: impl FnMut(usize, S::V)) -> Self::Scales<S::V> {
                // SAFETY: every row holds a block of these bytes, by contract.
                unsafe { $unpack }
            }

            #[inline(always)]
            unsafe fn fold<S: Lanes>(s: S, w: &Self::Scales<S::V>, i: usize, sum: S::V, _: At, sums: &mut Sums<S::V>) {
                sums.total = s.add(sums.total, s.mul(sum, w.subs[i]));
            }

            #[inline(always)]
            unsafe fn finish<S: Lanes>($s: S, $w: &Self::Scales<S::V>, act: At, sums: &mut Sums<S::V>) {
                // SAFETY: the activation is a block of 256, by contract.
                let ($bsum, $da) = unsafe { (weighted_bsums($s, &$w.pairs, act), act.scale(0)) };
                let ($acc, $isum) = (sums.acc, sums.total);
                sums.acc = $finish;
            }
        }
    };
}

/// `acc + (isum * (d * da) - msum * (dmin * da))`.
#[inline(always)]
fn affine<S: Lanes>(s: S, acc: S::V, isum: S::V, msum: S::V, [d, dmin]: [S::V; 2], da: f32) -> S::V {
    let da = s.splat(da.to_bits());
    let (dot, min) = (s.fmul(s.float(isum), s.fmul(d, da)), s.fmul(s.float(msum), s.fmul(dmin, da)));
    s.fadd(acc, s.fsub(dot, min))
}

/// 32 bytes of every row.
///
/// # Safety
/// Every row holds them.
#[inline(always)]
unsafe fn load8<S: Lanes>(s: S, at: Rows) -> [S::V; 8] {
    // SAFETY: by contract.
    let ([a, b, c, d], [e, f, g, h]) = unsafe { (s.load4(at), s.load4(at.at(16))) };
    [a, b, c, d, e, f, g, h]
}

/// Scales and minima of Q4_K and Q5_K from the first 16 bytes of a block.
///
/// # Safety
/// Every row holds 16 bytes.
#[inline(always)]
unsafe fn scales_and_mins<S: Lanes>(s: S, at: Rows) -> Scales<S::V, 8, 2> {
    // SAFETY: by contract.
    let [d, a, b, c] = unsafe { s.load4(at) };
    let (six, low, top) = (s.splat(0x3f3f_3f3f), s.splat(0x0f0f_0f0f), s.splat(0x3030_3030));
    let upper = |v| s.and(s.shr(v, 2), top);
    let scales = [s.and(a, six), s.or(s.and(c, low), upper(a))];
    let mins = [s.and(b, six), s.or(s.and(s.shr(c, 4), low), upper(b))];
    Scales {
        subs: core::array::from_fn(|j| byte(s, scales[j / 4], j % 4)),
        pairs: core::array::from_fn(|j| {
            let min = byte(s, mins[j / 4], j % 4);
            pair(s, min, min)
        }),
        d: two_halves(s, d),
    }
}

k_type!(
    Q2_K,
    84,
    3,
    16,
    2,
    |s, at, put| {
        let low = s.splat(0x0f0f_0f0f);
        for part in 0..2 {
            for (i, v) in load8(s, at.at(16 + 32 * part)).into_iter().enumerate() {
                for plane in 0..4 {
                    put(32 * part + 8 * plane + i, s.and(s.shr(v, 2 * plane as u32), s.splat(0x0303_0303)));
                }
            }
        }
        let both = s.load4(at);
        let min = |j: usize| byte(s, s.and(s.shr(both[j / 4], 4), low), j % 4);
        Scales {
            subs: core::array::from_fn(|j| byte(s, s.and(both[j / 4], low), j % 4)),
            pairs: core::array::from_fn(|i| pair(s, min(2 * i), min(2 * i + 1))),
            d: two_halves(s, s.load(at.at(80))),
        }
    },
    |acc, isum, msum, w, da| affine(s, acc, isum, msum, w.d, da)
);

k_type!(
    Q4_K,
    144,
    15,
    32,
    2,
    |s, at, put| {
        let low = s.splat(0x0f0f_0f0f);
        for part in 0..4 {
            for (i, v) in load8(s, at.at(16 + 32 * part)).into_iter().enumerate() {
                put(16 * part + i, s.and(v, low));
                put(16 * part + 8 + i, s.and(s.shr(v, 4), low));
            }
        }
        scales_and_mins(s, at)
    },
    |acc, isum, msum, w, da| affine(s, acc, isum, msum, w.d, da)
);

k_type!(
    Q5_K,
    176,
    31,
    32,
    2,
    |s, at, put| {
        let (low, fifth) = (s.splat(0x0f0f_0f0f), s.splat(0x1010_1010));
        let high = load8(s, at.at(16));
        for part in 0..4 {
            for (i, v) in load8(s, at.at(48 + 32 * part)).into_iter().enumerate() {
                for (half, nibble) in [v, s.shr(v, 4)].into_iter().enumerate() {
                    let sub = 2 * part + half;
                    let bit = if sub < 4 { s.shl(high[i], 4 - sub as u32) } else { s.shr(high[i], sub as u32 - 4) };
                    put(8 * sub + i, s.or(s.and(nibble, low), s.and(bit, fifth)));
                }
            }
        }
        scales_and_mins(s, at)
    },
    |acc, isum, msum, w, da| affine(s, acc, isum, msum, w.d, da)
);

k_type!(
    Q3_K,
    110,
    7,
    16,
    1,
    |s, at, put| {
        let high = load8(s, at);
        for part in 0..2 {
            for (i, v) in load8(s, at.at(32 + 32 * part)).into_iter().enumerate() {
                for plane in 0..4 {
                    let bit = 4 * part + plane;
                    let third = if bit < 2 { s.shl(high[i], 2 - bit as u32) } else { s.shr(high[i], bit as u32 - 2) };
                    let codes = s.and(s.shr(v, 2 * plane as u32), s.splat(0x0303_0303));
                    put(8 * bit + i, s.or(codes, s.and(third, s.splat(0x0404_0404))));
                }
            }
        }
        let [w0, w1, w2, w3] = s.load4(at.at(94));
        let joined = |low, high| s.or(s.shr(low, 16), s.shl(high, 16));
        let (a, b, t) = (joined(w0, w1), joined(w1, w2), joined(w2, w3));
        let scales = |nibbles, twos| s.or(s.and(nibbles, s.splat(0x0f0f_0f0f)), s.and(twos, s.splat(0x3030_3030)));
        let all =
            [scales(a, s.shl(t, 4)), scales(b, s.shl(t, 2)), scales(s.shr(a, 4), t), scales(s.shr(b, 4), s.shr(t, 2))];
        let subs: [S::V; 16] = core::array::from_fn(|j| s.sub(byte(s, all[j / 4], j % 4), s.splat(32)));
        Scales {
            subs,
            pairs: core::array::from_fn(|i| pair(s, subs[2 * i], subs[2 * i + 1])),
            d: [s.half(s.shr(w3, 16))],
        }
    },
    |acc, isum, bsum, w, da| scaled(s, acc, s.sub(isum, s.shl(bsum, 2)), w.d[0], da)
);

k_type!(
    Q6_K,
    210,
    63,
    16,
    1,
    |s, at, put| {
        let (low, top) = (s.splat(0x0f0f_0f0f), s.splat(0x3030_3030));
        for part in 0..2 {
            let high = load8(s, at.at(128 + 32 * part));
            for quarter in 0..2 {
                for (i, v) in load8(s, at.at(64 * part + 32 * quarter)).into_iter().enumerate() {
                    let (first, second) = (high[i], s.shr(high[i], 4));
                    let twos = |v| if quarter == 0 { s.shl(v, 4) } else { s.shl(v, 2) };
                    put(32 * part + 8 * quarter + i, s.or(s.and(v, low), s.and(twos(first), top)));
                    put(32 * part + 16 + 8 * quarter + i, s.or(s.and(s.shr(v, 4), low), s.and(twos(second), top)));
                }
            }
        }
        let bytes = s.load4(at.at(192));
        let subs: [S::V; 16] = core::array::from_fn(|j| signed_byte(s, bytes[j / 4], j % 4));
        Scales {
            subs,
            pairs: core::array::from_fn(|i| pair(s, subs[2 * i], subs[2 * i + 1])),
            d: [s.half(s.shr(s.load(at.at(206)), 16))],
        }
    },
    |acc, isum, bsum, w, da| scaled(s, acc, s.sub(isum, s.shl(bsum, 5)), w.d[0], da)
);
