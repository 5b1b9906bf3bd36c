//! A validated, borrowed view of a GGUF file.

/// The file is not a sound GGUF.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum GgufError {
    /// Placeholder until the reader lands.
    Unsupported,
}

impl core::fmt::Display for GgufError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("unsupported")
    }
}
impl core::error::Error for GgufError {}
