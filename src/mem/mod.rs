//! Memory that the caller brings. One function lays a structure out; it runs twice, first over a
//! [`Carver::measure`] that only counts, then over a [`Carver::over`] that hands out slices, so the size
//! that is promised and the size that is used cannot drift apart.
//!
//! Room rules: the only unsafe code is the splitting of memory. Everything handed out is initialised.
#![allow(unsafe_code)]

mod arena;
mod carver;
#[cfg(debug_assertions)]
mod ledger;
mod tile;

pub use arena::Arena;
pub use carver::{ALIGN, Carver};
pub use tile::TileMut;
pub(crate) use tile::TileSource;

/// The memory handed in does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemError {
    /// The block is too small: `need` bytes were wanted when `have` were there. `need` counts up to and
    /// including the slice that failed, so the whole layout may need more.
    Full {
        /// Bytes needed so far.
        need: usize,
        /// Bytes in the block.
        have: usize,
    },
    /// The block does not start at a multiple of [`ALIGN`].
    Misaligned,
    /// The size does not fit the machine's address space.
    Overflow,
}

impl core::fmt::Display for MemError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            MemError::Full { need, have } => {
                write!(f, "at least {need} bytes of working memory are needed, {have} are there")
            }
            MemError::Misaligned => write!(f, "working memory must start at a multiple of {ALIGN} bytes"),
            MemError::Overflow => f.write_str("the memory needed does not fit this machine's address space"),
        }
    }
}

impl core::error::Error for MemError {}
