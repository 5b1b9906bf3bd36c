//! The types that put several rows into a byte: one lane per four columns, and a sum across lanes for each row.
//!
//! More than a few tokens take the way of the other types, [`super::gemm`], in planes.
//!
//! Where [`Lanes::dot`] takes any unsigned byte, a byte vector need not be taken apart: sums of nested masks (T2, S2)
//! or of the base-3 chain (T3) give the rows' sums as differences, see [`crate::quant`]. Else codes are made first.

use super::style::{Narrow, Whole};
use super::{Dot, Lanes, RowEnd, Rows, Sink, Unpack, gemm};
use crate::mem::TileMut;
use crate::quant::{Acts, QuantType, RowSpan};

/// Columns whose sums are taken together: the differences of T3's sums reach `2^9 * 2^7` times that.
const CHUNK: usize = 8192;
/// Columns whose 16-bit sums are taken together: a lane adds two products of at most `3 * 128` for each 32.
const NARROW_CHUNK: usize = 1024;

/// Tokens from which it pays to take the codes out.
const MANY: usize = 5;

/// A packed type.
pub(in crate::kernels) trait Packed: Unpack {
    /// Rows of a group.
    const ROWS: usize;
    /// Sums that give them, where [`Lanes::WIDE`].
    const WIDE_SUMS: usize;

    /// The vectors whose sums of products [`Packed::codes`] wants.
    fn split<S: Lanes>(s: S, bytes: S::V) -> [S::V; 6];
    /// For each row the sum of unsigned code times activation.
    fn codes(sums: [i32; 6], wide: bool) -> [i32; 5];
    /// Row `j`'s sum of weight times activation, from that of codes and that of activations.
    fn weights(j: usize, codes: i32, sum: i32) -> i32;
    /// Row `j`'s result, from that sum over the activation's scale and from the group's bytes after the columns.
    fn scaled(_tail: &[u8], _j: usize, v: f32) -> f32 {
        v
    }
}

/// Four 2-bit fields, the top one with its sign bit flipped.
#[inline(always)]
fn fields<S: Lanes>(s: S, bytes: S::V) -> [S::V; 4] {
    let low = s.splat(0x0303_0303);
    let top = s.xor(bytes, s.splat(0x8080_8080));
    [s.and(bytes, low), s.and(s.shr(bytes, 2), low), s.and(s.shr(bytes, 4), low), s.and(s.shr(top, 6), low)]
}

/// Those fields, or numbers that hold all lower fields.
#[inline(always)]
fn split_fields<S: Lanes>(s: S, bytes: S::V) -> [S::V; 6] {
    let first = s.and(bytes, s.splat(0x0303_0303));
    if S::WIDE {
        let top = s.xor(bytes, s.splat(0x8080_8080));
        [first, s.and(bytes, s.splat(0x0f0f_0f0f)), s.and(bytes, s.splat(0x3f3f_3f3f)), top, first, first]
    } else {
        let [a, b, c, d] = fields(s, bytes);
        [a, b, c, d, first, first]
    }
}

/// The fields' sums from those of [`split_fields`].
#[inline(always)]
fn field_sums(s: [i32; 6], wide: bool) -> [i32; 5] {
    if wide {
        let above = |j: usize| s[j].wrapping_sub(s[j - 1]) >> (2 * j);
        [s[0], above(1), above(2), above(3), 0]
    } else {
        [s[0], s[1], s[2], s[3], 0]
    }
}

pub(in crate::kernels) struct T2;

impl Packed for T2 {
    const ROWS: usize = 4;
    const WIDE_SUMS: usize = 4;

    #[inline(always)]
    fn split<S: Lanes>(s: S, bytes: S::V) -> [S::V; 6] {
        split_fields(s, bytes)
    }
    #[inline(always)]
    fn codes(sums: [i32; 6], wide: bool) -> [i32; 5] {
        field_sums(sums, wide)
    }
    /// The last field is the weight plus 2, the others plus 1.
    #[inline(always)]
    fn weights(j: usize, codes: i32, sum: i32) -> i32 {
        codes - if j == 3 { 2 * sum } else { sum }
    }
}

pub(in crate::kernels) struct S2;

impl Packed for S2 {
    const ROWS: usize = 4;
    const WIDE_SUMS: usize = 4;

