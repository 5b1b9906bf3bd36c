//! trill's own types whose rows stand alone: Q8R (8 bits), B1 and B1_64 (signs on both sides).

use super::style::{ScaledSigns, Signed, Signs, Whole, of_signs};
use super::{Lanes, RowEnd, Rows, Sink, Unpack};
use crate::quant::QuantType;

pub(in crate::kernels) struct Q8R;

impl Unpack for Q8R {
    const TYPE: QuantType = QuantType::Q8R;
    const BLOCK: usize = 32;
    const BYTES: usize = 32;
    const CODE_MAX: Option<usize> = None;
    type Style = Whole<Signed, 32>;

    #[inline(always)]
    unsafe fn unpack<S: Lanes>(s: S, at: Rows, put: &mut impl Sink<S>) {
        // SAFETY: every row holds a block of 32 bytes, by contract.
        unsafe {
            unroll!(half in 0 1 => {
                let codes = at.at(16 * half).load4(s);
                unroll!(i in 0 1 2 3 => put.put(4 * half + i, s.signed(codes[i])));
            });
        }
    }

    /// `((isum as f32) / d) * scale`, the scale after the last block. Sums of biased codes may wrap, and wrap back.
    #[inline(always)]
    unsafe fn end<S: Lanes>(s: S, acc: S::V, row: RowEnd) -> S::V {
        let isum = s.sub(acc, s.splat(S::BIAS.wrapping_mul(row.sum) as u32));
        // SAFETY: every row has its scale there.
        s.fmul(s.fdiv(s.float(isum), s.splat(row.d.to_bits())), unsafe { s.load(row.tail) })
    }
}

pub(in crate::kernels) struct B1;

impl Unpack for B1 {
    const TYPE: QuantType = QuantType::B1;
    const BLOCK: usize = 64;
    const BYTES: usize = 8;
    const CODE_MAX: Option<usize> = Some(1);
    type Style = Whole<Signs, 64>;

    #[inline(always)]
    unsafe fn unpack<S: Lanes>(s: S, at: Rows, put: &mut impl Sink<S>) {
        // SAFETY: every row holds a block of 8 bytes, by contract.
        unsafe { unroll!(c in 0 1 => put.put(c, at.at(4 * c).load(s))) }
    }

    /// `(isum as f32) * alpha`, `alpha` after the last block.
    #[inline(always)]
    unsafe fn end<S: Lanes>(s: S, acc: S::V, row: RowEnd) -> S::V {
        // SAFETY: every row has its scale there.
        s.fmul(of_signs(s, acc, row.cols), unsafe { s.load(row.tail) })
    }
}

pub(in crate::kernels) struct B1_64;

impl Unpack for B1_64 {
    const TYPE: QuantType = QuantType::B1_64;
    const BLOCK: usize = 64;
    const BYTES: usize = 10;
    const CODE_MAX: Option<usize> = Some(1);
    type Style = ScaledSigns;

    #[inline(always)]
    unsafe fn unpack<S: Lanes>(s: S, at: Rows, put: &mut impl Sink<S>) -> S::V {
        // SAFETY: every row holds a block of 10 bytes, by contract.
        unsafe {
            unroll!(c in 0 1 => put.put(c, at.at(4 * c).load(s)));
            s.half(s.shr(s.load(at.at(6)), 16))
        }
    }
}
