//! How integer sums become floats: the few ways that the weight types share.

use super::block32::{centred, scaled, scaled_min};
use super::{At, Dot, Lanes, Sums};
use core::marker::PhantomData;

/// What bounds the sums of a style's products, see [`Dot`].
pub(super) trait Bound {
    const DOT: Dot;
}

macro_rules! bounds {
    ($($name:ident),*) => {$(
        /// See [`Dot`].
        pub(in crate::kernels) struct $name;
        impl Bound for $name {
            const DOT: Dot = Dot::$name;
        }
    )*};
}
bounds!(Narrow, Wide, Signed, Signs);

/// A sum of integers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::kernels) enum Adds {
    /// [`Sums::total`].
    Block,
    /// [`Sums::acc`].
    Row,
}

/// A way from integer sums of sub-blocks to the sum of a row.
pub(in crate::kernels) trait Style {
    /// Columns that one integer sum covers.
    const SUB: usize;
    /// How products are summed.
    const DOT: Dot;
    /// Code vectors that one integer sum covers.
    const SUB_VECTORS: usize = Self::SUB / if matches!(Self::DOT, Dot::Signs) { 32 } else { 4 };
    /// What the integer sum of a sub-block is merely added to, if it is.
    const ADDS_TO: Option<Adds> = None;
    /// The scales of a block, unpacked.
    type Scales<V: Copy>: Copy;

    /// Takes in the integer sum of sub-block `i`, whose codes are `offset` more than the weights.
    /// # Safety
    /// `act` is a block.
    unsafe fn fold<S: Lanes>(
        s: S,
        w: &Self::Scales<S::V>,
        i: usize,
        offset: i32,
        sum: S::V,
        act: At,
        sums: &mut Sums<S::V>,
    );

    /// Closes a block.
    /// # Safety
    /// `act` is a block.
    #[inline(always)]
    unsafe fn finish<S: Lanes>(_: S, _: &Self::Scales<S::V>, _offset: i32, _: At, _: &mut Sums<S::V>) {}
}

/// Integers to the end of the row, `SUB` columns at a time.
pub(in crate::kernels) struct Whole<B, const SUB: usize>(PhantomData<B>);

impl<B: Bound, const SUB: usize> Style for Whole<B, SUB> {
    const SUB: usize = SUB;
    const DOT: Dot = B::DOT;
    const ADDS_TO: Option<Adds> = Some(Adds::Row);
    type Scales<V: Copy> = ();

    #[inline(always)]
    unsafe fn fold<S: Lanes>(s: S, _: &(), _: usize, _: i32, sum: S::V, _: At, sums: &mut Sums<S::V>) {
        sums.acc = s.add(sums.acc, sum);
    }
}

/// 32 columns under an activation scale and a scale of the block: `acc + (sum - offset * bsum) * (d * da)`.
pub(in crate::kernels) struct Scaled<B>(PhantomData<B>);

impl<B: Bound> Style for Scaled<B> {
    const SUB: usize = 32;
    const DOT: Dot = B::DOT;
    type Scales<V: Copy> = V;

    #[inline(always)]
    unsafe fn fold<S: Lanes>(s: S, d: &S::V, i: usize, offset: i32, sum: S::V, act: At, sums: &mut Sums<S::V>) {
        // SAFETY: the activation has sub-block `i`, by contract.
        unsafe { sums.acc = scaled(s, sums.acc, centred(s, sum, offset, act, i), *d, act.scale(i)) }
    }
}

/// With a minimum besides: `acc + (sum * (d * da) + m * (da * bsum))`.
pub(in crate::kernels) struct ScaledMin<B>(PhantomData<B>);

impl<B: Bound> Style for ScaledMin<B> {
    const SUB: usize = 32;
    const DOT: Dot = B::DOT;
    type Scales<V: Copy> = [V; 2];

    #[inline(always)]
    unsafe fn fold<S: Lanes>(s: S, dm: &[S::V; 2], i: usize, _: i32, sum: S::V, act: At, sums: &mut Sums<S::V>) {
        // SAFETY: the activation has sub-block `i`, by contract.
        unsafe { sums.acc = scaled_min(s, sums.acc, sum, *dm, act, i) }
    }
}

/// 256 columns under one scale; codes are the weights plus 1.
pub(in crate::kernels) struct Scaled256;

impl Style for Scaled256 {
    const SUB: usize = 128;
    const DOT: Dot = Dot::Narrow;
    const ADDS_TO: Option<Adds> = Some(Adds::Block);
    type Scales<V: Copy> = V;

