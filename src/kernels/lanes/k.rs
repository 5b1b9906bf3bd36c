//! The K types: 256 weights in sub-blocks with integer scales.

use super::block32::{joined, two_halves};
use super::style::{Affine, Narrow, SubScaled, SubScales, Wide};
use super::{Lanes, Rows, Scales, Sink, Unpack};
use crate::quant::QuantType;

/// Bytes of each lane as integers, `N / 4` vectors after another.
#[inline(always)]
fn bytes<S: Lanes, const N: usize, const SIGNED: bool>(s: S, from: &[S::V]) -> [S::V; N] {
    let mut all = [s.splat(0); N];
    for j in 0..N {
        let v = from[j / 4];
        let shift = 8 * (j % 4) as u32;
        all[j] = if SIGNED { s.sra(s.shl(v, 24 - shift), 24) } else { s.and(s.shr(v, shift), s.splat(0xff)) };
    }
    all
}

/// Sixteen i32 that fit i16 as pairs.
#[inline(always)]
fn pairs<S: Lanes>(s: S, from: &[S::V; 16]) -> [S::V; 8] {
    let mut all = [s.splat(0); 8];
    for i in 0..8 {
        all[i] = s.or(s.and(from[2 * i], s.splat(0xffff)), s.shl(from[2 * i + 1], 16));
    }
    all
}

/// A type: bytes, largest code, what codes are more than weights, style; and how it unpacks.
macro_rules! k_type {
    ($ty:ident, $bytes:literal, $max:literal, $offset:literal, $style:ty,
     |$s:ident, $at:ident, $put:ident| $unpack:expr) => {
        pub(in crate::kernels) struct $ty;

        impl Unpack for $ty {
            const TYPE: QuantType = QuantType::$ty;
            const BLOCK: usize = 256;
            const BYTES: usize = $bytes;
            const CODE_MAX: Option<usize> = Some($max);
            const OFFSET: i32 = $offset;
            type Style = $style;

            #[inline(always)]
            unsafe fn unpack<S: Lanes>($s: S, $at: Rows, $put: &mut impl Sink<S>) -> Scales<Self, S> {
                // SAFETY: every row holds a block of these bytes, by contract.
                unsafe { $unpack }
            }
        }
    };
}

/// 32 bytes of every row.
///
/// # Safety
/// Every row holds them.
#[inline(always)]
unsafe fn load8<S: Lanes>(s: S, at: Rows) -> [S::V; 8] {
    // SAFETY: by contract.
    let ([a, b, c, d], [e, f, g, h]) = unsafe { (at.load4(s), at.at(16).load4(s)) };
    [a, b, c, d, e, f, g, h]
}

/// Scales and minima of Q4_K and Q5_K from the first 16 bytes of a block.
///
/// # Safety
/// Every row holds 16 bytes.
#[inline(always)]
unsafe fn scales_and_mins<S: Lanes>(s: S, at: Rows) -> SubScales<S::V, 8, 2> {
    // SAFETY: by contract.
    let [d, a, b, c] = unsafe { at.load4(s) };
    let (six, low, top) = (s.splat(0x3f3f_3f3f), s.splat(0x0f0f_0f0f), s.splat(0x3030_3030));
    let scales = [s.and(a, six), s.or(s.and(c, low), s.and(s.shr(a, 2), top))];
    let mins = [s.and(b, six), s.or(s.and(s.shr(c, 4), low), s.and(s.shr(b, 2), top))];
    let mut pairs = bytes::<S, 8, false>(s, &mins);
    for min in &mut pairs {
        *min = s.or(*min, s.shl(*min, 16));
    }
    SubScales { subs: bytes::<S, 8, false>(s, &scales), pairs, d: two_halves(s, d) }
}

k_type!(
    Q2_K,
    84,
    3,
    0,
    Affine<Narrow, 16>,
    |s, at, put| {
        let low = s.splat(0x0f0f_0f0f);
        unroll!(part in 0 1 => {
            let v = load8(s, at.at(16 + 32 * part));
            unroll!(i in 0 1 2 3 4 5 6 7 => unroll!(plane in 0 1 2 3 => {
                put.put(32 * part + 8 * plane + i, s.and(s.shr(v[i], 2 * plane as u32), s.splat(0x0303_0303)));
            }));
        });
        let both = at.load4(s);
        let (mut scales, mut mins) = (both, both);
        for i in 0..4 {
            scales[i] = s.and(both[i], low);
            mins[i] = s.and(s.shr(both[i], 4), low);
        }
        SubScales {
            subs: bytes::<S, 16, false>(s, &scales),
            pairs: pairs(s, &bytes::<S, 16, false>(s, &mins)),
            d: two_halves(s, s.load(at.at(80))),
        }
    }
);

