//! Token ids to bytes.

use super::{Kind, Model, Tokenizer, TokenizerError, bpe, spm};
use crate::error::{Error, Result};

/// How to decode.
#[derive(Clone, Copy, Debug, Default)]
pub struct DecodeOptions {
    /// Write control and unknown tokens as their vocabulary texts; otherwise they decode to nothing.
    pub special: bool,
}

impl Tokenizer<'_> {
    /// Writes the bytes of one token to `out` and returns how many they are, at most
    /// [`Tokenizer::piece_bytes_max`]. They may be part of a scalar: see [`super::Utf8Stream`]. The space that
    /// SentencePiece puts before a text is still there: see [`Decoder`].
    pub fn decode(&self, id: u32, options: DecodeOptions, out: &mut [u8]) -> Result<usize> {
        let outside = Error::TokenOutOfRange { id, vocab: self.vocab_size() };
        let text = self.vocab.text(id).ok_or(outside)?;
        let mut need = 0;
        let mut put = |b: u8| {
            if let Some(slot) = out.get_mut(need) {
                *slot = b;
            }
            need += 1;
        };
        match (self.vocab.kind(id).ok_or(outside)?, &self.model) {
            (Kind::Control | Kind::Unknown, _) if !options.special => {}
            (Kind::Control | Kind::Unknown | Kind::UserDefined, _) => text.iter().copied().for_each(put),
            (Kind::Byte, _) => spm::byte_named(text).into_iter().for_each(put),
            (Kind::Normal | Kind::Unused, Model::Bpe(..)) => bpe::decode(text, &mut put),
            (Kind::Normal | Kind::Unused, Model::Spm(_)) => spm::decode(text, &mut put),
        }
        if need > out.len() { Err(TokenizerError::OutputTooSmall { need }.into()) } else { Ok(need) }
    }

    /// A decoder for a sequence of tokens. `at_start`: they are a text from its beginning, or an answer after
    /// a special token, and not the continuation of a text.
    pub fn decoder(&self, at_start: bool) -> Decoder {
        Decoder { strip: at_start && self.adds_space() }
    }

    fn adds_space(&self) -> bool {
        matches!(&self.model, Model::Spm(spm) if spm.add_space_prefix)
    }
}

/// Decodes a sequence of tokens, taking back the space that encoding puts before the text and after each
/// special token (SentencePiece vocabularies that do so).
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// The next text starts with a space that was not in the original.
    strip: bool,
}

impl Decoder {
    /// [`Tokenizer::decode`], knowing what came before.
    pub fn push(&mut self, t: &Tokenizer<'_>, id: u32, options: DecodeOptions, out: &mut [u8]) -> Result<usize> {
        let len = t.decode(id, options, out)?;
        if t.kind(id).is_some_and(Kind::is_special) {
            self.strip = t.adds_space();
            return Ok(len);
        }
        let strip = core::mem::replace(&mut self.strip, false);
        if strip && out.get(..len).is_some_and(|text| text.starts_with(b" ")) {
            out.copy_within(1..len, 0);
            return Ok(len - 1);
        }
        Ok(len)
    }
}
