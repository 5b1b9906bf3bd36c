//! The types of which parts can be left unread: T3R by the row, T3C by the column. Both hold five weights a byte in
//! the base-3 chain that `packed.rs` reads; see [`crate::quant`].

use super::gemm::{Panel, Source, Tiles, groups};
use super::packed::{Packed, T3};
use super::style::{Narrow, Style, Whole};
use super::{Dot, Lanes, Rows};
use crate::mem::TileMut;
use crate::quant::{Acts, RowSpan};

/// Bytes of a column of T3C.
const COLUMN: usize = 64;
/// Rows of a panel of T3C.
const PANEL_ROWS: usize = 5 * COLUMN;
/// Columns whose sums are taken together: `256 * 2 * 128` times that stays within 32 bits.
const CHUNK: usize = 8192;
/// Products that fit a 16-bit sum: each dot product adds two of at most `2 * 128`.
const NARROW_DOTS: usize = 40;
/// Tokens from which it pays to take the codes out.
const MANY: usize = 5;
/// Vectors of rows that are unpacked side by side from T3C.
const WIDTH: usize = 4;
/// How many columns, and rows, before its turn one is asked for.
const AHEAD: usize = 48;

/// Which rows or columns of a matrix are meant, in order.
trait Choice: Copy {
    fn len(self) -> usize;
    fn at(self, i: usize) -> usize;
}

/// The first ones, all of them.
#[derive(Clone, Copy)]
struct All(usize);

impl Choice for All {
    #[inline(always)]
    fn len(self) -> usize {
        self.0
    }
    #[inline(always)]
    fn at(self, i: usize) -> usize {
        i
    }
}

impl Choice for &[u32] {
    #[inline(always)]
    fn len(self) -> usize {
        <[u32]>::len(self)
    }
    #[inline(always)]
    fn at(self, i: usize) -> usize {
        self[i] as usize
    }
}

/// T3R as a [`crate::kernels::RowsFn`].
pub(in crate::kernels) struct T3R;

/// T3C as a [`crate::kernels::RowsFn`].
pub(in crate::kernels) struct T3C;

/// The kernels of a type of which parts can be left unread.
pub(in crate::kernels) trait Apart {
    /// Of its batches.
    type Style: Style;
    /// See [`crate::kernels::RowsFn`], for many tokens; or false where the number of rows is odd.
    ///
    /// # Safety
    /// Shapes as [`crate::kernels::Kernels::rows`] checks them; the tiles are four vectors and one, of the style.
    unsafe fn batch<S: Lanes>(
        s: S,
        w: &RowSpan<'_>,
        acts: &Acts<'_>,
        out: &mut TileMut<'_, f32>,
        tiles: [Tiles<S>; 2],
    ) -> bool;
    /// See [`crate::kernels::RowsFn`].
    ///
    /// # Safety
    /// Shapes as [`crate::kernels::Kernels::rows`] checks them.
    unsafe fn rows<S: Lanes>(s: S, w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>);
    /// See [`crate::kernels::ListedFn`].
    ///
    /// # Safety
    /// Shapes as the methods of [`crate::kernels::Kernels`] check them.
    unsafe fn listed<S: Lanes>(s: S, w: &RowSpan<'_>, list: &[u32], acts: &Acts<'_>, out: &mut TileMut<'_, f32>);
}

impl Apart for T3R {
    type Style = Whole<Narrow, 16>;

    #[inline(always)]
    unsafe fn batch<S: Lanes>(
        s: S,
        w: &RowSpan<'_>,
        acts: &Acts<'_>,
        out: &mut TileMut<'_, f32>,
        tiles: [Tiles<S>; 2],
    ) -> bool {
        let source = |row: usize, vectors: usize| RowGroup {
            at: Rows::new(w.data, row * w.row_bytes, w.row_bytes, false),
            vectors,
            cols: w.cols,
            bytes: w.row_bytes,
            scale: w.scale,
        };
        w.rows >= S::N && {
            // SAFETY: by contract.
            unsafe { groups::<S, _>(s, w.rows, 1, source, acts, out, tiles) };
            true
        }
    }

    #[inline(always)]
    unsafe fn rows<S: Lanes>(s: S, w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
        // SAFETY: by contract.
        unsafe { single_rows(s, w, All(w.rows), acts, out) }
    }
    #[inline(always)]
    unsafe fn listed<S: Lanes>(s: S, w: &RowSpan<'_>, list: &[u32], acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
        // SAFETY: by contract.
        unsafe { single_rows(s, w, list, acts, out) }
    }
}

impl Apart for T3C {
    type Style = Whole<Narrow, 64>;

