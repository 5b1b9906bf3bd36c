//! The team with executors as they should be, and with hostile ones: whatever an executor does without `unsafe`, no place
//! of memory is lent to two threads at a time. Under miri these tests look for data races as well.

use super::*;
use crate::limits::THREADS_MAX;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::vec;
use std::vec::Vec;

/// Rounds of a test, fewer where an interpreter runs it.
const fn rounds(n: usize) -> usize {
    if cfg!(miri) { n.div_ceil(100) } else { n }
}

struct Scoped(usize);
impl Executor for Scoped {
    fn threads(&self) -> usize {
        self.0
    }
    fn run(&self, leader: &mut dyn FnMut(), helper: &(dyn Fn() + Sync)) {
        std::thread::scope(|s| {
            for _ in 1..self.0 {
                s.spawn(helper);
            }
            leader();
        });
    }
    fn relax(&self, spins: u32) {
        if spins > 100 { std::thread::yield_now() } else { core::hint::spin_loop() }
    }
}

/// Fills a matrix tile by tile with the number of each element, and checks that each was written once and that scratch
/// is one thread's at a time.
fn every_element_once_with(executor: &dyn Executor, rounds: usize) {
    with_team(executor, |team| {
        for round in 0..rounds {
            let segments = [5 + round % 3, 1, 16];
            let width: usize = segments.iter().sum();
            let mut out = vec![0u32; 9 * width];
            let mut scratch = vec![0usize; 3 * team.threads()];
            let tiling = Tiling { rows: 9, row_grain: 4, segments: &segments, col_grain: 3 };
            team.tiles(&mut out, tiling, &mut scratch, &|place, mut tile, mine| {
                assert_eq!(mine.len(), 3);
                let before = mine[0];
                for (r, row) in place.rows.clone().enumerate() {
                    let base: usize = segments[..place.segment].iter().sum();
                    for (c, v) in tile.row_mut(r).iter_mut().enumerate() {
                        *v += (row * width + base + place.cols.start + c) as u32 + 1;
                        std::hint::black_box(&mut *mine)[0] += 1;
                    }
                }
                assert_eq!(mine[0], before + tile.rows() * tile.cols(), "somebody else wrote to this thread's scratch");
            });
            let want: Vec<u32> = (1..=out.len() as u32).collect();
            assert_eq!(out, want);
            assert_eq!(scratch.iter().sum::<usize>(), out.len());
        }
    });
}

#[test]
fn every_element_once() {
    for threads in [1, 2, 3, 7] {
        every_element_once_with(&Scoped(threads), rounds(200));
    }
}

#[test]
fn rows_of_four_matrices() {
    for threads in [1, 3] {
        with_team(&Scoped(threads), |team| {
            let (mut a, mut b) = (vec![0u8; 11 * 2], vec![0u64; 11 * 3]);
            let (mut c, mut d) = (Vec::<i16>::new(), vec![0usize; 12]);
            let all = Rows4 { a: (&mut a, 2), b: (&mut b, 3), c: (&mut c, 0), d: (&mut d, 1) };
            team.rows4(11, all, &|r, a, b, c, d| {
                assert!(a.len() == 2 && b.len() == 3 && c.is_empty() && d.len() == 1);
                a.fill(r as u8);
                b.fill(r as u64);
                d[0] += r;
            });
            assert!(a.iter().enumerate().all(|(i, v)| usize::from(*v) == i / 2));
            assert!(b.iter().enumerate().all(|(i, v)| *v == (i / 3) as u64));
            assert_eq!(d, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0]);
        });
    }
}

