//! One row-major matrix lent to several threads, each getting rectangles that no other thread gets.

use core::marker::PhantomData;
use core::ops::Range;

/// A rectangle of a row-major matrix, exclusively held: `rows` runs of `cols` elements, `stride` apart, that lie inside
/// the matrix wherever the rectangle is not empty.
pub struct TileMut<'a, T> {
    first: *mut T,
    stride: usize,
    rows: usize,
    cols: usize,
    matrix: PhantomData<&'a mut [T]>,
}

impl<'a, T> TileMut<'a, T> {
    /// The whole of `matrix`, `cols` elements a row. A last, partial row is left out.
    pub fn whole(matrix: &'a mut [T], cols: usize) -> Self {
        let rows = matrix.len().checked_div(cols).unwrap_or(0);
        TileMut { first: matrix.as_mut_ptr(), stride: cols, rows, cols, matrix: PhantomData }
    }

    /// Rows of the rectangle.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the rectangle.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from one row of the matrix to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Address of the first element, for kernels: row `r` starts `r * stride()` elements further and
    /// holds `cols()` elements.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.first
    }

    /// Row `r` of the rectangle.
    ///
    /// # Panics
    /// If `r` is not below [`TileMut::rows`]: a bug of the caller.
    pub fn row_mut(&mut self, r: usize) -> &mut [T] {
        assert!(r < self.rows);
        // SAFETY: r < rows, so the range lies inside the rectangle this value holds exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.first.add(r * self.stride), self.cols) }
    }

    /// A rectangle of this rectangle.
    ///
    /// # Panics
    /// If the ranges reach outside: a bug of the caller.
    pub fn sub(&mut self, rows: Range<usize>, cols: Range<usize>) -> TileMut<'_, T> {
        assert!(rows.start <= rows.end && rows.end <= self.rows && cols.start <= cols.end && cols.end <= self.cols);
        // SAFETY: the ranges lie inside the rectangle this value holds exclusively, and it is borrowed
        // mutably as long as the part exists. An empty rectangle's address is never read.
        let first = unsafe { self.first.add(if rows.is_empty() { 0 } else { rows.start * self.stride + cols.start }) };
        TileMut { first, stride: self.stride, rows: rows.len(), cols: cols.len(), matrix: PhantomData }
    }
}

/// A matrix about to be shared by threads in disjoint rectangles.
pub(crate) struct TileSource<'a, T> {
    first: *mut T,
    len: usize,
    stride: usize,
    lent: Ledger,
    matrix: PhantomData<&'a mut [T]>,
}

// SAFETY: the value only lends disjoint parts (the contract of `lend`), so sharing it between threads
// shares nothing but the right to hold elements exclusively, which `T: Send` allows.
unsafe impl<T: Send> Sync for TileSource<'_, T> {}

impl<'a, T> TileSource<'a, T> {
    /// Takes the matrix, whose rows have `stride` elements, for as long as the source lives.
    pub(crate) fn new(matrix: &'a mut [T], stride: usize) -> Self {
        let (first, len) = (matrix.as_mut_ptr(), matrix.len());
        TileSource { first, len, stride, lent: Ledger::new(), matrix: PhantomData }
    }

    /// Lends a rectangle.
    ///
    /// # Safety
    /// No two rectangles that overlap may exist at the same time. Debug builds look, see [`Ledger`].
    ///
    /// # Panics
    /// If the rectangle reaches outside the matrix.
    pub(crate) unsafe fn lend(&self, rows: Range<usize>, cols: Range<usize>) -> Lent<'_, T> {
        let (height, width, stride) = (rows.len(), cols.len(), self.stride);
        let empty = height == 0 || width == 0;
        let end = rows.end.checked_mul(stride);
        assert!(empty || cols.end <= stride && end.is_some_and(|end| end <= self.len), "outside the matrix");
        let start = if empty { 0 } else { rows.start * stride + cols.start };
        let lease = self.lent.enter(&rows, &cols);
        // SAFETY: checked just above to lie inside the matrix.
        Lent { first: unsafe { self.first.add(start) }, stride, rows: height, cols: width, lease, matrix: PhantomData }
    }
}

