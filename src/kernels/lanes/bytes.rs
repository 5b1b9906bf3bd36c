//! Q8R: 8 bits a weight under one scale per row.

use super::{At, Lanes, Rows, Sink, Sums, Unpack};
use crate::quant::QuantType;

pub(in crate::kernels) struct Q8R;

impl Unpack for Q8R {
    const TYPE: QuantType = QuantType::Q8R;
    const BLOCK: usize = 32;
    const BYTES: usize = 32;
    const SUB: usize = 32;
    const CODE_MAX: Option<usize> = None;
    type Scales<V: Copy> = ();

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

    #[inline(always)]
    unsafe fn fold<S: Lanes>(s: S, _: &(), _: usize, sum: S::V, _: At, sums: &mut Sums<S::V>) {
        sums.acc = s.add(sums.acc, sum);
    }

    /// `((isum as f32) / d) * scale`, the scale after the last block. Sums of biased codes may wrap, and wrap back.
    #[inline(always)]
    unsafe fn end<S: Lanes>(s: S, acc: S::V, d: f32, sum: i32, tail: Rows) -> S::V {
        let isum = s.sub(acc, s.splat(S::BIAS.wrapping_mul(sum) as u32));
        // SAFETY: every row has its scale there.
        s.fmul(s.fdiv(s.float(isum), s.splat(d.to_bits())), unsafe { s.load(tail) })
    }
}
