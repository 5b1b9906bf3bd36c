//! Text to token ids and back.

/// The vocabulary cannot be used.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum TokenizerError {
    /// Placeholder until the tokenizer lands.
    Unsupported,
}

impl core::fmt::Display for TokenizerError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("unsupported")
    }
}
impl core::error::Error for TokenizerError {}