    #[inline(always)]
    fn split<S: Lanes>(s: S, bytes: S::V) -> [S::V; 6] {
        split_fields(s, bytes)
    }
    #[inline(always)]
    fn codes(sums: [i32; 6], wide: bool) -> [i32; 5] {
        field_sums(sums, wide)
    }
    /// In half steps.
    #[inline(always)]
    fn weights(_: usize, codes: i32, sum: i32) -> i32 {
        2 * codes - 3 * sum
    }
    fn scaled(tail: &[u8], j: usize, v: f32) -> f32 {
        v * (0.5 * tail.as_chunks::<4>().0.get(j).map_or(0.0, |b| f32::from_le_bytes(*b)))
    }
}

/// The bytes as unsigned numbers, times 1, 3, 9, 27, 81 and 243, modulo 256.
#[inline(always)]
fn chain<S: Lanes>(s: S, bytes: S::V) -> [S::V; 6] {
    let mut all = [s.xor(bytes, s.splat(0x8080_8080)); 6];
    unroll!(j in 1 2 3 4 5 => all[j] = s.triple(all[j - 1]));
    all
}

/// Five base-3 digits; the sixth is none.
#[inline(always)]
fn digits<S: Lanes>(s: S, bytes: S::V) -> [S::V; 6] {
    let mut all = chain(s, bytes);
    unroll!(j in 0 1 2 3 4 => all[j] = s.thirds(all[j]));
    all
}

pub(in crate::kernels) struct T3;

impl Packed for T3 {
    const ROWS: usize = 5;
    const WIDE_SUMS: usize = 6;

    #[inline(always)]
    fn split<S: Lanes>(s: S, bytes: S::V) -> [S::V; 6] {
        if S::WIDE { chain(s, bytes) } else { digits(s, bytes) }
    }
    #[inline(always)]
    fn codes(s: [i32; 6], wide: bool) -> [i32; 5] {
        let digit = |j: usize| (3 * s[j] - s[j + 1]) >> 8;
        if wide { [digit(0), digit(1), digit(2), digit(3), digit(4)] } else { [s[0], s[1], s[2], s[3], s[4]] }
    }
    #[inline(always)]
    fn weights(_: usize, codes: i32, sum: i32) -> i32 {
        codes - sum
    }
}

/// A type as the panels of [`gemm`] take it: 64 columns to a block, a byte for each; the planes of a vector of bytes,
/// and how a row ends.
macro_rules! planes {
    ($ty:ident, $planes:literal, |$s:ident, $bytes:ident| $split:expr, |$acc:ident, $row:ident| $end:expr) => {
        impl Unpack for $ty {
            const TYPE: QuantType = QuantType::$ty;
            const BLOCK: usize = 64;
            const BYTES: usize = 64;
            const CODE_MAX: Option<usize> = Some(3);
            const PLANES: usize = $planes;
            type Style = Whole<Narrow, 64>;

            #[inline(always)]
            unsafe fn unpack<S: Lanes>($s: S, at: Rows, put: &mut impl Sink<S>) {
                // SAFETY: every group holds a block of 64 bytes, by contract.
                unsafe {
                    unroll!(part in 0 1 2 3 => {
                        let four = at.at(16 * part).load4($s);
                        unroll!(i in 0 1 2 3 => {
                            let $bytes = four[i];
                            let planes = $split;
                            for j in 0..$planes {
                                put.put($planes * (4 * part + i) + j, planes[j]);
                            }
                        });
                    });
                }
            }

            #[inline(always)]
            unsafe fn end<S: Lanes>($s: S, $acc: S::V, $row: RowEnd) -> S::V {
                $end
            }
        }
    };
}

planes!(T2, 4, |s, bytes| fields(s, bytes), |acc, row| {
    // The last field is the weight plus 2, the others plus 1.
    let offset = if row.plane == 3 { 2 } else { 1 };
    s.fdiv(s.float(s.sub(acc, s.splat((offset * row.sum) as u32))), s.splat(row.d.to_bits()))
});

planes!(T3, 5, |s, bytes| digits(s, bytes), |acc, row| s
    .fdiv(s.float(s.sub(acc, s.splat(row.sum as u32))), s.splat(row.d.to_bits())));

planes!(S2, 4, |s, bytes| fields(s, bytes), |acc, row| {
    // In half steps.
    let v = s.sub(s.add(acc, acc), s.splat((3 * row.sum) as u32));
    // SAFETY: every group has four steps after its columns.
    let step = unsafe { row.tail.at(4 * row.plane).load(s) };
    s.fmul(s.fdiv(s.float(v), s.splat(row.d.to_bits())), s.fmul(s.splat(0.5f32.to_bits()), step))
});

