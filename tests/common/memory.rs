//! Working memory for the core.

use trill::mem::{ALIGN, Carver};

/// A block of memory that a [`Carver`] accepts.
#[derive(Default)]
pub(crate) struct Memory(Vec<u8>);

impl Memory {
    /// A carver over `bytes` bytes.
    pub(crate) fn carver(&mut self, bytes: usize) -> Carver<'_> {
        self.0.resize(bytes + ALIGN, 0);
        let skip = self.0.as_ptr().align_offset(ALIGN);
        Carver::over(&mut self.0[skip..skip + bytes]).expect("aligned memory")
    }
}
