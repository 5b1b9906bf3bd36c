//! A pool of threads that lives as long as the program. A pass of the model opens a gate; the workers that
//! are awake go in; when the leader is done the gate closes, and only those who went in are waited for. A
//! worker that the system has not scheduled therefore costs nothing. After a pass workers keep looking for
//! about a millisecond, because the next token comes at once, and then sleep until they are woken.

use super::affinity::{self, Cores};
use super::memory;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use trill::parallel::Executor;

type Helper<'h> = dyn Fn() + Sync + 'h;

/// `gate`: number of the pass << 32 | OPEN | workers inside.
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;

/// How long a worker looks for work before it sleeps.
const AWAKE: Duration = Duration::from_millis(1);
/// Rounds of a waiting loop that only spin; afterwards the rest of the time slice is given away.
const SPINS: u32 = 400;
/// With more threads than CPUs, rounds after which waiting means sleeping.
const CROWDED_YIELDS: u32 = 32;
/// How long, then.
const CROWDED_NAP: Duration = Duration::from_micros(100);

struct Shared {
    gate: AtomicU64,
    /// What workers do in this pass; meaningful while the gate is open or somebody is inside.
    helper: std::cell::UnsafeCell<Option<*const Helper<'static>>>,
    /// A pass is going on, or about to.
    busy: AtomicBool,
    sleeping: Vec<AtomicBool>,
    quit: AtomicBool,
    /// Workers that have started.
    started: AtomicUsize,
    /// More threads than CPUs to run them.
    crowded: bool,
}

// SAFETY: `helper` is written by whoever has set `busy`, only while the gate is closed with nobody inside, and read by
// workers only while they are counted inside; the atomics order the two.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `helper` is to a `Sync` closure.
unsafe impl Send for Shared {}

/// The threads.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Thread, Option<JoinHandle<()>>)>,
}

impl Pool {
    /// `threads` of them, the caller's included, on `cores`. Threads that the system refuses are done without.
    pub(crate) fn new(threads: usize, cores: &Cores) -> Pool {
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            helper: std::cell::UnsafeCell::new(None),
            busy: AtomicBool::new(false),
            sleeping: (1..threads).map(|_| AtomicBool::new(false)).collect(),
            quit: AtomicBool::new(false),
            started: AtomicUsize::new(0),
            crowded: threads > cores.allowed.min(cores.quota),
        });
        // More threads than big cores were asked for: then the user wants the other cores too.
        let pin_to = (threads > 1 && threads <= cores.big.len()).then(|| cores.big.clone());
        if let Some(cpus) = &pin_to {
            affinity::pin(cpus);
        }
        // The first thread's stack grows as it is used, to what `ulimit -s` says.
        if memory::soft_limit(libc::RLIMIT_STACK).is_none_or(|limit| limit > 2 * STACK as u64) {
            touch_stack();
        }
        let mut workers = Vec::with_capacity(threads.saturating_sub(1));
        for index in 1..threads {
            let (shared, pin_to) = (Arc::clone(&shared), pin_to.clone());
            let spawned =
                std::thread::Builder::new().name(format!("trill-{index}")).stack_size(STACK).spawn(move || {
                    if let Some(cpus) = pin_to {
                        affinity::pin(&cpus);
                    }
                    touch_stack();
                    shared.started.fetch_add(1, Ordering::Relaxed);
                    shared.serve(index);
                });
            match spawned {
                Ok(handle) => workers.push((handle.thread().clone(), Some(handle))),
                Err(error) => {
                    told_once(&error);
                    break;
                }
            }
        }
        Pool { shared, workers }
    }

    /// Waits until every worker runs: the system allocates memory for a thread as it starts.
    pub(crate) fn wait_for_all(&self) {
        while self.shared.started.load(Ordering::Relaxed) < self.workers.len() {
            std::thread::yield_now();
        }
    }
}

