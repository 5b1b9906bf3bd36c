//! A team of threads. The shell lends threads through [`Executor`]; one [`with_team`] covers a whole
//! forward pass. Inside it the leader walks the model as plain sequential code and hands out loops;
//! the other threads wait for them. A loop is a row of jobs claimed a run at a time, so a slow core simply
//! claims fewer, and a thread that the system has not scheduled is not waited for: the leader only waits
//! for jobs that were claimed. That is what keeps an oversubscribed machine from collapsing.
//!
//! Results never depend on which thread ran a job.
//!
//! Room rules: unsafe code only lends the leader's closure to the team and splits matrices into tiles.
#![allow(unsafe_code)]

use crate::mem::{TileMut, TileSource};
use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Threads, as the shell lends them.
pub trait Executor: Sync {
    /// How many threads `run` uses, the caller's included.
    fn threads(&self) -> usize;
    /// Calls `work(i)` for every `i` in `0..threads()`, `work(0)` on the calling thread, and returns when
    /// all calls have returned. Other indices may be skipped when their thread is not ready by then.
    fn run(&self, work: &(dyn Fn(usize) + Sync));
    /// Called in waiting loops with the number of rounds waited: spin first, yield later.
    fn relax(&self, spins: u32) {
        let _ = spins;
        core::hint::spin_loop();
    }
}

/// The caller's thread alone.
pub struct Serial;

impl Executor for Serial {
    fn threads(&self) -> usize {
        1
    }
    fn run(&self, work: &(dyn Fn(usize) + Sync)) {
        work(0);
    }
}

type Job<'f> = dyn Fn(usize, usize) + Sync + 'f;

struct Loop {
    /// The leader's closure; valid while `state` says open or some thread is inside.
    body: *const Job<'static>,
    jobs: usize,
}

/// `state`: number of the loop << 32 | OPEN | threads inside.
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;

/// The threads of one [`with_team`].
pub struct Team<'e> {
    executor: &'e dyn Executor,
    state: AtomicU64,
    cursor: AtomicUsize,
    quit: AtomicBool,
    current: UnsafeCell<Loop>,
}

// SAFETY: `current` is written by the leader only while the loop is closed and no thread is inside, and
// read by others only while they are counted inside (see `serve`); the atomics order the two.
unsafe impl Sync for Team<'_> {}

