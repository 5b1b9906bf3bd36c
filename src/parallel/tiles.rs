//! Matrices split among the jobs of a loop.

use super::Team;
use crate::mem::{TileMut, TileSource};
use core::ops::Range;

impl Team<'_> {
    /// Calls `body(r, a, b, c, d)` with row `r` of each of four matrices, once for every `r` in `0..rows`, spread
    /// over the team. A width may be 0.
    ///
    /// # Panics
    /// If a matrix has fewer than `rows` rows: a bug of the caller.
    pub fn rows4<A: Send, B: Send, C: Send, D: Send>(
        &self,
        rows: usize,
        matrices: Rows4<'_, A, B, C, D>,
        body: &(dyn Fn(usize, &mut [A], &mut [B], &mut [C], &mut [D]) + Sync),
    ) {
        let Rows4 { a, b, c, d } = matrices;
        let (wa, wb, wc, wd) = (a.1, b.1, c.1, d.1);
        let (a, b) = (TileSource::new(a.0, wa), TileSource::new(b.0, wb));
        let (c, d) = (TileSource::new(c.0, wc), TileSource::new(d.0, wd));
        self.each(rows, &|_, r| {
            // SAFETY: each job lends row `r` of each matrix, and each `r` comes once.
            let (mut a, mut b, mut c, mut d) = unsafe {
                (a.lend(r..r + 1, 0..wa), b.lend(r..r + 1, 0..wb), c.lend(r..r + 1, 0..wc), d.lend(r..r + 1, 0..wd))
            };
            let (mut a, mut b, mut c, mut d) = (a.tile(), b.tile(), c.tile(), d.tile());
            body(r, a.row_mut(0), b.row_mut(0), c.row_mut(0), d.row_mut(0));
        });
    }

    /// Splits the row-major matrix `out` as `tiling` says and calls `body(place, tile, scratch)` once for
    /// every tile. `scratch` is divided evenly among the threads; `body` gets its thread's part.
    ///
    /// # Panics
    /// If `out` is smaller than `tiling` describes, or a grain is 0: a bug of the caller.
    pub fn tiles<T: Send, S: Send>(
        &self,
        out: &mut [T],
        tiling: Tiling<'_>,
        scratch: &mut [S],
        body: &(dyn Fn(Place, TileMut<'_, T>, &mut [S]) + Sync),
    ) {
        let stride = tiling.stride();
        // From here on no product or sum of the tiling overflows.
        let fits = tiling.rows.checked_mul(stride).is_some_and(|n| n <= out.len());
        assert!(fits && tiling.row_grain > 0 && tiling.col_grain > 0, "the matrix is smaller than its tiling");
        let share = scratch.len() / self.threads();
        let (out, scratch) = (TileSource::new(out, stride), TileSource::new(scratch, share));
        self.each(tiling.jobs(), &|thread, job| {
            let place = tiling.place(job);
            let offset: usize = tiling.segments[..place.segment].iter().sum();
            let cols = offset + place.cols.start..offset + place.cols.end;
            // SAFETY: `place` maps different jobs to disjoint rectangles, and each job runs once; calls with
            // the same `thread` never run at the same time, so a thread's scratch is its own.
            let (mut tile, mut mine) =
                unsafe { (out.lend(place.rows.clone(), cols), scratch.lend(thread..thread + 1, 0..share)) };
            body(place, tile.tile(), mine.tile().row_mut(0));
        });
    }
}

/// Four matrices of as many rows, whose rows are lent together: see [`Team::rows4`].
pub struct Rows4<'a, A, B, C, D> {
    /// A matrix and its width; likewise the others.
    pub a: (&'a mut [A], usize),
    /// Second matrix.
    pub b: (&'a mut [B], usize),
    /// Third matrix.
    pub c: (&'a mut [C], usize),
    /// Fourth matrix.
    pub d: (&'a mut [D], usize),
}

/// How a matrix is cut: its columns are segments side by side (the outputs of several weight matrices),
/// no tile crosses a segment's border.
#[derive(Clone, Copy, Debug)]
pub struct Tiling<'s> {
    /// Rows of the matrix.
    pub rows: usize,
    /// Rows of a tile, at least 1.
    pub row_grain: usize,
    /// Widths of the segments; their sum is the stride of the matrix.
    pub segments: &'s [usize],
    /// Columns of a tile, at least 1.
    pub col_grain: usize,
}

/// Where a tile lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the segment.
    pub segment: usize,
    /// Rows of the matrix.
    pub rows: Range<usize>,
    /// Columns, counted from the start of the segment.
    pub cols: Range<usize>,
}

impl Tiling<'_> {
    fn stride(&self) -> usize {
        let sum = self.segments.iter().try_fold(0usize, |sum, w| sum.checked_add(*w));
        sum.expect("widths of a matrix in memory")
    }

    fn columns(&self) -> usize {
        self.segments.iter().map(|w| w.div_ceil(self.col_grain)).sum()
    }

    fn jobs(&self) -> usize {
        self.columns() * self.rows.div_ceil(self.row_grain)
    }

    /// Different jobs give disjoint places: `job` is split into a row of tiles and a column of tiles, and
    /// columns are numbered through the segments one after the other.
    fn place(&self, job: usize) -> Place {
        let columns = self.columns();
        let (row, mut col) = (job / columns * self.row_grain, job % columns);
        let mut segment = 0;
        while segment + 1 < self.segments.len() && col >= self.segments[segment].div_ceil(self.col_grain) {
            col -= self.segments[segment].div_ceil(self.col_grain);
            segment += 1;
        }
        let start = col * self.col_grain;
        Place {
            segment,
            rows: row..row.saturating_add(self.row_grain).min(self.rows),
            cols: start..start.saturating_add(self.col_grain).min(self.segments[segment]),
        }
    }
}
