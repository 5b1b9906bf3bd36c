//! The protocol between a leader and its helpers: who may run which job, and when everybody has left a loop.

use super::Executor;
use super::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering, UnsafeCell, spin_loop};
use crate::limits::THREADS_MAX;

type Job<'f> = dyn Fn(usize, usize) + Sync + 'f;

#[derive(Clone, Copy)]
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
    threads: usize,
    state: AtomicU64,
    cursor: AtomicUsize,
    quit: AtomicBool,
    /// Somebody has a loop open, or is about to.
    busy: AtomicBool,
    /// Numbers given to threads so far; the leader has 0.
    numbers: AtomicUsize,
    current: UnsafeCell<Loop>,
}

// SAFETY: `current` is written by whoever has set `busy`, only while the loop is closed and no thread is inside, and
// read by others only while they are counted inside (see `serve`); the atomics order the two. Its pointer is to a
// `Sync` closure.
unsafe impl Sync for Team<'_> {}

/// Runs `leader` on the calling thread with the executor's other threads at its service.
///
/// # Panics
/// If the executor does not call its leader: a bug of the executor.
pub fn with_team<R>(executor: &dyn Executor, leader: impl FnOnce(&Team<'_>) -> R) -> R {
    let nothing: &Job<'static> = &|_, _| ();
    let team = Team {
        executor,
        threads: executor.threads().clamp(1, THREADS_MAX),
        state: AtomicU64::new(0),
        cursor: AtomicUsize::new(0),
        quit: AtomicBool::new(false),
        busy: AtomicBool::new(false),
        numbers: AtomicUsize::new(1),
        current: UnsafeCell::new(Loop { body: nothing, jobs: 0 }),
    };
    let (mut leader, mut result) = (Some(leader), None);
    let mut lead = || {
        if let Some(leader) = leader.take() {
            let _stop = OnDrop(|| team.quit.store(true, Ordering::Release));
            result = Some(leader(&team));
        }
    };
    executor.run(&mut lead, &|| team.serve());
    match result {
        Some(result) => result,
        None => panic!("Executor::run returned without calling its leader"),
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
        self.threads
    }

    /// Calls `body(thread, job)` once for every `job` in `0..jobs`, spread over the team. `thread` is below
    /// [`Team::threads`] and no two calls with the same `thread` run at the same time.
    ///
    /// # Panics
    /// If the team is in a loop already, on this thread or another: a bug of the caller.
    pub fn each(&self, jobs: usize, body: &(dyn Fn(usize, usize) + Sync)) {
        if jobs <= 1 || self.threads == 1 {
            (0..jobs).for_each(|j| body(0, j));
            return;
        }
        assert!(!self.busy.swap(true, Ordering::Acquire), "loops do not nest");
        // SAFETY: only the lifetime changes. The pointer is used by threads counted inside an open loop, and
        // this function does not return (or unwind) before the loop is closed and nobody is inside.
        let body: *const Job<'static> = unsafe { core::mem::transmute::<*const Job<'_>, *const Job<'static>>(body) };
        let number = (self.state.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        // SAFETY: the team was not busy: the last loop is closed and nobody is inside it. Now it is, so nobody else
        // looks at `current`.
        self.current.with_mut(|current| unsafe { *current = Loop { body, jobs } });
        self.cursor.store(0, Ordering::Relaxed);
        self.state.store(number << 32 | OPEN, Ordering::Release);
        let _close = OnDrop(|| self.close());
        self.claim(0);
    }

    /// Closes the loop and waits until nobody is inside, whatever the executor does.
    fn close(&self) {
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        // `relax` is the shell's: should it panic, those inside still hold the leader's closure.
        let without_relax = OnDrop(|| {
            while self.somebody_inside() {
                spin_loop();
            }
            self.busy.store(false, Ordering::Release);
        });
        let mut spins = 0;
        while self.somebody_inside() {
            self.executor.relax(spins);
            spins = spins.saturating_add(1);
        }
        core::mem::forget(without_relax);
        self.busy.store(false, Ordering::Release);
    }

    /// Acquire: what those who have left wrote is seen by whoever reads that they are gone.
    fn somebody_inside(&self) -> bool {
        self.state.load(Ordering::Acquire) & INSIDE != 0
    }

    /// Claims runs of neighbouring jobs, long ones first and single ones last: memory is read fastest in long runs,
    /// and a slow core is left with little at the end.
    fn claim(&self, thread: usize) {
        // SAFETY: the caller is the leader with its loop open, or counted inside it: `current` is stable.
        let Loop { body, jobs } = self.current.with(|current| unsafe { *current });
        // SAFETY: as above, and the leader's closure lives as long.
        let body = unsafe { &*body };
        let shares = 2 * self.threads;
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

    /// A number below `threads` that no other call has; none if all are taken.
    fn number(&self) -> Option<usize> {
        let mut next = self.numbers.load(Ordering::Relaxed);
        while next < self.threads {
            match self.numbers.compare_exchange(next, next + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(next),
                Err(now) => next = now,
            }
        }
        None
    }

    /// Helps with every loop that opens until the leader is done. However often, from wherever and whenever an executor
    /// calls it, each call works under a number of its own.
    fn serve(&self) {
        let Some(thread) = self.number() else { return };
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
}