/// Bytes of a worker's stack: kernels keep a few tiles there.
pub(crate) const STACK: usize = 512 << 10;
/// What thread libraries keep in a stack beside the frames, and the frames that are there already.
const STACK_TAKEN: usize = 32 << 10;

/// Uses the calling thread's stack to its end once, so that no page of it has to be found later.
#[inline(never)]
fn touch_stack() {
    let mut pages = [std::mem::MaybeUninit::<u8>::uninit(); STACK - STACK_TAKEN];
    for page in pages.chunks_mut(1024) {
        if let Some(first) = page.first_mut() {
            std::hint::black_box(first.write(0));
        }
    }
    std::hint::black_box(&pages);
}

impl Executor for Pool {
    fn threads(&self) -> usize {
        1 + self.workers.len()
    }

    fn run(&self, leader: &mut dyn FnMut(), helper: &Helper<'_>) {
        if self.workers.is_empty() {
            return leader();
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. Workers use the pointer while they are counted inside the open
        // gate, and `Close` keeps this function from returning or unwinding while anybody is inside.
        let helper: *const Helper<'static> =
            unsafe { std::mem::transmute::<*const Helper<'_>, *const Helper<'static>>(helper) };
        assert!(!shared.busy.swap(true, Ordering::Acquire), "passes do not nest");
        let number = (shared.gate.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        // SAFETY: the pool was not busy: the gate is closed and nobody is inside. Now it is, so nobody else looks at
        // `helper`.
        unsafe { *shared.helper.get() = Some(helper) };
        shared.gate.store(number << 32 | OPEN, Ordering::SeqCst);
        let _close = Close(self);
        for ((thread, _), sleeping) in self.workers.iter().zip(&shared.sleeping) {
            if sleeping.swap(false, Ordering::SeqCst) {
                thread.unpark();
            }
        }
        leader();
    }

    fn relax(&self, spins: u32) {
        self.shared.relax(spins);
    }
}

/// Closes the gate and waits for those inside.
struct Close<'p>(&'p Pool);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        let shared = &*self.0.shared;
        shared.gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while shared.gate.load(Ordering::Acquire) & INSIDE != 0 {
            shared.relax(spins);
            spins = spins.saturating_add(1);
        }
        shared.busy.store(false, Ordering::Release);
    }
}

impl Shared {
    fn relax(&self, spins: u32) {
        if spins < SPINS {
            std::hint::spin_loop();
        } else if self.crowded && spins > SPINS + CROWDED_YIELDS {
            std::thread::sleep(CROWDED_NAP);
        } else {
            std::thread::yield_now();
        }
    }

    fn serve(&self, index: usize) {
        let (mut seen, mut spins) = (0, 0);
        let mut idle_since = Instant::now();
        while !self.quit.load(Ordering::SeqCst) {
            let gate = self.gate.load(Ordering::SeqCst);
            if gate & OPEN != 0 && gate >> 32 != seen {
                let inside = self.gate.compare_exchange(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed);
                if inside.is_ok() {
                    seen = gate >> 32;
                    self.enter();
                    (spins, idle_since) = (0, Instant::now());
                }
            } else if spins < SPINS || idle_since.elapsed() < AWAKE {
                self.relax(spins);
                spins = spins.saturating_add(1);
            } else {
                self.sleep(index, seen);
                (spins, idle_since) = (0, Instant::now());
            }
        }
    }

    fn enter(&self) {
        struct Leave<'s>(&'s AtomicU64);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::AcqRel);
            }
        }
        let _leave = Leave(&self.gate);
        // SAFETY: we are counted inside an open gate: `helper` was written before it opened, and the leader
        // keeps the closure alive until we have left.
        if let Some(helper) = unsafe { *self.helper.get() } {
            // SAFETY: as above.
            unsafe { (*helper)() };
        }
    }

    /// Sleeps unless a new pass has begun. The order (flag, then look) and the leader's (gate, then flag),
    /// both sequentially consistent, rule out that both miss each other.
    fn sleep(&self, index: usize, seen: u64) {
        let Some(flag) = self.sleeping.get(index - 1) else { return };
        flag.store(true, Ordering::SeqCst);
        loop {
            let gate = self.gate.load(Ordering::SeqCst);
            if gate & OPEN != 0 && gate >> 32 != seen || self.quit.load(Ordering::SeqCst) {
                flag.store(false, Ordering::SeqCst);
                return;
            }
            std::thread::park();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::SeqCst);
        for (thread, handle) in &mut self.workers {
            thread.unpark();
            if let Some(handle) = handle.take() {
                // A worker only panics through a bug, and the panic hook has ended the program then.
                let _ = handle.join();
            }
        }
    }
}

