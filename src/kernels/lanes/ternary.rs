//! The ternary types, in two bits or base 3.

use super::block32::{block32, joined};
use super::style::{Narrow, Scaled, Scaled256, Whole};
use super::{Lanes, RowEnd, Rows, Scales, Sink, Unpack};
use crate::quant::QuantType;

/// 16 bytes at `at`, byte `j` holding a code of the columns `4 first + j`, `+ STEP`, `+ 2 STEP`, `+ 3 STEP`, the first in
/// the top bits if `TOP`, else in the lowest.
///
/// # Safety
/// Every row holds the bytes and the block the columns.
#[inline(always)]
unsafe fn planes<S: Lanes, const STEP: usize, const TOP: bool>(s: S, at: Rows, first: usize, put: &mut impl Sink<S>) {
    let low = s.splat(0x0303_0303);
    // SAFETY: by contract.
    unsafe {
        let bytes = at.load4(s);
        unroll!(i in 0 1 2 3 => unroll!(plane in 0 1 2 3 => {
            let shift = 2 * if TOP { 3 - plane } else { plane };
            let codes = if shift == 0 { bytes[i] } else { s.shr(bytes[i], shift as u32) };
            put.put(first + STEP / 4 * plane + i, s.and(codes, low));
        }));
    }
}

macro_rules! row_scaled {
    ($ty:ident, $bytes:literal, $block:literal) => {
        pub(in crate::kernels) struct $ty;

        impl Unpack for $ty {
            const TYPE: QuantType = QuantType::$ty;
            const BLOCK: usize = $block;
            const BYTES: usize = $bytes;
            const CODE_MAX: Option<usize> = Some(3);
            type Style = Whole<Narrow, $block>;

            #[inline(always)]
            unsafe fn unpack<S: Lanes>(s: S, at: Rows, put: &mut impl Sink<S>) {
                // SAFETY: every row holds a block, by contract.
                unsafe {
                    planes::<S, $bytes, true>(s, at, 0, put);
                    if $bytes == 32 {
                        planes::<S, $bytes, true>(s, at.at(16), 4, put);
                    }
                }
            }

            /// `((isum - sum) as f32) / d`.
            #[inline(always)]
            unsafe fn end<S: Lanes>(s: S, acc: S::V, row: RowEnd) -> S::V {
                s.fdiv(s.float(s.sub(acc, s.splat(row.sum as u32))), s.splat(row.d.to_bits()))
            }
        }
    };
}

row_scaled!(I2_S, 32, 128);
row_scaled!(I2_S_ARM, 16, 64);

/// A type of 256 weights under one scale whose codes are the weights plus 1: bytes, largest code, how it unpacks.
macro_rules! ternary256 {
    ($ty:ident, $bytes:literal, $max:literal, |$s:ident, $at:ident, $put:ident| $unpack:expr) => {
        pub(in crate::kernels) struct $ty;

        impl Unpack for $ty {
            const TYPE: QuantType = QuantType::$ty;
            const BLOCK: usize = 256;
            const BYTES: usize = $bytes;
            const CODE_MAX: Option<usize> = Some($max);
            type Style = Scaled256;

            #[inline(always)]
            unsafe fn unpack<S: Lanes>($s: S, $at: Rows, $put: &mut impl Sink<S>) -> S::V {
                // SAFETY: every row holds a block of these bytes, by contract.
                unsafe { $unpack }
            }
        }
    };
}

ternary256!(TQ2_0, 66, 3, |s, at, put| {
    unroll!(half in 0 1 => {
        planes::<S, 32, false>(s, at.at(32 * half), 32 * half, put);
        planes::<S, 32, false>(s, at.at(32 * half + 16), 32 * half + 4, put);
    });
    s.half(s.shr(s.load(at.at(62)), 16))
});

/// Bytes times 1, 3, 9, 27 and 81, modulo 256.
#[inline(always)]
fn powers<S: Lanes>(s: S, bytes: S::V) -> [S::V; 5] {
    let (b, c) = (s.triple(bytes), s.triple(s.triple(bytes)));
    [bytes, b, c, s.triple(c), s.triple(s.triple(c))]
}

