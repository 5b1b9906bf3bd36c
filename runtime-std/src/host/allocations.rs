//! Counts heap allocations, so that "none per token" can be seen and tested, and ends the program in good order where
//! the system has no more memory (`ulimit -v`).

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Ends the program: the standard library would abort it.
#[cold]
fn refused(bytes: usize) -> ! {
    super::files::discard_all();
    crate::terminal::restore();
    // Formatted without memory.
    let (mut line, mut rest) = ([0u8; 128], bytes);
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    while at == digits.len() || rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let parts: [&[u8]; 3] = if super::signal::reports_json() {
        [br#"{"error":{"code":75,"message":""#, &digits[at..], b" bytes of memory were refused\"}}\n"]
    } else {
        [b"trill: ", &digits[at..], b" bytes of memory were refused\n"]
    };
    let mut length = 0;
    for byte in parts.into_iter().flatten() {
        line[length] = *byte;
        length += 1;
    }
    // SAFETY: the line is initialised; _exit ends the process at once.
    unsafe {
        libc::write(2, line.as_ptr().cast(), length);
        libc::_exit(i32::from(crate::exit::Code::Memory as u8))
    }
}

fn had(block: *mut u8, bytes: usize) -> *mut u8 {
    if block.is_null() { refused(bytes) } else { block }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        had(unsafe { System.alloc(layout) }, layout.size())
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        had(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        had(unsafe { System.realloc(block, layout, size) }, size)
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

// The fuzz targets have one of their own, which counts bytes.
#[cfg_attr(not(feature = "fuzzing"), global_allocator)]
#[cfg_attr(feature = "fuzzing", allow(dead_code))]
static ALLOCATOR: Counting = Counting;

/// Allocations of the whole program so far.
pub(crate) fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}
