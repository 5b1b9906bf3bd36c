//! The types whose activation has a scale per 32 values, but for the ternary ones.

use super::style::{Narrow, Scaled, ScaledMin, Signed, Wide};
use super::{At, Lanes, Rows, Scales, Sink, Unpack};
use crate::quant::QuantType;

/// `acc + isum * (d * da)`.
#[inline(always)]
pub(super) fn scaled<S: Lanes>(s: S, acc: S::V, sum: S::V, d: S::V, da: f32) -> S::V {
    s.fadd(acc, s.fmul(s.float(sum), s.fmul(d, s.splat(da.to_bits()))))
}

/// `acc + (isum * (d * da) + m * (da * bsum))`.
///
/// # Safety
/// `act` has sub-block `i`.
#[inline(always)]
pub(super) unsafe fn scaled_min<S: Lanes>(s: S, acc: S::V, sum: S::V, [d, m]: [S::V; 2], act: At, i: usize) -> S::V {
    // SAFETY: by contract.
    let (da, bsum) = unsafe { (act.scale(i), act.bsum(i)) };
    let dot = s.fmul(s.float(sum), s.fmul(d, s.splat(da.to_bits())));
    s.fadd(acc, s.fadd(dot, s.fmul(m, s.splat((da * bsum as f32).to_bits()))))
}

/// `sum - n * bsum`: removes the offset `n` of the codes of sub-block `i`.
///
/// # Safety
/// `act` has sub-block `i`.
#[inline(always)]
pub(super) unsafe fn centred<S: Lanes>(s: S, sum: S::V, n: i32, act: At, i: usize) -> S::V {
    // SAFETY: by contract.
    s.sub(sum, s.splat(unsafe { n * act.bsum(i) } as u32))
}

/// 16 bytes at `at` of four 2-bit codes each, in order, to code vectors `first ..`.
///
/// # Safety
/// Every row holds 16 bytes.
#[inline(always)]
unsafe fn crumbs<S: Lanes>(s: S, at: Rows, first: usize, put: &mut impl Sink<S>) {
    // SAFETY: by contract; the block has these columns.
    unsafe {
        let bytes = at.load4(s);
        unroll!(i in 0 1 2 3 => unroll!(c in 0 1 2 3 => put.put(first + 4 * i + c, s.crumbs(bytes[i], c))));
    }
}

/// The dword that starts in the middle of `low` and ends in the middle of `high`.
#[inline(always)]
pub(super) fn joined<S: Lanes>(s: S, low: S::V, high: S::V) -> S::V {
    s.or(s.shr(low, 16), s.shl(high, 16))
}

/// `d` and `m`, the two binary16 of a dword.
#[inline(always)]
pub(super) fn two_halves<S: Lanes>(s: S, v: S::V) -> [S::V; 2] {
    [s.half(v), s.half(s.shr(v, 16))]
}

/// 16 bytes at `at`, byte `j` = codes `j` and `j + 16`, with fifth bits taken from `high` if any.
///
/// # Safety
/// Every row holds 16 bytes.
#[inline(always)]
unsafe fn nibbles<S: Lanes>(s: S, at: Rows, high: Option<S::V>, put: &mut impl Sink<S>) {
    let low = s.splat(0x0f0f_0f0f);
    // SAFETY: by contract; the block has 32 columns.
    unsafe {
        let bytes = at.load4(s);
        unroll!(c in 0 1 2 3 4 5 6 7 => {
            let codes = s.and(if c < 4 { bytes[c] } else { s.shr(bytes[c - 4], 4) }, low);
            let codes = match high {
                Some(high) => s.or(codes, s.bits(high, c, 4)),
                None => codes,
            };
            put.put(c, codes);
        });
    }
}

/// A type: bytes and weights of a block, largest code, what codes are more than weights, style; and how it unpacks.
macro_rules! block32 {
    ($ty:ident, $bytes:literal, $block:literal, $max:expr, $offset:expr, $style:ty,
     |$s:ident, $at:ident, $put:ident| $unpack:expr) => {
        pub(in crate::kernels) struct $ty;

        impl Unpack for $ty {
            const TYPE: QuantType = QuantType::$ty;
            const BLOCK: usize = $block;
            const BYTES: usize = $bytes;
            const CODE_MAX: Option<usize> = $max;
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
pub(super) use block32;

block32!(Q4_0, 18, 32, Some(15), 8, Scaled<Narrow>, |s, at, put| {
    nibbles(s, at.at(2), None, put);
    s.half(s.load(at))
});

block32!(Q4_1, 20, 32, Some(15), 0, ScaledMin<Narrow>, |s, at, put| {
    nibbles(s, at.at(4), None, put);
    two_halves(s, s.load(at))
});

block32!(Q5_0, 22, 32, Some(31), 16, Scaled<Wide>, |s, at, put| {
    nibbles(s, at.at(6), Some(s.load(at.at(2))), put);
    s.half(s.load(at))
});

block32!(Q5_1, 24, 32, Some(31), 0, ScaledMin<Wide>, |s, at, put| {
    nibbles(s, at.at(8), Some(s.load(at.at(4))), put);
    two_halves(s, s.load(at))
});

block32!(Q8_0, 34, 32, None, 0, Scaled<Signed>, |s, at, put| {
    unroll!(half in 0 1 => {
        let codes = at.at(2 + 16 * half).load4(s);
        unroll!(i in 0 1 2 3 => put.put(4 * half + i, s.signed(codes[i])));
    });
    s.half(s.load(at))
});

// Code 2 for the weight d, 0 for -d.
block32!(Q1_0, 18, 128, Some(2), 1, Scaled<Narrow>, |s, at, put| {
    let signs = at.at(2).load4(s);
    unroll!(i in 0 1 2 3 => unroll!(c in 0 1 2 3 4 5 6 7 => put.put(8 * i + c, s.bits(signs[i], c, 1))));
    s.half(s.load(at))
});

block32!(Q2_0, 18, 64, Some(3), 1, Scaled<Narrow>, |s, at, put| {
    crumbs(s, at.at(2), 0, put);
    s.half(s.load(at))
});

block32!(Q2_0_G128, 34, 128, Some(3), 1, Scaled<Narrow>, |s, at, put| {
    crumbs(s, at.at(2), 0, put);
    crumbs(s, at.at(18), 16, put);
    s.half(s.load(at))
});
