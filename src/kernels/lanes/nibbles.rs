//! The types with a scale per 32 weights: 4, 5 and 8 bits.

use super::{At, Lanes, Rows, Sums, Unpack};
use crate::quant::QuantType;

/// `acc + isum * (d * da)`.
#[inline(always)]
pub(super) fn scaled<S: Lanes>(s: S, acc: S::V, sum: S::V, d: S::V, da: f32) -> S::V {
    s.fadd(acc, s.fmul(s.float(sum), s.fmul(d, s.splat(da.to_bits()))))
}

/// `acc + (isum * (d * da) + m * (da * bsum))`.
///
/// # Safety
/// `act` is a block with one sub-block.
#[inline(always)]
unsafe fn scaled_min<S: Lanes>(s: S, acc: S::V, sum: S::V, [d, m]: [S::V; 2], act: At) -> S::V {
    // SAFETY: by contract.
    let (da, bsum) = unsafe { (act.scale(0), act.bsum(0)) };
    let dot = s.fmul(s.float(sum), s.fmul(d, s.splat(da.to_bits())));
    s.fadd(acc, s.fadd(dot, s.fmul(m, s.splat((da * bsum as f32).to_bits()))))
}

/// `sum - n * bsum`: removes the offset `n` of the codes of sub-block `i`.
///
/// # Safety
/// `act` is a block that has the sub-block.
#[inline(always)]
pub(super) unsafe fn centred<S: Lanes>(s: S, sum: S::V, n: i32, act: At, i: usize) -> S::V {
    // SAFETY: by contract.
    s.sub(sum, s.splat(unsafe { n * act.bsum(i) } as u32))
}

/// `d` and `m`, the two binary16 of a dword.
#[inline(always)]
fn two_halves<S: Lanes>(s: S, v: S::V) -> [S::V; 2] {
    [s.half(v), s.half(s.shr(v, 16))]
}

/// 16 bytes at `at`, byte `j` = codes `j` and `j + 16`, with fifth bits taken from `high` if any.
///
/// # Safety
/// Every row holds 16 bytes.
#[inline(always)]
unsafe fn nibbles<S: Lanes>(s: S, at: Rows, high: Option<S::V>, mut put: impl FnMut(usize, S::V)) {
    let low = s.splat(0x0f0f_0f0f);
    // SAFETY: by contract.
    let bytes = unsafe { s.load4(at) };
    for c in 0..8 {
        let codes = s.and(if c < 4 { bytes[c] } else { s.shr(bytes[c - 4], 4) }, low);
        put(
            c,
            match high {
                Some(high) => s.or(codes, s.bits(high, c, 4)),
                None => codes,
            },
        );
    }
}

macro_rules! block32 {
    ($ty:ident, $bytes:literal, $max:expr, [$($scales:tt)*], |$s:ident, $at:ident, $put:ident| $unpack:expr,
     |$w:ident, $sum:ident, $act:ident, $acc:ident| $fold:expr) => {
        pub(in crate::kernels) struct $ty;

        impl Unpack for $ty {
            const TYPE: QuantType = QuantType::$ty;
            const BLOCK: usize = 32;
            const BYTES: usize = $bytes;
            const SUB: usize = 32;
            const CODE_MAX: Option<usize> = $max;
            type Scales<V: Copy> = $($scales)*;

            #[inline(always)]
            unsafe fn unpack<S: Lanes>($s: S, $at: Rows, $put: impl FnMut(usize, S::V)) -> Self::Scales<S::V> {
                // SAFETY: every row holds a block of these bytes, by contract.
                unsafe { $unpack }
            }

            #[inline(always)]
            unsafe fn fold<S: Lanes>($s: S, $w: &Self::Scales<S::V>, _: usize, $sum: S::V, $act: At, sums: &mut Sums<S::V>) {
                let $acc = sums.acc;
                // SAFETY: the activation is a block of 32, by contract.
                sums.acc = unsafe { $fold };
            }
        }
    };
}

block32!(
    Q4_0,
    18,
    Some(15),
    [V],
    |s, at, put| {
        nibbles(s, at.at(2), None, put);
        s.half(s.load(at))
    },
    |w, sum, act, acc| scaled(s, acc, centred(s, sum, 8, act, 0), *w, act.scale(0))
);

block32!(
    Q4_1,
    20,
    Some(15),
    [[V; 2]],
    |s, at, put| {
        nibbles(s, at.at(4), None, put);
        two_halves(s, s.load(at))
    },
    |w, sum, act, acc| scaled_min(s, acc, sum, *w, act)
);

block32!(
    Q5_0,
    22,
    Some(31),
    [V],
    |s, at, put| {
        nibbles(s, at.at(6), Some(s.load(at.at(2))), put);
        s.half(s.load(at))
    },
    |w, sum, act, acc| scaled(s, acc, centred(s, sum, 16, act, 0), *w, act.scale(0))
);

block32!(
    Q5_1,
    24,
    Some(31),
    [[V; 2]],
    |s, at, put| {
        nibbles(s, at.at(8), Some(s.load(at.at(4))), put);
        two_halves(s, s.load(at))
    },
    |w, sum, act, acc| scaled_min(s, acc, sum, *w, act)
);

block32!(
    Q8_0,
    34,
    None,
    [V],
    |s, at, put| {
        let mut put = put;
        for half in 0..2 {
            for (i, codes) in s.load4(at.at(2 + 16 * half)).into_iter().enumerate() {
                put(4 * half + i, s.signed(codes));
            }
        }
        s.half(s.load(at))
    },
    |w, sum, act, acc| scaled(s, acc, centred(s, sum, S::BIAS, act, 0), *w, act.scale(0))
);
