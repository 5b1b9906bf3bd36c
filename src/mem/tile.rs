//! One row-major matrix lent to several threads, each getting rectangles that no other thread gets.

use core::marker::PhantomData;

/// A rectangle of a row-major matrix, exclusively held.
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
    pub fn sub(&mut self, rows: core::ops::Range<usize>, cols: core::ops::Range<usize>) -> TileMut<'_, T> {
        assert!(rows.start <= rows.end && rows.end <= self.rows && cols.start <= cols.end && cols.end <= self.cols);
        // SAFETY: the ranges lie inside the rectangle this value holds exclusively, and it is borrowed
        // mutably as long as the part exists. An empty rectangle's address is never read.
        let first = unsafe { self.first.add(if rows.is_empty() { 0 } else { rows.start * self.stride + cols.start }) };
        TileMut { first, stride: self.stride, rows: rows.len(), cols: cols.len(), matrix: PhantomData }
    }
}

/// A matrix about to be shared by threads in disjoint rectangles.
pub struct TileSource<'a, T> {
    first: *mut T,
    len: usize,
    matrix: PhantomData<&'a mut [T]>,
}

// SAFETY: the value only lends disjoint parts (the contract of `tile`), so sharing it between threads
// shares nothing but the right to hold elements exclusively, which `T: Send` allows.
unsafe impl<T: Send> Sync for TileSource<'_, T> {}

impl<'a, T> TileSource<'a, T> {
    /// Takes the matrix for as long as the source lives.
    pub fn new(matrix: &'a mut [T]) -> Self {
        TileSource { first: matrix.as_mut_ptr(), len: matrix.len(), matrix: PhantomData }
    }

    /// Lends a rectangle.
    ///
    /// # Safety
    /// No two rectangles that overlap may exist at the same time.
    ///
    /// # Panics
    /// If the rectangle reaches outside the matrix.
    pub unsafe fn tile(
        &self,
        stride: usize,
        rows: core::ops::Range<usize>,
        cols: core::ops::Range<usize>,
    ) -> TileMut<'_, T> {
        let (height, width) = (rows.len(), cols.len());
        let start = if height == 0 || width == 0 { 0 } else { rows.start * stride + cols.start };
        assert!(height == 0 || width == 0 || (cols.end <= stride && start + (height - 1) * stride + width <= self.len));
        // SAFETY: checked just above to lie inside the matrix.
        TileMut { first: unsafe { self.first.add(start) }, stride, rows: height, cols: width, matrix: PhantomData }
    }
}