    #[inline(always)]
    unsafe fn batch<S: Lanes>(
        s: S,
        w: &RowSpan<'_>,
        acts: &Acts<'_>,
        out: &mut TileMut<'_, f32>,
        tiles: [Tiles<S>; 2],
    ) -> bool {
        let source = |row: usize, _: usize| ColumnGroup {
            panel: w.data.as_ptr().wrapping_add(row / PANEL_ROWS * w.row_bytes + row % COLUMN),
            digit: row % PANEL_ROWS / COLUMN,
            cols: w.cols,
            scale: w.scale,
        };
        w.rows.is_multiple_of(WIDTH * S::N) && w.rows > 0 && {
            // SAFETY: by contract; all groups are whole, so none overlaps another.
            unsafe { groups::<S, _>(s, w.rows, 1, source, acts, out, tiles) };
            true
        }
    }

    #[inline(always)]
    unsafe fn rows<S: Lanes>(s: S, w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
        // SAFETY: by contract.
        unsafe { columns(s, w, All(w.cols), acts, out) }
    }
    #[inline(always)]
    unsafe fn listed<S: Lanes>(s: S, w: &RowSpan<'_>, list: &[u32], acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
        // SAFETY: by contract.
        unsafe { columns(s, w, list, acts, out) }
    }
}

/// The kernel: see [`crate::kernels::RowsFn`].
///
/// # Safety
/// As [`Apart::batch`].
#[inline(always)]
pub(in crate::kernels) unsafe fn rows<S: Lanes, A: Apart>(
    s: S,
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    tiles: [Tiles<S>; 2],
) {
    // SAFETY: by contract.
    unsafe {
        if acts.n < MANY || !A::batch(s, w, acts, out, tiles) {
            A::rows(s, w, acts, out);
        }
    }
}

/// Digit `digit` of bytes, as codes.
#[inline(always)]
fn codes<S: Lanes>(s: S, bytes: S::V, digit: usize) -> S::V {
    let mut v = s.xor(bytes, s.splat(0x8080_8080));
    for _ in 0..digit {
        v = s.triple(v);
    }
    s.thirds(v)
}

/// `((isum - sum) as f32) / d * scale`.
#[inline(always)]
fn closed<S: Lanes>(s: S, acc: S::V, acts: &Acts<'_>, t: usize, scale: f32) -> S::V {
    let sum = s.float(s.sub(acc, s.splat(acts.sums[t] as u32)));
    s.fmul(s.fdiv(sum, s.splat(acts.d[t].to_bits())), s.splat(scale.to_bits()))
}

/// Rows of T3R, a digit after another.
#[derive(Clone, Copy)]
struct RowGroup {
    at: Rows,
    vectors: usize,
    cols: usize,
    /// Bytes of a row, and columns of a digit.
    bytes: usize,
    scale: f32,
}

impl<S: Lanes> Source<S> for RowGroup {
    #[inline(always)]
    unsafe fn fill(self, s: S, column: usize, panel: &mut Panel<S>) -> usize {
        let (digit, m) = (column / self.bytes, column % self.bytes);
        // All are multiples of 16.
        let columns = (self.bytes - m).min(self.cols - column).min(Panel::<S>::columns(self.vectors));
        for v in 0..self.vectors {
            for c in (0..columns).step_by(16) {
                // SAFETY: the rows have bytes m + c .. m + c + 16.
                let four = unsafe { self.at.down::<S>(v).at(m + c).load4(s) };
                for (i, bytes) in four.into_iter().enumerate() {
                    panel.set(c / 4 + i, self.vectors, v, codes(s, bytes, digit));
                }
            }
        }
        panel.close(columns, <T3R as Apart>::Style::SUB);
        columns
    }

