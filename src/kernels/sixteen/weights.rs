//! Rows of F32, F16 and BF16: a tile of rows and tokens at a time, each with the 16 accumulators of
//! [`crate::numeric`], so that a weight is widened once for several tokens.

#![allow(clippy::needless_range_loop)] // registers are walked by index

use super::Sixteen;
use crate::mem::TileMut;
use crate::numeric::{bf16_to_f32, f16_to_f32, tree16};
use crate::quant::{Acts, RowSpan};

/// A float weight type.
pub(in crate::kernels) trait Element {
    /// Bytes of a weight.
    const BYTES: usize;
    /// # Safety
    /// `p` holds 16 weights.
    unsafe fn load<S: Sixteen>(s: S, p: *const u8) -> S::V;
    /// # Safety
    /// `p` holds a weight.
    unsafe fn one(p: *const u8) -> f32;
}

macro_rules! element {
    ($name:ident, $bytes:literal, |$s:ident, $p:ident| $load:expr, $one:expr) => {
        pub(in crate::kernels) struct $name;

        impl Element for $name {
            const BYTES: usize = $bytes;
            #[inline(always)]
            unsafe fn load<S: Sixteen>($s: S, $p: *const u8) -> S::V {
                // SAFETY: by contract.
                unsafe { $load }
            }
            #[inline(always)]
            unsafe fn one(p: *const u8) -> f32 {
                // SAFETY: by contract.
                $one(unsafe { p.cast::<[u8; $bytes]>().read() })
            }
        }
    };
}

element!(F32, 4, |s, p| s.load_f32(p.cast()), f32::from_le_bytes);
element!(F16, 2, |s, p| s.load_f16(p), |b| f16_to_f32(u16::from_le_bytes(b)));
element!(BF16, 2, |s, p| s.load_bf16(p), |b| bf16_to_f32(u16::from_le_bytes(b)));

/// The kernel: see [`crate::kernels::RowsFn`].
///
/// # Safety
/// Shapes as [`crate::kernels::Kernels::rows`] checks them.
#[inline(always)]
pub(in crate::kernels) unsafe fn rows<S: Sixteen, E: Element>(
    s: S,
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
) {
    let mut r = 0;
    while r < w.rows {
        // SAFETY: rows r .. r + R and tokens t .. t + T exist, in the weights, activations and tile.
        unsafe {
            r += if w.rows - r >= S::ROWS && S::ROWS == 4 {
                row_group::<S, E, 4>(s, w, acts, out, r)
            } else if w.rows - r >= 2 {
                row_group::<S, E, 2>(s, w, acts, out, r)
            } else {
                row_group::<S, E, 1>(s, w, acts, out, r)
            }
        }
    }
}

/// # Safety
/// Rows `r .. r + R` exist.
#[inline(always)]
unsafe fn row_group<S: Sixteen, E: Element, const R: usize>(
    s: S,
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    r: usize,
) -> usize {
    let mut t = 0;
    while t < acts.n {
        // SAFETY: tokens t .. t + T exist, and the rows by contract.
        unsafe {
            t += match acts.n - t {
                4.. if S::ROWS == 4 => tile::<S, E, R, 4>(s, w, acts, out, r, t),
                2.. => tile::<S, E, R, 2>(s, w, acts, out, r, t),
                _ => tile::<S, E, R, 1>(s, w, acts, out, r, t),
            }
        }
    }
    R
}

/// `R` rows by `T` tokens; returns `T`.
///
/// # Safety
/// Rows `r .. r + R` and tokens `t .. t + T` exist.
#[inline(always)]
unsafe fn tile<S: Sixteen, E: Element, const R: usize, const T: usize>(
    s: S,
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    r: usize,
    t: usize,
) -> usize {
    let k = w.cols;
    let row: [*const u8; R] = core::array::from_fn(|i| w.data.as_ptr().wrapping_add((r + i) * w.row_bytes));
    let x: [*const f32; T] = core::array::from_fn(|j| acts.x.as_ptr().wrapping_add((t + j) * k));
    let mut acc = [[s.zero(); T]; R];
    let whole = k / 16 * 16;
    let mut c = 0;
    while c < whole {
        // SAFETY: columns c .. c + 16 exist.
        unsafe {
            let mut xs = [s.zero(); T];
            for j in 0..T {
                xs[j] = s.load_f32(x[j].add(c));
            }
            for i in 0..R {
                let p = row[i].add(c * E::BYTES);
                if T == 1 {
                    s.prefetch(p.wrapping_add(R * w.row_bytes));
                }
                let w = E::load(s, p);
                for j in 0..T {
                    acc[i][j] = s.mul_add(acc[i][j], w, xs[j]);
                }
            }
        }
        c += 16;
    }
    for (i, acc) in acc.into_iter().enumerate() {
        for (j, acc) in acc.into_iter().enumerate() {
            let mut acc = s.array(acc);
            for (c, acc) in (whole..k).zip(&mut acc) {
                // SAFETY: column c exists.
                *acc += unsafe { E::one(row[i].add(c * E::BYTES)) * *x[j].add(c) };
            }
            // SAFETY: the tile holds this row and token.
            unsafe { *out.as_mut_ptr().add((t + j) * out.stride() + r + i) = tree16(&acc) * w.scale };
        }
    }
    T
}
