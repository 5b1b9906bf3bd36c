//! Which rectangles of a matrix are lent at the moment, in debug builds: two that overlap are a bug of ours that safe
//! code could not show, and are found when the second is asked for. Release builds know nothing of it.

use crate::limits::THREADS_MAX;
use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone, Copy)]
struct Rect {
    rows: (usize, usize),
    cols: (usize, usize),
}

impl Rect {
    const EMPTY: Rect = Rect { rows: (0, 0), cols: (0, 0) };

    fn is_empty(&self) -> bool {
        self.rows.0 >= self.rows.1 || self.cols.0 >= self.cols.1
    }

    fn overlaps(&self, other: &Rect) -> bool {
        let meet = |a: (usize, usize), b: (usize, usize)| a.0.max(b.0) < a.1.min(b.1);
        meet(self.rows, other.rows) && meet(self.cols, other.cols)
    }
}

/// The rectangles lent at the moment: each thread of a team holds one.
pub(super) struct Ledger {
    locked: AtomicBool,
    /// Free places are empty rectangles.
    lent: UnsafeCell<[Rect; THREADS_MAX]>,
}

// SAFETY: `lent` is only touched by `locked`.
unsafe impl Sync for Ledger {}

/// Gives a rectangle back when it is dropped.
pub(super) struct Lease<'l> {
    ledger: &'l Ledger,
    slot: Option<usize>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Ledger { locked: AtomicBool::new(false), lent: UnsafeCell::new([Rect::EMPTY; THREADS_MAX]) }
    }

    /// # Panics
    /// If the rectangle overlaps one that is lent, or more are lent than a team has threads.
    pub(super) fn enter(&self, rows: &Range<usize>, cols: &Range<usize>) -> Lease<'_> {
        let rect = Rect { rows: (rows.start, rows.end), cols: (cols.start, cols.end) };
        if rect.is_empty() {
            return Lease { ledger: self, slot: None };
        }
        let (overlap, slot) = self.locked(|lent| {
            let overlap = lent.iter().any(|other| other.overlaps(&rect));
            let slot = lent.iter().position(Rect::is_empty).filter(|_| !overlap);
            if let Some(slot) = slot {
                lent[slot] = rect;
            }
            (overlap, slot)
        });
        assert!(!overlap, "two threads were lent tiles that overlap: rows {rows:?}, columns {cols:?}");
        assert!(slot.is_some(), "more tiles of one matrix are lent than a team has threads");
        Lease { ledger: self, slot }
    }

    fn locked<R>(&self, f: impl FnOnce(&mut [Rect; THREADS_MAX]) -> R) -> R {
        while self.locked.swap(true, Ordering::Acquire) {
            spin_loop();
        }
        // SAFETY: between the swap that found `false` and the store below nobody else is here.
        let result = f(unsafe { &mut *self.lent.get() });
        self.locked.store(false, Ordering::Release);
        result
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.ledger.locked(|lent| lent[slot] = Rect::EMPTY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn overlaps_are_found_while_both_are_lent() {
        let ledger = Ledger::new();
        let refused = |rows: Range<usize>, cols: Range<usize>| {
            catch_unwind(AssertUnwindSafe(|| drop(ledger.enter(&rows, &cols)))).is_err()
        };
        let lease = ledger.enter(&(2..4), &(10..20));
        let _other = ledger.enter(&(2..4), &(20..30));
        for (rows, cols) in [(2..4, 10..20), (3..9, 19..20), (0..3, 0..11), (0..9, 0..99), (3..4, 12..13)] {
            assert!(refused(rows.clone(), cols.clone()), "{rows:?} {cols:?}");
        }
        for (rows, cols) in [(0..2, 0..99), (4..9, 0..99), (2..4, 0..10), (2..4, 30..99), (3..3, 0..99), (0..9, 5..5)] {
            assert!(!refused(rows.clone(), cols.clone()), "{rows:?} {cols:?}");
        }
        drop(lease);
        assert!(!refused(2..4, 10..20));
        let _all: std::vec::Vec<_> = (0..THREADS_MAX - 1).map(|i| ledger.enter(&(100 + i..101 + i), &(0..1))).collect();
        assert!(refused(0..1, 0..1), "a table that is full looks at nothing");
    }
}
