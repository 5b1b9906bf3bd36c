//! What can go wrong, one small enum per room, gathered here. Errors carry numbers, never strings,
//! so that they cost nothing; the shell turns them into sentences with a remedy.

use crate::gguf::GgufError;
use crate::kernels::KernelError;
use crate::mem::MemError;
use crate::model::ModelError;
use crate::sampler::SamplerError;
use crate::tokenizer::TokenizerError;

/// Result of the core.
pub type Result<T> = core::result::Result<T, Error>;

/// A short piece of text from a file, cut to fit, so that an error can name what it met and stay `Copy`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; 40],
    len: u8,
}

impl Name {
    /// The first 40 bytes of `text`; what is not printable ASCII becomes `?`.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; 40];
        let mut len = 0u8;
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = if from.is_ascii_graphic() || from == b' ' { from } else { b'?' };
            len += 1;
        }
        Name { bytes, len }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("?")
    }
}

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// Any error of the core.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The file is not a sound GGUF.
    Gguf(GgufError),
    /// The memory handed in does not fit.
    Mem(MemError),
    /// The file is sound but does not describe a model trill can run.
    Model(ModelError),
    /// The vocabulary cannot be used.
    Tokenizer(TokenizerError),
    /// A setting of the sampler is out of its range.
    Sampler(SamplerError),
    /// A kernel was asked for that this machine does not have.
    Kernel(KernelError),
    /// The context is full: `need` positions were asked for, `capacity` exist.
    ContextFull {
        /// Positions needed.
        need: usize,
        /// Positions the session has.
        capacity: usize,
    },
    /// A token id outside the vocabulary.
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// The caller's progress callback asked to stop.
    Interrupted,
    /// Logits or activations are not finite: the weights are damaged.
    NotFinite,
}

macro_rules! from_room {
    ($($variant:ident($room:ty)),*) => {$(
        impl From<$room> for Error {
            fn from(e: $room) -> Self {
                Error::$variant(e)
            }
        }
    )*};
}
from_room!(
    Gguf(GgufError),
    Mem(MemError),
    Model(ModelError),
    Tokenizer(TokenizerError),
    Sampler(SamplerError),
    Kernel(KernelError)
);

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::Gguf(e) => e.fmt(f),
            Error::Mem(e) => e.fmt(f),
            Error::Model(e) => e.fmt(f),
            Error::Tokenizer(e) => e.fmt(f),
            Error::Sampler(e) => e.fmt(f),
            Error::Kernel(e) => e.fmt(f),
            Error::ContextFull { need, capacity } => {
                write!(f, "the context holds {capacity} tokens and {need} are needed")
            }
            Error::TokenOutOfRange { id, vocab } => write!(f, "token id {id} is outside the vocabulary of {vocab}"),
            Error::Interrupted => f.write_str("interrupted"),
            Error::NotFinite => f.write_str("the model computes infinities or NaN: its weights are damaged"),
        }
    }
}

impl core::error::Error for Error {}