    #[inline(always)]
    unsafe fn fold<S: Lanes>(s: S, _: &S::V, _: usize, _: i32, sum: S::V, _: At, sums: &mut Sums<S::V>) {
        sums.total = s.add(sums.total, sum);
    }

    #[inline(always)]
    unsafe fn finish<S: Lanes>(s: S, d: &S::V, _: i32, act: At, sums: &mut Sums<S::V>) {
        // SAFETY: the activation is a block of 256, by contract.
        unsafe {
            let all = (0..16).map(|i| act.bsum(i)).sum::<i32>();
            let isum = s.sub(sums.total, s.splat(all as u32));
            sums.acc = scaled(s, sums.acc, isum, *d, act.scale(0));
        }
    }
}

/// Scales of sub-blocks (i32), factors for the activation's group sums (pairs of i16, for two groups of 16), and one
/// or two f32 scales.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct SubScales<V, const SUBS: usize, const D: usize> {
    pub(super) subs: [V; SUBS],
    pub(super) pairs: [V; 8],
    pub(super) d: [V; D],
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

/// 16 sub-blocks of 256 columns with integer scales, which are the factors too:
/// `acc + (sum_j(scale_j * sum_j) - offset * msum) * (d * da)`.
pub(in crate::kernels) struct SubScaled<B>(PhantomData<B>);

impl<B: Bound> Style for SubScaled<B> {
    const SUB: usize = 16;
    const DOT: Dot = B::DOT;
    type Scales<V: Copy> = SubScales<V, 16, 1>;

    #[inline(always)]
    unsafe fn fold<S: Lanes>(s: S, w: &Self::Scales<S::V>, i: usize, _: i32, sum: S::V, _: At, sums: &mut Sums<S::V>) {
        sums.total = s.add(sums.total, s.mul(sum, w.subs[i]));
    }

    #[inline(always)]
    unsafe fn finish<S: Lanes>(s: S, w: &Self::Scales<S::V>, offset: i32, act: At, sums: &mut Sums<S::V>) {
        // SAFETY: the activation is a block of 256, by contract.
        let (msum, da) = unsafe { (weighted_bsums(s, &w.pairs, act), act.scale(0)) };
        let isum = s.sub(sums.total, s.mul(msum, s.splat(offset as u32)));
        sums.acc = scaled(s, sums.acc, isum, w.d[0], da);
    }
}

/// Sub-blocks of 256 columns with integer scales and minima:
/// `acc + (sum_j(scale_j * sum_j) * (d * da) - msum * (dmin * da))`.
pub(in crate::kernels) struct Affine<B, const SUBS: usize>(PhantomData<B>);

impl<B: Bound, const SUBS: usize> Style for Affine<B, SUBS> {
    const SUB: usize = 256 / SUBS;
    const DOT: Dot = B::DOT;
    type Scales<V: Copy> = SubScales<V, SUBS, 2>;

    #[inline(always)]
    unsafe fn fold<S: Lanes>(s: S, w: &Self::Scales<S::V>, i: usize, _: i32, sum: S::V, _: At, sums: &mut Sums<S::V>) {
        sums.total = s.add(sums.total, s.mul(sum, w.subs[i]));
    }

    #[inline(always)]
    unsafe fn finish<S: Lanes>(s: S, w: &Self::Scales<S::V>, _: i32, act: At, sums: &mut Sums<S::V>) {
        // SAFETY: the activation is a block of 256, by contract.
        let (msum, da) = unsafe { (weighted_bsums(s, &w.pairs, act), s.splat(act.scale(0).to_bits())) };
        let dot = s.fmul(s.float(sums.total), s.fmul(w.d[0], da));
        let min = s.fmul(s.float(msum), s.fmul(w.d[1], da));
        sums.acc = s.fadd(sums.acc, s.fsub(dot, min));
    }
}

/// Sums of products of signs, from how many of `cols` differ.
#[inline(always)]
pub(super) fn of_signs<S: Lanes>(s: S, differ: S::V, cols: usize) -> S::V {
    s.float(s.sub(s.splat(cols as u32), s.add(differ, differ)))
}

/// Signs under a scale for 64 columns: `acc + (isum as f32) * alpha`.
pub(in crate::kernels) struct ScaledSigns;

impl Style for ScaledSigns {
    const SUB: usize = 64;
    const DOT: Dot = Dot::Signs;
    type Scales<V: Copy> = V;

    #[inline(always)]
    unsafe fn fold<S: Lanes>(s: S, alpha: &S::V, _: usize, _: i32, sum: S::V, _: At, sums: &mut Sums<S::V>) {
        sums.acc = s.fadd(sums.acc, s.fmul(of_signs(s, sum, 64), *alpha));
    }
}
