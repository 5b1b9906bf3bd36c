//! What can be wrong with a GGUF file: one [`Defect`] per rule of the format, and where it was found.

use super::tensor_type;
use crate::limits;
use core::fmt::{Display, Formatter, Result};

/// The file is not a sound GGUF: what, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GgufError {
    /// The broken rule.
    pub defect: Defect,
    /// Byte of the file where the offending field or record starts.
    pub offset: u64,
}

impl GgufError {
    pub(super) fn new(defect: Defect, offset: usize) -> Self {
        GgufError { defect, offset: offset as u64 }
    }
}

/// The rule that a file breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// The first four bytes are not `GGUF`.
    Magic,
    /// A version other than 2 and 3.
    Version {
        /// As read.
        got: u32,
    },
    /// The version's bytes are in big-endian order.
    ByteOrder,
    /// The header or metadata go on beyond the end of the file.
    Truncated {
        /// Bytes the field asks for.
        need: u64,
        /// Bytes left in the file.
        have: u64,
    },
    /// More key-value pairs than [`limits::GGUF_KV_MAX`].
    EntryCount {
        /// As read.
        got: u64,
    },
    /// More tensors than [`limits::GGUF_TENSORS_MAX`].
    TensorCount {
        /// As read.
        got: u64,
    },
    /// A key without a byte.
    KeyEmpty,
    /// A key longer than [`limits::GGUF_KEY_BYTES_MAX`].
    KeyLength {
        /// As read.
        got: u64,
    },
    /// A key that is not UTF-8.
    KeyUtf8,
    /// A key with a NUL byte in it.
    KeyNul,
    /// A key that an earlier entry has.
    KeyDuplicate,
    /// A value type outside 0..=12.
    ValueType {
        /// As read.
        got: u32,
    },
    /// A bool that is neither 0 nor 1.
    Bool {
        /// As read.
        got: u8,
    },
    /// A string longer than [`limits::GGUF_STRING_BYTES_MAX`].
    StringLength {
        /// As read.
        got: u64,
    },
    /// An element type outside 0..=12.
    ElementType {
        /// As read.
        got: u32,
    },
    /// An array whose elements are arrays.
    NestedArray,
    /// An array whose elements cannot fit into the rest of the file.
    ArrayLength {
        /// Elements, as read.
        got: u64,
        /// Bytes left in the file.
        have: u64,
    },
    /// `general.alignment` is not a u32.
    AlignmentType,
    /// `general.alignment` is not a power of two between 8 and 65536.
    Alignment {
        /// As read.
        got: u32,
    },
    /// A tensor without a name.
    NameEmpty,
    /// A tensor name longer than [`limits::GGUF_NAME_BYTES_MAX`].
    NameLength {
        /// As read.
        got: u64,
    },
    /// A tensor name that is not UTF-8.
    NameUtf8,
    /// A tensor name with a NUL byte in it.
    NameNul,
    /// A tensor name that an earlier tensor has.
    NameDuplicate,
    /// A tensor with no or more than four dimensions.
    DimCount {
        /// As read.
        got: u32,
    },
    /// A dimension of size 0.
    DimZero {
        /// Which one, from 0.
        dim: u32,
    },
    /// The number of elements or bytes of a tensor does not fit this machine.
    SizeOverflow,
    /// A type number that no format we know of uses.
    TypeUnknown {
        /// As read.
        id: u32,
    },
    /// A type that ggml has removed.
    TypeRemoved {
        /// As read.
        id: u32,
    },
    /// A type that exists but that trill does not compute with.
    TypeRefused {
        /// As read.
        id: u32,
    },
    /// The first dimension is not a whole number of the type's blocks.
    RowBlocks {
        /// Weights in a block.
        block: u64,
        /// Weights in a row.
        got: u64,
    },
    /// A tensor of type 42 whose distance to the next tensor fits none of that number's meanings.
    Type42None {
        /// Bytes from this tensor to the next one or to the end of the file.
        distance: u64,
    },
    /// The tensors of type 42 contradict each other.
    Type42Mixed,
    /// Every distance fits more than one meaning of type 42.
    Type42Ambiguous,
    /// A tensor's offset is not a multiple of the alignment.
    OffsetAlignment {
        /// The alignment.
        alignment: u32,
        /// The offset, as read.
        got: u64,
    },
    /// A tensor's bytes go on beyond the end of the file.
    TensorBounds {
        /// Where its bytes end.
        need: u64,
        /// Bytes in the file.
        have: u64,
    },
    /// A tensor starts before another one ends.
    TensorOverlap {
        /// Where the other one ends.
        expected: u64,
        /// Where this one starts.
        got: u64,
    },
    /// A value of another type than the one asked for.
    WrongType,
    /// An integer that does not fit the type asked for.
    OutOfRange,
    /// A string value that is not UTF-8, where text is needed.
    ValueUtf8,
}

impl Display for GgufError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "GGUF, byte {}: {}", self.offset, self.defect)
    }
}

impl core::error::Error for GgufError {}

impl Defect {
    /// Whether more bytes could mend it.
    pub fn is_short(self) -> bool {
        matches!(self, Defect::Truncated { .. } | Defect::ArrayLength { .. })
    }
}