    #[inline(always)]
    unsafe fn close(self, s: S, acts: &Acts<'_>, t: usize, to: *mut f32) {
        for v in 0..self.vectors {
            // SAFETY: by contract.
            unsafe { s.put(to.add(v * S::N), closed(s, s.get(to.add(v * S::N)), acts, t, self.scale)) }
        }
    }
}

/// [`WIDTH`] vectors of rows of T3C: one digit of bytes that lie side by side.
#[derive(Clone, Copy)]
struct ColumnGroup {
    /// Their first byte.
    panel: *const u8,
    digit: usize,
    cols: usize,
    scale: f32,
}

impl<S: Lanes> Source<S> for ColumnGroup {
    #[inline(always)]
    unsafe fn fill(self, s: S, column: usize, panel: &mut Panel<S>) -> usize {
        let columns = (self.cols - column).min(Panel::<S>::columns(WIDTH));
        for c in (0..columns).step_by(4) {
            for first in (0..WIDTH).step_by(S::COLUMN_VECTORS) {
                let at = |i: usize| self.panel.wrapping_add((column + c + i) * COLUMN + first * S::N);
                // SAFETY: the panel has these columns, a multiple of 64.
                let bytes = unsafe { s.columns([at(0), at(1), at(2), at(3)]) };
                for v in 0..S::COLUMN_VECTORS {
                    panel.set(c / 4, WIDTH, first + v, codes(s, bytes[v], self.digit));
                }
            }
        }
        panel.close(columns, <T3C as Apart>::Style::SUB);
        columns
    }