/// Runs `leader` on the calling thread with the executor's other threads at its service.
pub fn with_team<R>(executor: &dyn Executor, leader: impl FnOnce(&Team<'_>) -> R) -> R {
    struct Slot<F, R>(UnsafeCell<(Option<F>, Option<R>)>);
    // SAFETY: only the call with index 0, made on the calling thread, touches the content.
    unsafe impl<F, R> Sync for Slot<F, R> {}
    impl<F: FnOnce(&Team<'_>) -> R, R> Slot<F, R> {
        fn lead(&self, team: &Team<'_>) {
            // SAFETY: index 0 is called once, on the calling thread, so this is the only reference.
            let slot = unsafe { &mut *self.0.get() };
            if let Some(f) = slot.0.take() {
                slot.1 = Some(f(team));
            }
        }
    }

    let team = Team {
        executor,
        state: AtomicU64::new(0),
        cursor: AtomicUsize::new(0),
        quit: AtomicBool::new(false),
        current: UnsafeCell::new(Loop { body: core::ptr::from_ref::<Job<'static>>(&|_, _| ()), jobs: 0 }),
    };
    let slot = Slot(UnsafeCell::new((Some(leader), None)));
    executor.run(&|index| {
        if index == 0 {
            let _stop = OnDrop(|| team.quit.store(true, Ordering::Release));
            slot.lead(&team);
        } else {
            team.serve(index);
        }
    });
    match slot.0.into_inner().1 {
        Some(result) => result,
        None => unreachable!("Executor::run returned without calling work(0)"),
    }
}

struct OnDrop<F: FnMut()>(F);
impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Team<'_> {
    /// Threads in the team.
    pub fn threads(&self) -> usize {
        self.executor.threads()
    }

    /// Calls `body(thread, job)` once for every `job` in `0..jobs`, spread over the team. `thread` is below
    /// [`Team::threads`] and no two calls with the same `thread` run at the same time.
    pub fn each(&self, jobs: usize, body: &(dyn Fn(usize, usize) + Sync)) {
        if jobs <= 1 || self.threads() == 1 {
            (0..jobs).for_each(|j| body(0, j));
            return;
        }
        // SAFETY: only the lifetime changes. The pointer is used by threads counted inside an open loop, and
        // this function does not return (or unwind) before the loop is closed and nobody is inside.
        let body: *const Job<'static> = unsafe { core::mem::transmute::<*const Job<'_>, *const Job<'static>>(body) };
        let state = self.state.load(Ordering::Relaxed);
        debug_assert!(state & (OPEN | INSIDE) == 0, "loops do not nest");
        // SAFETY: the last loop is closed and nobody is inside it, so nobody else looks at `current`.
        unsafe { *self.current.get() = Loop { body, jobs } };
        self.cursor.store(0, Ordering::Relaxed);
        self.state.store((state >> 32).wrapping_add(1) << 32 | OPEN, Ordering::Release);
        let _close = OnDrop(|| {
            self.state.fetch_and(!OPEN, Ordering::AcqRel);
            let mut spins = 0;
            while self.state.load(Ordering::Acquire) & INSIDE != 0 {
                self.executor.relax(spins);
                spins = spins.saturating_add(1);
            }
        });
        self.claim(0);
    }

    /// Claims runs of neighbouring jobs, long ones first and single ones last: memory is read fastest in long runs,
    /// and a slow core is left with little at the end.
    fn claim(&self, thread: usize) {
        // SAFETY: the caller is the leader with its loop open, or counted inside it: `current` is stable.
        let (body, jobs) = unsafe { (&*(*self.current.get()).body, (*self.current.get()).jobs) };
        let shares = 2 * self.threads();
        let mut first = self.cursor.load(Ordering::Relaxed);
        while first < jobs {
            let end = first + ((jobs - first) / shares).max(1);
            match self.cursor.compare_exchange_weak(first, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    (first..end).for_each(|job| body(thread, job));
                    first = self.cursor.load(Ordering::Relaxed);
                }
                Err(now) => first = now,
            }
        }
    }

    fn serve(&self, thread: usize) {
        let mut seen = 0;
        let mut spins = 0;
        while !self.quit.load(Ordering::Acquire) {
            let state = self.state.load(Ordering::Acquire);
            if state & OPEN != 0
                && state >> 32 != seen
                && self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                let _leave = OnDrop(|| {
                    self.state.fetch_sub(1, Ordering::AcqRel);
                });
                seen = state >> 32;
                self.claim(thread);
                spins = 0;
            } else {
                self.executor.relax(spins);
                spins = spins.saturating_add(1);
            }
        }
    }

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
        let (a, b, c, d) = (TileSource::new(a.0), TileSource::new(b.0), TileSource::new(c.0), TileSource::new(d.0));
        self.each(rows, &|_, r| {
            // SAFETY: each job lends row `r` of each matrix, and each `r` comes once.
            let (mut a, mut b, mut c, mut d) = unsafe {
                (
                    a.tile(wa, r..r + 1, 0..wa),
                    b.tile(wb, r..r + 1, 0..wb),
                    c.tile(wc, r..r + 1, 0..wc),
                    d.tile(wd, r..r + 1, 0..wd),
                )
            };
            body(r, a.row_mut(0), b.row_mut(0), c.row_mut(0), d.row_mut(0));
        });
    }

    /// Splits the row-major matrix `out` as `tiling` says and calls `body(place, tile, scratch)` once for
    /// every tile. `scratch` is divided evenly among the threads; `body` gets its thread's part.
    ///
    /// # Panics
    /// If `out` is smaller than `tiling` describes: a bug of the caller.
    pub fn tiles<T: Send, S: Send>(
        &self,
        out: &mut [T],
        tiling: Tiling<'_>,
        scratch: &mut [S],
        body: &(dyn Fn(Place, TileMut<'_, T>, &mut [S]) + Sync),
    ) {
        let share = scratch.len() / self.threads();
        let (out, scratch) = (TileSource::new(out), TileSource::new(scratch));
        let stride = tiling.stride();
        self.each(tiling.jobs(), &|thread, job| {
            let place = tiling.place(job);
            let offset: usize = tiling.segments[..place.segment].iter().sum();
            let cols = offset + place.cols.start..offset + place.cols.end;
            // SAFETY: `place` maps different jobs to disjoint rectangles, and each job runs once; calls with
            // the same `thread` never run at the same time, so a thread's scratch is its own.
            let (tile, mut mine) = unsafe {
                (out.tile(stride, place.rows.clone(), cols), scratch.tile(share, thread..thread + 1, 0..share))
            };
            let mine: &mut [S] = if share == 0 { &mut [] } else { mine.row_mut(0) };
            body(place, tile, mine);
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
        self.segments.iter().sum()
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
            rows: row..(row + self.row_grain).min(self.rows),
            cols: start..(start + self.col_grain).min(self.segments[segment]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    struct Scoped(usize);
    impl Executor for Scoped {
        fn threads(&self) -> usize {
            self.0
        }
        fn run(&self, work: &(dyn Fn(usize) + Sync)) {
            std::thread::scope(|s| {
                for i in 1..self.0 {
                    s.spawn(move || work(i));
                }
                work(0);
            });
        }
        fn relax(&self, spins: u32) {
            if spins > 100 { std::thread::yield_now() } else { core::hint::spin_loop() }
        }
    }

    #[test]
    fn every_element_once() {
        for threads in [1, 2, 3, 7] {
            let total = with_team(&Scoped(threads), |team| {
                for round in 0..200 {
                    let segments = [5 + round % 3, 1, 16];
                    let width: usize = segments.iter().sum();
                    let mut out = vec![0u32; 9 * width];
                    let mut scratch = vec![0u8; 3 * team.threads()];
                    let tiling = Tiling { rows: 9, row_grain: 4, segments: &segments, col_grain: 3 };
                    team.tiles(&mut out, tiling, &mut scratch, &|place, mut tile, mine| {
                        assert_eq!(mine.len(), 3);
                        for (r, row) in place.rows.clone().enumerate() {
                            let base: usize = segments[..place.segment].iter().sum();
                            for (c, v) in tile.row_mut(r).iter_mut().enumerate() {
                                *v += (row * width + base + place.cols.start + c) as u32 + 1;
                            }
                        }
                    });
                    let want: Vec<u32> = (1..=out.len() as u32).collect();
                    assert_eq!(out, want);
                }
                7
            });
            assert_eq!(total, 7);
        }
    }

    #[test]
    fn oversubscribed_team_finishes() {
        let hits = AtomicUsize::new(0);
        with_team(&Scoped(16), |team| {
            for _ in 0..500 {
                team.each(20, &|_, _| {
                    hits.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(hits.into_inner(), 10_000);
    }
}
