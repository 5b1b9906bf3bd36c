//! A block of memory for those who bring their own: static, or on a stack.

use super::{ALIGN, Carver};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

/// `N` bytes that start at a multiple of [`ALIGN`], never written before they are carved (in a static: no byte of the
/// program's file).
///
/// ```
/// use trill::mem::Arena;
///
/// static MEMORY: Arena<4096> = Arena::new();
/// let mut carver = MEMORY.claim().expect("the first to ask");
/// let numbers = carver.take(100, 0u32)?;
/// numbers[99] = 1;
/// assert!(MEMORY.claim().is_none());
/// # Ok::<(), trill::mem::MemError>(())
/// ```
#[repr(C, align(64))]
pub struct Arena<const N: usize> {
    bytes: UnsafeCell<[MaybeUninit<u8>; N]>,
    claimed: AtomicBool,
}

// SAFETY: `bytes` is lent to the holder of a `&mut Arena`, or of a static one to the first that asks, which `claimed`
// decides; both leave no other way to it.
unsafe impl<const N: usize> Sync for Arena<N> {}

impl<const N: usize> Arena<N> {
    /// Memory that holds nothing yet.
    pub const fn new() -> Self {
        const { assert!(core::mem::align_of::<Self>() == ALIGN) };
        Arena { bytes: UnsafeCell::new([MaybeUninit::uninit(); N]), claimed: AtomicBool::new(false) }
    }

    /// The memory, as [`Carver::over`] takes it.
    pub fn bytes(&mut self) -> &mut [MaybeUninit<u8>] {
        self.bytes.get_mut()
    }

    /// A carver over all of it; what was carved before is no more.
    pub fn carver(&mut self) -> Carver<'_> {
        Carver::aligned(self.bytes.get_mut())
    }

    /// A carver over all of a static arena, for the first that asks: there is one memory.
    pub fn claim(&'static self) -> Option<Carver<'static>> {
        if self.claimed.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: only one call gets here, and a static is never borrowed mutably.
        Some(Carver::aligned(unsafe { &mut *self.bytes.get() }))
    }
}

impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_wherever_the_arena_lies() {
        fn check<const N: usize>() {
            let mut arenas = [const { Arena::<N>::new() }; 3];
            for arena in &mut arenas {
                let mut c = arena.carver();
                assert_eq!(c.take(N / ALIGN * ALIGN, 1u8).unwrap().as_ptr().addr() % ALIGN, 0);
                assert_eq!(Carver::over(arena.bytes()).unwrap().used(), 0);
            }
        }
        check::<0>();
        check::<1>();
        check::<64>();
        check::<1000>();
    }

    #[test]
    fn a_static_arena_is_claimed_once() {
        static ARENA: Arena<1024> = Arena::new();
        let claims = std::thread::scope(|s| {
            let ask = || ARENA.claim().map(|mut c| c.take(64, 7u8).unwrap().iter().map(|b| u32::from(*b)).sum::<u32>());
            let all = [(); 4].map(|()| s.spawn(ask));
            all.map(|t| t.join().unwrap())
        });
        let mut claims: std::vec::Vec<u32> = claims.into_iter().flatten().collect();
        assert_eq!((claims.pop(), claims.pop()), (Some(7 * 64), None));
        assert!(ARENA.claim().is_none());
    }
}
