//! The team in `src/parallel/` through every order of its threads' steps, and every value that the memory model lets them
//! read: `make loom`.
//!
//! The models are small on purpose: orders grow with the factorial of the steps. A thread may be interrupted as often as
//! `preemptions` says; orders that differ in more are left out.

use crate::parallel::{Executor, Team, with_team};
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `helpers` threads beside the leader, of a team that is told `threads`.
struct Threads {
    threads: usize,
    helpers: usize,
}

impl Executor for Threads {
    fn threads(&self) -> usize {
        self.threads
    }
    fn run(&self, leader: &mut dyn FnMut(), helper: &(dyn Fn() + Sync)) {
        // SAFETY: every thread is joined below, before the borrow ends. Loom has no scoped threads.
        let helper: &'static (dyn Fn() + Sync) = unsafe { std::mem::transmute(helper) };
        let threads: Vec<_> = (0..self.helpers).map(|_| thread::spawn(helper)).collect();
        leader();
        threads.into_iter().for_each(|t| t.join().expect("a helper"));
    }
    fn relax(&self, _: u32) {
        thread::yield_now();
    }
}

/// Numbers that threads write without a lock, in cells that tell loom of every access: two that are not ordered, one of
/// them a write, end the model.
struct Cells(Vec<UnsafeCell<usize>>);

// SAFETY: what the models are about. Loom runs one thread at a time and looks at each access.
unsafe impl Sync for Cells {}

impl Cells {
    fn new(n: usize) -> Self {
        Cells((0..n).map(|_| UnsafeCell::new(0)).collect())
    }
    fn add(&self, i: usize, n: usize) {
        // SAFETY: loom has looked.
        self.0[i].with_mut(|v| unsafe { *v += n });
    }
    fn all(&self) -> Vec<usize> {
        // SAFETY: loom has looked.
        self.0.iter().map(|v| v.with(|v| unsafe { *v })).collect()
    }
}

/// Runs `leader` in every order and says how many there were.
fn every_order(name: &str, executor: Threads, preemptions: usize, leader: impl Fn(&Team<'_>) + Sync + Send + 'static) {
    static ORDERS: AtomicUsize = AtomicUsize::new(0);
    let before = ORDERS.load(Ordering::Relaxed);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    let Threads { threads, helpers } = executor;
    model.check(move || {
        ORDERS.fetch_add(1, Ordering::Relaxed);
        with_team(&Threads { threads, helpers }, |team| leader(team));
    });
    let orders = ORDERS.load(Ordering::Relaxed) - before;
    println!("{name}: {orders} orders of {} threads, up to {preemptions} preemptions", helpers + 1);
    assert!(orders > 10, "only {orders}: the threads never met");
}

/// Loops of `jobs`, one after the other: each job runs once, each thread's own cell is one thread's at a time, and the
/// leader sees what was written when the loop has returned.
fn loops(jobs: &'static [usize]) -> impl Fn(&Team<'_>) {
    move |team| {
        for &jobs in jobs {
            // They live as long as the loop, as a layer's locals do: who comes late must not reach them.
            let (done, own) = (Cells::new(jobs), Cells::new(team.threads()));
            team.each(jobs, &|number, job| {
                done.add(job, job + 1);
                own.add(number, 1);
            });
            assert_eq!(done.all(), (1..=jobs).collect::<Vec<_>>());
            assert_eq!(own.all().iter().sum::<usize>(), jobs);
        }
    }
}

/// One test, so that the models take turns: loom's threads share two cores badly.
#[test]
fn the_team_in_every_order() {
    // Of three threads two wait at a time, and with more preemptions than one they may give way to each other for ever.
    let team = |threads, helpers| Threads { threads, helpers };
    every_order("one loop of two jobs", team(2, 1), 6, loops(&[2]));
    every_order("two loops", team(2, 1), 3, loops(&[2, 3]));
    every_order("two helpers", team(3, 2), 1, loops(&[2]));
    every_order("two helpers, two loops", team(3, 2), 1, loops(&[2, 3]));
    every_order("more helpers than were promised", team(2, 2), 1, loops(&[2]));
}