#[test]
fn oversubscribed_team_finishes() {
    let hits = AtomicUsize::new(0);
    with_team(&Scoped(16), |team| {
        for _ in 0..rounds(500) {
            team.each(20, &|_, _| {
                hits.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(hits.into_inner(), 20 * rounds(500));
}

type Run = fn(&mut dyn FnMut(), &(dyn Fn() + Sync));

/// An executor that says `threads` in turn and runs as it likes.
struct Hostile {
    threads: &'static [usize],
    asked: AtomicUsize,
    run: Run,
}

impl Hostile {
    fn new(threads: &'static [usize], run: Run) -> Self {
        Hostile { threads, asked: AtomicUsize::new(0), run }
    }
}

impl Executor for Hostile {
    fn threads(&self) -> usize {
        self.threads[self.asked.fetch_add(1, Ordering::Relaxed) % self.threads.len()]
    }
    fn run(&self, leader: &mut dyn FnMut(), helper: &(dyn Fn() + Sync)) {
        (self.run)(leader, helper);
    }
    fn relax(&self, _: u32) {
        std::thread::yield_now();
    }
}

/// More helpers than were promised, all at once, some again.
fn crowd(leader: &mut dyn FnMut(), helper: &(dyn Fn() + Sync)) {
    std::thread::scope(|s| {
        for _ in 0..6 {
            s.spawn(|| (0..3).for_each(|_| helper()));
        }
        leader();
    });
}

#[test]
fn hostile_executors_break_nothing() {
    const TWICE: Run = |leader, helper| {
        std::thread::scope(|s| {
            s.spawn(helper);
            s.spawn(helper);
            leader();
        });
    };
    const LEADER_TWICE: Run = |leader, helper| {
        std::thread::scope(|s| {
            s.spawn(helper);
            leader();
            leader();
        });
        leader();
    };
    const HELPER_AFTERWARDS: Run = |leader, helper| {
        leader();
        helper();
        std::thread::scope(|s| {
            s.spawn(helper);
            s.spawn(helper);
        });
    };
    const ALONE: Run = |leader, _| leader();
    const LATE: Run = |leader, helper| {
        std::thread::scope(|s| {
            s.spawn(|| {
                std::thread::yield_now();
                helper();
            });
            leader();
        });
    };
    for threads in [&[2][..], &[1], &[0], &[3, 1, 0], &[1, 9], &[7, 2], &[usize::MAX], &[usize::MAX, 1]] {
        for run in [TWICE, LEADER_TWICE, HELPER_AFTERWARDS, ALONE, LATE, crowd] {
            every_element_once_with(&Hostile::new(threads, run), rounds(10));
        }
    }
}

#[test]
fn a_team_has_as_many_threads_as_it_was_told_first() {
    for (said, want) in [(&[0, 5][..], 1), (&[5, 2], 5), (&[usize::MAX, 1], THREADS_MAX)] {
        let seen = with_team(&Hostile::new(said, crowd), |team| {
            let inside: Vec<AtomicUsize> = (0..team.threads()).map(|_| AtomicUsize::new(0)).collect();
            team.each(rounds(200), &|thread, _| {
                assert_eq!(inside[thread].fetch_add(1, Ordering::Relaxed), 0, "number {thread} was given twice");
                // Long enough for the others to come in.
                (0..20).for_each(|_| std::thread::yield_now());
                inside[thread].fetch_sub(1, Ordering::Relaxed);
            });
            (team.threads(), team.threads())
        });
        assert_eq!(seen, (want, want));
    }
}

#[test]
#[should_panic(expected = "without calling its leader")]
fn an_executor_that_calls_nobody_is_found() {
    with_team(&Hostile::new(&[2], |_, _| ()), |_| ());
}

/// A panic on any thread, in the shell's part too, leaves no loop before everybody has.
#[test]
fn panics_wait_for_those_inside() {
    struct Relax(AtomicUsize);
    impl Executor for Relax {
        fn threads(&self) -> usize {
            3
        }
        fn run(&self, leader: &mut dyn FnMut(), helper: &(dyn Fn() + Sync)) {
            std::thread::scope(|s| {
                // Helpers come again: this executor's `relax` ends them all the time.
                let again =
                    || while catch_unwind(AssertUnwindSafe(helper)).is_err() && self.0.load(Ordering::Relaxed) == 0 {};
                s.spawn(again);
                s.spawn(again);
                let done = catch_unwind(AssertUnwindSafe(leader));
                self.0.store(1, Ordering::Relaxed);
                if let Err(panic) = done {
                    std::panic::resume_unwind(panic);
                }
            });
        }
        fn relax(&self, spins: u32) {
            std::thread::yield_now();
            // A second panic while one unwinds ends the program, as everywhere.
            if spins > 3 && !std::thread::panicking() {
                // Without the hook's lines.
                std::panic::resume_unwind(std::boxed::Box::new(()));
            }
        }
    }
    for round in 0..rounds(60) {
        let inside = AtomicUsize::new(0);
        let mut out = vec![0u32; 64];
        let end = catch_unwind(AssertUnwindSafe(|| {
            with_team(&Relax(AtomicUsize::new(0)), |team| {
                let tiling = Tiling { rows: 1, row_grain: 1, segments: &[64], col_grain: 1 };
                for _ in 0..4 {
                    team.tiles(&mut out, tiling, &mut [0u8; 3], &|place, mut tile, _| {
                        inside.fetch_add(1, Ordering::Relaxed);
                        tile.row_mut(0)[0] += 1;
                        (0..round % 7).for_each(|_| std::thread::yield_now());
                        inside.fetch_sub(1, Ordering::Relaxed);
                        if round % 5 == 1 && place.cols.start == 40 {
                            std::panic::resume_unwind(std::boxed::Box::new(()));
                        }
                    });
                    assert_eq!(inside.load(Ordering::Relaxed), 0);
                }
            });
        }));
        assert_eq!(inside.load(Ordering::Relaxed), 0, "{:?}", end.is_err());
        // The matrix is ours again: nobody writes any more (miri would see it).
        out.fill(0);
    }
}

/// A loop inside a loop, on this thread or from another, is a bug and stays one in release builds.
#[test]
fn loops_neither_nest_nor_meet() {
    let refused = AtomicUsize::new(0);
    with_team(&Scoped(2), |team| {
        team.each(8, &|_, _| {
            let inner = catch_unwind(AssertUnwindSafe(|| team.each(2, &|_, _| unreachable!("a loop in a loop"))));
            refused.fetch_add(usize::from(inner.is_err()), Ordering::Relaxed);
        });
        // And afterwards it is free again.
        team.each(8, &|_, _| ());
    });
    assert_eq!(refused.into_inner(), 8);
    // Two threads with one team: one of them has the loop, or they come one after the other.
    with_team(&Scoped(2), |team| {
        let runs = AtomicUsize::new(0);
        let refused: usize = std::thread::scope(|s| {
            let both = [(); 2].map(|()| {
                s.spawn(|| {
                    let one = || {
                        team.each(5, &|_, _| {
                            runs.fetch_add(1, Ordering::Relaxed);
                        });
                    };
                    (0..rounds(200)).filter(|_| catch_unwind(AssertUnwindSafe(one)).is_err()).count()
                })
            });
            both.map(|t| t.join().unwrap()).iter().sum()
        });
        assert_eq!(runs.into_inner(), 5 * (2 * rounds(200) - refused));
    });
}

/// Sizes whose sums or products wrap round are refused, not computed with.
#[test]
fn tilings_that_do_not_fit_are_refused() {
    let half = usize::MAX / 2 + 1;
    for (rows, row_grain, segments, col_grain) in [
        (3, 1, &[6, 1][..], 2),
        (2, 1, &[5, usize::MAX - 4, 5], half),
        (half, 1, &[1, 1], 1),
        (half, half, &[2, 2], 1),
        (usize::MAX, 1, &[1], 1),
        (2, 0, &[5], 1),
        (2, 1, &[5], 0),
    ] {
        let tiling = Tiling { rows, row_grain, segments, col_grain };
        let run = || {
            let mut out = vec![0u8; 20];
            with_team(&Serial, |team| team.tiles(&mut out, tiling, &mut [0u8; 0], &|_, _, _| ()));
        };
        assert!(catch_unwind(run).is_err(), "{tiling:?}");
    }
    let rows4 = |rows: usize, a: usize, b: usize| {
        catch_unwind(move || {
            let (mut x, mut y, mut none) = (vec![0u8; 20], vec![0u8; 20], [0u8; 0]);
            let none2 = &mut [0u8; 0];
            let all = Rows4 { a: (&mut x, a), b: (&mut y, b), c: (&mut none, 0), d: (none2, 0) };
            let ran = AtomicUsize::new(0);
            with_team(&Serial, |team| {
                team.rows4(rows, all, &|_, _, _, _, _| {
                    ran.fetch_add(1, Ordering::Relaxed);
                });
            });
            ran.into_inner()
        })
    };
    assert_eq!(rows4(5, 4, 3).unwrap(), 5);
    assert!(rows4(6, 4, 3).is_err() && rows4(5, 3, half).is_err() && rows4(2, usize::MAX, 1).is_err());
}

/// Grains as large as numbers go are one tile.
#[test]
fn grains_larger_than_the_matrix() {
    let mut out = vec![0u8; 12];
    let tiling = Tiling { rows: 2, row_grain: usize::MAX, segments: &[2, 0, 4], col_grain: usize::MAX };
    with_team(&Scoped(2), |team| {
        team.tiles(&mut out, tiling, &mut [0u8; 0], &|place, mut tile, _| {
            (0..2).for_each(|r| tile.row_mut(r).iter_mut().for_each(|v| *v += 1 + place.segment as u8));
        });
    });
    assert_eq!(out, [1, 1, 3, 3, 3, 3, 1, 1, 3, 3, 3, 3]);
}