/// Says that the system refused a thread; the first time only.
fn told_once(error: &std::io::Error) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        log::warn!("not all threads could be started: {}", crate::exit::reason(error));
    }
}

/// Does `work` on every item, the first here and each other on a thread of its own, and gives the results in order. What
/// the system has no thread for is done here, after the rest: that is told once.
pub(crate) fn side_by_side<I: Send, R: Send>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> R + Sync,
) -> Vec<R> {
    let mut slots: Vec<(Option<I>, Option<R>)> = items.into_iter().map(|item| (Some(item), None)).collect();
    let fill = |slot: &mut (Option<I>, Option<R>)| {
        if let Some(item) = slot.0.take() {
            slot.1 = Some(work(item));
        }
    };
    std::thread::scope(|scope| {
        let mut all = slots.iter_mut();
        let first = all.next();
        for slot in all {
            if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, || fill(slot)) {
                told_once(&error);
            }
        }
        first.into_iter().for_each(fill);
    });
    slots.iter_mut().for_each(fill);
    slots.into_iter().filter_map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trill::parallel::with_team;

    fn pool(threads: usize) -> Pool {
        Pool::new(threads, &Cores { big: vec![0], allowed: 2, quota: usize::MAX })
    }

    #[test]
    fn every_job_runs_once() {
        for threads in [1, 2, 3, 8] {
            let pool = pool(threads);
            assert_eq!(pool.threads(), threads);
            for pass in 0..50 {
                let hits: Vec<AtomicUsize> = (0..97).map(|_| AtomicUsize::new(0)).collect();
                with_team(&pool, |team| {
                    for _ in 0..5 {
                        team.each(hits.len(), &|_, job| {
                            hits[job].fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 5), "{threads} threads, pass {pass}");
            }
        }
    }

    #[test]
    fn workers_take_part_after_sleeping() {
        let pool = pool(2);
        let helped = AtomicUsize::new(0);
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(4));
            let deadline = Instant::now() + Duration::from_secs(5);
            let before = helped.load(Ordering::SeqCst);
            let mut wait = || {
                while helped.load(Ordering::SeqCst) == before && Instant::now() < deadline {
                    std::thread::yield_now();
                }
            };
            pool.run(&mut wait, &|| {
                helped.fetch_add(1, Ordering::SeqCst);
            });
        }
        assert_eq!(helped.into_inner(), 20, "a sleeping worker was not woken");
    }

    #[test]
    fn a_pass_does_not_wait_for_workers_that_did_not_come() {
        let pool = pool(8);
        let start = Instant::now();
        for _ in 0..2000 {
            with_team(&pool, |team| team.each(4, &|_, _| ()));
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

    #[test]
    fn side_by_side_keeps_the_order() {
        assert_eq!(side_by_side(0..9, |i| i * i), [0, 1, 4, 9, 16, 25, 36, 49, 64]);
        assert!(side_by_side(0..0, |i| i).is_empty());
    }

    #[test]
    fn pools_come_and_go() {
        for threads in (1..=9).cycle().take(60) {
            let pool = pool(threads);
            let sum = AtomicUsize::new(0);
            with_team(&pool, |team| {
                team.each(100, &|_, job| {
                    sum.fetch_add(job, Ordering::Relaxed);
                });
            });
            assert_eq!(sum.into_inner(), 4950);
        }
    }
}