/// Base-3 digits of bytes as TQ1_0 has them: digit `n`, the integer part of `3 * frac(3^n * byte / 256)`, goes to
/// code vector `first + STEP * n`.
///
/// # Safety
/// The block has these columns.
#[inline(always)]
unsafe fn digits<S: Lanes, const STEP: usize>(s: S, bytes: S::V, first: usize, put: &mut impl Sink<S>) {
    let powers = powers(s, bytes);
    // SAFETY: by contract.
    unroll!(n in 0 1 2 3 4 => unsafe { put.put(first + STEP * n, s.thirds(powers[n])) });
}

ternary256!(TQ1_0, 54, 2, |s, at, put| {
    unroll!(part in 0 1 => {
        let bytes = at.at(16 * part).load4(s);
        unroll!(i in 0 1 2 3 => digits::<S, 8>(s, bytes[i], 4 * part + i, put));
    });
    let bytes = at.at(32).load4(s);
    unroll!(i in 0 1 2 3 => digits::<S, 4>(s, bytes[i], 40 + i, put));
    let powers = powers(s, s.load(at.at(48)));
    unroll!(n in 0 1 2 3 => put.put(60 + n, s.thirds(powers[n])));
    s.half(s.shr(s.load(at.at(50)), 16))
});

block32!(PTQ1_0, 28, 128, Some(2), 1, Scaled<Narrow>, |s, at, put| {
    let bytes = at.load4(s);
    unroll!(i in 0 1 2 3 => digits::<S, 4>(s, bytes[i], i, put));
    let [_, a, b, last] = at.at(12).load4(s);
    digits::<S, 2>(s, a, 20, put);
    digits::<S, 2>(s, b, 21, put);
    // Two bytes of four digits, then the scale.
    let powers = powers(s, s.and(last, s.splat(0xffff)));
    unroll!(i in 0 1 => {
        let (even, odd) = (s.thirds(powers[2 * i]), s.thirds(powers[2 * i + 1]));
        put.put(30 + i, s.or(even, s.shl(odd, 16)));
    });
    s.half(s.shr(last, 16))
});

/// STQ1_0: what lane `p` of a group adds to 1, for `sign << 4 | slot`; see [`crate::quant`].
const STQ1_0_CODES: [[u8; 32]; 4] = {
    let mut table = [[1; 32]; 4];
    let mut i = 0;
    while i < 32 {
        let zero = i >> 2 & 3;
        let mut n = 0;
        while n < 3 {
            let negative = (i >> 4 & 1) ^ (if n == 0 { 0 } else { i >> (n - 1) & 1 });
            table[if n < zero { n } else { n + 1 }][i] = if negative == 1 { 0 } else { 2 };
            n += 1;
        }
        i += 1;
    }
    table
};

ternary256!(STQ1_0, 42, 2, |s, at, put| {
    let [_, a, b, c] = at.at(26).load4(s);
    let signs = [joined(s, a, b), joined(s, b, c)];
    unroll!(part in 0 1 => {
        let slots = at.at(16 * part).load4(s);
        // Eight groups in a dword, four at a time: nibbles to bytes.
        unroll!(i in 0 1 2 3 => unroll!(half in 0 1 => {
            let group = 32 * part + 8 * i + 4 * half;
            let v = if half == 0 { s.and(slots[i], s.splat(0xffff)) } else { s.shr(slots[i], 16) };
            let v = s.and(s.or(v, s.shl(v, 8)), s.splat(0x00ff_00ff));
            let v = s.and(s.or(v, s.shl(v, 4)), s.splat(0x0f0f_0f0f));
            let v = s.or(v, s.bits(signs[part], group % 32 / 4, 4));
            let first = group / 16 * 16 + group % 16 / 4;
            unroll!(p in 0 1 2 3 => put.put(first + 4 * p, s.lookup(v, &STQ1_0_CODES[p])));
        }));
    });
    s.half(s.shr(c, 16))
});
