//! What a run costs: processor time, and memory beyond what was held before.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use trill_std::fuzzing::cpu_seconds;

/// What [`measured`] found.
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    /// The most bytes held at a time.
    pub(crate) bytes: usize,
}

/// Runs `work`.
pub(crate) fn measured<R>(work: impl FnOnce() -> R) -> (R, Cost) {
    let (seconds, held) = (cpu_seconds(), HELD.load(Ordering::Relaxed));
    PEAK.store(held, Ordering::Relaxed);
    let result = work();
    let bytes = PEAK.load(Ordering::Relaxed).saturating_sub(held);
    (result, Cost { seconds: cpu_seconds() - seconds, bytes })
}

/// Counts what is allocated.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grow(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes);
    PEAK.fetch_max(held, Ordering::Relaxed);
}

fn shrink(bytes: usize) {
    HELD.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: every call is passed on to the system's allocator as it is; only counters are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for; so below.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: see `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grow(size);
        shrink(layout.size());
        // SAFETY: see `alloc`.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: see `alloc`.
        unsafe { System.dealloc(place, layout) }
    }
}
