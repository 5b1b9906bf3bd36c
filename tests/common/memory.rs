//! Working memory for the core.

use std::mem::MaybeUninit;
use trill::mem::{ALIGN, Carver};

/// A block of memory that a [`Carver`] accepts.
#[derive(Default)]
pub(crate) struct Memory(Vec<MaybeUninit<u8>>);

impl Memory {
    /// `bytes` bytes.
    pub(crate) fn bytes(&mut self, bytes: usize) -> &mut [MaybeUninit<u8>] {
        self.0.resize(bytes + ALIGN, MaybeUninit::uninit());
        let skip = self.0.as_ptr().align_offset(ALIGN);
        &mut self.0[skip..skip + bytes]
    }

    /// A carver over `bytes` bytes.
    pub(crate) fn carver(&mut self, bytes: usize) -> Carver<'_> {
        Carver::over(self.bytes(bytes)).expect("aligned memory")
    }
}