k_type!(
    Q4_K,
    144,
    15,
    0,
    Affine<Narrow, 8>,
    |s, at, put| {
        let low = s.splat(0x0f0f_0f0f);
        unroll!(part in 0 1 2 3 => {
            let v = load8(s, at.at(16 + 32 * part));
            unroll!(i in 0 1 2 3 4 5 6 7 => {
                put.put(16 * part + i, s.and(v[i], low));
                put.put(16 * part + 8 + i, s.and(s.shr(v[i], 4), low));
            });
        });
        scales_and_mins(s, at)
    }
);

k_type!(
    Q5_K,
    176,
    31,
    0,
    Affine<Wide, 8>,
    |s, at, put| {
        let (low, fifth) = (s.splat(0x0f0f_0f0f), s.splat(0x1010_1010));
        let high = load8(s, at.at(16));
        unroll!(part in 0 1 2 3 => {
            let v = load8(s, at.at(48 + 32 * part));
            unroll!(i in 0 1 2 3 4 5 6 7 => unroll!(half in 0 1 => {
                let (sub, nibble) = (2 * part + half, if half == 0 { v[i] } else { s.shr(v[i], 4) });
                let bit = if sub < 4 { s.shl(high[i], 4 - sub as u32) } else { s.shr(high[i], sub as u32 - 4) };
                put.put(8 * sub + i, s.or(s.and(nibble, low), s.and(bit, fifth)));
            }));
        });
        scales_and_mins(s, at)
    }
);

k_type!(Q3_K, 110, 7, 4, SubScaled<Narrow>, |s, at, put| {
    let high = load8(s, at);
    unroll!(part in 0 1 => {
        let v = load8(s, at.at(32 + 32 * part));
        unroll!(i in 0 1 2 3 4 5 6 7 => unroll!(plane in 0 1 2 3 => {
            let bit = 4 * part + plane;
            let third = if bit < 2 { s.shl(high[i], 2 - bit as u32) } else { s.shr(high[i], bit as u32 - 2) };
            let codes = s.and(s.shr(v[i], 2 * plane as u32), s.splat(0x0303_0303));
            put.put(8 * bit + i, s.or(codes, s.and(third, s.splat(0x0404_0404))));
        }));
    });
    let [w0, w1, w2, w3] = at.at(94).load4(s);
    let (a, b, t) = (joined(s, w0, w1), joined(s, w1, w2), joined(s, w2, w3));
    let nibbles = [a, b, s.shr(a, 4), s.shr(b, 4)];
    let twos = [s.shl(t, 4), s.shl(t, 2), t, s.shr(t, 2)];
    let mut scales = nibbles;
    for i in 0..4 {
        scales[i] = s.or(s.and(nibbles[i], s.splat(0x0f0f_0f0f)), s.and(twos[i], s.splat(0x3030_3030)));
    }
    let mut subs = bytes::<S, 16, false>(s, &scales);
    for sub in &mut subs {
        *sub = s.sub(*sub, s.splat(32));
    }
    SubScales { subs, pairs: pairs(s, &subs), d: [s.half(s.shr(w3, 16))] }
});

k_type!(Q6_K, 210, 63, 32, SubScaled<Wide>, |s, at, put| {
    let (low, top) = (s.splat(0x0f0f_0f0f), s.splat(0x3030_3030));
    unroll!(part in 0 1 => {
        let high = load8(s, at.at(128 + 32 * part));
        unroll!(quarter in 0 1 => {
            let v = load8(s, at.at(64 * part + 32 * quarter));
            unroll!(i in 0 1 2 3 4 5 6 7 => {
                let (first, second) = match quarter {
                    0 => (s.shl(high[i], 4), high[i]),
                    _ => (s.shl(high[i], 2), s.shr(high[i], 2)),
                };
                let c = 32 * part + 8 * quarter + i;
                put.put(c, s.or(s.and(v[i], low), s.and(first, top)));
                put.put(c + 16, s.or(s.and(s.shr(v[i], 4), low), s.and(second, top)));
            });
        });
    });
    let subs = bytes::<S, 16, true>(s, &at.at(192).load4(s));
    SubScales { subs, pairs: pairs(s, &subs), d: [s.half(s.shr(s.load(at.at(206)), 16))] }
});
