//! Reads little-endian fields off the front of the file. Every read is checked against the end.

use super::{Defect, GgufError};

/// A position in the file.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// An error at this position.
    pub(super) fn fail(&self, defect: Defect) -> GgufError {
        GgufError::new(defect, self.at)
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: u64) -> Result<&'a [u8], GgufError> {
        let truncated = Defect::Truncated { need: n, have: self.left() as u64 };
        let end = usize::try_from(n).ok().and_then(|n| self.at.checked_add(n));
        let (at, end) = (self.at, end.ok_or(self.fail(truncated))?);
        let taken = self.bytes.get(at..end).ok_or(self.fail(truncated))?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, GgufError> {
        self.bytes().map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, GgufError> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, GgufError> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// The next `N` bytes.
    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let truncated = self.fail(Defect::Truncated { need: N as u64, have: self.left() as u64 });
        self.take(N as u64)?.first_chunk::<N>().copied().ok_or(truncated)
    }

    /// A u64 length and that many bytes. `check` refuses lengths before the bytes are looked at; its
    /// error points at the length.
    pub(super) fn string(&mut self, check: impl FnOnce(u64) -> Result<(), Defect>) -> Result<&'a [u8], GgufError> {
        let start = *self;
        let len = self.u64()?;
        check(len).map_err(|d| start.fail(d))?;
        self.take(len)
    }
}