impl Display for Defect {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Defect::Magic => f.write_str("the file does not start with GGUF; it is no GGUF file or a broken download"),
            Defect::Version { got } => {
                write!(f, "format version {got} is not supported (2 and 3 are); convert the model anew")
            }
            Defect::ByteOrder => f.write_str("the file is big-endian; convert it with a little-endian tool"),
            Defect::Truncated { need, have } => {
                write!(f, "{need} bytes are needed here but the file has {have} left; download it again")
            }
            Defect::EntryCount { got } => {
                write!(f, "{got} metadata entries, at most {} are accepted", limits::GGUF_KV_MAX)
            }
            Defect::TensorCount { got } => {
                write!(f, "{got} tensors, at most {} are accepted", limits::GGUF_TENSORS_MAX)
            }
            Defect::ValueType { got } => write!(f, "value type {got} does not exist"),
            Defect::Bool { got } => write!(f, "a bool must be 0 or 1 and is {got}"),
            Defect::StringLength { got } => {
                write!(f, "a string of {got} bytes, at most {} are accepted", limits::GGUF_STRING_BYTES_MAX)
            }
            Defect::ElementType { got } => write!(f, "array element type {got} does not exist"),
            Defect::NestedArray => f.write_str("an array of arrays"),
            Defect::ArrayLength { got, have } => {
                write!(f, "an array of {got} elements does not fit into the {have} bytes that the file has left")
            }
            Defect::AlignmentType => f.write_str("general.alignment must be a u32"),
            Defect::Alignment { got } => write!(
                f,
                "general.alignment must be a power of two from {} to {} and is {got}",
                limits::GGUF_ALIGNMENT_MIN,
                limits::GGUF_ALIGNMENT_MAX
            ),
            Defect::WrongType => f.write_str("this entry has a value of another type than the one needed"),
            Defect::OutOfRange => f.write_str("this entry's number is too large or negative"),
            Defect::ValueUtf8 => f.write_str("this entry's string is not UTF-8"),
            Defect::KeyEmpty | Defect::KeyLength { .. } | Defect::KeyUtf8 | Defect::KeyNul | Defect::KeyDuplicate => {
                self.fmt_key(f)
            }
            _ => self.fmt_tensor(f),
        }
    }
}

impl Defect {
    fn fmt_key(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Defect::KeyLength { got } => {
                write!(f, "a metadata key of {got} bytes, at most {} are accepted", limits::GGUF_KEY_BYTES_MAX)
            }
            Defect::KeyUtf8 => f.write_str("a metadata key is not UTF-8"),
            Defect::KeyNul => f.write_str("a metadata key has a NUL byte in it"),
            Defect::KeyDuplicate => f.write_str("this metadata key is there twice"),
            _ => f.write_str("a metadata key is empty"),
        }
    }

    fn fmt_tensor(&self, f: &mut Formatter<'_>) -> Result {
        match *self {
            Defect::NameEmpty => f.write_str("a tensor has no name"),
            Defect::NameLength { got } => {
                write!(f, "a tensor name of {got} bytes, at most {} are accepted", limits::GGUF_NAME_BYTES_MAX)
            }
            Defect::NameUtf8 => f.write_str("a tensor name is not UTF-8"),
            Defect::NameNul => f.write_str("a tensor name has a NUL byte in it"),
            Defect::NameDuplicate => f.write_str("this tensor name is there twice"),
            Defect::DimCount { got } => {
                write!(f, "a tensor with {got} dimensions, 1 to {} are accepted", limits::GGUF_DIMS_MAX)
            }
            Defect::DimZero { dim } => write!(f, "dimension {dim} of a tensor is 0"),
            Defect::SizeOverflow => f.write_str("a tensor's size does not fit this machine's address space"),
            Defect::TypeUnknown { id } | Defect::TypeRemoved { id } | Defect::TypeRefused { id } => {
                write!(f, "tensor type {id} {}", tensor_type::refusal(id))
            }
            Defect::RowBlocks { block, got } => {
                write!(f, "rows of {got} weights are not a whole number of the type's {block}-weight blocks")
            }
            Defect::Type42None { distance } => write!(
                f,
                "tensor type 42 is one of {}, and the {distance} bytes to the next tensor fit none of them",
                tensor_type::TYPE_42_NAMES
            ),
            Defect::Type42Mixed => {
                write!(f, "the tensors of type 42 disagree on which of {} they are", tensor_type::TYPE_42_NAMES)
            }
            Defect::Type42Ambiguous => {
                write!(f, "nothing in this file tells which of {} its type 42 is", tensor_type::TYPE_42_NAMES)
            }
            Defect::OffsetAlignment { alignment, got } => {
                write!(f, "tensor offset {got} is not a multiple of the alignment, {alignment}")
            }
            Defect::TensorBounds { need, have } => {
                write!(f, "this tensor ends at byte {need} but the file ends at {have}; download it again")
            }
            Defect::TensorOverlap { expected, got } => {
                write!(f, "this tensor starts at byte {got}, inside another one that ends at {expected}")
            }
            _ => f.write_str("a tensor is malformed"),
        }
    }
}
