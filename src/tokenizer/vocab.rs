//! The tokens of a file: their texts, borrowed from it, their kinds, and the way from text to id.

use super::TokenizerError;
use super::table::{HASH_START, TokenTable, hash_on};
use crate::error::Result;
use crate::gguf::{Array, Gguf, keys};
use crate::limits::{TOKEN_BYTES_MAX, VOCAB_MAX};
use crate::mem::Carver;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Part of ordinary text.
    Normal,
    /// Stands for what the vocabulary cannot say.
    Unknown,
    /// Steers the model (turns, beginning, end); never made from text unless asked for.
    Control,
    /// Added text that is matched before anything else.
    UserDefined,
    /// A place left free.
    Unused,
    /// A single byte, written `<0xNN>`.
    Byte,
}

impl Kind {
    fn from_file(number: i32) -> Kind {
        match number {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            6 => Kind::Byte,
            _ => Kind::Unused,
        }
    }

    /// Whether tokens of this kind are matched as a whole, before the text around them is split.
    pub(super) fn is_special(self) -> bool {
        matches!(self, Kind::Control | Kind::UserDefined | Kind::Unknown)
    }
}

/// Names of tokens that end a turn or a text, wherever they occur: the ones that llama.cpp goes by
/// (llama-vocab.cpp, `special_eog_ids`). The first eleven are also taken for the end of a turn.
pub(super) const END_NAMES: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "</s>",
    "<|eom_id|>",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Entries that are read together, so that their cache misses overlap.
pub(super) const BATCH: usize = 64;

/// How many of [`END_NAMES`] end a turn.
pub(super) const TURN_END_NAMES: usize = 11;

#[derive(Clone, Copy)]
struct Info {
    kind: Kind,
    ends: bool,
}

/// The tokens.
pub(super) struct Vocab<'a> {
    texts: &'a mut [&'a [u8]],
    infos: &'a mut [Info],
    table: TokenTable<'a>,
    /// Number of tokens, also while measuring.
    len: usize,
    longest: usize,
}

impl<'a> Vocab<'a> {
    /// Reads the texts and kinds. No two tokens may have the same text.
    pub(super) fn load(gguf: &Gguf<'a>, carver: &mut Carver<'a>) -> Result<Self> {
        let tokens = gguf.array(keys::tokenizer::TOKENS)?.ok_or(TokenizerError::NoTokens)?;
        let texts = tokens.strings().ok_or(TokenizerError::NoTokens)?;
        let len = tokens.len();
        if len == 0 || len > VOCAB_MAX {
            return Err(TokenizerError::VocabSize { got: len }.into());
        }
        let kinds = gguf.array(keys::tokenizer::TOKEN_TYPE)?;
        check_length(kinds.as_ref(), len)?;
        let mut vocab = Vocab {
            texts: carver.take(len, &[] as &[u8])?,
            infos: carver.take(len, Info { kind: Kind::Normal, ends: false })?,
            table: TokenTable::carve(len, carver)?,
            len,
            longest: 0,
        };
        if carver.is_measuring() {
            return Ok(vocab);
        }
        if let Some(kinds) = kinds {
            let numbers = kinds.i32s().ok_or(TokenizerError::BadKinds)?;
            vocab.infos.iter_mut().zip(numbers).for_each(|(info, number)| info.kind = Kind::from_file(number));
        }
        let mut texts = (0u32..).zip(texts).peekable();
        while texts.peek().is_some() {
            let batch: heapless::Vec<(u32, &[u8], u64), BATCH> =
                texts.by_ref().take(BATCH).map(|(id, text)| (id, text, hash_on(HASH_START, text))).collect();
            vocab.table.warm(batch.iter().map(|(.., hash)| *hash));
            for (id, text, hash) in batch {
                vocab.add(id, text, hash)?;
            }
        }
        Ok(vocab)
    }

    fn add(&mut self, id: u32, text: &'a [u8], hash: u64) -> Result<()> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenizerError::TokenTooLong { id }.into());
        }
        self.longest = self.longest.max(text.len());
        if let Some(slot) = self.texts.get_mut(id as usize) {
            *slot = text;
        }
        if text.is_empty() {
            return Ok(()); // a place left free: nothing can be spelled with it
        }
        let texts = &*self.texts;
        let text_of = |id: u32| texts.get(id as usize).copied().unwrap_or_default();
        Ok(self.table.insert(hash, id, text, text_of)?)
    }

    /// Number of tokens.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the longest text.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// All texts, in the order of their ids.
    pub(super) fn texts(&self) -> impl Iterator<Item = &'a [u8]> {
        self.texts.iter().copied()
    }

    /// Text of a token, as the file has it.
    pub(super) fn text(&self, id: u32) -> Option<&'a [u8]> {
        self.texts.get(id as usize).copied()
    }

    /// Kind of a token.
    pub(super) fn kind(&self, id: u32) -> Option<Kind> {
        self.infos.get(id as usize).map(|info| info.kind)
    }

    pub(super) fn set_kind(&mut self, id: u32, kind: Kind) {
        if let Some(info) = self.infos.get_mut(id as usize) {
            info.kind = kind;
        }
    }

    /// Whether a token ends a turn or a text.
    pub(super) fn ends(&self, id: u32) -> bool {
        self.infos.get(id as usize).is_some_and(|info| info.ends)
    }

    pub(super) fn set_ends(&mut self, id: u32, ends: bool) {
        if let Some(info) = self.infos.get_mut(id as usize) {
            info.ends = ends;
        }
    }

    /// The token with this text.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        self.table.find(hash_on(HASH_START, text), |id| self.text(id) == Some(text))
    }

    /// Makes the lookups of these hashes quick.
    pub(super) fn warm(&self, hashes: impl Iterator<Item = u64>) {
        self.table.warm(hashes);
    }

    /// The token whose text has this hash. The text is not compared: among 2^20 tokens a text that is none of
    /// them is taken for one with a chance of 1 in 10^12, which spares the merge list its cache misses.
    pub(super) fn find_hashed(&self, hash: u64) -> Option<u32> {
        self.table.find(hash, |_| true)
    }
}

/// A list about the tokens must have one entry for each.
pub(super) fn check_length(list: Option<&Array<'_>>, tokens: usize) -> Result<()> {
    match list.map(Array::len) {
        Some(got) if got != tokens => Err(TokenizerError::ListLength { got, tokens }.into()),
        _ => Ok(()),
    }
}