/// The kernel: see [`crate::kernels::RowsFn`].
///
/// # Safety
/// Shapes as [`crate::kernels::Kernels::rows`] checks them; the tiles are of the type's style, as wide as a group.
#[inline(always)]
pub(in crate::kernels) unsafe fn rows<S: Lanes, P: Packed>(
    s: S,
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    tiles: gemm::Tiles<S>,
) {
    let whole = w.rows / P::ROWS;
    let mut done = 0;
    if acts.n >= MANY && whole >= S::N {
        // SAFETY: by contract; so many whole groups are enough.
        unsafe { gemm::rows::<S, P>(s, w, acts, out, [tiles; 2]) }
        done = whole;
    }
    // Tokens outside: the driver's tiles of weights stay in the L1 cache, and so do four tokens.
    let groups = w.rows.div_ceil(P::ROWS);
    let mut t = 0;
    while t < acts.n && done < groups {
        let tokens = acts.n - t;
        let mut g = done;
        while g < groups {
            // SAFETY: these tokens and groups exist.
            unsafe {
                match (tokens, groups - g) {
                    (4.., _) => tile::<S, P, 1, 4>(s, w, acts, out, g, t),
                    (2.., 2..) => tile::<S, P, 2, 2>(s, w, acts, out, g, t),
                    (2.., _) => tile::<S, P, 1, 2>(s, w, acts, out, g, t),
                    (_, 2..) => tile::<S, P, 2, 1>(s, w, acts, out, g, t),
                    _ => tile::<S, P, 1, 1>(s, w, acts, out, g, t),
                }
            }
            g += if tokens >= 4 || groups - g < 2 { 1 } else { 2 };
        }
        t += match tokens {
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
    }
}

/// `G` groups by `T` tokens.
///
/// # Safety
/// Groups `g .. g + G` and tokens `t .. t + T` exist.
#[inline(always)]
unsafe fn tile<S: Lanes, P: Packed, const G: usize, const T: usize>(
    s: S,
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    g: usize,
    t: usize,
) {
    let sums = if S::WIDE { P::WIDE_SUMS } else { P::ROWS };
    let mut codes = [[[0i32; 5]; T]; G];
    for start in (0..w.cols).step_by(CHUNK) {
        let end = w.cols.min(start + CHUNK);
        let mut totals = [[[s.splat(0); 6]; T]; G];
        for narrow in (start..end).step_by(if S::WIDE { CHUNK } else { NARROW_CHUNK }) {
            let stop = if S::WIDE { end } else { end.min(narrow + NARROW_CHUNK) };
            let mut parts = [[[s.splat(0); 6]; T]; G];
            let mut c = narrow;
            while c < stop {
                for i in 0..G {
                    let group = w.data.as_ptr().wrapping_add((g + i) * w.row_bytes + c);
                    if T == 1 {
                        s.prefetch(group.wrapping_add(G * w.row_bytes));
                    }
                    // SAFETY: the group has columns c .. c + 4 N, a whole part of a block of 64.
                    let split = P::split(s, unsafe { s.get(group.cast()) });
                    for j in 0..T {
                        // SAFETY: and so has the token.
                        let q = unsafe { s.get(acts.q.as_ptr().add((t + j) * acts.k + c).cast()) };
                        unroll!(n in 0 1 2 3 4 5 => if n < sums {
                            parts[i][j][n] = s.dot(parts[i][j][n], split[n], q, Dot::Narrow);
                        });
                    }
                }
                c += 4 * S::N;
            }
            for i in 0..G {
                for j in 0..T {
                    unroll!(n in 0 1 2 3 4 5 => if n < sums {
                        totals[i][j][n] = s.add(totals[i][j][n], s.close(parts[i][j][n], Dot::Narrow));
                    });
                }
            }
        }
        for i in 0..G {
            for j in 0..T {
                let mut all = [0i32; 6];
                unroll!(n in 0 1 2 3 4 5 => if n < sums { all[n] = s.sum(totals[i][j][n]) });
                let part = P::codes(all, S::WIDE);
                unroll!(n in 0 1 2 3 4 => codes[i][j][n] += part[n]);
            }
        }
    }
    for (i, codes) in codes.iter().enumerate() {
        let tail = &w.data[(g + i) * w.row_bytes..(g + i + 1) * w.row_bytes][w.cols..];
        for (j, codes) in codes.iter().enumerate() {
            let (d, sum) = (acts.d[t + j], acts.sums[t + j]);
            let first = (g + i) * P::ROWS;
            let row = &mut out.row_mut(t + j)[first..];
            for (n, out) in row.iter_mut().take(P::ROWS).enumerate() {
                *out = P::scaled(tail, n, P::weights(n, codes[n], sum) as f32 / d) * w.scale;
            }
        }
    }
}