    #[inline(always)]
    unsafe fn close(self, s: S, acts: &Acts<'_>, t: usize, to: *mut f32) {
        let mut all = [s.splat(0); WIDTH];
        // SAFETY: by contract; the vectors are in the order of `columns`, and so is what `put_column` wants.
        unsafe {
            for (v, value) in all.iter_mut().enumerate() {
                *value = closed(s, s.get(to.add(v * S::N)), acts, t, self.scale);
            }
            for (v, value) in all.into_iter().enumerate() {
                s.put_column(to.add(v / S::COLUMN_VECTORS * S::COLUMN_VECTORS * S::N), v % S::COLUMN_VECTORS, value);
            }
        }
    }
}

/// # Safety
/// The chosen rows exist; shapes as for [`Apart`].
#[inline(always)]
unsafe fn single_rows<S: Lanes, C: Choice>(
    s: S,
    w: &RowSpan<'_>,
    rows: C,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
) {
    let mut t = 0;
    while t < acts.n {
        let four = acts.n - t >= 4;
        let mut r = 0;
        while r < rows.len() {
            // SAFETY: these rows and tokens exist.
            unsafe {
                match (four, rows.len() - r) {
                    (true, 2..) => row_tile::<S, C, 2, 4>(s, w, rows, acts, out, r, t),
                    (true, _) => row_tile::<S, C, 1, 4>(s, w, rows, acts, out, r, t),
                    (_, 4..) => row_tile::<S, C, 4, 1>(s, w, rows, acts, out, r, t),
                    _ => row_tile::<S, C, 1, 1>(s, w, rows, acts, out, r, t),
                }
            }
            r += match (four, rows.len() - r) {
                (true, 2..) => 2,
                (false, 4..) => 4,
                _ => 1,
            };
        }
        t += if four { 4 } else { 1 };
    }
}

/// Sums of `G` rows by `T` tokens: of one token in two parts (see [`add_products`]), else of digits.
type RowSums<V, const G: usize, const T: usize> = [[[V; 2]; T]; G];

/// `G` chosen rows from `r` on by `T` tokens.
///
/// # Safety
/// They exist.
#[inline(always)]
unsafe fn row_tile<S: Lanes, C: Choice, const G: usize, const T: usize>(
    s: S,
    w: &RowSpan<'_>,
    rows: C,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    r: usize,
    t: usize,
) {
    let (bytes, width) = (w.row_bytes, 4 * S::N);
    let row = |g: usize| w.data.as_ptr().wrapping_add(rows.at((r + g).min(rows.len() - 1)) * bytes);
    let now: [*const u8; G] = core::array::from_fn(row);
    let next: [*const u8; G] = core::array::from_fn(|g| row(G + g));
    // Up to here the last digit's columns, and so the other digits', are all there.
    let whole = (w.cols - (w.cols.min(4 * bytes))).min(bytes) / width * width;
    let zero = s.splat(0);
    let (mut totals, mut parts): (RowSums<_, G, T>, RowSums<_, G, T>) = ([[[zero; 2]; T]; G], [[[zero; 2]; T]; G]);
    let mut open = 0;
    for m in (0..bytes).step_by(width) {
        let mut edge = Edge::<G, T> { bytes: [[0; 64]; G], x: [[[0; 64]; 5]; T] };
        if m >= whole {
            // SAFETY: by contract.
            unsafe { edge.fill(now, bytes, m, width, acts, t) };
        }
        for g in 0..G {
            s.prefetch(next[g].wrapping_add(m));
            let p = if m < whole { now[g].wrapping_add(m) } else { edge.bytes[g].as_ptr() };
            // SAFETY: `width` bytes are there, in the row or at its edge.
            let first = s.xor(unsafe { s.get(p.cast()) }, s.splat(0x8080_8080));
            for j in 0..T {
                let x = |k: usize| {
                    if m < whole {
                        acts.q.as_ptr().wrapping_add((t + j) * acts.k + k * bytes + m)
                    } else {
                        edge.x[j][k].as_ptr()
                    }
                };
                // SAFETY: likewise.
                unsafe { add_products::<S, T>(s, first, x, &mut parts[g][j]) };
            }
        }
        open += 5;
        if !S::WIDE && (open + 5 > NARROW_DOTS || m + width >= bytes) {
            open = 0;
            for g in 0..G {
                for j in 0..T {
                    totals[g][j][0] = s.add(totals[g][j][0], s.close(parts[g][j][0], Dot::Narrow));
                    parts[g][j][0] = zero;
                }
            }
        }
    }
    for g in 0..G {
        for j in 0..T {
            let [a, b] = if S::WIDE { parts[g][j] } else { totals[g][j] };
            let sum = if S::WIDE && T == 1 { s.sra(s.sub(s.add(s.add(a, a), a), b), 8) } else { a };
            let isum = s.sum(sum).wrapping_sub(acts.sums[t + j]);
            out.row_mut(t + j)[r + g] = isum as f32 / acts.d[t + j] * w.scale;
        }
    }
}

/// The products of a vector of bytes with its five runs of activations.
///
/// # Safety
/// Each run holds a vector.
#[inline(always)]
unsafe fn add_products<S: Lanes, const T: usize>(
    s: S,
    first: S::V,
    x: impl Fn(usize) -> *const i8,
    sums: &mut [S::V; 2],
) {
    // SAFETY: by contract.
    let run = |k: usize| unsafe { s.get(x(k).cast()) };
    let [a, b] = sums;
    let mut chain = [first; 6];
    unroll!(k in 0 1 2 3 4 => chain[k + 1] = s.triple(chain[k]));
    unroll!(k in 0 1 2 3 4 => if S::WIDE && T == 1 {
        // Telescoped: three times the first sum less the second is 256 times the row's.
        *a = s.dot(*a, chain[k], run(k), Dot::Narrow);
        *b = s.dot(*b, chain[k + 1], run(k), Dot::Narrow);
    } else {
        *a = s.dot(*a, s.thirds(chain[k]), run(k), Dot::Narrow);
    });
}

/// The last bytes of rows and their activations, with zeros after them.
struct Edge<const G: usize, const T: usize> {
    bytes: [[u8; 64]; G],
    x: [[[i8; 64]; 5]; T],
}

impl<const G: usize, const T: usize> Edge<G, T> {
    /// Takes bytes `m .. m + width` of rows of `bytes` bytes, as far as there are any.
    ///
    /// # Safety
    /// `bytes` bytes are readable at each row; tokens `t .. t + T` exist.
    #[inline(always)]
    unsafe fn fill(&mut self, rows: [*const u8; G], bytes: usize, m: usize, width: usize, acts: &Acts<'_>, t: usize) {
        let len = width.min(bytes - m);
        for (to, row) in self.bytes.iter_mut().zip(rows) {
            // SAFETY: by contract.
            let row = unsafe { core::slice::from_raw_parts(row, bytes) };
            to[..len].copy_from_slice(&row[m..m + len]);
        }
        for (j, runs) in self.x.iter_mut().enumerate() {
            let q = &acts.q[(t + j) * acts.k..(t + j + 1) * acts.k];
            for (k, to) in runs.iter_mut().enumerate() {
                let from = q.get(k * bytes + m..).unwrap_or_default();
                let len = len.min(from.len());
                to[..len].copy_from_slice(&from[..len]);
            }
        }
    }
}

/// Panel by panel. `acts.k` columns are chosen, a multiple of 4.
///
/// # Safety
/// The chosen columns exist; shapes as for [`Apart`].
#[inline(always)]
unsafe fn columns<S: Lanes, C: Choice>(s: S, w: &RowSpan<'_>, chosen: C, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
    let at_once = S::N * S::COLUMN_VECTORS;
    for (p, panel) in w.data.chunks_exact(w.row_bytes).enumerate() {
        let rows = PANEL_ROWS * p..w.rows.min(PANEL_ROWS * (p + 1));
        let mut t = 0;
        while t < acts.n {
            let mut results = [[0f32; PANEL_ROWS]; 4];
            let four = acts.n - t >= 4;
            for first in (0..COLUMN).step_by(at_once) {
                // SAFETY: the columns hold `first + at_once` bytes in this panel, and the tokens exist.
                unsafe {
                    if four {
                        unroll!(v in 0 1 2 3 => if v < S::COLUMN_VECTORS {
                            column_tile::<S, C, 1, 4>(s, panel, chosen, acts, (t, first, v), w.scale, &mut results);
                        });
                    } else if S::COLUMN_VECTORS == 4 {
                        column_tile::<S, C, 4, 1>(s, panel, chosen, acts, (t, first, 0), w.scale, &mut results);
                    } else {
                        column_tile::<S, C, 2, 1>(s, panel, chosen, acts, (t, first, 0), w.scale, &mut results);
                    }
                }
            }
            let tokens = if four { 4 } else { 1 };
            for (j, results) in results[..tokens].iter().enumerate() {
                out.row_mut(t + j)[rows.clone()].copy_from_slice(&results[..rows.len()]);
            }
            t += tokens;
        }
    }
}

/// Vectors `v .. v + V` of the bytes from `first` on, by tokens `t .. t + T`, all chosen columns.
///
/// # Safety
/// The columns are in the panel, the bytes in the columns, and the tokens exist.
#[inline(always)]
unsafe fn column_tile<S: Lanes, C: Choice, const V: usize, const T: usize>(
    s: S,
    panel: &[u8],
    chosen: C,
    acts: &Acts<'_>,
    (t, first, v): (usize, usize, usize),
    scale: f32,
    results: &mut [[f32; PANEL_ROWS]; 4],
) {
    let (zero, sums) = (s.splat(0), if S::WIDE { T3::WIDE_SUMS } else { T3::ROWS });
    let column = |i: usize| panel.as_ptr().wrapping_add(COLUMN * chosen.at(i) + first);
    let (mut codes, narrow) = ([[[zero; 5]; T]; V], if S::WIDE { CHUNK } else { 4 * NARROW_DOTS });
    for start in (0..chosen.len()).step_by(narrow) {
        let end = chosen.len().min(start + narrow);
        let mut parts = [[[zero; 6]; T]; V];
        for i in (start..end).step_by(4) {
            if first == 0 && T == 1 {
                let ahead = (i + AHEAD).min(chosen.len() - 4);
                unroll!(n in 0 1 2 3 => s.prefetch(column(ahead + n)));
            }
            // SAFETY: these columns hold the bytes.
            let bytes = unsafe { s.columns([column(i), column(i + 1), column(i + 2), column(i + 3)]) };
            for n in 0..V {
                let split = T3::split(s, bytes[v + n]);
                for j in 0..T {
                    // SAFETY: the token has activations i .. i + 4.
                    let q = unsafe { s.broadcast(acts.q.as_ptr().add((t + j) * acts.k + i).cast()) };
                    unroll!(k in 0 1 2 3 4 5 => if k < sums {
                        parts[n][j][k] = s.dot(parts[n][j][k], split[k], q, Dot::Narrow);
                    });
                }
            }
        }
        for n in 0..V {
            for j in 0..T {
                let mut p = parts[n][j];
                unroll!(k in 0 1 2 3 4 5 => p[k] = s.close(p[k], Dot::Narrow));
                unroll!(k in 0 1 2 3 4 => {
                    let triple = s.add(s.add(p[k], p[k]), p[k]);
                    let part = if S::WIDE { s.sra(s.sub(triple, p[k + 1]), 8) } else { p[k] };
                    codes[n][j][k] = s.add(codes[n][j][k], part);
                });
            }
        }
    }
    for n in 0..V {
        for j in 0..T {
            let (sum, d) = (s.splat(acts.sums[t + j] as u32), s.splat(acts.d[t + j].to_bits()));
            unroll!(k in 0 1 2 3 4 => {
                let value = s.fdiv(s.float(s.sub(codes[n][j][k], sum)), d);
                let to = &mut results[j][COLUMN * k + first..][..S::N * S::COLUMN_VECTORS];
                // SAFETY: that many values have room there.
                unsafe { s.put_column(to.as_mut_ptr(), v + n, s.fmul(value, s.splat(scale.to_bits()))) };
            });
        }
    }
}