/// A rectangle that a [`TileSource`] has lent.
pub(crate) struct Lent<'a, T> {
    first: *mut T,
    stride: usize,
    rows: usize,
    cols: usize,
    /// Gives the rectangle back when it is dropped.
    #[allow(dead_code)]
    lease: Lease<'a>,
    matrix: PhantomData<&'a mut [T]>,
}

impl<T> Lent<'_, T> {
    /// The rectangle.
    pub(crate) fn tile(&mut self) -> TileMut<'_, T> {
        TileMut { first: self.first, stride: self.stride, rows: self.rows, cols: self.cols, matrix: PhantomData }
    }
}

#[cfg(debug_assertions)]
use super::ledger::{Lease, Ledger};
#[cfg(not(debug_assertions))]
use release::{Lease, Ledger};

/// What stands in for the ledger of lent rectangles in release builds: nothing.
#[cfg(not(debug_assertions))]
mod release {
    pub(super) struct Ledger;
    pub(super) struct Lease<'l>(core::marker::PhantomData<&'l Ledger>);

    impl Ledger {
        pub(super) fn new() -> Self {
            Ledger
        }
        #[inline(always)]
        pub(super) fn enter(&self, _: &core::ops::Range<usize>, _: &core::ops::Range<usize>) -> Lease<'_> {
            Lease(core::marker::PhantomData)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn rectangles_hold_their_elements() {
        let mut matrix = vec![0u32; 5 * 7];
        let source = TileSource::new(&mut matrix, 7);
        // SAFETY: the two share no column.
        let (mut a, mut b) = unsafe { (source.lend(1..4, 0..3), source.lend(0..5, 3..7)) };
        for (lent, value) in [(&mut a, 1), (&mut b, 2)] {
            let mut tile = lent.tile();
            for r in 0..tile.rows() {
                tile.row_mut(r).fill(value);
            }
            tile.sub(0..1, 1..2).row_mut(0)[0] += 10;
        }
        drop((a, b));
        let want: [&[u32]; 5] = [
            &[0, 0, 0, 2, 12, 2, 2],
            &[1, 11, 1, 2, 2, 2, 2],
            &[1, 1, 1, 2, 2, 2, 2],
            &[1, 1, 1, 2, 2, 2, 2],
            &[0, 0, 0, 2, 2, 2, 2],
        ];
        assert_eq!(matrix, want.concat());
    }

    /// No sum or product of a rectangle's borders may wrap round to a place inside.
    #[test]
    fn rectangles_outside_are_refused() {
        let half = usize::MAX / 2 + 1;
        for (stride, rows, cols) in [
            (7, 4..6, 0..1),
            (7, 0..1, 5..8),
            (half, 2..3, 0..1),
            (half + 1, 1..2, half..half + 1),
            (2, half..half + 1, 0..2),
            (usize::MAX, 0..2, 0..1),
            (7, usize::MAX - 1..usize::MAX, 0..7),
        ] {
            let refused = std::panic::catch_unwind(|| {
                let mut matrix = [0u8; 5 * 7];
                let source = TileSource::new(&mut matrix, stride);
                // SAFETY: it is the only one.
                drop(unsafe { source.lend(rows.clone(), cols.clone()) });
            });
            assert!(refused.is_err(), "{stride} {rows:?} {cols:?}");
        }
        let source = TileSource::<u8>::new(&mut [], 0);
        // SAFETY: both are empty.
        let (mut a, mut b) = unsafe { (source.lend(3..4, 0..0), source.lend(3..4, 0..0)) };
        assert!(a.tile().row_mut(0).is_empty() && b.tile().row_mut(0).is_empty());
    }
}
