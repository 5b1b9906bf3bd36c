//! The types with interleaved rows, see [`crate::quant`]: a vector is made of the bytes of four columns, each lane a
//! row, with no transposition of rows.

use super::block32::scaled;
use super::{Dot, Lanes};
use crate::mem::TileMut;
use crate::quant::{Acts, RowSpan};

/// A type with interleaved rows.
pub(in crate::kernels) trait Interleaved {
    /// Rows of a group.
    const ROWS: usize = 16;
    /// Columns that share a scale.
    const BLOCK: usize;
    /// Columns that share an activation's scale.
    const UNIT: usize;
    /// Columns whose 16-bit sums are taken together: a lane adds two products of at most `3 * 128` for each four.
    const SUB: usize = if Self::UNIT < 128 { Self::UNIT } else { 128 };

    /// The codes of four columns of rows `first..first + N`.
    /// # Safety
    /// 16 bytes are readable at `p`.
    #[inline(always)]
    unsafe fn codes<S: Lanes>(s: S, p: *const u8, first: usize) -> S::V {
        // SAFETY: by contract. The upper bit of the last field is flipped in the file.
        let bytes = s.xor(unsafe { s.sixteen(p) }, s.splat(0x8080_8080));
        s.and(s.fields(bytes, first / 4), s.splat(0x0303_0303))
    }

    /// Sums of weights from those of codes and the sum of activations.
    #[inline(always)]
    fn weights<S: Lanes>(s: S, codes: S::V, all: i32) -> S::V {
        s.sub(codes, s.splat(all as u32))
    }
}

macro_rules! two_bits {
    ($($ty:ident: $block:literal, $unit:literal;)*) => {$(
        pub(in crate::kernels) struct $ty;

        impl Interleaved for $ty {
            const BLOCK: usize = $block;
            const UNIT: usize = $unit;
        }
    )*};
}

two_bits! {
    Q2_0_R16: 64, 32;
    Q2_0_G128_R16: 128, 32;
    TQ2_0_R16: 256, 256;
}

pub(in crate::kernels) struct Q1_0_R32;

impl Interleaved for Q1_0_R32 {
    const ROWS: usize = 32;
    const BLOCK: usize = 128;
    const UNIT: usize = 32;

    #[inline(always)]
    unsafe fn codes<S: Lanes>(s: S, p: *const u8, first: usize) -> S::V {
        // SAFETY: by contract.
        s.bits(unsafe { s.bytes(p.add(first % 16)) }, first / 16, 0)
    }

    /// Code 1 is the weight 1, code 0 is -1.
    #[inline(always)]
    fn weights<S: Lanes>(s: S, codes: S::V, all: i32) -> S::V {
        s.sub(s.add(codes, codes), s.splat(all as u32))
    }
}

/// The kernel: see [`crate::kernels::RowsFn`].
///
/// # Safety
/// Shapes as [`crate::kernels::Kernels::rows`] checks them.
#[inline(always)]
pub(in crate::kernels) unsafe fn rows<S: Lanes, I: Interleaved>(
    s: S,
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
) {
    for start in (0..w.rows).step_by(I::ROWS) {
        let mut t = 0;
        while t < acts.n {
            let tokens = match acts.n - t {
                8.. if S::N == 16 => 8,
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
            // A lane's rows follow each other; the last group may have fewer than its bytes hold.
            macro_rules! from {
                ($($first:literal)*) => {$(
                    if $first < I::ROWS && $first % S::N == 0 && start + $first < w.rows {
                        // SAFETY: the group, these rows of it and the tokens exist.
                        unsafe {
                            match tokens {
                                8 => tile::<S, I, 8>(s, w, acts, out, (start, $first), t),
                                4 => tile::<S, I, 4>(s, w, acts, out, (start, $first), t),
                                2 => tile::<S, I, 2>(s, w, acts, out, (start, $first), t),
                                _ => tile::<S, I, 1>(s, w, acts, out, (start, $first), t),
                            }
                        }
                    }
                )*};
            }
            from!(0 8 16 24);
            t += tokens;
        }
    }
}

/// `N` rows, from `first` on, of the group that begins with row `start`, by `T` tokens from `t` on.
///
/// # Safety
/// They exist, but for the last of the rows.
#[inline(always)]
unsafe fn tile<S: Lanes, I: Interleaved, const T: usize>(
    s: S,
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    (start, first): (usize, usize),
    t: usize,
) {
    let (units, sums) = (acts.k / I::UNIT, acts.kind.bsums(I::UNIT));
    let zero = s.splat(0);
    let mut acc = [zero; T];
    let mut p = w.data.as_ptr().wrapping_add(start / I::ROWS * w.row_bytes);
    let mut unit = 0;
    // SAFETY: the group has `cols / BLOCK` blocks, and each token as many units.
    unsafe {
        for _ in 0..w.cols / I::BLOCK {
            let d = s.halves(p.add(2 * first));
            p = p.add(2 * I::ROWS);
            for _ in 0..I::BLOCK / I::UNIT {
                let mut all = [zero; T];
                for sub in (0..I::UNIT).step_by(I::SUB) {
                    let mut parts = [zero; T];
                    for c in (sub..sub + I::SUB).step_by(32) {
                        if T == 1 && first == 0 {
                            s.prefetch(p.wrapping_add(w.row_bytes));
                            s.prefetch(p.wrapping_add(w.row_bytes + 64));
                        }
                        unroll!(i in 0 1 2 3 4 5 6 7 => {
                            let codes = I::codes(s, p.add(16 * i), first);
                            for j in 0..T {
                                let q = acts.q.as_ptr().add((t + j) * acts.k + unit * I::UNIT + c + 4 * i);
                                parts[j] = s.dot(parts[j], codes, s.broadcast(q.cast()), Dot::Narrow);
                            }
                        });
                        p = p.add(128);
                    }
                    for j in 0..T {
                        all[j] = s.add(all[j], s.close(parts[j], Dot::Narrow));
                    }
                }
                for j in 0..T {
                    let place = (t + j) * units + unit;
                    let mut sum = 0;
                    for i in 0..sums {
                        sum += i32::from(*acts.bsums.as_ptr().add(place * sums + i));
                    }
                    acc[j] = scaled(s, acc[j], I::weights(s, all[j], sum), d, *acts.d.as_ptr().add(place));
                }
                unit += 1;
            }
        }
        for j in 0..T {
            let result = s.fmul(acc[j], s.splat(w.scale.to_bits()));
            let mut values = [0f32; 16];
            s.put(values.as_mut_ptr(), result);
            let row = &mut out.row_mut(t + j)[start + first..];
            row.iter_mut().zip(&values[..S::N]).for_each(|(o, v)| *o = *v);
        }
    }
}
