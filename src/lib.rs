//! trill: 1-bit and 1.58-bit language models on small CPUs.
//!
//! The core borrows everything: the bytes of the model, the bytes of working memory and the threads.
//! It never allocates, never starts a thread, never does I/O and never reads a clock, so it runs the
//! same on a bare board and under an operating system. A shell (`runtime-std/`) lends it those things.
//!
//! The rooms, in dependency order (a test holds the order, see `tests/arrows.rs`):
//!
//! - [`limits`]: every maximum, with its reason. [`error`]: what can go wrong.
//! - [`numeric`]: half floats, `exp`, rounding; the canonical float order is written there.
//! - [`mem`]: carving one block of memory into slices, measured and carved by the same code.
//! - [`cpu`]: which instruction sets the machine has.
//! - [`parallel`]: a team of threads that share one matrix, tile by tile.
//! - [`gguf`]: a validated, borrowed view of a GGUF file.
//! - [`quant`]: one file per weight type; its scalar code is the reference.
//! - [`kernels`]: the same arithmetic, vectorised, chosen at run time.
//! - [`kv_cache`]: keys and values of the tokens read so far.
//! - [`ops`]: the layers' operations, safe code over kernels.
//! - [`model`]: hyper-parameters, weights and one `forward` for every decoder architecture.
//! - [`tokenizer`], [`sampler`]: text to ids and logits to ids; they know nothing of the model.
//! - [`draft`]: guesses at the next tokens, from the text alone.
//! - [`session`]: the only door for shells.

#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod cpu;
pub mod draft;
pub mod error;
pub mod gguf;
pub mod kernels;
pub mod kv_cache;
pub mod limits;
pub mod mem;
pub mod model;
pub mod numeric;
pub mod ops;
pub mod parallel;
pub mod quant;
pub mod sampler;
pub mod session;
pub mod tokenizer;

pub use error::{Error, Result};
