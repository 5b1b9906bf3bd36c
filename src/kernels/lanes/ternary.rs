//! The ternary types, in two bits or base 3.

use super::block32::{block32, centred, scaled};
use super::{At, Lanes, Rows, Sums, Unpack};
use crate::quant::QuantType;

/// `4 * N` bytes at `at`, byte `j` holding the codes `j`, `j + 4 N`, `j + 8 N`, `j + 12 N`, to code vectors `first ..`.
/// The first code is in the top bits if `TOP`, else in the lowest.
///
/// # Safety
/// Every row holds the bytes.
#[inline(always)]
unsafe fn planes<S: Lanes, const N: usize, const TOP: bool>(
    s: S,
    at: Rows,
    first: usize,
    put: &mut impl FnMut(usize, S::V),
) {
    let low = s.splat(0x0303_0303);
    for part in 0..N / 4 {
        // SAFETY: by contract.
        for (i, bytes) in unsafe { s.load4(at.at(16 * part)) }.into_iter().enumerate() {
            for plane in 0..4 {
                let shift = 2 * if TOP { 3 - plane } else { plane };
                let codes = s.and(if shift == 0 { bytes } else { s.shr(bytes, shift as u32) }, low);
                put(first + N * plane + 4 * part + i, codes);
            }
        }
    }
}

macro_rules! row_scaled {
    ($ty:ident, $bytes:literal, $block:literal) => {
        pub(in crate::kernels) struct $ty;

        impl Unpack for $ty {
            const TYPE: QuantType = QuantType::$ty;
            const BLOCK: usize = $block;
            const BYTES: usize = $bytes;
            const SUB: usize = $block;
            const CODE_MAX: Option<usize> = Some(3);
            type Scales<V: Copy> = ();

            #[inline(always)]
            unsafe fn unpack<S: Lanes>(s: S, at: Rows, mut put: impl FnMut(usize, S::V)) {
                // SAFETY: every row holds a block, by contract.
                unsafe { planes::<S, { $bytes / 4 }, true>(s, at, 0, &mut put) }
            }

            #[inline(always)]
            unsafe fn fold<S: Lanes>(s: S, _: &(), _: usize, sum: S::V, _: At, sums: &mut Sums<S::V>) {
                sums.acc = s.add(sums.acc, sum);
            }

            /// `((isum - sum) as f32) / d`.
            #[inline(always)]
            fn end<S: Lanes>(s: S, acc: S::V, d: f32, sum: i32) -> S::V {
                s.fdiv(s.float(s.sub(acc, s.splat(sum as u32))), s.splat(d.to_bits()))
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
            const SUB: usize = 128;
            const CODE_MAX: Option<usize> = Some($max);
            type Scales<V: Copy> = V;

            #[inline(always)]
            unsafe fn unpack<S: Lanes>($s: S, $at: Rows, mut $put: impl FnMut(usize, S::V)) -> S::V {
                // SAFETY: every row holds a block of these bytes, by contract.
                unsafe { $unpack }
            }

            #[inline(always)]
            unsafe fn fold<S: Lanes>(s: S, _: &S::V, _: usize, sum: S::V, _: At, sums: &mut Sums<S::V>) {
                sums.total = s.add(sums.total, sum);
            }

            #[inline(always)]
            unsafe fn finish<S: Lanes>(s: S, d: &S::V, act: At, sums: &mut Sums<S::V>) {
                // SAFETY: the activation is a block of 256, by contract.
                unsafe {
                    let all = (0..16).map(|i| act.bsum(i)).sum::<i32>();
                    let isum = s.sub(sums.total, s.splat(all as u32));
                    sums.acc = scaled(s, sums.acc, isum, *d, act.scale(0));
                }
            }
        }
    };
}

ternary256!(TQ2_0, 66, 3, |s, at, put| {
    planes::<S, 8, false>(s, at, 0, &mut put);
    planes::<S, 8, false>(s, at.at(32), 32, &mut put);
    s.half(s.shr(s.load(at.at(62)), 16))
});

/// Calls `put(n, digit n of each byte)` for the first `count` base-3 digits of bytes as TQ1_0 has them: the integer
/// part of `3 * frac(3^n * byte / 256)`.
#[inline(always)]
fn digits<S: Lanes>(s: S, mut bytes: S::V, count: usize, mut put: impl FnMut(usize, S::V)) {
    for n in 0..count {
        put(n, s.thirds(bytes));
        bytes = s.triple(bytes);
    }
}

ternary256!(TQ1_0, 54, 2, |s, at, put| {
    for part in 0..2 {
        for (i, bytes) in s.load4(at.at(16 * part)).into_iter().enumerate() {
            digits(s, bytes, 5, |n, codes| put(8 * n + 4 * part + i, codes));
        }
    }
    for (i, bytes) in s.load4(at.at(32)).into_iter().enumerate() {
        digits(s, bytes, 5, |n, codes| put(40 + 4 * n + i, codes));
    }
    digits(s, s.load(at.at(48)), 4, |n, codes| put(60 + n, codes));
    s.half(s.shr(s.load(at.at(50)), 16))
});

block32!(
    PTQ1_0,
    28,
    128,
    Some(2),
    [V],
    |s, at, put| {
        for (i, bytes) in s.load4(at).into_iter().enumerate() {
            digits(s, bytes, 5, |n, codes| put(4 * n + i, codes));
        }
        let [_, a, b, last] = s.load4(at.at(12));
        for (i, bytes) in [a, b].into_iter().enumerate() {
            digits(s, bytes, 5, |n, codes| put(20 + 2 * n + i, codes));
        }
        // Two bytes of four digits, then the scale.
        let mut pair = s.splat(0);
        digits(s, s.and(last, s.splat(0xffff)), 4, |n, codes| {
            if n.is_multiple_of(2) {
                pair = codes;
            } else {
                put(30 + n / 2, s.or(pair, s.shl(codes, 16)));
            }
        });
        s.half(s.shr(last, 16))
    },
    |acc, sum, d, act, i| scaled(s, acc, centred(s, sum, 1, act, i), *d, act.scale(i))
);

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
    let [_, a, b, c] = s.load4(at.at(26));
    let joined = |low, high| s.or(s.shr(low, 16), s.shl(high, 16));
    let signs = [joined(a, b), joined(b, c)];
    for (part, signs) in signs.into_iter().enumerate() {
        for (i, slots) in s.load4(at.at(16 * part)).into_iter().enumerate() {
            // Eight groups in a dword, four at a time: nibbles to bytes.
            for half in 0..2 {
                let group = 32 * part + 8 * i + 4 * half;
                let v = if half == 0 { s.and(slots, s.splat(0xffff)) } else { s.shr(slots, 16) };
                let v = s.and(s.or(v, s.shl(v, 8)), s.splat(0x00ff_00ff));
                let v = s.and(s.or(v, s.shl(v, 4)), s.splat(0x0f0f_0f0f));
                let v = s.or(v, s.bits(signs, group % 32 / 4, 4));
                for (p, table) in STQ1_0_CODES.iter().enumerate() {
                    put((group / 16 * 64 + group % 16 + 16 * p) / 4, s.lookup(v, table));
                }
            }
        }
    }
    s.half(s.shr(c, 16))
});
