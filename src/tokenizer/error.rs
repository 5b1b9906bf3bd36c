//! What can be wrong with a vocabulary.

use core::fmt::{Debug, Display, Formatter, Result};

/// The vocabulary cannot be used, or a text or buffer does not suit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenizerError {
    /// `tokenizer.ggml.model` is missing.
    NoModel,
    /// `tokenizer.ggml.model` is neither `gpt2` nor `llama`.
    UnknownModel(Name),
    /// `tokenizer.ggml.pre` names a pre-tokenizer that is not there.
    UnknownPre(Name),
    /// `tokenizer.ggml.tokens` is missing or is no list of strings.
    NoTokens,
    /// No token, or more than [`crate::limits::VOCAB_MAX`].
    VocabSize {
        /// Number of tokens.
        got: usize,
    },
    /// A list with one entry for each token has another length.
    ListLength {
        /// Its length.
        got: usize,
        /// Number of tokens.
        tokens: usize,
    },
    /// `tokenizer.ggml.token_type` is no list of integers.
    BadKinds,
    /// `tokenizer.ggml.scores` is missing or is no list of floats.
    BadScores,
    /// `tokenizer.ggml.merges` is missing or is no list of strings.
    BadMerges,
    /// A merge is not two tokens with a space between them that join to a third.
    BadMerge {
        /// Its place in the list, from 0.
        rank: u32,
    },
    /// More merges than [`crate::limits::MERGES_MAX`].
    TooManyMerges {
        /// Number of merges.
        got: usize,
    },
    /// Two tokens have the same text.
    DuplicateToken {
        /// The second one.
        id: u32,
        /// The first one.
        first: u32,
    },
    /// A token is longer than [`crate::limits::TOKEN_BYTES_MAX`].
    TokenTooLong {
        /// Its id.
        id: u32,
    },
    /// A special token's id is outside the vocabulary.
    SpecialId {
        /// The id.
        id: u32,
        /// Number of tokens.
        tokens: usize,
    },
    /// The tokens' hashes collide as those of no honest vocabulary do.
    Collisions,
    /// A text is longer than 4 GiB.
    TextTooLong {
        /// Bytes of the text.
        got: usize,
    },
    /// The buffer for a decoded token is too small.
    OutputTooSmall {
        /// Bytes needed.
        need: usize,
    },
}

impl Display for TokenizerError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            TokenizerError::NoModel => f.write_str("the file has no tokenizer (tokenizer.ggml.model is missing)"),
            TokenizerError::UnknownModel(name) => {
                write!(f, "tokenizer model {name} is not supported (gpt2 and llama are)")
            }
            TokenizerError::UnknownPre(name) => {
                write!(f, "pre-tokenizer {name} is unknown; texts would be split wrongly, so it is refused")
            }
            TokenizerError::NoTokens => f.write_str("the vocabulary (tokenizer.ggml.tokens) is missing or no strings"),
            TokenizerError::VocabSize { got } => {
                write!(f, "a vocabulary of {got} tokens; 1 to {} are accepted", crate::limits::VOCAB_MAX)
            }
            TokenizerError::ListLength { got, tokens } => {
                write!(f, "a list about the vocabulary has {got} entries for {tokens} tokens")
            }
            TokenizerError::BadKinds => f.write_str("tokenizer.ggml.token_type must hold integers"),
            TokenizerError::BadScores => f.write_str("tokenizer.ggml.scores is missing or holds no floats"),
            TokenizerError::BadMerges => f.write_str("tokenizer.ggml.merges is missing or holds no strings"),
            TokenizerError::BadMerge { rank } => write!(f, "merge {rank} does not join two tokens to a third"),
            TokenizerError::TooManyMerges { got } => {
                write!(f, "{got} merges; at most {} are accepted", crate::limits::MERGES_MAX)
            }
            TokenizerError::DuplicateToken { id, first } => write!(f, "tokens {first} and {id} have the same text"),
            TokenizerError::TokenTooLong { id } => {
                write!(f, "token {id} is longer than {} bytes", crate::limits::TOKEN_BYTES_MAX)
            }
            TokenizerError::SpecialId { id, tokens } => {
                write!(f, "special token {id} is outside the vocabulary of {tokens}")
            }
            TokenizerError::Collisions => f.write_str("the vocabulary is made to collide; it is refused"),
            TokenizerError::TextTooLong { got } => write!(f, "a text of {got} bytes is too long to encode at once"),
            TokenizerError::OutputTooSmall { need } => write!(f, "a token needs a buffer of {need} bytes"),
        }
    }
}

impl core::error::Error for TokenizerError {}

/// The start of a name from a file, kept by value so that errors stay plain data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    len: u8,
    bytes: [u8; 23],
}

impl Name {
    /// The first 23 bytes of `name`, or fewer so as not to cut a scalar.
    pub fn new(name: &str) -> Self {
        let mut bytes = [0; 23];
        let mut len = 0u8;
        for c in name.chars() {
            let mut utf8 = [0; 4];
            let text = c.encode_utf8(&mut utf8).as_bytes();
            let from = usize::from(len);
            let Some(slots) = bytes.get_mut(from..from + text.len()) else { break };
            slots.copy_from_slice(text);
            len += text.len() as u8;
        }
        Name { len, bytes }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|b| core::str::from_utf8(b).ok()).unwrap_or_default()
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        // Control characters in a file's strings must not reach a terminal.
        write!(f, "'{}'", self.as_str().escape_debug())
    }
}

impl Debug for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn names_are_cut_between_scalars_and_escaped() {
        assert_eq!(Name::new("llama-bpe").to_string(), "'llama-bpe'");
        assert_eq!(Name::new("aaaaaaaaaaaaaaaaaaaaa\u{20ac}x").as_str(), "aaaaaaaaaaaaaaaaaaaaa");
        assert_eq!(Name::new("\u{1b}[2J").to_string(), "'\\u{1b}[2J'");
    }
}
