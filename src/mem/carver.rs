//! A bump allocator that can also only count.

use super::MemError;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, align_of, size_of};

/// Every slice starts at a multiple of this many bytes: a cache line, and the widest vector.
pub const ALIGN: usize = 64;

/// Hands out slices of one block of memory, or only measures how large the block must be.
pub struct Carver<'a> {
    /// Null when measuring.
    base: *mut u8,
    have: usize,
    used: usize,
    memory: PhantomData<&'a mut [MaybeUninit<u8>]>,
}

impl<'a> Carver<'a> {
    /// Counts bytes and hands out empty slices.
    pub fn measure() -> Self {
        Carver { base: core::ptr::null_mut(), have: usize::MAX, used: 0, memory: PhantomData }
    }

    /// Hands out slices of `memory`, which must start at a multiple of [`ALIGN`]; [`super::Arena`] does. What lies there
    /// is not read, and what lies there afterwards cannot be read as bytes: a type may have gaps between its fields.
    pub fn over(memory: &'a mut [MaybeUninit<u8>]) -> Result<Self, MemError> {
        if !memory.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(MemError::Misaligned);
        }
        Ok(Carver::aligned(memory))
    }

    /// The same where the type of the memory says how it is aligned.
    pub(super) fn aligned(memory: &'a mut [MaybeUninit<u8>]) -> Self {
        Carver { base: memory.as_mut_ptr().cast(), have: memory.len(), used: 0, memory: PhantomData }
    }

    /// True when only counting: slices handed out are empty then.
    pub fn is_measuring(&self) -> bool {
        self.base.is_null()
    }

    /// Bytes used (or counted) so far.
    pub fn used(&self) -> usize {
        self.used
    }

    /// A slice of `len` elements, each set to `init`; empty when measuring.
    pub fn take<T: Copy>(&mut self, len: usize, init: T) -> Result<&'a mut [T], MemError> {
        const { assert!(align_of::<T>() <= ALIGN) };
        let bytes = len.checked_mul(size_of::<T>()).ok_or(MemError::Overflow)?;
        let padded = bytes.checked_next_multiple_of(ALIGN).ok_or(MemError::Overflow)?;
        let end = self.used.checked_add(padded).filter(|&e| e <= isize::MAX as usize).ok_or(MemError::Overflow)?;
        if end > self.have {
            return Err(MemError::Full { need: end, have: self.have });
        }
        let start = core::mem::replace(&mut self.used, end);
        if self.base.is_null() {
            return Ok(&mut []);
        }
        // SAFETY: start + bytes <= have, so the range lies in the block that was borrowed mutably for 'a;
        // `used` only grows, so no two slices overlap; the start is aligned to ALIGN >= align_of::<T>();
        // every element is written before the slice exists.
        #[allow(clippy::cast_ptr_alignment)]
        unsafe {
            let first = self.base.add(start).cast::<T>();
            for i in 0..len {
                first.add(i).write(init);
            }
            Ok(core::slice::from_raw_parts_mut(first, len))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Arena;
    use super::*;

    fn layout<'a>(c: &mut Carver<'a>) -> Result<(&'a mut [u32], &'a mut [u8]), MemError> {
        Ok((c.take(5, 7u32)?, c.take(65, 1u8)?))
    }

    #[test]
    fn measuring_and_carving_agree() {
        let mut m = Carver::measure();
        layout(&mut m).unwrap();
        assert_eq!(m.used(), 64 + 128);
        let mut arena = Arena::<512>::new();
        for have in 0..m.used() {
            let mut c = Carver::over(&mut arena.bytes()[..have]).unwrap();
            assert!(matches!(layout(&mut c), Err(MemError::Full { .. })), "{have}");
        }
        let mut c = Carver::over(&mut arena.bytes()[..192]).unwrap();
        let (a, b) = layout(&mut c).unwrap();
        assert_eq!((a, b), (&mut [7u32; 5][..], &mut [1u8; 65][..]));
    }

    #[test]
    fn refuses_misaligned_and_huge() {
        let mut arena = Arena::<512>::new();
        for skip in 1..ALIGN {
            assert!(matches!(Carver::over(&mut arena.bytes()[skip..]), Err(MemError::Misaligned)));
        }
        assert_eq!(Carver::measure().take(usize::MAX / 2, 0u64).unwrap_err(), MemError::Overflow);
        let mut c = arena.carver();
        c.take(1, 0u8).unwrap();
        for len in [usize::MAX, usize::MAX - 63, usize::MAX - 127, isize::MAX as usize - 63] {
            assert_eq!(c.take(len, 0u8).unwrap_err(), MemError::Overflow, "{len}");
        }
        assert_eq!(c.take(449, 0u8).unwrap_err(), MemError::Full { need: 576, have: 512 });
        assert_eq!(c.take(448, 3u8).unwrap(), [3; 448]);
    }

    /// Types with gaps go into memory that nobody has written, over each other, as often as one likes.
    #[test]
    fn padded_types_over_and_over() {
        #[derive(Clone, Copy, Debug, PartialEq)]
        struct Padded(u8, u64, Option<u16>);
        let mut arena = Arena::<256>::new();
        for round in 0..3 {
            let mut c = arena.carver();
            let (a, b) = (c.take(2, Padded(round, 7, None)).unwrap(), c.take(3, (round, 9u32)).unwrap());
            a[1].2 = Some(3);
            assert_eq!((&*a, &*b), (&[Padded(round, 7, None), Padded(round, 7, Some(3))][..], &[(round, 9); 3][..]));
        }
    }
}
